//! libuv as C programs use it: `loop_uv.c`.

use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::os::fd::IntoRawFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::bare::allocations;
use crate::inside::{self, Bell, Clockwork};
use crate::job::Job;
use crate::pattern::Pattern;
use crate::serve::{self, BACKLOG, Task};

unsafe extern "C" {
    fn kraft_bench_uv_count(callback: extern "C" fn()) -> c_int;
    fn kraft_bench_uv_serve(fd: c_int, backlog: c_int, job: c_int, pattern: *const c_char, bytes: usize) -> c_int;
    fn kraft_bench_uv_wake_open(callback: extern "C" fn(*mut c_void), data: *mut c_void) -> c_int;
    fn kraft_bench_uv_wake();
    fn kraft_bench_uv_wake_run() -> c_int;
    fn kraft_bench_uv_timers_open(count: usize) -> *mut c_void;
    fn kraft_bench_uv_timers_start(timers: *mut c_void, at: usize, after_ms: u64);
    fn kraft_bench_uv_timers_stop(timers: *mut c_void, at: usize);
    fn kraft_bench_uv_timers_run(timers: *mut c_void) -> usize;
    fn kraft_bench_uv_timers_update(timers: *mut c_void);
}

/// Serves on this thread.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    // As `enum job` has it.
    let job = match task.job {
        Job::Echo => 0,
        Job::Pump => 1,
        Job::FanOut => 2,
        Job::Wake | Job::Flood => return wake(task),
        Job::Churn | Job::Expire => return inside::timers(task, &mut Timers::open()?),
        Job::Replicate => unreachable!("no loop is asked for it"),
    };
    let listener = serve::listen()?;
    let pattern = Pattern::shared().memory();
    let fd = listener.into_raw_fd();
    // SAFETY: the descriptor is handed over for good, the pattern is never freed; the C code keeps everything else to
    // itself.
    let outcome = unsafe { kraft_bench_uv_serve(fd, BACKLOG, job, pattern.as_ptr().cast(), pattern.len()) };
    Err(error(outcome))
}

extern "C" fn note() {
    allocations::note();
}

/// Has what libuv and the loops in C allocate counted with the rest, the backend's libuv included. To be called before
/// anything else of libuv is.
pub(crate) fn count_allocations() {
    // SAFETY: the callback may be called on any thread and at any time. libuv takes other functions for the system's only
    // before it has any memory of its own, which is so at the beginning of a process; it refuses none of ours, for all are
    // there.
    unsafe { kraft_bench_uv_count(note) };
}

/// On Unix libuv's errors are the system's, negated.
fn error(outcome: c_int) -> io::Error {
    io::Error::from_raw_os_error(-outcome)
}

/// The bell of this process's one loop, which is known only when the loop is.
static BELL: OnceLock<Arc<Bell>> = OnceLock::new();

extern "C" fn hear(_: *mut c_void) {
    if let Some(bell) = BELL.get() {
        bell.hear();
    }
}

fn wake(task: &Task) -> io::Result<()> {
    // SAFETY: the callback may be called at any time and needs no data.
    let outcome = unsafe { kraft_bench_uv_wake_open(hear, std::ptr::null_mut()) };
    if outcome < 0 {
        return Err(error(outcome));
    }
    // SAFETY: `uv_async_send` may be called from any thread, and the handle is static and open.
    let bell = inside::ring(task, || unsafe { kraft_bench_uv_wake() })?;
    // Wakes that came before are kept: the loop has not run.
    let _ = BELL.set(bell);
    // SAFETY: the loop is open, and this thread alone runs it.
    Err(error(unsafe { kraft_bench_uv_wake_run() }))
}

/// Timers of a loop, each at its place, which stands in `free` while it does not run.
struct Timers {
    timers: *mut c_void,
    free: Vec<usize>,
}

/// What the workloads run at once, and one more for the moment between a start and a stop.
const COUNT: usize = if inside::MILLION > inside::RUNNING {
    inside::MILLION
} else {
    inside::RUNNING
} + 1;

impl Timers {
    fn open() -> io::Result<Self> {
        // SAFETY: the loop and its timers are never freed, and this thread alone uses them.
        let timers = unsafe { kraft_bench_uv_timers_open(COUNT) };
        if timers.is_null() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let free = (0..COUNT).collect();
        Ok(Self { timers, free })
    }
}

impl Clockwork for Timers {
    type Timer = usize;

    fn start(&mut self, after: Duration) -> usize {
        let at = self.free.pop().expect("there are enough");
        // SAFETY: the place is one of those that were opened.
        unsafe { kraft_bench_uv_timers_start(self.timers, at, after.as_millis() as u64) };
        at
    }

    fn stop(&mut self, at: usize) {
        // SAFETY: as above.
        unsafe { kraft_bench_uv_timers_stop(self.timers, at) };
        self.free.push(at);
    }

    fn expire(&mut self, _: usize) -> io::Result<usize> {
        // SAFETY: this thread alone uses the loop.
        let expired = unsafe { kraft_bench_uv_timers_run(self.timers) };
        // None runs.
        self.free.clear();
        self.free.extend(0..COUNT);
        // SAFETY: as above.
        unsafe { kraft_bench_uv_timers_update(self.timers) };
        Ok(expired)
    }
}
