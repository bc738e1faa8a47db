//! The stepping of a run: whatever happens next, and what must hold after it.

use std::time::Duration;

use fastrand::Rng;
use kraft_adapters::mock::{HostId, Network};
use kraft_core::id::NodeId;
use kraft_core::laws::Laws;
use kraft_core::message::NodeState;
use kraft_core::time::Instant;

use super::atlas::Atlas;
use super::audit::Audit;
use super::faults::Kind;
use super::host::{Fall, Host, Stage, founding};
use super::members::{Roll, SPARES, describe};
use super::network::{Weather, relay};
use super::operator::Operator;
use super::plan::{Plan, stream};
use super::report::{Changed, Report, Violation};
use super::states::States;
use super::strike::Ailment;
use super::trace::Step;
use super::user::{History, User};
use super::{Faults, Options};

/// Purposes of generators; those of faults come first.
const NETWORK: u64 = 100;
const HOSTS: u64 = 200;
const USERS: u64 = 300;
const OPERATOR: u64 = 299;

/// Steps that a violation tells.
const STEPS_TOLD: usize = 60;

/// A disk that is full and a log that is damaged keep a node from starting; it tries again after so long.
pub(super) const RESTART_EVERY: Duration = Duration::from_secs(2);

/// A turn that always has more to do would hang the run.
const STEPS_AT_ONCE_MAX: u32 = 1_000_000;

pub(super) struct Cluster {
    pub(super) options: Options,
    pub(super) plan: Plan,
    pub(super) network: Network,
    pub(super) weather: Weather,
    /// Those of the nodes that the cluster is founded with come first.
    pub(super) hosts: Vec<Host>,
    pub(super) roll: Roll,
    /// Where members change.
    pub(super) operator: Option<Operator>,
    pub(super) users: Vec<User>,
    /// When each user has something to do that the network does not know of.
    pub(super) user_deadlines: Vec<Option<Instant>>,
    pub(super) laws: Laws,
    states: States,
    pub(super) atlas: Atlas,
    pub(super) audit: Audit,
    history: History,
    /// Where there are leases no clock jumps before: within an election timeout one jump is as much as they bear.
    pub(super) jumps_at: Instant,
    /// The users are done.
    is_over: bool,
    /// Steps since time went on.
    steps_at_once: u32,
    /// What is to be mended, and when.
    pub(super) ailments: Vec<(Instant, Ailment)>,
    /// When each kind of fault begins next.
    onsets: [Option<Instant>; Kind::ALL.len()],
    /// One for each kind.
    pub(super) rngs: Vec<Rng>,
    pub(super) report: Report,
}

impl Cluster {
    pub(super) fn new(options: &Options) -> Self {
        let plan = Plan::draw(options);
        let network = Network::new(stream(options.seed, NETWORK).u64(..));
        let audit = Audit::new();
        let listener = audit.clone();
        network.tap(move |leaving| listener.leaves(leaving));
        // Without a fault that needs it the relay would only hold frames together.
        if [Kind::Duplicate, Kind::Reorder, Kind::Replay]
            .iter()
            .any(|kind| plan.kinds.has(*kind))
        {
            relay(&network);
        }
        let spares = if plan.kinds.has(Kind::Member) { SPARES } else { 0 };
        let all: Vec<_> = (1..=(options.nodes + spares) as u64)
            .map(|id| (NodeId(id), network.add_host()))
            .collect();
        let founders = &all[..options.nodes];
        let new = |(at, (id, host)): (usize, &(NodeId, HostId))| {
            let rng = stream(options.seed, HOSTS + id.0);
            let founders = if at < options.nodes { founders } else { &[] };
            Host::new(*id, *host, founders, rng, plan.setup.clone(), audit.clone())
        };
        let hosts: Vec<_> = all.iter().enumerate().map(new).collect();
        let places = all.iter().map(|(_, host)| *host).collect();
        let roll = Roll::new(founding(founders));
        Self {
            weather: Weather::new(network.clone(), places, plan.calm),
            laws: Laws::new(options.nodes),
            states: States::default(),
            atlas: Atlas::new(options.nodes, options.mode),
            rngs: (1..=Kind::ALL.len() as u64)
                .map(|kind| stream(options.seed, 1000 + kind))
                .collect(),
            options: options.clone(),
            plan,
            network,
            hosts,
            roll,
            operator: None,
            users: Vec::new(),
            user_deadlines: Vec::new(),
            audit,
            history: History::default(),
            jumps_at: Instant::ZERO,
            is_over: false,
            steps_at_once: 0,
            ailments: Vec::new(),
            onsets: [None; Kind::ALL.len()],
            report: Report::default(),
        }
    }

