//! Finds out what a log holds, without touching it.
//!
//! The segments form a chain: each names the position where the one before it ends. A segment's header is written when
//! everything before it is durable, so the newest sound header stands for all before it, and each
//! [mark](Record::Mark) for all before that. Whatever is unsound below the newest claim is damage; whatever is unsound
//! above it is a torn tail, which nobody was told of.

use std::fmt;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use kraft_core::canary::{self, Canary};
use kraft_core::id::{Index, NodeId, Term};
use kraft_core::message::EntryKind;
use kraft_core::storage::{Fault, HardState};

use super::files::{File, Files};
use super::format::{
    HEADER_BYTES, HeaderError, LogIdentity, Position, Record, SegmentHeader, VERSION, segment_name, segment_number,
};
use super::ledger::{Contradiction, Ledger};
use super::scan::{Bad, Found, Scan, Step, read_header};
use super::snapshots::format::Flaw;

/// The highest number of a segment that a log is opened with: two billion more can follow it.
const NUMBER_MAX: u32 = u32::MAX / 2;

/// The configurations behind the snapshot, all together. They are read at the start; no cluster changes its members so
/// often between two snapshots.
const MEMBERSHIP_BYTES_MAX: u64 = 64 << 20;

/// A log that is not as it was written. Nothing was changed: it can still be copied and looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// In which file.
    pub path: PathBuf,
    /// At which byte.
    pub offset: u64,
    /// What is wrong there.
    pub kind: DamageKind,
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageKind {
    /// The file is not there, but the log goes on behind it.
    Missing,
    /// The header of a segment is unsound, but the log goes on behind it.
    Header,
    /// The segment was written by another node, or under another name.
    Foreign,
    /// The segment's number is one that no log comes to, and hardly any could follow it.
    Number,
    /// The segment says that it follows this place, which is not in a segment before it.
    Follows(Position),
    /// The segment was written by another version of the format.
    Version(u32),
    /// A record of a kind that this version does not know.
    Kind(u8),
    /// Bytes that were synced are not those that were written.
    Bytes {
        /// What is wrong with them.
        what: &'static str,
        /// Everything before this position was synced.
        synced_through: Position,
    },
    /// Sound records contradict each other.
    Contradiction(Contradiction),
    /// The log begins behind this index, and nothing holds what came before.
    Front(Index),
    /// The log begins behind the index where the newest snapshot ends.
    Gap {
        /// Where the snapshot ends.
        held: Index,
        /// Where the log begins.
        base: Index,
    },
    /// The snapshot is damaged, and the log does not reach down to the one before it; or it is of another version.
    Snapshot(Flaw),
    /// There is a snapshot up to this index, but no log that could say for whom the node voted.
    NoLog(Index),
    /// More configurations than any log has.
    Memberships,
}

