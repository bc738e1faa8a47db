use super::*;
use crate::engines::REFERENCE;

fn plan(options: &Run) -> Plan {
    Plan::of(options, USUAL)
}

#[test]
fn a_quick_plan_takes_less_than_a_minute() {
    let quick = plan(&Run {
        quick: true,
        ..Run::default()
    });
    assert!(quick.estimate() < Duration::from_secs(60), "{:?}", quick.estimate());
    assert!(quick.rounds >= 10 && !quick.cells.is_empty());
    assert!(quick.span.measured >= MEASURED_MIN);
}

#[test]
fn a_full_plan_takes_less_than_twenty_minutes() {
    let full = plan(&Run {
        full: true,
        ..Run::default()
    });
    assert!(full.estimate() < Duration::from_secs(20 * 60), "{:?}", full.estimate());
    assert!(full.rounds >= 10 && full.span.measured >= MEASURED_MIN);
}

#[test]
fn where_setting_up_is_dear_less_is_measured() {
    let dear = Costs {
        process: USUAL.process * 3,
        connection: USUAL.connection * 5,
        crowded: USUAL.crowded * 5,
    };
    let options = [(true, false, 60), (false, true, 20 * 60)].map(|(quick, full, most)| {
        let run = Run {
            quick,
            full,
            ..Run::default()
        };
        (run, Duration::from_secs(most))
    });
    for (run, most) in options {
        let (there, here) = (Plan::of(&run, dear), plan(&run));
        assert!(
            there.estimate() < most && there.span.measured >= MEASURED_MIN,
            "{:?}",
            there.estimate()
        );
        // What has many connections goes, for which something else may come.
        let connections = |of: &Plan| of.cells.iter().map(|cell| cell.work.conns()).sum::<usize>();
        let less = |of: &Plan| (connections(of), of.cells.len(), of.span.measured);
        assert!(less(&there) < less(&here), "{:?} {:?}", less(&there), less(&here));
    }
}

#[test]
fn where_cells_take_longer_than_planned_the_rest_is_less() {
    let full = plan(&Run {
        full: true,
        ..Run::default()
    });
    let names = |plan: &Plan| plan.cells.iter().map(|cell| cell.work.to_string()).collect::<Vec<_>>();
    let took = |done: usize| full.cells[..done].iter().map(|cell| cell.estimate(full.span)).sum();
    let done = 4;
    let first: Duration = took(done);
    let mut plan_now = full.clone();
    plan_now.hurry(done, first, first);
    assert_eq!(names(&plan_now), names(&full));
    plan_now.hurry(done, first * 2, first * 2);
    // Large messages go first, but not those that were measured already.
    assert_eq!(names(&plan_now)[..done], names(&full)[..done]);
    assert!(
        plan_now.estimate() * 2 < Duration::from_secs(20 * 60),
        "{:?}",
        plan_now.estimate()
    );
    let last = plan_now.left_out().pop().expect("a cell had to go");
    assert!(last.contains("no time left"), "{last}");
    assert_eq!(
        plan_now.cells.len() + plan_now.left_out().len(),
        full.cells.len() + full.left_out.len()
    );
    // Only the first cells were slow: what was set aside comes back, in its place.
    plan_now.hurry(done, first, first);
    assert_eq!(names(&plan_now), names(&full));
    // At the end there is nothing to choose from.
    plan_now.hurry(full.cells.len(), took(full.cells.len()), took(full.cells.len()));
    assert_eq!(names(&plan_now), names(&full));
    // Who says how long rounds are is asked for nothing else.
    let mut free = plan(&Run {
        full: true,
        seconds: Some(Duration::from_millis(100)),
        ..Run::default()
    });
    let cells = free.cells.len();
    free.hurry(1, Duration::from_secs(3600), Duration::from_secs(3600));
    assert_eq!(free.cells.len(), cells);
}

#[test]
fn with_too_many_engines_cells_go_and_are_named() {
    let names: Vec<String> = (0..20).map(|at| format!("raw-threads#{at}")).collect();
    let many = plan(&Run {
        quick: true,
        engines: names,
        ..Run::default()
    });
    assert!(many.estimate() < Duration::from_secs(60), "{:?}", many.estimate());
    assert_eq!(many.cells[0].work.to_string(), "echo 64Bx64");
    assert!(
        many.left_out[0].starts_with("echo 16KiBx64: there is no time"),
        "{:?}",
        many.left_out
    );
}

