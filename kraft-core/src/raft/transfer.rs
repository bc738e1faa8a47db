//! Handing leadership over (thesis §3.10).
//!
//! The leader takes no proposals meanwhile. Once everything in its log is applied and on the successor's disk, it tells
//! the successor to campaign at once, and voters do not cling to the leader for that campaign. What it said before, it
//! keeps to: a successor that never answers costs one election timeout without proposals, and nothing else. From the
//! moment that the successor is told, another one may be elected at any time, however lately this leader was heard:
//! nothing may rest on the contrary. Leases do, and are dropped before; other reads have a round of their own.

use super::{Outgoing, Output, ROOM_LOW, Raft, Violation};
use crate::canary::{self, Canary};
use crate::id::{NodeId, RequestId, Term};
use crate::log::Log;
use crate::message::{Body, Header, NodeState, Refusal};
use crate::time::Instant;

/// Leadership that is being handed over; after that, until it is known who got it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handover {
    to: NodeId,
    /// Any successor will do.
    is_free: bool,
    /// The term that is to end by it.
    term: Term,
    deadline: Instant,
    /// When another one is tried, if any will do and none was.
    next_at: Option<Instant>,
    /// The successor was told to campaign.
    is_sent: bool,
}

impl Raft {
    /// Hands leadership over to a voter, or with [`NodeId::NONE`] to the one that has most of the log among those that
    /// were heard lately. Ends in one [`Output::Transferred`], within the longest election timeout; until then
    /// proposals are refused as [`Refusal::Transferring`].
    ///
    /// # Errors
    ///
    /// [`Refusal::NotLeader`]; [`Refusal::Transferring`] if that is under way already; [`Refusal::UnknownMember`] if
    /// `to` is no voter, or there is no other one; [`Refusal::Unreachable`] if it was not heard for an election
    /// timeout. Nothing happened.
    pub fn transfer(&mut self, to: NodeId, now: Instant) -> Result<(), Refusal> {
        self.advance(now);
        if self.state != NodeState::Leader {
            return Err(Refusal::NotLeader);
        }
        if self.handover.is_some() {
            return Err(Refusal::Transferring);
        }
        if to == self.config.id {
            self.ready.push_back(Output::Transferred { to, result: Ok(to) });
            return Ok(());
        }
        let named = to.is_some().then_some(to);
        let timeout = self.config.election_timeout.end;
        self.handover = Some(Handover {
            to: self.successor(named, NodeId::NONE)?,
            is_free: named.is_none(),
            term: self.tail.hard.term,
            deadline: self.now + timeout,
            next_at: named.is_none().then_some(self.now + timeout / 2),
            is_sent: false,
        });
        Ok(())
    }

    /// Whether leadership is being handed over, or was and nobody is known to have it.
    #[must_use]
    pub fn is_transferring(&self) -> bool {
        self.handover.is_some()
    }

    /// Who is to lead next: `named`, or the best but `except`.
    fn successor(&self, named: Option<NodeId>, except: NodeId) -> Result<NodeId, Refusal> {
        let voters = self.progress.iter().filter(|other| self.is_voter(other.id));
        let mut others = voters
            .filter(|other| other.id != except && named.is_none_or(|named| named == other.id))
            .peekable();
        if others.peek().is_none() {
            return Err(Refusal::UnknownMember);
        }
        // A fresh leader has not heard anybody; who is gone is told by its connection soon.
        let heard = |at: Option<Instant>| at.map_or(self.elected_at, |at| at.max(self.elected_at));
        let best = others
            .map(|other| (other.matched, heard(other.heard), other.id))
            .filter(|(_, heard, _)| self.now < *heard + self.config.election_timeout.start)
            .max();
        best.map(|(_, _, id)| id).ok_or(Refusal::Unreachable)
    }

    /// Whether `node` may vote, and lead.
    fn is_voter(&self, node: NodeId) -> bool {
        self.configuration().1.voters().contains(&node)
    }

    /// The successor is told to campaign once it has all that there is, and everything is applied: who waits for an
    /// answer has it from the leader that it asked.
    pub(super) fn poll_timeout_now(&mut self) -> Option<Output> {
        let Handover { to, is_sent, .. } = self.handover?;
        let last = self.tail.terms.last();
        let matched = self.progress[self.peer(to)?].matched;
        let is_up_to_date = matched == last && self.applied == last || canary::is(Canary::TransferToLagging);
        if is_sent || !is_up_to_date {
            return None;
        }
        self.drop_lease();
        self.handover = self.handover.map(|handover| Handover {
            is_sent: true,
            ..handover
        });
        Some(self.send(to, RequestId(0), Outgoing::Other(Body::TimeoutNow)))
    }

