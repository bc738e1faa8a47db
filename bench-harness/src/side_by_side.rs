//! A round of all contenders of a cell at once: their servers stand side by side, and the load goes from one to the next.
//!
//! A machine that is shared is faster and slower by turns, and by more than engines differ. Rounds of one contender behind
//! the other's compare such moods; slices of a few milliseconds, in turn, have the same mood for all, and what disturbs one of
//! them is one of many. Who is not asked has answered everything and sleeps, so it takes nothing from who is.

use std::hint;
use std::time::{Duration, Instant};

use crate::drive;
use crate::fault::Fault;
use crate::figures::{Figure, Slices};
use crate::generator::{Clocks, Figures, Load, Span};
use crate::measure::{self, Conditions, Sample};
use crate::server::{Purpose, Server};
use crate::stats::median;
use crate::workload::{Contender, Work};

/// A slice of a round, at least. The shorter, the more alike is what the next contender meets; but each has its warm-up.
const SLICE_MIN: Duration = Duration::from_millis(5);

/// And so many turns of what is on its way at once.
const TURNS_MIN: u32 = 2;

/// What the others have left in caches is gone by then, and all messages came round once.
const SLICE_WARM_UP: Duration = Duration::from_millis(1);

/// By then a server that has answered everything is asleep, even if it spins before. The clock of a process is exact only
/// then: the kernel adds what runs on another core at its next tick, which is a slice away.
const REST: Duration = Duration::from_micros(100);

/// Counters and tables of a slice are made anew.
const PREPARATION: Duration = Duration::from_millis(1);

/// Connections of all servers of a round together, at most: every engine with a thousand.
pub(crate) const CONNS_MAX: usize = 18_000;

/// Slices of a round that measures so long; `None` of a workload whose connections are not set up for that: they come and
/// go, or are very many, or do not answer.
pub(crate) fn slices(work: Work, measured: Duration) -> Option<u32> {
    let is_able = matches!(
        work,
        Work::Echo { .. }
            | Work::Open { .. }
            | Work::Frames { .. }
            | Work::PingPong { .. }
            | Work::Pump { .. }
            | Work::FanOut { .. }
    );
    let slice = SLICE_MIN.max(work.turn() * TURNS_MIN);
    is_able.then(|| (measured.as_nanos() / slice.as_nanos()).clamp(1, u128::from(u32::MAX)) as u32)
}

/// What so many slices take besides what they measure: each its warm-up, and until all is answered and at rest; and once
/// more of each before the first.
pub(crate) fn between(work: Work, slices: u32) -> Duration {
    // Who has a thread for each connection takes three times as long as others do, and is one in four.
    let turn = work.turn() * 3 / 2;
    (PREPARATION + SLICE_WARM_UP.max(turn) + turn + REST) * slices + 2 * turn
}

/// A contender in a round, warm and at rest.
#[derive(Debug)]
pub(crate) struct Seat {
    work: Work,
    server: Server,
    load: Load,
    /// Of a slice.
    span: Span,
    /// All slices so far together, and each.
    all: Option<Figures>,
    slices: Slices,
    /// When the first slice began.
    before: Clocks,
    answered: u64,
}

impl Seat {
    /// Starts a server with its connections, and warms it up.
    ///
    /// # Errors
    ///
    /// The contender did not do what it should.
    pub(crate) fn take(work: Work, contender: &Contender, conditions: &Conditions, slices: u32) -> Result<Self, Fault> {
        let mut server = Server::start(contender, work, conditions.server_core, Purpose::Times)?;
        let span = conditions.span;
        let begun = drive::connect(work, &server, conditions).and_then(|mut load| {
            let warm_up = Span {
                warm_up: Duration::ZERO,
                measured: span.warm_up,
                ..span
            };
            drive::load(work, &mut load, warm_up, &Clocks::default)?;
            drive::settle(work, &mut load, warm_up)?;
            rest();
            Ok(load)
        });
        let load = begun.map_err(|fault| measure::blame(fault, &mut server))?;
        Ok(Self {
            work,
            before: server.clocks(),
            answered: load.answered(),
            server,
            load,
            span: Span {
                warm_up: SLICE_WARM_UP,
                measured: span.measured / slices,
                ..span
            },
            all: None,
            slices: Slices::new(),
        })
    }

    /// Measures a slice; behind it nothing is on its way.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub(crate) fn slice(&mut self) -> Result<(), Fault> {
        let Self { work, server, load, .. } = self;
        let (began, before, answered) = (Instant::now(), server.cpu(), load.answered());
        let slice = drive::load(*work, load, self.span, &Clocks::default);
        let settled = slice.and_then(|figures| drive::settle(*work, load, self.span).map(|()| figures));
        let mut figures = settled.map_err(|fault| measure::blame(fault, server))?;
        rest();
        let used = server.cpu().since(before);
        // Of what the server used from rest to rest, the share of the messages that are measured; of the load, of the time.
        let messages = figures.messages as f64 / (load.answered() - answered) as f64;
        let time = figures.elapsed.as_secs_f64() / began.elapsed().as_secs_f64();
        figures.used.server = used.server.map(|cpu| cpu.mul_f64(messages));
        figures.used.own = used.own.map(|cpu| cpu.mul_f64(time));
        for figure in [Figure::MessagesPerSecond, Figure::ServerCpuUsPerMessage] {
            let value = measure::figures(&figures).get(&figure).copied();
            self.slices
                .entry(figure)
                .or_default()
                .extend(value.map(|value| value as f32));
        }
        self.all = Some(match self.all.take() {
            Some(all) => all.and(figures),
            None => figures,
        });
        Ok(())
    }

    /// What the round showed; `None` if it had no slice.
    pub(crate) fn leave(self) -> Option<Sample> {
        let answered = self.load.answered() - self.answered;
        let used = self.server.clocks().since(self.before);
        let rates = self.slices.get(&Figure::MessagesPerSecond);
        let rate = median(rates?.iter().copied().map(f64::from));
        let mut all = self.all?;
        all.used.resident = self.server.resident();
        let mut sample = measure::loaded(all);
        sample.slices = self.slices;
        // What disturbs the machine for a while disturbs some of the slices; answers that came late are late in any case.
        sample
            .figures
            .extend(rate.map(|rate| (Figure::MessagesPerSecond, rate)));
        // Counted at rest, over all that was answered: to count them takes as long as a slice.
        let switches = used.switches.filter(|_| answered > 0);
        let each = switches.map(|switches| switches.count as f64 / answered as f64);
        sample
            .figures
            .extend(each.map(|each| (Figure::ContextSwitchesPerMessage, each)));
        Some(sample)
    }
}

/// Waits awake: the load's core stays as it is.
fn rest() {
    let began = Instant::now();
    while began.elapsed() < REST {
        hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_as_many_slices_as_it_has_time_for() {
        let echo = |conns| Work::Echo {
            conns,
            size: 64,
            depth: 1,
        };
        let of = |work, milliseconds| slices(work, Duration::from_millis(milliseconds));
        assert_eq!(of(echo(64), 61), Some(12));
        assert_eq!(of(echo(64), 1), Some(1));
        // What is on its way comes round twice at least.
        assert_eq!(of(echo(1_000), 61), Some(3));
        // Their connections come and go, or do different things.
        assert_eq!(of(Work::MultiAccept { clients: 64 }, 61), None);
        assert_eq!(of(Work::Beside { idle: 9, busy: 1 }, 61), None);
        assert!(between(echo(1_000), 3) > 6 * echo(1_000).turn());
    }
}