impl Damage {
    /// Whether a later program has written what is found there: that is no damage.
    #[must_use]
    pub const fn is_version(&self) -> bool {
        match &self.kind {
            DamageKind::Version(_) | DamageKind::Kind(_) => true,
            DamageKind::Snapshot(flaw) => flaw.is_version(),
            _ => false,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: byte {}: ", self.path.display(), self.offset)?;
        match self.kind {
            DamageKind::Missing => f.write_str("the file is missing, but a later segment follows it"),
            DamageKind::Header => f.write_str("the segment's header is damaged, but synced records follow it"),
            DamageKind::Foreign => f.write_str("the segment is another node's, or another segment's under this name"),
            DamageKind::Number => write!(f, "the segment's number is above {NUMBER_MAX}, which no log comes to"),
            DamageKind::Follows(place) => write!(
                f,
                "the segment says that it follows {place}, which does not stand before it"
            ),
            DamageKind::Version(found) => {
                write!(f, "format version {found}; this program reads version {VERSION}")
            }
            DamageKind::Kind(kind) => write!(f, "a record of kind {kind}, which this program does not know"),
            DamageKind::Bytes { what, synced_through } => {
                write!(f, "{what}, but the log was synced through {synced_through}")
            }
            DamageKind::Contradiction(contradiction) => contradiction.fmt(f),
            DamageKind::Front(base) => {
                write!(
                    f,
                    "the log begins after index {base}, and no snapshot holds what came before"
                )
            }
            DamageKind::Gap { held, base } => write!(
                f,
                "the log begins after index {base}, but the newest snapshot ends at index {held}"
            ),
            DamageKind::Snapshot(flaw) if flaw.is_version() => flaw.fmt(f),
            DamageKind::Snapshot(flaw @ Flaw::Unreadable(_)) => write!(
                f,
                "{flaw}; start the node once more, it may be readable then; the log does not reach down to an older snapshot"
            ),
            DamageKind::Snapshot(flaw) => write!(f, "{flaw}; and the log does not reach down to an older snapshot"),
            DamageKind::NoLog(index) => write!(
                f,
                "a snapshot up to index {index} is here, but no log: the node's vote is lost"
            ),
            DamageKind::Memberships => write!(
                f,
                "more than {} MiB of configurations stand behind the snapshot",
                MEMBERSHIP_BYTES_MAX >> 20
            ),
        }
    }
}

impl std::error::Error for Damage {}

/// A write that was cut short at the end of a log: no record, nor ever acknowledged. (Rot in the last batch looks the
/// same: nothing tells that it was synced.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// In which file.
    pub path: PathBuf,
    /// From which byte.
    pub offset: u32,
    /// How much. In a segment that was used again what it held before counts, too.
    pub bytes: u64,
}

/// Why a log was not opened. Nothing in it was changed.
#[derive(Debug)]
pub enum OpenError {
    /// It is not as it was written.
    Damaged(Damage),
    /// The system refused to read or write it.
    Failed(Fault),
    /// A limit is out of its bounds.
    Config(super::config::ConfigError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(damage) if damage.is_version() => write!(
                f,
                "{damage}: that is no damage, run the version that wrote it; nothing was changed"
            ),
            Self::Damaged(damage) => write!(
                f,
                "the log is damaged: {damage}; nothing was changed: restore the disk, and until then leave this node down: \
                 the majority goes on without it"
            ),
            Self::Failed(fault) => fault.fmt(f),
            Self::Config(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Damaged(error) => Some(error),
            Self::Failed(error) => Some(error),
            Self::Config(error) => Some(error),
        }
    }
}

impl From<Damage> for OpenError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

/// Names operation and file of a failure.
pub(crate) fn fault<F: Files>(
    files: &F,
    name: &str,
    operation: &'static str,
) -> impl FnOnce(io::Error) -> Fault + use<F> {
    let path = files.path(name);
    move |error| Fault { operation, path, error }
}

/// A segment that is part of the log.
#[derive(Debug)]
pub(crate) struct Link<F> {
    pub(crate) header: SegmentHeader,
    pub(crate) file: F,
    pub(crate) size: u64,
    /// The least index that the segment, in its header or a truncation, cuts the log to.
    pub(crate) lowest: Index,
}

/// What a log holds.
#[derive(Debug)]
pub(crate) struct Survey<F> {
    /// The segments of the log, in order.
    pub(crate) chain: Vec<Link<F>>,
    /// Numbers and sizes of the other segments: prepared, torn at their first write, or replaced.
    pub(crate) others: Vec<(u32, u64)>,
    pub(crate) ledger: Ledger,
    /// Where the sound records end.
    pub(crate) end: Position,
    /// Up to here the log is known to be durable.
    pub(crate) synced: Position,
    /// The entries of the last segment that stand at or behind `rewrite_from`, of those that were not removed.
    pub(crate) tail: Vec<Found>,
    /// What the next segment follows; the tail is written again into it.
    pub(crate) rewrite_from: Position,
    /// Whether all of the last segment is written again, so that it is not needed any more.
    pub(crate) replaces_last: bool,
    /// What is cut off behind the end.
    pub(crate) torn: Vec<Torn>,
    /// Numbers and sizes of the segments of a log that a snapshot took the place of. They hold term and vote until the
    /// fresh segment is durable.
    pub(crate) replaced: Vec<(u32, u64)>,
    /// The configurations behind the snapshot.
    pub(crate) memberships: Vec<(Index, Bytes)>,
}

