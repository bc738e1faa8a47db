//! One encrypted connection: what it is between two links.

use std::collections::VecDeque;
use std::io::{self, BufRead, IoSlice, Write};
use std::mem;

use kraft_core::adapter::{CloseReason, Endpoint, Event};
use kraft_core::id::{ConnId, ListenerId, TimerId};
use kraft_core::link::{CloseMode, Link};
use kraft_core::outbox::{Outbox, Segments};
use kraft_core::time::Instant;
use rustls::Connection;

use super::failure::Why;
use super::trust;

/// Ciphertext that rustls holds of what it was given to encrypt, at most; it is moved on at once as far as the inner
/// outbox has room. Four records of the largest size.
const SEALED_MAX: usize = 64 * 1024;

/// Pieces given to rustls at a time.
const SLICES: usize = 16;

/// A connection whose bytes are encrypted: the user's link at one end, the inner adapter's, lent to each call, at the
/// other.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) origin: Origin,
    session: Connection,
    /// The user's.
    pub(super) link: Link,
    /// Taken out of the user's outbox, and not yet encrypted.
    plain: Segments,
    account: Account,
    /// Ciphertext that came while the user took none: what one turn of the inner adapter brings after a pause.
    held: Vec<u8>,
    /// Decrypted bytes that the user has not taken. Bounded by rustls to a record more than 16 KiB.
    readable: usize,
    pub(super) phase: Phase,
    /// The other end said that it has said all (`close_notify`).
    peer_closed: bool,
    /// The inner connection has ended.
    fin: bool,
    /// The user was told of the end.
    ended: bool,
    /// The inner connection is there.
    pub(super) connected: bool,
    /// `Accepted` or `Connected` was told.
    pub(super) shown: bool,
    /// Both ends have said theirs, and the system had all that was put before that: only the word for it can be lost.
    is_said: bool,
    /// What is told instead of the inner connection's reason.
    pub(super) reason: Option<CloseReason>,
    /// Bounds the handshake or the close.
    pub(super) timer: Option<TimerId>,
    /// The inner outbox has a mark of ours.
    marked: bool,
    pub(super) listed: Listed,
}

/// The lists of the adapter that hold a connection's id.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Listed {
    pub(super) dirty: bool,
    pub(super) ready: bool,
    pub(super) news: bool,
    pub(super) moved: bool,
}

/// Where it came from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Dialled(Endpoint),
    Accepted {
        listener: ListenerId,
        peer: Endpoint,
        /// Its place among those of the listener that were not shown so far.
        stranger: u64,
    },
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The handshake is under way; the user was not told of the connection.
    Shaking,
    /// Both ways.
    Open,
    /// `close(Flush)`: what was put is encrypted and moved on, what comes is dropped.
    Flushing,
    /// `close(Now)`, and nothing is lost by it: the end is said first.
    Parting,
    /// The inner connection was told to close.
    Shut,
}

/// Which bytes put are with the system.
#[derive(Debug, Default)]
struct Account {
    /// Ciphertext moved to the inner outbox since the connection began.
    moved: u64,
    /// What of it was there when the inner adapter last flushed.
    flushed: u64,
    /// For plaintext on its way: what `moved` was when its ciphertext was moved whole, and how much it is.
    batches: VecDeque<(u64, usize)>,
    /// Plaintext whose ciphertext is not moved whole.
    unmoved: usize,
    /// Plaintext encrypted and not known to be with the system: the sum over `batches`, and `unmoved`.
    sealed: usize,
}

impl Conn {
    pub(super) fn new(id: ConnId, origin: Origin, mut session: Connection, write_queue_max: usize) -> Self {
        session.set_buffer_limit(Some(SEALED_MAX));
        Self {
            id,
            session,
            link: Link::new(write_queue_max),
            plain: Segments::new(),
            account: Account::default(),
            held: Vec::new(),
            readable: 0,
            phase: Phase::Shaking,
            peer_closed: false,
            fin: false,
            ended: false,
            connected: matches!(origin, Origin::Accepted { .. }),
            shown: false,
            is_said: false,
            reason: None,
            timer: None,
            marked: false,
            listed: Listed::default(),
            origin,
        }
    }

