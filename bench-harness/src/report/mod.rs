//! Results in the forms that are printed.

mod csv;
mod environment;
mod grid;
mod markdown;
mod table;

pub(crate) use self::environment::environment;
pub(crate) use self::grid::Table;

use std::io::{self, Write};

use crate::cli::Format;
use crate::figures::{Figure, grouped};
use crate::record::Record;
use crate::stats::Interval;
use crate::targets::Bound;

/// Prints the results as they were asked for.
pub(crate) fn print(format: Format, record: &Record, out: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Table => table::print(record, out),
        Format::Json => writeln!(out, "{}", serde_json::to_string(record)?),
        Format::Csv => csv::print(record, out),
        Format::Markdown => markdown::print(record, out),
    }
}

/// A bound and its figure as people write them.
pub(crate) fn asked(figure: Figure, bound: Bound) -> String {
    let (sign, value) = match bound {
        Bound::AtLeast(value) => ("≥", value),
        Bound::AtMost(value) => ("≤", value),
    };
    format!("{sign} {}", plain(figure, value))
}

/// A value of a figure that stands alone, or a ratio.
pub(crate) fn plain(figure: Figure, value: f64) -> String {
    match figure {
        Figure::GrowthBytes => format!("{} MiB", figure.show(value)),
        Figure::ServerCpuShare => format!("{:.2} %", value * 100.0),
        _ if value >= 1000.0 => grouped(value),
        _ => format!("{value:.2}"),
    }
}

/// An end of an interval, or its middle.
fn number(value: f64) -> String {
    if value >= 1000.0 {
        grouped(value)
    } else {
        format!("{value:.3}")
    }
}

/// From here to there, if it is known.
pub(crate) fn interval(interval: Option<Interval>) -> String {
    interval.map_or_else(dash, |interval| {
        format!("[{} {}]", number(interval.low), number(interval.high))
    })
}

/// What is not known.
pub(crate) fn dash() -> String {
    "-".into()
}
