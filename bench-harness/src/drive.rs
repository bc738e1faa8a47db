//! One contender's round of a cell: what is done to its server, and what that showed.

use crate::fault::Fault;
use crate::generator::{Comers, Figures, Load, ReadClocks, Span};
use crate::measure::Conditions;
use crate::plan::IDLE_SECONDS_MIN;
use crate::server::Server;
use crate::workload::{FRAMES, SMALL, Work};

/// Bytes of the message that an idle connection has exchanged, if it has spoken.
const SPOKEN_BYTES: usize = 64;

/// What a server may keep for each client that does not read. What they send at most is four times that.
const KEPT_MAX: u64 = 16 << 20;

/// Puts the load of a cell on a server that listens.
///
/// # Errors
///
/// The server did not do what it should.
pub(crate) fn drive(
    work: Work,
    server: &Server,
    conditions: &Conditions,
    clocks: ReadClocks<'_>,
) -> Result<Figures, Fault> {
    let (at, span, waiting) = (server.address, conditions.span, conditions.waiting);
    let patience = span.patience;
    match work {
        Work::Beside { idle, busy } => beside(idle, busy, server, conditions, clocks),
        Work::SlowReader { slow, busy } => slow_reader(slow, busy, server, conditions, clocks),
        Work::MultiAccept { clients } => {
            // One first, so that what a server sets up with its first connection is there.
            drop(Load::connect(at, 1, SPOKEN_BYTES, waiting, patience)?);
            Comers::new(at, clients, waiting)?.come_and_go(clients, SMALL, span, clocks)
        }
        Work::Idle { .. }
        | Work::Wake { .. }
        | Work::Timers { .. }
        | Work::Replicate { .. }
        | Work::Cluster { .. }
        | Work::KillLeader => {
            unreachable!("they have no such load")
        }
        Work::Echo { .. }
        | Work::Open { .. }
        | Work::Frames { .. }
        | Work::PingPong { .. }
        | Work::Pump { .. }
        | Work::FanOut { .. } => load(work, &mut connect(work, server, conditions)?, span, clocks),
    }
}

/// Opens the connections of a cell of which each does the same as all others.
///
/// # Errors
///
/// The server did not do what it should.
pub(crate) fn connect(work: Work, server: &Server, conditions: &Conditions) -> Result<Load, Fault> {
    let (waiting, patience) = (conditions.waiting, conditions.span.patience);
    Load::connect_to(work.job(), server.address, work.conns(), 0, waiting, patience)
}

/// Puts the load of such a cell on connections that have nothing on their way, before and behind it.
///
/// # Errors
///
/// The server did not do what it should.
pub(crate) fn load(work: Work, load: &mut Load, span: Span, clocks: ReadClocks<'_>) -> Result<Figures, Fault> {
    match work {
        Work::Echo { depth, .. } => load.closed(message(work), depth, span, clocks),
        Work::Open { rate, .. } => load.open(message(work), rate, span, clocks),
        Work::FanOut { depth, .. } => load.fan_out(message(work), depth, span, clocks),
        _ => load.closed(message(work), 1, span, clocks),
    }
}

/// Bytes of a message of such a cell.
fn message(work: Work) -> usize {
    match work {
        Work::Frames { size, .. } => size * FRAMES,
        Work::Echo { size, .. }
        | Work::Open { size, .. }
        | Work::PingPong { size }
        | Work::Pump { size, .. }
        | Work::FanOut { size, .. } => size,
        _ => unreachable!("its connections differ"),
    }
}

/// Lets connections do nothing. Bytes by which the server grew over itself without them, and the share of a core that it
/// used.
///
/// # Errors
///
/// The server did not do what it should.
pub(crate) fn idle(
    conns: usize,
    spoken: bool,
    server: &Server,
    conditions: &Conditions,
) -> Result<(Option<f64>, Option<f64>), Fault> {
    let (span, waiting) = (conditions.span, conditions.waiting);
    let connect = |count, greeting| Load::connect(server.address, count, greeting, waiting, span.patience);
    // One connection comes and goes first: what a server sets up with its first one is not what others cost.
    drop(connect(1, SPOKEN_BYTES)?);
    let before = server.resident();
    let load = connect(conns, if spoken { SPOKEN_BYTES } else { 0 })?;
    let growth = growth(before, server);
    let span = Span {
        measured: span.measured.max(IDLE_SECONDS_MIN),
        ..span
    };
    let cpu = load.idle(span, &|| server.clocks())?;
    Ok((growth, cpu.map(|cpu| cpu.as_secs_f64() / span.measured.as_secs_f64())))
}

fn growth(before: Option<u64>, server: &Server) -> Option<f64> {
    let growth = before.zip(server.resident());
    growth.map(|(before, after)| after as f64 - before as f64)
}

fn beside(
    idle: usize,
    busy: usize,
    server: &Server,
    conditions: &Conditions,
    clocks: ReadClocks<'_>,
) -> Result<Figures, Fault> {
    let (span, waiting) = (conditions.span, conditions.waiting);
    let connect = |count, greeting| Load::connect(server.address, count, greeting, waiting, span.patience);
    drop(connect(1, SPOKEN_BYTES)?);
    let before = server.resident();
    let mut idle = connect(idle, SPOKEN_BYTES)?;
    let mut busy = connect(busy, 0)?;
    let mut figures = busy.closed(SMALL, 1, span, clocks)?;
    figures.growth = growth(before, server);
    idle.see_all_alive(span)?;
    Ok(figures)
}

fn slow_reader(
    slow: usize,
    busy: usize,
    server: &Server,
    conditions: &Conditions,
    clocks: ReadClocks<'_>,
) -> Result<Figures, Fault> {
    let (span, waiting) = (conditions.span, conditions.waiting);
    let connect = |count| Load::connect(server.address, count, SPOKEN_BYTES, waiting, span.patience);
    let mut busy = connect(busy)?;
    let mut readers = connect(slow)?;
    let before = server.resident();
    readers.fill(span.patience, || server.is_runnable())?;
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
