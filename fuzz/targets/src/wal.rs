//! A log that is opened: as a node left it when it lost power, forged record by record, or any bytes; and damaged.

mod trail;

use std::path::PathBuf;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use kraft::storage::format::{HEADER_BYTES, Position, Record, SegmentHeader, segment_name};
use kraft::storage::inspect::{dump, verify};
use kraft::storage::{Config, DiskLog, File as _, Files as _, LogIdentity, Loss, MemFiles, OpenError};
use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId, SyncId, Term};
use kraft_core::membership::Configuration;
use kraft_core::message::{Entries, Entry, EntryKind};
use kraft_core::storage::{Completed, HardState, Recovered, Storage, Work};

use self::trail::{Held, Trail};
use crate::meter::metered;

const IDENTITY: LogIdentity = LogIdentity {
    cluster: ClusterId(1),
    node: NodeId(2),
    incarnation: Incarnation(3),
    group: GroupId(0),
};

/// What a start costs however little there is: windows to read by, a segment to begin with and one ahead.
const START_BYTES: u64 = 24 << 20;

fn config() -> Config {
    Config {
        segment_bytes: 8 << 10,
        first_segment_bytes: 4 << 10,
        zero_step_bytes: 4096,
        load_bytes_max: 1000,
        ..Config::default()
    }
}

pub(crate) fn run(input: &[u8]) {
    let mut u = Unstructured::new(input);
    let _ = match u.int_in_range(0..=3) {
        Ok(0) => try_bytes(&mut u),
        Ok(1) => try_forged(&mut u),
        _ => try_written(&mut u),
    };
}

/// Any bytes in two files.
fn try_bytes(u: &mut Unstructured<'_>) -> Result<()> {
    let files = MemFiles::new();
    let cut = usize::from(u.arbitrary::<u16>()?).min(u.len());
    put(&files, 1 + u.int_in_range(0..=1)?, u.bytes(cut.min(u.len()))?);
    put(&files, 3, u.bytes(u.len())?);
    if let Some(log) = open(&files) {
        judge_opened(log, &files);
    }
    Ok(())
}

fn put(files: &MemFiles, number: u32, bytes: &[u8]) {
    let file = files.create(&segment_name(number)).expect("there is room");
    file.write_at(bytes, 0).expect("there is room");
    file.sync_data().expect("a disk of memory syncs");
    files.sync_folder().expect("a disk of memory syncs");
}

