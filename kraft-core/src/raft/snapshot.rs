//! What takes the place of a log's front (thesis §5): releasing it, sending a snapshot to who needs it, installing one.
//!
//! Raft knows of a snapshot that it is there, whole and durable, and which entry is its last. Bytes, pieces and files are
//! the driver's, which has to do this, in this order:
//!
//! | when | the driver |
//! |---|---|
//! | at the start | restores the state machine from [`Recovered::snapshot`](crate::storage::Recovered), then makes its `Raft` |
//! | it thinks fit | freezes the state with what is applied, writes it, makes it durable, calls [`Raft::snapshot_taken`] |
//! | [`Output::Release`] | gives it to storage; calls [`Raft::released`] with where the log begins from then on, before anything else: what is before that is not asked for any more |
//! | [`Output::SendSnapshot`] | sends the newest snapshot in pieces while [`Raft::sends_snapshot`], and keeps it until then; calls [`Raft::snapshot_ended`] if that comes to nothing, and not if `sends_snapshot` ended it |
//! | a piece comes | gives it to [`Raft::step`]; if that takes it and [`Raft::takes_snapshot`], writes it and answers how far it came |
//! | all pieces came | checks, asks [`Raft::may_install`], makes durable, calls [`Raft::install`]; whoever leads by then |
//! | [`Output::Reset`] | lets storage's log begin anew; loads under way end somehow, and [`Raft::loaded`] is called for them |
//! | [`Output::Restore`] | reads that snapshot, replaces the state; calls [`Raft::applied`]. Until then it takes no snapshot, and the state is good for reads of what it had |
//!
//! A crash between any two of these is mended by the next start: a snapshot that is whole counts, and a log that ends
//! before it, or contradicts it, begins anew behind it.
//!
//! ```text
//!   follower  Probe, Replicate --(the entry before the next one is gone)--> Snapshot --(it matches)--> Replicate
//!                                                                              |
//!                              Probe, paused until a sign of life <--(snapshot_ended, unreachable)
//! ```

use std::collections::VecDeque;

use super::progress::Mode;
use super::{Output, ROOM_RESERVE, Raft, Violation};
use crate::canary::{self, Canary};
use crate::id::{Index, NodeId, Round, SyncId, Term};
use crate::log::Log;
use crate::membership::Configuration;
use crate::message::{AppendReply, AppendResult, Body, Header, NodeState, SnapshotId};
use crate::snapshot::Snapshot;
use crate::time::Instant;

/// How many payload bytes the newest entries have, about: enough to keep so many of them.
#[derive(Debug, Default)]
pub(super) struct Weights {
    /// Payload bytes that were appended since the start.
    total: u64,
    /// Places, ascending, with what `total` was there.
    marks: VecDeque<(Index, u64)>,
}

/// Marks are thinned out at this number.
const MARKS_MAX: usize = 64;

/// The least distance of marks, so that small margins do not make one of each entry.
const MARK_BYTES_MIN: u64 = 4 << 10;

impl Weights {
    /// Entries up to `last` came, with so many bytes.
    pub(super) fn add(&mut self, last: Index, bytes: u64) {
        self.total = self.total.saturating_add(bytes);
        let step = self.total.saturating_sub(self.marks.front().map_or(0, |mark| mark.1)) / (MARKS_MAX as u64 / 2);
        let before = self.marks.back().map_or(0, |mark| mark.1);
        if self.total - before >= step.max(MARK_BYTES_MIN) {
            self.marks.push_back((last, self.total));
        }
        if self.marks.len() > MARKS_MAX {
            let mut at = 0;
            self.marks.retain(|_| {
                at += 1;
                at % 2 == 0
            });
        }
    }

    pub(super) fn truncate(&mut self, from: Index) {
        while self.marks.back().is_some_and(|mark| mark.0 >= from) {
            self.marks.pop_back();
        }
    }

    pub(super) fn clear(&mut self) {
        self.marks.clear();
    }

