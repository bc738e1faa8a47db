//! Linux's io_uring, by way of the crate of that name.

mod accept;
mod bufs;
mod conn;
mod deliver;
mod leave;
mod ops;
mod ring;
mod send;
mod setup;
mod turn;
mod wake;

use std::cell::Cell;
use std::hint;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::IoUring;
use kraft_core::adapter::{Adapter, Capabilities, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

use self::accept::Listener;
use self::bufs::Bufs;
use self::conn::{Conn, Phase};
use self::ring::{COMPLETIONS, Ring};
pub use self::setup::Setup;
use self::turn::Turn;
use self::wake::EventFd;
use crate::clock::Clock;
use crate::config::Config;
use crate::sock::{self, Acceptor, Stream};

/// The io_uring backend: completions, by multishot accepts and receives into a ring of buffers.
///
/// A turn costs one `io_uring_enter`, which submits, waits and brings what was received. That call also sends what is
/// small, if several connections were put to; otherwise there is one `send` or `sendmsg` for each as long as the system
/// has room, and without room the ring waits for some and sends. Received bytes lie in buffers of
/// [`Config::ring_bytes`] in all, lent to the user where the kernel put them and given back at once.
///
/// What decides its speed was measured with hand-written loops, on two cores of Linux 6.18 over loopback, as a ratio to
/// one over epoll; it gains at some dozens of busy connections with small messages, and elsewhere is as good:
///
/// | choice | because |
/// |---|---|
/// | deferred task-run, down to plain | 1.10 at 64 connections of 64 B; cooperative 0.80 at 1,000, plain 0.84 and 0.75; plain takes 2.15 of the CPU at partial load |
/// | 16 MiB of receive buffers at most | 4 to 16 MiB are good, 64 MiB 0.70: they fall out of the cache. 64 buffers for 1,000 connections 0.59, and unfair: who starved goes first |
/// | few of them circulate until more are needed | messages of 64 KiB 0.73 by a large ring, 0.97 to 1.00 by one of 256 buffers |
/// | small sends of several connections by the ring | against a plain call for each 1.03 at 64 connections of 64 B, 1.04 at 1,000, 1.06 at 9,900, in 0.97, 0.95 and 0.93 of its CPU time; 0.99 in 1.04 for one alone |
/// | other bytes by a plain send as long as there is room, then the ring | at once after a receive 1.10 with small messages and 1.09 to 1.12 at 16 KiB; with bulk against a full socket 0.87, where the ring waits and sends in one |
/// | copies, unless [`Config::zero_copy_min`] says otherwise | over loopback sends without a copy are 0.81 at 64 B, 0.63 at 16 KiB, 0.59 at 64 KiB |
/// | an eventfd behind a flag for wakes | 40 ns a wake for 452 |
///
/// A registered ring descriptor, direct descriptors, rings without an array and NAPI made no difference; a kernel thread
/// that submits (SQPOLL) lost on the server's core. Incremental buffers and bundles are not used: they had open bugs.
///
/// It needs Linux 6.0, and permission. The kernel works completions off on the thread that submitted, so the thread of
/// the first turn is the only one that may turn the adapter or flush it; it may be opened, told to listen and to connect,
/// and dropped on another. (Dropped there, it gives its buffers' memory back and not their addresses, since nobody can
/// say when the kernel is done with them.)
#[derive(Debug)]
pub struct Uring {
    turn: Turn,
    clock: Clock,
    /// What a loop around this one waits on. With deferred task-run the ring's own descriptor is never readable: what
    /// would make it so is not run before somebody enters the kernel.
    doorbell: EventFd,
    /// The kernel signals it.
    announced: Cell<bool>,
}

impl Uring {
    /// Opens the backend by the best [`Setup`] that the kernel takes.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a field of `config` that is out of its range. `Unsupported` if io_uring is not to be had here:
    /// no such system call, forbidden, or a kernel that is too old; the text says which, and what to do. Else the
    /// system's, if it has no descriptor or memory left.
    pub fn open(config: &Config) -> io::Result<Self> {
        config.validate()?;
        let (io, setup) = setup::open(COMPLETIONS)?;
        Self::with_ring(config, io, setup)
    }

    /// Opens the backend by one set-up and with a queue of so many completions: for tests and measurements.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    #[doc(hidden)]
    pub fn open_by(config: &Config, setup: Setup, completions: u32) -> io::Result<Self> {
        config.validate()?;
        let io = setup::open_by(setup, completions)?;
        Self::with_ring(config, io, setup)
    }

    fn with_ring(config: &Config, io: IoUring, setup: Setup) -> io::Result<Self> {
        let zero_copy_min = match config.zero_copy_min {
            Some(min) if setup::knows_zero_copy(&io)? => Some(min),
            _ => None,
        };
        let ring = Ring::new(io, setup);
        let mut bufs = Bufs::new(config)?;
        bufs.register(&ring)
            .map_err(|error| setup::explain("io_uring_register of a buffer ring", &error))?;
        let doorbell = EventFd::new()?;
        let mut turn = Turn::new(config.clone(), ring, bufs, EventFd::new()?);
        turn.zero_copy_min = zero_copy_min;
        turn.watch_wakes();
        Ok(Self {
            turn,
            clock: Clock::start(),
            doorbell,
            announced: Cell::new(false),
        })
    }

    /// Whether io_uring is to be had here, and by which set-up. Looks without opening a socket.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn detect() -> io::Result<Setup> {
        setup::detect()
    }

    /// The set-up that the kernel took.
    #[must_use]
    pub fn setup(&self) -> Setup {
        self.turn.ring.setup()
    }

    /// Sends that the kernel was asked to do without a copy, so far; `None` if it never is: [`Config::zero_copy_min`] is
    /// not set, or the kernel does not know how.
    #[must_use]
    pub fn zero_copy_sends(&self) -> Option<u64> {
        self.turn.zero_copy_min.map(|_| self.turn.zero_copy_sends)
    }

    /// Waits for completions, the first timer or `deadline`; not at all if something is to be delivered already.
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        if self.turn.has_work() || self.turn.sleeper.must_not_wait() {
            return self.look();
        }
        let until = [deadline, self.turn.timers.next_deadline()].into_iter().flatten().min();
        let spin = self.turn.config.spin;
        if !spin.is_zero() {
            let enough = self.clock.now() + spin;
            let enough = until.map_or(enough, |until| until.min(enough));
            self.turn.sleeper.get_up();
            self.look()?;
            // The kernel says in memory that there is something, so that this costs no system call.
            while self.turn.reaped.is_empty() && !self.turn.sleeper.is_due() && self.clock.now() < enough {
                hint::spin_loop();
                self.look()?;
            }
            if !self.turn.reaped.is_empty() || !self.turn.sleeper.lie_down() {
                return Ok(());
            }
        }
        match until.map(|until| until - self.clock.now()) {
            Some(Duration::ZERO) => self.look(),
            timeout => {
                self.turn.ring.wait(timeout)?;
                self.turn.ring.reap(&mut self.turn.reaped);
                Ok(())
            }
        }
    }

    /// Submits what is queued and takes what has arrived, without waiting; without a system call if there is neither.
    fn look(&mut self) -> io::Result<()> {
        let ring = &mut self.turn.ring;
        if ring.has_queued() || ring.has_arrivals() {
            ring.wait(Some(Duration::ZERO))?;
            ring.reap(&mut self.turn.reaped);
        }
        Ok(())
    }

    /// Has a loop around this one know what the kernel cannot tell it (law A23).
    fn tell_outer_loop(&mut self) -> io::Result<()> {
        if !self.turn.sleeper.is_embedded() || !self.turn.ring.is_started() {
            return Ok(());
        }
        self.announce()?;
        if self.turn.ring.has_queued() {
            self.turn.ring.submit()?;
        }
        if self.turn.has_work() || self.turn.ring.has_arrivals() {
            self.doorbell.signal();
        }
        Ok(())
    }

    /// Has the kernel signal the doorbell from here on.
    fn announce(&self) -> io::Result<()> {
        if !self.announced.get() {
            let announced = self.turn.ring.announce_to(self.doorbell.as_raw_fd());
            announced.map_err(|error| setup::explain("io_uring_register of an eventfd", &error))?;
            self.announced.set(true);
        }
        Ok(())
    }

    /// Something was queued between turns: a loop around this one has to have the next turn.
    fn nudge(&self) {
        if self.turn.sleeper.is_embedded() {
            self.doorbell.signal();
        }
    }
}

