//! The clock of a load, and what it counts while it is measured.

use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;

use super::shares::Shares;
use super::{Clocks, Figures, ReadClocks, Span};
use crate::cli::Waiting;
use crate::fault::Fault;
use crate::interrupt;

/// Since when a message is on its way, in nanoseconds of the load's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// When it was to be sent.
    pub(super) due: u64,
    /// When the socket was given the last of it, and of all before it; [`UNSENT`] until then.
    pub(super) sent: u64,
}

/// What is not known to be sent.
pub(super) const UNSENT: u64 = u64::MAX;

impl Times {
    pub(super) fn due(due: u64) -> Self {
        Self { due, sent: UNSENT }
    }
}

/// Which answers a histogram has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// Those that come while it is measured, whenever their messages were sent.
    Came,
    /// Those to messages that were due while it was measured, however late they come.
    Due,
}

/// The clock of a load, and what it counts while it is measured.
pub(super) struct Meter {
    origin: Instant,
    pub(super) span: Span,
    /// Answers that belong to the warm-up, however long it takes, but for one's patience: as many as messages are on their
    /// way in a closed loop.
    warm_up_messages: u64,
    /// Whether the clocks were read before the warm-up.
    is_primed: bool,
    /// When measuring began: in nanoseconds behind the origin, in the world's time, and by the clocks of that moment.
    began: Option<(u64, SystemTime, Clocks)>,
    /// When it ended, and what there was by then; latencies come with [`figures`](Self::figures).
    ended: Option<(u64, Figures)>,
    messages: u64,
    kept: Kept,
    /// Whether it begins and ends with an answer, so that as many are counted as there were times between answers: what
    /// comes in bursts would be a burst more or less otherwise.
    is_in_phase: bool,
    /// Whether some came since it was asked whether it is over.
    is_fresh: bool,
    latency: Histogram<u64>,
    service: Option<Histogram<u64>>,
    shares: Shares,
    /// When the last wait or work ended, and how long waits found nothing.
    last: u64,
    idle: u64,
    /// When the last bytes came.
    heard: u64,
}

fn histogram() -> Histogram<u64> {
    // Three digits from 100 ns to a minute.
    Histogram::new_with_bounds(100, 60_000_000_000, 3).expect("the bounds are in order")
}

impl Meter {
    pub(super) fn new(span: Span, warm_up_messages: u64) -> Self {
        Self {
            origin: Instant::now(),
            span,
            warm_up_messages,
            is_primed: false,
            began: None,
            ended: None,
            messages: 0,
            kept: Kept::Came,
            is_in_phase: false,
            is_fresh: false,
            latency: histogram(),
            service: None,
            shares: Shares::of_nobody(),
            last: 0,
            idle: 0,
            heard: 0,
        }
    }

    /// Of clients that come again when they are answered, of which some are on their way when it ends.
    pub(super) fn coming(span: Span, clients: usize) -> Self {
        Self {
            shares: Shares::new(clients, 1),
            ..Self::new(span, clients as u64)
        }
    }

    /// Of connections that each have `depth` messages on their way. As many answers come before it counts: first
    /// messages touch memory for the first time.
    pub(super) fn closed(span: Span, conns: usize, depth: usize) -> Self {
        Self {
            shares: Shares::new(conns, depth),
            ..Self::of_one(span, conns * depth)
        }
    }

    /// Of one connection, or of many that are no others' rivals, with so many messages on their way.
    pub(super) fn of_one(span: Span, depth: usize) -> Self {
        Self {
            kept: Kept::Due,
            is_in_phase: true,
            ..Self::new(span, depth as u64)
        }
    }

