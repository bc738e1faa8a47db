//! The end of the log as Raft sees it, terms and cursors, and what of it the disk has.
//!
//! Outputs wait for the disk by this table. "Durable" is what the last completed sync covers; nothing else counts,
//! however long ago it was handed out.
//!
//! | output | waits until durable |
//! |---|---|
//! | a vote granted | its term and vote |
//! | a candidate's request for votes, and its own vote | its term and vote, and the log that it claims |
//! | an append acknowledged | the append's term, and the log up to the index that is acknowledged |
//! | a snapshot acknowledged | the message's term, and the snapshot: then a restart finds it, and begins the log anew behind it if that was not done |
//! | a leader's own share in a commitment | the log up to that index |
//! | a pre-vote asked or granted | nothing: it binds nobody (thesis §9.6) |
//! | an append or heartbeat sent | nothing (thesis §10.2.1): the leader's term is durable since its candidacy |
//! | a heartbeat answered | nothing: it says what this process saw, and a later vote is durable before it is given |
//! | a refusal | nothing |
//! | the log's front released | the snapshot that holds it, and the log up to there |
//!
//! Outputs for the disk are computed from cursors when they are drained, so that what a truncation removed before it
//! was handed out never leaves:
//!
//! ```text
//!   base <= durable <= written <= last        durable <= through of the oldest sync in flight, ... <= written
//! ```
//!
//! They leave in the order save, reset, truncate, append, sync; a sync covers all that left before it. A reset makes
//! what was to be truncated or appended before it void.

use std::collections::VecDeque;
use std::time::Duration;

use super::Output;
use super::snapshot::Weights;
use crate::canary::{self, Canary};
use crate::id::{Index, NodeId, SyncId, Term};
use crate::storage::{HardState, Recovered};
use crate::time::Instant;

/// The terms of the log's entries, as runs: the first index of each and its term.
#[derive(Debug)]
pub(super) struct Terms {
    base_index: Index,
    base_term: Term,
    /// Ascending in both; the first is after `base_index`.
    runs: Vec<(Index, Term)>,
    last: Index,
}

impl Terms {
    /// What storage found.
    fn new(recovered: &Recovered) -> Result<Self, String> {
        let mut terms = Self {
            base_index: recovered.base_index,
            base_term: recovered.base_term,
            runs: Vec::with_capacity(recovered.terms.len()),
            last: recovered.base_index,
        };
        if recovered.last < recovered.base_index || recovered.terms.is_empty() != (recovered.last == terms.last) {
            return Err(format!(
                "the recovered log ends at {} and begins after {}, with {} terms",
                recovered.last,
                recovered.base_index,
                recovered.terms.len()
            ));
        }
        for (at, (first, term)) in recovered.terms.iter().enumerate() {
            let end = recovered.terms.get(at + 1).map_or(recovered.last, |next| next.0.prev());
            if *first != terms.last.next() || end < *first || *term < terms.last_term() || *term == Term(0) {
                return Err(format!(
                    "the recovered log's run of term {term} at {first} does not fit the one before"
                ));
            }
            terms.push(end, *term);
        }
        match &recovered.snapshot {
            // Storage begins the log anew behind a snapshot that it lacks, so that there is never a hole between.
            Some(snapshot) if terms.at(snapshot.head.index) != Some(snapshot.head.term) => Err(format!(
                "the newest snapshot is at {} of term {}, and not in the recovered log from {} of term {} to {}",
                snapshot.head.index, snapshot.head.term, terms.base_index, terms.base_term, terms.last
            )),
            _ => Ok(terms),
        }
    }

    /// The log as it begins behind this place.
    fn behind(base_index: Index, base_term: Term) -> Self {
        Self {
            base_index,
            base_term,
            runs: Vec::new(),
            last: base_index,
        }
    }

    /// What is up to `base` is no longer in the log.
    fn release(&mut self, base: Index) {
        debug_assert!(self.base_index <= base && base <= self.last, "a log's front goes");
        let Some(term) = self.at(base) else { return };
        let gone = self.runs.partition_point(|run| run.0 <= base);
        // Of the run that holds `base`, what is behind it stays.
        let kept = match self.runs.get(gone).map_or(self.last, |next| next.0.prev()) > base {
            true => gone.saturating_sub(1),
            false => gone,
        };
        self.runs.drain(..kept);
        if let Some(first) = self.runs.first_mut() {
            first.0 = first.0.max(base.next());
        }
        (self.base_index, self.base_term) = (base, term);
    }

