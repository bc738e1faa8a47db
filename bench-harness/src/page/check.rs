//! Whether a page has what its run has.

use super::svg::escaped;
use super::tables::{environment_rows, median_cell, ratio_cell, row_key, target_row};
use super::{LEVELS, Part, columns, drawing, key, load, ratios_drawn};
use crate::figures::Figure;
use crate::record::{Cell, Record, Row};
use crate::workload::Work;

/// What is in the run and not in the page, as a browser wrote it down.
pub(crate) fn missing(record: &Record, page: &str) -> Vec<String> {
    let level = page
        .split_once("<body data-level=\"")
        .and_then(|(_, rest)| rest.split('"').next());
    let Some(level) = level
        .and_then(|level| level.parse().ok())
        .filter(|level| *level < LEVELS.len())
    else {
        return vec!["the body, with what it leaves out".into()];
    };
    let mut missing = Vec::new();
    for (number, cell) in record.cells.iter().enumerate() {
        for (at, row) in cell.rows.iter().enumerate() {
            let of_row = numbers(number, at, cell, row, level, page).chain(points(number, at, cell, row, level, page));
            let of_row = of_row.chain(drawings(record, number, at, level, page));
            missing.extend(of_row.map(|what| format!("{}, {}: {what}", cell.name, row.contender)));
        }
    }
    let curves = if LEVELS[level].contains(&Part::Load) {
        load::curves(record)
    } else {
        Vec::new()
    };
    let curves = curves.into_iter().filter_map(|curve| {
        let points = drawn(page, &format!("data-curve=\"{}\"", curve.key), &["M", "L"]);
        let (expected, figure) = (curve.points.len(), curve.figure.noun());
        let contender = &curve.row.contender;
        (points != expected).then(|| format!("{contender} against load: {expected} rates of {figure}, {points} points"))
    });
    missing.extend(curves);
    // A browser writes quotation marks as they are where they end nothing.
    let plain = |text: &str| text.replace("&quot;", "\"");
    let page = plain(page);
    let rows = record.targets.iter().map(target_row).chain(environment_rows(record));
    missing.extend(
        rows.filter(|row| !page.contains(&plain(row)))
            .map(|row| format!("the row {row}")),
    );
    missing
}

/// How many of these steps the path with this attribute has; none if there is no such path.
fn drawn(page: &str, attribute: &str, steps: &[&str]) -> usize {
    let path = page.split_once(&format!("{attribute} d=\""));
    let path = path.and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default();
    steps.iter().map(|step| path.matches(step).count()).sum()
}

/// The cells of a row's table that are not there.
fn numbers(number: usize, at: usize, cell: &Cell, row: &Row, level: usize, page: &str) -> impl Iterator<Item = String> {
    let mut expected = Vec::new();
    if let Some(fault) = &row.fault {
        expected.push(format!("<td>{}</td><td class=\"why\"", escaped(&row.contender)));
        expected.push(escaped(&fault.to_string()));
    } else {
        for figure in columns(cell, LEVELS[level]) {
            expected.extend(row.median.get(&figure).map(|median| median_cell(figure, *median)));
        }
        expected.extend(row.comparisons.iter().map(ratio_cell));
    }
    let shown = page.split_once(&format!("<tr {}>", row_key(number, at)));
    let shown = shown
        .and_then(|(_, rest)| rest.split("</tr>").next())
        .unwrap_or_default();
    expected.retain(|expected| !shown.contains(expected));
    expected.into_iter()
}

/// What is not there of a row in drawings that it has a part in.
fn drawings(record: &Record, number: usize, at: usize, level: usize, page: &str) -> Vec<String> {
    let (cell, parts) = (&record.cells[number], LEVELS[level]);
    let row = &cell.rows[at];
    let group = |kind: &str| {
        let group = page.split_once(&format!("<g data-drawn=\"{}\">", drawing(kind, number, at)));
        let group = group.and_then(|(_, rest)| rest.split("</g>").next());
        group.unwrap_or_default()
    };
    let has = |kind: &str, text: &str| group(kind).contains(&format!(">{}</text>", escaped(text)));
    let bars = |kind: &str| group(kind).matches("<rect ").count();
    let mut missing = Vec::new();
    if row.fault.is_some() {
        return missing;
    }
    let (expected, steps) = (row.spectrum.len(), drawn(group("spectrum"), "", &["M", "L"]));
    if parts.contains(&Part::Spectrum) && expected > 1 && steps != expected {
        missing.push(format!("{expected} percentiles, {steps} points"));
    }
    if parts.contains(&Part::Grid)
        && let Some(ratio) = in_a_grid(record, cell, row)
        && !(has("heat", &format!("{ratio:.2}")) && bars("heat") == 1)
    {
        missing.push(format!("the ratio {ratio:.2} in the grid"));
    }
    let micros = row.shown(Figure::ServerCpuUsPerMessage).filter(|micros| *micros > 0.0);
    if parts.contains(&Part::Cost)
        && let Some(shown) = micros.map(|micros| Figure::ServerCpuUsPerMessage.show(micros))
        && !(has("cost", &shown) && bars("cost") == 1)
    {
        missing.push(format!("the bar of {shown} µs"));
    }
    let slowest = row.trials.iter().map(|trial| trial.first_write_ms).fold(0.0, f64::max);
    if parts.contains(&Part::Trials)
        && !row.trials.is_empty()
        && !(has("deaths", &format!("{slowest:.0} ms")) && bars("deaths") == TIMES * row.trials.len())
    {
        missing.push(format!("{} deaths, {} bars", row.trials.len(), bars("deaths")));
    }
    missing
}

/// Of a leader's death there are so many, one behind the other.
const TIMES: usize = 3;

/// The ratio of a row that stands in a grid: it is compared in another cell of plain echo as well.
fn in_a_grid(record: &Record, cell: &Cell, row: &Row) -> Option<f64> {
    let is_plain = |cell: &Cell| matches!(cell.work, Work::Echo { depth: 1, .. });
    let ratio = |cell: &Cell| {
        let comparison = cell.row(&row.contender)?.comparison(Figure::MessagesPerSecond)?;
        Some(comparison.ratio.ratio)
    };
    let plain = record.cells.iter().filter(|cell| is_plain(cell));
    let is_compared_again = plain.filter_map(ratio).count() > 1;
    ratio(cell).filter(|_| is_plain(cell) && is_compared_again)
}

/// The rounds of a row that are not drawn, though its drawing is there.
fn points(number: usize, at: usize, cell: &Cell, row: &Row, level: usize, page: &str) -> impl Iterator<Item = String> {
    let figures = ratios_drawn(cell, LEVELS[level]).into_iter();
    figures.filter_map(move |figure| {
        let rounds = row.comparison(figure)?.ratio.rounds;
        let key = key(number, at, figure);
        let points = drawn(page, &format!("data-points=\"{key}\""), &["h0"]);
        (points != rounds).then(|| format!("{rounds} rounds of {}, {points} points", figure.noun()))
    })
}
