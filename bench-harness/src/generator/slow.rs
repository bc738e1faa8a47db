//! Clients that send and do not read.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use mio::Events;

use super::meter::Meter;
use super::{EVENTS, Load, Span};
use crate::fault::Fault;
use crate::interrupt;

/// What such a client sends at most. A server that takes it all keeps it all: the sockets of both sides hold a fraction
/// of that.
const SENT_MAX: usize = 64 << 20;

/// When a server has taken nothing for so long, and is not about to, it takes no more.
const QUIET: Duration = Duration::from_millis(50);

impl Load {
    /// Sends over each connection until the server takes no more of any, or all have sent [`SENT_MAX`] bytes. One that
    /// `is_runnable` waits for its core, and will take more.
    pub(crate) fn fill(&mut self, patience: Duration, is_runnable: impl Fn() -> bool) -> Result<(), Fault> {
        let began = Instant::now();
        let mut left = 0;
        for conn in &mut self.conns {
            conn.say(SENT_MAX);
            left += conn.owed();
        }
        let (mut events, mut quiet) = (Events::with_capacity(EVENTS), Instant::now());
        // One that takes a little all the time is full when patience ends: what it has by then is judged.
        while left > 0 && began.elapsed() < patience {
            if interrupt::is_asked() {
                return Err(Fault::Interrupted);
            }
            if quiet.elapsed() >= QUIET {
                if !is_runnable() {
                    break;
                }
                quiet = Instant::now();
            }
            // What the events say is not needed: each is tried. Nor is a wait that a signal ended less of one.
            match self.poll.poll(&mut events, Some(Duration::from_millis(1))) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(Fault::own("epoll_wait", &error));
                }
                _ => {}
            }
            let before = left;
            left = 0;
            for conn in &mut self.conns {
                conn.send(self.pattern)?;
                left += conn.owed();
            }
            if left < before {
                quiet = Instant::now();
            }
        }
        Ok(())
    }

    /// Reads at last: all that was sent is there, in order.
    pub(crate) fn read_up(&mut self, span: Span) -> Result<(), Fault> {
        let mut meter = Meter::new(span, 0);
        let mut events = Events::with_capacity(EVENTS);
        let mut sizes = Vec::with_capacity(self.conns.len());
        for conn in &mut self.conns {
            let sent = SENT_MAX - conn.give_up();
            if sent > 0 {
                conn.expect(0);
            }
            sizes.push(sent);
        }
        // The edges of what came meanwhile are gone, so each is tried first.
        let mut some_came: Vec<usize> = (0..self.conns.len()).collect();
        loop {
            for at in some_came.drain(..) {
                let conn = &mut self.conns[at];
                if conn.outstanding() > 0 {
                    let (now, before) = (meter.now(), conn.partial());
                    conn.receive(&mut self.buffer, self.pattern, sizes[at], |times| {
                        meter.note(at, now, times)
                    })?;
                    // All that one sent is one message: it is no silence before the last of it has come.
                    if conn.partial() != before {
                        meter.hear(now);
                    }
                }
            }
            if self.conns.iter().all(|conn| conn.outstanding() == 0) {
                return Ok(());
            }
            meter.worked(true);
            meter.look()?;
            self.wait(&mut events, &mut meter)?;
            some_came.extend(events.iter().map(|event| event.token().0));
        }
    }
}
