//! Blocking work that a node hands out, to be done off its loop.

use std::io;

use super::{SnapshotDone, SnapshotWork};
use crate::adapter::Endpoint;
use crate::id::{Incarnation, NodeId};
use crate::storage::{Fault, Work};

/// Blocking work. Do it wherever its blocking harms nobody, and give what comes of it to
/// [`Node::complete`](super::Node::complete).
#[derive(Debug)]
pub enum Task<W> {
    /// Of storage. At most one urgent one is out at a time.
    Storage(W),
    /// Of snapshots. Pieces that are being received are written in the order in which they were handed out.
    Snapshot(SnapshotWork),
    /// Find the addresses of a peer.
    Resolve {
        /// Which peer.
        node: NodeId,
        /// `HOST:PORT`.
        name: String,
    },
    /// Record a peer's incarnation durably: from now on nobody else is believed to be that peer.
    Remember {
        /// Which peer.
        node: NodeId,
        /// The life of its data folder.
        incarnation: Incarnation,
    },
    /// Forget durably that the node's log was damaged: from now on a start is one like any other. Only a node whose
    /// [`raft::Config::recovering`](crate::raft::Config::recovering) is set asks for it, once.
    ForgetDamage,
}

/// What came of a [`Task`].
#[derive(Debug)]
pub enum Done<D> {
    /// Of storage.
    Storage(D),
    /// Of snapshots.
    Snapshot(SnapshotDone),
    /// What a name stands for.
    Resolved {
        /// Which peer.
        node: NodeId,
        /// In the order in which they are tried; or why there are none, which is told.
        addresses: io::Result<Vec<Endpoint>>,
    },
    /// The incarnation is on disk, or could not be brought there.
    Remembered {
        /// Which peer.
        node: NodeId,
        /// The life of its data folder.
        incarnation: Incarnation,
        /// A fault ends the node.
        result: Result<(), Fault>,
    },
    /// The damage is forgotten, or the disk failed, which ends the node.
    DamageForgotten(Result<(), Fault>),
}

impl<W: Work> Task<W> {
    /// Whether acknowledgements wait for it.
    pub fn is_urgent(&self) -> bool {
        matches!(self, Self::Storage(work) if work.is_urgent())
    }
}