impl<F> Survey<F> {
    /// A number above all that were used; those are at most [`NUMBER_MAX`].
    pub(crate) fn next_number(&self) -> u32 {
        let chain = self.chain.iter().map(|link| link.header.number);
        let others = self.others.iter().chain(&self.replaced).map(|(number, _)| *number);
        chain.chain(others).max().unwrap_or(0) + 1
    }

    fn keep_memberships(&mut self, through: Index) {
        self.memberships.retain(|(index, _)| *index <= through);
    }
}

/// A file that has the name of a segment.
struct Candidate<F> {
    number: u32,
    file: F,
    size: u64,
    /// `None`: prepared, torn at its first write, or damaged.
    header: Option<SegmentHeader>,
}

/// Reads the whole log. `released` is the index up to which a snapshot holds what the log may lack; a last segment
/// with at most `small_bytes` is to be replaced, so that starting over and over does not pile up segments.
pub(crate) fn survey<F: Files>(
    files: &F,
    identity: &LogIdentity,
    released: Index,
    small_bytes: u32,
) -> Result<Survey<F::File>, OpenError> {
    let candidates = candidates(files, identity)?;
    let (mut chain, others) = link(files, candidates, released)?;
    let mut survey = Survey {
        chain: Vec::new(),
        others: others.iter().map(|other| (other.number, other.size)).collect(),
        ledger: Ledger::default(),
        end: Position::default(),
        synced: Position::default(),
        tail: Vec::new(),
        rewrite_from: Position::default(),
        replaces_last: false,
        torn: Vec::new(),
        replaced: Vec::new(),
        memberships: Vec::new(),
    };
    let mut ends: Vec<_> = chain.iter().skip(1).map(|link| Some(link.header.follows)).collect();
    ends.push(None);
    let mut first = 0;
    let mut at = 0;
    while let Some(link) = chain.get_mut(at) {
        let name = segment_name(link.header.number);
        let entered = if at == first {
            survey.ledger = Ledger::begin(&link.header);
            Ok(())
        } else {
            let entered = survey.ledger.enter(&link.header);
            entered.map_err(|wrong| damage(files, &name, 0, DamageKind::Contradiction(wrong)).into())
        };
        let is_entered = entered.is_ok();
        survey.keep_memberships(link.header.base_index);
        let read = entered.and_then(|()| match ends[at] {
            Some(end) => read_closed(files, identity, &mut survey, link, end),
            None => read_last(files, identity, &mut survey, link, small_bytes),
        });
        let Err(error) = read else {
            at += 1;
            continue;
        };
        // The segments before a truncation go together with the one that it stands in: some of them are left.
        at += usize::from(is_entered);
        let rest = chain
            .iter()
            .skip(at)
            .position(|link| link.header.base_index <= released);
        let Some(rest) = rest.filter(|_| is_cut_below(&error, survey.ledger.base_index)) else {
            return Err(error);
        };
        at += rest;
        first = at;
    }
    let gone = chain.drain(..first).map(|link| (link.header.number, link.size));
    survey.others.extend(gone);
    survey.chain = chain;
    check_others(files, identity, &mut survey, &others)?;
    // Law R11: a term is saved before an entry of it is appended; should a log disagree, the term still never goes
    // back.
    let last_term = survey.ledger.last_term();
    if survey.ledger.hard.term < last_term {
        survey.ledger.hard = HardState {
            term: last_term,
            vote: NodeId::NONE,
        };
    }
    plan_rewrite(&mut survey, small_bytes);
    Ok(survey)
}

