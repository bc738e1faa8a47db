//! The adapter between two waits: what users did to links, what the system says about sockets.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::AsFd;

use kraft_core::adapter::{CloseReason, Event, Stats};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::{CloseMode, Link};
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

use super::accept::Listener;
use super::conn::{Conn, Phase, Reading};
use super::{LISTENER, Readiness, Selector};
use crate::config::Config;
use crate::scratch::Scratch;
use crate::slots::Slots;
use crate::sock::{self, BULK};

/// Listeners of one adapter.
const LISTENERS_MAX: usize = 1024;

/// The token of a connection.
pub(super) fn conn_token(id: ConnId) -> u64 {
    id.to_u64()
}

/// The token of a listener.
pub(super) fn listener_token(id: ListenerId) -> u64 {
    id.to_u64() | LISTENER
}

/// The adapter between two waits.
///
/// Each list holds ids, of which some may be stale by the time that they are met.
#[derive(Debug)]
pub(super) struct Turn<S> {
    pub(super) selector: S,
    pub(super) config: Config,
    pub(super) now: Instant,
    pub(super) timers: Timers,
    pub(super) conns: Slots<Conn>,
    pub(super) listeners: Slots<Listener>,
    pub(super) stats: Stats,
    /// What every read goes into.
    pub(super) scratch: Scratch,
    /// A buffer that is lent to the connection that is served, for what it is put.
    pub(super) spare: Vec<u8>,
    /// Links that were in the user's hands.
    dirty: Vec<ConnId>,
    /// Connections that may have bytes to read.
    pub(super) ready: VecDeque<ConnId>,
    /// Listeners that may have connections to accept.
    pub(super) accepting: VecDeque<ListenerId>,
    /// Connections with `Written` or `Drained` to deliver.
    pub(super) news: VecDeque<ConnId>,
    /// `Closed` to deliver; each keeps a slot of `conns` until then.
    pub(super) closed: VecDeque<(ConnId, CloseReason)>,
}

impl<S: Selector> Turn<S> {
    pub(super) fn new(config: Config, selector: S) -> Self {
        Self {
            selector,
            now: Instant::ZERO,
            timers: Timers::default(),
            conns: Slots::new(config.max_connections),
            listeners: Slots::new(LISTENERS_MAX),
            stats: Stats::default(),
            scratch: Scratch::new(config.read_buffer),
            spare: Vec::new(),
            dirty: Vec::new(),
            ready: VecDeque::new(),
            accepting: VecDeque::new(),
            news: VecDeque::new(),
            closed: VecDeque::new(),
            config,
        }
    }

