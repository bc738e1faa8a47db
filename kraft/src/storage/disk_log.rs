//! The log on disk, as the driver uses it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use kraft_core::canary::{self, Canary};
use kraft_core::id::{Index, SyncId, Term};
use kraft_core::message::Entries;
use kraft_core::storage::{Completed, Fault, HardState, Recovered, Storage};
use kraft_core::time::Instant;

use super::batch::Batch;
use super::config::{Config, RESERVE_BYTES};
use super::files::Files;
use super::fit::{self, Fitted};
use super::format::{HEADER_BYTES, LogIdentity, Position, RECORD_BYTES, Record, SegmentHeader};
use super::ledger::Ledger;
use super::pool::{Job, Pool, Spare};
use super::restart;
use super::snapshots::{self, DiskSnapshots, SetAside};
use super::survey::{OpenError, Torn, fault};
use super::work::{DiskDone, DiskWork, Kind, LoadWork, Outcome, SyncWork};

/// A payload of `n` bytes, `n` at least the session header of a command, takes less than this many times `n` with
/// its record header, padding and a mark.
pub(crate) const OVERHEAD_MAX: u64 = 4;

/// A segmented log.
///
/// Calls encode records into a batch; [`DiskWork`] writes the batch with one write and one fdatasync. Where a segment
/// ends the batch goes on in the next one, which was zeroed ahead; if it is not ready the batch waits for it, nothing
/// of it is written before, and nothing in it is acknowledged.
///
/// The order of a batch is the order of the calls, `synced <= end`, and all that is not in `batch` or out has been
/// synced.
#[derive(Debug)]
pub struct DiskLog<F: Files> {
    files: F,
    identity: LogIdentity,
    config: Config,
    ledger: Ledger,
    /// The segments of the log, ascending; the last one is written to.
    segments: VecDeque<Segment<F>>,
    /// The number of the segment that the log begins with. Those before it are of a log that was
    /// [reset](Storage::reset), and are there until the reset is durable.
    pub(super) front: u32,
    /// The capacities of all of them.
    segment_bytes: u64,
    /// Where the next record goes, in the last segment.
    end: u32,
    batch: Batch,
    asked: Option<SyncId>,
    out: Option<Out>,
    /// Everything before this is durable.
    synced: Position,
    /// Entries up to here stand on the disk.
    readable: Index,
    loads: VecDeque<Load>,
    load_out: Option<Load>,
    pool: Pool<F>,
    torn: Vec<Torn>,
    snapshots: DiskSnapshots<F>,
    set_aside: Vec<SetAside>,
    is_poisoned: bool,
}

#[derive(Debug)]
struct Segment<F: Files> {
    number: u32,
    seed: u32,
    capacity: u32,
    /// `None` while it is in the making.
    file: Option<Arc<F::File>>,
    header: SegmentHeader,
    /// The least index that its header, or a truncation in it, cuts the log to.
    lowest: Index,
    /// Where the segment before it ends.
    before: u32,
}

/// A batch on its way.
#[derive(Debug)]
struct Out {
    end: Position,
    last: Index,
}

/// Entries to be loaded. A truncation makes the range shorter, also while they are being read.
#[derive(Debug)]
struct Load {
    range: Range<Index>,
    /// The first segment that it is being read from.
    segment: Option<u32>,
}

impl Load {
    fn cut(&mut self, from: Index) {
        self.range.end = self.range.end.min(from);
    }
}

