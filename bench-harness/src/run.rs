//! A run: every cell of a plan, in rounds, with all contenders of a cell in each.

use std::io;
use std::time::{Instant, SystemTime};

use crate::cli::{Run, Waiting};
#[cfg(feature = "cluster")]
use crate::cluster;
use crate::engines::{self, Engine, Family};
use crate::fault::Fault;
use crate::figures::{Figure, Round, Slices};
use crate::interrupt;
use crate::look;
use crate::machine::{Machine, Ticks};
use crate::measure::{self, Conditions, Sample};
use crate::pin;
use crate::plan::{Plan, Planned, USUAL};
use crate::progress::Progress;
use crate::record::{self, Answers, Build, Cell, LatencyLog, Method, NotBuilt, Record, Row, SCHEMA, Trial, spectrum};
use crate::schedule;
use crate::side_by_side::Seat;
use crate::stats::CONFIDENCE;
use crate::workload::Contender;

/// Runs all that was asked for. The record, and the latencies of each row.
///
/// # Errors
///
/// Nothing can be measured at all: too few open files, no such cell. What goes wrong with an engine is in its row.
pub(crate) fn run(options: &Run) -> io::Result<(Record, Vec<LatencyLog>)> {
    let refused = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
    if let Some(twice) = twice(&options.engines) {
        let text = format!("{twice} is named twice: --engines {twice},{twice}#again enters it a second time");
        return Err(refused(text));
    }
    if let Some((name, why)) = options.engines.iter().find_map(|name| Some((name, not_in_this(name)?))) {
        return Err(refused(format!("{name} is not in this program: {why}")));
    }
    let clock = Instant::now();
    let costs = match options.quick || options.full {
        true => look::costs(options),
        false => USUAL,
    };
    let mut plan = Plan::of(options, costs);
    if plan.cells.is_empty() {
        return Err(refused(nothing_left(&plan.left_out())));
    }
    pin::raise_open_files(plan.connections_max())?;
    let (connections_max, together) = together(&plan);
    let began = SystemTime::now();
    let since_1970 = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seed = options.seed.unwrap_or(since_1970.as_nanos() as u64 % SEEDS);
    let mut machine = Machine::look();
    let conditions = conditions(options, &plan, &mut machine);
    let warnings = plan.warnings.iter().cloned().chain(together);
    warnings.for_each(|warning| machine.warn(warning));
    if !options.is_silent {
        for warning in &machine.warnings {
            eprintln!("kraft-bench: warning: {warning}");
        }
    }
    let progress = Progress::new(&plan, seed, options.is_silent);
    let mut run = Running {
        seed,
        conditions,
        connections_max,
        progress,
        logs: Vec::new(),
    };
    let (ready, ticks) = (Instant::now(), Ticks::now());
    let mut cells = Vec::new();
    while let Some(planned) = plan.cells.get(cells.len()) {
        cells.push(run.cell(cells.len(), planned));
        if !interrupt::is_asked() {
            plan.hurry(cells.len(), ready.elapsed(), clock.elapsed());
            run.progress.follow(&plan);
        }
    }
    machine.end(ticks.and_then(Ticks::stolen_since));
    let mut record = Record {
        schema: SCHEMA,
        build: Build::own(),
        // A folder may have any name.
        command: std::env::args_os()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        began: since_1970.as_secs(),
        took_seconds: clock.elapsed().as_secs_f64(),
        interrupted: interrupt::is_asked(),
        machine,
        method: Method {
            seed,
            rounds: plan.rounds,
            warm_up_seconds: plan.span.warm_up.as_secs_f64(),
            measured_seconds: plan.span.measured.as_secs_f64(),
            generator_spins: run.conditions.waiting == Waiting::Spin,
            confidence: CONFIDENCE,
            comparisons: plan.comparisons(),
        },
        cells,
        targets: Vec::new(),
        left_out: plan.left_out(),
        not_built: not_built(),
    };
    record.conclude();
    Ok((record, run.logs))
}

