//! The parts of a node, as the configuration wants them.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use kraft_core::adapter::Endpoint;
use kraft_core::id::{Incarnation, NodeId};
use kraft_core::membership::MEMBERS_MAX;
use kraft_core::node::{self, Member};

use super::Failure;
use super::config::{Config, HostPort};
use super::monitor;
use crate::storage::{self, Identity, OVERHEAD_MAX, PeerBook, RealFiles};

/// Connections of peers at a time beside one from each: those of a peer that comes back before its old ones are known
/// to be dead.
const PEER_CONNECTIONS_SPARE: usize = 16;

/// How long a port that is in use is waited for. The kernel takes the ring of a process that was killed apart behind its
/// back, and the ring's listener is open until then: milliseconds, or a few tens on a busy host.
const PORT_PATIENCE: Duration = Duration::from_secs(1);
const PORT_TICK: Duration = Duration::from_millis(10);

/// How the event loop runs: with room for all listeners and for the connections that the node dials.
pub(super) fn adapter_config(config: &Config) -> kraft_adapters::Config {
    let dialled = 2 * MEMBERS_MAX;
    let accepted = clients(config) + Addresses::peer_connections() + monitor::CONNECTIONS_MAX;
    kraft_adapters::Config {
        max_connections: accepted + dialled,
        write_queue_max: bytes(config.write_queue_bytes_max),
        tcp_keepalive: Some(config.tcp_keepalive_ms).filter(|idle| !idle.is_zero()),
        linger: config.linger_ms,
        spin: config.spin.0,
        ..kraft_adapters::Config::default()
    }
}

/// How the log uses the disk.
pub(super) fn storage_config(config: &Config) -> storage::Config {
    let defaults = storage::Config::default();
    // All bounded by `Config::validate`.
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    storage::Config {
        segment_bytes: number(config.log_segment_bytes),
        first_segment_bytes: defaults.first_segment_bytes.min(number(config.log_segment_bytes)),
        zero_ahead: number(config.log_segments_ahead),
        recycle_max: number(config.log_segments_recycled_max),
        log_bytes_max: config.log_bytes_max,
        snapshots_keep: number(config.snapshots_keep),
        ..defaults
    }
}

/// How the node runs.
///
/// # Errors
///
/// The system has no randomness to give.
pub(super) fn node_config(
    config: &Config,
    of: &Identity,
    life: Incarnation,
    book: &PeerBook<RealFiles>,
) -> Result<node::Config, Failure> {
    let seed =
        getrandom::u64().map_err(|error| Failure::new(format!("the system's randomness: {error}; try again")))?;
    let member = |(id, at): (u64, &HostPort)| Member {
        node: NodeId(id),
        address: at.to_string(),
        incarnation: book.get(NodeId(id)),
    };
    let members = config.peers.iter().map(member).collect();
    let mut node = node::Config::new(&of.cluster, of.node, life, members, seed);
    node.incarnations = book.all();
    node.limits.frame_max = bytes(config.frame_bytes_max);
    node.transfer_waits = config.transfer_waits;
    let raft = &mut node.raft;
    raft.election_timeout = config.election_timeout_ms_min..config.election_timeout_ms_max;
    raft.heartbeat_interval = config.heartbeat_ms;
    raft.pre_vote = config.pre_vote;
    raft.check_quorum = config.check_quorum;
    raft.lease_drift_max = config.lease_reads.then_some(config.lease_drift_ms_max);
    raft.sync_stall_max = config.sync_stall_ms_max;
    raft.append_bytes_max = bytes(config.append_bytes_max);
    raft.inflight_bytes_max = config.inflight_bytes_max;
    raft.uncommitted_bytes_max = config.uncommitted_bytes_max;
    raft.snapshot_margin_entries = config.snapshot_margin_entries;
    raft.snapshot_margin_bytes = config.snapshot_margin_bytes;
    // A quarter of the log, in payload bytes as storage counts its room.
    raft.snapshot_hold_room_min = config.log_bytes_max / 4 / OVERHEAD_MAX;
    node.snapshots = snapshots_config(config);
    Ok(node)
}

