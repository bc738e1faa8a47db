//! Ratios of figures, and what they show.

mod bootstrap;
mod drift;
mod random;
mod student;
#[cfg(test)]
mod truth;

pub(crate) use self::bootstrap::VALUES_MIN;
pub(crate) use self::drift::Drift;
pub(crate) use self::random::Random;

use serde::{Deserialize, Serialize};

use self::bootstrap::Centre;

/// How sure the intervals are, each alone and all of a run together.
pub(crate) const CONFIDENCE: f64 = 0.99;

/// A figure over another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ratio {
    /// The geometric mean of the rounds' ratios without the least and greatest tenth of them.
    pub(crate) ratio: f64,
    /// Holds the true ratio in 99 of 100 runs; `None` if the rounds are too few, or do not bound it: they scatter too far,
    /// or not at all.
    pub(crate) interval: Option<Interval>,
    /// In 99 of 100 runs, this one and those of all other comparisons of the run hold the truth.
    pub(crate) corrected: Option<Interval>,
    /// Rounds in which both have a figure.
    pub(crate) rounds: usize,
}

/// From here to there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// On which side of 1 a ratio lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Above,
    Below,
    /// The interval holds 1, or there is none.
    NotShown,
}

/// How the comparisons of a run are judged.
///
/// The correction is Bonferroni's: with `comparisons` intervals each misses with a probability of so many times less.
/// Holm's procedure finds a little more, but has no intervals that go with it, and here a verdict is read off an
/// interval: whoever looks at a picture sees the same as whoever reads the word beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge {
    /// What resamples are drawn with.
    pub(crate) seed: u64,
    pub(crate) comparisons: usize,
}

impl Judge {
    /// What ratios, one a round, say together; `None` if there are none.
    pub(crate) fn of(self, ratios: &[f64]) -> Option<Ratio> {
        self.ratio(&[logarithms(ratios)])
    }

    /// What `new` are over `old`, which were measured at another time.
    pub(crate) fn unpaired(self, new: &[f64], old: &[f64]) -> Option<Ratio> {
        self.ratio(&[logarithms(new), logarithms(old)])
    }

    /// The first sample, or what it is over the second one.
    fn ratio(self, samples: &[Vec<f64>]) -> Option<Ratio> {
        let rounds = samples.iter().map(Vec::len).min()?;
        let Some(centres) = samples
            .iter()
            .map(|values| Centre::of(values))
            .collect::<Option<Vec<_>>>()
        else {
            let medians: Option<Vec<f64>> = samples.iter().map(|values| median(values.iter().copied())).collect();
            return Some(Ratio {
                ratio: difference(medians?.into_iter()).exp(),
                interval: None,
                corrected: None,
                rounds,
            });
        };
        let middle = difference(centres.iter().map(|centre| centre.mean));
        let alpha = 1.0 - CONFIDENCE;
        let alphas = [alpha, alpha / self.comparisons.max(1) as f64];
        let [interval, corrected] = bootstrap::half_widths(&centres, alphas, self.seed).map(|width| {
            let interval = Interval {
                low: (middle - width).exp(),
                high: (middle + width).exp(),
            };
            interval.high.is_finite().then_some(interval)
        });
        Some(Ratio {
            ratio: middle.exp(),
            interval,
            corrected,
            rounds,
        })
    }
}

impl Ratio {
    /// What is shown, with all comparisons of the run in mind.
    pub(crate) fn side(&self) -> Side {
        self.side_beyond(0.0)
    }

    /// Likewise, for a difference of more than `margin`: a ratio of 1 and so much, or 1 over that.
    pub(crate) fn side_beyond(&self, margin: f64) -> Side {
        match self.corrected {
            Some(interval) if interval.low > 1.0 + margin => Side::Above,
            Some(interval) if interval.high < 1.0 / (1.0 + margin) => Side::Below,
            _ => Side::NotShown,
        }
    }
}

/// The ratios of the rounds in which both have a figure. One that did nothing has no ratio.
pub(crate) fn ratios(own: &[Option<f64>], baseline: &[Option<f64>]) -> Vec<f64> {
    let pairs = own.iter().zip(baseline);
    let ratios = pairs.filter_map(|(own, baseline)| Some((*own)? / (*baseline)?));
    ratios.filter(|ratio| ratio.is_finite() && *ratio > 0.0).collect()
}

