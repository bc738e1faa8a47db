//! What is asked of an engine: cells of workload, connections, size and depth.
//!
//! A new workload is a variant of [`Work`], its arm in each function here, in `plan` and in `drive`, and a name for the
//! command line.

use std::fmt;
use std::mem;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engines::{Engine, Family, Nature};
use crate::figures::Figure;
use crate::job::Job;

/// Frames of the workload `frames` that are put in a turn.
pub(crate) const FRAMES: usize = 16;

/// Bytes that a cell may have on their way at once, over all connections: both directions of the sockets hold them.
/// `net.ipv4.tcp_mem` gives TCP about 2 GiB on the machines that this is for; beyond it, it is memory that is measured.
pub(crate) const IN_FLIGHT_MAX: usize = 700 << 20;

/// Messages a second, and bytes, of a slow loop.
const TURN_RATE: f64 = 100_000.0;
const TURN_BYTES: f64 = 1e9;

/// One cell: what every contender does in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Work {
    /// Closed loop: each connection has `depth` messages on their way, and sends one for each that comes back.
    Echo { conns: usize, size: usize, depth: usize },
    /// Open loop: messages are sent when they are due, whatever came back.
    Open { conns: usize, size: usize, rate: u64 },
    /// Closed loop of messages of [`FRAMES`] frames, answered in as many puts or in one.
    Frames { conns: usize, size: usize },
    /// [`Echo`](Self::Echo) with one connection and one message.
    PingPong { size: usize },
    /// Closed loop of requests of eight bytes, each for `size` bytes of memory that all connections share.
    Pump { conns: usize, size: usize },
    /// Closed loop of one speaker: what he says goes to all others, and is through when the last one has it.
    FanOut { others: usize, size: usize, depth: usize },
    /// Clients that connect, send a message, get it back, close and come again.
    MultiAccept { clients: usize },
    /// Connections that do nothing; those that have spoken once have used what a connection uses.
    Idle { conns: usize, spoken: bool },
    /// Closed loop of a few connections beside many that do nothing.
    Beside { idle: usize, busy: usize },
    /// Closed loop of a few connections beside some that send and do not read.
    SlowReader { slow: usize, busy: usize },
    /// A thread wakes the loop and waits until it is heard, or does not wait.
    Wake { flood: bool },
    /// Timers are started and stopped, or started and half of them expire.
    Timers { expire: bool },
    /// Closed loop of commands to three nodes of a Raft core in one process, without network and disk.
    Replicate { clients: usize },
    /// Operations of a key-value machine on three nodes.
    Cluster { ask: Ask, pace: Pace },
    /// The leader of three nodes is killed, again and again.
    KillLeader,
}

/// What a cluster is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    Put,
    Get,
    /// As many of the one as of the other.
    Mixed,
}

impl Ask {
    /// As tables have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Mixed => "mixed",
        }
    }
}

/// When it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pace {
    /// Each client asks again when it is answered.
    Closed { clients: usize },
    /// Operations are asked for when they are due.
    Open { clients: usize, rate: u64 },
}

impl Work {
    /// Connections that a server has at a time, at most: of those that have gone some are there for a turn or two, until
    /// it has seen it and their last operation is through.
    pub(crate) fn conns(self) -> usize {
        match self {
            Self::Echo { conns, .. }
            | Self::Open { conns, .. }
            | Self::Frames { conns, .. }
            | Self::Pump { conns, .. }
            | Self::Idle { conns, .. } => conns,
            Self::PingPong { .. } => 1,
            Self::FanOut { others, .. } => others + 1,
            Self::MultiAccept { clients } => 4 * clients,
            Self::Replicate { clients } => clients,
            Self::Beside { idle, busy } => idle + busy,
            Self::SlowReader { slow, busy } => slow + busy,
            Self::Cluster { pace, .. } => match pace {
                Pace::Closed { clients } | Pace::Open { clients, .. } => clients,
            },
            Self::Wake { .. } | Self::Timers { .. } | Self::KillLeader => 0,
        }
    }