/// Segments whose sums are right and whose words need not be.
fn try_forged(u: &mut Unstructured<'_>) -> Result<()> {
    let files = MemFiles::new();
    let mut follows = Position::default();
    let (mut index, mut term) = (Index(u.int_in_range(0..=2)?), Term(u.int_in_range(0..=2)?));
    let mut number = u.int_in_range(1..=3)?;
    for _ in 0..u.int_in_range(1..=3)? {
        let mut bytes = Vec::new();
        let header = SegmentHeader {
            identity: IDENTITY,
            number: if u.ratio(1, 16)? { u.arbitrary()? } else { number },
            is_reused: u.arbitrary()?,
            follows: if u.ratio(1, 8)? { position(u)? } else { follows },
            synced_through: if u.ratio(1, 4)? { position(u)? } else { follows },
            base_index: if u.ratio(1, 8)? {
                Index(near(u, index.0)?)
            } else {
                index
            },
            base_term: if u.ratio(1, 8)? { Term(near(u, term.0)?) } else { term },
            hard: HardState {
                term: Term(near(u, term.0)?),
                vote: NodeId(u.int_in_range(0..=3)?),
            },
        };
        bytes.extend_from_slice(&header.encode());
        for _ in 0..u.int_in_range(0..=12)? {
            let (record, payload) = record(u, &mut index, &mut term, number, bytes.len())?;
            let offset = u32::try_from(bytes.len()).expect("a segment is short");
            bytes.extend_from_slice(&record.encode(IDENTITY.seed(number), offset));
            bytes.extend_from_slice(&payload);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        follows = Position {
            segment: number,
            offset: u32::try_from(bytes.len()).expect("a segment is short"),
        };
        bytes.resize(bytes.len().max(u.int_in_range(0..=8 << 10)?), 0);
        damage(u, &mut bytes)?;
        put(&files, number, &bytes);
        number += u.int_in_range(1..=2)?;
    }
    if let Some(log) = open(&files) {
        judge_opened(log, &files);
    }
    Ok(())
}

fn near(u: &mut Unstructured<'_>, number: u64) -> Result<u64> {
    Ok(match u.int_in_range(0..=7)? {
        0..=3 => number,
        4 => number.saturating_add(1),
        5 => number.saturating_sub(1),
        6 => u64::MAX - u.int_in_range(0..=2)?,
        _ => u.int_in_range(0..=9)?,
    })
}

fn position(u: &mut Unstructured<'_>) -> Result<Position> {
    Ok(Position {
        segment: u.int_in_range(0..=4)?,
        offset: match u.arbitrary()? {
            true => HEADER_BYTES + 8 * u.int_in_range(0..=40)?,
            false => u.arbitrary()?,
        },
    })
}

fn record(
    u: &mut Unstructured<'_>,
    index: &mut Index,
    term: &mut Term,
    segment: u32,
    offset: usize,
) -> Result<(Record, Vec<u8>)> {
    let record = match u.int_in_range(0..=9)? {
        0 => Record::HardState(HardState {
            term: Term(near(u, term.0)?),
            vote: NodeId(u.int_in_range(0..=3)?),
        }),
        1 => {
            let from = Index(near(u, index.0)?);
            if from.0 > 0 && from <= *index {
                *index = Index(from.0 - 1);
            }
            Record::Truncate(from)
        }
        2 => Record::Mark(match u.ratio(1, 4)? {
            true => position(u)?,
            false => Position {
                segment,
                offset: u32::try_from(offset).expect("a segment is short"),
            },
        }),
        _ => {
            let (kind, payload) = content(u)?;
            if u.ratio(1, 4)? {
                *term = Term(near(u, term.0)?);
            }
            *index = match u.ratio(7, 8)? {
                true => Index(index.0.wrapping_add(1)),
                false => Index(near(u, index.0)?),
            };
            let record = Record::Entry {
                index: *index,
                term: *term,
                kind,
                length: u32::try_from(payload.len()).expect("an input is short"),
                crc: crc32c::crc32c(&payload),
            };
            return Ok((record, payload));
        }
    };
    Ok((record, Vec::new()))
}

fn content(u: &mut Unstructured<'_>) -> Result<(EntryKind, Vec<u8>)> {
    Ok(match u.int_in_range(0..=9)? {
        0 => (EntryKind::Noop, Vec::new()),
        1 => {
            let voters: Vec<_> = (1..=u.int_in_range(1..=4)?).map(NodeId).collect();
            (
                EntryKind::Membership,
                Configuration::founding(&voters).encode().to_vec(),
            )
        }
        2 => (EntryKind::Command, vec![5; u.int_in_range(0..=3000)?]),
        _ => {
            let length = usize::from(u.arbitrary::<u8>()?) % 64;
            (EntryKind::Command, u.bytes(length.min(u.len()))?.to_vec())
        }
    })
}

/// Bytes change, or the end is missing, now and then.
fn damage(u: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> Result<()> {
    if bytes.is_empty() || !u.ratio(1, 3)? {
        return Ok(());
    }
    let at = u.int_in_range(0..=bytes.len() - 1)?;
    match u.int_in_range(0..=2)? {
        0 => bytes[at] ^= u.int_in_range(1..=255)?,
        1 => bytes.truncate(at),
        _ => {
            let end = bytes.len().min(at + u.int_in_range(1..=600)?);
            bytes[at..end].fill(0);
        }
    }
    Ok(())
}

/// A log that is opened, and what it says of itself.
type Opened = (DiskLog<MemFiles>, Recovered);

/// Opens what is there, as a node would, within bounds of memory; refuses it without a trace, and like who looks only.
fn open(files: &MemFiles) -> Option<Opened> {
    let before = files.content();
    let looked = verify(files, Some(IDENTITY)).expect("a disk of memory reads");
    dump(files, Some(IDENTITY), |dumped| drop(dumped.to_string())).expect("a disk of memory reads");
    assert!(files.content() == before, "who looks changes nothing");
    let _ = looked.to_string();
    let bytes: u64 = before.values().map(|bytes| bytes.len() as u64).sum();
    let (opened, taken) = metered(|| DiskLog::open(files.clone(), IDENTITY, config()));
    assert!(
        taken <= 64 * bytes + START_BYTES,
        "{taken} bytes are allocated for {bytes}"
    );
    match (opened, looked.verdict) {
        (Ok((log, recovered)), Ok(verdict)) => {
            assert_eq!(verdict.recovered, recovered, "who looks sees what a node begins from");
            assert_eq!(verdict.torn, log.torn(), "who looks sees what a node cuts off");
            Some((log, recovered))
        }
        (Err(error), Err(seen)) => {
            judge_refusal(&error, &before);
            assert_eq!(error.to_string(), seen.to_string(), "who looks sees what is wrong");
            assert!(files.content() == before, "{error}, and the log was changed");
            None
        }
        (Ok(_), Err(seen)) => panic!("{seen}, says who looks, and a node begins from it"),
        (Err(error), Ok(_)) => panic!("{error}, and who looks sees nothing wrong"),
    }
}

fn judge_refusal(error: &OpenError, content: &std::collections::BTreeMap<PathBuf, Vec<u8>>) {
    assert!(!error.to_string().contains('\n'), "{error}");
    match error {
        OpenError::Damaged(damage) => {
            if let Some(bytes) = content.get(&damage.path) {
                assert!(damage.offset <= bytes.len() as u64, "{damage}");
            }
        }
        other => panic!("{other}, of a disk that works"),
    }
}

/// What is recovered is a log, can be read, goes on, and is the same again after another start.
fn judge_opened((mut log, recovered): Opened, files: &MemFiles) {
    judge_recovered(&recovered);
    let entries = load(&mut log, &recovered);
    let last_term = recovered.terms.last().map_or(recovered.base_term, |run| run.1);
    let term = Term(recovered.hard.term.max(last_term).0.saturating_add(1));
    drop(log);
    files.crash(Loss::All);
    let (mut log, again) = DiskLog::open(files.clone(), IDENTITY, config()).expect("what was opened is opened again");
    assert_eq!(again, recovered, "a start changes nothing");
    assert_eq!(log.torn(), [], "what is torn is cut once");
    assert!(load(&mut log, &again) == entries);
    // Indexes and terms at their end are nobody's.
    if recovered.last.0 > u64::MAX - 8 || term.0 > u64::MAX - 8 {
        return;
    }
    let entry = Entry {
        term,
        kind: EntryKind::Command,
        crc: crc32c::crc32c(b"more"),
        payload: Bytes::from_static(b"more"),
    };
    log.save(HardState {
        term,
        vote: NodeId::NONE,
    });
    log.append(again.last.next(), &Entries::Shared(&[entry], &[]));
    sync(&mut log, SyncId(1));
    drop(log);
    files.crash(Loss::All);
    let (_, more) = DiskLog::open(files.clone(), IDENTITY, config()).expect("a log that goes on is opened");
    assert_eq!(
        (more.last, more.hard.term),
        (again.last.next(), term),
        "what was synced is there"
    );
}

fn judge_recovered(recovered: &Recovered) {
    let Recovered {
        base_index,
        base_term,
        terms,
        last,
        memberships,
        ..
    } = recovered;
    assert!(base_index <= last);
    assert_eq!(
        terms.first().map(|run| run.0),
        (base_index < last).then(|| base_index.next())
    );
    let mut before = (*base_index, *base_term);
    for &(first, term) in terms {
        assert!(first > before.0 && first <= *last && term >= before.1, "{terms:?}");
        before = (first, term);
    }
    let mut before = *base_index;
    for (index, _) in memberships {
        assert!(*index > before && index <= last, "{memberships:?}");
        before = *index;
    }
}

/// All entries, as they are read back.
fn load(log: &mut DiskLog<MemFiles>, recovered: &Recovered) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let first = recovered.base_index.next();
    loop {
        let next = Index(first.0 + entries.len() as u64);
        if next > recovered.last {
            break;
        }
        log.load(next..recovered.last.next());
        let mut loaded = None;
        for completed in work(log) {
            if let Completed::Loaded { first, entries } = completed {
                assert_eq!(first, next);
                loaded = Some(entries);
            }
        }
        let loaded = loaded.filter(|loaded| !loaded.is_empty());
        entries.extend(loaded.expect("what was recovered is read"));
    }
    for (at, entry) in entries.iter().enumerate() {
        let index = Index(first.0 + at as u64);
        assert_eq!(entry.crc, crc32c::crc32c(&entry.payload), "entry {index}");
        let run = recovered.terms.iter().rev().find(|run| run.0 <= index);
        assert_eq!(run.map(|run| run.1), Some(entry.term), "entry {index}");
    }
    entries
}

/// Does the work that there is, and says what came of it.
fn work(log: &mut DiskLog<MemFiles>) -> Vec<Completed> {
    let mut completed = Vec::new();
    while let Some(work) = log.next_work() {
        completed.extend(log.done(work.run()).expect("a disk of memory works"));
    }
    completed
}

fn sync(log: &mut DiskLog<MemFiles>, id: SyncId) {
    log.sync(id);
    let is_done = work(log)
        .iter()
        .any(|done| matches!(done, Completed::Synced(done) if *done == id));
    assert!(is_done, "the sync did not come back");
}

/// What a log holds, as whoever writes it knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    hard: HardState,
    entries: Vec<Entry>,
}

