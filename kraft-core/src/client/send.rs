//! How calls leave: the queues, the session they need and the bounds they keep.

use super::call::{CallId, Delivery, Kind, Place};
use super::engine::{Client, Timer};
use super::output::{Output, Sending, SendingBody};
use super::session::{Open, Session};
use crate::id::RequestId;
use crate::session as table;

impl Client {
    /// Does one thing that waits; whether there was one.
    pub(super) fn advance(&mut self) -> bool {
        for site in 0..self.sites.len() {
            while let Some(&id) = self.sites[site].asked.front() {
                if !self.calls.contains_key(&id) {
                    self.sites[site].asked.pop_front();
                } else if self.sites[site].is_idle() {
                    self.dial(site);
                    return true;
                } else if self.sites[site].is_ready() && !self.sites[site].is_full {
                    self.sites[site].asked.pop_front();
                    self.transmit(id, site);
                    return true;
                } else {
                    break;
                }
            }
        }
        self.send_next()
    }

    /// Sends the first call that waits, or does what it waits for.
    fn send_next(&mut self) -> bool {
        self.wake_at = None;
        let Some(id) = self.first_waiting() else {
            return false;
        };
        let call = &self.calls[&id];
        let bytes = self.in_flight_bytes + call.kind.payload_bytes();
        let is_over = self.in_flight > 0 && bytes > self.config.in_flight_bytes_max;
        if self.in_flight >= self.config.in_flight_max || is_over {
            return false;
        }
        if self.now < self.hold_until {
            self.wake_at = Some(self.hold_until);
            return false;
        }
        let Some(site) = self.select() else {
            return !self.outputs.is_empty();
        };
        if self.sites[site].is_full {
            return false;
        }
        let call = self.calls.get_mut(&id).expect("first_waiting names a call");
        let is_exactly_once = matches!(
            &call.kind,
            Kind::Command {
                delivery: Delivery::ExactlyOnce,
                ..
            }
        );
        if is_exactly_once && call.ticket.is_none() {
            match &mut self.session {
                Session::Closed => {
                    self.session = Session::Opening;
                    let deadline = self.now + self.config.request_timeout;
                    let open = self.admit(Kind::OpenSession, deadline);
                    self.retries.push_front(open);
                    return true;
                }
                Session::Opening => {
                    self.pop_waiting();
                    self.parked.push_back(id);
                    return true;
                }
                Session::Open(open) => match open.issue() {
                    Some(sequence) => call.ticket = Some((open.id, sequence)),
                    None => return false,
                },
            }
        }
        self.pop_waiting();
        self.transmit(id, site);
        true
    }

    /// The first call that waits; ids of calls that ended meanwhile are dropped.
    fn first_waiting(&mut self) -> Option<CallId> {
        for queue in [&mut self.retries, &mut self.queue] {
            while let Some(&id) = queue.front() {
                if self.calls.contains_key(&id) {
                    return Some(id);
                }
                queue.pop_front();
            }
        }
        None
    }

    fn pop_waiting(&mut self) {
        if self.retries.pop_front().is_none() {
            self.queue.pop_front();
        }
    }

    fn transmit(&mut self, id: CallId, site: usize) {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let call = self.calls.get_mut(&id).expect("a waiting call is in the table");
        call.place = Place::Sent {
            site,
            request,
            at: self.now,
        };
        self.in_flight += 1;
        self.in_flight_bytes += call.kind.payload_bytes();
        if call.kind.is_repeatable() && !call.kind.may_take_long() {
            let at = self.now + self.config.attempt_timeout;
            self.timers.insert((at, Timer::Attempt(id)));
        }
        let body = match &call.kind {
            Kind::Command { command, commit, .. } => {
                let (session, sequence) = call.ticket.unwrap_or_default();
                let first_unanswered = match &self.session {
                    Session::Open(open) if open.id == session => open.first_unanswered(),
                    _ => sequence,
                };
                SendingBody::Command {
                    session,
                    sequence,
                    first_unanswered,
                    command: command.clone(),
                    commit: *commit,
                }
            }
            Kind::Read { query, consistency } => SendingBody::Read {
                query: query.clone(),
                consistency: *consistency,
            },
            Kind::Change { wish } => SendingBody::Change { wish: wish.clone() },
            Kind::Transfer { to } => SendingBody::Transfer { to: *to },
            Kind::Status { .. } => SendingBody::Status,
            Kind::Fetch { fetch, .. } => SendingBody::Fetch(*fetch),
            Kind::OpenSession => SendingBody::OpenSession,
        };
        self.sites[site].in_flight.insert(request, id);
        self.outputs.push_back(Output::Send {
            to: site,
            frame_max: self.sites[site].frame_max(),
            message: Sending { request, body },
        });
    }

    /// The reply to the session's opening.
    pub(super) fn opened(&mut self, reply: &[u8]) -> bool {
        let Some(session) = table::decode_opened(reply) else {
            return false;
        };
        self.session = Session::Open(Open::new(session, self.config.in_flight_max));
        self.unpark();
        true
    }

    /// Calls that waited for the session wait for their turn again.
    pub(super) fn unpark(&mut self) {
        while let Some(id) = self.parked.pop_back() {
            self.queue.push_front(id);
        }
    }
}
