//! `kraftd simulate`: whole clusters in virtual time, under faults, for as many seeds as one likes.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use kraft_core::handshake::Kind as Message;
use kraft_protocols::Format;

use super::cli::print;
use super::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::sim::{self, Faults, Kind, Kinds, Mode, Options, Report, STATES, Violation};

/// The longest run: what a busy cluster writes in that time fits into the simulated logs.
const SPAN_MAX: Duration = Duration::from_secs(30 * 60);

/// Of so many seeds or more each kind of fault that may happen has to.
const SEEDS_OF_EVERY_FAULT: u64 = 1000;

/// How often it tells how far it is: on a terminal, and in a file that somebody follows.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
const PROGRESS_EVERY_IN_FILE: Duration = Duration::from_secs(15);

/// Run clusters in virtual time, under faults, and check every law at every step.
///
/// Each seed is a run of its own, byte for byte the same on any machine: it draws the number of nodes and users, how
/// the nodes are set up, which faults happen, how often and how hard. A law that does not hold is told with the seed,
/// the command that shows it again, and the steps that led there, after faults that do not matter were left out.
///
/// ^C ends it when the seeds that are being run are through, with what the others came to; a second one at once.
///
/// Exit status: 0 if every law held, 1 if one did not, or if a kind of fault never happened in a thousand seeds, 130 if
/// it was interrupted before all seeds were run.
#[derive(Args, Debug)]
pub(super) struct Simulate {
    /// The seeds to run, the last one not among them.
    #[arg(long, value_name = "A..B", default_value = "0..100")]
    seeds: String,
    /// Nodes of each cluster, 1 to 15; without it the seed draws 1, 3, 5 or 7.
    #[arg(long, value_name = "N")]
    nodes: Option<String>,
    /// What goes wrong: names with commas between them, all, or none; without it the seed draws some.
    #[arg(long, value_name = "LIST")]
    faults: Option<String>,
    /// The wire format: binary, protobuf, msgpack or json.
    #[arg(long, value_name = "NAME", default_value = "binary")]
    protocol: String,
    /// Keep faults within what Raft tolerates, and demand that the cluster commits all the while.
    #[arg(long)]
    liveness: bool,
    /// How long faults happen in each run, in virtual time.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    span: String,
    /// How many seeds are run at a time; without it as many as there are processors.
    #[arg(long, value_name = "N")]
    jobs: Option<String>,
    /// Run each seed twice, and compare the hashes of all that happened.
    #[arg(long)]
    twice: bool,
}

/// What the command line asks for, checked.
#[derive(Clone, Debug)]
struct Plan {
    seeds: Range<u64>,
    nodes: Option<usize>,
    faults: Faults,
    mode: Mode,
    span: Duration,
    jobs: usize,
    twice: bool,
    protocol: Format,
}

impl Simulate {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let plan = self.plan()?;
        let cannot = |error: io::Error| Failure::new(format!("signals cannot be caught: {error}"));
        plan.run(&Interrupt::catch().map_err(cannot)?)
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let protocol = self.protocol.parse::<Format>();
        let protocol = protocol.map_err(|error| usage("protocol", &self.protocol, &error.to_string()))?;
        let bounds = self.seeds.split_once("..").and_then(|(from, to)| {
            let (from, to) = (from.parse().ok()?, to.parse().ok()?);
            (from < to).then_some(from..to)
        });
        let seeds = bounds.ok_or_else(|| usage("seeds", &self.seeds, "give two numbers, the lesser first: 0..100"))?;
        let nodes = self
            .nodes
            .as_ref()
            .map(|text| number(text, 1..=15).ok_or_else(|| usage("nodes", text, "give a number from 1 to 15")))
            .transpose()?;
        let jobs = match &self.jobs {
            Some(text) => number(text, 1..=1024).ok_or_else(|| usage("jobs", text, "give a number from 1 to 1024"))?,
            None => thread::available_parallelism().map_or(1, NonZeroUsize::get),
        };
        let faults = match &self.faults {
            None => Faults::Drawn,
            Some(text) => Faults::These(text.parse::<Kinds>().map_err(|error| usage("faults", text, &error))?),
        };
        let span = humantime::parse_duration(&self.span).ok();
        let span = span.filter(|span| (Duration::from_millis(1)..=SPAN_MAX).contains(span));
        Ok(Plan {
            seeds,
            nodes,
            faults,
            mode: if self.liveness { Mode::Liveness } else { Mode::Safety },
            span: span.ok_or_else(|| usage("span", &self.span, "give a time from 1ms to 30min: 60s"))?,
            jobs,
            twice: self.twice,
            protocol,
        })
    }
}

fn usage(flag: &str, value: &str, cure: &str) -> Failure {
    Failure {
        exit: Exit::Usage,
        message: format!("--{flag} {value}: {cure}"),
    }
}

