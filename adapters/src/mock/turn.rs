//! One turn of a mock: acts on links, waits in virtual time, lends events.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kraft_core::adapter::{Adapter, CloseReason, Event};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::CloseMode;
use kraft_core::time::Instant;

use super::wire::Side;
use super::{Conn, Mock};

/// How often a wait without any deadline looks whether somebody is left who could end it. Real time.
const WAIT_FOR_WAKE: Duration = Duration::from_millis(100);

impl Mock {
    pub(super) fn turn<F>(&mut self, deadline: Option<Instant>, mut on_event: F) -> io::Result<usize>
    where
        F: FnMut(Instant, Event<'_>),
    {
        self.check_alive()?;
        self.act();
        self.stats.syscalls += 1;
        loop {
            self.now = {
                let mut state = self.network.state();
                state.settle();
                state.now
            };
            let now = self.now;
            let mut count = 0;
            self.dispatch(&mut |event| {
                count += 1;
                on_event(now, event);
            });
            let is_due = deadline.is_some_and(|deadline| deadline <= now);
            if count > 0 || is_due {
                self.tell_deadline();
                return Ok(count);
            }
            // Without an event no link was in the user's hands, but a peer may have made room.
            self.wait(deadline);
        }
    }

    /// Lets time pass up to the next moment that may bring work, or the deadline.
    fn wait(&mut self, deadline: Option<Instant>) {
        let own = self.deadline();
        let mut state = self.network.state();
        let next = [deadline, own, state.next_event()].into_iter().flatten().min();
        if let Some(next) = next {
            let to = next.max(state.now);
            return state.move_to(to);
        }
        drop(state);
        // The mock and its network have one each; every other is in a waker that somebody may use.
        assert!(
            self.wake.is_pending() || Arc::strong_count(&self.wake) > 2,
            "a poll of the mock on {} would wait for ever: no deadline, no timer, nothing on its way, no waker",
            self.host
        );
        self.wake.wait(WAIT_FOR_WAKE);
    }

    /// The next deadline of the mock itself.
    fn deadline(&mut self) -> Option<Instant> {
        while let Some(&(_, conn)) = self.lingers.front()
            && self.conn_mut(conn).is_none()
        {
            self.lingers.pop_front();
        }
        let linger = self.lingers.front().map(|&(at, _)| at);
        self.timers.next_deadline().into_iter().chain(linger).min()
    }

    pub(super) fn tell_deadline(&mut self) {
        let deadline = self.deadline();
        self.network.state().host_mut(self.host).deadline = deadline;
    }
}

/// What users asked for.
impl Mock {
    /// Acts on the links that were in the user's hands.
    pub(super) fn act(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            self.act_on(id);
        }
        // Keeps its memory (law A22).
        self.touched = touched;
    }

    fn act_on(&mut self, id: ConnId) {
        let linger = self.config.linger;
        let network = self.network.clone();
        let Some(conn) = self.conn_mut(id) else { return };
        conn.touched = false;
        if conn.closed.is_some() {
            return;
        }
        match conn.link.intents().close {
            Some(CloseMode::Now) => {
                conn.link.outbox().clear();
                conn.closed = Some(CloseReason::Requested);
                let (wire, side) = (conn.wire, conn.side);
                let mut state = network.state();
                state.ready(wire, side);
                state.leave(wire, side, false);
                return state.settle();
            }
            Some(CloseMode::Flush) if !conn.lingers => {
                conn.lingers = true;
                let until = network.now() + linger;
                self.lingers.push_back((until, id));
            }
            _ => {}
        }
        self.transmit(id);
        self.queue_if_news(id);
    }

