//! Nodes on mocks, in one thread of virtual time. Whoever is dialled and is not there is played by hand.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kraft::adapter::{Endpoint, ListenOptions};
use kraft::adapters;
use kraft::adapters::mock::{HostId, Mock, Network};
use kraft::id::{ClusterId, GroupId, Incarnation, NodeId};
use kraft::message::{NodeState, Role};
use kraft::node::{Config, Done, Handle, Member, Node, Parts, SnapshotLane, Task};
use kraft::protocol::Protocol;
use kraft::protocols::Binary;
use kraft::storage::{self, DiskLog, DiskWork, LogIdentity, MemFiles};
use kraft::time::Instant;
use kraft_core::storage::Work;

use super::line::{self, CLUSTER, Line};
use super::tape::Tape;

pub(super) type MemNode<P> = Node<Mock, P, DiskLog<MemFiles>, Tape>;

/// Nothing in here takes longer, in virtual time.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Nodes and the network between them.
pub(super) struct Lab<P = Binary> {
    pub(super) network: Network,
    pub(super) sites: Vec<Site<P>>,
}

/// A node, and what stays when it goes.
pub(super) struct Site<P = Binary> {
    id: NodeId,
    host: HostId,
    pub(super) files: MemFiles,
    incarnation: Incarnation,
    /// Incarnations of the others, as its disk has them.
    known: Vec<(NodeId, Incarnation)>,
    node: Option<MemNode<P>>,
    /// What its operator was told.
    told: Arc<Mutex<Vec<String>>>,
    /// Its disk does not finish.
    pub(super) is_stalled: bool,
    /// Whole snapshots wait to be written.
    pub(super) is_saving_stalled: bool,
    /// The log waits to be written.
    pub(super) is_log_stalled: bool,
    stalled: VecDeque<Task<DiskWork<MemFiles>>>,
    /// How often it asked for the addresses of a name.
    pub(super) resolved: usize,
}

impl Lab {
    /// `count` nodes that run, all of them members and nobody else.
    pub(super) fn cluster(count: u64) -> Self {
        Self::new(count, count, |_| ())
    }

    /// Nodes `1..=runs` of a cluster of `members`, on a network without delays.
    pub(super) fn new(runs: u64, members: u64, tune: impl Fn(&mut Config)) -> Self {
        Self::with(runs, members, tune, &adapters::Config::default(), || Binary)
    }
}

impl<P: Protocol> Lab<P> {
    pub(super) fn with(
        runs: u64,
        members: u64,
        tune: impl Fn(&mut Config),
        adapter: &adapters::Config,
        protocol: impl Fn() -> P,
    ) -> Self {
        let network = Network::by_hand();
        let hosts: Vec<_> = (0..members).map(|_| network.add_host()).collect();
        let site = |id: u64| Site {
            id: NodeId(id),
            host: hosts[id as usize - 1],
            files: MemFiles::new(),
            incarnation: Incarnation(id),
            known: Vec::new(),
            node: None,
            told: Arc::default(),
            is_stalled: false,
            is_saving_stalled: false,
            is_log_stalled: false,
            stalled: VecDeque::new(),
            resolved: 0,
        };
        let mut lab = Self {
            network,
            sites: (1..=runs).map(site).collect(),
        };
        for id in 1..=runs {
            lab.start_with(id, members, &tune, adapter, protocol());
        }
        lab.settle();
        lab
    }

    /// A node that knows no members, on a host of its own: it waits to be added.
    pub(super) fn join(&mut self, protocol: P) -> u64 {
        let id = self.sites.len() as u64 + 1;
        let site = Site {
            id: NodeId(id),
            host: self.network.add_host(),
            files: MemFiles::new(),
            incarnation: Incarnation(id),
            known: Vec::new(),
            node: None,
            told: Arc::default(),
            is_saving_stalled: false,
            is_log_stalled: false,
            is_stalled: false,
            stalled: VecDeque::new(),
            resolved: 0,
        };
        self.sites.push(site);
        self.start(id, 0, protocol);
        id
    }