    /// This leader is no voter any more, and steps down. The voter that has most of the log campaigns at once, so that nobody
    /// has to miss this one first. It may lack what is not committed: then what it asks for is an election like any other.
    pub(super) fn give_way(&mut self) {
        let is_told = self.handover.is_some_and(|handover| handover.is_sent);
        if let Ok(to) = self.successor(None, NodeId::NONE)
            && !is_told
        {
            self.drop_lease();
            self.send_ready(to, RequestId(0), Body::TimeoutNow);
        }
        self.step_down();
    }

    /// The leader asks this node to campaign. Only the leader of this very term may: a message that is older asked for
    /// the end of a term that has ended, and one of a term that this node did not know cannot be meant for a log that
    /// is complete.
    pub(super) fn step_timeout_now(&mut self, header: &Header, log: &mut impl Log) -> Result<(), Violation> {
        let term = self.tail.hard.term;
        if header.term < term && canary::is(Canary::StaleTimeoutNow) {
            self.become_candidate(true, log);
            return Ok(());
        }
        if !self.is_leaders(header)? {
            return Ok(());
        }
        self.follow(header.from, header.term);
        let is_stalled = self
            .tail
            .stalled_at(self.config.sync_stall_max)
            .is_some_and(|at| at <= self.now);
        // Who could hardly lead leaves it at that: the leader stays.
        let can_lead = self.may_campaign() && !is_stalled && self.tail.room() >= ROOM_LOW;
        if header.term == term && can_lead {
            self.become_candidate(true, log);
        }
        Ok(())
    }

    /// The connection to `node` broke.
    pub(super) fn lose_successor(&mut self, node: NodeId) {
        let Some(handover) = self.handover.filter(|handover| handover.to == node) else {
            return;
        };
        if self.state != NodeState::Leader {
            return;
        }
        let next = match handover.is_free {
            true => self.successor(None, node),
            false => Err(Refusal::Unreachable),
        };
        match next {
            Ok(to) => {
                self.handover = Some(Handover {
                    to,
                    is_sent: false,
                    next_at: None,
                    ..handover
                });
            }
            Err(_) => self.end_transfer(Err(Refusal::Unreachable)),
        }
    }

    /// If leadership was handed over and somebody has it, that ends well or not.
    pub(super) fn conclude_transfer(&mut self) {
        let Some(Handover { to, is_free, term, .. }) = self.handover else {
            return;
        };
        if self.tail.hard.term == term || !self.leader.is_some() {
            return;
        }
        let leader = self.leader;
        self.end_transfer(if leader == self.config.id {
            Err(Refusal::TimedOut)
        } else if leader == to || is_free {
            Ok(leader)
        } else {
            Err(Refusal::NotLeader)
        });
    }

    pub(super) fn end_transfer(&mut self, result: Result<NodeId, Refusal>) {
        if let Some(Handover { to, .. }) = self.handover.take() {
            self.ready.push_back(Output::Transferred { to, result });
        }
    }

    pub(super) fn transfer_deadline(&self) -> Option<Instant> {
        let handover = self.handover.filter(|_| !canary::is(Canary::TransferNeverEnds));
        handover.map(|handover| handover.next_at.unwrap_or(handover.deadline))
    }

    pub(super) fn tick_transfer(&mut self) {
        if self.transfer_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.try_next_successor();
        }
        if self.transfer_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.end_transfer(Err(Refusal::TimedOut));
        }
    }

    /// A successor that cannot lead says nothing (it recovers, its disk stalls or is full): half of the time is for another
    /// one. If both campaign in the end, theirs is an election like any other.
    fn try_next_successor(&mut self) {
        let Some(handover) = self.handover.filter(|handover| handover.next_at.is_some()) else {
            return;
        };
        let next = match self.state {
            NodeState::Leader => self.successor(None, handover.to).ok(),
            _ => None,
        };
        self.handover = Some(Handover {
            to: next.unwrap_or(handover.to),
            is_sent: handover.is_sent && next.is_none(),
            next_at: None,
            ..handover
        });
    }
}