impl Known {
    fn of(log: &mut DiskLog<MemFiles>, recovered: &Recovered) -> Self {
        judge_recovered(recovered);
        Self {
            hard: recovered.hard,
            entries: load(log, recovered),
        }
    }
}

/// A log that a node writes, and leaves when it loses power.
struct Writer {
    files: MemFiles,
    log: DiskLog<MemFiles>,
    known: Known,
    /// What it was at the last sync that came back, and after each record since.
    since: Vec<Known>,
    syncs: u64,
}

fn try_written(u: &mut Unstructured<'_>) -> Result<()> {
    let files = MemFiles::new();
    let (log, _) = DiskLog::open(files.clone(), IDENTITY, config()).expect("an empty folder is a log");
    let mut writer = Writer {
        files,
        log,
        known: Known::default(),
        since: vec![Known::default()],
        syncs: 0,
    };
    for _ in 0..u.int_in_range(0..=60)? {
        match u.int_in_range(0..=15)? {
            _ if u.is_empty() => break,
            0..=6 => writer.append(u)?,
            7 => {
                let term = writer.known.hard.term.next();
                let vote = NodeId(u.int_in_range(0..=3)?);
                writer.save(HardState { term, vote });
            }
            8 => writer.truncate(u)?,
            9 => {
                // A write that is cut short anywhere: what it should have made durable is there, or is not.
                writer.files.crash_after(u.int_in_range(0..=4)?);
                writer.sync();
                writer = writer.restart(loss(u)?);
            }
            10 if u.ratio(1, 2)? => return writer.damage(u),
            _ => assert!(writer.sync(), "the sync did not come back"),
        }
    }
    // And once more, with nothing that may be lost.
    let Writer { log, files, .. } = writer.restart(loss(u)?).restart(Loss::All);
    drop(log);
    files.crash(Loss::All);
    judge_opened(open(&files).expect("it is opened again"), &files);
    Ok(())
}

