//! What changed between two runs.
//!
//! They were measured at different times, on a machine that may have been in another mood. So where a contender has a
//! baseline in both, it is its ratio to that which is compared: the baselines are hand-written loops that change
//! seldom, and feel the machine as everybody does. A contender without one is compared as it is, which says as much of
//! the machine as of the program.

use std::io::{self, Write};

use crate::figures::{Figure, Verdict};
use crate::record::{Cell, Record, Row};
use crate::report::{Table, dash, interval};
use crate::stats::{Judge, Ratio, Side};

/// A figure of a contender in both runs.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    cell: String,
    contender: String,
    /// What it is held against in both; `None` if it was compared as it is.
    baseline: Option<String>,
    figure: Figure,
    pub(crate) verdict: Verdict,
    /// New over old; `None` if one of them failed.
    ratio: Option<Ratio>,
    note: String,
}

/// A contender that takes part in a cell of both runs.
struct Pair<'a> {
    old: (&'a Cell, &'a Row),
    new: (&'a Cell, &'a Row),
}

/// What both runs have.
pub(crate) fn changes(old: &Record, new: &Record) -> Vec<Change> {
    let pairs = pairs(old, new);
    let mut judge = Judge {
        seed: new.method.seed,
        comparisons: 0,
    };
    judge.comparisons = pairs.iter().map(|pair| pair.new.0.work.compared().len()).sum();
    pairs.iter().flat_map(|pair| pair.changes(judge)).collect()
}

fn pairs<'a>(old: &'a Record, new: &'a Record) -> Vec<Pair<'a>> {
    let mut pairs = Vec::new();
    for cell in &new.cells {
        let Some(before) = old.cells.iter().find(|other| other.work == cell.work) else {
            continue;
        };
        for row in &cell.rows {
            pairs.extend(before.row(&row.contender).map(|other| Pair {
                old: (before, other),
                new: (cell, row),
            }));
        }
    }
    pairs
}

impl Pair<'_> {
    fn changes(&self, judge: Judge) -> Vec<Change> {
        let ((_, old), (cell, new)) = (self.old, self.new);
        let figures = cell.work.compared().iter();
        match (&old.fault, &new.fault) {
            (_, Some(fault)) => {
                let is_news = old.fault.is_none();
                let verdict = if is_news { Verdict::Worse } else { Verdict::NotShown };
                let note = if is_news { "" } else { ", as before" };
                let figure = cell.work.columns().first().copied();
                figure
                    .map(|figure| self.change(figure, verdict, None, format!("failed{note}: {fault}")))
                    .into_iter()
                    .collect()
            }
            (Some(_), None) => {
                let figure = cell.work.columns().first().copied();
                figure
                    .map(|figure| self.change(figure, Verdict::Better, None, "failed before".into()))
                    .into_iter()
                    .collect()
            }
            (None, None) => figures.filter_map(|figure| self.compared(*figure, judge)).collect(),
        }
    }

    fn compared(&self, figure: Figure, judge: Judge) -> Option<Change> {
        let ((before, old), (after, new)) = (self.old, self.new);
        let baselines = before.baseline(old).zip(after.baseline(new));
        let baselines = baselines.filter(|(old, new)| old.contender == new.contender);
        let (old, new) = match baselines {
            Some((was, is)) => (old.ratios(was, figure), new.ratios(is, figure)),
            None => (old.values(figure), new.values(figure)),
        };
        let ratio = judge.unpaired(&new, &old)?;
        let note = match ratio.side() {
            Side::NotShown if ratio.corrected.is_none() => "too few rounds",
            _ => "",
        };
        let verdict = figure.verdict(ratio.side());
        Some(self.change(figure, verdict, Some(ratio), note.into()))
    }

    fn change(&self, figure: Figure, verdict: Verdict, ratio: Option<Ratio>, note: String) -> Change {
        let ((before, old), (cell, row)) = (self.old, self.new);
        let held_against = |cell: &Cell, row: &Row| cell.baseline(row).map(|baseline| baseline.contender.clone());
        Change {
            cell: cell.name.clone(),
            contender: row.contender.clone(),
            baseline: held_against(cell, row).filter(|name| held_against(before, old).as_ref() == Some(name)),
            figure,
            verdict,
            ratio,
            note,
        }
    }
}

