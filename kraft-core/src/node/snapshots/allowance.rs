//! How many bytes may leave: so many a second, with no more than a twentieth of that at once.

use std::time::Duration;

use crate::time::Instant;

const NANOS: u128 = 1_000_000_000;

/// Bytes that may leave, refilled as time passes.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Bytes a second.
    rate: u64,
    /// What must be able to leave at once.
    piece: u64,
    bytes: u64,
    /// Up to when what passed is in `bytes`.
    refilled: Instant,
}

impl Allowance {
    pub(super) fn new(rate: u64, piece: u64, now: Instant) -> Self {
        Self {
            rate,
            piece,
            bytes: piece,
            refilled: now,
        }
    }

    /// Bytes that may leave now.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// So many left.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.bytes -= bytes.min(self.bytes);
    }

    /// From now on it is so many bytes a second.
    pub(super) fn set_rate(&mut self, rate: u64) {
        self.rate = rate;
        self.bytes = self.bytes.min(self.most());
    }

    /// What was not used in a while is no reason for a burst.
    fn most(&self) -> u64 {
        (self.rate / 20).max(self.piece)
    }

    /// It is `now`.
    pub(super) fn refill(&mut self, now: Instant) {
        let passed = now.saturating_since(self.refilled);
        let grown = u128::from(self.rate) * passed.as_nanos() / NANOS;
        let grown = u64::try_from(grown).unwrap_or(u64::MAX);
        let most = self.most();
        if grown >= most - self.bytes {
            self.bytes = most;
            self.refilled = now;
        } else {
            self.bytes += grown;
            // Turns may be closer together than bytes: the time of a part of one counts the next time.
            self.refilled += span(u128::from(grown) * NANOS / u128::from(self.rate));
        }
    }

    /// When a piece may leave that may not now.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let missing = self.piece.checked_sub(self.bytes).filter(|missing| *missing > 0)?;
        Some(self.refilled + span((u128::from(missing) * NANOS).div_ceil(u128::from(self.rate))))
    }
}

fn span(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::ZERO + Duration::from_micros(micros)
    }

    #[test]
    fn turns_that_are_closer_together_than_bytes_starve_nobody() {
        let mut allowance = Allowance::new(10_000, 100, at(0));
        allowance.spend(100);
        assert_eq!(allowance.deadline(), Some(at(10_000)));
        for micros in 1..10_000 {
            allowance.refill(at(micros));
            assert!(allowance.bytes() < 100, "{micros}");
            assert_eq!(allowance.deadline(), Some(at(10_000)));
        }
        allowance.refill(at(10_000));
        assert_eq!((allowance.bytes(), allowance.deadline()), (100, None));
    }

    #[test]
    fn what_was_not_used_is_no_reason_for_a_burst() {
        let mut allowance = Allowance::new(10_000, 100, at(0));
        allowance.refill(at(60_000_000));
        assert_eq!(allowance.bytes(), 500);
        let mut boundless = Allowance::new(u64::MAX, 100, at(0));
        boundless.spend(100);
        boundless.refill(at(1_000_000));
        assert_eq!(boundless.bytes(), u64::MAX / 20);
    }

    #[test]
    fn what_was_saved_up_at_a_higher_rate_is_no_reason_for_a_burst_either() {
        let mut allowance = Allowance::new(10_000, 100, at(0));
        allowance.refill(at(60_000_000));
        allowance.set_rate(4_000);
        assert_eq!(allowance.bytes(), 200);
        allowance.spend(200);
        allowance.refill(at(60_001_000));
        assert_eq!(allowance.bytes(), 4);
        assert_eq!(allowance.deadline(), Some(at(60_025_000)));
    }
}
