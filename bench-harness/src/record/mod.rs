//! What a run found, as a document: everything that tables, pages and comparisons are made of.
//!
//! The document is `results.json` of a run's folder and what `-o json` prints. Every round is in it, and what was
//! derived from the rounds beside them. Who changes a field or its meaning raises [`SCHEMA`]; a field that may be
//! missing in older documents has a default, and where that is all, [`SCHEMA_MIN`] stays.

mod folder;
mod latency;

pub(crate) use self::folder::{create, read, write};
pub(crate) use self::latency::{Answers, BEYOND_MIN, LatencyLog, spectrum};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[cfg(have_libuv)]
use crate::bare::libuv_version;
use crate::engines::Family;
use crate::fault::Fault;
use crate::figures::{Figure, Round, Slices, Verdict};
use crate::machine::Machine;
use crate::stats::{self, Drift, Judge, Ratio, median};
use crate::targets::{self, Judged};
use crate::workload::Work;

/// The version of the document. 2: targets are judged by corrected intervals, and `held` is an outcome.
pub(crate) const SCHEMA: u32 = 3;

/// The oldest one that is read: what it derived from its rounds stays as it was then.
const SCHEMA_MIN: u32 = 1;

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) schema: u32,
    pub(crate) build: Build,
    /// The command line.
    pub(crate) command: Vec<String>,
    /// Seconds since 1970.
    pub(crate) began: u64,
    pub(crate) took_seconds: f64,
    /// Whether somebody ended it before its time: rounds are missing then.
    pub(crate) interrupted: bool,
    pub(crate) machine: Machine,
    pub(crate) method: Method,
    pub(crate) cells: Vec<Cell>,
    pub(crate) targets: Vec<Judged>,
    /// Cells that were not run, and why.
    pub(crate) left_out: Vec<String>,
    /// Engines that are not in this program, and why.
    pub(crate) not_built: Vec<NotBuilt>,
}

/// What was measured with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Build {
    pub(crate) version: String,
    /// The commit of the source, with a `+` if it was changed since.
    pub(crate) commit: Option<String>,
    pub(crate) compiler: Option<String>,
    /// Of crates that loops and Raft cores are made of, and of libuv as it was found at the start; those that are built.
    #[serde(default)]
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) optimised: bool,
}

/// How it was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Method {
    /// Of the order of contenders, and of resamples.
    pub(crate) seed: u64,
    pub(crate) rounds: usize,
    pub(crate) warm_up_seconds: f64,
    pub(crate) measured_seconds: f64,
    pub(crate) generator_spins: bool,
    pub(crate) confidence: f64,
    /// By how many comparisons the confidence is shared, those of targets among them.
    pub(crate) comparisons: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NotBuilt {
    pub(crate) engine: String,
    pub(crate) why: String,
}

/// A cell with all who took part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) work: Work,
    /// The trend of the first row that others are held against.
    pub(crate) drift: Option<Trend>,
    pub(crate) rows: Vec<Row>,
}

/// A trend of a contender's figure from round to round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trend {
    pub(crate) contender: String,
    pub(crate) figure: Figure,
    #[serde(flatten)]
    pub(crate) drift: Drift,
}

/// A contender in a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) contender: String,
    pub(crate) engine: String,
    pub(crate) about: String,
    pub(crate) family: Family,
    /// The contender that its figures are divided by.
    pub(crate) baseline: Option<String>,
    /// Why it has no more rounds.
    pub(crate) fault: Option<Fault>,
    /// Whether the load may have been its limit.
    pub(crate) load_bound: bool,
    pub(crate) median: Round,
    pub(crate) comparisons: Vec<Comparison>,
    /// Percentiles of the answers of all rounds together, and their microseconds.
    pub(crate) spectrum: Vec<[f64; 2]>,
    /// Where leaders were killed: one entry a trial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) trials: Vec<Trial>,
    /// Figures that were counted in a round of their own; they stand among the medians too.
    #[serde(default)]
    pub(crate) counts: Round,
    /// `null` for rounds without figures.
    pub(crate) rounds: Vec<Option<Round>>,
    /// Of each round that was in slices, figures of each of them; contenders have those of the same number in one turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) slices: Vec<Slices>,
}

