//! One contender in one round: a process of its own, connections of its own.

use std::cell::Cell;
#[cfg(target_os = "linux")]
use std::cell::OnceCell;

use hdrhistogram::Histogram;

// perf_event_open(2) is Linux's own.
#[cfg(target_os = "linux")]
use crate::bare::syscalls::{Events, Tracepoint};
use crate::cli::Waiting;
#[cfg(feature = "cluster")]
use crate::cluster;
use crate::drive;
use crate::fault::Fault;
use crate::figures::{Figure, Round, Slices};
use crate::generator::{Clocks, Figures, Span};
use crate::record::{Answers, BEYOND_MIN, Trial};
use crate::server::{self, Purpose, Server};
use crate::stats::median;
use crate::workload::{Contender, Work};

/// What all rounds of a run share.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    pub(crate) server_core: Option<usize>,
    /// The load's, and that of a second thread of a process that measures itself.
    pub(crate) own_core: Option<usize>,
    /// What clusters have.
    #[cfg(feature = "cluster")]
    pub(crate) ground: cluster::Ground,
    pub(crate) waiting: Waiting,
    pub(crate) span: Span,
}

/// What a round of one contender showed.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) figures: Round,
    /// Every answer, where there were any.
    pub(crate) answers: Option<Answers>,
    /// Every death of a leader.
    pub(crate) trials: Vec<Trial>,
    /// Of a round in slices, those figures that each slice has.
    pub(crate) slices: Slices,
}

/// Measures a round. `repeats` grows by how often it was begun again.
///
/// # Errors
///
/// The contender did not do what it should.
pub(crate) fn round(
    work: Work,
    contender: &Contender,
    conditions: &Conditions,
    repeats: &mut usize,
) -> Result<Sample, Fault> {
    #[cfg(feature = "cluster")]
    if work.is_of_clusters() {
        let (ground, span) = (&conditions.ground, conditions.span);
        let figures = cluster::measure(work, contender, ground, span, conditions.waiting, repeats)?;
        return Ok(loaded(figures));
    }
    // Without clusters nothing is begun again.
    let _ = repeats;
    if !work.job().has_connections() {
        let (core, beside) = (conditions.server_core, conditions.own_core);
        let figures = server::alone(contender, work, core, beside, conditions.span, Purpose::Times)?;
        return Ok(loaded(figures));
    }
    let mut server = Server::start(contender, work, conditions.server_core, Purpose::Times)?;
    let sample = match work {
        Work::Idle { conns, spoken } => {
            let idle = drive::idle(conns, spoken, &server, conditions);
            idle.map(|(growth, cpu)| idled(growth, cpu))
        }
        _ => drive::drive(work, &server, conditions, &|| server.clocks()).map(|mut figures| {
            figures.used.resident = server.resident();
            loaded(figures)
        }),
    };
    sample.map_err(|fault| blame(fault, &mut server))
}

/// A round that counts lasts until so many answers came for each message that is on its way. Those that are in sockets when
/// it begins and when it ends, whose cost and whose answer it does not both see, are a tenth of what it counts at most: if
/// all answers were there when it began, and none when it ended.
pub(crate) const COUNTED_TURNS: u64 = 10;

/// It lasts until so many messages came in any case. Where few are on their way at a time, and the machine is so busy that
/// hardly any comes round, those at its ends are a hundredth of the others then.
const COUNTED_MESSAGES: u64 = 200;

/// What a message takes of what is counted, in a round that shows nothing else. What nobody counts is missing.
///
/// # Errors
///
/// As [`round`].
pub(crate) fn counts(work: Work, contender: &Contender, conditions: &Conditions) -> Result<Round, Fault> {
    let (core, purpose) = (conditions.server_core, Purpose::Counts);
    if !work.job().has_connections() {
        let figures = server::alone(contender, work, core, conditions.own_core, conditions.span, purpose)?;
        return Ok(counted(&figures));
    }
    let mut server = Server::start(contender, work, core, purpose)?;
    let counters = Counters::default();
    let span = Span {
        turns_min: COUNTED_TURNS.max(COUNTED_MESSAGES / work.on_their_way().max(1) as u64),
        ..conditions.span
    };
    let conditions = Conditions {
        span,
        ..conditions.clone()
    };
    match drive::drive(work, &server, &conditions, &|| counters.read(&server)) {
        Ok(figures) => Ok(counted(&figures)),
        Err(fault) => Err(blame(fault, &mut server)),
    }
}

fn counted(figures: &Figures) -> Round {
    let each = |count: Option<u64>| Some(count? as f64 / figures.messages as f64);
    let used = &figures.used;
    told([
        (Figure::SyscallsPerMessage, each(used.syscalls)),
        (
            Figure::CompletionsPerMessage,
            // Who has no ring has no completions.
            each(used.completions.filter(|count| *count > 0)),
        ),
        (Figure::AllocationsPerMessage, each(used.allocations)),
    ])
}

