//! Another configuration for an adapter that runs.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kraft_core::adapter::Waker;

use super::Config;

/// Gives a [`Tls`](super::Tls) another configuration while it runs: certificates that were renewed, an authority that was
/// added. From any thread.
#[derive(Clone, Debug)]
pub struct Renewal {
    next: Arc<Next>,
    waker: Waker,
}

/// What is handed over.
#[derive(Debug, Default)]
pub(super) struct Next {
    /// Looked at in each turn, which takes no lock.
    is_there: AtomicBool,
    config: Mutex<Option<Config>>,
}

impl Renewal {
    pub(super) fn new(next: Arc<Next>, waker: Waker) -> Self {
        Self { next, waker }
    }

    /// Connections that begin after the adapter's next turn are made by `config`; those that are there stay as they are.
    ///
    /// What was encrypted stays so, and what was not as well: a part that is `None` here, or was before, is left as it
    /// was, and so is `handshake_timeout`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a field that cannot be used; the former configuration stays whole.
    pub fn renew(&self, config: Config) -> io::Result<()> {
        config.validate()?;
        *self.next.config.lock().unwrap_or_else(PoisonError::into_inner) = Some(config);
        self.next.is_there.store(true, Ordering::Release);
        self.waker.wake();
        Ok(())
    }
}

impl Next {
    pub(super) fn take(&self) -> Option<Config> {
        if !self.is_there.load(Ordering::Acquire) || !self.is_there.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.config.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
