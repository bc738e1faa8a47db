//! How a node runs.

use std::time::Duration;

use super::snapshots;
use crate::id::{Incarnation, NodeId};
use crate::peers::Backoff;
use crate::protocol::{Limits, Overhead};
use crate::{raft, session};

/// How a node runs. Checked when it is opened.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's name.
    pub cluster_name: String,
    /// The life of this node's data folder.
    pub incarnation: Incarnation,
    /// The members that the cluster was founded with, this node among them: in force until the log says something else,
    /// and where they are reached as far as that does not say. Empty for a node that is added to a cluster: it waits to be
    /// told.
    pub members: Vec<Member>,
    /// Lives of other nodes' data folders that are on our disk, beside those in `members`.
    pub incarnations: Vec<(NodeId, Incarnation)>,
    /// How it runs Raft; its id is the node's.
    pub raft: raft::Config,
    /// What decoders refuse once a connection is established. `frame_max` and the bytes in flight to a follower fit
    /// the adapter's `write_queue_max` together. Commands are bounded by what fits a frame with one entry; raise
    /// `frame_max` on all nodes before clients send what is larger.
    pub limits: Limits,
    /// What frames have besides payloads; the protocol says, when the node is opened.
    pub(super) overhead: Overhead,
    /// Payload bytes of the log that are kept in memory for followers.
    pub tail_bytes_max: u64,
    /// When snapshots are taken, and how fast they travel.
    pub snapshots: snapshots::Config,
    /// What the table of client sessions holds. The same on every node.
    pub sessions: session::Limits,
    /// Requests of all clients and handles that wait for their answer; above it they are refused as `Overloaded`.
    pub requests_max: usize,
    /// Bytes of the queries among them; above it reads are refused as `Overloaded`.
    pub queries_bytes_max: usize,
    /// Requests of one client that wait for their answer; at it the client is not read from.
    pub client_in_flight_max: usize,
    /// Bytes of answers that one client has not read, beyond its outbox; above it the client is dropped.
    pub client_backlog_bytes_max: usize,
    /// How long a client may leave its answers unread before it is dropped.
    pub client_stall_max: Duration,
    /// Bytes of incomplete frames of all connections.
    pub inbox_bytes_max: usize,
    /// How long a frame may take from its first byte to its last.
    pub frame_timeout: Duration,
    /// Connections of a listener that have not said hello, at most half of those that it takes; one more and the oldest
    /// is closed.
    pub handshakes_max: usize,
    /// How long to wait between dials of a peer.
    pub backoff: Backoff,
    /// Calls of handles that wait for the node's next turn; above it they are refused as `Overloaded`.
    pub calls_max: usize,
    /// Entries applied in a turn. A long replay then leaves time for heartbeats.
    pub applied_per_turn_max: u64,
    /// How long a stopping node waits for its connections to take leave, once it leads no more.
    pub stop_timeout: Duration,
    /// Commands that come while leadership is handed over wait for the end of that, for at most the longest election
    /// timeout. Without this they are refused as `Transferring`.
    pub transfer_waits: bool,
    /// The version of the program, as status shows it.
    pub version: &'static str,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// `HOST:PORT` where its peers reach it.
    pub address: String,
    /// The life of its data folder, if that is on our disk.
    pub incarnation: Option<Incarnation>,
}

