//! What a run is going to do, and how long that takes: known before it begins.

use std::time::Duration;

use crate::cli::{Kind, Run};
use crate::engines::{self, Engine};
use crate::generator::Span;
use crate::measure::COUNTED_TURNS;
use crate::progress::{counted, minutes};
use crate::side_by_side;
use crate::stats::VALUES_MIN;
use crate::targets;
use crate::workload::{self, Ask, Contender, IN_FLIGHT_MAX, Pace, SMALL, Work};

/// Everything that is measured, in this order.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cells: Vec<Planned>,
    /// Cells that are not run, and why.
    pub(crate) left_out: Vec<String>,
    /// That it takes longer than was promised, or has too few rounds to say anything, and what helps.
    pub(crate) warnings: Vec<String>,
    /// Rounds of a cell, at most.
    pub(crate) rounds: usize,
    pub(crate) span: Span,
    /// By then it should be over, however slow the machine turns out to be.
    most: Option<Duration>,
    /// What there is no time for, as it seems so far.
    set_aside: Vec<Planned>,
}

/// What it costs to set up what is measured and to be rid of it, on this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Costs {
    /// Of a process: its start, its end, and the look at what it used.
    pub(crate) process: Duration,
    /// Of a connection over loopback, on both sides, from its connect to its reset.
    pub(crate) connection: Duration,
    /// Likewise among more than [`CROWD`], each of which has spoken.
    pub(crate) crowded: Duration,
}

/// So many connections cost what each costs alone; with more, tables and caches overflow.
pub(crate) const CROWD: usize = 1_000;

/// Where nobody has looked. Machines differ by several times.
pub(crate) const USUAL: Costs = Costs {
    process: Duration::from_millis(12),
    connection: Duration::from_micros(50),
    crowded: Duration::from_micros(50),
};

/// A cell and who takes part.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// Where it stands in the plan.
    place: usize,
    pub(crate) work: Work,
    pub(crate) rounds: usize,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) costs: Costs,
}

/// What `--quick` and `--full` are planned to take, less than a minute and twenty minutes; and behind which no cell should
/// end where a machine turns out to be slower than it looked.
const QUICK: [Duration; 2] = [Duration::from_secs(50), Duration::from_secs(56)];
const FULL: [Duration; 2] = [Duration::from_secs(17 * 60), Duration::from_secs(19 * 60)];

/// By so little nobody is deceived.
const SLACK: Duration = Duration::from_secs(2);

/// Rounds are no longer than this where time is given, and no shorter: warm-up and clocks want their share.
const MEASURED_MAX: Duration = Duration::from_secs(1);
const MEASURED_MIN: Duration = Duration::from_millis(50);

/// An even number: of a pair of rounds the second goes backwards.
const ROUNDS: usize = 12;

/// Where one cell alone takes too long it has so few, the least that have a verdict, if nobody says how many.
const ROUNDS_MIN: usize = VALUES_MIN;

const _: () = assert!(ROUNDS_MIN.is_multiple_of(2));

const PATIENCE: Duration = Duration::from_secs(10);

/// How long idle connections are watched at least: CPU time in ticks of 4 ms has to show.
pub(crate) const IDLE_SECONDS_MIN: Duration = Duration::from_secs(2);

/// Bytes a second that go round while connections speak for the first time.
const FIRST_BYTES: f64 = 1e9;

/// What clients that do not read cost: a server is full when it has taken nothing for a while, and in the end they read.
const SLOW_READING: Duration = Duration::from_millis(400);

/// What a turn of a million timers costs, nearly: the last one begins before the time is over.
const MILLION_TIMERS: Duration = Duration::from_millis(400);

/// Deaths of a leader in a round, however short it is.
pub(crate) const TRIALS_MIN: u32 = 2;

/// What a cluster costs until it leads, in three processes that are made and started.
const ELECTION: Duration = Duration::from_millis(1_500);

