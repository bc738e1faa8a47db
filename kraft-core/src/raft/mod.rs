//! Raft as a pure state machine: no sockets, clocks, threads or randomness but a seed.
//!
//! It keeps metadata: terms as runs, and cursors into the log. Payloads stay in a [`Log`], so that what a batch costs
//! here does not depend on how much is in it. Inputs change cursors; [`Raft::poll_output`] turns the distance between
//! cursors into work at the moment that it hands it out, so that nothing stale is ever queued.
//!
//! | file | holds |
//! |---|---|
//! | `election` | votes, pre-votes, stickiness, check-quorum |
//! | `replication` | appends, heartbeats and their replies, on both sides |
//! | `commit` | counting, applying, loading what left memory |
//! | `read_index` | linearizable reads |
//! | `recovery` | a voter that lost its log |
//! | `lease` | reads without a round: what followers promise, and what a leader may do with it |
//! | `age` | how old what this node knows may be |
//! | `progress` | what a leader knows of a follower |
//! | `snapshot` | what takes the place of a log's front: releasing it, sending, installing |
//! | `transfer` | leadership handed over |
//! | `tail` | the end of the log, and which output waits for which sync |
//! | `quorum` | majorities, of one set of voters and of two |
//! | `membership` | changes of the members: which are possible, and how a leader gets them done |
//! | `memberships` | the configurations of the log, by index |
//! | `catch_up` | whether a learner keeps up |
//! | `config` | what can be chosen, and its defaults |

mod age;
mod catch_up;
mod commit;
mod config;
mod election;
mod lease;
mod membership;
mod memberships;
mod progress;
pub mod quorum;
mod read_index;
mod recovery;
mod replication;
mod snapshot;
mod tail;
mod transfer;

use std::collections::VecDeque;
use std::ops::Range;

use fastrand::Rng;

use self::age::Known;
use self::commit::Loading;
pub use self::config::Config;
use self::election::{Ballot, Grant};
use self::lease::Lease;
use self::memberships::Memberships;
use self::progress::Progress;
use self::read_index::Reads;
use self::recovery::Promises;
pub use self::recovery::term_after_damage;
use self::replication::Follow;
use self::tail::Tail;
use self::transfer::Handover;
use crate::canary::{self, Canary};
use crate::id::{Index, NodeId, RequestId, Round, SyncId, Term};
use crate::log::{Log, Proposal};
use crate::message::{Append, Body, Entries, Message, NodeState, Refusal, SnapshotId};
use crate::storage::{HardState, Recovered};
use crate::time::Instant;

