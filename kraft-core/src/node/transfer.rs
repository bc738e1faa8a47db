//! Leadership handed over: on request, and by a leader that stops.
//!
//! What clients propose meanwhile waits, or is refused, by [`Config::transfer_waits`](super::Config::transfer_waits).
//! What waited is proposed if this node still leads in the end; if not, it is refused with the name of the successor, so
//! that its clients go there and nowhere else.

use super::conns::Conn;
use super::handle::{Completion, Outcome as Owned};
use super::receive::Lent;
use super::requests::{Asked, Origin};
use super::{Host, Notice};
use crate::adapter::Adapter;
use crate::id::{NodeId, RequestId};
use crate::machine::StateMachine;
use crate::message::{Message, Outcome, Refusal, Refused, Transfer};
use crate::protocol::Protocol;
use crate::storage::Storage;
use crate::time::Instant;

/// Why leadership is handed over.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// Who asked for it.
    origin: Option<Origin>,
    /// The node stops when it is over.
    leaves: bool,
}

impl<S: Storage, M: StateMachine> Host<S, M> {
    /// Whether proposals stay in the batch until it is known who leads.
    pub(super) fn holds_proposals(&self) -> bool {
        self.handover.leaves || self.config.transfer_waits && self.raft.is_transferring()
    }

    /// Whether reads wait until it is known who leads.
    pub(super) fn holds_reads(&self) -> bool {
        self.raft.is_transferring() && !self.place.leader.is_some()
    }

    /// Why a command cannot be taken, whatever it is.
    pub(super) fn turned_down(&self) -> Option<Refusal> {
        if self.stopping.is_some() {
            return Some(Refusal::Stopping);
        }
        let is_full = self.requests.batch.bytes() >= self.config.raft.uncommitted_bytes_max;
        match (self.raft.is_transferring(), self.leads()) {
            (true, _) if !self.holds_proposals() || is_full => Some(Refusal::Transferring),
            (false, false) => Some(Refusal::NotLeader),
            _ if self.requests.waiting() >= self.config.requests_max => Some(Refusal::Overloaded),
            _ => None,
        }
    }

    /// A client asks for it.
    pub(super) fn on_transfer<P: Protocol>(
        &mut self,
        lent: &mut Lent<'_, P>,
        conn: &mut Conn,
        message: &Message<'_>,
        to: NodeId,
    ) {
        let asked = Asked::Command;
        match self.start_transfer(to, lent.now) {
            Ok(()) => {
                self.handover.origin = Some(Origin::Client {
                    conn: conn.id,
                    request: message.header.request,
                    asked,
                });
                conn.took(lent.link, &self.conns.limits);
            }
            Err(why) => {
                let detail = self.explain(to, why);
                self.refuse(lent, conn, message, asked, why, &detail);
            }
        }
    }

    /// This process asks for it.
    pub(super) fn take_transfer(&mut self, to: NodeId, completion: Completion<Owned>, now: Instant) {
        match self.start_transfer(to, now) {
            Ok(()) => self.handover.origin = Some(Origin::Local(completion)),
            Err(why) => completion.end(Owned::Refused {
                why,
                leader: self.place.leader,
                detail: self.explain(to, why),
            }),
        }
    }

    fn start_transfer(&mut self, to: NodeId, now: Instant) -> Result<(), Refusal> {
        // The end of one that raft has, and has not told so far, is somebody else's.
        if self.handover.origin.is_some() {
            return Err(Refusal::Transferring);
        }
        if self.stopping.is_some() {
            return Err(Refusal::Stopping);
        }
        self.raft.transfer(to, now)
    }

    /// A stop is asked for. Who leads hands over first, which is faster than that its followers miss it.
    pub(super) fn leave(&mut self, now: Instant) {
        if self.stopping.is_some() || self.handover.leaves {
            return;
        }
        if self.raft.is_transferring() || self.raft.transfer(NodeId::NONE, now).is_ok() {
            self.handover.leaves = true;
        } else {
            self.stopping = Some(now);
        }
    }

    /// The handing over before a stop is over.
    pub(super) fn stop_if_handed_over(&mut self, now: Instant) {
        if self.handover.leaves && !self.raft.is_transferring() {
            self.stopping.get_or_insert(now);
        }
    }

    /// It came about, or not.
    pub(super) fn transferred<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        to: NodeId,
        result: Result<NodeId, Refusal>,
    ) {
        // Whoever is asked to hand over to himself answers that he leads, and has handed nothing over.
        if to != self.config.raft.id {
            (self.observer)(Notice::Transferred { to, result });
        }
        let now = adapter.now();
        if self.handover.leaves {
            let why = if self.leads() {
                Refusal::Stopping
            } else {
                Refusal::NotLeader
            };
            self.refuse_batch(adapter, protocol, why);
        } else {
            self.propose(adapter, protocol, now);
        }
        self.ask_reads(adapter, protocol, now);
        let Some(origin) = self.handover.origin.take() else {
            return;
        };
        let header = self.header(RequestId(0));
        let (reply, detail);
        let outcome = match result {
            Ok(leader) => {
                reply = Transfer::reply(leader);
                Outcome::Committed(&reply)
            }
            Err(why) => {
                detail = self.explain(to, why);
                Outcome::Refused(Refused {
                    why,
                    leader: self.place.leader,
                    detail: &detail,
                })
            }
        };
        self.conns
            .answer(adapter, protocol, header, origin, outcome, &mut self.counters);
    }

    /// For a person.
    fn explain(&self, to: NodeId, why: Refusal) -> String {
        let bound = self.config.raft.election_timeout.end;
        match why {
            Refusal::UnknownMember if !to.is_some() => "there is no other voter".to_owned(),
            Refusal::UnknownMember => format!("node {to} is no voter"),
            Refusal::Unreachable if !to.is_some() => "no other voter is heard".to_owned(),
            Refusal::Unreachable => format!("node {to} is not heard"),
            Refusal::TimedOut => format!("node {to} did not take over within {bound:?}"),
            _ => String::new(),
        }
    }
}
