//! What the project asks of its backends, and what a run says to it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engines::REFERENCE;
use crate::figures::Figure;
use crate::record::{Cell, Row};
use crate::stats::{Judge, Ratio, VALUES_MIN, median};
use crate::workload::{FRAMES, Work};

/// Something that is asked for in some cells.
#[derive(Debug)]
struct Target {
    contender: String,
    /// What it is divided by; `None` if its own value is bounded.
    baseline: Option<String>,
    figure: Figure,
    bound: Bound,
    cells: Cells,
}

/// Which cells a target is asked of.
type Cells = fn(Work) -> bool;

/// On which side of a value a figure is to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// What is said to a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The whole interval is on the right side.
    Shown,
    /// The interval reaches the target; one end of it does not.
    Reached,
    /// The interval does not reach it.
    Missed,
    /// The rounds do not say.
    NotShown(String),
}

/// A target in a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Judged {
    pub(crate) what: String,
    pub(crate) work: Work,
    pub(crate) figure: Figure,
    pub(crate) bound: Bound,
    /// The ratio, or the value itself where there is no baseline.
    pub(crate) found: Option<Ratio>,
    /// The CPU time of a message beside the throughput.
    pub(crate) cpu: Option<Ratio>,
    pub(crate) outcome: Outcome,
}

/// An interval that is wider than this share of its middle reaches almost anything.
const WIDTH_MAX: f64 = 0.2;

const TOO_WIDE: &str = "the rounds differ too much";

const MIB: f64 = 1024.0 * 1024.0;

/// "No CPU": a thousandth of a core, which a tick's error in two seconds is.
const NO_CPU: f64 = 0.001;

/// A lone wake may take 1.1 times as long as by a bare eventfd.
const WAKE: f64 = 1.0 / 1.1;

/// 50 ns each.
const WAKES_IN_A_FLOOD: f64 = 20e6;

/// Started and stopped in 20 ns.
const TIMERS: f64 = 50e6;

fn echo(work: Work) -> bool {
    matches!(work, Work::Echo { depth: 1, .. })
}

