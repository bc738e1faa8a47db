//! An application with a libuv loop of its own, written as one in C would be.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::{c_int, c_void};

/// `UV_EBUSY` on Unix.
pub(super) const BUSY: c_int = -libc::EBUSY;

/// `uv_handle_type`.
const TIMER: c_int = 13;

type OnHandle = unsafe extern "C" fn(*mut c_void);
type OnWalk = unsafe extern "C" fn(*mut c_void, *mut c_void);

unsafe extern "C" {
    safe fn uv_loop_size() -> usize;
    safe fn uv_handle_size(kind: c_int) -> usize;
    fn uv_loop_init(at: *mut c_void) -> c_int;
    fn uv_loop_close(at: *mut c_void) -> c_int;
    fn uv_loop_alive(at: *const c_void) -> c_int;
    fn uv_run(at: *mut c_void, mode: c_int) -> c_int;
    fn uv_update_time(at: *mut c_void);
    fn uv_timer_init(at: *mut c_void, handle: *mut c_void) -> c_int;
    fn uv_timer_start(handle: *mut c_void, on_timer: OnHandle, millis: u64, repeat: u64) -> c_int;
    fn uv_timer_stop(handle: *mut c_void) -> c_int;
    fn uv_handle_set_data(handle: *mut c_void, data: *mut c_void);
    fn uv_handle_get_data(handle: *const c_void) -> *mut c_void;
    fn uv_is_closing(handle: *const c_void) -> c_int;
    fn uv_close(handle: *mut c_void, on_closed: Option<OnHandle>);
    fn uv_walk(at: *mut c_void, on_handle: OnWalk, argument: *mut c_void);
}

/// The loop and a timer of the application's.
pub(super) struct App {
    at: *mut c_void,
    timer: *mut c_void,
    /// How often the timer has fired. The timer's data points here.
    ticks: Box<u64>,
}

impl App {
    pub(super) fn new() -> Self {
        // SAFETY: memory of the sizes that libuv asks for, freed in `drop`; the timer's data outlives the timer.
        unsafe {
            let at = alloc_zeroed(memory(uv_loop_size())).cast();
            assert_eq!(uv_loop_init(at), 0);
            let timer = alloc_zeroed(memory(uv_handle_size(TIMER))).cast();
            assert_eq!(uv_timer_init(at, timer), 0);
            let mut ticks = Box::new(0_u64);
            uv_handle_set_data(timer, (&raw mut *ticks).cast());
            Self { at, timer, ticks }
        }
    }

    pub(super) fn at(&self) -> *mut c_void {
        self.at
    }

    /// How often its timer has fired.
    pub(super) fn ticks(&self) -> u64 {
        // SAFETY: the box lives; the timer writes to it while the loop runs, which is not now.
        unsafe { (&raw const *self.ticks).read_volatile() }
    }

    /// Starts its timer.
    pub(super) fn start_timer(&self, millis: u64, repeat: u64) {
        // SAFETY: the timer is open until `close`.
        unsafe {
            uv_update_time(self.at);
            assert_eq!(uv_timer_start(self.timer, on_timer, millis, repeat), 0);
        }
    }

    pub(super) fn stop_timer(&self) {
        // SAFETY: as above.
        unsafe { uv_timer_stop(self.timer) };
    }

    /// Until nothing is active.
    pub(super) fn run(&self) {
        // SAFETY: the loop is open and does not run.
        assert_eq!(unsafe { uv_run(self.at, 0) }, 0, "it was stopped");
    }

    /// Until nothing is active or somebody stops it; whether something is active.
    pub(super) fn run_until_stopped(&self) -> bool {
        // SAFETY: as above.
        unsafe { uv_run(self.at, 0) != 0 }
    }

    /// One wait.
    pub(super) fn run_once(&self) {
        // SAFETY: as above.
        unsafe { uv_run(self.at, 1) };
    }

    /// No wait.
    pub(super) fn run_nowait(&self) {
        // SAFETY: as above.
        unsafe { uv_run(self.at, 2) };
    }

    pub(super) fn is_alive(&self) -> bool {
        // SAFETY: as above.
        unsafe { uv_loop_alive(self.at) != 0 }
    }

    /// What `uv_loop_close` says.
    pub(super) fn try_close(&self) -> c_int {
        // SAFETY: as above; it does nothing if the loop has handles, and this one has its timer.
        unsafe { uv_loop_close(self.at) }
    }

    /// Closes every handle of the loop, as C programs do at their end.
    pub(super) fn close_everything(&self) {
        unsafe extern "C" fn close(handle: *mut c_void, _: *mut c_void) {
            // SAFETY: libuv hands out its handles.
            unsafe {
                if uv_is_closing(handle) == 0 {
                    uv_close(handle, None);
                }
            }
        }
        // SAFETY: the loop is open and does not run.
        unsafe { uv_walk(self.at, close, std::ptr::null_mut()) };
    }
}

impl Drop for App {
    /// Closes what is the application's own, runs the loop a last time, and closes it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Adapters may be in it. It is left alone.
            return;
        }
        // SAFETY: the timer is closed once, and freed when the loop has run; then nothing refers to the loop.
        unsafe {
            if uv_is_closing(self.timer) == 0 {
                uv_close(self.timer, None);
            }
            uv_run(self.at, 0);
            dealloc(self.timer.cast(), memory(uv_handle_size(TIMER)));
            assert_eq!(uv_loop_close(self.at), 0, "handles are left in the loop");
            dealloc(self.at.cast(), memory(uv_loop_size()));
        }
    }
}

fn memory(size: usize) -> Layout {
    Layout::from_size_align(size, 16).expect("libuv's types are small")
}

unsafe extern "C" fn on_timer(handle: *mut c_void) {
    // SAFETY: the data is the box of an `App`, which is not used while the loop runs.
    unsafe { *uv_handle_get_data(handle).cast::<u64>() += 1 };
}