    /// Hands to the wire what there is room for.
    fn transmit(&mut self, id: ConnId) {
        let network = self.network.clone();
        let Some(conn) = self.conn_mut(id) else { return };
        if !conn.begun || conn.closed.is_some() {
            return;
        }
        let mut state = network.state();
        let mut sent = 0;
        loop {
            if conn.segments.is_empty() && conn.link.outbox().take(&mut conn.segments) == 0 {
                break;
            }
            sent += state.send(conn.wire, conn.side, &mut conn.segments);
            conn.link.outbox().settle(conn.segments.len());
            if !conn.segments.is_empty() {
                break;
            }
        }
        let closes = conn.link.intents().close == Some(CloseMode::Flush);
        if closes && conn.link.outbox().is_empty() && !conn.fin_sent {
            conn.fin_sent = true;
            state.end(conn.wire, conn.side);
        }
        state.settle();
        drop(state);
        self.stats.bytes_out += sent as u64;
    }

    /// A connection stands in the queue only if there is something to tell, so that nobody is woken for nothing.
    fn queue_if_news(&mut self, id: ConnId) {
        let network = self.network.clone();
        let Some(conn) = self.conn_mut(id) else { return };
        let mut state = network.state();
        let view = state.view(conn.wire, conn.side);
        let intents = conn.link.intents();
        // Of a connection that closes nobody hears that it ended.
        let arrived = view.readable > 0 || view.fin && !conn.ended && intents.close.is_none();
        let closes = conn.fin_sent && view.fin;
        if conn.link.outbox().has_news() || !intents.paused && arrived || closes {
            state.ready(conn.wire, conn.side);
        }
    }
}

