//! The end of an adapter with everything in flight.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::accept;
use super::ops::{Kind, Op};
use super::send;
use super::turn::Turn;

/// How long a drop waits for what it took back. It lands at once, unless the system is in trouble.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// How long it waits before it takes back again.
const DRAIN_STEP: Duration = Duration::from_millis(10);

impl Turn {
    /// Takes back all that is in flight and waits until it has landed, so that memory and descriptors are free to go.
    /// What does not land is leaked: memory that the kernel may write to is never freed.
    pub(super) fn shut_down(&mut self) {
        for (_, _, listener) in self.listeners.iter_mut() {
            listener.acceptor.stop();
        }
        // Before the first turn nothing was submitted.
        if !self.ring.is_started() || (self.ring.is_mine() && self.drain()) {
            self.bufs.retire();
            return;
        }
        // On another thread nothing can be taken back: the kernel does that when the ring is closed, in its own time. The
        // sockets end now.
        for (_, _, conn) in self.conns.iter() {
            // It may not be connected, or not any more.
            let _ = SockRef::from(&conn.stream).shutdown(Shutdown::Both);
        }
        self.look_at_stragglers();
    }

    /// Whether all has landed.
    fn drain(&mut self) -> bool {
        let start = Instant::now();
        self.ring.reap(&mut self.reaped);
        loop {
            let is_stuck = self.reaped.is_empty();
            self.look_at_stragglers();
            if self.ring.is_quiet() {
                return true;
            }
            if start.elapsed() >= DRAIN_MAX {
                return false;
            }
            if is_stuck {
                self.ring.push(&Op::cancel_all());
                // What was sent without a copy cannot be taken back, and is read until the peer has acknowledged it.
                for (_, _, conn) in self.conns.iter().filter(|(_, _, conn)| conn.sending.is_kept()) {
                    send::discard(&conn.stream);
                }
            }
            if self.ring.wait(Some(DRAIN_STEP)).is_err() {
                return false;
            }
            self.ring.reap(&mut self.reaped);
        }
    }

    /// Accepted descriptors are closed, and what was lent for sending is taken back. Buffers go with the ring.
    fn look_at_stragglers(&mut self) {
        for done in self.reaped.drain(..) {
            match done.token.kind() {
                Kind::Accept => drop(accept::descriptor(done)),
                Kind::Send => {
                    let id = done.token.conn();
                    if let Some(conn) = self.conns.get_mut(id.slot(), id.generation())
                        && conn.sending.is_lent()
                    {
                        if !done.is_notice() {
                            conn.sending.taken(usize::try_from(done.result).unwrap_or(0));
                        }
                        if !done.has_more() {
                            conn.sending.take_back();
                        }
                    }
                }
                _ => {}
            }
        }
    }
}