fn targets() -> Vec<Target> {
    let mut all = Vec::new();
    let mut ask = |contender: &str, baseline: Option<&str>, figure, bound, cells| {
        all.push(Target {
            contender: contender.into(),
            baseline: baseline.map(str::to_owned),
            figure,
            bound,
            cells,
        });
    };
    ask(
        "epoll",
        Some(REFERENCE),
        Figure::MessagesPerSecond,
        Bound::AtLeast(0.97),
        echo,
    );
    ask(
        "epoll",
        Some(REFERENCE),
        Figure::ServerCpuUsPerMessage,
        Bound::AtMost(1.05),
        echo,
    );
    let uring: [(f64, Cells); 4] = [
        (1.07, |work| {
            matches!(
                work,
                Work::Echo {
                    conns: 64,
                    size: ..=1024,
                    depth: 1
                }
            )
        }),
        (1.00, |work| {
            matches!(
                work,
                Work::Echo {
                    conns: 64,
                    size: 16_384,
                    depth: 1
                }
            )
        }),
        (0.97, |work| {
            matches!(
                work,
                Work::Echo {
                    conns: 64,
                    size: 65_536,
                    depth: 1
                }
            )
        }),
        (0.98, |work| {
            matches!(
                work,
                Work::Echo {
                    conns: 1_000 | 10_000,
                    size: ..=1024,
                    depth: 1
                }
            )
        }),
    ];
    for (least, cells) in uring {
        ask(
            "io-uring",
            Some(REFERENCE),
            Figure::MessagesPerSecond,
            Bound::AtLeast(least),
            cells,
        );
    }
    let over_tokio: [(f64, Cells); 2] = [
        (1.10, |work| {
            matches!(
                work,
                Work::Echo {
                    conns: 64,
                    size: ..=1024,
                    depth: 1
                }
            )
        }),
        (1.12, |work| {
            matches!(
                work,
                Work::Echo {
                    conns: 10_000,
                    size: ..=1024,
                    depth: 1
                }
            )
        }),
    ];
    for (least, cells) in over_tokio {
        let rate = Figure::MessagesPerSecond;
        ask("io-uring", Some("tokio"), rate, Bound::AtLeast(least), cells);
    }
    let at_100_000 = |work| matches!(work, Work::Open { rate: 100_000, .. });
    ask(
        "io-uring",
        Some(REFERENCE),
        Figure::ServerCpuUsPerMessage,
        Bound::AtMost(1.05),
        at_100_000,
    );
    ask(
        "libuv",
        Some("raw-libuv"),
        Figure::MessagesPerSecond,
        Bound::AtLeast(0.97),
        echo,
    );
    ask(
        "threads",
        Some("raw-readers"),
        Figure::MessagesPerSecond,
        Bound::AtLeast(0.95),
        echo,
    );
    let backends = ["epoll", "io-uring", "kqueue", "threads", "libuv"];
    for backend in backends {
        let (many, one) = (format!("{backend}, {FRAMES} puts"), format!("{backend}, 1 put"));
        let frames = |work| matches!(work, Work::Frames { .. });
        ask(
            &many,
            Some(&one),
            Figure::MessagesPerSecond,
            Bound::AtLeast(0.95),
            frames,
        );
        let lone = |work| {
            matches!(
                work,
                Work::Echo {
                    conns: 1,
                    size: 64,
                    depth: 1
                }
            )
        };
        ask(
            &format!("{backend}+spin"),
            Some(backend),
            Figure::MessagesPerSecond,
            Bound::AtLeast(3.0),
            lone,
        );
    }
    for backend in ["epoll", "io-uring"] {
        let (alone, flood) = (
            |work| matches!(work, Work::Wake { flood: false }),
            |work| matches!(work, Work::Wake { flood: true }),
        );
        let rate = Figure::MessagesPerSecond;
        ask(backend, Some(REFERENCE), rate, Bound::AtLeast(WAKE), alone);
        ask(backend, None, rate, Bound::AtLeast(WAKES_IN_A_FLOOD), flood);
        let churn = |work| matches!(work, Work::Timers { expire: false });
        ask(backend, None, rate, Bound::AtLeast(TIMERS), churn);
        let idle = |work| {
            matches!(
                work,
                Work::Idle {
                    conns: 8_000..=10_000,
                    ..
                }
            )
        };
        ask(backend, None, Figure::GrowthBytes, Bound::AtMost(10.0 * MIB), idle);
        ask(backend, None, Figure::ServerCpuShare, Bound::AtMost(NO_CPU), idle);
    }
    all
}

/// Every target that the cells of a run can be held against.
pub(crate) fn judge(cells: &[Cell], judge: Judge) -> Vec<Judged> {
    let mut judged = Vec::new();
    for target in targets() {
        for cell in cells.iter().filter(|cell| (target.cells)(cell.work)) {
            judged.extend(target.judge(cell, judge));
        }
    }
    judged
}

impl Target {
    /// `None` if its contender or its baseline did not take part.
    fn judge(&self, cell: &Cell, judge: Judge) -> Option<Judged> {
        let row = cell.row(&self.contender)?;
        let (what, found, cpu, bound_by_load) = match &self.baseline {
            None => (self.contender.clone(), self.alone(row), None, false),
            Some(baseline) => {
                let other = cell.row(baseline)?;
                let ratio = |figure| judge.of(&row.ratios(other, figure));
                let both_bound = row.load_bound && other.load_bound;
                let bound_by_load = both_bound && self.figure == Figure::MessagesPerSecond;
                let what = format!("{} / {baseline}", self.contender);
                (
                    what,
                    ratio(self.figure),
                    ratio(Figure::ServerCpuUsPerMessage),
                    bound_by_load,
                )
            }
        };
        let outcome = match (&row.fault, &found) {
            (Some(_), _) => Outcome::NotShown("it failed".into()),
            (None, None) => Outcome::NotShown("no round has both".into()),
            // Rounds of idle connections are few and count bytes: there the worst of them decides.
            (None, Some(_)) if self.baseline.is_none() => self.worst(row),
            // A miss is one even so: the load hides differences, it makes none.
            (None, Some(found)) => match (self.bound.outcome(found), bound_by_load) {
                (Outcome::Shown | Outcome::Reached, true) => Outcome::NotShown("the load was the limit".into()),
                (outcome, _) => outcome,
            },
        };
        Some(Judged {
            what,
            work: cell.work,
            figure: self.figure,
            bound: self.bound,
            found,
            cpu,
            outcome,
        })
    }

