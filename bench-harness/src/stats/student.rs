//! Student's t distribution.

use std::f64::consts::PI;

/// The value that the absolute value of t with `freedom` degrees of freedom exceeds with probability `alpha`.
pub(super) fn quantile(alpha: f64, freedom: usize) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while 1.0 - within(high, freedom) > alpha && high < 1e12 {
        high *= 2.0;
    }
    // As often as a double has bits; nothing changes after that.
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if 1.0 - within(middle, freedom) > alpha {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The probability that the absolute value of t stays below `t`: Abramowitz and Stegun, 26.7.3 and 26.7.4. Whole
/// degrees of freedom make a finite sum of it.
fn within(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let is_odd = freedom % 2 == 1;
    if freedom == 1 {
        return 2.0 * angle / PI;
    }
    let mut term = if is_odd { cosine } else { 1.0 };
    let mut sum = term;
    // Odd: cos + 2/3 cos^3 + 2·4/(3·5) cos^5 …; even: 1 + 1/2 cos^2 + 1·3/(2·4) cos^4 …
    for step in (if is_odd { 3 } else { 2 }..freedom.saturating_sub(1)).step_by(2) {
        term *= cosine * cosine * (step - 1) as f64 / step as f64;
        sum += term;
    }
    if is_odd {
        2.0 / PI * (angle + sine * sum)
    } else {
        sine * sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        // Two-sided 5 %, 1 % and 0.1 %, as every table of Student's t has them.
        let table = [
            (1, [12.706, 63.657, 636.619]),
            (2, [4.303, 9.925, 31.599]),
            (3, [3.182, 5.841, 12.924]),
            (4, [2.776, 4.604, 8.610]),
            (5, [2.571, 4.032, 6.869]),
            (7, [2.365, 3.499, 5.408]),
            (9, [2.262, 3.250, 4.781]),
            (10, [2.228, 3.169, 4.587]),
            (30, [2.042, 2.750, 3.646]),
        ];
        for (freedom, expected) in table {
            for (alpha, expected) in [0.05, 0.01, 0.001].into_iter().zip(expected) {
                let found = quantile(alpha, freedom);
                assert!((found - expected).abs() < 6e-4, "{freedom} at {alpha}: {found}");
            }
        }
    }
}
