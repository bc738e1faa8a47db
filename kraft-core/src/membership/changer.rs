//! The next configuration, from one and what is to change: values in, values out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Configuration, Member, Plan, REMOVED_MAX, Seat};
use crate::id::{Index, NodeId};

/// A change of one member. What is so already stays as it is, and node 0 is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes a voter of it, member or not.
    Voter(NodeId),
    /// Makes a learner of it, member or not.
    Learner(NodeId, Plan),
    /// Removes it.
    Remove(NodeId),
}

/// What a leader knows of a member's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// It is known to match up to here.
    pub matched: Index,
    /// The next entry to send.
    pub next: Index,
    /// It does not count.
    pub is_learner: bool,
}

/// Why there is no such configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// It is joint: the change that is under way comes first.
    Joint,
    /// There is nothing to leave.
    NotJoint,
    /// More than one voter would change, so that a majority before might not meet one after.
    ManyVoters,
    /// Nobody would vote, or nobody does.
    NoVoter,
    /// More members or voters than there may be.
    TooMany,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Joint => "a change is under way",
            Self::NotJoint => "no change is under way",
            Self::ManyVoters => "more than one voter would change at once",
            Self::NoVoter => "there would be no voter",
            Self::TooMany => "there would be too many members",
        })
    }
}

impl std::error::Error for ChangeError {}

/// Computes configurations from one, and what its leader knows of the members. Nothing is changed in place.
#[derive(Clone, Debug)]
pub struct Changer<'a> {
    /// The configuration in force.
    pub configuration: &'a Configuration,
    /// What is known of each member.
    pub progress: &'a BTreeMap<NodeId, Tracked>,
    /// The last index of the leader's log: what a new member is offered first.
    pub last: Index,
}

/// A configuration, and what is known of its members.
pub type Changed = (Configuration, BTreeMap<NodeId, Tracked>);

/// A configuration in the making.
struct Draft {
    seats: BTreeMap<NodeId, Seat>,
    is_joint: bool,
}

impl Draft {
    fn take(&mut self, step: Step) {
        let (node, seat) = match step {
            Step::Voter(node) => (node, self.voter(node)),
            Step::Learner(node, plan) => (node, self.learner(node, plan)),
            Step::Remove(node) => (node, self.removed(node)),
        };
        match seat {
            Some(seat) if node.is_some() => drop(self.seats.insert(node, seat)),
            _ => drop(self.seats.remove(&node)),
        }
    }

    /// Whether it voted before the change that is under way.
    fn voted(&self, node: NodeId) -> bool {
        self.is_joint && self.seats.get(&node).is_some_and(|seat| seat.voted())
    }

    fn voter(&self, node: NodeId) -> Option<Seat> {
        match self.is_joint && !self.voted(node) {
            true => Some(Seat::Joining),
            false => Some(Seat::Voter),
        }
    }

    fn learner(&self, node: NodeId, plan: Plan) -> Option<Seat> {
        match self.voted(node) {
            true => Some(Seat::Demoted),
            false => Some(Seat::Learner(plan)),
        }
    }

    fn removed(&self, node: NodeId) -> Option<Seat> {
        self.voted(node).then_some(Seat::Leaving)
    }
}

impl Changer<'_> {
    /// The configuration after a change of at most one voter, and of any number of learners.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Joint`], [`ChangeError::ManyVoters`], [`ChangeError::NoVoter`] or [`ChangeError::TooMany`].
    pub fn simple(&self, steps: &[Step]) -> Result<Changed, ChangeError> {
        if self.configuration.is_joint() {
            return Err(ChangeError::Joint);
        }
        let changed = self.applied(false, steps)?;
        let before: BTreeSet<_> = self.configuration.voters().iter().collect();
        let after: BTreeSet<_> = changed.0.voters().iter().collect();
        match before.symmetric_difference(&after).count() {
            0..=1 => Ok(changed),
            _ => Err(ChangeError::ManyVoters),
        }
    }

    /// The joint configuration on the way from any set of voters to any other. Who voted goes on voting in the old
    /// majority until it is left.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Joint`], [`ChangeError::NoVoter`] or [`ChangeError::TooMany`].
    pub fn enter_joint(&self, steps: &[Step]) -> Result<Changed, ChangeError> {
        if self.configuration.is_joint() {
            return Err(ChangeError::Joint);
        }
        if self.configuration.voters().is_empty() {
            return Err(ChangeError::NoVoter);
        }
        self.applied(true, steps)
    }

    /// The configuration that a joint one was on the way to.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NotJoint`].
    pub fn leave_joint(&self) -> Result<Changed, ChangeError> {
        if !self.configuration.is_joint() {
            return Err(ChangeError::NotJoint);
        }
        let seats = self.configuration.members().iter().filter_map(|member| {
            let seat = match member.seat {
                Seat::Voter | Seat::Joining => Seat::Voter,
                Seat::Demoted => Seat::Learner(Plan::Stay),
                Seat::Learner(plan) => Seat::Learner(plan),
                Seat::Leaving => return None,
            };
            Some((member.node, seat))
        });
        let seats = seats.collect();
        self.finished(&Draft { seats, is_joint: false })
    }

    fn applied(&self, is_joint: bool, steps: &[Step]) -> Result<Changed, ChangeError> {
        let members = self.configuration.members().iter();
        let seats = members.map(|member| (member.node, member.seat)).collect();
        let mut draft = Draft { seats, is_joint };
        for step in steps {
            draft.take(*step);
        }
        self.finished(&draft)
    }

    fn finished(&self, draft: &Draft) -> Result<Changed, ChangeError> {
        let members: Vec<_> = draft
            .seats
            .iter()
            .map(|(node, seat)| match self.configuration.member(*node) {
                Some(member) => Member {
                    seat: *seat,
                    ..member.clone()
                },
                None => Member::new(*node, *seat),
            })
            .collect();
        let is_gone = |node: &NodeId| !draft.seats.contains_key(node);
        let gone = self.configuration.members().iter().map(|member| member.node);
        let mut removed = self.configuration.removed().to_vec();
        removed.extend(gone);
        removed.retain(is_gone);
        removed.drain(..removed.len().saturating_sub(REMOVED_MAX));
        let configuration = Configuration::new(members, draft.is_joint, removed);
        if configuration.voters().is_empty() {
            return Err(ChangeError::NoVoter);
        }
        if !configuration.is_bounded() {
            return Err(ChangeError::TooMany);
        }
        let progress = configuration.members().iter().map(|member| {
            let new = Tracked {
                matched: Index::ZERO,
                next: self.last.max(Index(1)),
                is_learner: false,
            };
            let known = self.progress.get(&member.node).copied().unwrap_or(new);
            let is_learner = matches!(member.seat, Seat::Learner(_));
            (member.node, Tracked { is_learner, ..known })
        });
        let progress = progress.collect();
        Ok((configuration, progress))
    }
}

#[cfg(test)]
mod tests;