    pub(super) fn base(&self) -> Index {
        self.base_index
    }

    pub(super) fn last(&self) -> Index {
        self.last
    }

    pub(super) fn last_term(&self) -> Term {
        self.runs.last().map_or(self.base_term, |run| run.1)
    }

    /// The term at `index`, `None` outside the log.
    pub(super) fn at(&self, index: Index) -> Option<Term> {
        if index > self.last || index < self.base_index {
            return None;
        }
        match self.runs.last() {
            Some((first, term)) if *first <= index => Some(*term),
            _ => {
                let above = self.runs.partition_point(|run| run.0 <= index);
                Some(above.checked_sub(1).map_or(self.base_term, |at| self.runs[at].1))
            }
        }
    }

    /// Entries up to `last`, all of `term`, were appended.
    fn push(&mut self, last: Index, term: Term) {
        debug_assert!(
            last > self.last && term >= self.last_term(),
            "logs grow in index and term"
        );
        if self.runs.last().is_none_or(|run| run.1 < term) {
            self.runs.push((self.last.next(), term));
        }
        self.last = last;
    }

    fn truncate(&mut self, from: Index) {
        self.last = from.prev();
        while self.runs.last().is_some_and(|run| run.0 >= from) {
            self.runs.pop();
        }
    }

    /// The last place at or before `index` with a term of at most `term`, and that term. Where two logs disagree, the
    /// one with the greater terms disagrees all the way down to there (etcd's `findConflictByTerm`).
    pub(super) fn at_most(&self, index: Index, term: Term) -> (Index, Term) {
        let mut index = index.min(self.last);
        for (first, run) in self.runs.iter().rev() {
            if *first <= index {
                if *run <= term {
                    return (index, *run);
                }
                index = first.prev();
            }
        }
        (index.min(self.base_index), self.base_term)
    }
}

/// A sync in flight, and what will be durable when it completes.
#[derive(Debug)]
struct Pending {
    id: SyncId,
    hard: HardState,
    /// Lowered by truncations: what was written at an index that was cut since says nothing about what stands there
    /// afterwards (etcd's `async_storage_writes_append_aba_race`).
    through: Index,
    since: Instant,
}

/// The log and the hard state, and how far each has come on its way to the disk.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) terms: Terms,
    /// Term and vote.
    pub(super) hard: HardState,
    /// The hard state that was handed out last.
    saved: HardState,
    /// The hard state that is durable.
    durable_hard: HardState,
    /// Entries up to here were handed out.
    written: Index,
    /// Entries up to here are durable.
    durable: Index,
    /// Storage has entries from here on that are to go.
    truncate: Option<Index>,
    /// Storage's log is to begin anew, behind the base.
    reset: bool,
    /// Something was handed out that no sync covers.
    unsynced: bool,
    syncs: VecDeque<Pending>,
    sync_next: SyncId,
    /// Payload bytes that storage takes, less those that it was not handed yet.
    room: u64,
    unwritten_bytes: u64,
    pub(super) weights: Weights,
}

/// Syncs in flight; while there are more, what is to be synced collects. Storage joins those that wait, so that more
/// would gain nothing.
const SYNCS_MAX: usize = 16;

impl Tail {
    pub(super) fn new(recovered: &Recovered) -> Result<Self, String> {
        let terms = Terms::new(recovered)?;
        let mut hard = recovered.hard;
        // A log that is ahead of the vote beside it: never go back (`term_regress_on_restart`).
        if terms.last_term() > hard.term {
            hard = HardState {
                term: terms.last_term(),
                vote: NodeId::NONE,
            };
        }
        if canary::is(Canary::TermBackOnRestart) {
            hard.term = terms.last_term();
        }
        let last = terms.last();
        Ok(Self {
            terms,
            hard,
            saved: recovered.hard,
            durable_hard: recovered.hard,
            written: last,
            durable: last,
            truncate: None,
            reset: false,
            unsynced: false,
            syncs: VecDeque::new(),
            sync_next: SyncId(1),
            room: u64::MAX,
            unwritten_bytes: 0,
            weights: Weights::default(),
        })
    }

    pub(super) fn durable(&self) -> Index {
        self.durable
    }

    /// Whether the term is on disk.
    pub(super) fn term_is_durable(&self) -> bool {
        self.durable_hard.term == self.hard.term
    }

