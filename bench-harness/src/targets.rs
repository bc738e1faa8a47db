//! What the project asks of its backends, and what a run says to it.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::engines::{Family, REFERENCE, find};
use crate::fault::Fault;
use crate::figures::{Better, Figure};
use crate::record::{Cell, Row};
use crate::stats::{Judge, Ratio, VALUES_MIN, median};
use crate::workload::{Contender, FRAMES, Work};

/// Something that is asked for in some cells.
#[derive(Debug)]
struct Target {
    contender: Cow<'static, str>,
    /// What it is divided by; `None` if its own value is bounded.
    baseline: Option<Cow<'static, str>>,
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
    /// All of so many rounds are on the right side; there is no interval, and nothing is said of further rounds.
    Held(usize),
    /// The interval does not reach it; or there is none and a round was on the wrong side.
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

/// Ten rounds and more have an interval unless they scatter beyond all bounds, or do not scatter.
const UNBOUNDED: &str = "the rounds differ too much, or not at all";

const MIB: f64 = 1024.0 * 1024.0;

/// "No CPU": a thousandth of a core, which a tick's error in two seconds is.
const NO_CPU: f64 = 0.001;

/// A lone wake may take 1.1 times as long as by a bare eventfd.
const WAKE: f64 = 1.0 / 1.1;

/// 50 ns each.
const WAKES_IN_A_FLOOD: f64 = 20e6;

/// Started and stopped in 20 ns.
const TIMERS: f64 = 50e6;

/// One is held against another.
const fn ratio(contender: &'static str, baseline: &'static str, figure: Figure, bound: Bound, cells: Cells) -> Target {
    Target {
        contender: Cow::Borrowed(contender),
        baseline: Some(Cow::Borrowed(baseline)),
        figure,
        bound,
        cells,
    }
}

/// One is bounded by itself.
const fn value(contender: &'static str, figure: Figure, bound: Bound, cells: Cells) -> Target {
    Target {
        contender: Cow::Borrowed(contender),
        baseline: None,
        figure,
        bound,
        cells,
    }
}

const RATE: Figure = Figure::MessagesPerSecond;
const CPU: Figure = Figure::ServerCpuUsPerMessage;

/// What is asked of some backends, by the loops that they are held against.
const OF_SOME: [Target; 11] = [
    ratio("epoll", REFERENCE, RATE, Bound::AtLeast(0.97), echo),
    ratio("epoll", REFERENCE, CPU, Bound::AtMost(1.05), echo),
    ratio("io-uring", REFERENCE, RATE, Bound::AtLeast(1.07), |work| {
        echoes(work, 64..=64, UP_TO_1_KIB)
    }),
    ratio("io-uring", REFERENCE, RATE, Bound::AtLeast(1.00), |work| {
        echoes(work, 64..=64, 16_384..=16_384)
    }),
    ratio("io-uring", REFERENCE, RATE, Bound::AtLeast(0.97), |work| {
        echoes(work, 64..=64, 65_536..=65_536)
    }),
    ratio("io-uring", REFERENCE, RATE, Bound::AtLeast(0.98), |work| {
        echoes(work, 1_000..=1_000, UP_TO_1_KIB) || echoes(work, 10_000..=10_000, UP_TO_1_KIB)
    }),
    ratio("io-uring", "tokio", RATE, Bound::AtLeast(1.10), |work| {
        echoes(work, 64..=64, UP_TO_1_KIB)
    }),
    ratio("io-uring", "tokio", RATE, Bound::AtLeast(1.12), |work| {
        echoes(work, 10_000..=10_000, UP_TO_1_KIB)
    }),
    ratio("io-uring", REFERENCE, CPU, Bound::AtMost(1.05), |work| {
        matches!(work, Work::Open { rate: 100_000, .. })
    }),
    ratio("libuv", "raw-libuv", RATE, Bound::AtLeast(0.97), echo),
    ratio("threads", "raw-readers", RATE, Bound::AtLeast(0.95), echo),
];

const ANY: RangeInclusive<usize> = 0..=usize::MAX;

/// Bytes of messages that are small.
const UP_TO_1_KIB: RangeInclusive<usize> = 0..=1024;

fn echo(work: Work) -> bool {
    echoes(work, ANY, ANY)
}

/// Whether it is an echo of so many connections and bytes, one message on its way on each.
fn echoes(work: Work, wanted: RangeInclusive<usize>, bytes: RangeInclusive<usize>) -> bool {
    matches!(work, Work::Echo { conns, size, depth: 1 } if wanted.contains(&conns) && bytes.contains(&size))
}

/// What is asked of each backend, by itself as it is otherwise.
fn of_each(backend: &str) -> [Target; 2] {
    let to_itself = |contender: String, baseline: String, least, cells| Target {
        contender: contender.into(),
        baseline: Some(baseline.into()),
        figure: RATE,
        bound: Bound::AtLeast(least),
        cells,
    };
    let (many, one) = (format!("{backend}, {FRAMES} puts"), format!("{backend}, 1 put"));
    [
        to_itself(many, one, 0.95, |work| matches!(work, Work::Frames { .. })),
        to_itself(format!("{backend}+spin"), backend.into(), 3.0, |work| {
            echoes(work, 1..=1, 64..=64)
        }),
    ]
}

/// What is asked of Linux's own: wakes, timers and idle connections.
const fn of_linux(backend: &'static str) -> [Target; 5] {
    [
        ratio(backend, REFERENCE, RATE, Bound::AtLeast(WAKE), |work| {
            matches!(work, Work::Wake { flood: false })
        }),
        value(backend, RATE, Bound::AtLeast(WAKES_IN_A_FLOOD), |work| {
            matches!(work, Work::Wake { flood: true })
        }),
        value(backend, RATE, Bound::AtLeast(TIMERS), |work| {
            matches!(work, Work::Timers { expire: false })
        }),
        value(backend, Figure::GrowthBytes, Bound::AtMost(10.0 * MIB), are_idle),
        value(backend, Figure::ServerCpuShare, Bound::AtMost(NO_CPU), are_idle),
    ]
}

fn are_idle(work: Work) -> bool {
    matches!(
        work,
        Work::Idle {
            conns: 8_000..=10_000,
            ..
        }
    )
}

fn targets() -> Vec<Target> {
    let backends = ["epoll", "io-uring", "kqueue", "threads", "libuv"];
    let linux = ["epoll", "io-uring"];
    OF_SOME
        .into_iter()
        .chain(backends.into_iter().flat_map(of_each))
        .chain(linux.into_iter().flat_map(of_linux))
        .collect()
}

/// How many intervals the targets of a cell add to those of its comparisons. What is compared with the same baseline
/// anyhow has one already.
pub(crate) fn intervals(work: Work, rounds: usize, contenders: &[Contender]) -> usize {
    let is_there = |label: &str| contenders.iter().any(|contender| contender.label == label);
    let is_compared = |target: &Target| {
        let mut own = contenders
            .iter()
            .filter(|contender| contender.label == target.contender);
        own.any(|own| own.baseline.as_deref() == target.baseline.as_deref()) && work.compared().contains(&target.figure)
    };
    let adds = |target: &Target| {
        let takes_part = (target.cells)(work) && is_there(&target.contender);
        takes_part
            && match &target.baseline {
                Some(baseline) => is_there(baseline) && !is_compared(target),
                None => rounds >= VALUES_MIN,
            }
    };
    targets().iter().filter(|target| adds(target)).count() + pairs_with_rivals(work, contenders)
}

/// The best backend of a cell is known afterwards: each that it may be has an interval with each rival.
fn pairs_with_rivals(work: Work, contenders: &[Contender]) -> usize {
    if against_rivals(work).is_none() {
        return 0;
    }
    let count = |is: fn(&Contender) -> bool| contenders.iter().filter(|contender| is(contender)).count();
    count(|one| is_calm(one.engine.family, one.engine.name)) * count(|one| one.engine.family == Family::Rival)
}

/// A backend of ours that does not spin: no rival does.
fn is_calm(family: Family, engine: &str) -> bool {
    family == Family::Kraft && find(engine).is_none_or(|engine| !engine.is_spinning())
}

/// No rival is to be better than our best backend at what a workload is about: there, on which side of 1 their ratio is.
fn against_rivals(work: Work) -> Option<(Figure, Bound)> {
    let figure = *work.compared().first()?;
    let bound = match figure.better()? {
        Better::More => Bound::AtLeast(1.0),
        Better::Less => Bound::AtMost(1.0),
    };
    Some((figure, bound))
}

/// Every target that the cells of a run can be held against, by intervals that hold together with all others of the run.
pub(crate) fn judge(cells: &[Cell], judge: Judge) -> Vec<Judged> {
    let mut judged = Vec::new();
    for target in targets() {
        for cell in cells.iter().filter(|cell| (target.cells)(cell.work)) {
            judged.extend(target.judge(cell, judge));
        }
    }
    judged.extend(cells.iter().flat_map(|cell| best_against_rivals(cell, judge)));
    judged
}

/// Our best backend of a cell against each rival that has the workload.
fn best_against_rivals(cell: &Cell, judge: Judge) -> Vec<Judged> {
    let Some((figure, bound)) = against_rivals(cell.work) else {
        return Vec::new();
    };
    let lacks = |row: &Row| matches!(row.fault, Some(Fault::Lacks(_)));
    let rivals = cell
        .rows
        .iter()
        .filter(|row| row.family == Family::Rival && !lacks(row));
    let ours = || cell.rows.iter().filter(|row| is_calm(row.family, &row.engine));
    let worth = |row: &Row| match (row.shown(figure), bound) {
        (Some(median), Bound::AtLeast(_)) => median,
        (Some(median), Bound::AtMost(_)) => -median,
        (None, _) => f64::NEG_INFINITY,
    };
    let judged = rivals.filter_map(|rival| {
        let best = ours().max_by(|one, other| worth(one).total_cmp(&worth(other)))?;
        let target = Target {
            contender: best.contender.clone().into(),
            baseline: Some(rival.contender.clone().into()),
            figure,
            bound,
            cells: |_| true,
        };
        let judged = target.judge(cell, judge)?;
        Some(Judged {
            what: format!("{}, our best / {}", best.contender, rival.contender),
            ..judged
        })
    });
    judged.collect()
}

impl Target {
    /// `None` if its contender or its baseline did not take part.
    fn judge(&self, cell: &Cell, judge: Judge) -> Option<Judged> {
        let row = cell.row(&self.contender)?;
        let mut failed = row.fault.as_ref().map(|_| "it failed");
        let (what, found, cpu, bound_by_load) = match &self.baseline {
            None => (self.contender.to_string(), self.alone(row, judge), None, false),
            Some(baseline) => {
                let other = cell.row(baseline)?;
                failed = failed.or_else(|| other.fault.as_ref().map(|_| "its baseline failed"));
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
        let outcome = match (failed, &found) {
            (Some(failed), _) => Outcome::NotShown(failed.into()),
            (None, None) if self.baseline.is_none() => Outcome::NotShown("no round has it".into()),
            (None, None) => Outcome::NotShown("no round has both".into()),
            // Rounds of idle connections are few and count bytes: there the worst of them decides.
            (None, Some(found)) if self.baseline.is_none() && found.corrected.is_none() => self.worst(row),
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

    /// The value itself, for what is not compared but bounded. An interval of logarithms knows nothing of a round in which
    /// it was 0, so then there is none.
    fn alone(&self, row: &Row, judge: Judge) -> Option<Ratio> {
        let values = row.values(self.figure);
        if values.iter().all(|value| *value > 0.0) {
            return judge.of(&values);
        }
        Some(Ratio {
            ratio: median(values.iter().copied())?,
            interval: None,
            corrected: None,
            rounds: values.len(),
        })
    }

    fn worst(&self, row: &Row) -> Outcome {
        let values = row.values(self.figure);
        if values.iter().all(|value| self.bound.holds(*value)) {
            Outcome::Held(values.len())
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
        let Some(interval) = found.corrected else {
            let is_unbounded = found.rounds >= VALUES_MIN;
            return Outcome::NotShown(if is_unbounded { UNBOUNDED } else { "too few rounds" }.into());
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
            Self::Reached => f.write_str("reached by one end"),
            Self::Held(1) => f.write_str("held in the only round"),
            Self::Held(rounds) => write!(f, "held in each of {rounds} rounds"),
            Self::Missed => f.write_str("missed"),
            Self::NotShown(why) => write!(f, "not shown: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Round;
    use crate::record::Record;
    use crate::record::tests::sample;
    use crate::stats::Interval;

    #[track_caller]
    fn check(bound: Bound, low: f64, median: f64, high: f64, expected: Outcome) {
        // What it would be alone is on the right side, wherever that is, and decides nothing.
        let ratio = Ratio {
            ratio: median,
            interval: Some(Interval { low: 1.0, high: 1.0 }),
            corrected: Some(Interval { low, high }),
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
        assert_eq!(outcome, Outcome::NotShown(UNBOUNDED.into()));
    }

    /// What is said to a rate of at least 90,000 that is asked of `fast`, whose rounds have these values.
    fn said(values: &[f64], comparisons: usize) -> Outcome {
        let mut record = sample();
        let row = &mut record.cells[0].rows[0];
        row.rounds = values
            .iter()
            .map(|value| Some(Round::from([(Figure::MessagesPerSecond, *value)])))
            .collect();
        let target = Target {
            contender: "fast".into(),
            baseline: None,
            figure: Figure::MessagesPerSecond,
            bound: Bound::AtLeast(90_000.0),
            cells: |_| true,
        };
        let judge = Judge { seed: 1, comparisons };
        target.judge(&record.cells[0], judge).expect("it took part").outcome
    }

    #[test]
    fn of_a_few_rounds_no_more_is_said_than_what_they_were() {
        assert_eq!(said(&[100_000.0], 1), Outcome::Held(1));
        assert_eq!(said(&[100_000.0, 0.0, 91_000.0], 1), Outcome::Missed);
        assert_eq!(said(&[100_000.0; 3], 1), Outcome::Held(3));
        assert_eq!(said(&[], 1), Outcome::NotShown("no round has it".into()));
        // All alike: there is no interval of them, however many they are.
        assert_eq!(said(&[100_000.0; 12], 1), Outcome::Held(12));
    }

    #[test]
    fn a_bound_is_shown_by_an_interval_that_all_comparisons_share() {
        let values: Vec<f64> = (0..12).map(|at| 93_000.0 + 300.0 * f64::from(at % 5)).collect();
        assert_eq!(said(&values, 1), Outcome::Shown);
        let near: Vec<f64> = values.iter().map(|value| value - 2_900.0).collect();
        assert_eq!(said(&near, 1), Outcome::Shown);
        assert_eq!(said(&near, 1000), Outcome::Reached);
    }

    #[test]
    fn our_best_backend_is_held_against_each_rival() {
        let mut record = sample();
        record.cells[0].rows.truncate(2);
        let mut third = record.cells[0].rows[0].clone();
        (third.contender, third.engine) = ("epoll+spin".into(), "epoll+spin".into());
        record.cells[0].rows.push(third);
        let of = |record: &Record| -> Vec<(String, Outcome)> {
            let judged = record.targets.iter();
            judged.map(|one| (one.what.clone(), one.outcome.clone())).collect()
        };
        record.conclude();
        assert_eq!(of(&record), [], "there is no rival");
        // By the same rounds the slower one is a rival, then the faster one is; who spins is not our best.
        for (rival, what, outcome) in [
            (1, "fast, our best / slow", Outcome::Shown),
            (0, "slow, our best / fast", Outcome::Missed),
        ] {
            let mut record = record.clone();
            record.cells[0].rows[rival].family = Family::Rival;
            record.conclude();
            assert_eq!(of(&record), [(what.to_owned(), outcome)]);
            // What it lacks it is not asked for; who broke shows nothing.
            record.cells[0].rows[rival].fault = Some(Fault::Lacks("it has no timers".into()));
            record.conclude();
            assert_eq!(of(&record), []);
            record.cells[0].rows[rival].fault = Some(Fault::Corrupt("one byte".into()));
            record.conclude();
            let failed = Outcome::NotShown("its baseline failed".into());
            assert_eq!(of(&record), [(what.to_owned(), failed)]);
        }
    }

    #[test]
    fn whose_baseline_failed_is_told_nothing() {
        let mut record = sample();
        record.cells[0].rows[0].fault = Some(Fault::Corrupt("one byte".into()));
        let target = Target {
            contender: "slow".into(),
            baseline: Some("fast".into()),
            figure: Figure::MessagesPerSecond,
            bound: Bound::AtLeast(0.5),
            cells: |_| true,
        };
        let judge = Judge {
            seed: 1,
            comparisons: 1,
        };
        let outcome = target.judge(&record.cells[0], judge).expect("both took part").outcome;
        assert_eq!(outcome, Outcome::NotShown("its baseline failed".into()));
    }

    #[test]
    fn what_is_compared_anyhow_is_counted_once() {
        let contender = |label: &str, baseline: Option<&str>| Contender {
            label: label.into(),
            engine: find("raw-threads").expect("it is everywhere"),
            puts: 1,
            format: "binary",
            baseline: baseline.map(str::to_owned),
        };
        let work = Work::Echo {
            conns: 64,
            size: 64,
            depth: 1,
        };
        let (reference, uring) = (contender(REFERENCE, None), contender("io-uring", Some(REFERENCE)));
        let both = [reference.clone(), uring.clone()];
        assert_eq!(intervals(work, 12, &both), 0);
        let rival = Contender {
            engine: find("tokio").expect("it is listed"),
            ..contender("tokio", Some(REFERENCE))
        };
        let three = [reference, uring, rival];
        assert_eq!(intervals(work, 12, &three), 1);
        // Each that may be our best has an interval with each rival.
        let epoll = Contender {
            engine: find("epoll").expect("it is listed"),
            ..contender("epoll", Some(REFERENCE))
        };
        let spinning = Contender {
            engine: find("epoll+spin").expect("it is listed"),
            ..contender("epoll+spin", Some("epoll"))
        };
        let five = [three.to_vec(), vec![epoll, spinning]].concat();
        assert_eq!(intervals(work, 12, &five), 1 + 1);
        let flood = Work::Wake { flood: true };
        assert_eq!((intervals(flood, 12, &both), intervals(flood, 3, &both)), (1, 0));
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