/// Files of a server: pipes, and what else it takes to start one.
const FILES_OF_A_SERVER: usize = 4;

/// Connections that servers may have side by side, and what is said if those of a cell are too many for that.
fn together(plan: &Plan) -> (usize, Option<String>) {
    let sliced = plan.cells.iter().filter(|cell| cell.slices(plan.span).is_some());
    let Some(most) = sliced.max_by_key(|cell| cell.connections()) else {
        return (0, None);
    };
    let files = most.connections() + most.contenders.len() * FILES_OF_A_SERVER;
    match pin::raise_open_files(files) {
        Ok(()) => (most.connections(), None),
        Err(error) => {
            let (work, alone) = (most.work, plan.connections_max());
            let text = format!("{work} and the like have contenders one behind the other, not side by side: {error}");
            (alone, Some(text))
        }
    }
}

/// What stands in a list for a second time.
fn twice(names: &[String]) -> Option<&String> {
    let mut all = names.iter().enumerate();
    all.find_map(|(at, name)| names[..at].contains(name).then_some(name))
}

/// Why an engine was not built.
fn not_in_this(name: &str) -> Option<&'static str> {
    engines::find(name)?.serve.err()
}

fn nothing_left(left_out: &[String]) -> String {
    if left_out.is_empty() {
        return "no cell is left to run: --filter takes a part of a name such as `echo 64Bx1000`".into();
    }
    format!("no cell is left to run: {}", left_out.join("; "))
}

/// Seeds that are drawn are short enough to be typed.
const SEEDS: u64 = 1_000_000;

/// Binds this process to its core. What cannot be bound is measured all the same, with a warning.
fn conditions(options: &Run, plan: &Plan, machine: &mut Machine) -> Conditions {
    let pair = pin::Pair::of(&machine.cores, pin::siblings);
    if pair.are_siblings {
        machine.warn("server and load are threads of one core: each slows the other down as it works".into());
    }
    let (server_core, own_core) = (pair.server, pair.load);
    let mut conditions = Conditions {
        server_core,
        own_core,
        #[cfg(feature = "cluster")]
        ground: cluster::Ground {
            core: server_core,
            data: options.data.clone(),
        },
        waiting: options.generator.unwrap_or_else(|| match pair.is_shared() {
            true => Waiting::Block,
            false => Waiting::Spin,
        }),
        span: plan.span,
    };
    if let Some(core) = own_core
        && let Err(error) = pin::to_core(core)
    {
        machine.warn(format!(
            "server and load are not bound to cores ({error}): they may get into each other's way"
        ));
        conditions.server_core = None;
        conditions.own_core = None;
        #[cfg(feature = "cluster")]
        {
            conditions.ground.core = None;
        }
    }
    conditions
}

fn not_built() -> Vec<NotBuilt> {
    let all = engines::all().filter(|engine| engine.family != Family::Faulty);
    let not_built = all.filter_map(|engine| {
        let why = engine.serve.err()?;
        Some(NotBuilt {
            engine: engine.name.into(),
            why: why.into(),
        })
    });
    not_built.collect()
}

/// A run under way.
struct Running {
    seed: u64,
    conditions: Conditions,
    /// Of all servers of a round together.
    connections_max: usize,
    progress: Progress,
    logs: Vec<LatencyLog>,
}

/// What a contender of a cell showed so far.
struct Shown {
    rounds: Vec<Option<Round>>,
    /// Of rounds in slices.
    slices: Vec<Slices>,
    answers: Vec<Answers>,
    trials: Vec<Trial>,
    /// What was counted behind the rounds.
    counts: Round,
    fault: Option<Fault>,
    /// Rounds that were begun again, since the leader was deposed.
    repeats: usize,
}