    /// Whether the user takes what came.
    fn takes(&self) -> bool {
        let intents = self.link.intents();
        self.phase == Phase::Open && !intents.paused && intents.close.is_none() && !self.ended
    }

    /// Whether there is something that the user would take.
    pub(super) fn is_ready(&self) -> bool {
        let has_input = self.readable > 0 || !self.held.is_empty() || self.peer_closed || self.fin;
        has_input && self.takes()
    }

    /// The inner connection has ended. [`receive`](Self::receive) follows.
    pub(super) fn end(&mut self) {
        self.fin = true;
    }

    /// Takes ciphertext in, and lends what is in it to the user, as far as he takes it. Returns how many events there
    /// were, and what was wrong.
    pub(super) fn receive<F: FnMut(Instant, Event<'_>)>(
        &mut self,
        cipher: &[u8],
        inner: &mut Link,
        deliver: &mut Delivery<'_, F>,
    ) -> (usize, Option<Why>) {
        if !matches!(self.phase, Phase::Shaking | Phase::Open) {
            return (0, None);
        }
        let mut held = mem::take(&mut self.held);
        let mut input = cipher;
        if !held.is_empty() {
            held.extend_from_slice(cipher);
            input = &held;
        }
        let mut count = 0;
        loop {
            count += self.lend(deliver);
            if self.readable > 0 || input.is_empty() || self.peer_closed {
                break;
            }
            if let Err(why) = self.feed(&mut input, inner) {
                return (count, Some(why));
            }
            if self.phase == Phase::Shaking && !self.session.is_handshaking() {
                self.begin(deliver);
                count += 1;
            }
        }
        if !self.peer_closed && !input.is_empty() {
            self.held = input.to_vec();
        }
        let intents = self.link.intents();
        if self.phase == Phase::Open && intents.paused && intents.close.is_none() {
            inner.pause();
        }
        let is_cut = self.fin && !self.peer_closed && self.readable == 0 && self.held.is_empty();
        let why = is_cut.then_some(match self.phase {
            Phase::Shaking => Why::Unfinished,
            _ => Why::Truncated,
        });
        (count, why)
    }

    /// Decrypts some of `input`; what rustls has to say to that is moved on.
    fn feed(&mut self, input: &mut &[u8], inner: &mut Link) -> Result<(), Why> {
        let is_shaking = self.phase == Phase::Shaking;
        let wrong = |error: io::Error| Why::Protocol(rustls::Error::General(error.to_string()));
        self.session.read_tls(input).map_err(wrong)?;
        let processed = self.session.process_new_packets();
        // An alert, if that was an error.
        self.move_on(inner.outbox());
        let state = processed.map_err(|error| Why::of(error, is_shaking))?;
        self.readable = state.plaintext_bytes_to_read();
        self.peer_closed = state.peer_has_closed();
        Ok(())
    }

    /// The handshake is through: the connection begins for the user.
    fn begin<F: FnMut(Instant, Event<'_>)>(&mut self, deliver: &mut Delivery<'_, F>) {
        self.phase = Phase::Open;
        self.shown = true;
        if let Some([certificate, ..]) = self.session.peer_certificates() {
            self.link.prove(trust::names(certificate));
        }
        let (conn, link) = (self.id, &mut self.link);
        let event = match &self.origin {
            Origin::Dialled(_) => Event::Connected { conn, link },
            Origin::Accepted { listener, peer, .. } => Event::Accepted {
                listener: *listener,
                conn,
                peer: peer.clone(),
                link,
            },
        };
        (deliver.on_event)(deliver.now, event);
    }

