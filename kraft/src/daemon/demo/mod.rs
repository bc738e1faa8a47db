//! `kraftd demo`: a cluster that loses nodes under load and nothing else.
//!
//! Three `serve` processes on loopback ports, clients that write, and by the scenario kill -9 of the leader and its
//! restart, an orderly restart of all nodes in turn, or members that come and go; then every acknowledged write is read back through every node by
//! linearizable reads and compared.

mod cluster;
mod ledger;
mod members;
mod report;
mod rolling;
mod workload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use kraft_adapters::Choice;
use kraft_core::message::NodeState;
use kraft_protocols::Format;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::cluster::{Cluster, NODES, StartError};
use self::ledger::{Comparer, Comparison, Ended, Ledger, PREFIX};
use self::report::{Report, grouped, ms, per_second, percentile, table};
use self::workload::{Workload, Written, client};
use super::Failure;
use crate::client::{Client, Error};

/// How often the demonstration looks at itself.
const TICK: Duration = Duration::from_millis(20);

/// How long three nodes may take until the first write is acknowledged.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// How often ports are chosen anew because another program took one.
const STARTS_MAX: usize = 5;

/// What is shown.
#[derive(Args, Clone, Debug)]
pub(super) struct Demo {
    /// What happens to the nodes.
    #[arg(long, value_enum, default_value_t = Scenario::KillLeader)]
    scenario: Scenario,
    /// How long clients write, which the scenario divides among what happens.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Clients, each with one write outstanding.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=256))]
    clients: u64,
    /// Bytes of a value.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    value_bytes: u64,
    /// The event loop of the nodes: auto, or a name, or names in the order in which they are tried.
    #[arg(long, value_name = "auto|NAME|LIST", default_value_t)]
    backend: Choice,
    /// The wire format, among the nodes and with clients: binary, protobuf, msgpack or json.
    #[arg(long, value_name = "NAME", default_value_t = Format::Binary)]
    protocol: Format,
    /// Encrypt all connections, with certificates made for this.
    #[arg(long)]
    tls: bool,
}

/// What happens to the nodes while clients write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// The leader is killed with SIGKILL after a third of the time, and comes back after two thirds
    KillLeader,
    /// One node after the other is stopped in order, and started again
    RollingRestart,
    /// A node dies for good, its disk with it, and another one takes its place
    ReplaceNode,
    /// Two nodes are added, then two that lead are removed
    GrowShrink,
}

impl Scenario {
    /// Nodes that run at some time.
    const fn sites(self) -> usize {
        match self {
            Self::KillLeader | Self::RollingRestart => NODES,
            Self::ReplaceNode => NODES + 1,
            Self::GrowShrink => NODES + 2,
        }
    }
}

/// A demonstration that runs.
struct Stage {
    cluster: Cluster,
    /// Asks the nodes how they are; writes nothing.
    watcher: Client,
    report: Report,
    interrupted: Arc<AtomicBool>,
}

impl Demo {
    /// Shows it.
    ///
    /// # Errors
    ///
    /// A write was lost, or it could not be shown.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        // A terminal that is closed sends SIGHUP.
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            let caught = signal_hook::flag::register(signal, Arc::clone(&interrupted));
            caught.map_err(|error| Failure::new(format!("signals cannot be caught: {error}")))?;
        }
        let mut stage = Stage::set(self, interrupted)?;
        let value_bytes = usize::try_from(self.value_bytes).expect("at most 4096");
        let clients = usize::try_from(self.clients).expect("at most 256");
        let text = format!("{clients} clients write values of {value_bytes} bytes, each of them synced by a majority");
        stage.report.event(&text);
        let workload = Workload::start(&stage.cluster, clients, value_bytes)?;
        let begun = Instant::now();
        stage.report.begin();
        let time = Duration::from_secs(self.seconds);
        let shown = match self.scenario {
            Scenario::KillLeader => stage.lose_the_leader(&workload, time),
            Scenario::RollingRestart => stage.restart_all(&workload, time),
            Scenario::ReplaceNode => stage.replace_a_node(&workload, time),
            Scenario::GrowShrink => stage.grow_and_shrink(&workload, time),
        };
        let progress = Arc::clone(workload.progress());
        let pause = progress.longest_pause();
        // Why a client could not go on says more than that it did not.
        let mut written = workload.stop()?;
        shown?;
        let time = begun.elapsed();
        let comparisons = stage.read_back(&written)?;
        let pause = match self.scenario {
            Scenario::KillLeader => ("time without a leader", progress.outage()),
            Scenario::RollingRestart | Scenario::ReplaceNode | Scenario::GrowShrink => {
                ("longest pause of writes", Some(pause))
            }
        };
        let rows = result(&mut written, &comparisons, time, pause);
        stage.report.text(&format!("\n{}", table(&rows)));
        stage.judge(&comparisons)?;
        if self.scenario != Scenario::KillLeader {
            return Ok(());
        }
        let resumed = progress.outage().map(drop);
        resumed.ok_or_else(|| {
            Failure::new("no write was acknowledged after the leader's death; is this machine overloaded?")
        })
    }
}

