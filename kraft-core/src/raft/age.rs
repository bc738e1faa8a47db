//! How old what this node knows may be: for reads that are answered from whatever is applied.

use std::time::Duration;

use super::Raft;
use crate::canary::{self, Canary};
use crate::id::Index;
use crate::message::NodeState;
use crate::time::Instant;

/// When this node last knew itself to be up to date.
#[derive(Debug, Default)]
pub(super) struct Known {
    as_of: Option<Instant>,
    /// What a leader said to be committed, and when, while not all of it is applied. It stays until it is, so that
    /// a node that lags a little all the time knows that it is only a little.
    awaited: Option<(Index, Instant)>,
}

impl Known {
    pub(super) fn keep(&mut self, as_of: Option<Instant>) {
        self.as_of = self.as_of.max(as_of);
    }
}

impl Raft {
    /// How long ago, by `now`, this node last knew that it had applied all that its leader knew to be committed;
    /// `None` if it never did. Of a leader: how long ago a majority was heard. What was under way to this node meanwhile
    /// is not in it, nor that a leader which lost its majority leads on for an election timeout.
    #[must_use]
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let as_of = self.known.as_of.max(self.led_as_of())?;
        Some(now - as_of)
    }

    /// Of a leader that knows what is committed and has applied it, when a majority was last heard.
    pub(super) fn led_as_of(&self) -> Option<Instant> {
        let knows = self.has_committed_in_term() && self.applied >= self.term_start;
        let heard = || self.quorum_heard().min(self.now);
        knows.then(heard)
    }

    /// The leader that is followed says that so much is committed.
    pub(super) fn hear_commit(&mut self, commit: Index) {
        self.known.awaited.get_or_insert((commit, self.now));
        self.settle_known();
    }

    pub(super) fn settle_known(&mut self) {
        let is_done = |commit: Index| commit <= self.applied || canary::is(Canary::AgeOfUnapplied);
        let Some((commit, heard)) = self.known.awaited.filter(|(commit, _)| is_done(*commit)) else {
            return;
        };
        self.known.awaited = None;
        // A leader that has committed nothing of its term may not know of all that its predecessors did.
        let is_of_term = self.tail.terms.at(commit) == Some(self.tail.hard.term);
        if is_of_term && self.state != NodeState::Leader {
            self.known.keep(Some(heard));
        }
    }
}