    pub(super) fn run(&mut self) -> Result<Report, String> {
        self.begin()?;
        if self.atlas.is_kept() {
            self.laws.healed(self.network.now(), self.options.heal_max);
        }
        self.step_until(Instant::ZERO + self.options.span, |_| false)?;
        self.onsets = [None; Kind::ALL.len()];
        self.heal()?;
        self.recover()?;
        for user in &mut self.users {
            user.is_done = true;
        }
        // Everybody must come to the same state. An entry at a time, as a seed may have it, that takes a while.
        let deadline = self.network.now() + self.options.heal_max * 3;
        self.step_until(deadline, |cluster| {
            cluster.agree() && cluster.users.iter().all(User::is_idle)
        })?;
        if !self.agree() {
            let tell = |host: &Host| {
                let node = host.node.as_ref();
                let members = node.map(|node| node.configuration()).map(|(at, of)| (at, describe(of)));
                let status = host.last_status();
                format!("{status:?}, members {members:?}, state {:x?}", host.state())
            };
            let serving = self.hosts.iter().filter(|host| host.stage == Stage::Serving);
            let states: Vec<_> = serving.map(tell).collect();
            return Err(format!(
                "the nodes do not come to one state (R5), with {} changes of the members under way, {:?} at last: {}",
                self.operator.as_ref().map_or(0, Operator::under_way),
                describe(&self.roll.last().1),
                states.join("; ")
            ));
        }
        if !self.users.iter().all(User::is_idle) {
            return Err("R9: an operation of a user does not end".to_owned());
        }
        let views: Vec<_> = self.hosts.iter().collect();
        self.laws.check_all(&views).map_err(|broken| broken.to_string())?;
        self.history.check()?;
        Ok(self.tally())
    }

    fn begin(&mut self) -> Result<(), String> {
        for at in 0..self.options.nodes {
            self.start(at)?;
        }
        let nodes = self.addresses();
        for user in 0..self.options.users as u64 {
            let seed = stream(self.options.seed, USERS + user).u64(..);
            let user = User::new(&self.network, &nodes, &self.options, seed).map_err(|error| error.to_string())?;
            self.weather.join(user.host);
            self.users.push(user);
            self.user_deadlines.push(Some(Instant::ZERO));
        }
        if self.plan.kinds.has(Kind::Member) {
            let seed = stream(self.options.seed, OPERATOR).u64(..);
            let operator = Operator::new(&self.network, &nodes, seed).map_err(|error| error.to_string())?;
            self.weather.join(operator.host);
            self.operator = Some(operator);
        }
        for kind in self.plan.kinds.iter() {
            self.draw_onset(kind);
        }
        Ok(())
    }

    /// Healed, the cluster commits again, and users get something done.
    fn recover(&mut self) -> Result<(), String> {
        let now = self.network.now();
        // Whom they know may be gone, and who only reads writes nothing.
        let is_changing = self.operator.is_some();
        self.tell_users(|user, _| is_changing || user.only_reads())?;
        self.laws.healed(now, self.options.heal_max);
        let deadline = now + self.options.heal_max;
        let before = self.history.committed();
        let is_served = |cluster: &Self| cluster.history.committed() > before + cluster.users.len();
        loop {
            let told = self.roll.last().0;
            self.step_until(deadline, |cluster| is_served(cluster) || cluster.roll.last().0 > told)?;
            if is_served(self) || self.network.now() >= deadline {
                break;
            }
            // What was under way is through, and may have left nobody whom they know.
            self.tell_users(|user, members| !user.knows_one_of(members))?;
        }
        if !is_served(self) {
            let served = self.history.committed() - before;
            return Err(format!(
                "R9: healed, the cluster answered {served} operations until {deadline:?}"
            ));
        }
        // Nobody asks for anything from here on.
        self.is_over = true;
        self.laws.hurt();
        Ok(())
    }

    /// Tells those users who the members are.
    fn tell_users(&mut self, is_told: impl Fn(&User, &[HostId]) -> bool) -> Result<(), String> {
        let (now, members) = (self.network.now(), self.member_hosts());
        for (user, deadline) in self.users.iter_mut().zip(&mut self.user_deadlines) {
            if is_told(user, &members) {
                user.comes_to(&members, now).map_err(|error| error.to_string())?;
                *deadline = user.deadline();
            }
        }
        Ok(())
    }

    fn tally(&mut self) -> Report {
        let mut fired = self.report.fired;
        let mut snapped = self.report.snapped;
        for host in &self.hosts {
            fired.add(&host.fired());
            snapped.add(&host.snapped());
        }
        let books = self.audit.books();
        Report {
            fired,
            snapped,
            runs: 1,
            simulated: self.network.now() - Instant::ZERO,
            committed: self.history.committed(),
            unknown: self.history.unknown,
            refused: self.history.refused,
            weaker: self.history.weaker,
            changed: Changed {
                gone: self.hosts.iter().map(|host| host.departures).sum(),
                barred: books.barred,
                ..self
                    .operator
                    .as_ref()
                    .map(|operator| operator.changed)
                    .unwrap_or_default()
            },
            commit: self.laws.committed(),
            recoveries: self.hosts.iter().map(|host| host.recoveries).sum(),
            handled: books.handled,
            trace: books.trace.hash(),
            ..self.report.clone()
        }
    }

