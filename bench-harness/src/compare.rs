//! What changed between two runs.
//!
//! They were measured at different times, on a machine that may have been in another mood. So what is compared is a
//! contender's ratio to its baseline: the baselines are hand-written loops that change seldom, and feel the machine as
//! everybody does. Where there is none in both runs the figures are shown, and nothing is said of them.
//!
//! Ratios bear most of what differs between runs, not all. The interval is one of rounds, and how far two runs of one
//! program differ two runs do not tell: rounds within a run have more in common than that. Hence the margin, which an
//! interval has to leave as well, and the last line, which says how far loops moved that nobody is likely to have changed.

use std::io::{self, Write};

use crate::engines::Family;
use crate::fault::Fault;
use crate::figures::{Figure, Verdict};
use crate::record::{Cell, Record, Row};
use crate::report::{Table, dash, interval};
use crate::stats::{CONFIDENCE, Judge, Ratio, Side, VALUES_MIN};

/// What two runs say of each other.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    changes: Vec<Change>,
    /// Rows that only the later run has measured.
    only_new: Vec<String>,
    margin: f64,
    /// By how many ratios the confidence is shared.
    judged: usize,
}

/// What became of a row of the earlier run, or of a figure of it.
#[derive(Clone, Debug)]
struct Change {
    cell: String,
    contender: String,
    family: Family,
    /// What it is held against in both runs.
    baseline: Option<String>,
    figure: Figure,
    /// `None` of what is not judged, for the reason that is noted.
    verdict: Option<Verdict>,
    /// New over old.
    ratio: Option<Ratio>,
    note: String,
}

/// What a run has of a contender in a cell.
enum State<'a> {
    Measured,
    Failed(&'a Fault),
    /// The engine does not have this workload.
    Lacks(&'a Fault),
    /// Nobody asked it, or the run ended before.
    NotAsked,
}

/// A row of both runs.
struct Pair<'a> {
    old: (&'a Cell, &'a Row),
    new: (&'a Cell, &'a Row),
}

/// Holds a later run against an earlier one. A change is one if it is of more than `margin`.
pub(crate) fn compare(old: &Record, new: &Record, margin: f64) -> Comparison {
    let measured_in_both = |(before, was): &(&Cell, &Row)| {
        let (after, is) = find(new, before, was)?;
        let is_measured = is_measured(Some(was)) && is_measured(Some(is));
        is_measured.then_some(after.work.compared().len())
    };
    let judged = rows(old).filter_map(|at| measured_in_both(&at)).sum();
    let judge = Judge {
        seed: new.method.seed,
        comparisons: judged,
    };
    let changes = rows(old).flat_map(|(before, was)| match find(new, before, was) {
        Some((after, is)) if is_measured(Some(was)) && is_measured(Some(is)) => {
            let pair = Pair {
                old: (before, was),
                new: (after, is),
            };
            pair.compared(judge, margin)
        }
        found => outcome(before, was, found.map(|(_, is)| is), new.interrupted)
            .into_iter()
            .collect(),
    });
    let only_new = rows(new).filter(|(cell, row)| is_measured(Some(row)) && find(old, cell, row).is_none());
    Comparison {
        changes: changes.collect(),
        only_new: only_new
            .map(|(cell, row)| format!("{}, {}", cell.name, row.contender))
            .collect(),
        margin,
        judged,
    }
}

fn rows(record: &Record) -> impl Iterator<Item = (&Cell, &Row)> {
    record
        .cells
        .iter()
        .flat_map(|cell| cell.rows.iter().map(move |row| (cell, row)))
}

/// The row of another run that a row of this one corresponds to.
fn find<'a>(other: &'a Record, cell: &Cell, row: &Row) -> Option<(&'a Cell, &'a Row)> {
    let cell = other.cells.iter().find(|other| other.work == cell.work)?;
    Some((cell, cell.row(&row.contender)?))
}

fn state(row: Option<&Row>) -> State<'_> {
    match row {
        None => State::NotAsked,
        Some(row) => match &row.fault {
            Some(fault) if fault.is_failure() => State::Failed(fault),
            Some(fault) => State::Lacks(fault),
            None if row.rounds.iter().any(Option::is_some) => State::Measured,
            None => State::NotAsked,
        },
    }
}

