//! Listeners: who is let in.

use std::mem;
use std::os::fd::AsFd;

use kraft_core::adapter::Event;
use kraft_core::id::{ConnId, ListenerId, TimerId};
use kraft_core::time::Instant;

use super::conn::{Conn, Phase};
use super::turn::{Turn, listener_token};
use super::{Interest, LISTENER, Selector};
use crate::sock::{Accept, Acceptor};

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

impl<S: Selector> Turn<S> {
    /// Puts a listener into the list of those to accept from.
    pub(super) fn note_listener(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(id.slot(), id.generation())
            && listener.resting.is_none()
            && !mem::replace(&mut listener.listed, true)
        {
            self.accepting.push_back(id);
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
                Accept::Empty => return count,
                Accept::Exhausted => {
                    // Nothing tells when a descriptor is free again, and who waits would be told of at every wait.
                    let deadline = self.now + self.config.accept_pause;
                    listener.resting = Some(self.timers.start_own(deadline, id.to_u64() | LISTENER));
                    self.watch_listener(id, Interest::NONE);
                    return count;
                }
            };
            if listener.active == listener.max || self.conns.is_full() {
                self.stats.turned_away += 1;
                continue;
            }
            let conn = Conn::new(stream, Phase::Open, Some(id), self.config.write_queue_max);
            let (slot, generation) = self.conns.insert_with(|_, _| conn).expect("a slot is free");
            let new = ConnId::new(slot, generation);
            if self.register(new).is_err() {
                // The system has no memory for it, or its limit of watches is reached.
                self.withdraw(new);
                self.stats.turned_away += 1;
                continue;
            }
            let listener = self.listeners.get_mut(id.slot(), id.generation());
            listener.expect("it was there above").active += 1;
            self.stats.accepted += 1;
            let conn = self.conns.get_mut(new.slot(), generation).expect("it was put in above");
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

    /// Changes what a listener is watched for.
    pub(super) fn watch_listener(&mut self, id: ListenerId, interest: Interest) {
        if !S::TELLS_STATE {
            return;
        }
        if let Some(listener) = self.listeners.get(id.slot(), id.generation()) {
            // If the system has no memory for it, the next accept finds out.
            let _ = self
                .selector
                .change(listener.acceptor.as_fd(), listener_token(id), interest);
        }
    }
}
