//! One connection of the threads backend.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use kraft_core::adapter::{CloseReason, Stats};
use kraft_core::id::{ListenerId, TimerId};
use kraft_core::link::{CloseMode, Link};
use kraft_core::outbox::Segments;

use super::reader::{Filled, Reader};
use crate::sock::Stream;

/// A connection: its socket, its reader, and what is on its way.
#[derive(Debug)]
pub(super) struct Conn {
    /// Shared with the reader, and with the watcher while it waits for room.
    pub(super) stream: Arc<Stream>,
    /// `None` once its thread is gone, after the peer's end or a failure.
    pub(super) reader: Option<Reader>,
    pub(super) link: Link,
    /// Taken out of the link's outbox, partly sent.
    in_flight: Segments,
    /// Received and not delivered; as many as the reader has buffers at most.
    pub(super) arrived: VecDeque<Filled>,
    /// What is lent to the user. It is only met after a panic of his, and goes back to the reader then.
    pub(super) lent: Option<Filled>,
    pub(super) phase: Phase,
    /// The listener that it counts with.
    pub(super) listener: Option<ListenerId>,
    /// Ends a connect, or a closing flush, that takes too long; and a broken connection whose reader has not seen it.
    pub(super) limit: Option<TimerId>,
    /// It is broken, but bytes that came before are still to be read and delivered.
    pub(super) fault: Option<CloseReason>,
    /// The watcher waits for its connect or for room: nothing is sent until it says so.
    pub(super) watched: bool,
    /// The reader has found FIN or a failure, behind what `arrived` holds.
    pub(super) finished: bool,
    /// FIN was delivered, or met while nothing is delivered.
    pub(super) ended: bool,
    /// Which lists of the loop it is in.
    pub(super) listed: Listed,
}

/// The lists of the loop that hold a connection's id. Each holds it once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Listed {
    /// Its link was in the user's hands.
    pub(super) dirty: bool,
    /// There are bytes, or an end, to deliver.
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

/// What happens to bytes that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// They wait.
    No,
    /// They are lent to the user.
    Deliver,
    /// They are dropped.
    Discard,
}

impl Conn {
    pub(super) fn new(stream: Stream, phase: Phase, listener: Option<ListenerId>, write_queue_max: usize) -> Self {
        Self {
            stream: Arc::new(stream),
            reader: None,
            link: Link::new(write_queue_max),
            in_flight: Segments::new(),
            arrived: VecDeque::new(),
            lent: None,
            phase,
            listener,
            limit: None,
            fault: None,
            watched: false,
            finished: false,
            ended: false,
            listed: Listed::default(),
        }
    }

    /// What is to be done with bytes that arrived.
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

    /// Whether there is something to deliver or to discard.
    pub(super) fn wants_read(&self) -> bool {
        (self.finished || !self.arrived.is_empty()) && self.reading() != Reading::No
    }

    /// Whether the user did something to the link that is not acted on yet.
    pub(super) fn wants_action(&mut self) -> bool {
        let closing = self.link.is_closing() && self.phase == Phase::Open;
        let resumed = self.wants_read() && !self.listed.ready;
        let gave_up = self.fault.is_some() && self.reading() == Reading::No;
        let outbox = self.link.outbox();
        closing || resumed || gave_up || outbox.waiting() > 0 || outbox.has_news()
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

    /// Lets the reader read, or read further ahead: it has used up all buffers that it was given.
    pub(super) fn extend_if_starved(&mut self, buffer_bytes: usize) {
        if let Some(reader) = &mut self.reader
            && self.arrived.len() == reader.made()
        {
            reader.extend(buffer_bytes);
        }
    }

    /// Gives what was lent back to the reader.
    pub(super) fn take_back(&mut self) {
        if let Some(filled) = self.lent.take()
            && let Some(reader) = &self.reader
        {
            reader.give(filled.into_buffer());
        }
    }

    /// Hands the system what is put, without waiting. Whether it has room for all; if not, the watcher is to say when.
    pub(super) fn write(&mut self, stats: &mut Stats) -> io::Result<bool> {
        if self.phase == Phase::Connecting || self.fault.is_some() || self.watched {
            return Ok(true);
        }
        self.stream.send_all(self.link.outbox(), &mut self.in_flight, stats)
    }
}