/// Prints them. Whether something became worse.
pub(crate) fn print(old: &Record, new: &Record, changes: &[Change], out: &mut impl Write) -> io::Result<bool> {
    for (name, record) in [("old", old), ("new", new)] {
        let commit = record.build.commit.as_deref().unwrap_or("unknown commit");
        let (version, machine) = (&record.build.version, record.machine.line());
        writeln!(out, "{name}: {version} ({commit}), {machine}")?;
    }
    if old.machine.cpu != new.machine.cpu || old.machine.kernel != new.machine.kernel {
        writeln!(
            out,
            "warning: these are different machines or kernels; what changed may be that"
        )?;
    }
    if old.method.measured_seconds != new.method.measured_seconds {
        writeln!(out, "warning: rounds were not equally long")?;
    }
    let mut table = Table::new(&["cell", "contender", "against", "what", "new/old", "interval", "verdict"]);
    for change in changes {
        let words = change.figure.words(change.verdict);
        let ratio = change.ratio.as_ref();
        table.row(vec![
            change.cell.clone(),
            change.contender.clone(),
            change.baseline.clone().unwrap_or_else(|| "itself".into()),
            change.figure.noun().into(),
            ratio.map_or_else(dash, |ratio| format!("{:.3}", ratio.ratio)),
            interval(ratio.and_then(|ratio| ratio.corrected)),
            match change.note.as_str() {
                "" => words.into(),
                note if ratio.is_none() => note.into(),
                note => format!("{words}: {note}"),
            },
        ]);
    }
    if changes.is_empty() {
        writeln!(out, "the runs have no contender in a cell in common")?;
        return Ok(false);
    }
    table.print(out)?;
    let count = |verdict| changes.iter().filter(|change| change.verdict == verdict).count();
    let worse = count(Verdict::Worse);
    writeln!(
        out,
        "{worse} worse, {} better, {} without a difference that is shown",
        count(Verdict::Better),
        count(Verdict::NotShown)
    )?;
    Ok(worse > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use crate::record::tests::sample;

    fn verdicts(old: &Record, new: &Record) -> Vec<(String, Figure, Verdict)> {
        let changes = changes(old, new).into_iter();
        changes
            .map(|change| (change.contender, change.figure, change.verdict))
            .collect()
    }

    fn scale(record: &mut Record, contender: usize, figure: Figure, factor: f64) {
        let rounds = record.cells[0].rows[contender].rounds.iter_mut().flatten();
        rounds
            .filter_map(|round| round.get_mut(&figure))
            .for_each(|value| *value *= factor);
    }

    #[test]
    fn two_equal_runs_show_nothing() {
        let found = verdicts(&sample(), &sample());
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(
            found.iter().all(|(.., verdict)| *verdict == Verdict::NotShown),
            "{found:?}"
        );
    }

    #[test]
    fn a_loss_is_found_and_said() {
        let (old, mut new) = (sample(), sample());
        scale(&mut new, 1, Figure::MessagesPerSecond, 0.8);
        let changes = changes(&old, &new);
        let mut out = Vec::new();
        assert!(print(&old, &new, &changes, &mut out).expect("memory takes all"));
        let text = String::from_utf8(out).expect("it is text");
        let line = text
            .lines()
            .find(|line| line.contains("slower"))
            .expect("one is slower");
        assert!(
            line.contains("slow ") && line.contains("fast ") && line.contains("0.800"),
            "{text}"
        );
        assert!(text.contains("1 worse, 0 better, 4 without"), "{text}");
    }

    #[test]
    fn a_machine_that_is_slower_altogether_is_no_loss_of_who_has_a_baseline() {
        let (old, mut new) = (sample(), sample());
        scale(&mut new, 0, Figure::MessagesPerSecond, 0.8);
        scale(&mut new, 1, Figure::MessagesPerSecond, 0.8);
        let found = verdicts(&old, &new);
        let of = |contender: &str| {
            let mut all = found.iter();
            let found = all.find(|(name, figure, _)| name == contender && *figure == Figure::MessagesPerSecond);
            found.map(|(.., verdict)| *verdict)
        };
        assert_eq!(of("slow"), Some(Verdict::NotShown));
        assert_eq!(of("fast"), Some(Verdict::Worse));
    }

    #[test]
    fn who_fails_where_he_did_not_has_lost() {
        let (old, mut new) = (sample(), sample());
        new.cells[0].rows[1].fault = Some(Fault::Corrupt("byte 3".into()));
        let found = verdicts(&old, &new);
        assert!(
            found.contains(&("slow".into(), Figure::MessagesPerSecond, Verdict::Worse)),
            "{found:?}"
        );
        let back = verdicts(&new, &old);
        assert!(
            back.contains(&("slow".into(), Figure::MessagesPerSecond, Verdict::Better)),
            "{back:?}"
        );
    }
}
