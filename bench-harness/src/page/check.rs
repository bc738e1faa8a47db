//! Whether a page has what its run has.

use super::svg::escaped;
use super::tables::{median_cell, ratio_cell, row_key};
use super::{LEVELS, Part, columns, key, load, ratios_drawn};
use crate::record::{Cell, Record, Row};

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
