//! `poll(2)` as an adapter: what a backend of one's own takes, whole and in one file.
//!
//! It uses what anybody's crate can use: the traits of `kraft-core`, and of `kraft-adapters` what our own backends are
//! made of. `tests/suite.rs` has it judged, `docs/custom-adapters.md` goes through it. It looks at every connection in
//! every turn, as poll(2) makes the system do anyway: slow with thousands of them, and simple.

#![forbid(unsafe_code)]
// What the guide shows compiles.
#![cfg_attr(doctest, doc = include_str!("../../../../docs/custom-adapters.md"))]

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use kraft_adapters::slots::Slots;
use kraft_adapters::sock::{self, Accept, Acceptor, Stream};
use kraft_adapters::{Clock, Config, WakeLine};
use kraft_core::adapter::{Adapter, Capabilities, CloseReason, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::{CloseMode, Link};
use kraft_core::outbox::Segments;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;
use rustix::event::{PollFd, PollFlags, Timespec};

/// Listeners at a time: a node has a handful.
const LISTENERS_MAX: usize = 64;

/// An event loop over `poll(2)`.
#[derive(Debug)]
pub struct Poll {
    config: Config,
    clock: Clock,
    now: Instant,
    timers: Timers,
    conns: Slots<Conn>,
    listeners: Slots<Listener>,
    /// `Closed` to deliver; each keeps its slot until then.
    closed: VecDeque<(ConnId, CloseReason)>,
    /// One buffer for all that is received: it is lent, never kept.
    scratch: Box<[u8]>,
    wake: WakeLine,
    /// What a wait asks about and, in the same order, what the system says. Memory of all waits (law A22).
    asked: Vec<(Token, PollFlags)>,
    fds: Vec<PollFd<'static>>,
    stats: Stats,
}

#[derive(Clone, Copy, Debug)]
enum Token {
    Wake,
    Listener(ListenerId),
    Conn(ConnId),
}

#[derive(Debug)]
struct Listener {
    acceptor: Acceptor,
    active: usize,
    max: usize,
    /// Until then it waits for descriptors (law A26).
    rests_until: Instant,
}

#[derive(Debug)]
struct Conn {
    id: ConnId,
    stream: Stream,
    link: Link,
    /// Taken out of the outbox, partly sent: out of the user's reach.
    in_flight: Segments,
    phase: Phase,
    listener: Option<ListenerId>,
    /// When a connect, or a closing flush, has taken too long.
    limit: Option<Instant>,
    /// It is broken, but bytes that came before may still be read.
    fault: Option<CloseReason>,
    /// The peer's FIN was read.
    ended: bool,
    /// poll(2) says again and again that the peer hung up, and nobody reads: it is not asked.
    muted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    /// `close(Flush)`: sends what was put, discards what comes.
    Flushing,
    /// FIN is sent, the peer's is waited for.
    Shut,
}

/// `Err` says that a connection is over, and why: the loop closes its socket and delivers `Closed`.
type Lives<T = ()> = Result<T, CloseReason>;

/// Lends an event to the user.
type Emit<'a> = &'a mut dyn FnMut(Event<'_>);

impl Conn {
    /// Whether the user gets what arrives.
    fn delivers(&self) -> bool {
        let intents = self.link.intents();
        self.phase == Phase::Open && !self.ended && !intents.paused && intents.close.is_none()
    }

    /// Whether what arrives is read at all; a closing connection discards it until FIN (law A9).
    fn reads(&self) -> bool {
        self.delivers() || matches!(self.phase, Phase::Flushing | Phase::Shut) && !self.ended
    }

    /// What to ask poll(2) for. It tells of errors unasked.
    fn interest(&self) -> PollFlags {
        let writes = self.phase == Phase::Connecting || !self.in_flight.is_empty();
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, self.reads());
        interest.set(PollFlags::OUT, writes);
        interest
    }

    /// Does what its user asked of the link. Whether there is something to deliver that no descriptor tells of.
    fn act(&mut self, now: Instant, linger: Duration, stats: &mut Stats) -> Lives<bool> {
        let close = self.link.intents().close;
        match self.fault {
            _ if close == Some(CloseMode::Now) => return Err(CloseReason::Requested),
            // Who does not take the bytes that came before must hear of the end.
            Some(reason) if !self.delivers() => return Err(reason),
            Some(_) => return Ok(true),
            None if self.limit.is_some_and(|limit| limit <= now) => return Err(CloseReason::TimedOut),
            // What is put meanwhile is sent first (law A33), and nothing is told before `Connected` (law A1).
            None if self.phase == Phase::Connecting => return Ok(false),
            None => {}
        }
        if close.is_some() && self.phase == Phase::Open {
            self.phase = Phase::Flushing;
            self.limit = Some(now + linger);
        }
        if let Err(error) = self.stream.send_all(self.link.outbox(), &mut self.in_flight, stats) {
            self.fault = Some(sock::close_reason(&error));
            return Ok(true);
        }
        if self.phase == Phase::Flushing && self.in_flight.is_empty() {
            if self.ended {
                return Err(CloseReason::Requested);
            }
            self.stream.shutdown_write().map_err(|error| sock::close_reason(&error))?;
            self.phase = Phase::Shut;
        }
        Ok(self.link.outbox().has_news())
    }

    /// Does what poll(2) said.
    fn serve(&mut self, flags: PollFlags, reads: usize, buf: &mut [u8], stats: &mut Stats, emit: Emit<'_>) -> Lives {
        if self.phase == Phase::Connecting {
            if self.stream.connected().map_err(|error| sock::close_reason(&error))? {
                self.phase = Phase::Open;
                self.limit = None;
                let (conn, link) = (self.id, &mut self.link);
                emit(Event::Connected { conn, link });
            }
            return Ok(());
        }
        self.muted = flags.intersects(PollFlags::ERR | PollFlags::HUP) && !self.reads();
        if self.muted {
            return self.stream.take_error().map_or(Ok(()), |error| Err(sock::close_reason(&error)));
        }
        // Some reads, so that it starves no other (law A18): poll(2) says again what is left.
        for _ in 0..reads {
            if !self.reads() || self.link.intents().close == Some(CloseMode::Now) || !self.read(buf, stats, emit)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether there may be more to read.
    fn read(&mut self, scratch: &mut [u8], stats: &mut Stats, emit: Emit<'_>) -> Lives<bool> {
        let (conn, delivers) = (self.id, self.delivers());
        let link = &mut self.link;
        stats.syscalls += 1;
        match self.stream.read(scratch) {
            Ok(0) if self.fault.is_some() || self.phase == Phase::Shut => {
                Err(self.fault.unwrap_or(CloseReason::Requested))
            }
            Ok(0) => {
                self.ended = true;
                if delivers {
                    emit(Event::Ended { conn, link });
                }
                Ok(false)
            }
            Ok(count) => {
                stats.bytes_in += count as u64;
                let bytes = &scratch[..count];
                if delivers {
                    emit(Event::Received { conn, bytes, link });
                }
                Ok(count == scratch.len())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.fault.is_none() => Ok(false),
            Err(error) => Err(self.fault.unwrap_or_else(|| sock::close_reason(&error))),
        }
    }
}

impl Poll {
    /// Opens the loop.
    ///
    /// # Errors
    ///
    /// A field of `config` that is out of its range; the system's, if it has no descriptor left.
    pub fn open(config: &Config) -> io::Result<Self> {
        config.validate()?;
        Ok(Self {
            config: config.clone(),
            clock: Clock::start(),
            now: Instant::ZERO,
            timers: Timers::default(),
            conns: Slots::new(config.max_connections),
            listeners: Slots::new(LISTENERS_MAX),
            closed: VecDeque::new(),
            scratch: vec![0; config.read_buffer].into_boxed_slice(),
            wake: WakeLine::open()?,
            asked: Vec::new(),
            fds: Vec::new(),
            stats: Stats::default(),
        })
    }

    fn insert(&mut self, stream: Stream, phase: Phase, listener: Option<ListenerId>) -> &mut Conn {
        let link = Link::new(self.config.write_queue_max);
        let make = |slot, generation| Conn {
            id: ConnId::new(slot, generation),
            stream,
            link,
            in_flight: Segments::new(),
            phase,
            listener,
            limit: None,
            fault: None,
            ended: false,
            muted: false,
        };
        let (slot, generation) = self.conns.insert_with(make).expect("the caller saw a free slot");
        self.conns.get_mut(slot as usize, generation).expect("it was put in just now")
    }

    /// Closes the socket at once and has `Closed` delivered.
    fn retire(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.retire(id.slot(), id.generation()) else {
            return;
        };
        let listener = conn.listener.and_then(|id| self.listeners.get_mut(id.slot(), id.generation()));
        if let Some(listener) = listener {
            listener.active -= 1;
        }
        let failed = conn.phase == Phase::Connecting && reason != CloseReason::Requested;
        self.stats.failed += u64::from(failed);
        self.stats.closed += 1;
        self.closed.push_back((id, reason));
    }

    /// Does what users asked of all links. Whether there is something to deliver that no descriptor tells of.
    fn act(&mut self) -> bool {
        let (now, mut has_work, mut over) = (self.clock.now(), false, Vec::new());
        for (_, _, conn) in self.conns.iter_mut() {
            match conn.act(now, self.config.linger, &mut self.stats) {
                Ok(has_news) => has_work |= has_news,
                Err(reason) => over.push((conn.id, reason)),
            }
        }
        over.into_iter().for_each(|(id, reason)| self.retire(id, reason));
        has_work || !self.closed.is_empty()
    }

    /// Waits for a descriptor, a timer, a limit of our own or `deadline`.
    fn wait(&mut self, deadline: Option<Instant>, has_work: bool) -> io::Result<()> {
        let now = self.clock.now();
        let mut until = deadline.into_iter().chain(self.timers.next_deadline()).min();
        let mut fds = recycle(std::mem::take(&mut self.fds));
        self.asked.clear();
        let mut ask = |token, fd, interest, known| {
            fds.push(PollFd::from_borrowed_fd(fd, interest));
            self.asked.push((token, known));
        };
        ask(Token::Wake, self.wake.as_fd(), PollFlags::IN, PollFlags::empty());
        for (slot, generation, listener) in self.listeners.iter() {
            if listener.rests_until > now {
                until = until.into_iter().chain([listener.rests_until]).min();
            } else {
                let token = Token::Listener(ListenerId::new(slot, generation));
                ask(token, listener.acceptor.as_fd(), PollFlags::IN, PollFlags::empty());
            }
        }
        for (_, _, conn) in self.conns.iter() {
            until = until.into_iter().chain(conn.limit).min();
            // One that is broken is read once more, whatever the system says of it.
            let known = if conn.fault.is_some() { PollFlags::ERR } else { PollFlags::empty() };
            if !conn.muted || !conn.interest().is_empty() {
                ask(Token::Conn(conn.id), conn.stream.as_fd(), conn.interest(), known);
            }
        }
        let until = if has_work { Some(now) } else { until };
        let timeout = until.map(|until| Timespec::try_from(until - now).expect("it is at most 584 years"));
        self.stats.syscalls += 1;
        let polled = rustix::event::poll(&mut fds, timeout.as_ref());
        for ((_, flags), fd) in self.asked.iter_mut().zip(&fds) {
            *flags |= fd.revents();
        }
        self.fds = recycle(fds);
        // A signal ends the wait and nothing else: the turn waits on (law A16).
        let is_signal = polled == Err(rustix::io::Errno::INTR);
        polled.map(drop).or_else(|error| if is_signal { Ok(()) } else { Err(error.into()) })
    }

    /// Delivers what the wait brought, and what is due.
    fn deliver(&mut self, emit: Emit<'_>) {
        for at in 0..self.asked.len() {
            match self.asked[at] {
                (_, flags) if flags.is_empty() => {}
                (Token::Wake, _) if self.wake.take() => emit(Event::Woken),
                (Token::Wake, _) => {}
                (Token::Listener(id), _) => self.accept(id, emit),
                (Token::Conn(id), flags) => {
                    let Some(conn) = self.conns.get_mut(id.slot(), id.generation()) else {
                        continue;
                    };
                    let (reads, scratch, stats) = (self.config.reads_per_turn, &mut self.scratch, &mut self.stats);
                    if let Err(reason) = conn.serve(flags, reads, scratch, stats, emit) {
                        self.retire(id, reason);
                    }
                }
            }
        }
        while let Some(timer) = self.timers.expire(self.now) {
            emit(Event::Expired { timer });
        }
        for (_, _, conn) in self.conns.iter_mut().filter(|(_, _, conn)| conn.phase != Phase::Connecting) {
            conn.link.tell(conn.id, &mut *emit);
        }
        while let Some((conn, reason)) = self.closed.pop_front() {
            self.conns.release(conn.slot());
            emit(Event::Closed { conn, reason });
        }
    }

    fn accept(&mut self, id: ListenerId, emit: Emit<'_>) {
        for _ in 0..self.config.accepts_per_turn {
            let Some(listener) = self.listeners.get_mut(id.slot(), id.generation()) else {
                return;
            };
            self.stats.syscalls += 1;
            let (stream, peer) = match listener.acceptor.accept() {
                Accept::One(stream, peer) => (stream, peer),
                Accept::Failed => continue,
                Accept::Empty => return,
                Accept::Exhausted => return listener.rests_until = self.now + self.config.accept_pause,
            };
            if listener.active == listener.max || self.conns.is_full() {
                self.stats.turned_away += 1;
                continue;
            }
            listener.active += 1;
            self.stats.accepted += 1;
            let new = self.insert(stream, Phase::Open, Some(id));
            let (listener, conn, link) = (id, new.id, &mut new.link);
            emit(Event::Accepted { listener, conn, peer, link });
        }
    }
}

impl Adapter for Poll {
    fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
        let named = |error| sock::named("listen on", at, &error);
        let acceptor = Acceptor::listen(at, options.backlog, &self.config).map_err(named)?;
        let max = options.max_connections;
        let listener = Listener { acceptor, active: 0, max, rests_until: Instant::ZERO };
        let place = self.listeners.insert_with(|_, _| listener);
        let (slot, generation) = place.ok_or_else(|| named(ErrorKind::QuotaExceeded.into()))?;
        Ok(ListenerId::new(slot, generation))
    }

    fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
        let listener = self.listeners.get(listener.slot(), listener.generation());
        listener.ok_or(ErrorKind::NotFound)?.acceptor.endpoint()
    }

    fn unlisten(&mut self, listener: ListenerId) {
        if self.listeners.retire(listener.slot(), listener.generation()).is_some() {
            self.listeners.release(listener.slot());
        }
    }

    fn connect(&mut self, to: &Endpoint) -> io::Result<ConnId> {
        let named = |error| sock::named("connect to", to, &error);
        if self.conns.is_full() {
            return Err(named(ErrorKind::QuotaExceeded.into()));
        }
        let (stream, outcome) = Stream::connect(to, &self.config).map_err(named)?;
        self.stats.initiated += 1;
        let limit = self.clock.now() + self.config.connect_timeout;
        let conn = self.insert(stream, Phase::Connecting, None);
        conn.limit = Some(limit);
        // Refused at once, on a Unix path: `Closed` comes with the next turn all the same (law A7).
        conn.fault = outcome.err().map(|error| sock::close_reason(&error));
        Ok(conn.id)
    }

    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        let conn = self.conns.get_mut(conn.slot(), conn.generation())?;
        Some(&mut conn.link)
    }

    fn timers(&mut self) -> &mut Timers {
        &mut self.timers
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn read_clock(&self) -> Option<Instant> {
        Some(self.clock.now())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.act();
        Ok(())
    }

    fn poll<F>(&mut self, deadline: Option<Instant>, mut on_event: F) -> io::Result<usize>
    where
        F: FnMut(Instant, Event<'_>),
    {
        loop {
            let has_work = self.act();
            self.wait(deadline, has_work)?;
            self.now = self.clock.now();
            let (now, mut count) = (self.now, 0);
            self.deliver(&mut |event| {
                count += 1;
                on_event(now, event);
            });
            // A wait may end for nothing that concerns the user (law A15).
            if count > 0 || deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(count);
            }
        }
    }

    fn waker(&self) -> Waker {
        self.wake.waker()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn capabilities(&self) -> Capabilities {
        let cannot = &[(23, "poll(2) has no descriptor to wait on"), (30, "it has no buffer ring")];
        Capabilities { cannot, thread_bound: false }
    }

    fn stats(&self) -> Stats {
        let active = self.conns.used() - self.closed.len();
        Stats { active: active as u64, timers: self.timers.len() as u64, ..self.stats }
    }

    fn name(&self) -> &'static str {
        "poll"
    }
}

/// An empty vector in the memory of another: what it holds is borrowed for one wait, its memory serves all of them.
fn recycle<'b>(mut fds: Vec<PollFd<'_>>) -> Vec<PollFd<'b>> {
    fds.clear();
    // Collected in place, since what goes in and what comes out have one size.
    fds.into_iter().map(|_| unreachable!("it is empty")).collect()
}