impl<F: Files> DiskLog<F> {
    /// Opens the log in a folder with the snapshots that belong to it, or begins one in an empty folder. Reads the
    /// newest snapshot and all of the log, and writes what is above the newest mark again; blocks meanwhile.
    ///
    /// Snapshots that are damaged are [set aside](Self::set_aside), and an older one is taken if the log reaches down
    /// to it. A log that ends before the snapshot, or contradicts it, begins anew behind it.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; what is damaged is left as it is.
    pub fn open(files: F, identity: LogIdentity, config: Config) -> Result<(Self, Recovered), OpenError> {
        config.validate().map_err(OpenError::Config)?;
        let Fitted { mut survey, finding } = fit::read(&files, &identity, config.first_segment_bytes)?;
        let folder = files
            .folder(snapshots::FOLDER)
            .map_err(fault(&files, snapshots::FOLDER, "create"))?;
        let set_aside = finding.clean(&folder)?;
        let reserve_bytes = u64::from(config.segment_bytes) + RESERVE_BYTES;
        let snapshots = DiskSnapshots::new(folder, fit::owner(&identity), config.snapshots_keep, reserve_bytes);
        let fresh = restart::begin(&files, &identity, &config, &mut survey)?;
        survey.others.append(&mut survey.replaced);
        if survey.replaces_last
            && let Some(link) = survey.chain.pop()
        {
            survey.others.push((link.header.number, link.size));
        }
        let mut ledger = survey.ledger;
        let consistent = "the fresh segment was made from this ledger";
        if survey.chain.is_empty() {
            ledger = Ledger::begin(&fresh.header);
        } else {
            ledger.enter(&fresh.header).expect(consistent);
        }
        for entry in &fresh.entries {
            ledger.take(entry.at, &entry.record).expect(consistent);
        }
        let recovered = Recovered {
            snapshot: finding.newest,
            memberships: survey.memberships,
            ..ledger.recovered()
        };
        let pool = Pool::new(files.clone(), &config, fresh.header.number + 1, &survey.others);
        let mut segments: VecDeque<_> = survey
            .chain
            .into_iter()
            .map(|link| Segment {
                number: link.header.number,
                seed: identity.seed(link.header.number),
                capacity: u32::try_from(link.size).unwrap_or(u32::MAX),
                file: Some(Arc::new(link.file)),
                header: link.header,
                lowest: link.lowest,
                before: link.header.follows.offset,
            })
            .collect();
        let synced = Position {
            segment: fresh.header.number,
            offset: fresh.end,
        };
        segments.push_back(Segment {
            number: fresh.header.number,
            seed: identity.seed(fresh.header.number),
            capacity: fresh.capacity,
            file: Some(Arc::new(fresh.file)),
            header: fresh.header,
            lowest: fresh.header.base_index,
            before: fresh.header.follows.offset,
        });
        let log = Self {
            files,
            identity,
            config,
            readable: ledger.last,
            ledger,
            front: segments.front().map_or(0, |first| first.number),
            segment_bytes: segments.iter().map(|segment| u64::from(segment.capacity)).sum(),
            segments,
            end: fresh.end,
            batch: Batch::default(),
            asked: None,
            out: None,
            synced,
            loads: VecDeque::new(),
            load_out: None,
            pool,
            torn: survey.torn,
            snapshots,
            set_aside,
            is_poisoned: false,
        };
        Ok((log, recovered))
    }

    /// What was cut off the end when the log was opened. It is told once: the next start does not find it.
    pub fn torn(&self) -> &[Torn] {
        &self.torn
    }

    /// The snapshots that were damaged when the log was opened. It is told once: the next start does not find them.
    pub fn set_aside(&self) -> &[SetAside] {
        &self.set_aside
    }

    fn retire_first(&mut self) {
        if let Some(first) = self.segments.pop_front() {
            self.pool.retire(first.number, first.capacity);
            self.segment_bytes -= u64::from(first.capacity);
        }
    }

    /// Gives up the segments from before a reset, when that is durable and nothing is being read from them.
    fn retire_replaced(&mut self) {
        if self.load_out.is_some() || self.synced.segment < self.front {
            return;
        }
        while self.segments.front().is_some_and(|first| first.number < self.front) {
            self.retire_first();
        }
    }

    fn active(&self) -> &Segment<F> {
        self.segments.back().expect("a log has a last segment")
    }

    /// Puts a record behind the last one.
    fn put(&mut self, record: &Record, payload: &[u8]) {
        let size = record
            .size()
            .expect("a frame bounds a payload, far below a segment's limit");
        let mark = if self.batch.is_empty() { RECORD_BYTES } else { 0 };
        if u64::from(self.end) + u64::from(mark) + u64::from(size) > u64::from(self.active().capacity) {
            self.roll(size);
        } else if self.batch.is_empty() {
            let at = Position {
                segment: self.active().number,
                offset: self.end,
            };
            self.batch.begin(at, &[]);
            self.end += RECORD_BYTES;
        }
        let active = self.segments.back_mut().expect("a log has a last segment");
        let at = Position {
            segment: active.number,
            offset: self.end,
        };
        if let Err(wrong) = self.ledger.take(at, record) {
            panic!("{record:?} contradicts the log: {wrong}");
        }
        if let Record::Truncate(from) = record {
            active.lowest = active.lowest.min(from.prev());
        }
        self.batch.put(&record.encode(active.seed, self.end), payload, size);
        self.end += size;
    }

