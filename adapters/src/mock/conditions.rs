//! What a network does to what is sent over it.

use std::collections::BTreeMap;
use std::time::Duration;

use kraft_core::time::Instant;

use super::HostId;

/// How one direction between two hosts treats what is sent over it.
///
/// A wire keeps law A2 whatever the conditions are, as TCP does: what is lost is sent again later, everything behind it
/// waits, and when it was lost for too long the connection ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// How long it takes to get across.
    pub latency: Latency,
    /// The probability, 0 to 1, that what one flush sends is lost and must be sent again.
    pub loss: f64,
    /// Bytes a second, `None` for no limit.
    pub bandwidth: Option<u64>,
    /// How long until what was lost is sent again; doubled at each loss in a row.
    pub retransmit: Duration,
    /// Where the doubling of `retransmit` ends.
    pub retransmit_max: Duration,
    /// After so long without getting across, the sender's end closes with `TimedOut`.
    pub give_up: Duration,
    /// Bytes that a connection holds on their way and at the receiver, before its reader has taken them. A sender gets
    /// no more than this rid of.
    pub window: usize,
    /// Whether what arrived is delivered in pieces of random sizes, as a stream may be.
    pub split: bool,
}

impl Conditions {
    /// No delay, no loss, nothing split: for tests written by hand.
    pub const INSTANT: Self = Self {
        latency: Latency {
            min: Duration::ZERO,
            mean: Duration::ZERO,
        },
        loss: 0.0,
        bandwidth: None,
        retransmit: Duration::from_millis(200),
        retransmit_max: Duration::from_secs(5),
        give_up: Duration::from_secs(15),
        window: 256 * 1024,
        split: false,
    };

    /// A switched local network: 100 to about 1,000 µs, 250 µs on average; nothing is lost, streams are split.
    pub const LAN: Self = Self {
        latency: Latency {
            min: Duration::from_micros(100),
            mean: Duration::from_micros(250),
        },
        split: true,
        ..Self::INSTANT
    };
}

impl Default for Conditions {
    /// [`Conditions::LAN`].
    fn default() -> Self {
        Self::LAN
    }
}

/// A delay: at least `min`, `mean` on average, with the tail of an exponential distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The least.
    pub min: Duration,
    /// The average. At `min` or below it every delay is `min`.
    pub mean: Duration,
}

impl Latency {
    /// Always `delay`.
    #[must_use]
    pub const fn fixed(delay: Duration) -> Self {
        Self {
            min: delay,
            mean: delay,
        }
    }

    pub(super) fn draw(self, rng: &mut fastrand::Rng) -> Duration {
        let spread = self.mean.saturating_sub(self.min);
        if spread.is_zero() {
            return self.min;
        }
        // -log2 of a uniform number, linear between the powers of two, and its mean there: whole numbers and
        // multiplications alone, because `ln` differs from platform to platform in the last bit, and a seed must not.
        let bits = rng.u64(1..);
        let zeros = bits.leading_zeros();
        let fraction = ((bits << zeros) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
        let log2 = f64::from(zeros) + 1.0 - fraction;
        self.min + spread.mul_f64(log2 / 1.5)
    }
}

/// The conditions between all hosts. `None` as a host is whoever plays the other side by hand: next to everybody, and
/// never cut off.
#[derive(Debug)]
pub(super) struct Paths {
    usual: Conditions,
    paths: BTreeMap<(HostId, HostId), Path>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Path {
    conditions: Option<Conditions>,
    blocked: bool,
    clogged_until: Instant,
}

impl Paths {
    pub(super) fn new(usual: Conditions) -> Self {
        Self {
            usual,
            paths: BTreeMap::new(),
        }
    }

    pub(super) fn set_usual(&mut self, conditions: Conditions) {
        self.usual = conditions;
    }

    pub(super) fn set(&mut self, from: HostId, to: HostId, conditions: Conditions) {
        self.path(from, to).conditions = Some(conditions);
    }

    pub(super) fn unset(&mut self, from: HostId, to: HostId) {
        self.path(from, to).conditions = None;
    }

    pub(super) fn block(&mut self, from: HostId, to: HostId, blocked: bool) {
        self.path(from, to).blocked = blocked;
    }

    pub(super) fn clog(&mut self, from: HostId, to: HostId, until: Instant) {
        let path = self.path(from, to);
        path.clogged_until = path.clogged_until.max(until);
    }

    /// Nothing is blocked or clogged any more. Conditions stay.
    pub(super) fn heal(&mut self) {
        for path in self.paths.values_mut() {
            path.blocked = false;
            path.clogged_until = Instant::ZERO;
        }
    }

    pub(super) fn conditions(&self, from: Option<HostId>, to: Option<HostId>) -> Conditions {
        let (Some(from), Some(to)) = (from, to) else {
            return Conditions::INSTANT;
        };
        let path = self.paths.get(&(from, to));
        path.and_then(|path| path.conditions).unwrap_or(self.usual)
    }

    pub(super) fn is_blocked(&self, from: Option<HostId>, to: Option<HostId>) -> bool {
        let (Some(from), Some(to)) = (from, to) else {
            return false;
        };
        self.paths.get(&(from, to)).is_some_and(|path| path.blocked)
    }

    pub(super) fn clogged_until(&self, from: Option<HostId>, to: Option<HostId>) -> Instant {
        let (Some(from), Some(to)) = (from, to) else {
            return Instant::ZERO;
        };
        self.paths
            .get(&(from, to))
            .map_or(Instant::ZERO, |path| path.clogged_until)
    }

    fn path(&mut self, from: HostId, to: HostId) -> &mut Path {
        self.paths.entry((from, to)).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_never_below_its_least_and_about_its_mean() {
        let mut rng = fastrand::Rng::with_seed(7);
        let latency = Conditions::LAN.latency;
        let draws = 100_000_u32;
        let sum: Duration = (0..draws)
            .map(|_| {
                let drawn = latency.draw(&mut rng);
                assert!(drawn >= latency.min);
                drawn
            })
            .sum();
        let mean = sum / draws;
        assert!(mean.abs_diff(latency.mean) < latency.mean / 50, "{mean:?}");
    }

    #[test]
    fn a_fixed_latency_is_fixed() {
        let delay = Duration::from_millis(3);
        let mut rng = fastrand::Rng::with_seed(7);
        assert_eq!(Latency::fixed(delay).draw(&mut rng), delay);
    }
}
