//! Connections that come, say one thing, and go.

use std::net::SocketAddr;

use mio::{Events, Poll};

use super::conn::Conn;
use super::meter::Meter;
use super::opening::{open, register};
use super::{EVENTS, Figures, ReadClocks, Span, wait};
use crate::cli::Waiting;
use crate::fault::Fault;
use crate::pattern::{Pattern, Place, WINDOW};

/// Clients that come and go.
#[derive(Debug)]
pub(crate) struct Comers {
    poll: Poll,
    at: SocketAddr,
    conns: Vec<Conn>,
    /// How many have come.
    count: usize,
    waiting: Waiting,
}

impl Comers {
    /// So many at a time.
    pub(crate) fn new(at: SocketAddr, clients: usize, waiting: Waiting) -> Result<Self, Fault> {
        Ok(Self {
            poll: Poll::new().map_err(|error| Fault::own("epoll", &error))?,
            at,
            conns: Vec::with_capacity(clients),
            count: 0,
            waiting,
        })
    }

    /// Each client connects, sends a message of `size` bytes, closes when it is back, and comes again. The latency is
    /// from before the connect to the last byte.
    pub(crate) fn come_and_go(
        mut self,
        clients: usize,
        size: usize,
        span: Span,
        clocks: ReadClocks<'_>,
    ) -> Result<Figures, Fault> {
        let (mut buffer, mut events) = (vec![0; WINDOW], Events::with_capacity(EVENTS));
        let mut meter = Meter::coming(span, clients);
        for slot in 0..clients {
            let conn = self.come(slot, size, span, meter.now())?;
            self.conns.push(conn);
        }
        while !meter.is_over(clocks)? {
            let found = wait(&mut self.poll, self.waiting, &mut events, &mut meter)?;
            for event in &events {
                let slot = event.token().0;
                let conn = &mut self.conns[slot];
                let now = meter.now();
                let note = |times| meter.note(slot, now, times);
                if conn.receive(&mut buffer, Pattern::shared(), size, note)? > 0 {
                    // Closes the one that is answered.
                    self.conns[slot] = self.come(slot, size, span, now)?;
                } else {
                    conn.send(Pattern::shared())?;
                }
            }
            meter.worked(found);
        }
        Ok(meter.figures())
    }

    fn come(&mut self, slot: usize, size: usize, span: Span, now: u64) -> Result<Conn, Fault> {
        let stream = open(self.at, span.patience)?;
        let stream = register(stream, &self.poll, slot)?;
        let mut conn = Conn::new(stream, Place::of(self.count));
        self.count += 1;
        conn.owe(size, now);
        conn.send(Pattern::shared())?;
        Ok(conn)
    }
}