impl Adapter for Uring {
    fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
        let acceptor = Acceptor::listen(at, options.backlog, &self.turn.config)
            .map_err(|error| sock::named("listen on", at, &error))?;
        let (slot, generation) = self
            .turn
            .listeners
            .insert_with(|_, _| Listener::new(acceptor, options.max_connections))
            .ok_or_else(|| io::Error::new(ErrorKind::QuotaExceeded, format!("listen on {at}: too many listeners")))?;
        let id = ListenerId::new(slot, generation);
        self.turn.arm_accept(id);
        self.nudge();
        Ok(id)
    }

    fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
        let listener = self.turn.listeners.get(listener.slot(), listener.generation());
        let listener = listener.filter(|listener| !listener.is_leaving);
        listener.ok_or(ErrorKind::NotFound)?.acceptor.endpoint()
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.turn.unlisten(listener);
        self.nudge();
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
        let conn = Conn::new(stream, Phase::Connecting, None, config.write_queue_max);
        let id = self.turn.insert(conn).expect("a slot is free");
        self.turn.stats.initiated += 1;
        match outcome {
            Ok(()) => {
                self.turn.watch_connect(id);
                self.turn.limit(id, self.clock.now() + self.turn.config.connect_timeout);
            }
            Err(error) => self.turn.doom(id, sock::close_reason(&error)),
        }
        self.nudge();
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

    fn read_clock(&self) -> Option<Instant> {
        Some(self.clock.now())
    }

    fn flush(&mut self) -> io::Result<()> {
        let ring = &mut self.turn.ring;
        // Before the first turn there is nothing to submit that it would not submit too.
        let is_started = ring.is_started();
        if is_started {
            ring.start()?;
        }
        let clock = self.clock;
        self.turn.act_on_links(|| clock.now());
        if is_started && self.turn.ring.has_queued() {
            self.turn.ring.submit()?;
        }
        self.tell_outer_loop()
    }

    fn poll<F>(&mut self, deadline: Option<Instant>, mut on_event: F) -> io::Result<usize>
    where
        F: FnMut(Instant, Event<'_>),
    {
        self.turn.ring.start()?;
        let clock = self.clock;
        self.turn.act_on_links(|| clock.now());
        loop {
            self.wait(deadline)?;
            if self.turn.sleeper.is_embedded() {
                // What arrives from here on signals again; what came before the signal was cleared is looked for at the
                // end of the turn.
                self.doorbell.clear();
            }
            self.turn.now = self.clock.now();
            let count = self.turn.deliver(&mut on_event);
            // A wait may end for nothing that concerns the user: a signal, room for bytes that were put, an own timer
            // (law A15).
            if count > 0 || deadline.is_some_and(|deadline| deadline <= self.turn.now) {
                self.tell_outer_loop()?;
                return Ok(count);
            }
        }
    }

    fn waker(&self) -> Waker {
        self.turn.sleeper.waker()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.turn.sleeper.embed();
        let ring = &self.turn.ring;
        // On another thread the next turn does it, which has to come for that.
        let is_announced = ring.is_mine() && self.announce().is_ok();
        // The first turn is what starts the ring.
        if !is_announced || !ring.is_started() || self.turn.has_work() || ring.has_queued() || ring.has_arrivals() {
            self.doorbell.signal();
        }
        Some(self.doorbell.as_fd())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cannot: &[],
            thread_bound: true,
        }
    }

    fn stats(&self) -> Stats {
        self.turn.stats()
    }

    fn name(&self) -> &'static str {
        "io-uring"
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.turn.shut_down();
    }
}
