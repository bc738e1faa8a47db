//! What a run is going to do, and how long that takes: known before it begins.

use std::time::Duration;

use crate::cli::{Kind, Run};
use crate::engines::{self, Engine};
use crate::generator::Span;
use crate::targets;
use crate::workload::{self, Ask, Contender, IN_FLIGHT_MAX, Pace, SMALL, Work};

/// Everything that is measured, in this order.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cells: Vec<Planned>,
    /// Cells that are not run, and why.
    pub(crate) left_out: Vec<String>,
    /// Rounds of a cell, at most.
    pub(crate) rounds: usize,
    pub(crate) span: Span,
}

/// A cell and who takes part.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) work: Work,
    pub(crate) rounds: usize,
    pub(crate) contenders: Vec<Contender>,
}

/// What `--quick` and `--full` may take. Less than a minute and twenty minutes by as much as the estimate is off.
const QUICK: Duration = Duration::from_secs(55);
const FULL: Duration = Duration::from_secs(17 * 60);

/// Rounds are no longer than this where time is given, and no shorter: warm-up and clocks want their share.
const MEASURED_MAX: Duration = Duration::from_secs(1);
const MEASURED_MIN: Duration = Duration::from_millis(60);

/// An even number: of a pair of rounds the second goes backwards. A quick run has more and shorter ones: at a level that
/// is corrected for forty comparisons fourteen rounds make intervals two thirds as wide as ten.
const ROUNDS: usize = 12;
const ROUNDS_QUICK: usize = 14;

const PATIENCE: Duration = Duration::from_secs(10);

/// How long idle connections are watched at least: CPU time in ticks of 4 ms has to show.
pub(crate) const IDLE_SECONDS_MIN: Duration = Duration::from_secs(2);

/// What a process costs: its start, its end, and the look at what it used.
const PROCESS: Duration = Duration::from_millis(12);

/// What a connection costs over loopback, on both sides, from its connect to its reset.
const CONNECTION: Duration = Duration::from_micros(50);

/// Bytes a second that go round while connections speak for the first time.
const FIRST_BYTES: f64 = 1e9;

/// What clients that do not read cost: a server is full when it has taken nothing for a while, and in the end they read.
const SLOW_READING: Duration = Duration::from_millis(400);

/// What a turn of a million timers costs, nearly: the last one begins before the time is over.
const MILLION_TIMERS: Duration = Duration::from_millis(400);

/// What a cluster costs until it leads, in three processes that are made and started.
const ELECTION: Duration = Duration::from_millis(1_500);

/// Connections of the open loop, of frames, of a pump, and clients of a cluster.
const OPEN_CONNS: usize = 64;
const FRAMES_CONNS: usize = 64;

/// Operations a second of the open loops over a cluster.
const CLUSTER_RATE: u64 = 5_000;

/// A reply of `pump`: what a loop reads or writes at a time.
const REPLY_BYTES: usize = 64 * 1024;

/// The followers of three nodes, and as many as the open loop has connections.
const OTHERS: [usize; 2] = [2, 64];
const FAN_OUT_DEPTH: usize = 16;

/// Clients that come and go at a time.
const COMERS: usize = 64;

/// Beside idle connections, and beside those who do not read.
const BUSY_CONNS: usize = 10;
const SLOW_READERS: usize = 4;