/// Whether the log was cut below where it begins.
fn is_cut_below(error: &OpenError, base: Index) -> bool {
    let OpenError::Damaged(damage) = error else {
        return false;
    };
    matches!(damage.kind, DamageKind::Contradiction(Contradiction::Index { found, .. }) if found <= base)
}

pub(super) fn damage<F: Files>(files: &F, name: &str, offset: u32, kind: DamageKind) -> Damage {
    Damage {
        path: files.path(name),
        offset: u64::from(offset),
        kind,
    }
}

fn candidates<F: Files>(files: &F, identity: &LogIdentity) -> Result<Vec<Candidate<F::File>>, OpenError> {
    let names = files.list().map_err(fault(files, "", "list"))?;
    let mut numbers: Vec<_> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let mut candidates = Vec::with_capacity(numbers.len());
    for number in numbers {
        let name = segment_name(number);
        if number > NUMBER_MAX {
            return Err(damage(files, &name, 0, DamageKind::Number).into());
        }
        let file = files.open(&name, false).map_err(fault(files, &name, "open"))?;
        let size = file.size().map_err(fault(files, &name, "stat"))?;
        let header = match read_header(&file).map_err(fault(files, &name, "read"))? {
            Ok(header) if header.identity != *identity || header.number != number => {
                return Err(damage(files, &name, 0, DamageKind::Foreign).into());
            }
            Ok(header) if header.follows.segment >= number => {
                return Err(damage(files, &name, 0, DamageKind::Follows(header.follows)).into());
            }
            Ok(header) => Some(header),
            Err(HeaderError::Version(version)) => {
                return Err(damage(files, &name, 8, DamageKind::Version(version)).into());
            }
            Err(HeaderError::Invalid) => None,
        };
        candidates.push(Candidate {
            number,
            file,
            size,
            header,
        });
    }
    Ok(candidates)
}

impl<F> From<Link<F>> for Candidate<F> {
    fn from(link: Link<F>) -> Self {
        Self {
            number: link.header.number,
            file: link.file,
            size: link.size,
            header: Some(link.header),
        }
    }
}

type Linked<F> = (Vec<Link<F>>, Vec<Candidate<F>>);

/// Follows the chain from the newest sound header to the front.
fn link<F: Files>(
    files: &F,
    mut candidates: Vec<Candidate<F::File>>,
    released: Index,
) -> Result<Linked<F::File>, OpenError> {
    let mut chain = Vec::new();
    let mut others = Vec::new();
    let mut wanted = None;
    // Whether a snapshot holds all that is before one of the chain.
    let mut is_held = false;
    while let Some(candidate) = candidates.pop() {
        if wanted.is_some_and(|wanted| candidate.number < wanted) {
            candidates.push(candidate);
            break;
        }
        let is_wanted = wanted.is_none_or(|wanted| candidate.number == wanted);
        match candidate.header {
            Some(header) if is_wanted => {
                wanted = Some(header.follows.segment);
                is_held |= header.base_index <= released;
                chain.push(Link {
                    header,
                    file: candidate.file,
                    size: candidate.size,
                    lowest: header.base_index,
                });
            }
            None if is_wanted && wanted.is_some() && !is_held => {
                let name = segment_name(candidate.number);
                return Err(damage(files, &name, 0, DamageKind::Header).into());
            }
            _ => others.push(candidate),
        }
    }
    others.extend(candidates);
    chain.reverse();
    // What is left of those that were given up may begin higher than what follows it: it was cut.
    let held = chain.iter().position(|link| link.header.base_index <= released);
    chain
        .drain(..held.unwrap_or(0))
        .for_each(|link| others.push(link.into()));
    if let Some(first) = chain.first().filter(|_| held.is_none()) {
        let base = first.header.base_index;
        let (number, kind) = match first.header.follows.segment {
            _ if released > Index::ZERO => (first.header.number, DamageKind::Gap { held: released, base }),
            0 => (first.header.number, DamageKind::Front(base)),
            missing => (missing, DamageKind::Missing),
        };
        return Err(damage(files, &segment_name(number), 0, kind).into());
    }
    Ok((chain, others))
}

