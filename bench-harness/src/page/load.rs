//! Latency against load: open loops of one shape at several rates, and beside each latency the service time, which is what
//! a load that waits for answers would take for it.

use super::palette::Palette;
use super::spectrum::plain;
use super::svg::{Hold, Scale, Svg, decades, spread};
use super::{figure, key};
use crate::figures::{Figure, grouped};
use crate::record::{Cell, Record, Row};
use crate::workload::{Pace, Work, bytes};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 110.0;
const BOTTOM: f64 = 36.0;

/// What is drawn of a shape: a drawing for each percentile, of the latency and the service time.
const DRAWN: [[Figure; 2]; 2] = [
    [Figure::LatencyP99Us, Figure::ServiceP99Us],
    [Figure::LatencyP50Us, Figure::ServiceP50Us],
];

/// Open loops that differ in their rate alone.
struct Shape<'a> {
    name: String,
    /// By rate: a cell and its place in the run.
    cells: Vec<(u64, usize, &'a Cell)>,
}

/// A figure of a contender at each rate.
pub(super) struct Curve<'a> {
    pub(super) row: &'a Row,
    pub(super) figure: Figure,
    /// By which a page's check finds it: that of the figure at the slowest rate.
    pub(super) key: String,
    /// Rates and microseconds.
    pub(super) points: Vec<(f64, f64)>,
}

/// A drawing for each percentile of each shape that has two rates at least.
pub(super) fn draw(record: &Record, palette: &Palette) -> String {
    let shapes = shapes(record);
    let drawings = shapes.iter().flat_map(|shape| DRAWN.map(|figures| (shape, figures)));
    drawings.map(|(shape, figures)| shape.draw(figures, palette)).collect()
}

/// Every curve that a page of the run has.
pub(super) fn curves(record: &Record) -> Vec<Curve<'_>> {
    let mut all = Vec::new();
    for shape in shapes(record) {
        DRAWN.iter().for_each(|figures| all.extend(shape.curves(*figures)));
    }
    all
}

fn shapes(record: &Record) -> Vec<Shape<'_>> {
    let mut shapes: Vec<Shape<'_>> = Vec::new();
    for (number, cell) in record.cells.iter().enumerate() {
        let Some((name, rate)) = shape(cell.work) else {
            continue;
        };
        let at = shapes.iter().position(|shape| shape.name == name).unwrap_or_else(|| {
            let cells = Vec::new();
            shapes.push(Shape { name, cells });
            shapes.len() - 1
        });
        shapes[at].cells.push((rate, number, cell));
    }
    shapes
        .iter_mut()
        .for_each(|shape| shape.cells.sort_by_key(|(rate, ..)| *rate));
    shapes.retain(|shape| shape.cells.len() > 1);
    shapes
}

/// What is the same at each rate, and the rate.
fn shape(work: Work) -> Option<(String, u64)> {
    match work {
        Work::Open { conns, size, rate } => {
            let conns = grouped(conns as f64);
            Some((format!("{} over {conns} connections", bytes(size)), rate))
        }
        Work::Cluster {
            ask,
            pace: Pace::Open { clients, rate },
        } => Some((format!("{} by {clients} clients", ask.name()), rate)),
        _ => None,
    }
}

impl<'a> Shape<'a> {
    /// The curves of these figures, by contender, without the rates at which it failed.
    fn curves(&self, figures: [Figure; 2]) -> Vec<Curve<'a>> {
        let (_, number, first) = self.cells[0];
        let mut curves = Vec::new();
        for (at, row) in first.rows.iter().enumerate() {
            for figure in figures {
                let point = |(rate, _, cell): &(u64, usize, &Cell)| {
                    let median = cell.row(&row.contender)?.shown(figure)?;
                    Some((*rate as f64, median))
                };
                let points: Vec<_> = self.cells.iter().filter_map(point).collect();
                if points.len() > 1 {
                    let key = key(number, at, figure);
                    curves.push(Curve {
                        row,
                        figure,
                        key,
                        points,
                    });
                }
            }
        }
        curves
    }

    fn draw(&self, figures: [Figure; 2], palette: &Palette) -> String {
        let curves = self.curves(figures);
        let [latency, _] = figures;
        if curves.is_empty() {
            return String::new();
        }
        let (x, y) = self.scales(&curves);
        let what = format!("{} against load, {}", latency.noun(), self.name);
        let mut svg = Svg::new(WIDTH, HEIGHT, &what);
        self.axes(&mut svg, &x, &y);
        let mut ends = Vec::new();
        for curve in &curves {
            let places: Vec<_> = curve.points.iter().map(|(rate, us)| (x.at(*rate), y.at(*us))).collect();
            let is_latency = curve.figure == latency;
            let faint = if is_latency { "" } else { "faint " };
            let class = format!("curve {faint}{}", palette.line(curve.row));
            svg.keyed_curve(&class, &curve.key, &places);
            if is_latency {
                ends.push((curve.row, places[places.len() - 1]));
            }
        }
        let wanted: Vec<f64> = ends.iter().map(|(_, (_, end))| *end).collect();
        let places = spread(&wanted, 12.5, 10.0, HEIGHT - BOTTOM);
        for ((row, end), place) in ends.into_iter().zip(places) {
            let colour = palette.colour(row);
            let label = WIDTH - RIGHT + 12.0;
            svg.curve(&format!("lead {colour}"), &[end, (label - 2.0, place)]);
            let at = (label, place + 4.0);
            svg.text(&format!("name {colour}"), Hold::Start, at, &row.contender);
        }
        let caption = format!(
            "{}: {} in µs from when each was due; faint: service time, from when it was sent",
            self.name,
            latency.noun()
        );
        figure(&caption, svg)
    }

    /// Of the rates, and of all that is drawn over them.
    fn scales(&self, curves: &[Curve<'_>]) -> (Scale, Scale) {
        let rates = |at: usize| self.cells[at].0 as f64;
        let (slowest, fastest) = (rates(0), rates(self.cells.len() - 1));
        let micros = || curves.iter().flat_map(|curve| curve.points.iter().map(|(_, us)| *us));
        let most = micros().fold(1.0, f64::max);
        let least = micros().fold(most, f64::min);
        (
            Scale::linear(slowest, fastest, LEFT, WIDTH - RIGHT),
            Scale::log(least / 1.2, most * 1.2, HEIGHT - BOTTOM, 8.0),
        )
    }

    fn axes(&self, svg: &mut Svg, x: &Scale, y: &Scale) {
        for (rate, ..) in &self.cells {
            let at = x.at(*rate as f64);
            svg.line("rule", (at, 8.0), (at, HEIGHT - BOTTOM));
            let thousands = format!("{}k", *rate as f64 / 1000.0);
            svg.text("soft", Hold::Middle, (at, HEIGHT - 22.0), thousands);
        }
        svg.text("soft", Hold::Start, (LEFT, HEIGHT - 6.0), "messages a second");
        for micros in decades(y, 7) {
            let at = y.at(micros);
            svg.line("rule", (LEFT, at), (WIDTH - RIGHT, at));
            svg.text("soft", Hold::End, (LEFT - 6.0, at + 4.0), plain(micros));
        }
    }
}