    /// Whether term and vote are on disk.
    pub(super) fn vote_is_durable(&self) -> bool {
        self.durable_hard == self.hard
    }

    /// Entries up to `last`, all of `term`, were appended.
    pub(super) fn push(&mut self, last: Index, term: Term) {
        self.terms.push(last, term);
    }

    /// Payload bytes were appended, up to the last entry.
    pub(super) fn take_room(&mut self, bytes: u64) {
        self.weights.add(self.terms.last(), bytes);
        self.room = self.room.saturating_sub(bytes);
        self.unwritten_bytes += bytes;
    }

    /// Storage says how much it takes.
    pub(super) fn set_room(&mut self, bytes: u64) {
        self.room = bytes.saturating_sub(self.unwritten_bytes);
    }

    pub(super) fn room(&self) -> u64 {
        self.room
    }

    /// Everything from `from` on is withdrawn, wherever it has come to.
    pub(super) fn truncate(&mut self, from: Index) {
        self.terms.truncate(from);
        self.weights.truncate(from);
        let kept = from.prev();
        if from <= self.written {
            self.truncate = Some(self.truncate.map_or(from, |before| before.min(from)));
            self.written = kept;
        }
        self.durable = self.durable.min(kept);
        if canary::is(Canary::AckByIndex) {
            return;
        }
        for sync in &mut self.syncs {
            sync.through = sync.through.min(kept);
        }
    }

    /// A snapshot that is durable takes the place of the log, which begins anew behind it.
    pub(super) fn reset(&mut self, index: Index, term: Term) {
        self.terms = Terms::behind(index, term);
        self.weights.clear();
        self.reset = true;
        self.truncate = None;
        self.unwritten_bytes = 0;
        self.written = index;
        self.durable = index;
        if canary::is(Canary::AckByIndex) {
            return;
        }
        // What was written behind the snapshot's place says nothing about what will stand there.
        for sync in &mut self.syncs {
            sync.through = sync.through.min(index);
        }
    }

    /// Storage's log begins behind `base`.
    pub(super) fn release(&mut self, base: Index) {
        self.terms.release(base);
    }

