//! A bit that is not what was written, what is known of it, and where in a log a start must notice one.

use kraft_core::id::{Index, NodeId};
use kraft_core::message::SnapshotId;
use kraft_core::storage::Fault;

use super::trace::Step;
use crate::storage::format::{Position, RECORD_BYTES, Record};
use crate::storage::inspect::{self, Dumped};
use crate::storage::{Files as _, LogIdentity, MemFiles};

/// A flipped bit.
#[derive(Clone, Debug)]
pub(super) struct Rot {
    pub(super) file: String,
    pub(super) offset: usize,
    pub(super) bits: u8,
    /// Of a file in the log's folder, or in that of the snapshots.
    pub(super) folder: MemFiles,
    /// The snapshot that is in the file.
    pub(super) snapshot: Option<SnapshotId>,
    /// The byte as it should be.
    pub(super) sound: u8,
}

impl Rot {
    /// What is told of it.
    pub(super) fn step(&self, node: NodeId) -> Step {
        Step::Rotten(node, self.file.as_str().into(), self.offset)
    }

    /// Whether it is a snapshot that rots: that may be done without.
    pub(super) fn is_snapshots(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Whether the file is there, as rotten as it was.
    pub(super) fn is_there(&self) -> bool {
        let is_named = |names: Vec<String>| names.contains(&self.file);
        self.folder.list().is_ok_and(is_named)
            && self.folder.bytes(&self.file).get(self.offset) == Some(&(self.sound ^ self.bits))
    }
}

/// A segment of a log.
struct Part {
    number: u32,
    /// The index that it begins behind.
    base: Index,
    records: Vec<(Position, Record)>,
}

/// Where the records stand that are part of a log, and how many bytes each has without its padding. `held` is the index up
/// to which the newest snapshot holds what the log may lack.
pub(super) fn places(files: &MemFiles, identity: LogIdentity, held: Index) -> Result<Vec<(Position, u32)>, Fault> {
    let mut parts: Vec<Part> = Vec::new();
    let mut is_part = false;
    inspect::dump(files, Some(identity), |dumped| match dumped {
        Dumped::Segment(number, header) => {
            is_part = header.is_some();
            let Some(header) = header else { return };
            // What stands before a segment that was released and is gone is part of the log no more, and neither is what
            // stands behind the place where a later one goes on.
            if !parts.iter().any(|part| part.number == header.follows.segment) {
                parts.clear();
            }
            parts.retain(|part| part.number <= header.follows.segment);
            if let Some(last) = parts.last_mut() {
                last.records.retain(|(at, _)| *at < header.follows);
            }
            parts.push(Part {
                number,
                base: header.base_index,
                records: Vec::new(),
            });
        }
        Dumped::Record(at, record) => {
            if let Some(part) = parts.last_mut().filter(|_| is_part) {
                part.records.push((at, record));
            }
        }
        Dumped::End(..) => {}
    })?;
    let front = front(&parts, held);
    let records = parts.into_iter().skip(front).flat_map(|part| part.records);
    Ok(records.map(|(at, record)| (at, size(&record))).collect())
}

/// The first segment that the log may begin with. A crash leaves some of those before it that were given up: what comes
/// later goes back behind the place where they begin, or the snapshot does not reach up to there.
fn front(parts: &[Part], held: Index) -> usize {
    let mut lowest = Index(u64::MAX);
    let mut front = 0;
    for (at, part) in parts.iter().enumerate().rev() {
        lowest = part.records.iter().fold(lowest, |lowest, (_, record)| match record {
            Record::Truncate(from) => lowest.min(from.prev()),
            _ => lowest,
        });
        if part.base <= held.min(lowest) {
            front = at;
        }
        lowest = lowest.min(part.base);
    }
    front
}

const fn size(record: &Record) -> u32 {
    match record {
        Record::Entry { length, .. } => RECORD_BYTES + *length,
        _ => RECORD_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use kraft_core::id::{ClusterId, GroupId, Incarnation, SyncId, Term};
    use kraft_core::membership::Configuration;
    use kraft_core::message::{Entries, Entry, EntryKind};
    use kraft_core::snapshot::{Head, SnapshotStore as _};
    use kraft_core::storage::{Storage as _, Work as _};

    use super::*;
    use crate::storage::format::{segment_name, segment_number};
    use crate::storage::{Config, DiskLog, Loss, OpenError};

    const IDENTITY: LogIdentity = LogIdentity {
        cluster: ClusterId(1),
        node: NodeId(2),
        incarnation: Incarnation(3),
        group: GroupId(0),
    };

    fn open(files: &MemFiles) -> Result<DiskLog<MemFiles>, OpenError> {
        let config = Config {
            segment_bytes: 8 << 10,
            first_segment_bytes: 4 << 10,
            zero_step_bytes: 4096,
            ..Config::default()
        };
        DiskLog::open(files.clone(), IDENTITY, config).map(|(log, _)| log)
    }

    /// Writes 100 entries from an index on.
    fn write(log: &mut DiskLog<MemFiles>, first: u64, term: u64) {
        let payload = bytes::Bytes::from(vec![1; 300]);
        let entry = Entry {
            term: Term(term),
            kind: EntryKind::Command,
            crc: crc32c::crc32c(&payload),
            payload,
        };
        for index in first..first + 100 {
            log.append(Index(index), &Entries::Shared(std::slice::from_ref(&entry), &[]));
            log.sync(SyncId(index));
            run(log);
        }
    }

    fn run(log: &mut DiskLog<MemFiles>) {
        while let Some(work) = log.next_work() {
            log.done(work.run()).unwrap();
        }
    }

    /// Of segments that were given up together with a truncation a crash left some, and a bit rotted there, of which
    /// the log has no need.
    #[test]
    fn a_bit_rots_only_where_a_start_reads_the_log() {
        let files = MemFiles::new();
        let mut log = open(&files).unwrap();
        write(&mut log, 1, 1);
        log.truncate(Index(20));
        write(&mut log, 20, 2);
        let head = Head {
            index: Index(110),
            term: Term(2),
            membership_index: Index::ZERO,
            membership: Configuration::founding(&[NodeId(2)]).encode(),
        };
        log.snapshots().save(&head, &mut |out| out.write_all(b"state")).unwrap();
        let base = log.release(head.index);
        assert!(base > Index(20), "{base}");
        let names = files.list().unwrap();
        let numbers: Vec<_> = names.iter().filter_map(|name| segment_number(name)).collect();
        // The segments go from the front on.
        let mut cut = 0;
        for gone in 0..numbers.len() {
            let files = files.fork();
            for number in &numbers[..gone] {
                files.remove(&segment_name(*number)).unwrap();
            }
            files.sync_folder().unwrap();
            files.crash(Loss::All);
            if open(&files).is_err() {
                // What the log begins with is not given up.
                break;
            }
            let mut places = places(&files, IDENTITY, head.index).unwrap();
            places.pop();
            cut += u32::from(places[0].0.segment > numbers[gone]);
            for (at, bytes) in places {
                let name = segment_name(at.segment);
                for offset in [at.offset, at.offset + bytes - 1] {
                    files.rot(&name, offset as usize, 1);
                    let Err(error) = open(&files) else {
                        panic!("{gone} are gone, and the log was opened with byte {offset} of {name} rotten");
                    };
                    assert!(error.to_string().contains(&name), "{error}");
                    files.rot(&name, offset as usize, 1);
                }
            }
        }
        assert!(cut > 0, "no segment was left that the log does not begin with");
    }
}
