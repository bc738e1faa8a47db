//! One contender in one round: a process of its own, connections of its own.

use hdrhistogram::Histogram;

use crate::cli::Waiting;
#[cfg(feature = "cluster")]
use crate::cluster;
use crate::drive;
use crate::fault::Fault;
use crate::figures::{Figure, Round};
use crate::generator::{Clocks, Figures, Span};
use crate::record::{Answers, BEYOND_MIN, Trial};
use crate::server::{self, Server};
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
        return Ok(loaded(figures, None));
    }
    // Without clusters nothing is begun again.
    let _ = repeats;
    if !work.job().has_connections() {
        let (core, beside) = (conditions.server_core, conditions.own_core);
        let figures = server::alone(contender, work, core, beside, conditions.span)?;
        return Ok(loaded(figures, None));
    }
    let mut server = Server::start(contender, work, conditions.server_core)?;
    let sample = match work {
        Work::Idle { conns, spoken } => {
            let idle = drive::idle(conns, spoken, &server, conditions);
            idle.map(|(growth, cpu)| idled(growth, cpu))
        }
        _ => drive::drive(work, &server, conditions, &|| server.clocks())
            .map(|figures| loaded(figures, server.resident())),
    };
    sample.map_err(|fault| blame(fault, &mut server))
}

/// How many system calls a message takes, in a round that counts for nothing else. `None` where nobody counts them.
///
/// # Errors
///
/// As [`round`].
pub(crate) fn syscalls(work: Work, contender: &Contender, conditions: &Conditions) -> Result<Option<f64>, Fault> {
    let mut server = Server::start(contender, work, conditions.server_core)?;
    // Threads come with connections, so the counter is made when the first clock is read: all are there by then.
    let counter = std::cell::OnceCell::new();
    let clocks = || {
        // Elsewhere nobody counts.
        #[cfg(target_os = "linux")]
        let count = || {
            let counter: &Option<_> = counter.get_or_init(|| server.count_syscalls());
            counter.as_ref().and_then(crate::bare::syscalls::Syscalls::read)
        };
        #[cfg(not(target_os = "linux"))]
        let count = || {
            let nobody: &Option<u64> = counter.get_or_init(|| None);
            *nobody
        };
        Clocks {
            syscalls: count(),
            ..server.clocks()
        }
    };
    match drive::drive(work, &server, conditions, &clocks) {
        Ok(figures) => {
            let messages = figures.messages as f64;
            Ok(figures.used.syscalls.map(|count| count as f64 / messages))
        }
        Err(fault) => Err(blame(fault, &mut server)),
    }
}

/// Whose fault it was.
fn blame(fault: Fault, server: &mut Server) -> Fault {
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
    }
}

fn loaded(figures: Figures, resident: Option<u64>) -> Sample {
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
        (Figure::MessagesPerSecond, Some(messages / elapsed)),
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
            figures.used.switches.map(|count| count as f64 / messages),
        ),
        (Figure::GrowthBytes, figures.growth),
        (Figure::ResidentBytes, resident.map(|bytes| bytes as f64)),
        (Figure::LoadBusyShare, Some(figures.busy)),
        (Figure::LoadCpuShare, own.map(|cpu| cpu.as_secs_f64() / elapsed)),
    ];
    Sample {
        figures: told(all),
        answers: Some((figures.since, figures.elapsed, figures.latency)),
        trials: figures.trials,
    }
}

/// Those that are known.
fn told<const COUNT: usize>(figures: [(Figure, Option<f64>); COUNT]) -> Round {
    let known = figures.into_iter().filter_map(|(figure, value)| Some((figure, value?)));
    known.collect()
}
