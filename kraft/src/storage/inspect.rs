//! Reads a log without touching it, for people: what its segments hold, what is torn, and what is damaged where.

use std::fmt;
use std::io;
use std::path::PathBuf;

use kraft_core::id::Index;
use kraft_core::storage::{Fault, Recovered};

use super::files::{File, Files};
use super::fit;
use super::format::{HEADER_BYTES, LogIdentity, Position, Record, SegmentHeader, segment_name, segment_number};
use super::scan::{Found, Scan, Step, read_header};
use super::snapshots::format::{Owner, snapshot_of_name};
use super::snapshots::{self, SnapshotReport};
use super::survey::{OpenError, Torn, fault};

/// What a log holds.
#[derive(Debug)]
pub struct Report {
    /// Its segments, by number.
    pub segments: Vec<SegmentReport>,
    /// The snapshots that belong to it, from the oldest to the newest.
    pub snapshots: Vec<SnapshotReport>,
    /// What a node would recover, or why it would not start.
    pub verdict: Result<Verdict, OpenError>,
}

/// A sound log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What a node would recover.
    pub recovered: Recovered,
    /// Where the sound records end.
    pub end: Position,
    /// Up to here the log says itself that it is durable. A node writes what is above it again.
    pub synced_through: Position,
    /// What a node would cut off behind the end.
    pub torn: Vec<Torn>,
}

/// A segment, read by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// Its file.
    pub path: PathBuf,
    /// Its number.
    pub number: u32,
    /// The size of its file.
    pub size: u64,
    /// Its header; without one it is prepared and not used, torn at its first write, or damaged.
    pub header: Option<SegmentHeader>,
    /// The first and the last entry in it, in the order in which they stand.
    pub entries: Option<(Index, Index)>,
    /// How many entries, of which a later truncation may have removed some.
    pub entry_count: u64,
    /// How many batches.
    pub mark_count: u64,
    /// The newest mark.
    pub synced_through: Option<Position>,
    /// Where the first bytes stand that are no record.
    pub end: u32,
    /// Whether nothing but zeros stands there.
    pub is_zero_behind: bool,
}

impl fmt::Display for SegmentReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes, ", self.path.display(), self.size)?;
        let Some(header) = &self.header else {
            return f.write_str("no header: prepared and not used, or torn at its first write");
        };
        write!(
            f,
            "after index {} of term {}, term {}, vote {}, ",
            header.base_index, header.base_term, header.hard.term, header.hard.vote
        )?;
        match self.entries {
            Some((first, last)) => write!(f, "{} entries {first}-{last}, ", self.entry_count)?,
            None => f.write_str("no entries, ")?,
        }
        write!(f, "{} batches", self.mark_count)?;
        if let Some(synced) = self.synced_through {
            write!(f, ", synced through {synced}")?;
        }
        let behind = if self.is_zero_behind { "zeros" } else { "no records" };
        write!(f, ", {behind} from byte {}", self.end)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            writeln!(f, "{segment}")?;
        }
        for snapshot in &self.snapshots {
            writeln!(f, "{snapshot}")?;
        }
        match &self.verdict {
            Ok(verdict) => {
                let Recovered {
                    hard,
                    base_index,
                    last,
                    snapshot,
                    ..
                } = &verdict.recovered;
                write!(
                    f,
                    "sound: entries {}-{last}, term {}, vote {}, ends at {}, synced through {}",
                    base_index.next(),
                    hard.term,
                    hard.vote,
                    verdict.end,
                    verdict.synced_through
                )?;
                if let Some(snapshot) = snapshot {
                    write!(f, "; from the snapshot at index {}", snapshot.id.index)?;
                }
                for Torn { path, offset, bytes } in &verdict.torn {
                    write!(
                        f,
                        "; torn: {}: byte {offset}: {bytes} bytes of a write that was cut short",
                        path.display()
                    )?;
                }
                Ok(())
            }
            Err(error) => error.fmt(f),
        }
    }
}

/// What [`dump`] comes upon, in the order of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dumped {
    /// A segment begins, with its header if that is sound.
    Segment(u32, Option<SegmentHeader>),
    /// A record.
    Record(Position, Record),
    /// From here on the segment has no sound records; whether it has nothing but zeros.
    End(Position, bool),
}

impl fmt::Display for Dumped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(number, None) => write!(f, "{number}: segment without a sound header"),
            Self::Segment(number, Some(header)) => write!(
                f,
                "{number}: segment of cluster {:x}, node {}, incarnation {:016x}, group {}; follows {}, synced through \
                 {}, after index {} of term {}, term {}, vote {}",
                header.identity.cluster.0,
                header.identity.node,
                header.identity.incarnation.0,
                header.identity.group,
                header.follows,
                header.synced_through,
                header.base_index,
                header.base_term,
                header.hard.term,
                header.hard.vote
            ),
            Self::Record(at, record) => {
                write!(f, "{at}: ")?;
                match record {
                    Record::Entry {
                        index,
                        term,
                        kind,
                        length,
                        crc,
                    } => write!(f, "entry {index} term {term} {kind:?} {length} bytes crc {crc:08x}"),
                    Record::HardState(hard) => write!(f, "term {} vote {}", hard.term, hard.vote),
                    Record::Truncate(from) => write!(f, "entries from {from} on are removed"),
                    Record::Mark(synced) => write!(f, "batch; synced through {synced}"),
                }
            }
            Self::End(at, true) => write!(f, "{at}: zeros"),
            Self::End(at, false) => write!(f, "{at}: no record"),
        }
    }
}