/// What the driver has to do. Each may be performed the moment it is handed out, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Give to storage.
    Save(HardState),
    /// Give these entries of the log to storage.
    Append(Range<Index>),
    /// Remove from storage everything from here on.
    Truncate(Index),
    /// Begin storage's log anew: nothing of it stays, and the next entry is the one behind this place. A snapshot at it is
    /// durable (see [`Raft::install`]).
    Reset {
        /// What the snapshot holds.
        index: Index,
        /// The term there.
        term: Term,
    },
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
    /// Read from storage, and call [`Raft::loaded`]: in any case, also if a reset removed what is asked for before it
    /// was read.
    Load(Range<Index>),
    /// Storage may forget entries up to here, a snapshot holds them; call [`Raft::released`], before anything else, with
    /// the place behind which its log begins from then on.
    Release(Index),
    /// This follower needs entries that are gone: send it the newest snapshot that is stored, which is at `index` or
    /// behind it, and keep that until it is through. Send as long as [`Raft::sends_snapshot`] says so; call
    /// [`Raft::snapshot_ended`] when it comes to nothing.
    SendSnapshot {
        /// To whom.
        to: NodeId,
        /// What it will have at least.
        index: Index,
    },
    /// Put the state machine and the sessions into the state of this snapshot, one of those that were installed, and call
    /// [`Raft::applied`] with its index. Until then nothing is handed out to be applied, and a read waits if the index
    /// that it may be answered from is not applied.
    Restore(SnapshotId),
    /// These entries are committed and in memory: apply them, and call [`Raft::applied`].
    Apply(Range<Index>),
    /// A read that this node asked for may be answered when `index` is applied, or is refused.
    ReadAt {
        /// The read.
        request: RequestId,
        /// From where on, or why not.
        result: Result<Index, Refusal>,
    },
    /// What a damaged log had promised is made good: let storage forget the damage, durably, and call
    /// [`Raft::recovered`].
    Recovered,
    /// Leadership that was to be handed over by [`Raft::transfer`] was, or stayed.
    Transferred {
        /// To whom it was to go.
        to: NodeId,
        /// Who leads. Or why that is not so: [`Refusal::TimedOut`], [`Refusal::Unreachable`], or
        /// [`Refusal::NotLeader`] if this node leads no more, and not by the transfer.
        result: Result<NodeId, Refusal>,
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
    /// Another configuration is in force, or one is committed: [`Raft::configuration`] and
    /// [`Raft::committed_configuration`] say which.
    Members {
        /// Where the one in force stands in the log.
        in_force: Index,
        /// Where the newest committed one does.
        committed: Index,
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
    /// A piece of a snapshot that is not a part of it, or more of it than may be under way.
    SnapshotPiece,
    /// A kind that Raft does not take.
    Kind,
    /// An entry says who the members are, and cannot be read.
    Membership,
}

/// Raft, for one group on one node.
///
/// Inputs are methods; after each (or after many) the driver drains [`poll_output`](Self::poll_output) to `None`
/// before it waits, and calls [`tick`](Self::tick) when [`deadline`](Self::deadline) is reached.
///
/// `base <= applied <= applying <= commit <= last`; while a state is restored, `applied < base <= commit`.
#[derive(Debug)]
pub struct Raft {
    config: Config,
    rng: Rng,
    /// The latest time that an input brought.
    now: Instant,
    tail: Tail,
    state: NodeState,
    leader: NodeId,
    /// State, term and leader as they were handed out last.
    told: (NodeState, Term, NodeId),

    /// Committed, as far as this node knows.
    commit: Index,
    /// Applied.
    applied: Index,
    /// Handed out to be applied.
    applying: Index,
    loading: Option<Loading>,
    /// The newest snapshot that is stored holds what is up to here; zero if there is none.
    snapshot: Index,
    /// Storage was told that it may forget what is up to here.
    released: Index,
    /// The furthest that storage was ever asked to release.
    release_asked: Index,
    /// Once this is durable, storage is asked again.
    release_again: Option<SyncId>,
    /// What the state machine is to become before anything else is applied.
    restore: Option<SnapshotId>,
    /// Whom the next load serves if both want one: the state machine, or a follower.
    load_for_apply: bool,

    /// When to campaign, unless leading.
    election_deadline: Instant,
    /// When the leader was last heard; `None` if nothing is owed to it.
    leader_heard: Option<Instant>,
    /// Stood back from one election for lack of room.
    yielded: bool,
    /// The vote for oneself, once it counts.
    own_vote: bool,
    /// A candidate that its leader asked to campaign.
    by_transfer: bool,
    ballots: Vec<Ballot>,
    grant: Option<Grant>,
    promises: Promises,
    /// What was accepted from this term's leader, and what it was told of it.
    follow: Follow,

    memberships: Memberships,
    /// The other members, ascending, and as a leader those that were some until recently.
    progress: Vec<Progress>,
    elected_at: Instant,
    /// The no-op that this term of office began with.
    term_start: Index,
    /// There was little room when this term of office began, so that handing it on would gain nothing.
    elected_low: bool,
    heartbeat_deadline: Instant,
    /// When followers that saw no append since are told what was committed.
    commit_deadline: Option<Instant>,
    uncommitted_bytes: u64,
    handover: Option<Handover>,
    round: Round,
    reads: Reads,
    lease: Lease,
    known: Known,

    /// Messages that wait for nothing and stay true.
    ready: VecDeque<Output>,
}

/// A peer's term may be this far above the own. More would be an error of the peer's, and a term near the maximum
/// would end all elections.
pub const TERM_JUMP_MAX: u64 = 1 << 32;

/// Payload bytes of room that a leader leaves in storage, so that its successors can begin their terms.
const ROOM_RESERVE: u64 = 4 << 10;

/// With less room than this a node prefers that another one leads.
const ROOM_LOW: u64 = 8 << 10;

/// With less room than this a node cannot lead: its no-op would not fit.
const ROOM_MIN: u64 = 1 << 10;

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
    /// Where the configuration in force stands in the log; zero for the one that the cluster was founded with.
    pub membership: Index,
    /// It was a member, and is none any more: that is committed.
    pub is_removed: bool,
}

