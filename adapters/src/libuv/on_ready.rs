//! When an application's loop calls the adapter that lives in it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::ffi::{self, Kind};
use super::hub::Hub;
use super::watch::Watch;

/// The application's closure: turns the adapter, and says how long it may be left alone at most.
pub(super) type Call = Box<dyn FnMut() -> Option<Duration>>;

/// Calls the application's closure when a socket was heard of, a wake came, a deadline is there, or the last turn left
/// something.
///
/// Two handles say when. The check handle runs behind every wait of the loop; an idle handle keeps the loop from
/// waiting at all while there is work, which a timer of zero milliseconds would do too, but at the cost of the
/// application's sockets: libuv runs timers that are started as due before it looks at anything else.
pub(super) struct OnReady {
    at: *mut ffi::Loop,
    /// Empty while it runs, and for good after a panic.
    call: RefCell<Option<Call>>,
    /// Of a call that panicked.
    panic: RefCell<Option<Box<dyn Any + Send>>>,
    /// The adapter is gone.
    is_over: Cell<bool>,
    /// The adapter has something to deliver.
    has_work: Cell<bool>,
    /// The adapter's next deadline, and what the closure asked for besides.
    due: Cell<Option<Instant>>,
    asked: Cell<Option<Instant>>,
    /// The next check calls.
    is_wanted: Cell<bool>,
    /// Each refers to the hub that holds this: a circle that `end` opens.
    handles: RefCell<Option<Handles>>,
}

struct Handles {
    check: Rc<Watch>,
    idle: Rc<Watch>,
    timer: Rc<Watch>,
}

impl OnReady {
    /// Calls `call` in `at`. The first call is in the first lap of the loop.
    pub(super) fn new(at: *mut ffi::Loop, call: Call) -> Self {
        Self {
            at,
            call: RefCell::new(Some(call)),
            panic: RefCell::new(None),
            is_over: Cell::new(false),
            has_work: Cell::new(true),
            due: Cell::new(None),
            asked: Cell::new(None),
            is_wanted: Cell::new(false),
            handles: RefCell::new(None),
        }
    }

    /// Makes the handles that call, once the hub stands that they refer to.
    pub(super) fn begin(&self, hub: &Rc<Hub>) -> io::Result<()> {
        let at = self.at;
        let make = |kind: Kind| {
            Watch::new(hub, kind, 0, |handle| {
                // SAFETY: the loop is initialised and this is its thread, as `LibuvGuest::with_loop` demands; the memory
                // is of the size of its kind.
                unsafe {
                    match kind {
                        Kind::Check => ffi::uv_check_init(at, handle),
                        Kind::Idle => ffi::uv_idle_init(at, handle),
                        _ => ffi::uv_timer_init(at, handle),
                    }
                }
            })
        };
        let check = make(Kind::Check)?;
        let idle = make(Kind::Idle).inspect_err(|_| check.close())?;
        let timer = make(Kind::Timer).inspect_err(|_| [&check, &idle].into_iter().for_each(|watch| watch.close()))?;
        let handles = Handles { check, idle, timer };
        if let Some(check) = handles.check.handle() {
            // SAFETY: it was made above.
            ffi::check(unsafe { ffi::uv_check_start(check, on_check) })?;
        }
        *self.handles.borrow_mut() = Some(handles);
        self.arm();
        Ok(())
    }

    /// What the adapter knows at the end of a turn or flush: whether it has something to deliver, and its next deadline.
    pub(super) fn publish(&self, has_work: bool, due: Option<Instant>) {
        self.has_work.set(has_work);
        self.due.set(due);
        if self.call.borrow().is_some() {
            self.arm();
        }
        // Else this is in the midst of a call, behind which it is armed.
    }

