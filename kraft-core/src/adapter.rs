//! The event loop, as a trait.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::id::{ConnId, ListenerId, TimerId};
use crate::link::Link;
use crate::time::Instant;
use crate::timers::Timers;

/// An event loop. Completion-shaped: it says that bytes arrived, never that a socket is readable.
///
/// The backend owns receive memory and lends it for a call; senders put into the [`Outbox`](crate::outbox::Outbox) of
/// a connection's [`Link`]. `poll` lends one event at a time to a closure that gets `now` and the event, not the
/// adapter: this is what lets an enum of backends and wrappers (TLS, faults, tracing) compose. Answers to *other*
/// connections are put after `poll` has returned.
///
/// # Laws
///
/// `kraft_adapters::conformance` has a function for each.
///
/// - A1 a connection begins with `Accepted` or `Connected`, once, first.
/// - A2 bytes arrive in order, once, none lost, however segmented.
/// - A3 `Closed` comes exactly once and last.
/// - A4 nothing is delivered for an id after `Closed`, and no `Received` after `close(Now)`.
/// - A5 a reused slot has a new id; stale ids are inert.
/// - A6 data sent before the peer's FIN is delivered before `Ended`, also when both came together.
/// - A7 refused, timed-out and unroutable connects end in `Closed`.
/// - A8 a put past the limit is refused and changes nothing; one `Drained` follows.
/// - A9 `close(Flush)` delivers all that was accepted, also with unread input, bounded by `linger`.
/// - A10 `pause` stops delivery within one turn, `resume` loses nothing.
/// - A11 timers are never early, in order of deadline then start; a stop made before a poll holds even if the timer is
///   due already.
/// - A12 a repeating timer does not drift or burst.
/// - A13 a wake from another thread ends a wait, also one made before the wait; many may become one.
/// - A14 `poll` with a deadline in the past does not block.
/// - A15 `poll` returns never before work or its deadline, and by it.
/// - A16 EINTR is invisible.
/// - A17 `now` is monotone and constant in a turn.
/// - A18 a busy connection starves no other.
/// - A19 1,000 connections with random sizes, checksummed.
/// - A20 64 MiB through one connection in 1-byte and 1-MiB puts, to a slow reader, in bounded memory.
/// - A21 drop closes every fd and joins every thread.
/// - A22 no allocation in a steady turn.
/// - A23 `poll_fd` is readable whenever there is work, also what a turn left undelivered.
/// - A24 two adapters in a process do not disturb each other.
/// - A25 an idle adapter uses no CPU.
/// - A26 EMFILE while accepting neither spins nor kills the listener.
/// - A27 more than `max_connections` are turned away and the rest keep working.
/// - A28 a reset peer is `Closed`, not a signal or a panic.
/// - A29 `Written` comes once for each mark, in order, or `Closed` instead.
/// - A30 buffer-ring exhaustion only slows.
/// - A31 IPv4, IPv6 and Unix sockets behave the same; a stale socket file is cleaned up.
/// - A32 closing through any lent link, or any connection between polls, is safe.
/// - A33 what is put between `connect` and `Connected` is sent first, in order, and A8 holds meanwhile.
/// - A34 after `Ended` what is put is sent; a client that half-closes gets its replies.
pub trait Adapter {
    /// Listens at a TCP address or Unix path.
    ///
    /// # Errors
    ///
    /// The system's; the text names the endpoint.
    fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId>;

    /// Where a listener listens, with the port that the system chose if 0 was asked for.
    ///
    /// # Errors
    ///
    /// `NotFound` if the id is stale.
    fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint>;

    /// Stops listening. Accepted connections live on.
    fn unlisten(&mut self, listener: ListenerId);

    /// Begins to connect; ends in exactly one `Connected` or `Closed`.
    ///
    /// # Errors
    ///
    /// Only what is known at once and is ours: no slot or no descriptor left. A refusal comes as `Closed`.
    fn connect(&mut self, to: &Endpoint) -> io::Result<ConnId>;

    /// The user's side of a connection, `None` if it is gone. What is done to it is acted on by the next
    /// [`flush`](Self::flush) or [`poll`](Self::poll).
    fn link(&mut self, conn: ConnId) -> Option<&mut Link>;

    /// The adapter's timers.
    fn timers(&mut self) -> &mut Timers;

    /// The time, read once a turn (law A17).
    fn now(&self) -> Instant;

    /// The time, read at this call: never before `now`, and not before anything that the caller did before. `None` if
    /// the adapter has no clock but `now`; what must not rely on a time that was read before the process was stopped
    /// (leases) cannot be done on it.
    fn read_clock(&self) -> Option<Instant> {
        None
    }

    /// Acts on what was done to links since the last call: hands bytes to the system, closes, pauses, resumes.
    /// Delivers no event.
    ///
    /// # Errors
    ///
    /// Only what ends the adapter; a connection's failure is its `Closed`.
    fn flush(&mut self) -> io::Result<()>;

