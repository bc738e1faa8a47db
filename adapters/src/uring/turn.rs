//! The adapter between two waits: what users did to links, and what is asked of the kernel for that.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use kraft_core::adapter::{CloseReason, Stats};
use kraft_core::id::ConnId;
use kraft_core::link::{CloseMode, Link};
use kraft_core::outbox::SHARE_MIN;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

use super::accept::Listener;
use super::bufs::{Bufs, Filled};
use super::conn::{Conn, Flight, Phase, Reading, ZeroCopy};
use super::ops::{Completion, Kind, Op, Token};
use super::ring::Ring;
use super::send;
use super::wake::EventFd;
use crate::config::Config;
use crate::scratch::Scratch;
use crate::slots::Slots;
use crate::sock::{self, BULK};
use crate::wake::sleeper::Sleeper;

/// Listeners of one adapter.
const LISTENERS_MAX: usize = 1024;

/// From so many links that users put to in a turn on, what is small goes by the ring.
///
/// Measured over as many connections with messages of 64 B, against a plain call for each: one takes 1.04 of its CPU
/// time, since the completion of its send ends the wait that it is submitted by and there is another one; two 1.00,
/// four 0.98, 64 and 1,000 0.96.
const CROWD_MIN: usize = 4;

/// Set in the token of a listener's own timer. Slots are below 2^24.
pub(super) const LISTENER: u64 = 1 << 31;

/// The adapter without its means to wait.
///
/// Each list holds ids, of which some may be stale by the time that they are met.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) config: Config,
    pub(super) now: Instant,
    pub(super) timers: Timers,
    pub(super) ring: Ring,
    pub(super) bufs: Bufs,
    pub(super) conns: Slots<Conn>,
    pub(super) listeners: Slots<Listener>,
    pub(super) stats: Stats,
    /// Connections over for their users that still stand in their slots.
    leaving: usize,
    /// Completions that were taken and not dealt with, in order.
    pub(super) reaped: VecDeque<Completion>,
    /// Links that were in the user's hands.
    dirty: Vec<ConnId>,
    /// Connections that have something to deliver without a completion.
    pub(super) ready: VecDeque<ConnId>,
    /// Connections with `Written` or `Drained` to deliver.
    pub(super) news: VecDeque<ConnId>,
    /// `Closed` to deliver; each keeps a slot of `conns` until then.
    pub(super) closed: VecDeque<(ConnId, CloseReason)>,
    /// Connections that found no buffer, and had none since they asked; then those that had some. Boxed, so that the
    /// backends are about as big as each other.
    pub(super) starved: Box<[VecDeque<ConnId>; 2]>,
    /// What is lent to the user. It is only met after a panic of his, and goes back to the ring then.
    pub(super) lent: Option<Filled>,
    /// A buffer that is lent to the connection that is served, for what it is put.
    pub(super) spare: Vec<u8>,
    /// What a broken connection is read into.
    pub(super) scratch: Option<Scratch>,
    /// Links are acted on in a crowd.
    in_crowd: bool,
    /// From so many bytes at a time on nothing is copied, if the kernel knows how.
    pub(super) zero_copy_min: Option<usize>,
    pub(super) zero_copy_sends: u64,
    pub(super) sleeper: Sleeper<Arc<EventFd>>,
    /// What a wake signals.
    wakes: Arc<EventFd>,
}

impl Turn {
    pub(super) fn new(config: Config, ring: Ring, bufs: Bufs, wakes: EventFd) -> Self {
        let wakes = Arc::new(wakes);
        Self {
            sleeper: Sleeper::new(Arc::clone(&wakes)),
            wakes,
            now: Instant::ZERO,
            timers: Timers::default(),
            ring,
            bufs,
            conns: Slots::new(config.max_connections),
            listeners: Slots::new(LISTENERS_MAX),
            stats: Stats::default(),
            leaving: 0,
            reaped: VecDeque::new(),
            dirty: Vec::new(),
            ready: VecDeque::new(),
            news: VecDeque::new(),
            closed: VecDeque::new(),
            starved: Default::default(),
            lent: None,
            spare: Vec::new(),
            scratch: None,
            in_crowd: false,
            zero_copy_min: None,
            zero_copy_sends: 0,
            config,
        }
    }

