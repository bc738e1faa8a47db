//! What is asked of an engine: cells of workload, connections, size and depth.
//!
//! A new workload is a variant of [`Work`], its arm in each function here and in `measure`, and a name for the command line.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engines::{Engine, Family};
use crate::figures::Figure;

/// Frames of the workload `frames` that are put in a turn.
pub(crate) const FRAMES: usize = 16;

/// Bytes that a cell may have on their way at once, over all connections: both directions of the sockets hold them.
/// `net.ipv4.tcp_mem` gives TCP about 2 GiB on the machines that this is for; beyond it, it is memory that is measured.
pub(crate) const IN_FLIGHT_MAX: usize = 700 << 20;

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
    /// Connections that do nothing; those that have spoken once have used what a connection uses.
    Idle { conns: usize, spoken: bool },
}

impl Work {
    pub(crate) fn conns(self) -> usize {
        match self {
            Self::Echo { conns, .. }
            | Self::Open { conns, .. }
            | Self::Frames { conns, .. }
            | Self::Idle { conns, .. } => conns,
        }
    }

    /// Which figures are compared with the baseline's: the first is what the workload is about.
    pub(crate) fn compared(self) -> &'static [Figure] {
        match self {
            Self::Echo { .. } | Self::Frames { .. } => &[Figure::MessagesPerSecond, Figure::ServerCpuUsPerMessage],
            // The rate is given: what differs is what it costs, and how long one waits.
            Self::Open { .. } => &[Figure::ServerCpuUsPerMessage, Figure::LatencyP50Us],
            // Counts bytes over a few rounds: bounded by targets, not compared.
            Self::Idle { .. } => &[],
        }
    }

    /// Which figures its tables have.
    pub(crate) fn columns(self) -> &'static [Figure] {
        match self {
            Self::Echo { .. } | Self::Frames { .. } | Self::Open { .. } => &[
                Figure::MessagesPerSecond,
                Figure::LatencyP50Us,
                Figure::LatencyP99Us,
                Figure::LatencyP999Us,
                Figure::ServerCpuUsPerMessage,
                Figure::ContextSwitchesPerMessage,
                Figure::SyscallsPerMessage,
                Figure::ResidentBytes,
                Figure::LoadBusyShare,
            ],
            Self::Idle { .. } => &[Figure::GrowthBytes, Figure::ServerCpuShare],
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

    /// Whether its system calls are counted, in one more round.
    pub(crate) fn is_counted(self) -> bool {
        !matches!(self, Self::Idle { .. })
    }

    pub(crate) fn in_flight(self) -> usize {
        match self {
            Self::Echo { conns, size, depth } => conns * size * depth,
            Self::Frames { conns, size } => conns * size * FRAMES,
            Self::Open { .. } | Self::Idle { .. } => 0,
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
    /// The label of the contender that its figures are divided by.
    pub(crate) baseline: Option<String>,
}

/// Who takes part in a cell. `named` are chosen engines, as they were written; without them the default ones.
pub(crate) fn contenders(work: Work, named: &[String], usable: &[&'static Engine]) -> Vec<Contender> {
    let chosen: Vec<(String, &'static Engine)> = if named.is_empty() {
        let fit = usable.iter().filter(|engine| spins_where_it_matters(work, engine));
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
        }
    });
    contenders.collect()
}

/// A spinning server is another answer to few connections; with many it has no time to spin. Idle connections and an
/// open loop would only show that it spins.
fn spins_where_it_matters(work: Work, engine: &Engine) -> bool {
    !engine.is_spinning() || matches!(work, Work::Echo { conns: 1, .. })
}

fn frames(name: &str, engine: &'static Engine) -> [Contender; 2] {
    let one = format!("{name}, 1 put");
    let many = Contender {
        label: format!("{name}, {FRAMES} puts"),
        engine,
        puts: FRAMES,
        baseline: Some(one.clone()),
    };
    let one = Contender {
        label: one,
        engine,
        puts: 1,
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
