//! Ends a wait from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// An eventfd behind a flag: of many wakes between two turns only the first costs a system call.
#[derive(Debug)]
pub(super) struct Wake {
    /// A user's wake that was not delivered yet.
    pending: AtomicBool,
    /// Empty once the adapter is gone: its descriptor goes with it, whoever still has a waker (law A21).
    eventfd: Mutex<Option<mio::Waker>>,
}

impl Wake {
    pub(super) fn new(eventfd: mio::Waker) -> Self {
        Self {
            pending: AtomicBool::new(false),
            eventfd: Mutex::new(Some(eventfd)),
        }
    }

    /// A user's wake; one `Woken` follows.
    pub(super) fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.signal();
        }
    }

    /// Ends the wait and makes the epoll descriptor readable, without a `Woken`.
    pub(super) fn signal(&self) {
        let eventfd = self.eventfd.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(eventfd) = &*eventfd {
            // Writing to an eventfd fails only on a full counter, which mio empties.
            let _ = eventfd.wake();
        }
    }

    /// Whether a user's wake is due. Called after the eventfd's edge was seen: the flag is cleared before the user
    /// looks for what the wake announced, so that a later announcement wakes again.
    pub(super) fn take(&self) -> bool {
        self.pending.swap(false, Ordering::AcqRel)
    }

    /// Closes the eventfd; wakes are inert from here on.
    pub(super) fn close(&self) {
        *self.eventfd.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