    /// The last place behind which there are at least so many bytes; zero if none is known.
    fn behind(&mut self, bytes: u64) -> Index {
        let is_behind = |mark: &(Index, u64)| self.total - mark.1 >= bytes;
        while self.marks.get(1).is_some_and(is_behind) {
            self.marks.pop_front();
        }
        self.marks
            .front()
            .filter(|mark| is_behind(mark))
            .map_or(Index::ZERO, |mark| mark.0)
    }
}

/// A snapshot's index is at most this. Entries come one by one, and never get there; a claim might, and the next entry
/// would have no index.
const SNAPSHOT_INDEX_MAX: u64 = 1 << 62;

/// Whether there can be such a snapshot in `term`.
fn check_id(term: Term, id: &SnapshotId) -> Result<(), Violation> {
    if id.index.0 > SNAPSHOT_INDEX_MAX {
        Err(Violation::IndexOverflow)
    } else if id.index.0 == 0 || id.term.0 == 0 || id.term > term {
        Err(Violation::TermOrder)
    } else {
        Ok(())
    }
}

impl Raft {
    /// A snapshot of the own state machine, with everything up to `index` applied, is whole and durable. Once the log is
    /// longer than its margin an [`Output::Release`] follows.
    ///
    /// # Panics
    ///
    /// If that much was never handed out to be applied.
    pub fn snapshot_taken(&mut self, index: Index, now: Instant) {
        self.advance(now);
        assert!(index <= self.applying, "a snapshot of what was not handed out");
        self.snapshot = self.snapshot.max(index);
    }

    /// Storage's log begins behind `base`: the answer to [`Output::Release`], zero or more entries less than that allowed.
    ///
    /// # Panics
    ///
    /// If more is gone than was allowed.
    pub fn released(&mut self, base: Index) {
        assert!(base <= self.released, "the log's front went without leave");
        if base == self.released {
            self.release_again = None;
        }
        if base > self.tail.terms.base() {
            self.tail.release(base);
        }
    }

    /// Whether a received snapshot can be one of this cluster's: to be asked before a restart would find it, since the log
    /// would begin anew behind it, whatever it contradicts.
    #[must_use]
    pub fn may_install(&self, snapshot: &Snapshot) -> bool {
        self.installable(snapshot).is_some()
    }

    /// The configuration of a snapshot that can be one of this cluster's. It was judged when it came; what was committed
    /// since would show that it is not, and that this node leads without what is in it: a leader's log has what is
    /// committed.
    fn installable(&self, snapshot: &Snapshot) -> Option<(Index, Configuration)> {
        let SnapshotId { index, term, .. } = snapshot.id;
        let is_sound = check_id(self.tail.hard.term, &snapshot.id).is_ok();
        if !is_sound || self.contradicts(&snapshot.id, self.commit) {
            return None;
        }
        let lacks_it = index > self.commit && self.tail.terms.at(index) != Some(term);
        if self.state == NodeState::Leader && lacks_it {
            return None;
        }
        self.memberships.of_head(&snapshot.head)
    }

    /// A received snapshot is whole, durable and the newest that is stored, which a restart would find; so it may be
    /// acknowledged. Whoever sent it, and whatever became of that node: what a snapshot holds is committed.
    ///
    /// Returns whether the log begins anew behind it. Then these follow, in this order, others between them:
    /// [`Output::Reset`], before anything is appended behind it; its acknowledgement, as an append's; and, when what was
    /// handed out before is applied, [`Output::Restore`]. Otherwise the node has everything that is in it already, as a
    /// log that it goes on to apply, and it is only kept; so it is on a leader, always.
    pub fn install(&mut self, snapshot: &Snapshot, now: Instant, log: &mut impl Log) -> bool {
        self.advance(now);
        let SnapshotId { index, term, .. } = snapshot.id;
        debug_assert_eq!((index, term), (snapshot.head.index, snapshot.head.term));
        let Some(of) = self.installable(snapshot) else {
            return false;
        };
        let is_planted = canary::is(Canary::OlderSnapshotInstalled);
        let has_it = self.tail.terms.at(index) == Some(term) && !is_planted;
        if index <= self.commit && !is_planted || has_it {
            self.snapshot = self.snapshot.max(index);
            if has_it && self.state != NodeState::Leader {
                self.commit_to(index);
                self.verify(index);
            }
            return false;
        }
        match self.state {
            // Its log has what can be installed.
            NodeState::Leader => return false,
            // What a candidacy claims of the log is so no more.
            NodeState::Candidate | NodeState::PreCandidate => {
                self.become_follower(self.tail.hard.term, NodeId::NONE);
            }
            NodeState::Follower => {}
        }
        self.snapshot = self.snapshot.max(index);
        self.commit = index;
        self.restore = Some(snapshot.id);
        if canary::is(Canary::ConflictKeptBehindSnapshot) && index < self.tail.terms.last() {
            return true;
        }
        self.tail.reset(index, term);
        log.reset(index);
        self.memberships.reset(of);
        self.seat_members();
        (self.released, self.release_asked) = (index, index);
        if let Some(loading) = &mut self.loading {
            loading.is_stale |= index.next() < loading.range.end;
        }
        self.verify(index);
        true
    }