    /// Goes on in the next segment.
    fn roll(&mut self, size: u32) {
        let follows = self.end_position();
        let header = self.begin_segment(size, follows, (self.ledger.last, self.ledger.last_term()));
        self.ledger
            .enter(&header)
            .expect("the header was made from this ledger");
    }

    fn end_position(&self) -> Position {
        Position {
            segment: self.active().number,
            offset: self.end,
        }
    }

    /// Begins a segment with room for a record of `size`. The log ends at `base` there.
    fn begin_segment(&mut self, size: u32, follows: Position, base: (Index, Term)) -> SegmentHeader {
        let Spare {
            number,
            capacity,
            is_reused,
            file,
        } = self.pool.take(HEADER_BYTES + RECORD_BYTES + size, &self.config);
        let before = self.end_position();
        let header = SegmentHeader {
            identity: self.identity,
            number,
            is_reused,
            follows,
            // The work syncs what is before it first.
            synced_through: before,
            base_index: base.0,
            base_term: base.1,
            hard: self.ledger.hard,
        };
        let seed = self.identity.seed(number);
        let at = Position {
            segment: number,
            offset: 0,
        };
        self.batch.begin(at, &header.encode());
        self.batch
            .mark(self.batch.parts().len() - 1, HEADER_BYTES, before, seed);
        self.segment_bytes += u64::from(capacity);
        self.segments.push_back(Segment {
            number,
            seed,
            capacity,
            file,
            header,
            lowest: header.base_index,
            before: before.offset,
        });
        self.end = HEADER_BYTES + RECORD_BYTES;
        header
    }

    fn file(&self, number: u32) -> Option<&Arc<F::File>> {
        let at = self
            .segments
            .binary_search_by_key(&number, |segment| segment.number)
            .ok()?;
        self.segments[at].file.as_ref()
    }

    fn next_sync(&mut self) -> Option<SyncWork<F>> {
        let is_ready = self
            .batch
            .parts()
            .iter()
            .all(|part| self.file(part.at.segment).is_some());
        if self.out.is_some() || !is_ready {
            return None;
        }
        let id = self.asked.take()?;
        if let Some(first) = self.batch.parts().first().filter(|part| part.at.offset != 0) {
            let seed = self.identity.seed(first.at.segment);
            let synced = if canary::is(Canary::MarkAheadOfSync) {
                Position {
                    segment: self.active().number,
                    offset: self.end,
                }
            } else {
                self.synced
            };
            self.batch.mark(0, 0, synced, seed);
        }
        self.out = Some(Out {
            end: Position {
                segment: self.active().number,
                offset: self.end,
            },
            last: self.ledger.last,
        });
        let parts = self.batch.take().into_iter().map(|part| {
            let file = self.file(part.at.segment).expect("every part's file is there");
            let file = Arc::clone(file);
            (part, file)
        });
        Some(SyncWork {
            id,
            files: self.files.clone(),
            parts: parts.collect(),
        })
    }

    fn next_load(&mut self) -> Option<LoadWork<F>> {
        if self.load_out.is_some() {
            return None;
        }
        let Load { range, .. } = self.loads.pop_front()?;
        let end = Index(range.end.0.min(self.readable.0.saturating_add(1)));
        let is_there = range.start > self.ledger.base_index && range.start <= self.readable;
        let mut stretches = Vec::new();
        if is_there {
            for place in self.ledger.places_from(range.start) {
                let Some(file) = self.file(place.at.segment).filter(|_| place.index < end) else {
                    break;
                };
                let is_far = stretches.len() > self.config.load_bytes_max as usize / 1024 + 1;
                if is_far {
                    break;
                }
                stretches.push((*place, Arc::clone(file)));
            }
        }
        // Where the stretches were cut short, so is the range: the entries of the last one may go on elsewhere.
        let end = match stretches.last() {
            Some((last, _)) if is_there => {
                let behind = self
                    .ledger
                    .places_from(last.index)
                    .get(1)
                    .map_or(end, |next| next.index);
                end.min(behind)
            }
            _ => range.end,
        };
        self.load_out = Some(Load {
            range: range.start..end,
            segment: stretches.first().map(|(place, _)| place.at.segment),
        });
        Some(LoadWork {
            files: self.files.clone(),
            identity: self.identity,
            first: range.start,
            end,
            bytes_max: self.config.load_bytes_max as usize,
            stretches,
        })
    }

