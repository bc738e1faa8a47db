//! What happens on a network, each at its time.

use std::time::Duration;

use kraft_core::adapter::CloseReason;
use kraft_core::time::Instant;

use super::HostId;
use super::state::{Route, State};
use super::wire::{Side, WireId};

/// A lost request to connect is sent again after this, doubled at each loss (RFC 6298 §2).
const DIAL_RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    pub(super) at: Instant,
    /// Of events at one moment the one that was planned first happens first.
    pub(super) order: u64,
    pub(super) event: Event,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A request to connect reaches the host that it names.
    Dial { wire: WireId, attempt: u32 },
    /// The answer reaches the dialler.
    Connected { wire: WireId },
    /// The refusal reaches the dialler.
    Refused { wire: WireId, unroutable: bool },
    /// The dialler gives up.
    DialTimeout { wire: WireId },
    /// What `side` sent reaches the other one.
    Arrive { wire: WireId, side: Side },
    /// Whether the acknowledgement of what `side` sent got back to it.
    Acknowledge { wire: WireId, side: Side, since: Instant },
    /// `side` learns that there is room again.
    Room { wire: WireId, side: Side },
    /// A reset reaches `side`.
    Reset { wire: WireId, side: Side },
    /// A torn connection ends.
    Torn { wire: WireId },
}