    /// What a run tells that failed.
    pub(super) fn violation(&self, what: String) -> Violation {
        Violation {
            options: Options {
                faults: Faults::These(self.plan.kinds),
                ..self.options.clone()
            },
            at: self.network.now(),
            what,
            steps: self.last_steps(),
        }
    }

    /// The last steps, and how every node stands.
    fn last_steps(&self) -> Vec<String> {
        let mut steps = self.audit.books().trace.tail(STEPS_TOLD);
        let serving = self.hosts.iter().filter(|host| host.stage == Stage::Serving);
        steps.extend(serving.map(|host| {
            let up = match (&host.node, host.is_paused, host.is_wiped()) {
                (_, _, true) => "was wiped",
                (None, ..) => "is down",
                (_, true, _) => "is paused",
                _ => "is up",
            };
            let status = host.last_status();
            format!(
                "node {} {up}: {:?} in term {} of leader {}, last {}, durable {}, commit {}, applied {}",
                host.id,
                status.state,
                status.hard.term,
                status.leader,
                status.last,
                status.durable,
                status.commit,
                status.applied
            )
        }));
        steps
    }

    /// Whether every node that has its disk applied all that is committed, and came to the same state.
    fn agree(&self) -> bool {
        let committed = self.laws.committed();
        let newest = &self.roll.last().1;
        let is_member = |host: &&Host| newest.member(host.id).is_some() && !host.is_wiped() && host.rot.is_none();
        let mut members = self.hosts.iter().filter(is_member);
        let are_through = members
            .clone()
            .all(|host| host.node.is_some() && host.last_status().applied == committed);
        if !are_through || !self.are_settled() {
            return false;
        }
        let first = members.next().and_then(Host::state);
        members.all(|host| host.state() == first)
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
        let before = self.network.now();
        let hosts = self.hosts.iter().filter_map(Host::deadline);
        let users = self.user_deadlines.iter().flatten().copied();
        let faults = self.onsets.iter().flatten().copied();
        let faults = faults.chain(self.ailments.iter().map(|(at, _)| *at));
        let operator = self.operator.as_mut().and_then(Operator::deadline);
        let faults = faults.chain(operator);
        let next = hosts.chain(users).chain(faults).min().unwrap_or(until).min(until);
        match self.network.advance(next) {
            Some(id) => self.turn(id)?,
            None => self.turn_due()?,
        }
        let now = self.network.now();
        self.steps_at_once = if now == before { self.steps_at_once + 1 } else { 0 };
        if self.steps_at_once > STEPS_AT_ONCE_MAX {
            return Err(format!("R9: {STEPS_AT_ONCE_MAX} steps, and time stands still"));
        }
        self.laws.time(now).map_err(|broken| broken.to_string())
    }

    fn turn(&mut self, id: HostId) -> Result<(), String> {
        match id.index().checked_sub(self.hosts.len()) {
            None => self.turn_host(id.index()),
            Some(user) if user < self.users.len() => self.turn_user(user),
            Some(_) => self.turn_operator(self.network.now()),
        }
    }

    fn turn_user(&mut self, at: usize) -> Result<(), String> {
        let now = self.network.now();
        let history = &mut self.history;
        self.users[at].turn(now, history).map_err(|error| error.to_string())?;
        self.user_deadlines[at] = self.users[at].deadline();
        Ok(())
    }

    fn turn_host(&mut self, at: usize) -> Result<(), String> {
        let now = self.network.now();
        let fell = self.hosts[at].turn(now).err();
        self.check(at)?;
        let host = &mut self.hosts[at];
        if fell.is_none() && host.node.as_ref().is_some_and(|node| node.is_stopped()) {
            // A process that was asked to stop has; it starts again when its time has come.
            let was_removed = host.node.as_ref().is_some_and(|node| node.is_removed());
            host.crash(&self.network, false);
            if was_removed {
                self.depart(at)?;
            }
        }
        match fell {
            Some(fall) => self.fell(at, fall),
            None => Ok(()),
        }
    }

