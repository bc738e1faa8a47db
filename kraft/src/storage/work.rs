//! The blocking work of a log, run off the loop.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use kraft_core::id::{Index, SyncId};
use kraft_core::message::Entry;
use kraft_core::storage::{Fault, Work};

use super::batch::Part;
use super::files::{File, Files, write_all_at};
use super::format::{HEADER_BYTES, LogIdentity, Record, segment_name};
use super::ledger::Place;
use super::restart::{UNFINISHED, remove_unfinished, zero};
use super::scan::{Scan, Step};
use super::survey::fault;

/// Work of a [`DiskLog`](super::DiskLog).
#[derive(Debug)]
pub struct DiskWork<F: Files>(pub(crate) Kind<F>);

#[derive(Debug)]
pub(crate) enum Kind<F: Files> {
    Sync(SyncWork<F>),
    Load(LoadWork<F>),
    Prepare(PrepareWork<F>),
    Remove(F, u32),
    Measure(F),
}

/// What came of the work of a [`DiskLog`](super::DiskLog).
#[derive(Debug)]
pub struct DiskDone<F: Files>(pub(crate) Outcome<F>);

#[derive(Debug)]
pub(crate) enum Outcome<F: Files> {
    Synced(SyncId, Vec<Part>, Result<(), Fault>),
    Loaded(Index, Result<Vec<Entry>, Fault>),
    Prepared(Making<F>, Result<Progress, io::Error>),
    Removed,
    Measured(io::Result<u64>),
}

impl<F: Files> Work for DiskWork<F> {
    type Done = DiskDone<F>;

    fn is_urgent(&self) -> bool {
        matches!(self.0, Kind::Sync(_))
    }

    fn run(self) -> DiskDone<F> {
        DiskDone(match self.0 {
            Kind::Sync(work) => work.run(),
            Kind::Load(work) => Outcome::Loaded(work.first, work.run()),
            Kind::Prepare(work) => work.run(),
            Kind::Measure(files) => Outcome::Measured(files.free_bytes()),
            Kind::Remove(files, number) => {
                // What stays because of an error is found and removed after the next start.
                if files.remove(&segment_name(number)).is_ok() {
                    let _ = files.sync_folder();
                }
                Outcome::Removed
            }
        })
    }
}

/// Writes a batch and syncs it.
#[derive(Debug)]
pub(crate) struct SyncWork<F: Files> {
    pub(crate) id: SyncId,
    pub(crate) files: F,
    pub(crate) parts: Vec<(Part, Arc<F::File>)>,
}

impl<F: Files> SyncWork<F> {
    fn run(self) -> Outcome<F> {
        let result = self.parts.iter().try_for_each(|(part, file)| {
            let failed = |operation, error| fault(&self.files, &segment_name(part.at.segment), operation)(error);
            write_all_at(&**file, &part.bytes, u64::from(part.at.offset)).map_err(|error| failed("write", error))?;
            // One part is synced before the next one is written: a segment's header says that all before it is
            // durable.
            file.sync_data().map_err(|error| failed("fdatasync", error))
        });
        Outcome::Synced(self.id, self.parts.into_iter().map(|(part, _)| part).collect(), result)
    }
}

/// Reads entries back.
#[derive(Debug)]
pub(crate) struct LoadWork<F: Files> {
    pub(crate) files: F,
    pub(crate) identity: LogIdentity,
    pub(crate) first: Index,
    /// One past the last.
    pub(crate) end: Index,
    pub(crate) bytes_max: usize,
    /// Where to look: from each place to the next one the entries stand one behind the other. Empty if the entries
    /// are not on the disk.
    pub(crate) stretches: Vec<(Place, Arc<F::File>)>,
}

impl<F: Files> LoadWork<F> {
    fn run(&self) -> Result<Vec<Entry>, Fault> {
        let mut entries = Vec::new();
        if self.first >= self.end {
            return Ok(entries);
        }
        if self.stretches.is_empty() {
            let error = io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("entry {} is not on the disk", self.first),
            );
            return Err(fault(&self.files, "", "load")(error));
        }
        let mut bytes_left = self.bytes_max;
        let mut scanned: Option<(u32, Scan<'_, F::File>)> = None;
        for (at, (place, file)) in self.stretches.iter().enumerate() {
            // Stretches are short, and one read brings many of them.
            let mut scan = match scanned.take() {
                Some((segment, mut scan)) if segment == place.at.segment => {
                    scan.seek(place.at.offset);
                    scan
                }
                _ => Scan::from(&**file, place.at.segment, &self.identity, place.at.offset),
            };
            let until = self
                .stretches
                .get(at + 1)
                .map_or(self.end, |(next, _)| next.index.min(self.end));
            if !self.read_stretch(place, &mut scan, until, &mut bytes_left, &mut entries)? {
                break;
            }
            scanned = Some((place.at.segment, scan));
        }
        Ok(entries)
    }