impl Raft {
    /// A node that was just started, with what storage found. If that is a snapshot, the state machine is in the state
    /// of it.
    ///
    /// # Errors
    ///
    /// Which field of the configuration is wrong, and how; or that the recovered log is none.
    pub fn new(config: Config, recovered: &Recovered, now: Instant) -> Result<Self, String> {
        config.validate()?;
        let tail = Tail::new(recovered)?;
        let memberships = Memberships::new(&config, recovered)?;
        // Nodes that were given the same seed must not draw the same deadlines (`split_vote_even_cluster`).
        let mut rng = Rng::with_seed(config.seed ^ config.id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let round = Round(rng.u64(..) >> 2);
        let reads = Reads::new(rng.u64(..) >> 2);
        let snapshot = recovered
            .snapshot
            .as_ref()
            .map_or(Index::ZERO, |snapshot| snapshot.head.index);
        let applied = snapshot.max(recovered.base_index);
        let mut raft = Self {
            told: (NodeState::Follower, tail.hard.term, NodeId::NONE),
            commit: applied,
            applied,
            applying: applied,
            snapshot,
            released: recovered.base_index,
            release_asked: recovered.base_index,
            release_again: None,
            restore: None,
            memberships,
            progress: Vec::new(),
            ballots: Vec::new(),
            state: NodeState::Follower,
            leader: NodeId::NONE,
            loading: None,
            load_for_apply: true,
            election_deadline: now,
            leader_heard: None,
            yielded: false,
            own_vote: false,
            by_transfer: false,
            grant: None,
            promises: match config.recovering {
                true => Promises::Lost,
                false => Promises::Kept,
            },
            follow: Follow::default(),
            elected_at: now,
            term_start: Index::ZERO,
            elected_low: false,
            heartbeat_deadline: now,
            commit_deadline: None,
            uncommitted_bytes: 0,
            handover: None,
            round,
            reads,
            lease: Lease::default(),
            known: Known::default(),
            ready: VecDeque::new(),
            config,
            rng,
            now,
            tail,
        };
        raft.seat_members();
        raft.memberships.told = (raft.configuration().0, raft.committed_configuration().0);
        // A single voter has nobody to wait for.
        if !raft.is_sole() {
            raft.reset_election_deadline();
        }
        raft.keep_former_promise();
        Ok(raft)
    }

    /// Takes a message of a peer. Whoever leads or asks for votes is heard, member or not: this node's configuration may
    /// be behind (thesis §4.1). Answers of those that were not asked are ignored.
    ///
    /// # Errors
    ///
    /// [`Violation`]: nothing of the message was taken; close the connection.
    pub fn step(&mut self, message: &Message<'_>, now: Instant, log: &mut impl Log) -> Result<(), Violation> {
        self.advance(now);
        let Message { header, body } = message;
        if !header.from.is_some() || header.from == self.config.id {
            return Ok(());
        }
        self.check_term(header.term)?;
        match body {
            Body::Append(append) => return self.step_append(header, append, log),
            Body::Heartbeat(heartbeat) => return self.step_heartbeat(header, heartbeat),
            Body::Snapshot(chunk) => return self.step_snapshot(header, &chunk.id),
            Body::TimeoutNow => return self.step_timeout_now(header, log),
            // Nobody needs a former member to lead: a majority knows that it is one.
            Body::Vote(_) if self.committed_configuration().1.is_removed(header.from) => return Ok(()),
            Body::Vote(vote) => return self.step_vote(header, vote),
            Body::AppendReply(_)
            | Body::HeartbeatReply(_)
            | Body::SnapshotReply(_)
            | Body::VoteReply(_)
            | Body::ReadIndex
            | Body::ReadIndexReply(_) => {}
            _ => return Err(Violation::Kind),
        }
        let Some(peer) = self.peer(header.from) else {
            return Ok(());
        };
        // One that is on its way out, and does not know it, may have campaigned: no reason to end this term.
        let is_member = self.configuration().1.member(header.from).is_some();
        if header.term > self.tail.hard.term && !is_member {
            return Ok(());
        }
        match body {
            Body::AppendReply(reply) => return self.step_append_reply(peer, header, reply, log),
            Body::HeartbeatReply(reply) => return self.step_heartbeat_reply(peer, header, reply, log),
            Body::SnapshotReply(_) => return self.step_snapshot_reply(peer, header),
            Body::VoteReply(reply) => self.step_vote_reply(peer, header, reply, log),
            Body::ReadIndex => self.step_read_index(header),
            Body::ReadIndexReply(reply) => self.step_read_index_reply(header, reply),
            _ => {}
        }
        Ok(())
    }

    /// Takes note that time has passed.
    pub fn tick(&mut self, now: Instant, log: &mut impl Log) {
        self.advance(now);
        if self.state == NodeState::Leader {
            self.tick_leader(log);
        } else if self.election_deadline <= self.now {
            match self.may_campaign() {
                _ if self.has_promised() => self.reset_election_deadline(),
                true => self.campaign(log),
                // The leader is gone; who votes will find another.
                false => self.become_follower(self.tail.hard.term, NodeId::NONE),
            }
        }
        self.tick_transfer();
        self.reads.expire(self.now, self.tail.hard.term);
    }

    /// Appends proposals to the log of a leader. All of them or none. The range is where they stand. `bytes` is the
    /// sum of their payloads.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotLeader`], [`Refusal::Transferring`], [`Refusal::Overloaded`] or [`Refusal::NoSpace`]; nothing
    /// happened.
    pub fn propose(
        &mut self,
        proposals: &mut dyn ExactSizeIterator<Item = Proposal>,
        bytes: u64,
        now: Instant,
        log: &mut impl Log,
    ) -> Result<Range<Index>, Refusal> {
        self.advance(now);
        if self.state != NodeState::Leader {
            return Err(Refusal::NotLeader);
        }
        if self.handover.is_some() {
            return Err(Refusal::Transferring);
        }
        if self.tail.room() < bytes.saturating_add(ROOM_RESERVE) {
            if self.tail.room() < ROOM_LOW && !self.elected_low {
                self.step_down();
            }
            return Err(Refusal::NoSpace);
        }
        // One proposal of any size is let in when nothing is under way, or it would never be.
        let uncommitted_bytes = self.uncommitted_bytes.saturating_add(bytes);
        if uncommitted_bytes > self.config.uncommitted_bytes_max && self.uncommitted_bytes > 0 {
            return Err(Refusal::Overloaded);
        }
        let first = self.tail.terms.last().next();
        let count = log.propose(first, self.tail.hard.term, proposals);
        if count > 0 {
            self.tail.push(Index(first.0 + count - 1), self.tail.hard.term);
            self.tail.take_room(bytes);
            self.uncommitted_bytes = uncommitted_bytes;
        }
        if canary::is(Canary::WithdrawnSent) {
            let queued: Vec<_> = (0..self.progress.len())
                .filter_map(|peer| self.poll_append(peer, log))
                .collect();
            self.ready.extend(queued);
        }
        Ok(first..Index(first.0 + count))
    }

    /// Asks from which index on a linearizable read may be answered (thesis §6.4). Ends in one
    /// [`Output::ReadAt`] with this request, which is unique among reads that wait.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotLeader`] if no leader is known, [`Refusal::Overloaded`].
    pub fn read(&mut self, request: RequestId, now: Instant) -> Result<(), Refusal> {
        self.advance(now);
        self.ask_read_index(request)
    }

    /// Everything handed out before this sync is durable.
    pub fn synced(&mut self, sync: SyncId, now: Instant, log: &mut impl Log) {
        self.advance(now);
        self.tail.synced(sync);
        self.release_again_synced(sync);
        match self.state {
            NodeState::Leader => self.count_matches(log),
            NodeState::Candidate => self.count_own_vote(log),
            NodeState::Follower | NodeState::PreCandidate => {}
        }
        self.evict(log);
    }

    /// Entries asked for by [`Output::Load`] were put back into the log by [`Log::restore`], or are gone.
    pub fn loaded(&mut self, range: Range<Index>, log: &mut impl Log) {
        let _ = range;
        self.loading = None;
        self.release_again();
        self.evict(log);
    }

    /// Everything up to here was applied, or is in the state that was restored.
    ///
    /// # Panics
    ///
    /// If that was not handed out to be applied, or was applied before.
    pub fn applied(&mut self, through: Index, log: &mut impl Log) {
        assert!(
            self.applied <= through && through <= self.applying,
            "applied what was not handed out"
        );
        self.applied = through;
        self.settle_known();
        self.memberships.applied(through);
        self.evict(log);
    }

    /// Storage takes this many payload bytes and no more, of what it was not handed yet. A leader without room steps
    /// down and refuses; a follower without room takes no entries.
    pub fn room(&mut self, bytes: u64, now: Instant) {
        self.advance(now);
        self.tail.set_room(bytes);
        if self.state == NodeState::Leader && self.tail.room() < ROOM_MIN {
            self.step_down();
        }
    }

    /// A connection to this peer broke: what was in flight may be lost, and if it led, it may be dead.
    pub fn unreachable(&mut self, node: NodeId, now: Instant) {
        self.advance(now);
        if let Some(peer) = self.peer(node) {
            self.progress[peer].lost();
        }
        self.lose_successor(node);
        self.lose_leader(node);
    }

    /// Bytes of an unfinished frame came from this peer: a leader that sends a big one is alive.
    pub fn heard(&mut self, node: NodeId, now: Instant) {
        self.advance(now);
        if self.state == NodeState::Follower && node == self.leader {
            self.hear_leader();
        }
    }

    /// When to call [`tick`](Self::tick).
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let role = match self.state {
            NodeState::Leader => Some(self.leader_deadline()),
            // Who does not vote has nothing to do about a leader that it does not hear, but to forget it.
            _ => (self.leader.is_some() || self.may_campaign()).then_some(self.election_deadline),
        };
        let others = [self.reads.deadline(), self.transfer_deadline()];
        others.into_iter().flatten().chain(role).min()
    }

