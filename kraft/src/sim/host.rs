//! One machine of the simulated cluster: a disk, a clock, and a node that comes and goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use kraft_adapters::Config as AdapterConfig;
use kraft_adapters::mock::{HostId, Network};
use kraft_core::adapter::ListenOptions;
use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId, Term};
use kraft_core::laws::{Mark, View};
use kraft_core::machine::StateMachine;
use kraft_core::membership::Configuration;
use kraft_core::message::{NodeState, Role, SnapshotId};
use kraft_core::node::{Config, Done, Failure, Member, Node, Notice, Parts, Task};
use kraft_core::raft::Status;
use kraft_core::storage::{HardState, Work};
use kraft_core::time::Instant;

use super::audit::{Audit, Overheard};
use super::clock::{Clock, Clocked};
use super::faults::Kind;
use super::plan::Setup;
use super::report::{Fired, Snapped};
use super::rot::{self, Rot};
use super::watch::{Applies, Record, Watch, lock};
use crate::kv::{self, Kv};
use crate::storage::format::segment_name;
use crate::storage::snapshots::format::snapshot_of_name;
use crate::storage::{
    self, DiskLog, DiskWork, Files as _, LogIdentity, Loss, MemFiles, OpenError, Operation, snapshots,
};

/// The port for peers.
pub(super) const PEER_PORT: u16 = 7000;
/// Another port for peers, to which a member may move.
pub(super) const MOVED_PORT: u16 = 7002;
/// The port for clients.
pub(super) const CLIENT_PORT: u16 = 7001;

const CLUSTER: &str = "simulated";

pub(super) type SimNode = Node<Clocked, Overheard, Watch<DiskLog<MemFiles>>, Applies<Kv>>;

/// What part a host has in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody has started a node on it so far.
    Spare,
    /// It has a node, up or down, a member or not.
    Serving,
}

/// Why a node is not up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fall {
    /// Its log is damaged, which is said (exit code 74).
    Damaged(String),
    /// Its disk failed, which is said (exit code 75).
    Disk(String),
    /// What should never be.
    Wrong(String),
}

/// How long the disk takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stall {
    /// Of a stalled sync.
    pub(super) span: Duration,
    /// How often that happens, of 256.
    pub(super) often: u8,
}

/// One machine.
pub(super) struct Host {
    pub(super) id: NodeId,
    pub(super) host: HostId,
    pub(super) stage: Stage,
    pub(super) node: Option<SimNode>,
    /// Does not get to run, as under SIGSTOP.
    pub(super) is_paused: bool,
    pub(super) files: MemFiles,
    pub(super) clock: Clock,
    stall: Stall,
    /// What is wrong with the bytes on the disk, so that the node must not start.
    pub(super) rot: Option<Rot>,
    /// A damaged snapshot may have another name since the last start.
    was_set_aside: bool,
    place: usize,
    setup: Setup,
    audit: Audit,
    incarnation: Incarnation,
    record: Arc<Mutex<Record>>,
    /// Its configurations, as `record` has them when a turn is over.
    pub(super) members: Vec<(Index, Configuration)>,
    /// The members that it is founded with; none if it is to join.
    founders: Vec<(NodeId, HostId)>,
    /// What the disk held before it was wiped.
    ghost: Option<Arc<Mutex<Record>>>,
    /// Peers' incarnations, as the data folder keeps them.
    known: BTreeMap<NodeId, Incarnation>,
    /// Its log was damaged and begun anew, as the data folder keeps it.
    is_recovering: bool,
    /// How often it made up for that.
    pub(super) recoveries: u64,
    /// How often its node ended because it was removed.
    pub(super) departures: u64,
    /// The joint configuration that it was asked about last, of those that it led to.
    pub(super) asked_at: Index,
    /// Blocking work under way, with the time at which it is through.
    work: Vec<(Instant, Task<DiskWork<MemFiles>>)>,
    last_status: Status,
    /// How far the node had applied when its state was asked for last.
    told: Index,
    run: u64,
    rng: Rng,
    deadline: Option<Instant>,
    is_full: bool,
    /// Of the errors of the disk, how many the node was seen to bear.
    borne: u64,
    /// How often it was seen that there is no room.
    shortages: u64,
    /// Whether a sync took long since that was noted last.
    has_stalled: bool,
    /// Faults that happened to this machine, but for errors of the present disk.
    fired: Fired,
    /// What its nodes said of snapshots.
    snapped: Arc<Mutex<Snapped>>,
    /// When the last of the works on snapshots is through that were begun, of those that are quick and of the others.
    lanes: [Instant; 3],
}

