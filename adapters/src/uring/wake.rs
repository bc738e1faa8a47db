//! Descriptors that end waits: the loop's own, and those of a loop around it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// An eventfd: readable from a signal to the next clear.
#[derive(Debug)]
pub(super) struct EventFd(File);

impl EventFd {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the call takes two numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else's.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    pub(super) fn signal(&self) {
        // Fails only on a full counter, at which it is readable anyway.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    pub(super) fn clear(&self) {
        // Fails only on an empty counter.
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// An eventfd behind a flag: of many wakes between two turns only the first costs a system call (measured: 40 ns a
/// message for 452).
#[derive(Debug)]
pub(super) struct Wake {
    /// A user's wake that was not delivered yet.
    pending: AtomicBool,
    /// Empty once the adapter is gone: its descriptor goes with it, whoever still has a waker (law A21).
    eventfd: Mutex<Option<EventFd>>,
}

impl Wake {
    pub(super) fn new(eventfd: EventFd) -> Self {
        Self {
            pending: AtomicBool::new(false),
            eventfd: Mutex::new(Some(eventfd)),
        }
    }

    /// A user's wake; one `Woken` follows.
    pub(super) fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.with_eventfd(EventFd::signal);
        }
    }

    /// Whether a user's wake is due. Called after the eventfd was seen to be signalled: the flag is cleared before the
    /// user looks for what the wake announced, so that a later announcement wakes again.
    pub(super) fn take(&self) -> bool {
        self.pending.swap(false, Ordering::AcqRel)
    }

    /// Empties the eventfd's counter, before it is watched anew.
    pub(super) fn clear(&self) {
        self.with_eventfd(EventFd::clear);
    }

    /// Closes the eventfd; wakes are inert from here on.
    pub(super) fn close(&self) {
        *self.eventfd.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn with_eventfd(&self, act: impl FnOnce(&EventFd)) {
        if let Some(eventfd) = &*self.eventfd.lock().unwrap_or_else(PoisonError::into_inner) {
            act(eventfd);
        }
    }
}