    /// The next thing to do, `None` when all is done until the next input.
    pub fn poll_output(&mut self, log: &impl Log) -> Option<Output> {
        let role = (self.state, self.tail.hard.term, self.leader);
        if role != self.told {
            self.told = role;
            let (state, term, leader) = role;
            return Some(Output::Role { state, term, leader });
        }
        let (in_force, committed) = (self.configuration().0, self.committed_configuration().0);
        if self.memberships.told != (in_force, committed) {
            self.memberships.told = (in_force, committed);
            return Some(Output::Members { in_force, committed });
        }
        if let Some(output) = self.tail.poll_output(self.now) {
            return Some(output);
        }
        self.start_reads();
        self.conclude_transfer();
        if let Some(output) = self.ready.pop_front() {
            return Some(output);
        }
        if let Some(output) = self.reads.poll_answer() {
            return Some(output);
        }
        let output = match self.state {
            NodeState::Leader => self.poll_replication(log).or_else(|| self.poll_timeout_now()),
            NodeState::Candidate => self.poll_vote_request(),
            NodeState::Follower | NodeState::PreCandidate => self.poll_grant().or_else(|| self.poll_ack()),
        };
        output
            .or_else(|| self.poll_apply(log))
            .or_else(|| self.poll_release())
            .or_else(|| self.poll_recovered())
    }

