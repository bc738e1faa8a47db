//! Linux's epoll, by way of `mio`.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use kraft_core::adapter::{Adapter, Capabilities, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;
use mio::unix::SourceFd;
use mio::{Events, Poll, Token};

use crate::config::Config;
use crate::ready::{Interest, Readiness, Ready, Selector, answered_by_ready};
use crate::wake::Bell;
use crate::wake::sleeper::Sleeper;

/// Events of one wait. More wait for the next one; the system hands them out in turn.
const EVENTS_PER_WAIT: usize = 1024;

/// The token of the eventfd. No slot is that high.
const WAKE: Token = Token(usize::MAX);

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
    ready: Ready<Set>,
}

/// The epoll set.
#[derive(Debug)]
struct Set {
    poll: Poll,
    sleeper: Sleeper<mio::Waker>,
}

impl Epoll {
    /// Opens the backend.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a field of `config` that is out of its range; `Unsupported` if the process may not use epoll;
    /// else the system's, if it has no descriptor or memory left.
    pub fn open(config: &Config) -> io::Result<Self> {
        config.validate()?;
        let poll = Poll::new().map_err(|error| explain(&error))?;
        let sleeper = Sleeper::new(mio::Waker::new(poll.registry(), WAKE)?);
        let set = Set { poll, sleeper };
        Ok(Self {
            ready: Ready::new(config.clone(), set, Events::with_capacity(EVENTS_PER_WAIT)),
        })
    }
}

/// Why there is no epoll set. A refusal, which only a filter makes, is told from a lack of descriptors or memory, so that
/// another backend may be tried.
fn explain(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => io::Error::new(
            ErrorKind::Unsupported,
            format!(
                "epoll_create1: {error}; a seccomp filter forbids it: allow the system call, or use another backend"
            ),
        ),
        _ => io::Error::new(error.kind(), format!("epoll_create1: {error}")),
    }
}

impl Selector for Set {
    const TELLS_STATE: bool = false;

    type Told = Events;

    type Bell = mio::Waker;

    fn register(&mut self, socket: BorrowedFd<'_>, token: u64, _: Interest) -> io::Result<()> {
        // Of a listener only the one side ever changes.
        let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
        let token = Token(token as usize);
        self.poll
            .registry()
            .register(&mut SourceFd(&socket.as_raw_fd()), token, both)
    }

    fn change(&mut self, _: BorrowedFd<'_>, _: u64, _: Interest) -> io::Result<()> {
        Ok(())
    }

    /// A descriptor leaves the epoll set when it is closed.
    fn deregister(&mut self, _: BorrowedFd<'_>, _: u64) {}

    fn wait(ready: &mut Ready<Self>, timeout: Option<Duration>, _: &mut dyn FnMut(&mut Ready<Self>)) -> io::Result<()> {
        let (set, told) = ready.parts();
        match set.poll.poll(told, timeout) {
            // A signal ends a wait early and without events (law A16: the caller waits on).
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            outcome => outcome,
        }
    }

    fn told(told: &Events) -> impl Iterator<Item = Readiness> {
        let sockets = told.iter().filter(|event| event.token() != WAKE);
        sockets.map(|event| Readiness {
            token: event.token().0 as u64,
            readable: event.is_readable(),
            writable: event.is_writable(),
            read_closed: event.is_read_closed(),
            error: event.is_error(),
        })
    }

    fn sleeper(&self) -> &Sleeper<mio::Waker> {
        &self.sleeper
    }
}

impl Bell for mio::Waker {
    fn ring(&self) {
        // Writing to an eventfd fails only on a full counter, which mio empties.
        let _ = self.wake();
    }
}

/// A closure that ends the adapter that runs it (`callback_destroys_adapter`) cannot be written:
///
/// ```compile_fail
/// # use kraft_adapters::{Config, Epoll};
/// # use kraft_core::adapter::Adapter;
/// let mut adapter = Epoll::open(&Config::default())?;
/// adapter.poll(None, |_, _| drop(adapter))?;
/// # Ok::<_, std::io::Error>(())
/// ```
impl Adapter for Epoll {
    answered_by_ready!();

    fn waker(&self) -> Waker {
        self.ready.selector().sleeper.waker()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        let set = self.ready.selector();
        set.sleeper.embed();
        self.ready.tell_work();
        // SAFETY: `set.poll` owns the descriptor, and the borrow of `self` keeps it open.
        Some(unsafe { BorrowedFd::borrow_raw(set.poll.as_raw_fd()) })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cannot: &[(30, "epoll has no buffer ring")],
            thread_bound: false,
        }
    }

    fn name(&self) -> &'static str {
        "epoll"
    }
}