impl Shown {
    /// What came of it, or nothing: then its fault is kept, unless it was us who ended.
    fn unless_failed<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        match result {
            Ok(value) => return Some(value),
            Err(Fault::Interrupted) => {}
            Err(fault) => self.fault = Some(fault),
        }
        None
    }

    /// Whether it cannot be asked for this.
    fn lacks(&self) -> bool {
        matches!(self.fault, Some(Fault::Lacks(_)))
    }

    /// What a round showed. One in which something was lost has no figures, but what is known of that is kept.
    fn take(&mut self, round: usize, sample: Sample) {
        self.fault = record::loss(&sample.trials);
        if self.fault.is_none() {
            self.rounds[round] = Some(sample.figures);
            if !sample.slices.is_empty() {
                self.slices.resize(self.rounds.len(), Slices::new());
                self.slices[round] = sample.slices;
            }
            self.answers.extend(sample.answers);
        }
        self.trials.extend(sample.trials);
    }

    /// What is told of all rounds of a cluster together.
    fn sum_up(&mut self) {
        self.counts.insert(Figure::RepeatedRounds, self.repeats as f64);
        if !self.trials.is_empty() {
            let (acknowledged, lost) = record::writes(&self.trials);
            self.counts.insert(Figure::AcknowledgedWrites, acknowledged as f64);
            self.counts.insert(Figure::LostWrites, lost as f64);
        }
    }
}

impl Running {
    fn cell(&mut self, number: usize, planned: &Planned) -> Cell {
        // Nothing that happened in another cell bars an engine from this one: that it did not start there may be due to
        // what that cell asks for, and to try costs a process.
        let lacks = |contender: &Contender| {
            let why = contender.engine.answers(planned.work).err()?;
            Some(Fault::Lacks(why.into()))
        };
        let shown = planned.contenders.iter().map(|contender| Shown {
            rounds: vec![None; planned.rounds],
            slices: Vec::new(),
            answers: Vec::new(),
            trials: Vec::new(),
            counts: Round::new(),
            fault: lacks(contender),
            repeats: 0,
        });
        let mut shown: Vec<Shown> = shown.collect();
        let slices = planned
            .slices(self.conditions.span)
            .filter(|_| planned.connections() <= self.connections_max);
        for round in 0..planned.rounds {
            if let Some(slices) = slices {
                self.side_by_side(number, planned, round, slices, &mut shown);
                continue;
            }
            for at in schedule::order(shown.len(), number, round, self.seed) {
                if shown[at].lacks() {
                    continue;
                }
                self.progress
                    .show(number, planned, round, &planned.contenders[at].label);
                if shown[at].fault.is_none() && !interrupt::is_asked() {
                    self.round(planned, &planned.contenders[at], round, &mut shown[at]);
                }
                self.progress.done(planned.round(self.conditions.span));
            }
        }
        for (contender, shown) in planned.contenders.iter().zip(&mut shown) {
            if planned.work.is_counted() && !shown.lacks() {
                self.count(planned, contender, shown);
                self.progress.done(planned.count(self.conditions.span));
            }
        }
        if planned.work.is_of_clusters() {
            let asked = shown.iter_mut().filter(|shown| !shown.lacks());
            asked.for_each(Shown::sum_up);
        }
        self.progress
            .over(number, planned.work, planned.estimate(self.conditions.span));
        let name = planned.work.to_string();
        let rows = planned.contenders.iter().zip(shown);
        let rows = rows.map(|(contender, shown)| {
            self.logs
                .extend(LatencyLog::of(&name, &contender.label, &shown.answers));
            row(contender, shown)
        });
        Cell {
            rows: rows.collect(),
            work: planned.work,
            drift: None,
            name,
        }
    }

    /// What a contender does wrong counts here as in any round. Where it is we who cannot count, the columns are empty.
    fn count(&self, planned: &Planned, contender: &Contender, shown: &mut Shown) {
        if shown.fault.is_some() || interrupt::is_asked() {
            return;
        }
        match measure::counts(planned.work, contender, &self.conditions) {
            Ok(counts) => shown.counts.extend(counts),
            Err(Fault::Interrupted | Fault::Own(_)) => {}
            Err(fault) => shown.fault = Some(fault),
        }
    }

