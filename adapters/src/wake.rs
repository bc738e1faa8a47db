//! Ends a wait from another thread.

#[cfg(all(loom, test))]
mod models;
#[cfg(any(
    feature = "kqueue",
    all(feature = "libuv", unix),
    all(feature = "epoll", any(target_os = "android", target_os = "linux")),
    all(feature = "io-uring", target_os = "linux"),
    all(loom, test)
))]
pub(crate) mod sleeper;

use crate::sync::{AtomicU8, Mutex, Ordering, PoisonError};

/// The loop may be waiting: a wake has to ring.
const ASLEEP: u8 = 0;
/// A user's wake was not delivered yet.
const WOKEN: u8 = 1;

/// Ends a wait, and makes the descriptor that is waited on readable.
pub(crate) trait Bell {
    /// Rings. Failures have nobody to go to: who waited is gone, or rung already.
    fn ring(&self);
}

/// A bell behind a state: of many wakes between two turns only the first costs a system call.
#[derive(Debug)]
pub(crate) struct Wake<B> {
    state: AtomicU8,
    /// Empty once the adapter is gone: its descriptor goes with it, whoever still has a waker (law A21).
    bell: Mutex<Option<B>>,
}

impl<B: Bell> Wake<B> {
    pub(crate) fn new(bell: B) -> Self {
        Self {
            state: AtomicU8::new(ASLEEP),
            bell: Mutex::new(Some(bell)),
        }
    }

    /// A user's wake; one `Woken` follows.
    pub(crate) fn wake(&self) {
        // In one order with what a bell keeps of its own rings, if that is of such an order, too.
        if self.state.swap(WOKEN, Ordering::SeqCst) == ASLEEP {
            self.signal();
        }
    }

    /// Ends the wait and makes the descriptor readable, without a `Woken`.
    pub(crate) fn signal(&self) {
        if let Some(bell) = &*self.bell.lock().unwrap_or_else(PoisonError::into_inner) {
            bell.ring();
        }
    }

    /// Whether a user's wake is due, once; the next one rings. Called after the bell was heard and is silent again: the
    /// state is cleared before the user looks for what the wake announced, so that a later announcement rings again.
    pub(crate) fn take(&self) -> bool {
        self.state.swap(ASLEEP, Ordering::AcqRel) == WOKEN
    }

    /// As [`take`](Self::take), for a bell that goes on ringing until somebody silences it: before the state is cleared,
    /// or a wake in between would be silenced while it is due, and all that follow it be held for announced.
    pub(crate) fn take_after(&self, silence: impl FnOnce()) -> bool {
        silence();
        self.take()
    }

    /// Drops the bell; wakes are inert from here on.
    pub(crate) fn close(&self) {
        *self.bell.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
