//! Linux's epoll, by way of `mio`.

mod accept;
mod conn;
mod deliver;
mod turn;
mod wake;

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use kraft_core::adapter::{Adapter, Capabilities, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};

use self::accept::Listener;
use self::conn::{Conn, Phase};
use self::turn::Turn;
use self::wake::Wake;
use crate::clock::Clock;
use crate::config::Config;
use crate::sock::{self, Acceptor, Stream};

/// Events of one wait. More wait for the next one; the system hands them out in turn.
const EVENTS_PER_WAIT: usize = 1024;

/// The epoll backend: readiness, edge-triggered, both interests registered once a connection.
///
/// A turn costs one `epoll_wait`, one `recv` a connection that has bytes (a short one says that there are no more)
/// and one `send` or `sendmsg` a connection that was put to. Received bytes lie in one buffer of the whole loop,
/// which stays in the cache.
///
/// Deadlines are kept to the millisecond that epoll counts in, rounded up: a wait is never short, and up to a
/// millisecond long.
#[derive(Debug)]
pub struct Epoll {
    poll: Poll,
    events: Events,
    turn: Turn,
    clock: Clock,
    wake: Arc<Wake>,
    /// Somebody waits on the epoll descriptor in a loop of his own, so it has to say what a turn left undelivered.
    embedded: Cell<bool>,
    /// It says so already.
    signalled: Cell<bool>,
}

impl Epoll {
    /// Opens the backend.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a field of `config` that is out of its range; else the system's, if it has no descriptor or
    /// memory left.
    pub fn open(config: &Config) -> io::Result<Self> {
        config.validate()?;
        let poll = Poll::new()?;
        let wake = Wake::new(mio::Waker::new(poll.registry(), turn::WAKE)?);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_WAIT),
            turn: Turn::new(config.clone()),
            clock: Clock::start(),
            wake: Arc::new(wake),
            embedded: Cell::new(false),
            signalled: Cell::new(false),
        })
    }

    /// Waits for readiness, the first timer or `deadline`; not at all if something is to be delivered already.
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        if self.turn.has_work() {
            return self.look(Some(Duration::ZERO));
        }
        let until = [deadline, self.turn.timers.next_deadline()].into_iter().flatten().min();
        let spin = self.turn.config.spin;
        if !spin.is_zero() {
            let enough = self.clock.now() + spin;
            let enough = until.map_or(enough, |until| until.min(enough));
            loop {
                self.look(Some(Duration::ZERO))?;
                if !self.events.is_empty() {
                    return Ok(());
                }
                if self.clock.now() >= enough {
                    break;
                }
            }
        }
        self.look(until.map(|until| until - self.clock.now()))
    }

    /// One `epoll_wait`. A signal ends it early and without events (law A16: the caller waits on).
    fn look(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.turn.stats.syscalls += 1;
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            outcome => outcome,
        }
    }

    /// Delivers what the wait brought and what was left. Returns how many events there were.
    fn dispatch<F: FnMut(Instant, Event<'_>)>(&mut self, on_event: &mut F) -> usize {
        let now = self.turn.now;
        let mut count = 0;
        for event in &self.events {
            if event.token() != turn::WAKE {
                count += self.turn.note(event, on_event);
                continue;
            }
            self.signalled.set(false);
            if self.wake.take() {
                on_event(now, Event::Woken);
                count += 1;
            }
        }
        count + self.turn.deliver(self.poll.registry(), on_event)
    }

    /// Makes the epoll descriptor readable if there is something to deliver (law A23).
    fn signal_work(&self) {
        if self.embedded.get() && !self.signalled.get() && self.turn.has_work() {
            self.signalled.set(true);
            self.wake.signal();
        }
    }
}

