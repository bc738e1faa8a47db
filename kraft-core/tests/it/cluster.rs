//! Nodes joined by a network, in virtual time. Every step is drawn from a seed, and after every step the laws hold.

mod node;
mod rot;
mod snapshots;
mod wire;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use kraft_core::id::{Incarnation, Index, NodeId, RequestId, SyncId, Term};
use kraft_core::laws::{Laws, Mark, View};
use kraft_core::log::{Log, Proposal, Tail};
use kraft_core::membership::{Configuration, Plan, Seat, Step};
use kraft_core::message::{Body, Change, Entry, EntryKind, NodeState, Refusal};
use kraft_core::raft::{Config, Output, Raft, Status};
use kraft_core::time::Instant;

pub(crate) use self::node::Node;
use self::snapshots::Happening;
pub(crate) use self::wire::Wire;
use crate::disk::Disk;

pub(crate) fn owned(entry: kraft_core::message::EntryRef<'_>) -> Entry {
    Entry {
        term: entry.term,
        kind: entry.kind,
        crc: entry.crc,
        payload: Bytes::copy_from_slice(entry.payload),
    }
}

fn mark(entry: &Entry) -> Mark {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    Mark {
        term: entry.term,
        digest: entry.payload.iter().fold(entry.kind as u64 + 7, fold),
    }
}

#[derive(Debug)]
enum Event {
    Deliver(Wire),
    Synced(NodeId, u64, SyncId),
    Loaded(NodeId, u64, Index, Vec<Entry>),
    Applied(NodeId, u64, Index),
    Snapshot(Happening),
    /// A node's disk holds no word of its damage any more.
    Forgot(NodeId, u64),
    /// The end of a turn that took several inputs.
    Turned(NodeId),
}

#[derive(Debug)]
struct Scheduled(Instant, u64, Event);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// How the network and the disks behave.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) delay: Range<u64>,
    /// Of a thousand messages.
    pub(crate) lost: u32,
    pub(crate) doubled: u32,
    /// Of answers to heartbeats, on top.
    pub(crate) answers: Range<u64>,
    pub(crate) sync: Range<u64>,
    /// Entries are applied later than they are handed out.
    pub(crate) lazy_apply: bool,
    /// How long a turn takes inputs before its outputs are drained; zero for one input a turn.
    pub(crate) turn: u64,
}

/// More than any node asks for before it waits.
pub(crate) const DRAIN_MAX: usize = 10_000;

pub(crate) const FAIR: Weather = Weather {
    delay: 50..200,
    lost: 0,
    doubled: 0,
    answers: 0..1,
    sync: 100..300,
    lazy_apply: false,
    turn: 0,
};

/// More terms than begin in five seconds by time-outs and by what a test asks for: leaders that hand on and on are not
/// waited for.
const TERMS_MAX: u64 = 500;

/// No weather has longer turns.
const TURN_MAX: Duration = Duration::from_millis(20);

type Filter = Box<dyn FnMut(&Wire) -> bool>;

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) laws: Laws,
    pub(crate) weather: Weather,
    /// Directed links that lose everything.
    pub(crate) cut: BTreeSet<(u64, u64)>,
    /// Loses what it says false of.
    pub(crate) filter: Option<Filter>,
    pub(crate) memory: u64,
    /// How long it takes until a received snapshot is whole and durable.
    pub(crate) snapshot_delay: Range<u64>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    proposals: u64,
    /// Reads that wait: what was committed when they began.
    waiting: BTreeMap<RequestId, Index>,
    reads: u64,
    /// How reads ended.
    pub(crate) answers: BTreeMap<RequestId, Result<Index, Refusal>>,
    /// How often a log was damaged, and how often its node made up for that.
    pub(crate) rotted: u64,
    pub(crate) made_good: u64,
    /// Answers by lease that were right.
    pub(crate) leases: u64,
    /// Messages sent, by no means all delivered.
    pub(crate) sent: u64,
    /// Transfers under way: at whom, and by when each must have ended.
    pub(crate) transfers: Vec<(u64, Instant)>,
    /// How transfers ended: at whom, to whom, and how.
    pub(crate) transferred: Vec<(u64, NodeId, Result<NodeId, Refusal>)>,
    /// Whom a leader told to campaign, and in which term.
    told: BTreeSet<(u64, Term)>,
    /// The highest term that anybody was in.
    term_max: Term,
    seed: u64,
}

