//! What the tests of the map and its image share.

/// `KRAFT_SEED`, or one that is always the same.
pub(super) fn seed() -> u64 {
    let seed = std::env::var("KRAFT_SEED").map_or(7, |seed| seed.parse().expect("KRAFT_SEED is a number"));
    println!("KRAFT_SEED={seed}");
    seed
}
