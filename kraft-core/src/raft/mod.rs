//! Raft as a pure state machine: no sockets, clocks, threads or randomness but a seed.

use std::ops::Range;
use std::time::Duration;

use crate::id::{Index, NodeId, RequestId, Round, SyncId, Term};
use crate::log::{Log, Proposal};
use crate::message::{Append, Body, Entries, Message, NodeState, Refusal};
use crate::storage::{HardState, Recovered};
use crate::time::Instant;

/// How a node runs Raft. Checked by [`Config::validate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The own id.
    pub id: NodeId,
    /// All voters, the own id among them, ascending.
    pub voters: Vec<NodeId>,
    /// Seeds election jitter and the first round.
    pub seed: u64,
    /// Redrawn from here at every reset, in `min..max`. Default 150-300 ms.
    pub election_timeout: Range<Duration>,
    /// Ask before an election whether it would be won (thesis §9.6). Default on.
    pub pre_vote: bool,
    /// The leader's sign of life. Default 50 ms; twice this is less than the least election timeout.
    pub heartbeat_interval: Duration,
    /// Step down when a majority was not heard for an election timeout (thesis §6.2). Default on.
    pub check_quorum: bool,
    /// How long a sync may take before a leader gives up its leadership.
    pub sync_stall_max: Duration,
    /// Payload bytes of one append.
    pub append_bytes_max: usize,
    /// Entries of one append.
    pub append_entries_max: usize,
    /// Appends in flight to one follower.
    pub inflight_messages_max: usize,
    /// Payload bytes in flight to one follower.
    pub inflight_bytes_max: u64,
    /// Payload bytes proposed and not committed; above it proposals are refused as `Overloaded`.
    pub uncommitted_bytes_max: u64,
    /// Reads that wait for a confirmation or to be forwarded; above it reads are refused as `Overloaded`.
    pub reads_max: usize,
}

impl Config {
    /// The defaults, for `id` among `voters`, which ascend.
    #[must_use]
    pub fn new(id: NodeId, voters: Vec<NodeId>, seed: u64) -> Self {
        Self {
            id,
            voters,
            seed,
            election_timeout: Duration::from_millis(150)..Duration::from_millis(300),
            pre_vote: true,
            heartbeat_interval: Duration::from_millis(50),
            check_quorum: true,
            sync_stall_max: Duration::from_secs(1),
            append_bytes_max: 256 << 10,
            append_entries_max: 4096,
            inflight_messages_max: 64,
            inflight_bytes_max: 512 << 10,
            uncommitted_bytes_max: 64 << 20,
            reads_max: 4096,
        }
    }
}

/// What the driver has to do. Each may be performed the moment it is handed out, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Give to storage.
    Save(HardState),
    /// Give these entries of the log to storage.
    Append(Range<Index>),
    /// Remove from storage everything from here on.
    Truncate(Index),
    /// End storage's batch; call [`Raft::synced`] when it is durable.
    Sync(SyncId),
    /// Send to a peer.
    Send {
        /// To whom.
        to: NodeId,
        /// Joins the reply to a request, zero if there is none.
        request: RequestId,
        /// The sender's term at the time.
        term: Term,
        /// What.
        message: Outgoing,
    },
    /// Read from storage, and call [`Raft::loaded`].
    Load(Range<Index>),
    /// These entries are committed and in memory: apply them, and call [`Raft::applied`].
    Apply(Range<Index>),
    /// A read that this node asked for may be answered when `index` is applied, or is refused.
    ReadAt {
        /// The read.
        request: RequestId,
        /// From where on, or why not.
        result: Result<Index, Refusal>,
    },
    /// Term, state or leader changed. When leadership ends, whatever was proposed and is not applied is `Unknown`.
    Role {
        /// What the node is.
        state: NodeState,
        /// Its term.
        term: Term,
        /// Who leads, [`NodeId::NONE`] if unknown.
        leader: NodeId,
    },
}

/// A message to a peer, with ranges in place of payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// An append whose entries stand in the log.
    Append {
        /// The place before the first entry.
        prev_index: Index,
        /// The term there.
        prev_term: Term,
        /// What is committed.
        commit: Index,
        /// The newest round.
        round: Round,
        /// The entries.
        range: Range<Index>,
    },
    /// Any other message.
    Other(Body<'static>),
}

impl Outgoing {
    /// The body to encode, entries lent by `log`.
    pub fn body<'a>(&self, log: &'a impl Log) -> Body<'a> {
        match self {
            Self::Append {
                prev_index,
                prev_term,
                commit,
                round,
                range,
            } => Body::Append(Append {
                prev_index: *prev_index,
                prev_term: *prev_term,
                commit: *commit,
                round: *round,
                entries: if range.is_empty() {
                    Entries::NONE
                } else {
                    log.entries(range.clone())
                },
            }),
            Self::Other(body) => body.clone(),
        }
    }
}

