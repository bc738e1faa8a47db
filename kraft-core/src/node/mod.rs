//! The driver: joins an adapter, a protocol, storage and a state machine to Raft.
//!
//! One turn is [`poll`](Node::poll), the completions of finished [`Task`]s, and [`settle`](Node::settle):
//!
//! ```text
//! poll    receive, decode, step Raft; proposals and reads of clients are gathered
//! settle  propose what was gathered, tick, drain Raft's outputs: storage collects one batch, messages go into
//!         outboxes, committed entries are applied and answered; then one flush, one system call a connection
//! tasks   the batch's write and sync, run off the loop
//! complete, settle   what waited for the disk leaves
//! ```
//!
//! Group commit and write batching follow from the shape: whatever arrived in a turn becomes one append, one message
//! a follower, one sync. Nothing here blocks, and nothing that was put waits for the next wake.

mod ask;
mod config;
mod conns;
mod drain;
mod handle;
mod keep;
mod members;
mod notice;
mod receive;
mod requests;
mod service;
mod snapshots;
mod status;
mod task;
mod transfer;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

pub use self::config::{Config, Member};
pub use self::handle::{Handle, Outcome, Ticket};
pub use self::notice::Notice;
pub use self::service::{Counters, Service, View};
pub use self::snapshots::{Config as Snapshots, SnapshotDone, SnapshotLane, SnapshotWork};
pub use self::task::{Done, Task};

use self::conns::{ConnLimits, Conns};
use self::handle::{Call, Queue};
use self::members::Members;
use self::requests::Requests;
use self::transfer::Handover;
use crate::adapter::{Adapter, Audience, Capabilities, Endpoint, ListenOptions, Stats, Waker};
use crate::handshake::Identity;
use crate::id::{ConnId, GroupId, Index, ListenerId, NodeId, RequestId, Term};
use crate::inbox::Budget;
use crate::log::Tail;
use crate::machine::StateMachine;
use crate::membership::Configuration;
use crate::message::{Header, NodeState, Role};
use crate::peers::{self, Peers};
use crate::protocol::Protocol;
use crate::raft::{Raft, Status};
use crate::session::Sessions;
use crate::snapshot::StoreError;
use crate::storage::{Completed, Fault, Recovered, Storage, Work};
use crate::time::Instant;

/// How often connections are looked over for deadlines that nobody else watches.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How long a read may wait for the index from which on it may be answered; then it is refused, to be asked elsewhere.
const READ_WAIT_MAX: Duration = Duration::from_secs(5);

/// A node of a cluster: a host with one Raft group.
pub struct Node<A, P, S: Storage, M> {
    adapter: A,
    protocol: P,
    host: Host<S, M>,
}

/// What a node is made of.
#[derive(Debug)]
pub struct Parts<A, P, S, M> {
    /// The event loop.
    pub adapter: A,
    /// The wire format.
    pub protocol: P,
    /// The log on disk, opened.
    pub storage: S,
    /// What storage found.
    pub recovered: Recovered,
    /// The state machine, empty: the newest snapshot, if there is one, and the log are replayed into it.
    pub machine: M,
}

/// Why a node was not opened.
#[derive(Debug)]
pub enum OpenError {
    /// Which field of the configuration is wrong, and how.
    Config(String),
    /// The newest snapshot, which storage found to be whole, cannot be read.
    Snapshot(StoreError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(what) => f.write_str(what),
            Self::Snapshot(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(_) => None,
            Self::Snapshot(error) => Some(error),
        }
    }
}

impl From<String> for OpenError {
    fn from(what: String) -> Self {
        Self::Config(what)
    }
}

