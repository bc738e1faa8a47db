//! The adapter between two waits: what users did to links, what the other threads say.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem;
use std::sync::Arc;
use std::thread::JoinHandle;

use kraft_core::adapter::{CloseReason, Event, Stats};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::{CloseMode, Link};
use kraft_core::time::Instant;
use kraft_core::timers::Timers;
use socket2::SockRef;

use super::accept::Listener;
use super::conn::{Conn, Phase, Reading};
use super::mailbox::Mailbox;
use super::reader::{Note, Reader};
use super::watcher::Watcher;
use crate::config::Config;
use crate::slots::Slots;
use crate::sock;

/// Listeners of one adapter.
const LISTENERS_MAX: usize = 1024;

/// Threads that have said goodbye and may not have gone yet. The oldest is waited for when there is one more: by then
/// it has gone, where a wait for the youngest would cost the loop a switch to it.
const LEFT_MAX: usize = 16;

/// Set in a listener's token. Slots are below 2^24.
pub(super) const LISTENER: u64 = 1 << 31;

/// The adapter without its means to wait.
///
/// Each list holds ids, of which some may be stale by the time that they are met.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) config: Config,
    pub(super) now: Instant,
    pub(super) timers: Timers,
    pub(super) conns: Slots<Conn>,
    pub(super) listeners: Slots<Listener>,
    pub(super) stats: Stats,
    pub(super) mailbox: Arc<Mailbox<Note>>,
    pub(super) watcher: Watcher,
    /// Links that were in the user's hands.
    dirty: Vec<ConnId>,
    /// Connections that have bytes, or an end, to deliver.
    pub(super) ready: VecDeque<ConnId>,
    /// Listeners that may have connections to accept.
    pub(super) accepting: VecDeque<ListenerId>,
    /// Connections with `Written` or `Drained` to deliver.
    pub(super) news: VecDeque<ConnId>,
    /// Connections whose `Closed` waits for the end of their readers; each keeps a slot of `conns` until then, so that
    /// there are no more readers than connections.
    leaving: HashMap<ConnId, Leaving>,
    /// `Closed` to deliver; each keeps a slot of `conns` until then.
    pub(super) closed: VecDeque<(ConnId, CloseReason)>,
    /// Readers that are gone but for the last few instructions.
    left: VecDeque<JoinHandle<()>>,
}

#[derive(Debug)]
struct Leaving {
    reason: CloseReason,
    thread: JoinHandle<()>,
}

impl Turn {
    pub(super) fn new(config: Config, mailbox: Arc<Mailbox<Note>>, watcher: Watcher) -> Self {
        Self {
            now: Instant::ZERO,
            timers: Timers::default(),
            conns: Slots::new(config.max_connections),
            listeners: Slots::new(LISTENERS_MAX),
            stats: Stats::default(),
            mailbox,
            watcher,
            dirty: Vec::new(),
            ready: VecDeque::new(),
            accepting: VecDeque::new(),
            news: VecDeque::new(),
            leaving: HashMap::new(),
            closed: VecDeque::new(),
            left: VecDeque::new(),
            config,
        }
    }

