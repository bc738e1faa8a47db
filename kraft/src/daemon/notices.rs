//! What the driver tells of, printed and counted.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use kraft_core::id::NodeId;
use kraft_core::membership::Configuration;
use kraft_core::message::{GoawayReason, NodeState, SnapshotResult, Standing};
use kraft_core::node::Notice;

#[cfg(feature = "tls")]
use crate::tls;

/// Words for the kinds of [`Notice`]: fields of log lines, labels of a metric.
const KINDS: [&str; 26] = [
    "role",
    "transfer",
    "peer_up",
    "peer_down",
    "dial_failed",
    "name_unresolved",
    "peer_known",
    "turned_away",
    "goaway",
    "garbage",
    "violation",
    "slow_reader",
    "members",
    "removed",
    "room",
    "snapshot",
    "snapshot_waits",
    "snapshot_sending",
    "snapshot_lapsed",
    "snapshot_received",
    "snapshot_failed",
    "recovered",
    "other",
    "tls_refused",
    "tls_failed",
    "tls_cut",
];

/// How often each kind came, and what else monitors are told that the driver does not know.
#[derive(Debug, Default)]
pub(super) struct Counts {
    kinds: [AtomicU64; KINDS.len()],
    /// Until when this node's certificate is believed, in seconds since 1970, and one more; 0 without TLS.
    certificate: AtomicU64,
}

impl Counts {
    /// Every kind with its number.
    pub(super) fn all(&self) -> [(&'static str, u64); KINDS.len()] {
        std::array::from_fn(|place| (KINDS[place], self.kinds[place].load(Ordering::Relaxed)))
    }

    /// Whether this kind came.
    pub(super) fn has_told(&self, kind: &str) -> bool {
        self.all().iter().any(|(other, count)| *other == kind && *count > 0)
    }

    /// Until when this node's certificate is believed, in seconds since 1970; `None` without TLS.
    pub(super) fn certificate_expiry(&self) -> Option<u64> {
        self.certificate.load(Ordering::Relaxed).checked_sub(1)
    }

    /// This node's certificate is believed until then.
    #[cfg(feature = "tls")]
    pub(super) fn set_certificate_expiry(&self, secs: u64) {
        self.certificate.store(secs.saturating_add(1), Ordering::Relaxed);
    }

    /// Prints a notice and counts it.
    pub(super) fn tell(&self, notice: &Notice<'_>) {
        let kind = kind_of(notice);
        self.count(kind);
        print(kind, notice);
    }

    /// Prints a connection that TLS ended, and counts it.
    #[cfg(feature = "tls")]
    pub(super) fn tell_tls(&self, failure: &tls::Failure) {
        let kind = tls_kind(&failure.why);
        self.count(kind);
        print_tls(kind, failure);
    }

    fn count(&self, kind: &str) {
        let place = KINDS.iter().position(|other| *other == kind);
        let place = place.unwrap_or_else(|| panic!("{kind} is not counted"));
        self.kinds[place].fetch_add(1, Ordering::Relaxed);
    }
}

/// What an operator has to mend is told apart from what anybody can send, so that a flood of the one does not hide the
/// other, and from connections that were merely lost.
#[cfg(feature = "tls")]
fn tls_kind(why: &tls::Why) -> &'static str {
    match why {
        tls::Why::NoCertificate
        | tls::Why::UnknownAuthority
        | tls::Why::Expired
        | tls::Why::NotYetValid
        | tls::Why::BadCertificate(_)
        | tls::Why::RefusedOurs(_) => "tls_refused",
        tls::Why::Truncated => "tls_cut",
        _ => "tls_failed",
    }
}

#[cfg(feature = "tls")]
fn print_tls(kind: &'static str, failure: &tls::Failure) {
    let level = match failure.why {
        // Programs that end leave like that, and so does whoever looks whether the port is open. A peer's is told as
        // `peer_down`.
        tls::Why::Truncated => log::Level::Debug,
        tls::Why::Unfinished if !failure.dialled => log::Level::Debug,
        _ => log::Level::Warn,
    };
    let (peer, why) = (&failure.peer, &failure.why);
    match failure.dialled {
        true => log::log!(level, kind, to:% = peer, why:% = why; "a connection that was dialled over TLS ended"),
        false => log::log!(level, kind, from:% = peer, why:% = why; "ended a connection over TLS"),
    }
}

