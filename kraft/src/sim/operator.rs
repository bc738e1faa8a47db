//! Who changes the members: a client like others, that asks for several changes at once, and asks again when an answer
//! is lost.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use kraft_adapters::Config as AdapterConfig;
use kraft_adapters::mock::{HostId, Mock, Network};
use kraft_core::client::{CallId, Client, Config, End, Outcome, Request, Runner};
use kraft_core::id::NodeId;
use kraft_core::membership::Wish;
use kraft_core::time::Instant;
use kraft_protocols::Binary;

use super::host::CLIENT_PORT;
use super::report::Changed;

/// How long a change that was given up may come to something after all.
const UNSURE: Duration = Duration::from_secs(10);

/// Somebody who changes the members of the simulated cluster.
pub(super) struct Operator {
    pub(super) host: HostId,
    network: Network,
    nodes: Vec<HostId>,
    seed: u64,
    runner: Runner<Mock, Binary>,
    under_way: BTreeMap<CallId, Wish>,
    /// A change that nobody knows the outcome of may happen before.
    unsure_until: Instant,
    pub(super) changed: Changed,
}

impl Operator {
    pub(super) fn new(network: &Network, nodes: &[HostId], seed: u64) -> io::Result<Self> {
        let host = network.add_host();
        Ok(Self {
            host,
            network: network.clone(),
            nodes: nodes.to_vec(),
            seed,
            runner: runner(network, host, nodes, seed)?,
            under_way: BTreeMap::new(),
            unsure_until: Instant::ZERO,
            changed: Changed::default(),
        })
    }

    /// When it has something to do that the network does not know of.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        self.runner.next_deadline()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// How many changes are under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Whether something that it asked for may happen at any time.
    pub(super) fn is_unsure(&self, now: Instant) -> bool {
        !self.is_idle() || now < self.unsure_until
    }

    /// Whether something is under way that has to do with a node.
    pub(super) fn is_about(&self, node: NodeId) -> bool {
        self.under_way.values().any(|wish| is_about(wish, node))
    }

    /// Asks for a change.
    pub(super) fn ask(&mut self, wish: Wish, now: Instant) -> io::Result<()> {
        let request = Request::Change { wish: wish.clone() };
        let id = self.runner.call(request).expect("fewer calls than a client takes");
        self.under_way.insert(id, wish);
        self.changed.asked += 1;
        self.turn(now)
    }

    /// Begins anew, and knows these nodes; nobody learns what comes of what it asked for.
    pub(super) fn come(&mut self, nodes: &[HostId], now: Instant) -> io::Result<()> {
        if !self.under_way.is_empty() {
            self.unsure_until = now + UNSURE;
            self.changed.unknown += self.under_way.len() as u64;
            self.under_way.clear();
        }
        self.network.crash(self.host);
        self.nodes = nodes.to_vec();
        self.seed += 1;
        self.runner = runner(&self.network, self.host, nodes, self.seed)?;
        Ok(())
    }

    pub(super) fn turn(&mut self, now: Instant) -> io::Result<()> {
        self.runner.turn(Some(now))?;
        while let Some((id, end)) = self.runner.poll_done() {
            let End::Outcome(outcome) = end else { continue };
            self.under_way.remove(&id).expect("a change ends once");
            match outcome {
                Outcome::Committed(_) => self.changed.done += 1,
                Outcome::Refused(_) => self.changed.refused += 1,
                Outcome::Unknown | Outcome::Weaker { .. } => {
                    self.changed.unknown += 1;
                    self.unsure_until = now + UNSURE;
                }
            }
        }
        Ok(())
    }
}

fn runner(network: &Network, host: HostId, nodes: &[HostId], seed: u64) -> io::Result<Runner<Mock, Binary>> {
    let adapter = network.open(host, &AdapterConfig::default())?;
    let addresses = nodes.iter().map(|node| node.address(CLIENT_PORT).into());
    let config = Config {
        seed,
        request_timeout: Duration::from_secs(8),
        // A node that is asked who it is has two seconds for that.
        attempt_timeout: Duration::from_secs(3),
        ..Config::default()
    };
    Ok(Runner::new(Client::new(config, addresses), adapter, Binary))
}

fn is_about(wish: &Wish, of: NodeId) -> bool {
    match wish {
        Wish::Add { node, .. } | Wish::Promote { node } | Wish::Remove { node } | Wish::Move { node, .. } => {
            *node == of
        }
        Wish::Replace { node, by, .. } => *node == of || *by == of,
    }
}