    /// Storage's part of [`Raft::poll_output`](super::Raft::poll_output).
    pub(super) fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if self.hard != self.saved {
            self.saved = self.hard;
            self.unsynced = true;
            return Some(Output::Save(self.hard));
        }
        if std::mem::take(&mut self.reset) {
            self.unsynced = true;
            return Some(Output::Reset {
                index: self.terms.base_index,
                term: self.terms.base_term,
            });
        }
        if let Some(from) = self.truncate.take() {
            self.unsynced = true;
            return Some(Output::Truncate(from));
        }
        let last = self.terms.last();
        if self.written < last {
            let range = self.written.next()..last.next();
            self.written = last;
            self.unwritten_bytes = 0;
            self.unsynced = true;
            return Some(Output::Append(range));
        }
        if self.unsynced && self.syncs.len() < SYNCS_MAX {
            let id = self.sync_next;
            self.sync_next = SyncId(id.0 + 1);
            self.unsynced = false;
            self.syncs.push_back(Pending {
                id,
                hard: self.saved,
                through: self.written,
                since: now,
            });
            return Some(Output::Sync(id));
        }
        None
    }

    /// The sync that makes durable what was handed out so far.
    pub(super) fn covering_sync(&self) -> SyncId {
        match self.unsynced {
            true => self.sync_next,
            false => SyncId(self.sync_next.0 - 1),
        }
    }

    /// A sync and all before it completed.
    pub(super) fn synced(&mut self, id: SyncId) {
        assert!(id < self.sync_next, "a sync that was never asked for");
        while self.syncs.front().is_some_and(|sync| sync.id <= id) {
            let sync = self.syncs.pop_front().expect("it was just looked at");
            self.durable_hard = sync.hard;
            self.durable = self.durable.max(sync.through);
        }
        debug_assert!(self.durable <= self.written || canary::is(Canary::AckByIndex));
    }

    /// When the oldest sync in flight will have taken `limit`.
    pub(super) fn stalled_at(&self, limit: Duration) -> Option<Instant> {
        self.syncs.front().map(|sync| sync.since + limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recovered(terms: &[(u64, u64)], last: u64) -> Recovered {
        Recovered {
            hard: HardState {
                term: Term(9),
                vote: NodeId(1),
            },
            terms: terms.iter().map(|(index, term)| (Index(*index), Term(*term))).collect(),
            last: Index(last),
            ..Recovered::default()
        }
    }

    fn drain(tail: &mut Tail) -> Vec<Output> {
        let outputs: Vec<_> = std::iter::from_fn(|| tail.poll_output(Instant::ZERO))
            .take(10)
            .collect();
        assert!(outputs.len() < 10, "it never ends: {outputs:?}");
        outputs
    }

    #[test]
    fn terms_are_found_by_their_runs() {
        let terms = Terms::new(&recovered(&[(1, 1), (4, 2), (5, 7)], 6)).expect("it fits");
        let at: Vec<_> = (0..8).map(|index| terms.at(Index(index)).map(|term| term.0)).collect();
        assert_eq!(
            at,
            [Some(0), Some(1), Some(1), Some(1), Some(2), Some(7), Some(7), None]
        );
    }

    #[test]
    fn entries_of_a_term_are_one_run_in_however_many_appends_they_came() {
        let mut terms = Terms::new(&recovered(&[(1, 1)], 2)).expect("it fits");
        for last in 3..100 {
            terms.push(Index(last), Term(1 + last / 50));
        }
        assert_eq!(terms.runs, [(Index(1), Term(1)), (Index(50), Term(2))]);
    }

    #[track_caller]
    fn check_at_most(index: u64, term: u64, expected: (u64, u64)) {
        let terms = Terms::new(&recovered(&[(1, 1), (4, 2), (5, 7)], 6)).expect("it fits");
        assert_eq!(
            terms.at_most(Index(index), Term(term)),
            (Index(expected.0), Term(expected.1))
        );
    }

    #[test]
    fn conflicts_back_off_by_term() {
        check_at_most(6, 7, (6, 7));
        check_at_most(9, 7, (6, 7));
        check_at_most(6, 6, (4, 2));
        check_at_most(6, 1, (3, 1));
        check_at_most(2, 1, (2, 1));
        check_at_most(2, 0, (0, 0));
    }

    #[track_caller]
    fn check_release(base: u64, expected: &[Option<u64>]) {
        let mut terms = Terms::new(&recovered(&[(1, 1), (4, 2), (5, 7)], 6)).expect("it fits");
        terms.release(Index(base));
        let at: Vec<_> = (0..8).map(|index| terms.at(Index(index)).map(|term| term.0)).collect();
        assert_eq!(at, expected, "{base}");
        assert_eq!(
            (terms.base(), terms.last(), terms.last_term()),
            (Index(base), Index(6), Term(7))
        );
        // It goes on as before.
        terms.release(Index(base));
        terms.push(Index(7), Term(7));
        terms.push(Index(8), Term(9));
        assert_eq!((terms.at(Index(7)), terms.at(Index(8))), (Some(Term(7)), Some(Term(9))));
        terms.truncate(Index(7));
        assert_eq!(
            (terms.last(), terms.at_most(Index(6), Term(0)).0),
            (Index(6), Index(base))
        );
    }

    #[test]
    fn a_released_front_leaves_the_rest_as_it_is() {
        let (one, two, seven) = (Some(1), Some(2), Some(7));
        check_release(0, &[Some(0), one, one, one, two, seven, seven, None]);
        check_release(2, &[None, None, one, one, two, seven, seven, None]);
        check_release(3, &[None, None, None, one, two, seven, seven, None]);
        check_release(4, &[None, None, None, None, two, seven, seven, None]);
        check_release(5, &[None, None, None, None, None, seven, seven, None]);
        check_release(6, &[None, None, None, None, None, None, seven, None]);
    }

    #[test]
    fn a_reset_makes_what_was_to_be_written_void() {
        let mut tail = Tail::new(&recovered(&[(1, 1)], 4)).expect("it fits");
        tail.push(Index(9), Term(2));
        drain(&mut tail);
        // Cut, appended to, and reset, in one turn.
        tail.truncate(Index(3));
        tail.push(Index(5), Term(3));
        tail.hard.term = Term(10);
        tail.reset(Index(6), Term(8));
        tail.push(Index(7), Term(9));
        let outputs = [
            Output::Save(tail.hard),
            Output::Reset {
                index: Index(6),
                term: Term(8),
            },
            Output::Append(Index(7)..Index(8)),
            Output::Sync(SyncId(2)),
        ];
        assert_eq!(drain(&mut tail), outputs);
        assert_eq!((tail.durable(), tail.terms.base()), (Index(6), Index(6)));
        tail.synced(SyncId(1));
        assert_eq!(
            tail.durable(),
            Index(6),
            "the former log's sync says nothing of what is behind the snapshot"
        );
        tail.synced(SyncId(2));
        assert_eq!(tail.durable(), Index(7));
    }

    #[test]
    fn a_log_whose_terms_do_not_fit_is_refused() {
        let logs = [
            (&[(2, 1)][..], 3),
            (&[(1, 2), (3, 1)], 4),
            (&[(1, 1), (1, 2)], 4),
            (&[(1, 1), (5, 2)], 4),
            (&[(1, 0)], 2),
            (&[(1, 1)], 0),
            (&[], 2),
        ];
        for (terms, last) in logs {
            assert!(Terms::new(&recovered(terms, last)).is_err(), "{terms:?} {last}");
        }
        let above = |terms: &[(u64, u64)], last| Recovered {
            base_index: Index(5),
            base_term: Term(3),
            ..recovered(terms, last)
        };
        assert!(Terms::new(&above(&[(6, 3)], 6)).is_ok());
        for (terms, last) in [(&[(6, 2)][..], 6), (&[], 4), (&[(5, 3)], 4)] {
            assert!(Terms::new(&above(terms, last)).is_err(), "{terms:?} {last} above 5");
        }
    }

    #[test]
    fn append_aba_race() {
        let mut tail = Tail::new(&recovered(&[(1, 1)], 4)).expect("it fits");
        tail.push(Index(6), Term(2));
        assert_eq!(
            drain(&mut tail),
            [Output::Append(Index(5)..Index(7)), Output::Sync(SyncId(1))]
        );
        // Overwritten at the same indexes while the sync of the first is under way.
        tail.truncate(Index(5));
        tail.push(Index(6), Term(3));
        let second = [
            Output::Truncate(Index(5)),
            Output::Append(Index(5)..Index(7)),
            Output::Sync(SyncId(2)),
        ];
        assert_eq!(drain(&mut tail), second);
        tail.synced(SyncId(1));
        assert_eq!(
            tail.durable(),
            Index(4),
            "the old entries' sync says nothing of the new ones"
        );
        tail.synced(SyncId(2));
        assert_eq!(tail.durable(), Index(6));
    }

    #[test]
    fn a_truncation_withdraws_what_was_not_handed_out() {
        let mut tail = Tail::new(&recovered(&[(1, 1)], 4)).expect("it fits");
        tail.push(Index(6), Term(2));
        tail.truncate(Index(5));
        assert_eq!(drain(&mut tail), [], "storage never heard of it");
        tail.push(Index(6), Term(2));
        tail.truncate(Index(4));
        tail.push(Index(4), Term(3));
        let outputs = [
            Output::Truncate(Index(4)),
            Output::Append(Index(4)..Index(5)),
            Output::Sync(SyncId(1)),
        ];
        assert_eq!(drain(&mut tail), outputs);
        assert_eq!(tail.durable(), Index(3));
    }

    #[test]
    fn term_regress_on_restart() {
        let mut tail = Tail::new(&Recovered {
            hard: HardState {
                term: Term(3),
                vote: NodeId(2),
            },
            ..recovered(&[(1, 5)], 4)
        })
        .expect("it fits");
        assert_eq!((tail.hard.term, tail.hard.vote), (Term(5), NodeId::NONE));
        assert!(!tail.term_is_durable());
        assert_eq!(drain(&mut tail), [Output::Save(tail.hard), Output::Sync(SyncId(1))]);
    }

    #[test]
    fn a_disk_that_does_not_answer_gets_a_bounded_number_of_syncs() {
        let mut tail = Tail::new(&recovered(&[], 0)).expect("it fits");
        for last in 1..100 {
            tail.push(Index(last), Term(9));
            drain(&mut tail);
        }
        assert_eq!(tail.syncs.len(), SYNCS_MAX);
        tail.synced(SyncId(1));
        assert_eq!(tail.durable(), Index(1));
        assert_eq!(drain(&mut tail), [Output::Sync(SyncId(SYNCS_MAX as u64 + 1))]);
        tail.synced(SyncId(SYNCS_MAX as u64 + 1));
        assert_eq!(tail.durable(), Index(99));
    }
}
