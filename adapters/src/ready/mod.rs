//! What backends share that are told which sockets are ready, and read and write themselves.
//!
//! Such a backend is a [`Selector`], which waits, around the one [`Ready`], which does the rest: connects and accepts,
//! reads and writes, timers, closing, and the order of events. So the laws are kept in one place for all of them.

mod accept;
mod conn;
mod deliver;
mod turn;

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use kraft_core::adapter::{Endpoint, Event, ListenOptions, Stats};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

use self::accept::Listener;
use self::conn::{Conn, Phase};
use self::turn::Turn;
use crate::clock::Clock;
use crate::config::Config;
use crate::sock::{self, Acceptor, Stream};
use crate::wake::Bell;
use crate::wake::sleeper::Sleeper;

/// Waits until sockets are ready.
///
/// There are two kinds. One **tells of changes**, each once, and ignores interests: a socket is registered with both.
/// The other **tells of what is**, at every wait, of those sides of a socket that are in its interest; which is then
/// kept to what the loop would act upon, so that a wait does not return for nothing.
///
/// A token is the `u64` of an id, for a listener with [`LISTENER`] set. It may come back with its upper half cut off
/// where `usize` has 32 bits.
pub(crate) trait Selector {
    /// Whether it tells of what is.
    const TELLS_STATE: bool;

    /// What a wait brought.
    type Told;

    /// What ends a wait.
    type Bell: Bell;

    /// Watches a socket, until [`deregister`](Self::deregister) or its close.
    ///
    /// # Errors
    ///
    /// The system's, if it has no memory or no watch left.
    fn register(&mut self, socket: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()>;

    /// What is of interest of a socket from here on.
    ///
    /// # Errors
    ///
    /// The system's.
    fn change(&mut self, socket: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()>;

    /// Watches a socket no more. Called before it is closed.
    fn deregister(&mut self, socket: BorrowedFd<'_>, token: u64);

    /// Waits until something is ready or the time is over. A signal may end it early. One that hears of more in a wait
    /// than it wants to keep calls `full` in between, which takes what was told so far.
    ///
    /// # Errors
    ///
    /// What ends the adapter.
    fn wait(
        ready: &mut Ready<Self>,
        timeout: Option<Duration>,
        full: &mut dyn FnMut(&mut Ready<Self>),
    ) -> io::Result<()>
    where
        Self: Sized;

    /// What the last wait brought.
    fn told(told: &Self::Told) -> impl Iterator<Item = Readiness>;

    /// What ends a wait, and takes that back.
    fn sleeper(&self) -> &Sleeper<Self::Bell>;

    /// Rings if there is something to deliver without waiting, and somebody waits in a loop of his own (law A23), unless
    /// it was `signalled` to him.
    fn tell_work(&self, has_work: bool, signalled: &Cell<bool>) {
        if has_work && self.sleeper().is_embedded() && !signalled.replace(true) {
            self.sleeper().signal();
        }
    }
}

/// Which sides of a socket are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    pub(crate) const NONE: Self = Self {
        read: false,
        write: false,
    };
    pub(crate) const READ: Self = Self {
        read: true,
        write: false,
    };
    pub(crate) const WRITE: Self = Self {
        read: false,
        write: true,
    };
}

/// What a wait brought about one socket. All of it is a hint: the calls that follow find out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    pub(crate) token: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// FIN, or worse, stands behind the bytes.
    pub(crate) read_closed: bool,
    /// The socket is in error.
    pub(crate) error: bool,
}

/// Set in a listener's token. Slots are below 2^24.
pub(crate) const LISTENER: u64 = 1 << 31;

/// An adapter around a selector.
#[derive(Debug)]
pub(crate) struct Ready<S: Selector> {
    turn: Turn<S>,
    told: S::Told,
    clock: Clock,
    /// Who waits in a loop of his own was told since the last wait that a turn left something.
    signalled: Cell<bool>,
}

impl<S: Selector> Ready<S> {
    /// `told` is room for what a wait brings.
    pub(crate) fn new(config: Config, selector: S, told: S::Told) -> Self {
        Self {
            turn: Turn::new(config, selector),
            told,
            clock: Clock::start(),
            signalled: Cell::new(false),
        }
    }

    pub(crate) fn selector(&self) -> &S {
        &self.turn.selector
    }