/// Reads all of a log and its snapshots and says what they hold, and whether a node would start from them. Without an
/// `identity` it is taken from the first sound header.
///
/// # Errors
///
/// [`Fault`]: the system refused to read it.
pub fn verify<F: Files>(files: &F, identity: Option<LogIdentity>) -> Result<Report, Fault> {
    let mut segments = Vec::new();
    let identity = identity_of(files, identity)?;
    for number in numbers(files)? {
        segments.push(read_segment(files, &identity, number, &mut |_| {})?);
    }
    let verdict = match fit::read(files, &identity, 0) {
        Err(OpenError::Failed(fault)) => return Err(fault),
        fitted => fitted.map(|fitted| Verdict {
            recovered: fitted.recovered(),
            end: fitted.survey.end,
            synced_through: fitted.survey.synced,
            torn: fitted.survey.torn,
        }),
    };
    Ok(Report {
        segments,
        snapshots: read_snapshots(files, fit::owner(&identity))?,
        verdict,
    })
}

fn read_snapshots<F: Files>(files: &F, owner: Owner) -> Result<Vec<SnapshotReport>, Fault> {
    let names = files.list().map_err(fault(files, "", "list"))?;
    if !names.iter().any(|name| name == snapshots::FOLDER) {
        return Ok(Vec::new());
    }
    let folder = files
        .folder(snapshots::FOLDER)
        .map_err(fault(files, snapshots::FOLDER, "open"))?;
    let mut names = folder.list().map_err(fault(&folder, "", "list"))?;
    names.retain(|name| snapshot_of_name(name, 0).is_some());
    names.sort_unstable();
    names
        .iter()
        .map(|name| snapshots::snapshot(&folder, name, Some(owner)))
        .collect()
}

/// Hands out every record of a log, segment by segment, whatever its state.
///
/// # Errors
///
/// [`Fault`]: the system refused to read it.
pub fn dump<F: Files>(files: &F, identity: Option<LogIdentity>, mut visit: impl FnMut(Dumped)) -> Result<(), Fault> {
    let identity = identity_of(files, identity)?;
    for number in numbers(files)? {
        read_segment(files, &identity, number, &mut visit)?;
    }
    Ok(())
}

fn numbers<F: Files>(files: &F) -> Result<Vec<u32>, Fault> {
    let names = files.list().map_err(fault(files, "", "list"))?;
    let mut numbers: Vec<_> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The identity in the first sound header. Without any there is nothing to compare with.
fn identity_of<F: Files>(files: &F, identity: Option<LogIdentity>) -> Result<LogIdentity, Fault> {
    if let Some(identity) = identity {
        return Ok(identity);
    }
    for number in numbers(files)? {
        let name = segment_name(number);
        let file = files.open(&name, false).map_err(fault(files, &name, "open"))?;
        if let Ok(header) = read_header(&file).map_err(fault(files, &name, "read"))? {
            return Ok(header.identity);
        }
    }
    let error = io::Error::new(io::ErrorKind::NotFound, "no segment of a log has a sound header");
    Err(fault(files, "", "read")(error))
}

fn read_segment<F: Files>(
    files: &F,
    identity: &LogIdentity,
    number: u32,
    visit: &mut impl FnMut(Dumped),
) -> Result<SegmentReport, Fault> {
    let name = segment_name(number);
    let failed = |operation| fault(files, &name, operation);
    let file = files.open(&name, false).map_err(failed("open"))?;
    let header = read_header(&file).map_err(failed("read"))?.ok();
    let mut report = SegmentReport {
        path: files.path(&name),
        number,
        size: file.size().map_err(failed("stat"))?,
        header,
        entries: None,
        entry_count: 0,
        mark_count: 0,
        synced_through: None,
        end: HEADER_BYTES,
        is_zero_behind: true,
    };
    visit(Dumped::Segment(number, header));
    let mut scan = Scan::new(&file, number, identity);
    while let Step::Record(found) = scan.step().map_err(failed("read"))? {
        note(&mut report, &found);
        visit(Dumped::Record(found.at, found.record));
    }
    let is_zero = scan.rest().map_err(failed("read"))?.bytes == 0;
    report.end = scan.offset();
    report.is_zero_behind = is_zero;
    let end = Position {
        segment: number,
        offset: report.end,
    };
    visit(Dumped::End(end, is_zero));
    Ok(report)
}

fn note(report: &mut SegmentReport, found: &Found) {
    match found.record {
        Record::Entry { index, .. } => {
            let first = report.entries.map_or(index, |(first, _)| first);
            report.entries = Some((first, index));
            report.entry_count += 1;
        }
        Record::Mark(synced) => {
            report.mark_count += 1;
            report.synced_through = Some(synced);
        }
        Record::HardState(_) | Record::Truncate(_) => {}
    }
}