fn number(text: &str, bounds: std::ops::RangeInclusive<usize>) -> Option<usize> {
    text.parse().ok().filter(|number| bounds.contains(number))
}

impl Plan {
    fn options(&self, seed: u64) -> Options {
        let drawn = Options::drawn(seed);
        Options {
            nodes: self.nodes.unwrap_or(drawn.nodes),
            faults: self.faults,
            mode: self.mode,
            span: self.span,
            protocol: self.protocol,
            ..drawn
        }
    }

    fn run(&self, interrupt: &Interrupt) -> Result<(), Failure> {
        let began = Instant::now();
        let (total, failed) = self.run_all(began, interrupt);
        let figures = Figures {
            total: &total,
            elapsed: began.elapsed(),
            jobs: self.jobs,
        };
        print(&format!("{figures}\n"))?;
        let violation = match failed {
            None if total.runs < self.seeds.end - self.seeds.start => return Err(self.interrupted(&total)),
            None => {
                self.judge(&total)?;
                return print(&held(&total));
            }
            Some(Found::Unlike(what)) => return Err(Failure::new(what)),
            Some(Found::Broken(violation)) => violation,
        };
        eprintln!("{violation}; looking for what matters to it");
        // The panics of attempts say nothing that the first one did not.
        std::panic::set_hook(Box::new(|_| {}));
        let violation = sim::shrink(violation, |options| {
            eprintln!("  {}", options.command());
            !interrupt.is_asked()
        });
        drop(std::panic::take_hook());
        print(&told(&violation))?;
        Err(Failure::new(format!(
            "{}; run it again with: {}",
            violation.what,
            violation.command()
        )))
    }

    /// What seeds came to that were not all; few show nothing of what has to happen.
    fn interrupted(&self, total: &Report) -> Failure {
        let seeds = self.seeds.end - self.seeds.start;
        Failure {
            exit: Exit::Interrupted,
            message: format!("interrupted: every law held in {} of {seeds} seeds", total.runs),
        }
    }

    /// Whether runs that kept every law show something.
    fn judge(&self, total: &Report) -> Result<(), Failure> {
        let missing = match self.missing(total) {
            // With all faults there is something of everything that becomes of snapshots.
            Kinds::NONE if self.is_much() && self.faults == Faults::Drawn => {
                let snapshot = total.snapped.missing().map(|missing| format!("a snapshot {missing}"));
                let missing = snapshot.or_else(|| total.weaker.missing().map(str::to_owned));
                let missing = missing.or_else(|| total.changed.missing().map(str::to_owned));
                let Some(missing) = missing else { return Ok(()) };
                missing
            }
            Kinds::NONE => return Ok(()),
            missing => missing.to_string(),
        };
        Err(Failure::new(format!(
            "of {} seeds none had {missing}: what should let that happen does not",
            total.runs
        )))
    }

    /// Whether everything has to happen. A cluster that can spare no node bears not all of it, and what is over soon may
    /// have little.
    fn is_much(&self) -> bool {
        let is_long = self.span >= Duration::from_secs(60);
        let can_spare = self.nodes.is_none_or(|nodes| nodes >= 3);
        self.seeds.end - self.seeds.start >= SEEDS_OF_EVERY_FAULT && is_long && can_spare
    }

    /// Kinds of faults that should have happened.
    fn missing(&self, total: &Report) -> Kinds {
        let allowed = match self.faults {
            Faults::These(kinds) => kinds,
            Faults::Drawn => Kinds::ALL,
        };
        let missing = allowed.iter().filter(|kind| total.fired.count(*kind) == 0);
        match self.is_much() {
            true => missing.fold(Kinds::NONE, Kinds::with),
            false => Kinds::NONE,
        }
    }

    fn run_all(&self, began: Instant, interrupt: &Interrupt) -> (Report, Option<Found>) {
        let next = AtomicU64::new(self.seeds.start);
        let stop = AtomicBool::new(false);
        let (sender, results) = mpsc::channel();
        let mut total = Report::default();
        let mut failed = None;
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                let (sender, next, stop) = (sender.clone(), &next, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) && !interrupt.is_asked() {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end || sender.send(self.run_one(seed)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let mut progress = Progress::new(began, self.seeds.end - self.seeds.start);
            for result in results {
                match result {
                    Ok(report) => total.add(&report),
                    Err(found) => {
                        stop.store(true, Ordering::Relaxed);
                        failed.get_or_insert(found);
                    }
                }
                progress.tell(&total);
            }
            progress.end();
        });
        (total, failed)
    }