    /// What this node knows.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            id: self.config.id,
            hard: self.tail.hard,
            state: self.state,
            leader: self.leader,
            commit: self.commit,
            applied: self.applied,
            last: self.tail.terms.last(),
            durable: self.tail.durable(),
            membership: self.configuration().0,
            is_removed: self.is_removed(),
        }
    }

    /// How far a member's log is known to match the leader's, and when it was last heard. Zero and `None` unless this
    /// node leads.
    #[must_use]
    pub fn progress(&self, node: NodeId) -> (Index, Option<Instant>) {
        if self.state != NodeState::Leader {
            return (Index::ZERO, None);
        }
        if node == self.config.id {
            return (self.tail.durable(), Some(self.now));
        }
        self.peer(node).map_or((Index::ZERO, None), |peer| {
            (self.progress[peer].matched, self.progress[peer].heard)
        })
    }

    /// Time never goes back, whatever an input says.
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Where `node` stands in `progress`, if it is another member.
    fn peer(&self, node: NodeId) -> Option<usize> {
        self.progress.iter().position(|progress| progress.id == node)
    }

    fn check_term(&self, term: Term) -> Result<(), Violation> {
        match term.0.saturating_sub(self.tail.hard.term.0) > TERM_JUMP_MAX {
            true => Err(Violation::TermJump),
            false => Ok(()),
        }
    }

    /// Queues a message that waits for nothing.
    fn send_ready(&mut self, to: NodeId, request: RequestId, body: Body<'static>) {
        let output = self.send(to, request, Outgoing::Other(body));
        self.ready.push_back(output);
    }

    fn send(&self, to: NodeId, request: RequestId, message: Outgoing) -> Output {
        Output::Send {
            to,
            request,
            term: self.tail.hard.term,
            message,
        }
    }
}
