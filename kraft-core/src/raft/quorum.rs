//! What a majority is: a function from what each voter says to what the cluster says. Values in, values out, so that
//! joint consensus is the lesser of two of these (thesis §4.3).

use crate::canary::{self, Canary};
use crate::id::{Index, NodeId};

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// A majority granted.
    Won,
    /// A majority can no longer grant.
    Lost,
    /// Neither yet.
    Pending,
}

/// The majorities of a set of voters. Of an empty set nothing is asked: it agrees to everything, so that an empty half
/// of a [`Joint`] is as none.
#[derive(Clone, Copy, Debug)]
pub struct Majority<'a> {
    /// Without doubles.
    voters: &'a [NodeId],
}

/// The majorities of two sets of voters, both of which must agree.
#[derive(Clone, Copy, Debug)]
pub struct Joint<'a> {
    new: Majority<'a>,
    old: Majority<'a>,
}

/// The majorities of `voters`, each named once.
#[must_use]
pub fn majority(voters: &[NodeId]) -> Majority<'_> {
    Majority { voters }
}

/// The majorities of both sets of voters.
#[must_use]
pub fn joint<'a>(new: &'a [NodeId], old: &'a [NodeId]) -> Joint<'a> {
    Joint {
        new: majority(new),
        old: majority(old),
    }
}

/// Voters of a configuration, at most. So many values are sorted without being allocated.
pub const VOTERS_MAX: usize = 15;

impl Majority<'_> {
    /// How many voters are a majority.
    #[must_use]
    pub fn size(self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// The greatest value that a majority has reached, `None` if there are no voters.
    pub fn reached<T: Copy + Ord + Default>(self, value: impl Fn(NodeId) -> T) -> Option<T> {
        let count = self.voters.len();
        if count == 0 {
            return None;
        }
        let mut few = [T::default(); VOTERS_MAX];
        let mut many = Vec::new();
        let values = match few.get_mut(..count) {
            Some(values) => values,
            None => {
                many.resize(count, T::default());
                &mut many[..]
            }
        };
        for (slot, voter) in values.iter_mut().zip(self.voters) {
            *slot = value(*voter);
        }
        values.sort_unstable();
        Some(values[count - self.size()])
    }

    /// The greatest index that a majority has, if each voter has its log up to `matched`; `u64::MAX` if there are no
    /// voters.
    pub fn committed_index(self, matched: impl Fn(NodeId) -> Index) -> Index {
        self.reached(matched).unwrap_or(Index(u64::MAX))
    }

    /// How an election stands, if each voter has granted, refused or not answered.
    pub fn vote_result(self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        let mut granted = 0;
        let mut refused = 0;
        for voter in self.voters {
            match vote(*voter) {
                Some(true) => granted += 1,
                Some(false) => refused += 1,
                None => {}
            }
        }
        if granted >= self.size() || self.voters.is_empty() {
            VoteResult::Won
        } else if refused > self.voters.len() - self.size() {
            VoteResult::Lost
        } else {
            VoteResult::Pending
        }
    }
}

impl Joint<'_> {
    /// The greatest value that both majorities have reached, `None` if there are no voters.
    pub fn reached<T: Copy + Ord + Default>(self, value: impl Fn(NodeId) -> T) -> Option<T> {
        let new = self.new.reached(&value);
        if canary::is(Canary::JointNeedsOne) {
            return new;
        }
        let old = self.old.reached(&value);
        new.into_iter().chain(old).min()
    }

    /// The greatest index that both majorities have, if each voter has its log up to `matched`; `u64::MAX` if there
    /// are no voters.
    pub fn committed_index(self, matched: impl Fn(NodeId) -> Index) -> Index {
        self.reached(matched).unwrap_or(Index(u64::MAX))
    }

    /// How an election stands, if each voter has granted, refused or not answered. It is lost in one half.
    pub fn vote_result(self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        let new = self.new.vote_result(&vote);
        if canary::is(Canary::JointNeedsOne) {
            return new;
        }
        match (new, self.old.vote_result(&vote)) {
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
            _ => VoteResult::Pending,
        }
    }

    /// Whether `node` alone decides.
    #[must_use]
    pub fn is_sole(self, node: NodeId) -> bool {
        self.new.voters == [node] && (self.old.voters.is_empty() || self.old.voters == [node])
    }
}

#[cfg(test)]
mod tests;
