//! The interval of a mean of few rounds, by resampling.
//!
//! The centre is a mean of the values without the least and greatest tenth: one round that fell into a stall of the
//! machine does not move it. Its standard error is Tukey and McLaughlin's. How many of these errors an interval has to
//! reach to either side is what the resampling says: as many as hold the share of the resamples' own t values that is
//! asked for (a bootstrap-t, symmetric, Efron and Tibshirani, chapter 12).
//!
//! Resamples are drawn of the deviations from the centre with signs by lot. With ten rounds the usual ones do not do:
//! percentiles of resampled means, plain or corrected (BCa), miss the truth in 4 % of runs where 1 % was promised,
//! since ten values know nothing of the tails, and a plain bootstrap-t is unbounded, since one resample in three has
//! none of an outlier and with it hardly any spread. Signs by lot are no loss where it matters: if two engines are
//! alike the log of their ratio is as likely positive as negative. And no interval is narrower than Student's, which
//! would be right for normal values: at levels that are corrected for many comparisons ten values cannot be resampled
//! far enough into the tail to say less.
//!
//! `truth` holds it against values whose truth is known, and says how much that shows.

use super::random::Random;
use super::student;

/// Of so many values one is trimmed at each end.
const TRIMMED_EACH: usize = 10;

/// Fewer values have no interval, and so no verdict: `truth` knows the method to hold from ten on.
pub(crate) const VALUES_MIN: usize = 10;

/// Resamples: twenty beyond the quantile, within bounds of time, which is off by a fifth of its probability then (the
/// root of twenty in twenty). Beyond them Student's quantile decides.
const BEYOND: f64 = 20.0;
const RESAMPLES_MIN: usize = 499;
const RESAMPLES_MAX: usize = 49_999;

/// A trimmed mean, what it may be off by, and what resamples are drawn of.
#[derive(Debug)]
pub(super) struct Centre {
    pub(super) mean: f64,
    error: f64,
    freedom: usize,
    /// Deviations from the mean, each with both signs, ascending.
    deviations: Vec<f64>,
}

impl Centre {
    /// `None` of too few values.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        if values.len() < VALUES_MIN {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let trimmed = sorted.len() / TRIMMED_EACH;
        let (mean, error) = trimmed_mean(&sorted, &vec![1; sorted.len()], sorted.len());
        let both = sorted.iter().flat_map(|value| [value - mean, mean - value]);
        let mut deviations: Vec<f64> = both.collect();
        deviations.sort_by(f64::total_cmp);
        Some(Self {
            mean,
            error,
            freedom: sorted.len() - 2 * trimmed - 1,
            deviations,
        })
    }

    /// Whether all values but the trimmed ones are alike, as far as a decimal of a document holds them.
    fn is_without_scatter(&self) -> bool {
        self.error <= f64::EPSILON * self.mean.abs().max(1.0)
    }

    /// Mean and error of a resample. `times` is room for how often each value was drawn.
    fn resample(&self, random: &mut Random, times: &mut Vec<usize>) -> (f64, f64) {
        let both = self.deviations.len();
        times.clear();
        times.resize(both, 0);
        for _ in 0..both / 2 {
            times[random.below(both)] += 1;
        }
        trimmed_mean(&self.deviations, times, both / 2)
    }
}

/// Half the width of the interval around a mean, or a difference of two, that misses with probability `alpha`, for each
/// of the `alphas`. Infinite if the values do not bound it: they scatter too far, or not at all. Values that are all alike
/// say that the clock is coarse, or that something else than the engine was measured, and not how far the next one is off.
pub(super) fn half_widths<const COUNT: usize>(centres: &[Centre], alphas: [f64; COUNT], seed: u64) -> [f64; COUNT] {
    if centres.iter().any(Centre::is_without_scatter) {
        return [f64::INFINITY; COUNT];
    }
    let error = hypotenuse(centres.iter().map(|centre| centre.error));
    let finest = alphas.into_iter().fold(1.0, f64::min);
    let resamples = ((BEYOND / finest) as usize).clamp(RESAMPLES_MIN, RESAMPLES_MAX);
    let mut random = Random::new(seed);
    let mut times = Vec::new();
    let mut far: Vec<f64> = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        let mut mean = 0.0;
        let mut square = 0.0;
        for centre in centres {
            // Deviations have signs by lot, so a sum is distributed as a difference.
            let (own, error) = centre.resample(&mut random, &mut times);
            mean += own;
            square += error * error;
        }
        far.push(if square > 0.0 {
            mean.abs() / square.sqrt()
        } else {
            f64::INFINITY
        });
    }
    far.sort_by(f64::total_cmp);
    let freedom = freedom(centres);
    alphas.map(|alpha| {
        let rank = ((1.0 - alpha) * (resamples + 1) as f64).ceil() as usize;
        let quantile = far[rank.clamp(1, resamples) - 1];
        quantile.max(student::quantile(alpha, freedom)) * error
    })
}

