//! Storage and state machine under observation: what they were handed, and what of that a crash must not lose.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use kraft_core::id::{Index, SyncId, Term};
use kraft_core::laws::Mark;
use kraft_core::machine::{Refused, StateMachine};
use kraft_core::membership::Configuration;
use kraft_core::message::{Entries, EntryKind, SnapshotId};
use kraft_core::snapshot::{self, Head, Snapshot, SnapshotStore, StoreError};
use kraft_core::storage::{Completed, Fault, HardState, Recovered, Storage, Work};
use kraft_core::time::Instant;

/// Passes everything on to a storage and keeps a record that outlives it.
#[derive(Debug)]
pub(super) struct Watch<S> {
    inner: S,
    record: Arc<Mutex<Record>>,
}

/// What a disk was told.
///
/// Invariant: `handed` is `durable` after the whole journal.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// After everything that was handed to storage.
    handed: Image,
    /// After the last completed sync.
    durable: Image,
    journal: Vec<Step>,
    /// What was durable before the log was damaged and begun anew, and what a snapshot held then, until the node has made up for that.
    lost: Option<(Image, Index)>,
    /// The log on the disk may begin behind this.
    released: Index,
    /// The last entry of the newest snapshot that a restart would find, and its term.
    snapshot: (Index, Term),
    /// A snapshot of the own state was written up to here, where the log was not durable.
    early: Option<Index>,
    /// How often the log began anew behind a snapshot that was received.
    resets: u64,
    /// The digests of entries that were taken back, or are in a snapshot alone.
    gone: BTreeSet<u64>,
    /// The last entry that the state machine saw in this run.
    applied: Index,
    /// The configurations in the log as it was handed to storage, behind the one before its first entry; ascending. The last
    /// is in force.
    members: Vec<(Index, Configuration)>,
    /// The one that the node was founded with.
    founding: Configuration,
    /// The one at the head of the newest snapshot.
    held: (Index, Configuration),
}

/// Term, vote and log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Image {
    hard: HardState,
    /// What a snapshot stands for, and the term of the last of it. What is only released is still in `log`: a crash may
    /// bring it back.
    base: (Index, Term),
    log: Vec<Mark>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Save(HardState),
    Append(Mark),
    Truncate(Index),
    Reset(Index, Term),
    Sync(SyncId),
}

impl Image {
    fn perform(&mut self, step: Step) {
        match step {
            Step::Save(hard) => self.hard = hard,
            Step::Append(mark) => self.log.push(mark),
            Step::Truncate(from) => {
                let len = usize::try_from(from.0 - self.base.0.0 - 1).expect("a simulated log fits memory");
                self.log.truncate(len);
            }
            Step::Reset(index, term) => {
                self.base = (index, term);
                self.log.clear();
            }
            Step::Sync(_) => {}
        }
    }

    fn entry(&self, index: Index) -> Option<Mark> {
        let at = index.0.checked_sub(self.base.0.0)?.checked_sub(1)?;
        self.log.get(usize::try_from(at).ok()?).copied()
    }

    /// Whether a restart that found `recovered` found this.
    fn is(&self, recovered: &Recovered) -> bool {
        let mut terms: Vec<(Index, Term)> = Vec::new();
        for (at, mark) in self.log.iter().enumerate() {
            let index = Index(self.base.0.0 + at as u64 + 1);
            if index > recovered.base_index && terms.last().is_none_or(|(_, term)| *term != mark.term) {
                terms.push((index, mark.term));
            }
        }
        let last = self.base.0.0 + self.log.len() as u64;
        let is_within = self.base.0 <= recovered.base_index;
        self.hard == recovered.hard && is_within && recovered.last.0 == last && terms == recovered.terms
    }

    /// What a start makes of this: it puts the snapshot in the place of a log that ends before it or contradicts it.
    fn fitted(mut self, snapshot: Option<&Head>) -> Self {
        let Some(head) = snapshot else { return self };
        let term = match head.index == self.base.0 {
            true => Some(self.base.1),
            false => self.entry(head.index).map(|mark| mark.term),
        };
        if head.index > self.base.0 && term != Some(head.term) {
            self.perform(Step::Reset(head.index, head.term));
            if self.hard.term < head.term {
                self.hard = HardState {
                    term: head.term,
                    ..HardState::default()
                };
            }
        }
        self
    }
}

impl Record {
    pub(super) fn entry(&self, index: Index) -> Option<Mark> {
        self.handed.entry(index)
    }

    pub(super) fn disk_entry(&self, index: Index) -> Option<Mark> {
        self.durable.entry(index)
    }

    pub(super) fn disk(&self) -> HardState {
        self.durable.hard
    }

