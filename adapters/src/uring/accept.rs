//! Listeners: who is let in.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use kraft_core::adapter::{Endpoint, Event};
use kraft_core::id::{ConnId, ListenerId, TimerId};
use kraft_core::time::Instant;

use super::conn::{Conn, Flight, Phase};
use super::ops::{Completion, Op, Token};
use super::turn::{LISTENER, Turn};
use crate::sock::{Accept, Acceptor, Stream};

/// A listener and its share of the connections.
///
/// Invariant: it stays in its slot until its accept had its last completion, since that may bring a connection.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) acceptor: Acceptor,
    /// Connections that came through it and live: `active <= max`.
    pub(super) active: usize,
    max: usize,
    /// It waits until the system has descriptors again (law A26).
    resting: Option<TimerId>,
    accept: Flight,
    /// The user's id is inert.
    pub(super) is_leaving: bool,
}

impl Listener {
    pub(super) fn new(acceptor: Acceptor, max: usize) -> Self {
        Self {
            acceptor,
            active: 0,
            max,
            resting: None,
            accept: Flight::Landed,
            is_leaving: false,
        }
    }
}

/// The descriptor that an accept brought, if it did.
pub(super) fn descriptor(done: Completion) -> Option<OwnedFd> {
    // SAFETY: the kernel made it for this completion, which is looked at once; nobody else knows it.
    (done.result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(done.result) })
}

impl Turn {
    /// Begins to accept, unless it does already.
    pub(super) fn arm_accept(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(id.slot(), id.generation())
            && listener.accept == Flight::Landed
            && !listener.is_leaving
        {
            listener.resting = None;
            listener.accept = Flight::Armed;
            let op = Op::accept(listener.acceptor.as_raw_fd(), Token::of_listener(id));
            self.ring.push(&op);
        }
    }

    /// Stops listening at once; the slot goes when the accept has landed.
    pub(super) fn unlisten(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id.slot(), id.generation()) else {
            return;
        };
        if listener.is_leaving {
            return;
        }
        listener.is_leaving = true;
        listener.acceptor.stop();
        if let Some(timer) = listener.resting.take() {
            self.timers.stop_own(timer);
        }
        if listener.accept == Flight::Armed {
            listener.accept = Flight::Cancelled;
            self.ring.push(&Op::cancel(Token::of_listener(id)));
        }
        self.let_listener_go(id);
    }

    fn let_listener_go(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get(id.slot(), id.generation())
            && listener.is_leaving
            && listener.accept == Flight::Landed
        {
            self.listeners.retire(id.slot(), id.generation());
            self.listeners.release(id.slot());
        }
    }

    /// An accept has something: a connection, or an error.
    pub(super) fn accepted<F>(&mut self, done: Completion, on_event: &mut F) -> usize
    where
        F: FnMut(Instant, Event<'_>),
    {
        let fd = descriptor(done);
        let id = done.token.listener();
        let listener = self.listeners.get_mut(id.slot(), id.generation());
        let listener = listener.expect("a listener stays until its accept has landed");
        if !done.has_more() {
            listener.accept = Flight::Landed;
        }
        if listener.is_leaving {
            self.let_listener_go(id);
            return 0;
        }
        let count = match fd.map(Stream::accepted) {
            Some(Ok((stream, peer))) => self.admit(id, stream, peer, on_event),
            // Reset before it was accepted.
            Some(Err(_)) => 0,
            None => {
                let error = io::Error::from_raw_os_error(done.error());
                // A thread that ends takes back what it submitted.
                let is_over = done.error() == libc::ECANCELED || matches!(Accept::failed(&error), Accept::Failed);
                if !is_over {
                    self.rest(id);
                    return 0;
                }
                0
            }
        };
        // A multishot accept also ends at a full completion queue.
        self.arm_accept(id);
        count
    }

    fn rest(&mut self, id: ListenerId) {
        let deadline = self.now + self.config.accept_pause;
        if let Some(listener) = self.listeners.get_mut(id.slot(), id.generation())
            && listener.resting.is_none()
        {
            listener.resting = Some(self.timers.start_own(deadline, id.to_u64() | LISTENER));
        }
    }

    fn admit<F>(&mut self, id: ListenerId, stream: Stream, peer: Endpoint, on_event: &mut F) -> usize
    where
        F: FnMut(Instant, Event<'_>),
    {
        let Some(listener) = self.listeners.get_mut(id.slot(), id.generation()) else {
            return 0;
        };
        if listener.active == listener.max || self.conns.is_full() {
            self.stats.turned_away += 1;
            return 0;
        }
        listener.active += 1;
        self.stats.accepted += 1;
        let conn = Conn::new(stream, Phase::Open, Some(id), self.config.write_queue_max);
        let (slot, generation) = self.conns.insert_with(|_, _| conn).expect("a slot is free");
        let new = ConnId::new(slot, generation);
        let conn = self.conns.get_mut(new.slot(), generation).expect("it was put in above");
        let event = Event::Accepted {
            listener: id,
            conn: new,
            peer,
            link: &mut conn.link,
        };
        on_event(self.now, event);
        if self.returned(new) {
            self.arrange(new);
        }
        1
    }
}
