//! Whether a follower keeps up with the log (thesis §4.2.1): it is sent the log in rounds, each of which ends where
//! the log ended when it began. One that ends within an election timeout shows that the next will be as short, and
//! that nobody waits longer for a voter like this than for an election.

use std::time::Duration;

use crate::id::Index;
use crate::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(super) struct CatchUp {
    /// When the leader began to send to it.
    pub(super) since: Instant,
    /// The round under way: where it ends, and when it began. None while there is nothing to send.
    round: Option<(Index, Instant)>,
    /// The last round was short.
    is_short: bool,
}

impl CatchUp {
    /// The leader, whose log ends at `last`, begins to send.
    pub(super) fn new(now: Instant, last: Index) -> Self {
        Self {
            since: now,
            round: Some((last, now)),
            is_short: false,
        }
    }

    /// The follower gave a sign of life; it has the log up to `matched`, the leader has it up to `last`.
    pub(super) fn heard(&mut self, now: Instant, matched: Index, last: Index, short: Duration) {
        if let Some((end, began)) = self.round {
            if matched < end {
                return;
            }
            // Who has everything will need no time for the next one.
            self.is_short = now - began < short || matched >= last;
            self.round = None;
        }
        if matched < last {
            self.round = Some((last, now));
        }
    }

    /// Whether the last round was short, and the one under way is not too long yet.
    pub(super) fn is_done(&self, now: Instant, short: Duration) -> bool {
        self.is_short && self.round.is_none_or(|(_, began)| now - began < short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_long_for_a_round_has_not_caught_up() {
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        let short = Duration::from_millis(150);
        let mut rounds = CatchUp::new(at(0), Index(1000));
        let mut heard = |millis, matched, last| {
            rounds.heard(at(millis), Index(matched), Index(last), short);
            rounds.is_done(at(millis), short)
        };
        assert!(!heard(100, 500, 1100), "the first round goes on");
        assert!(!heard(400, 1000, 1200), "it was long");
        assert!(!heard(700, 1200, 1300), "the second one too");
        assert!(heard(800, 1300, 1310), "the third was short");
        assert!(heard(940, 1305, 1400), "so is the fourth, so far");
        assert!(!heard(951, 1305, 1400), "and no more");
        assert!(!heard(960, 1310, 1400));
        assert!(!heard(1_200, 1400, 1500), "that was long again");
        assert!(heard(1_500, 1500, 1500), "nothing is left to send");
        assert!(heard(9_000, 1400, 1401), "what idles has not fallen behind");
        assert!(!heard(9_200, 1400, 1401));
    }
    #[test]
    fn a_round_that_takes_an_election_timeout_is_too_long_to_the_nanosecond() {
        let short = Duration::from_millis(150);
        let in_time = Instant::from_nanos(149_999_999);
        let late = Instant::from_nanos(150_000_000);
        for (now, is_short) in [(in_time, true), (late, false)] {
            let mut rounds = CatchUp::new(Instant::ZERO, Index(10));
            rounds.heard(now, Index(10), Index(20), short);
            assert_eq!(rounds.is_done(now, short), is_short, "the round that ended at {now:?}");
        }
        let mut rounds = CatchUp::new(Instant::ZERO, Index(0));
        rounds.heard(Instant::ZERO, Index(0), Index(10), short);
        assert!(rounds.is_done(in_time, short), "the one under way");
        assert!(!rounds.is_done(late, short));
    }
}
