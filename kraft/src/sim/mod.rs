//! A cluster in a test: whole nodes in one thread of virtual time.
//!
//! The driver, the protocol, the log and the state machine are the real ones; the adapter is the mock's network, the
//! disk keeps what was synced and forgets the rest. A run follows from its seed byte for byte. Nodes crash, lose power,
//! stall and are cut off, while users read and write; laws R1-R11 are checked after every step, and the users' history at
//! the end.
//!
//! ```
//! use kraft::sim::{Faults, Options, run};
//!
//! let report = run(&Options { seed: 7, faults: Faults::ALL, ..Options::default() }).expect("every law holds");
//! assert!(report.committed > 0);
//! ```

mod host;
mod user;
mod watch;

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use kraft_adapters::mock::{Conditions, HostId, Network};
use kraft_core::id::{Index, NodeId, Term};
use kraft_core::laws::Laws;
use kraft_core::message::NodeState;
use kraft_core::time::Instant;

use self::host::{DiskSpeed, Host};
use self::user::{History, User};

/// What a run is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Decides everything that happens by chance.
    pub seed: u64,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Users, each with several operations at a time.
    pub users: usize,
    /// Keys that they share.
    pub keys: usize,
    /// How often a user begins an operation, on average.
    pub pace: Duration,
    /// How long faults happen, in virtual time. Then all is healed, and the cluster must commit within
    /// [`heal_max`](Self::heal_max).
    pub span: Duration,
    /// What goes wrong.
    pub faults: Faults,
    /// How long a healed cluster may take to commit again (law R9).
    pub heal_max: Duration,
}

impl Default for Options {
    /// Three nodes, three users, ten seconds, nothing goes wrong.
    fn default() -> Self {
        Self {
            seed: 0,
            nodes: 3,
            users: 3,
            keys: 4,
            pace: Duration::from_millis(20),
            span: Duration::from_secs(10),
            faults: Faults::NONE,
            heal_max: Duration::from_secs(20),
        }
    }
}

/// How often each kind of fault begins, on average; zero is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// A node's process ends as by `kill -9`, and starts again.
    pub crash: Duration,
    /// A node loses power: what was not synced may be lost or torn.
    pub power: Duration,
    /// Nodes are cut off from each other, wholly or one way.
    pub partition: Duration,
    /// A node does not get to run for a while.
    pub pause: Duration,
    /// All connections of a node break.
    pub reset: Duration,
    /// What is sent is lost and sent again, and connections time out.
    pub loss: bool,
    /// Syncs take a second now and then.
    pub stall: bool,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        crash: Duration::ZERO,
        power: Duration::ZERO,
        partition: Duration::ZERO,
        pause: Duration::ZERO,
        reset: Duration::ZERO,
        loss: false,
        stall: false,
    };

    /// Everything goes wrong, every few seconds.
    pub const ALL: Self = Self {
        crash: Duration::from_secs(4),
        power: Duration::from_secs(5),
        partition: Duration::from_secs(3),
        pause: Duration::from_secs(5),
        reset: Duration::from_secs(3),
        loss: true,
        stall: true,
    };
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Operations that users know to have happened.
    pub committed: usize,
    /// Operations that may have happened.
    pub unknown: u64,
    /// Operations that did not happen.
    pub refused: u64,
    /// The highest committed index.
    pub commit: Index,
    /// The highest term.
    pub term: Term,
    /// Faults that began.
    pub faults: u64,
    /// Steps of the simulation.
    pub steps: u64,
    /// A hash of every node's states: equal for equal runs.
    pub trace: u64,
}

/// A law that did not hold, or a node that died of something that it should bear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The run's seed.
    pub seed: u64,
    /// When, in virtual time.
    pub at: Instant,
    /// What.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} at {:?}: {}", self.seed, self.at, self.what)
    }
}

impl std::error::Error for Violation {}

/// Runs a cluster.
///
/// # Errors
///
/// The first [`Violation`].
pub fn run(options: &Options) -> Result<Report, Violation> {
    let mut cluster = Cluster::new(options);
    cluster.run().map_err(|what| Violation {
        seed: options.seed,
        at: cluster.network.now(),
        what,
    })
}

/// A fault that ends by itself.
#[derive(Clone, Copy, Debug)]
enum Ailment {
    Down(usize),
    Paused(usize),
    Parted,
}

