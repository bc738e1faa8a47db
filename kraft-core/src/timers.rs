//! One set of timers for all backends; no kernel timers.

mod heap;

use std::time::Duration;

use self::heap::Heap;
use crate::id::TimerId;
use crate::time::Instant;

/// Timers of an adapter. Backends call [`expire`](Self::expire) in every turn and wait no longer than
/// [`next_deadline`](Self::next_deadline).
///
/// An indexed 4-ary heap over slots with generations: the exact next deadline is at hand, and stopping a timer in the
/// middle costs as little as starting one (an election timer restarts at every heartbeat). One start of 2^32 costs more:
/// it sorts all timers that run, to count starts anew. A timer wheel is faster still and knows its next deadline only
/// roughly.
///
/// A backend keeps the deadlines of its own work here too (a connect's time-out, a closing flush's), apart from the
/// user's: [`start_own`](Self::start_own). They count in `next_deadline`, so that whoever waits in an outer loop
/// waits no longer than the backend needs, and in nothing else.
#[derive(Debug, Default)]
pub struct Timers {
    /// With the period, zero for a timer that expires once.
    users: Heap<Duration>,
    /// With the backend's token.
    own: Heap<u64>,
}

impl Timers {
    /// Starts a timer that expires once at `deadline`, or at once if that is past.
    pub fn start(&mut self, deadline: Instant) -> TimerId {
        self.users.insert(deadline, Duration::ZERO)
    }

    /// Starts a timer that expires at `first` and then every `period`, without drift; turns that came too late for
    /// several periods get one expiry (law A12).
    ///
    /// # Panics
    ///
    /// If `period` is zero.
    pub fn repeat(&mut self, first: Instant, period: Duration) -> TimerId {
        assert!(!period.is_zero(), "a period of zero never ends");
        self.users.insert(first, period)
    }

    /// Stops a timer; whether it was running. A stop before a poll holds even if the timer is due (law A11).
    pub fn stop(&mut self, timer: TimerId) -> bool {
        self.users.remove(timer)
    }

    /// The earliest deadline, of the user's timers and of the backend's own.
    #[inline]
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match (self.users.next_deadline(), self.own.next_deadline()) {
            (Some(users), Some(own)) => Some(users.min(own)),
            (users, own) => users.or(own),
        }
    }

    /// Takes one timer that is due at `now`: the earliest deadline, of equals the one that was started first. For
    /// backends; a repeating timer is set to its next period.
    ///
    /// `while let Some(timer) = timers.expire(now)` ends: what repeats is next due after `now`.
    #[inline]
    pub fn expire(&mut self, now: Instant) -> Option<TimerId> {
        let (timer, deadline, period) = self.users.due(now)?;
        self.advance(timer, following(deadline, period, now));
        Some(timer)
    }

    /// Sets the first timer to its `next` deadline, or ends it.
    fn advance(&mut self, timer: TimerId, next: Option<Instant>) {
        match next {
            Some(next) => self.users.postpone_first(next),
            None => {
                self.users.remove(timer);
            }
        }
    }

    /// How many run, the backend's own apart.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether none runs, the backend's own apart.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Starts a timer of the backend itself; [`expire_own`](Self::expire_own) gives `token` back at `deadline`. For
    /// backends. The id is good for [`stop_own`](Self::stop_own) alone.
    pub fn start_own(&mut self, deadline: Instant, token: u64) -> TimerId {
        self.own.insert(deadline, token)
    }

    /// Stops a timer of the backend itself; whether it was running. For backends.
    pub fn stop_own(&mut self, timer: TimerId) -> bool {
        self.own.remove(timer)
    }

    /// Takes one of the backend's own timers that is due at `now` and returns its token. For backends.
    #[inline]
    pub fn expire_own(&mut self, now: Instant) -> Option<u64> {
        let (timer, _, token) = self.own.due(now)?;
        self.own.remove(timer);
        Some(token)
    }
}

/// The first deadline of a repeating timer after `now`, on the grid that its first one began. `None` if it does not
/// repeat, or at the end of time.
fn following(deadline: Instant, period: Duration, now: Instant) -> Option<Instant> {
    if period.is_zero() {
        return None;
    }
    let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    let late = (now.as_nanos() - deadline.as_nanos()) % period;
    let next = now.as_nanos().checked_add(period - late)?;
    Some(Instant::from_nanos(next))
}

#[cfg(test)]
mod tests;