    /// Which figures are compared with the baseline's: the first is what the workload is about.
    pub(crate) fn compared(self) -> &'static [Figure] {
        match self {
            // The rate is given: what differs is what it costs, and how long one waits.
            Self::Open { .. }
            | Self::Cluster {
                pace: Pace::Open { .. },
                ..
            } => &[Figure::ServerCpuUsPerMessage, Figure::LatencyP50Us],
            // Counts bytes over a few rounds: bounded by targets, not compared.
            Self::Idle { .. } => &[],
            // Another thread wakes, on a core of its own.
            Self::Wake { .. } | Self::KillLeader => &[Figure::MessagesPerSecond],
            _ => &[Figure::MessagesPerSecond, Figure::ServerCpuUsPerMessage],
        }
    }

    /// Which figures its tables have, of those that somebody has.
    pub(crate) fn columns(self) -> &'static [Figure] {
        match self {
            Self::Idle { .. } => &[Figure::GrowthBytes, Figure::ServerCpuShare],
            Self::Wake { .. } => &[
                Figure::MessagesPerSecond,
                Figure::LatencyP50Us,
                Figure::LatencyP99Us,
                Figure::LatencyP999Us,
                Figure::SyscallsPerMessage,
                Figure::AllocationsPerMessage,
            ],
            Self::KillLeader => &[
                Figure::MessagesPerSecond,
                Figure::DetectedMs,
                Figure::ElectedMs,
                Figure::FirstWriteMs,
                Figure::AcknowledgedWrites,
                Figure::LostWrites,
                Figure::RepeatedRounds,
            ],
            Self::Timers { .. } | Self::Replicate { .. } => &[
                Figure::MessagesPerSecond,
                Figure::ServerCpuUsPerMessage,
                Figure::AllocationsPerMessage,
            ],
            // Of a slow reader's server nothing is counted, and the columns are left out.
            Self::Beside { .. } | Self::SlowReader { .. } => &[
                Figure::MessagesPerSecond,
                Figure::LatencyP50Us,
                Figure::LatencyP99Us,
                Figure::ServerCpuUsPerMessage,
                Figure::SyscallsPerMessage,
                Figure::CompletionsPerMessage,
                Figure::AllocationsPerMessage,
                Figure::GrowthBytes,
                Figure::LoadBusyShare,
            ],
            // Service times are those of open loops, repeated rounds those of clusters; what nobody has is no column.
            _ => &[
                Figure::MessagesPerSecond,
                Figure::LatencyP50Us,
                Figure::LatencyP99Us,
                Figure::LatencyP999Us,
                Figure::ServiceP50Us,
                Figure::ServiceP99Us,
                Figure::ServerCpuUsPerMessage,
                Figure::ContextSwitchesPerMessage,
                Figure::SyscallsPerMessage,
                Figure::CompletionsPerMessage,
                Figure::AllocationsPerMessage,
                Figure::ResidentBytes,
                Figure::LoadBusyShare,
                Figure::RepeatedRounds,
            ],
        }
    }

    /// Rounds of it when so many are asked for.
    pub(crate) fn rounds(self, asked: usize) -> usize {
        match self {
            // It counts bytes, and those do not vary as times do.
            Self::Idle { .. } => asked.min(3),
            _ => asked,
        }
    }

    /// Whether there is one more round, in which system calls and allocations are counted.
    pub(crate) fn is_counted(self) -> bool {
        let is_odd = matches!(self, Self::Idle { .. } | Self::SlowReader { .. });
        !is_odd && !self.is_of_clusters()
    }

    /// Bytes on their way at once.
    pub(crate) fn in_flight(self) -> usize {
        match self {
            Self::Echo { conns, size, depth } => conns * size * depth,
            Self::Frames { conns, size } => conns * size * FRAMES,
            Self::FanOut { others, size, depth } => others * size * depth,
            _ => 0,
        }
    }

    /// Messages of a closed loop that are on their way at once.
    pub(crate) fn on_their_way(self) -> usize {
        match self {
            Self::Echo { conns, depth, .. } => conns * depth,
            Self::Frames { conns, .. } | Self::Pump { conns, .. } => conns,
            Self::PingPong { .. } => 1,
            Self::FanOut { depth, .. } => depth,
            Self::MultiAccept { clients } | Self::Replicate { clients } => clients,
            Self::Beside { busy, .. } | Self::SlowReader { busy, .. } => busy,
            Self::Cluster {
                pace: Pace::Closed { clients },
                ..
            } => clients,
            Self::Cluster { .. }
            | Self::Open { .. }
            | Self::Idle { .. }
            | Self::Wake { .. }
            | Self::Timers { .. }
            | Self::KillLeader => 0,
        }
    }

    /// What a turn of what is on its way at once takes, nearly: of a loop that is slower than any should be.
    pub(crate) fn turn(self) -> Duration {
        let (messages, bytes) = match self {
            Self::Pump { conns, size } => (conns, conns * size),
            Self::FanOut { others, depth, .. } => (others * depth, self.in_flight()),
            _ => (self.on_their_way(), self.in_flight()),
        };
        Duration::from_secs_f64((messages as f64 / TURN_RATE).max(bytes as f64 / TURN_BYTES))
    }

    /// Whether both are cells of one workload.
    pub(crate) fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Cluster { ask, .. }, Self::Cluster { ask: other, .. }) => ask == other,
            _ => mem::discriminant(&self) == mem::discriminant(&other),
        }
    }

    /// Whether its messages are larger than those of which there are small ones.
    pub(crate) fn is_large(self) -> bool {
        match self {
            Self::Echo { size, .. }
            | Self::Frames { size, .. }
            | Self::PingPong { size }
            | Self::FanOut { size, .. } => size > SMALL,
            _ => false,
        }
    }

    /// Whether it is asked of three nodes, and not of a loop.
    pub(crate) fn is_of_clusters(self) -> bool {
        matches!(self, Self::Cluster { .. } | Self::KillLeader)
    }

    /// Whether it is asked of a Raft core, and not of a loop.
    pub(crate) fn is_of_cores(self) -> bool {
        matches!(self, Self::Replicate { .. })
    }

    /// What the server does.
    ///
    /// # Panics
    ///
    /// Of a cluster, which has no such server.
    pub(crate) fn job(self) -> Job {
        assert!(!self.is_of_clusters(), "nodes have one job");
        match self {
            Self::Pump { .. } => Job::Pump,
            Self::FanOut { .. } => Job::FanOut,
            Self::Wake { flood: false } => Job::Wake,
            Self::Wake { flood: true } => Job::Flood,
            Self::Timers { expire: false } => Job::Churn,
            Self::Timers { expire: true } => Job::Expire,
            Self::Replicate { .. } => Job::Replicate,
            _ => Job::Echo,
        }
    }
}