struct Cluster {
    options: Options,
    network: Network,
    rng: Rng,
    hosts: Vec<Host>,
    members: Vec<(NodeId, HostId)>,
    users: Vec<User>,
    laws: Laws,
    history: History,
    /// What is to be mended, and when.
    ailments: Vec<(Instant, Ailment)>,
    /// When each kind of fault begins next.
    onsets: [Option<Instant>; 5],
    report: Report,
}

impl Cluster {
    fn new(options: &Options) -> Self {
        let network = Network::new(options.seed);
        let mut rng = Rng::with_seed(options.seed ^ 0x5eed);
        let speed = DiskSpeed {
            usual: Duration::from_micros(400),
            stall: Duration::from_millis(1500),
            stalls: if options.faults.stall { 0.002 } else { 0.0 },
        };
        let members: Vec<_> = (1..=options.nodes as u64)
            .map(|id| (NodeId(id), network.add_host()))
            .collect();
        let hosts = members
            .iter()
            .map(|(id, host)| Host::new(*id, *host, rng.u64(..), speed))
            .collect();
        let laws = Laws::new(options.nodes);
        Self {
            options: options.clone(),
            network,
            rng,
            hosts,
            members,
            users: Vec::new(),
            laws,
            history: History::default(),
            ailments: Vec::new(),
            onsets: [None; 5],
            report: Report::default(),
        }
    }

    fn run(&mut self) -> Result<Report, String> {
        for host in &mut self.hosts {
            host.start(&self.network, &self.members)?;
        }
        let nodes: Vec<_> = self.members.iter().map(|(_, host)| *host).collect();
        for _ in 0..self.options.users {
            let seed = self.rng.u64(..);
            let Options { keys, pace, .. } = self.options;
            let user = User::new(&self.network, &nodes, keys, pace, seed);
            self.users.push(user.map_err(|error| error.to_string())?);
        }
        if self.options.faults.loss {
            self.network.set_conditions(Conditions {
                loss: 0.02,
                ..Conditions::LAN
            });
        }
        for kind in 0..self.onsets.len() {
            self.draw_onset(kind);
        }
        self.step_until(Instant::ZERO + self.options.span, |_| false)?;
        self.heal()?;
        self.laws.healed(self.network.now(), self.options.heal_max);
        let deadline = self.network.now() + self.options.heal_max;
        let before = self.history.committed();
        self.step_until(deadline, |cluster| {
            cluster.history.committed() > before + cluster.users.len()
        })?;
        for user in &mut self.users {
            user.is_done = true;
        }
        // Everybody must come to the same state.
        let deadline = self.network.now() + self.options.heal_max;
        self.step_until(deadline, |cluster| {
            cluster.agree() && cluster.users.iter().all(User::is_idle)
        })?;
        if !self.agree() {
            let states: Vec<_> = self.hosts.iter().map(Host::state).collect();
            return Err(format!("the nodes do not come to one state: {states:?} (R5)"));
        }
        let views: Vec<_> = self.hosts.iter().collect();
        self.laws.check_all(&views).map_err(|broken| broken.to_string())?;
        self.history.check()?;
        self.report.committed = self.history.committed();
        self.report.unknown = self.history.unknown;
        self.report.refused = self.history.refused;
        self.report.commit = self.laws.committed();
        Ok(self.report)
    }

    fn agree(&self) -> bool {
        let states: Vec<_> = self.hosts.iter().map(Host::state).collect();
        let all_applied = states
            .iter()
            .flatten()
            .all(|(applied, _)| *applied == self.laws.committed());
        states.iter().all(Option::is_some) && all_applied && states.windows(2).all(|pair| pair[0] == pair[1])
    }

    fn step_until(&mut self, until: Instant, mut is_enough: impl FnMut(&Self) -> bool) -> Result<(), String> {
        while self.network.now() < until && !is_enough(self) {
            self.step(until)?;
        }
        Ok(())
    }

    /// Lets the next thing happen, whatever it is.
    fn step(&mut self, until: Instant) -> Result<(), String> {
        self.report.steps += 1;
        let hosts = self.hosts.iter_mut().filter_map(Host::deadline);
        let users = self.users.iter_mut().filter_map(User::deadline);
        let faults = self
            .onsets
            .iter()
            .flatten()
            .copied()
            .chain(self.ailments.iter().map(|(at, _)| *at));
        let next = hosts.chain(users).chain(faults).min().unwrap_or(until).min(until);
        match self.network.advance(next) {
            Some(id) => self.turn(id)?,
            None => self.turn_due()?,
        }
        self.check()
    }

