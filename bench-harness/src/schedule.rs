//! In which order the contenders of a round run.

/// The order of `count` contenders in round `round`, counted from 0.
///
/// Each round begins one further, and every other one goes backwards. So over twice as many rounds as contenders each
/// stands at each place equally often, and behind each of its neighbours as often as before it: neither what a round
/// begins with nor what a contender leaves behind (caches, memory, the host's mood) falls on one alone.
pub(crate) fn order(count: usize, round: usize) -> Vec<usize> {
    let places = 0..count;
    places
        .map(|place| {
            if round.is_multiple_of(2) {
                (round + place) % count
            } else {
                (round % count + count - place) % count
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_runs_once_a_round() {
        for count in 1..9 {
            for round in 0..20 {
                let mut order = order(count, round);
                order.sort_unstable();
                assert!(order.into_iter().eq(0..count), "{count} in round {round}");
            }
        }
    }

    #[test]
    fn every_contender_stands_at_every_place_equally_often() {
        for count in 1..9 {
            let mut times = vec![vec![0; count]; count];
            for round in 0..2 * count {
                for (place, contender) in order(count, round).into_iter().enumerate() {
                    times[contender][place] += 1;
                }
            }
            assert!(times.iter().flatten().all(|times| *times == 2), "{count}: {times:?}");
        }
    }

    #[test]
    fn neighbours_follow_each_other_both_ways() {
        assert_eq!(order(3, 0), [0, 1, 2]);
        assert_eq!(order(3, 1), [1, 0, 2]);
        assert_eq!(order(3, 2), [2, 0, 1]);
        assert_eq!(order(3, 3), [0, 2, 1]);
    }
}
