//! A voter that lost its log: when it is as good again as one that never lost anything.
//!
//! Damage takes what a voter had promised: entries that it had acknowledged, and the vote that it gave. Its term is
//! known, or the node does not come back. It begins with nothing durable, in a term above all that it was ever in
//! ([`Config::recovering`](super::Config), [`term_after_damage`]), and
//!
//! - takes and acknowledges entries as any follower does,
//! - grants no vote and no pre-vote, and never campaigns,
//! - until its log has, durably, an entry of the term that it is in.
//!
//! Then it may vote. Let E be an entry that some leader counted an acknowledgement of the lost log for, at whatever time;
//! that acknowledgement was given in a term below the fresh one. The entry of the present term is of a leader who was
//! elected by others: the node voted for nobody since, and before that in no such term. One of those voters
//! has E, or the count of E was no majority, so that leader has E too (thesis §3.6.3, the argument with this node left
//! out of it); and with its entry came everything before that. From there on the node is a follower that lags.
//!
//! Refused alternatives. To ask the leader by ReadIndex, and catch up to where it has committed, would spare the
//! election that the fresh term costs. But within a term the leader still counts what the lost log acknowledged: it may
//! commit, by that, an entry behind the index that it answered, and lose it with the next vote. And a vote that is
//! forgotten could be given twice in its term. Nor is a majority's word enough if the term is not known: a candidate of
//! a later term may still come with the vote that it was given, and find the others that it needs.

use super::{Output, Raft};
use crate::canary::{self, Canary};
use crate::id::{NodeId, Term};
use crate::storage::HardState;

/// How a voter stands to what it had promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promises {
    /// It has them.
    Kept,
    /// They are lost.
    Lost,
    /// They are made good; storage is being told.
    MadeGood,
}

/// Term and vote with which a node begins whose log was damaged: `term` is one that it was never beyond.
#[must_use]
pub fn term_after_damage(term: Term) -> HardState {
    let term = match canary::is(Canary::DamagedTermKept) {
        true => term,
        false => term.next(),
    };
    HardState {
        term,
        vote: NodeId::NONE,
    }
}

impl Raft {
    /// Whether this node lost its log and has not made up for it: it does not vote and does not lead.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.promises != Promises::Kept
    }

    /// Storage remembers no damage any more: the answer to [`Output::Recovered`]. From here on the node votes.
    ///
    /// # Panics
    ///
    /// If that was not handed out.
    pub fn recovered(&mut self) {
        assert_eq!(self.promises, Promises::MadeGood, "recovered before it was");
        self.promises = Promises::Kept;
    }

    /// Whether this node must not give votes, nor ask for any.
    pub(super) fn abstains(&self) -> bool {
        self.is_recovering() && !canary::is(Canary::RecoveringVotes)
    }

    pub(super) fn poll_recovered(&mut self) -> Option<Output> {
        let has_own = || self.tail.terms.at(self.tail.durable()) == Some(self.tail.hard.term);
        if self.promises != Promises::Lost || !self.tail.term_is_durable() || !has_own() {
            return None;
        }
        self.promises = Promises::MadeGood;
        Some(Output::Recovered)
    }
}
