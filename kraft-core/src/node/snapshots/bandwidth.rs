//! What may leave to followers: so many bytes a second to all of them, less while others need the machine.

use std::time::Duration;

use super::allowance::Allowance;
use crate::id::Index;
use crate::time::Instant;

/// For so long after something was committed, so large a part of the rate is left: what is sent takes processors, disks and
/// lines that clients need for their answers. While nothing is, they may be waiting for just this.
const GIVES_WAY: Duration = Duration::from_millis(100);
const SHARE: u64 = 4;

/// Bytes that may leave. Who is late, since what was sent to it was gone before it had arrived, must be through some time
/// and gives way to nobody: it is bounded by `all` alone, the others by `patient` too.
#[derive(Debug)]
pub(super) struct Bandwidth {
    /// Bytes a second.
    rate: u64,
    all: Allowance,
    patient: Allowance,
    /// What was committed when it was last looked at, and until when that gives way to what follows.
    committed: Index,
    gives_way_until: Instant,
    /// `patient` has a part of the rate.
    gives_way: bool,
}

impl Bandwidth {
    /// `rate` bytes a second, in pieces of so many; `u64::MAX` bounds nothing and gives way to nothing.
    pub(super) fn new(rate: u64, piece: u64, now: Instant) -> Self {
        Self {
            rate,
            all: Allowance::new(rate, piece, now),
            patient: Allowance::new(rate, piece, now),
            committed: Index::ZERO,
            gives_way_until: now,
            gives_way: false,
        }
    }

    /// It is `now`, and `commit` is what is committed.
    pub(super) fn refill(&mut self, commit: Index, now: Instant) {
        self.all.refill(now);
        self.patient.refill(now);
        if commit > self.committed {
            self.committed = commit;
            self.gives_way_until = now + GIVES_WAY;
        }
        self.gives_way = now < self.gives_way_until && self.rate < u64::MAX;
        self.patient.set_rate(match self.gives_way {
            true => (self.rate / SHARE).max(1),
            false => self.rate,
        });
    }

    /// Bytes that may leave now, to one that is late or not.
    pub(super) fn bytes(&self, is_late: bool) -> u64 {
        match is_late {
            true => self.all.bytes(),
            false => self.all.bytes().min(self.patient.bytes()),
        }
    }

    /// So many left.
    pub(super) fn spend(&mut self, is_late: bool, bytes: u64) {
        self.all.spend(bytes);
        if !is_late {
            self.patient.spend(bytes);
        }
    }

    /// When a piece may leave that may not now, to one that is late or not; at the latest when the rate grows.
    pub(super) fn deadline(&self, is_late: bool) -> Option<Instant> {
        let patient = self.patient.deadline().filter(|_| !is_late);
        let patient = patient.map(|at| match self.gives_way {
            true => at.min(self.gives_way_until),
            false => at,
        });
        // Of both the later one: what is due before that finds no room.
        self.all.deadline().max(patient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::ZERO;
    const TICK: Duration = Duration::from_millis(10);

    fn millis(millis: u64) -> Instant {
        NOW + Duration::from_millis(millis)
    }

    /// Bytes that may leave to one in the ten milliseconds that follow, in which so much is committed.
    fn grown(bandwidth: &mut Bandwidth, now: &mut Instant, is_late: bool, committed: u64) -> u64 {
        bandwidth.spend(false, u64::MAX);
        let commit = Index(bandwidth.committed.0 + committed);
        bandwidth.refill(commit, *now);
        *now += TICK;
        bandwidth.refill(commit, *now);
        bandwidth.bytes(is_late)
    }

    #[test]
    fn what_is_sent_gives_way_to_what_is_committed_unless_it_would_never_arrive() {
        let mut bandwidth = Bandwidth::new(4_000_000, 1000, NOW);
        let mut now = NOW;
        assert_eq!(grown(&mut bandwidth, &mut now, false, 1), 10_000);
        assert_eq!(grown(&mut bandwidth, &mut now, false, 1), 10_000);
        for _ in 0..9 {
            assert_eq!(grown(&mut bandwidth, &mut now, false, 0), 10_000, "a moment ago");
        }
        assert_eq!(
            grown(&mut bandwidth, &mut now, false, 0),
            40_000,
            "nothing is committed: clients may wait for just this"
        );
        assert_eq!(grown(&mut bandwidth, &mut now, false, 1), 10_000);
        assert_eq!(grown(&mut bandwidth, &mut now, true, 1), 40_000);
    }

    #[test]
    fn one_that_is_late_takes_more_and_the_others_do_not() {
        let mut bandwidth = Bandwidth::new(4_000_000, 1000, NOW);
        let mut now = NOW;
        assert_eq!(grown(&mut bandwidth, &mut now, true, 1), 40_000);
        assert_eq!(bandwidth.bytes(false), 10_000);
        bandwidth.spend(true, 35_000);
        assert_eq!((bandwidth.bytes(true), bandwidth.bytes(false)), (5_000, 5_000));
        bandwidth.spend(false, 5_000);
        assert_eq!((bandwidth.bytes(true), bandwidth.bytes(false)), (0, 0));
    }

    #[test]
    fn the_end_of_giving_way_is_a_deadline() {
        // A piece takes 25 ms, and 100 of them at a quarter of the rate.
        let mut bandwidth = Bandwidth::new(40_000, 1000, NOW);
        bandwidth.refill(Index(1), NOW);
        bandwidth.spend(false, 1000);
        bandwidth.refill(Index(2), millis(10));
        bandwidth.spend(false, u64::MAX);
        assert_eq!(bandwidth.deadline(false), Some(millis(110)));
        assert!(bandwidth.deadline(true) < Some(millis(40)));
        bandwidth.refill(Index(2), millis(109));
        assert!(bandwidth.bytes(false) < 1000);
        assert_eq!(bandwidth.deadline(false), Some(millis(110)));
        // At the deadline there is another one, or none: nobody spins.
        bandwidth.refill(Index(2), millis(110));
        bandwidth.spend(false, u64::MAX);
        assert_eq!(bandwidth.deadline(false), Some(millis(135)));
        bandwidth.refill(Index(2), millis(135));
        assert_eq!(bandwidth.deadline(false), None);
    }

    #[test]
    fn what_is_boundless_gives_way_to_nothing_and_a_part_of_next_to_nothing_is_something() {
        let mut now = NOW;
        let mut boundless = Bandwidth::new(u64::MAX, 1000, NOW);
        assert_eq!(
            grown(&mut boundless, &mut now, false, 1),
            u64::MAX / 100,
            "nothing bounds it"
        );
        for rate in 1..4 {
            let (mut bandwidth, mut now) = (Bandwidth::new(rate, 1000, NOW), NOW);
            grown(&mut bandwidth, &mut now, false, 1);
            assert_eq!(grown(&mut bandwidth, &mut now, false, 1), 0);
            assert!(bandwidth.deadline(false).is_some());
        }
    }
}
