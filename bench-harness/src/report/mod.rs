//! Results in the three forms that are printed.

mod csv;
mod json;
mod table;

use std::io::{self, Write};

use crate::cli::{Format, Run};
use crate::figures::Figure;
use crate::run::Results;
use crate::targets::Bound;

/// Prints the results as they were asked for.
pub(crate) fn print(options: &Run, results: &Results, out: &mut impl Write) -> io::Result<()> {
    match options.output {
        Format::Table => table::print(options, results, out),
        Format::Json => writeln!(out, "{}", json::document(options, results)),
        Format::Csv => csv::print(results, out),
    }
}

/// How a figure is called.
fn name(figure: Figure) -> String {
    match figure {
        Figure::Rate => "messages_per_second".into(),
        Figure::CpuEach => "server_cpu_us_per_message".into(),
        Figure::Cpu => "server_cpu_share".into(),
        Figure::Latency(500) => "latency_p50_us".into(),
        Figure::Latency(990) => "latency_p99_us".into(),
        Figure::Latency(999) => "latency_p99_9_us".into(),
        Figure::Latency(thousandths) => format!("latency_p{thousandths}_thousandths_us"),
        Figure::Busy => "load_busy_share".into(),
        Figure::OwnCpu => "load_cpu_share".into(),
        Figure::Growth => "growth_bytes".into(),
    }
}

/// All figures that a round may have, in the order of columns.
const FIGURES: [Figure; 9] = [
    Figure::Rate,
    Figure::Latency(500),
    Figure::Latency(990),
    Figure::Latency(999),
    Figure::CpuEach,
    Figure::Cpu,
    Figure::Busy,
    Figure::OwnCpu,
    Figure::Growth,
];

/// A bound and its figure as people write them.
fn asked(figure: Figure, bound: Bound) -> String {
    let (sign, value) = match bound {
        Bound::AtLeast(value) => ("≥", value),
        Bound::AtMost(value) => ("≤", value),
    };
    format!("{sign} {}", plain(figure, value))
}

/// A value of a figure that stands alone, or a ratio.
fn plain(figure: Figure, value: f64) -> String {
    match figure {
        Figure::Growth => format!("{:.1} MiB", value / (1024.0 * 1024.0)),
        Figure::Cpu => format!("{:.2} %", value * 100.0),
        _ => format!("{value:.2}"),
    }
}
