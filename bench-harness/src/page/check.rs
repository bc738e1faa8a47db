//! Whether a page has what its run has.

use super::key;
use super::svg::escaped;
use super::tables::ratio_text;
use crate::record::{Cell, Record, Row};

/// What is in the run and not in the page, as a browser wrote it down.
pub(crate) fn missing(record: &Record, page: &str) -> Vec<String> {
    let cells = record.cells.iter();
    let rows = cells.flat_map(|cell| cell.rows.iter().map(move |row| (cell, row)));
    rows.flat_map(|(cell, row)| of_row(cell, row, page)).collect()
}

fn of_row(cell: &Cell, row: &Row, page: &str) -> Vec<String> {
    let mut expected = Vec::new();
    let mut points = Vec::new();
    if let Some(fault) = &row.fault {
        expected.push(format!("{}</td><td class=\"why\"", escaped(&row.contender)));
        expected.push(escaped(&fault.to_string()));
    } else {
        for figure in cell.work.columns() {
            if let Some(median) = row.median.get(figure) {
                let key = escaped(&key(cell, row, *figure));
                expected.push(format!("data-key=\"{key}\">{}<", escaped(&figure.show(*median))));
            }
        }
    }
    for comparison in &row.comparisons {
        let key = escaped(&key(cell, row, comparison.figure));
        if row.fault.is_none() {
            expected.push(format!("data-ratio=\"{key}\">{}", ratio_text(comparison)));
        }
        let drawn = page
            .split_once(&format!("data-points=\"{key}\" d=\""))
            .map(|(_, rest)| {
                let path = rest.split('"').next().unwrap_or(rest);
                path.matches("h0").count()
            });
        let (drawn, rounds) = (drawn.unwrap_or(0), comparison.ratio.rounds);
        if drawn != rounds {
            points.push(format!("{rounds} rounds of {key}: {drawn} points"));
        }
    }
    expected.retain(|expected| !page.contains(expected));
    expected.extend(points);
    expected
}
