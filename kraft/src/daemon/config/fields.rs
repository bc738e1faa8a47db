//! The table of fields. The struct, flags, variables, keys of the file, `config show` and the table in
//! `docs/operations.md` are all made of it, so that they cannot diverge.

use std::path::PathBuf;
use std::time::Duration;

use kraft_adapters::Choice;
use log::LevelFilter;

use super::value::{Kind, Members, Span, Value};
use crate::daemon::logging::Format;
use kraft_core::host_port::HostPort;

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Field {
    /// The key in the file. The flag is the same with dashes, the variable the same in capitals after `KRAFT_`.
    pub name: &'static str,
    /// What the file must use as its value.
    pub kind: Kind,
    /// What stands for a value in help.
    pub form: &'static str,
    /// What it is, in a sentence or two.
    pub doc: &'static str,
    set: fn(&mut Config, &str) -> Result<(), String>,
    show: fn(&Config) -> String,
}

impl Field {
    /// The row called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.name == name)
    }

    /// The flag, without the dashes in front.
    #[must_use]
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("KRAFT_{}", self.name.to_ascii_uppercase())
    }

    /// Puts the value whose text form is `text` into `config`, or leaves it as it was.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, to follow "… is ".
    pub fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        (self.set)(config, text)
    }

    /// The text form of the value in `config`.
    #[must_use]
    pub fn show(&self, config: &Config) -> String {
        (self.show)(config)
    }

    /// The text form of the value that stands if nobody says another; `None` if there is none. An id of 0 is none.
    #[must_use]
    pub fn default(&self) -> Option<String> {
        let text = self.show(&Config::default());
        (!text.is_empty() && self.name != "id").then_some(text)
    }

    /// A line of a TOML file with the value in `config`.
    #[must_use]
    pub fn toml(&self, config: &Config) -> String {
        let text = self.show(config);
        match self.kind {
            Kind::Integer | Kind::Boolean => format!("{} = {text}", self.name),
            Kind::String | Kind::Members => format!("{} = {}", self.name, toml_string(&text)),
        }
    }
}

/// `text` as a basic string of TOML.
pub(super) fn toml_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Field")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)+) => {
        /// How kraftd runs a node.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Config {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        /// All rows, in the order in which they are shown.
        pub const FIELDS: &[Field] = &[
            $(Field {
                name: stringify!($name),
                kind: <$type as Value>::KIND,
                form: <$type as Value>::FORM,
                doc: concat!($($doc),+),
                set: |config, text| {
                    config.$name = <$type as Value>::parse(text)?;
                    Ok(())
                },
                show: |config| Value::show(&config.$name),
            },)+
        ];
    };
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