/// When snapshots are taken, and how fast they travel.
fn snapshots_config(config: &Config) -> node::Snapshots {
    node::Snapshots {
        entries: config.snapshot_entries,
        bytes: config.snapshot_bytes,
        bytes_per_second: match config.snapshot_bytes_per_second {
            0 => u64::MAX,
            bytes => bytes,
        },
        ..node::Snapshots::default()
    }
}

fn clients(config: &Config) -> usize {
    bytes(config.max_connections)
}

/// Bounded by `Config::validate`, far below what a `usize` of 32 bits holds.
pub(super) fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Where a node listens.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    /// For peers.
    pub(super) listen: Endpoint,
    /// For clients.
    pub(super) client: Endpoint,
    /// For monitors.
    pub(super) metrics: Option<Endpoint>,
}

impl Addresses {
    /// Looks the names up.
    ///
    /// # Errors
    ///
    /// The one that is unknown here.
    pub(super) fn resolve(config: &Config) -> Result<Self, Failure> {
        let unset = |name: &str| Failure::config(format!("{name} is not set: kraftd init writes it"));
        Ok(Self {
            listen: resolve("listen", config.listen.as_ref().ok_or_else(|| unset("listen"))?)?,
            client: resolve("client", config.client.as_ref().ok_or_else(|| unset("client"))?)?,
            metrics: config.metrics.as_ref().map(|at| resolve("metrics", at)).transpose()?,
        })
    }

    /// Connections of peers at a time.
    pub(super) fn peer_connections() -> usize {
        MEMBERS_MAX + PEER_CONNECTIONS_SPARE
    }

    /// Whether all ports can be bound, now or in a moment: the sockets of a process that was killed may outlive it. Whoever
    /// binds one before the node does is told of then.
    ///
    /// # Errors
    ///
    /// The one that cannot.
    pub(super) fn check_free(&self) -> Result<(), Failure> {
        let all = [
            ("listen", Some(&self.listen)),
            ("client", Some(&self.client)),
            ("metrics", self.metrics.as_ref()),
        ];
        let until = Instant::now() + PORT_PATIENCE;
        let mut held = Vec::new();
        for (name, at) in all {
            if let Some(Endpoint::Tcp(address)) = at {
                let bound = patiently(until, || TcpListener::bind(address));
                held.push(bound.map_err(|error| bind_failure(name, address, &error))?);
            }
        }
        Ok(())
    }

    /// The sentence for an address that could not be listened at.
    pub(super) fn failure(name: &str, at: &Endpoint, error: &io::Error) -> Failure {
        match at {
            Endpoint::Tcp(address) => bind_failure(name, address, error),
            Endpoint::Unix(_) => Failure::config(format!("{name}: {error}; name another path")),
        }
    }
}

/// What `bind` makes of a port, again and again while it is in use.
fn patiently<T>(until: Instant, mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => thread::sleep(PORT_TICK),
            outcome => return outcome,
        }
    }
}

fn resolve(name: &str, at: &HostPort) -> Result<Endpoint, Failure> {
    let cure = "set it to an address of this host, or to 0.0.0.0 for all";
    let mut found = (at.host(), at.port())
        .to_socket_addrs()
        .map_err(|error| Failure::config(format!("{name} {at}: {error}; {cure}")))?;
    let first = found
        .next()
        .ok_or_else(|| Failure::config(format!("{name} {at}: no address; {cure}")))?;
    Ok(Endpoint::Tcp(first))
}