    fn start_with(
        &mut self,
        id: u64,
        members: u64,
        tune: &impl Fn(&mut Config),
        adapter: &adapters::Config,
        protocol: P,
    ) {
        let network = self.network.clone();
        let site = self.site(id);
        let adapter = network.open(site.host, adapter).expect("a mock");
        let member = |id| Member {
            node: NodeId(id),
            address: address(id).to_string(),
            incarnation: site.known.iter().find(|(node, _)| node.0 == id).map(|(_, life)| *life),
        };
        let members = (1..=members).map(member).collect();
        let mut config = Config::new(CLUSTER, site.id, site.incarnation, members, id);
        config.incarnations.clone_from(&site.known);
        tune(&mut config);
        let log = LogIdentity {
            cluster: ClusterId::from_name(CLUSTER),
            node: site.id,
            incarnation: site.incarnation,
            group: GroupId(0),
        };
        let disk = storage::Config {
            segment_bytes: 1 << 20,
            first_segment_bytes: 64 << 10,
            ..storage::Config::default()
        };
        let (storage, recovered) = DiskLog::open(site.files.clone(), log, disk).expect("a log");
        let parts = Parts {
            adapter,
            protocol,
            storage,
            recovered,
            machine: Tape::default(),
        };
        let told = Arc::clone(&site.told);
        let observer = move |notice: kraft::node::Notice<'_>| {
            told.lock().expect("no panic").push(format!("{notice:?}"));
        };
        let mut node = Node::open(config, parts, observer).expect("a node");
        let options = ListenOptions::default();
        node.listen(Role::Peer, &address(id), options).expect("a port");
        node.listen(Role::Client, &clients(id), options).expect("a port");
        site.node = Some(node);
    }

    /// Starts a node that is gone, with what its disk has.
    pub(super) fn start(&mut self, id: u64, members: u64, protocol: P) {
        self.start_with(id, members, &|_| (), &adapters::Config::default(), protocol);
        self.settle();
    }

    /// Ends a node's process as `kill -9` does.
    pub(super) fn kill(&mut self, id: u64) {
        let host = self.site(id).host;
        self.network.crash(host);
        self.site(id).node = None;
    }

    /// Wipes the disk of a node that is gone: another life begins.
    pub(super) fn wipe(&mut self, id: u64) {
        let site = self.site(id);
        site.files = MemFiles::new();
        site.known.clear();
        site.incarnation.0 += 100;
    }

    pub(super) fn site(&mut self, id: u64) -> &mut Site<P> {
        &mut self.sites[id as usize - 1]
    }

    pub(super) fn host(&self, id: u64) -> HostId {
        self.sites[id as usize - 1].host
    }

    /// Whether a node runs.
    pub(super) fn is_up(&self, id: u64) -> bool {
        self.sites[id as usize - 1].node.is_some()
    }

    pub(super) fn node(&self, id: u64) -> &MemNode<P> {
        self.sites[id as usize - 1].node.as_ref().expect("it runs")
    }

    pub(super) fn node_mut(&mut self, id: u64) -> &mut MemNode<P> {
        self.site(id).node.as_mut().expect("it runs")
    }

    pub(super) fn handle(&self, id: u64) -> Handle {
        self.node(id).handle()
    }

    pub(super) fn state(&self, id: u64) -> NodeState {
        self.node(id).status().state
    }

    /// What the operator of a node was told that has `part` in it.
    pub(super) fn told(&self, id: u64, part: &str) -> Vec<String> {
        let told = self.sites[id as usize - 1].told.lock().expect("no panic");
        told.iter().filter(|line| line.contains(part)).cloned().collect()
    }

    /// The files on a node's disk, with their folders.
    pub(super) fn files(&self, id: u64) -> Vec<String> {
        let content = self.sites[id as usize - 1].files.content();
        content.keys().map(|path| path.display().to_string()).collect()
    }

    // Time.

    /// Lets every node do what it can do without time.
    pub(super) fn settle(&mut self) {
        self.run_for(Duration::ZERO);
    }

    /// Lets time pass.
    pub(super) fn run_for(&mut self, span: Duration) {
        let until = self.network.now() + span;
        while self.step(until) {}
    }

    /// Lets time pass until something holds.
    #[track_caller]
    pub(super) fn run_until(&mut self, mut holds: impl FnMut(&mut Self) -> bool) {
        let until = self.network.now() + PATIENCE;
        while !holds(self) {
            assert!(self.step(until), "it did not come to hold in {PATIENCE:?}");
        }
    }

    /// Lets one node do one turn, or time pass to the next.
    pub(super) fn run_one(&mut self) {
        let until = self.network.now() + PATIENCE;
        self.step(until);
    }

    /// Lets the next thing happen; whether there was one before `until`.
    fn step(&mut self, until: Instant) -> bool {
        let nodes = self.sites.iter_mut().filter_map(|site| site.node.as_mut());
        let next = nodes.map(|node| node.next_deadline()).fold(until, Instant::min);
        if let Some(host) = self.network.advance(next) {
            self.sites[host.index()].turn();
            return true;
        }
        let now = self.network.now();
        let mut turned = false;
        for site in &mut self.sites {
            if site.node.as_mut().is_some_and(|node| node.next_deadline() <= now) {
                site.turn();
                turned = true;
            }
        }
        turned || now < until
    }

    /// Runs until a node leads that everybody follows; returns it.
    #[track_caller]
    pub(super) fn elect(&mut self) -> u64 {
        let mut leader = NodeId::NONE;
        self.run_until(|lab| {
            let mut statuses = lab.sites.iter().filter_map(|site| Some(site.node.as_ref()?.status()));
            let first = statuses.next().expect("one runs");
            leader = first.leader;
            leader.is_some() && first.commit.0 > 0 && statuses.all(|status| status.leader == leader)
        });
        leader.0
    }

    // By hand.

    /// A connection at the clients' port, where nothing was said so far.
    pub(super) fn dial(&mut self, id: u64) -> Line {
        self.dial_at(&clients(id))
    }

    /// A connection at the peers' port, where nothing was said so far.
    pub(super) fn dial_as_peer(&mut self, id: u64) -> Line {
        self.dial_at(&address(id))
    }

    fn dial_at(&mut self, at: &Endpoint) -> Line {
        let line = Line::new(self.network.dial(at).expect("it listens"));
        self.settle();
        line
    }

    /// A client that was welcomed.
    #[track_caller]
    pub(super) fn client(&mut self, id: u64) -> Line {
        let mut line = self.dial(id);
        line.say(&line::client());
        self.settle();
        assert!(line.heard().concat().starts_with("Welcome"));
        line
    }

    /// The node `from`, by hand, welcomed by the node `id`.
    #[track_caller]
    pub(super) fn peer(&mut self, from: u64, id: u64) -> Line {
        let mut line = self.dial_as_peer(id);
        line.say(&line::peer(from, id, from));
        self.settle();
        assert!(line.heard().concat().starts_with("Welcome"));
        line
    }
}