const fn describe(bad: Bad) -> &'static str {
    match bad {
        Bad::End => "the file ends",
        Bad::Header => "the header of a record is damaged",
        Bad::Payload => "the payload of a record is damaged",
        Bad::Padding => "the bytes behind a payload are damaged",
    }
}

/// Reads a segment that another one follows: all of it was synced.
fn read_closed<F: Files>(
    files: &F,
    identity: &LogIdentity,
    survey: &mut Survey<F::File>,
    link: &mut Link<F::File>,
    end: Position,
) -> Result<(), OpenError> {
    let name = segment_name(link.header.number);
    let mut scan = Scan::new(&link.file, link.header.number, identity);
    while scan.offset() < end.offset {
        match scan.step().map_err(fault(files, &name, "read"))? {
            Step::Record(found) => {
                take(files, &name, &mut survey.ledger, &mut link.lowest, &found)?;
                note_membership(files, &name, survey, &mut scan, &found)?;
            }
            Step::Bad(offset, bad) => {
                let kind = DamageKind::Bytes {
                    what: describe(bad),
                    synced_through: end,
                };
                return Err(damage(files, &name, offset, kind).into());
            }
            Step::Unknown(offset, kind) => return Err(damage(files, &name, offset, DamageKind::Kind(kind)).into()),
        }
    }
    Ok(())
}

fn take<F: Files>(files: &F, name: &str, ledger: &mut Ledger, lowest: &mut Index, found: &Found) -> Result<(), Damage> {
    if let Record::Truncate(from) = found.record {
        *lowest = (*lowest).min(from.prev());
    }
    ledger
        .take(found.at, &found.record)
        .map_err(|wrong| damage(files, name, found.at.offset, DamageKind::Contradiction(wrong)))
}

/// Keeps the configurations; the snapshot's own and those before it are dropped in the end.
fn note_membership<F: Files>(
    files: &F,
    name: &str,
    survey: &mut Survey<F::File>,
    scan: &mut Scan<'_, F::File>,
    found: &Found,
) -> Result<(), OpenError> {
    match found.record {
        Record::Entry {
            index,
            kind: EntryKind::Membership,
            length,
            ..
        } => {
            let bytes: u64 = survey.memberships.iter().map(|(_, payload)| payload.len() as u64).sum();
            if bytes + u64::from(length) > MEMBERSHIP_BYTES_MAX {
                return Err(damage(files, name, found.at.offset, DamageKind::Memberships).into());
            }
            let mut payload = Vec::new();
            scan.payload(found, &mut payload).map_err(fault(files, name, "read"))?;
            survey.memberships.push((index, Bytes::from(payload)));
        }
        Record::Truncate(from) => survey.keep_memberships(from.prev()),
        _ => {}
    }
    Ok(())
}

/// Reads the last segment, to where its sound records end.
fn read_last<F: Files>(
    files: &F,
    identity: &LogIdentity,
    survey: &mut Survey<F::File>,
    link: &mut Link<F::File>,
    small_bytes: u32,
) -> Result<(), OpenError> {
    let number = link.header.number;
    let name = segment_name(number);
    let mut scan = Scan::new(&link.file, number, identity);
    survey.synced = link.header.synced_through;
    let bad = loop {
        match scan.step().map_err(fault(files, &name, "read"))? {
            Step::Record(found) => {
                take(files, &name, &mut survey.ledger, &mut link.lowest, &found)?;
                note_membership(files, &name, survey, &mut scan, &found)?;
                note_tail(survey, &found, small_bytes);
            }
            Step::Bad(_, bad) => break bad,
            Step::Unknown(offset, kind) => return Err(damage(files, &name, offset, DamageKind::Kind(kind)).into()),
        }
    };
    survey.end = Position {
        segment: number,
        offset: scan.offset(),
    };
    let rest = scan.rest().map_err(fault(files, &name, "read"))?;
    // In a segment that was used before, stale bytes follow the last record of an orderly log, too.
    let is_unfinished = matches!(bad, Bad::Payload | Bad::Padding) || rest.has_records;
    if rest.bytes > 0 && (is_unfinished || !link.header.is_reused) {
        survey.torn.push(Torn {
            path: files.path(&name),
            offset: survey.end.offset,
            bytes: rest.bytes,
        });
    }
    let claimed = rest.mark.map_or(survey.synced, |(_, synced)| synced.max(survey.synced));
    let claimed = if canary::is(Canary::DamageCut) {
        claimed.min(survey.end)
    } else {
        claimed
    };
    if claimed > survey.end {
        let kind = DamageKind::Bytes {
            what: describe(bad),
            synced_through: claimed,
        };
        return Err(damage(files, &name, survey.end.offset, kind).into());
    }
    survey.synced = claimed;
    Ok(())
}