/// A message that contradicts what was agreed on, or claims what cannot be. The peer's fault: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A term so far above the own that adopting it would end all terms.
    TermJump,
    /// An index or count that overflows.
    IndexOverflow,
    /// Entries whose terms decrease, or are above the message's.
    TermOrder,
    /// An append that would overwrite what is committed.
    CommittedConflict,
    /// A second leader in a term.
    SecondLeader,
    /// A reply to what was never sent.
    Unasked,
    /// A kind that Raft does not take.
    Kind,
}

/// Raft, for one group on one node.
///
/// Inputs are methods; after each (or after many) the driver drains [`poll_output`](Self::poll_output) to `None`
/// before it waits, and calls [`tick`](Self::tick) when [`deadline`](Self::deadline) is reached.
#[derive(Debug)]
pub struct Raft {
    config: Config,
}

/// What a node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The own id.
    pub id: NodeId,
    /// Term and vote.
    pub hard: HardState,
    /// What it is in its term.
    pub state: NodeState,
    /// Who leads, [`NodeId::NONE`] if unknown.
    pub leader: NodeId,
    /// Committed up to here.
    pub commit: Index,
    /// Applied up to here.
    pub applied: Index,
    /// The log's last index.
    pub last: Index,
    /// Durable up to here.
    pub durable: Index,
}

impl Raft {
    /// A node that was just started, with what storage found.
    ///
    /// # Errors
    ///
    /// Which field of the configuration is wrong, and how.
    pub fn new(config: Config, recovered: &Recovered, now: Instant) -> Result<Self, String> {
        let _ = (recovered, now);
        Ok(Self { config })
    }

    /// Takes a message of a peer.
    ///
    /// # Errors
    ///
    /// [`Violation`]: nothing of the message was taken; close the connection.
    pub fn step(&mut self, message: &Message<'_>, now: Instant, log: &mut impl Log) -> Result<(), Violation> {
        let _ = (message, now, log, &self.config);
        todo!()
    }

    /// Takes note that time has passed.
    pub fn tick(&mut self, now: Instant, log: &mut impl Log) {
        let _ = (now, log);
        todo!()
    }

    /// Appends proposals to the log of a leader. All of them or none. The range is where they stand.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotLeader`], [`Refusal::Overloaded`] or [`Refusal::NoSpace`]; nothing happened.
    pub fn propose(
        &mut self,
        proposals: &mut dyn ExactSizeIterator<Item = Proposal>,
        bytes: u64,
        now: Instant,
        log: &mut impl Log,
    ) -> Result<Range<Index>, Refusal> {
        let _ = (proposals, bytes, now, log);
        todo!()
    }

    /// Asks from which index on a linearizable read may be answered (thesis §6.4). Ends in one
    /// [`Output::ReadAt`] with this request, which is unique among reads that wait.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotLeader`] if no leader is known, [`Refusal::Overloaded`].
    pub fn read(&mut self, request: RequestId, now: Instant) -> Result<(), Refusal> {
        let _ = (request, now);
        todo!()
    }

    /// Everything handed out before this sync is durable.
    pub fn synced(&mut self, sync: SyncId, now: Instant, log: &mut impl Log) {
        let _ = (sync, now, log);
        todo!()
    }

    /// Entries asked for by [`Output::Load`] were put back into the log by [`Log::restore`].
    pub fn loaded(&mut self, range: Range<Index>, log: &mut impl Log) {
        let _ = (range, log);
        todo!()
    }

    /// Everything up to here was applied.
    pub fn applied(&mut self, through: Index, log: &mut impl Log) {
        let _ = (through, log);
        todo!()
    }

    /// Storage takes this many payload bytes and no more. A leader without room steps down and refuses; a follower
    /// without room takes no entries.
    pub fn room(&mut self, bytes: u64, now: Instant) {
        let _ = (bytes, now);
        todo!()
    }

    /// A connection to this peer broke: what was in flight may be lost, and if it led, it may be dead.
    pub fn unreachable(&mut self, node: NodeId, now: Instant) {
        let _ = (node, now);
        todo!()
    }

    /// Bytes of an unfinished frame came from this peer: a leader that sends a big one is alive.
    pub fn heard(&mut self, node: NodeId, now: Instant) {
        let _ = (node, now);
        todo!()
    }

    /// When to call [`tick`](Self::tick).
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// The next thing to do, `None` when all is done until the next input.
    pub fn poll_output(&mut self, log: &impl Log) -> Option<Output> {
        let _ = log;
        todo!()
    }

    /// What this node knows.
    #[must_use]
    pub fn status(&self) -> Status {
        todo!()
    }

    /// How far a voter's log is known to match the leader's, and when it was last heard. Zero and `None` unless this
    /// node leads.
    #[must_use]
    pub fn progress(&self, node: NodeId) -> (Index, Option<Instant>) {
        let _ = node;
        todo!()
    }
}
