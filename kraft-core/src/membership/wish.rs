//! A change of the members that somebody wants, kept until it is through.

use std::fmt;

use crate::id::NodeId;
use crate::message::Change;

/// A [`Change`] with memory of its own. What each does is said there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Adds a node.
    Add {
        /// Its id.
        node: NodeId,
        /// Where its peers reach it.
        address: String,
        /// Make it a voter as soon as it has caught up.
        promote: bool,
    },
    /// Makes a voter of a learner.
    Promote {
        /// Which.
        node: NodeId,
    },
    /// Removes a member.
    Remove {
        /// Which.
        node: NodeId,
    },
    /// Adds a node in the place of a member.
    Replace {
        /// Who goes.
        node: NodeId,
        /// Who comes.
        by: NodeId,
        /// Where its peers reach it.
        address: String,
    },
    /// Gives a member another address.
    Move {
        /// Which.
        node: NodeId,
        /// Where its peers reach it from then on.
        address: String,
    },
}

impl Wish {
    /// The same, lent.
    #[must_use]
    pub fn lend(&self) -> Change<'_> {
        match self {
            Self::Add { node, address, promote } => Change::Add {
                node: *node,
                address,
                promote: *promote,
            },
            Self::Promote { node } => Change::Promote { node: *node },
            Self::Remove { node } => Change::Remove { node: *node },
            Self::Replace { node, by, address } => Change::Replace {
                node: *node,
                by: *by,
                address,
            },
            Self::Move { node, address } => Change::Move { node: *node, address },
        }
    }

    /// Who comes, and where it is reached.
    #[must_use]
    pub fn newcomer(&self) -> Option<(NodeId, &str)> {
        match self {
            Self::Add { node, address, .. } => Some((*node, address)),
            Self::Replace { by, address, .. } => Some((*by, address)),
            Self::Promote { .. } | Self::Remove { .. } | Self::Move { .. } => None,
        }
    }

    /// What it takes in memory beyond itself.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Add { address, .. } | Self::Replace { address, .. } | Self::Move { address, .. } => address.len(),
            Self::Promote { .. } | Self::Remove { .. } => 0,
        }
    }
}

impl From<Change<'_>> for Wish {
    fn from(change: Change<'_>) -> Self {
        match change {
            Change::Add { node, address, promote } => Self::Add {
                node,
                address: address.to_owned(),
                promote,
            },
            Change::Promote { node } => Self::Promote { node },
            Change::Remove { node } => Self::Remove { node },
            Change::Replace { node, by, address } => Self::Replace {
                node,
                by,
                address: address.to_owned(),
            },
            Change::Move { node, address } => Self::Move {
                node,
                address: address.to_owned(),
            },
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { node, .. } => write!(f, "node {node} is being added"),
            Self::Promote { node } => write!(f, "node {node} is being promoted"),
            Self::Remove { node } => write!(f, "node {node} is being removed"),
            Self::Replace { node, by, .. } => write!(f, "node {node} is being replaced by node {by}"),
            Self::Move { node, .. } => write!(f, "node {node} is being given another address"),
        }
    }
}
