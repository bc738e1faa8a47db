//! `kraftctl bench`: closed-loop load from one thread, and what it cost.
//!
//! The load shares its processors with the servers that it measures, so it is made to be cheap: one event loop,
//! connections straight to the leader, and for each operation one receive and one send.

mod cpu;
mod lane;
mod lanes;
mod load;
mod report;
mod workload;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use kraft_adapters::Choice;
use kraft_core::adapter::Endpoint;
use kraft_protocols::Any;

use self::cpu::Processes;
use self::lanes::Site;
use self::load::Load;
use self::report::Report;
use super::cli::{Bench, Format, Op};
use super::exit::{Exit, Failure};
use super::status::leader_of;
use crate::client::{Client, Error, Node, NodeStatus, Security, Trouble};
use crate::interrupt::Interrupt;

/// How long connecting, filling, or waiting for the last answers may take without any progress.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between looks at the clock, and lines of progress.
const TICK: Duration = Duration::from_millis(100);
const PROGRESS_TICKS: u32 = 5;

/// How the nodes are talked to.
#[derive(Debug)]
pub(super) struct Manner<'a> {
    /// On which event loop.
    pub(super) choice: &'a Choice,
    /// Encrypted or not.
    pub(super) security: &'a Security,
    /// In which format.
    pub(super) protocol: kraft_protocols::Format,
}

/// Runs the benchmark and prints its report. Fails if nothing was answered.
pub(super) fn run(
    client: &mut Client,
    options: &Bench,
    manner: &Manner<'_>,
    format: Format,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let (sites, leader) = find_leader(client)?;
    let addresses: Vec<_> = sites.iter().map(|site| site.address.clone()).collect();
    let processes = Processes::find(&options.server_pids, &addresses);
    // What the choice passes over was told when the client was made.
    let Manner { choice, security, .. } = manner;
    let opened = security.open(choice, &adapter_config(options), &Trouble::default());
    let (adapter, _) = opened.map_err(Error::Io)?;
    let mut load = Load::new(options, adapter, Any::new(manner.protocol), sites, leader);

    let interrupt = Interrupt::catch().map_err(|error| Failure::Bench(format!("signals cannot be caught: {error}")))?;
    load.connect(PATIENCE, &interrupt)?;
    if options.read_share > 0.0 || options.op == Op::Get {
        load.fill(PATIENCE, &interrupt)?;
    }
    let before = processes.sample();
    load.start();
    let started = load.now();
    let until = started + Duration::from_secs_f64(options.seconds);
    let is_terminal = io::stderr().is_terminal();
    let mut ticks = 0;
    while load.now() < until && !interrupt.is_asked() {
        load.turn_until(until.min(load.now() + TICK))?;
        // A busy loop turns more often than it ticks.
        let elapsed = load.now() - started;
        let due = u32::try_from(elapsed.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX);
        if is_terminal && due >= ticks + PROGRESS_TICKS {
            ticks = due;
            report::progress(elapsed, load.tally());
        }
    }
    let elapsed = load.now() - started;
    let is_cut = load.now() < until;
    let after = processes.sample();
    let ops = load.tally().ok;
    load.drain(PATIENCE)?;
    if is_terminal {
        report::clear_progress();
    }
    let report = Report::new(options, elapsed, ops, load.tally(), &before, &after);
    report.print(format, out)?;
    if is_cut {
        let (had, asked) = (elapsed.as_secs_f64(), options.seconds);
        return Err(Failure::Interrupted(format!(
            "after {had:.1} of {asked} seconds: the figures are of that time"
        )));
    }
    if ops == 0 {
        return Err(Failure::Bench(format!(
            "no operation succeeded; the last trouble: {}",
            load.trouble()
        )));
    }
    Ok(Exit::Ok)
}

fn adapter_config(options: &Bench) -> kraft_adapters::Config {
    // What a request takes beside its value: envelope, headers and key.
    const REQUEST_BYTES: usize = 512;
    let request = options.value_size as usize + REQUEST_BYTES;
    let defaults = kraft_adapters::Config::default();
    kraft_adapters::Config {
        max_connections: options.clients as usize + 16,
        write_queue_max: defaults.write_queue_max.max(2 * request * options.pipeline as usize),
        ..defaults
    }
}

/// The nodes that answer, and the place of the one that leads.
fn find_leader(client: &mut Client) -> Result<(Vec<Site>, usize), Failure> {
    let mut last = Vec::new();
    // An election takes a fraction of a second; a cluster that was just started may be in one.
    for _ in 0..20 {
        last = client.status()?;
        if let Some(leader) = leader_of(&last).map(|leader| leader.node) {
            let sites: Vec<_> = last.iter().filter_map(site_of).collect();
            let at = sites.iter().position(|site| site.node == leader);
            return Ok((sites, at.expect("the leader is one that answered")));
        }
        client.wait(Duration::from_millis(100))?;
    }
    let nodes = last.iter().map(|NodeStatus { node, report }| match report {
        Ok(report) if report.leader.is_some() => format!("{} follows node {}", node.name, report.leader),
        Ok(_) => format!("{} knows no leader", node.name),
        Err(why) => format!("{} {why}", node.name),
    });
    let nodes = nodes.collect::<Vec<_>>().join("; ");
    Err(Failure::Bench(format!(
        "none of these nodes leads, so there is nothing to measure: {nodes}; see kraftctl status"
    )))
}

fn site_of(status: &NodeStatus) -> Option<Site> {
    Some(Site {
        node: status.report.as_ref().ok()?.node,
        address: answering(&status.node)?,
    })
}

/// Of the addresses of a name, the one that somebody listens at.
fn answering(node: &Node) -> Option<Endpoint> {
    node.addresses
        .iter()
        .find(|address| match address {
            Endpoint::Tcp(address) => std::net::TcpStream::connect_timeout(address, PATIENCE).is_ok(),
            Endpoint::Unix(_) => true,
        })
        .cloned()
}
