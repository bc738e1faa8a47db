//! Whole nodes in virtual time, under every fault, with laws R1-R11 checked after every step.
//!
//! `KRAFT_SEED=n` runs one seed, `KRAFT_SEEDS=n` so many of them.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use kraft::protocols::Format;
use kraft::sim::{Changed, Faults, Kind, Kinds, Mode, Options, Weaker, run};

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
    // Who wants an early answer is not told what came of it.
    let early = report.weaker.by_leader + report.weaker.received;
    assert_eq!((report.refused, report.unknown, report.fired.total()), (0, early, 0));
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
fn a_follower_behind_a_dead_connection_is_reached_again() {
    // Cuts and cut power leave connections that one side has lost and the other holds for alive.
    let faults = Faults::These(Kinds::of(&[Kind::Power, Kind::Partition, Kind::OneWay]));
    check(
        &Options {
            faults,
            ..Options::default()
        },
        10,
    );
}

#[test]
fn a_node_whose_disk_was_wiped_stays_a_stranger() {
    let faults = Faults::These(Kinds::of(&[Kind::Wipe, Kind::Power]));
    check(
        &Options {
            faults,
            span: Duration::from_secs(30),
            ..Options::default()
        },
        5,
    );
}

#[test]
fn a_node_whose_log_rots_stays_down_until_it_is_mended() {
    let faults = Faults::These(Kinds::of(&[Kind::Rot, Kind::Crash]));
    check(
        &Options {
            faults,
            span: Duration::from_secs(30),
            ..Options::default()
        },
        5,
    );
}

#[test]
fn who_missed_what_logs_no_longer_have_is_sent_a_snapshot_whatever_comes_between() {
    let kinds = [
        Kind::Crash,
        Kind::Power,
        Kind::Partition,
        Kind::Full,
        Kind::WriteError,
        Kind::SyncError,
        Kind::Stall,
    ];
    let mut installed = 0;
    for seed in seeds(20) {
        println!("KRAFT_SEED={seed}");
        let options = Options {
            seed,
            users: 5,
            span: Duration::from_secs(20),
            faults: Faults::These(Kinds::of(&kinds)),
            ..Options::default()
        };
        let report = run(&options).unwrap_or_else(|violation| panic!("{violation}"));
        installed += report.snapped.installed;
    }
    assert!(installed > 0 || number("KRAFT_SEED").is_some());
}

#[test]
fn a_snapshot_that_rots_is_done_without_or_its_node_stays_down() {
    let faults = Faults::These(Kinds::of(&[Kind::Rot, Kind::Crash, Kind::Power]));
    let mut rotten = 0;
    for seed in seeds(10) {
        println!("KRAFT_SEED={seed}");
        let options = Options {
            seed,
            faults,
            span: Duration::from_secs(30),
            ..Options::default()
        };
        let report = run(&options).unwrap_or_else(|violation| panic!("{violation}"));
        rotten += report.snapped.rotten;
    }
    assert!(rotten > 0 || number("KRAFT_SEED").is_some());
}

#[test]
fn a_node_whose_log_is_set_aside_makes_up_for_it() {
    let mut recoveries = 0;
    for seed in seeds(5) {
        println!("KRAFT_SEED={seed}");
        let options = Options {
            seed,
            faults: Faults::These(Kinds::of(&[Kind::Rot, Kind::Crash, Kind::Power, Kind::Partition])),
            span: Duration::from_secs(30),
            ..Options::default()
        };
        let report = run(&options).unwrap_or_else(|violation| panic!("{violation}"));
        recoveries += report.recoveries;
    }
    assert!(recoveries > 0 || number("KRAFT_SEED").is_some());
}

#[test]
fn members_come_and_go_and_the_laws_hold() {
    let kinds = [
        Kind::Member,
        Kind::Crash,
        Kind::Power,
        Kind::Partition,
        Kind::Transfer,
        Kind::Stop,
        Kind::Wipe,
    ];
    let mut changed = Changed::default();
    for seed in seeds(20) {
        println!("KRAFT_SEED={seed}");
        let options = Options {
            seed,
            nodes: [1, 3, 5][seed as usize % 3],
            span: Duration::from_secs(20),
            faults: Faults::These(Kinds::of(&kinds)),
            ..Options::default()
        };
        let report = run(&options).unwrap_or_else(|violation| panic!("{violation}"));
        changed.came += report.changed.came;
        changed.went += report.changed.went;
        changed.gone += report.changed.gone;
        changed.barred.add(report.changed.barred);
    }
    let barred = changed.barred;
    let reasons = [barred.unknown, barred.conflict, barred.invalid, barred.voters];
    let is_barred = reasons.iter().all(|count| *count > 0);
    let is_seen = changed.came > 0 && changed.went > 0 && changed.gone > 0 && is_barred;
    assert!(is_seen || number("KRAFT_SEED").is_some(), "{changed:?}");
}

