//! Listeners: who is let in.

use std::mem;

use kraft_core::adapter::Event;
use kraft_core::id::{ConnId, ListenerId, TimerId};
use kraft_core::time::Instant;
use socket2::SockRef;

use super::conn::{Conn, Phase};
use super::turn::{LISTENER, Turn};
use crate::sock::{Accept, Acceptor, Stream};

/// A listener and its share of the connections.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) acceptor: Acceptor,
    /// Connections that came through it and live: `active <= max`.
    pub(super) active: usize,
    max: usize,
    /// It waits until the system has descriptors again (law A26).
    pub(super) resting: Option<TimerId>,
    /// In `Turn::accepting`.
    listed: bool,
}

impl Listener {
    pub(super) fn new(acceptor: Acceptor, max: usize) -> Self {
        Self {
            acceptor,
            active: 0,
            max,
            resting: None,
            listed: false,
        }
    }
}

impl Turn {
    /// Puts a listener into the list of those to accept from.
    pub(super) fn note_listener(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(id.slot(), id.generation())
            && listener.resting.is_none()
            && !mem::replace(&mut listener.listed, true)
        {
            self.accepting.push_back(id);
        }
    }

    /// Has the watcher say when somebody waits at a listener.
    pub(super) fn watch_listener(&self, id: ListenerId) {
        if let Some(listener) = self.listeners.get(id.slot(), id.generation()) {
            self.watcher
                .watch_for_connections(id.to_u64() | LISTENER, &listener.acceptor);
        }
    }

    /// Stops listening.
    pub(super) fn unlisten(&mut self, id: ListenerId) {
        if self.listeners.get(id.slot(), id.generation()).is_none() {
            return;
        }
        // A descriptor that a poll(2) waits on goes on listening after it is closed.
        self.watcher.forget_now(id.to_u64() | LISTENER);
        if let Some(gone) = self.listeners.retire(id.slot(), id.generation()) {
            if let Some(timer) = gone.resting {
                self.timers.stop_own(timer);
            }
            self.listeners.release(id.slot());
        }
    }

    /// Accepts what waits, up to `accepts_per_turn`.
    pub(super) fn accept<F>(&mut self, id: ListenerId, on_event: &mut F) -> usize
    where
        F: FnMut(Instant, Event<'_>),
    {
        let mut count = 0;
        for _ in 0..self.config.accepts_per_turn {
            let Some(listener) = self.listeners.get_mut(id.slot(), id.generation()) else {
                return count;
            };
            listener.listed = false;
            self.stats.syscalls += 1;
            let (stream, peer) = match listener.acceptor.accept() {
                Accept::One(stream, peer) => (stream, peer),
                Accept::Failed => continue,
                Accept::Empty => {
                    self.watch_listener(id);
                    return count;
                }
                Accept::Exhausted => {
                    // The listener would be readable all the while.
                    let deadline = self.now + self.config.accept_pause;
                    listener.resting = Some(self.timers.start_own(deadline, id.to_u64() | LISTENER));
                    return count;
                }
            };
            let is_full = listener.active == listener.max || self.conns.is_full();
            let Some(new) = (!is_full).then(|| self.admit(stream, id)).flatten() else {
                self.stats.turned_away += 1;
                continue;
            };
            self.stats.accepted += 1;
            let conn = self.conns.get_mut(new.slot(), new.generation());
            let conn = conn.expect("it was put in above");
            conn.extend_if_starved(self.config.read_buffer);
            let event = Event::Accepted {
                listener: id,
                conn: new,
                peer,
                link: &mut conn.link,
            };
            on_event(self.now, event);
            count += 1;
            self.returned(new);
        }
        self.note_listener(id);
        count
    }

    /// Takes an accepted connection in; `None` if there is no thread to read it.
    fn admit(&mut self, stream: Stream, of: ListenerId) -> Option<ConnId> {
        // Readers wait in the system; the loop's writes say each time that they do not.
        SockRef::from(&stream).set_nonblocking(false).ok()?;
        let conn = Conn::new(stream, Phase::Open, Some(of), self.config.write_queue_max);
        let id = self.insert(conn).ok()?;
        if let Some(listener) = self.listeners.get_mut(of.slot(), of.generation()) {
            listener.active += 1;
        }
        Some(id)
    }
}