#[test]
fn of_each_workload_a_cell_stays() {
    // As many loops as there may be, all of which answer all that has connections.
    let engines: Vec<String> = (0..18).map(|at| format!("raw-threads#{at}")).collect();
    let kinds = [
        Kind::Echo,
        Kind::Open,
        Kind::Pump,
        Kind::FanOut,
        Kind::MultiAccept,
        Kind::Idle,
    ];
    let full = plan(&Run {
        full: true,
        engines,
        workloads: Some(kinds.to_vec()),
        ..Run::default()
    });
    assert!(full.estimate() < Duration::from_secs(20 * 60), "{:?}", full.estimate());
    let has = |name: &str| full.cells.iter().any(|cell| cell.work.to_string() == name);
    for kept in [
        "echo 64Bx64",
        "echo 64Bx10000",
        "open 64Bx64 at 100000/s",
        "multi-accept 64",
        "idle 10000 beside 10 busy",
    ] {
        assert!(has(kept), "{kept}: {:?}", full.left_out);
    }
    assert!(has("pump 64KiBx64") && has("fan-out 64B to 64 16 deep"));
    // Large messages over many connections take longest.
    assert!(full.left_out[0].contains("echo 64KiBx10000"), "{:?}", full.left_out);
    assert!(!has("echo 16KiBx10000"));
}

/// A run of these workloads by so many loops that answer all that has connections.
fn crowded(count: usize, kinds: &[Kind]) -> Run {
    Run {
        full: true,
        engines: (0..count).map(|at| format!("raw-threads#{at}")).collect(),
        workloads: Some(kinds.to_vec()),
        ..Run::default()
    }
}

#[test]
fn what_stands_last_goes_first_unless_something_takes_far_longer() {
    let mut plan = plan(&crowded(1, &[Kind::Echo, Kind::Open]));
    let mut gone = Vec::new();
    while let Some(at) = plan.next_to_go(0) {
        gone.push(plan.cells.remove(at).work.to_string());
    }
    let large = gone
        .iter()
        .position(|name| name.contains(" 64B"))
        .expect("there are small ones");
    assert!(gone[..large].iter().all(|name| name.contains("KiB")), "{gone:?}");
    assert_eq!(gone[0], "echo 64KiBx10000");
    assert_eq!(
        gone[large..],
        [
            "echo 64Bx10000",
            "open 64Bx64 at 25000/s",
            "open 64Bx64 at 50000/s",
            "echo 64Bx1 16 deep",
            "echo 64Bx64 16 deep",
            "echo 64Bx1000",
            "echo 64Bx1",
            "open 64Bx64 at 100000/s",
            "echo 64Bx64",
        ]
    );
}

#[test]
fn of_what_clusters_are_asked_each_kind_stays() {
    let mut plan = plan(&Run {
        full: true,
        engines: vec!["test-dies".into()],
        workloads: Some(vec![Kind::Put, Kind::Get, Kind::Mixed]),
        ..Run::default()
    });
    if cfg!(not(feature = "cluster")) {
        assert!(plan.cells.is_empty());
        return;
    }
    assert_eq!(plan.cells.len(), 9);
    while plan.cells.len() > 3 {
        let at = plan.next_to_go(0).expect("there are nine");
        plan.cells.remove(at);
    }
    let names: Vec<String> = plan.cells.iter().map(|cell| cell.work.to_string()).collect();
    assert_eq!(names, ["put 256Bx1", "get 256Bx1", "mixed 256Bx1"]);
}

#[test]
fn one_cell_that_is_too_long_has_fewer_rounds_or_says_how_long_it_takes() {
    let one = |count, rounds| {
        plan(&Run {
            quick: true,
            full: false,
            idle_conns: Some(10_000),
            rounds,
            filter: Some("beside".into()),
            ..crowded(count, &[Kind::Idle])
        })
    };
    // Each round of each takes more than half a second.
    let fits = one(7, None);
    assert_eq!((fits.cells.len(), fits.warnings.len()), (1, 0));
    assert!((ROUNDS_MIN..ROUNDS).contains(&fits.rounds), "{}", fits.rounds);
    assert_eq!(fits.cells[0].rounds, fits.rounds);
    assert!(fits.estimate() < Duration::from_secs(60), "{:?}", fits.estimate());
    let long = one(40, None);
    assert_eq!(long.rounds, ROUNDS_MIN);
    let warning = long.warnings.last().expect("it is too long");
    assert!(warning.ends_with("name fewer engines (--engines)"), "{warning}");
    // Who says how many rounds has so many.
    let asked = one(7, Some(14));
    assert_eq!(asked.rounds, 14);
    let warning = asked.warnings.last().expect("it is too long");
    assert!(warning.ends_with(" or ask for fewer rounds (--rounds)"), "{warning}");
}