fields! {
    /// The cluster's name. Written by init; given again it must be the same.
    cluster: String = String::new();
    /// The node's id, from 1. Written by init; given again it must be the same.
    id: u64 = 0;
    /// All nodes of a new cluster, itself among them, and where their peers reach them; `join` for a node that is added to
    /// one. In force until the members are first changed (kraftctl member). Written by init; given again the
    /// ids must be the same, the addresses may be others.
    peers: Members = Members::default();
    /// Where this node listens for its peers.
    listen: Option<HostPort> = None;
    /// Where this node listens for clients.
    client: Option<HostPort> = None;
    /// Where it answers /metrics, /livez and /readyz over HTTP; empty for nowhere. Anyone who reaches it may read it, so
    /// keep it on the loopback or a network for monitoring.
    metrics: Option<HostPort> = None;
    /// The event loop: auto, or a name, or names in the order in which they are tried. One name is strict.
    backend: Choice = Choice::default();
    /// How long the event loop looks for work before it sleeps, such as 50us: a shorter wait for whoever is alone, paid
    /// with a core that is never idle for that long after each turn.
    spin: Span = Span(Duration::ZERO);
    /// The wire format in which the node speaks to the others: binary, protobuf, msgpack or json. It takes each that it is
    /// built with, and answers in the same.
    protocol: String = "binary".to_owned();
    /// The certificate that this node shows to peers and clients, PEM, then those between it and the authority, if any. With
    /// tls_key and tls_ca it encrypts both ports, and plaintext is refused there; empty, as all four, for plaintext.
    tls_cert: Option<PathBuf> = None;
    /// The key of that certificate, PEM; nobody but its owner may read the file.
    tls_key: Option<PathBuf> = None;
    /// The authorities of the nodes, PEM: peers show certificates of them, with their names, and no others are let in.
    tls_ca: Option<PathBuf> = None;
    /// The authorities of clients, PEM: clients show certificates of them; empty to let them in without.
    tls_client_ca: Option<PathBuf> = None;
    /// What is logged: off, error, warn, info, debug or trace.
    log_level: LevelFilter = LevelFilter::Info;
    /// How it is logged, to stderr: text or json.
    log_format: Format = Format::Text;
    /// The least time without a leader after which a node seeks election; redrawn up to election_timeout_ms_max at every
    /// reset.
    election_timeout_ms_min: Duration = Duration::from_millis(150);
    /// The bound of that time, itself never drawn.
    election_timeout_ms_max: Duration = Duration::from_millis(300);
    /// How often a leader shows that it lives; twice this is less than election_timeout_ms_min.
    heartbeat_ms: Duration = Duration::from_millis(50);
    /// Ask before an election whether it would be won, so that a node that was cut off disturbs nobody.
    pre_vote: bool = true;
    /// A leader that has not heard a majority for an election timeout steps down.
    check_quorum: bool = true;
    /// Let a leader answer reads that ask for it (kraftctl get --consistency lease) without asking the others, for as
    /// long as a majority has promised it to elect nobody else. Needs check_quorum, and clocks that keep
    /// lease_drift_ms_max; a dead leader is then missed for a whole election timeout.
    lease_reads: bool = false;
    /// By how much the clocks of two nodes may come apart within election_timeout_ms_min; a lease is that much shorter.
    lease_drift_ms_max: Duration = Duration::from_millis(15);
    /// Writes that come while leadership is handed over wait, for election_timeout_ms_max at most; false to refuse them.
    transfer_waits: bool = true;
    /// How long a sync to disk may take before a leader gives up its leadership.
    sync_stall_ms_max: Duration = Duration::from_secs(1);
    /// Payload bytes of one message to a follower.
    append_bytes_max: u64 = 256 * KIB;
    /// Payload bytes that may be on their way to one follower.
    inflight_bytes_max: u64 = 512 * KIB;
    /// Payload bytes that may be proposed and not yet committed; above it proposals are refused as overloaded.
    uncommitted_bytes_max: u64 = 16 * MIB;
    /// The largest frame, header included; with inflight_bytes_max it fits into write_queue_bytes_max.
    frame_bytes_max: u64 = 512 * KIB;
    /// The largest key.
    key_bytes_max: u64 = 4 * KIB;
    /// The largest value.
    value_bytes_max: u64 = 128 * KIB;
    /// What all keys and values may take in memory, 64 bytes counted for each besides; the leader refuses what could
    /// grow the state above it, for want of space. It may be exceeded by what is proposed and not yet applied, and
    /// may differ between nodes.
    state_bytes_max: u64 = GIB;
    /// The log's bound on disk; at it writes are refused for want of space.
    log_bytes_max: u64 = 8 * GIB;
    /// The size of a segment of the log.
    log_segment_bytes: u64 = 64 * MIB;
    /// How many segments are zeroed ahead, so that no write waits for one.
    log_segments_ahead: u64 = 1;
    /// How many segments that are done with are kept to be written again.
    log_segments_recycled_max: u64 = 4;
    /// A snapshot is taken when the entries since the last one have so many bytes, and at least as many as it has itself.
    snapshot_bytes: u64 = 64 * MIB;
    /// A snapshot is taken, too, when there are so many entries since the last one.
    snapshot_entries: u64 = 10_000_000;
    /// How many snapshots are kept.
    snapshots_keep: u64 = 2;
    /// Entries that the log keeps behind what a snapshot holds, for followers that are slow, as far as
    /// snapshot_margin_bytes goes.
    snapshot_margin_entries: u64 = 100_000;
    /// Payload bytes of the entries that the log keeps for them at most; up to a quarter of log_bytes_max. A log that is
    /// nearly full keeps none.
    snapshot_margin_bytes: u64 = 32 * MIB;
    /// Bytes a second in which snapshots are sent to all followers together, and a quarter of it while commands are
    /// being committed, until one came too late; 0 is as fast as they take them, always.
    snapshot_bytes_per_second: u64 = 256 * MIB;
    /// Connections of clients at a time; more are turned away. Peers have places of their own.
    max_connections: u64 = 1024;
    /// Bytes that wait to be sent on a connection; a client that does not read beyond that is dropped.
    write_queue_bytes_max: u64 = MIB;
    /// How long a closing connection may take to hand over what was accepted for sending.
    linger_ms: Duration = Duration::from_secs(5);
    /// Silence on a connection after which TCP asks whether the other end lives; 0 never asks.
    tcp_keepalive_ms: Duration = Duration::from_secs(60);
}
