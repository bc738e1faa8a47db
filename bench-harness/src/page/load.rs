//! Latency against load: open loops of one shape at several rates.

use super::figure;
use super::palette::Palette;
use super::spectrum::plain;
use super::svg::{Hold, Scale, Svg, decades, spread};
use crate::figures::{Figure, grouped};
use crate::record::{Cell, Record, Row};
use crate::workload::{Work, bytes};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 110.0;
const BOTTOM: f64 = 36.0;

/// A drawing for each shape that has two rates at least.
pub(super) fn draw(record: &Record, palette: &Palette) -> String {
    let mut shapes: Vec<(usize, usize)> = Vec::new();
    for cell in &record.cells {
        if let Work::Open { conns, size, .. } = cell.work
            && !shapes.contains(&(conns, size))
        {
            shapes.push((conns, size));
        }
    }
    shapes.into_iter().map(|shape| one(record, shape, palette)).collect()
}

fn one(record: &Record, shape: (usize, usize), palette: &Palette) -> String {
    let cells = record.cells.iter().filter_map(|cell| match cell.work {
        Work::Open { conns, size, rate } if (conns, size) == shape => Some((rate as f64, cell)),
        _ => None,
    });
    let mut cells: Vec<(f64, &Cell)> = cells.collect();
    cells.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let [(slowest, first), .., (fastest, _)] = cells[..] else {
        return String::new();
    };
    let values = |contender: &str, figure: Figure| -> Vec<(f64, f64)> {
        let at = |(rate, cell): &(f64, &Cell)| Some((*rate, *cell.row(contender)?.median.get(&figure)?));
        cells.iter().filter_map(at).collect()
    };
    let has_curve = |row: &&Row| values(&row.contender, Figure::LatencyP99Us).len() > 1;
    let rows: Vec<&Row> = first.rows.iter().filter(has_curve).collect();
    if rows.is_empty() {
        return String::new();
    }
    let of_all = |figure| rows.iter().flat_map(move |row| values(&row.contender, figure));
    let most = of_all(Figure::LatencyP99Us)
        .map(|(_, micros)| micros)
        .fold(1.0, f64::max);
    let least = of_all(Figure::LatencyP50Us)
        .map(|(_, micros)| micros)
        .fold(most, f64::min);
    let x = Scale::linear(slowest, fastest, LEFT, WIDTH - RIGHT);
    let y = Scale::log(least / 1.2, most * 1.2, HEIGHT - BOTTOM, 8.0);
    let (conns, size) = shape;
    let name = format!("{} over {} connections", bytes(size), grouped(conns as f64));
    let mut svg = Svg::new(WIDTH, HEIGHT, &format!("latency against load, {name}"));
    for (rate, _) in &cells {
        let at = x.at(*rate);
        svg.line("rule", (at, 8.0), (at, HEIGHT - BOTTOM));
        svg.text("soft", Hold::Middle, (at, HEIGHT - 22.0), format!("{}k", rate / 1000.0));
    }
    svg.text("soft", Hold::Start, (LEFT, HEIGHT - 6.0), "messages a second");
    for micros in decades(&y, 7) {
        let at = y.at(micros);
        svg.line("rule", (LEFT, at), (WIDTH - RIGHT, at));
        svg.text("soft", Hold::End, (LEFT - 6.0, at + 4.0), plain(micros));
    }
    let mut ends = Vec::new();
    for row in &rows {
        let place = |(rate, micros): (f64, f64)| (x.at(rate), y.at(micros));
        let line = palette.line(row);
        let late: Vec<_> = values(&row.contender, Figure::LatencyP99Us)
            .into_iter()
            .map(place)
            .collect();
        let middle: Vec<_> = values(&row.contender, Figure::LatencyP50Us)
            .into_iter()
            .map(place)
            .collect();
        svg.curve(&format!("curve {line}"), &late);
        svg.curve(&format!("curve faint {line}"), &middle);
        ends.push(late[late.len() - 1]);
    }
    let wanted: Vec<f64> = ends.iter().map(|(_, end)| *end).collect();
    let places = spread(&wanted, 12.5, 10.0, HEIGHT - BOTTOM);
    for ((row, end), place) in rows.iter().zip(ends).zip(places) {
        let colour = palette.colour(row);
        let label = WIDTH - RIGHT + 12.0;
        svg.curve(&format!("lead {colour}"), &[end, (label - 2.0, place)]);
        svg.text(
            &format!("name {colour}"),
            Hold::Start,
            (label, place + 4.0),
            &row.contender,
        );
    }
    figure(&format!("{name}: p99 in µs from when each was due, p50 faint"), svg)
}