impl Cluster {
    pub(crate) fn new(voters: u64, seed: u64) -> Self {
        Self::with(voters, seed, |_| {})
    }

    pub(crate) fn with(voters: u64, seed: u64, change: impl Fn(&mut Config)) -> Self {
        let ids: Vec<_> = (1..=voters).map(NodeId).collect();
        let mut cluster = Self {
            nodes: Vec::new(),
            now: Instant::ZERO,
            rng: Rng::with_seed(seed),
            laws: Laws::new(ids.len()),
            weather: FAIR,
            cut: BTreeSet::new(),
            filter: None,
            memory: 1 << 20,
            snapshot_delay: 100..5_000,
            queue: BinaryHeap::new(),
            scheduled: 0,
            proposals: 0,
            waiting: BTreeMap::new(),
            reads: 0,
            answers: BTreeMap::new(),
            rotted: 0,
            made_good: 0,
            leases: 0,
            sent: 0,
            transfers: Vec::new(),
            transferred: Vec::new(),
            told: BTreeSet::new(),
            term_max: Term(0),
            seed,
        };
        for id in &ids {
            let mut config = Config::new(*id, ids.clone(), seed);
            change(&mut config);
            let mut node = Node::new(config, Disk::default());
            node.start(Instant::ZERO, cluster.memory);
            cluster.nodes.push(node);
        }
        cluster
    }

    /// One more node, that waits to be added.
    pub(crate) fn join(&mut self) -> u64 {
        let id = self.nodes.len() as u64 + 1;
        let mut config = self.nodes[0].config.clone();
        (config.id, config.voters, config.seed) = (NodeId(id), Vec::new(), self.seed);
        let mut node = Node::new(config, Disk::default());
        node.start(self.now, self.memory);
        self.nodes.push(node);
        self.drain(id);
        id
    }

    pub(crate) fn change(&mut self, id: u64, change: &Change<'_>) -> Result<Index, Refusal> {
        let result = self.with_raft(id, |raft, log, now| raft.change(change, Incarnation(0), now, log));
        result.unwrap_or(Err(Refusal::Stopping))
    }

    pub(crate) fn reconfigure(&mut self, id: u64, steps: &[Step]) -> Result<Index, Refusal> {
        let result = self.with_raft(id, |raft, log, now| raft.reconfigure(steps, now, log));
        result.unwrap_or(Err(Refusal::Stopping))
    }

    /// Whether there is a leader that is to stay, with a configuration that is to stay.
    pub(crate) fn changes_are_through(&self) -> bool {
        let Some(raft) = self.leader().and_then(|leader| self.node(leader).raft.as_ref()) else {
            return false;
        };
        let (index, configuration) = raft.configuration();
        let is_planned = |seat| matches!(seat, Seat::Learner(Plan::Promote | Plan::Replace(_)));
        let is_planned = configuration.members().iter().any(|member| is_planned(member.seat));
        let is_open = configuration.is_joint() || is_planned || index > raft.status().commit;
        !is_open && configuration.votes(raft.status().id)
    }

    /// The configuration in force at a node that is up.
    pub(crate) fn configuration(&self, id: u64) -> &Configuration {
        self.node(id).raft.as_ref().expect("it is up").configuration().1
    }

    pub(crate) fn node(&self, id: u64) -> &Node {
        &self.nodes[id as usize - 1]
    }

    pub(crate) fn status(&self, id: u64) -> Status {
        self.node(id).status()
    }

    pub(crate) fn ids(&self) -> Range<u64> {
        1..self.nodes.len() as u64 + 1
    }

