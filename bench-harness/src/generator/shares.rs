//! Whether every connection of a closed loop gets its share.

use std::time::Duration;

use crate::fault::Fault;

/// How often each connection's messages come round on average before one that never did is starving, and not merely
/// behind the others. What came before measuring began counts: where each connection has a thread, one may keep the core
/// until the scheduler's next tick, a hundred messages long, and then wait until all others have had as much.
const ROUNDS_MIN: u64 = 32;

/// A thread may keep the core for so long before another one has its turn, where each connection has one.
const THREAD_TURN: Duration = Duration::from_millis(10);

/// Answers by connection, since measuring began.
#[derive(Debug)]
pub(super) struct Shares {
    of_each: Vec<u64>,
    /// And those before.
    before: Vec<u64>,
    /// Connections that have had none.
    silent: usize,
    all: u64,
    /// So many answers of all are enough to judge.
    enough: u64,
    /// So many messages are a round.
    round: u64,
}

impl Shares {
    /// For connections that each have `depth` messages on their way.
    pub(super) fn new(conns: usize, depth: usize) -> Self {
        let round = (conns * depth) as u64;
        Self {
            of_each: vec![0; conns],
            before: vec![0; conns],
            silent: conns,
            all: 0,
            enough: round * ROUNDS_MIN,
            round,
        }
    }

    /// Where nobody counts.
    pub(super) fn of_nobody() -> Self {
        Self::new(0, 0)
    }

    /// Counts from here on.
    pub(super) fn reset(&mut self) {
        for (before, count) in self.before.iter_mut().zip(&mut self.of_each) {
            *before += std::mem::take(count);
        }
        (self.silent, self.all) = (self.of_each.len(), 0);
    }

    /// `conn` was answered.
    pub(super) fn add(&mut self, conn: usize) {
        if let Some(count) = self.of_each.get_mut(conn) {
            self.silent -= usize::from(*count == 0);
            *count += 1;
            self.all += 1;
        }
    }

    /// Whether all were answered. Where some were not and the rest not often enough to say that they starve the load has
    /// to go on: in a short round of many connections it is nobody's fault. So much time has `passed`.
    ///
    /// # Errors
    ///
    /// Some starve.
    pub(super) fn are_had(&mut self, passed: Duration) -> Result<bool, Fault> {
        let turns = THREAD_TURN * u32::try_from(self.of_each.len()).unwrap_or(u32::MAX);
        if self.silent == 0 || self.all < self.enough || passed < turns {
            return Ok(self.silent == 0);
        }
        let conns = self.of_each.len();
        let share = (self.all + self.before.iter().sum::<u64>()) / conns as u64;
        let far_behind = share.saturating_sub(self.round / conns as u64 * ROUNDS_MIN);
        let mut silent = self.before.iter().zip(&self.of_each).filter(|(_, count)| **count == 0);
        if !silent.any(|(before, _)| *before <= far_behind) {
            self.enough = self.all + self.round;
            return Ok(false);
        }
        let silent = self.silent;
        let others = self.all / (conns - silent).max(1) as u64;
        Err(Fault::Stalled(format!(
            "{silent} of {conns} connections had no answer, the others {others} each"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1);

    #[test]
    fn who_is_never_answered_starves_when_the_others_came_round_often() {
        let mut shares = Shares::new(3, 2);
        for answers in 0..3 * 2 * ROUNDS_MIN {
            assert_eq!(shares.are_had(LONG), Ok(false), "{answers} of the others");
            shares.add(usize::from(answers % 2 == 1));
        }
        let what = "1 of 3 connections had no answer, the others 96 each";
        assert_eq!(shares.are_had(LONG), Err(Fault::Stalled(what.into())));
        // Threads may need longer to have their turns.
        assert_eq!(shares.are_had(THREAD_TURN), Ok(false));
        shares.add(2);
        assert_eq!(shares.are_had(LONG), Ok(true));
        // What was before it counted is no share.
        shares.reset();
        shares.add(2);
        assert_eq!(shares.are_had(LONG), Ok(false));
    }

    #[test]
    fn who_was_far_ahead_before_may_wait_for_the_others() {
        let mut shares = Shares::new(2, 1);
        (0..100).for_each(|_| shares.add(1));
        shares.reset();
        // Then both have had a hundred on average, and it is not behind until they have had 32 more.
        for answers in 0..100 + 2 * ROUNDS_MIN {
            assert_eq!(shares.are_had(LONG), Ok(false), "{answers} of the other");
            shares.add(0);
        }
        let what = "1 of 2 connections had no answer, the others 164 each";
        assert_eq!(shares.are_had(LONG), Err(Fault::Stalled(what.into())));
    }

    #[test]
    fn nobody_starves_where_nobody_counts() {
        let mut shares = Shares::of_nobody();
        shares.add(7);
        assert_eq!(shares.are_had(LONG), Ok(true));
    }
}