#[test]
fn who_asks_for_less_gets_no_less_than_that() {
    let kinds = [Kind::Partition, Kind::OneWay, Kind::Jump, Kind::Drift, Kind::Transfer];
    let mut weaker = Weaker::default();
    for seed in seeds(20) {
        println!("KRAFT_SEED={seed}");
        let options = Options {
            seed,
            faults: Faults::These(Kinds::of(&kinds)),
            ..Options::default()
        };
        let report = run(&options).unwrap_or_else(|violation| panic!("{violation}"));
        weaker.leased += report.weaker.leased;
        weaker.stale += report.weaker.stale;
        weaker.by_leader += report.weaker.by_leader;
        weaker.received += report.weaker.received;
    }
    assert!(
        weaker.missing().is_none() || number("KRAFT_SEED").is_some(),
        "{weaker:?}"
    );
}

#[test]
fn nodes_end_where_their_disk_fails_and_start_again() {
    let kinds = [
        Kind::WriteError,
        Kind::SyncError,
        Kind::ReadError,
        Kind::Full,
        Kind::Stall,
    ];
    check(
        &Options {
            faults: Faults::These(Kinds::of(&kinds)),
            ..Options::default()
        },
        10,
    );
}

#[test]
fn frames_that_come_twice_late_or_from_an_earlier_connection_change_nothing() {
    let kinds = [Kind::Duplicate, Kind::Reorder, Kind::Replay, Kind::Tear];
    check(
        &Options {
            faults: Faults::These(Kinds::of(&kinds)),
            ..Options::default()
        },
        10,
    );
}

#[test]
fn nodes_of_every_wire_format_keep_the_laws() {
    for &protocol in Format::ALL {
        let options = Options {
            faults: Faults::ALL,
            span: Duration::from_secs(5),
            protocol,
            ..Options::default()
        };
        check(&options, 8);
        let is_told = options.command().ends_with(&format!(" --protocol {protocol}"));
        assert_eq!(is_told, protocol != Format::Binary);
    }
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

/// The commands whose hashes stand in `sim_traces.txt`: some of each mode, and of all faults at once.
fn pinned() -> impl Iterator<Item = Options> {
    let span = Duration::from_secs(3);
    let drawn = move |seed| Options {
        span,
        ..Options::drawn(seed)
    };
    let live = move |seed| Options {
        mode: Mode::Liveness,
        ..drawn(seed)
    };
    let all = move |seed| Options {
        faults: Faults::ALL,
        ..drawn(seed)
    };
    (0..8).map(drawn).chain((8..11).map(live)).chain((11..14).map(all))
}

#[test]
fn a_seed_is_the_same_run_on_every_machine() {
    const HEAD: &str =
        "# Commands, and the trace that each prints. KRAFT_REWRITE=1 cargo test -p kraft-raft same_run_on_every";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sim_traces.txt");
    let mut said = format!("{HEAD}\n");
    for options in pinned() {
        let report = run(&options).unwrap_or_else(|violation| panic!("{violation}"));
        said += &format!("{} # {:016x}\n", options.command(), report.trace);
    }
    if std::env::var_os("KRAFT_REWRITE").is_some_and(|value| value == "1") {
        fs::write(&path, said).expect("the traces are rewritten");
        return;
    }
    let expected = fs::read_to_string(&path).expect("the traces");
    let other = said
        .lines()
        .zip(expected.lines())
        .find(|(said, expected)| said != expected);
    assert!(
        said == expected,
        "{}: it has\n  {}\nand this machine says\n  {}\nA change of what nodes, the simulator or its dependencies do \
         changes these: if you made one, write them anew with KRAFT_REWRITE=1. If not, a run depends on the machine.",
        path.display(),
        other.map_or("other commands", |(_, expected)| expected),
        other.map_or("other commands", |(said, _)| said)
    );
}

#[test]
fn what_the_seed_draws_keeps_the_laws() {
    for seed in seeds(10) {
        println!("KRAFT_SEED={seed}");
        let options = Options {
            span: Duration::from_secs(15),
            ..Options::drawn(seed)
        };
        let report = run(&options).unwrap_or_else(|violation| panic!("{violation}"));
        assert!(report.committed > 0, "seed {seed}: {report:?}");
    }
}

#[test]
fn the_cluster_stays_live_under_what_raft_tolerates() {
    for seed in seeds(10) {
        println!("KRAFT_SEED={seed}");
        let options = Options {
            mode: Mode::Liveness,
            span: Duration::from_secs(15),
            ..Options::drawn(seed)
        };
        run(&options).unwrap_or_else(|violation| panic!("{violation}"));
    }
}
