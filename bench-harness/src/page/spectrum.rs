//! How late answers come: percentiles, drawn so that each further nine is equally far.

use super::palette::Palette;
use super::svg::{Hold, Scale, Svg, decades, spread};
use super::{drawing, figure};
use crate::figures::grouped;
use crate::record::{Cell, Row};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 110.0;
const BOTTOM: f64 = 24.0;

/// The spectra of a cell; empty if no row has one.
pub(super) fn draw(number: usize, cell: &Cell, palette: &Palette) -> String {
    let has_one = |row: &Row| row.spectrum.len() > 1 && row.fault.is_none();
    let rows = cell.rows.iter().enumerate().filter(|(_, row)| has_one(row));
    let rows: Vec<(usize, &Row)> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let all = || rows.iter().flat_map(|(_, row)| row.spectrum.iter().copied());
    let deepest = all().map(|[percentile, _]| depth(percentile)).fold(0.0, f64::max);
    let least = all().map(|[_, micros]| micros).fold(f64::INFINITY, f64::min);
    let most = all().map(|[_, micros]| micros).fold(0.0, f64::max);
    let x = Scale::linear(depth(50.0), deepest, LEFT, WIDTH - RIGHT);
    let y = Scale::log(least / 1.1, most * 1.1, HEIGHT - BOTTOM, 8.0);
    let mut svg = Svg::new(WIDTH, HEIGHT, &format!("latency by percentile in {}", cell.name));
    for percentile in [50.0, 90.0, 99.0, 99.9, 99.99, 99.999] {
        if x.holds(depth(percentile)) {
            let at = x.at(depth(percentile));
            svg.line("rule", (at, 8.0), (at, HEIGHT - BOTTOM));
            svg.text("soft", Hold::Middle, (at, HEIGHT - 10.0), percentile);
        }
    }
    for micros in decades(&y, 7) {
        let at = y.at(micros);
        svg.line("rule", (LEFT, at), (WIDTH - RIGHT, at));
        svg.text("soft", Hold::End, (LEFT - 6.0, at + 4.0), plain(micros));
    }
    let ends: Vec<(f64, f64)> = rows
        .iter()
        .map(|(_, row)| {
            let [percentile, micros] = row.spectrum[row.spectrum.len() - 1];
            (x.at(depth(percentile)), y.at(micros))
        })
        .collect();
    let wanted: Vec<f64> = ends.iter().map(|(_, end)| *end).collect();
    let places = spread(&wanted, 12.5, 10.0, HEIGHT - BOTTOM);
    for (((at, row), end), place) in rows.iter().zip(ends).zip(places) {
        let points: Vec<_> = row
            .spectrum
            .iter()
            .map(|[percentile, micros]| (x.at(depth(*percentile)), y.at(*micros)))
            .collect();
        svg.open_keyed(&drawing("spectrum", number, *at));
        svg.curve(&format!("curve {}", palette.line(row)), &points);
        svg.close();
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
    figure("latency in µs by percentile, all rounds together", svg)
}

/// How many nines, so to speak.
fn depth(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-9).log10()
}

/// A tick's value.
pub(super) fn plain(value: f64) -> String {
    if value >= 1.0 {
        grouped(value)
    } else {
        value.to_string()
    }
}