fn loss(u: &mut Unstructured<'_>) -> Result<Loss> {
    Ok(match u.int_in_range(0..=2)? {
        0 => Loss::All,
        1 => Loss::Nothing,
        _ => Loss::Random(u64::from(u.arbitrary::<u16>()?)),
    })
}

impl Writer {
    fn save(&mut self, hard: HardState) {
        self.log.save(hard);
        self.known.hard = hard;
        self.since.push(self.known.clone());
    }

    fn append(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.known.hard.term == Term(0) {
            self.save(HardState {
                term: Term(1),
                vote: NodeId::NONE,
            });
        }
        let first = Index(self.known.entries.len() as u64 + 1);
        let mut entries = Vec::new();
        for _ in 0..u.int_in_range(1..=4)? {
            let (kind, payload) = content(u)?;
            let entry = Entry {
                term: self.known.hard.term,
                kind,
                crc: crc32c::crc32c(&payload),
                payload: payload.into(),
            };
            entries.push(entry.clone());
            self.known.entries.push(entry);
            self.since.push(self.known.clone());
        }
        self.log.append(first, &Entries::Shared(&entries, &[]));
        Ok(())
    }

    fn truncate(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if let Some(most) = self.known.entries.len().checked_sub(1) {
            let keep = u.int_in_range(0..=most)?;
            self.log.truncate(Index(keep as u64 + 1));
            self.known.entries.truncate(keep);
            self.since.push(self.known.clone());
        }
        Ok(())
    }

