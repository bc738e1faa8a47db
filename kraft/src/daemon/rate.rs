//! How many lines of a kind reach the log.

use std::collections::BTreeMap;
use std::time::Duration;

/// Lines of a kind that may come at once.
const BURST: u32 = 10;

/// Time after which a kind that has used up its burst may have one more line.
const REFILL: Duration = Duration::from_secs(1);

/// Kinds that are told apart. They are words of the program, so there are few; what comes above this shares a place.
const KINDS_MAX: usize = 128;

const OTHER: &str = "other";

/// A bucket of tokens a kind: a flood gives ten lines and then one a second, each saying how many were left out.
#[derive(Debug, Default)]
pub(super) struct Rates {
    kinds: BTreeMap<String, Bucket>,
}

/// `tokens <= BURST`.
#[derive(Debug)]
struct Bucket {
    tokens: u32,
    refilled: Duration,
    suppressed: u64,
}

/// Whether a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is; so many of its kind were not since the last that was.
    Write {
        /// How many.
        suppressed: u64,
    },
    /// It is not.
    Suppress,
}

impl Rates {
    /// Judges a line of `kind` that comes at `now`, a time since some origin that never goes back.
    pub(super) fn judge(&mut self, kind: &str, now: Duration) -> Verdict {
        let kind = if self.kinds.len() < KINDS_MAX || self.kinds.contains_key(kind) {
            kind
        } else {
            OTHER
        };
        if !self.kinds.contains_key(kind) {
            let bucket = Bucket {
                tokens: BURST,
                refilled: now,
                suppressed: 0,
            };
            self.kinds.insert(kind.to_owned(), bucket);
        }
        let bucket = self.kinds.get_mut(kind).expect("inserted above");
        bucket.refill(now);
        if bucket.tokens == 0 {
            bucket.suppressed += 1;
            return Verdict::Suppress;
        }
        bucket.tokens -= 1;
        Verdict::Write {
            suppressed: std::mem::take(&mut bucket.suppressed),
        }
    }

    /// Kinds of which lines were suppressed that nothing has told of, with their numbers, which are then told.
    pub(super) fn take_suppressed(&mut self) -> Vec<(String, u64)> {
        let silent = self.kinds.iter_mut().filter(|(_, bucket)| bucket.suppressed > 0);
        silent
            .map(|(kind, bucket)| (kind.clone(), std::mem::take(&mut bucket.suppressed)))
            .collect()
    }
}

impl Bucket {
    fn refill(&mut self, now: Duration) {
        let periods = now.saturating_sub(self.refilled).as_nanos() / REFILL.as_nanos();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(periods).min(BURST);
        self.refilled = self.refilled.saturating_add(REFILL.saturating_mul(periods));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gives_few_lines_and_loses_no_count() {
        let mut rates = Rates::default();
        let (mut written, mut told) = (0_u64, 0_u64);
        for ms in 0..10_000 {
            for _ in 0..10 {
                if let Verdict::Write { suppressed } = rates.judge("garbage", Duration::from_millis(ms)) {
                    written += 1;
                    told += suppressed;
                }
            }
        }
        assert_eq!(written, 10 + 9);
        told += rates.take_suppressed().iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!(written + told, 100_000);
        assert_eq!(rates.take_suppressed(), []);
    }

    #[test]
    fn one_kind_does_not_silence_another() {
        let mut rates = Rates::default();
        for _ in 0..100 {
            rates.judge("garbage", Duration::ZERO);
        }
        assert_eq!(
            rates.judge("election", Duration::ZERO),
            Verdict::Write { suppressed: 0 }
        );
        assert_eq!(rates.judge("garbage", Duration::ZERO), Verdict::Suppress);
    }

    #[test]
    fn kinds_are_bounded() {
        let mut rates = Rates::default();
        for kind in 0..10_000 {
            rates.judge(&kind.to_string(), Duration::ZERO);
        }
        assert!(rates.kinds.len() <= KINDS_MAX + 1);
    }
}