    /// Whether there is, or may be, something to deliver without waiting.
    pub(super) fn has_work(&self) -> bool {
        !(self.ready.is_empty() && self.accepting.is_empty() && self.news.is_empty() && self.closed.is_empty())
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            active: (self.conns.used() - self.leaving.len() - self.closed.len()) as u64,
            timers: self.timers.len() as u64,
            ..self.stats
        }
    }

    /// Puts a connection in, with a thread to read it, which waits for its first buffer.
    ///
    /// # Errors
    ///
    /// There is no thread for it; it was taken out again.
    ///
    /// # Panics
    ///
    /// If no slot is free.
    pub(super) fn insert(&mut self, conn: Conn) -> io::Result<ConnId> {
        let (slot, generation) = self.conns.insert_with(|_, _| conn).expect("a slot is free");
        let id = ConnId::new(slot, generation);
        let conn = self.conns.get_mut(id.slot(), generation).expect("it was just put in");
        match Reader::start(&conn.stream, id, &self.mailbox) {
            Ok(reader) => {
                conn.reader = Some(reader);
                Ok(id)
            }
            Err(error) => {
                self.conns.retire(id.slot(), generation);
                self.conns.release(id.slot());
                Err(error)
            }
        }
    }

    /// The user's side of a connection; what he does to it is looked at by the next `act_on_links`.
    pub(super) fn link(&mut self, id: ConnId) -> Option<&mut Link> {
        let conn = self.conns.get_mut(id.slot(), id.generation())?;
        if !mem::replace(&mut conn.listed.dirty, true) {
            self.dirty.push(id);
        }
        Some(&mut conn.link)
    }

    /// Bounds a connect, a closing flush, or a broken connection.
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

    /// Has the watcher say when a connect has its outcome, or when there is room to write.
    pub(super) fn watch(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation())
            && !mem::replace(&mut conn.watched, true)
        {
            self.watcher.watch_for_room(id.to_u64(), &conn.stream);
        }
    }

    /// Ends a connection: shuts its socket down at once, and has `Closed` delivered when its reader is gone, and with it
    /// the descriptor.
    pub(super) fn retire(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.retire(id.slot(), id.generation()) else {
            return;
        };
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
        if conn.watched {
            self.watcher.forget(id.to_u64());
        }
        let Some(reader) = conn.reader else {
            return self.closed.push_back((id, reason));
        };
        // Ends the reader's call. It may be gone already, with the connection.
        let outcome = SockRef::from(&*conn.stream).shutdown(std::net::Shutdown::Both);
        let thread = reader.dismiss();
        if outcome.is_err_and(|error| matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK))) {
            // Somebody else closed the descriptor. The call goes on with what that was before, until the peer ends it:
            // nobody waits for that thread.
            return self.closed.push_back((id, reason));
        }
        self.leaving.insert(id, Leaving { reason, thread });
    }

    /// Does what users asked of links since the last call. `clock` is read only if a deadline is to be set.
    pub(super) fn act_on_links(&mut self, clock: impl Fn() -> Instant) {
        let mut dirty = mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            self.act_on_link(id, &clock);
        }
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
    }

    /// Puts a connection into the list of those to deliver from, if there is something.
    pub(super) fn list_if_readable(&mut self, id: ConnId) {
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
        let has_room = match conn.write(&mut self.stats) {
            Ok(has_room) => has_room,
            Err(error) => return self.fail(id, sock::close_reason(&error)),
        };
        if conn.fault.is_some() {
            return;
        }
        if conn.has_news() && !mem::replace(&mut conn.listed.news, true) {
            self.news.push_back(id);
        }
        if !has_room {
            return self.watch(id);
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

    /// A connection is broken. Bytes that came before are delivered if the user takes them: an answer may be among
    /// them, with a peer behind it that closed because it had no more to say.
    fn fail(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return;
        };
        if conn.fault.is_none() {
            conn.fault = Some(reason);
            if !conn.finished {
                // The reader comes to the same end by itself, but for failures that are of writing alone.
                if reason != CloseReason::Reset {
                    let _ = SockRef::from(&*conn.stream).shutdown(std::net::Shutdown::Both);
                }
                let deadline = self.now + self.config.linger;
                self.limit(id, deadline);
            }
        }
        self.list_if_readable(id);
    }

    /// Notes what another thread said, and delivers the outcome of a connect.
    pub(super) fn note<F: FnMut(Instant, Event<'_>)>(&mut self, note: Note, on_event: &mut F) -> usize {
        match note {
            Note::Received(id, filled) => {
                self.stats.syscalls += 1;
                if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
                    self.stats.bytes_in += filled.len() as u64;
                    conn.arrived.push_back(filled);
                    if conn.reading() != Reading::No {
                        conn.extend_if_starved(self.config.read_buffer);
                    }
                    self.list_if_readable(id);
                }
            }
            Note::Ended(id) => {
                self.stats.syscalls += 1;
                if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
                    conn.finished = true;
                    self.list_if_readable(id);
                }
            }
            Note::Failed(id, reason) => {
                if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
                    conn.finished = true;
                    self.fail(id, reason);
                }
            }
            Note::Gone(id) => self.part(id),
            Note::Ready(token) if token & LISTENER != 0 => {
                self.note_listener(ListenerId::from_u64(token & !LISTENER));
            }
            Note::Ready(token) => return self.note_room(ConnId::from_u64(token), on_event),
        }
        0
    }

    /// A reader is gone: by itself, or because its connection was ended.
    fn part(&mut self, id: ConnId) {
        let thread = match self.leaving.remove(&id) {
            Some(Leaving { reason, thread }) => {
                self.closed.push_back((id, reason));
                thread
            }
            None => {
                let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
                    return;
                };
                let Some(reader) = conn.reader.take() else {
                    return;
                };
                if !mem::replace(&mut conn.finished, true) {
                    // It panicked; its message was printed there.
                    self.fail(id, CloseReason::Failed(io::ErrorKind::Other));
                }
                reader.dismiss()
            }
        };
        self.left.push_back(thread);
        if self.left.len() > LEFT_MAX
            && let Some(oldest) = self.left.pop_front()
        {
            let _ = oldest.join();
        }
    }

    /// The watcher says that a connect has its outcome, or that there is room.
    fn note_room<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return 0;
        };
        conn.watched = false;
        if conn.phase == Phase::Connecting {
            return self.note_connect(id, on_event);
        }
        self.send(id);
        0
    }

    fn note_connect<F: FnMut(Instant, Event<'_>)>(&mut self, id: ConnId, on_event: &mut F) -> usize {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return 0;
        };
        let outcome = match conn.stream.connected() {
            Ok(false) => {
                self.watch(id);
                return 0;
            }
            Ok(true) => SockRef::from(&*conn.stream).set_nonblocking(false),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            self.retire(id, sock::close_reason(&error));
            return 0;
        }
        conn.phase = Phase::Open;
        if let Some(timer) = conn.limit.take() {
            self.timers.stop_own(timer);
        }
        conn.extend_if_starved(self.config.read_buffer);
        let link = &mut conn.link;
        on_event(self.now, Event::Connected { conn: id, link });
        self.returned(id);
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

    /// Ends every listener and connection, and waits until every reader is gone (law A21).
    pub(super) fn end(&mut self) {
        let listeners: Vec<_> = self
            .listeners
            .iter()
            .map(|(slot, generation, _)| ListenerId::new(slot, generation))
            .collect();
        // Before their descriptors are closed, which the watcher has.
        for id in listeners {
            self.unlisten(id);
        }
        let ids: Vec<_> = self
            .conns
            .iter()
            .map(|(slot, generation, _)| ConnId::new(slot, generation))
            .collect();
        for id in ids {
            self.retire(id, CloseReason::Requested);
        }
        let leaving = self.leaving.drain().map(|(_, leaving)| leaving.thread);
        for thread in leaving.chain(self.left.drain(..)) {
            // A panic over there was printed there; here there is nothing left to save.
            let _ = thread.join();
        }
    }
}