fn kind_of(notice: &Notice<'_>) -> &'static str {
    match notice {
        Notice::Role { .. } => "role",
        Notice::Transferred { .. } => "transfer",
        Notice::PeerUp { .. } => "peer_up",
        Notice::PeerDown { .. } => "peer_down",
        Notice::DialFailed { .. } => "dial_failed",
        Notice::NameUnresolved { .. } => "name_unresolved",
        Notice::PeerKnown { .. } => "peer_known",
        Notice::TurnedAway { .. } => "turned_away",
        Notice::Goaway { .. } => "goaway",
        Notice::Garbage { .. } => "garbage",
        Notice::Violation { .. } => "violation",
        Notice::SlowReader { .. } => "slow_reader",
        Notice::SnapshotTaken { .. } => "snapshot",
        Notice::SnapshotWaits { .. } => "snapshot_waits",
        Notice::SnapshotSending { .. } => "snapshot_sending",
        Notice::SnapshotLapsed { .. } => "snapshot_lapsed",
        Notice::SnapshotReceived { .. } => "snapshot_received",
        Notice::SnapshotFailed { .. } | Notice::SnapshotRefused { .. } => "snapshot_failed",
        Notice::Recovered => "recovered",
        Notice::Members { .. } => "members",
        Notice::Removed { .. } => "removed",
        Notice::Room { .. } => "room",
        _ => "other",
    }
}

fn print(kind: &'static str, notice: &Notice<'_>) {
    match notice {
        Notice::Role { state, term, leader } => {
            log::info!(kind, term = term.0, leader = leader.0; "{}", role(*state, *leader));
        }
        Notice::Transferred { result: Ok(leader), .. } => {
            log::info!(kind, leader = leader.0; "handed leadership over");
        }
        Notice::Transferred { to, result: Err(why) } => {
            log::warn!(kind, to = to.0, why:? = why; "did not hand leadership over");
        }
        Notice::Members {
            index,
            is_committed: false,
            configuration,
        } => {
            log::info!(kind, index = index.0; "the members are to be: {}", members(configuration));
        }
        Notice::Members {
            index, configuration, ..
        } => log::info!(kind, index = index.0; "the members are: {}", members(configuration)),
        Notice::Removed { by } => {
            log::warn!(kind, by = by.unwrap_or(NodeId::NONE).0; "this node was removed from the cluster, and stops");
        }
        Notice::PeerUp { node } => log::info!(kind, peer = node.0; "connected to a peer"),
        Notice::PeerDown { node, reason } => {
            log::info!(kind, peer = node.0, reason:% = reason; "lost the connection to a peer");
        }
        Notice::DialFailed { node, address, reason } => {
            log::warn!(kind, peer = node.0, address = *address, reason:% = reason;
                "a peer is not reached; further failures are not told");
        }
        Notice::NameUnresolved { node, name, error } => {
            log::warn!(kind, peer = node.0, name = *name, reason:% = error;
                "a peer's name is not resolved; further failures are not told: does its address stand for a host?");
        }
        Notice::PeerKnown { node, incarnation } => {
            log::info!(kind, peer = node.0, incarnation:% = format_args!("{:016x}", incarnation.0);
                "recorded a peer's incarnation");
        }
        Notice::TurnedAway { from, reason, detail } => {
            let from = from.map(ToString::to_string).unwrap_or_default();
            log::warn!(kind, from = from.as_str(), reason:? = reason, detail = *detail; "turned a connection away");
        }
        Notice::Goaway {
            node,
            reason: GoawayReason::Stopping,
            ..
        } => log::info!(kind, peer = node.0; "a peer goes down"),
        Notice::Goaway { node, reason, detail } => {
            log::warn!(kind, peer = node.0, reason:? = reason, detail = *detail; "a peer turned this node away");
        }
        Notice::Garbage { from, error } => {
            let from = from.map(ToString::to_string).unwrap_or_default();
            log::warn!(kind, from = from.as_str(), error:% = error; "closed a connection that sent no message");
        }
        Notice::Violation { node, violation } => {
            log::error!(kind, peer = node.0, violation:? = violation; "a peer said what cannot be");
        }
        Notice::SlowReader { conn } => {
            log::warn!(kind, conn:% = conn; "dropped a client that does not read its replies");
        }
        Notice::SnapshotTaken { id } => {
            log::info!(kind, index = id.index.0, bytes = id.bytes; "took a snapshot");
        }
        Notice::SnapshotWaits { index, durable } => {
            log::warn!(kind, index = index.0, durable = durable.0; "a snapshot waits for the log, which is not durable as \
                far: look at this node's disk");
        }
        Notice::SnapshotSending { node, id } => {
            log::info!(kind, peer = node.0, index = id.index.0, bytes = id.bytes; "sends a peer a snapshot: the log \
                no longer has what it lacks");
        }
        Notice::SnapshotLapsed { node, id } => {
            log::warn!(kind, peer = node.0, index = id.index.0, bytes = id.bytes; "newer snapshots took the place of one \
                before a peer had it: it is sent the newest, and the next ones are taken more seldom");
        }
        Notice::SnapshotReceived { node, id } => {
            log::info!(kind, peer = node.0, index = id.index.0, bytes = id.bytes; "received a snapshot");
        }
        Notice::Recovered => log::info!(kind; "made up for the log that was damaged: this node votes again"),
        Notice::SnapshotFailed { error } => {
            log::error!(kind, error:% = error; "a snapshot came to nothing, which is tried again; nothing is lost");
        }
        Notice::SnapshotRefused {
            node,
            result: SnapshotResult::Damaged,
            ..
        } => {
            log::error!(kind, peer = node.0; "a snapshot arrived damaged: look at this node's disk and at the peer's; \
                it is tried again with a new one");
        }
        Notice::SnapshotRefused { node, .. } => {
            log::warn!(kind, peer = node.0; "a peer has no room for a snapshot: make room there; it is tried again");
        }
        Notice::Room { is_short: true, bytes } => {
            log::error!(kind, room_bytes = *bytes; "no space for the log: make room, or raise log_bytes_max");
        }
        Notice::Room { bytes, .. } => log::info!(kind, room_bytes = *bytes; "there is space for the log"),
        notice => log::info!(kind, notice:? = notice; "a notice without words of its own"),
    }
}

fn role(state: NodeState, leader: NodeId) -> &'static str {
    match state {
        NodeState::Follower if !leader.is_some() => "knows no leader",
        NodeState::Follower => "follows",
        NodeState::PreCandidate => "asks whether it would be elected",
        NodeState::Candidate => "asks to be elected",
        NodeState::Leader => "leads",
    }
}