    /// Lends what is decrypted, and tells the end.
    fn lend<F: FnMut(Instant, Event<'_>)>(&mut self, deliver: &mut Delivery<'_, F>) -> usize {
        let mut count = 0;
        while self.readable > 0 && self.takes() {
            let Ok(chunk) = self.session.reader().into_first_chunk() else {
                // rustls said that there is some; who believes it for ever has work in every turn.
                self.readable = 0;
                break;
            };
            let bytes = &chunk[..chunk.len().min(deliver.received_max)];
            let taken = bytes.len();
            let event = Event::Received {
                conn: self.id,
                bytes,
                link: &mut self.link,
            };
            (deliver.on_event)(deliver.now, event);
            count += 1;
            self.session.reader().consume(taken);
            self.readable -= taken;
        }
        if self.readable == 0 && self.peer_closed && self.takes() {
            self.ended = true;
            let event = Event::Ended {
                conn: self.id,
                link: &mut self.link,
            };
            (deliver.on_event)(deliver.now, event);
            count += 1;
        }
        count
    }

    /// Does what the user asked of his link. Returns whether there is a close to be bounded.
    pub(super) fn act(&mut self, inner: &mut Link) -> bool {
        let intents = self.link.intents();
        match (intents.close, self.phase) {
            (Some(CloseMode::Now), Phase::Open) if self.has_sent_all(inner) => {
                self.session.send_close_notify();
                self.phase = Phase::Parting;
                self.move_on(inner.outbox());
                return true;
            }
            (Some(CloseMode::Now), Phase::Shaking | Phase::Open | Phase::Flushing | Phase::Shut) => {
                inner.close(CloseMode::Now);
                self.shut();
                return false;
            }
            (Some(CloseMode::Flush), Phase::Open) => {
                self.phase = Phase::Flushing;
                self.held = Vec::new();
                // What comes is dropped here; a peer that waits until it has said all is not kept waiting.
                inner.resume();
                self.seal(inner.outbox());
                self.finish(inner);
                return true;
            }
            (_, Phase::Open) if intents.paused => inner.pause(),
            (_, Phase::Open) => inner.resume(),
            _ => {}
        }
        self.seal(inner.outbox());
        self.finish(inner);
        false
    }

    /// Whether nothing that was put is still here or in the inner outbox.
    fn has_sent_all(&mut self, inner: &mut Link) -> bool {
        self.plain.is_empty()
            && self.link.outbox().waiting() == 0
            && !self.session.wants_write()
            && inner.outbox().is_empty()
    }

