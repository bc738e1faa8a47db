//! When messages are sent: as soon as others are answered, or when they are due.

use super::meter::{Meter, Times};
use super::{EVENTS, Figures, ReadClocks, Span};
use crate::fault::Fault;

/// The open loop gives up when so many seconds' worth of messages are on their way.
const BEHIND_SECONDS_MAX: u64 = 2;

/// Connections by number, and what is sent over them.
pub(super) trait Crowd {
    fn conns(&self) -> usize;

    /// Has a message, due at `when`, wait for the next [`flush`](Self::flush) of a connection.
    fn ask(&mut self, conn: usize, when: u64) -> Result<(), Fault>;

    /// Sends what waits, as far as the socket takes it; the rest goes with the connection's next event. It is `now`.
    fn flush(&mut self, conn: usize, now: u64) -> Result<(), Fault>;

    /// Receives and checks what is there; `answered` gets the times of each message that was answered. Returns their
    /// number.
    fn hear(&mut self, conn: usize, now: u64, answered: impl FnMut(Times)) -> Result<usize, Fault>;

    /// One wait; `ready` gets the connections that have events. Whether there are any.
    fn wait(&mut self, meter: &mut Meter, ready: &mut Vec<usize>) -> Result<bool, Fault>;
}

/// Each connection has `depth` messages on their way, and sends one for each that comes back. When the time is over the
/// answers to those that are on their way are waited for: what was late then is no less late than the others.
pub(super) fn closed(
    crowd: &mut impl Crowd,
    depth: usize,
    span: Span,
    clocks: ReadClocks<'_>,
) -> Result<Figures, Fault> {
    let mut meter = Meter::closed(span, crowd.conns(), depth);
    let mut ready = Vec::with_capacity(EVENTS);
    for conn in 0..crowd.conns() {
        let now = meter.now();
        (0..depth).try_for_each(|_| crowd.ask(conn, now))?;
        crowd.flush(conn, now)?;
    }
    let mut on_their_way = crowd.conns() * depth;
    loop {
        let is_over = meter.is_over(clocks)?;
        if is_over && on_their_way == 0 {
            return Ok(meter.figures());
        }
        let found = crowd.wait(&mut meter, &mut ready)?;
        for &conn in &ready {
            let now = meter.now();
            let count = crowd.hear(conn, now, |times| meter.note(conn, now, times))?;
            on_their_way -= count;
            if !is_over {
                (0..count).try_for_each(|_| crowd.ask(conn, now))?;
                on_their_way += count;
            }
            crowd.flush(conn, now)?;
        }
        meter.worked(found);
    }
}

/// `rate` messages a second over the connections in turn, each when it is due, however many are on their way. When the
/// time is over the answers to all that were due are waited for, so that who fell silent, or behind, is seen to be.
pub(super) fn open(crowd: &mut impl Crowd, rate: u64, span: Span, clocks: ReadClocks<'_>) -> Result<Figures, Fault> {
    let mut meter = Meter::open(span);
    let mut ready = Vec::with_capacity(EVENTS);
    let conns = crowd.conns() as u64;
    let (mut sent, mut answered) = (0_u64, 0_u64);
    loop {
        let is_over = meter.is_over(clocks)?;
        let now = meter.now();
        // What was due before the end is sent, however late.
        let due = due_by(meter.end().unwrap_or(now), rate);
        if is_over && answered == due {
            return Ok(meter.figures());
        }
        let missing = |why: &str| {
            let missing = due.saturating_sub(answered);
            Fault::Stalled(format!("{why}; {missing} of {due} messages have no answer"))
        };
        if due.saturating_sub(answered) > rate * BEHIND_SECONDS_MAX {
            return Err(missing(&format!("{rate} a second are more than it answers")));
        }
        let patience = span.patience;
        if meter.end().is_some_and(|end| now - end > patience.as_nanos() as u64) {
            let why = format!("the time was over {} s ago", patience.as_secs_f64());
            return Err(missing(&why));
        }
        // All that are due over one connection leave together.
        let first = sent;
        while sent < due {
            crowd.ask((sent % conns) as usize, due_at(sent, rate))?;
            sent += 1;
        }
        let touched = (sent - first).min(conns);
        for turn in first..first + touched {
            crowd.flush((turn % conns) as usize, meter.now())?;
        }
        let found = crowd.wait(&mut meter, &mut ready).map_err(|fault| match fault {
            Fault::Stalled(why) => missing(&why),
            fault => fault,
        })?;
        for &conn in &ready {
            let now = meter.now();
            answered += crowd.hear(conn, now, |times| meter.note(conn, now, times))? as u64;
            crowd.flush(conn, now)?;
        }
        meter.worked(found || touched > 0);
    }
}