    /// The place before the first entry that the disk was told of and not told to drop, and the term there.
    pub(super) fn base(&self) -> (Index, Term) {
        self.handed.base
    }

    /// Up to where a restart may find that the log's front is gone.
    pub(super) fn disk_base(&self) -> Index {
        self.durable.base.0.max(self.released)
    }

    pub(super) fn snapshot(&self) -> (Index, Term) {
        self.snapshot
    }

    pub(super) fn resets(&self) -> u64 {
        self.resets
    }

    pub(super) fn applied(&self) -> Index {
        self.applied
    }

    /// Of a node that was founded with these members; with none it waits to be told.
    pub(super) fn founded(founding: Configuration) -> Self {
        Self {
            members: vec![(Index::ZERO, founding.clone())],
            held: (Index::ZERO, founding.clone()),
            founding,
            ..Self::default()
        }
    }

    /// The configurations, ascending; the last is in force.
    pub(super) fn members(&self) -> &[(Index, Configuration)] {
        &self.members
    }

    /// Those that may be needed behind what is applied.
    pub(super) fn members_needed(&self) -> &[(Index, Configuration)] {
        let behind = self.members.partition_point(|(at, _)| *at <= self.applied);
        &self.members[behind.saturating_sub(1)..]
    }

    fn configuration_of(&self, head: &Head) -> (Index, Configuration) {
        match head.configuration() {
            Ok(Some(configuration)) => (head.membership_index, configuration),
            _ => (Index::ZERO, self.founding.clone()),
        }
    }

    /// The last entry before `below` that is of this digest, durable or not.
    pub(super) fn last_like(&self, digest: u64, below: Index) -> Option<Index> {
        let Image { base, log, .. } = &self.handed;
        let until = below.0.saturating_sub(base.0.0 + 1);
        let until = usize::try_from(until).map_or(log.len(), |until| until.min(log.len()));
        let at = log[..until].iter().rposition(|mark| mark.digest == digest)?;
        Some(Index(base.0.0 + at as u64 + 1))
    }

    pub(super) fn early(&self) -> Option<Index> {
        self.early
    }

    /// A snapshot of the own state is about to be written.
    fn storing(&mut self, head: &Head) {
        let Image { base, log, .. } = &self.durable;
        // A log that begins anew behind a snapshot is as durable as that.
        if head.index.0 > (base.0.0 + log.len() as u64).max(self.snapshot.0.0) {
            self.early = Some(head.index);
        }
    }

    /// The entries of this digest, durable or not, from the end on.
    pub(super) fn all_like(&self, digest: u64) -> impl Iterator<Item = (Index, Mark)> {
        let Image { base, log, .. } = &self.handed;
        let marks = log
            .iter()
            .enumerate()
            .rev()
            .filter(move |(_, mark)| mark.digest == digest);
        marks.map(|(at, mark)| (Index(base.0.0 + at as u64 + 1), *mark))
    }

    /// Whether an entry of this digest was taken back, or is in a snapshot alone.
    pub(super) fn is_gone(&self, digest: u64) -> bool {
        self.gone.contains(&digest)
    }

    /// The log that was handed to storage gives way to this one.
    fn give_way(&mut self, to: &Image) {
        let Image { base, log, .. } = &self.handed;
        let places = (base.0.0 + 1..).map(Index).zip(log);
        let gone = places.filter(|(index, mark)| to.entry(*index) != Some(**mark));
        self.gone.extend(gone.map(|(_, mark)| mark.digest));
    }

    /// A snapshot is durable.
    fn stored(&mut self, head: &Head) {
        let place = (head.index, head.term);
        if place >= self.snapshot {
            self.held = self.configuration_of(head);
        }
        self.snapshot = self.snapshot.max(place);
    }

    /// Of a node of three with these entries, some of them durable and applied.
    #[cfg(test)]
    pub(super) fn of(handed: Vec<Mark>, durable: Vec<Mark>, applied: Index) -> Self {
        let image = |log| Image {
            log,
            ..Image::default()
        };
        Self {
            handed: image(handed),
            durable: image(durable),
            applied,
            ..Self::founded(Configuration::founding(&[1, 2, 3].map(kraft_core::id::NodeId)))
        }
    }

    /// The log was damaged and set aside, with all snapshots, and begins anew with this.
    pub(super) fn damaged(&mut self, hard: HardState) {
        let begun = Image {
            hard,
            ..Image::default()
        };
        self.give_way(&begun);
        let before = std::mem::take(self);
        let founding = before.founding;
        *self = Self {
            members: vec![(Index::ZERO, founding.clone())],
            held: (Index::ZERO, founding.clone()),
            founding,
            handed: begun.clone(),
            durable: begun,
            lost: before.lost.or(Some((before.durable, before.snapshot.0))),
            gone: before.gone,
            ..Self::default()
        };
    }

