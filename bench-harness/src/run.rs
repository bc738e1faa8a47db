//! A run: every cell, in rounds, with all contenders of a cell in each.

use std::io::{self, IsTerminal, Write};

use crate::cli::{Run, Waiting};
#[cfg(feature = "cluster")]
use crate::cluster;
use crate::drive::drive;
use crate::engines::{self, Engine};
use crate::fault::Fault;
use crate::generator::{Figures, Span};
use crate::machine::Machine;
use crate::pin;
use crate::schedule;
use crate::server::{self, Server};
use crate::workload::{self, Contender, Work};

/// Rounds of the idle workload: it counts bytes, and those do not vary as times do.
const IDLE_ROUNDS_MAX: usize = 3;

/// What a round of one contender showed.
#[derive(Clone, Debug)]
pub(crate) enum Sample {
    Load(Figures),
    Idle {
        /// Bytes by which the server grew over itself without connections.
        growth: Option<f64>,
        /// The share of a core that it used.
        cpu: Option<f64>,
    },
}

/// A contender's rounds in a cell.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) contender: Contender,
    /// `None` for rounds that it has no figures of.
    pub(crate) rounds: Vec<Option<Sample>>,
    /// Why it has no more.
    pub(crate) fault: Option<Fault>,
}

/// A cell with all that was found.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) work: Work,
    pub(crate) rows: Vec<Row>,
}

/// All that was found.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) waiting: Waiting,
    pub(crate) cells: Vec<Cell>,
    /// Cells that were not run, and why.
    pub(crate) left_out: Vec<String>,
}

/// What all rounds of a run share.
struct Conditions {
    server_core: Option<usize>,
    own_core: Option<usize>,
    #[cfg(feature = "cluster")]
    ground: cluster::Ground,
    waiting: Waiting,
    span: Span,
}

/// Runs all that was asked for.
///
/// # Errors
///
/// Nothing can be measured at all: too few open files, no such cell. What goes wrong with an engine is in its row.
pub(crate) fn run(options: &Run) -> io::Result<Results> {
    let machine = Machine::look();
    let (works, left_out) = workload::cells(options);
    let Some(most) = works.iter().map(|work| work.conns()).max() else {
        let text = "no cell is left to run: --filter takes a part of a name such as `echo 64Bx1000`";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    pin::raise_open_files(most)?;
    let (server_core, own_core) = match machine.cores[..] {
        [first, second, ..] => (Some(first), Some(second)),
        [only] => (Some(only), Some(only)),
        [] => (None, None),
    };
    if let Some(core) = own_core {
        pin::to_core(core)?;
    }
    for warning in machine.warnings() {
        eprintln!("kraft-bench: warning: {warning}");
    }
    let shared = server_core == own_core;
    let conditions = Conditions {
        server_core,
        own_core,
        #[cfg(feature = "cluster")]
        ground: cluster::Ground {
            core: server_core,
            data: options.data.clone(),
        },
        waiting: options
            .generator
            .unwrap_or(if shared { Waiting::Block } else { Waiting::Spin }),
        span: Span {
            warm_up: options.seconds / 4,
            measured: options.seconds,
        },
    };
    let usable: Vec<&'static Engine> = engines::all().filter(|engine| engine.is_default()).collect();
    let mut refused: Vec<(&'static str, Fault)> = Vec::new();
    let mut cells = Vec::new();
    for (at, &work) in works.iter().enumerate() {
        let contenders = workload::contenders(work, &options.engines, &usable);
        let progress = Progress::new(work, at + 1, works.len());
        cells.push(cell(
            work,
            contenders,
            options.rounds,
            &conditions,
            &mut refused,
            &progress,
        ));
    }
    Ok(Results {
        machine,
        waiting: conditions.waiting,
        cells,
        left_out,
    })
}

fn cell(
    work: Work,
    contenders: Vec<Contender>,
    rounds: usize,
    conditions: &Conditions,
    refused: &mut Vec<(&'static str, Fault)>,
    progress: &Progress,
) -> Cell {
    let rounds = match work {
        Work::Idle { .. } => rounds.min(IDLE_ROUNDS_MAX),
        _ => rounds,
    };
    let rows = contenders.into_iter().map(|contender| {
        let known = refused.iter().find(|(name, _)| *name == contender.engine.name);
        let lacks = contender.engine.answers(work).err().map(Fault::Lacks);
        Row {
            fault: lacks.or_else(|| known.map(|(_, fault)| fault.clone())),
            contender,
            rounds: vec![None; rounds],
        }
    });
    let mut rows: Vec<Row> = rows.collect();
    for round in 0..rounds {
        for at in schedule::order(rows.len(), round) {
            let row = &mut rows[at];
            if row.fault.is_some() {
                continue;
            }
            progress.show(round + 1, rounds, &row.contender.label);
            match measure(work, &row.contender, conditions) {
                Ok(sample) => row.rounds[round] = Some(sample),
                Err(fault) => {
                    if let Fault::Refused(_) = fault {
                        refused.push((row.contender.engine.name, fault.clone()));
                    }
                    row.fault = Some(fault);
                }
            }
        }
    }
    progress.clear();
    Cell { work, rows }
}

/// One contender in one round: a process of its own, connections of its own.
fn measure(work: Work, contender: &Contender, conditions: &Conditions) -> Result<Sample, Fault> {
    #[cfg(feature = "cluster")]
    if work.is_of_clusters() {
        let (ground, span) = (&conditions.ground, conditions.span);
        return cluster::measure(work, contender, ground, span, conditions.waiting);
    }
    if !work.job().has_connections() {
        let span = conditions.span;
        return server::alone(contender, work, conditions.server_core, conditions.own_core, span).map(Sample::Load);
    }
    let mut server = Server::start(contender, work, conditions.server_core)?;
    drive(work, &server, conditions.span, conditions.waiting).map_err(|fault| match (fault, server.last_words()) {
        // That its connections broke is no news if it is dead.
        (Fault::Closed(_) | Fault::Stalled(_), Some(words)) => Fault::Closed(format!("the server ended: {words}")),
        (fault, _) => fault,
    })
}

/// A line on a terminal that says how far the run is.
struct Progress {
    title: String,
    is_shown: bool,
}

impl Progress {
    fn new(work: Work, cell: usize, cells: usize) -> Self {
        Self {
            title: format!("cell {cell} of {cells}, {work}"),
            is_shown: io::stderr().is_terminal(),
        }
    }

    fn show(&self, round: usize, rounds: usize, label: &str) {
        if self.is_shown {
            // Nobody is helped by an error of the progress line.
            let _ = write!(
                io::stderr(),
                "\r\x1b[K{}: round {round} of {rounds}, {label}",
                self.title
            );
        }
    }

    fn clear(&self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
