//! Size by connections: where a contender is faster than its baseline, and where it is not.

use super::svg::{Hold, Svg};
use super::{drawing, figure};
use crate::figures::{Figure, Verdict, grouped};
use crate::record::{Comparison, Record};
use crate::workload::{Work, bytes};

const NAMES: f64 = 56.0;
const CELL: f64 = 62.0;
const ROW: f64 = 28.0;
const TOP: f64 = 34.0;

/// A logarithm of a ratio that is so far from 0 has the full colour.
const FULL: f64 = 0.4;

/// A contender in a cell of its grid.
struct Square<'a> {
    contender: &'a str,
    baseline: &'a str,
    comparison: &'a Comparison,
    conns: usize,
    bytes: usize,
    key: String,
}

/// A grid for each contender that is compared in two cells at least of plain echo.
pub(super) fn draw(record: &Record) -> String {
    grids(record).iter().map(|squares| grid(squares)).collect()
}

/// The squares of every grid.
fn grids(record: &Record) -> Vec<Vec<Square<'_>>> {
    let mut grids: Vec<Vec<Square<'_>>> = Vec::new();
    for (number, cell) in record.cells.iter().enumerate() {
        let Work::Echo { conns, size, depth: 1 } = cell.work else {
            continue;
        };
        for (at, row) in cell.rows.iter().enumerate() {
            let Some((comparison, baseline)) = row.comparison(Figure::MessagesPerSecond).zip(row.baseline.as_deref())
            else {
                continue;
            };
            let square = Square {
                contender: &row.contender,
                baseline,
                comparison,
                conns,
                bytes: size,
                key: drawing("heat", number, at),
            };
            match grids.iter_mut().find(|grid| grid[0].contender == row.contender) {
                Some(grid) => grid.push(square),
                None => grids.push(vec![square]),
            }
        }
    }
    grids.retain(|grid| grid.len() > 1);
    grids
}

fn grid(squares: &[Square<'_>]) -> String {
    let Square {
        contender, baseline, ..
    } = squares[0];
    let sorted = |values: Vec<usize>| {
        let mut values = values;
        values.sort_unstable();
        values.dedup();
        values
    };
    let columns = sorted(squares.iter().map(|square| square.conns).collect());
    let rows = sorted(squares.iter().map(|square| square.bytes).collect());
    let width = (NAMES + CELL * columns.len() as f64).max(360.0);
    let height = TOP + ROW * rows.len() as f64;
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
        let y = TOP + ROW * at as f64;
        svg.text("soft", Hold::Start, (0.0, y + 18.0), bytes(*size));
    }
    for square in squares {
        let place = |all: &[usize], own: usize| all.partition_point(|other| *other < own) as f64;
        let x = NAMES + CELL * place(&columns, square.conns);
        square.draw(&mut svg, (x, TOP + ROW * place(&rows, square.bytes)));
    }
    figure(&format!("{contender}, throughput to {baseline}"), svg)
}

impl Square<'_> {
    fn draw(&self, svg: &mut Svg, corner: (f64, f64)) {
        let Comparison { ratio, verdict, .. } = self.comparison;
        let is_shown = *verdict != Verdict::NotShown;
        let log = ratio.ratio.ln();
        // No colour without a verdict: it would be read as one.
        let (class, strength) = match (is_shown, log > 0.0) {
            (false, _) => ("heat wash", 1.0),
            (true, true) => ("heat more", strength(log)),
            (true, false) => ("heat less", strength(log)),
        };
        svg.open_keyed(&self.key);
        svg.rect(class, corner, (CELL, ROW), strength);
        let weight = if is_shown { "strong" } else { "soft" };
        let middle = (corner.0 + CELL / 2.0, corner.1 + 18.0);
        svg.text(weight, Hold::Middle, middle, format!("{:.2}", ratio.ratio));
        svg.close();
    }
}

fn strength(log: f64) -> f64 {
    0.12 + 0.5 * (log.abs() / FULL).min(1.0)
}
