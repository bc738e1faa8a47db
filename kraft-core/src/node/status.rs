//! What a node says of itself.

use super::Host;
use crate::id::NodeId;
use crate::message::{MemberStatus, Standing, StatusReply};
use crate::storage::Storage;
use crate::time::Instant;

impl<S: Storage, M> Host<S, M> {
    pub(super) fn status_reply(&self, now: Instant) -> StatusReply<'_> {
        let status = self.raft.status();
        let millis = |since: Instant| u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX);
        let member = |node: NodeId, address| {
            let (matched, heard) = if node == status.id {
                (status.durable, Some(now))
            } else {
                (
                    self.raft.progress(node).0,
                    self.peers.get(node).and_then(|peer| peer.heard),
                )
            };
            MemberStatus {
                node,
                address,
                standing: match node == status.id && self.raft.is_recovering() {
                    true => Standing::Recovering,
                    false => Standing::Voter,
                },
                matched,
                heard_ms: heard.map_or(u64::MAX, millis),
            }
        };
        StatusReply {
            state: status.state,
            leader: status.leader,
            commit: status.commit,
            applied: status.applied,
            first: self.first,
            last: status.last,
            durable: status.durable,
            snapshot: self.raft.snapshot(),
            membership: status.membership,
            uptime_ms: millis(self.started),
            version: self.config.version,
            backend: self.backend,
            members: self
                .config
                .members
                .iter()
                .map(|of| member(of.node, of.address.as_str()))
                .collect(),
        }
    }
}
