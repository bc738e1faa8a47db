//! What a majority is: a function from what each voter says to what the cluster says. Values in, values out, so that
//! joint consensus is the lesser of two of these (thesis §4.3).

use crate::id::{Index, NodeId};

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VoteResult {
    /// A majority granted.
    Won,
    /// A majority can no longer grant.
    Lost,
    /// Neither yet.
    Pending,
}

/// The majorities of a set of voters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Majority<'a> {
    /// Ascending, without doubles, not empty.
    pub(super) voters: &'a [NodeId],
}

/// Voters whose values fit on the stack; a larger configuration is refused by [`Config::validate`](super::Config).
pub(super) const VOTERS_MAX: usize = 15;

impl Majority<'_> {
    /// How many voters are a majority.
    pub(super) fn size(self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// The greatest value that a majority has reached.
    pub(super) fn reached<T: Copy + Ord + Default>(self, value: impl Fn(NodeId) -> T) -> T {
        let count = self.voters.len();
        let mut values = [T::default(); VOTERS_MAX];
        for (slot, voter) in values.iter_mut().zip(self.voters) {
            *slot = value(*voter);
        }
        let values = &mut values[..count];
        values.sort_unstable();
        values[count - self.size()]
    }

    /// The greatest index that a majority has, if each voter has its log up to `matched`.
    pub(super) fn committed_index(self, matched: impl Fn(NodeId) -> Index) -> Index {
        self.reached(matched)
    }

    /// How an election stands, if each voter has granted, refused or not answered.
    pub(super) fn vote_result(self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        let mut granted = 0;
        let mut refused = 0;
        for voter in self.voters {
            match vote(*voter) {
                Some(true) => granted += 1,
                Some(false) => refused += 1,
                None => {}
            }
        }
        if granted >= self.size() {
            VoteResult::Won
        } else if refused > self.voters.len() - self.size() {
            VoteResult::Lost
        } else {
            VoteResult::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(matched: &[u64], expected: u64) {
        let voters: Vec<_> = (1..=matched.len() as u64).map(NodeId).collect();
        let majority = Majority { voters: &voters };
        let committed = majority.committed_index(|id| Index(matched[id.0 as usize - 1]));
        assert_eq!(committed, Index(expected), "{matched:?}");
    }

    #[test]
    fn an_index_is_committed_when_a_majority_has_it() {
        check(&[5], 5);
        check(&[5, 3], 3);
        check(&[5, 3, 4], 4);
        check(&[9, 0, 0], 0);
        check(&[9, 1, 7, 3], 3);
        check(&[1, 2, 3, 4, 5], 3);
    }

    #[track_caller]
    fn check_votes(votes: &[Option<bool>], expected: VoteResult) {
        let voters: Vec<_> = (1..=votes.len() as u64).map(NodeId).collect();
        let majority = Majority { voters: &voters };
        assert_eq!(
            majority.vote_result(|id| votes[id.0 as usize - 1]),
            expected,
            "{votes:?}"
        );
    }

    #[test]
    fn an_election_is_won_by_a_majority_and_lost_when_none_is_left() {
        let (yes, no) = (Some(true), Some(false));
        check_votes(&[yes], VoteResult::Won);
        check_votes(&[yes, None], VoteResult::Pending);
        check_votes(&[yes, no], VoteResult::Lost);
        check_votes(&[yes, None, None], VoteResult::Pending);
        check_votes(&[yes, no, yes], VoteResult::Won);
        check_votes(&[yes, no, no], VoteResult::Lost);
        check_votes(&[yes, no, None, None], VoteResult::Pending);
        check_votes(&[yes, no, no, None], VoteResult::Lost);
    }
}
