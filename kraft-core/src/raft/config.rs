//! What can be chosen about a node's Raft.

use std::ops::Range;
use std::time::Duration;

use super::quorum::VOTERS_MAX;
use crate::id::NodeId;
use crate::membership::ADDRESS_BYTES_MAX;

/// How a node runs Raft. Checked by [`Config::validate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The own id.
    pub id: NodeId,
    /// The voters that the cluster was founded with, the own id among them, ascending. In force until the log says
    /// something else. Empty for a node that is added to a cluster: it waits until a leader tells it who the members are.
    pub voters: Vec<NodeId>,
    /// Where the founding voters are reached, as far as it is to be in the configuration: members that are added learn
    /// it there. Default empty.
    pub addresses: Vec<(NodeId, String)>,
    /// Seeds election jitter and the first round.
    pub seed: u64,
    /// The log was damaged, set aside and begun anew in [a fresh term](super::term_after_damage): the node votes and leads
    /// when it has made up for that. Storage remembers it until [`Output::Recovered`](super::Output).
    pub recovering: bool,
    /// Redrawn from here at every reset, in `min..max`. Default 150-300 ms.
    pub election_timeout: Range<Duration>,
    /// Ask before an election whether it would be won (thesis §9.6). Default on.
    pub pre_vote: bool,
    /// The leader's sign of life. Default 50 ms; twice this is less than the least election timeout.
    pub heartbeat_interval: Duration,
    /// Step down when a majority was not heard for an election timeout (thesis §6.2). Default on.
    pub check_quorum: bool,
    /// Grants leases, and leads by them: by how much two clocks may come apart within the least election timeout. The
    /// leader's lease is that much shorter than the timeout. Needs check-quorum. Default `None`: no leases.
    pub lease_drift_max: Option<Duration>,
    /// How long a sync may take before a leader gives up its leadership.
    pub sync_stall_max: Duration,
    /// Payload bytes of one append.
    pub append_bytes_max: usize,
    /// Entries of one append.
    pub append_entries_max: usize,
    /// Appends in flight to one follower.
    pub inflight_messages_max: usize,
    /// Payload bytes in flight to one follower.
    pub inflight_bytes_max: u64,
    /// Payload bytes proposed and not committed; above it proposals are refused as `Overloaded`.
    pub uncommitted_bytes_max: u64,
    /// So many of the newest entries stay in the log though a snapshot holds them, for followers that lag: entries are
    /// cheaper than a snapshot. None does while storage has room for less than the margin and than
    /// [`snapshot_hold_room_min`](Self::snapshot_hold_room_min), or for less than an append.
    pub snapshot_margin_entries: u64,
    /// The same in payload bytes; what is more than the one or the other goes.
    pub snapshot_margin_bytes: u64,
    /// While storage has more room than this, a leader's log also keeps what followers that live still need: those that lag
    /// beyond the margin, and those that are sent a snapshot, which would be of no use to them if the log began behind
    /// it. `u64::MAX` for never; a quarter of the log's limit is a good value.
    pub snapshot_hold_room_min: u64,
    /// Reads that wait for a confirmation or to be forwarded; above it reads are refused as `Overloaded`.
    pub reads_max: usize,
}

impl Config {
    /// The defaults, for node `id` of `voters`.
    #[must_use]
    pub fn new(id: NodeId, voters: Vec<NodeId>, seed: u64) -> Self {
        Self {
            id,
            voters,
            addresses: Vec::new(),
            seed,
            recovering: false,
            election_timeout: Duration::from_millis(150)..Duration::from_millis(300),
            pre_vote: true,
            heartbeat_interval: Duration::from_millis(50),
            check_quorum: true,
            lease_drift_max: None,
            sync_stall_max: Duration::from_secs(1),
            append_bytes_max: 256 << 10,
            append_entries_max: 4096,
            inflight_messages_max: 64,
            inflight_bytes_max: 512 << 10,
            uncommitted_bytes_max: 16 << 20,
            snapshot_margin_entries: 100_000,
            snapshot_margin_bytes: 32 << 20,
            snapshot_hold_room_min: 64 << 20,
            reads_max: 4096,
        }
    }

