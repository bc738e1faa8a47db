//! What the benchmark found.

use std::io::{self, Write};
use std::time::Duration;

use super::cpu::Sample;
use super::lanes::Tally;
use crate::ctl::cli::{Bench, Format};
use crate::ctl::exit::Failure;
use crate::ctl::format::Table;

/// The figures of a run.
#[derive(Debug)]
pub(super) struct Report {
    /// Name, value for people, value for programs (a JSON value).
    rows: Vec<(&'static str, String, String)>,
}

impl Report {
    /// `ops` were answered in the `elapsed` time between the samples.
    pub(super) fn new(
        options: &Bench,
        elapsed: Duration,
        ops: u64,
        tally: &Tally,
        before: &Sample,
        after: &Sample,
    ) -> Self {
        let mut report = Self { rows: Vec::new() };
        let seconds = elapsed.as_secs_f64();
        let op = format!("{:?}", options.op).to_lowercase();
        report.row("op", op.clone(), format!("\"{op}\""));
        report.number("clients", options.clients.into());
        report.number("pipeline", options.pipeline.into());
        report.number("value_bytes", options.value_size.into());
        report.number("keys", options.keys.into());
        report.row(
            "read_share",
            options.read_share.to_string(),
            options.read_share.to_string(),
        );
        report.row("seconds", format!("{seconds:.1}"), format!("{seconds:.3}"));
        // One that was interrupted at once has none, and JSON has no NaN.
        let rate = ops as f64 / seconds.max(f64::MIN_POSITIVE);
        report.row("ops_per_second", grouped(rate.round() as u64), format!("{rate:.1}"));
        for (name, quantile) in [("p50_us", 0.5), ("p99_us", 0.99), ("p99_9_us", 0.999)] {
            report.micros(name, tally.latency.value_at_quantile(quantile));
        }
        report.micros("max_us", tally.latency.max());
        report.number("ok", ops);
        report.number("refused", tally.refused);
        report.number("unknown", tally.unknown);
        report.number("servers_measured", after.count as u64);
        report.cpu("server_cpu_us_per_op", before.servers, after.servers, ops);
        report.cpu("client_cpu_us_per_op", before.own, after.own, ops);
        report
    }

    pub(super) fn print(&self, format: Format, out: &mut impl Write) -> Result<(), Failure> {
        match format {
            Format::Table => {
                let mut table = Table::new(&["WHAT", "VALUE"], &[false, true]);
                for (name, text, _) in &self.rows {
                    table.row(vec![(*name).to_owned(), text.clone()]);
                }
                table.print(out)?;
            }
            Format::Plain => {
                for (name, _, value) in &self.rows {
                    writeln!(out, "{name}\t{}", value.trim_matches('"'))?;
                }
            }
            Format::Json => {
                let fields: Vec<_> = self
                    .rows
                    .iter()
                    .map(|(name, _, value)| format!("\"{name}\":{value}"))
                    .collect();
                writeln!(out, "{{{}}}", fields.join(","))?;
            }
        }
        Ok(())
    }

    fn row(&mut self, name: &'static str, text: String, value: String) {
        self.rows.push((name, text, value));
    }

    fn number(&mut self, name: &'static str, number: u64) {
        self.row(name, grouped(number), number.to_string());
    }

    fn micros(&mut self, name: &'static str, nanos: u64) {
        let micros = nanos as f64 / 1000.0;
        self.row(name, format!("{micros:.0}"), format!("{micros:.1}"));
    }

    /// CPU time between two samples, a share for each operation; a dash where it is not known.
    fn cpu(&mut self, name: &'static str, before: Option<Duration>, after: Option<Duration>, ops: u64) {
        let share = match (before, after) {
            (Some(before), Some(after)) if ops > 0 => {
                Some(after.saturating_sub(before).as_secs_f64() * 1e6 / ops as f64)
            }
            _ => None,
        };
        match share {
            Some(share) => self.row(name, format!("{share:.1}"), format!("{share:.2}")),
            None => self.row(name, "-".into(), "null".into()),
        }
    }
}

/// A line that overwrites itself, for a terminal.
pub(super) fn progress(elapsed: Duration, tally: &Tally) {
    let seconds = elapsed.as_secs_f64();
    let rate = grouped((tally.ok as f64 / seconds).round() as u64);
    let p50 = tally.latency.value_at_quantile(0.5) / 1000;
    let p99 = tally.latency.value_at_quantile(0.99) / 1000;
    // Nobody is helped by an error of the progress line.
    let _ = write!(
        io::stderr(),
        "\r\x1b[K{seconds:5.1} s  {rate} ops/s  p50 {p50} µs  p99 {p99} µs  refused {}  unknown {}",
        tally.refused,
        tally.unknown
    );
}

/// Ends the line of progress.
pub(super) fn clear_progress() {
    let _ = write!(io::stderr(), "\r\x1b[K");
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn cpu_time_is_shared_among_the_operations() {
        let mut report = Report { rows: vec![] };
        report.cpu(
            "known",
            Some(Duration::from_secs(1)),
            Some(Duration::from_secs(3)),
            100_000,
        );
        report.cpu("unknown", None, Some(Duration::from_secs(3)), 100_000);
        assert_eq!(report.rows[0].1, "20.0");
        assert_eq!(report.rows[1].2, "null");
    }
}
