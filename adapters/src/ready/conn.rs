//! One connection.

use std::io;

use kraft_core::adapter::{CloseReason, Stats};
use kraft_core::id::{ListenerId, TimerId};
use kraft_core::link::{CloseMode, Link};
use kraft_core::outbox::Segments;

use super::Interest;
use crate::sock::Stream;

/// A connection and what is known about its socket.
///
/// A system that tells of changes tells once, so what it told is kept here until a call has found the contrary:
/// `readable` until a read came short, `writable` until a write did.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) stream: Stream,
    pub(super) link: Link,
    /// Taken out of the link's outbox, partly sent.
    in_flight: Segments,
    pub(super) phase: Phase,
    /// The listener that it counts with.
    pub(super) listener: Option<ListenerId>,
    /// Ends a connect, or a closing flush, that takes too long.
    pub(super) limit: Option<TimerId>,
    /// It is broken, but bytes that came before are still to be read and delivered.
    pub(super) fault: Option<CloseReason>,
    /// What its selector was told to look for.
    pub(super) interest: Interest,
    pub(super) writable: bool,
    pub(super) readable: bool,
    /// FIN, or worse, is known to stand behind the bytes: a short read is not the end of it.
    pub(super) fin_seen: bool,
    /// A read has found FIN.
    pub(super) ended: bool,
    /// Which lists of the loop it is in.
    pub(super) listed: Listed,
}

/// The lists of the loop that hold a connection's id. Each holds it once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Listed {
    /// Its link was in the user's hands.
    pub(super) dirty: bool,
    /// There may be bytes to read.
    pub(super) ready: bool,
    /// `Written` or `Drained` is due.
    pub(super) news: bool,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The connect has no outcome yet.
    Connecting,
    /// Both ways, until the peer's FIN.
    Open,
    /// `close(Flush)` sends what was put and discards what comes.
    Flushing,
    /// All is sent, FIN too; the peer's is waited for.
    Shut,
}

/// What happens to bytes that arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// They stay in the system.
    No,
    /// They are lent to the user.
    Deliver,
    /// They are read and dropped.
    Discard,
}

impl Conn {
    pub(super) fn new(stream: Stream, phase: Phase, listener: Option<ListenerId>, write_queue_max: usize) -> Self {
        Self {
            stream,
            link: Link::new(write_queue_max),
            in_flight: Segments::new(),
            phase,
            listener,
            limit: None,
            fault: None,
            interest: Interest::NONE,
            // A new connection has room; if not, the first write says so. One that connects waits to be told.
            writable: phase == Phase::Open,
            readable: false,
            fin_seen: false,
            ended: false,
            listed: Listed::default(),
        }
    }

    /// What is to be done with bytes that arrive.
    pub(super) fn reading(&self) -> Reading {
        match self.phase {
            _ if self.ended => Reading::No,
            Phase::Connecting => Reading::No,
            Phase::Flushing | Phase::Shut => Reading::Discard,
            Phase::Open => {
                let intents = self.link.intents();
                if intents.paused || intents.close.is_some() {
                    Reading::No
                } else {
                    Reading::Deliver
                }
            }
        }
    }

    /// What of its socket would be acted upon.
    pub(super) fn wanted(&mut self) -> Interest {
        if self.fault.is_some() {
            return Interest::NONE;
        }
        if self.phase == Phase::Connecting {
            return Interest::WRITE;
        }
        Interest {
            read: self.reading() != Reading::No,
            write: !self.writable && self.has_unsent(),
        }
    }

    /// Whether a read is worth it.
    pub(super) fn wants_read(&self) -> bool {
        self.readable && self.reading() != Reading::No
    }

    /// Whether the user did something to the link that is not acted on yet.
    pub(super) fn wants_action(&mut self) -> bool {
        let outbox = self.link.outbox();
        if outbox.waiting() > 0 || outbox.has_news() {
            return true;
        }
        let closing = self.link.is_closing() && self.phase == Phase::Open;
        let resumed = self.wants_read() && !self.listed.ready;
        let gave_up = self.fault.is_some() && self.reading() == Reading::No;
        closing || resumed || gave_up
    }

    /// Whether the user wants it gone without a flush.
    pub(super) fn is_cut(&self) -> bool {
        self.link.intents().close == Some(CloseMode::Now)
    }

    /// Whether something is put that the system does not have.
    pub(super) fn has_unsent(&mut self) -> bool {
        !self.in_flight.is_empty() || self.link.outbox().waiting() > 0
    }

    /// Whether `Written` or `Drained` is due; never before `Connected` (law A1).
    pub(super) fn has_news(&mut self) -> bool {
        self.phase != Phase::Connecting && self.link.outbox().has_news()
    }

    /// Hands the system what is put, until there is no more or it has no room.
    pub(super) fn write(&mut self, stats: &mut Stats) -> io::Result<()> {
        if self.phase == Phase::Connecting || self.fault.is_some() {
            return Ok(());
        }
        if self.writable {
            // epoll(7): a short write says that there is no room, as EAGAIN does, and a change will be told.
            self.writable = self.stream.send_all(self.link.outbox(), &mut self.in_flight, stats)?;
        }
        Ok(())
    }
}
