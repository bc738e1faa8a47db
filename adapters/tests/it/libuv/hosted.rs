//! An adapter that lives in an application's loop, judged as if it had one of its own.

use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

use kraft_adapters::{Config, Libuv, LibuvGuest};
use kraft_core::adapter::{Adapter, Capabilities, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

use super::app::App;

/// A guest in a loop that is run when the suite polls. `on_ready` turns it in the midst of libuv's callbacks, as
/// programs do, and hands the events to whoever polls.
pub(crate) struct Hosted {
    /// Taken before the loop goes.
    guest: Option<*mut LibuvGuest>,
    shared: Rc<Shared>,
    app: App,
}

/// What `on_ready` and the one who polls have in common.
#[derive(Default)]
struct Shared {
    guest: Cell<Option<*mut LibuvGuest>>,
    sink: Cell<Option<*mut Sink<'static>>>,
    delivered: Cell<usize>,
}

type Sink<'a> = dyn FnMut(Instant, Event<'_>) + 'a;

impl Hosted {
    pub(crate) fn open(config: &Config) -> io::Result<Self> {
        let app = App::new();
        let shared = Rc::new(Shared::default());
        let seen = Rc::clone(&shared);
        // SAFETY: the loop is open, stays so until the guest is gone, and is run once more after that by `App::drop`.
        let guest = unsafe { Libuv::with_loop(app.at(), config, move || seen.turn()) }?;
        let guest = Box::into_raw(Box::new(guest));
        shared.guest.set(Some(guest));
        Ok(Self {
            guest: Some(guest),
            shared,
            app,
        })
    }

    fn guest(&mut self) -> &mut LibuvGuest {
        let guest = self.guest.expect("it is there until the drop");
        // SAFETY: a box of ours, freed in `drop`. The loop does not run, so `on_ready` does not use it.
        unsafe { &mut *guest }
    }

    fn guest_ref(&self) -> &LibuvGuest {
        let guest = self.guest.expect("it is there until the drop");
        // SAFETY: as above.
        unsafe { &*guest }
    }
}

impl Shared {
    /// What the application does when it is called.
    fn turn(&self) -> Option<Duration> {
        let (Some(guest), Some(sink)) = (self.guest.get(), self.sink.get()) else {
            // Nobody polls: the loop was run by somebody else.
            return None;
        };
        if self.delivered.get() > 0 {
            // One turn a poll, with one `now` (law A17). What is left is called for again.
            return None;
        }
        // SAFETY: the guest is a box of `Hosted`'s and the sink is on the stack of its `poll`, which runs the loop that
        // calls this, and does not use either meanwhile.
        let (guest, sink) = unsafe { (&mut *guest, &mut *sink) };
        let polled = guest.poll(Some(Instant::ZERO), sink);
        self.delivered
            .set(self.delivered.get() + polled.expect("the adapter runs"));
        None
    }
}

impl Adapter for Hosted {
    fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
        self.guest().listen(at, options)
    }

    fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
        self.guest_ref().local_endpoint(listener)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.guest().unlisten(listener);
    }

    fn connect(&mut self, to: &Endpoint) -> io::Result<ConnId> {
        self.guest().connect(to)
    }

    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        self.guest().link(conn)
    }

    fn timers(&mut self) -> &mut Timers {
        self.guest().timers()
    }

    fn now(&self) -> Instant {
        self.guest_ref().now()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.guest().flush()
    }

    fn poll<F>(&mut self, deadline: Option<Instant>, mut on_event: F) -> io::Result<usize>
    where
        F: FnMut(Instant, Event<'_>),
    {
        // Sends what was put, and tells the loop of timers that were started since.
        self.guest().flush()?;
        let sink: *mut Sink<'_> = &raw mut on_event;
        // SAFETY: only the lifetime is another. It is used while the loop runs, and taken back before this returns.
        let sink = unsafe { std::mem::transmute::<*mut Sink<'_>, *mut Sink<'static>>(sink) };
        // The first lap does not wait: the time is not known yet, only that of the last turn.
        let mut left = None;
        loop {
            self.shared.sink.set(Some(sink));
            match left {
                None => self.app.run_nowait(),
                Some(None) => self.app.run_once(),
                Some(Some(millis)) => {
                    // Again and again: libuv runs timers first, and one that is due by then would not end the wait.
                    self.app.start_timer(millis, 1);
                    self.app.run_once();
                    self.app.stop_timer();
                }
            }
            self.shared.sink.set(None);
            let mut count = self.shared.delivered.replace(0);
            if count == 0 {
                // The time, and what the lap may have left.
                count = self.guest().poll(Some(Instant::ZERO), &mut on_event)?;
            }
            let now = self.now();
            if count > 0 || deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(count);
            }
            left =
                Some(deadline.map(|deadline| {
                    u64::try_from((deadline - now).as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
                }));
        }
    }

    fn waker(&self) -> Waker {
        self.guest_ref().waker()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.guest_ref().poll_fd()
    }

    /// The loop is run here, so that it waits.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cannot: &[
                (23, "the loop is the application's: it hears by on_ready"),
                (30, "libuv has no buffer ring"),
            ],
            thread_bound: true,
        }
    }

    fn stats(&self) -> Stats {
        self.guest_ref().stats()
    }

    fn name(&self) -> &'static str {
        "libuv guest"
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.shared.guest.set(None);
            // SAFETY: made by `Box::into_raw`, taken once; nothing else uses it from here on.
            drop(unsafe { Box::from_raw(guest) });
        }
        // The application runs its loop once more and closes it.
    }
}