impl State {
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Dial { wire, attempt } => self.dialled(wire, attempt),
            Event::Connected { wire } => {
                if let Some(state) = self.wire_mut(wire) {
                    state.connected = true;
                    self.ready(wire, Side::Dialler);
                }
            }
            Event::Refused { wire, unroutable } => {
                let reason = match unroutable {
                    true => CloseReason::Unreachable,
                    false => CloseReason::Refused,
                };
                self.break_end(wire, Side::Dialler, reason);
            }
            Event::DialTimeout { wire } => {
                if self.wire(wire).is_some_and(|wire| !wire.connected) {
                    self.break_end(wire, Side::Dialler, CloseReason::TimedOut);
                }
            }
            Event::Arrive { wire, side } => self.arrived(wire, side),
            Event::Acknowledge { wire, side, since } => self.acknowledge(wire, side, since),
            Event::Room { wire, side } => self.ready(wire, side),
            Event::Torn { wire } => {
                self.break_end(wire, Side::Dialler, CloseReason::Reset);
                self.break_end(wire, Side::Acceptor, CloseReason::Reset);
            }
            Event::Reset { wire, side } => {
                let cut = (self.wire(wire)).is_none_or(|state| {
                    let (from, to) = (state.end(side.other()).host, state.end(side).host);
                    self.is_cut(from, to)
                });
                // Nobody sends a reset again. It is answered anew when something arrives where nobody is.
                if !cut {
                    self.break_end(wire, side, CloseReason::Reset);
                }
            }
        }
    }

    fn dialled(&mut self, id: WireId, attempt: u32) {
        let Some(wire) = self.wire(id) else { return };
        if wire.connected || wire.end(Side::Dialler).broken.is_some() {
            return;
        }
        let (from, to) = (wire.end(Side::Dialler).host, wire.to.clone());
        let (host, listener) = match self.route(from, &to) {
            Route::Listener(host, at) => (Some(host), Some(at)),
            Route::Nobody(host) => (host, None),
            Route::Unroutable => return self.refused(id, None, true),
            Route::Hand => {
                self.dialled.push_back(id);
                return;
            }
        };
        let clogged = (self.paths.clogged_until(from, host)).max(self.paths.clogged_until(host, from));
        if clogged > self.now {
            return self.plan(clogged, Event::Dial { wire: id, attempt });
        }
        let again = self.now + DIAL_RETRY.saturating_mul(1 << attempt.min(16));
        let again = (
            again,
            Event::Dial {
                wire: id,
                attempt: attempt.saturating_add(1),
            },
        );
        // The answer must get back too.
        if self.is_cut(from, host) || self.is_cut(host, from) || self.is_lost(from, host) {
            return self.plan(again.0, again.1);
        }
        let (Some(host), Some(at)) = (host, listener) else {
            return self.refused(id, host, false);
        };
        let backlog = self.listeners.get_mut(&(host, at)).expect("the route leads to it");
        if backlog.waiting.len() >= backlog.max {
            return self.plan(again.0, again.1);
        }
        backlog.waiting.push_back(id);
        self.host_mut(host).to_accept += 1;
        let answered = self.now + self.latency(Some(host), from);
        let wire = self.wire_mut(id).expect("it was here a moment ago");
        let end = wire.end_mut(Side::Acceptor);
        end.host = Some(host);
        end.gone = false;
        wire.pipe_mut(Side::Acceptor).not_before = answered;
        self.plan(answered, Event::Connected { wire: id });
    }

    fn refused(&mut self, wire: WireId, by: Option<HostId>, unroutable: bool) {
        let from = self.wire(wire).and_then(|wire| wire.end(Side::Dialler).host);
        let at = self.now + self.latency(by, from);
        self.plan(at, Event::Refused { wire, unroutable });
    }

    fn arrived(&mut self, id: WireId, side: Side) {
        let now = self.now;
        let Some(wire) = self.wire(id) else { return };
        let (from, to) = (wire.end(side).host, wire.end(side.other()).host);
        let Some(first) = wire.pipe(side).flights.front() else {
            return;
        };
        if first.arrives > now {
            return;
        }
        let clogged = self.paths.clogged_until(from, to);
        if clogged > now {
            let wire = self.wire_mut(id).expect("it was here a moment ago");
            wire.pipe_mut(side).hold(clogged);
            return self.plan(clogged, Event::Arrive { wire: id, side });
        }
        if self.is_cut(from, to) || self.is_lost(from, to) {
            return self.lost(id, side);
        }
        let nobody = self.wire(id).is_some_and(|wire| wire.end(side.other()).gone);
        let cut_back = self.is_cut(to, from);
        let retransmit = self.paths.conditions(from, to).retransmit;
        let wire = self.wire_mut(id).expect("it was here a moment ago");
        let pipe = wire.pipe_mut(side);
        if nobody {
            let bytes = pipe.flights.iter().any(|flight| flight.bytes > 0);
            pipe.drop_flights();
            if bytes {
                self.send_reset(id, side);
            }
            return;
        }
        pipe.land(now);
        let held_up = cut_back && !pipe.unacknowledged;
        pipe.unacknowledged |= held_up;
        if side == Side::Acceptor && !wire.connected {
            // Only who was accepted gets data: the answer itself need not have come.
            wire.connected = true;
        }
        if held_up {
            let event = Event::Acknowledge {
                wire: id,
                side,
                since: now,
            };
            self.plan(now + retransmit, event);
        }
        self.ready(id, side.other());
    }

    /// The first flight did not get across.
    fn lost(&mut self, id: WireId, side: Side) {
        let now = self.now;
        let Some(wire) = self.wire(id) else { return };
        let conditions = (self.paths).conditions(wire.end(side).host, wire.end(side.other()).host);
        let wire = self.wire_mut(id).expect("it was here a moment ago");
        let sender_is_gone = wire.end(side).gone;
        let pipe = wire.pipe_mut(side);
        let since = *pipe.stalled_since.get_or_insert(now);
        if now - since >= conditions.give_up {
            pipe.drop_flights();
            if !sender_is_gone {
                self.break_end(id, side, CloseReason::TimedOut);
            }
            return;
        }
        let until = now + pipe.back_off(conditions.retransmit, conditions.retransmit_max);
        pipe.hold(until);
        self.plan(until, Event::Arrive { wire: id, side });
    }

    fn acknowledge(&mut self, id: WireId, side: Side, since: Instant) {
        let Some(wire) = self.wire(id) else { return };
        let (from, to) = (wire.end(side).host, wire.end(side.other()).host);
        let conditions = self.paths.conditions(from, to);
        if !self.is_cut(to, from) {
            let wire = self.wire_mut(id).expect("it was here a moment ago");
            wire.pipe_mut(side).unacknowledged = false;
        } else if self.now - since >= conditions.give_up {
            self.break_end(id, side, CloseReason::TimedOut);
        } else {
            let at = self.now + conditions.retransmit_max.min(conditions.give_up);
            self.plan(at, Event::Acknowledge { wire: id, side, since });
        }
    }
}
