//! One machine of the simulated cluster: a disk, and a node that comes and goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use kraft_adapters::Config as AdapterConfig;
use kraft_adapters::mock::{HostId, Mock, Network};
use kraft_core::adapter::ListenOptions;
use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId};
use kraft_core::laws::{Mark, View};
use kraft_core::message::Role;
use kraft_core::node::{Config, Done, Member, Node, Notice, Parts, Task};
use kraft_core::raft::Status;
use kraft_core::storage::{HardState, Work};
use kraft_core::time::Instant;
use kraft_protocols::Binary;

use super::watch::{Record, Watch, lock};
use crate::kv::{self, Kv};
use crate::storage::{self, DiskLog, DiskWork, LogIdentity, Loss, MemFiles};

/// The port for peers.
pub(super) const PEER_PORT: u16 = 7000;
/// The port for clients.
pub(super) const CLIENT_PORT: u16 = 7001;

const CLUSTER: &str = "simulated";

pub(super) type SimNode = Node<Mock, Binary, Watch<DiskLog<MemFiles>>, Kv>;

/// How long the disk takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskSpeed {
    /// Of an ordinary sync, at most.
    pub(super) usual: Duration,
    /// Of a stalled one.
    pub(super) stall: Duration,
    /// How often that happens, 0 to 1.
    pub(super) stalls: f64,
}

/// One machine.
pub(super) struct Host {
    pub(super) id: NodeId,
    pub(super) host: HostId,
    pub(super) node: Option<SimNode>,
    /// Does not get to run, as under SIGSTOP.
    pub(super) is_paused: bool,
    files: MemFiles,
    record: Arc<Mutex<Record>>,
    /// Peers' incarnations, as the data folder keeps them.
    known: BTreeMap<NodeId, Incarnation>,
    /// Blocking work under way, with the time at which it is through.
    work: Vec<(Instant, Task<DiskWork<MemFiles>>)>,
    last_status: Status,
    run: u64,
    rng: Rng,
    speed: DiskSpeed,
}

impl Host {
    pub(super) fn new(id: NodeId, host: HostId, seed: u64, speed: DiskSpeed) -> Self {
        let status = Status {
            id,
            hard: HardState::default(),
            state: kraft_core::message::NodeState::Follower,
            leader: NodeId::NONE,
            commit: Index::ZERO,
            applied: Index::ZERO,
            last: Index::ZERO,
            durable: Index::ZERO,
        };
        Self {
            id,
            host,
            node: None,
            is_paused: false,
            files: MemFiles::new(),
            record: Arc::default(),
            known: BTreeMap::new(),
            work: Vec::new(),
            last_status: status,
            run: 0,
            rng: Rng::with_seed(seed),
            speed,
        }
    }

