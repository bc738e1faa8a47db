//! Latencies in full: a log for other tools, a spectrum for the page.

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// The rounds of a row as a HdrHistogram interval log, which HdrHistogram's own tools read: a line a round, nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct LatencyLog {
    name: String,
    text: Vec<u8>,
}

/// A round's answers: since when, how long, and how late each came. Packed, since a histogram has room for all that could
/// have been, and those of all rounds of a cell wait for its end.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    since: SystemTime,
    long: Duration,
    packed: Vec<u8>,
}

impl Answers {
    /// `None` of what cannot be packed, which is no histogram of ours.
    pub(crate) fn of(since: SystemTime, long: Duration, late: &Histogram<u64>) -> Option<Self> {
        let mut packed = Vec::new();
        V2DeflateSerializer::new().serialize(late, &mut packed).ok()?;
        packed.shrink_to_fit();
        Some(Self { since, long, packed })
    }

    fn late(&self) -> Option<Histogram<u64>> {
        Deserializer::new().deserialize(&mut self.packed.as_slice()).ok()
    }
}

/// Nanoseconds of a microsecond. The greatest value of an interval stands in its line in microseconds.
const MICROSECOND: f64 = 1000.0;

impl LatencyLog {
    /// `None` if there is no round.
    pub(crate) fn of(cell: &str, contender: &str, rounds: &[Answers]) -> Option<Self> {
        let first = rounds.first()?.since;
        let mut text = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let written = (|| -> Result<(), IntervalLogWriterError<_>> {
            let mut builder = IntervalLogWriterBuilder::new();
            builder
                .add_comment(&format!(
                    " kraft-bench {}: {cell}, {contender}",
                    env!("CARGO_PKG_VERSION")
                ))
                .with_start_time(first)
                .with_base_time(first)
                .with_max_value_divisor(MICROSECOND);
            let mut log = builder.begin_log_with(&mut text, &mut serializer)?;
            for round in rounds {
                let start = round.since.duration_since(first).unwrap_or_default();
                if let Some(late) = round.late() {
                    log.write_histogram(&late, start, round.long, None)?;
                }
            }
            Ok(())
        })();
        // Memory takes all, and a histogram of ours can be serialised.
        written.ok()?;
        let name = format!("{cell}--{contender}");
        Some(Self { name, text })
    }

    /// Cell and contender, as a file may be called anywhere.
    pub(crate) fn file_name(&self) -> String {
        let keep = |c: char| {
            if c.is_ascii_alphanumeric() || "-+.#".contains(c) {
                c
            } else {
                '_'
            }
        };
        self.name.chars().map(keep).collect::<String>() + ".hlog"
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }
}

/// Answers that lie beyond a percentile at least: fewer are an accident each.
pub(crate) const BEYOND_MIN: f64 = 10.0;

/// Percentiles of all rounds together in microseconds, four to a power of ten of what lies beyond, as far as the
/// answers allow.
pub(crate) fn spectrum(rounds: &[Answers]) -> Vec<[f64; 2]> {
    let mut each = rounds.iter().filter_map(Answers::late);
    let Some(mut all) = each.next() else {
        return Vec::new();
    };
    for late in each {
        // The bounds are the same in all rounds.
        let _ = all.add(&late);
    }
    let beyond = (0..=20).map(|step| 0.5 * 10_f64.powf(-f64::from(step) / 4.0));
    beyond
        .take_while(|beyond| all.len() as f64 * beyond >= BEYOND_MIN)
        .map(|beyond| {
            let nanos = all.value_at_quantile(1.0 - beyond) as f64;
            [100.0 * (1.0 - beyond), nanos / MICROSECOND]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    fn answers(values: impl IntoIterator<Item = u64>) -> Answers {
        let mut histogram = Histogram::new_with_bounds(100, 60_000_000_000, 3).expect("the bounds are in order");
        for value in values {
            histogram.saturating_record(value);
        }
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        Answers::of(since, Duration::from_millis(250), &histogram).expect("it is one of ours")
    }

    #[test]
    fn answers_of_a_thousand_rounds_fit_into_memory() {
        // A second's worth, as far apart as those of a loop that is busy.
        let round = answers((0..200_000).map(|at| 20_000 + at * 7));
        assert!(round.packed.capacity() < 16 << 10, "{}", round.packed.capacity());
        assert_eq!(round.late().expect("it was packed").len(), 200_000);
    }

    #[test]
    fn a_log_holds_every_round_with_all_its_answers() {
        let mut second = answers(2000..2500);
        second.since += Duration::from_secs(2);
        let log = LatencyLog::of("echo 64Bx64", "epoll", &[answers(1000..1100), second]).expect("there are rounds");
        assert_eq!(log.file_name(), "echo_64Bx64--epoll.hlog");
        let intervals: Vec<_> = IntervalLogIterator::new(log.text())
            .map(|entry| entry.expect("it was written by the same library"))
            .filter_map(|entry| match entry {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            })
            .collect();
        assert_eq!(intervals.len(), 2);
        assert_eq!(intervals[1].start_timestamp(), Duration::from_secs(2));
        let bytes = decoded(intervals[1].encoded_histogram());
        let back: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .expect("it was serialised");
        assert_eq!(back.len(), 500);
    }

    /// RFC 4648, section 4.
    fn decoded(text: &str) -> Vec<u8> {
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let values = text.bytes().filter_map(|c| digits.iter().position(|digit| *digit == c));
        let bits: Vec<usize> = values.collect();
        let of = |four: &[usize]| -> Vec<u8> {
            let number = four.iter().fold(0, |number, value| number << 6 | value) << (6 * (4 - four.len()));
            (0..four.len() - 1).map(|at| (number >> (16 - 8 * at)) as u8).collect()
        };
        bits.chunks(4).flat_map(of).collect()
    }

    #[test]
    fn a_spectrum_ends_where_answers_become_few() {
        let points = spectrum(&[
            answers((0..500).map(|at| 1000 + at)),
            answers((500..1000).map(|at| 1000 + at)),
        ]);
        let [percentile, micros] = points[0];
        assert!(
            (percentile - 50.0).abs() < 1e-9 && (micros - 1.5).abs() < 0.07,
            "{points:?}"
        );
        // Ten of a thousand lie beyond 99 %.
        let [last, _] = points[points.len() - 1];
        assert!((98.0..=99.0).contains(&last), "{points:?}");
        assert_eq!(spectrum(&[]), Vec::<[f64; 2]>::new());
    }
}