    fn turn(&mut self, id: HostId) -> Result<(), String> {
        let now = self.network.now();
        if let Some(host) = self.hosts.iter_mut().find(|host| host.host == id) {
            return host.turn(now);
        }
        let user = self
            .users
            .iter_mut()
            .find(|user| user.host == id)
            .expect("a host is a node's or a user's");
        user.turn(now, &mut self.history).map_err(|error| error.to_string())
    }

    /// The clock stands at a deadline that the network does not know of.
    fn turn_due(&mut self) -> Result<(), String> {
        let now = self.network.now();
        for host in &mut self.hosts {
            if host.deadline().is_some_and(|at| at <= now) {
                host.turn(now)?;
            }
        }
        for user in &mut self.users {
            if user.deadline().is_some_and(|at| at <= now) {
                user.turn(now, &mut self.history).map_err(|error| error.to_string())?;
            }
        }
        while let Some(at) = self.ailments.iter().position(|(at, _)| *at <= now) {
            let (_, ailment) = self.ailments.remove(at);
            self.mend(ailment)?;
        }
        for kind in 0..self.onsets.len() {
            if self.onsets[kind].is_some_and(|at| at <= now) {
                self.strike(kind);
                self.draw_onset(kind);
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        let views: Vec<_> = self.hosts.iter().collect();
        self.laws.check(&views).map_err(|broken| broken.to_string())?;
        self.laws
            .time(self.network.now())
            .map_err(|broken| broken.to_string())?;
        for host in &self.hosts {
            let Some(node) = &host.node else { continue };
            let status = node.status();
            self.report.term = self.report.term.max(status.hard.term);
            let leads = u64::from(status.state == NodeState::Leader);
            for number in [status.hard.term.0, status.commit.0, status.last.0, leads] {
                self.report.trace = (self.report.trace ^ number)
                    .wrapping_mul(0x0100_0000_01b3)
                    .rotate_left(7);
            }
        }
        Ok(())
    }

    fn draw_onset(&mut self, kind: usize) {
        let Faults {
            crash,
            power,
            partition,
            pause,
            reset,
            ..
        } = self.options.faults;
        let mean = [crash, power, partition, pause, reset][kind];
        self.onsets[kind] = (!mean.is_zero()).then(|| self.network.now() + mean.mul_f64(2.0 * self.rng.f64()));
    }

    fn strike(&mut self, kind: usize) {
        self.report.faults += 1;
        let at = self.rng.usize(..self.hosts.len());
        let later = self.network.now() + Duration::from_millis(self.rng.u64(10..2000));
        match kind {
            0 | 1 => {
                let host = &mut self.hosts[at];
                if host.node.is_some() && !host.is_paused {
                    host.crash(&self.network, kind == 1);
                    self.ailments.push((later, Ailment::Down(at)));
                }
            }
            2 => {
                for from in 0..self.hosts.len() {
                    for to in 0..self.hosts.len() {
                        if from != to && self.rng.f64() < 0.4 {
                            self.network.cut(self.hosts[from].host, self.hosts[to].host);
                        }
                    }
                }
                self.ailments.push((later, Ailment::Parted));
            }
            3 => {
                let host = &mut self.hosts[at];
                if host.node.is_some() && !host.is_paused {
                    host.is_paused = true;
                    self.network.freeze(host.host);
                    self.ailments.push((later, Ailment::Paused(at)));
                }
            }
            _ => {
                for other in 0..self.hosts.len() {
                    if other != at {
                        self.network.reset(self.hosts[at].host, self.hosts[other].host);
                    }
                }
            }
        }
    }

    fn mend(&mut self, ailment: Ailment) -> Result<(), String> {
        match ailment {
            Ailment::Down(at) => self.hosts[at].start(&self.network, &self.members),
            Ailment::Paused(at) => {
                self.hosts[at].is_paused = false;
                self.network.thaw(self.hosts[at].host);
                Ok(())
            }
            Ailment::Parted => {
                self.network.heal();
                Ok(())
            }
        }
    }

    fn heal(&mut self) -> Result<(), String> {
        self.onsets = [None; 5];
        for (_, ailment) in std::mem::take(&mut self.ailments) {
            self.mend(ailment)?;
        }
        self.network.heal();
        self.network.set_conditions(Conditions::LAN);
        Ok(())
    }
}
