//! The part of libuv's C interface that the backend uses, written by hand from `uv.h` of 1.x.
//!
//! libuv keeps its ABI within 1.x, sizes of loops and handles apart, so these are opaque here and their sizes are asked
//! for at run time. Every type of handle begins with the fields of `uv_handle_t`, so that one opaque type stands for all.

use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::marker::{PhantomData, PhantomPinned};

/// `uv_loop_t`.
#[repr(C)]
pub(super) struct Loop {
    _opaque: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

/// `uv_handle_t`, and every type that begins with it.
#[repr(C)]
pub(super) struct Handle {
    _opaque: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

/// `uv_handle_type`, those that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Kind {
    Async = 1,
    Check = 2,
    Idle = 6,
    Poll = 8,
    Timer = 13,
}

/// `uv_run_mode`: until nothing is active; one wait at most; no wait.
pub(super) const RUN_DEFAULT: c_int = 0;
pub(super) const RUN_ONCE: c_int = 1;
pub(super) const RUN_NOWAIT: c_int = 2;

/// `uv_poll_event`.
pub(super) const READABLE: c_int = 1;
pub(super) const WRITABLE: c_int = 2;
pub(super) const DISCONNECT: c_int = 4;

/// `uv_poll_cb`: a negative error, or 0, and a set of `uv_poll_event`.
pub(super) type OnPoll = unsafe extern "C" fn(handle: *mut Handle, status: c_int, events: c_int);

/// `uv_async_cb`, `uv_check_cb`, `uv_close_cb`, `uv_idle_cb` and `uv_timer_cb`.
pub(super) type OnHandle = unsafe extern "C" fn(handle: *mut Handle);

// Failures are negative error numbers of the system.
unsafe extern "C" {
    pub(super) safe fn uv_version() -> c_uint;
    pub(super) safe fn uv_hrtime() -> u64;
    pub(super) safe fn uv_loop_size() -> usize;
    pub(super) safe fn uv_handle_size(kind: c_int) -> usize;
    #[cfg(test)]
    pub(super) safe fn uv_handle_type_name(kind: c_int) -> *const std::ffi::c_char;

    pub(super) fn uv_loop_init(at: *mut Loop) -> c_int;
    pub(super) fn uv_loop_close(at: *mut Loop) -> c_int;
    pub(super) fn uv_run(at: *mut Loop, mode: c_int) -> c_int;
    pub(super) fn uv_stop(at: *mut Loop);
    pub(super) fn uv_now(at: *const Loop) -> u64;
    pub(super) fn uv_update_time(at: *mut Loop);
    pub(super) fn uv_backend_fd(at: *const Loop) -> c_int;

    pub(super) fn uv_handle_get_data(handle: *const Handle) -> *mut c_void;
    pub(super) fn uv_handle_set_data(handle: *mut Handle, data: *mut c_void);
    pub(super) fn uv_handle_get_loop(handle: *const Handle) -> *mut Loop;
    pub(super) fn uv_is_closing(handle: *const Handle) -> c_int;
    pub(super) fn uv_close(handle: *mut Handle, on_closed: Option<OnHandle>);

    pub(super) fn uv_poll_init(at: *mut Loop, handle: *mut Handle, fd: c_int) -> c_int;
    pub(super) fn uv_poll_start(handle: *mut Handle, events: c_int, on_poll: OnPoll) -> c_int;
    pub(super) fn uv_poll_stop(handle: *mut Handle) -> c_int;

    pub(super) fn uv_async_init(at: *mut Loop, handle: *mut Handle, on_async: Option<OnHandle>) -> c_int;
    pub(super) fn uv_async_send(handle: *mut Handle) -> c_int;

    pub(super) fn uv_timer_init(at: *mut Loop, handle: *mut Handle) -> c_int;
    pub(super) fn uv_timer_start(handle: *mut Handle, on_timer: OnHandle, millis: u64, repeat: u64) -> c_int;
    pub(super) fn uv_timer_stop(handle: *mut Handle) -> c_int;

    pub(super) fn uv_check_init(at: *mut Loop, handle: *mut Handle) -> c_int;
    pub(super) fn uv_check_start(handle: *mut Handle, on_check: OnHandle) -> c_int;

    pub(super) fn uv_idle_init(at: *mut Loop, handle: *mut Handle) -> c_int;
    pub(super) fn uv_idle_start(handle: *mut Handle, on_idle: OnHandle) -> c_int;
    pub(super) fn uv_idle_stop(handle: *mut Handle) -> c_int;
}

/// What a call of libuv's returned, as a result.
pub(super) fn check(code: c_int) -> io::Result<()> {
    if code < 0 {
        // On Unix libuv's errors are the system's, negated.
        Err(io::Error::from_raw_os_error(-code))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[test]
    fn the_library_numbers_its_handles_as_we_do() {
        let kinds = [
            (Kind::Async, "async"),
            (Kind::Check, "check"),
            (Kind::Idle, "idle"),
            (Kind::Poll, "poll"),
            (Kind::Timer, "timer"),
        ];
        for (kind, expected) in kinds {
            let name = uv_handle_type_name(kind as c_int);
            assert!(!name.is_null());
            // SAFETY: libuv returns a string literal of its own.
            let name = unsafe { CStr::from_ptr(name) };
            assert_eq!(name.to_str(), Ok(expected));
        }
    }
}
