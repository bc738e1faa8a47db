//! One contender in one round: a process of its own, connections of its own.

use std::time::Duration;

use crate::cli::Waiting;
use crate::fault::Fault;
use crate::figures::{Figure, Round};
use crate::generator::{Figures, Load, Span};
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
    load(work, &server, conditions).map_err(|fault| match (fault, server.last_words()) {
        // That its connections broke, or were refused, is no news if it is dead.
        (Fault::Closed(_) | Fault::Stalled(_) | Fault::Own(_), Some(words)) => {
            Fault::Closed(format!("the server ended: {words}"))
        }
        (fault, _) => fault,
    })
}

fn load(work: Work, server: &Server, conditions: &Conditions) -> Result<Sample, Fault> {
    let clocks = || server.clocks();
    let (span, waiting) = (conditions.span, conditions.waiting);
    let connect = |count, greeting| Load::connect(server.address, count, greeting, waiting, span.patience);
    let figures = match work {
        Work::Idle { conns, spoken } => {
            // One connection comes and goes first: what a server sets up with its first one is not what others cost.
            drop(connect(1, SPOKEN_BYTES)?);
            let before = server.resident();
            let load = connect(conns, if spoken { SPOKEN_BYTES } else { 0 })?;
            let growth = before.zip(server.resident());
            let span = Span {
                measured: span.measured.max(IDLE_SECONDS_MIN),
                ..span
            };
            let cpu = load.idle(span, &clocks)?;
            return Ok(idle(growth, cpu, span));
        }
        Work::Echo { conns, size, depth } => connect(conns, 0)?.closed(size, depth, span, &clocks),
        Work::Frames { conns, size } => connect(conns, 0)?.closed(size * FRAMES, 1, span, &clocks),
        Work::Open { conns, size, rate } => connect(conns, 0)?.open(size, rate, span, &clocks),
    };
    Ok(loaded(figures?, server.resident()))
}

fn idle(growth: Option<(u64, u64)>, cpu: Option<Duration>, span: Span) -> Sample {
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