/// Degrees of freedom of a difference: Welch and Satterthwaite's, rounded down.
fn freedom(centres: &[Centre]) -> usize {
    let squares = centres.iter().map(|centre| centre.error * centre.error);
    let each = centres
        .iter()
        .map(|centre| centre.error.powi(4) / centre.freedom as f64);
    (squares.sum::<f64>().powi(2) / each.sum::<f64>() + 1e-9) as usize
}

fn hypotenuse(sides: impl Iterator<Item = f64>) -> f64 {
    sides.map(|side| side * side).sum::<f64>().sqrt()
}

/// The mean without the least and greatest tenth of `count` values, and its standard error, from the values with those
/// tenths pulled in to the next value (Tukey and McLaughlin 1963). Values come ascending, each so many `times`.
fn trimmed_mean(values: &[f64], times: &[usize], count: usize) -> (f64, f64) {
    let trimmed = count / TRIMMED_EACH;
    // The first value behind the trimmed ones, from either end.
    let behind = |pairs: &mut dyn Iterator<Item = (&f64, &usize)>| {
        let mut seen = 0;
        for (value, times) in pairs {
            seen += times;
            if seen > trimmed {
                return *value;
            }
        }
        0.0
    };
    let low = behind(&mut values.iter().zip(times));
    let high = behind(&mut values.iter().zip(times).rev());
    let (mut sum, mut squares) = (0.0, 0.0);
    for (value, times) in values.iter().zip(times) {
        if *times > 0 {
            // From a point among them, so that squares do not drown what they differ by.
            let pulled_in = value.clamp(low, high) - low;
            sum += pulled_in * *times as f64;
            squares += pulled_in * pulled_in * *times as f64;
        }
    }
    let all = count as f64;
    let kept = (count - 2 * trimmed) as f64;
    let mean = low + (sum - trimmed as f64 * (high - low)) / kept;
    let variance = ((squares - sum * sum / all) / (all - 1.0)).max(0.0);
    (mean, (variance * all).sqrt() / kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCATTERED: [f64; VALUES_MIN] = [0.1, -0.2, 0.05, 0.3, -0.1, 0.0, 0.2, -0.05, 0.15, -0.15];

    #[test]
    fn a_stall_does_not_move_the_mean() {
        let calm = Centre::of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]).expect("ten");
        let stalled = Centre::of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1000.0]).expect("ten");
        assert!((calm.mean - 5.5).abs() < 1e-12);
        assert_eq!((calm.mean, calm.error), (stalled.mean, stalled.error));
        assert_eq!(calm.freedom, 7);
        assert!(Centre::of(&[1.0; 5]).is_none());
    }

    #[test]
    fn the_error_is_that_of_the_book() {
        // Below ten values nothing is trimmed, and it is the deviation over the root of the count.
        let (mean, error) = trimmed_mean(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], &[1; 8], 8);
        assert!((mean - 5.0).abs() < 1e-12);
        assert!((error - (32.0_f64 / 7.0 / 8.0).sqrt()).abs() < 1e-12, "{error}");
    }

    #[test]
    fn the_same_seed_makes_the_same_interval() {
        let centre = || [Centre::of(&SCATTERED).expect("ten")];
        let widths = half_widths(&centre(), [0.01, 0.001], 5);
        assert_eq!(widths, half_widths(&centre(), [0.01, 0.001], 5));
        assert!(widths[0] < widths[1] && widths[1].is_finite(), "{widths:?}");
    }

    #[test]
    fn no_interval_is_narrower_than_students() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        let centre = [Centre::of(&values).expect("ten")];
        let [width] = half_widths(&centre, [1e-6], 1);
        assert!(width >= student::quantile(1e-6, 7) * centre[0].error);
    }

    #[test]
    fn values_that_never_differ_bound_nothing() {
        let alike = || Centre::of(&[0.1; 10]).expect("ten");
        assert_eq!(half_widths(&[alike()], [0.01], 1), [f64::INFINITY]);
        // Nor do they beside others, nor with an outlier at each end, which are trimmed.
        let scattered = Centre::of(&SCATTERED).expect("ten");
        assert_eq!(half_widths(&[scattered, alike()], [0.01], 1), [f64::INFINITY]);
        let trimmed = Centre::of(&[0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 9.0]).expect("ten");
        assert_eq!(half_widths(&[trimmed], [0.01], 1), [f64::INFINITY]);
    }
}
