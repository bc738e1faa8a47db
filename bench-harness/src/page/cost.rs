//! What a message costs the server.

use super::palette::Palette;
use super::svg::{Hold, Scale, Svg};
use super::{drawing, figure};
use crate::figures::Figure;
use crate::record::{Cell, Record, Row};

const WIDTH: f64 = 360.0;
const NAMES: f64 = 112.0;
const VALUES: f64 = 46.0;
const ROW: f64 = 18.0;

/// A drawing for each cell in which somebody has a CPU time of a message.
pub(super) fn draw(record: &Record, palette: &Palette) -> String {
    let cells = record.cells.iter().enumerate();
    cells.map(|(number, cell)| one(number, cell, palette)).collect()
}

fn one(number: usize, cell: &Cell, palette: &Palette) -> String {
    let what = Figure::ServerCpuUsPerMessage;
    let rows = cell.rows.iter().enumerate();
    let rows: Vec<(usize, &Row, f64)> = rows.filter_map(|(at, row)| Some((at, row, row.shown(what)?))).collect();
    let most = rows.iter().map(|(.., micros)| *micros).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let label = format!("CPU time of a message in {}", cell.name);
    let mut svg = Svg::new(WIDTH, ROW * rows.len() as f64 + 4.0, &label);
    let scale = Scale::linear(0.0, most, NAMES, WIDTH - VALUES);
    for (place, (at, row, micros)) in rows.iter().enumerate() {
        let y = ROW * place as f64;
        svg.open_keyed(&drawing("cost", number, *at));
        svg.text("", Hold::Start, (8.0, y + 13.0), &row.contender);
        let class = format!("bar {}", palette.colour(row));
        svg.rect(&class, (NAMES, y + 4.0), (scale.at(*micros) - NAMES, ROW - 8.0), 1.0);
        svg.text("", Hold::End, (WIDTH, y + 13.0), what.show(*micros));
        svg.close();
    }
    figure(&cell.name, svg)
}