    /// Returns whether there is room for more.
    fn read_stretch(
        &self,
        place: &Place,
        scan: &mut Scan<'_, F::File>,
        until: Index,
        bytes_left: &mut usize,
        entries: &mut Vec<Entry>,
    ) -> Result<bool, Fault> {
        let name = segment_name(place.at.segment);
        let unreadable = || fault(&self.files, &name, "read");
        let damaged = |offset: u32, index: Index| {
            let message = format!("byte {offset}: entry {index} is damaged");
            unreadable()(io::Error::new(io::ErrorKind::InvalidData, message))
        };
        let mut next = place.index;
        while next < until {
            let found = match scan.step().map_err(unreadable())? {
                Step::Record(found) => found,
                Step::Bad(offset, _) | Step::Unknown(offset, _) => return Err(damaged(offset, next)),
            };
            let Record::Entry {
                index,
                term,
                kind,
                length,
                crc,
            } = found.record
            else {
                continue;
            };
            if index != next {
                return Err(damaged(found.at.offset, next));
            }
            if index >= self.first {
                if !entries.is_empty() && length as usize > *bytes_left {
                    return Ok(false);
                }
                *bytes_left = bytes_left.saturating_sub(length as usize);
                let mut payload = Vec::new();
                scan.payload(&found, &mut payload).map_err(unreadable())?;
                entries.push(Entry {
                    term,
                    kind,
                    crc,
                    payload: Bytes::from(payload),
                });
            }
            next = next.next();
        }
        Ok(true)
    }
}

/// A segment in the making, under a temporary name.
#[derive(Debug)]
pub(crate) struct Making<F: Files> {
    pub(crate) number: u32,
    pub(crate) capacity: u32,
    /// The segment that is used again.
    pub(crate) source: Option<u32>,
    /// `None` before the first piece of work.
    pub(crate) file: Option<Arc<F::File>>,
    /// How much of it is zeroed.
    pub(crate) filled: u32,
}

/// How far a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// It has its name, durably.
    pub(crate) is_finished: bool,
    /// What the disk has left.
    pub(crate) free_bytes: u64,
}

/// One piece of the making of a segment.
#[derive(Debug)]
pub(crate) struct PrepareWork<F: Files> {
    pub(crate) files: F,
    pub(crate) making: Making<F>,
    pub(crate) step_bytes: u32,
}

impl<F: Files> PrepareWork<F> {
    fn run(mut self) -> Outcome<F> {
        let result = self.step();
        if result.is_err() {
            // Half a segment would keep the last bytes of a full disk from everybody.
            self.making.file = None;
            self.making.filled = 0;
            self.making.source = None;
            let _ = remove_unfinished(&self.files);
        }
        Outcome::Prepared(self.making, result)
    }

    fn step(&mut self) -> io::Result<Progress> {
        let making = &mut self.making;
        let file = match &making.file {
            Some(file) => Arc::clone(file),
            None => {
                remove_unfinished(&self.files)?;
                let file = match making.source {
                    Some(source) => {
                        making.filled = making.capacity;
                        reuse(&self.files, source)?
                    }
                    None => {
                        if self.files.free_bytes()? < u64::from(making.capacity) {
                            return Err(io::ErrorKind::StorageFull.into());
                        }
                        self.files.create(UNFINISHED)?
                    }
                };
                Arc::clone(making.file.insert(Arc::new(file)))
            }
        };
        let until = making.filled.saturating_add(self.step_bytes).min(making.capacity);
        if making.filled < until {
            zero(&*file, making.filled, until)?;
            making.filled = until;
        }
        // Each step is synced, so that no sync of the log waits for more than one.
        file.sync_data()?;
        let is_finished = making.filled == making.capacity;
        if is_finished {
            self.files.rename(UNFINISHED, &segment_name(making.number))?;
            self.files.sync_folder()?;
        }
        Ok(Progress {
            is_finished,
            free_bytes: self.files.free_bytes()?,
        })
    }
}

/// Takes a segment that is done with. Its name goes first, durably: a segment whose header is gone, under its own
/// name, would be damage. What stands behind the header has the CRCs of the old number and is never read as new.
fn reuse<F: Files>(files: &F, source: u32) -> io::Result<F::File> {
    files.rename(&segment_name(source), UNFINISHED)?;
    files.sync_folder()?;
    let file = files.open(UNFINISHED, true)?;
    zero(&file, 0, HEADER_BYTES)?;
    Ok(file)
}
