//! What a log was after each record that stands in its files, and which of that is claimed to be durable.

use std::ops::Range;

use kraft::storage::MemFiles;
use kraft::storage::format::{HEADER_BYTES, Position, Record, segment_name};
use kraft::storage::inspect::{Dumped, dump};
use kraft_core::id::Term;
use kraft_core::message::{Entry, EntryKind};
use kraft_core::storage::HardState;

use super::{IDENTITY, Known};

/// What a log holds, its payloads as their checksums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    hard: HardState,
    entries: Vec<(Term, EntryKind, u32)>,
}

impl From<&Known> for Held {
    fn from(known: &Known) -> Self {
        let of_entry = |entry: &Entry| (entry.term, entry.kind, entry.crc);
        Self {
            hard: known.hard,
            entries: known.entries.iter().map(of_entry).collect(),
        }
    }
}

/// The header of a segment, or a record with its payload.
#[derive(Debug)]
struct Step {
    segment: u32,
    bytes: Range<u32>,
    /// It says that everything before this is durable.
    claim: Option<Position>,
    /// What the log is behind it.
    held: Held,
}

impl Step {
    fn end(&self) -> Position {
        Position {
            segment: self.segment,
            offset: self.bytes.end,
        }
    }

    /// Whether its bytes are the same in both.
    fn is_same(&self, one: &MemFiles, other: &MemFiles) -> bool {
        let name = segment_name(self.segment);
        let range = self.bytes.start as usize..self.bytes.end as usize;
        one.bytes(&name).get(range.clone()) == other.bytes(&name).get(range)
    }
}

/// The way of a log from nothing to what it is.
#[derive(Debug)]
pub(super) struct Trail {
    files: MemFiles,
    steps: Vec<Step>,
}

impl Trail {
    /// Of files as they are, which nothing is wrong with.
    pub(super) fn of(files: &MemFiles) -> Self {
        let mut steps = Vec::new();
        let mut held = Held::default();
        dump(files, Some(IDENTITY), |dumped| {
            let (at, size, claim) = match dumped {
                Dumped::Segment(segment, Some(header)) => {
                    held.entries.truncate(index(header.base_index.0));
                    held.hard = header.hard;
                    let at = Position { segment, offset: 0 };
                    (at, HEADER_BYTES, Some(header.follows.max(header.synced_through)))
                }
                Dumped::Record(at, record) => {
                    let mut claim = None;
                    match record {
                        Record::Entry { term, kind, crc, .. } => held.entries.push((term, kind, crc)),
                        Record::HardState(hard) => held.hard = hard,
                        Record::Truncate(from) => held.entries.truncate(index(from.prev().0)),
                        Record::Mark(synced) => claim = Some(synced),
                    }
                    (at, record.size().expect("it is in a segment"), claim)
                }
                Dumped::Segment(_, None) | Dumped::End(..) => return,
            };
            steps.push(Step {
                segment: at.segment,
                bytes: at.offset..at.offset + size,
                claim,
                held: held.clone(),
            });
        })
        .expect("a disk of memory reads");
        Self {
            files: files.fork(),
            steps,
        }
    }

    /// Where it ends.
    pub(super) fn end(&self) -> Held {
        self.steps.last().map(|step| step.held.clone()).unwrap_or_default()
    }

    /// The last place up to which somebody claims, in what is left in `damaged`, that the log is durable.
    pub(super) fn claimed(&self, damaged: &MemFiles) -> Position {
        let left = self.steps.iter().filter(|step| step.is_same(&self.files, damaged));
        left.filter_map(|step| step.claim).max().unwrap_or_default()
    }

    /// Whether the log was so at `position`, or is behind it.
    pub(super) fn has_since(&self, position: Position, held: &Held) -> bool {
        let before = self.steps.partition_point(|step| step.end() <= position);
        let at = before.checked_sub(1).map(|last| &self.steps[last].held);
        let nothing = Held::default();
        at.unwrap_or(&nothing) == held || self.steps[before..].iter().any(|step| step.held == *held)
    }

    /// Whether something before `position` is not as it was.
    pub(super) fn is_changed_before(&self, position: Position, damaged: &MemFiles) -> bool {
        let mut before = self.steps.iter().take_while(|step| step.end() <= position);
        before.any(|step| !step.is_same(&self.files, damaged))
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a log is short")
}