fn lock_snapped(snapped: &Mutex<Snapped>) -> MutexGuard<'_, Snapped> {
    snapped.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    /// A host whose node is founded with these members; without any it is a spare one, whose node is to join.
    pub(super) fn new(
        id: NodeId,
        host: HostId,
        founders: &[(NodeId, HostId)],
        rng: Rng,
        setup: Setup,
        audit: Audit,
    ) -> Self {
        let status = Status {
            id,
            hard: HardState::default(),
            state: NodeState::Follower,
            leader: NodeId::NONE,
            commit: Index::ZERO,
            applied: Index::ZERO,
            last: Index::ZERO,
            durable: Index::ZERO,
            membership: Index::ZERO,
            is_removed: false,
        };
        let record = founded(founders);
        let members = lock(&record).members().to_vec();
        audit.enter(host.index(), id, &record);
        Self {
            id,
            host,
            stage: if founders.is_empty() {
                Stage::Spare
            } else {
                Stage::Serving
            },
            node: None,
            is_paused: false,
            files: MemFiles::new(),
            clock: Clock::new(),
            stall: Stall::default(),
            rot: None,
            was_set_aside: false,
            place: host.index(),
            setup,
            audit,
            incarnation: Incarnation(1000 + id.0),
            members,
            founders: founders.to_vec(),
            record,
            ghost: None,
            known: BTreeMap::new(),
            is_recovering: false,
            recoveries: 0,
            departures: 0,
            asked_at: Index::ZERO,
            work: Vec::new(),
            last_status: status,
            told: Index::ZERO,
            run: 0,
            rng,
            deadline: None,
            is_full: false,
            borne: 0,
            shortages: 0,
            has_stalled: false,
            fired: Fired::default(),
            snapped: Arc::default(),
            lanes: [Instant::ZERO; 3],
        }
    }

    /// What its nodes said of snapshots.
    pub(super) fn snapped(&self) -> Snapped {
        Snapped {
            installed: lock(self.seen()).resets(),
            ..*lock_snapped(&self.snapped)
        }
    }

    /// Whether its data folder was wiped: it is a member no more, and nobody may take it for one.
    pub(super) fn is_wiped(&self) -> bool {
        self.ghost.is_some()
    }

    /// Whether it believes that it knows this member.
    pub(super) fn knows(&self, node: NodeId) -> bool {
        self.known.contains_key(&node)
    }

    fn log_identity(&self) -> LogIdentity {
        LogIdentity {
            cluster: ClusterId::from_name(CLUSTER),
            node: self.id,
            incarnation: self.incarnation,
            group: GroupId(0),
        }
    }

    fn open_log(&mut self) -> Result<(DiskLog<MemFiles>, kraft_core::storage::Recovered), Fall> {
        let config = storage::Config {
            segment_bytes: self.setup.segment_bytes,
            first_segment_bytes: self.setup.first_segment_bytes,
            zero_step_bytes: 64 << 10,
            log_bytes_max: 64 << 20,
            load_bytes_max: self.setup.load_bytes_max,
            snapshots_keep: self.setup.snapshots.keep,
            ..storage::Config::default()
        };
        let opened = DiskLog::open(self.files.clone(), self.log_identity(), config);
        let (log, recovered) = opened.map_err(|error| match error {
            OpenError::Damaged(_) => Fall::Damaged(error.to_string()),
            OpenError::Failed(_) => Fall::Disk(error.to_string()),
            OpenError::Config(_) => Fall::Wrong(error.to_string()),
        })?;
        let is_rotten = self.was_set_aside || self.rot.as_ref().is_some_and(Rot::is_snapshots);
        lock(&self.record)
            .recovered(&recovered, is_rotten)
            .map_err(|what| Fall::Wrong(format!("node {}: {what}", self.id)))?;
        self.was_set_aside = false;
        Ok((log, recovered))
    }

    fn config(&mut self) -> Config {
        let members = self.founders.iter();
        let members = members
            .map(|(node, host)| Member {
                node: *node,
                address: host.address(PEER_PORT).to_string(),
                incarnation: self.known.get(node).copied(),
            })
            .collect();
        let mut config = Config::new(CLUSTER, self.id, self.incarnation, members, self.rng.u64(..));
        config.incarnations = self.known.iter().map(|(node, life)| (*node, *life)).collect();
        let setup = &self.setup;
        config.tail_bytes_max = setup.tail_bytes_max;
        config.applied_per_turn_max = setup.applied_per_turn_max;
        config.limits.frame_max = setup.frame_max;
        config.raft.pre_vote = setup.pre_vote;
        config.raft.check_quorum = setup.check_quorum;
        config.raft.lease_drift_max = setup.lease_drift_max;
        config.raft.recovering = self.is_recovering;
        config.raft.election_timeout = setup.election_timeout.clone();
        config.raft.heartbeat_interval = setup.heartbeat_interval;
        config.raft.append_entries_max = setup.append_entries_max;
        config.raft.inflight_messages_max = setup.inflight_messages_max;
        config.raft.snapshot_margin_entries = setup.snapshots.margin_entries;
        config.raft.snapshot_margin_bytes = setup.snapshots.margin_bytes;
        config.raft.snapshot_hold_room_min = setup.snapshots.hold_room_min;
        config.snapshots = setup.snapshots.driver.clone();
        config
    }

    /// Starts the node on what its disk holds.
    ///
    /// # Errors
    ///
    /// What is wrong with that.
    pub(super) fn start(&mut self, network: &Network) -> Result<(), Fall> {
        let (log, recovered) = self.open_log()?;
        let adapter = network
            .open(self.host, &AdapterConfig::default())
            .map_err(|error| Fall::Wrong(error.to_string()))?;
        let config = self.config();
        let parts = Parts {
            adapter: Clocked::new(adapter, self.clock.clone()),
            protocol: Overheard::new(self.audit.clone(), self.place, self.setup.protocol),
            storage: Watch::new(log, Arc::clone(&self.record)),
            recovered,
            machine: Applies::new(Kv::new(kv::Limits::default()), Arc::clone(&self.record)),
        };
        let snapped = Arc::clone(&self.snapped);
        let told = move |notice: Notice<'_>| lock_snapped(&snapped).note(&notice);
        // What was checked a moment ago cannot be read: the disk fails.
        let mut node = Node::open(config, parts, told).map_err(|error| Fall::Disk(error.to_string()))?;
        let ports = [
            (Role::Peer, PEER_PORT),
            (Role::Peer, MOVED_PORT),
            (Role::Client, CLIENT_PORT),
        ];
        for (role, port) in ports {
            let at = self.host.address(port).into();
            node.listen(role, &at, ListenOptions::default())
                .map_err(|error| Fall::Wrong(error.to_string()))?;
        }
        self.run += 1;
        self.node = Some(node);
        self.audit.starts(self.place);
        self.told = Index::ZERO;
        self.note_status();
        self.refresh();
        Ok(())
    }

    /// Ends the node as `kill -9` does, or, with its disk's cache, as a loss of power.
    pub(super) fn crash(&mut self, network: &Network, power: bool) {
        // Of the work under way some may have come to the disk, and some stopped in the middle.
        let mut is_cut = false;
        for (_, task) in self.work.drain(..) {
            let is_snapshots = matches!(&task, Task::Snapshot(_));
            let run: Box<dyn FnOnce()> = match task {
                Task::Storage(work) => Box::new(move || drop(work.run())),
                // One is done after the other, and the first that is not through is the last.
                Task::Snapshot(work) if !is_cut => Box::new(move || drop(work.run())),
                _ => continue,
            };
            let fate = self.rng.u8(..3);
            is_cut |= is_snapshots && fate != 1;
            match fate {
                0 => {}
                1 => run(),
                _ => {
                    self.files.crash_after(self.rng.u64(..5));
                    run();
                }
            }
        }
        if power {
            network.power_off(self.host);
        } else {
            network.crash(self.host);
        }
        self.node = None;
        self.lanes = [Instant::ZERO; 3];
        self.is_paused = false;
        self.deadline = None;
        self.audit.place(self.place, NodeState::Follower);
        self.files.crash(match power {
            true if self.rng.u8(..4) == 0 => Loss::All,
            true => Loss::Random(self.rng.u64(..)),
            false => Loss::Nothing,
        });
        // What failed in the last moments explains no later end.
        self.borne = self.files.fired();
    }

    /// Leaves the disk so many bytes.
    pub(super) fn fill(&mut self, room: u64) {
        self.note_shortage();
        self.files.set_capacity(Some(self.files.used_bytes() + room));
        self.is_full = true;
    }

    /// There is room on the disk again.
    pub(super) fn empty(&mut self) {
        self.note_shortage();
        self.files.set_capacity(None);
        self.is_full = false;
    }

    #[cfg(test)]
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// If it was seen that the disk is full, that happened.
    fn note_shortage(&mut self) {
        let shortages = self.files.shortages();
        if std::mem::replace(&mut self.shortages, shortages) != shortages {
            self.fired.note(Kind::Full);
        }
    }

    /// Lets some of the syncs take long from `now` on; none by default. What waits for a disk that stalls no more is done:
    /// of a snapshot in many small pieces each may have stalled, one behind the other, for minutes.
    pub(super) fn stall(&mut self, stall: Stall, now: Instant) {
        if stall.often == 0 {
            let waiting = self
                .work
                .iter_mut()
                .filter(|(_, task)| matches!(task, Task::Snapshot(_)));
            waiting.for_each(|(at, _)| *at = now.min(*at));
            self.lanes = self.lanes.map(|lane| now.min(lane));
            self.refresh();
        }
        if std::mem::take(&mut self.has_stalled) {
            self.fired.note(Kind::Stall);
        }
        self.stall = stall;
    }

    /// The faults that happened to this machine and wait for their chance.
    pub(super) fn fired(&self) -> Fired {
        let mut fired = self.fired;
        for (kind, operation) in [
            (Kind::WriteError, Operation::Write),
            (Kind::SyncError, Operation::Sync),
            (Kind::ReadError, Operation::Read),
        ] {
            fired.note_many(kind, self.files.happened(operation));
        }
        fired
    }

    /// Whether there is something wrong with the disk for which a node may end, or fail to start. The next time it must
    /// be something new. A full disk is no reason for a node to end that runs.
    pub(super) fn has_bad_disk(&mut self) -> bool {
        let fired = self.files.fired();
        let is_bad = fired > self.borne || self.is_full && self.node.is_none();
        self.borne = fired;
        is_bad
    }

    /// Whether its disk is lost, for good or for long.
    pub(super) fn is_lost(&self) -> bool {
        self.is_wiped() || self.rot.is_some() || self.is_recovering
    }

    /// Sets a damaged log aside, of a node that is down, and begins another one. Returns whether that was done: not if
    /// nothing is damaged, nor if its term may be.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub(super) fn repair(&mut self) -> Result<bool, Fall> {
        if self.node.is_some() || self.rot.is_none() || self.is_full {
            return Ok(false);
        }
        // Whoever repairs it has seen to it that the disk works.
        self.files.forgive();
        let failed = Fall::Disk;
        let aside = self
            .files
            .folder("damaged")
            .map_err(|error| failed(error.to_string()))?;
        let repaired = storage::repair_log(&self.files, &aside, &self.log_identity());
        let Some(hard) = repaired.map_err(|fault| failed(fault.to_string()))? else {
            return Ok(false);
        };
        self.rot = None;
        self.is_recovering = true;
        lock(&self.record).damaged(hard);
        Ok(true)
    }

    /// Empties the data folder of a node that is down. Its id comes back with another incarnation.
    pub(super) fn wipe(&mut self) {
        let record = std::mem::replace(&mut self.record, founded(&self.founders));
        self.ghost.get_or_insert(record);
        self.note_shortage();
        self.fired = self.fired();
        self.files = MemFiles::new();
        self.rot = None;
        self.was_set_aside = false;
        self.is_full = false;
        self.borne = 0;
        self.shortages = 0;
        self.known.clear();
        self.is_recovering = false;
        self.incarnation = Incarnation(self.incarnation.0 + 1_000_000);
        self.audit.enter(self.place, self.id, &self.record);
    }

    /// Flips a bit on the disk of a node that is down, where a start reads its log and the log says itself that it was
    /// synced. Returns whether there is such a place.
    ///
    /// # Errors
    ///
    /// The log could not be opened, as a start finds it.
    pub(super) fn rot(&mut self) -> Result<bool, Fall> {
        // What is open writes above the mark again, and so all that is there is below the mark.
        let (_, recovered) = self.open_log()?;
        let held = recovered.snapshot.map_or(Index::ZERO, |newest| newest.id.index);
        let places = rot::places(&self.files, self.log_identity(), held);
        let mut places = places.map_err(|fault| Fall::Disk(fault.to_string()))?;
        // The last record is the mark that vouches for all others.
        places.pop();
        if places.is_empty() {
            return Ok(false);
        }
        let (at, bytes) = places[self.rng.usize(..places.len())];
        let offset = (at.offset + self.rng.u32(..bytes)) as usize;
        self.flip(self.files.clone(), segment_name(at.segment), offset, None);
        Ok(true)
    }

    /// Flips a bit of the newest snapshot. Returns whether there is one.
    pub(super) fn rot_snapshot(&mut self) -> bool {
        let Ok(folder) = self.files.folder(snapshots::FOLDER) else {
            return false;
        };
        let names = folder.list().unwrap_or_default();
        let snapshots = names
            .into_iter()
            .filter_map(|name| Some((snapshot_of_name(&name, 0)?, name)));
        let Some((id, name)) = snapshots.max() else {
            return false;
        };
        let bytes = folder.bytes(&name).len();
        if bytes == 0 {
            return false;
        }
        let offset = self.rng.usize(..bytes);
        self.flip(folder, name, offset, Some(id));
        true
    }

    fn flip(&mut self, folder: MemFiles, file: String, offset: usize, snapshot: Option<SnapshotId>) {
        let bits = 1 << self.rng.u32(..8);
        let sound = folder.bytes(&file)[offset];
        folder.rot(&file, offset, bits);
        self.rot = Some(Rot {
            file,
            offset,
            bits,
            folder,
            snapshot,
            sound,
        });
    }

    /// The damaged file on which the node started. A snapshot that is damaged is set aside, if the node began from it.
    pub(super) fn overlooked(&mut self) -> Option<&str> {
        let rot = self.rot.take().filter(Rot::is_there)?;
        let begun_from = lock(&self.record).snapshot();
        let is_used = |id: &SnapshotId| (id.index, id.term) == begun_from;
        let is_overlooked = rot.snapshot.as_ref().is_none_or(is_used);
        let rot = self.rot.insert(rot);
        is_overlooked.then_some(&rot.file)
    }

    /// Whether `what` names the file that is damaged.
    pub(super) fn is_rotten(&self, what: &str) -> bool {
        self.rot.as_ref().is_some_and(|rot| what.contains(&rot.file))
    }

    /// Puts the flipped bit back, if its file is still there.
    pub(super) fn restore(&mut self) {
        let Some(rot) = self.rot.take() else { return };
        match rot.is_there() {
            true => rot.folder.rot(&rot.file, rot.offset, rot.bits),
            // By a start that came to nothing else, if it was not removed.
            false => self.was_set_aside = rot.is_snapshots(),
        }
    }

    /// When this machine has something to do that the network does not know of.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.filter(|_| !self.is_paused)
    }

    /// Computes [`deadline`](Self::deadline) anew: after whatever may have changed it.
    pub(super) fn refresh(&mut self) {
        let work = self.work.iter().map(|(at, _)| *at).min();
        let node = self.node.as_mut().map(|node| self.clock.global(node.next_deadline()));
        self.deadline = [work, node].into_iter().flatten().min();
    }

    /// One turn of the node, if it runs.
    ///
    /// # Errors
    ///
    /// What ended the node.
    pub(super) fn turn(&mut self, now: Instant) -> Result<(), Fall> {
        let Some(node) = self.node.as_mut().filter(|_| !self.is_paused) else {
            return Ok(());
        };
        let failed = |failure| match failure {
            Failure::Disk(fault) => Fall::Disk(fault.to_string()),
            Failure::Loop(error) => Fall::Wrong(format!("node {}: {error}", self.id)),
        };
        self.audit.turns(self.place, self.clock.local(now));
        node.poll(Some(Instant::ZERO)).map_err(failed)?;
        while let Some(at) = self.work.iter().position(|(at, _)| *at <= now) {
            let done = match self.work.remove(at).1 {
                Task::Storage(work) => {
                    let (is_urgent, fired) = (work.is_urgent(), self.files.fired());
                    let done = Done::Storage(work.run());
                    if is_urgent && self.files.fired() > fired {
                        return match node.complete(done) {
                            Ok(()) => Err(Fall::Wrong(format!(
                                "node {} goes on after a write or sync of its log failed",
                                self.id
                            ))),
                            Err(failure) => Err(failed(failure)),
                        };
                    }
                    done
                }
                Task::Snapshot(work) => Done::Snapshot(work.run()),
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
                Task::ForgetDamage => {
                    self.is_recovering = false;
                    self.recoveries += 1;
                    lock(&self.record).made_good();
                    Done::DamageForgotten(Ok(()))
                }
            };
            node.complete(done).map_err(failed)?;
        }
        node.settle().map_err(failed)?;
        while let Some(task) = node.next_task() {
            let stalls = self.stall.often > 0 && self.rng.u8(..) < self.stall.often;
            self.has_stalled |= stalls && matches!(task, Task::Storage(_));
            let most = match &task {
                Task::Snapshot(_) => self.setup.snapshots.work_max,
                _ => self.setup.sync_max,
            };
            let span = match stalls {
                true => self.stall.span,
                false => most.mul_f64(self.rng.f64()),
            };
            let at = match &task {
                Task::Snapshot(work) => {
                    let lane = &mut self.lanes[work.lane() as usize];
                    *lane = now.max(*lane) + span;
                    *lane
                }
                _ => now + span,
            };
            self.work.push((at, task));
        }
        self.borne = self.files.fired();
        let status = node.status();
        self.audit.turned(self.place, &status, node.configuration().1);
        self.note_status();
        self.refresh();
        Ok(())
    }

    fn note_status(&mut self) {
        let Some(node) = &self.node else { return };
        let status = node.status();
        let record = lock(&self.record);
        // What stands at the same places in another term is another list.
        let places = |list: &[(Index, Configuration)]| (list.len(), list.last().map(|last| last.0));
        let is_same = places(&self.members) == places(record.members());
        if !is_same || status.hard.term != self.last_status.hard.term {
            self.members = record.members().to_vec();
        }
        drop(record);
        if status.state != self.last_status.state {
            self.audit.place(self.place, status.state);
        }
        self.last_status = status;
    }

    pub(super) fn last_status(&self) -> &Status {
        &self.last_status
    }

    /// A hash of everything that the node applied, with how far that goes.
    pub(super) fn state(&self) -> Option<(Index, u64)> {
        let node = self.node.as_ref()?;
        Some((
            node.applied(),
            node.machine().digest() ^ node.sessions().digest().rotate_left(1),
        ))
    }

    /// The same, if there is something new to it.
    pub(super) fn new_state(&mut self) -> Option<(Index, u64)> {
        let applied = self.node.as_ref()?.applied();
        if std::mem::replace(&mut self.told, applied) == applied {
            return None;
        }
        self.state()
    }

    /// A snapshot that was written before the log was durable up to its index.
    pub(super) fn early_snapshot(&self) -> Option<Index> {
        lock(&self.record).early()
    }

    /// What the laws look at: of a node that was wiped, what its disk held.
    fn seen(&self) -> &Mutex<Record> {
        self.ghost.as_ref().unwrap_or(&self.record)
    }
}

