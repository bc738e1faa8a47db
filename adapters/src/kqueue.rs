//! The BSDs' kqueue, by way of `polling`.

use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use kraft_core::adapter::{Adapter, Capabilities, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;
use polling::{Event as Side, Events, PollMode, Poller};

use crate::config::Config;
use crate::ready::{Interest, Readiness, Ready, Selector, answered_by_ready};
use crate::wake::Bell;
use crate::wake::sleeper::Sleeper;

/// Events of one wait. More wait for the next one; the system hands them out in turn.
const EVENTS_PER_WAIT: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// The kqueue backend: readiness, level-triggered, with the interests of a socket kept to what the loop would act upon.
///
/// Elsewhere the crate `polling` stands on what the system has: on Linux epoll, with a timer descriptor and two more
/// system calls a wait than [`Epoll`](crate::Epoll) has. There it is for trying out.
///
/// Level-triggered, because neither `EV_EOF` nor `EPOLLRDHUP` comes through `polling`: told of changes alone, the loop
/// would have to read on after every short read, since FIN may stand behind the bytes.
///
/// kqueue tells nothing of a connection that is of no interest: one that is paused with nothing to send is found reset
/// when it is resumed or put to. No `EVFILT_TIMER` is used: deadlines are those of the wait.
#[derive(Debug)]
pub struct Kqueue {
    ready: Ready<Queue>,
}

/// The queue.
#[derive(Debug)]
struct Queue {
    poller: Arc<Poller>,
    sleeper: Sleeper<Arc<Poller>>,
}

impl Kqueue {
    /// Opens the backend.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a field of `config` that is out of its range; else the system's, if it has no descriptor or
    /// memory left.
    pub fn open(config: &Config) -> io::Result<Self> {
        config.validate()?;
        let poller = Arc::new(Poller::new()?);
        let queue = Queue {
            sleeper: Sleeper::new(Arc::clone(&poller)),
            poller,
        };
        let events = Events::with_capacity(EVENTS_PER_WAIT);
        Ok(Self {
            ready: Ready::new(config.clone(), queue, events),
        })
    }
}

impl Selector for Queue {
    const TELLS_STATE: bool = true;

    type Told = Events;

    type Bell = Arc<Poller>;

    fn register(&mut self, socket: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        // `polling` looks for urgent bytes too (EPOLLPRI), and a byte that no `recv` takes out would be told of at every
        // wait. In line they are bytes like any other. A Unix socket or one that is gone refuses, and needs it not.
        #[cfg(any(target_os = "android", target_os = "linux"))]
        let _ = socket2::SockRef::from(&socket).set_out_of_band_inline(true);
        // SAFETY: `Ready` deregisters each socket before it closes it.
        let added = unsafe {
            self.poller
                .add_with_mode(socket.as_raw_fd(), side(token, interest), PollMode::Level)
        };
        applied(added).inspect_err(|_| self.deregister(socket, token))
    }

    fn change(&mut self, socket: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let changed = self
            .poller
            .modify_with_mode(socket, side(token, interest), PollMode::Level);
        applied(changed)
    }

    fn deregister(&mut self, socket: BorrowedFd<'_>, _: u64) {
        // A connect that failed at once was never registered. Interrupted, `polling` would go on taking the descriptor's
        // number for one that is watched.
        while self
            .poller
            .delete(socket)
            .is_err_and(|error| error.kind() == ErrorKind::Interrupted)
        {}
    }

    fn wait(ready: &mut Ready<Self>, timeout: Option<Duration>, _: &mut dyn FnMut(&mut Ready<Self>)) -> io::Result<()> {
        let (set, told) = ready.parts();
        told.clear();
        match set.poller.wait(told, timeout) {
            // A signal ends a wait early and without events (law A16: the caller waits on).
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    fn told(told: &Events) -> impl Iterator<Item = Readiness> {
        told.iter().map(|event| Readiness {
            token: event.key as u64,
            readable: event.readable,
            writable: event.writable,
            read_closed: false,
            error: event.is_err() == Some(true),
        })
    }

    fn sleeper(&self) -> &Sleeper<Arc<Poller>> {
        &self.sleeper
    }
}

/// A change that a signal interrupted is made all the same (kevent(2)).
fn applied(change: io::Result<()>) -> io::Result<()> {
    match change {
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        outcome => outcome,
    }
}

fn side(token: u64, interest: Interest) -> Side {
    Side::new(token as usize, interest.read, interest.write)
}

impl Bell for Arc<Poller> {
    fn ring(&self) {
        // Fails only on a full pipe or counter, which rings as well.
        let _ = self.notify();
    }
}

impl Adapter for Kqueue {
    answered_by_ready!();

    fn waker(&self) -> Waker {
        self.ready.selector().sleeper.waker()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        let queue = self.ready.selector();
        queue.sleeper.embed();
        self.ready.tell_work();
        Some(queue.poller.as_fd())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cannot: &[(30, "kqueue has no buffer ring")],
            thread_bound: false,
        }
    }

    fn name(&self) -> &'static str {
        "kqueue"
    }
}
