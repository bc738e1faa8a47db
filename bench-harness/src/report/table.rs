//! For people: a table a cell, then the targets.

use std::io::{self, Write};

use super::grid::Table;
use super::{asked, dash, environment, interval, plain};
use crate::figures::Figure;
use crate::progress::counted;
use crate::record::{Cell, Record, Row};
use crate::targets::{Judged, Outcome};

pub(super) fn print(record: &Record, out: &mut impl Write) -> io::Result<()> {
    for line in head(record) {
        writeln!(out, "{line}")?;
    }
    for cell in &record.cells {
        writeln!(out, "\n{}", cell.name)?;
        measured(cell).print(out)?;
        compared(cell, out)?;
        for note in notes(cell) {
            writeln!(out, "  {note}")?;
        }
    }
    for line in absent(record) {
        writeln!(out, "\n{line}")?;
    }
    if !record.targets.is_empty() {
        writeln!(out, "\ntargets")?;
        targets(&record.targets).print(out)?;
        writeln!(out, "{}", reached(&record.targets))?;
    }
    Ok(())
}

/// Where it was measured, and how.
pub(super) fn head(record: &Record) -> Vec<String> {
    let method = &record.method;
    let mut lines = vec![record.machine.line(), environment::program(&record.build)];
    lines.extend(
        record
            .machine
            .warnings
            .iter()
            .map(|warning| format!("warning: {warning}")),
    );
    lines.push(format!(
        "{} of {:.3} s behind {:.3} s of warm-up, in the order of seed {}, {} load; figures are medians; ratios \
         are paired by round, and their intervals are those of {} at {:.0} %, all together",
        counted(method.rounds, "round"),
        method.measured_seconds,
        method.warm_up_seconds,
        method.seed,
        if method.generator_spins {
            "a spinning"
        } else {
            "a sleeping"
        },
        counted(method.comparisons, "comparison"),
        method.confidence * 100.0
    ));
    lines
}

/// What there is not.
pub(super) fn absent(record: &Record) -> Vec<String> {
    let mut lines: Vec<String> = record.left_out.iter().map(|cell| format!("not run: {cell}")).collect();
    if record.interrupted {
        lines.push("interrupted: this is what there was by then".into());
    }
    lines
}

/// The medians, as far as anybody has them who did not fail.
pub(super) fn measured(cell: &Cell) -> Table {
    let has = |figure: &&Figure| cell.rows.iter().any(|row| row.shown(**figure).is_some());
    let figures: Vec<Figure> = cell.work.columns().iter().filter(has).copied().collect();
    let mut headings = vec!["engine"];
    headings.extend(figures.iter().map(|figure| figure.heading()));
    let mut table = Table::new(&headings);
    for row in &cell.rows {
        let mut cells = vec![row.contender.clone()];
        cells.extend(figures.iter().map(|figure| {
            let median = row.shown(*figure);
            median.map_or_else(dash, |median| figure.show(median))
        }));
        table.row(cells);
    }
    table
}

/// A line a comparison, if there are any.
fn compared(cell: &Cell, out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new(&["ratio of", "to", "what", "ratio", "interval", "verdict"]);
    let mut is_empty = true;
    for figure in cell.work.compared() {
        for row in &cell.rows {
            let Some((comparison, baseline)) = row.comparison(*figure).zip(row.baseline.as_ref()) else {
                continue;
            };
            is_empty = false;
            table.row(vec![
                row.contender.clone(),
                baseline.clone(),
                figure.noun().into(),
                format!("{:.3}", comparison.ratio.ratio),
                interval(comparison.ratio.corrected),
                figure.words(comparison.verdict).into(),
            ]);
        }
    }
    if is_empty { Ok(()) } else { table.print(out) }
}

/// What a table cannot say in a column.
pub(super) fn notes(cell: &Cell) -> Vec<String> {
    let fault = |row: &Row| match &row.fault {
        Some(fault) if fault.is_failure() => Some(format!("{}: FAILED, {fault}", row.contender)),
        Some(lacks) => Some(format!("{}: not here, {lacks}", row.contender)),
        None => None,
    };
    let mut lines: Vec<String> = cell.rows.iter().filter_map(fault).collect();
    lines.extend(cell.foreign().map(|row| format!("{}: {}", row.contender, row.about)));
    let alone = cell.without_baseline();
    lines.extend(alone.map(|(contender, baseline)| format!("{contender}: not compared, since {baseline} failed")));
    if let Some(trend) = cell.drift.as_ref().filter(|trend| trend.drift.is_shown()) {
        lines.push(format!(
            "drift: {} of {} changes by {:+.2} % a round (p = {:.4}); ratios are paired and bear it, medians do not",
            trend.figure.noun(),
            trend.contender,
            trend.drift.a_round * 100.0,
            trend.drift.p
        ));
    }
    let bound = cell.rows.iter().filter(|row| row.load_bound);
    let bound: Vec<&str> = bound.map(|row| row.contender.as_str()).collect();
    if !bound.is_empty() {
        lines.push(format!(
            "client-bound: {}; the load was busy for more than 90 % of the time, so these may be its figures and \
             ratios to them are diluted: look at the CPU",
            bound.join(", ")
        ));
    }
    lines
}

pub(super) fn targets(judged: &[Judged]) -> Table {
    let mut table = Table::new(&[
        "what",
        "where",
        "figure",
        "asked",
        "found",
        "interval",
        "CPU ratio",
        "verdict",
    ]);
    for judged in judged {
        let found = judged.found.as_ref();
        table.row(vec![
            judged.what.clone(),
            judged.work.to_string(),
            judged.figure.noun().into(),
            asked(judged.figure, judged.bound),
            found.map_or_else(dash, |found| plain(judged.figure, found.ratio)),
            interval(found.and_then(|found| found.corrected)),
            judged.cpu.as_ref().map_or_else(dash, |cpu| format!("{:.2}", cpu.ratio)),
            judged.outcome.to_string(),
        ]);
    }
    table
}

/// How many are what.
pub(super) fn reached(judged: &[Judged]) -> String {
    let count = |is: fn(&Outcome) -> bool| judged.iter().filter(|judged| is(&judged.outcome)).count();
    format!(
        "{} of {} reached ({} with all of the interval), {} held in rounds that have none, {} missed, {} not shown",
        count(|outcome| matches!(outcome, Outcome::Shown | Outcome::Reached)),
        judged.len(),
        count(|outcome| *outcome == Outcome::Shown),
        count(|outcome| matches!(outcome, Outcome::Held(_))),
        count(|outcome| *outcome == Outcome::Missed),
        count(|outcome| matches!(outcome, Outcome::NotShown(_))),
    )
}