fn is_measured(row: Option<&Row>) -> bool {
    matches!(state(row), State::Measured)
}

/// What is said of a row that not both runs have measured; nothing if neither has anything to say.
fn outcome(cell: &Cell, was: &Row, is: Option<&Row>, interrupted: bool) -> Option<Change> {
    let gone = if interrupted {
        "lost: not measured before the run was interrupted"
    } else {
        "lost: measured before, and not there any more"
    };
    let (verdict, note) = match (state(Some(was)), state(is)) {
        (State::Measured, State::Failed(fault)) => (Some(Verdict::Worse), format!("failed: {fault}")),
        (State::Measured, State::Lacks(fault)) => (Some(Verdict::Worse), format!("lost: measured before, and {fault}")),
        (State::Measured, State::NotAsked) => (Some(Verdict::Worse), gone.to_owned()),
        (State::Failed(_), State::Failed(fault)) => (Some(Verdict::NotShown), format!("failed, as before: {fault}")),
        (State::Failed(_), State::Measured) => (Some(Verdict::Better), "failed before".to_owned()),
        (State::Failed(_), State::Lacks(fault)) => (None, format!("failed before, and {fault}")),
        (State::Failed(_), State::NotAsked) => (None, "failed before, and is not there any more".to_owned()),
        (State::Lacks(_) | State::NotAsked, State::Failed(fault)) => {
            (None, format!("not measured before; failed: {fault}"))
        }
        (State::Lacks(_) | State::NotAsked, State::Measured) => (None, "not measured before".to_owned()),
        (State::Measured, State::Measured) | (State::Lacks(_) | State::NotAsked, State::Lacks(_) | State::NotAsked) => {
            return None;
        }
    };
    Some(Change {
        cell: cell.name.clone(),
        contender: was.contender.clone(),
        family: was.family,
        baseline: was.baseline.clone(),
        figure: *cell.work.columns().first()?,
        verdict,
        ratio: None,
        note,
    })
}

impl Pair<'_> {
    /// A change a figure; of idle connections, whose rounds are too few to be compared, what the figures were.
    fn compared(&self, judge: Judge, margin: f64) -> Vec<Change> {
        let work = self.new.0.work;
        let figures = match work.compared() {
            [] => work.columns(),
            compared => compared,
        };
        let changes = figures.iter().filter_map(|figure| self.change(*figure, judge, margin));
        changes.collect()
    }

    /// `None` of a figure that the earlier run does not have.
    fn change(&self, figure: Figure, judge: Judge, margin: f64) -> Option<Change> {
        let ((before, was), (after, is)) = (self.old, self.new);
        if was.values(figure).is_empty() {
            return None;
        }
        let mut change = Change {
            cell: after.name.clone(),
            contender: is.contender.clone(),
            family: is.family,
            baseline: None,
            figure,
            verdict: None,
            ratio: None,
            note: String::new(),
        };
        if is.values(figure).is_empty() {
            change.note = "measured before, and not any more".into();
            return Some(change);
        }
        let (old, new) = match self.baselines() {
            Ok((old, new)) => {
                change.baseline = Some(new.contender.clone());
                (was.ratios(old, figure), is.ratios(new, figure))
            }
            Err(why) => {
                change.note = why;
                (was.values(figure), is.values(figure))
            }
        };
        let Some(ratio) = judge.unpaired(&new, &old) else {
            change.note = "no round has it and its baseline's".into();
            return Some(change);
        };
        // Intervals of what is not judged would be taken for what they are not.
        if change.baseline.is_none() || before.work.compared().is_empty() {
            change.ratio = Some(Ratio {
                interval: None,
                corrected: None,
                ..ratio
            });
            return Some(change);
        }
        change.note = match (ratio.side_beyond(margin), ratio.corrected) {
            (_, None) if ratio.rounds < VALUES_MIN => "too few rounds",
            (_, None) => "the rounds differ too much, or not at all",
            (Side::NotShown, Some(_)) if ratio.side() != Side::NotShown => "within the margin",
            _ => "",
        }
        .into();
        change.verdict = Some(figure.verdict(ratio.side_beyond(margin)));
        change.ratio = Some(ratio);
        Some(change)
    }

    /// What the row is held against in both runs, or why there is none.
    fn baselines(&self) -> Result<(&Row, &Row), String> {
        let ((before, was), (after, is)) = (self.old, self.new);
        let (Some(old), Some(new)) = (&was.baseline, &is.baseline) else {
            return Err("not judged: it has no baseline".into());
        };
        if old != new {
            return Err(format!("not judged: its baseline was {old}"));
        }
        match (before.baseline(was), after.baseline(is)) {
            (Some(old), Some(new)) if is_measured(Some(old)) && is_measured(Some(new)) => Ok((old, new)),
            _ => Err(format!("not judged: not both runs have its baseline, {new}")),
        }
    }
}

