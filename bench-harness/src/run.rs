//! A run: every cell, in rounds, with all contenders of a cell in each.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::bare::clock;
use crate::cli::{Run, Waiting};
use crate::engines::{self, Engine};
use crate::fault::Fault;
use crate::generator::{Figures, Load, Span};
use crate::machine::Machine;
use crate::pin;
use crate::schedule;
use crate::server::Server;
use crate::workload::{self, Contender, FRAMES, Work};

/// Rounds of the idle workload: it counts bytes, and those do not vary as times do.
const IDLE_ROUNDS_MAX: usize = 3;

/// How long idle connections are watched at least: CPU time in ticks of 4 ms has to show.
const IDLE_SECONDS_MIN: Duration = Duration::from_secs(2);

/// Bytes of the message that an idle connection has exchanged, if it has spoken.
const SPOKEN_BYTES: usize = 64;

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
        Row {
            fault: known.map(|(_, fault)| fault.clone()),
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
    let mut server = Server::start(contender, work.conns(), conditions.server_core)?;
    load(work, &server, conditions).map_err(|fault| match (fault, server.last_words()) {
        // That its connections broke is no news if it is dead.
        (Fault::Closed(_) | Fault::Stalled(_), Some(words)) => Fault::Closed(format!("the server ended: {words}")),
        (fault, _) => fault,
    })
}

fn load(work: Work, server: &Server, conditions: &Conditions) -> Result<Sample, Fault> {
    let own = std::process::id();
    let clocks = || (server.cpu(), clock::cpu_time(own));
    let (span, waiting) = (conditions.span, conditions.waiting);
    if let Work::Idle { conns, spoken } = work {
        // One connection comes and goes first: what a server sets up with its first one is not what others cost.
        drop(Load::connect(server.address, 1, SPOKEN_BYTES, waiting)?);
        let before = server.resident();
        let greeting = if spoken { SPOKEN_BYTES } else { 0 };
        let load = Load::connect(server.address, conns, greeting, waiting)?;
        let growth = before.zip(server.resident());
        let span = Span {
            measured: span.measured.max(IDLE_SECONDS_MIN),
            ..span
        };
        let cpu = load.idle(span, &clocks)?;
        return Ok(Sample::Idle {
            growth: growth.map(|(before, after)| after as f64 - before as f64),
            cpu: cpu.map(|cpu| cpu.as_secs_f64() / span.measured.as_secs_f64()),
        });
    }
    let mut load = Load::connect(server.address, work.conns(), 0, waiting)?;
    let figures = match work {
        Work::Echo { size, depth, .. } => load.closed(size, depth, span, &clocks),
        Work::Frames { size, .. } => load.closed(size * FRAMES, 1, span, &clocks),
        Work::Open { size, rate, .. } => load.open(size, rate, span, &clocks),
        Work::Idle { .. } => unreachable!("it has returned"),
    };
    Ok(Sample::Load(figures?))
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