    /// Calls the closure, unless this is in the midst of a call.
    pub(super) fn call(&self) {
        // Taken out while it runs: whatever it does, drop the adapter included, it does not pull the ground away from
        // under itself, and a loop that is run from in there, against libuv's rules, finds nobody to call.
        let Some(mut call) = self.call.borrow_mut().take() else {
            return;
        };
        // The frames below are C's. Nothing of ours is left half done by an unwinding closure: all that it reaches here
        // are cells.
        match catch_unwind(AssertUnwindSafe(&mut call)) {
            Ok(within) => self
                .asked
                .set(within.and_then(|within| Instant::now().checked_add(within))),
            Err(panic) => {
                *self.panic.borrow_mut() = Some(panic);
                self.rest();
                // SAFETY: the loop is running.
                unsafe { ffi::uv_stop(self.at) };
                drop_quietly(call);
                return;
            }
        }
        if self.is_over.get() {
            drop_quietly(call);
            return;
        }
        *self.call.borrow_mut() = Some(call);
        self.arm();
    }

    /// What a call panicked with.
    pub(super) fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        self.panic.borrow_mut().take()
    }

    /// The adapter goes: nothing is called from here on.
    pub(super) fn end(&self) {
        self.is_over.set(true);
        if let Some(handles) = self.handles.borrow_mut().take() {
            for watch in [handles.check, handles.idle, handles.timer] {
                watch.close();
            }
        }
        // It may own the last of what led here.
        let call = self.call.borrow_mut().take();
        drop(call);
    }

    /// Sees to it that the loop calls in time.
    fn arm(&self) {
        let now = Instant::now();
        let until = [self.due.get(), self.asked.get()].into_iter().flatten().min();
        let is_wanted = self.has_work.get() || until.is_some_and(|until| until <= now);
        self.is_wanted.set(is_wanted);
        let handles = self.handles.borrow();
        let Some(Handles { idle, timer, .. }) = &*handles else {
            return;
        };
        let (Some(idle), Some(timer)) = (idle.handle(), timer.handle()) else {
            return;
        };
        // SAFETY: both are open, and this is the loop's thread. None of these fails on a handle that is open.
        unsafe {
            if is_wanted {
                ffi::uv_idle_start(idle, on_idle);
            } else {
                ffi::uv_idle_stop(idle);
            }
            match until {
                Some(until) if !is_wanted => {
                    // libuv counts in milliseconds from the time that it read last, which is not set forward here: it
                    // may be in the midst of running timers, and would find those of others due that were started there.
                    let behind = (ffi::uv_hrtime() / 1_000_000).saturating_sub(ffi::uv_now(self.at));
                    ffi::uv_timer_start(timer, on_timer, millis(until - now).saturating_add(behind), 0);
                }
                _ => {
                    ffi::uv_timer_stop(timer);
                }
            }
        }
    }

    /// Asks for nothing any more.
    fn rest(&self) {
        self.has_work.set(false);
        self.due.set(None);
        self.asked.set(None);
        self.arm();
    }
}

/// Whole milliseconds, rounded up: a wait that is cut short is followed by another, and those would go round and round.
pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Drops a closure above frames of C, which no panic may cross: one of what it owns goes no further.
fn drop_quietly(call: Call) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(call)));
}

impl fmt::Debug for OnReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnReady")
            .field("is_over", &self.is_over.get())
            .field("has_work", &self.has_work.get())
            .finish_non_exhaustive()
    }
}

/// The loop has waited.
unsafe extern "C" fn on_check(handle: *mut ffi::Handle) {
    // SAFETY: libuv calls back for a handle that `Watch::new` made.
    let hub = unsafe { Watch::of(handle) }.hub();
    if let Some(on_ready) = hub.on_ready()
        && (on_ready.is_wanted.get() || !hub.is_empty())
    {
        on_ready.call();
    }
}

unsafe extern "C" fn on_timer(handle: *mut ffi::Handle) {
    // SAFETY: libuv calls back for a handle that `Watch::new` made.
    if let Some(on_ready) = unsafe { Watch::of(handle) }.hub().on_ready() {
        on_ready.call();
    }
}

/// That it is there is all: the loop does not wait.
unsafe extern "C" fn on_idle(_: *mut ffi::Handle) {}