impl Comparison {
    /// Prints it. Whether something became worse.
    pub(crate) fn print(&self, old: &Record, new: &Record, out: &mut impl Write) -> io::Result<bool> {
        head(old, new, out)?;
        if self.changes.is_empty() {
            writeln!(out, "the earlier run has measured nothing")?;
        } else {
            writeln!(
                out,
                "new/old is that of the ratios to the baseline. The interval is of the rounds within both runs, at {:.0} % \
                 for {} of them together; runs differ by more than their rounds, so what does not leave 1 by more than \
                 {:.1} % (--margin) is no change",
                CONFIDENCE * 100.0,
                self.judged,
                self.margin * 100.0
            )?;
            self.table().print(out)?;
        }
        if !self.only_new.is_empty() {
            writeln!(out, "only in the later run: {}", self.only_new.join("; "))?;
        }
        let count = |verdict| self.changes.iter().filter(|change| change.verdict == verdict).count();
        let worse = count(Some(Verdict::Worse));
        writeln!(
            out,
            "{worse} worse, {} better, {} without a difference that is shown, {} not judged",
            count(Some(Verdict::Better)),
            count(Some(Verdict::NotShown)),
            count(None),
        )?;
        if let Some((control, moved)) = self.control() {
            writeln!(
                out,
                "of hand-written loops, which change seldom, {} moved the most, by {:.1} % ({}, {}): more than the margin \
                 is what these runs differ by",
                control.contender,
                moved * 100.0,
                control.cell,
                control.figure.noun()
            )?;
        }
        Ok(worse > 0)
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["cell", "contender", "against", "what", "new/old", "interval", "verdict"]);
        for change in &self.changes {
            let ratio = change.ratio.as_ref();
            let words = match change.verdict {
                Some(verdict) if ratio.is_some() => change.figure.words(verdict),
                _ => "",
            };
            table.row(vec![
                change.cell.clone(),
                change.contender.clone(),
                change.baseline.clone().unwrap_or_else(dash),
                change.figure.noun().into(),
                ratio.map_or_else(dash, |ratio| format!("{:.3}", ratio.ratio)),
                interval(ratio.and_then(|ratio| ratio.corrected)),
                match (words, change.note.as_str()) {
                    (words, "") => words.into(),
                    ("", note) => note.into(),
                    (words, note) => format!("{words}: {note}"),
                },
            ]);
        }
        table
    }

    /// The hand-written loop whose ratio to another one moved the furthest, and how far.
    fn control(&self) -> Option<(&Change, f64)> {
        let controls = self.changes.iter().filter_map(|change| {
            let is_control = change.family == Family::Bare && change.baseline.is_some();
            let ratio = change.ratio.as_ref().filter(|_| is_control)?;
            Some((change, ratio.ratio.max(1.0 / ratio.ratio) - 1.0))
        });
        controls.max_by(|(_, one), (_, other)| one.total_cmp(other))
    }
}