#[test]
fn who_asks_for_fewer_rounds_than_verdicts_need_is_told() {
    let warned = |rounds, quick| {
        let plan = plan(&Run {
            rounds,
            quick,
            ..crowded(1, &[Kind::Echo])
        });
        assert_eq!(rounds.unwrap_or(plan.rounds), plan.rounds);
        plan.warnings
    };
    for quick in [false, true] {
        let six = warned(Some(6), quick);
        assert_eq!(
            six,
            ["there are no intervals and no verdicts of 6 rounds: they need 10 at least (--rounds)"]
        );
        assert_eq!(warned(Some(10), quick), [""; 0]);
        assert_eq!(warned(None, quick), [""; 0]);
    }
}

#[test]
fn a_leader_s_death_takes_what_is_made_good_behind_it() {
    let kill = Planned {
        place: 0,
        work: Work::KillLeader,
        rounds: 1,
        contenders: Vec::new(),
        costs: USUAL,
    };
    let of = |seconds| kill.round(span(Duration::from_secs(seconds), PATIENCE));
    // However short it is there are two.
    assert!(of(0) >= ELECTION + (LEADERLESS + TRIAL) * 2, "{:?}", of(0));
    // A second without a leader is many times that nobody leads, and as many starts.
    assert!(of(1) >= Duration::from_secs(1) + TRIAL * 60, "{:?}", of(1));
    let quick = plan(&Run {
        quick: true,
        workloads: Some(vec![Kind::KillLeader]),
        engines: vec!["test-dies".into()],
        ..Run::default()
    });
    assert_eq!(quick.warnings, [""; 0]);
    assert!(quick.estimate() < Duration::from_secs(60), "{:?}", quick.estimate());
}

#[test]
fn a_round_that_counts_lasts_as_long_as_its_messages_want() {
    let of = |conns, size| {
        let work = Work::Echo { conns, size, depth: 1 };
        let cell = Planned {
            place: 0,
            work,
            rounds: 1,
            contenders: Vec::new(),
            costs: USUAL,
        };
        let short = span(MEASURED_MIN, PATIENCE);
        cell.count(short) - cell.alone(short)
    };
    assert_eq!(of(64, 64), Duration::ZERO);
    // Ten turns of ten thousand.
    assert_eq!(of(10_000, 64), Duration::from_secs(1) - MEASURED_MIN);
    assert!(of(10_000, 65_536) > Duration::from_secs(6));
}

#[test]
fn what_nobody_answers_is_left_out_with_the_reason() {
    let of = |engines: &[&str], kind| {
        plan(&Run {
            workloads: Some(vec![kind]),
            engines: engines.iter().map(|name| (*name).to_owned()).collect(),
            ..Run::default()
        })
    };
    let none = of(&["raw-threads", "kraft-core"], Kind::Wake);
    assert!(none.cells.is_empty());
    assert!(
        none.left_out[0].starts_with("wake: raw-threads ("),
        "{:?}",
        none.left_out
    );
    assert!(
        none.left_out[0].ends_with("kraft-core (it is Raft alone, without a loop)"),
        "{:?}",
        none.left_out
    );
    let none = of(&["raw-readers"], Kind::Replicate);
    assert_eq!(none.left_out[0], "replicate 256Bx1: it is a loop, and has no Raft");
    let none = of(&["raw-readers"], Kind::Frames);
    assert_eq!(
        none.left_out[0],
        "frames 16 of 64Bx64: none of the engines takes part in it"
    );
    // One that answers is enough.
    assert_eq!(of(&["raw-threads", "kraft-core"], Kind::Replicate).cells.len(), 2);
}

#[test]
fn what_the_sockets_cannot_hold_is_left_out() {
    let plan = plan(&Run {
        sizes: Some(vec![64, 1 << 20]),
        conns: Some(vec![1000]),
        depth: Some(vec![1]),
        ..Run::default()
    });
    assert_eq!(plan.cells.len(), 1);
    assert!(
        plan.left_out[0].contains("1000 MiB on their way"),
        "{:?}",
        plan.left_out
    );
}

