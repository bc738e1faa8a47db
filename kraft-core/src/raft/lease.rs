//! Leases: a leader to whom a majority has promised its votes for a while answers reads alone (thesis §6.4.1).
//!
//! A follower promises in its answer to a heartbeat that for its least election timeout, from when it *received* the
//! heartbeat, it votes for nobody, itself among them. The leader counts from when it *sent* the heartbeat, which was
//! before, and less the bound for what two clocks come apart. Promises outlive the follower's term, role and leader, and
//! a restart; only a vote that the leader itself asked for (`by_transfer`) is given all the same, so that a leader drops
//! its lease before it hands its leadership over.
//!
//! A time that was read before the process was stopped is too early by as long as it was stopped. So a promise counts
//! from a time that was read after the heartbeat was taken ([`Raft::clock`]), and a leader's lease is looked at with a
//! time that was read after the state was ([`Raft::leased`]).

use std::collections::VecDeque;
use std::time::Duration;

use super::Raft;
use crate::canary::{self, Canary};
use crate::id::{Index, Round, Term};
use crate::message::HeartbeatReply;
use crate::time::Instant;

/// What a leader was promised, and what this node has promised.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// Rounds of this term of office, oldest in front, and when each began: before all its messages.
    rounds: VecDeque<(Round, Instant)>,
    /// No more leases in this term of office.
    is_dropped: bool,
    /// This node votes for nobody before.
    promised_until: Instant,
    /// A promise was made since a clock was read.
    is_open: bool,
}

impl Lease {
    pub(super) fn begin_office(&mut self) {
        self.rounds.clear();
        self.is_dropped = false;
    }
}

impl Raft {
    /// A time that was read after everything was taken that this node has taken so far. Called once a turn, after the
    /// last input and before the next, if leases are configured: until then what was promised in the turn has no end.
    pub fn clock(&mut self, now: Instant) {
        self.advance(now);
        if std::mem::take(&mut self.lease.is_open) {
            self.promise_from_now();
        }
    }

    /// The term that this node leads, and from which index on it may answer reads of its state without asking anybody,
    /// at `now`. Ask before a read; then ask again, with a time that was read after the state was: if the term is
    /// the same, the answer is good.
    #[must_use]
    pub fn leased(&self, now: Instant) -> Option<(Term, Index)> {
        let drift = self.config.lease_drift_max?;
        let leads = self.has_committed_in_term() && !self.lease.is_dropped;
        if !leads && !canary::is(Canary::LeaseKept) {
            return None;
        }
        let drift = match canary::is(Canary::LeaseUnshortened) {
            true => Duration::ZERO,
            false => drift,
        };
        let length = self.promise_span().saturating_sub(drift);
        // By who votes at present: those who promised earlier may be no voters any more.
        let since = self.quorum().reached(|voter| match self.peer(voter) {
            Some(peer) => self.progress[peer].promised_at,
            None => Some(Instant::from_nanos(u64::MAX)),
        });
        let holds = now < since.flatten()? + length;
        holds.then_some((self.tail.hard.term, self.commit))
    }

    /// Ends this leader's lease, for the rest of its term of office: what asks its successor to campaign may arrive
    /// however late. Called before it is sent.
    pub fn drop_lease(&mut self) {
        self.lease.is_dropped = true;
    }

    /// What one promise is worth: whole microseconds, as it is told.
    fn promise_span(&self) -> Duration {
        let micros = self.config.election_timeout.start.as_micros();
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn promise_from_now(&mut self) {
        let until = self.now + self.promise_span();
        self.lease.promised_until = self.lease.promised_until.max(until);
        self.election_deadline = self.election_deadline.max(until);
    }

    /// Promises the leader that was just heard, and says how much.
    pub(super) fn promise(&mut self) -> u64 {
        // A term that a restart would not find is one in which it would not know that it has promised.
        if self.config.lease_drift_max.is_none() || !self.tail.term_is_durable() {
            return 0;
        }
        self.lease.is_open = true;
        self.promise_from_now();
        u64::try_from(self.promise_span().as_micros()).unwrap_or(u64::MAX)
    }

    /// Whether this node's vote is promised to nobody.
    pub(super) fn has_promised(&self) -> bool {
        self.lease.is_open || self.now < self.lease.promised_until
    }

    /// A process does not know what the one before it has promised. In a term that never began it was nothing, and who votes
    /// alone has promised it to nobody. Who knows no members is not alone: its leader may have counted it as a voter before
    /// the entry that says so came to its disk.
    pub(super) fn keep_former_promise(&mut self) {
        let may_have = self.config.lease_drift_max.is_some() && self.tail.hard.term > Term(0);
        let is_alone = self.progress.is_empty() && self.is_sole();
        if may_have && !is_alone && !canary::is(Canary::LeaseForgotten) {
            self.promise_from_now();
        }
    }

    /// Begins a round of confirmation.
    pub(super) fn begin_round(&mut self) {
        self.round = Round(self.round.0 + 1);
        if self.config.lease_drift_max.is_none() {
            return;
        }
        // What began so long ago is worth nothing any more, whoever still answers. And of rounds that begin at the same
        // time the first is as good as all.
        let span = self.promise_span();
        while self
            .lease
            .rounds
            .front()
            .is_some_and(|round| round.1 + span <= self.now)
        {
            self.lease.rounds.pop_front();
        }
        let least = self.config.heartbeat_interval / 4;
        if self.lease.rounds.back().is_none_or(|round| round.1 + least <= self.now) {
            self.lease.rounds.push_back((self.round, self.now));
        }
    }

    /// A follower answered a heartbeat of this term of office.
    pub(super) fn promised(&mut self, peer: usize, reply: &HeartbeatReply) {
        // One that promises less than this leader counts on promises nothing.
        if self.config.lease_drift_max.is_none() || Duration::from_micros(reply.promise_us) < self.promise_span() {
            return;
        }
        let is_before = |round: &&(Round, Instant)| round.0 <= reply.round;
        let Some((_, began)) = self.lease.rounds.iter().rev().find(is_before) else {
            return;
        };
        let since = match canary::is(Canary::LeaseFromReply) {
            true => self.now,
            false => *began,
        };
        let progress = &mut self.progress[peer];
        progress.promised_at = progress.promised_at.max(Some(since));
    }
}
