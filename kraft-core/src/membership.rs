//! Who the members of a cluster are, as a value, and what a change makes of it (thesis §4).
//!
//! A [`Configuration`] is the payload of a [`Membership`](crate::message::EntryKind::Membership) entry, and stands at
//! the head of a snapshot. A [`Changer`] computes the next one: [`simple`](Changer::simple) where at most one voter
//! changes, so that every majority before meets every majority after (thesis §4.1), else
//! [`enter_joint`](Changer::enter_joint) and [`leave_joint`](Changer::leave_joint), between which both majorities are
//! needed (§4.3). Nothing in here knows of a log, a leader or time; [`Raft`](crate::raft::Raft) does.
//!
//! There are no witnesses, voters that acknowledge metadata and hold no payloads. What a node and a witness commit stands
//! on one disk: an acknowledged command could be lost while a majority's disks survive, which law R6 rules out. Who wants
//! two full copies and a third vote runs a third node.

mod changer;
mod encoding;
mod wish;

use crate::id::{Incarnation, NodeId};
use crate::message::Standing;
use crate::raft::quorum::{self, Joint, VOTERS_MAX};

pub use self::changer::{ChangeError, Changed, Changer, Step, Tracked};
pub use self::encoding::ConfigurationError;
pub use self::wish::Wish;

/// Members of a configuration: the voters of both majorities, and learners. A leader sends to each of them.
pub const MEMBERS_MAX: usize = 31;

/// Bytes of an address: the longest host name, a colon and a port.
pub const ADDRESS_BYTES_MAX: usize = 260;

/// Removed ids that are remembered, so that none comes back. Of more, the ones removed first are forgotten.
pub const REMOVED_MAX: usize = 256;

/// What is to become of a learner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plan {
    /// It stays one.
    Stay,
    /// It becomes a voter when it has caught up.
    Promote,
    /// The same, and this member goes.
    Replace(NodeId),
}

/// What a member may do. With two majorities, those before and those after a change, there are as many ways to belong
/// to them as variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seat {
    /// It votes; in a joint configuration in both majorities.
    Voter,
    /// It votes in the new majority alone. Joint configurations only, like the next two.
    Joining,
    /// It votes in the old majority alone, and is no member afterwards.
    Leaving,
    /// It votes in the old majority alone, and is a learner afterwards (etcd's `LearnersNext`).
    Demoted,
    /// It is sent the log, and neither votes nor counts.
    Learner(Plan),
}

impl Seat {
    /// Whether it votes in the new majority, the only one if the configuration is not joint.
    #[must_use]
    pub fn votes(self) -> bool {
        matches!(self, Self::Voter | Self::Joining)
    }

    /// Whether it votes in the old majority of a joint configuration.
    #[must_use]
    pub fn voted(self) -> bool {
        matches!(self, Self::Voter | Self::Leaving | Self::Demoted)
    }

    /// What others are told of it.
    #[must_use]
    pub fn standing(self) -> Standing {
        match self {
            Self::Voter => Standing::Voter,
            Self::Joining => Standing::Joining,
            Self::Leaving | Self::Demoted => Standing::Leaving,
            Self::Learner(_) => Standing::Learner,
        }
    }
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// `HOST:PORT` where its peers reach it; empty if the configuration does not say.
    pub address: String,
    /// The life of its data folder; zero if it was not asked.
    pub incarnation: Incarnation,
    /// What it may do.
    pub seat: Seat,
}

impl Member {
    fn new(node: NodeId, seat: Seat) -> Self {
        Self {
            node,
            address: String::new(),
            incarnation: Incarnation(0),
            seat,
        }
    }
}

/// Who the members are. Empty, it is that of a node that waits to be told: it has no majority.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Configuration {
    /// Ascending.
    members: Vec<Member>,
    is_joint: bool,
    /// Former members, those that went last behind. None of them is a member.
    removed: Vec<NodeId>,
    /// Voters of the new majority, ascending: what `members` says, in the form that counting needs.
    voters: Vec<NodeId>,
    /// Voters of the old majority, ascending; none if it is not joint.
    voters_before: Vec<NodeId>,
}

impl Configuration {
    /// The configuration of a cluster's first start, in which all of them vote.
    #[must_use]
    pub fn founding(voters: &[NodeId]) -> Self {
        let mut members: Vec<_> = voters.iter().map(|voter| Member::new(*voter, Seat::Voter)).collect();
        members.sort_unstable_by_key(|member| member.node);
        members.dedup_by_key(|member| member.node);
        Self::new(members, false, Vec::new())
    }

    fn new(members: Vec<Member>, is_joint: bool, removed: Vec<NodeId>) -> Self {
        let of = |is_of: &dyn Fn(Seat) -> bool| {
            let voters = members.iter().filter(|member| is_of(member.seat));
            voters.map(|member| member.node).collect::<Vec<_>>()
        };
        Self {
            voters: of(&|seat| seat.votes()),
            voters_before: of(&|seat| is_joint && seat.voted()),
            members,
            is_joint,
            removed,
        }
    }

    /// All members, ascending.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// A member.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        let at = self.members.binary_search_by_key(&node, |member| member.node).ok()?;
        Some(&self.members[at])
    }

    /// Whether it is between two sets of voters, and needs the majorities of both.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.is_joint
    }

    /// Who votes; in a joint configuration, who will.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Who voted before the change that is under way; nobody unless it is joint.
    #[must_use]
    pub fn voters_before(&self) -> &[NodeId] {
        &self.voters_before
    }

    /// Whether `node` votes, in whichever majority.
    #[must_use]
    pub fn votes(&self, node: NodeId) -> bool {
        self.voters.binary_search(&node).is_ok() || self.voters_before.binary_search(&node).is_ok()
    }

    /// Whether `node` was a member and is none any more.
    #[must_use]
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }

    /// Former members, as far as they are remembered, those that went last behind.
    #[must_use]
    pub fn removed(&self) -> &[NodeId] {
        &self.removed
    }

    /// What a decision needs.
    #[must_use]
    pub fn quorum(&self) -> Joint<'_> {
        quorum::joint(&self.voters, &self.voters_before)
    }

    /// `node` alone, who votes. The others are no members any more; but unlike those that were removed they know nothing of
    /// it, and are not told.
    #[must_use]
    pub fn alone(&self, node: NodeId) -> Self {
        Self::new(vec![Member::new(node, Seat::Voter)], false, self.removed.clone())
    }

    /// The same configuration with what is known of a member. Nothing is changed if it is none.
    #[must_use]
    pub fn described(mut self, node: NodeId, address: &str, incarnation: Incarnation) -> Self {
        if let Some(member) = self.members.iter_mut().find(|member| member.node == node) {
            address.clone_into(&mut member.address);
            member.incarnation = incarnation;
        }
        self
    }

    /// Whether it has no more than there may be. What is computed here is checked by this before it goes into a log.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let voters = self.voters.len().max(self.voters_before.len());
        self.members.len() <= MEMBERS_MAX && voters <= VOTERS_MAX
    }
}
