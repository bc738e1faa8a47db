//! What is committed, and getting it applied.

use std::ops::Range;

use super::{Output, Raft};
use crate::canary::{self, Canary};
use crate::id::Index;
use crate::log::Log;
use crate::message::NodeState;

/// Entries that are on their way back from storage.
#[derive(Clone, Debug)]
pub(super) struct Loading {
    pub(super) range: Range<Index>,
    /// Some of them were overwritten meanwhile. Until it is back, the log must not forget what stands there, or it
    /// would take the old for the new.
    pub(super) is_stale: bool,
}

/// Entries handed out to be applied at a time, so that a long replay does not hold up elections.
const APPLY_ENTRIES_MAX: usize = 1024;

/// Payload bytes handed out to be applied at a time.
const APPLY_BYTES_MAX: usize = 1 << 20;

/// Entries asked for from storage at a time; storage bounds the bytes.
const LOAD_ENTRIES_MAX: u64 = 4096;

impl Raft {
    /// A leader counts who has what.
    pub(super) fn count_matches(&mut self, log: &mut impl Log) {
        let durable = if canary::is(Canary::LeaderCountsUnsynced) {
            self.tail.terms.last()
        } else {
            self.tail.durable()
        };
        let matched = |node| match self.peer(node) {
            Some(peer) => self.progress[peer].matched,
            None => durable,
        };
        let commit = self.quorum().committed_index(matched);
        #[cfg(kraft_canary)]
        let commit = self.miscounted(matched).unwrap_or(commit);
        // Thesis §3.6.2: only entries of the current term commit by counting; those before commit with them.
        let is_own = commit >= self.term_start || canary::is(Canary::OldTermCommitted);
        if commit <= self.commit || !is_own {
            return;
        }
        let own = self.commit.next().max(self.term_start);
        self.uncommitted_bytes = self.uncommitted_bytes.saturating_sub(log.bytes(own..commit.next()));
        self.commit = commit;
        self.seat_committed();
        self.pursue_membership(log);
        if self.state != NodeState::Leader {
            return;
        }
        // The next append brings it. If none goes out soon, a heartbeat does: a tenth of the interval bounds how far
        // idle followers lag, and costs a busy leader nothing.
        if !self.progress.is_empty() {
            let soon = self.now + self.config.heartbeat_interval / 10;
            self.commit_deadline.get_or_insert(soon);
        }
    }

    /// What deliberate bugs count in place of the quorum.
    #[cfg(kraft_canary)]
    fn miscounted(&self, matched: impl Fn(crate::id::NodeId) -> Index) -> Option<Index> {
        let configuration = self.configuration().1;
        let learners = canary::is(Canary::LearnerCounts);
        let own = canary::is(Canary::RemovedLeaderCounts) && !configuration.votes(self.config.id);
        if !learners && !own {
            return None;
        }
        let members = configuration.members().iter();
        let counted = members
            .filter(|member| learners || member.seat.votes())
            .map(|member| member.node);
        let mut counted: Vec<_> = counted.chain(own.then_some(self.config.id)).map(matched).collect();
        counted.sort_unstable_by(|a, b| b.cmp(a));
        counted.get(configuration.voters().len() / 2).copied()
    }

    /// A follower hears that this much of what it has is committed.
    pub(super) fn commit_to(&mut self, commit: Index) {
        self.commit = self.commit.max(commit);
        self.seat_committed();
    }

    pub(super) fn poll_apply(&mut self, log: &impl Log) -> Option<Output> {
        if self.applying > self.applied {
            return None;
        }
        if let Some(restore) = self.poll_restore() {
            return Some(restore);
        }
        if self.applied == self.commit {
            return None;
        }
        let wanted = self.applied.next()..self.commit.next();
        let range = log.fit(wanted.clone(), APPLY_BYTES_MAX, APPLY_ENTRIES_MAX);
        if range.is_empty() {
            return self.load(wanted, log);
        }
        self.applying = range.end.prev();
        Some(Output::Apply(range))
    }

    /// Whether the state machine waits for entries that left memory.
    pub(super) fn wants_apply_load(&self, log: &impl Log) -> bool {
        self.applying == self.applied && self.applied < self.commit && !self.is_restoring() && {
            let next = self.applied.next();
            log.fit(next..next.next(), 0, 1).is_empty()
        }
    }

    /// Asks storage for entries that left memory, as many of `wanted` as are reasonable at a time. One load at a time:
    /// the state machine and followers take turns.
    pub(super) fn load(&mut self, wanted: Range<Index>, log: &impl Log) -> Option<Output> {
        if self.loading.is_some() {
            return None;
        }
        let count_end = Index(wanted.start.0.saturating_add(LOAD_ENTRIES_MAX));
        let end = wanted
            .end
            .min(count_end)
            .min(log.first())
            .min(self.tail.durable().next());
        let range = wanted.start..end;
        if range.is_empty() {
            return None;
        }
        self.load_for_apply = !self.load_for_apply;
        self.loading = Some(Loading {
            range: range.clone(),
            is_stale: false,
        });
        Some(Output::Load(range))
    }

    /// Lets the log forget what is durable and applied.
    pub(super) fn evict(&mut self, log: &mut impl Log) {
        let kept = match &self.loading {
            Some(loading) if loading.is_stale => loading.range.start,
            _ => Index(u64::MAX),
        };
        // A restore may take long; what is committed meanwhile is loaded back when it is to be applied.
        let applied = match self.is_restoring() {
            true => self.commit,
            false => self.applied,
        };
        log.evict(self.tail.durable().min(applied).next().min(kept));
    }

    /// Whether this node's first entry as a leader is committed, so that its commit index is the cluster's.
    pub(super) fn has_committed_in_term(&self) -> bool {
        self.state == NodeState::Leader && self.commit >= self.term_start
    }
}