    /// The clock stands at a deadline that the network does not know of.
    fn turn_due(&mut self) -> Result<(), String> {
        let now = self.network.now();
        for at in 0..self.hosts.len() {
            if self.hosts[at].deadline().is_some_and(|due| due <= now) {
                self.turn_host(at)?;
            }
        }
        for at in 0..self.users.len() {
            if self.user_deadlines[at].is_some_and(|due| due <= now) {
                self.turn_user(at)?;
            }
        }
        self.turn_operator(now)?;
        while let Some(at) = self.ailments.iter().position(|(at, _)| *at <= now) {
            let (_, ailment) = self.ailments.remove(at);
            self.mend(ailment)?;
        }
        for kind in Kind::ALL {
            if self.onsets[kind.index()].is_some_and(|at| at <= now) {
                self.strike(kind)?;
                self.draw_onset(kind);
            }
        }
        Ok(())
    }

    fn draw_onset(&mut self, kind: Kind) {
        let wait = self.plan.wait(kind, &mut self.rngs[kind.index()]);
        self.onsets[kind.index()] = Some(self.network.now() + wait);
    }

    /// After a turn of the node of the host at `at`.
    fn check(&mut self, at: usize) -> Result<(), String> {
        if let Some(broken) = self.audit.broken() {
            return Err(broken);
        }
        let host = &self.hosts[at];
        if host.is_wiped() {
            // A relay may pass on to one stranger what another one's old self had sent: it follows nobody by that.
            let strangers = self.hosts.iter().filter(|host| host.is_wiped()).count();
            let is_certain = strangers == 1 || !self.plan.kinds.has(Kind::Replay);
            return if is_certain { check_stranger(host) } else { Ok(()) };
        }
        let views: Vec<_> = self.hosts.iter().collect();
        let committed = self.laws.committed();
        self.laws
            .check_turned(&views, at)
            .map_err(|broken| broken.to_string())?;
        if let Some(index) = self.hosts[at].early_snapshot() {
            let id = self.hosts[at].id;
            return Err(format!(
                "node {id} wrote a snapshot up to {index} before its log was durable (R6)"
            ));
        }
        self.enroll(committed, at);
        self.check_members(at)?;
        if let Some(state) = self.hosts[at].new_state() {
            self.states.came_to(self.hosts[at].id, state)?;
        }
        let now = self.network.now();
        if self.laws.committed() > committed && self.atlas.is_kept() && !self.is_over {
            self.laws.healed(now, self.options.heal_max);
        }
        let status = self.hosts[at].last_status();
        self.report.term = self.report.term.max(status.hard.term);
        let trace = &mut self.audit.books().trace;
        trace.note(now, at, status);
        Ok(())
    }

    /// The node of the host at `at` ended, or did not start.
    pub(super) fn fell(&mut self, at: usize, fall: Fall) -> Result<(), String> {
        let now = self.network.now();
        let host = &mut self.hosts[at];
        let (is_expected, what) = match fall {
            // Nothing may be cut away: the file is named, and the node stays down.
            Fall::Damaged(what) => (host.is_rotten(&what), what),
            // A snapshot that was just received may rot before it is read.
            Fall::Disk(what) => (host.has_bad_disk() || host.is_rotten(&what), what),
            Fall::Wrong(what) => (false, what),
        };
        if !is_expected {
            return Err(format!("R9: node {} ended without need: {what}", host.id));
        }
        if host.node.is_some() {
            host.crash(&self.network, false);
        }
        let down = Step::Ended(host.id, what.into());
        self.audit.books().trace.push(now, down);
        if !self.is_down(at) {
            self.ailments.push((now + RESTART_EVERY, Ailment::Down(at)));
        }
        Ok(())
    }

    pub(super) fn is_down(&self, at: usize) -> bool {
        let down = |ailment: &Ailment| matches!(ailment, Ailment::Down(of) if *of == at);
        self.ailments.iter().any(|(_, ailment)| down(ailment))
    }

    /// Starts the node of the host at `at`.
    pub(super) fn start(&mut self, at: usize) -> Result<(), String> {
        let now = self.network.now();
        let host = &mut self.hosts[at];
        match host.start(&self.network) {
            Ok(()) => {
                let id = host.id;
                if let Some(file) = host.overlooked() {
                    return Err(format!("node {id} started although {file} is damaged (R6)"));
                }
                let started = Step::Started(host.id);
                self.audit.books().trace.push(now, started);
                self.check(at)
            }
            Err(fall) => self.fell(at, fall),
        }
    }
}

/// A node whose disk was wiped is nobody: nothing of the cluster reaches it, and it leads nobody.
fn check_stranger(host: &Host) -> Result<(), String> {
    let Some(node) = &host.node else { return Ok(()) };
    let status = node.status();
    let is_nobody = status.state != NodeState::Leader && status.last.0 == 0 && status.commit.0 == 0;
    match is_nobody {
        true => Ok(()),
        false => Err(format!(
            "node {}, whose disk was wiped, was taken for its old self: {status:?} (R6)",
            host.id
        )),
    }
}
