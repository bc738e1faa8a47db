//! Size by connections: where a contender is faster than its baseline, and where it is not.

use super::figure;
use super::svg::{Hold, Svg};
use crate::figures::{Figure, Verdict, grouped};
use crate::record::{Cell, Comparison, Record};
use crate::workload::{Work, bytes};

const NAMES: f64 = 56.0;
const CELL: f64 = 62.0;
const ROW: f64 = 28.0;

/// A logarithm of a ratio that is so far from 0 has the full colour.
const FULL: f64 = 0.4;

/// A grid for each contender that is compared in two cells at least of plain echo.
pub(super) fn draw(record: &Record) -> String {
    let mut contenders: Vec<&str> = Vec::new();
    for row in plain(record).flat_map(|(_, _, cell)| &cell.rows) {
        if row.baseline.is_some() && !contenders.contains(&row.contender.as_str()) {
            contenders.push(&row.contender);
        }
    }
    contenders
        .into_iter()
        .map(|contender| grid(record, contender))
        .collect()
}

fn plain(record: &Record) -> impl Iterator<Item = (usize, usize, &Cell)> {
    record.cells.iter().filter_map(|cell| match cell.work {
        Work::Echo { conns, size, depth: 1 } => Some((conns, size, cell)),
        _ => None,
    })
}

fn grid(record: &Record, contender: &str) -> String {
    let compared = plain(record).filter_map(|(conns, size, cell)| {
        let row = cell.row(contender)?;
        let comparison = row.comparison(Figure::MessagesPerSecond)?;
        Some((conns, size, comparison, row.baseline.as_deref()?))
    });
    let cells: Vec<(usize, usize, &Comparison, &str)> = compared.collect();
    let Some((_, _, _, baseline)) = cells.first().filter(|_| cells.len() > 1) else {
        return String::new();
    };
    let sorted = |values: Vec<usize>| {
        let mut values = values;
        values.sort_unstable();
        values.dedup();
        values
    };
    let columns = sorted(cells.iter().map(|(conns, ..)| *conns).collect());
    let rows = sorted(cells.iter().map(|(_, size, ..)| *size).collect());
    let width = (NAMES + CELL * columns.len() as f64).max(360.0);
    let height = 34.0 + ROW * rows.len() as f64;
    let mut svg = Svg::new(
        width,
        height,
        &format!("throughput of {contender} by size and connections"),
    );
    svg.text("soft", Hold::Start, (0.0, 11.0), "connections");
    for (at, conns) in columns.iter().enumerate() {
        let x = NAMES + CELL * (at as f64 + 0.5);
        svg.text("soft", Hold::Middle, (x, 27.0), grouped(*conns as f64));
    }
    for (at, size) in rows.iter().enumerate() {
        let y = 34.0 + ROW * at as f64;
        svg.text("soft", Hold::Start, (0.0, y + 18.0), bytes(*size));
        for (column, conns) in columns.iter().enumerate() {
            let found = cells.iter().find(|(other, own, ..)| other == conns && own == size);
            let Some((_, _, comparison, _)) = found else {
                continue;
            };
            let corner = (NAMES + CELL * column as f64, y);
            let is_shown = comparison.verdict != Verdict::NotShown;
            let log = comparison.ratio.ratio.ln();
            // No colour without a verdict: it would be read as one.
            let (class, strength) = match (is_shown, log > 0.0) {
                (false, _) => ("heat wash", 1.0),
                (true, true) => ("heat more", strength(log)),
                (true, false) => ("heat less", strength(log)),
            };
            svg.rect(class, corner, (CELL, ROW), strength);
            let weight = if is_shown { "strong" } else { "soft" };
            let middle = (corner.0 + CELL / 2.0, y + 18.0);
            svg.text(weight, Hold::Middle, middle, format!("{:.2}", comparison.ratio.ratio));
        }
    }
    figure(&format!("{contender}, throughput to {baseline}"), svg)
}

fn strength(log: f64) -> f64 {
    0.12 + 0.5 * (log.abs() / FULL).min(1.0)
}
