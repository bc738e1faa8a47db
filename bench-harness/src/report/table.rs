//! For people: a table a cell, then the targets.

use std::io::{self, Write};

use super::grid::Table;
use super::{asked, dash, interval, plain};
use crate::figures::Figure;
use crate::progress::counted;
use crate::record::{Cell, Record, Row};
use crate::targets::{Judged, Outcome};

pub(super) fn print(record: &Record, out: &mut impl Write) -> io::Result<()> {
    head(record, out)?;
    for cell in &record.cells {
        writeln!(out, "\n{}", cell.name)?;
        measured(cell).print(out)?;
        compared(cell, out)?;
        notes(cell, out)?;
    }
    for left_out in &record.left_out {
        writeln!(out, "\nnot run: {left_out}")?;
    }
    if record.interrupted {
        writeln!(out, "\ninterrupted: this is what there was by then")?;
    }
    targets(&record.targets, out)
}

fn head(record: &Record, out: &mut impl Write) -> io::Result<()> {
    let method = &record.method;
    writeln!(out, "{}", record.machine.line())?;
    for warning in &record.machine.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(
        out,
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
    )
}

/// The medians, as far as anybody has them who did not fail.
fn measured(cell: &Cell) -> Table {
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
fn notes(cell: &Cell, out: &mut impl Write) -> io::Result<()> {
    for row in &cell.rows {
        match &row.fault {
            Some(fault) if fault.is_failure() => writeln!(out, "  {}: FAILED, {fault}", row.contender)?,
            Some(lacks) => writeln!(out, "  {}: not here, {lacks}", row.contender)?,
            None => {}
        }
    }
    for row in cell.foreign() {
        writeln!(out, "  {}: {}", row.contender, row.about)?;
    }
    for (contender, baseline) in cell.without_baseline() {
        writeln!(out, "  {contender}: not compared, since {baseline} failed")?;
    }
    if let Some(trend) = cell.drift.as_ref().filter(|trend| trend.drift.is_shown()) {
        writeln!(
            out,
            "  drift: {} of {} changes by {:+.2} % a round (p = {:.4}); ratios are paired and bear it, medians do not",
            trend.figure.noun(),
            trend.contender,
            trend.drift.a_round * 100.0,
            trend.drift.p
        )?;
    }
    let bound: Vec<&str> = cell
        .rows
        .iter()
        .filter(|row: &&Row| row.load_bound)
        .map(|row| row.contender.as_str())
        .collect();
    if !bound.is_empty() {
        writeln!(
            out,
            "  client-bound: {}; the load was busy for more than 90 % of the time, so these may be its figures and \
             ratios to them are diluted: look at the CPU",
            bound.join(", ")
        )?;
    }
    Ok(())
}

fn targets(judged: &[Judged], out: &mut impl Write) -> io::Result<()> {
    if judged.is_empty() {
        return Ok(());
    }
    writeln!(out, "\ntargets")?;
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
    table.print(out)?;
    let count = |is: fn(&Outcome) -> bool| judged.iter().filter(|judged| is(&judged.outcome)).count();
    writeln!(
        out,
        "{} of {} reached ({} with all of the interval), {} held in rounds that have none, {} missed, {} not shown",
        count(|outcome| matches!(outcome, Outcome::Shown | Outcome::Reached)),
        judged.len(),
        count(|outcome| *outcome == Outcome::Shown),
        count(|outcome| matches!(outcome, Outcome::Held(_))),
        count(|outcome| *outcome == Outcome::Missed),
        count(|outcome| matches!(outcome, Outcome::NotShown(_))),
    )
}