    /// Syncs; whether that came back, before the disk failed.
    fn sync(&mut self) -> bool {
        self.syncs += 1;
        self.log.sync(SyncId(self.syncs));
        while let Some(work) = self.log.next_work() {
            match self.log.done(work.run()) {
                Ok(Some(Completed::Synced(id))) if id == SyncId(self.syncs) => self.since = vec![self.known.clone()],
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.since.len() == 1
    }

    /// Power is lost, and the log begins again: with what was synced, and some first part of what was not.
    fn restart(self, loss: Loss) -> Self {
        drop(self.log);
        self.files.crash(loss);
        let (mut log, recovered) = open(&self.files).expect("a log that lost power is opened");
        let known = Known::of(&mut log, &recovered);
        let hard = known.hard;
        assert!(
            self.since.contains(&known),
            "{} entries, {hard:?}: no log that was written; synced were {} of {:?}",
            known.entries.len(),
            self.since[0].entries.len(),
            self.since[0].hard
        );
        Self {
            files: self.files,
            log,
            since: vec![known.clone()],
            known,
            syncs: 0,
        }
    }

    /// Bytes of a file change on the disk. A log that is opened nevertheless lost no more than its end, and one that is
    /// refused lost more.
    fn damage(self, u: &mut Unstructured<'_>) -> Result<()> {
        let Self { files, log, since, .. } = self;
        drop(log);
        files.crash(Loss::All);
        let trail = Trail::of(&files);
        assert_eq!(trail.end(), Held::from(&since[0]), "what was synced, and no more");
        let mut names = files.list().expect("a disk of memory is listed");
        names.retain(|name| name.ends_with(".log"));
        let name = u.choose(&names)?;
        let mut bytes = files.bytes(name);
        damage(u, &mut bytes)?;
        files.change(name, |file| *file = bytes);
        let claimed = trail.claimed(&files);
        let is_lost = trail.is_changed_before(claimed, &files);
        let Some((mut log, recovered)) = open(&files) else {
            assert!(
                is_lost,
                "it is durable through {claimed}, and nothing before is damaged"
            );
            return Ok(());
        };
        let held = Held::from(&Known::of(&mut log, &recovered));
        assert!(
            trail.has_since(claimed, &held),
            "it is durable through {claimed}, and opened as {held:?}"
        );
        judge_opened((log, recovered), &files);
        Ok(())
    }
}