    /// The transfer that [`Output::SendSnapshot`] began came to nothing: it broke, made no progress, the follower has no
    /// room or found it damaged. It is asked for again at the follower's next sign of life; until this is called it is
    /// not, so whoever wants to wait calls it later.
    pub fn snapshot_ended(&mut self, node: NodeId, now: Instant) {
        self.advance(now);
        if let Some(peer) = self.peer(node) {
            self.progress[peer].snapshot_ended();
        }
    }

    /// Whether a piece of a snapshot is wanted: its message was taken by [`step`](Self::step), this node follows its
    /// sender, and lacks what is in it. Otherwise drop the piece, without an answer: where one is due, `step` gave it.
    #[must_use]
    pub fn takes_snapshot(&self, header: &Header, id: &SnapshotId) -> bool {
        self.state == NodeState::Follower
            && header.from == self.leader
            && header.term == self.tail.hard.term
            && (id.index > self.commit || canary::is(Canary::OlderSnapshotInstalled))
            // One restore at a time; the leader asks again.
            && !self.is_restoring()
    }

    /// While this node leads and a follower needs a snapshot: up to where, at least. Otherwise a transfer to it is of no
    /// use any more: end it, without [`snapshot_ended`](Self::snapshot_ended).
    #[must_use]
    pub fn sends_snapshot(&self, node: NodeId) -> Option<Index> {
        let peer = self.peer(node).filter(|_| self.state == NodeState::Leader)?;
        match self.progress[peer].mode {
            Mode::Snapshot { index } => Some(index),
            Mode::Probe { .. } | Mode::Replicate => None,
        }
    }

    /// The place before the log's first entry.
    #[must_use]
    pub fn base(&self) -> Index {
        self.tail.terms.base()
    }