impl Adapter for Epoll {
    fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
        let acceptor = Acceptor::listen(at, options.backlog, &self.turn.config)
            .map_err(|error| sock::named("listen on", at, &error))?;
        let fd = acceptor.as_raw_fd();
        let listeners = &mut self.turn.listeners;
        let (slot, generation) = listeners
            .insert_with(|_, _| Listener::new(acceptor, options.max_connections))
            .ok_or_else(|| io::Error::new(ErrorKind::QuotaExceeded, format!("listen on {at}: too many listeners")))?;
        let id = ListenerId::new(slot, generation);
        let token = turn::listener_token(id);
        if let Err(error) = self
            .poll
            .registry()
            .register(&mut SourceFd(&fd), token, Interest::READABLE)
        {
            self.unlisten(id);
            return Err(sock::named("listen on", at, &error));
        }
        Ok(id)
    }

    fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
        let listener = self.turn.listeners.get(listener.slot(), listener.generation());
        listener.ok_or(ErrorKind::NotFound)?.acceptor.endpoint()
    }

    fn unlisten(&mut self, listener: ListenerId) {
        // The descriptor leaves the epoll set when it is closed.
        if let Some(gone) = self.turn.listeners.retire(listener.slot(), listener.generation()) {
            if let Some(timer) = gone.resting {
                self.turn.timers.stop_own(timer);
            }
            self.turn.listeners.release(listener.slot());
        }
    }

    fn connect(&mut self, to: &Endpoint) -> io::Result<ConnId> {
        let config = &self.turn.config;
        if self.turn.conns.is_full() {
            let text = format!(
                "connect to {to}: all {} connections are in use (max_connections)",
                config.max_connections
            );
            return Err(io::Error::new(ErrorKind::QuotaExceeded, text));
        }
        let (stream, outcome) = Stream::connect(to, config).map_err(|error| sock::named("connect to", to, &error))?;
        let fd = stream.as_raw_fd();
        let conn = Conn::new(stream, Phase::Connecting, None, config.write_queue_max);
        let id = self.turn.insert(conn).expect("a slot is free");
        if outcome.is_ok() {
            let both = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = self
                .poll
                .registry()
                .register(&mut SourceFd(&fd), turn::conn_token(id), both)
            {
                self.turn.withdraw(id);
                return Err(sock::named("connect to", to, &error));
            }
        }
        self.turn.stats.initiated += 1;
        match outcome {
            Ok(()) => self.turn.limit(id, self.clock.now() + self.turn.config.connect_timeout),
            Err(error) => self.turn.doom(id, sock::close_reason(&error)),
        }
        Ok(id)
    }

    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        self.turn.link(conn)
    }

    fn timers(&mut self) -> &mut Timers {
        &mut self.turn.timers
    }

    fn now(&self) -> Instant {
        self.turn.now
    }

    fn flush(&mut self) -> io::Result<()> {
        let clock = self.clock;
        self.turn.act_on_links(|| clock.now());
        self.signal_work();
        Ok(())
    }

    fn poll<F>(&mut self, deadline: Option<Instant>, mut on_event: F) -> io::Result<usize>
    where
        F: FnMut(Instant, Event<'_>),
    {
        let clock = self.clock;
        self.turn.act_on_links(|| clock.now());
        loop {
            self.wait(deadline)?;
            self.turn.now = self.clock.now();
            let count = self.dispatch(&mut on_event);
            // A wait may end for nothing that concerns the user: a signal, room for bytes that were put, an
            // own timer (law A15).
            if count > 0 || deadline.is_some_and(|deadline| deadline <= self.turn.now) {
                self.signal_work();
                return Ok(count);
            }
        }
    }

    fn waker(&self) -> Waker {
        let wake = Arc::clone(&self.wake);
        Waker::new(move || wake.wake())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.embedded.set(true);
        self.signal_work();
        // SAFETY: `self.poll` owns the descriptor, and the borrow of `self` keeps it open.
        Some(unsafe { BorrowedFd::borrow_raw(self.poll.as_raw_fd()) })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cannot: &[(30, "epoll has no buffer ring")],
            thread_bound: false,
        }
    }

    fn stats(&self) -> Stats {
        self.turn.stats()
    }

    fn name(&self) -> &'static str {
        "epoll"
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        self.wake.close();
    }
}