    /// The leader of the highest term among the nodes that are up.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leads = |id: &u64| self.node(*id).is_up() && self.status(*id).state == NodeState::Leader;
        self.ids().filter(leads).max_by_key(|id| self.status(*id).hard.term)
    }

    pub(crate) fn with_raft<T>(&mut self, id: u64, act: impl FnOnce(&mut Raft, &mut Tail, Instant) -> T) -> Option<T> {
        let turn = self.weather.turn;
        let node = &mut self.nodes[id as usize - 1];
        if turn > 0 && node.raft.is_some() && !node.is_turning {
            node.said = node.status();
            node.is_turning = true;
            node.turn_began = node.local(self.now);
            let delay = self.rng.u64(0..turn);
            self.schedule(delay, Event::Turned(NodeId(id)));
        }
        let node = &mut self.nodes[id as usize - 1];
        let now = node.local(self.now);
        let result = node.raft.as_mut().map(|raft| act(raft, &mut node.tail, now));
        if !node.is_turning {
            self.drain(id);
        }
        result
    }

    pub(crate) fn propose(&mut self, id: u64, count: u64) -> Result<Range<Index>, Refusal> {
        let first = self.proposals;
        self.proposals += count;
        let mut proposals = (first..first + count)
            .map(|number| proposal(number, 16))
            .collect::<Vec<_>>()
            .into_iter();
        let result = self.with_raft(id, |raft, log, now| raft.propose(&mut proposals, 16 * count, now, log));
        result.unwrap_or(Err(Refusal::Stopping))
    }

    pub(crate) fn read(&mut self, id: u64) -> Result<RequestId, Refusal> {
        self.reads += 1;
        let request = RequestId(self.reads);
        self.waiting.insert(request, self.laws.read_began());
        let result = self
            .with_raft(id, |raft, _, now| raft.read(request, now))
            .unwrap_or(Err(Refusal::Stopping));
        if result.is_err() {
            self.waiting.remove(&request);
        }
        result.map(|()| request)
    }

    /// Asks a node to hand leadership over, to 0 for whom it likes.
    pub(crate) fn transfer(&mut self, id: u64, to: u64) -> Result<(), Refusal> {
        let end = self.now + self.node(id).config.election_timeout.end;
        self.transfers.push((id, end));
        let result = self
            .with_raft(id, |raft, _, now| raft.transfer(NodeId(to), now))
            .unwrap_or(Err(Refusal::Stopping));
        if result.is_err() {
            self.transfers.pop();
        }
        result
    }

    pub(crate) fn crash(&mut self, id: u64) {
        self.transfers.retain(|transfer| transfer.0 != id);
        let node = &mut self.nodes[id as usize - 1];
        node.stop();
        // A snapshot that was being written is there as a whole, or not at all.
        if let Some(stored) = node.snapshots.stop().filter(|_| self.rng.bool()) {
            node.disk.store(stored);
        }
        node.disk.crash(&mut self.rng);
    }

    pub(crate) fn restart(&mut self, id: u64) {
        let (now, memory) = (self.now, self.memory);
        let node = &mut self.nodes[id as usize - 1];
        node.run += 1;
        node.config.seed = self.seed ^ (node.run << 32);
        node.start(now, memory);
        self.drain(id);
    }

    pub(crate) fn stall(&mut self, id: u64) {
        self.nodes[id as usize - 1].disk.is_stalled = true;
    }

    pub(crate) fn unstall(&mut self, id: u64) {
        self.nodes[id as usize - 1].disk.is_stalled = false;
        self.start_sync(id);
    }

    pub(crate) fn cut_both(&mut self, a: u64, b: u64) {
        self.cut.extend([(a, b), (b, a)]);
    }

    pub(crate) fn isolate(&mut self, id: u64) {
        for other in self.ids() {
            self.cut_both(id, other);
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.filter = None;
    }

    fn schedule(&mut self, micros: u64, event: Event) {
        self.scheduled += 1;
        let at = self.now + Duration::from_micros(micros);
        self.queue.push(Reverse(Scheduled(at, self.scheduled, event)));
    }

    fn start_sync(&mut self, id: u64) {
        let disk = &mut self.nodes[id as usize - 1].disk;
        if disk.is_busy || disk.is_stalled {
            return;
        }
        if let Some(sync) = disk.wanted_sync() {
            disk.is_busy = true;
            let run = self.node(id).run;
            let delay = self.rng.u64(self.weather.sync.clone());
            self.schedule(delay, Event::Synced(NodeId(id), run, sync));
        }
    }

    fn send(&mut self, wire: Wire) {
        self.sent += 1;
        let link = (wire.header.from.0, wire.to.0);
        let passes = self.filter.as_mut().is_none_or(|filter| filter(&wire));
        if !passes || self.cut.contains(&link) || self.rng.u32(0..1000) < self.weather.lost {
            return;
        }
        if self.rng.u32(0..1000) < self.weather.doubled {
            let delay = self.rng.u64(self.weather.delay.clone()) * 3;
            self.schedule(delay, Event::Deliver(wire.clone()));
        }
        let mut delay = self.rng.u64(self.weather.delay.clone());
        if self.weather.answers.end > 1 && matches!(wire.body, Body::HeartbeatReply(_)) {
            delay += self.rng.u64(self.weather.answers.clone());
        }
        self.schedule(delay, Event::Deliver(wire));
    }

    /// Does what the node asks for, and checks the laws.
    pub(crate) fn drain(&mut self, id: u64) {
        let node = &mut self.nodes[id as usize - 1];
        node.is_turning = false;
        let clock = node.local(self.now);
        if let Some(raft) = node.raft.as_mut().filter(|_| node.config.lease_drift_max.is_some()) {
            raft.clock(clock);
        }
        for outputs in 0.. {
            let node = &mut self.nodes[id as usize - 1];
            let Some(output) = node.raft.as_mut().and_then(|raft| raft.poll_output(&node.tail)) else {
                break;
            };
            assert!(outputs < DRAIN_MAX, "it never ends: {output:?}");
            self.perform(id, output);
        }
        self.start_sync(id);
        if let Err(broken) = self.laws.check(&self.nodes) {
            panic!("{broken}, at {:?}, after a step of node {id}", self.now);
        }
        self.check_leases();
        let hard = self.status(id).hard;
        if self.term_max < hard.term {
            // Thesis §9.6: a term begins with a candidate, so that who wins no pre-vote raises no term.
            assert_eq!(
                hard.vote,
                NodeId(id),
                "node {id} began term {} without a candidacy",
                hard.term
            );
            self.term_max = hard.term;
        }
    }

    /// Whoever may answer by a lease is asked at once, and has to know of everything that was answered (R7).
    fn check_leases(&mut self) {
        for node in &self.nodes {
            let Some(raft) = &node.raft else { continue };
            let (leased, applied) = (raft.leased(node.local(self.now)), raft.status().applied);
            if leased.is_some_and(|(_, index)| applied >= index) {
                self.leases += 1;
                let began = self.laws.read_began();
                if let Err(broken) = self.laws.read_answered(began, applied) {
                    panic!("{broken}, by the lease of node {}, at {:?}", node.config.id, self.now);
                }
            }
        }
    }

    fn perform(&mut self, id: u64, output: Output) {
        let lazy = self.weather.lazy_apply;
        let node = &mut self.nodes[id as usize - 1];
        let run = node.run;
        match output {
            Output::Save(hard) => node.disk.save(hard),
            Output::Append(range) => {
                let entries = node.tail.entries(range.clone()).iter().map(owned).collect();
                node.disk.append(range.start, entries);
            }
            Output::Truncate(from) => node.disk.truncate(from),
            Output::Reset { index, term } => node.disk.reset(index, term),
            Output::Sync(sync) => node.disk.sync(sync),
            Output::Release(through) => {
                let base = node.disk.release(through, &mut self.rng);
                if let Some(raft) = &mut node.raft {
                    raft.released(base);
                }
            }
            Output::SendSnapshot { to, index } => self.send_snapshot(id, to, index),
            Output::Restore(snapshot) => self.restore_snapshot(id, snapshot),
            Output::Recovered => self.forget_damage(id),
            Output::Send { .. } => {
                let wire = Wire::new(NodeId(id), output, &node.tail);
                self.check_sent(id, &wire);
                if let Body::TimeoutNow = wire.body {
                    self.told.insert((wire.to.0, wire.header.term));
                }
                self.send(wire);
            }
            Output::Load(range) => {
                node.loads += 1;
                let count = (range.end.0 - range.start.0).min(64) as usize;
                let entries = node.disk.written.from(range.start)[..count].to_vec();
                let delay = self.rng.u64(self.weather.sync.clone());
                self.schedule(delay, Event::Loaded(NodeId(id), run, range.start, entries));
            }
            Output::Apply(range) => {
                let through = range.end.prev();
                let entries = node.tail.entries(range.clone());
                if node.applied.len() as u64 + 1 != range.start.0 {
                    let broken = self.laws.check_state(NodeId(id), range.start.prev(), &node.applied);
                    panic!("{}", broken.expect_err("it is not applied in order"));
                }
                for (entry, written) in entries.iter().zip(node.disk.written.from(range.start)) {
                    assert_eq!(owned(entry), *written, "memory and disk agree");
                    node.applied.push(mark(written));
                }
                if lazy {
                    let delay = self.rng.u64(self.weather.sync.clone());
                    self.schedule(delay, Event::Applied(NodeId(id), run, through));
                } else if let Some(raft) = &mut node.raft {
                    raft.applied(through, &mut node.tail);
                }
            }
            Output::ReadAt { request, result } => {
                let began = self.waiting.remove(&request).expect("one answer a read");
                if let Ok(index) = result {
                    self.laws
                        .read_answered(began, index)
                        .unwrap_or_else(|broken| panic!("{broken}"));
                }
                self.answers.insert(request, result);
            }
            Output::Transferred { to, result } => {
                let place = self.transfers.iter().position(|transfer| transfer.0 == id);
                self.transfers.remove(place.expect("one end a transfer"));
                self.transferred.push((id, to, result));
            }
            Output::Role { state, term, leader } => node.roles.push((state, term, leader)),
            Output::Members { in_force, committed } => node.members.push((in_force, committed)),
        }
    }

    fn check_sent(&self, id: u64, wire: &Wire) {
        let node = self.node(id);
        if let Err(broken) = self.laws.sent(node, wire.to, wire.header.term, &wire.body) {
            panic!("{broken}");
        }
        if let Body::Append(append) = &wire.body {
            let written = &node.disk.written.from(append.prev_index.next())[..wire.entries.len()];
            assert_eq!(wire.entries, written, "what is sent is the log");
        }
        match &wire.body {
            // Thesis §3.10: what a successor lacks would keep it from being elected.
            Body::TimeoutNow => {
                let status = node.raft.as_ref().expect("it speaks").status();
                // A leader that is no voter any more waits for nothing.
                let gave_way = status.state == NodeState::Follower;
                let last = if gave_way { status.commit } else { status.last };
                let there = &self.node(wire.to.0).disk;
                let term = there.durable.term(last);
                let has_entry = term.is_some() && term == node.disk.written.term(last);
                assert!(
                    has_entry || there.snapshot().is_some_and(|stored| stored.place().0 >= last),
                    "node {} is told to campaign without {last}",
                    wire.to
                );
            }
            Body::Vote(vote) if vote.by_transfer => {
                let before = Term(vote.term.0 - 1);
                assert!(
                    self.told.contains(&(id, before)),
                    "node {id} was not told in {before:?} to campaign"
                );
            }
            _ => {}
        }
    }

    /// The next timer and whose it is, and when the next event is.
    fn upcoming(&self) -> (Option<(Instant, u64)>, Option<Instant>) {
        let deadline = |node: &Node| Some(node.global(node.raft.as_ref()?.deadline()?));
        let timer = self
            .nodes
            .iter()
            .filter_map(|node| Some((deadline(node)?, node.config.id.0)))
            .min();
        (timer, self.queue.peek().map(|Reverse(Scheduled(at, ..))| *at))
    }

    /// One event, or one timer.
    pub(crate) fn step(&mut self) {
        match self.upcoming() {
            (Some((at, id)), event_at) if event_at.is_none_or(|event_at| at < event_at) => {
                self.now = self.now.max(at);
                self.with_raft(id, |raft, log, now| raft.tick(now, log));
                let again = self.node(id).raft.as_ref().and_then(Raft::deadline);
                assert!(
                    again.is_none_or(|again| again > self.node(id).local(self.now)),
                    "a deadline in the past would spin"
                );
            }
            (_, Some(at)) => {
                self.now = self.now.max(at);
                let Reverse(Scheduled(_, _, event)) = self.queue.pop().expect("it was peeked at");
                self.take(event);
            }
            // All are down.
            _ => self.now += Duration::from_millis(1),
        }
        let now = self.now;
        for (id, end) in &self.transfers {
            // What is told at the end of a turn that took long.
            assert!(now <= *end + TURN_MAX, "node {id} hands over, and over");
        }
        self.laws.time(now).unwrap_or_else(|broken| panic!("{broken}"));
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Deliver(wire) => {
                let id = wire.to.0;
                let node = self.node(id);
                // A turn reads its clock once, and may be held up behind that for as long as it takes.
                let stale = (node.is_turning && node.config.lease_drift_max.is_some()).then_some(node.turn_began);
                let wants = self.with_raft(id, |raft, log, now| {
                    let now = stale.unwrap_or(now);
                    raft.step(&wire.message(), now, log).expect("peers keep to the rules");
                    matches!(&wire.body, Body::Snapshot(chunk) if raft.takes_snapshot(&wire.header, &chunk.id))
                });
                if let Some(stored) = wire.snapshot.filter(|_| wants == Some(true)) {
                    self.receive_snapshot(id, stored);
                }
            }
            Event::Snapshot(happening) => self.happened(happening),
            Event::Synced(id, run, sync) if self.node(id.0).run == run && self.node(id.0).is_up() => {
                let disk = &mut self.nodes[id.0 as usize - 1].disk;
                disk.is_busy = false;
                if !disk.is_stalled {
                    disk.synced(sync);
                    self.with_raft(id.0, |raft, log, now| raft.synced(sync, now, log));
                }
            }
            Event::Loaded(id, run, first, entries) if self.node(id.0).run == run && self.node(id.0).is_up() => {
                let range = first..Index(first.0 + entries.len() as u64);
                self.with_raft(id.0, |raft, log, _| {
                    log.restore(first, entries);
                    raft.loaded(range, log);
                });
            }
            Event::Applied(id, run, through) if self.node(id.0).run == run && self.node(id.0).is_up() => {
                self.with_raft(id.0, |raft, log, _| raft.applied(through, log));
            }
            Event::Forgot(id, run) if self.node(id.0).run == run && self.node(id.0).is_up() => {
                self.made_good += 1;
                self.nodes[id.0 as usize - 1].config.recovering = false;
                self.with_raft(id.0, |raft, _, _| raft.recovered());
            }
            Event::Turned(id) if self.node(id.0).is_turning => self.drain(id.0),
            Event::Turned(_) | Event::Forgot(..) | Event::Synced(..) | Event::Loaded(..) | Event::Applied(..) => {}
        }
    }

    pub(crate) fn run_for(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            let (timer, event) = self.upcoming();
            if timer.map(|timer| timer.0).into_iter().chain(event).all(|at| at > end) {
                break;
            }
            self.step();
        }
        self.now = end;
    }

    /// Steps until `is_so`, for five seconds at most.
    #[track_caller]
    pub(crate) fn run_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(5);
        let terms = self.term_max.0 + TERMS_MAX;
        while !is_so(self) {
            assert!(self.now < end, "not within five seconds: {what}");
            assert!(self.term_max.0 < terms, "leaders come and go without end: {what}");
            self.step();
        }
    }

    /// Runs until there is a leader that everybody who is up follows, and that committed its no-op.
    #[track_caller]
    pub(crate) fn elect(&mut self) -> u64 {
        self.run_until("a leader", |cluster| cluster.settled().is_some());
        self.settled().expect("it was just seen")
    }

    fn settled(&self) -> Option<u64> {
        let leader = self.leader()?;
        let status = self.status(leader);
        let members = self.configuration(leader);
        let follows = |node: &Node| {
            let of = node.status();
            let counts = members.member(of.id).is_some() || of.id == status.id;
            !counts || of.leader == status.id && of.hard.term == status.hard.term
        };
        let is_fresh = self
            .node(leader)
            .disk
            .written
            .term(status.commit)
            .is_none_or(|term| term != status.hard.term);
        (!is_fresh && self.nodes.iter().filter(|node| node.is_up()).all(follows)).then_some(leader)
    }

    /// Proposes at the leader and runs until every member who is up has applied it.
    #[track_caller]
    pub(crate) fn commit(&mut self, count: u64) {
        let leader = self.elect();
        let range = self.propose(leader, count).expect("it leads");
        self.run_until("applied everywhere", |cluster| {
            let members = cluster.configuration(leader);
            let counts = |node: &&Node| node.is_up() && members.member(node.config.id).is_some();
            let mut up = cluster.nodes.iter().filter(counts);
            up.all(|node| node.status().applied >= range.end.prev())
        });
    }

    /// How often a node became leader.
    pub(crate) fn elections(&self) -> usize {
        let won = |node: &Node| node.roles.iter().filter(|role| role.0 == NodeState::Leader).count();
        self.nodes.iter().map(won).sum()
    }

    /// Proposes at the leader and runs until it has applied that.
    #[track_caller]
    pub(crate) fn commit_at_leader(&mut self, count: u64) {
        self.run_until("a leader", |cluster| cluster.leader().is_some());
        let leader = self.leader().expect("it was just seen");
        let range = self.propose(leader, count).expect("it leads");
        self.run_until("applied", |cluster| cluster.status(leader).applied >= range.end.prev());
    }
}

/// A command that is like no other.
pub(crate) fn proposal(number: u64, bytes: usize) -> Proposal {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(bytes.max(8), number as u8);
    Proposal {
        kind: EntryKind::Command,
        crc: 0,
        payload: payload.into(),
    }
}
