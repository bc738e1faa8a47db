//! What answers, losses and deadlines make of calls.

use bytes::Bytes;

use super::call::{Call, CallId, Delivery, Kind, Outcome, Place, Refused};
use super::engine::{Client, Timer};
use super::fetch::NoPiece;
use super::output::{End, Output};
use super::session::Session;
use super::status::NodeReport;
use crate::canary::{self, Canary};
use crate::message::{self, Body, Message, Refusal};

/// Answers `Unknown` to attempts of one call before that is its outcome. A node loses what it knows with its
/// leadership; the next leader usually knows, but a reply above the session's limit is known to nobody.
const UNKNOWNS_MAX: u32 = 3;

impl Client {
    /// A message came from an established connection. One whose request is not in flight there is late: its call
    /// ended, or went elsewhere.
    pub(super) fn answered(&mut self, site: usize, message: &Message<'_>) {
        let Some(&id) = self.sites[site].in_flight.get(&message.header.request) else {
            return;
        };
        self.recall(id);
        if matches!(self.calls[&id].kind, Kind::Fetch { .. }) {
            return self.fetched(id, site, message);
        }
        let is_status = matches!(self.calls[&id].kind, Kind::Status { .. });
        match &message.body {
            Body::StatusReply(reply) if is_status => {
                self.report(id, Ok(Box::new(NodeReport::new(&message.header, reply))));
            }
            Body::Reply(message::Outcome::Refused(refused)) if is_status => {
                self.report(id, Err(Refused::of(refused).to_string()));
            }
            Body::Reply(message::Outcome::Committed(reply)) if !is_status => self.committed(id, site, reply),
            Body::Reply(message::Outcome::Refused(refused)) if !is_status => {
                self.refused(id, site, Refused::of(refused));
            }
            Body::Reply(message::Outcome::Unknown) if !is_status => self.unknown(id),
            // Less than was asked for is no answer.
            Body::Reply(message::Outcome::Weaker { basis, answer }) if self.calls[&id].kind.takes(*basis) => {
                self.steps = 0;
                let (basis, answer) = (*basis, Bytes::copy_from_slice(answer));
                self.finish(id, Outcome::Weaker { basis, answer });
            }
            _ => {
                self.attempt_lost(id, "answered something else than was asked");
                self.lose(site, "answered something else than was asked".into(), true);
            }
        }
    }

    fn committed(&mut self, id: CallId, site: usize, reply: &[u8]) {
        self.steps = 0;
        if !matches!(self.calls[&id].kind, Kind::OpenSession) {
            self.finish(id, Outcome::Committed(Bytes::copy_from_slice(reply)));
        } else if self.opened(reply) {
            self.remove(id);
        } else {
            self.retries.push_back(id);
            self.lose(site, "answered with a session that cannot be read".into(), true);
        }
    }

    fn refused(&mut self, id: CallId, site: usize, refused: Refused) {
        match refused.why {
            Refusal::NotLeader | Refusal::Stopping | Refusal::TooStale => {
                self.redirect(site, &refused);
                self.again(id, refused);
            }
            // The leader was asked for another transfer, by somebody else.
            Refusal::Transferring if matches!(self.calls[&id].kind, Kind::Transfer { to } if !to.is_some()) => {
                self.refuse(id, refused);
            }
            // What it meets may be its own attempt that went without an answer, in the hands of a new leader.
            Refusal::ChangeUnderWay if self.calls[&id].is_uncertain => {
                self.hold();
                self.again(id, refused);
            }
            Refusal::Overloaded | Refusal::Transferring => {
                self.hold();
                self.again(id, refused);
            }
            Refusal::SessionExpired => self.session_expired(id, refused),
            _ => self.refuse(id, refused),
        }
    }

    /// The session is gone from the cluster's table. A command that was never in doubt did not happen and goes under
    /// the next session; one that was in doubt may have happened under this one, and nobody can tell any more.
    fn session_expired(&mut self, id: CallId, refused: Refused) {
        let call = self.calls.get_mut(&id).expect("an answered call is in the table");
        let ticket = call.ticket.take();
        let is_uncertain = call.is_uncertain;
        if let (Session::Open(open), Some((session, _))) = (&self.session, ticket)
            && open.id == session
        {
            self.session = Session::Closed;
        }
        match (ticket, is_uncertain) {
            (None, _) | (_, true) => self.refuse(id, refused),
            (Some(_), false) => self.again(id, refused),
        }
    }

    fn unknown(&mut self, id: CallId) {
        let call = self.calls.get_mut(&id).expect("an answered call is in the table");
        call.unknowns += 1;
        if call.unknowns < UNKNOWNS_MAX || matches!(call.kind, Kind::OpenSession) {
            self.attempt_lost(id, "unknown");
        } else {
            self.finish(id, Outcome::Unknown);
        }
    }

    /// To be tried again after a refusal that is not final.
    fn again(&mut self, id: CallId, refused: Refused) {
        let call = self.calls.get_mut(&id).expect("an answered call is in the table");
        call.refused = Some(refused);
        self.retries.push_back(id);
    }

