//! The events of a turn.

use kraft_core::adapter::{CloseReason, Event};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::time::Instant;

use super::conn::{Phase, Reading};
use super::turn::{LISTENER, Turn};

impl Turn {
    /// Delivers all that is listed, and what is due by now. Each list is met as long as it is at the start: who has
    /// more to come stands behind the others, in the next turn (law A18).
    pub(super) fn deliver<F: FnMut(Instant, Event<'_>)>(&mut self, on_event: &mut F) -> usize {
        self.expire_own();
        let mut count = 0;
        for _ in 0..self.ready.len() {
            let id = self.ready.pop_front().expect("only this loop takes out");
            count += self.read(id, on_event);
        }
        for _ in 0..self.accepting.len() {
            let id = self.accepting.pop_front().expect("only this loop takes out");
            count += self.accept(id, on_event);
        }
        while let Some(timer) = self.timers.expire(self.now) {
            on_event(self.now, Event::Expired { timer });
            count += 1;
        }
        for _ in 0..self.news.len() {
            let id = self.news.pop_front().expect("only this loop takes out");
            count += self.tell(id, on_event);
        }
        while let Some((conn, reason)) = self.closed.pop_front() {
            self.conns.release(conn.slot());
            on_event(self.now, Event::Closed { conn, reason });
            count += 1;
        }
        count
    }

    /// Delivers what has arrived, as many buffers as a reader has at most, and the end behind it.
    fn read<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let mut count = 0;
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
            conn.listed.ready = false;
            conn.take_back();
        }
        loop {
            let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
                return count;
            };
            if !conn.wants_read() {
                return count;
            }
            let Some(filled) = conn.arrived.pop_front() else {
                return count + self.end_of(id, on_event);
            };
            let delivers = conn.reading() == Reading::Deliver;
            let filled = conn.lent.insert(filled);
            if delivers {
                let event = Event::Received {
                    conn: id,
                    bytes: filled.bytes(),
                    link: &mut conn.link,
                };
                on_event(self.now, event);
                count += 1;
            }
            conn.take_back();
            self.returned(id);
        }
    }

    /// The peer's FIN was read, or the last byte before a fault.
    fn end_of<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return 0;
        };
        if let Some(reason) = conn.fault {
            self.retire(id, reason);
            return 0;
        }
        let delivers = conn.reading() == Reading::Deliver;
        conn.ended = true;
        if conn.phase == Phase::Shut {
            self.retire(id, CloseReason::Requested);
            return 0;
        }
        if !delivers {
            return 0;
        }
        let link = &mut conn.link;
        on_event(self.now, Event::Ended { conn: id, link });
        self.returned(id);
        1
    }

    /// Connects and closing flushes that took too long, listeners that have rested.
    fn expire_own(&mut self) {
        while let Some(token) = self.timers.expire_own(self.now) {
            if token & LISTENER == 0 {
                let id = ConnId::from_u64(token);
                let fault = self.conns.get(id.slot(), id.generation()).and_then(|conn| conn.fault);
                self.retire(id, fault.unwrap_or(CloseReason::TimedOut));
                continue;
            }
            let id = ListenerId::from_u64(token & !LISTENER);
            if let Some(listener) = self.listeners.get_mut(id.slot(), id.generation()) {
                listener.resting = None;
                self.note_listener(id);
            }
        }
    }

    /// Delivers what is due of `Written` and `Drained`.
    fn tell<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let mut count = 0;
        let mut last = None;
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
            conn.listed.news = false;
        }
        while let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
            let Some(mark) = conn.link.outbox().pop_written() else {
                break;
            };
            let link = &mut conn.link;
            on_event(self.now, Event::Written { conn: id, mark, link });
            count += 1;
            // A user who marks the same place in answer has his next `Written` in the next turn.
            if !self.returned(id) || last.replace(mark) == Some(mark) {
                return count;
            }
        }
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation())
            && conn.link.outbox().pop_drained()
        {
            let link = &mut conn.link;
            on_event(self.now, Event::Drained { conn: id, link });
            count += 1;
            self.returned(id);
        }
        count
    }
}
