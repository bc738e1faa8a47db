//! One contender's round of a cell: what is done to its server, and what that showed.

use std::time::Duration;

use crate::bare::clock;
use crate::cli::Waiting;
use crate::fault::Fault;
use crate::generator::{Clocks, Comers, Figures, Load, Span};
use crate::run::Sample;
use crate::server::Server;
use crate::workload::{FRAMES, SMALL, Work};

/// How long idle connections are watched at least: CPU time in ticks of 4 ms has to show.
const IDLE_SECONDS_MIN: Duration = Duration::from_secs(2);

/// Bytes of the message that an idle connection has exchanged, if it has spoken.
const SPOKEN_BYTES: usize = 64;

/// What a server may keep for each client that does not read. What they send at most is four times that.
const KEPT_MAX: u64 = 16 << 20;

/// Puts the load of a cell on a server that listens.
pub(crate) fn drive(work: Work, server: &Server, span: Span, waiting: Waiting) -> Result<Sample, Fault> {
    let own = std::process::id();
    let clocks: Clocks<'_> = &|| (server.cpu(), clock::cpu_time(own));
    let at = server.address;
    let figures = match work {
        Work::Idle { conns, spoken } => return idle(conns, spoken, server, span, waiting),
        Work::Beside { idle, busy } => beside(idle, busy, server, span, waiting, clocks),
        Work::SlowReader { slow, busy } => slow_reader(slow, busy, server, span, waiting, clocks),
        Work::MultiAccept { clients } => {
            // One first, so that what a server sets up with its first connection is there.
            drop(Load::connect(at, 1, SPOKEN_BYTES, waiting)?);
            Comers::new(at, clients, waiting)?.come_and_go(clients, SMALL, span, clocks)
        }
        Work::Wake { .. } | Work::Timers { .. } | Work::Cluster { .. } | Work::KillLeader => {
            unreachable!("they have no such server")
        }
        Work::Echo { .. }
        | Work::Open { .. }
        | Work::Frames { .. }
        | Work::PingPong { .. }
        | Work::Pump { .. }
        | Work::FanOut { .. } => {
            let mut load = Load::connect_to(work.job(), at, work.conns(), 0, waiting)?;
            match work {
                Work::Echo { size, depth, .. } => load.closed(size, depth, span, clocks),
                Work::Frames { size, .. } => load.closed(size * FRAMES, 1, span, clocks),
                Work::Open { size, rate, .. } => load.open(size, rate, span, clocks),
                Work::FanOut { size, depth, .. } => load.fan_out(size, depth, span, clocks),
                Work::PingPong { size } | Work::Pump { size, .. } => load.closed(size, 1, span, clocks),
                _ => unreachable!("the outer match has the rest"),
            }
        }
    };
    Ok(Sample::Load(figures?))
}

fn idle(conns: usize, spoken: bool, server: &Server, span: Span, waiting: Waiting) -> Result<Sample, Fault> {
    // One connection comes and goes first: what a server sets up with its first one is not what others cost.
    drop(Load::connect(server.address, 1, SPOKEN_BYTES, waiting)?);
    let before = server.resident();
    let greeting = if spoken { SPOKEN_BYTES } else { 0 };
    let load = Load::connect(server.address, conns, greeting, waiting)?;
    let growth = growth(before, server);
    let span = Span {
        measured: span.measured.max(IDLE_SECONDS_MIN),
        ..span
    };
    let cpu = load.idle(span, &|| (server.cpu(), None))?;
    Ok(Sample::Idle {
        growth,
        cpu: cpu.map(|cpu| cpu.as_secs_f64() / span.measured.as_secs_f64()),
    })
}

fn growth(before: Option<u64>, server: &Server) -> Option<f64> {
    let growth = before.zip(server.resident());
    growth.map(|(before, after)| after as f64 - before as f64)
}

fn beside(
    idle: usize,
    busy: usize,
    server: &Server,
    span: Span,
    waiting: Waiting,
    clocks: Clocks<'_>,
) -> Result<Figures, Fault> {
    drop(Load::connect(server.address, 1, SPOKEN_BYTES, waiting)?);
    let before = server.resident();
    let mut idle = Load::connect(server.address, idle, SPOKEN_BYTES, waiting)?;
    let mut busy = Load::connect(server.address, busy, 0, waiting)?;
    let mut figures = busy.closed(SMALL, 1, span, clocks)?;
    figures.growth = growth(before, server);
    idle.see_all_alive(span)?;
    Ok(figures)
}

fn slow_reader(
    slow: usize,
    busy: usize,
    server: &Server,
    span: Span,
    waiting: Waiting,
    clocks: Clocks<'_>,
) -> Result<Figures, Fault> {
    let mut busy = Load::connect(server.address, busy, SPOKEN_BYTES, waiting)?;
    let mut readers = Load::connect(server.address, slow, SPOKEN_BYTES, waiting)?;
    let before = server.resident();
    readers.fill(|| server.is_runnable())?;
    let mut figures = busy.closed(SMALL, 1, span, clocks)?;
    figures.growth = growth(before, server);
    readers.read_up(span)?;
    let most = KEPT_MAX * slow as u64;
    match figures.growth {
        Some(growth) if growth > most as f64 => Err(Fault::Grew(format!(
            "it grew by {:.0} MiB for {slow} clients that do not read, {} MiB are allowed",
            growth / f64::from(1 << 20),
            most >> 20
        ))),
        _ => Ok(figures),
    }
}
