//! What ends a wait of a mock from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Wake {
    pending: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Wake {
    pub(super) fn wake(&self) {
        // Under the lock, or it could fall between the check and the wait of the other thread.
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.pending.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> bool {
        self.pending.swap(false, Ordering::AcqRel)
    }

    /// Waits until it was woken, at most `span` of real time.
    pub(super) fn wait(&self, span: Duration) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(guard, span, |()| !self.is_pending());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
