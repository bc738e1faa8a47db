//! A libuv loop that is ours.

use std::alloc::{self, Layout};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::ptr::NonNull;
use std::rc::Rc;

use super::ffi;
use super::watch::memory_of;

/// Laps in which the handles of adapters are closed: one runs the close callbacks, another finds nothing left.
const CLOSING_LAPS: usize = 4;

/// A libuv loop, for a program in Rust that runs one and has no bindings of its own.
///
/// Adapters live in it by [`LibuvGuest::in_loop`](super::LibuvGuest::in_loop), other handles by way of
/// [`as_ptr`](Self::as_ptr). It is closed when it and the adapters in it are dropped; handles that were not closed by
/// then are leaked with the loop.
#[derive(Clone)]
pub struct UvLoop(Rc<Memory>);

/// Memory of a loop, initialised.
struct Memory {
    at: NonNull<ffi::Loop>,
    layout: Layout,
    is_running: Cell<bool>,
}

impl UvLoop {
    /// Makes a loop.
    ///
    /// # Errors
    ///
    /// The system's, if it has no descriptor or memory left.
    pub fn open() -> io::Result<Self> {
        check_descriptors()?;
        let layout = memory_of(ffi::uv_loop_size())?;
        // SAFETY: the layout's size is not zero, `memory_of` has seen to it.
        let memory = unsafe { alloc::alloc_zeroed(layout) };
        let Some(at) = NonNull::new(memory.cast::<ffi::Loop>()) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        // SAFETY: memory of the size that libuv asked for.
        if let Err(error) = ffi::check(unsafe { ffi::uv_loop_init(at.as_ptr()) }) {
            // SAFETY: allocated above with this layout; libuv keeps no loop whose init failed.
            unsafe { alloc::dealloc(memory, layout) };
            return Err(error);
        }
        Ok(Self(Rc::new(Memory {
            at,
            layout,
            is_running: Cell::new(false),
        })))
    }

    /// The `uv_loop_t`, to put other handles into it. Good while this, or an adapter in it, lives.
    pub fn as_ptr(&self) -> *mut c_void {
        self.0.at.as_ptr().cast()
    }

    /// Runs the loop until nothing in it is active, or [`stop`](Self::stop): `uv_run` with `UV_RUN_DEFAULT`. Whether
    /// something is active still.
    ///
    /// # Panics
    ///
    /// If it is running: `uv_run` is not to be entered by a callback.
    pub fn run(&self) -> bool {
        self.0.run(ffi::RUN_DEFAULT)
    }

    /// Waits once, and runs the callbacks of what happened: `uv_run` with `UV_RUN_ONCE`. Whether something is active
    /// still.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_once(&self) -> bool {
        self.0.run(ffi::RUN_ONCE)
    }

    /// Runs the callbacks of what happened, without waiting: `uv_run` with `UV_RUN_NOWAIT`. Whether something is active
    /// still.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_nowait(&self) -> bool {
        self.0.run(ffi::RUN_NOWAIT)
    }

    /// Has [`run`](Self::run) return at the end of this lap: `uv_stop`.
    pub fn stop(&self) {
        // SAFETY: the loop is initialised while `self` lives.
        unsafe { ffi::uv_stop(self.0.at.as_ptr()) };
    }

    /// What the system's set of the loop is known by.
    pub(super) fn backend_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the loop owns the descriptor, and the borrow of `self` keeps it open.
        unsafe { BorrowedFd::borrow_raw(ffi::uv_backend_fd(self.0.at.as_ptr())) }
    }

    pub(super) fn raw(&self) -> *mut ffi::Loop {
        self.0.at.as_ptr()
    }
}

/// Whether a loop finds the descriptors that it takes. libuv ends the process if its first loop does not get the pipe for
/// signals, which it makes after the loop's own set, and leaves that open if it lacks those that come later.
fn check_descriptors() -> io::Result<()> {
    // Eight, of which its versions take six at most.
    let spare = [(); 4].map(|()| UnixStream::pair());
    spare.into_iter().try_for_each(|pair| pair.map(drop))
}

impl Memory {
    fn run(&self, mode: c_int) -> bool {
        assert!(!self.is_running.replace(true), "a libuv loop that runs is run again");
        // SAFETY: the loop is initialised, it is not running, and its thread is this one, since nothing of it is `Send`
        // but a whole `Libuv`. No callback unwinds.
        let is_active = unsafe { ffi::uv_run(self.at.as_ptr(), mode) } != 0;
        self.is_running.set(false);
        is_active
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for _ in 0..CLOSING_LAPS {
            // SAFETY: the loop is initialised until `uv_loop_close` says 0, and nobody else has it.
            unsafe {
                if ffi::uv_loop_close(self.at.as_ptr()) == 0 {
                    alloc::dealloc(self.at.as_ptr().cast(), self.layout);
                    return;
                }
            }
            self.run(ffi::RUN_NOWAIT);
        }
        // Somebody else's handles are open. Theirs is the memory that they are linked to: it is left to them.
    }
}

impl fmt::Debug for UvLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UvLoop({:p})", self.0.at)
    }
}