/// Where peers reach a node.
pub(super) fn address(id: u64) -> Endpoint {
    Endpoint::Tcp(([10, 0, 0, id as u8], 7000).into())
}

fn clients(id: u64) -> Endpoint {
    Endpoint::Tcp(([10, 0, 0, id as u8], 8000).into())
}

impl<P: Protocol> Site<P> {
    /// Turns the node until it has nothing more to do; its blocking work is done here, unless its disk stalls.
    fn turn(&mut self) {
        let Some(node) = &mut self.node else { return };
        node.turn(Some(Instant::ZERO)).expect("the node goes on");
        loop {
            let node = self.node.as_mut().expect("it is there");
            while let Some(task) = node.next_task() {
                self.stalled.push_back(task);
            }
            let runs = |task: &Task<_>| match task {
                Task::Resolve { .. } => true,
                Task::Snapshot(work) if work.lane() != SnapshotLane::Pieces => {
                    !self.is_stalled && !self.is_saving_stalled
                }
                Task::Storage(_) => !self.is_stalled && !self.is_log_stalled,
                _ => !self.is_stalled,
            };
            let Some(at) = self.stalled.iter().position(runs) else {
                return;
            };
            self.perform(at);
        }
    }

    /// Does blocking work that waits.
    fn perform(&mut self, at: usize) {
        let task = self.stalled.remove(at).expect("it was found");
        let done = match task {
            Task::Storage(work) => Done::Storage(work.run()),
            Task::Snapshot(work) => Done::Snapshot(work.run()),
            // All others have addresses.
            Task::Resolve { node, name } => {
                self.resolved += 1;
                let addresses = Err(io::Error::other(format!("nobody knows {name}")));
                Done::Resolved { node, addresses }
            }
            Task::Remember { node, incarnation } => {
                self.known.push((node, incarnation));
                Done::Remembered {
                    node,
                    incarnation,
                    result: Ok(()),
                }
            }
            Task::ForgetDamage => Done::DamageForgotten(Ok(())),
        };
        let node = self.node.as_mut().expect("it has work");
        node.complete(done).expect("the disk works");
        node.settle().expect("the node goes on");
    }

    /// A disk that stalls does the first thing that it was given, and no more.
    pub(super) fn do_one(&mut self) {
        self.perform(0);
        self.turn();
    }

    /// The disk finishes what it was given.
    pub(super) fn unstall(&mut self) {
        (self.is_stalled, self.is_saving_stalled, self.is_log_stalled) = (false, false, false);
        self.turn();
    }
}
