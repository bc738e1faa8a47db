//! One set of timers for all backends; no kernel timers.

use std::time::Duration;

use crate::id::TimerId;
use crate::time::Instant;

/// Timers of an adapter. Backends call [`expire`](Self::expire) in every turn and wait no longer than
/// [`next_deadline`](Self::next_deadline).
#[derive(Debug, Default)]
pub struct Timers {}

impl Timers {
    /// Starts a timer that expires once at `deadline`, or at once if that is past.
    pub fn start(&mut self, deadline: Instant) -> TimerId {
        let _ = deadline;
        todo!()
    }

    /// Starts a timer that expires at `first` and then every `period`, without drift; turns that came too late for
    /// several periods get one expiry (law A12).
    ///
    /// # Panics
    ///
    /// If `period` is zero.
    pub fn repeat(&mut self, first: Instant, period: Duration) -> TimerId {
        let _ = (first, period);
        todo!()
    }

    /// Stops a timer; whether it was running. A stop before a poll holds even if the timer is due (law A11).
    pub fn stop(&mut self, timer: TimerId) -> bool {
        let _ = timer;
        todo!()
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// Takes one timer that is due at `now`: the earliest deadline, of equals the one that was started first. For
    /// backends; a repeating timer is set to its next period.
    pub fn expire(&mut self, now: Instant) -> Option<TimerId> {
        let _ = now;
        todo!()
    }

    /// How many run.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
