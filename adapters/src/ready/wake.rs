//! Ends a wait from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Ends the wait of a selector, and makes its descriptor readable.
pub(crate) trait Bell {
    /// Rings. Failures have nobody to go to: the selector is gone, or rung already.
    fn ring(&self);
}

/// A bell behind a flag: of many wakes between two turns only the first costs a system call.
#[derive(Debug)]
pub(crate) struct Wake<B> {
    /// A user's wake that was not delivered yet.
    pending: AtomicBool,
    /// Empty once the adapter is gone: its descriptor goes with it, whoever still has a waker (law A21).
    bell: Mutex<Option<B>>,
}

impl<B: Bell> Wake<B> {
    pub(crate) fn new(bell: B) -> Self {
        Self {
            pending: AtomicBool::new(false),
            bell: Mutex::new(Some(bell)),
        }
    }

    /// A user's wake; one `Woken` follows.
    pub(crate) fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.signal();
        }
    }

    /// Ends the wait and makes the descriptor readable, without a `Woken`.
    pub(crate) fn signal(&self) {
        let bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bell) = &*bell {
            bell.ring();
        }
    }

    /// Whether a user's wake is due, for a selector that does not tell when it was rung.
    #[cfg(feature = "kqueue")]
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Whether a user's wake is due, once. Called after the bell was heard: the flag is cleared before the user
    /// looks for what the wake announced, so that a later announcement wakes again.
    pub(crate) fn take(&self) -> bool {
        self.pending.swap(false, Ordering::AcqRel)
    }

    /// Drops the bell; wakes are inert from here on.
    pub(crate) fn close(&self) {
        *self.bell.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