/// Why a node cannot go on.
#[derive(Debug)]
pub enum Failure {
    /// The disk failed. Nothing was acknowledged that is not durable.
    Disk(Fault),
    /// The event loop failed.
    Loop(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(fault) => fault.fmt(f),
            Self::Loop(error) => write!(f, "the event loop failed: {error}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Whom a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Role(Role),
    Service(usize),
}

/// A listener of the node.
#[derive(Clone, Copy, Debug)]
struct Listening {
    listener: ListenerId,
    port: Port,
    /// Connections of it that have not said hello, or were turned away and are not gone: one more and the oldest goes.
    /// Below its `max_connections`, or those would keep out everybody else.
    strangers_max: usize,
}

/// What Raft last said of the node's place.
#[derive(Clone, Copy, Debug)]
struct Place {
    state: NodeState,
    term: Term,
    leader: NodeId,
}

/// A node without its adapter and protocol, so that an event of the one and a message of the other can be lent to it.
struct Host<S: Storage, M> {
    config: Config,
    identity: Identity,
    backend: &'static str,
    started: Instant,
    raft: Raft,
    place: Place,
    log: Tail,
    storage: S,
    snapshots: snapshots::Snapshots<S::Snapshots>,
    room: u64,
    /// What room there was when an operator was told that it is short.
    short_at: Option<u64>,
    sessions: Sessions,
    machine: M,
    /// The first index of the log.
    first: Index,
    /// Applied, and not yet told to Raft: a turn applies a bounded number of entries.
    applied_unsaid: Option<Index>,
    conns: Conns,
    budget: Budget,
    peers: Peers,
    /// Peers to connect to once `poll` has returned the adapter.
    to_connect: Vec<(NodeId, peers::Step)>,
    /// Whether this turn accepted a connection.
    has_accepted: bool,
    /// Connections to be closed once `poll` has returned the adapter.
    to_close: Vec<(ConnId, crate::handshake::Rejection)>,
    requests: Requests,
    members: Members,
    handover: Handover,
    next_read: RequestId,
    listeners: Vec<Listening>,
    services: Vec<Box<dyn Service>>,
    queue: Arc<Queue>,
    calls: VecDeque<Call>,
    tasks: VecDeque<Task<S::Work>>,
    counters: Counters,
    stats: Stats,
    sweep_at: Instant,
    stopping: Option<Instant>,
    observer: Box<dyn FnMut(Notice<'_>) + Send>,
    reply: BytesMut,
}

impl<A, P, S, M> Node<A, P, S, M>
where
    A: Adapter,
    P: Protocol,
    S: Storage,
    M: StateMachine,
{
    /// A node that has not listened yet. Reads the newest snapshot, which blocks. `observer` is told what an operator
    /// should hear of, on the node's loop.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing was changed.
    pub fn open(
        config: Config,
        parts: Parts<A, P, S, M>,
        observer: impl FnMut(Notice<'_>) + Send + 'static,
    ) -> Result<Self, OpenError> {
        config.validate()?;
        let Parts {
            adapter,
            protocol,
            storage,
            recovered,
            mut machine,
        } = parts;
        let now = adapter.now();
        let mut config = config;
        config.speak(protocol.overhead());
        config.validate()?;
        if config.raft.addresses.is_empty() {
            let founders = config.members.iter();
            config.raft.addresses = founders.map(|member| (member.node, member.address.clone())).collect();
        }
        if config.raft.lease_drift_max.is_some() && adapter.read_clock().is_none() {
            return Err(OpenError::Config(format!(
                "lease_drift_max: the event loop {} has no clock to look at after a read: do without leases, or take \
                 another",
                adapter.name()
            )));
        }
        let mut raft = Raft::new(config.raft.clone(), &recovered, now)?;
        let frame_max = u32::try_from(config.limits.frame_max).expect("validated above");
        let mut identity = Identity::node(&config.cluster_name, config.raft.id, config.incarnation, frame_max);
        let members = Members::new(&config);
        members.tell_lives(&config, &mut raft);
        let mut peers = Peers::new(std::iter::empty(), config.backoff.clone(), config.raft.seed, now);
        let (membership, committed) = raft.committed_configuration();
        identity.membership = raft.configuration().0;
        peers.follow(&members.others(&raft, &config), membership, committed, now, now);
        let limits = ConnLimits {
            in_flight_max: config.client_in_flight_max,
            backlog_max: config.requests_max,
            backlog_bytes_max: config.client_backlog_bytes_max,
        };
        let mut sessions = Sessions::new(config.sessions);
        let store = storage.snapshots();
        if let Some(snapshot) = &recovered.snapshot {
            let state = snapshots::load::<_, M::Image>(&store, snapshot.id, &config.sessions);
            let state = state.map_err(OpenError::Snapshot)?;
            sessions.restore(state.sessions);
            machine.restore(state.machine);
        }
        let snapshots = snapshots::Snapshots::new(
            config.snapshots.clone(),
            store,
            recovered.snapshot.clone(),
            config.raft.heartbeat_interval,
            config.limits.frame_max,
            now,
        );
        let host = Host {
            snapshots,
            identity,
            backend: adapter.name(),
            started: now,
            place: Place {
                state: NodeState::Follower,
                term: recovered.hard.term,
                leader: NodeId::NONE,
            },
            raft,
            log: Tail::new(recovered.last, config.tail_bytes_max),
            room: storage.room(),
            short_at: None,
            storage,
            sessions,
            machine,
            first: recovered.base_index.next(),
            applied_unsaid: None,
            conns: Conns::new(limits),
            budget: Budget::new(config.inbox_bytes_max),
            peers,
            to_connect: Vec::new(),
            has_accepted: false,
            to_close: Vec::new(),
            requests: Requests::default(),
            members,
            handover: Handover::default(),
            // Ids of reads go to other nodes and come back: no two lives of a node may draw the same.
            next_read: RequestId(fastrand::Rng::with_seed(config.raft.seed).u64(..) >> 8),
            listeners: Vec::new(),
            services: Vec::new(),
            queue: Queue::new(config.calls_max),
            calls: VecDeque::new(),
            tasks: VecDeque::new(),
            counters: Counters::default(),
            stats: Stats::default(),
            sweep_at: now + SWEEP_INTERVAL,
            stopping: None,
            observer: Box::new(observer),
            reply: BytesMut::new(),
            config,
        };
        let mut node = Self {
            adapter,
            protocol,
            host,
        };
        node.host.raft.room(node.host.room, now);
        Ok(node)
    }

    /// Takes connections of one role at `at`: peers and clients have listeners of their own, so that neither crowds
    /// the other out.
    ///
    /// # Errors
    ///
    /// The adapter's; the text names the endpoint.
    pub fn listen(&mut self, role: Role, at: &Endpoint, options: ListenOptions) -> io::Result<Endpoint> {
        self.listen_as(Port::Role(role), at, options)
    }

    /// Runs another listener on this node's loop.
    ///
    /// # Errors
    ///
    /// The adapter's; the text names the endpoint.
    pub fn serve(&mut self, service: Box<dyn Service>, at: &Endpoint, options: ListenOptions) -> io::Result<Endpoint> {
        let endpoint = self.listen_as(Port::Service(self.host.services.len()), at, options)?;
        self.host.services.push(service);
        Ok(endpoint)
    }

    fn listen_as(&mut self, port: Port, at: &Endpoint, options: ListenOptions) -> io::Result<Endpoint> {
        let audience = match port {
            Port::Role(Role::Peer) => Audience::Peers,
            Port::Role(Role::Client) => Audience::Clients,
            Port::Service(_) => Audience::Others,
        };
        let listener = self.adapter.listen(at, ListenOptions { audience, ..options })?;
        let strangers_max = self.host.config.handshakes_max.min(options.max_connections / 2);
        self.host.listeners.push(Listening {
            listener,
            port,
            strangers_max,
        });
        self.adapter.local_endpoint(listener)
    }

    /// This node, from any thread.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.host.queue), self.adapter.waker())
    }

    /// Ends a wait of this node's loop, from any thread.
    pub fn waker(&self) -> Waker {
        self.adapter.waker()
    }

    /// One turn for callers that have no tasks to complete: [`poll`](Self::poll), then [`settle`](Self::settle).
    ///
    /// # Errors
    ///
    /// [`Failure`] ends the node.
    pub fn turn(&mut self, deadline: Option<Instant>) -> Result<(), Failure> {
        self.poll(deadline)?;
        self.settle()
    }

    /// Waits for events until `deadline`, or the node's own [`next_deadline`](Self::next_deadline), and takes them
    /// in. [`settle`](Self::settle) follows. A deadline in the past does not wait.
    ///
    /// # Errors
    ///
    /// [`Failure`] ends the node.
    pub fn poll(&mut self, deadline: Option<Instant>) -> Result<(), Failure> {
        let Self {
            adapter,
            protocol,
            host,
        } = self;
        if !host.services.is_empty() {
            host.stats = adapter.stats();
        }
        let own = host.next_deadline();
        let deadline = deadline.map_or(own, |deadline| deadline.min(own));
        adapter
            .poll(Some(deadline), |now, event| host.on_event(protocol, now, event))
            .map_err(Failure::Loop)?;
        Ok(())
    }

    /// Does everything that follows from what was taken in, and lets the bytes leave.
    ///
    /// # Errors
    ///
    /// [`Failure`] ends the node.
    pub fn settle(&mut self) -> Result<(), Failure> {
        let Self {
            adapter,
            protocol,
            host,
        } = self;
        let now = adapter.now();
        if host.config.raft.lease_drift_max.is_some()
            && let Some(clock) = adapter.read_clock()
        {
            host.raft.clock(clock);
        }
        host.take_calls(now);
        host.propose(adapter, protocol, now);
        host.ask_reads(adapter, protocol, now);
        host.keep_members(adapter, protocol, now);
        if host.raft.deadline().is_some_and(|deadline| deadline <= now) {
            host.raft.tick(now, &mut host.log);
        }
        host.storage.tick(now);
        host.drain(adapter, protocol);
        host.keep_snapshots(adapter, protocol, now);
        host.keep_conns(adapter, protocol, now);
        host.stop_if_handed_over(now);
        host.stop_if_asked(adapter, protocol, now);
        adapter.flush().map_err(Failure::Loop)
    }

    /// The next blocking work to do off the loop; ask until there is none.
    pub fn next_task(&mut self) -> Option<Task<S::Work>> {
        self.host
            .tasks
            .pop_front()
            .or_else(|| self.host.storage.next_work().map(Task::Storage))
    }

    /// Takes back what came of a [`Task`]. [`settle`](Self::settle) follows.
    ///
    /// # Errors
    ///
    /// [`Failure`] ends the node.
    pub fn complete(&mut self, done: Done<<S::Work as Work>::Done>) -> Result<(), Failure> {
        let now = self.adapter.now();
        let host = &mut self.host;
        match done {
            Done::Storage(done) => match host.storage.done(done).map_err(Failure::Disk)? {
                Some(Completed::Synced(sync)) => {
                    host.counters.syncs += 1;
                    host.raft.synced(sync, now, &mut host.log);
                }
                Some(Completed::Loaded { first, entries }) => {
                    let end = Index(first.0 + entries.len() as u64);
                    crate::log::Log::restore(&mut host.log, first, entries);
                    host.raft.loaded(first..end, &mut host.log);
                }
                Some(Completed::Room) | None => {}
            },
            Done::Snapshot(done) => host.snapshot_done(&mut self.adapter, &self.protocol, done, now)?,
            Done::Resolved { node, addresses } => host.resolved(node, addresses, now),
            Done::Remembered {
                node,
                incarnation,
                result,
            } => {
                result.map_err(Failure::Disk)?;
                host.remembered(&mut self.adapter, &self.protocol, node, incarnation, now);
            }
            Done::DamageForgotten(result) => {
                result.map_err(Failure::Disk)?;
                host.raft.recovered();
                (host.observer)(Notice::Recovered);
            }
        }
        Ok(())
    }

    /// When the node must be turned at the latest: the least of Raft's, the dials', the timers' and its own deadlines.
    /// To run inside another loop, wait on [`poll_fd`](Self::poll_fd) until then.
    pub fn next_deadline(&mut self) -> Instant {
        let own = self.host.next_deadline();
        self.adapter
            .timers()
            .next_deadline()
            .map_or(own, |timer| timer.min(own))
    }

    /// A descriptor that is readable whenever a poll would find work. `None` if the backend has none.
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.adapter.poll_fd()
    }

    /// In what its event loop differs from others.
    pub fn capabilities(&self) -> Capabilities {
        self.adapter.capabilities()
    }

    /// The event loop's time.
    pub fn now(&self) -> Instant {
        self.adapter.now()
    }

    /// Whether a stop was asked for and everything has taken leave.
    pub fn is_stopped(&self) -> bool {
        let Some(since) = self.host.stopping else { return false };
        self.host.conns.len() == 0 || self.adapter.now() >= since + self.host.config.stop_timeout
    }

    /// What Raft knows.
    pub fn status(&self) -> Status {
        self.host.raft.status()
    }

    /// What the node counted.
    pub fn counters(&self) -> Counters {
        self.host.counters
    }

    /// Whether this node was a member of the cluster and is none any more. It stops by itself then.
    pub fn is_removed(&self) -> bool {
        self.host.members.is_expelled()
    }

    /// The configuration that is in force, and where it stands in the log.
    pub fn configuration(&self) -> (Index, &Configuration) {
        self.host.raft.configuration()
    }

    /// The state machine.
    pub fn machine(&self) -> &M {
        &self.host.machine
    }

    /// The table of sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.host.sessions
    }

    /// The last entry of which [`machine`](Self::machine) and [`sessions`](Self::sessions) know: between two turns this
    /// may be beyond what Raft was told, and [`status`](Self::status) has.
    pub fn applied(&self) -> Index {
        self.host.applied()
    }

    /// The log's memory.
    pub fn log(&self) -> &Tail {
        &self.host.log
    }

    /// The event loop.
    pub fn adapter(&self) -> &A {
        &self.adapter
    }

    /// The event loop, for what the node does not do: connections and timers of one's own are not the node's.
    pub fn adapter_mut(&mut self) -> &mut A {
        &mut self.adapter
    }
}

impl<S: Storage, M> Host<S, M> {
    /// The header of a message of this node.
    fn header(&self, request: RequestId) -> Header {
        Header {
            cluster: self.identity.cluster,
            group: GroupId(0),
            from: self.identity.node,
            term: self.place.term,
            request,
        }
    }

