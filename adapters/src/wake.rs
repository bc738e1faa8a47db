//! Ends a wait from another thread.

#[cfg(all(loom, test))]
mod models;

use crate::sync::{AtomicBool, Mutex, Ordering, PoisonError};

/// Ends a wait, and makes the descriptor that is waited on readable.
pub(crate) trait Bell {
    /// Rings. Failures have nobody to go to: who waited is gone, or rung already.
    fn ring(&self);
}

/// A bell behind a flag: of many wakes between two turns only the first costs a system call (measured: 40 ns a message
/// for 452).
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
        self.with_bell(B::ring);
    }

    /// Does something to the bell, while it is there.
    pub(crate) fn with_bell(&self, act: impl FnOnce(&B)) {
        if let Some(bell) = &*self.bell.lock().unwrap_or_else(PoisonError::into_inner) {
            act(bell);
        }
    }

    /// Whether a user's wake is due, for a selector that does not tell when it was rung.
    #[cfg(feature = "kqueue")]
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Whether a user's wake is due, once. Called after the bell was heard and is silent again: the flag is cleared
    /// before the user looks for what the wake announced, so that a later announcement rings again.
    pub(crate) fn take(&self) -> bool {
        self.pending.swap(false, Ordering::AcqRel)
    }

    /// As [`take`](Self::take), for a bell that goes on ringing until somebody silences it: before the flag is cleared,
    /// or a wake in between would be silenced with the flag up, and all that follow it be held for announced.
    pub(crate) fn take_after(&self, silence: impl FnOnce()) -> bool {
        silence();
        self.take()
    }

    /// Drops the bell; wakes are inert from here on.
    pub(crate) fn close(&self) {
        *self.bell.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