/// How long nobody leads when a leader is killed, nearly: that a connection broke is noticed at once. What a trial costs
/// besides, of which nothing is measured: a look at who leads before it and behind it, clients that connect, the killed
/// node's start until it follows, and reading twice what was acknowledged around it.
const LEADERLESS: Duration = Duration::from_millis(15);
const TRIAL: Duration = Duration::from_millis(130);

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
    /// What these options ask for, where setting up costs so much.
    pub(crate) fn of(options: &Run, costs: Costs) -> Self {
        let mut works = asked(options);
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
        let rounds = options.rounds.unwrap_or(ROUNDS);
        let is_usable = |engine: &&Engine| engine.is_default() && (!options.quick || engine.is_quick());
        let usable: Vec<&'static Engine> = engines::all().filter(is_usable).collect();
        let cells = works.into_iter().enumerate().map(|(place, work)| Planned {
            place,
            work,
            rounds: work.rounds(rounds),
            contenders: workload::contenders(work, &options.engines, &usable),
            costs,
        });
        let (cells, empty): (Vec<_>, Vec<_>) = cells.partition(|cell| cell.able().next().is_some());
        left_out.extend(empty.iter().map(|cell| format!("{}: {}", cell.work, cell.why_nobody())));
        let measured = options.seconds.unwrap_or(MEASURED_MAX);
        let mut plan = Self {
            cells,
            left_out,
            warnings: too_few(rounds).into_iter().collect(),
            rounds,
            span: span(measured, options.patience.unwrap_or(PATIENCE)),
            most: None,
            set_aside: Vec::new(),
        };
        if options.seconds.is_none() && in_a_hurry {
            let [time, most] = if options.quick { QUICK } else { FULL };
            plan.fit(time, options.rounds.is_none());
            plan.most = Some(most);
        }
        plan
    }

    /// How long it takes, nearly.
    pub(crate) fn estimate(&self) -> Duration {
        self.takes(self.span.measured)
    }

    /// The same with rounds of this length.
    fn takes(&self, measured: Duration) -> Duration {
        let span = span(measured, self.span.patience);
        self.cells.iter().map(|cell| cell.estimate(span)).sum()
    }

    /// What a cell takes at least.
    fn least(&self, cell: &Planned) -> Duration {
        cell.estimate(span(MEASURED_MIN, self.span.patience))
    }

    /// Processes that are measured.
    pub(crate) fn measurements(&self) -> usize {
        self.cells.iter().map(|cell| cell.rounds * cell.able().count()).sum()
    }

    /// Comparisons with a baseline, and what targets compare besides.
    pub(crate) fn comparisons(&self) -> usize {
        let of = |cell: &Planned| {
            let able: Vec<Contender> = cell.able().cloned().collect();
            let is_there = |label: &String| able.iter().any(|other| other.label == *label);
            let compared = able.iter().filter(|one| one.baseline.as_ref().is_some_and(is_there));
            let targets = targets::intervals(cell.work, cell.rounds, &able);
            compared.count() * cell.work.compared().len() + targets
        };
        self.cells.iter().map(of).sum()
    }

    /// Connections of the greatest cell.
    pub(crate) fn connections_max(&self) -> usize {
        self.cells.iter().map(|cell| cell.work.conns()).max().unwrap_or(0)
    }

    /// Makes rounds as long as the time allows; where that would be too short, cells go, and if the last one is too long
    /// rounds do, if they `may`.
    fn fit(&mut self, time: Duration, may: bool) {
        let mut gone = Vec::new();
        while self.takes(MEASURED_MIN) > time {
            if self.cells.len() > 1
                && let Some(at) = self.next_to_go(0)
            {
                gone.push(self.cells.remove(at));
            } else if may && self.rounds > ROUNDS_MIN {
                self.rounds -= 2;
                for cell in self.cells.iter_mut().chain(&mut gone) {
                    cell.rounds = cell.work.rounds(self.rounds);
                }
            } else {
                break;
            }
        }
        // Where long ones went at last, there may be time for some that went before them.
        while let Some(at) = gone
            .iter()
            .rposition(|cell| self.takes(MEASURED_MIN) + self.least(cell) <= time)
        {
            self.cells.push(gone.remove(at));
        }
        self.cells.sort_by_key(|cell| cell.place);
        self.left_out.extend(gone.iter().map(|cell| {
            format!(
                "{}: there is no time for it with so many engines (--engines)",
                cell.work
            )
        }));
        // What rounds take is no straight line of their length: halved until it is known to the millisecond.
        let (mut fits, mut most) = (MEASURED_MIN, MEASURED_MAX);
        if self.takes(most) <= time {
            fits = most;
        }
        while most > fits + Duration::from_millis(1) {
            let middle = (fits + most) / 2;
            if self.takes(middle) > time {
                most = middle;
            } else {
                fits = middle;
            }
        }
        self.span = span(fits, self.span.patience);
        let takes = self.estimate();
        if takes > time + SLACK {
            self.warnings.push(format!(
                "this takes about {}, where it should be {}, though but one cell is left: name fewer engines (--engines){}",
                minutes(takes),
                minutes(time),
                if may { "" } else { " or ask for fewer rounds (--rounds)" }
            ));
        }
    }

    /// Behind the first `done` cells, which took so long: cells of the rest are set aside until it ends in time at that pace.
    /// What was set aside before comes back if it fits. `elapsed` is all of the run so far.
    pub(crate) fn hurry(&mut self, done: usize, took: Duration, elapsed: Duration) {
        let Some(most) = self.most else {
            return;
        };
        self.cells.append(&mut self.set_aside);
        self.cells[done..].sort_by_key(|cell| cell.place);
        let takes = |cells: &[Planned]| cells.iter().map(|cell| cell.estimate(self.span)).sum::<Duration>();
        let planned = takes(&self.cells[..done]).as_secs_f64();
        let pace = took.as_secs_f64() / planned.max(f64::MIN_POSITIVE);
        let left = most.saturating_sub(elapsed);
        while takes(&self.cells[done..]).as_secs_f64() * pace > left.as_secs_f64()
            && let Some(at) = self.next_to_go(done)
        {
            self.set_aside.push(self.cells.remove(at));
        }
    }

    /// Cells that were not run, and why.
    pub(crate) fn left_out(&self) -> Vec<String> {
        let late = self.set_aside.iter().map(|cell| {
            format!(
                "{}: there was no time left for it; this machine is slower than it looked at first",
                cell.work
            )
        });
        self.left_out.iter().cloned().chain(late).collect()
    }

    /// What goes first behind the first `done` cells, so that each workload stays: large messages where small ones are sent besides; then what is not the
    /// only cell of its workload. Of large messages, and of cells that take more than twice as long as all do on average (ten
    /// thousand connections, which would push many others out), what takes longest goes first; of the rest what stands last.
    fn next_to_go(&self, done: usize) -> Option<usize> {
        let all: Duration = self.cells.iter().map(|cell| self.least(cell)).sum();
        let share = all / u32::try_from(self.cells.len().max(1)).unwrap_or(u32::MAX);
        let value = |cell: &Planned| {
            let others = || {
                self.cells
                    .iter()
                    .filter(|other| other.work.is_like(cell.work) && other.work != cell.work)
            };
            let has_small = cell.work.is_large() && others().any(|other| !other.work.is_large());
            let takes = self.least(cell);
            let weight = Some(takes).filter(|takes| has_small || *takes > 2 * share);
            (has_small, others().next().is_some(), weight)
        };
        let cells = self.cells.iter().enumerate().skip(done);
        // Of those that are alike the last.
        cells.max_by_key(|(_, cell)| value(cell)).map(|(at, _)| at)
    }
}

