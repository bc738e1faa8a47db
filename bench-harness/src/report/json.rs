//! One document: how it was measured, every round, ratios and targets.

use super::{FIGURES, name};
use crate::cli::{Run, Waiting};
use crate::figures::{Figure, is_load_bound};
use crate::json::Json;
use crate::run::{Cell, Results, Row, Sample};
use crate::stats::{CONFIDENCE, Ratio};
use crate::targets::{self, Bound, Judged};

pub(super) fn document(options: &Run, results: &Results) -> Json {
    let cells = results.cells.iter().map(cell).collect();
    let targets = targets::judge(&results.cells).iter().map(target).collect();
    let command: Vec<String> = std::env::args().collect();
    Json::Object(vec![
        ("version", Json::text(env!("CARGO_PKG_VERSION"))),
        ("command", Json::Array(command.into_iter().map(Json::Text).collect())),
        ("machine", results.machine.json()),
        ("rounds", Json::Integer(options.rounds as u64)),
        ("seconds", Json::Number(options.seconds.as_secs_f64())),
        ("generator_spins", Json::Bool(results.waiting == Waiting::Spin)),
        ("confidence", Json::Number(CONFIDENCE)),
        ("cells", Json::Array(cells)),
        (
            "left_out",
            Json::Array(results.left_out.iter().map(Json::text).collect()),
        ),
        ("targets", Json::Array(targets)),
    ])
}

fn cell(cell: &Cell) -> Json {
    let rows = cell.rows.iter().map(|row| self::row(cell, row)).collect();
    Json::Object(vec![
        ("cell", Json::text(cell.work.to_string())),
        ("rows", Json::Array(rows)),
    ])
}

fn row(cell: &Cell, row: &Row) -> Json {
    let contender = &row.contender;
    let ratio_of = |figure: Figure| {
        let ratio = cell.baseline(row).and_then(|baseline| figure.ratio(row, baseline));
        Json::or_null(ratio.as_ref(), ratio_json)
    };
    Json::Object(vec![
        ("contender", Json::text(&contender.label)),
        ("engine", Json::text(contender.engine.name)),
        ("baseline", Json::or_null(contender.baseline.as_ref(), Json::text)),
        (
            "fault",
            Json::or_null(row.fault.as_ref(), |fault| Json::text(fault.to_string())),
        ),
        ("load_bound", Json::Bool(is_load_bound(row))),
        ("rate_ratio", ratio_of(Figure::Rate)),
        ("cpu_ratio", ratio_of(Figure::CpuEach)),
        ("median", figures(|figure| figure.median(row))),
        ("rounds", Json::Array(row.rounds.iter().map(sample).collect())),
    ])
}

fn sample(sample: &Option<Sample>) -> Json {
    Json::or_null(sample.as_ref(), |sample| figures(|figure| figure.of(sample)))
}

/// The figures that there are, by name.
fn figures(value: impl Fn(Figure) -> Option<f64>) -> Json {
    // The names are those of columns: there are nine of them.
    let named = FIGURES.into_iter().filter_map(|figure| Some((figure, value(figure)?)));
    Json::Map(
        named
            .map(|(figure, value)| (name(figure), Json::Number(value)))
            .collect(),
    )
}

fn ratio_json(ratio: &Ratio) -> Json {
    let interval = ratio.interval;
    Json::Object(vec![
        ("median", Json::Number(ratio.median)),
        ("low", Json::or_null(interval, |interval| Json::Number(interval.low))),
        ("high", Json::or_null(interval, |interval| Json::Number(interval.high))),
        ("rounds", Json::Integer(ratio.rounds as u64)),
    ])
}

fn target(judged: &Judged) -> Json {
    let (bound, value) = match judged.bound {
        Bound::AtLeast(value) => ("at_least", value),
        Bound::AtMost(value) => ("at_most", value),
    };
    Json::Object(vec![
        ("what", Json::text(&judged.what)),
        ("cell", Json::text(judged.work.to_string())),
        ("figure", Json::text(name(judged.figure))),
        (bound, Json::Number(value)),
        ("found", Json::or_null(judged.found.as_ref(), ratio_json)),
        ("cpu_ratio", Json::or_null(judged.cpu.as_ref(), ratio_json)),
        ("verdict", Json::text(judged.verdict.to_string())),
    ])
}