    fn run_one(&self, seed: u64) -> Result<Report, Found> {
        let options = self.options(seed);
        let report = sim::run(&options).map_err(Found::Broken)?;
        if self.twice {
            compare(&options, &report, sim::run(&options))?;
        }
        Ok(report)
    }
}

/// What is wrong with a seed.
#[derive(Debug)]
enum Found {
    Broken(Box<Violation>),
    /// Two runs of it are not the same, in words. There is nothing to make smaller: with less it is another run.
    Unlike(String),
}

/// Whether a seed's second run is its first.
fn compare(options: &Options, one: &Report, other: Result<Report, Box<Violation>>) -> Result<(), Found> {
    let second = match other {
        Ok(other) if other == *one => return Ok(()),
        Ok(other) => format!("trace {:016x}", other.trace),
        Err(violation) => violation.to_string(),
    };
    Err(Found::Unlike(format!(
        "seed {}: a second run is another one: trace {:016x}, then {second}; run it again with: {} --twice",
        options.seed,
        one.trace,
        options.command()
    )))
}

/// What it came to, in the last line: the figures before it do not say.
fn held(total: &Report) -> String {
    format!("every law held in {} seeds\n", total.runs)
}

/// A violation with the steps that led there.
fn told(violation: &Violation) -> String {
    let mut text = String::from("the last steps:\n");
    for step in &violation.steps {
        text.push_str(step);
        text.push('\n');
    }
    let Options { seed, nodes, users, .. } = violation.options;
    text + &format!(
        "broken: {}\nseed:   {seed}, {nodes} nodes, {users} users, at {:?}\nagain:  {}\n",
        violation.what,
        violation.at,
        violation.command()
    )
}

/// A line that tells how far it is.
struct Progress {
    began: Instant,
    told: Instant,
    seeds: u64,
    is_terminal: bool,
}

impl Progress {
    fn new(began: Instant, seeds: u64) -> Self {
        Self {
            began,
            told: began,
            seeds,
            is_terminal: io::stderr().is_terminal(),
        }
    }

    fn tell(&mut self, total: &Report) {
        let every = match self.is_terminal {
            true => PROGRESS_EVERY,
            false => PROGRESS_EVERY_IN_FILE,
        };
        if self.told.elapsed() < every {
            return;
        }
        self.told = Instant::now();
        let Self { seeds, .. } = self;
        let rate = speed(total.simulated, self.began.elapsed());
        let line = format!(
            "{}/{seeds} seeds, {:.1} h simulated, {rate:.0} times real time, {} operations, {} faults",
            total.runs,
            hours(total.simulated),
            total.committed,
            total.fired.total()
        );
        let (before, after) = if self.is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        let mut err = io::stderr().lock();
        let _ = write!(err, "{before}{line}{after}").and_then(|()| err.flush());
    }

    fn end(&self) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn hours(span: Duration) -> f64 {
    span.as_secs_f64() / 3600.0
}

fn speed(simulated: Duration, elapsed: Duration) -> f64 {
    simulated.as_secs_f64() / elapsed.as_secs_f64().max(0.001)
}

/// What all runs came to.
struct Figures<'a> {
    total: &'a Report,
    elapsed: Duration,
    jobs: usize,
}