    /// The node has made up for what it lost.
    pub(super) fn made_good(&mut self) {
        self.lost = None;
    }

    /// Whether the entry at `index` that is this one is on the disk, in the log or in a snapshot, or was before the log was
    /// damaged: until its node has made up for that it does not vote, which is as good.
    pub(super) fn survives(&self, index: Index, mark: Mark) -> bool {
        let has = |image: &Image, held: Index| index <= held || image.entry(index) == Some(mark);
        let lost = self.lost.as_ref().is_some_and(|(image, held)| has(image, *held));
        lost || has(&self.durable, self.snapshot.0)
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Truncate(from) => self.members.retain(|(at, _)| *at < from),
            Step::Reset(..) => self.members = vec![self.held.clone()],
            _ => {}
        }
        if matches!(step, Step::Truncate(_) | Step::Reset(..)) {
            let mut left = self.handed.clone();
            left.perform(step);
            self.give_way(&left);
            self.handed = left;
        } else {
            self.handed.perform(step);
        }
        self.journal.push(step);
    }

    fn synced(&mut self, sync: SyncId) {
        let done = self
            .journal
            .iter()
            .rposition(|step| matches!(step, Step::Sync(id) if *id <= sync));
        let steps = self.journal.drain(..done.map_or(0, |at| at + 1));
        for step in steps {
            self.durable.perform(step);
        }
    }

    /// The node crashed and found this again: it must be what was durable, and then as many further steps as the
    /// disk happened to keep. What is found is durable from here on. A snapshot that is `rotten` is not found again.
    ///
    /// # Errors
    ///
    /// Something durable is missing, or something is there that was never written.
    pub(super) fn recovered(&mut self, recovered: &Recovered, rotten: bool) -> Result<(), String> {
        let head = recovered.snapshot.as_ref().map(|snapshot| &snapshot.head);
        let snapshot = head.map_or((Index::ZERO, Term(0)), |head| (head.index, head.term));
        if snapshot < self.snapshot && !rotten {
            return Err(format!(
                "the snapshot at {:?} is gone, {snapshot:?} is there (R6)",
                self.snapshot
            ));
        }
        let fitting = |image: &Image| Some(image.clone().fitted(head)).filter(|image| image.is(recovered));
        let mut image = self.durable.clone();
        let mut found = fitting(&image);
        for step in self.journal.drain(..) {
            image.perform(step);
            found = fitting(&image).or(found);
        }
        let Some(found) = found else {
            return Err(format!(
                "recovered {recovered:?}; durable were {:?} and {} entries",
                self.durable.hard,
                self.durable.log.len()
            ));
        };
        self.give_way(&found);
        self.handed = found.clone();
        self.durable = found;
        self.released = recovered.base_index;
        self.snapshot = snapshot;
        self.held = match head {
            Some(head) => self.configuration_of(head),
            None => (Index::ZERO, self.founding.clone()),
        };
        self.members = vec![self.held.clone()];
        for (index, payload) in &recovered.memberships {
            let configuration = Configuration::decode(payload).map_err(|error| format!("at {index}: {error}"))?;
            if self.members.last().is_none_or(|(at, _)| at < index) {
                self.members.push((*index, configuration));
            }
        }
        Ok(())
    }
}

impl<S> Watch<S> {
    pub(super) fn new(inner: S, record: Arc<Mutex<Record>>) -> Self {
        Self { inner, record }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }
}

