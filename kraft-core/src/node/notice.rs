//! What an operator should hear of, as values: the driver logs nothing itself.

use std::io;

use crate::adapter::{CloseReason, Endpoint};
use crate::id::{ConnId, Incarnation, Index, NodeId, Term};
use crate::inbox::InboxError;
use crate::membership::Configuration;
use crate::message::{GoawayReason, NodeState, Refusal, SnapshotId, SnapshotResult};
use crate::raft::Violation;
use crate::snapshot::StoreError;

/// Something that happened on a node. Lent to the observer that the node was opened with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// Term, state or leader changed.
    Role {
        /// What the node is.
        state: NodeState,
        /// Its term.
        term: Term,
        /// Who leads.
        leader: NodeId,
    },
    /// Leadership that was to be handed over to another node was, or stayed.
    Transferred {
        /// To whom it was to go.
        to: NodeId,
        /// Who leads, or why that is not so.
        result: Result<NodeId, Refusal>,
    },
    /// A peer welcomed us: requests can go there.
    PeerUp {
        /// Which peer.
        node: NodeId,
    },
    /// The connection to a peer that had welcomed us is gone.
    PeerDown {
        /// Which peer.
        node: NodeId,
        /// Why.
        reason: CloseReason,
    },
    /// A dial failed. Told for the first failure in a row alone: a dead peer is no news.
    DialFailed {
        /// Which peer.
        node: NodeId,
        /// Where.
        address: &'a str,
        /// Why.
        reason: CloseReason,
    },
    /// A peer's name could not be resolved, which is a dial that failed; told as those are.
    NameUnresolved {
        /// Which peer.
        node: NodeId,
        /// The name, and a port.
        name: &'a str,
        /// Why.
        error: &'a io::Error,
    },
    /// A peer's incarnation was seen for the first time and recorded.
    PeerKnown {
        /// Which peer.
        node: NodeId,
        /// The life of its data folder.
        incarnation: Incarnation,
    },
    /// We turned a connection away.
    TurnedAway {
        /// From where, if it was accepted.
        from: Option<&'a Endpoint>,
        /// Why.
        reason: GoawayReason,
        /// Both sides' values.
        detail: &'a str,
    },
    /// A peer turned us away.
    Goaway {
        /// Which peer.
        node: NodeId,
        /// Why.
        reason: GoawayReason,
        /// The peer's own words; to be escaped and cut before they are printed.
        detail: &'a str,
    },
    /// A connection sent bytes that are no message, and was closed.
    Garbage {
        /// From where, if it was accepted.
        from: Option<&'a Endpoint>,
        /// What was wrong.
        error: InboxError,
    },
    /// A peer contradicted what was agreed on, and its connection was closed.
    Violation {
        /// Which peer.
        node: NodeId,
        /// How.
        violation: Violation,
    },
    /// A client did not read its replies, and its connection was closed.
    SlowReader {
        /// The connection.
        conn: ConnId,
    },
    /// A snapshot of the own state was taken, and the log before it may go.
    SnapshotTaken {
        /// Which.
        id: SnapshotId,
    },
    /// A snapshot could not be taken, read or received. Nothing is lost; it is tried again.
    SnapshotFailed {
        /// Why.
        error: &'a StoreError,
    },
    /// The state is frozen for a snapshot, and not written for a long while: the log is not durable as far as it was
    /// applied. Told once for each; it goes on to wait.
    SnapshotWaits {
        /// What the snapshot is to hold.
        index: Index,
        /// What is durable.
        durable: Index,
    },
    /// A follower needs entries that the log no longer has, and is sent a snapshot.
    SnapshotSending {
        /// Which follower.
        node: NodeId,
        /// Which snapshot.
        id: SnapshotId,
    },
    /// A snapshot gave way to newer ones before a follower had all of it. It is sent the newest, from its begin on.
    SnapshotLapsed {
        /// Which follower.
        node: NodeId,
        /// Which snapshot.
        id: SnapshotId,
    },
    /// A follower could not take a snapshot. It is tried again.
    SnapshotRefused {
        /// Which follower.
        node: NodeId,
        /// Which snapshot.
        id: SnapshotId,
        /// Why.
        result: SnapshotResult,
    },
    /// A snapshot came from the leader, and takes the place of what this node had.
    SnapshotReceived {
        /// From whom.
        node: NodeId,
        /// Which.
        id: SnapshotId,
    },
    /// Another configuration is in force, or the one that is was committed.
    Members {
        /// Where it stands in the log.
        index: Index,
        /// A majority has it: it stays.
        is_committed: bool,
        /// Who the members are.
        configuration: &'a Configuration,
    },
    /// This node was removed from the cluster, and stops.
    Removed {
        /// Who said so; `None` if it stands in the own log.
        by: Option<NodeId>,
    },
    /// This node had lost its log, and has made up for that: it votes again.
    Recovered,
    /// The log is short of room, or has room again.
    Room {
        /// Entries are refused, or will soon be.
        is_short: bool,
        /// Payload bytes that the log takes.
        bytes: u64,
    },
}