/// Messages that are due by then: those whose [`due_at`] is not behind it, the first one from the beginning.
fn due_by(now: u64, rate: u64) -> u64 {
    let ends = (u128::from(now) + 1) * u128::from(rate);
    u64::try_from(ends.div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
}

/// When a message is due.
fn due_at(message: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(message) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use super::*;
    use crate::cli::Waiting;
    use crate::generator::{Clocks, no_answer};

    const NO_CLOCKS: ReadClocks<'static> = &Clocks::default;

    /// A server of one's own making.
    struct Made {
        conns: usize,
        /// Messages of each connection, sent and not answered.
        asked: Vec<VecDeque<Times>>,
        count: u64,
        /// Whether a connection is answered, when so many messages were asked for.
        answers: fn(meter: &Meter, conn: usize, count: u64) -> bool,
    }

    impl Made {
        fn new(conns: usize, answers: fn(&Meter, usize, u64) -> bool) -> Self {
            Self {
                conns,
                asked: vec![VecDeque::new(); conns],
                count: 0,
                answers,
            }
        }
    }

    impl Crowd for Made {
        fn conns(&self) -> usize {
            self.conns
        }

        fn ask(&mut self, conn: usize, when: u64) -> Result<(), Fault> {
            self.count += 1;
            self.asked[conn].push_back(Times::due(when));
            Ok(())
        }

        fn flush(&mut self, conn: usize, now: u64) -> Result<(), Fault> {
            self.asked[conn]
                .iter_mut()
                .for_each(|times| times.sent = times.sent.min(now));
            Ok(())
        }

        fn hear(&mut self, conn: usize, _: u64, mut answered: impl FnMut(Times)) -> Result<usize, Fault> {
            let all: Vec<Times> = self.asked[conn].drain(..).collect();
            all.iter().for_each(|times| answered(*times));
            Ok(all.len())
        }

        fn wait(&mut self, meter: &mut Meter, ready: &mut Vec<usize>) -> Result<bool, Fault> {
            let is_ready = |conn: &usize| !self.asked[*conn].is_empty() && (self.answers)(meter, *conn, self.count);
            ready.clear();
            ready.extend((0..self.conns).find(is_ready));
            meter.waited(!ready.is_empty(), Waiting::Spin);
            no_answer(meter, !ready.is_empty())?;
            Ok(!ready.is_empty())
        }
    }

    const RATE: u64 = 10_000;

    const SPAN: Span = Span {
        warm_up: Duration::from_millis(10),
        measured: Duration::from_millis(50),
        patience: Duration::from_millis(500),
        turns_min: 0,
        is_slice: false,
    };

    /// As many as are due in the measured span, but for one at its edges.
    const MEASURED: u64 = RATE / 20 - 1;

    #[test]
    fn answers_that_come_when_the_time_is_over_count_from_when_they_were_due() {
        // When the first has come that counts no other does before the time is over.
        let mut made = Made::new(3, |meter, _, _| meter.messages() == 0 || !meter.is_measuring());
        let figures = open(&mut made, RATE, SPAN, NO_CLOCKS).expect("all is answered in the end");
        let due = figures.latency.len();
        assert!(
            due >= MEASURED && figures.messages < due,
            "{} of {due}",
            figures.messages
        );
        let service = figures.service.expect("an open loop takes it");
        assert_eq!(service.len(), due);
    }

    #[test]
    fn a_message_leaves_when_it_is_due_and_not_an_interval_later() {
        for rate in [1, 3, 500, 2_000, 99_991, 10_000_000] {
            for now in [
                0,
                1,
                499_999,
                500_000,
                500_001,
                999_999_999,
                1_000_000_000,
                77_777_777_777,
            ] {
                let due = due_by(now, rate);
                let (last, next) = (due_at(due - 1, rate), due_at(due, rate));
                assert!(last <= now && now < next, "{rate} a second at {now}: {last}, {next}");
            }
        }
    }

    #[test]
    fn who_falls_silent_within_a_round_has_stalled() {
        let mut made = Made::new(3, |_, _, count| count < RATE / 50);
        let fault = open(&mut made, RATE, SPAN, NO_CLOCKS).expect_err("it stops");
        let Fault::Stalled(what) = &fault else {
            panic!("{fault}");
        };
        assert!(what.starts_with("no answer for 0.5 s; "), "{what}");
        assert!(what.ends_with(" messages have no answer"), "{what}");
    }

    #[test]
    fn who_answers_some_connections_alone_has_stalled() {
        let mut made = Made::new(3, |_, conn, _| conn > 0);
        let fault = open(&mut made, RATE, SPAN, NO_CLOCKS).expect_err("a third is never answered");
        assert!(fault.to_string().contains(" messages have no answer"), "{fault}");
        let mut made = Made::new(3, |_, conn, count| conn == 1 + count as usize % 2);
        let fault = closed(&mut made, 1, SPAN, NO_CLOCKS).expect_err("a third is never answered");
        assert!(
            fault.to_string().contains("1 of 3 connections had no answer"),
            "{fault}"
        );
    }

    #[test]
    fn who_answers_everybody_in_turn_has_done_it() {
        let mut made = Made::new(3, |meter, conn, count| {
            count % 3 == conn as u64 || meter.end().is_some()
        });
        let figures = closed(&mut made, 1, SPAN, NO_CLOCKS).expect("each has its turn");
        assert!(figures.latency.len().abs_diff(figures.messages) <= 3);
        assert!(figures.service.is_none());
        // All that was asked is answered.
        assert!(made.asked.iter().all(VecDeque::is_empty));
    }

    #[test]
    fn an_answer_that_comes_when_the_time_is_over_is_as_late_as_any() {
        // Of two one falls silent when both have been answered, until the time is over.
        let mut made = Made::new(2, |meter, conn, count| {
            let is_silent = meter.is_measuring() && meter.messages() > 4;
            conn as u64 == if is_silent { 1 } else { count % 2 } || meter.end().is_some()
        });
        let figures = closed(&mut made, 1, SPAN, NO_CLOCKS).expect("all is answered in the end");
        let least = SPAN.measured.as_nanos() as u64 / 2;
        assert!(figures.latency.max() > least, "{}", figures.latency.max());
    }
}
