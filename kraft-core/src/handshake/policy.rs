//! What the two judges of a handshake go by: who this side is, and what it knows of others.

use crate::id::{ClusterId, GroupId, Incarnation, Index, NodeId, RequestId, Term};
use crate::message::{Body, Goaway, GoawayReason, Header, Message, Role, Versions};
use crate::time::Instant;

/// What this side says of itself: a node that dials or accepts, or a client that dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; zero from a client that does not know, and takes whichever answers.
    pub cluster: ClusterId,
    /// The cluster's name, empty where the id is zero.
    pub cluster_name: String,
    /// The node, [`NodeId::NONE`] for a client.
    pub node: NodeId,
    /// The life of the node's data folder, zero for a client.
    pub incarnation: Incarnation,
    /// What this build speaks.
    pub versions: Versions,
    /// Optional features.
    pub features: u64,
    /// The largest frame that this side takes, header included; at least
    /// [`FRAME_MAX_LEAST`](super::FRAME_MAX_LEAST).
    pub frame_max: u32,
    /// Where the configuration stands that is in force on this side, committed or not: after a restart nobody knows what is
    /// committed, and a voter that lags may have to let in a member that it never heard of. Zero from a client.
    pub membership: Index,
}

impl Identity {
    /// A node of the cluster called `cluster_name`.
    #[must_use]
    pub fn node(cluster_name: &str, node: NodeId, incarnation: Incarnation, frame_max: u32) -> Self {
        Self {
            cluster: ClusterId::from_name(cluster_name),
            cluster_name: cluster_name.to_owned(),
            node,
            incarnation,
            versions: Versions::OURS,
            features: 0,
            frame_max,
            membership: Index::ZERO,
        }
    }

    /// A client, of the cluster called `cluster_name` or, with `None`, of whichever answers.
    #[must_use]
    pub fn client(cluster_name: Option<&str>, frame_max: u32) -> Self {
        Self {
            cluster: cluster_name.map_or(ClusterId(0), ClusterId::from_name),
            cluster_name: cluster_name.unwrap_or_default().to_owned(),
            node: NodeId::NONE,
            incarnation: Incarnation(0),
            versions: Versions::OURS,
            features: 0,
            frame_max,
            membership: Index::ZERO,
        }
    }

    /// What this side is where it dials.
    #[must_use]
    pub const fn role(&self) -> Role {
        if self.node.is_some() { Role::Peer } else { Role::Client }
    }

    /// The header of a message that has nothing to do with a term or a request.
    #[must_use]
    pub const fn header(&self) -> Header {
        Header {
            cluster: self.cluster,
            group: GroupId(0),
            from: self.node,
            term: Term(0),
            request: RequestId(0),
        }
    }

    /// A goaway from this side. `detail` must be at most [`DETAIL_MAX`](super::DETAIL_MAX) bytes; [`Rejection`](super::Rejection) sees to that.
    #[must_use]
    pub const fn goaway<'a>(&self, reason: GoawayReason, detail: &'a str) -> Message<'a> {
        Message {
            header: self.header(),
            body: Body::Goaway(Goaway { reason, detail }),
        }
    }
}

/// What the owner of the connections knows of the cluster. Asked during a handshake with a peer, never with a client.
pub trait Policy {
    /// What is known of `node`.
    fn member(&self, node: NodeId) -> Member;

    /// Whether a node that is unknown here is let in nevertheless, since its newest committed configuration, which stands
    /// at `membership`, may say that it is a member.
    fn admits(&self, _node: NodeId, _membership: Index) -> bool {
        false
    }

    /// When `node` was last heard on a live, established connection *that it dialled*; `None` without one.
    fn heard(&self, node: NodeId) -> Option<Instant>;

    /// Whether a connection that this node dialled, and that is still open, said hello with this nonce.
    fn is_own_nonce(&self, nonce: u64) -> bool;
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// It is no member.
    Unknown,
    /// It was a member, and is none any more.
    Removed,
    /// It may be about to become one: whatever incarnation it names is taken, and not recorded.
    Provisional,
    /// It is a member that was never heard: whatever incarnation it names becomes the one it is known by.
    New,
    /// It is a member, known durably by this incarnation.
    Known(Incarnation),
}

/// The policy of a client: it knows no members and is asked for none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Policy for NoPeers {
    fn member(&self, _: NodeId) -> Member {
        Member::Unknown
    }

    fn heard(&self, _: NodeId) -> Option<Instant> {
        None
    }

    fn is_own_nonce(&self, _: u64) -> bool {
        false
    }
}