    /// Whether there is, or may be, something to deliver without waiting.
    pub(super) fn has_work(&self) -> bool {
        !(self.ready.is_empty() && self.accepting.is_empty() && self.news.is_empty() && self.closed.is_empty())
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            active: (self.conns.used() - self.closed.len()) as u64,
            timers: self.timers.len() as u64,
            ..self.stats
        }
    }

    pub(super) fn insert(&mut self, conn: Conn) -> Option<ConnId> {
        let (slot, generation) = self.conns.insert_with(|_, _| conn)?;
        Some(ConnId::new(slot, generation))
    }

    /// Has a new connection's socket watched.
    pub(super) fn register(&mut self, id: ConnId) -> io::Result<()> {
        let conn = self.conns.get_mut(id.slot(), id.generation()).expect("it is new");
        conn.interest = conn.wanted();
        self.selector
            .register(conn.stream.as_fd(), conn_token(id), conn.interest)
    }

    /// Takes back a connection that nobody heard of, and that is not watched.
    pub(super) fn withdraw(&mut self, id: ConnId) {
        if self.conns.retire(id.slot(), id.generation()).is_some() {
            self.conns.release(id.slot());
        }
    }

    /// Closes a listener that is not watched any more.
    pub(super) fn forget_listener(&mut self, id: ListenerId) {
        let Some(gone) = self.listeners.retire(id.slot(), id.generation()) else {
            return;
        };
        if let Some(timer) = gone.resting {
            self.timers.stop_own(timer);
        }
        self.listeners.release(id.slot());
    }

    /// The user's side of a connection; what he does to it is looked at by the next `act_on_links`.
    pub(super) fn link(&mut self, id: ConnId) -> Option<&mut Link> {
        let conn = self.conns.get_mut(id.slot(), id.generation())?;
        if !mem::replace(&mut conn.listed.dirty, true) {
            self.dirty.push(id);
        }
        Some(&mut conn.link)
    }

    /// Bounds a connect or a closing flush.
    pub(super) fn limit(&mut self, id: ConnId, deadline: Instant) {
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
            if let Some(timer) = conn.limit.take() {
                self.timers.stop_own(timer);
            }
            conn.limit = Some(self.timers.start_own(deadline, id.to_u64()));
        }
    }

    /// Ends a connect that failed at once, in the next turn: its user may put to the link first, as to any other.
    pub(super) fn doom(&mut self, id: ConnId, reason: CloseReason) {
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
            conn.fault = Some(reason);
        }
        self.limit(id, Instant::ZERO);
    }

    /// Ends a connection: closes its socket at once and has `Closed` delivered.
    pub(super) fn retire(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.retire(id.slot(), id.generation()) else {
            return;
        };
        self.selector.deregister(conn.stream.as_fd(), conn_token(id));
        if let Some(timer) = conn.limit {
            self.timers.stop_own(timer);
        }
        if let Some(listener) = conn.listener
            && let Some(listener) = self.listeners.get_mut(listener.slot(), listener.generation())
        {
            listener.active -= 1;
        }
        if conn.phase == Phase::Connecting && reason != CloseReason::Requested {
            self.stats.failed += 1;
        }
        self.stats.closed += 1;
        self.closed.push_back((id, reason));
    }

    /// Does what users asked of links since the last call. `clock` is read only if a deadline is to be set.
    pub(super) fn act_on_links(&mut self, clock: impl Fn() -> Instant) {
        let mut dirty = mem::take(&mut self.dirty);
        for &id in &dirty {
            self.act_on_link(id, &clock);
        }
        dirty.clear();
        self.dirty = dirty;
    }

    fn act_on_link(&mut self, id: ConnId, clock: impl Fn() -> Instant) {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return;
        };
        conn.listed.dirty = false;
        let close = conn.link.intents().close;
        match (close, conn.phase) {
            (Some(CloseMode::Now), _) => return self.retire(id, CloseReason::Requested),
            // One that still connects sends first what was put; its connect has a limit of its own.
            (Some(CloseMode::Flush), Phase::Open) => {
                conn.phase = Phase::Flushing;
                let deadline = clock() + self.config.linger;
                self.limit(id, deadline);
            }
            _ => {}
        }
        self.send(id);
        self.list_if_readable(id);
        self.watch(id);
    }

    /// Keeps what is of interest of a socket to what would be acted upon.
    pub(super) fn watch(&mut self, id: ConnId) {
        if !S::TELLS_STATE {
            return;
        }
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return;
        };
        let wanted = conn.wanted();
        if mem::replace(&mut conn.interest, wanted) == wanted {
            return;
        }
        if let Err(error) = self.selector.change(conn.stream.as_fd(), conn_token(id), wanted) {
            self.fail(id, sock::close_reason(&error));
        }
    }

    /// Puts a connection into the list of those to read from, if there is, or may be, something.
    #[inline]
    pub(super) fn list_if_readable(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation())
            && (conn.readable || conn.fault.is_some())
        {
            self.list(id);
        }
    }

    fn list(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return;
        };
        if let Some(reason) = conn.fault
            && conn.reading() != Reading::Deliver
        {
            // A user who paused may wait for `Drained`, which does not come any more: he must hear of the end.
            return self.retire(id, reason);
        }
        if conn.wants_read() && !mem::replace(&mut conn.listed.ready, true) {
            self.ready.push_back(id);
        }
    }

    /// Hands the system what is put, and goes on with a closing flush.
    fn send(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return;
        };
        if let Err(error) = conn.write(&mut self.stats) {
            return self.fail(id, sock::close_reason(&error));
        }
        if conn.fault.is_some() {
            return;
        }
        if conn.has_news() && !mem::replace(&mut conn.listed.news, true) {
            self.news.push_back(id);
        }
        if conn.phase != Phase::Flushing || conn.has_unsent() {
            return;
        }
        if conn.ended {
            // The peer's FIN was read, so nothing unread is left that would turn the close into a reset.
            return self.retire(id, CloseReason::Requested);
        }
        self.stats.syscalls += 1;
        match conn.stream.shutdown_write() {
            Ok(()) => conn.phase = Phase::Shut,
            Err(error) => self.retire(id, sock::close_reason(&error)),
        }
    }

    /// The link came back behind an event for which it was `lent` a buffer: much that was put leaves at once, and the
    /// buffer comes back, unless it holds what the system did not take.
    pub(super) fn answered(&mut self, id: ConnId, lent: bool) {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return;
        };
        if conn.link.outbox().waiting() >= BULK {
            self.send(id);
        }
        if lent
            && let Some(conn) = self.conns.get_mut(id.slot(), id.generation())
            && conn.link.outbox().waiting() < BULK
        {
            conn.link.outbox().take_back(&mut self.spare);
        }
    }

    /// A connection is broken. Bytes that came before are delivered if the user takes them: an answer may be among
    /// them, with a peer behind it that closed because it had no more to say.
    pub(super) fn fail(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return;
        };
        if conn.fault.is_none() {
            conn.fault = Some(reason);
            conn.readable = true;
            conn.fin_seen = true;
        }
        self.list_if_readable(id);
    }

    /// Notes what the system says about one socket, and delivers the outcome of a connect.
    pub(super) fn note<F: FnMut(Instant, Event<'_>)>(&mut self, readiness: Readiness, on_event: &mut F) -> usize {
        let token = readiness.token;
        if token & LISTENER != 0 {
            self.note_listener(ListenerId::from_u64(token & !LISTENER));
            return 0;
        }
        let slot = ConnId::from_u64(token).slot();
        let Some((generation, conn)) = self.conns.at_mut(slot) else {
            return 0;
        };
        let id = ConnId::new(slot as u32, generation);
        // Where `usize` has 32 bits only the slots are compared, and what comes late for a former connection looks as
        // if it were for the present one: a hint that is wrong.
        if conn_token(id) as usize != token as usize {
            // Closed in this very turn, and its descriptor perhaps given out again.
            return 0;
        }
        conn.writable |= readiness.writable;
        conn.readable |= readiness.readable || readiness.read_closed;
        conn.fin_seen |= readiness.read_closed;
        if conn.phase == Phase::Connecting {
            return self.note_connect(id, on_event);
        }
        if conn.writable && conn.has_unsent() {
            self.send(id);
        }
        self.list_if_readable(id);
        self.watch(id);
        if readiness.error
            && let Some(conn) = self.conns.get_mut(slot, generation)
            && let Some(error) = conn.stream.take_error()
        {
            self.fail(id, sock::close_reason(&error));
        }
        0
    }

    fn note_connect<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return 0;
        };
        match conn.stream.connected() {
            Ok(false) => return 0,
            Ok(true) => {}
            Err(error) => {
                self.retire(id, sock::close_reason(&error));
                return 0;
            }
        }
        conn.phase = Phase::Open;
        if let Some(timer) = conn.limit.take() {
            self.timers.stop_own(timer);
        }
        on_event(
            self.now,
            Event::Connected {
                conn: id,
                link: &mut conn.link,
            },
        );
        self.returned(id);
        self.list_if_readable(id);
        self.watch(id);
        1
    }

    /// A link came back from the user: a cut is done at once (law A4), the rest by the next `act_on_links`. Returns
    /// whether the connection lives.
    pub(super) fn returned(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return false;
        };
        if conn.is_cut() {
            self.retire(id, CloseReason::Requested);
            return false;
        }
        if conn.wants_action() && !mem::replace(&mut conn.listed.dirty, true) {
            self.dirty.push(id);
        }
        true
    }
}