    /// The value itself, for what is not compared but bounded.
    fn alone(&self, row: &Row) -> Option<Ratio> {
        let values = row.values(self.figure);
        Some(Ratio {
            ratio: median(values.iter().copied())?,
            interval: None,
            corrected: None,
            rounds: values.len(),
        })
    }

    fn worst(&self, row: &Row) -> Outcome {
        let mut values = row.values(self.figure).into_iter();
        if values.all(|value| self.bound.holds(value)) {
            Outcome::Shown
        } else {
            Outcome::Missed
        }
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn outcome(self, found: &Ratio) -> Outcome {
        let Some(interval) = found.interval else {
            let is_unbounded = found.rounds >= VALUES_MIN;
            return Outcome::NotShown(if is_unbounded { TOO_WIDE } else { "too few rounds" }.into());
        };
        match (self.holds(interval.low), self.holds(interval.high)) {
            (true, true) => Outcome::Shown,
            (false, false) => Outcome::Missed,
            _ if interval.high - interval.low > WIDTH_MAX * found.ratio => Outcome::NotShown(TOO_WIDE.into()),
            _ => Outcome::Reached,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shown => f.write_str("reached, all of it"),
            Self::Reached => f.write_str("reached"),
            Self::Missed => f.write_str("missed"),
            Self::NotShown(why) => write!(f, "not shown: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Interval;

    #[track_caller]
    fn check(bound: Bound, low: f64, median: f64, high: f64, expected: Outcome) {
        let interval = Some(Interval { low, high });
        let ratio = Ratio {
            ratio: median,
            interval,
            corrected: interval,
            rounds: 11,
        };
        assert_eq!(bound.outcome(&ratio), expected);
    }

    #[test]
    fn a_target_is_reached_when_the_interval_reaches_it() {
        let least = Bound::AtLeast(0.97);
        check(least, 0.98, 1.0, 1.02, Outcome::Shown);
        check(least, 0.94, 0.96, 0.98, Outcome::Reached);
        check(least, 0.94, 0.95, 0.96, Outcome::Missed);
        let most = Bound::AtMost(1.05);
        check(most, 0.9, 1.0, 1.05, Outcome::Shown);
        check(most, 1.04, 1.06, 1.1, Outcome::Reached);
        check(most, 1.06, 1.07, 1.1, Outcome::Missed);
    }

    #[test]
    fn an_interval_that_reaches_everything_shows_nothing() {
        check(
            Bound::AtLeast(0.97),
            0.7,
            0.9,
            1.3,
            Outcome::NotShown("the rounds differ too much".into()),
        );
        // But all of it on one side does.
        check(Bound::AtLeast(3.0), 3.1, 4.0, 6.0, Outcome::Shown);
    }

    #[test]
    fn rounds_without_a_bound_are_not_too_few() {
        let ratio = Ratio {
            ratio: 1.0,
            interval: None,
            corrected: None,
            rounds: VALUES_MIN,
        };
        let outcome = Bound::AtLeast(0.5).outcome(&ratio);
        assert_eq!(outcome, Outcome::NotShown(TOO_WIDE.into()));
    }

    #[test]
    fn without_an_interval_nothing_is_shown() {
        let judge = Judge {
            seed: 1,
            comparisons: 1,
        };
        let ratio = judge.of(&[1.0, 1.1]).expect("two values");
        let outcome = Bound::AtLeast(0.5).outcome(&ratio);
        assert_eq!(outcome, Outcome::NotShown("too few rounds".into()));
    }
}