#[test]
fn a_cell_that_is_asked_for_twice_is_one() {
    let twice = plan(&Run {
        workloads: Some(vec![Kind::Echo, Kind::Open, Kind::Echo]),
        sizes: Some(vec![64, 64]),
        conns: Some(vec![1]),
        depth: Some(vec![1, 1]),
        rate: Some(vec![1000, 2000, 1000]),
        ..Run::default()
    });
    let names: Vec<String> = twice.cells.iter().map(|cell| cell.work.to_string()).collect();
    assert_eq!(names, ["echo 64Bx1", "open 64Bx64 at 1000/s", "open 64Bx64 at 2000/s"]);
}

#[test]
fn what_all_others_are_to_hear_counts_for_each_of_them() {
    let deep = plan(&Run {
        workloads: Some(vec![Kind::FanOut]),
        depth: Some(vec![1024]),
        ..Run::default()
    });
    assert_eq!(deep.cells.len(), 3);
    assert!(
        deep.left_out[0].starts_with("fan-out 16KiB to 64 1024 deep: 1024 MiB on their way"),
        "{:?}",
        deep.left_out
    );
}

#[test]
fn full_grids_are_named_as_the_field_has_them() {
    let words = "kraft-bench run --sizes 64 --workloads ping-pong,pump,fan-out,multi-accept,idle,slow-reader,wake,\
                 million-timers";
    let cli = <crate::cli::Cli as clap::Parser>::parse_from(words.split_whitespace());
    let crate::cli::What::Run(run) = cli.what else {
        panic!("it is a run");
    };
    let names: Vec<String> = plan(&run).cells.iter().map(|cell| cell.work.to_string()).collect();
    let expected = [
        "ping-pong 64B",
        "pump 64KiBx1",
        "pump 64KiBx64",
        "fan-out 64B to 2 16 deep",
        "fan-out 64B to 64 16 deep",
        "fan-out 16KiB to 2 16 deep",
        "fan-out 16KiB to 64 16 deep",
        "multi-accept 64",
        "idle 10000 beside 10 busy",
        "idle 10000",
        "idle 10000 spoken",
        "slow-reader 4 beside 10",
        "wake",
        "wake flood",
        "million-timers start and stop",
        "million-timers expire",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_fan_out_is_as_deep_as_asked_for() {
    let cli = <crate::cli::Cli as clap::Parser>::parse_from([
        "kraft-bench",
        "run",
        "--workloads",
        "fan-out",
        "--depth",
        "1,2",
    ]);
    let crate::cli::What::Run(run) = cli.what else {
        panic!("it is a run");
    };
    let cells = plan(&run).cells;
    let deep = |depth| {
        cells
            .iter()
            .filter(move |cell| matches!(cell.work, Work::FanOut { depth: own, .. } if own == depth))
    };
    assert_eq!((deep(1).count(), deep(2).count(), cells.len()), (4, 4, 8));
}

#[test]
fn comparisons_are_those_with_a_baseline() {
    let plan = plan(&Run {
        sizes: Some(vec![64]),
        conns: Some(vec![1, 8]),
        depth: Some(vec![1]),
        engines: vec!["raw-threads".into(), "raw-threads#2".into(), "raw-readers".into()],
        rounds: Some(10),
        ..Run::default()
    });
    // Two figures in two cells of the one that has a baseline here.
    assert_eq!(plan.comparisons(), 4);
    assert_eq!(plan.measurements(), 60);
    assert_eq!(plan.connections_max(), 8);
}

#[test]
fn who_cannot_answer_is_compared_with_nobody() {
    let of = |kind, engines: &[&str], rounds| {
        plan(&Run {
            workloads: Some(vec![kind]),
            engines: engines.iter().map(|name| (*name).to_owned()).collect(),
            rounds: Some(rounds),
            ..Run::default()
        })
    };
    // Without timers the reference is nobody's baseline; that of start and stop is a bound of its own.
    let both = ["epoll", REFERENCE];
    assert_eq!(of(Kind::MillionTimers, &both, 2).comparisons(), 0);
    assert_eq!(of(Kind::MillionTimers, &both, 10).comparisons(), 1);
    // Nor are rivals without timers held against our best.
    let rivals = ["epoll", REFERENCE, "mio", "polling", "monoio", "compio"];
    assert_eq!(of(Kind::MillionTimers, &rivals, 10).comparisons(), 1);
    // Who has them is, in two cells.
    assert_eq!(
        of(Kind::MillionTimers, &["epoll", REFERENCE, "tokio"], 10).comparisons(),
        1 + 2
    );
}
