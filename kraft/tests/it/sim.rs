//! Whole nodes in virtual time, under every fault, with laws R1-R11 checked after every step.
//!
//! `KRAFT_SEED=n` runs one seed, `KRAFT_SEEDS=n` so many of them.

use std::ops::Range;
use std::time::Duration;

use kraft::sim::{Faults, Kind, Kinds, Mode, Options, run};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The seed that was asked for, or the first `usual` ones.
fn seeds(usual: u64) -> Range<u64> {
    match number("KRAFT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KRAFT_SEEDS").unwrap_or(usual),
    }
}

#[track_caller]
fn check(options: &Options, usual: u64) {
    for seed in seeds(usual) {
        println!("KRAFT_SEED={seed}");
        let report = run(&Options {
            seed,
            ..options.clone()
        })
        .unwrap_or_else(|violation| panic!("{violation}"));
        assert!(report.committed > 0, "seed {seed}: {report:?}");
    }
}

#[test]
fn without_faults_every_operation_is_committed() {
    let report = run(&Options {
        seed: 1,
        span: Duration::from_secs(2),
        ..Options::default()
    })
    .expect("every law holds");
    assert_eq!((report.refused, report.unknown, report.fired.total()), (0, 0, 0));
    assert!(report.committed > 100, "{report:?}");
}

#[test]
fn three_nodes_keep_the_laws_under_all_faults() {
    check(
        &Options {
            faults: Faults::ALL,
            ..Options::default()
        },
        30,
    );
}

#[test]
fn five_nodes_keep_the_laws_under_all_faults() {
    check(
        &Options {
            nodes: 5,
            users: 5,
            faults: Faults::ALL,
            ..Options::default()
        },
        10,
    );
}

#[test]
fn a_single_node_keeps_the_laws_under_all_faults() {
    check(
        &Options {
            nodes: 1,
            faults: Faults::ALL,
            ..Options::default()
        },
        10,
    );
}

#[test]
fn nodes_that_lose_power_all_the_time_lose_nothing_that_was_acknowledged() {
    let faults = Faults::These(Kinds::of(&[Kind::Power]));
    check(
        &Options {
            faults,
            ..Options::default()
        },
        10,
    );
}

#[test]
fn a_simulated_run_is_replayed_byte_for_byte() {
    let options = Options {
        seed: 42,
        faults: Faults::ALL,
        span: Duration::from_secs(5),
        ..Options::default()
    };
    assert_eq!(run(&options), run(&options));
    assert_ne!(
        run(&options).map(|report| report.trace),
        run(&Options { seed: 43, ..options }).map(|report| report.trace)
    );
}

#[test]
fn what_the_seed_draws_keeps_the_laws() {
    for seed in seeds(20) {
        println!("KRAFT_SEED={seed}");
        let report = run(&Options::drawn(seed)).unwrap_or_else(|violation| panic!("{violation}"));
        assert!(report.committed > 0, "seed {seed}: {report:?}");
    }
}

#[test]
fn the_cluster_stays_live_under_what_raft_tolerates() {
    for seed in seeds(20) {
        println!("KRAFT_SEED={seed}");
        let options = Options {
            mode: Mode::Liveness,
            ..Options::drawn(seed)
        };
        run(&options).unwrap_or_else(|violation| panic!("{violation}"));
    }
}