/// The counters of a server.
#[derive(Default)]
struct Counters {
    /// How often they were read.
    readings: Cell<u32>,
    /// The kernel's. Threads come with connections, so these are made in the first reading, before the warm-up: all are
    /// there by then. To make them takes milliseconds, to read them microseconds.
    #[cfg(target_os = "linux")]
    events: OnceCell<[Option<Events>; 2]>,
}

impl Counters {
    /// What it takes to ask the server for its allocations is not among its system calls: those are read last where
    /// counting begins, and first where it ends.
    fn read(&self, server: &Server) -> Clocks {
        let is_end = self.readings.replace(self.readings.get() + 1) >= 2;
        let rest = || Clocks {
            allocations: server.allocations(),
            ..server.clocks()
        };
        let (rest, [syscalls, completions]) = if is_end {
            let kernels = self.kernels(server);
            (rest(), kernels)
        } else {
            (rest(), self.kernels(server))
        };
        Clocks {
            syscalls,
            completions,
            ..rest
        }
    }

    /// System calls, and what rings told.
    #[cfg(target_os = "linux")]
    fn kernels(&self, server: &Server) -> [Option<u64>; 2] {
        let events = self
            .events
            .get_or_init(|| [Tracepoint::Syscall, Tracepoint::Completion].map(|what| server.count(what)));
        events.each_ref().map(|events| events.as_ref()?.read())
    }

    /// Elsewhere the kernel counts nothing for us.
    #[cfg(not(target_os = "linux"))]
    fn kernels(&self, _: &Server) -> [Option<u64>; 2] {
        [None; 2]
    }
}

/// Whose fault it was.
pub(crate) fn blame(fault: Fault, server: &mut Server) -> Fault {
    match (fault, server.last_words()) {
        // That its connections broke, or were refused, is no news if it is dead.
        (Fault::Closed(_) | Fault::Stalled(_) | Fault::Own(_), Some(words)) => {
            Fault::Closed(format!("the server ended: {words}"))
        }
        (fault, _) => fault,
    }
}

fn idled(growth: Option<f64>, cpu: Option<f64>) -> Sample {
    let figures = [(Figure::GrowthBytes, growth), (Figure::ServerCpuShare, cpu)];
    Sample {
        figures: told(figures),
        answers: None,
        trials: Vec::new(),
        slices: Slices::new(),
    }
}

pub(crate) fn loaded(all: Figures) -> Sample {
    Sample {
        figures: figures(&all),
        answers: Answers::of(all.since, all.elapsed, &all.latency),
        trials: all.trials,
        slices: Slices::new(),
    }
}

/// What a load's figures are for a message, or for a second.
pub(crate) fn figures(figures: &Figures) -> Round {
    let elapsed = figures.elapsed.as_secs_f64();
    let messages = figures.messages as f64;
    let of = |times: &Histogram<u64>, quantile: f64| {
        let is_known = times.len() as f64 * (1.0 - quantile) >= BEYOND_MIN;
        is_known.then(|| times.value_at_quantile(quantile) as f64 / 1000.0)
    };
    let latency = |quantile| of(&figures.latency, quantile);
    let service = |quantile| of(figures.service.as_ref()?, quantile);
    let trials = |of: fn(&Trial) -> f64| median(figures.trials.iter().map(of));
    let (server, own) = (figures.used.server, figures.used.own);
    let all = [
        (Figure::MessagesPerSecond, Some(figures.rate())),
        (Figure::LatencyP50Us, latency(0.5)),
        (Figure::LatencyP99Us, latency(0.99)),
        (Figure::LatencyP999Us, latency(0.999)),
        (Figure::ServiceP50Us, service(0.5)),
        (Figure::ServiceP99Us, service(0.99)),
        (Figure::DetectedMs, trials(|trial| trial.detected_ms)),
        (Figure::ElectedMs, trials(|trial| trial.elected_ms)),
        (Figure::FirstWriteMs, trials(|trial| trial.first_write_ms)),
        (
            Figure::ServerCpuUsPerMessage,
            server.map(|cpu| cpu.as_secs_f64() * 1e6 / messages),
        ),
        (Figure::ServerCpuShare, server.map(|cpu| cpu.as_secs_f64() / elapsed)),
        (
            Figure::ContextSwitchesPerMessage,
            figures.used.switches.map(|switches| switches.count as f64 / messages),
        ),
        (Figure::GrowthBytes, figures.growth),
        (Figure::ResidentBytes, figures.used.resident.map(|bytes| bytes as f64)),
        // Who measures himself has no load.
        (Figure::LoadBusyShare, Some(figures.busy).filter(|busy| *busy > 0.0)),
        (Figure::LoadCpuShare, own.map(|cpu| cpu.as_secs_f64() / elapsed)),
    ];
    told(all)
}

/// Those that are known.
fn told<const COUNT: usize>(figures: [(Figure, Option<f64>); COUNT]) -> Round {
    let known = figures.into_iter().filter_map(|(figure, value)| Some((figure, value?)));
    known.collect()
}