impl Stage {
    /// Starts the nodes and waits for a leader.
    fn set(demo: &Demo, interrupted: Arc<AtomicBool>) -> Result<Self, Failure> {
        let (protocol, sites) = (demo.protocol, demo.scenario.sites());
        let mut report = Report::new();
        for _ in 0..STARTS_MAX {
            let cluster = Cluster::start(&demo.backend, protocol, demo.tls, sites)?;
            report.event(&format!(
                "{NODES} nodes start on this host, data in {}",
                cluster.path().display()
            ));
            let mut stage = Self {
                watcher: client(&cluster.clients(), cluster.manner(), Duration::from_secs(1))?,
                cluster,
                report,
                interrupted: Arc::clone(&interrupted),
            };
            match stage.wait_for_leader() {
                Ok(leader) => {
                    let backend = stage.backend()?;
                    let over = if demo.tls { ", over TLS" } else { "" };
                    let speaking = match protocol {
                        Format::Binary => String::new(),
                        _ => format!(", in {protocol}"),
                    };
                    stage
                        .report
                        .event(&format!("node {} leads, on {backend}{speaking}{over}", leader + 1));
                    return Ok(stage);
                }
                Err(StartError::PortTaken) => report = stage.report,
                Err(StartError::Failed(failure)) => return Err(failure),
            }
        }
        Err(Failure::new(format!(
            "other programs took a port that was free, {STARTS_MAX} times in a row; try again when they are done"
        )))
    }

    fn wait_for_leader(&mut self) -> Result<usize, StartError> {
        let until = Instant::now() + START_TIMEOUT;
        while Instant::now() < until {
            self.tick()?;
            self.cluster.check()?;
            if let Some(leader) = self.leader()? {
                return Ok(leader);
            }
        }
        let why = format!(
            "no node leads after {} s; is this machine overloaded?",
            START_TIMEOUT.as_secs()
        );
        Err(Failure::new(why).into())
    }

