//! Blocking threads, for systems where nothing better can be had: std alone, and poll(2).

mod accept;
mod conn;
mod deliver;
mod mailbox;
mod reader;
mod signal;
mod turn;
mod watcher;

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kraft_core::adapter::{Adapter, Capabilities, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

use self::accept::Listener;
use self::conn::{Conn, Phase};
use self::mailbox::Mailbox;
use self::reader::Note;
use self::signal::Raised;
use self::turn::Turn;
use self::watcher::Watcher;
use crate::clock::Clock;
use crate::config::Config;
use crate::sock::{self, Acceptor, Stream};

/// The threads backend: a thread that reads for each connection, one that watches listeners, connects and full sockets,
/// and a loop that takes what they have.
///
/// A received message costs one `recv` on its reader's thread and a hand-over to the loop, which is woken if it sleeps;
/// writes go out from the loop's own thread, by one `send` or `sendmsg` a connection and turn. A hand-over across cores
/// costs tens of microseconds where both sleep: this backend is for systems that have nothing better. A plain thread a
/// connection, that reads and answers by itself, does about twice as much, and has no loop in which a Raft node could
/// run.
///
/// Each connection has a thread (128 KiB of address space, of which a few KiB are touched) and up to two buffers of
/// `read_buffer` bytes, the second from its first bytes on, of which those pages are touched that were received into. `Closed` comes
/// when the thread is gone. A connection that is paused with all its buffers full hears of a reset when it is resumed
/// or written to.
#[derive(Debug)]
pub struct Threads {
    turn: Turn,
    clock: Clock,
    /// What the other threads said, as it is dealt with; empty between polls.
    notes: Vec<Note>,
    /// For an outer loop to wait on.
    signal: Raised,
    /// Somebody does.
    embedded: Cell<bool>,
}

impl Threads {
    /// Opens the backend, with the one thread that it has without connections.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a field of `config` that is out of its range; else the system's, if it has no descriptor, no
    /// thread or no memory left.
    pub fn open(config: &Config) -> io::Result<Self> {
        config.validate()?;
        let (raiser, signal) = signal::signal()?;
        let mailbox = Arc::new(Mailbox::new(raiser));
        let watcher = Watcher::start(Arc::clone(&mailbox))?;
        Ok(Self {
            turn: Turn::new(config.clone(), mailbox, watcher),
            clock: Clock::start(),
            notes: Vec::new(),
            signal,
            embedded: Cell::new(false),
        })
    }

    /// Waits for a note, the first timer or `deadline`; not at all if something is to be delivered already. Whether a
    /// user's wake is due.
    fn wait(&mut self, deadline: Option<Instant>) -> bool {
        if self.turn.has_work() {
            return self.collect(Some(Duration::ZERO));
        }
        let until = [deadline, self.turn.timers.next_deadline()].into_iter().flatten().min();
        let spin = self.turn.config.spin;
        if !spin.is_zero() {
            let enough = self.clock.now() + spin;
            let enough = until.map_or(enough, |until| until.min(enough));
            while !self.turn.mailbox.is_filled() && self.clock.now() < enough {
                // A reader may have to run on this very core before there is anything to see.
                thread::yield_now();
            }
        }
        self.collect(until.map(|until| until - self.clock.now()))
    }

    fn collect(&mut self, wait: Option<Duration>) -> bool {
        self.turn.mailbox.take(wait, &mut self.notes, &self.signal)
    }

    /// Delivers what the wait brought and what was left. Returns how many events there were.
    fn dispatch<F: FnMut(Instant, Event<'_>)>(&mut self, is_woken: bool, on_event: &mut F) -> usize {
        let mut count = 0;
        if is_woken {
            on_event(self.turn.now, Event::Woken);
            count += 1;
        }
        for note in self.notes.drain(..) {
            count += self.turn.note(note, on_event);
        }
        count + self.turn.deliver(on_event)
    }

    /// Makes the descriptor readable if there is something to deliver (law A23).
    fn signal_work(&self) {
        if self.embedded.get() && self.turn.has_work() {
            self.turn.mailbox.call();
        }
    }
}

impl Adapter for Threads {
    fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
        let acceptor = Acceptor::listen(at, options.backlog, &self.turn.config)
            .map_err(|error| sock::named("listen on", at, &error))?;
        let (slot, generation) = self
            .turn
            .listeners
            .insert_with(|_, _| Listener::new(acceptor, options.max_connections))
            .ok_or_else(|| io::Error::new(ErrorKind::QuotaExceeded, format!("listen on {at}: too many listeners")))?;
        let id = ListenerId::new(slot, generation);
        self.turn.watch_listener(id);
        Ok(id)
    }

    fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
        let listener = self.turn.listeners.get(listener.slot(), listener.generation());
        listener.ok_or(ErrorKind::NotFound)?.acceptor.endpoint()
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.turn.unlisten(listener);
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
        let named = |error: io::Error| sock::named("connect to", to, &error);
        let (stream, outcome) = Stream::connect(to, config).map_err(named)?;
        let conn = Conn::new(stream, Phase::Connecting, None, config.write_queue_max);
        let id = self.turn.insert(conn).map_err(named)?;
        self.turn.stats.initiated += 1;
        match outcome {
            Ok(()) => {
                self.turn.watch(id);
                self.turn.limit(id, self.clock.now() + self.turn.config.connect_timeout);
            }
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

    fn read_clock(&self) -> Option<Instant> {
        Some(self.clock.now())
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
            let is_woken = self.wait(deadline);
            self.turn.now = self.clock.now();
            let count = self.dispatch(is_woken, &mut on_event);
            // A wait may end for nothing that concerns the user: room for bytes that were put, an own timer (law A15).
            if count > 0 || deadline.is_some_and(|deadline| deadline <= self.turn.now) {
                self.signal_work();
                return Ok(count);
            }
        }
    }

    fn waker(&self) -> Waker {
        let mailbox = Arc::clone(&self.turn.mailbox);
        Waker::new(move || mailbox.wake())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.embedded.set(true);
        self.turn.mailbox.embed();
        self.signal_work();
        Some(self.signal.as_fd())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cannot: &[(30, "threads has no buffer ring")],
            thread_bound: false,
        }
    }

    fn stats(&self) -> Stats {
        self.turn.stats()
    }

    fn name(&self) -> &'static str {
        "threads"
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.turn.end();
        self.turn.mailbox.close();
    }
}