/// What the two are, and what makes them hard to compare.
fn head(old: &Record, new: &Record, out: &mut impl Write) -> io::Result<()> {
    for (name, record) in [("old", old), ("new", new)] {
        let commit = record.build.commit.as_deref().unwrap_or("unknown commit");
        let (version, machine) = (&record.build.version, record.machine.line());
        writeln!(out, "{name}: {version} ({commit}), {machine}")?;
        if record.interrupted {
            writeln!(out, "warning: the {name} run was interrupted")?;
        }
    }
    if old.machine.cpu != new.machine.cpu || old.machine.kernel != new.machine.kernel {
        writeln!(
            out,
            "warning: these are different machines or kernels; what changed may be that"
        )?;
    }
    let differences = [
        (
            old.schema != new.schema,
            "they were not measured in the same way (schemas differ)",
        ),
        (
            old.method.measured_seconds != new.method.measured_seconds,
            "rounds were not equally long",
        ),
        (
            old.build.optimised != new.build.optimised,
            "one of the programs was built without optimisation",
        ),
        (
            old.build.compiler != new.build.compiler,
            "different compilers built them; what changed may be that",
        ),
        (
            old.method.generator_spins != new.method.generator_spins,
            "the load of one spun, that of the other slept",
        ),
    ];
    for (_, what) in differences.iter().filter(|(is_there, _)| *is_there) {
        writeln!(out, "warning: {what}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    const MARGIN: f64 = 0.03;

    fn verdicts(old: &Record, new: &Record) -> Vec<(String, Figure, Option<Verdict>)> {
        let changes = compare(old, new, MARGIN).changes.into_iter();
        changes
            .map(|change| (change.contender, change.figure, change.verdict))
            .collect()
    }

    #[track_caller]
    fn of(contender: &str, old: &Record, new: &Record) -> Option<Verdict> {
        let found = verdicts(old, new);
        let mut all = found.iter();
        let rate = all.find(|(name, figure, _)| name == contender && *figure == Figure::MessagesPerSecond);
        let (.., verdict) = rate.unwrap_or_else(|| panic!("{contender} is not there: {found:?}"));
        *verdict
    }

    fn text(old: &Record, new: &Record) -> (String, bool) {
        let mut out = Vec::new();
        let is_worse = compare(old, new, MARGIN).print(old, new, &mut out);
        let text = String::from_utf8(out).expect("it is text");
        (text, is_worse.expect("memory takes all"))
    }

    fn scale(record: &mut Record, contender: usize, figure: Figure, factor: f64) {
        let rounds = record.cells[0].rows[contender].rounds.iter_mut().flatten();
        rounds
            .filter_map(|round| round.get_mut(&figure))
            .for_each(|value| *value *= factor);
    }

    const LACKS: &str = "it has no timers";

    fn fail(mut record: Record, contender: usize, fault: Fault) -> Record {
        record.cells[0].rows[contender].fault = Some(fault);
        record
    }

    fn corrupt() -> Fault {
        Fault::Corrupt("byte 3".into())
    }

    #[test]
    fn two_equal_runs_show_nothing() {
        let found = verdicts(&sample(), &sample());
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(
            found
                .iter()
                .all(|(.., verdict)| matches!(verdict, None | Some(Verdict::NotShown))),
            "{found:?}"
        );
    }

    #[test]
    fn a_loss_is_found_and_said() {
        let (old, mut new) = (sample(), sample());
        scale(&mut new, 1, Figure::MessagesPerSecond, 0.8);
        let (text, is_worse) = text(&old, &new);
        assert!(is_worse);
        let mut lines = text.lines();
        let line = lines.find(|line| line.contains("slower")).expect("one is slower");
        assert!(
            line.contains("slow ") && line.contains("fast ") && line.contains("0.800"),
            "{text}"
        );
        assert!(text.contains("1 worse, 0 better, 2 without"), "{text}");
        assert!(
            text.contains("The interval is of the rounds within both runs"),
            "{text}"
        );
    }

    #[test]
    fn what_two_runs_may_differ_by_is_no_change() {
        let (old, mut new) = (sample(), sample());
        scale(&mut new, 1, Figure::MessagesPerSecond, 0.98);
        assert_eq!(of("slow", &old, &new), Some(Verdict::NotShown));
        let (text, is_worse) = text(&old, &new);
        assert!(
            !is_worse && text.contains("no difference shown: within the margin"),
            "{text}"
        );
        // It is the margin that says so.
        let judged = compare(&old, &new, 0.0).changes;
        assert!(judged.iter().any(|change| change.verdict == Some(Verdict::Worse)));
    }

    #[test]
    fn a_machine_that_is_slower_altogether_is_nobody_s_loss() {
        let (old, mut new) = (sample(), sample());
        scale(&mut new, 0, Figure::MessagesPerSecond, 0.8);
        scale(&mut new, 1, Figure::MessagesPerSecond, 0.8);
        assert_eq!(of("slow", &old, &new), Some(Verdict::NotShown));
        // It has no baseline: nobody knows whether it was the machine.
        assert_eq!(of("fast", &old, &new), None);
        let (text, is_worse) = text(&old, &new);
        assert!(!is_worse && text.contains("not judged: it has no baseline"), "{text}");
    }

    #[test]
    fn without_its_baseline_in_both_runs_nobody_is_judged() {
        let failed = fail(sample(), 0, corrupt());
        for (old, new) in [(&sample(), &failed), (&failed, &sample())] {
            let mut new = new.clone();
            scale(&mut new, 1, Figure::MessagesPerSecond, 0.5);
            assert_eq!(of("slow", old, &new), None);
        }
        assert_eq!(of("fast", &sample(), &failed), Some(Verdict::Worse));
    }

    #[test]
    fn who_fails_where_he_did_not_has_lost() {
        let failed = fail(sample(), 1, corrupt());
        assert_eq!(of("slow", &sample(), &failed), Some(Verdict::Worse));
        assert_eq!(of("slow", &failed, &sample()), Some(Verdict::Better));
        assert_eq!(of("slow", &failed, &failed), Some(Verdict::NotShown));
    }

    #[test]
    fn a_workload_that_an_engine_lacks_is_no_failure() {
        let lacks = fail(sample(), 1, Fault::Lacks(LACKS.into()));
        let rows = |old: &Record, new: &Record| {
            let found = verdicts(old, new);
            let slow = found.into_iter().filter(|(name, ..)| name == "slow");
            slow.map(|(.., verdict)| verdict).collect::<Vec<_>>()
        };
        assert_eq!(rows(&lacks, &lacks), []);
        assert_eq!(rows(&lacks, &sample()), [None]);
        assert_eq!(rows(&lacks, &fail(sample(), 1, corrupt())), [None]);
        assert_eq!(rows(&fail(sample(), 1, corrupt()), &lacks), [None]);
        // But what it answered it has to answer.
        assert_eq!(rows(&sample(), &lacks), [Some(Verdict::Worse)]);
    }

    #[test]
    fn a_row_that_is_gone_is_named_and_lost() {
        let (old, mut without_row, mut without_cell, mut unasked) = (sample(), sample(), sample(), sample());
        without_row.cells[0].rows.remove(1);
        without_cell.cells.clear();
        unasked.cells[0].rows[1].rounds = vec![None; 10];
        unasked.interrupted = true;
        for (new, why) in [
            (&without_row, "not there any more"),
            (&without_cell, "not there any more"),
            (&unasked, "interrupted"),
        ] {
            let (text, is_worse) = text(&old, new);
            let mut lines = text.lines();
            let line = lines.find(|line| line.contains(" slow ") && line.contains("lost: "));
            assert!(is_worse && line.is_some_and(|line| line.contains(why)), "{text}");
        }
        let (text, is_worse) = text(&without_row, &old);
        assert!(
            !is_worse && text.contains("only in the later run: echo 64Bx64, slow"),
            "{text}"
        );
    }

    #[test]
    fn a_figure_that_is_gone_is_named() {
        let (old, mut new) = (sample(), sample());
        for round in new.cells[0].rows[1].rounds.iter_mut().flatten() {
            round.remove(&Figure::ServerCpuUsPerMessage);
        }
        let (text, is_worse) = text(&old, &new);
        assert!(
            !is_worse && text.contains("measured before, and not any more"),
            "{text}"
        );
    }

    #[test]
    fn what_makes_two_runs_hard_to_compare_is_said() {
        let (old, mut new) = (sample(), sample());
        assert!(!text(&old, &new).0.contains("warning: "));
        new.build.optimised = !old.build.optimised;
        new.build.compiler = Some("another one".into());
        new.method.generator_spins = !old.method.generator_spins;
        new.method.measured_seconds = 2.0 * old.method.measured_seconds;
        let (text, _) = text(&old, &new);
        assert_eq!(text.matches("warning: ").count(), 4, "{text}");
    }

    #[test]
    fn how_far_the_hand_written_loops_moved_is_said() {
        let (mut old, mut new) = (sample(), sample());
        for record in [&mut old, &mut new] {
            record.cells[0].rows[1].family = Family::Bare;
        }
        scale(&mut new, 1, Figure::MessagesPerSecond, 1.015);
        let (text, _) = text(&old, &new);
        assert!(
            text.contains("slow moved the most, by 1.5 % (echo 64Bx64, throughput)"),
            "{text}"
        );
    }
}