    /// An attempt has no answer and will have none. `why` is for who asked for a status.
    pub(super) fn attempt_lost(&mut self, id: CallId, why: &str) {
        self.recall(id);
        let call = self.calls.get_mut(&id).expect("a lost attempt is of a call");
        match call.kind {
            Kind::Command {
                delivery: Delivery::AtMostOnce,
                ..
            } if canary::is(Canary::UnknownRefused) => {
                let refused = self.no_leader();
                self.finish(id, Outcome::Refused(refused));
            }
            Kind::Status { .. } | Kind::Fetch { .. } => self.fail(id, why.to_owned()),
            _ if !call.kind.is_repeatable() => self.finish(id, Outcome::Unknown),
            _ => {
                call.is_uncertain = true;
                self.retries.push_back(id);
            }
        }
    }

    pub(super) fn attempt_expired(&mut self, id: CallId) {
        let Some(Place::Sent { site, at, .. }) = self.calls.get(&id).map(|call| call.place) else {
            return;
        };
        let waited = format!("no answer within {:?}", self.config.attempt_timeout);
        if self.sites[site].heard <= at {
            self.lose(site, waited, true);
        } else {
            self.attempt_lost(id, &waited);
        }
    }

    pub(super) fn call_expired(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let (place, is_uncertain) = (call.place, call.is_uncertain);
        let is_sent = matches!(place, Place::Sent { .. });
        match &call.kind {
            Kind::Status { site } | Kind::Fetch { site, .. } => {
                let address = &self.sites[*site].address;
                let why = format!("{address} did not answer in time");
                self.fail(id, why);
            }
            Kind::OpenSession => {
                self.remove(id);
                self.session = Session::Closed;
                self.unpark();
            }
            Kind::Command { .. } | Kind::Read { .. } | Kind::Transfer { .. } | Kind::Change { .. }
                if is_sent || is_uncertain =>
            {
                self.finish(id, Outcome::Unknown);
            }
            Kind::Command { .. } | Kind::Read { .. } | Kind::Transfer { .. } | Kind::Change { .. } => {
                let refused = match &call.refused {
                    Some(refused) if refused.why != Refusal::NotLeader => refused.clone(),
                    _ => self.no_leader(),
                };
                self.finish(id, Outcome::Refused(refused));
            }
        }
        // A node that said nothing all the while is not asked again on this connection.
        if let Place::Sent { site, at, .. } = place
            && self.sites[site].heard <= at
            && self.sites[site].is_ready()
        {
            self.lose(site, "no answer in time".into(), true);
        }
    }

    /// A final refusal, of this attempt. The call's outcome is the worst over all attempts.
    pub(super) fn refuse(&mut self, id: CallId, refused: Refused) {
        let call = &self.calls[&id];
        match call.kind {
            Kind::Command { .. } | Kind::Transfer { .. } | Kind::Change { .. } if call.is_uncertain => {
                self.finish(id, Outcome::Unknown)
            }
            Kind::Command { .. } | Kind::Read { .. } | Kind::Transfer { .. } | Kind::Change { .. } => {
                self.finish(id, Outcome::Refused(refused))
            }
            Kind::Status { .. } => self.report(id, Err(refused.to_string())),
            Kind::Fetch { .. } => self.piece(id, Err(NoPiece::Refused(refused))),
            Kind::OpenSession => {
                self.remove(id);
                self.session = Session::Closed;
                while let Some(parked) = self.parked.pop_front() {
                    if self.calls.contains_key(&parked) {
                        self.finish(parked, Outcome::Refused(refused.clone()));
                    }
                }
            }
        }
    }

    /// Takes a call back from the site that it was sent to.
    pub(super) fn recall(&mut self, id: CallId) {
        let call = self.calls.get_mut(&id).expect("a recalled call is in the table");
        if let Place::Sent { site, request, at } = call.place {
            call.place = Place::Waiting;
            self.in_flight -= 1;
            self.in_flight_bytes -= call.kind.payload_bytes();
            self.sites[site].in_flight.remove(&request);
            self.timers
                .remove(&(at + self.config.attempt_timeout, Timer::Attempt(id)));
        }
    }

    pub(super) fn remove(&mut self, id: CallId) -> Call {
        self.recall(id);
        let call = self.calls.remove(&id).expect("a call ends once");
        self.timers.remove(&(call.deadline, Timer::Call(id)));
        if let (Session::Open(open), Some((session, sequence))) = (&mut self.session, call.ticket)
            && open.id == session
        {
            open.settle(sequence);
        }
        call
    }

    fn finish(&mut self, id: CallId, outcome: Outcome) {
        self.remove(id);
        let end = End::Outcome(outcome);
        self.outputs.push_back(Output::Done { call: id, end });
    }

    pub(super) fn report(&mut self, id: CallId, report: Result<Box<NodeReport>, String>) {
        self.remove(id);
        let end = End::Report(report);
        self.outputs.push_back(Output::Done { call: id, end });
    }
}