    /// One turn: flushes, waits until there is work, `deadline`, a timer or a wake, whichever is first, and lends
    /// each event to `on_event`. Without a deadline it waits for ever. Returns how many events there were.
    ///
    /// # Errors
    ///
    /// Only what ends the adapter.
    fn poll<F>(&mut self, deadline: Option<Instant>, on_event: F) -> io::Result<usize>
    where
        F: FnMut(Instant, Event<'_>);

    /// Ends a wait from any thread.
    fn waker(&self) -> Waker;

    /// A descriptor that is readable whenever a poll would find work (law A23), to wait on inside another loop. Timers
    /// are not in it: wait no longer than [`Timers::next_deadline`]. `None` if the backend has none.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>>;

    /// What this backend does differently, by law. Nothing is silently different.
    fn capabilities(&self) -> Capabilities;

    /// Counters since the adapter was made.
    fn stats(&self) -> Stats;

    /// The name by which users choose it.
    fn name(&self) -> &'static str;
}

/// Where to listen or connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix stream socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => fmt::Display::fmt(address, f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// How to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections of this listener at a time; more are accepted and closed (law A27).
    pub max_connections: usize,
    /// The system's queue of connections not yet accepted.
    pub backlog: u32,
    /// Whom it is for.
    pub audience: Audience,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            backlog: 1024,
            audience: Audience::Others,
        }
    }
}

/// Whom a listener is for. Backends take no notice of it; a wrapper that encrypts asks other things of peers than of
/// clients, and monitors may get by without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Audience {
    /// Other nodes of the cluster.
    Peers,
    /// Clients of the cluster.
    Clients,
    /// Somebody else: monitors, or whomever a program of one's own listens for.
    #[default]
    Others,
}

/// What happened. Lent to the closure of [`Adapter::poll`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A listener has a new connection.
    Accepted {
        /// Which listener.
        listener: ListenerId,
        /// The new connection.
        conn: ConnId,
        /// Its other end.
        peer: Endpoint,
        /// Its link.
        link: &'a mut Link,
    },
    /// A connect succeeded.
    Connected {
        /// The connection.
        conn: ConnId,
        /// Its link.
        link: &'a mut Link,
    },
    /// Bytes arrived.
    Received {
        /// The connection.
        conn: ConnId,
        /// What arrived, lent until the closure returns.
        bytes: &'a [u8],
        /// Its link.
        link: &'a mut Link,
    },
    /// Everything put before a mark is with the operating system.
    Written {
        /// The connection.
        conn: ConnId,
        /// What [`Outbox::mark`](crate::outbox::Outbox::mark) returned.
        mark: u64,
        /// Its link.
        link: &'a mut Link,
    },
    /// After a refused put the outbox has fallen to its low-water mark.
    Drained {
        /// The connection.
        conn: ConnId,
        /// Its link.
        link: &'a mut Link,
    },
    /// The peer's FIN: no more bytes come, what is put is still sent.
    Ended {
        /// The connection.
        conn: ConnId,
        /// Its link.
        link: &'a mut Link,
    },
    /// The connection is gone, its id inert.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
    /// A timer is due.
    Expired {
        /// Which timer; inert if it does not repeat.
        timer: TimerId,
    },
    /// A [`Waker`] was used.
    Woken,
}

/// Why a connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// Closed on request, everything that was put before is with the peer's system (`Flush`) or dropped (`Now`).
    Requested,
    /// The peer refused the connection, or nobody listens.
    Refused,
    /// The peer reset the connection, or its process went away with bytes unread.
    Reset,
    /// No answer to a connect, or to a closing flush, in time.
    TimedOut,
    /// No way to the peer.
    Unreachable,
    /// Another failure of the system.
    Failed(io::ErrorKind),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => f.write_str("closed on request"),
            Self::Refused => f.write_str("connection refused"),
            Self::Reset => f.write_str("connection reset"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Failed(kind) => write!(f, "{kind}"),
        }
    }
}

/// Ends a wait of the adapter that it came from, from any thread. Wakes that come before the wait count; many may
/// become one (law A13).
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`. Called by backends.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// In what a backend differs from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// The laws that it cannot keep: numbers and reasons. The suite lists them as skipped.
    pub cannot: &'static [(u8, &'static str)],
    /// The thread of its first turn is the only one that may turn it; a turn on another is an error. A runner that
    /// moves the loop between threads leaves such a loop where it is.
    pub thread_bound: bool,
}

/// Counters of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections turned away at a limit.
    pub turned_away: u64,
    /// Connects begun.
    pub initiated: u64,
    /// Connects that failed.
    pub failed: u64,
    /// Connections closed, for whatever reason.
    pub closed: u64,
    /// Connections that live.
    pub active: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes handed to the system.
    pub bytes_out: u64,
    /// Timers that run.
    pub timers: u64,
    /// System calls, or completions where the backend works by those.
    pub syscalls: u64,
    /// Times that a receive buffer was short.
    pub buffer_shortages: u64,
}
