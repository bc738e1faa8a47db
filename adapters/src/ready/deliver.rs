//! The events of a turn.

use std::io::ErrorKind;

use kraft_core::adapter::{CloseReason, Event};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::time::Instant;

use super::conn::{Phase, Reading};
use super::turn::Turn;
use super::{Interest, LISTENER, Selector};
use crate::sock;

impl<S: Selector> Turn<S> {
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

    fn read<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let mut count = 0;
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
            conn.listed.ready = false;
        }
        for _ in 0..self.config.reads_per_turn {
            let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
                return count;
            };
            let reading = conn.reading();
            if !conn.readable || reading == Reading::No {
                self.watch(id);
                return count;
            }
            self.stats.syscalls += 1;
            match conn.stream.read(&mut self.scratch) {
                Ok(0) => return count + self.end(id, on_event),
                Ok(bytes) => {
                    self.stats.bytes_in += bytes as u64;
                    // epoll(7): a short read says that there is no more, as EAGAIN does, and a change will be told;
                    // unless FIN came with the bytes, since that is the change that was told already.
                    conn.readable = bytes == self.scratch.len() || conn.fin_seen;
                    if reading == Reading::Deliver {
                        let lent = conn.link.outbox().lend(&mut self.spare);
                        let event = Event::Received {
                            conn: id,
                            bytes: &self.scratch[..bytes],
                            link: &mut conn.link,
                        };
                        on_event(self.now, event);
                        count += 1;
                        if self.returned(id) {
                            self.answered(id, lent);
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && conn.fault.is_none() => {
                    conn.readable = false;
                }
                Err(error) => {
                    let reason = conn.fault.unwrap_or_else(|| sock::close_reason(&error));
                    self.retire(id, reason);
                }
            }
        }
        self.list_if_readable(id);
        self.watch(id);
        count
    }

    /// The peer's FIN was read, or the last byte before a fault.
    fn end<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return 0;
        };
        if let Some(reason) = conn.fault {
            self.retire(id, reason);
            return 0;
        }
        let delivers = conn.reading() == Reading::Deliver;
        conn.readable = false;
        conn.ended = true;
        if conn.phase == Phase::Shut {
            self.retire(id, CloseReason::Requested);
            return 0;
        }
        self.watch(id);
        if !delivers {
            return 0;
        }
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return 0;
        };
        on_event(
            self.now,
            Event::Ended {
                conn: id,
                link: &mut conn.link,
            },
        );
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
                self.watch_listener(id, Interest::READ);
            }
        }
    }

    /// Delivers what is due of `Written` and `Drained`.
    fn tell<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let (now, mut count) = (self.now, 0);
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
            conn.listed.news = false;
            conn.link.tell(id, |event| {
                on_event(now, event);
                count += 1;
            });
            self.returned(id);
            // Who resumes in answer to `Drained` and puts nothing has nothing done to his link in the next turn.
            self.watch(id);
        }
        count
    }
}