/// Keeps the entries that may have to be written again: all while the segment is small, then those above the mark.
fn note_tail<F>(survey: &mut Survey<F>, found: &Found, small_bytes: u32) {
    match found.record {
        Record::Entry { .. } => survey.tail.push(*found),
        Record::Truncate(from) => survey.tail.retain(|entry| entry_index(entry) < from),
        Record::HardState(_) => {}
        Record::Mark(synced) => {
            survey.synced = survey.synced.max(synced);
            if found.at.offset > small_bytes {
                drop_synced(survey);
            }
        }
    }
}

fn drop_synced<F>(survey: &mut Survey<F>) {
    let synced = survey.synced;
    survey
        .tail
        .drain(..survey.tail.partition_point(|entry| entry.at < synced));
}

fn entry_index(found: &Found) -> Index {
    match found.record {
        Record::Entry { index, .. } => index,
        _ => Index::ZERO,
    }
}

/// Segments without a sound header, above the last one: prepared, or torn at their first write. A mark in one that
/// claims more than was found betrays damage.
fn check_others<F: Files>(
    files: &F,
    identity: &LogIdentity,
    survey: &mut Survey<F::File>,
    others: &[Candidate<F::File>],
) -> Result<(), OpenError> {
    let last = survey.end.segment;
    for other in others.iter().filter(|other| other.number > last) {
        let name = segment_name(other.number);
        let mut scan = Scan::new(&other.file, other.number, identity);
        let rest = scan.rest().map_err(fault(files, &name, "read"))?;
        let Some((_, synced)) = rest.mark else {
            continue;
        };
        survey.torn.push(Torn {
            path: files.path(&name),
            offset: HEADER_BYTES,
            bytes: rest.bytes,
        });
        if synced <= survey.end {
            survey.synced = survey.synced.max(synced);
        } else if synced.segment == other.number || survey.chain.is_empty() {
            return Err(damage(files, &name, 0, DamageKind::Header).into());
        } else {
            let kind = DamageKind::Bytes {
                what: "a record is damaged",
                synced_through: synced,
            };
            return Err(damage(files, &segment_name(last), survey.end.offset, kind).into());
        }
    }
    Ok(())
}

/// A small last segment is replaced by the next one; of a big one, what is above the mark is written again. So is all
/// of one that no mark reaches: its very header may be in the page cache alone.
fn plan_rewrite<F>(survey: &mut Survey<F>, small_bytes: u32) {
    let Some(last) = survey.chain.last() else {
        return;
    };
    survey.replaces_last = survey.end.offset <= small_bytes || survey.synced.segment != last.header.number;
    if survey.replaces_last {
        survey.rewrite_from = last.header.follows;
    } else {
        survey.rewrite_from = survey.synced;
        drop_synced(survey);
    }
}

impl<F> Survey<F> {
    /// The last index that is not written again, and its term.
    pub(crate) fn rewrite_base(&self) -> (Index, Term) {
        let base = Index(self.ledger.last.0 - self.tail.len() as u64);
        (base, self.ledger.term_at(base))
    }
}
