//! A disk as a model: what was handed to it, and what of that a crash leaves. Snapshots stand beside the log and are
//! durable when they are there, as files are that were synced before they got their names.

use std::collections::VecDeque;

use bytes::Bytes;
use fastrand::Rng;
use kraft_core::id::{Index, SyncId, Term};
use kraft_core::laws::Mark;
use kraft_core::membership::Configuration;
use kraft_core::message::{Entry, EntryKind, SnapshotId};
use kraft_core::raft::term_after_damage;
use kraft_core::snapshot::{Head, Snapshot};
use kraft_core::storage::{HardState, Recovered};

#[derive(Debug)]
enum Op {
    Save(HardState),
    Append(Index, Vec<Entry>),
    Truncate(Index),
    Reset(Index, Term),
    Release(Index),
    Sync(SyncId),
}

/// A hard state and a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) hard: HardState,
    /// The place before the log's first entry, and the term there.
    pub(crate) base: (Index, Term),
    pub(crate) log: Vec<Entry>,
}

/// A snapshot: everything that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) snapshot: Snapshot,
    pub(crate) state: Vec<Mark>,
}

impl Stored {
    pub(crate) fn of(state: &[Mark]) -> Self {
        let (index, term) = (Index(state.len() as u64), state.last().expect("something").term);
        let head = Head {
            index,
            term,
            membership_index: Index::ZERO,
            membership: Bytes::new(),
        };
        let (bytes, crc) = (state.len() as u64, 7);
        let id = SnapshotId {
            index,
            term,
            bytes,
            crc,
        };
        Self {
            snapshot: Snapshot { id, head },
            state: state.to_vec(),
        }
    }

    /// With the configuration that is in force at its end, which stands at `index`.
    pub(crate) fn with_members(mut self, (index, configuration): (Index, &Configuration)) -> Self {
        if index > Index::ZERO {
            let head = &mut self.snapshot.head;
            (head.membership_index, head.membership) = (index, configuration.encode());
        }
        self
    }

    pub(crate) fn place(&self) -> (Index, Term) {
        (self.snapshot.id.index, self.snapshot.id.term)
    }
}

impl Image {
    fn perform(&mut self, op: &Op) {
        match op {
            Op::Save(hard) => self.hard = *hard,
            Op::Append(first, entries) => {
                assert_eq!(*first, self.last().next(), "appended after the last");
                self.log.extend(entries.iter().cloned());
            }
            Op::Truncate(from) => {
                assert!(*from > self.base.0, "what is gone is not truncated");
                self.log.truncate((from.0 - self.base.0.0) as usize - 1);
            }
            Op::Reset(index, term) => {
                self.base = (*index, *term);
                self.log.clear();
            }
            Op::Release(base) => self.release(*base),
            Op::Sync(_) => {}
        }
    }

    pub(crate) fn last(&self) -> Index {
        Index(self.base.0.0 + self.log.len() as u64)
    }

    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        let at = index.0.checked_sub(self.base.0.0)?.checked_sub(1)?;
        self.log.get(at as usize)
    }

    /// The entries from `first` on.
    #[track_caller]
    pub(crate) fn from(&self, first: Index) -> &[Entry] {
        assert!(
            first > self.base.0,
            "{first} is gone, the log begins behind {:?}",
            self.base
        );
        &self.log[(first.0 - self.base.0.0) as usize - 1..]
    }

    /// The term at `index`, also of the place before the first entry.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        match index == self.base.0 {
            true => Some(self.base.1),
            false => self.entry(index).map(|entry| entry.term),
        }
    }

    fn release(&mut self, base: Index) {
        if let Some(term) = self.term(base) {
            self.log.drain(..(base.0 - self.base.0.0) as usize);
            self.base = (base, term);
        }
    }

    /// What opening it makes of a log that a snapshot at this place is ahead of, or contradicts.
    fn fit(&mut self, place: (Index, Term)) {
        if place.0 > Index::ZERO && self.term(place.0) != Some(place.1) && place.0 > self.base.0 {
            self.base = place;
            self.log.clear();
        }
    }
}

/// The last good ones stay, the one that is restored among them.
const SNAPSHOTS_KEEP: usize = 2;

#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// What a crash leaves.
    pub(crate) durable: Image,
    /// What was handed over.
    pub(crate) written: Image,
    /// The difference.
    pending: VecDeque<Op>,
    /// Oldest in front.
    snapshots: VecDeque<Stored>,
    /// A sync is under way.
    pub(crate) is_busy: bool,
    /// Syncs do not end.
    pub(crate) is_stalled: bool,
    /// Everything goes that is released; otherwise some of it, as if by files.
    pub(crate) is_exact: bool,
}

impl Disk {
    fn hand(&mut self, op: Op) {
        self.written.perform(&op);
        self.pending.push_back(op);
    }

    pub(crate) fn save(&mut self, hard: HardState) {
        self.hand(Op::Save(hard));
    }

    pub(crate) fn append(&mut self, first: Index, entries: Vec<Entry>) {
        self.hand(Op::Append(first, entries));
    }