    /// Lets a little time pass.
    fn tick(&mut self) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure::new(
                "interrupted: the nodes are stopped and their data is removed",
            ));
        }
        self.watcher.wait(TICK).map_err(|error| watching(&error))
    }

    /// The event loop of the nodes, which is the same for all: they have the same program and machine.
    fn backend(&mut self) -> Result<String, Failure> {
        let reports = self.watcher.status().map_err(|error| watching(&error))?;
        let first = reports.into_iter().find_map(|status| status.report.ok());
        Ok(first.map_or_else(
            || "an event loop that it does not tell".to_owned(),
            |report| report.backend,
        ))
    }

    /// The node that leads in the highest term, counted from 0.
    fn leader(&mut self) -> Result<Option<usize>, Failure> {
        let reports = self.watcher.status().map_err(|error| watching(&error))?;
        let known = reports.iter().filter_map(|status| status.report.as_ref().ok());
        let leaders = known.filter(|report| report.state == NodeState::Leader);
        let newest = leaders.max_by_key(|report| report.term);
        Ok(newest
            .and_then(|report| usize::try_from(report.node.0).ok())
            .and_then(|node| node.checked_sub(1)))
    }

    /// Lets the clients write for `time`, and kills the leader and brings it back meanwhile.
    fn lose_the_leader(&mut self, workload: &Workload, time: Duration) -> Result<(), Failure> {
        let begun = Instant::now();
        self.watch(workload, begun + time / 3)?;
        let victim = self.wait_for_leader().map_err(StartError::later)?;
        workload.progress().lose_a_leader(|| self.cluster.kill(victim))?;
        self.report.event(&format!("kill -9 of node {}, which led", victim + 1));

        let deadline = begun + time * 2 / 3;
        let mut told = false;
        while Instant::now() < deadline {
            self.watch(workload, Instant::now() + TICK)?;
            if let (false, Some(outage)) = (told, workload.progress().outage()) {
                told = true;
                let leader = self
                    .leader()?
                    .map_or_else(String::new, |leader| format!("; node {} leads", leader + 1));
                let text = format!(
                    "writes are acknowledged again, {:.3} s after the kill{leader}",
                    outage.as_secs_f64()
                );
                self.report.event(&text);
            }
        }
        self.cluster.spawn(victim)?;
        self.report
            .event(&format!("node {} starts again, with what is on its disk", victim + 1));
        self.watch(workload, begun + time)
    }

    /// Shows the numbers until then.
    fn watch(&mut self, workload: &Workload, until: Instant) -> Result<(), Failure> {
        while Instant::now() < until {
            self.tick()?;
            self.cluster.check().map_err(StartError::later)?;
            if workload.has_failed() {
                return Err(Failure::new("a client ended early"));
            }
            self.report.live(workload.progress().acknowledged());
        }
        Ok(())
    }

    /// Compares what each node has with what was written.
    fn read_back(&mut self, written: &[Written]) -> Result<Vec<Comparison>, Failure> {
        self.report
            .event("every write is read back through each node, by linearizable reads");
        let ledgers: Vec<_> = written.iter().map(|of| of.ledger.clone()).collect();
        let members = self.cluster.members().to_vec();
        let compared = members.iter().map(|node| self.read_back_from(*node, &ledgers));
        compared.collect()
    }

    fn read_back_from(&mut self, node: usize, ledgers: &[Ledger]) -> Result<Comparison, Failure> {
        let cannot = |error: Error| Failure::new(format!("node {} cannot be read: {error}", node + 1));
        // A client that knows no other node, so that it is this one that answers.
        let mut client = client(
            self.cluster.client(node),
            self.cluster.manner(),
            Duration::from_secs(10),
        )?;
        let mut comparer = Comparer::new(ledgers);
        let mut after = Vec::new();
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(Failure::new(
                    "interrupted: the nodes are stopped and their data is removed",
                ));
            }
            let page = client.scan(PREFIX.as_bytes(), &after, 0).map_err(cannot)?;
            for (key, value) in &page.entries {
                comparer.take(key, value);
            }
            match page.entries.last() {
                Some((key, _)) if page.more => after = key.to_vec(),
                _ => return Ok(comparer.end()),
            }
        }
    }

    /// Fails if anything was lost, and keeps the evidence.
    fn judge(&mut self, comparisons: &[Comparison]) -> Result<(), Failure> {
        let bad = |of: &&Comparison| of.lost + of.wrong + of.strange > 0;
        if !comparisons.iter().any(|of| bad(&of)) {
            return Ok(());
        }
        let data = self.cluster.keep();
        Err(Failure::new(format!(
            "what the nodes have is not what was acknowledged: {comparisons:?}; the data is kept in {}",
            data.display()
        )))
    }
}

fn watching(error: &Error) -> Failure {
    Failure::new(format!("the nodes cannot be watched: {error}"))
}

fn result(
    written: &mut [Written],
    comparisons: &[Comparison],
    time: Duration,
    (pause, longest): (&'static str, Option<Duration>),
) -> Vec<(&'static str, String)> {
    let count = |ended| grouped(written.iter().map(|of| of.ledger.count(ended)).sum());
    let most = |of: fn(&Comparison) -> u64| grouped(comparisons.iter().map(of).max().unwrap_or(0));
    let acknowledged: u64 = written.iter().map(|of| of.ledger.count(Ended::Acknowledged)).sum();
    let mut rows = vec![
        ("writes acknowledged", grouped(acknowledged)),
        ("lost", most(|of| of.lost)),
        ("wrong", most(|of| of.wrong + of.strange)),
        ("unknown", count(Ended::Unknown)),
        ("refused", count(Ended::Refused)),
        (
            pause,
            longest.map_or_else(|| "-".to_owned(), |time| format!("{:.3} s", time.as_secs_f64())),
        ),
        ("throughput", format!("{}/s", grouped(per_second(acknowledged, time)))),
    ];
    let mut latencies: Vec<u32> = written
        .iter_mut()
        .flat_map(|of| std::mem::take(&mut of.latencies_us))
        .collect();
    rows.push(("latency p50", ms(percentile(&mut latencies, 0.50))));
    rows.push(("latency p99", ms(percentile(&mut latencies, 0.99))));
    let read = comparisons.iter().map(|of| grouped(of.found)).collect::<Vec<_>>();
    rows.push(("found through each node", read.join(" ")));
    rows
}