/// What a figure is over the baseline's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) figure: Figure,
    #[serde(flatten)]
    pub(crate) ratio: Ratio,
    pub(crate) verdict: Verdict,
}

/// A leader was killed: milliseconds from then on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// Until another node noticed.
    pub(crate) detected_ms: f64,
    /// Until there was a new leader.
    pub(crate) elected_ms: f64,
    /// Until a write was acknowledged again.
    pub(crate) first_write_ms: f64,
    /// Writes around it that were acknowledged, and how many of those are gone. Older documents do not tell.
    #[serde(default)]
    pub(crate) acknowledged: u64,
    #[serde(default)]
    pub(crate) lost: u64,
}

/// Acknowledged writes of trials, and how many of those are lost.
pub(crate) fn writes(trials: &[Trial]) -> (u64, u64) {
    let sum = |of: fn(&Trial) -> u64| trials.iter().map(of).sum();
    (sum(|trial| trial.acknowledged), sum(|trial| trial.lost))
}

/// What is wrong with who lost a write that it had acknowledged.
pub(crate) fn loss(trials: &[Trial]) -> Option<Fault> {
    let (acknowledged, lost) = writes(trials);
    (lost > 0).then(|| Fault::Corrupt(format!("{lost} of {acknowledged} acknowledged writes are lost")))
}

/// Above this share of busy time the load may have been the limit.
const BUSY_MAX: f64 = 0.9;

impl Record {
    /// Derives what follows from the rounds.
    pub(crate) fn conclude(&mut self) {
        let judge = Judge {
            seed: self.method.seed,
            comparisons: self.method.comparisons,
        };
        for cell in &mut self.cells {
            cell.conclude(judge);
        }
        self.targets = targets::judge(&self.cells, judge);
    }

    pub(crate) fn has_failed_rows(&self) -> bool {
        self.cells
            .iter()
            .flat_map(|cell| &cell.rows)
            .any(|row| row.fault.as_ref().is_some_and(Fault::is_failure))
    }
}

impl Cell {
    /// The row with this label.
    pub(crate) fn row(&self, contender: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.contender == contender)
    }

    /// Rows whose names do not say in what they differ from ours: other people's cores, and programs.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = &Row> {
        let is_of_raft = self.work.is_of_clusters() || self.work.is_of_cores();
        let rows = self.rows.iter().filter(move |_| is_of_raft);
        rows.filter(|row| row.family == Family::Rival && row.fault.is_none())
    }

    /// Those that are held against nobody because their baseline failed, and that.
    pub(crate) fn without_baseline(&self) -> impl Iterator<Item = (&str, &str)> {
        let alone = self.rows.iter().filter(|row| row.fault.is_none());
        alone.filter_map(|row| {
            let baseline = self.baseline(row)?;
            let has_failed = baseline.fault.as_ref().is_some_and(Fault::is_failure);
            (has_failed && !self.work.compared().is_empty())
                .then_some((row.contender.as_str(), baseline.contender.as_str()))
        })
    }

    /// The row that a row is held against.
    pub(crate) fn baseline(&self, row: &Row) -> Option<&Row> {
        self.row(row.baseline.as_deref()?)
    }

    fn conclude(&mut self, judge: Judge) {
        for row in &mut self.rows {
            let medians = crate::figures::ALL.into_iter();
            row.median = medians
                .filter_map(|figure| Some((figure, row.middle(figure)?)))
                .collect();
            row.median.extend(&row.counts);
            let busy = row.median.get(&Figure::LoadBusyShare);
            row.load_bound = busy.is_some_and(|busy| *busy > BUSY_MAX);
        }
        let compare = |row: &Row| -> Vec<Comparison> {
            let Some(baseline) = self.baseline(row) else {
                return Vec::new();
            };
            let figures = self.work.compared().iter();
            let found = figures.filter_map(|&figure| row.compare(baseline, figure, judge));
            found.collect()
        };
        let comparisons: Vec<_> = self.rows.iter().map(compare).collect();
        for (row, comparisons) in self.rows.iter_mut().zip(comparisons) {
            row.comparisons = comparisons;
        }
        self.drift = self.trend();
    }

    fn trend(&self) -> Option<Trend> {
        let figure = *self.work.compared().first()?;
        let is_baseline = |row: &&Row| {
            self.rows
                .iter()
                .any(|other| other.baseline.as_ref() == Some(&row.contender))
        };
        let row = self.rows.iter().find(is_baseline).or_else(|| self.rows.first())?;
        Some(Trend {
            contender: row.contender.clone(),
            figure,
            drift: Drift::of(&row.by_round(figure))?,
        })
    }
}