    pub(crate) fn truncate(&mut self, from: Index) {
        self.hand(Op::Truncate(from));
    }

    pub(crate) fn reset(&mut self, index: Index, term: Term) {
        let found = self.snapshot().map(Stored::place);
        assert!(
            found.is_some_and(|place| place >= (index, term)),
            "the snapshot is there before the log goes"
        );
        self.hand(Op::Reset(index, term));
    }

    /// Up to `through` the log may go; some of it does. What goes is not always waited for.
    pub(crate) fn release(&mut self, through: Index, rng: &mut Rng) -> Index {
        let base = match self.is_exact {
            true => through,
            false => Index(rng.u64(self.written.base.0.0..=through.0)),
        };
        let is_known = self.durable.entry(base).map(|entry| entry.term) == self.written.term(base);
        if rng.bool() && base > self.durable.base.0 && is_known {
            self.durable.release(base);
        }
        self.hand(Op::Release(base));
        base
    }

    /// A snapshot is written, checked and synced.
    pub(crate) fn store(&mut self, stored: Stored) {
        if self.snapshots.iter().all(|other| other.place() != stored.place()) {
            self.snapshots.push_back(stored);
            self.snapshots.make_contiguous().sort_by_key(Stored::place);
        }
        while self.snapshots.len() > SNAPSHOTS_KEEP {
            self.snapshots.pop_front();
        }
    }

    /// The newest snapshot.
    pub(crate) fn snapshot(&self) -> Option<&Stored> {
        self.snapshots.back()
    }

    /// That snapshot.
    pub(crate) fn load(&self, id: SnapshotId) -> Option<&Stored> {
        self.snapshots.iter().find(|stored| stored.snapshot.id == id)
    }

    /// The entry at `index` in the log that a restart would find.
    pub(crate) fn found(&self, index: Index) -> Option<&Entry> {
        let (newest, term) = self.snapshot().map_or((Index::ZERO, Term(0)), Stored::place);
        let fits = newest <= self.durable.base.0 || self.durable.term(newest) == Some(term);
        self.durable.entry(index).filter(|_| fits)
    }

    pub(crate) fn sync(&mut self, id: SyncId) {
        self.hand(Op::Sync(id));
    }

    /// The newest sync that was asked for and is not complete.
    pub(crate) fn wanted_sync(&self) -> Option<SyncId> {
        self.pending.iter().rev().find_map(|op| match op {
            Op::Sync(id) => Some(*id),
            _ => None,
        })
    }

    /// The sync is complete.
    pub(crate) fn synced(&mut self, id: SyncId) {
        while let Some(op) = self.pending.pop_front() {
            self.durable.perform(&op);
            if matches!(op, Op::Sync(done) if done == id) {
                return;
            }
        }
        panic!("{id:?} was not asked for");
    }

    /// Power is cut: of what was not synced, some first part is there, and may end within an append.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let survivors = rng.usize(0..=self.pending.len());
        for op in self.pending.drain(..survivors) {
            self.durable.perform(&op);
        }
        if let Some(Op::Append(first, mut entries)) = self.pending.pop_front() {
            entries.truncate(rng.usize(0..=entries.len()));
            self.durable.perform(&Op::Append(first, entries));
        }
        self.pending.clear();
        self.written = self.durable.clone();
        self.is_busy = false;
    }

    /// Power is cut, and nothing that was not synced is there.
    pub(crate) fn lose(&mut self) {
        self.pending.clear();
        self.written = self.durable.clone();
        self.is_busy = false;
    }

    /// The log is damaged, and maybe the newest snapshots with it. Its term can be read.
    pub(crate) fn rot(&mut self, rng: &mut Rng) {
        self.lose();
        let hard = term_after_damage(self.durable.hard.term);
        self.durable = Image {
            hard,
            ..Image::default()
        };
        self.written = self.durable.clone();
        self.snapshots.truncate(rng.usize(0..=self.snapshots.len()));
    }

    /// All snapshots are damaged.
    pub(crate) fn forget_snapshots(&mut self) {
        self.snapshots.clear();
    }

    pub(crate) fn recovered(&mut self) -> Recovered {
        let place = self.snapshot().map_or((Index::ZERO, Term(0)), Stored::place);
        self.durable.fit(place);
        self.written = self.durable.clone();
        let (base_index, base_term) = self.durable.base;
        let mut terms: Vec<(Index, Term)> = Vec::new();
        for (at, entry) in self.durable.log.iter().enumerate() {
            if terms.last().is_none_or(|run| run.1 != entry.term) {
                terms.push((Index(base_index.0 + at as u64 + 1), entry.term));
            }
        }
        let memberships = self.durable.log.iter().enumerate();
        let memberships = memberships.filter(|(_, entry)| entry.kind == EntryKind::Membership);
        Recovered {
            hard: self.durable.hard,
            base_index,
            base_term,
            terms,
            last: self.durable.last(),
            snapshot: self.snapshot().map(|stored| stored.snapshot.clone()),
            memberships: memberships
                .map(|(at, entry)| (Index(base_index.0 + at as u64 + 1), entry.payload.clone()))
                .collect(),
        }
    }
}
