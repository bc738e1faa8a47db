//! A round of all contenders of a cell at once: their servers stand side by side, and the load goes from one to the next.
//!
//! A machine that is shared is faster and slower by turns, and by more than engines differ. Rounds of one contender behind
//! the other's compare such moods; slices of a few milliseconds, in turn, have much of the mood in common, and what disturbs
//! one of them is one of many. Who is not asked has answered everything and sleeps, or is no contender any more.

use std::hint;
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::Waiting;
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

/// What the others have left in caches is gone by then; as many answers came as are on their way in any case.
const SLICE_WARM_UP: Duration = Duration::from_millis(1);

/// Each is in the document.
const SLICES_MAX: u128 = 100;

/// By then a server that has answered everything is asleep, even if it spins before. The clock of a process is exact only
/// then: the kernel adds what runs on another core at its next tick, which is a slice away.
const REST: Duration = Duration::from_micros(100);

/// What a slice takes besides, nearly: tables of latencies are made, cleared and added up.
const PREPARATION: Duration = Duration::from_millis(1);

/// A server may use this share of a core while nothing is asked of it. More of it others would pay for.
const UNASKED_MAX: f64 = 0.05;

/// In less time than this a tick of the kernel's clock would look like that.
const UNASKED_LONG: Duration = Duration::from_millis(200);

/// Connections of all servers of a round together, at most: every engine with a thousand, below the 20,000 open files that
/// many systems allow.
pub(crate) const CONNS_MAX: usize = 18_000;

/// Slices of a round that measures so long; `None` of a workload whose connections come and go, or differ. An open loop has
/// one: what a stall holds up is due for as long as it lasts, and the next slice would begin without it.
pub(crate) fn slices(work: Work, measured: Duration) -> Option<u32> {
    match work {
        Work::Open { .. } => Some(1),
        Work::Echo { .. } | Work::Frames { .. } | Work::PingPong { .. } | Work::Pump { .. } | Work::FanOut { .. } => {
            let slice = SLICE_MIN.max(work.turn() * TURNS_MIN);
            Some((measured.as_nanos() / slice.as_nanos()).clamp(1, SLICES_MAX) as u32)
        }
        _ => None,
    }
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
    waiting: Waiting,
    /// Of a slice.
    span: Span,
    /// All slices so far together, and each.
    all: Option<Figures>,
    slices: Slices,
    /// When the first slice began.
    before: Clocks,
    answered: u64,
    /// When it came to rest.
    rested: (Instant, Clocks),
    /// How long nothing was asked of it, and the CPU time that it used meanwhile.
    unasked: [Duration; 2],
    /// What its slices may take together yet.
    patience: Duration,
}

impl Seat {
    /// Starts a server with its connections, and warms it up.
    ///
    /// # Errors
    ///
    /// The contender did not do what it should.
    pub(crate) fn take(work: Work, contender: &Contender, conditions: &Conditions, slices: u32) -> Result<Self, Fault> {
        let mut server = Server::start(contender, work, conditions.server_core, Purpose::Times)?;
        let (span, waiting) = (conditions.span, conditions.waiting);
        let begun = drive::connect(work, &server, conditions).and_then(|mut load| {
            let warm_up = Span {
                warm_up: Duration::ZERO,
                measured: span.warm_up,
                ..span
            };
            drive::load(work, &mut load, warm_up, &Clocks::default)?;
            Ok(load)
        });
        let load = begun.map_err(|fault| measure::blame(fault, &mut server))?;
        rest(waiting);
        let before = server.clocks();
        Ok(Self {
            work,
            answered: load.answered(),
            rested: (Instant::now(), before),
            before,
            server,
            load,
            waiting,
            span: Span {
                warm_up: SLICE_WARM_UP,
                measured: span.measured / slices,
                is_slice: slices > 1,
                ..span
            },
            all: None,
            slices: Slices::new(),
            unasked: [Duration::ZERO; 2],
            patience: span.end(),
        })
    }