impl Plan {
    /// What these options ask for.
    pub(crate) fn of(options: &Run) -> Self {
        let mut works = works(options);
        works.retain(|work| {
            let filter = options.filter.as_ref();
            filter.is_none_or(|filter| work.to_string().contains(filter))
        });
        // A cell that is asked for twice is one cell.
        let mut seen = Vec::new();
        works.retain(|work| {
            let is_new = !seen.contains(work);
            seen.push(*work);
            is_new
        });
        let (works, too_much): (Vec<_>, Vec<_>) = works.into_iter().partition(|work| work.in_flight() <= IN_FLIGHT_MAX);
        let left_out = too_much.iter().map(|work| {
            let mib = work.in_flight() >> 20;
            format!("{work}: {mib} MiB on their way at once are more than the system's sockets hold")
        });
        let mut left_out: Vec<String> = left_out.collect();
        let in_a_hurry = options.quick || options.full;
        let default = if options.quick { ROUNDS_QUICK } else { ROUNDS };
        let rounds = options.rounds.unwrap_or(default);
        let is_usable = |engine: &&Engine| engine.is_default() && (!options.quick || engine.is_quick());
        let usable: Vec<&'static Engine> = engines::all().filter(is_usable).collect();
        let cells = works.into_iter().map(|work| Planned {
            work,
            rounds: work.rounds(rounds),
            contenders: workload::contenders(work, &options.engines, &usable),
        });
        let (cells, empty): (Vec<_>, Vec<_>) = cells.partition(|cell| cell.able().next().is_some());
        left_out.extend(empty.iter().map(|cell| format!("{}: {}", cell.work, cell.why_nobody())));
        let measured = options.seconds.unwrap_or(MEASURED_MAX);
        let mut plan = Self {
            cells,
            left_out,
            rounds,
            span: span(measured, options.patience.unwrap_or(PATIENCE)),
        };
        if options.seconds.is_none() && in_a_hurry {
            plan.fit(if options.quick { QUICK } else { FULL });
        }
        plan
    }

    /// How long it takes, nearly.
    pub(crate) fn estimate(&self) -> Duration {
        self.cells.iter().map(|cell| cell.estimate(self.span)).sum()
    }

    /// Processes that are measured.
    pub(crate) fn measurements(&self) -> usize {
        self.cells.iter().map(|cell| cell.rounds * cell.able().count()).sum()
    }

    /// Comparisons with a baseline, and what targets compare besides.
    pub(crate) fn comparisons(&self) -> usize {
        let of = |cell: &Planned| {
            let compared = cell.able().filter(|contender| contender.baseline.is_some());
            let targets = targets::intervals(cell.work, cell.rounds, &cell.contenders);
            compared.count() * cell.work.compared().len() + targets
        };
        self.cells.iter().map(of).sum()
    }

    /// Connections of the greatest cell.
    pub(crate) fn connections_max(&self) -> usize {
        self.cells.iter().map(|cell| cell.work.conns()).max().unwrap_or(0)
    }

    /// Makes rounds as long as the time allows; where that would be too short, cells go.
    fn fit(&mut self, time: Duration) {
        loop {
            self.span = span(Duration::ZERO, self.span.patience);
            let fixed = self.estimate();
            let count: usize = self.cells.iter().map(Planned::processes).sum();
            let each = time.saturating_sub(fixed) / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
            let measured = each * 4 / 5;
            if measured >= MEASURED_MIN || self.cells.len() <= 1 {
                self.span = span(measured.clamp(MEASURED_MIN, MEASURED_MAX), self.span.patience);
                return;
            }
            if let Some(at) = self.dearest() {
                let cell = self.cells.remove(at);
                self.left_out.push(format!(
                    "{}: there is no time for it with so many engines (--engines)",
                    cell.work
                ));
            }
        }
    }

    /// What goes first, so that each workload stays: large messages where small ones are sent besides, then what is not
    /// the only cell of its workload; of these what takes longest, and among equals the last.
    fn dearest(&self) -> Option<usize> {
        let value = |cell: &Planned| {
            let others = || {
                self.cells
                    .iter()
                    .filter(|other| other.work.is_like(cell.work) && other.work != cell.work)
            };
            let has_small = cell.work.is_large() && others().any(|other| !other.work.is_large());
            (has_small, others().next().is_some(), cell.estimate(self.span))
        };
        let cells = self.cells.iter().enumerate();
        cells.max_by_key(|(_, cell)| value(cell)).map(|(at, _)| at)
    }
}