/// What happened.
impl Mock {
    fn dispatch(&mut self, emit: &mut impl FnMut(Event<'_>)) {
        if self.wake.take() {
            emit(Event::Woken);
        }
        while let Some(timer) = self.timers.expire(self.now) {
            emit(Event::Expired { timer });
        }
        self.end_lingers(emit);
        for index in 0..self.listeners.len() {
            let generation = self.listeners[index].generation;
            let slot = u32::try_from(index).expect("listeners are made by u32");
            self.accept_all(ListenerId::new(slot, generation), emit);
        }
        // What becomes ready meanwhile has its turn in the next poll: nobody starves (law A18).
        let ready = self.network.state().host_mut(self.host).ready.len();
        for _ in 0..ready {
            let next = self.network.state().host_mut(self.host).ready.pop_front();
            let Some(id) = next else { break };
            self.serve(id, emit);
        }
    }

    fn end_lingers(&mut self, emit: &mut impl FnMut(Event<'_>)) {
        while let Some(&(at, id)) = self.lingers.front()
            && at <= self.now
        {
            self.lingers.pop_front();
            let is_closed = self.conn_mut(id).is_none_or(|conn| conn.closed.is_some());
            if !is_closed {
                self.close(id, CloseReason::TimedOut, true, emit);
            }
        }
    }

    fn accept_all(&mut self, listener: ListenerId, emit: &mut impl FnMut(Event<'_>)) {
        for _ in 0..self.config.accepts_per_turn {
            let Some(state) = self.listener_mut(listener) else {
                return;
            };
            let is_full = state.active >= state.max_connections;
            let at = state.at.clone();
            let Some(wire) = self.network.state().accept(self.host, &at) else {
                return;
            };
            let config = self.config.clone();
            let make = |_| Conn::new(wire, Side::Acceptor, Some(listener), &config);
            let id = if is_full { None } else { self.insert(make) };
            let Some(id) = id else {
                self.stats.turned_away += 1;
                self.network.state().leave(wire, Side::Acceptor, false);
                continue;
            };
            self.stats.accepted += 1;
            self.listener_mut(listener).expect("it was here a moment ago").active += 1;
            let mut state = self.network.state();
            let Some(held) = state.wire_mut(wire) else { continue };
            let peer = held.from.clone();
            held.end_mut(Side::Acceptor).conn = Some(id);
            // What arrived before it was accepted.
            state.ready(wire, Side::Acceptor);
            drop(state);
            let conn = self.conn_mut(id).expect("it was made a moment ago");
            conn.begun = true;
            emit(Event::Accepted {
                listener,
                conn: id,
                peer,
                link: &mut conn.link,
            });
            self.touch(id);
        }
    }

    fn serve(&mut self, id: ConnId, emit: &mut impl FnMut(Event<'_>)) {
        let network = self.network.clone();
        let Some(conn) = self.conn_mut(id) else { return };
        if let Some(reason) = conn.closed {
            self.release(id);
            return emit(Event::Closed { conn: id, reason });
        }
        let (wire, side) = (conn.wire, conn.side);
        let view = {
            let mut state = network.state();
            if let Some(held) = state.wire_mut(wire) {
                held.end_mut(side).ready = false;
            }
            state.view(wire, side)
        };
        if let Some(reason) = view.broken {
            return self.close(id, reason, true, emit);
        }
        if !view.connected && side == Side::Dialler {
            return;
        }
        if !conn.begun {
            conn.begun = true;
            emit(Event::Connected {
                conn: id,
                link: &mut conn.link,
            });
            self.touch(id);
        }
        self.transmit(id);
        self.report(id, emit);
        self.deliver(id, emit);
        let Some(conn) = self.conn_mut(id) else { return };
        let fin = network.state().view(wire, side).fin;
        if conn.fin_sent && fin {
            return self.close(id, CloseReason::Requested, false, emit);
        }
        self.queue_if_news(id);
    }

    /// `Written` and `Drained`.
    fn report(&mut self, id: ConnId, emit: &mut impl FnMut(Event<'_>)) {
        let Some(conn) = self.conn_mut(id) else { return };
        if !conn.link.outbox().has_news() {
            return;
        }
        while let Some(mark) = conn.link.outbox().pop_written() {
            emit(Event::Written {
                conn: id,
                mark,
                link: &mut conn.link,
            });
        }
        if conn.link.outbox().pop_drained() {
            emit(Event::Drained {
                conn: id,
                link: &mut conn.link,
            });
        }
        self.touch(id);
    }

    /// `Received`, at most once a turn, and `Ended`.
    fn deliver(&mut self, id: ConnId, emit: &mut impl FnMut(Event<'_>)) {
        let network = self.network.clone();
        let max = self.config.read_buffer;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let mut received = 0;
        let mut discarded = 0;
        if let Some(conn) = self.conn_mut(id) {
            match conn.link.intents().close {
                None if conn.link.intents().paused => {}
                None => {
                    let mut state = network.state();
                    received = state.read(conn.wire, conn.side, &mut scratch, max);
                    state.settle();
                }
                // Discarded until the end: a close with unread input would reset the connection (law A9).
                Some(CloseMode::Flush) => discarded = network.state().discard(conn.wire, conn.side),
                Some(CloseMode::Now) => {}
            }
            if received > 0 {
                emit(Event::Received {
                    conn: id,
                    bytes: &scratch,
                    link: &mut conn.link,
                });
            }
            let view = network.state().view(conn.wire, conn.side);
            let heeds = !conn.link.is_closing() && !conn.link.intents().paused;
            let ends = heeds && view.fin && view.readable == 0 && !conn.ended;
            if ends {
                conn.ended = true;
                emit(Event::Ended {
                    conn: id,
                    link: &mut conn.link,
                });
            }
            if received > 0 || ends {
                self.touch(id);
            }
        }
        self.stats.bytes_in += (received + discarded) as u64;
        self.scratch = scratch;
    }

    /// Lets go of a connection and says so.
    fn close(&mut self, id: ConnId, reason: CloseReason, abort: bool, emit: &mut impl FnMut(Event<'_>)) {
        let Some(conn) = self.release(id) else { return };
        self.network.state().leave(conn.wire, conn.side, abort);
        emit(Event::Closed { conn: id, reason });
    }

    fn touch(&mut self, id: ConnId) {
        // The same as a user does who takes the link.
        let _ = self.link(id);
    }
}