impl Row {
    pub(crate) fn by_round(&self, figure: Figure) -> Vec<Option<f64>> {
        let rounds = self.rounds.iter();
        rounds.map(|round| round.as_ref()?.get(&figure).copied()).collect()
    }

    pub(crate) fn values(&self, figure: Figure) -> Vec<f64> {
        self.by_round(figure).into_iter().flatten().collect()
    }

    /// The median of its rounds, if at least half of them have the figure: what few rounds have, such as percentiles that
    /// want many answers, those have that were not like the others.
    fn middle(&self, figure: Figure) -> Option<f64> {
        let values = self.values(figure);
        let rounds = self.rounds.iter().flatten().count();
        median(values.iter().copied()).filter(|_| values.len() * 2 >= rounds)
    }

    /// Its median, unless it failed: nobody knows what its other rounds are worth.
    pub(crate) fn shown(&self, figure: Figure) -> Option<f64> {
        let median = self.median.get(&figure);
        median.copied().filter(|_| self.fault.is_none())
    }

    /// The ratios to a baseline of the rounds in which both have the figure: the medians of their slices' ratios, if they
    /// have slices.
    pub(crate) fn ratios(&self, baseline: &Self, figure: Figure) -> Vec<f64> {
        let pairs = self.slices.iter().zip(&baseline.slices);
        let pairs: Vec<_> = pairs
            .filter_map(|(own, other)| Some((own.get(&figure)?, other.get(&figure)?)))
            .collect();
        if pairs.is_empty() {
            return stats::ratios(&self.by_round(figure), &baseline.by_round(figure));
        }
        let of = |values: &[f32]| -> Vec<_> { values.iter().map(|value| Some(f64::from(*value))).collect() };
        let rounds = pairs.into_iter();
        rounds
            .filter_map(|(own, other)| median(stats::ratios(&of(own), &of(other))))
            .collect()
    }

    pub(crate) fn comparison(&self, figure: Figure) -> Option<&Comparison> {
        self.comparisons.iter().find(|comparison| comparison.figure == figure)
    }

    /// Nothing of who failed, in whichever round.
    fn compare(&self, baseline: &Self, figure: Figure, judge: Judge) -> Option<Comparison> {
        if self.fault.is_some() || baseline.fault.is_some() {
            return None;
        }
        let ratio = judge.of(&self.ratios(baseline, figure))?;
        Some(Comparison {
            figure,
            verdict: figure.verdict(ratio.side()),
            ratio,
        })
    }
}

