//! One contender in one round: a process of its own, connections of its own.

use std::time::Duration;

use crate::cli::Waiting;
use crate::fault::Fault;
use crate::figures::{Figure, Round};
use crate::generator::{Clocks, Figures, Load, ReadClocks, Span};
use crate::plan::IDLE_SECONDS_MIN;
use crate::record::{Answers, BEYOND_MIN};
use crate::server::Server;
use crate::workload::{Contender, FRAMES, Work};

/// Bytes of the message that an idle connection has exchanged, if it has spoken.
const SPOKEN_BYTES: usize = 64;

/// What all rounds of a run share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    pub(crate) server_core: Option<usize>,
    pub(crate) waiting: Waiting,
    pub(crate) span: Span,
}

/// What a round of one contender showed.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) figures: Round,
    /// Every answer, where there were any.
    pub(crate) answers: Option<Answers>,
}

/// Measures a round.
///
/// # Errors
///
/// The contender did not do what it should.
pub(crate) fn round(work: Work, contender: &Contender, conditions: &Conditions) -> Result<Sample, Fault> {
    let mut server = Server::start(contender, work.conns(), conditions.server_core)?;
    let sample = match work {
        Work::Idle { conns, spoken } => idle(conns, spoken, &server, conditions),
        _ => load(work, &server, conditions, &|| server.clocks()).map(|figures| loaded(figures, server.resident())),
    };
    sample.map_err(|fault| blame(fault, &mut server))
}

/// How many system calls a message takes, in a round that counts for nothing else. `None` where nobody counts them.
///
/// # Errors
///
/// As [`round`].
pub(crate) fn syscalls(work: Work, contender: &Contender, conditions: &Conditions) -> Result<Option<f64>, Fault> {
    let mut server = Server::start(contender, work.conns(), conditions.server_core)?;
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
    match load(work, &server, conditions, &clocks) {
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

fn load(work: Work, server: &Server, conditions: &Conditions, clocks: ReadClocks<'_>) -> Result<Figures, Fault> {
    let (span, waiting) = (conditions.span, conditions.waiting);
    let mut load = Load::connect(server.address, work.conns(), 0, waiting, span.patience)?;
    match work {
        Work::Echo { size, depth, .. } => load.closed(size, depth, span, clocks),
        Work::Frames { size, .. } => load.closed(size * FRAMES, 1, span, clocks),
        Work::Open { size, rate, .. } => load.open(size, rate, span, clocks),
        Work::Idle { .. } => unreachable!("its connections do nothing"),
    }
}

fn idle(conns: usize, spoken: bool, server: &Server, conditions: &Conditions) -> Result<Sample, Fault> {
    let (span, waiting) = (conditions.span, conditions.waiting);
    let connect = |count, greeting| Load::connect(server.address, count, greeting, waiting, span.patience);
    // One connection comes and goes first: what a server sets up with its first one is not what others cost.
    drop(connect(1, SPOKEN_BYTES)?);
    let before = server.resident();
    let load = connect(conns, if spoken { SPOKEN_BYTES } else { 0 })?;
    let growth = before.zip(server.resident());
    let span = Span {
        measured: span.measured.max(IDLE_SECONDS_MIN),
        ..span
    };
    let cpu = load.idle(span, &|| server.clocks())?;
    Ok(idled(growth, cpu, span))
}

fn idled(growth: Option<(u64, u64)>, cpu: Option<Duration>, span: Span) -> Sample {
    let growth = growth.map(|(before, after)| after as f64 - before as f64);
    let share = cpu.map(|cpu| cpu.as_secs_f64() / span.measured.as_secs_f64());
    let figures = [(Figure::GrowthBytes, growth), (Figure::ServerCpuShare, share)];
    Sample {
        figures: told(figures),
        answers: None,
    }
}

fn loaded(figures: Figures, resident: Option<u64>) -> Sample {
    let elapsed = figures.elapsed.as_secs_f64();
    let messages = figures.messages as f64;
    let latency = |quantile: f64| {
        let is_known = figures.latency.len() as f64 * (1.0 - quantile) >= BEYOND_MIN;
        is_known.then(|| figures.latency.value_at_quantile(quantile) as f64 / 1000.0)
    };
    let (server, own) = (figures.used.server, figures.used.own);
    let all = [
        (Figure::MessagesPerSecond, Some(messages / elapsed)),
        (Figure::LatencyP50Us, latency(0.5)),
        (Figure::LatencyP99Us, latency(0.99)),
        (Figure::LatencyP999Us, latency(0.999)),
        (
            Figure::ServerCpuUsPerMessage,
            server.map(|cpu| cpu.as_secs_f64() * 1e6 / messages),
        ),
        (Figure::ServerCpuShare, server.map(|cpu| cpu.as_secs_f64() / elapsed)),
        (
            Figure::ContextSwitchesPerMessage,
            figures.used.switches.map(|count| count as f64 / messages),
        ),
        (Figure::ResidentBytes, resident.map(|bytes| bytes as f64)),
        (Figure::LoadBusyShare, Some(figures.busy)),
        (Figure::LoadCpuShare, own.map(|cpu| cpu.as_secs_f64() / elapsed)),
    ];
    Sample {
        figures: told(all),
        answers: Some((figures.since, figures.elapsed, figures.latency)),
    }
}

/// Those that are known.
fn told<const COUNT: usize>(figures: [(Figure, Option<f64>); COUNT]) -> Round {
    let known = figures.into_iter().filter_map(|(figure, value)| Some((figure, value?)));
    known.collect()
}
