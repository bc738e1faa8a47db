//! What a node says of itself.

use super::Host;
use crate::membership::Member;
use crate::message::{MemberStatus, Standing, StatusReply};
use crate::storage::Storage;
use crate::time::Instant;

impl<S: Storage, M> Host<S, M> {
    pub(super) fn status_reply<'a>(&'a self, now: Instant) -> StatusReply<'a> {
        let status = self.raft.status();
        let millis = |since: Instant| u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX);
        let member = |member: &'a Member| {
            let (matched, heard) = if member.node == status.id {
                (status.durable, Some(now))
            } else {
                let heard = self.peers.get(member.node).and_then(|peer| peer.heard);
                (self.raft.progress(member.node).0, heard)
            };
            MemberStatus {
                node: member.node,
                address: self.address_of(member),
                standing: match member.node == status.id && self.raft.is_recovering() {
                    true => Standing::Recovering,
                    false => member.seat.standing(),
                },
                matched,
                heard_ms: heard.map_or(u64::MAX, millis),
                snapshot_percent: self.snapshots.percent(member.node),
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
            members: self.raft.configuration().1.members().iter().map(member).collect(),
        }
    }

    /// Where a member is reached, by the configuration, else as this node was told.
    fn address_of<'a>(&'a self, member: &'a Member) -> &'a str {
        let told = self.config.members.iter().find(|told| told.node == member.node);
        match (member.address.is_empty(), told) {
            (true, Some(told)) => &told.address,
            _ => &member.address,
        }
    }
}