impl Config {
    /// The defaults, for a member of a cluster. `seed` draws jitter and nonces: take it from the system's randomness,
    /// or from a simulation's.
    #[must_use]
    pub fn new(cluster_name: &str, node: NodeId, incarnation: Incarnation, members: Vec<Member>, seed: u64) -> Self {
        let mut voters: Vec<_> = members.iter().map(|member| member.node).collect();
        voters.sort_unstable();
        Self {
            cluster_name: cluster_name.to_owned(),
            incarnation,
            members,
            incarnations: Vec::new(),
            raft: raft::Config::new(node, voters, seed),
            limits: Limits {
                frame_max: 512 << 10,
                entries_max: 4096,
            },
            overhead: Overhead::default(),
            tail_bytes_max: 4 << 20,
            snapshots: snapshots::Config::default(),
            sessions: session::Limits::default(),
            requests_max: 16 << 10,
            queries_bytes_max: 16 << 20,
            client_in_flight_max: 1024,
            client_backlog_bytes_max: 4 << 20,
            client_stall_max: Duration::from_secs(10),
            inbox_bytes_max: 64 << 20,
            frame_timeout: Duration::from_secs(10),
            handshakes_max: 128,
            backoff: Backoff::default(),
            calls_max: 4096,
            applied_per_turn_max: 4096,
            stop_timeout: Duration::from_secs(1),
            transfer_waits: true,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// Bytes of the largest command: it must fit a frame as the only entry of an append.
    #[must_use]
    pub fn command_bytes_max(&self) -> usize {
        let room = self.overhead.room(1, self.limits.frame_max);
        room.saturating_sub(session::HEADER_BYTES)
    }

    /// What is right for a format whose payloads stand in a frame as they are is made so for one with longer frames: less
    /// goes into an append, and less is in flight.
    pub(super) fn speak(&mut self, overhead: Overhead) {
        self.overhead = overhead;
        if self.append_frame_max() <= self.limits.frame_max || overhead == Overhead::default() {
            return;
        }
        let frame_max = self.limits.frame_max;
        let raft = &mut self.raft;
        // A quarter of a frame for what entries have besides payloads: more of them are small.
        let entries = frame_max / 4 / overhead.entry_bytes.max(1);
        raft.append_entries_max = raft.append_entries_max.min(entries).max(1);
        let room = overhead.room(raft.append_entries_max, frame_max);
        raft.append_bytes_max = raft.append_bytes_max.min(room).max(1);
        let in_flight = raft.inflight_bytes_max / overhead.three_become as u64 * 3;
        raft.inflight_bytes_max = in_flight.max(raft.append_bytes_max as u64);
    }

    /// Bytes of the largest append of several entries.
    #[must_use]
    pub fn append_frame_max(&self) -> usize {
        self.overhead
            .frame(self.raft.append_entries_max, self.raft.append_bytes_max)
    }

    /// Checks what can be wrong.
    ///
    /// # Errors
    ///
    /// Which field is wrong, and how.
    pub fn validate(&self) -> Result<(), String> {
        if !self.members.is_empty() && !self.members.iter().any(|member| member.node == self.raft.id) {
            return Err(format!("members: node {} is not among them", self.raft.id));
        }
        if self.limits.frame_max < 4096 || u32::try_from(self.limits.frame_max).is_err() {
            return Err(format!(
                "frame_max: {} is not within 4096..=4294967295",
                self.limits.frame_max
            ));
        }
        if self.append_frame_max() > self.limits.frame_max {
            return Err(format!(
                "append_bytes_max: {} bytes in {} entries (append_entries_max) make frames of up to {} bytes, above \
                 frame_max ({})",
                self.raft.append_bytes_max,
                self.raft.append_entries_max,
                self.append_frame_max(),
                self.limits.frame_max
            ));
        }
        if self.raft.append_entries_max > self.limits.entries_max {
            return Err(format!(
                "append_entries_max: {} is above entries_max ({}), so peers would refuse it",
                self.raft.append_entries_max, self.limits.entries_max
            ));
        }
        self.snapshots.validate()?;
        for (name, value) in [
            ("requests_max", self.requests_max),
            ("client_in_flight_max", self.client_in_flight_max),
            ("handshakes_max", self.handshakes_max),
            ("calls_max", self.calls_max),
        ] {
            if value == 0 {
                return Err(format!("{name}: must be at least 1"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Payloads escaped, as JSON has them.
    const WORDY: Overhead = Overhead {
        entry_bytes: 128,
        frame_bytes: 512,
        three_become: 4,
    };

    fn config(frame_max: usize, append_bytes_max: usize) -> Config {
        let member = Member {
            node: NodeId(1),
            address: "10.0.0.1:7001".to_owned(),
            incarnation: None,
        };
        let mut config = Config::new("c", NodeId(1), Incarnation(1), vec![member], 1);
        config.limits.frame_max = frame_max;
        config.raft.append_bytes_max = append_bytes_max;
        config
    }

    #[test]
    fn appends_of_a_wordy_format_fit_its_frames() {
        for frame_max in [4096, 16 << 10, 512 << 10, 1 << 20] {
            let mut wordy = config(frame_max, frame_max / 2);
            wordy.speak(WORDY);
            assert!(wordy.append_frame_max() <= frame_max, "{frame_max}: {:?}", wordy.raft);
            assert!(wordy.raft.append_entries_max > 1 && wordy.raft.append_bytes_max >= frame_max / 4);
            assert!(wordy.raft.inflight_bytes_max >= wordy.raft.append_bytes_max as u64);
            let command = wordy.command_bytes_max() + session::HEADER_BYTES;
            assert!(WORDY.frame(1, command) <= frame_max && command > frame_max / 2);
        }
    }

    #[test]
    fn a_format_with_payloads_as_they_are_changes_nothing() {
        let mut plain = config(512 << 10, 256 << 10);
        let (entries, bytes) = (plain.raft.append_entries_max, plain.raft.append_bytes_max);
        plain.speak(Overhead::default());
        assert_eq!(
            (plain.raft.append_entries_max, plain.raft.append_bytes_max),
            (entries, bytes)
        );
        assert_eq!(plain.validate(), Ok(()));
        // What does not fit is told, not made to fit.
        let mut large = config(512 << 10, 512 << 10);
        large.speak(Overhead::default());
        assert!(large.validate().is_err_and(|why| why.starts_with("append_bytes_max: ")));
    }
}