    fn round(&self, planned: &Planned, contender: &Contender, round: usize, shown: &mut Shown) {
        let sample = measure::round(planned.work, contender, &self.conditions, &mut shown.repeats);
        if let Some(sample) = shown.unless_failed(sample) {
            shown.take(round, sample);
        }
    }

    /// A round of all at once, in slices. Who fails leaves, and the others go on.
    fn side_by_side(&mut self, number: usize, planned: &Planned, round: usize, slices: u32, shown: &mut [Shown]) {
        let mut seats: Vec<Option<Seat>> = shown.iter().map(|_| None).collect();
        for at in schedule::order(shown.len(), number, round, self.seed) {
            let (contender, shown) = (&planned.contenders[at], &mut shown[at]);
            if shown.fault.is_none() && !interrupt::is_asked() {
                self.progress.show(number, planned, round, &contender.label);
                let seat = Seat::take(planned.work, contender, &self.conditions, slices);
                seats[at] = shown.unless_failed(seat);
            }
        }
        for slice in 0..slices as usize {
            let turn = round * slices as usize + slice;
            for at in schedule::order(shown.len(), number, turn, self.seed) {
                let Some(seat) = &mut seats[at] else {
                    continue;
                };
                if shown[at].unless_failed(seat.slice()).is_none() {
                    seats[at] = None;
                }
            }
        }
        for (seat, shown) in seats.into_iter().zip(shown) {
            if let Some(sample) = seat.and_then(Seat::leave) {
                shown.take(round, sample);
            }
            if !shown.lacks() {
                self.progress.done(planned.round(self.conditions.span));
            }
        }
    }
}

/// What it is. Of another program also which one is installed.
fn about(engine: &Engine) -> String {
    #[cfg(all(feature = "cluster", feature = "rivals"))]
    if engine.nature == engines::Nature::Cluster
        && let Some(version) = cluster::etcd_version()
    {
        return format!("{}; {version}", engine.about);
    }
    engine.about.into()
}

fn row(contender: &Contender, shown: Shown) -> Row {
    Row {
        contender: contender.label.clone(),
        engine: contender.engine.name.into(),
        about: about(contender.engine),
        family: contender.engine.family,
        baseline: contender.baseline.clone(),
        fault: shown.fault,
        load_bound: false,
        median: Round::new(),
        comparisons: Vec::new(),
        spectrum: spectrum(&shown.answers),
        trials: shown.trials,
        counts: shown.counts,
        rounds: shown.rounds,
        slices: shown.slices,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_that_lost_a_write_fails_its_row_and_its_trials_are_kept() {
        let mut shown = Shown {
            rounds: vec![None; 2],
            slices: Vec::new(),
            answers: Vec::new(),
            trials: Vec::new(),
            counts: Round::new(),
            fault: None,
            repeats: 1,
        };
        let sample = |lost| Sample {
            figures: Round::from([(Figure::FirstWriteMs, 14.0)]),
            answers: None,
            trials: [0, lost]
                .map(|lost| Trial {
                    detected_ms: 1.0,
                    elected_ms: 13.0,
                    first_write_ms: 14.0,
                    acknowledged: 40,
                    lost,
                })
                .to_vec(),
            slices: Slices::new(),
        };
        shown.take(0, sample(0));
        assert!(shown.fault.is_none() && shown.rounds[0].is_some());
        shown.take(1, sample(3));
        let what = "3 of 80 acknowledged writes are lost";
        assert_eq!(shown.fault, Some(Fault::Corrupt(what.into())));
        assert!(shown.rounds[1].is_none() && shown.trials.len() == 4);
        shown.sum_up();
        let counts = [Figure::RepeatedRounds, Figure::AcknowledgedWrites, Figure::LostWrites];
        assert_eq!(counts.map(|figure| shown.counts[&figure]), [1.0, 160.0, 3.0]);
    }
}
