//! Which faults Raft tolerates: what stays whole in a run that must stay live.
//!
//! | fault | is tolerated |
//! |---|---|
//! | crash, power, stop, pause, full, stall, write-error, sync-error, read-error, rot, wipe | at less than half of the voters at a time, of the newest committed configuration, and at no others while that changes |
//! | member | one at a time, while nobody is hurt, and as long as two voters are left |
//! | partition | of those from the others |
//! | one-way, clog | at their links |
//! | loss, delay, bandwidth | anywhere, as long as an election timeout is far above what they add |
//! | reset, tear, duplicate, reorder, replay, jump, drift, transfer | anywhere, now and then |
//!
//! In a run for safety alone everything may happen to everybody.

use std::collections::BTreeSet;

use super::Mode;

/// Says what may be hurt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Atlas {
    voters: usize,
    mode: Mode,
}

impl Atlas {
    pub(super) fn new(voters: usize, mode: Mode) -> Self {
        Self { voters, mode }
    }

    /// There are so many voters from here on.
    pub(super) fn count(&mut self, voters: usize) {
        self.voters = voters;
    }

    /// How many nodes a majority can do without.
    pub(super) fn spare(self) -> usize {
        self.voters.saturating_sub(1) / 2
    }

    /// Whether faults are kept within what Raft tolerates.
    pub(super) fn is_kept(self) -> bool {
        self.mode == Mode::Liveness
    }

    /// Whether `at` may be hurt while `hurt` are.
    pub(super) fn allows(self, hurt: &BTreeSet<usize>, at: usize) -> bool {
        !self.is_kept() || hurt.contains(&at) || hurt.len() < self.spare()
    }

    /// Whether the disk of `at` may be lost for long while those of `lost` are: laws hold while a majority's disks
    /// survive, in every mode.
    pub(super) fn allows_loss(self, lost: &BTreeSet<usize>, at: usize) -> bool {
        lost.len() < self.spare() && !lost.contains(&at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_stays_whole_where_a_run_must_stay_live() {
        let hurt = BTreeSet::from([0]);
        for (nodes, mode, at, allowed) in [
            (3, Mode::Liveness, 0, true),
            (3, Mode::Liveness, 1, false),
            (5, Mode::Liveness, 1, true),
            (3, Mode::Safety, 1, true),
        ] {
            assert_eq!(
                Atlas::new(nodes, mode).allows(&hurt, at),
                allowed,
                "{nodes} {mode:?} {at}"
            );
        }
        assert!(!Atlas::new(1, Mode::Safety).allows_loss(&BTreeSet::new(), 0));
        assert!(!Atlas::new(3, Mode::Safety).allows_loss(&hurt, 1));
        assert!(Atlas::new(5, Mode::Safety).allows_loss(&hurt, 1));
    }
}