/// As `--filter` and the tables have it.
impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Echo { conns, size, depth: 1 } => write!(f, "echo {}x{conns}", bytes(size)),
            Self::Echo { conns, size, depth } => write!(f, "echo {}x{conns} {depth} deep", bytes(size)),
            Self::Open { conns, size, rate } => write!(f, "open {}x{conns} at {rate}/s", bytes(size)),
            Self::Frames { conns, size } => write!(f, "frames {FRAMES} of {}x{conns}", bytes(size)),
            Self::PingPong { size } => write!(f, "ping-pong {}", bytes(size)),
            Self::Pump { conns, size } => write!(f, "pump {}x{conns}", bytes(size)),
            Self::FanOut { others, size, depth } => write!(f, "fan-out {} to {others} {depth} deep", bytes(size)),
            Self::MultiAccept { clients } => write!(f, "multi-accept {clients}"),
            Self::Beside { idle, busy } => write!(f, "idle {idle} beside {busy} busy"),
            Self::SlowReader { slow, busy } => write!(f, "slow-reader {slow} beside {busy}"),
            Self::Wake { flood: false } => f.write_str("wake"),
            Self::Wake { flood: true } => f.write_str("wake flood"),
            Self::Timers { expire: false } => f.write_str("million-timers start and stop"),
            Self::Timers { expire: true } => f.write_str("million-timers expire"),
            Self::Replicate { clients } => write!(f, "replicate 256Bx{clients}"),
            Self::Cluster { ask, pace } => {
                let ask = ask.name();
                match pace {
                    Pace::Closed { clients } => write!(f, "{ask} 256Bx{clients}"),
                    Pace::Open { clients, rate } => write!(f, "{ask} 256Bx{clients} at {rate}/s"),
                }
            }
            Self::KillLeader => f.write_str("kill-leader"),
            Self::Idle { conns, spoken: false } => write!(f, "idle {conns}"),
            Self::Idle { conns, spoken: true } => write!(f, "idle {conns} spoken"),
        }
    }
}