    fn next_job(&mut self) -> Option<Job<F>> {
        let missing = self.segments.iter().find(|segment| segment.file.is_none());
        let missing = missing.map(|segment| (segment.number, segment.capacity));
        let live_bytes = self.segments.iter().map(|segment| u64::from(segment.capacity)).sum();
        self.pool
            .next_job(missing, self.ahead_bytes(), live_bytes, &self.config)
    }

    /// What is left of the bound.
    fn limit_bytes(&self) -> u64 {
        let used = self
            .segment_bytes
            .saturating_sub(u64::from(self.active().capacity.saturating_sub(self.end)));
        self.config.log_bytes_max.saturating_sub(used)
    }

    /// What the disk can still hold.
    fn disk_bytes(&self) -> u64 {
        self.ahead_bytes()
            .saturating_add(self.pool.spare_bytes())
            .saturating_add(self.pool.free_bytes())
    }

    /// What is left in the last segment, if its file is there.
    fn ahead_bytes(&self) -> u64 {
        let active = self.active();
        match active.file {
            Some(_) => u64::from(active.capacity.saturating_sub(self.end)),
            None => 0,
        }
    }

    fn finish_sync(&mut self, id: SyncId) -> Completed {
        let out = self.out.take().expect("a sync comes back once");
        self.synced = out.end;
        self.readable = out.last;
        self.retire_replaced();
        Completed::Synced(id)
    }

    /// Of the segments that are still to be made, keeps what the log needs and the reserve: on a full disk a batch,
    /// with a vote in it maybe, must not wait for a whole segment's room.
    fn shrink_missing(&mut self) {
        let mut used = self.end;
        for segment in self.segments.iter_mut().rev() {
            if segment.file.is_none() {
                let needed = u64::from(used) + RESERVE_BYTES;
                let capacity = u32::try_from(needed).map_or(segment.capacity, |needed| needed.min(segment.capacity));
                self.segment_bytes -= u64::from(segment.capacity - capacity);
                segment.capacity = capacity;
            }
            used = segment.before;
        }
    }

    /// Whether what is being loaded, or is to be, stands before the segment that begins behind `base`. What is being read
    /// stands where it stood when that began: a truncation since then may have put its place elsewhere.
    fn is_wanted(&self, base: Index, segment: u32) -> bool {
        let out = self.load_out.as_ref().and_then(|load| load.segment);
        out.is_some_and(|first| first < segment) || self.loads.iter().any(|load| load.range.start <= base)
    }

    /// The last segment that the log may begin with if what is up to `through` goes. A truncation in it or behind it that
    /// reaches below its base would contradict such a log; but where those before it may not go one by one for that
    /// reason, they may go together with the truncation.
    fn releasable(&self, through: Index) -> Option<u32> {
        let mut lowest = Index(u64::MAX);
        self.segments.iter().skip(1).rev().find_map(|segment| {
            lowest = lowest.min(segment.lowest);
            let base = segment.header.base_index;
            let is_written = self.synced.segment >= segment.number;
            let may_go = is_written && base <= through && base <= lowest;
            (may_go && !self.is_wanted(base, segment.number)).then_some(segment.number)
        })
    }

    fn poison(&mut self, fault: Fault) -> Fault {
        self.is_poisoned = true;
        fault
    }
}

impl<F: Files> Storage for DiskLog<F> {
    type Work = DiskWork<F>;
    type Snapshots = DiskSnapshots<F>;

    fn snapshots(&self) -> DiskSnapshots<F> {
        self.snapshots.clone()
    }

    fn save(&mut self, hard: HardState) {
        if hard != self.ledger.hard {
            self.put(&Record::HardState(hard), &[]);
        }
    }

    fn append(&mut self, first: Index, entries: &Entries<'_>) {
        let mut index = first;
        for entry in entries.iter() {
            let record = Record::Entry {
                index,
                term: entry.term,
                kind: entry.kind,
                length: u32::try_from(entry.payload.len()).expect("a frame bounds a payload"),
                crc: entry.crc,
            };
            self.put(&record, entry.payload);
            index = index.next();
        }
    }

