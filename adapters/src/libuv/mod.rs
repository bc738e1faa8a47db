//! libuv, the system's, in a loop of its own or in one that the application runs.
//!
//! Sockets are poll handles (`uv_poll_t`): libuv says that they are ready, and the reading, writing and closing is that
//! of every readiness backend. The alternative, libuv's streams (`uv_tcp_t`), is refused: they own a queue of writes, read
//! buffers and rules of closing, and each would have to be bent to a law.

mod event_loop;
mod ffi;
mod guest;
mod hub;
mod on_ready;
mod selector;
mod watch;

use std::ffi::c_void;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use kraft_core::adapter::{Adapter, Capabilities, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

pub use self::event_loop::UvLoop;
pub use self::guest::LibuvGuest;
use self::selector::Handles;
use crate::config::Config;
use crate::ready::{Ready, answered_by_ready};

/// The libuv backend, with a loop of its own that `poll` runs.
///
/// For programs that want libuv's portability, or its debugging tools, under Kraft. Next to `epoll` it costs calls: a
/// descriptor that enters or leaves the loop takes five of them, and one whose outbox is full or whose user pauses two
/// each time that it changes. Deadlines are kept to the millisecond that libuv counts in, rounded up.
///
/// In a loop that the application runs itself, see [`with_loop`](Self::with_loop).
#[derive(Debug)]
pub struct Libuv {
    ready: Ready<Handles>,
}

// SAFETY: all that is not `Send` by itself (the loop, its handles, what they share) is reachable from here alone, and
// moves with it: no callback runs but in a call of ours, and wakers have a lock of their own. libuv's loops are not bound
// to a thread; they must not be used by two at a time.
unsafe impl Send for Libuv {}

impl Libuv {
    /// Opens the backend.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a field of `config` that is out of its range; else the system's, if it has no descriptor or
    /// memory left.
    pub fn open(config: &Config) -> io::Result<Self> {
        config.validate()?;
        let handles = Handles::in_own(UvLoop::open()?)?;
        Ok(Self {
            ready: Ready::new(config.clone(), handles, Vec::new()),
        })
    }

    /// Opens the backend in a loop that the application runs, and which calls `on_ready`: see [`LibuvGuest`].
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    ///
    /// # Safety
    ///
    /// `uv_loop` points to a `uv_loop_t` that was initialised and that belongs to the calling thread. It stays so until it
    /// has run once more after the guest was dropped.
    pub unsafe fn with_loop(
        uv_loop: *mut c_void,
        config: &Config,
        on_ready: impl FnMut() -> Option<Duration> + 'static,
    ) -> io::Result<LibuvGuest> {
        // SAFETY: the caller's promise is the same.
        unsafe { LibuvGuest::open(uv_loop.cast(), None, config, Box::new(on_ready)) }
    }
}

impl Adapter for Libuv {
    answered_by_ready!();

    fn waker(&self) -> Waker {
        self.ready.selector().waker()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        let fd = self.ready.selector().embed();
        self.ready.tell_work();
        fd
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cannot: &[(30, "libuv has no buffer ring")],
            thread_bound: false,
        }
    }

    fn name(&self) -> &'static str {
        "libuv"
    }
}