    /// Encrypts what is put, as far as the inner outbox has room.
    fn seal(&mut self, inner: &mut Outbox) {
        loop {
            self.move_on(inner);
            let seals = matches!(self.phase, Phase::Open | Phase::Flushing);
            if self.session.wants_write() || !seals {
                return;
            }
            if self.plain.is_empty() && self.link.outbox().take(&mut self.plain) == 0 {
                return;
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.plain.io_slices(&mut slices);
            match self.session.writer().write_vectored(&slices[..count]) {
                Ok(0) | Err(_) => return,
                Ok(taken) => {
                    self.plain.advance(taken);
                    self.account.seal(taken);
                }
            }
        }
    }

    /// Moves ciphertext into the inner outbox, as far as that has room.
    fn move_on(&mut self, inner: &mut Outbox) {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Sink(inner)) {
                Ok(0) | Err(_) => return,
                Ok(count) => self.account.moved += count as u64,
            }
        }
        self.account.moved_all();
    }

    /// Ends a flush: when all is encrypted the end is said, and when that is moved on the inner connection closes.
    fn finish(&mut self, inner: &mut Link) {
        let is_sealed = self.plain.is_empty() && self.link.outbox().waiting() == 0;
        if self.phase != Phase::Flushing || !is_sealed || self.session.wants_write() {
            return;
        }
        self.account.settle(inner.outbox().len());
        self.is_said = self.peer_closed && self.account.sealed == 0;
        self.session.send_close_notify();
        self.move_on(inner.outbox());
        if self.session.wants_write() {
            // It is said once; the rest of it follows when there is room.
            return;
        }
        inner.close(CloseMode::Flush);
        self.phase = Phase::Shut;
    }

    /// Takes stock of what the system has.
    pub(super) fn settle_plain(&mut self, inner: &mut Link) {
        self.account.settle(inner.outbox().len());
        self.link.outbox().settle(self.plain.len() + self.account.sealed);
    }

    /// Whether the user wants it gone without a flush.
    pub(super) fn is_cut(&self) -> bool {
        self.link.intents().close == Some(CloseMode::Now)
    }

    /// Takes stock of what the system has, after a flush of the inner adapter or an event of the inner connection.
    /// Returns whether the inner connection was told to close.
    pub(super) fn settle(&mut self, inner: &mut Link) -> bool {
        self.settle_plain(inner);
        let left = inner.outbox().len();
        if self.phase == Phase::Parting && left == 0 && !self.session.wants_write() {
            inner.close(CloseMode::Now);
            self.shut();
            return true;
        }
        self.account.flushed = self.account.moved;
        if (left > 0 || self.has_more()) && !mem::replace(&mut self.marked, true) {
            inner.outbox().mark();
        }
        false
    }

    /// Whether the inner adapter has to flush, or to be asked for word of what it has: bytes moved since a mark of ours was
    /// made are not behind that mark.
    pub(super) fn wants_flush(&self) -> bool {
        let is_owed = self.account.sealed > 0 || self.has_more();
        self.account.flushed != self.account.moved || self.phase == Phase::Parting || (is_owed && !self.marked)
    }

    /// Whether something waits for room in the inner outbox.
    fn has_more(&self) -> bool {
        !self.plain.is_empty() || self.session.wants_write()
    }

    /// A mark of ours was reached.
    pub(super) fn written(&mut self) {
        self.marked = false;
    }

    /// What the user is told of the end of the inner connection.
    pub(super) fn reason_of(&self, inner: CloseReason) -> CloseReason {
        match inner {
            // A peer that has said its end may be gone, and its system then answers ours by a reset. Without TLS the
            // end is said by a FIN, which nobody answers so.
            CloseReason::Reset if self.is_said => CloseReason::Requested,
            // He cut it, and the end that is said nevertheless may be what finds a fault that was there before.
            _ if self.is_cut() && self.reason.is_none() => CloseReason::Requested,
            inner => self.reason.unwrap_or(inner),
        }
    }

    /// Nothing comes or goes any more.
    pub(super) fn shut(&mut self) {
        self.phase = Phase::Shut;
        self.held = Vec::new();
        self.plain.clear();
    }

    /// Whether `Written` or `Drained` is due.
    pub(super) fn has_news(&mut self) -> bool {
        self.shown && self.link.outbox().has_news()
    }

    /// The other end.
    pub(super) fn peer(&self) -> &Endpoint {
        match &self.origin {
            Origin::Dialled(peer) | Origin::Accepted { peer, .. } => peer,
        }
    }
}

impl Account {
    fn seal(&mut self, plain: usize) {
        self.unmoved += plain;
        self.sealed += plain;
    }

    fn moved_all(&mut self) {
        if self.unmoved > 0 {
            self.batches.push_back((self.moved, mem::take(&mut self.unmoved)));
        }
    }

    fn settle(&mut self, left: usize) {
        let with_system = self.moved.saturating_sub(left as u64);
        while let Some(&(end, plain)) = self.batches.front()
            && end <= with_system
        {
            self.sealed -= plain;
            self.batches.pop_front();
        }
    }
}

/// To whom, and how, what came is lent.
pub(super) struct Delivery<'a, F> {
    pub(super) now: Instant,
    /// Bytes of one `Received`, at most.
    pub(super) received_max: usize,
    pub(super) on_event: &'a mut F,
}

/// An outbox that takes what it has room for.
struct Sink<'a>(&'a mut Outbox);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.0.limit().saturating_sub(self.0.len());
        let count = room.min(bytes.len());
        // One that closes has room and takes nothing.
        match count > 0 && self.0.put(&bytes[..count]).is_ok() {
            true => Ok(count),
            false => Ok(0),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut total = 0;
        for slice in slices {
            let count = self.write(slice)?;
            total += count;
            if count < slice.len() {
                break;
            }
        }
        Ok(total)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
