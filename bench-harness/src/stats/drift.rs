//! Whether a figure rises or falls from round to round.

use serde::{Deserialize, Serialize};

use super::median;

/// A trend over the rounds, by Mann and Kendall: of how many pairs of rounds the later one is greater, less those where
/// it is smaller. It asks for no distribution and no shape of the trend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Drift {
    /// Theil and Sen's slope, the median over all pairs of rounds: the share of the middle by which a round differs
    /// from the one before it.
    pub(crate) a_round: f64,
    /// How likely a trend like this, up or down, is without any.
    pub(crate) p: f64,
}

/// Trends that are less likely by accident are shown as such.
const P_MAX: f64 = 0.01;

/// Up to so many rounds the distribution is counted out; beyond it is normal for all purposes.
const EXACT_MAX: usize = 40;

/// Fewer rounds have no trend that could be told from accident: of 5! = 120 orders two are monotone.
const ROUNDS_MIN: usize = 6;

impl Drift {
    /// `None` if there are too few rounds, or in the middle one the figure is 0.
    pub(crate) fn of(rounds: &[Option<f64>]) -> Option<Self> {
        let places = rounds.iter().enumerate();
        let values: Vec<(f64, f64)> = places.filter_map(|(at, value)| Some((at as f64, (*value)?))).collect();
        if values.len() < ROUNDS_MIN {
            return None;
        }
        // A share of nothing is none.
        let middle = median(values.iter().map(|(_, value)| *value)).filter(|middle| *middle != 0.0)?;
        let mut slopes = Vec::new();
        let mut score = 0_i64;
        for (at, (early, before)) in values.iter().enumerate() {
            for (late, after) in &values[at + 1..] {
                slopes.push((after - before) / (late - early));
                score += i64::from(after > before) - i64::from(after < before);
            }
        }
        Some(Self {
            a_round: median(slopes)? / middle,
            p: p(values.len(), score.unsigned_abs() as usize),
        })
    }

    /// Whether accident is no good explanation.
    pub(crate) fn is_shown(&self) -> bool {
        self.p < P_MAX
    }
}

/// The probability of a score at least so far from 0 if all orders of `count` values are equally likely. Ties make
/// far scores rarer than that, so it errs on the side of no trend.
fn p(count: usize, score: usize) -> f64 {
    let pairs = count * (count - 1) / 2;
    if count > EXACT_MAX {
        let count = count as f64;
        let deviation = (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
        return two_sided_normal((score as f64 - 1.0).max(0.0) / deviation);
    }
    // The score is the number of pairs less twice that of inversions. A value put behind `at` others makes 0 to `at`
    // new inversions, equally likely.
    let mut inversions = vec![1.0];
    for at in 1..count {
        let mut next = vec![0.0; inversions.len() + at];
        for (have, probability) in inversions.iter().enumerate() {
            for new in &mut next[have..=have + at] {
                *new += probability / (at + 1) as f64;
            }
        }
        inversions = next;
    }
    let far = inversions
        .iter()
        .enumerate()
        .filter(|(inversions, _)| pairs.abs_diff(2 * inversions) >= score);
    far.map(|(_, probability)| probability).sum::<f64>().min(1.0)
}

/// Abramowitz and Stegun, 26.2.17: seven digits.
fn two_sided_normal(z: f64) -> f64 {
    const B: [f64; 5] = [
        0.319_381_530,
        -0.356_563_782,
        1.781_477_937,
        -1.821_255_978,
        1.330_274_429,
    ];
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let sum = B.iter().rev().fold(0.0, |sum, b| (sum + b) * t);
    2.0 * sum * (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::Random;
    use super::*;

    #[test]
    fn probabilities_are_those_of_kendall_s_table() {
        // Kendall, Rank Correlation Methods, appendix table 1, doubled: n = 8, S = 16 and 20; n = 10, S = 21 and 27.
        for (count, score, expected) in [(8, 16, 0.0618), (8, 20, 0.0140), (10, 21, 0.0716), (10, 27, 0.0166)] {
            let found = p(count, score);
            assert!((found - expected).abs() < 1e-3, "{count}, {score}: {found}");
        }
        assert!((p(4, 6) - 2.0 / 24.0).abs() < 1e-12);
        assert!((p(10, 0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_normal_tail_continues_the_exact_one() {
        let (score, freedom) = (300, EXACT_MAX);
        let exact = p(freedom, score);
        let deviation = (40.0 * 39.0 * 85.0 / 18.0_f64).sqrt();
        assert!((exact - two_sided_normal(299.0 / deviation)).abs() < 2e-4, "{exact}");
        assert!((two_sided_normal(1.959_964) - 0.05).abs() < 1e-6);
    }

    #[test]
    fn a_machine_that_grows_slower_is_noticed() {
        let rounds: Vec<_> = (0..12).map(|at| Some(100.0 - f64::from(at))).collect();
        let drift = Drift::of(&rounds).expect("twelve are enough");
        assert!(drift.is_shown() && (drift.a_round + 0.0106).abs() < 1e-3, "{drift:?}");
        assert_eq!(Drift::of(&rounds[..5]), None);
        // A clock that counts in ticks may have none in most rounds.
        assert_eq!(Drift::of(&[Some(0.0); 12]), None);
    }

    #[test]
    fn noise_is_seldom_a_trend() {
        let mut random = Random::new(3);
        let shown = (0..2000).filter(|_| {
            let rounds: Vec<_> = (0..10).map(|_| Some(1.0 + 0.1 * random.normal())).collect();
            Drift::of(&rounds).is_some_and(|drift| drift.is_shown())
        });
        // At most one in a hundred: 20, and four standard deviations more.
        let shown = shown.count();
        assert!(shown <= 38, "{shown}");
    }
}