impl Planned {
    /// What one contender takes in one round.
    pub(crate) fn round(&self, span: Span) -> Duration {
        let between = self.slices(span).map(|slices| side_by_side::between(self.work, slices));
        self.alone(span) + between.unwrap_or_default()
    }

    /// The same if there are no slices.
    fn alone(&self, span: Span) -> Duration {
        let conns = u32::try_from(self.work.conns()).unwrap_or(u32::MAX);
        let first = Duration::from_secs_f64(self.work.in_flight() as f64 / FIRST_BYTES);
        let measured = match self.work {
            Work::Idle { .. } => span.measured.max(IDLE_SECONDS_MIN),
            Work::SlowReader { .. } => span.measured + SLOW_READING,
            Work::Timers { .. } => span.measured + MILLION_TIMERS,
            Work::Cluster { .. } => span.measured + ELECTION,
            Work::KillLeader => {
                // The time between deaths is measured, not what is made good behind each.
                let trials = span.measured.as_secs_f64() / LEADERLESS.as_secs_f64();
                let trials = (trials.ceil() as u32).max(TRIALS_MIN);
                ELECTION + (LEADERLESS + TRIAL) * trials
            }
            _ => span.measured,
        };
        let each = match self.work.conns() {
            ..=CROWD => self.costs.connection,
            _ => self.costs.crowded,
        };
        let setting_up = self.costs.process + each * conns + first;
        setting_up + span.warm_up + measured
    }

