//! For documents: a table a cell, with its ratios beside what was measured.

use std::io::{self, Write};

use super::grid::Table;
use super::{dash, environment, number, table};
use crate::figures::Verdict;
use crate::record::{Cell, Comparison, Record};

pub(super) fn print(record: &Record, out: &mut impl Write) -> io::Result<()> {
    for line in table::head(record) {
        writeln!(out, "{line}\n")?;
    }
    let seconds = record.took_seconds;
    writeln!(
        out,
        "```sh\n{}\n```\n\ntook {seconds:.0} s.",
        environment::command(record)
    )?;
    for cell in &record.cells {
        writeln!(out, "\n### {}\n", cell.name)?;
        with_ratios(cell).print_markdown(out)?;
        list(&table::notes(cell), out)?;
    }
    list(&table::absent(record), out)?;
    if !record.targets.is_empty() {
        writeln!(out, "\n### targets\n")?;
        table::targets(&record.targets).print_markdown(out)?;
        writeln!(out, "\n{}", table::reached(&record.targets))?;
    }
    writeln!(out, "\n### environment\n")?;
    let mut table = Table::new(&["what", "value"]);
    for (name, value) in environment(record) {
        table.row(vec![name, value]);
    }
    table.print_markdown(out)
}

/// What was measured, and for each figure that is compared the ratio to whom: **bold** where it is a difference.
fn with_ratios(cell: &Cell) -> Table {
    let mut all = table::measured(cell);
    if cell.rows.iter().any(|row| !row.comparisons.is_empty()) {
        let baselines = cell.rows.iter().map(|row| row.baseline.clone().unwrap_or_else(dash));
        all.column("ratio to", baselines.collect());
        for figure in cell.work.compared() {
            let ratios = cell
                .rows
                .iter()
                .map(|row| row.comparison(*figure).map_or_else(dash, ratio));
            all.column(&format!("{} ratio", figure.noun()), ratios.collect());
        }
    }
    all
}

fn ratio(comparison: &Comparison) -> String {
    let ratio = &comparison.ratio;
    let middle = number(ratio.ratio);
    let middle = match comparison.verdict {
        Verdict::NotShown => middle,
        Verdict::Better | Verdict::Worse => format!("**{middle}**"),
    };
    match ratio.corrected {
        Some(interval) => format!("{middle} ({}-{})", number(interval.low), number(interval.high)),
        None => middle,
    }
}

fn list(lines: &[String], out: &mut impl Write) -> io::Result<()> {
    for (at, line) in lines.iter().enumerate() {
        let above = if at == 0 { "\n" } else { "" };
        writeln!(out, "{above}- {line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    #[test]
    fn a_document_has_every_row_and_marks_what_differs() {
        let mut out = Vec::new();
        print(&sample(), &mut out).expect("memory takes all");
        let text = String::from_utf8(out).expect("it is text");
        assert!(text.contains("```sh\nkraft-bench run\n```"), "{text}");
        let row = text
            .lines()
            .find(|line| line.starts_with("| slow |"))
            .expect("it took part");
        assert!(row.contains("| fast | **0.900** (0."), "{row}");
        let rule = text
            .lines()
            .find(|line| line.starts_with("|--|"))
            .expect("a table has one");
        assert_eq!(rule.matches('|').count(), row.matches('|').count(), "{text}");
        assert!(text.contains("- dead: FAILED, "), "{text}");
        assert!(text.contains("- not run: echo 64KiBx10000: too much"), "{text}");
        assert!(text.starts_with("a processor, 2 cores, "), "{text}");
        assert!(
            text.contains(&format!("\n{}\n", environment::program(&sample().build))),
            "{text}"
        );
        for (name, value) in environment(&sample()) {
            assert!(text.contains(&format!("| {name} | {value} |")), "{name}: {text}");
        }
    }
}
