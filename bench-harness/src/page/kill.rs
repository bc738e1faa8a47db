//! What happens when a leader is killed, trial by trial.

use super::svg::{Hold, Scale, Svg};
use super::{drawing, figure};
use crate::record::{Cell, Row, Trial};

const WIDTH: f64 = 360.0;
const ROW: f64 = 9.0;
const TOP: f64 = 30.0;

/// A drawing for each row that has trials.
pub(super) fn draw(number: usize, cell: &Cell) -> String {
    let has_some = |row: &Row| !row.trials.is_empty() && row.fault.is_none();
    let rows = cell.rows.iter().enumerate().filter(|(_, row)| has_some(row));
    rows.map(|(at, row)| one(cell, row, &drawing("deaths", number, at)))
        .collect()
}

fn one(cell: &Cell, row: &Row, key: &str) -> String {
    let mut trials: Vec<&Trial> = row.trials.iter().collect();
    trials.sort_by(|a, b| a.first_write_ms.total_cmp(&b.first_write_ms));
    let most = trials.iter().map(|trial| trial.first_write_ms).fold(0.0, f64::max);
    let label = format!("a leader's death under {} in {}", row.contender, cell.name);
    let mut svg = Svg::new(WIDTH, TOP + ROW * trials.len() as f64 + 20.0, &label);
    let scale = Scale::linear(0.0, most, 0.0, WIDTH - 60.0);
    svg.open_keyed(key);
    for (at, trial) in trials.iter().enumerate() {
        let y = TOP + ROW * at as f64;
        let places = [0.0, trial.detected_ms, trial.elected_ms, trial.first_write_ms].map(|ms| scale.at(ms));
        for (part, class) in places.windows(2).zip(["bar b", "bar k0", "bar k2"]) {
            svg.rect(class, (part[0], y), (part[1] - part[0], ROW - 3.0), 1.0);
        }
        if at + 1 == trials.len() {
            let end = (places[3] + 4.0, y + 7.0);
            svg.text("soft", Hold::Start, end, format!("{:.0} ms", trial.first_write_ms));
        }
    }
    svg.close();
    for (x, word, colour) in [
        (0.0, "noticed", "b"),
        (90.0, "elected", "k0"),
        (180.0, "first write", "k2"),
    ] {
        svg.text(&format!("name {colour}"), Hold::Start, (x, 14.0), word);
    }
    figure(
        &format!("{}: from a leader's death to the next write", row.contender),
        svg,
    )
}
