//! One connection of the io_uring backend.

use kraft_core::adapter::CloseReason;
use kraft_core::id::{ListenerId, TimerId};
use kraft_core::link::{CloseMode, Link};

use super::send::Sending;
use crate::sock::Stream;

/// A connection, and what is in flight for it.
///
/// Invariant: it stays in its slot until each of its operations had its last completion, however long its user has
/// known it no more. So a completion finds the connection that it is of, and the descriptor that an operation names is
/// not given out again while it may still be submitted.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) stream: Stream,
    pub(super) link: Link,
    /// Taken out of the link's outbox, partly sent.
    pub(super) sending: Sending,
    pub(super) phase: Phase,
    /// The listener that it counts with.
    pub(super) listener: Option<ListenerId>,
    /// Ends a connect, or a closing flush, that takes too long.
    pub(super) limit: Option<TimerId>,
    /// It is broken, but bytes that came before are still to be read and delivered.
    pub(super) fault: Option<CloseReason>,
    /// Bytes that arrived while it was paused.
    pub(super) held: Held,
    pub(super) receive: Flight,
    /// A receive has found FIN, which may not be delivered yet.
    pub(super) fin: bool,
    /// FIN was delivered, or discarded.
    pub(super) ended: bool,
    /// The receive brought bytes since it was armed.
    pub(super) fed: bool,
    /// In the phase `Connecting` it waits for the outcome, later for an error while nothing is received.
    pub(super) watch: Flight,
    /// A watch has fired since the connection was made: it would at once fire again.
    pub(super) watched: bool,
    /// The system had no room: what is put goes by the ring, which waits for some, until all is sent.
    pub(super) congested: bool,
    /// Whether what is put may be sent without a copy.
    pub(super) zero_copy: ZeroCopy,
    /// Which lists of the loop it is in.
    pub(super) listed: Listed,
}

/// An operation of which there is one a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flight {
    /// It has had its last completion, or never was.
    #[default]
    Landed,
    /// Completions follow.
    Armed,
    /// It was taken back; its last completion follows.
    Cancelled,
}

/// Whether a connection's bytes may be sent without a copy, where the loop does that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZeroCopy {
    /// As far as is known.
    Tried,
    /// Not these bytes: the system had no memory to lock for them.
    NotThese,
    /// The socket is of a kind that copies: a Unix socket.
    Never,
}

impl ZeroCopy {
    /// A send failed, maybe for being without a copy. Whether that may be so, and the bytes are to go by copy.
    pub(super) fn fails(&mut self, error: i32) -> bool {
        if *self != Self::Tried {
            return false;
        }
        *self = match error {
            libc::EOPNOTSUPP => Self::Never,
            // Pages that the system reads count as locked ones.
            libc::ENOBUFS | libc::ENOMEM => Self::NotThese,
            _ => return false,
        };
        true
    }
}

/// The lists of the loop that hold a connection's id. Each holds it once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Listed {
    /// Its link was in the user's hands.
    pub(super) dirty: bool,
    /// There is something to deliver, or to read, without a completion.
    pub(super) ready: bool,
    /// `Written` or `Drained` is due.
    pub(super) news: bool,
    /// It found no buffer.
    pub(super) starved: bool,
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
    /// It is over, for this reason, but for its last completions. Its user's id is inert.
    Leaving(CloseReason),
}

/// What happens to bytes that arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// They are kept for later: those that are on their way already. No more are asked for.
    Hold,
    /// They are lent to the user.
    Deliver,
    /// They are dropped.
    Discard,
}

impl Conn {
    pub(super) fn new(stream: Stream, phase: Phase, listener: Option<ListenerId>, write_queue_max: usize) -> Self {
        Self {
            stream,
            link: Link::new(write_queue_max),
            sending: Sending::new(),
            phase,
            listener,
            limit: None,
            fault: None,
            held: Held::default(),
            receive: Flight::Landed,
            fin: false,
            ended: false,
            fed: false,
            watch: Flight::Landed,
            watched: false,
            congested: false,
            zero_copy: ZeroCopy::Tried,
            listed: Listed::default(),
        }
    }

    /// What is to be done with bytes that arrive.
    pub(super) fn reading(&self) -> Reading {
        match self.phase {
            Phase::Flushing | Phase::Shut | Phase::Leaving(_) => Reading::Discard,
            Phase::Connecting => Reading::Hold,
            Phase::Open => {
                let intents = self.link.intents();
                if intents.paused || intents.close.is_some() {
                    Reading::Hold
                } else {
                    Reading::Deliver
                }
            }
        }
    }

    /// Whether a receive should be in flight. Not before what is held was delivered, or it would grow with every pause.
    pub(super) fn wants_receive(&self) -> bool {
        let is_over = self.fin || self.fault.is_some() || self.is_leaving();
        !is_over && self.held.is_empty() && self.reading() != Reading::Hold
    }

    /// Whether an error should be watched for: nobody else would tell of it.
    pub(super) fn wants_watch(&self) -> bool {
        let is_alone = self.receive == Flight::Landed && self.watch == Flight::Landed && !self.wants_receive();
        let is_closing = self.phase != Phase::Open || self.link.is_closing() || self.fault.is_some();
        is_alone && !is_closing && !self.watched
    }

    /// Whether there is something for the user that needs no completion.
    pub(super) fn is_ready(&self) -> bool {
        let is_due = !self.held.is_empty() || (self.fin && !self.ended);
        let is_to_be_read = self.fault.is_some() && self.receive == Flight::Landed;
        !self.is_leaving() && self.reading() != Reading::Hold && (is_due || is_to_be_read)
    }

    /// Whether the user did something to the link that is not acted on yet.
    pub(super) fn wants_action(&mut self) -> bool {
        let closing = self.link.is_closing() && self.phase == Phase::Open;
        let receives = self.wants_receive() != (self.receive == Flight::Armed || self.listed.starved);
        let resumed = self.is_ready() && !self.listed.ready;
        let gave_up = self.fault.is_some() && self.reading() != Reading::Deliver;
        let outbox = self.link.outbox();
        closing || receives || resumed || gave_up || outbox.waiting() > 0 || outbox.has_news()
    }

    /// Whether the user wants it gone without a flush.
    pub(super) fn is_cut(&self) -> bool {
        self.link.intents().close == Some(CloseMode::Now)
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_))
    }

    /// Whether nothing is in flight.
    pub(super) fn is_landed(&self) -> bool {
        self.receive == Flight::Landed && self.watch == Flight::Landed && !self.sending.is_lent()
    }

    /// Whether something is put that the system does not have.
    pub(super) fn has_unsent(&mut self) -> bool {
        !self.sending.is_empty() || self.link.outbox().waiting() > 0
    }

    /// Whether `Written` or `Drained` is due; never before `Connected` (law A1).
    pub(super) fn has_news(&mut self) -> bool {
        self.phase != Phase::Connecting && self.link.outbox().has_news()
    }
}

/// Bytes that arrived after their connection was paused, before the system heard of it. A copy: a paused connection
/// keeps no buffer of the ring.
///
/// Bounded by what is on its way when a receive is taken back: the buffers of the ring at most.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// How many of them were delivered.
    delivered: usize,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.delivered == self.bytes.len()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next bytes, so many at most.
    pub(super) fn next(&self, max: usize) -> &[u8] {
        let rest = &self.bytes[self.delivered..];
        &rest[..rest.len().min(max)]
    }

    /// The first `count` were delivered.
    pub(super) fn advance(&mut self, count: usize) {
        self.delivered += count;
        if self.is_empty() {
            self.clear();
        }
    }

    /// Forgets all, and gives the memory back: a pause is rare.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