    fn applied(&self) -> Index {
        self.applied_unsaid.unwrap_or_else(|| self.raft.status().applied)
    }

    fn leads(&self) -> bool {
        self.place.state == NodeState::Leader
    }

    fn next_deadline(&self) -> Instant {
        // A stopping node dials nobody: what is due then would keep it from waiting.
        let dials = self.stopping.is_none();
        let waits = self.raft.is_transferring() && !self.place.leader.is_some();
        let reads = !self.requests.reads.is_empty() && !waits;
        let is_behind = self.applied_unsaid.is_some() || reads;
        let goes = dials && self.members.is_expelled();
        if is_behind || goes || dials && !self.to_connect.is_empty() {
            return Instant::ZERO;
        }
        let deadlines = [
            self.raft.deadline(),
            self.peers.deadline().filter(|_| dials),
            self.storage.deadline(),
            self.snapshots.deadline(),
            self.members.deadline(),
            self.stopping.map(|since| since + self.config.stop_timeout),
        ];
        deadlines.into_iter().flatten().fold(self.sweep_at, Instant::min)
    }
}

impl<S: Storage, M> Drop for Host<S, M> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl<A, P, S: Storage, M> fmt::Debug for Node<A, P, S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.host.identity.node)
            .field("place", &self.host.place)
            .finish()
    }
}
