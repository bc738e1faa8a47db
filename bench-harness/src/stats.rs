//! Paired ratios, and what they show.

/// How sure an interval is, at least.
pub(crate) const CONFIDENCE: f64 = 0.95;

/// A contender's figure over its baseline's, paired by round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ratio {
    /// The median of the rounds' ratios.
    pub(crate) median: f64,
    /// Holds the true median with a probability of at least [`CONFIDENCE`]; `None` if the rounds are too few.
    pub(crate) interval: Option<Interval>,
    /// Rounds in which both have a figure.
    pub(crate) rounds: usize,
}

/// From here to there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Ratio {
    /// The ratios of the rounds in which both have a figure; `None` if there is no such round.
    pub(crate) fn paired(own: &[Option<f64>], baseline: &[Option<f64>]) -> Option<Self> {
        let pairs = own.iter().zip(baseline);
        let ratios = pairs.filter_map(|(own, baseline)| Some((*own)? / (*baseline)?));
        // A baseline that did nothing has no ratio.
        Self::of(ratios.filter(|ratio| ratio.is_finite()).collect())
    }

    /// The median of `values` and its interval.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self {
            median: median_of_sorted(&values)?,
            interval: rank(values.len()).map(|rank| Interval {
                low: values[rank - 1],
                high: values[values.len() - rank],
            }),
            rounds: values.len(),
        })
    }
}

/// The median, `None` of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    median_of_sorted(&values)
}

fn median_of_sorted(values: &[f64]) -> Option<f64> {
    let upper = *values.get(values.len() / 2)?;
    let is_even = values.len().is_multiple_of(2);
    Some(if is_even {
        f64::midpoint(values[values.len() / 2 - 1], upper)
    } else {
        upper
    })
}

/// The interval of the sign test: from the `rank`-th smallest to the `rank`-th greatest of `count` values.
///
/// Each value lies below the true median with probability 1/2, whatever its distribution, so the number that do is
/// binomial, and the interval misses the median only if fewer than `rank` lie on one side. This is the greatest rank
/// at which both misses together stay below `1 - CONFIDENCE`. It is exact, needs no resampling and no normal
/// distribution, which eleven rounds on a shared machine do not have; the price is that it is never shorter than it
/// has to be (eleven rounds give rank 2 and 98.8 %). `None` below six values: not even the extremes are enough.
fn rank(count: usize) -> Option<usize> {
    let count = i32::try_from(count).ok()?;
    let mut probability = 0.5_f64.powi(count);
    let mut cumulated = 0.0;
    let mut rank = 0;
    for below in 0..count {
        cumulated += probability;
        if 2.0 * cumulated > 1.0 - CONFIDENCE {
            break;
        }
        rank += 1;
        probability *= f64::from(count - below) / f64::from(below + 1);
    }
    (rank > 0).then_some(rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranks_are_those_of_the_tables() {
        // Tables of the sign test, two-sided, 5 %: Conover, Practical Nonparametric Statistics, table A3.
        let expected = [
            (5, None),
            (6, Some(1)),
            (8, Some(1)),
            (9, Some(2)),
            (11, Some(2)),
            (12, Some(3)),
            (15, Some(4)),
            (20, Some(6)),
            (25, Some(8)),
            (50, Some(18)),
            (100, Some(40)),
        ];
        for (count, expected) in expected {
            assert_eq!(rank(count), expected, "{count}");
        }
    }

    #[test]
    fn the_interval_holds_the_median_as_often_as_it_says() {
        // A fixed sequence (splitmix64), skewed so that a mean would mislead: the true median is 1.
        let mut state = 7_u64;
        let mut draw = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        };
        let trials = 4000;
        let held = (0..trials).filter(|_| {
            let values = (0..11).map(|_| 4.0_f64.powf(draw() * 2.0 - 1.0).max(0.5)).collect();
            let interval = Ratio::of(values).and_then(|ratio| ratio.interval);
            let interval = interval.expect("eleven are enough");
            interval.low <= 1.0 && 1.0 <= interval.high
        });
        let share = held.count() as f64 / f64::from(trials);
        // 0.9883 is the exact one for rank 2 of 11; four standard deviations of 4,000 trials are 0.007.
        assert!((0.981..0.995).contains(&share), "{share}");
    }

    #[test]
    fn ratios_are_paired_by_round() {
        // The machine is twice as fast in the second round: unpaired medians would know nothing of it.
        let own = [Some(110.0), Some(220.0), None, Some(55.0)];
        let baseline = [Some(100.0), Some(200.0), Some(1.0), Some(50.0)];
        let ratio = Ratio::paired(&own, &baseline).expect("three rounds have both");
        assert!((ratio.median - 1.1).abs() < 1e-9);
        assert_eq!((ratio.rounds, ratio.interval), (3, None));
    }

    #[test]
    fn a_ratio_to_nothing_is_none() {
        assert_eq!(Ratio::paired(&[Some(1.0)], &[None]), None);
        assert_eq!(Ratio::paired(&[Some(1.0)], &[Some(0.0)]), None);
        assert_eq!(Ratio::paired(&[], &[]), None);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([]), None);
    }
}