    /// Measures a slice; behind it nothing is on its way.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub(crate) fn slice(&mut self) -> Result<(), Fault> {
        let (began, before, answered) = (Instant::now(), self.server.cpu(), self.load.answered());
        self.look_back(began, before)?;
        let slice = drive::load(self.work, &mut self.load, self.span, &Clocks::default);
        let mut figures = slice.map_err(|fault| measure::blame(fault, &mut self.server))?;
        rest(self.waiting);
        let after = self.server.cpu();
        self.rested = (Instant::now(), after);
        let (used, took) = (after.since(before), began.elapsed());
        self.patience = self.patience.checked_sub(took).ok_or_else(|| {
            let end = self.span.patience.as_secs_f64();
            Fault::Stalled(format!(
                "its slices take far longer than they should, with {end} s of patience"
            ))
        })?;
        // Of what the server used from rest to rest, the share of the messages that are measured; of the load, of the time.
        let messages = figures.messages as f64 / (self.load.answered() - answered) as f64;
        let time = figures.elapsed.as_secs_f64() / took.as_secs_f64();
        figures.used.server = used.server.map(|cpu| cpu.mul_f64(messages));
        figures.used.own = used.own.map(|cpu| cpu.mul_f64(time));
        for figure in [Figure::MessagesPerSecond, Figure::ServerCpuUsPerMessage] {
            let value = measure::figures(&figures).get(&figure).copied();
            // Where nobody tells, of no slice.
            if let Some(value) = value {
                self.slices.entry(figure).or_default().push(value as f32);
            }
        }
        self.all = Some(match self.all.take() {
            Some(all) => all.and(figures),
            None => figures,
        });
        Ok(())
    }

    /// Whether it was at rest since it came to it.
    fn look_back(&mut self, now: Instant, clocks: Clocks) -> Result<(), Fault> {
        let (since, rested) = self.rested;
        let [unasked, used] = &mut self.unasked;
        *unasked += now.duration_since(since);
        *used += clocks.since(rested).server.unwrap_or_default();
        let share = used.as_secs_f64() / unasked.as_secs_f64();
        if *unasked > UNASKED_LONG && share > UNASKED_MAX {
            let share = share * 100.0;
            let text =
                format!("it uses {share:.0} % of its core while nothing is asked of it, for which others would pay");
            return Err(Fault::Own(format!("{text}: measure it alone (--engines)")));
        }
        Ok(())
    }

    /// What the round showed; `None` if it had no slice.
    pub(crate) fn leave(mut self) -> Option<Sample> {
        let answered = self.load.answered() - self.answered;
        let used = self.server.clocks().since(self.before);
        let mut all = self.all?;
        all.used.resident = self.server.resident();
        let mut sample = measure::loaded(all);
        let count = |values: &Vec<f32>| values.len();
        let slices = self.slices.get(&Figure::MessagesPerSecond).map(count)?;
        self.slices.retain(|_, values| values.len() == slices);
        // What disturbs the machine for a while disturbs some of the slices.
        let rates = self.slices.get(&Figure::MessagesPerSecond)?;
        let rate = median(rates.iter().copied().map(f64::from));
        sample
            .figures
            .extend(rate.map(|rate| (Figure::MessagesPerSecond, rate)));
        // Counted at rest, over all that was answered: to count them takes as long as a slice.
        let switches = used.switches.filter(|_| answered > 0);
        let each = switches.map(|switches| switches.count as f64 / answered as f64);
        let each = each.map(|each| (Figure::ContextSwitchesPerMessage, each));
        sample.figures.extend(each);
        sample.slices = self.slices;
        Some(sample)
    }
}

/// Lets the server come to rest. Where the load has a core of its own it stays awake, as it is when it measures.
fn rest(waiting: Waiting) {
    match waiting {
        Waiting::Block => thread::sleep(REST),
        Waiting::Spin => {
            let began = Instant::now();
            while began.elapsed() < REST {
                hint::spin_loop();
            }
        }
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
        assert_eq!(of(echo(1_000), 2), Some(1));
        assert_eq!(of(echo(64), 100_000), Some(100));
        // Its stalls are not cut short.
        let (conns, size, rate) = (64, 64, 100_000);
        assert_eq!(of(Work::Open { conns, size, rate }, 61), Some(1));
        // Their connections come and go, or do different things.
        assert_eq!(of(Work::MultiAccept { clients: 64 }, 61), None);
        assert_eq!(of(Work::Beside { idle: 9, busy: 1 }, 61), None);
        assert!(between(echo(1_000), 3) > 6 * echo(1_000).turn());
    }
}