impl fmt::Display for Figures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total;
        let rate = speed(total.simulated, self.elapsed);
        writeln!(
            f,
            "{} seeds: {:.2} h simulated in {:.1} s on {} threads: {:.3} h a second, {rate:.0} times real time",
            total.runs,
            hours(total.simulated),
            self.elapsed.as_secs_f64(),
            self.jobs,
            rate / 3600.0
        )?;
        writeln!(
            f,
            "operations: {} committed, {} unknown, {} refused; highest index {}, highest term {}; {} steps",
            total.committed, total.unknown, total.refused, total.commit, total.term, total.steps
        )?;
        match total.fired.total() {
            0 => writeln!(f, "faults: none")?,
            count => writeln!(f, "faults: {count}: {}", total.fired)?,
        }
        writeln!(f, "answers on less: {}", total.weaker)?;
        writeln!(f, "members: {}", total.changed)?;
        writeln!(f, "snapshots: {}", total.snapped)?;
        let missing: Vec<_> = Kind::ALL
            .into_iter()
            .filter(|kind| total.fired.count(*kind) == 0)
            .collect();
        if !missing.is_empty() && missing.len() < Kind::ALL.len() {
            writeln!(f, "faults that never happened: {}", Kinds::of(&missing))?;
        }
        let reached = Message::ALL
            .into_iter()
            .flat_map(|kind| STATES.map(|state| (kind, state)));
        let reached = reached
            .filter(|(kind, state)| total.handled.count(*kind, *state) > 0)
            .count();
        writeln!(f, "handled, by kind and state ({reached} of them):\n{}", total.handled)?;
        write!(f, "trace: {:016x}", total.trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulate(seeds: &str) -> Simulate {
        Simulate {
            seeds: seeds.to_owned(),
            nodes: Some("3".to_owned()),
            faults: Some("crash,one-way".to_owned()),
            protocol: "binary".to_owned(),
            liveness: false,
            span: "1s".to_owned(),
            jobs: Some("2".to_owned()),
            twice: true,
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Simulate), expected: &str) {
        let mut args = simulate("0..2");
        change(&mut args);
        let failure = args.plan().expect_err("it is wrong");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.starts_with(expected), "{failure}");
    }

    #[test]
    fn what_makes_no_sense_is_usage() {
        check(|args| args.seeds = "7".into(), "--seeds 7: give two numbers");
        check(|args| args.seeds = "7..7".into(), "--seeds 7..7: ");
        check(|args| args.nodes = Some("16".into()), "--nodes 16: ");
        check(|args| args.jobs = Some("0".into()), "--jobs 0: ");
        check(|args| args.span = "soon".into(), "--span soon: ");
        check(
            |args| args.protocol = "morse".into(),
            "--protocol morse: no wire format is called morse: choose one of binary",
        );
        check(
            |args| args.faults = Some("fire".into()),
            "--faults fire: no fault is called \"fire\"",
        );
    }

    #[test]
    fn a_violation_names_its_command_and_a_run_its_figures() {
        let plan = simulate("3..4").plan().expect("it is right");
        let options = plan.options(3);
        assert_eq!(
            options.command(),
            "kraftd simulate --seeds 3..4 --nodes 3 --span 1s --faults one-way,crash"
        );
        let shrunk = Options {
            span: Duration::from_micros(1_234_567),
            ..options
        };
        assert!(shrunk.command().contains(" --span 1234ms --faults "));
        let report = plan.run_one(3).expect("every law holds, and again");
        let figures = Figures {
            total: &report,
            elapsed: Duration::from_secs(1),
            jobs: 2,
        };
        let text = figures.to_string();
        assert!(text.starts_with("1 seeds: ") && text.contains("AppendReply"), "{text}");
        assert_eq!(held(&report), "every law held in 1 seeds\n");
    }

    #[test]
    fn what_is_interrupted_says_how_far_it_came() {
        let plan = simulate("0..1000").plan().expect("it is right");
        let interrupt = Interrupt::default();
        interrupt.ask();
        let failure = plan.run(&interrupt).expect_err("no seed was run");
        assert_eq!(failure.exit, Exit::Interrupted);
        assert_eq!(failure.message, "interrupted: every law held in 0 of 1000 seeds");
        // All are through: there was nothing left to interrupt.
        let (total, failed) = simulate("0..2")
            .plan()
            .expect("it is right")
            .run_all(Instant::now(), &Interrupt::default());
        assert_eq!((total.runs, failed.is_none()), (2, true));
    }

    #[test]
    fn a_second_run_that_is_another_one_is_told_with_a_command_that_shows_it() {
        let plan = simulate("3..4").plan().expect("it is right");
        let options = plan.options(3);
        let one = plan.run_one(3).expect("every law holds, and again");
        compare(&options, &one, Ok(one.clone())).expect("it is the same");
        let other = Report {
            trace: 7,
            ..one.clone()
        };
        let Err(Found::Unlike(what)) = compare(&options, &one, Ok(other)) else {
            panic!("it is another one");
        };
        assert!(what.contains("then trace 0000000000000007; run it again"), "{what}");
        assert!(
            what.ends_with("--seeds 3..4 --nodes 3 --span 1s --faults one-way,crash --twice"),
            "{what}"
        );
    }

    #[test]
    fn of_a_thousand_seeds_each_kind_of_fault_has_to_happen() {
        let plan = |seeds: &str, nodes: &str, faults: &str| {
            let args = Simulate {
                nodes: Some(nodes.to_owned()),
                faults: Some(faults.to_owned()),
                span: "60s".to_owned(),
                ..simulate(seeds)
            };
            args.plan().expect("it is right")
        };
        let total = plan("3..4", "3", "crash")
            .run_one(3)
            .expect("every law holds, and again");
        let missing = |seeds, nodes| plan(seeds, nodes, "crash,one-way").missing(&total);
        assert_eq!(missing("0..1000", "3"), Kinds::of(&[Kind::OneWay]));
        assert_eq!(missing("0..999", "3"), Kinds::NONE);
        assert_eq!(missing("0..1000", "1"), Kinds::NONE);
        let failure = plan("0..1000", "3", "crash,one-way")
            .judge(&total)
            .expect_err("one is missing");
        assert!(failure.message.contains("none had one-way"), "{failure}");
        plan("0..1000", "3", "crash").judge(&total).expect("it happened");
    }
}