    /// Whether there is, or may be, something to do without waiting.
    pub(super) fn has_work(&self) -> bool {
        let is_idle = self.reaped.is_empty()
            && self.ready.is_empty()
            && self.news.is_empty()
            && self.closed.is_empty()
            && self.starved.iter().all(VecDeque::is_empty);
        !is_idle
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            active: (self.conns.used() - self.closed.len() - self.leaving) as u64,
            timers: self.timers.len() as u64,
            syscalls: self.stats.syscalls + self.ring.calls(),
            ..self.stats
        }
    }

    pub(super) fn insert(&mut self, conn: Conn) -> Option<ConnId> {
        let (slot, generation) = self.conns.insert_with(|_, _| conn)?;
        Some(ConnId::new(slot, generation))
    }

    /// The user's side of a connection; what he does to it is looked at by the next `act_on_links`.
    pub(super) fn link(&mut self, id: ConnId) -> Option<&mut Link> {
        let conn = self.conns.get_mut(id.slot(), id.generation())?;
        if conn.is_leaving() {
            return None;
        }
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

    /// Ends a connection for its user. What is in flight is taken back; `Closed` is delivered when it has landed.
    pub(super) fn retire(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return;
        };
        if conn.is_leaving() {
            return;
        }
        if let Some(timer) = conn.limit.take() {
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
        self.leaving += 1;
        conn.phase = Phase::Leaving(reason);
        conn.held.clear();
        if conn.receive == Flight::Armed {
            conn.receive = Flight::Cancelled;
            self.ring.push(&Op::cancel(Token::of_conn(Kind::Receive, id)));
        }
        if conn.watch == Flight::Armed {
            conn.watch = Flight::Cancelled;
            self.ring.push(&Op::cancel(Token::of_conn(Kind::Watch, id)));
        }
        if conn.sending.is_kept() {
            return self.see_off(id);
        }
        if conn.sending.is_lent() {
            self.ring.push(&Op::cancel(Token::of_conn(Kind::Send, id)));
        }
        self.let_go(id);
    }

    /// A connection is over whose last bytes the system reads from our memory until the peer has acknowledged them. They
    /// end as they would from a copy, in a FIN behind them; but nobody waits for a peer for longer than `linger`.
    pub(super) fn see_off(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return;
        };
        // One that is broken, or had its time, is not waited for.
        if conn.phase == Phase::Leaving(CloseReason::Requested) && conn.stream.shutdown_write().is_ok() {
            self.limit(id, self.now + self.config.linger);
        } else if !send::discard(&conn.stream) {
            conn.sending.abandon();
        }
        self.let_go(id);
    }

    /// Closes the socket of a connection that is over, if nothing is in flight any more, and has `Closed` delivered.
    pub(super) fn let_go(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return;
        };
        if let Phase::Leaving(reason) = conn.phase
            && conn.is_landed()
        {
            if let Some(timer) = conn.limit.take() {
                self.timers.stop_own(timer);
            }
            self.conns.retire(id.slot(), id.generation());
            self.leaving -= 1;
            self.closed.push_back((id, reason));
        }
    }

    /// Does what users asked of links since the last call. `clock` is read only if a deadline is to be set.
    pub(super) fn act_on_links(&mut self, clock: impl Fn() -> Instant) {
        let mut dirty = mem::take(&mut self.dirty);
        self.in_crowd = dirty.len() >= CROWD_MIN;
        for id in dirty.drain(..) {
            self.act_on_link(id, &clock);
        }
        self.in_crowd = false;
        self.dirty = dirty;
    }

    fn act_on_link(&mut self, id: ConnId, clock: impl Fn() -> Instant) {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return;
        };
        conn.listed.dirty = false;
        match (conn.link.intents().close, conn.phase) {
            (_, Phase::Leaving(_)) => return,
            (Some(CloseMode::Now), _) => return self.retire(id, CloseReason::Requested),
            // One that still connects sends first what was put; its connect has a limit of its own.
            (Some(CloseMode::Flush), Phase::Open) => {
                conn.phase = Phase::Flushing;
                conn.held.clear();
                let deadline = clock() + self.config.linger;
                self.limit(id, deadline);
            }
            _ => {}
        }
        self.send(id);
        self.arrange(id);
    }

    /// Sees to it that for a connection there is in flight what its state wants, and nothing else; lists it if there is
    /// something to deliver.
    pub(super) fn arrange(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return;
        };
        if conn.is_leaving() || conn.phase == Phase::Connecting {
            return;
        }
        if let Some(reason) = conn.fault
            && conn.reading() != Reading::Deliver
        {
            // A user who paused may wait for `Drained`, which does not come any more: he must hear of the end.
            return self.retire(id, reason);
        }
        let fd = conn.stream.as_raw_fd();
        match conn.receive {
            Flight::Landed if conn.wants_receive() && !conn.listed.starved => {
                conn.receive = Flight::Armed;
                conn.fed = false;
                self.ring.push(&Op::receive(fd, Token::of_conn(Kind::Receive, id)));
            }
            Flight::Armed if !conn.wants_receive() => {
                conn.receive = Flight::Cancelled;
                self.ring.push(&Op::cancel(Token::of_conn(Kind::Receive, id)));
            }
            _ => {}
        }
        if conn.wants_watch() {
            conn.watch = Flight::Armed;
            // Errors and hang-ups are always told.
            self.ring.push(&Op::watch(fd, 0, Token::of_conn(Kind::Watch, id)));
        }
        if conn.is_ready() && !mem::replace(&mut conn.listed.ready, true) {
            self.ready.push_back(id);
        }
    }

    /// Waits for wakes.
    pub(super) fn watch_wakes(&mut self) {
        self.ring.push(&Op::watch_wakes(self.wakes.as_raw_fd()));
    }

    /// The bell rang, for a wake that is due or was delivered already.
    pub(super) fn rung(&mut self, done: Completion) {
        if !done.has_more() {
            // It also ends at a full completion queue. Cleared first, or it would tell of the same rings again.
            self.wakes.clear();
            self.watch_wakes();
        }
    }

    /// Waits for the outcome of a connect.
    pub(super) fn watch_connect(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
            conn.watch = Flight::Armed;
            let token = Token::of_conn(Kind::Watch, id);
            let op = Op::watch(conn.stream.as_raw_fd(), libc::POLLOUT, token);
            self.ring.push(&op);
        }
    }

    /// Hands the system what is put, and goes on with a closing flush.
    ///
    /// What is small, and not alone, by the ring: the call that waits sends it, and a system call is 2 % of what a small
    /// message costs. Other bytes by a plain call as long as there is room: it is done when it returns, so that their
    /// memory is in the cache for the next ones. Without room by the ring, which waits for some and sends in one.
    /// Measured over 64 connections: sent by the ring alone, a message costs 2-5 % more CPU time at 16 KiB, 4-5 % at
    /// 64 KiB; sixteen messages of 64 KiB at a time, which find no room, cost 4-8 % less.
    pub(super) fn send(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return;
        };
        if conn.is_leaving() || conn.phase == Phase::Connecting || conn.fault.is_some() {
            return;
        }
        if !conn.sending.is_lent()
            && conn.has_unsent()
            && let Err(error) = self.send_unsent(id)
        {
            return self.fail(id, sock::close_reason(&error));
        }
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return;
        };
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

    fn send_unsent(&mut self, id: ConnId) -> io::Result<()> {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return Ok(());
        };
        let outbox = conn.link.outbox();
        if conn.zero_copy == ZeroCopy::NotThese && conn.sending.is_empty() {
            conn.zero_copy = ZeroCopy::Tried;
        }
        let waiting = outbox.waiting();
        let is_small = waiting < self.zero_copy_min.unwrap_or(SHARE_MIN).min(SHARE_MIN);
        if self.in_crowd && is_small && waiting > 0 && !conn.congested && conn.sending.is_empty() {
            outbox.take(conn.sending.segments_mut());
            let bytes = conn.sending.lend_one();
            // SAFETY: `Sending` keeps what is lent until it is taken back, which `sent` does at the last completion.
            let op = unsafe { Op::send_one(conn.stream.as_raw_fd(), bytes, Token::of_conn(Kind::Send, id)) };
            self.ring.push(&op);
            return Ok(());
        }
        if let Some(min) = self.zero_copy_min
            && conn.zero_copy == ZeroCopy::Tried
        {
            if conn.sending.is_empty() {
                outbox.take(conn.sending.segments_mut());
            }
            if conn.sending.unsent() >= min {
                let header = conn.sending.lend();
                // SAFETY: `Sending` keeps what is lent until it is taken back, which `sent` does at the last completion.
                let op = unsafe { Op::send_zero_copy(conn.stream.as_raw_fd(), header, Token::of_conn(Kind::Send, id)) };
                self.ring.push(&op);
                self.zero_copy_sends += 1;
                return Ok(());
            }
        }
        if !conn.congested {
            let segments = conn.sending.segments_mut();
            let has_room = conn.stream.send_all(outbox, segments, &mut self.stats)?;
            conn.congested = !has_room;
        }
        if !conn.congested {
            return Ok(());
        }
        if conn.sending.is_empty() {
            outbox.take(conn.sending.segments_mut());
        }
        if conn.sending.is_empty() {
            conn.congested = false;
            return Ok(());
        }
        let header = conn.sending.lend();
        // SAFETY: `Sending` keeps what is lent until it is taken back, which `sent` does at the last completion.
        let op = unsafe { Op::send(conn.stream.as_raw_fd(), header, Token::of_conn(Kind::Send, id)) };
        self.ring.push(&op);
        Ok(())
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
        if let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) {
            conn.fault.get_or_insert(reason);
            self.arrange(id);
        }
    }

    /// A link came back from the user: a cut is done at once (law A4), the rest by the next `act_on_links`. Returns
    /// whether the connection lives.
    pub(super) fn returned(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
            return false;
        };
        if conn.is_leaving() {
            return false;
        }
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