impl Planned {
    /// What one contender takes in one round.
    pub(crate) fn round(&self, span: Span) -> Duration {
        let conns = u32::try_from(self.work.conns()).unwrap_or(u32::MAX);
        let first = Duration::from_secs_f64(self.work.in_flight() as f64 / FIRST_BYTES);
        let measured = match self.work {
            Work::Idle { .. } => span.measured.max(IDLE_SECONDS_MIN),
            Work::SlowReader { .. } => span.measured + SLOW_READING,
            Work::Timers { .. } => span.measured + MILLION_TIMERS,
            Work::Cluster { .. } | Work::KillLeader => span.measured + ELECTION,
            _ => span.measured,
        };
        PROCESS + CONNECTION * conns + first + span.warm_up + measured
    }

    /// Those that can be asked for it.
    fn able(&self) -> impl Iterator<Item = &Contender> {
        let is_able = |contender: &&Contender| contender.engine.answers(self.work).is_ok();
        self.contenders.iter().filter(is_able)
    }

    /// Why it is asked of no contender.
    fn why_nobody(&self) -> String {
        let mut whys: Vec<(&str, Vec<&str>)> = Vec::new();
        for contender in &self.contenders {
            let Err(why) = contender.engine.answers(self.work) else {
                continue;
            };
            match whys.iter_mut().find(|(other, _)| *other == why) {
                Some((_, labels)) => labels.push(&contender.label),
                None => whys.push((why, vec![&contender.label])),
            }
        }
        match &whys[..] {
            [] => "none of the engines takes part in it".into(),
            [(why, _)] => (*why).into(),
            whys => {
                let whys = whys
                    .iter()
                    .map(|(why, labels)| format!("{} ({why})", labels.join(", ")));
                whys.collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// How many there are, that in which system calls are counted included.
    fn processes(&self) -> usize {
        (self.rounds + usize::from(self.work.is_counted())) * self.able().count()
    }

    fn estimate(&self, span: Span) -> Duration {
        let count = self.processes();
        self.round(span) * u32::try_from(count).unwrap_or(u32::MAX)
    }
}

fn span(measured: Duration, patience: Duration) -> Span {
    Span {
        warm_up: measured / 4,
        measured,
        patience,
        turns_min: 0,
    }
}

fn works(options: &Run) -> Vec<Work> {
    let kinds = options.workloads.clone().unwrap_or_else(|| {
        if options.full {
            // One that pings is in the grid of echo; clusters take longer than all that, and are asked for by name.
            vec![
                Kind::Echo,
                Kind::Open,
                Kind::Pump,
                Kind::FanOut,
                Kind::MultiAccept,
                Kind::SlowReader,
                Kind::Wake,
                Kind::MillionTimers,
                Kind::Frames,
                Kind::Replicate,
                Kind::Idle,
            ]
        } else {
            vec![Kind::Echo]
        }
    });
    kinds.into_iter().flat_map(|kind| cells(kind, options)).collect()
}

fn cells(kind: Kind, options: &Run) -> Vec<Work> {
    match kind {
        Kind::Echo => echo(options),
        Kind::Open => {
            let some: &[u64] = if options.full {
                &[25_000, 50_000, 100_000]
            } else {
                &[100_000]
            };
            let rates = options.rate.clone().unwrap_or_else(|| some.to_vec());
            let open = rates.into_iter().map(|rate| Work::Open {
                conns: OPEN_CONNS,
                size: SMALL,
                rate,
            });
            open.collect()
        }
        Kind::Frames => [SMALL, 1024]
            .map(|size| Work::Frames {
                conns: FRAMES_CONNS,
                size,
            })
            .to_vec(),
        Kind::Idle => {
            let conns = options.idle_conns.unwrap_or(10_000);
            let (idle, busy) = (conns, BUSY_CONNS);
            let mut all = vec![Work::Beside { idle, busy }];
            all.extend([false, true].map(|spoken| Work::Idle { conns, spoken }));
            all
        }
        Kind::PingPong => {
            let sizes = options.sizes.clone().unwrap_or_else(|| vec![SMALL, 1024]);
            sizes.into_iter().map(|size| Work::PingPong { size }).collect()
        }
        Kind::Pump => {
            let size = REPLY_BYTES;
            [1, OPEN_CONNS].map(|conns| Work::Pump { conns, size }).to_vec()
        }
        Kind::FanOut => {
            let depths = options.depth.clone().unwrap_or_else(|| vec![FAN_OUT_DEPTH]);
            let of = |depth| {
                let to = |size| OTHERS.map(|others| Work::FanOut { others, size, depth });
                [SMALL, 16 * 1024].map(to).concat()
            };
            depths.into_iter().flat_map(of).collect()
        }
        Kind::MultiAccept => vec![Work::MultiAccept { clients: COMERS }],
        Kind::SlowReader => vec![Work::SlowReader {
            slow: SLOW_READERS,
            busy: BUSY_CONNS,
        }],
        Kind::Wake => [false, true].map(|flood| Work::Wake { flood }).to_vec(),
        Kind::MillionTimers => [false, true].map(|expire| Work::Timers { expire }).to_vec(),
        Kind::Replicate => [1, OPEN_CONNS].map(|clients| Work::Replicate { clients }).to_vec(),
        Kind::Put => cluster(Ask::Put, options),
        Kind::Get => cluster(Ask::Get, options),
        Kind::Mixed => cluster(Ask::Mixed, options),
        Kind::KillLeader => vec![Work::KillLeader],
    }
}

/// One client, many, and as many at fixed rates.
fn cluster(ask: Ask, options: &Run) -> Vec<Work> {
    let clients = OPEN_CONNS;
    let rates = options.cluster_rate.clone().unwrap_or_else(|| vec![CLUSTER_RATE]);
    let open = rates.into_iter().map(|rate| Pace::Open { clients, rate });
    let closed = [1, clients].map(|clients| Pace::Closed { clients });
    let paces = closed.into_iter().chain(open);
    paces.map(|pace| Work::Cluster { ask, pace }).collect()
}

/// What matters most stands first: it goes last when time is short.
fn echo(options: &Run) -> Vec<Work> {
    let cell = |(conns, size, depth)| Work::Echo { conns, size, depth };
    let has_shape = options.sizes.is_some() || options.conns.is_some() || options.depth.is_some();
    if options.quick && !has_shape {
        return [(64, 64, 1), (1, 64, 1), (64, 16_384, 1), (1000, 64, 1)]
            .map(cell)
            .to_vec();
    }
    let depths = options.depth.clone();
    let depths = depths.unwrap_or_else(|| if options.full { vec![1] } else { vec![1, 16] });
    let sizes = options.sizes.clone().unwrap_or_else(|| vec![64, 1024, 16_384, 65_536]);
    let conns = options.conns.clone().unwrap_or_else(|| vec![1, 64, 1000, 10_000]);
    let mut all = Vec::new();
    for depth in depths {
        for &conns in &conns {
            all.extend(sizes.iter().map(|&size| cell((conns, size, depth))));
        }
    }
    if options.full && !has_shape {
        all.extend([(1, 64, 16), (64, 64, 16), (64, 1024, 16)].map(cell));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(options: &Run) -> Plan {
        Plan::of(options)
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
        let full = Plan::of(&Run {
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

    #[test]
    fn what_nobody_answers_is_left_out_with_the_reason() {
        let of = |engines: &[&str], kind| {
            Plan::of(&Run {
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
        let names: Vec<String> = Plan::of(&run).cells.iter().map(|cell| cell.work.to_string()).collect();
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
        let cells = Plan::of(&run).cells;
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
}
