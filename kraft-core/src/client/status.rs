//! A node's report of itself, kept.

use super::call::printable;
use crate::id::{Index, NodeId, Term};
use crate::message::{Header, NodeState, Standing, StatusReply};

/// A [`StatusReply`] that owns what it says; texts are safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// Who reports.
    pub node: NodeId,
    /// Its term.
    pub term: Term,
    /// What it is in its term.
    pub state: NodeState,
    /// Who leads, as far as it knows.
    pub leader: NodeId,
    /// Its highest committed index.
    pub commit: Index,
    /// Its highest applied index.
    pub applied: Index,
    /// Whether it lost its log and has not made up for that: it does not vote.
    pub recovering: bool,
    /// The first index of its log.
    pub first: Index,
    /// The last index of its log.
    pub last: Index,
    /// The last index that is on its disk.
    pub durable: Index,
    /// Where its configuration stands in the log; zero for the one that it was founded with.
    pub membership: Index,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// The version of its program.
    pub version: String,
    /// The event loop that it runs on.
    pub backend: String,
    /// The members of its configuration, itself among them.
    pub members: Vec<MemberReport>,
}

/// What a node knows of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberReport {
    /// Whom.
    pub node: NodeId,
    /// Where its peers reach it.
    pub address: String,
    /// What it may do.
    pub standing: Standing,
    /// How far its log is known to match, zero unless the reporting node leads.
    pub matched: Index,
    /// Milliseconds since it was heard, `u64::MAX` if never.
    pub heard_ms: u64,
    /// How much it has of the snapshot that is sent to it, in hundredths; 0 if none is, or nothing has arrived.
    pub snapshot_percent: u8,
}

impl NodeReport {
    /// Keeps a reply.
    #[must_use]
    pub fn new(header: &Header, reply: &StatusReply<'_>) -> Self {
        Self {
            node: header.from,
            term: header.term,
            state: reply.state,
            leader: reply.leader,
            commit: reply.commit,
            applied: reply.applied,
            recovering: reply
                .members
                .iter()
                .any(|member| member.node == header.from && member.standing == Standing::Recovering),
            first: reply.first,
            last: reply.last,
            durable: reply.durable,
            membership: reply.membership,
            uptime_ms: reply.uptime_ms,
            version: printable(reply.version),
            backend: printable(reply.backend),
            members: reply
                .members
                .iter()
                .map(|member| MemberReport {
                    node: member.node,
                    address: printable(member.address),
                    standing: member.standing,
                    matched: member.matched,
                    heard_ms: member.heard_ms,
                    snapshot_percent: member.snapshot_percent,
                })
                .collect(),
        }
    }
}