/// A size as people write it.
pub(crate) fn bytes(size: usize) -> String {
    if size >= 1024 && size.is_multiple_of(1024) {
        format!("{}KiB", size / 1024)
    } else {
        format!("{size}B")
    }
}

/// An engine in a cell.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// The engine, and how it serves if that differs.
    pub(crate) label: String,
    pub(crate) engine: &'static Engine,
    /// In how many pieces it puts an answer.
    pub(crate) puts: usize,
    /// The wire format of nodes.
    #[cfg_attr(not(feature = "cluster"), expect(dead_code, reason = "there are no nodes"))]
    pub(crate) format: &'static str,
    /// The label of the contender that its figures are divided by.
    pub(crate) baseline: Option<String>,
}

/// Wire formats of nodes; every backend is measured with the first one.
const FORMATS: [&str; 4] = ["binary", "protobuf", "msgpack", "json"];

/// Bytes of a small message.
pub(crate) const SMALL: usize = 64;

/// Who takes part in a cell. `named` are chosen engines, as they were written; without them the default ones.
pub(crate) fn contenders(work: Work, named: &[String], usable: &[&'static Engine]) -> Vec<Contender> {
    let chosen: Vec<(String, &'static Engine)> = if named.is_empty() {
        let fit = usable.iter().filter(|engine| is_meant(work, engine));
        let fit = fit.filter(|engine| spins_where_it_matters(work, engine));
        fit.map(|engine| (engine.name.to_owned(), *engine)).collect()
    } else {
        let found = named.iter().filter_map(|name| {
            let engine = crate::engines::find(name)?;
            Some((name.clone(), engine))
        });
        found.collect()
    };
    if let Work::Frames { .. } = work {
        let ours = chosen.into_iter().filter(|(_, engine)| engine.family == Family::Kraft);
        return ours.flat_map(|(name, engine)| frames(&name, engine)).collect();
    }
    if work.is_of_clusters() {
        return clusters(chosen, named.is_empty());
    }
    let labels: Vec<String> = chosen.iter().map(|(name, _)| name.clone()).collect();
    let contenders = chosen.into_iter().map(|(label, engine)| {
        // A second entry of an engine is held against the first: they should not differ.
        let own = label.contains('#').then(|| engine.name.to_owned());
        let baseline = own.or_else(|| engine.baseline.map(str::to_owned));
        Contender {
            baseline: baseline.filter(|baseline| labels.contains(baseline)),
            label,
            engine,
            puts: 1,
            format: FORMATS[0],
        }
    });
    contenders.collect()
}

/// Who was not named takes no part where he could only say that it is not for him.
fn is_meant(work: Work, engine: &Engine) -> bool {
    match engine.nature {
        Nature::Loop => !work.is_of_cores(),
        Nature::Core => work.is_of_cores(),
        Nature::Cluster => work.is_of_clusters(),
    }
}

/// A spinning server is another answer to few connections; with many it has no time to spin. Idle connections and an
/// open loop would only show that it spins.
fn spins_where_it_matters(work: Work, engine: &Engine) -> bool {
    let few = |work| {
        matches!(
            work,
            Work::Echo { conns: 1, .. } | Work::PingPong { .. } | Work::Wake { flood: false }
        )
    };
    !engine.is_spinning() || few(work)
}

/// What another program's nodes are spoken to by.
const FOREIGN: &str = "gRPC";

/// Every backend with the first format, the first backend with every format, then other programs. Loops that are no backend
/// are there if they were named, to say that they are not.
fn clusters(mut chosen: Vec<(String, &'static Engine)>, only_nodes: bool) -> Vec<Contender> {
    chosen.sort_by_key(|(_, engine)| engine.nature == Nature::Cluster);
    let label = |name: &str, format: &str| format!("{name}, {format}");
    let is_backend =
        |engine: &Engine| engine.family == Family::Kraft && engine.nature == Nature::Loop && !engine.is_spinning();
    // What others are held against.
    let first = chosen.iter().find(|(_, engine)| is_backend(engine));
    let first = first.map(|(name, _)| (name.clone(), label(name, FORMATS[0])));
    let mut all: Vec<Contender> = Vec::new();
    for (name, engine) in chosen {
        if engine.nature == Nature::Cluster {
            all.push(Contender {
                label: label(&name, FOREIGN),
                engine,
                puts: 1,
                format: FOREIGN,
                baseline: first.as_ref().map(|(_, label)| label.clone()),
            });
            continue;
        }
        if only_nodes && !is_backend(engine) {
            continue;
        }
        let is_first = first.as_ref().is_some_and(|(first, _)| *first == name);
        let formats = if is_first { &FORMATS[..] } else { &FORMATS[..1] };
        for &format in formats {
            let own = label(&name, format);
            let baseline = first.as_ref().map(|(_, label)| label.clone());
            all.push(Contender {
                baseline: baseline.filter(|baseline| *baseline != own),
                label: own,
                engine,
                puts: 1,
                format,
            });
        }
    }
    all
}

fn frames(name: &str, engine: &'static Engine) -> [Contender; 2] {
    let one = format!("{name}, 1 put");
    let many = Contender {
        label: format!("{name}, {FRAMES} puts"),
        engine,
        puts: FRAMES,
        format: FORMATS[0],
        baseline: Some(one.clone()),
    };
    let one = Contender {
        label: one,
        engine,
        puts: 1,
        format: FORMATS[0],
        baseline: None,
    };
    [one, many]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::{REFERENCE, find};

    #[test]
    fn cells_are_named_as_the_filter_finds_them() {
        let work = Work::Echo {
            conns: 64,
            size: 1024,
            depth: 16,
        };
        assert_eq!(work.to_string(), "echo 1KiBx64 16 deep");
        let work = Work::Echo {
            conns: 1,
            size: 100,
            depth: 1,
        };
        assert_eq!(work.to_string(), "echo 100Bx1");
    }

    #[test]
    fn baselines_that_do_not_take_part_are_none() {
        let work = Work::Echo {
            conns: 64,
            size: 64,
            depth: 1,
        };
        let alone = contenders(work, &["raw-threads".into()], &[]);
        assert_eq!(alone[0].baseline, None);
        let both = contenders(work, &["raw-threads".into(), REFERENCE.into()], &[]);
        assert_eq!(both[0].baseline.as_deref(), Some(REFERENCE));
    }

    #[test]
    fn a_second_entry_is_held_against_the_first() {
        let work = Work::Idle {
            conns: 1,
            spoken: false,
        };
        let twice = contenders(work, &["raw-threads".into(), "raw-threads#2".into()], &[]);
        assert_eq!(twice[1].baseline.as_deref(), Some("raw-threads"));
    }

    #[test]
    fn backends_and_formats_are_compared_with_the_first() {
        let usable: Vec<_> = ["epoll", "epoll+spin", "threads", REFERENCE]
            .into_iter()
            .filter_map(find)
            .collect();
        let pairs = |all: Vec<Contender>| -> Vec<(String, Option<String>)> {
            all.into_iter().map(|one| (one.label, one.baseline)).collect()
        };
        let first = || Some("epoll, binary".to_owned());
        assert_eq!(
            pairs(contenders(Work::KillLeader, &[], &usable)),
            [
                ("epoll, binary".to_owned(), None),
                ("epoll, protobuf".to_owned(), first()),
                ("epoll, msgpack".to_owned(), first()),
                ("epoll, json".to_owned(), first()),
                ("threads, binary".to_owned(), first()),
            ]
        );
        let named = contenders(Work::KillLeader, &[REFERENCE.to_owned()], &usable);
        assert_eq!(pairs(named), [(format!("{REFERENCE}, binary"), None)]);
    }

    #[test]
    fn who_is_no_backend_is_no_baseline_of_nodes() {
        let named = [REFERENCE, "etcd", "threads+spin", "threads", "epoll"].map(str::to_owned);
        let pace = Pace::Closed { clients: 1 };
        let all = contenders(Work::Cluster { ask: Ask::Put, pace }, &named, &[]);
        let labels: Vec<&str> = all.iter().map(|one| one.label.as_str()).collect();
        let (no_node, spinning) = (format!("{REFERENCE}, binary"), "threads+spin, binary");
        let of_threads = ["binary", "protobuf", "msgpack", "json"].map(|format| format!("threads, {format}"));
        let mut expected: Vec<&str> = vec![&no_node, spinning];
        expected.extend(of_threads.iter().map(String::as_str));
        expected.extend(["epoll, binary", "etcd, gRPC"]);
        assert_eq!(labels, expected);
        for one in &all {
            let is_first = one.label == "threads, binary";
            assert_eq!(
                one.baseline.as_deref(),
                (!is_first).then_some("threads, binary"),
                "{}",
                one.label
            );
        }
    }

    #[test]
    fn other_programs_are_held_against_the_first_backend() {
        let pairs = |named: &[&str]| -> Vec<(String, Option<String>)> {
            let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
            let pace = Pace::Closed { clients: 1 };
            let all = contenders(Work::Cluster { ask: Ask::Put, pace }, &named, &[]);
            all.into_iter().map(|one| (one.label, one.baseline)).collect()
        };
        let both = pairs(&["etcd", "threads"]);
        assert_eq!(both[0], ("threads, binary".to_owned(), None));
        let first = Some("threads, binary".to_owned());
        assert_eq!(both.last(), Some(&("etcd, gRPC".to_owned(), first)));
        assert_eq!(pairs(&["etcd"]), [("etcd, gRPC".to_owned(), None)]);
    }

    #[test]
    fn cores_and_loops_are_kept_apart_unless_they_are_named() {
        let usable: Vec<_> = ["threads", "kraft-core", "etcd"].into_iter().filter_map(find).collect();
        let labels = |work| -> Vec<String> {
            let all = contenders(work, &[], &usable);
            all.into_iter().map(|one| one.label).collect()
        };
        assert_eq!(labels(Work::Replicate { clients: 1 }), ["kraft-core"]);
        assert_eq!(labels(Work::Wake { flood: true }), ["threads"]);
        assert!(labels(Work::KillLeader).contains(&"etcd, gRPC".to_owned()));
        let pace = Pace::Closed { clients: 1 };
        let clusters = labels(Work::Cluster { ask: Ask::Get, pace });
        assert_eq!(clusters.last().map(String::as_str), Some("etcd, gRPC"), "{clusters:?}");
    }

    #[test]
    fn frames_are_a_question_to_outboxes() {
        let work = Work::Frames { conns: 1, size: 64 };
        let usable: Vec<_> = ["epoll", "epoll+spin", REFERENCE]
            .into_iter()
            .filter_map(find)
            .collect();
        let labels: Vec<_> = contenders(work, &[], &usable)
            .into_iter()
            .map(|one| one.label)
            .collect();
        assert_eq!(labels, ["epoll, 1 put", "epoll, 16 puts"]);
    }

    #[test]
    fn spinning_variants_take_part_where_connections_are_few() {
        let usable: Vec<_> = ["epoll", "epoll+spin"].into_iter().filter_map(find).collect();
        let count = |conns| {
            let (size, depth) = (64, 1);
            contenders(Work::Echo { conns, size, depth }, &[], &usable).len()
        };
        assert_eq!((count(1), count(64)), (2, 1));
    }
}