    /// Starts the node on what its disk holds.
    ///
    /// # Errors
    ///
    /// What is wrong with that.
    pub(super) fn start(&mut self, network: &Network, members: &[(NodeId, HostId)]) -> Result<(), String> {
        let incarnation = Incarnation(1000 + self.id.0);
        let identity = LogIdentity {
            cluster: ClusterId::from_name(CLUSTER),
            node: self.id,
            incarnation,
            group: GroupId(0),
        };
        let config = storage::Config {
            segment_bytes: 256 << 10,
            first_segment_bytes: 64 << 10,
            zero_step_bytes: 64 << 10,
            log_bytes_max: 64 << 20,
            ..storage::Config::default()
        };
        let opened = DiskLog::open(self.files.clone(), identity, config, Index::ZERO);
        let (log, recovered) = opened.map_err(|error| format!("node {}: {error}", self.id))?;
        lock(&self.record)
            .recovered(&recovered)
            .map_err(|what| format!("node {}: {what}", self.id))?;
        let adapter = network
            .open(self.host, &AdapterConfig::default())
            .map_err(|error| error.to_string())?;
        let members = members
            .iter()
            .map(|(node, host)| Member {
                node: *node,
                address: host.address(PEER_PORT).to_string(),
                incarnation: self.known.get(node).copied(),
            })
            .collect();
        let mut config = Config::new(CLUSTER, self.id, incarnation, members, self.rng.u64(..));
        // Small, so that entries leave memory and come back from the disk.
        config.tail_bytes_max = 16 << 10;
        let parts = Parts {
            adapter,
            protocol: Binary,
            storage: Watch::new(log, Arc::clone(&self.record)),
            recovered,
            machine: Kv::new(kv::Limits::default()),
        };
        let mut node = Node::open(config, parts, |_: Notice<'_>| {})?;
        for (role, port) in [(Role::Peer, PEER_PORT), (Role::Client, CLIENT_PORT)] {
            let at = self.host.address(port).into();
            node.listen(role, &at, ListenOptions::default())
                .map_err(|error| error.to_string())?;
        }
        self.run += 1;
        self.last_status = node.status();
        self.node = Some(node);
        Ok(())
    }

    /// Ends the node as `kill -9` does, or, with its disk's cache, as a loss of power.
    pub(super) fn crash(&mut self, network: &Network, power: bool) {
        // Some of the work under way may have come to the disk.
        for (_, task) in self.work.drain(..) {
            if let Task::Storage(work) = task
                && self.rng.bool()
            {
                let _ = work.run();
            }
        }
        if power {
            network.power_off(self.host);
        } else {
            network.crash(self.host);
        }
        self.node = None;
        self.files.crash(if power {
            Loss::Random(self.rng.u64(..))
        } else {
            Loss::Nothing
        });
    }

    /// When this machine has something to do that the network does not know of.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        if self.is_paused {
            return None;
        }
        let work = self.work.iter().map(|(at, _)| *at).min();
        let node = self.node.as_mut().map(SimNode::next_deadline);
        [work, node].into_iter().flatten().min()
    }

    /// One turn of the node, if it runs.
    ///
    /// # Errors
    ///
    /// What ended the node.
    pub(super) fn turn(&mut self, now: Instant) -> Result<(), String> {
        let Some(node) = self.node.as_mut().filter(|_| !self.is_paused) else {
            return Ok(());
        };
        let failed = |failure| format!("node {}: {failure}", self.id);
        node.poll(Some(now)).map_err(failed)?;
        while let Some(at) = self.work.iter().position(|(at, _)| *at <= now) {
            let done = match self.work.remove(at).1 {
                Task::Storage(work) => Done::Storage(work.run()),
                Task::Resolve { node, .. } => Done::Resolved {
                    node,
                    addresses: Ok(Vec::new()),
                },
                Task::Remember { node, incarnation } => {
                    self.known.insert(node, incarnation);
                    Done::Remembered {
                        node,
                        incarnation,
                        result: Ok(()),
                    }
                }
            };
            node.complete(done).map_err(failed)?;
        }
        node.settle().map_err(failed)?;
        while let Some(task) = node.next_task() {
            let usual = self.speed.usual.mul_f64(self.rng.f64());
            let span = if self.rng.f64() < self.speed.stalls {
                self.speed.stall
            } else {
                usual
            };
            self.work.push((now + span, task));
        }
        self.last_status = node.status();
        Ok(())
    }

    /// A hash of everything that the node applied, with how far that goes.
    pub(super) fn state(&self) -> Option<(Index, u64)> {
        use kraft_core::machine::StateMachine;
        let node = self.node.as_ref()?;
        Some((
            node.status().applied,
            node.machine().digest() ^ node.sessions().digest().rotate_left(1),
        ))
    }
}

impl View for &Host {
    fn status(&self) -> Status {
        self.last_status.clone()
    }

    fn run(&self) -> u64 {
        self.run
    }

    fn is_up(&self) -> bool {
        self.node.is_some()
    }

    fn entry(&self, index: Index) -> Option<Mark> {
        lock(&self.record).entry(index)
    }

    fn disk(&self) -> HardState {
        lock(&self.record).disk()
    }

    fn disk_entry(&self, index: Index) -> Option<Mark> {
        lock(&self.record).disk_entry(index)
    }
}
