//! A disk as a model: what was handed to it, and what of that a crash leaves.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kraft_core::id::{Index, NodeId, SyncId, Term};
use kraft_core::message::{Entry, EntryKind};
use kraft_core::snapshot::Snapshot;
use kraft_core::storage::{HardState, Recovered};

/// Term, vote and log.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) hard: HardState,
    /// The place before the log's first entry, and the term there.
    pub(super) base: (Index, Term),
    pub(super) entries: VecDeque<Entry>,
}

impl Content {
    pub(super) fn last(&self) -> Index {
        Index(self.base.0.0 + self.entries.len() as u64)
    }

    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        let at = index.0.checked_sub(self.base.0.0)?.checked_sub(1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// The term at `index`, also of the place before the first entry.
    pub(super) fn term(&self, index: Index) -> Option<Term> {
        match index == self.base.0 {
            true => Some(self.base.1),
            false => self.entry(index).map(|entry| entry.term),
        }
    }

    fn cut(&mut self, from: Index) {
        assert!(from > self.base.0, "what is gone is not truncated");
        let keep = usize::try_from(from.0 - self.base.0.0 - 1).expect("a log is short");
        self.entries.truncate(keep);
    }

    fn release(&mut self, base: Index) {
        while self.base.0 < base {
            let entry = self.entries.pop_front().expect("only what is there is released");
            self.base = (self.base.0.next(), entry.term);
        }
    }
}

#[derive(Debug)]
pub(super) struct Disk {
    /// What was handed over.
    pub(super) written: Content,
    /// What a crash leaves.
    pub(super) durable: Content,
    /// What each sync that was asked for makes durable.
    syncs: VecDeque<(SyncId, Content)>,
    /// Durable when they are there; by index.
    pub(super) snapshots: BTreeMap<Index, Snapshot>,
}

impl Disk {
    pub(super) fn new(hard: HardState, terms: &[Term]) -> Self {
        let entry = |term: &Term| Entry {
            term: *term,
            kind: EntryKind::Command,
            crc: 0,
            payload: Bytes::new(),
        };
        let content = Content {
            hard,
            base: (Index::ZERO, Term(0)),
            entries: terms.iter().map(entry).collect(),
        };
        Self {
            written: content.clone(),
            durable: content,
            syncs: VecDeque::new(),
            snapshots: BTreeMap::new(),
        }
    }

    pub(super) fn save(&mut self, hard: HardState) {
        let before = self.written.hard;
        assert!(hard.term >= before.term, "the term goes back: {before:?}, {hard:?}");
        assert!(
            hard.term > before.term || before.vote == NodeId::NONE || hard.vote == before.vote,
            "a second vote in a term: {before:?}, {hard:?}"
        );
        self.written.hard = hard;
    }

    pub(super) fn append(&mut self, first: Index, entries: impl IntoIterator<Item = Entry>) {
        assert_eq!(first, self.written.last().next(), "appended after the last");
        let mut term = self
            .written
            .term(self.written.last())
            .expect("the last entry has a term");
        for entry in entries {
            assert!(entry.term >= term, "terms decrease along the log");
            assert!(
                entry.term <= self.written.hard.term,
                "an entry of a term that is not saved"
            );
            term = entry.term;
            self.written.entries.push_back(entry);
        }
    }

    pub(super) fn truncate(&mut self, from: Index) {
        self.written.cut(from);
    }

    pub(super) fn reset(&mut self, index: Index, term: Term) {
        let snapshot = self.snapshots.get(&index);
        assert!(
            snapshot.is_some_and(|snapshot| snapshot.id.term == term),
            "the snapshot is there before the log goes"
        );
        self.written.base = (index, term);
        self.written.entries.clear();
    }

    /// Gives up what a snapshot holds.
    pub(super) fn release(&mut self, through: Index) -> Index {
        let newest = self.snapshots.last_key_value().map_or(Index::ZERO, |(index, _)| *index);
        assert!(through <= newest, "{through} is released, and snapshots hold {newest}");
        self.written.release(through);
        through
    }

    pub(super) fn ask(&mut self, sync: SyncId) {
        assert!(
            self.syncs.back().is_none_or(|(last, _)| *last < sync),
            "syncs are numbered upwards"
        );
        self.syncs.push_back((sync, self.written.clone()));
    }

    /// The first sync that is not complete is, or the last with all before it.
    pub(super) fn complete(&mut self, is_last: bool) -> Option<SyncId> {
        let count = if is_last {
            self.syncs.len()
        } else {
            self.syncs.len().min(1)
        };
        let (sync, content) = self.syncs.drain(..count).next_back()?;
        self.durable = content;
        Some(sync)
    }

    /// A crash: what was not synced is gone, or there.
    pub(super) fn crash(&mut self, loses: bool) {
        self.syncs.clear();
        match loses {
            true => self.written = self.durable.clone(),
            false => self.durable = self.written.clone(),
        }
        // A log that ends before the snapshot, or contradicts it, begins anew behind it.
        if let Some((index, snapshot)) = self.snapshots.last_key_value()
            && *index > self.durable.base.0
            && self.durable.term(*index) != Some(snapshot.id.term)
        {
            self.durable.base = (*index, snapshot.id.term);
            self.durable.entries.clear();
            // The term in which it came was not durable yet.
            if self.durable.hard.term < snapshot.id.term {
                self.durable.hard = HardState {
                    term: snapshot.id.term,
                    vote: NodeId::NONE,
                };
            }
        }
        self.written = self.durable.clone();
    }

    pub(super) fn store(&mut self, snapshot: Snapshot) {
        self.snapshots.insert(snapshot.id.index, snapshot);
    }

    pub(super) fn recovered(&self) -> Recovered {
        let Content { hard, base, entries } = &self.durable;
        let mut terms: Vec<(Index, Term)> = Vec::new();
        let numbered = || (base.0.0 + 1..).map(Index).zip(entries);
        for (index, entry) in numbered() {
            if terms.last().is_none_or(|run| run.1 != entry.term) {
                terms.push((index, entry.term));
            }
        }
        let newest = self.snapshots.last_key_value();
        let behind = newest.map_or(Index::ZERO, |(index, _)| *index);
        let memberships = numbered().filter(|(index, entry)| *index > behind && entry.kind == EntryKind::Membership);
        Recovered {
            hard: *hard,
            base_index: base.0,
            base_term: base.1,
            terms,
            last: self.durable.last(),
            snapshot: newest.map(|(_, snapshot)| snapshot.clone()),
            memberships: memberships
                .map(|(index, entry)| (index, entry.payload.clone()))
                .collect(),
        }
    }
}
