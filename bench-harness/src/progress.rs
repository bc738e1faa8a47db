//! What a run says while it runs: its plan, and how far it is, on a terminal in one line, elsewhere in a line a cell.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::interrupt;
use crate::plan::{Plan, Planned};
use crate::workload::Work;

/// How far a run is.
#[derive(Debug)]
pub(crate) struct Progress {
    cells: usize,
    /// What the plan says of all of it, and of what is done.
    expected: Duration,
    done: Duration,
    began: Instant,
    /// When the last cell was over.
    before: Duration,
    is_silent: bool,
    is_shown: bool,
}

impl Progress {
    /// Says what is going to happen.
    pub(crate) fn new(plan: &Plan, seed: u64, is_silent: bool) -> Self {
        let expected = plan.estimate();
        if !is_silent {
            eprintln!(
                "kraft-bench: {}, {} measurements of {:?} behind {:?} of warm-up, about {}; seed {seed}",
                counted(plan.cells.len(), "cell"),
                plan.measurements(),
                rounded(plan.span.measured),
                rounded(plan.span.warm_up),
                minutes(expected)
            );
        }
        Self {
            cells: plan.cells.len(),
            expected,
            done: Duration::ZERO,
            began: Instant::now(),
            before: Duration::ZERO,
            is_silent,
            is_shown: !is_silent && io::stderr().is_terminal(),
        }
    }

    /// Who is measured.
    pub(crate) fn show(&self, cell: usize, planned: &Planned, round: usize, contender: &str) {
        if !self.is_shown {
            return;
        }
        let share = self.done.as_secs_f64() / self.expected.as_secs_f64().max(f64::MIN_POSITIVE);
        let elapsed = self.began.elapsed();
        // What the plan says, until what happened says more.
        let left = if share > 0.1 {
            elapsed.mul_f64(((1.0 - share) / share).max(0.0))
        } else {
            self.expected.saturating_sub(self.done)
        };
        // Nobody is helped by an error of the progress line.
        let _ = write!(
            io::stderr(),
            "\r\x1b[K{:3.0} %, {} left; cell {} of {}, {}: round {} of {}, {contender}",
            share * 100.0,
            minutes(left),
            cell + 1,
            self.cells,
            planned.work,
            round + 1,
            planned.rounds,
        );
    }

    /// A contender's round is over, of which the plan says that it takes so long.
    pub(crate) fn done(&mut self, expected: Duration) {
        self.done += expected;
    }

    /// The plan has changed.
    pub(crate) fn follow(&mut self, plan: &Plan) {
        (self.cells, self.expected) = (plan.cells.len(), plan.estimate());
    }

    /// A cell is over, of which the plan says that it takes so long.
    pub(crate) fn over(&mut self, cell: usize, work: Work, expected: Duration) {
        let elapsed = self.began.elapsed();
        let took = elapsed.saturating_sub(std::mem::replace(&mut self.before, elapsed));
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        } else if !self.is_silent && !interrupt::is_asked() {
            let (at, of, took, expected) = (cell + 1, self.cells, minutes(took), minutes(expected));
            let _ = writeln!(
                io::stderr(),
                "kraft-bench: cell {at} of {of}, {work}: {took} of {expected} that were planned"
            );
        }
    }
}

/// To the millisecond.
fn rounded(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// A count of things as one would say it.
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A time as one would say it.
pub(crate) fn minutes(time: Duration) -> String {
    let seconds = time.as_secs_f64().round();
    if seconds < 100.0 {
        format!("{seconds} s")
    } else {
        format!("{:.0} min", seconds / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_seconds_or_minutes() {
        assert_eq!(minutes(Duration::from_millis(51_600)), "52 s");
        assert_eq!(minutes(Duration::from_secs(1020)), "17 min");
        assert_eq!(rounded(Duration::from_micros(163_456)), Duration::from_millis(163));
    }
}