pub(super) fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Storage> Storage for Watch<S> {
    type Work = S::Work;
    type Snapshots = WatchSnapshots<S::Snapshots>;

    fn snapshots(&self) -> Self::Snapshots {
        WatchSnapshots {
            inner: self.inner.snapshots(),
            record: Arc::clone(&self.record),
        }
    }

    fn save(&mut self, hard: HardState) {
        self.record().take(Step::Save(hard));
        self.inner.save(hard);
    }

    fn append(&mut self, first: Index, entries: &Entries<'_>) {
        for (index, entry) in (first.0..).map(Index).zip(entries.iter()) {
            let digest = (entry.kind as u64) << 32 | u64::from(entry.crc);
            let mut record = self.record();
            record.take(Step::Append(Mark {
                term: entry.term,
                digest,
            }));
            if entry.kind == EntryKind::Membership
                && let Ok(configuration) = Configuration::decode(entry.payload)
            {
                record.members.push((index, configuration));
            }
        }
        self.inner.append(first, entries);
    }

    fn truncate(&mut self, from: Index) {
        self.record().take(Step::Truncate(from));
        self.inner.truncate(from);
    }

    fn reset(&mut self, index: Index, term: Term) {
        let mut record = self.record();
        record.resets += 1;
        record.take(Step::Reset(index, term));
        drop(record);
        self.inner.reset(index, term);
    }

    fn release(&mut self, through: Index) -> Index {
        let base = self.inner.release(through);
        let mut record = self.record();
        record.released = record.released.max(base);
        base
    }

    fn sync(&mut self, id: SyncId) {
        self.record().take(Step::Sync(id));
        self.inner.sync(id);
    }

    fn load(&mut self, range: Range<Index>) {
        self.inner.load(range);
    }

    fn next_work(&mut self) -> Option<Self::Work> {
        self.inner.next_work()
    }

    fn done(&mut self, done: <Self::Work as Work>::Done) -> Result<Option<Completed>, Fault> {
        let completed = self.inner.done(done)?;
        if let Some(Completed::Synced(sync)) = &completed {
            self.record().synced(*sync);
        }
        Ok(completed)
    }

    fn room(&self) -> u64 {
        self.inner.room()
    }

    fn tick(&mut self, now: Instant) {
        self.inner.tick(now);
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }
}

/// Passes everything on to a store, and notes which snapshot is durable.
#[derive(Clone, Debug)]
pub(super) struct WatchSnapshots<St> {
    inner: St,
    record: Arc<Mutex<Record>>,
}

impl<St: SnapshotStore> SnapshotStore for WatchSnapshots<St> {
    fn save(
        &self,
        head: &Head,
        content: &mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<Snapshot, StoreError> {
        lock(&self.record).storing(head);
        let saved = self.inner.save(head, content)?;
        lock(&self.record).stored(&saved.head);
        Ok(saved)
    }

    fn read(&self, id: SnapshotId, offset: u64, length: usize) -> Result<Bytes, StoreError> {
        self.inner.read(id, offset, length)
    }

    fn receive(&self, id: SnapshotId, offset: u64, data: &[u8]) -> Result<(), StoreError> {
        self.inner.receive(id, offset, data)
    }

    fn finish(&self, id: SnapshotId) -> Result<Snapshot, StoreError> {
        self.inner.finish(id)
    }

    fn keep(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.inner.keep(snapshot)?;
        lock(&self.record).stored(&snapshot.head);
        Ok(())
    }

    fn abandon(&self) -> Result<(), StoreError> {
        self.inner.abandon()
    }

    fn load(
        &self,
        id: SnapshotId,
        content: &mut dyn FnMut(&mut dyn io::Read) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        self.inner.load(id, content)
    }
}

/// A state machine that notes how far it came.
#[derive(Debug)]
pub(super) struct Applies<M> {
    inner: M,
    record: Arc<Mutex<Record>>,
}

impl<M> Applies<M> {
    /// A machine that has seen nothing so far.
    pub(super) fn new(inner: M, record: Arc<Mutex<Record>>) -> Self {
        lock(&record).applied = Index::ZERO;
        Self { inner, record }
    }
}

/// A state, and how far it came.
#[derive(Debug)]
pub(super) struct Reached<I> {
    applied: Index,
    inner: I,
}

impl<I: snapshot::Image> snapshot::Image for Reached<I> {
    fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(&self.applied.0.to_le_bytes())?;
        self.inner.write(out)
    }

    fn read(input: &mut dyn io::Read) -> io::Result<Self> {
        let mut applied = [0; 8];
        input.read_exact(&mut applied)?;
        Ok(Self {
            applied: Index(u64::from_le_bytes(applied)),
            inner: I::read(input)?,
        })
    }
}

impl<M: StateMachine> StateMachine for Applies<M> {
    type Image = Reached<M::Image>;

    fn image(&self) -> Self::Image {
        Reached {
            applied: lock(&self.record).applied,
            inner: self.inner.image(),
        }
    }

    fn restore(&mut self, image: Self::Image) -> Self::Image {
        let applied = std::mem::replace(&mut lock(&self.record).applied, image.applied);
        Reached {
            applied,
            inner: self.inner.restore(image.inner),
        }
    }

    fn check(&self, command: &[u8]) -> Result<(), Refused> {
        self.inner.check(command)
    }

    fn apply(&mut self, index: Index, command: &[u8], reply: &mut BytesMut) {
        lock(&self.record).applied = index;
        self.inner.apply(index, command, reply);
    }

    fn read(&self, query: &[u8], reply: &mut BytesMut) -> Result<(), Refused> {
        self.inner.read(query, reply)
    }

    fn digest(&self) -> u64 {
        self.inner.digest()
    }
}
