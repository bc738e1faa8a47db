//! In which order the contenders of a round run.

use crate::stats::Random;

/// The order of `count` contenders in round `round` of a cell, both counted from 0.
///
/// Rounds come in pairs: the first in an order by lot, the second backwards. So a contender stands in front of another
/// one as often as behind it, and over a pair at the middle of the round on average: neither what a round begins with
/// nor what a contender leaves behind (caches, memory, the host's mood) falls on one alone, and nothing that has a
/// rhythm on this machine can fall in step with it.
pub(crate) fn order(count: usize, cell: usize, round: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let pair = (cell as u64) << 32 | (round / 2) as u64;
    Random::branch(seed, pair).shuffle(&mut order);
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_runs_once_a_round() {
        for count in 0..9 {
            for round in 0..20 {
                let mut order = order(count, 3, round, 7);
                order.sort_unstable();
                assert!(order.into_iter().eq(0..count), "{count} in round {round}");
            }
        }
    }

    #[test]
    fn a_seed_makes_the_same_order_again() {
        let orders = |cell, seed| -> Vec<_> { (0..20).map(|round| order(6, cell, round, seed)).collect() };
        assert_eq!(orders(0, 1), orders(0, 1));
        assert_ne!(orders(0, 1), orders(0, 2));
        assert_ne!(orders(0, 1), orders(1, 1));
    }

    #[test]
    fn the_second_of_a_pair_goes_backwards() {
        for pair in 0..10 {
            let mut second = order(7, 0, 2 * pair + 1, 9);
            second.reverse();
            assert_eq!(order(7, 0, 2 * pair, 9), second);
        }
    }

    #[test]
    fn every_contender_stands_at_every_place() {
        let mut times = [[0; 4]; 4];
        for round in 0..4000 {
            for (place, contender) in order(4, 0, round, 1).into_iter().enumerate() {
                times[contender][place] += 1;
            }
        }
        // A thousand each; pairs make five standard deviations of it 190 at most.
        assert!(
            times.iter().flatten().all(|times| (810..1190).contains(times)),
            "{times:?}"
        );
    }
}