/// The record of a disk on which nothing is, of a node that is founded with these members.
fn founded(founders: &[(NodeId, HostId)]) -> Arc<Mutex<Record>> {
    Arc::new(Mutex::new(Record::founded(founding(founders))))
}

/// The configuration of nodes that are founded with these members.
pub(super) fn founding(founders: &[(NodeId, HostId)]) -> Configuration {
    let ids: Vec<_> = founders.iter().map(|(id, _)| *id).collect();
    let founding = Configuration::founding(&ids);
    founders.iter().fold(founding, |founding, (id, host)| {
        founding.described(*id, &host.address(PEER_PORT).to_string(), Incarnation(0))
    })
}

impl View for &Host {
    fn status(&self) -> Status {
        self.last_status.clone()
    }

    fn run(&self) -> u64 {
        self.run
    }

    fn is_up(&self) -> bool {
        self.node.is_some() && self.ghost.is_none()
    }

    fn configurations(&self) -> &[(Index, Configuration)] {
        &self.members
    }

    fn entry(&self, index: Index) -> Option<Mark> {
        lock(self.seen()).entry(index)
    }

    fn is_recovering(&self) -> bool {
        self.is_recovering && self.ghost.is_none()
    }

    fn disk(&self) -> HardState {
        lock(self.seen()).disk()
    }

    fn disk_entry(&self, index: Index) -> Option<Mark> {
        lock(self.seen()).disk_entry(index)
    }

    fn base(&self) -> (Index, Term) {
        lock(self.seen()).base()
    }

    fn disk_base(&self) -> Index {
        lock(self.seen()).disk_base()
    }

    fn disk_snapshot(&self) -> (Index, Term) {
        lock(self.seen()).snapshot()
    }
}
