//! A disk as a model: what was handed to it, and what of that a crash leaves.

use std::collections::VecDeque;

use fastrand::Rng;
use kraft_core::id::{Index, SyncId, Term};
use kraft_core::message::{Entry, EntryKind};
use kraft_core::storage::{HardState, Recovered};

#[derive(Debug)]
enum Op {
    Save(HardState),
    Append(Index, Vec<Entry>),
    Truncate(Index),
    Sync(SyncId),
}

/// A hard state and a log from index 1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) hard: HardState,
    pub(crate) log: Vec<Entry>,
}

impl Image {
    fn perform(&mut self, op: &Op) {
        match op {
            Op::Save(hard) => self.hard = *hard,
            Op::Append(first, entries) => {
                assert_eq!(first.0, self.log.len() as u64 + 1, "appended after the last");
                self.log.extend(entries.iter().cloned());
            }
            Op::Truncate(from) => self.log.truncate(from.0 as usize - 1),
            Op::Sync(_) => {}
        }
    }

    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.get(index.0.checked_sub(1)? as usize)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// What a crash leaves.
    pub(crate) durable: Image,
    /// What was handed over.
    pub(crate) written: Image,
    /// The difference.
    pending: VecDeque<Op>,
    /// A sync is under way.
    pub(crate) is_busy: bool,
    /// Syncs do not end.
    pub(crate) is_stalled: bool,
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

    pub(crate) fn recovered(&self) -> Recovered {
        let mut terms: Vec<(Index, Term)> = Vec::new();
        for (at, entry) in self.durable.log.iter().enumerate() {
            if terms.last().is_none_or(|run| run.1 != entry.term) {
                terms.push((Index(at as u64 + 1), entry.term));
            }
        }
        let memberships = self.durable.log.iter().enumerate();
        let memberships = memberships.filter(|(_, entry)| entry.kind == EntryKind::Membership);
        Recovered {
            hard: self.durable.hard,
            terms,
            last: Index(self.durable.log.len() as u64),
            memberships: memberships
                .map(|(at, entry)| (Index(at as u64 + 1), entry.payload.clone()))
                .collect(),
            ..Recovered::default()
        }
    }
}
