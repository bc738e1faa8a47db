//! For people: a table a cell, then the targets.

use std::io::{self, Write};

use super::{asked, plain};
use crate::cli::{Run, Waiting};
use crate::figures::{Figure, is_load_bound};
use crate::run::{Cell, Results, Row};
use crate::stats::Ratio;
use crate::targets::{self, Judged, Verdict};
use crate::workload::Work;

pub(super) fn print(options: &Run, results: &Results, out: &mut impl Write) -> io::Result<()> {
    let waiting = match results.waiting {
        Waiting::Spin => "a spinning load",
        Waiting::Block => "a sleeping load",
    };
    writeln!(out, "{}", results.machine.line())?;
    for warning in results.machine.warnings() {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(
        out,
        "{} rounds of {:?} behind {:?} of warm-up, interleaved, {waiting}; figures are medians, ratios are paired by \
         round and stand with their 95 % interval (sign test)",
        options.rounds,
        options.seconds,
        options.seconds / 4
    )?;
    for cell in &results.cells {
        writeln!(out, "\n{}", cell.work)?;
        match cell.work {
            Work::Idle { .. } => idle(cell).print(out)?,
            _ => load(cell).print(out)?,
        }
        notes(cell, out)?;
    }
    for left_out in &results.left_out {
        writeln!(out, "\nnot run: {left_out}")?;
    }
    let judged = targets::judge(&results.cells);
    if judged.is_empty() {
        return Ok(());
    }
    writeln!(out, "\ntargets")?;
    judgement(&judged).print(out)?;
    let count = |is: fn(Verdict) -> bool| judged.iter().filter(|judged| is(judged.verdict)).count();
    writeln!(
        out,
        "{} of {} reached ({} with all of the interval), {} missed, {} not shown",
        count(|verdict| matches!(verdict, Verdict::Shown | Verdict::Reached)),
        judged.len(),
        count(|verdict| verdict == Verdict::Shown),
        count(|verdict| verdict == Verdict::Missed),
        count(|verdict| matches!(verdict, Verdict::NotShown(_))),
    )
}

fn load(cell: &Cell) -> Table {
    let headings = [
        "engine",
        "messages/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "CPU µs each",
        "server CPU",
        "ratio",
        "interval",
        "CPU ratio",
        "interval",
        "to",
        "load",
    ];
    let mut table = Table::new(&headings);
    for row in &cell.rows {
        let with = |figure: Figure, show: fn(f64) -> String| figure.median(row).map_or_else(dash, show);
        let [rate, rate_interval] = ratio(cell, row, Figure::Rate);
        let [cpu, cpu_interval] = ratio(cell, row, Figure::CpuEach);
        table.row([
            row.contender.label.clone(),
            with(Figure::Rate, |rate| grouped(rate.round() as u64)),
            with(Figure::Latency(500), micros),
            with(Figure::Latency(990), micros),
            with(Figure::Latency(999), micros),
            with(Figure::CpuEach, |micros| format!("{micros:.2}")),
            with(Figure::Cpu, percent),
            rate,
            rate_interval,
            cpu,
            cpu_interval,
            cell.baseline(row).map_or_else(dash, |row| row.contender.label.clone()),
            with(Figure::Busy, percent),
        ]);
    }
    table
}

fn idle(cell: &Cell) -> Table {
    let mut table = Table::new(&["engine", "growth", "bytes a connection", "server CPU"]);
    for row in &cell.rows {
        let growth = Figure::Growth.median(row);
        let each = growth.map(|growth| format!("{:.0}", growth / cell.work.conns() as f64));
        let cpu = Figure::Cpu.median(row);
        table.row([
            row.contender.label.clone(),
            growth.map_or_else(dash, |growth| plain(Figure::Growth, growth)),
            each.unwrap_or_else(dash),
            cpu.map_or_else(dash, |cpu| plain(Figure::Cpu, cpu)),
        ]);
    }
    table
}

/// What a table cannot say in a column.
fn notes(cell: &Cell, out: &mut impl Write) -> io::Result<()> {
    for row in &cell.rows {
        match &row.fault {
            Some(fault) if fault.is_failure() => writeln!(out, "  {}: FAILED, {fault}", row.contender.label)?,
            Some(lacks) => writeln!(out, "  {}: not here, {lacks}", row.contender.label)?,
            None => {}
        }
    }
    if let Work::Beside { .. } | Work::SlowReader { .. } = cell.work {
        let grown = cell
            .rows
            .iter()
            .filter_map(|row| Some((row, Figure::Growth.median(row)?)));
        for (row, growth) in grown {
            let label = &row.contender.label;
            writeln!(out, "  {label}: the server grew by {}", plain(Figure::Growth, growth))?;
        }
    }
    let bound: Vec<&str> = cell
        .rows
        .iter()
        .filter(|row| is_load_bound(row))
        .map(|row| &*row.contender.label)
        .collect();
    if !bound.is_empty() {
        writeln!(
            out,
            "  load-bound: {}; the load was busy for more than 90 % of the time, so these may be its figures and ratios \
             to them are diluted: look at the CPU",
            bound.join(", ")
        )?;
    }
    Ok(())
}

fn judgement(judged: &[Judged]) -> Table {
    let mut table = Table::new(&[
        "what",
        "where",
        "figure",
        "asked",
        "found",
        "interval",
        "CPU ratio",
        "verdict",
    ]);
    for judged in judged {
        let figure = match judged.figure {
            Figure::Rate => "throughput",
            Figure::CpuEach => "CPU a message",
            Figure::Growth => "growth",
            _ => "CPU",
        };
        let show = |value| plain(judged.figure, value);
        table.row([
            judged.what.clone(),
            judged.work.to_string(),
            figure.into(),
            asked(judged.figure, judged.bound),
            judged.found.as_ref().map_or_else(dash, |found| show(found.median)),
            judged.found.as_ref().map_or_else(dash, interval),
            judged
                .cpu
                .as_ref()
                .map_or_else(dash, |cpu| format!("{:.2}", cpu.median)),
            judged.verdict.to_string(),
        ]);
    }
    table
}

fn ratio(cell: &Cell, row: &Row, figure: Figure) -> [String; 2] {
    let ratio = cell.baseline(row).and_then(|baseline| figure.ratio(row, baseline));
    match ratio {
        Some(ratio) => [format!("{:.3}", ratio.median), interval(&ratio)],
        None => [dash(), dash()],
    }
}

fn interval(ratio: &Ratio) -> String {
    match ratio.interval {
        Some(interval) => format!("[{:.3} {:.3}]", interval.low, interval.high),
        None => dash(),
    }
}

fn dash() -> String {
    "-".into()
}

fn micros(micros: f64) -> String {
    if micros < 100.0 {
        format!("{micros:.1}")
    } else {
        grouped(micros.round() as u64)
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Aligned columns: the first to the left, what begins with a letter too, numbers to the right.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()],
        }
    }

    fn row<const COUNT: usize>(&mut self, cells: [String; COUNT]) {
        self.rows.push(cells.into());
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let is_text = |column: usize| {
            let mut cells = self.rows[1..].iter().map(|row| row[column].as_str());
            cells.any(|cell| cell.starts_with(|first: char| first.is_ascii_alphabetic()))
        };
        let shape: Vec<(usize, bool)> = (0..columns).map(|column| (width(column), is_text(column))).collect();
        for row in &self.rows {
            let mut line = String::from(" ");
            for (cell, &(width, is_text)) in row.iter().zip(&shape) {
                line.push(' ');
                line.push_str(&if is_text {
                    format!("{cell:<width$} ")
                } else {
                    format!("{cell:>width$} ")
                });
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn numbers_stand_to_the_right_and_words_to_the_left() {
        let mut table = Table::new(&["engine", "rate"]);
        table.row(["epoll".into(), "1,000".into()]);
        table.row(["raw".into(), "9".into()]);
        let mut out = Vec::new();
        table.print(&mut out).expect("memory takes all");
        let text = String::from_utf8(out).expect("it is text");
        assert_eq!(text, "  engine   rate\n  epoll   1,000\n  raw         9\n");
    }
}
