//! The events of a turn: what completions bring, and what they left.
//!
//! A closure that ends the adapter that runs it (`callback_destroys_adapter`) cannot be written:
//!
//! ```compile_fail
//! # use kraft_adapters::{Config, Uring};
//! # use kraft_core::adapter::Adapter;
//! let mut adapter = Uring::open(&Config::default())?;
//! adapter.poll(None, |_, _| drop(adapter))?;
//! # Ok::<_, std::io::Error>(())
//! ```

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use kraft_core::adapter::{CloseReason, Event};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::time::Instant;

use super::bufs::Filled;
use super::conn::{Flight, Phase, Reading};
use super::ops::{Completion, Kind};
use super::send;
use super::turn::{LISTENER, Turn};
use crate::scratch::Scratch;
use crate::sock;

/// Completions dealt with in one turn. More wait for the next one, in their order, and so does whoever floods a
/// connection: the buffers that he filled are not given back before (law A18).
const COMPLETIONS_PER_TURN: usize = 1024;

impl Turn {
    /// Delivers what was reaped and what is listed, and what is due by now. Each list is met as long as it is at the
    /// start: who has more to come stands behind the others, in the next turn (law A18).
    pub(super) fn deliver<F: FnMut(Instant, Event<'_>)>(&mut self, on_event: &mut F) -> usize {
        self.take_back();
        self.expire_own();
        let mut count = 0;
        for _ in 0..self.reaped.len().min(COMPLETIONS_PER_TURN) {
            let done = self.reaped.pop_front().expect("only this loop takes out");
            count += self.complete(done, on_event);
        }
        if self.sleeper.take() {
            on_event(self.now, Event::Woken);
            count += 1;
        }
        for _ in 0..self.ready.len() {
            let id = self.ready.pop_front().expect("only this loop takes out");
            count += self.serve(id, on_event);
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
        self.feed_starved();
        count
    }

    fn complete<F: FnMut(Instant, Event<'_>)>(&mut self, done: Completion, on_event: &mut F) -> usize {
        match done.token.kind() {
            Kind::Accept => self.accepted(done, on_event),
            Kind::Receive => self.received(done, on_event),
            Kind::Watch => self.watched(done, on_event),
            Kind::Send => {
                self.sent(done);
                0
            }
            Kind::Wake => {
                self.rung(done);
                0
            }
            // The ring keeps those to itself.
            Kind::Cancel => 0,
        }
    }

    /// A receive has something: bytes, FIN, an error; and perhaps no more after it.
    fn received<F: FnMut(Instant, Event<'_>)>(&mut self, done: Completion, on_event: &mut F) -> usize {
        let len = usize::try_from(done.result).unwrap_or(0);
        let filled = done.buffer().map(|index| self.bufs.claim(index, len));
        let id = done.token.conn();
        let conn = self.conns.get_mut(id.slot(), id.generation());
        let conn = conn.expect("a connection stays until its receive has landed");
        if !done.has_more() {
            conn.receive = Flight::Landed;
        }
        let mut count = 0;
        match (done.error(), filled) {
            (0, Some(filled)) if len > 0 => count = self.lend(id, filled, on_event),
            (error, filled) => {
                if let Some(filled) = filled {
                    self.bufs.give_back(filled);
                }
                match error {
                    0 => count = self.found_fin(id, on_event),
                    libc::ENOBUFS => self.starve(id),
                    // Taken back, by a pause or by a thread that ended: armed anew if it is wanted.
                    libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                    error => self.fail(id, sock::close_reason(&io::Error::from_raw_os_error(error))),
                }
            }
        }
        self.arrange(id);
        self.let_go(id);
        count
    }

    /// Lends a buffer to the user, keeps a copy for one who paused, or drops it. The buffer goes back to the ring.
    fn lend<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, filled: Filled, on_event: &mut F) -> usize {
        let (mut count, mut lent) = (0, false);
        let bytes = self.bufs.bytes(self.lent.insert(filled));
        self.stats.bytes_in += bytes.len() as u64;
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
            conn.fed = true;
            match conn.reading() {
                Reading::Deliver if conn.held.is_empty() => {
                    lent = conn.link.outbox().lend(&mut self.spare);
                    let event = Event::Received {
                        conn: id,
                        bytes,
                        link: &mut conn.link,
                    };
                    on_event(self.now, event);
                    count = 1;
                }
                // Behind those that were held before them.
                Reading::Deliver | Reading::Hold => conn.held.push(bytes),
                Reading::Discard => {}
            }
        }
        self.take_back();
        if count > 0 && self.returned(id) {
            self.answered(id, lent);
        }
        count
    }

    /// Gives what was lent back to the ring.
    fn take_back(&mut self) {
        if let Some(filled) = self.lent.take() {
            self.bufs.give_back(filled);
        }
    }

    fn found_fin<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return 0;
        };
        conn.fin = true;
        if conn.is_leaving() || conn.reading() == Reading::Hold || !conn.held.is_empty() {
            return 0;
        }
        self.end(id, on_event)
    }

    /// The peer's FIN is next.
    fn end<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return 0;
        };
        if let Some(reason) = conn.fault {
            // The system tells an error once, here to a send; a receive behind that finds an end where there is none.
            self.retire(id, reason);
            return 0;
        }
        if conn.ended {
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

    /// There was no buffer for a connection. Who had some since it last asked stands behind all who had none, so that
    /// the ring goes round.
    fn starve(&mut self, id: ConnId) {
        self.stats.buffer_shortages += 1;
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation())
            && conn.wants_receive()
        {
            conn.listed.starved = true;
            self.starved[usize::from(conn.fed)].push_back(id);
        }
    }

    /// Lets those ask again who found no buffer, no more of them than there are buffers: those behind them would find
    /// none.
    fn feed_starved(&mut self) {
        if self.starved.iter().all(VecDeque::is_empty) {
            return;
        }
        self.bufs.grow();
        for _ in 0..self.bufs.circulating() {
            let [hungry, fed] = &mut *self.starved;
            let Some(id) = hungry.pop_front().or_else(|| fed.pop_front()) else {
                return;
            };
            if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
                conn.listed.starved = false;
                self.arrange(id);
            }
        }
    }

    /// A ring send is done, or failed; what is left goes on. One without a copy is done in two steps: the bytes are with
    /// the system, and their memory is free.
    fn sent(&mut self, done: Completion) {
        let id = done.token.conn();
        let conn = self.conns.get_mut(id.slot(), id.generation());
        let is_lent = conn.as_ref().is_some_and(|conn| conn.sending.is_lent());
        if done.is_notice() && !is_lent {
            // It was abandoned.
            return;
        }
        let conn = conn.expect("a connection stays until its send has landed");
        if !done.is_notice() {
            let bytes = usize::try_from(done.result).unwrap_or(0);
            self.stats.bytes_out += bytes as u64;
            conn.sending.taken(bytes);
            conn.link.outbox().settle(conn.sending.unsent());
        }
        let is_over = conn.is_leaving();
        if !done.has_more() {
            conn.sending.take_back();
            // A send that waited for room goes on by the ring until all is sent.
            conn.congested = !conn.sending.is_empty() || (conn.congested && conn.has_unsent());
        }
        if is_over && done.has_more() {
            return self.see_off(id);
        }
        if is_over {
            return self.let_go(id);
        }
        match done.error() {
            0 | libc::ECANCELED | libc::EINTR | libc::EAGAIN => self.send(id),
            error if self.zero_copy_min.is_some() && conn.zero_copy.fails(error) => self.send(id),
            error => self.fail(id, sock::close_reason(&io::Error::from_raw_os_error(error))),
        }
    }

    /// A connect has its outcome, or something is wrong with a connection that is not received from.
    fn watched<F: FnMut(Instant, Event<'_>)>(&mut self, done: Completion, on_event: &mut F) -> usize {
        let id = done.token.conn();
        let conn = self.conns.get_mut(id.slot(), id.generation());
        let conn = conn.expect("a connection stays until its watch has landed");
        conn.watch = Flight::Landed;
        if conn.is_leaving() {
            self.let_go(id);
            return 0;
        }
        if conn.phase == Phase::Connecting {
            return self.connected(id, on_event);
        }
        if done.error() == 0 {
            // A Unix socket whose peer is gone hangs up and is in no error; it would for ever.
            conn.watched = true;
            if let Some(error) = conn.stream.take_error() {
                self.fail(id, sock::close_reason(&error));
            }
        }
        self.arrange(id);
        0
    }

    fn connected<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return 0;
        };
        match conn.stream.connected() {
            Ok(false) => {
                self.watch_connect(id);
                return 0;
            }
            Ok(true) => {}
            Err(error) => {
                self.retire(id, sock::close_reason(&error));
                return 0;
            }
        }
        conn.phase = Phase::Open;
        if let Some(timer) = conn.limit.take() {
            self.timers.stop_own(timer);
        }
        on_event(
            self.now,
            Event::Connected {
                conn: id,
                link: &mut conn.link,
            },
        );
        if self.returned(id) {
            self.arrange(id);
        }
        1
    }

    /// Delivers what needs no completion: bytes that were held, the end behind them, and what a broken connection has
    /// left.
    fn serve<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let mut count = 0;
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
            conn.listed.ready = false;
        }
        for _ in 0..self.config.reads_per_turn {
            let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
                return count;
            };
            if !conn.is_ready() {
                break;
            }
            if !conn.held.is_empty() {
                let bytes = conn.held.next(self.bufs.size());
                let len = bytes.len();
                let event = Event::Received {
                    conn: id,
                    bytes,
                    link: &mut conn.link,
                };
                on_event(self.now, event);
                conn.held.advance(len);
                count += 1;
                self.returned(id);
            } else if conn.fin {
                count += self.end(id, on_event);
                break;
            } else {
                count += self.read_rest(id, on_event);
            }
        }
        self.arrange(id);
        count
    }

    /// Reads what a broken connection has left, by a plain call: a receive of the ring would wait for more.
    fn read_rest<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return 0;
        };
        let Some(reason) = conn.fault else { return 0 };
        let scratch = self.scratch.get_or_insert_with(|| Scratch::new(self.bufs.size()));
        self.stats.syscalls += 1;
        match conn.stream.read(scratch) {
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Ok(0) | Err(_) => {
                self.retire(id, reason);
                0
            }
            Ok(bytes) => {
                self.stats.bytes_in += bytes as u64;
                let event = Event::Received {
                    conn: id,
                    bytes: &scratch[..bytes],
                    link: &mut conn.link,
                };
                on_event(self.now, event);
                self.returned(id);
                1
            }
        }
    }

    /// Connects and closing flushes that took too long, listeners that have rested.
    fn expire_own(&mut self) {
        while let Some(token) = self.timers.expire_own(self.now) {
            if token & LISTENER != 0 {
                self.arm_accept(ListenerId::from_u64(token & !LISTENER));
                continue;
            }
            let id = ConnId::from_u64(token);
            let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
                continue;
            };
            if conn.is_leaving() {
                // It waits for its peer's acknowledgement, and no longer.
                if conn.sending.is_kept() && !send::discard(&conn.stream) {
                    conn.sending.abandon();
                    self.let_go(id);
                }
                continue;
            }
            let fault = conn.fault;
            self.retire(id, fault.unwrap_or(CloseReason::TimedOut));
        }
    }

    /// Delivers what is due of `Written` and `Drained`.
    fn tell<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let (now, mut count) = (self.now, 0);
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
            conn.listed.news = false;
            if conn.is_leaving() {
                return 0;
            }
            conn.link.tell(id, |event| {
                on_event(now, event);
                count += 1;
            });
            self.returned(id);
        }
        count
    }
}