fn logarithms(values: &[f64]) -> Vec<f64> {
    let positive = values.iter().filter(|value| value.is_finite() && **value > 0.0);
    positive.map(|value| value.ln()).collect()
}

/// The first less the others, of which there is at most one.
fn difference(mut values: impl Iterator<Item = f64>) -> f64 {
    let first = values.next().unwrap_or(0.0);
    values.fold(first, |rest, value| rest - value)
}

/// The median, `None` of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let is_even = values.len().is_multiple_of(2);
    Some(if is_even {
        f64::midpoint(values[values.len() / 2 - 1], upper)
    } else {
        upper
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Judge = Judge {
        seed: 1,
        comparisons: 1,
    };

    #[test]
    fn ratios_are_paired_by_round() {
        // The machine is twice as fast in the second round: unpaired medians would know nothing of it.
        let own = [Some(110.0), Some(220.0), None, Some(55.0)];
        let baseline = [Some(100.0), Some(200.0), Some(1.0), Some(50.0)];
        let ratio = ALONE.of(&ratios(&own, &baseline)).expect("three rounds have both");
        assert!((ratio.ratio - 1.1).abs() < 1e-9);
        assert_eq!((ratio.rounds, ratio.interval), (3, None));
        assert_eq!(ratio.side(), Side::NotShown);
    }

    #[test]
    fn a_ratio_to_nothing_is_none() {
        assert_eq!(ALONE.of(&ratios(&[Some(1.0)], &[None])), None);
        assert_eq!(ALONE.of(&ratios(&[Some(1.0)], &[Some(0.0)])), None);
        assert_eq!(ALONE.of(&ratios(&[], &[])), None);
    }

    #[test]
    fn runs_of_different_times_are_compared_unpaired() {
        let old: Vec<f64> = (0..12).map(|at| 100.0 + f64::from(at % 4)).collect();
        let new: Vec<f64> = (0..10).map(|at| 120.0 + f64::from(at % 4)).collect();
        let ratio = ALONE.unpaired(&new, &old).expect("both have values");
        assert_eq!((ratio.side(), ratio.rounds), (Side::Above, 10));
        assert!((ratio.ratio - 1.197).abs() < 0.01, "{ratio:?}");
        let same = ALONE.unpaired(&old, &old).expect("both have values");
        assert_eq!(same.side(), Side::NotShown);
    }

    #[test]
    fn rounds_that_are_all_alike_show_nothing() {
        let same = ALONE.of(&[1.2; 12]).expect("twelve rounds");
        assert_eq!(
            (same.interval, same.corrected, same.side()),
            (None, None, Side::NotShown)
        );
        assert!((same.ratio - 1.2).abs() < 1e-9);
    }

    #[test]
    fn within_the_margin_there_is_no_side() {
        let ratio = |low, high| Ratio {
            ratio: 1.0,
            interval: None,
            corrected: Some(Interval { low, high }),
            rounds: 10,
        };
        assert_eq!(ratio(1.01, 1.2).side(), Side::Above);
        assert_eq!(ratio(1.01, 1.2).side_beyond(0.03), Side::NotShown);
        assert_eq!(ratio(1.04, 1.2).side_beyond(0.03), Side::Above);
        assert_eq!(ratio(0.8, 0.98).side_beyond(0.03), Side::NotShown);
        assert_eq!(ratio(0.8, 0.97).side_beyond(0.03), Side::Below);
    }

    #[test]
    fn more_comparisons_make_wider_intervals_and_the_same_ratio() {
        let values: Vec<f64> = (0..10).map(|at| 1.02 + 0.005 * f64::from(at % 5)).collect();
        let many = Judge {
            seed: 1,
            comparisons: 50,
        };
        let (alone, many) = (ALONE.of(&values), many.of(&values));
        let (alone, many) = alone.zip(many).expect("ten values");
        assert_eq!(alone.ratio, many.ratio);
        assert_eq!(alone.interval, alone.corrected);
        let (narrow, wide) = alone.corrected.zip(many.corrected).expect("both are bounded");
        assert!(wide.low < narrow.low && narrow.high < wide.high);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([]), None);
    }
}