impl Build {
    /// Of this program.
    pub(crate) fn own() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: option_env!("KRAFT_BENCH_COMMIT").map(str::to_owned),
            compiler: option_env!("KRAFT_BENCH_COMPILER").map(str::to_owned),
            versions: versions(),
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// Of what is not ours in this program.
fn versions() -> BTreeMap<String, String> {
    let crates = env!("KRAFT_BENCH_CRATES").split(',');
    let crates = crates.filter_map(|one| one.split_once(' '));
    let versions = crates.map(|(name, version)| (name.to_owned(), version.to_owned()));
    #[cfg(have_libuv)]
    let versions = versions.chain([("libuv".to_owned(), libuv_version::text())]);
    versions.collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two contenders over ten rounds: `slow` is a tenth slower than `fast`, which it is held against; `dead` failed.
    pub(crate) fn sample() -> Record {
        // What both feel, and what the second one has for itself: ratios that are all alike would show nothing.
        let shared = [0.0, 0.01, -0.01, 0.005, -0.005, 0.002, -0.002, 0.0, 0.003, -0.003];
        let own = [0.0, 0.0, 0.001, -0.001, 0.002, -0.002, 0.0, 0.0, 0.0, 0.0];
        let rounds = |factor: f64, share: f64| -> Vec<Option<Round>> {
            let of = |(shared, own): (&f64, &f64)| {
                let factor = factor * (1.0 + own * share);
                Some(Round::from([
                    (Figure::MessagesPerSecond, 100_000.0 * factor * (1.0 + shared)),
                    (Figure::ServerCpuUsPerMessage, 5.0 / factor),
                    (Figure::LatencyP50Us, 20.0 / factor),
                    (Figure::LoadBusyShare, 0.5),
                ]))
            };
            shared.iter().zip(&own).map(of).collect()
        };
        let row = |contender: &str, baseline: Option<&str>, rounds| Row {
            contender: contender.into(),
            engine: contender.into(),
            about: "of a test".into(),
            family: Family::Kraft,
            baseline: baseline.map(str::to_owned),
            fault: None,
            load_bound: false,
            median: Round::new(),
            comparisons: Vec::new(),
            spectrum: vec![[50.0, 20.0], [90.0, 30.0], [99.0, 80.0]],
            trials: Vec::new(),
            counts: Round::new(),
            rounds,
            slices: Vec::new(),
        };
        let work = Work::Echo {
            conns: 64,
            size: 64,
            depth: 1,
        };
        let mut dead = row("dead", Some("fast"), vec![None; 10]);
        dead.fault = Some(Fault::Refused("no <ring> & no rest".into()));
        dead.spectrum.clear();
        let mut record = Record {
            schema: SCHEMA,
            build: Build::own(),
            command: vec!["kraft-bench".into(), "run".into()],
            began: 1_700_000_000,
            took_seconds: 8.0,
            interrupted: false,
            machine: Machine::unknown(),
            method: Method {
                seed: 7,
                rounds: 10,
                warm_up_seconds: 0.1,
                measured_seconds: 0.4,
                generator_spins: true,
                confidence: stats::CONFIDENCE,
                comparisons: 4,
            },
            cells: vec![Cell {
                name: work.to_string(),
                work,
                drift: None,
                rows: vec![
                    row("fast", None, rounds(1.0, 0.0)),
                    row("slow", Some("fast"), rounds(0.9, 1.0)),
                    dead,
                ],
            }],
            targets: Vec::new(),
            left_out: vec!["echo 64KiBx10000: too much".into()],
            not_built: Vec::new(),
        };
        record.conclude();
        record
    }

    #[test]
    fn what_follows_from_the_rounds_is_derived() {
        let record = sample();
        let slow = record.cells[0].row("slow").expect("it took part");
        let rate = slow.comparison(Figure::MessagesPerSecond).expect("it is compared");
        assert_eq!(rate.verdict, Verdict::Worse);
        assert!((rate.ratio.ratio - 0.9).abs() < 1e-5, "{rate:?}");
        let median = slow.median.get(&Figure::MessagesPerSecond).expect("it has rounds");
        assert!((median - 90_000.0).abs() < 100.0, "{median}");
        let dead = record.cells[0].row("dead").expect("it is kept");
        assert!(dead.comparisons.is_empty() && record.has_failed_rows());
        let trend = record.cells[0].drift.as_ref().expect("ten rounds are enough");
        assert_eq!(trend.contender, "fast");
        assert!(!trend.drift.is_shown());
    }

    #[test]
    fn what_few_rounds_have_is_no_figure_of_all() {
        for (rounds, is_told) in [(4, false), (5, true)] {
            let mut record = sample();
            let own = record.cells[0].rows[0].rounds.iter_mut().flatten();
            own.take(rounds).for_each(|round| {
                round.insert(Figure::LatencyP999Us, 7.0);
            });
            record.conclude();
            let median = record.cells[0].rows[0].median.get(&Figure::LatencyP999Us);
            assert_eq!(median.is_some(), is_told, "{rounds} of 10");
        }
    }

    #[test]
    fn who_failed_in_some_round_is_shown_and_compared_in_none() {
        for failed in ["slow", "fast"] {
            let mut record = sample();
            let row = record.cells[0].rows.iter_mut().find(|row| row.contender == failed);
            row.expect("it took part").fault = Some(Fault::Corrupt("one byte".into()));
            record.conclude();
            let slow = record.cells[0].row("slow").expect("it is kept");
            assert!(slow.comparisons.is_empty(), "{failed} failed");
            let failed = record.cells[0].row(failed).expect("it is kept");
            assert_eq!(failed.shown(Figure::MessagesPerSecond), None);
            let lost: Vec<_> = record.cells[0].without_baseline().collect();
            assert_eq!(lost, [("slow", "fast")][usize::from(failed.contender == "slow")..]);
            assert!(failed.median.contains_key(&Figure::MessagesPerSecond));
        }
    }

    #[test]
    fn a_document_comes_back_as_it_was_written() {
        let text = serde_json::to_string(&sample()).expect("all of it is JSON");
        let back: Record = serde_json::from_str(&text).expect("it was written by us");
        let (cell, dead) = (&back.cells[0], back.cells[0].row("dead").expect("it is kept"));
        assert_eq!((cell.work, cell.rows.len()), (sample().cells[0].work, 3));
        assert_eq!(dead.fault, Some(Fault::Refused("no <ring> & no rest".into())));
        let slow = cell.row("slow").expect("it took part");
        assert_eq!(slow.comparisons.len(), 2);
        assert_eq!(slow.comparisons[0].verdict, Verdict::Worse);
        assert_eq!(back.build.versions, Build::own().versions);
        // Decimals may be read one bit off.
        let values = slow.values(Figure::MessagesPerSecond);
        assert!((values[1] - 90_900.0).abs() < 1e-6 && values.len() == 10, "{values:?}");
        // A round is an object of figures by name.
        assert!(
            text.contains("\"rounds\":[{\"messages_per_second\":100000.0,"),
            "{text}"
        );
        assert!(
            text.contains("\"fault\":{\"kind\":\"refused\",\"what\":\"no <ring> & no rest\"}"),
            "{text}"
        );
    }

    #[test]
    fn a_document_without_versions_is_read() {
        let mut old = serde_json::to_value(sample()).expect("all of it is JSON");
        let build = old["build"].as_object_mut().expect("it is one");
        assert!(build.remove("versions").is_some());
        let back: Record = serde_json::from_value(old).expect("versions may be missing");
        assert!(back.build.versions.is_empty());
    }

    #[test]
    fn versions_are_told_of_what_is_built() {
        let versions = versions();
        let is_built = |feature: &str| crate::engines::find(feature).is_some_and(|engine| engine.serve.is_ok());
        // The lock file is beside the sources here.
        assert!(versions.contains_key("mio"), "{versions:?}");
        for (library, engine) in [("tokio", "tokio"), ("polling", "kqueue"), ("libuv", "libuv")] {
            assert_eq!(versions.contains_key(library), is_built(engine), "{versions:?}");
        }
    }

    #[test]
    fn what_disturbs_both_for_a_while_is_in_no_ratio_of_a_round_in_slices() {
        let mut record = sample();
        let [fast, slow, ..] = &mut record.cells[0].rows[..] else {
            panic!("a sample has them");
        };
        // The machine is half as fast in the second slice, and busy with something else in one of the third.
        let slices = |values: [f32; 3]| vec![Slices::from([(Figure::MessagesPerSecond, values.to_vec())]); 10];
        fast.slices = slices([1000.0, 500.0, 1000.0]);
        slow.slices = slices([900.0, 450.0, 10.0]);
        let ratios = slow.ratios(fast, Figure::MessagesPerSecond);
        assert_eq!(ratios.len(), 10);
        assert!(ratios.iter().all(|ratio| (ratio - 0.9).abs() < 1e-6), "{ratios:?}");
        // What slices do not have is of the rounds, and a round that one of both does not have is in none.
        assert_eq!(slow.ratios(fast, Figure::LatencyP50Us).len(), 10);
        slow.slices[3] = Slices::new();
        assert_eq!(slow.ratios(fast, Figure::MessagesPerSecond).len(), 9);
    }
}
