//! The adapter in a loop that the application runs.

use std::io;
use std::os::fd::BorrowedFd;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use kraft_core::adapter::{Adapter, Capabilities, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

use super::event_loop::UvLoop;
use super::ffi;
use super::hub::Hub;
use super::on_ready::{Call, OnReady};
use super::selector::Handles;
use crate::config::Config;
use crate::ready::Ready;

/// libuv in a loop that the application runs: `uv_run` is theirs, and never entered from here.
///
/// Instead the loop calls `on_ready`, which turns the adapter: it calls `poll`, or the `turn` of who owns the adapter,
/// and answers how long it may be left alone at most (a node's `next_wait`), `None` for as long as nothing happens. It is
/// called once in the loop's first lap, and from then on when
///
/// - a socket is ready, or a [`Waker`] was used;
/// - a turn left something to deliver;
/// - a deadline is there: what it answered last, or the adapter's [timers](Adapter::timers) as they stood at the last
///   `flush` or `poll`.
///
/// Turns outside of `on_ready` are as good. `poll` delivers what is there and returns, whatever its deadline (law A15 is
/// the loop's to keep), so there is no `poll_fd` (law A23).
///
/// All of it stays on the loop's thread. Panics of `on_ready` do not cross the loop, whose frames are C's: one is kept,
/// `uv_stop` is called, `on_ready` no more, and the panic goes on in the next `flush`, `poll` or drop.
///
/// The drop closes every handle. Their memory goes when the loop has run once more, which the application sees to before
/// it closes the loop. `docs/embedding.md` shows a whole program.
#[derive(Debug)]
pub struct LibuvGuest {
    ready: Ready<Handles>,
    /// When the adapter's time was zero, or a moment later: deadlines that are made of it are not early.
    origin: std::time::Instant,
}

impl LibuvGuest {
    /// Opens the backend in a loop of Rust: as [`Libuv::with_loop`](super::Libuv::with_loop), and safe, since the loop
    /// is kept until the guest is gone.
    ///
    /// # Errors
    ///
    /// As [`Libuv::open`](super::Libuv::open).
    pub fn in_loop(
        uv: &UvLoop,
        config: &Config,
        on_ready: impl FnMut() -> Option<Duration> + 'static,
    ) -> io::Result<Self> {
        // SAFETY: the loop is initialised and not `Send`. The guest keeps it, and what is dropped last runs it.
        unsafe { Self::open(uv.raw(), Some(uv.clone()), config, Box::new(on_ready)) }
    }

    /// # Safety
    ///
    /// As [`Libuv::with_loop`](super::Libuv::with_loop).
    pub(super) unsafe fn open(
        at: *mut ffi::Loop,
        uv: Option<UvLoop>,
        config: &Config,
        on_ready: Call,
    ) -> io::Result<Self> {
        config.validate()?;
        let hub = Rc::new(Hub::calling(OnReady::new(at, on_ready)));
        // SAFETY: the caller's promise.
        let handles = unsafe { Handles::in_loop(at, Rc::clone(&hub), uv) }?;
        let guest = Self {
            ready: Ready::new(config.clone(), handles, Vec::new()),
            origin: std::time::Instant::now(),
        };
        guest.on_ready().begin(&hub)?;
        Ok(guest)
    }

    fn on_ready(&self) -> &OnReady {
        let hub = self.ready.selector().hub();
        hub.on_ready().expect("a guest's hub calls")
    }

    /// Goes on with what `on_ready` panicked with.
    fn resume_panic(&self) {
        if let Some(panic) = self.on_ready().take_panic() {
            resume_unwind(panic);
        }
    }

    /// Tells the loop what is to come.
    fn publish(&mut self) {
        let due = self.ready.timers().next_deadline();
        let due = due.and_then(|due| self.origin.checked_add(due - Instant::ZERO));
        self.on_ready().publish(self.ready.has_work(), due);
    }
}

impl Adapter for LibuvGuest {
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
        let conn = self.ready.connect(to)?;
        // It has a deadline.
        self.publish();
        Ok(conn)
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
        self.resume_panic();
        self.ready.flush();
        self.publish();
        Ok(())
    }

    fn poll<F>(&mut self, _deadline: Option<Instant>, on_event: F) -> io::Result<usize>
    where
        F: FnMut(Instant, Event<'_>),
    {
        self.resume_panic();
        let count = self.ready.poll(Some(Instant::ZERO), on_event)?;
        self.publish();
        Ok(count)
    }

    fn waker(&self) -> Waker {
        self.ready.selector().waker()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cannot: &[
                (13, "the wait is the application's: a wake has on_ready called"),
                (15, "the wait is the application's: poll returns at once"),
                (23, "the loop is the application's: on_ready tells it"),
                (30, "libuv has no buffer ring"),
            ],
            thread_bound: true,
        }
    }

    fn stats(&self) -> Stats {
        self.ready.stats()
    }

    fn name(&self) -> &'static str {
        "libuv"
    }
}

impl Drop for LibuvGuest {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.resume_panic();
        }
    }
}