fn bind_failure(name: &str, address: &SocketAddr, error: &io::Error) -> Failure {
    match error.kind() {
        // It may be free again in a moment, so this is no fault of the configuration.
        ErrorKind::AddrInUse => Failure::new(format!(
            "{name} {address}: the port is in use; stop the program that has it, or set {name} to another port"
        )),
        ErrorKind::AddrNotAvailable => Failure::config(format!(
            "{name} {address}: this host has no such address; set {name} to one that it has, or to 0.0.0.0 for all"
        )),
        ErrorKind::PermissionDenied => Failure::config(format!(
            "{name} {address}: this user may not listen there; set {name} to a port from 1024"
        )),
        _ => Failure::new(format!("{name} {address}: {error}; set {name} to another address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table's defaults are those of the parts, so that a node that is embedded and one that is served run alike.
    #[test]
    fn defaults_are_those_of_the_parts() {
        let config = Config::default();
        let adapter = adapter_config(&config);
        assert_eq!(
            kraft_adapters::Config {
                max_connections: 1024,
                ..adapter
            },
            kraft_adapters::Config::default()
        );
        assert_eq!(storage_config(&config), storage::Config::default());
        let raft = kraft_core::raft::Config::new(NodeId(1), vec![NodeId(1)], 0);
        assert_eq!(
            config.election_timeout_ms_min..config.election_timeout_ms_max,
            raft.election_timeout
        );
        assert_eq!(config.heartbeat_ms, raft.heartbeat_interval);
        assert_eq!(config.sync_stall_ms_max, raft.sync_stall_max);
        assert_eq!(
            (config.pre_vote, config.check_quorum),
            (raft.pre_vote, raft.check_quorum)
        );
        let member = Member {
            node: NodeId(1),
            address: String::new(),
            incarnation: None,
        };
        let node = node::Config::new("", NodeId(1), Incarnation(1), vec![member], 0);
        assert_eq!(config.transfer_waits, node.transfer_waits);
        assert_eq!(bytes(config.append_bytes_max), raft.append_bytes_max);
        assert_eq!(config.inflight_bytes_max, raft.inflight_bytes_max);
        assert_eq!(config.uncommitted_bytes_max, raft.uncommitted_bytes_max);
        assert_eq!(config.snapshot_margin_entries, raft.snapshot_margin_entries);
        assert_eq!(config.snapshot_margin_bytes, raft.snapshot_margin_bytes);
        assert_eq!(snapshots_config(&config), node::Snapshots::default());
        let kv = crate::kv::Limits::default();
        assert_eq!(bytes(config.key_bytes_max), kv.key_bytes_max);
        assert_eq!(bytes(config.value_bytes_max), kv.value_bytes_max);
        assert_eq!(config.state_bytes_max, kv.state_bytes_max);
    }

    #[test]
    fn a_port_in_use_is_waited_for_and_no_other_trouble_is() {
        let tries = |kind: ErrorKind, times: usize, until: Instant| {
            let mut count = 0;
            let bound = patiently(until, || {
                count += 1;
                if count <= times { Err(kind.into()) } else { Ok(()) }
            });
            (bound.map_err(|error: io::Error| error.kind()), count)
        };
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(10));
        assert_eq!(tries(ErrorKind::AddrInUse, 2, later), (Ok(()), 3));
        assert_eq!(tries(ErrorKind::AddrInUse, 2, now), (Err(ErrorKind::AddrInUse), 1));
        assert_eq!(
            tries(ErrorKind::PermissionDenied, 2, later),
            (Err(ErrorKind::PermissionDenied), 1)
        );
    }

    #[test]
    fn a_port_in_use_is_told_before_anything_is_opened() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = Endpoint::Tcp(taken.local_addr().expect("its address"));
        let free: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let addresses = Addresses {
            listen: Endpoint::Tcp(free),
            client: Endpoint::Tcp(free),
            metrics: Some(at),
        };
        let failure = addresses.check_free().expect_err("a refusal");
        assert!(
            failure.message.contains("the port is in use; stop the program"),
            "{failure}"
        );
        drop(taken);
        addresses.check_free().expect("all are free");
    }
}
