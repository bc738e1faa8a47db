//! What other threads tell the loop, and how it waits for that.

#[cfg(all(loom, test))]
mod models;

use std::fmt;
use std::mem;
use std::time::Duration;

use super::signal::{Raised, Raiser};
use crate::sync::{AtomicBool, Condvar, Mutex, MutexGuard, Ordering, PoisonError};

/// Notes for the loop, of type `N`, in one queue that it empties once a turn.
///
/// A vector behind a lock, and not a channel: whether there is a note, whether the loop sleeps and whether an outer
/// loop was told are one state and change together, a turn takes all of it by one lock, and the two vectors that go
/// round are not allocated again (law A22). The lock is held for a push or a swap.
///
/// Who tells something wakes the loop only if it sleeps, and raises the signal only if it is down: of many notes
/// between two turns the first one alone costs a system call.
///
/// Its bound is that of those who tell: each connection has few buffers, each descriptor that is watched one note.
pub(super) struct Mailbox<N> {
    state: Mutex<State<N>>,
    bell: Condvar,
    /// Something is to be taken. Looked at without the lock by a loop that spins.
    filled: AtomicBool,
}

/// `is_raised <= is_embedded`: a signal that nobody waits on stays down.
struct State<N> {
    notes: Vec<N>,
    /// A user's wake that was not delivered yet.
    is_woken: bool,
    /// The loop waits for the bell.
    is_asleep: bool,
    /// Somebody waits on the signal in a loop of his own.
    is_embedded: bool,
    is_raised: bool,
    /// Empty once the adapter is gone: the descriptor goes with it, whoever still has a waker (law A21).
    signal: Option<Raiser>,
}

impl<N> Mailbox<N> {
    pub(super) fn new(signal: Raiser) -> Self {
        let state = State {
            notes: Vec::new(),
            is_woken: false,
            is_asleep: false,
            is_embedded: false,
            is_raised: false,
            signal: Some(signal),
        };
        Self {
            state: Mutex::new(state),
            bell: Condvar::new(),
            filled: AtomicBool::new(false),
        }
    }

    /// Leaves a note.
    pub(super) fn tell(&self, note: N) {
        self.change(|state| state.notes.push(note));
    }

    /// A user's wake; one `Woken` follows.
    pub(super) fn wake(&self) {
        self.change(|state| state.is_woken = true);
    }

    /// Raises the signal, if anybody waits on it: the loop has work left.
    pub(super) fn call(&self) {
        self.lock().raise();
    }

    /// From here on the signal is up whenever there is something to take.
    pub(super) fn embed(&self) {
        let mut state = self.lock();
        state.is_embedded = true;
        if state.is_filled() {
            state.raise();
        }
    }

    /// Whether there is something to take; a hint, without the lock.
    pub(super) fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Relaxed)
    }

    /// Takes all notes, into a vector that is empty; if there are none, waits first, no longer than `wait`, for ever if
    /// that is `None`. It may come back with nothing before that. Whether a user's wake is due.
    ///
    /// The wake is forgotten before the user looks for what it announced, so that a later one wakes again.
    pub(super) fn take(&self, wait: Option<Duration>, into: &mut Vec<N>, signal: &Raised) -> bool {
        assert!(into.is_empty(), "taken notes are not dealt with");
        let mut state = self.lock();
        if !state.is_filled() && wait != Some(Duration::ZERO) {
            state.is_asleep = true;
            state = match wait {
                None => self.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(wait) => {
                    let woken = self.bell.wait_timeout(state, wait);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.is_asleep = false;
        }
        self.filled.store(false, Ordering::Relaxed);
        mem::swap(&mut state.notes, into);
        if mem::take(&mut state.is_raised) {
            // Under the lock, so that the next to raise it finds it down: an outer loop that hears of changes alone
            // hears of it then.
            signal.lower();
        }
        mem::take(&mut state.is_woken)
    }

    /// Closes the signal and drops what was told; what is still told is dropped with the mailbox.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.signal = None;
        state.notes.clear();
    }

    fn change(&self, change: impl FnOnce(&mut State<N>)) {
        let mut state = self.lock();
        change(&mut state);
        self.filled.store(true, Ordering::Relaxed);
        state.raise();
        let is_asleep = mem::take(&mut state.is_asleep);
        drop(state);
        if is_asleep {
            // After the lock, or the loop would wake only to wait for it.
            self.bell.notify_one();
        }
    }

    /// A thread that panicked under the lock left nothing half done: each change is one assignment or one push.
    fn lock(&self) -> MutexGuard<'_, State<N>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N> State<N> {
    fn is_filled(&self) -> bool {
        self.is_woken || !self.notes.is_empty()
    }

    fn raise(&mut self) {
        if self.is_embedded
            && !self.is_raised
            && let Some(signal) = &self.signal
        {
            self.is_raised = true;
            signal.raise();
        }
    }
}

/// Notes hold what peers sent, which has no place in a log.
impl<N> fmt::Debug for Mailbox<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}
