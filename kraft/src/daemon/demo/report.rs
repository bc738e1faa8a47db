//! What a demonstration shows: a line that moves on a terminal, lines that stand, and a table at the end.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the numbers of a plain output come; a terminal's are renewed at each tick.
const PLAIN_INTERVAL: Duration = Duration::from_secs(1);

/// Writes to stdout. A reader that has gone is not waited for and changes nothing.
#[derive(Debug)]
pub(super) struct Report {
    begun: Instant,
    is_terminal: bool,
    last: Instant,
    last_count: u64,
    rate: u64,
    has_live_line: bool,
}

impl Report {
    /// An output that has shown nothing.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            is_terminal: io::stdout().is_terminal(),
            last: now,
            last_count: 0,
            rate: 0,
            has_live_line: false,
        }
    }

    /// A line that stands, with the time since the start.
    pub(super) fn event(&mut self, text: &str) {
        let line = format!("{}{:7.2} s  {text}\n", self.clear(), self.begun.elapsed().as_secs_f64());
        show(&line);
    }

    /// A line as it is.
    pub(super) fn text(&mut self, text: &str) {
        let line = format!("{}{text}\n", self.clear());
        show(&line);
    }

    /// The clients begin: rates count from here.
    pub(super) fn begin(&mut self) {
        self.last = Instant::now();
    }

    /// The numbers of the moment.
    pub(super) fn live(&mut self, acknowledged: u64) {
        let interval = if self.is_terminal {
            PLAIN_INTERVAL / 4
        } else {
            PLAIN_INTERVAL
        };
        let since = self.last.elapsed();
        if since < interval {
            return;
        }
        self.rate = per_second(acknowledged - self.last_count, since);
        (self.last, self.last_count) = (Instant::now(), acknowledged);
        let numbers = format!(
            "{} writes acknowledged, {}/s",
            grouped(acknowledged),
            grouped(self.rate)
        );
        if self.is_terminal {
            let line = format!(
                "{}{:7.2} s  {numbers}",
                self.clear(),
                self.begun.elapsed().as_secs_f64()
            );
            show(&line);
            self.has_live_line = true;
        } else {
            self.event(&numbers);
        }
    }

    /// What wipes the line that moves: back to its start (CR), erase to its end (ECMA-48 EL).
    fn clear(&mut self) -> &'static str {
        if std::mem::take(&mut self.has_live_line) {
            "\r\u{1b}[K"
        } else {
            ""
        }
    }
}

fn show(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Names on the left, numbers on the right.
pub(super) fn table(rows: &[(&str, String)]) -> String {
    let name = rows.iter().map(|row| row.0.chars().count()).max().unwrap_or(0);
    let number = rows.iter().map(|row| row.1.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (left, right) in rows {
        // A `String` takes what is written to it.
        let _ = writeln!(text, "  {left:name$}  {right:>number$}");
    }
    text
}

/// A number with its thousands set apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many a second.
pub(super) fn per_second(count: u64, time: Duration) -> u64 {
    (count as f64 / time.as_secs_f64().max(1e-9)) as u64
}

/// The value that `share` of all are not above, 0 of none. Sorts.
pub(super) fn percentile(values: &mut [u32], share: f64) -> u32 {
    values.sort_unstable();
    let place = (values.len() as f64 * share).ceil() as usize;
    values.get(place.saturating_sub(1)).copied().unwrap_or(0)
}

/// Microseconds as milliseconds.
pub(super) fn ms(us: u32) -> String {
    format!("{:.2} ms", f64::from(us) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(
            table(&[("a", "1".to_owned()), ("long", "1,000".to_owned())]),
            "  a         1\n  long  1,000\n"
        );
        assert_eq!(per_second(10, Duration::from_millis(500)), 20);
    }

    #[test]
    fn percentiles_are_of_the_values() {
        let mut values: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut values, 0.5), 50);
        assert_eq!(percentile(&mut values, 0.99), 99);
        assert_eq!(percentile(&mut values, 1.0), 100);
        assert_eq!(percentile(&mut [7], 0.5), 7);
        assert_eq!(percentile(&mut [], 0.5), 0);
    }
}