/// Ids, and of those that do not simply vote what they do.
fn members(configuration: &Configuration) -> String {
    let mut text = String::new();
    for member in configuration.members() {
        let separator = if text.is_empty() { "" } else { ", " };
        let standing = match member.seat.standing() {
            Standing::Voter | Standing::Recovering => "",
            Standing::Learner => " (learns)",
            Standing::Leaving => " (leaves)",
            Standing::Joining => " (joins)",
        };
        write!(text, "{separator}{}{standing}", member.node).expect("a String takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use kraft_core::id::{Index, Term};
    use kraft_core::message::SnapshotId;

    use super::*;

    #[test]
    fn kinds_are_told_apart_and_counted() {
        assert_eq!(KINDS.iter().collect::<BTreeSet<_>>().len(), KINDS.len());
        let counts = Counts::default();
        let role = Notice::Role {
            state: NodeState::Leader,
            term: Term(1),
            leader: NodeId(1),
        };
        counts.tell(&role);
        counts.tell(&role);
        counts.tell(&Notice::Room {
            is_short: true,
            bytes: 0,
        });
        let seen: Vec<_> = counts.all().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(seen, [("role", 2), ("room", 1)]);
    }

    #[test]
    fn a_follower_of_nobody_knows_no_leader() {
        for (state, leader, words) in [
            (NodeState::Follower, NodeId::NONE, "knows no leader"),
            (NodeState::Follower, NodeId(2), "follows"),
            (
                NodeState::PreCandidate,
                NodeId::NONE,
                "asks whether it would be elected",
            ),
            (NodeState::Candidate, NodeId::NONE, "asks to be elected"),
            (NodeState::Leader, NodeId(1), "leads"),
        ] {
            assert_eq!(role(state, leader), words);
        }
    }

    #[test]
    fn a_snapshot_that_lapsed_is_counted() {
        let counts = Counts::default();
        counts.tell(&Notice::SnapshotLapsed {
            node: NodeId(2),
            id: SnapshotId {
                index: Index(7),
                term: Term(1),
                bytes: 64,
                crc: 0,
            },
        });
        assert!(counts.has_told("snapshot_lapsed"));
    }

    #[test]
    fn the_guide_has_every_kind() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
        let guide = fs::read_to_string(&path).expect("the guide");
        let rows: String = guide.lines().filter(|line| line.starts_with("| `")).collect();
        // What has no words of its own cannot be explained.
        for kind in KINDS.iter().chain(&["backend"]).filter(|kind| **kind != "other") {
            assert!(
                rows.contains(&format!("`{kind}`")),
                "docs/operations.md does not explain the kind {kind}"
            );
        }
    }
}