    /// Of messages that are sent when they are due.
    pub(super) fn open(span: Span) -> Self {
        Self {
            kept: Kept::Due,
            service: Some(histogram()),
            ..Self::new(span, 0)
        }
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Begins and ends what is measured. Whether it has ended, and every connection has had its share.
    pub(super) fn is_over(&mut self, clocks: ReadClocks<'_>) -> Result<bool, Fault> {
        self.look()?;
        if self.ended.is_some() {
            return self.are_had();
        }
        if !self.is_primed {
            // Who makes counters in the first reading takes milliseconds for it, and answers pile up meanwhile whose cost
            // would be missing.
            clocks();
            self.is_primed = true;
        }
        let now = self.last;
        let is_phase = std::mem::take(&mut self.is_fresh) || !self.is_in_phase;
        let Some((began, since, before)) = self.began else {
            let passed = Duration::from_nanos(now);
            let is_warm = self.messages >= self.warm_up_messages && is_phase || passed >= self.span.patience;
            if passed >= self.span.warm_up && is_warm {
                let used = clocks();
                (self.messages, self.idle) = (0, 0);
                if self.kept == Kept::Came {
                    self.latency.reset();
                }
                self.shares.reset();
                self.last = self.now();
                self.began = Some((self.last, SystemTime::now(), used));
            }
            return Ok(false);
        };
        let elapsed = Duration::from_nanos(now - began);
        let has_enough = self.messages >= self.warm_up_messages * self.span.turns_min && is_phase;
        let has_enough = has_enough || elapsed >= self.span.patience;
        // On a crowded machine a short span may pass without an answer; one that never comes ends in `wait`.
        if elapsed < self.span.measured || self.messages == 0 || !has_enough {
            return Ok(false);
        }
        let figures = Figures {
            messages: self.messages,
            elapsed,
            latency: Histogram::new(1).expect("one digit is allowed"),
            service: None,
            since,
            used: clocks().since(before),
            busy: 1.0 - Duration::from_nanos(self.idle).as_secs_f64() / elapsed.as_secs_f64(),
            growth: None,
            trials: Vec::new(),
        };
        self.ended = Some((now, figures));
        self.are_had()
    }

    /// Whether every connection has had its share, where each has one.
    fn are_had(&mut self) -> Result<bool, Fault> {
        if self.span.is_slice {
            return Ok(true);
        }
        let began = self.began.as_ref().map_or(0, |(began, ..)| *began);
        self.shares
            .are_had(Duration::from_nanos(self.last.saturating_sub(began)))
    }

    /// When the measured span ended, if it has.
    pub(super) fn end(&self) -> Option<u64> {
        self.ended.as_ref().map(|(at, _)| *at)
    }

    /// Whether what comes is measured.
    #[cfg(test)]
    pub(super) fn is_measuring(&self) -> bool {
        self.began.is_some() && self.ended.is_none()
    }

    /// Answers that came so far, in the warm-up or behind it.
    #[cfg(test)]
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether it may go on.
    pub(super) fn look(&self) -> Result<(), Fault> {
        if interrupt::is_asked() {
            return Err(Fault::Interrupted);
        }
        let end = self.span.end();
        if Duration::from_nanos(self.last) > end {
            return Err(Fault::Stalled(format!("not through after {:.1} s", end.as_secs_f64())));
        }
        Ok(())
    }

    /// A wait has ended. One that found something at once was work; who sleeps until there is something had nothing to do.
    pub(super) fn waited(&mut self, found: bool, waiting: Waiting) {
        if !found || waiting == Waiting::Block {
            let now = self.now();
            self.idle += now - self.last;
            self.last = now;
        }
    }

    /// A turn has ended.
    pub(super) fn worked(&mut self, worked: bool) {
        if worked {
            self.last = self.now();
        }
    }

    /// Something came at `now`.
    pub(super) fn hear(&mut self, now: u64) {
        self.heard = now;
    }

    /// The connection `conn` got the answer to a message at `now`.
    pub(super) fn note(&mut self, conn: usize, now: u64, times: Times) {
        self.heard = now;
        self.is_fresh = true;
        self.shares.add(conn);
        if self.ended.is_none() {
            self.messages += 1;
        }
        let is_kept = match (self.kept, self.began) {
            (Kept::Came, _) => self.ended.is_none(),
            (Kept::Due, Some((began, ..))) => times.due >= began && self.end().is_none_or(|end| times.due <= end),
            (Kept::Due, None) => false,
        };
        if is_kept {
            self.latency.saturating_record(now.saturating_sub(times.due));
            if let Some(service) = &mut self.service {
                // Of what a socket took while there was more behind it nobody knows when that was: not before it was due.
                let sent = if times.sent == UNSENT { times.due } else { times.sent };
                service.saturating_record(now.saturating_sub(sent));
            }
        }
    }

    /// How long nothing came.
    pub(super) fn silence(&self) -> Duration {
        Duration::from_nanos(self.last.saturating_sub(self.heard))
    }

    pub(super) fn figures(self) -> Figures {
        let (_, figures) = self.ended.expect("a load asks for its figures when it is over");
        Figures {
            latency: self.latency,
            service: self.service,
            ..figures
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_CLOCKS: ReadClocks<'static> = &Clocks::default;

    const AT_ONCE: Span = Span {
        warm_up: Duration::ZERO,
        measured: Duration::ZERO,
        patience: Duration::from_secs(10),
        turns_min: 0,
        is_slice: false,
    };

    fn is_over(meter: &mut Meter) -> bool {
        meter.is_over(NO_CLOCKS).expect("it is in time")
    }

    #[test]
    fn the_warm_up_lasts_until_all_came_round() {
        let mut meter = Meter::new(AT_ONCE, 2);
        meter.note(0, 10, Times::due(0));
        assert!(!is_over(&mut meter) && meter.began.is_none());
        meter.note(0, 20, Times::due(0));
        assert!(!is_over(&mut meter) && meter.began.is_some());
        // What came before does not count.
        let now = meter.now();
        meter.note(0, now, Times::due(now));
        meter.worked(true);
        assert!(is_over(&mut meter));
        assert_eq!(meter.figures().messages, 1);
    }

    #[test]
    fn a_span_that_counts_lasts_until_what_is_on_its_way_is_a_small_share_of_it() {
        let span = Span {
            turns_min: 3,
            ..AT_ONCE
        };
        let mut meter = Meter::closed(span, 2, 1);
        let mut answers = 0;
        while !is_over(&mut meter) {
            answers += u64::from(meter.is_measuring());
            let now = meter.now();
            meter.note(answers as usize % 2, now, Times::due(now));
            meter.worked(true);
        }
        assert_eq!((answers, meter.figures().messages), (2 * 3, 2 * 3));
        // Nobody waits for them longer than for an answer.
        let mut meter = Meter::closed(span, 1, 1);
        meter.note(0, 0, Times::due(0));
        assert!(!is_over(&mut meter) && meter.is_measuring());
        meter.note(0, 0, Times::due(0));
        assert!(!is_over(&mut meter));
        meter.last += 11_000_000_000;
        assert!(is_over(&mut meter));
    }

    #[test]
    fn clocks_are_read_before_the_warm_up_and_at_both_ends() {
        let reads = std::cell::Cell::new(0);
        let clocks = || {
            reads.set(reads.get() + 1);
            Clocks::default()
        };
        let mut meter = Meter::new(AT_ONCE, 1);
        assert!(!meter.is_over(&clocks).expect("it is in time"));
        assert!(reads.get() == 1 && !meter.is_measuring());
        meter.note(0, 0, Times::due(0));
        assert!(!meter.is_over(&clocks).expect("it is in time"));
        assert!(reads.get() == 2 && meter.is_measuring());
        meter.note(0, 0, Times::due(0));
        assert!(meter.is_over(&clocks).expect("it is in time"));
        assert_eq!(reads.get(), 3);
    }

    #[test]
    fn a_span_without_an_answer_is_not_over() {
        let mut meter = Meter::new(AT_ONCE, 0);
        for _ in 0..3 {
            meter.worked(true);
            assert!(!is_over(&mut meter));
        }
        meter.note(0, 0, Times::due(0));
        assert!(is_over(&mut meter));
    }

    #[test]
    fn a_load_that_sleeps_until_it_is_woken_is_not_busy() {
        for (waiting, found, is_idle) in [
            (Waiting::Spin, true, false),
            (Waiting::Spin, false, true),
            (Waiting::Block, true, true),
            (Waiting::Block, false, true),
        ] {
            let mut meter = Meter::new(AT_ONCE, 0);
            while meter.now() == 0 {}
            meter.waited(found, waiting);
            assert_eq!(meter.idle > 0, is_idle, "{waiting:?}, {found}");
        }
    }

    #[test]
    fn a_round_without_an_end_is_given_up() {
        let mut meter = Meter::new(AT_ONCE, 0);
        meter.last = 21_000_000_000;
        let fault = meter.is_over(NO_CLOCKS).expect_err("20 s are over");
        assert_eq!(fault, Fault::Stalled("not through after 20.0 s".into()));
    }

    #[test]
    fn what_is_sent_late_is_late_and_was_not_long_in_service() {
        let mut meter = Meter::open(AT_ONCE);
        assert!(!is_over(&mut meter) && meter.began.is_some());
        let due = meter.now();
        let (sent, now) = (due + 2_000_000, due + 2_500_000);
        // What was due before it began is an answer like any other, and no latency of this span.
        meter.note(0, now, Times { due: 0, sent });
        meter.note(0, now, Times { due, sent });
        meter.worked(true);
        assert!(is_over(&mut meter));
        // One that comes when the time is over is one that was due within.
        meter.note(0, now, Times { due, sent });
        let figures = meter.figures();
        let (latency, service) = (figures.latency, figures.service.expect("an open loop takes it"));
        assert_eq!((figures.messages, latency.len(), service.len()), (2, 2, 2));
        let near = |histogram: &Histogram<u64>, nanos: u64| {
            let found = histogram.value_at_quantile(0.5);
            assert!(found.abs_diff(nanos) <= nanos / 1000, "{found} for {nanos}");
        };
        near(&latency, 2_500_000);
        near(&service, 500_000);
    }

    #[test]
    fn what_is_answered_before_it_is_known_to_be_sent_was_in_service_since_it_was_due() {
        let mut meter = Meter::open(AT_ONCE);
        assert!(!is_over(&mut meter));
        let due = meter.now();
        meter.note(0, due + 2_000_000, Times::due(due));
        meter.worked(true);
        assert!(is_over(&mut meter));
        let service = meter.figures().service.expect("an open loop takes it");
        assert!(service.min() >= 1_990_000, "{}", service.min());
    }
}
