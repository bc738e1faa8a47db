//! A node of a cluster: Raft, its log in memory, its disk and its clock.

use kraft_core::id::{Index, NodeId, Term};
use kraft_core::laws::{Mark, View};
use kraft_core::log::Tail;
use kraft_core::membership::Configuration;
use kraft_core::message::NodeState;
use kraft_core::raft::{Config, Raft, Status};
use kraft_core::storage::HardState;
use kraft_core::time::Instant;

use super::mark;
use super::snapshots::Snapshots;
use crate::disk::{Disk, Stored};

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: Config,
    /// `None` while it is down.
    pub(crate) raft: Option<Raft>,
    pub(crate) tail: Tail,
    pub(crate) disk: Disk,
    pub(crate) run: u64,
    pub(crate) applied: Vec<Mark>,
    /// State, term and leader, each time that they changed.
    pub(crate) roles: Vec<(NodeState, Term, NodeId)>,
    /// Where the configurations in force and committed stand, each time that they changed.
    pub(crate) members: Vec<(Index, Index)>,
    pub(crate) loads: usize,
    pub(crate) snapshots: Snapshots,
    /// Within a turn: its outputs are not drained yet.
    pub(super) is_turning: bool,
    /// What the clock showed when the turn began.
    pub(super) turn_began: Instant,
    /// How fast its clock goes: 1,000 for one that is right; since when, and what it showed then.
    pub(super) rate: u64,
    pub(super) since: (Instant, Instant),
    pub(super) said: Status,
}

impl Node {
    /// A node on this disk, not started.
    pub(crate) fn new(config: Config, mut disk: Disk) -> Self {
        let raft = Raft::new(config.clone(), &disk.recovered(), Instant::ZERO).expect("it is right");
        Self {
            config,
            said: raft.status(),
            raft: None,
            tail: Tail::new(Index(0), 0),
            disk,
            run: 0,
            applied: Vec::new(),
            roles: Vec::new(),
            members: Vec::new(),
            loads: 0,
            snapshots: Snapshots::default(),
            is_turning: false,
            turn_began: Instant::ZERO,
            rate: 1_000,
            since: (Instant::ZERO, Instant::ZERO),
        }
    }

    /// What its clock shows.
    pub(crate) fn local(&self, now: Instant) -> Instant {
        let (since, shown) = self.since;
        let nanos = now.as_nanos() - since.as_nanos();
        Instant::from_nanos(shown.as_nanos() + nanos * self.rate / 1_000)
    }

    /// When its clock shows this.
    pub(super) fn global(&self, local: Instant) -> Instant {
        let (since, shown) = self.since;
        let nanos = local.as_nanos().saturating_sub(shown.as_nanos());
        Instant::from_nanos(since.as_nanos() + (nanos * 1_000).div_ceil(self.rate))
    }

    /// Its clock goes at another rate from here on.
    pub(crate) fn pace(&mut self, now: Instant, rate: u64) {
        self.since = (now, self.local(now));
        self.rate = rate;
    }

    /// Starts on what the disk holds, with so many bytes of memory for the log.
    pub(crate) fn start(&mut self, now: Instant, memory: u64) {
        assert!(self.raft.is_none(), "it is up");
        let recovered = self.disk.recovered();
        self.applied = self
            .disk
            .snapshot()
            .map_or_else(Vec::new, |stored| stored.state.clone());
        self.tail = Tail::new(recovered.last, memory);
        self.raft = Some(Raft::new(self.config.clone(), &recovered, self.local(now)).expect("it is right"));
    }

    /// Ends. What becomes of the disk is the caller's.
    pub(crate) fn stop(&mut self) {
        self.said = self.status();
        self.is_turning = false;
        self.raft = None;
        self.applied.clear();
    }
}

impl View for Node {
    fn status(&self) -> Status {
        // Until the turn ends nobody sees what it changed.
        let raft = self.raft.as_ref().filter(|_| !self.is_turning);
        raft.map_or_else(|| self.said.clone(), Raft::status)
    }
    fn run(&self) -> u64 {
        self.run
    }
    fn is_up(&self) -> bool {
        self.raft.is_some()
    }
    fn is_recovering(&self) -> bool {
        self.raft.as_ref().map_or(self.config.recovering, Raft::is_recovering)
    }
    fn entry(&self, index: Index) -> Option<Mark> {
        self.disk.written.entry(index).map(mark)
    }
    fn disk(&self) -> HardState {
        self.disk.durable.hard
    }
    fn disk_entry(&self, index: Index) -> Option<Mark> {
        self.disk.found(index).map(mark)
    }
    fn base(&self) -> (Index, Term) {
        self.disk.written.base
    }
    fn disk_base(&self) -> Index {
        self.disk.durable.base.0
    }
    fn disk_snapshot(&self) -> (Index, Term) {
        self.disk.snapshot().map_or((Index::ZERO, Term(0)), Stored::place)
    }
    fn configurations(&self) -> &[(Index, Configuration)] {
        self.raft.as_ref().map_or(&[], Raft::configurations)
    }
}