    fn truncate(&mut self, from: Index) {
        if from > self.ledger.last {
            return;
        }
        self.put(&Record::Truncate(from), &[]);
        self.readable = self.readable.min(from.prev());
        if let Some(out) = &mut self.out {
            out.last = out.last.min(from.prev());
        }
        for load in self.loads.iter_mut().chain(&mut self.load_out) {
            load.cut(from);
        }
    }

    /// The log goes on in a segment that follows none: at a start nothing before it is part of the log, and it is not
    /// there as long as its header is not.
    fn reset(&mut self, index: Index, term: Term) {
        for load in self.loads.iter_mut().chain(&mut self.load_out) {
            load.cut(Index::ZERO);
        }
        let header = self.begin_segment(0, Position::default(), (index, term));
        self.front = header.number;
        self.ledger = Ledger::begin(&header);
        self.readable = index;
        if let Some(out) = &mut self.out {
            out.last = index;
        }
    }

    /// Whole segments are given up, to be used again.
    fn release(&mut self, through: Index) -> Index {
        if self.segments.front().is_some_and(|first| first.number < self.front) {
            return self.ledger.base_index;
        }
        if let Some(number) = self.releasable(through) {
            while self.segments.front().is_some_and(|first| first.number < number) {
                self.retire_first();
            }
            let first = self.segments.front().expect("the last segment stays").header;
            self.front = number;
            self.ledger.release(first.base_index, first.base_term);
        }
        self.ledger.base_index
    }

    fn sync(&mut self, id: SyncId) {
        self.asked = Some(id);
    }

    fn load(&mut self, range: Range<Index>) {
        self.loads.push_back(Load { range, segment: None });
    }

    fn next_work(&mut self) -> Option<DiskWork<F>> {
        if self.is_poisoned {
            return None;
        }
        if let Some(work) = self.next_sync() {
            return Some(DiskWork(Kind::Sync(work)));
        }
        if let Some(work) = self.next_load() {
            return Some(DiskWork(Kind::Load(work)));
        }
        Some(DiskWork(match self.next_job()? {
            Job::Prepare(work) => Kind::Prepare(work),
            Job::Remove(number) => Kind::Remove(self.files.clone(), number),
            Job::Measure => Kind::Measure(self.files.clone()),
        }))
    }

    fn done(&mut self, done: DiskDone<F>) -> Result<Option<Completed>, Fault> {
        match done.0 {
            Outcome::Synced(id, parts, result) => {
                result.map_err(|fault| self.poison(fault))?;
                self.batch.reuse(parts);
                Ok(Some(self.finish_sync(id)))
            }
            Outcome::Loaded(first, result) => {
                let mut entries = result.map_err(|fault| self.poison(fault))?;
                let load = self.load_out.take().expect("a load comes back once");
                let count = load.range.end.0.saturating_sub(first.0);
                entries.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                self.retire_replaced();
                Ok(Some(Completed::Loaded { first, entries }))
            }
            Outcome::Prepared(making, result) => {
                if result.is_err() {
                    self.shrink_missing();
                }
                if let Some(Spare {
                    number, capacity, file, ..
                }) = self.pool.prepared(making, result, &self.config)
                {
                    match self.segments.iter_mut().find(|segment| segment.number == number) {
                        Some(segment) => segment.file = file,
                        None => self.pool.retire(number, capacity),
                    }
                }
                Ok(Some(Completed::Room))
            }
            Outcome::Measured(free_bytes) => {
                self.pool.measured(free_bytes);
                Ok(Some(Completed::Room))
            }
            Outcome::Removed => {
                self.pool.removed();
                Ok(None)
            }
        }
    }

    fn room(&self) -> u64 {
        self.limit_bytes().min(self.disk_bytes()).saturating_sub(RESERVE_BYTES) / OVERHEAD_MAX
    }

    fn tick(&mut self, now: Instant) {
        self.pool.tick(now);
        // A log that fills up waits for the snapshot that lets it shrink.
        let is_full = self.limit_bytes() < self.config.log_bytes_max / 2;
        let is_short = self.disk_bytes() < u64::from(self.config.segment_bytes) * 4;
        self.snapshots.set_urgent(is_full || is_short);
    }

    fn deadline(&self) -> Option<Instant> {
        if self.is_poisoned {
            None
        } else {
            self.pool.deadline(&self.config)
        }
    }
}
