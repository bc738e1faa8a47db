//! Ratios to a baseline: every round a point, and what they say together.

use super::palette::Palette;
use super::svg::{Hold, Scale, Svg};
use super::{figure, key};
use crate::figures::{Figure, Verdict};
use crate::record::{Cell, Comparison, Row};
use crate::stats::Interval;

const WIDTH: f64 = 360.0;
const NAMES: f64 = 112.0;
const VALUES: f64 = 74.0;
const ROW: f64 = 25.0;
const HEADING: f64 = 16.0;

/// No more than this is shown of an interval beyond the rounds that it comes from.
const BEYOND: f64 = 1.25;

/// What may stand below the axis, where there is room.
const TICKS: [f64; 17] = [
    0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0,
];

/// A contender with its comparison and its rounds.
struct Line<'a> {
    key: String,
    row: &'a Row,
    baseline: &'a Row,
    comparison: &'a Comparison,
    rounds: Vec<f64>,
}

/// The ratios of a figure in a cell; empty if nobody is compared.
pub(super) fn draw(number: usize, cell: &Cell, what: Figure, palette: &Palette) -> String {
    let rows = cell.rows.iter().enumerate();
    let lines: Vec<Line<'_>> = rows
        .filter_map(|(at, row)| line(key(number, at, what), cell, row, what))
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let mut baselines: Vec<&str> = Vec::new();
    for line in &lines {
        if !baselines.contains(&line.baseline.contender.as_str()) {
            baselines.push(&line.baseline.contender);
        }
    }
    let height = HEADING * baselines.len() as f64 + ROW * lines.len() as f64 + 22.0;
    let label = format!("{} in {}, as ratios", what.noun(), cell.name);
    let mut svg = Svg::new(WIDTH, height, &label);
    let scale = scale(&lines);
    let bottom = height - 18.0;
    axis(&mut svg, &scale, bottom);
    let mut y = 0.0;
    for baseline in baselines {
        svg.text("soft", Hold::Start, (0.0, y + 11.0), format!("to {baseline}"));
        y += HEADING;
        for line in lines.iter().filter(|line| line.baseline.contender == baseline) {
            line.draw(&mut svg, &scale, y + ROW / 2.0, palette);
            y += ROW;
        }
    }
    figure(&format!("{}, ratio and every round", what.noun()), svg)
}

fn line<'a>(key: String, cell: &'a Cell, row: &'a Row, what: Figure) -> Option<Line<'a>> {
    let (comparison, baseline) = row.comparison(what).zip(cell.baseline(row))?;
    Some(Line {
        key,
        row,
        baseline,
        comparison,
        rounds: row.ratios(baseline, what),
    })
}

fn scale(lines: &[Line<'_>]) -> Scale {
    let rounds = || {
        lines
            .iter()
            .flat_map(|line| line.rounds.iter().copied())
            .chain([0.96, 1.04])
    };
    let (least, most) = (rounds().fold(1.0, f64::min), rounds().fold(1.0, f64::max));
    let intervals = || lines.iter().filter_map(|line| line.comparison.ratio.corrected);
    let low = intervals().map(|interval| interval.low).fold(least, f64::min);
    let high = intervals().map(|interval| interval.high).fold(most, f64::max);
    let (low, high) = (low.max(least / BEYOND), high.min(most * BEYOND));
    Scale::log(low / 1.01, high * 1.01, NAMES, WIDTH - VALUES)
}

fn axis(svg: &mut Svg, scale: &Scale, bottom: f64) {
    let mut taken: Vec<f64> = Vec::new();
    let mut ticks: Vec<f64> = TICKS.into_iter().filter(|tick| scale.holds(*tick)).collect();
    // 1 has to be there; others as there is room.
    ticks.sort_by(|a, b| a.ln().abs().total_cmp(&b.ln().abs()));
    for tick in ticks {
        let x = scale.at(tick);
        if taken.iter().any(|other| (other - x).abs() < 30.0) {
            continue;
        }
        taken.push(x);
        let class = if tick == 1.0 { "one" } else { "rule" };
        svg.line(class, (x, 4.0), (x, bottom));
        svg.text("soft", Hold::Middle, (x, bottom + 14.0), tick);
    }
}

impl Line<'_> {
    fn draw(&self, svg: &mut Svg, scale: &Scale, y: f64, palette: &Palette) {
        let y = y.round();
        let Comparison { figure, ratio, verdict } = self.comparison;
        let is_shown = *verdict != Verdict::NotShown;
        svg.open(&palette.colour(self.row));
        svg.text("", Hold::Start, (8.0, y + 2.0), &self.row.contender);
        let points: Vec<f64> = self.rounds.iter().map(|round| scale.at(*round)).collect();
        svg.dots("pts", &self.key, &points, y + 6.0);
        let mut whisker = |class: &str, interval: Option<Interval>| {
            if let Some(Interval { low, high }) = interval {
                svg.line(class, (scale.at(low), y - 3.0), (scale.at(high), y - 3.0));
            }
        };
        whisker("thin", ratio.corrected);
        whisker("thick", ratio.interval);
        let mark = if is_shown { "mark shown" } else { "mark" };
        svg.diamond(mark, (scale.at(ratio.ratio), y - 3.0));
        let right = WIDTH - VALUES + 36.0;
        let weight = if is_shown { "strong" } else { "" };
        svg.text(weight, Hold::End, (right, y + 1.0), format!("{:.2}", ratio.ratio));
        if is_shown {
            let word = figure.words(*verdict).trim_start_matches("takes ");
            svg.text("strong", Hold::Start, (right + 5.0, y + 1.0), word);
        }
        svg.close();
    }
}