    /// The selector, and its room for what a wait brings.
    pub(crate) fn parts(&mut self) -> (&mut S, &mut S::Told) {
        (&mut self.turn.selector, &mut self.told)
    }

    /// Whether there is something to deliver without waiting.
    #[cfg(all(feature = "libuv", unix))]
    pub(crate) fn has_work(&self) -> bool {
        self.turn.has_work()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.turn.stats()
    }

    pub(crate) fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
        let acceptor = Acceptor::listen(at, options.backlog, &self.turn.config)
            .map_err(|error| sock::named("listen on", at, &error))?;
        let listeners = &mut self.turn.listeners;
        let (slot, generation) = listeners
            .insert_with(|_, _| Listener::new(acceptor, options.max_connections))
            .ok_or_else(|| io::Error::new(ErrorKind::QuotaExceeded, format!("listen on {at}: too many listeners")))?;
        let id = ListenerId::new(slot, generation);
        let listener = listeners.get(slot as usize, generation).expect("it was put in above");
        let token = turn::listener_token(id);
        let registered = self
            .turn
            .selector
            .register(listener.acceptor.as_fd(), token, Interest::READ);
        if let Err(error) = registered {
            self.turn.forget_listener(id);
            return Err(sock::named("listen on", at, &error));
        }
        self.tell_work();
        Ok(id)
    }

    pub(crate) fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
        let listener = self.turn.listeners.get(listener.slot(), listener.generation());
        listener.ok_or(ErrorKind::NotFound)?.acceptor.endpoint()
    }

    pub(crate) fn unlisten(&mut self, listener: ListenerId) {
        if let Some(known) = self.turn.listeners.get(listener.slot(), listener.generation()) {
            let token = turn::listener_token(listener);
            self.turn.selector.deregister(known.acceptor.as_fd(), token);
            self.turn.forget_listener(listener);
        }
    }

    pub(crate) fn connect(&mut self, to: &Endpoint) -> io::Result<ConnId> {
        let config = &self.turn.config;
        if self.turn.conns.is_full() {
            let text = format!(
                "connect to {to}: all {} connections are in use (max_connections)",
                config.max_connections
            );
            return Err(io::Error::new(ErrorKind::QuotaExceeded, text));
        }
        let (stream, outcome) = Stream::connect(to, config).map_err(|error| sock::named("connect to", to, &error))?;
        let conn = Conn::new(stream, Phase::Connecting, None, config.write_queue_max);
        let id = self.turn.insert(conn).expect("a slot is free");
        if outcome.is_ok()
            && let Err(error) = self.turn.register(id)
        {
            self.turn.withdraw(id);
            return Err(sock::named("connect to", to, &error));
        }
        self.turn.stats.initiated += 1;
        match outcome {
            Ok(()) => self.turn.limit(id, self.clock.now() + self.turn.config.connect_timeout),
            Err(error) => self.turn.doom(id, sock::close_reason(&error)),
        }
        self.tell_work();
        Ok(id)
    }

    pub(crate) fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        self.turn.link(conn)
    }

    pub(crate) fn timers(&mut self) -> &mut Timers {
        &mut self.turn.timers
    }

    pub(crate) fn now(&self) -> Instant {
        self.turn.now
    }

    pub(crate) fn read_clock(&self) -> Instant {
        self.clock.now()
    }

    pub(crate) fn flush(&mut self) {
        let clock = self.clock;
        self.turn.act_on_links(|| clock.now());
        self.tell_work();
    }

    pub(crate) fn poll<F>(&mut self, deadline: Option<Instant>, mut on_event: F) -> io::Result<usize>
    where
        F: FnMut(Instant, Event<'_>),
    {
        let clock = self.clock;
        self.turn.act_on_links(|| clock.now());
        loop {
            let mut early = None;
            self.wait(deadline, &mut early, &mut on_event)?;
            let count = self.take(early, &mut on_event);
            // A wait may end for nothing that concerns the user: a signal, room for bytes that were put, an
            // own timer (law A15).
            if count > 0 || deadline.is_some_and(|deadline| deadline <= self.turn.now) {
                // What is left in the system, FIN behind the bytes for one, a selector of this kind tells at its next
                // wait; an outer loop that hears of changes alone would not get there.
                let may_be_more = S::TELLS_STATE && count > 0;
                let has_work = may_be_more || self.turn.has_work();
                self.turn.selector.tell_work(has_work, &self.signalled);
                return Ok(count);
            }
        }
    }

    /// Waits for readiness, the first timer or `deadline`; not at all if something is to be delivered already. `early`
    /// is how many events there were meanwhile, if what was told had to be taken in between.
    fn wait<F>(&mut self, deadline: Option<Instant>, early: &mut Option<usize>, on_event: &mut F) -> io::Result<()>
    where
        F: FnMut(Instant, Event<'_>),
    {
        if self.turn.has_work() || self.turn.selector.sleeper().must_not_wait() {
            return self.look(Some(Duration::ZERO), early, on_event);
        }
        let until = [deadline, self.turn.timers.next_deadline()].into_iter().flatten().min();
        let spin = self.turn.config.spin;
        if !spin.is_zero() {
            let enough = self.clock.now() + spin;
            let enough = until.map_or(enough, |until| until.min(enough));
            self.turn.selector.sleeper().get_up();
            loop {
                self.look(Some(Duration::ZERO), early, on_event)?;
                let is_woken = self.turn.selector.sleeper().is_due();
                if is_woken || early.is_some() || S::told(&self.told).next().is_some() {
                    return Ok(());
                }
                if self.clock.now() >= enough {
                    break;
                }
            }
            if !self.turn.selector.sleeper().lie_down() {
                return Ok(());
            }
        }
        self.look(until.map(|until| until - self.clock.now()), early, on_event)
    }

    fn look<F>(&mut self, timeout: Option<Duration>, early: &mut Option<usize>, on_event: &mut F) -> io::Result<()>
    where
        F: FnMut(Instant, Event<'_>),
    {
        self.turn.stats.syscalls += 1;
        S::wait(self, timeout, &mut |ready| {
            *early = Some(ready.take(*early, on_event));
            // As many sockets are written to at a time as are read from, while they are in the caches.
            let clock = ready.clock;
            ready.turn.act_on_links(|| clock.now());
        })?;
        // Each wait takes back what was told.
        self.signalled.set(false);
        Ok(())
    }

    /// Delivers. `early` is how many events there were in this turn, which has one time (law A17). Returns how many there
    /// are now.
    fn take<F: FnMut(Instant, Event<'_>)>(&mut self, early: Option<usize>, on_event: &mut F) -> usize {
        if early.is_none() {
            self.turn.now = self.clock.now();
        }
        early.unwrap_or(0) + self.dispatch(on_event)
    }

    /// Delivers what the wait brought and what was left. Returns how many events there were.
    fn dispatch<F: FnMut(Instant, Event<'_>)>(&mut self, on_event: &mut F) -> usize {
        let mut count = 0;
        for readiness in S::told(&self.told) {
            count += self.turn.note(readiness, on_event);
        }
        if self.turn.selector.sleeper().take() {
            on_event(self.turn.now, Event::Woken);
            count += 1;
        }
        count + self.turn.deliver(on_event)
    }

    /// Tells who waits in a loop of his own whether there is something to deliver.
    pub(crate) fn tell_work(&self) {
        self.turn.selector.tell_work(self.turn.has_work(), &self.signalled);
    }
}

/// The calls of an [`Adapter`](kraft_core::adapter::Adapter) that its field `ready` answers as they are.
macro_rules! answered_by_ready {
    () => {
        fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
            self.ready.listen(at, options)
        }

        fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
            self.ready.local_endpoint(listener)
        }

        fn unlisten(&mut self, listener: ListenerId) {
            self.ready.unlisten(listener);
        }

        fn connect(&mut self, to: &Endpoint) -> io::Result<ConnId> {
            self.ready.connect(to)
        }

        fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
            self.ready.link(conn)
        }

        fn timers(&mut self) -> &mut Timers {
            self.ready.timers()
        }

        fn now(&self) -> Instant {
            self.ready.now()
        }

        fn read_clock(&self) -> Option<Instant> {
            Some(self.ready.read_clock())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.ready.flush();
            Ok(())
        }

        fn poll<F>(&mut self, deadline: Option<Instant>, on_event: F) -> io::Result<usize>
        where
            F: FnMut(Instant, Event<'_>),
        {
            self.ready.poll(deadline, on_event)
        }

        fn stats(&self) -> Stats {
            self.ready.stats()
        }
    };
}

pub(crate) use answered_by_ready;