    /// Whether a node can run by this.
    ///
    /// # Errors
    ///
    /// Which field is wrong, and how.
    pub fn validate(&self) -> Result<(), String> {
        let Range { start, end } = self.election_timeout.clone();
        let is_told = self.voters.is_empty() || self.voters.binary_search(&self.id).is_ok();
        if !self.id.is_some() || !is_told {
            return Err(format!(
                "voters: node {} is not among them, or they are not ascending",
                self.id
            ));
        }
        if self.voters.first().is_some_and(|voter| !voter.is_some())
            || self.voters.windows(2).any(|pair| pair[0] >= pair[1])
        {
            return Err("voters: ids are ascending, from 1, each once".into());
        }
        if self.voters.len() > VOTERS_MAX {
            return Err(format!("voters: {} are more than {VOTERS_MAX}", self.voters.len()));
        }
        if start >= end {
            return Err(format!("election_timeout: {start:?} is not less than {end:?}"));
        }
        if self.heartbeat_interval.is_zero() || self.heartbeat_interval * 2 >= start {
            let interval = self.heartbeat_interval;
            return Err(format!(
                "heartbeat_interval: twice {interval:?} is not less than {start:?}"
            ));
        }
        if self.lease_drift_max.is_some() && !self.check_quorum {
            return Err(
                "lease_drift_max: without check_quorum votes are given whoever leads, so that no lease holds".into(),
            );
        }
        if let Some(drift) = self
            .lease_drift_max
            .filter(|drift| *drift + self.heartbeat_interval >= start)
        {
            return Err(format!(
                "lease_drift_max: {drift:?} leaves nothing of {start:?} when the next heartbeat comes"
            ));
        }
        let is_long = |address: &String| address.len() > ADDRESS_BYTES_MAX;
        if let Some((node, _)) = self.addresses.iter().find(|(_, address)| is_long(address)) {
            return Err(format!(
                "addresses: that of node {node} is longer than {ADDRESS_BYTES_MAX} bytes"
            ));
        }
        let positive = [
            ("sync_stall_max", self.sync_stall_max.is_zero()),
            ("append_bytes_max", self.append_bytes_max == 0),
            ("append_entries_max", self.append_entries_max == 0),
            ("inflight_messages_max", self.inflight_messages_max == 0),
            ("inflight_bytes_max", self.inflight_bytes_max == 0),
            ("uncommitted_bytes_max", self.uncommitted_bytes_max == 0),
            ("reads_max", self.reads_max == 0),
        ];
        match positive.iter().find(|field| field.1) {
            Some((field, _)) => Err(format!("{field}: zero")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(id: u64, voters: u64) -> Config {
        Config::new(NodeId(id), (1..=voters).map(NodeId).collect(), 7)
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Config), expected: &str) {
        let mut config = config(1, 3);
        change(&mut config);
        let error = config.validate().expect_err("it is wrong");
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn a_wrong_configuration_is_refused_by_the_name_of_its_field() {
        assert_eq!(config(1, 3).validate(), Ok(()));
        check(|config| config.id = NodeId(9), "voters");
        check(|config| config.id = NodeId::NONE, "voters");
        check(|config| config.voters = vec![NodeId(1), NodeId(1)], "voters");
        check(|config| config.voters = (1..=16).map(NodeId).collect(), "voters");
        check(
            |config| config.heartbeat_interval = Duration::from_millis(75),
            "heartbeat_interval",
        );
        check(
            |config| config.election_timeout.end = Duration::from_millis(150),
            "election_timeout",
        );
        check(|config| config.append_bytes_max = 0, "append_bytes_max");
        check(|config| config.voters = vec![NodeId::NONE, NodeId(1)], "voters");
        check(
            |config| config.heartbeat_interval = Duration::ZERO,
            "heartbeat_interval",
        );
        check(|config| config.sync_stall_max = Duration::ZERO, "sync_stall_max");
        check(|config| config.append_entries_max = 0, "append_entries_max");
        check(|config| config.inflight_messages_max = 0, "inflight_messages_max");
        check(|config| config.inflight_bytes_max = 0, "inflight_bytes_max");
        check(|config| config.uncommitted_bytes_max = 0, "uncommitted_bytes_max");
        check(|config| config.reads_max = 0, "reads_max");
        let drift = |millis| Some(Duration::from_millis(millis));
        check(|config| config.lease_drift_max = drift(100), "lease_drift_max");
        let without = |config: &mut Config| (config.lease_drift_max, config.check_quorum) = (drift(10), false);
        check(without, "lease_drift_max");
    }

    #[test]
    fn a_configuration_at_its_limits_is_taken() {
        assert_eq!(config(1, 1).validate(), Ok(()));
        assert_eq!(config(15, VOTERS_MAX as u64).validate(), Ok(()));
        let nano = Duration::from_nanos(1);
        let mut config = config(1, 3);
        config.heartbeat_interval = Duration::from_millis(75) - nano;
        config.election_timeout.end = config.election_timeout.start + nano;
        assert_eq!(config.validate(), Ok(()));
    }
}