    /// The term of the entry at `index`, `None` outside the log.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.tail.terms.at(index)
    }

    /// What the newest stored snapshot holds, zero if there is none.
    #[must_use]
    pub fn snapshot(&self) -> Index {
        self.snapshot
    }

    /// A piece of a snapshot came. What is in it is not looked at here.
    pub(super) fn step_snapshot(&mut self, header: &Header, id: &SnapshotId) -> Result<(), Violation> {
        check_id(header.term, id)?;
        if !self.is_leaders(header)? {
            return Ok(());
        }
        // Leaders only append: what this one sent before stands.
        let agreed = match header.term == self.tail.hard.term {
            true => self.commit.max(self.verified()),
            false => self.commit,
        };
        if self.contradicts(id, agreed) {
            return Err(Violation::CommittedConflict);
        }
        self.follow(header.from, header.term);
        if id.index <= self.commit {
            // What is committed here is in the leader's log, too: it can go on from there.
            self.verify(self.commit);
        } else if self.tail.terms.at(id.index) == Some(id.term) {
            // What a snapshot holds is committed, and this log has it.
            self.commit_to(id.index);
            self.verify(id.index);
        }
        if canary::is(Canary::SnapshotAckOnSight) {
            let result = AppendResult::Matched(id.index);
            let round = Round(0);
            self.send_ready(
                header.from,
                header.request,
                Body::AppendReply(AppendReply { round, result }),
            );
        }
        Ok(())
    }

    /// Whether a log that is agreed on up to `agreed` can have no such entry.
    fn contradicts(&self, id: &SnapshotId, agreed: Index) -> bool {
        let terms = &self.tail.terms;
        match id.index <= agreed {
            true => terms.at(id.index).is_some_and(|term| term != id.term),
            false => terms.at(agreed).is_some_and(|term| id.term < term),
        }
    }

    /// A follower says how much of a snapshot it has: that is the driver's, here it is a sign of life.
    pub(super) fn step_snapshot_reply(&mut self, peer: usize, header: &Header) -> Result<(), Violation> {
        if self.is_answer(peer, header, Round(0))? {
            self.progress[peer].alive();
        }
        Ok(())
    }

    /// What a follower needs next is gone.
    pub(super) fn send_snapshot(&mut self, peer: usize) -> Option<Output> {
        let is_due = match self.progress[peer].mode {
            Mode::Probe { paused } => !paused,
            Mode::Replicate => true,
            Mode::Snapshot { .. } => false,
        };
        // Without a snapshot a log may begin anywhere, and nobody can help.
        if !is_due || self.snapshot == Index::ZERO || self.snapshot < self.tail.terms.base() {
            return None;
        }
        self.progress[peer].become_snapshot(self.snapshot);
        Some(Output::SendSnapshot {
            to: self.progress[peer].id,
            index: self.snapshot,
        })
    }

    /// Whether the state machine is behind the log's front.
    pub(super) fn is_restoring(&self) -> bool {
        self.applied < self.tail.terms.base()
    }

    pub(super) fn poll_restore(&mut self) -> Option<Output> {
        let id = self.restore.take()?;
        self.applying = id.index;
        if canary::is(Canary::ResetWithoutRestore) {
            self.applied = id.index;
            return None;
        }
        Some(Output::Restore(id))
    }

    /// Lets storage forget what a snapshot holds and nobody needs.
    pub(super) fn poll_release(&mut self) -> Option<Output> {
        let snapshot = match canary::is(Canary::ReleasedBeyondSnapshot) {
            true => self.applied,
            false => self.snapshot,
        };
        if snapshot <= self.released {
            return None;
        }
        let margin = self.config.snapshot_margin_entries;
        let is_short = self.is_short();
        let kept_behind = match is_short {
            true => Index(u64::MAX),
            false => {
                let by_entries = Index(self.tail.terms.last().0.saturating_sub(margin));
                by_entries.max(self.tail.weights.behind(self.config.snapshot_margin_bytes))
            }
        };
        let loading = self
            .loading
            .as_ref()
            .map_or(Index(u64::MAX), |loading| loading.range.start.prev());
        let through = [
            snapshot,
            self.applied,
            self.tail.durable(),
            kept_behind,
            loading,
            self.held(),
        ];
        let through = through.into_iter().fold(Index(u64::MAX), Index::min);
        // Not entry by entry while the margin moves on.
        let is_step = is_short || through == snapshot || through.0.saturating_sub(self.released.0) > margin / 4;
        if through <= self.released || !is_step {
            return None;
        }
        self.released = through;
        if through > self.release_asked {
            self.release_asked = through;
            self.release_again = Some(self.tail.covering_sync());
        }
        Some(Output::Release(through))
    }

    /// Storage may have kept what it was reading, or what stood before something that was not written: what it kept is
    /// asked for again when that is over.
    pub(super) fn release_again(&mut self) {
        self.released = self.tail.terms.base();
    }

    /// Once for each place: storage gives up whole segments, and may go on to keep the rest of one.
    pub(super) fn release_again_synced(&mut self, sync: SyncId) {
        if self.release_again.is_some_and(|asked| asked <= sync) {
            self.release_again = None;
            self.release_again();
        }
    }

    /// Whether the margins are more than a log can afford that has so little room: what a snapshot holds, a follower
    /// that lags can be sent; where nothing can be appended, there are no writes, and no elections in the end.
    fn is_short(&self) -> bool {
        let config = &self.config;
        let append = ROOM_RESERVE.saturating_add(config.append_bytes_max as u64);
        let enough = config.snapshot_margin_bytes.min(config.snapshot_hold_room_min);
        self.tail.room() < enough.max(append)
    }

    /// Up to where followers that live have the log. Who is sent a snapshot will need what comes behind it: else a log
    /// that moves on faster than snapshots arrive would have it sent one after the other (`snapshot_vs_compaction_race`).
    fn held(&self) -> Index {
        let everything = Index(u64::MAX);
        let has_room = self.tail.room() > self.config.snapshot_hold_room_min && !self.is_short();
        if self.state != NodeState::Leader || !has_room {
            return everything;
        }
        let timeout = self.config.election_timeout.end;
        let lives = |heard: Option<Instant>| heard.is_some_and(|heard| self.now < heard + timeout);
        let needs = self
            .progress
            .iter()
            .filter(|progress| lives(progress.heard))
            .map(|progress| match progress.mode {
                Mode::Snapshot { index } => index,
                // Where a fresh leader still looks for the place, it may need anything.
                Mode::Probe { .. } if progress.matched == Index::ZERO => everything,
                Mode::Probe { .. } | Mode::Replicate => progress.matched,
            });
        needs.fold(everything, Index::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_find_the_place_behind_which_so_much_is() {
        let mut weights = Weights::default();
        for index in 1..=1000 {
            weights.add(Index(index), MARK_BYTES_MIN);
        }
        for kept in [900, 500, 100, 10] {
            let bytes = kept * MARK_BYTES_MIN;
            let place = weights.behind(bytes).0;
            // A place that is marked: not behind the true one, and not far before.
            assert!((900 - kept..=1000 - kept).contains(&place), "{kept}: {place}");
        }
        assert_eq!(weights.behind(1001 * MARK_BYTES_MIN), Index::ZERO);
    }

    #[test]
    fn weights_are_bounded_whether_or_not_anybody_asks() {
        let mut weights = Weights::default();
        for index in 1..100_000 {
            weights.add(Index(index), 1 << 20);
            assert!(weights.marks.len() <= MARKS_MAX);
        }
        weights.truncate(Index(50_000));
        assert!(weights.marks.back().is_some_and(|mark| mark.0 < Index(50_000)));
        weights.clear();
        assert_eq!(weights.behind(0), Index::ZERO);
    }
    #[test]
    fn every_other_one_of_too_many_weights_goes_the_oldest_first() {
        let mut weights = Weights::default();
        let marked = |weights: &Weights| weights.marks.iter().map(|mark| mark.0.0).collect::<Vec<_>>();
        // Each is more than a thirty-second of all before it, so that each is marked.
        for index in 1..=MARKS_MAX as u64 {
            weights.add(Index(index), index * index * MARK_BYTES_MIN);
        }
        assert_eq!(marked(&weights), (1..=MARKS_MAX as u64).collect::<Vec<_>>());
        weights.add(Index(MARKS_MAX as u64 + 1), 65 * 65 * MARK_BYTES_MIN);
        assert_eq!(marked(&weights), (2..=MARKS_MAX as u64).step_by(2).collect::<Vec<_>>());
    }

    #[test]
    fn weights_stand_a_thirty_second_apart_of_what_is_asked_for() {
        let mut weights = Weights::default();
        let asked = 32_000 * MARK_BYTES_MIN;
        for index in 1..100_000 {
            weights.add(Index(index), MARK_BYTES_MIN);
            let place = weights.behind(asked);
            if place > Index::ZERO {
                let behind = (index - place.0) * MARK_BYTES_MIN;
                assert!((asked..asked + asked / 16).contains(&behind), "{index}: {behind}");
            }
        }
        assert!((31..=34).contains(&weights.marks.len()), "{}", weights.marks.len());
    }
}