    /// What one contender takes in the round that counts, which is as long as its messages want it to be.
    pub(crate) fn count(&self, span: Span) -> Duration {
        let turns = self.work.turn().mul_f64(COUNTED_TURNS as f64);
        self.alone(span) + turns.saturating_sub(span.measured)
    }

    /// Slices of a round, unless contenders run one behind the other.
    pub(crate) fn slices(&self, span: Span) -> Option<u32> {
        let slices = side_by_side::slices(self.work, span.measured);
        slices.filter(|_| self.connections() <= side_by_side::CONNS_MAX)
    }

    /// Connections of all contenders' servers together.
    pub(crate) fn connections(&self) -> usize {
        self.work.conns() * self.able().count()
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

    /// What all contenders take in all rounds.
    pub(crate) fn estimate(&self, span: Span) -> Duration {
        let able = u32::try_from(self.able().count()).unwrap_or(u32::MAX);
        let rounds = u32::try_from(self.rounds).unwrap_or(u32::MAX);
        let counting = Some(self.count(span)).filter(|_| self.work.is_counted());
        (self.round(span) * rounds + counting.unwrap_or_default()) * able
    }
}

/// What is said to who asks for fewer rounds than verdicts need.
fn too_few(rounds: usize) -> Option<String> {
    (rounds < ROUNDS_MIN).then(|| {
        let asked = counted(rounds, "round");
        format!("there are no intervals and no verdicts of {asked}: they need {ROUNDS_MIN} at least (--rounds)")
    })
}

fn span(measured: Duration, patience: Duration) -> Span {
    Span {
        warm_up: measured / 4,
        measured,
        patience,
        turns_min: 0,
        is_slice: false,
    }
}

/// Connections of the greatest cell that is asked for.
pub(crate) fn connections_asked(options: &Run) -> usize {
    asked(options).into_iter().map(Work::conns).max().unwrap_or(0)
}

/// Cells that are asked for.
fn asked(options: &Run) -> Vec<Work> {
    let kinds = options.workloads.clone().unwrap_or_else(|| {
        if options.full {
            // Ping-pong is echo over one connection; clusters take longer than all that, and are asked for by name.
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
    let all = kinds.into_iter().flat_map(|kind| cells(kind, options));
    let filter = options.filter.as_ref();
    all.filter(|work| filter.is_none_or(|filter| work.to_string().contains(filter)))
        .collect()
}

fn cells(kind: Kind, options: &Run) -> Vec<Work> {
    match kind {
        Kind::Echo => echo(options),
        Kind::Open => {
            let some: &[u64] = if options.full {
                // The first is the one that a target asks about, and goes last when time is short.
                &[100_000, 50_000, 25_000]
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

/// What matters most stands first: of what is as quickly done it goes last when time is short.
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
    let conns = options.conns.clone().unwrap_or_else(|| vec![64, 1, 1000, 10_000]);
    let mut all = Vec::new();
    for depth in depths {
        for &conns in &conns {
            all.extend(sizes.iter().map(|&size| cell((conns, size, depth))));
        }
    }
    if options.full && !has_shape {
        all.extend([(64, 64, 16), (1, 64, 16), (64, 1024, 16)].map(cell));
    }
    all
}

#[cfg(test)]
mod tests;
