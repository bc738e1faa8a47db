//! What nodes and clients say to each other, free of any wire format.
//!
//! A [`Message`] is a [`Header`] and a [`Body`]. Payloads are lent: on decode they point into the received bytes, on
//! encode into the log's memory. A kind exists when it has a handler; what comes later gets kinds of its own (law P8).

use bytes::Bytes;

use crate::id::{ClusterId, GroupId, Incarnation, Index, NodeId, RequestId, Round, Sequence, SessionId, Term};

/// A message and what every message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Where it belongs and who sent it.
    pub header: Header,
    /// What it says.
    pub body: Body<'a>,
}

/// What every message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Header {
    /// The cluster; a message of another one ends the connection.
    pub cluster: ClusterId,
    /// The group within the cluster, 0 until there are several.
    pub group: GroupId,
    /// The sending node, [`NodeId::NONE`] from a client.
    pub from: NodeId,
    /// The sender's current term, zero from a client.
    pub term: Term,
    /// Chosen by the requester, repeated by the reply, zero where no reply is awaited.
    pub request: RequestId,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body<'a> {
    /// First on a connection, from the side that dialled.
    Hello(Hello<'a>),
    /// The answer to an accepted hello.
    Welcome(Welcome),
    /// The last words before a close.
    Goaway(Goaway<'a>),

    /// Leader to follower: entries to append (thesis §3.5). Without entries, a probe.
    Append(Append<'a>),
    /// Follower to leader: what became of an append; sent when it is durable.
    AppendReply(AppendReply),
    /// Leader to follower: I lead, and this much is committed.
    Heartbeat(Heartbeat),
    /// Follower to leader: I follow.
    HeartbeatReply(HeartbeatReply),
    /// Candidate to voter: a vote or pre-vote, asked for (thesis §3.4, §9.6).
    Vote(Vote),
    /// Voter to candidate.
    VoteReply(VoteReply),
    /// Follower to leader: from which index on may I answer this read (thesis §6.4)?
    ReadIndex,
    /// Leader to follower: from this one, or not at all.
    ReadIndexReply(ReadIndexReply),
    /// Leader to follower: a piece of a snapshot, in place of entries that the leader's log no longer has (thesis §5.3).
    Snapshot(SnapshotChunk<'a>),
    /// Follower to leader: how much of a snapshot is here.
    SnapshotReply(SnapshotReply),
    /// Leader to its successor: campaign now (thesis §3.10).
    TimeoutNow,

    /// Client to node: opens a session.
    OpenSession,
    /// Client to node: a command for the log.
    Command(Command<'a>),
    /// Client to node: a query of the state machine, linearizable unless it says otherwise.
    Read(Read<'a>),
    /// Client to node: changes who the members are.
    Change(Change<'a>),
    /// Client to node: hand leadership over.
    Transfer(Transfer),
    /// Client to node: a piece of a snapshot, to be kept elsewhere.
    Fetch(Fetch),
    /// Node to client: that piece.
    FetchReply(SnapshotChunk<'a>),
    /// Node to client: how a request ended.
    Reply(Outcome<'a>),
    /// Anyone to node: how are you?
    Status,
    /// Node to anyone.
    StatusReply(StatusReply<'a>),
}

/// Which side of the cluster a connection is on. Bounds the kinds that it may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another node of the cluster.
    Peer,
    /// A user of the cluster.
    Client,
}

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest that is spoken.
    pub min: u16,
    /// The newest that is spoken.
    pub max: u16,
}

impl Versions {
    /// What this build speaks.
    pub const OURS: Self = Self { min: 1, max: 1 };

    /// The newest version that both sides speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// The dialler introduces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// What the dialler is.
    pub role: Role,
    /// Whom it believes to have dialled; [`NodeId::NONE`] if it does not know.
    pub to: NodeId,
    /// The life of the dialler's data folder; zero from a client.
    pub incarnation: Incarnation,
    /// Drawn afresh for each connection: tells a node that dialled itself.
    pub nonce: u64,
    /// What the dialler speaks.
    pub versions: Versions,
    /// Optional features of the dialler, one bit each; unknown bits are ignored.
    pub features: u64,
    /// The largest frame that the dialler takes, in bytes, header included.
    pub frame_max: u32,
    /// The cluster's name, of which the header's id is a hash.
    pub cluster_name: &'a str,
    /// Where the newest committed configuration stands that the dialler knows; zero if it knows none. A node that is
    /// unknown here, and knows a later one, is a member that was added meanwhile.
    pub membership: Index,
}

/// The side that was dialled accepts. Its id is the header's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The life of the answering node's data folder.
    pub incarnation: Incarnation,
    /// The hello's nonce.
    pub nonce: u64,
    /// The version that both will speak.
    pub version: u16,
    /// Features that both have.
    pub features: u64,
    /// The largest frame that the answering node takes, in bytes, header included.
    pub frame_max: u32,
}

/// Why a connection is about to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goaway<'a> {
    /// The branch that the receiver takes.
    pub reason: GoawayReason,
    /// What the receiver's operator reads; escaped and cut before it is logged.
    pub detail: &'a str,
}

/// The reasons of a goaway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GoawayReason {
    /// The hello named another cluster.
    WrongCluster,
    /// The hello meant another node.
    WrongNode,
    /// The hello carries the id of the node that it reached.
    OwnId,
    /// The hello's node is no member.
    UnknownNode,
    /// The hello's node is known under another incarnation: its disk was wiped or restored.
    WrongIncarnation,
    /// The node has a live connection from elsewhere.
    DuplicateNode,
    /// No protocol version in common.
    NoCommonVersion,
    /// A kind that this role may not send, or one before the hello.
    NotAllowed,
    /// Bytes that are no frame.
    Malformed,
    /// A frame above the limit.
    TooLarge,
    /// No hello, or no end of a frame, in time.
    TooSlow,
    /// More connections than are allowed.
    TooMany,
    /// The node is going down.
    Stopping,
    /// A message that contradicts what was agreed on.
    Violation,
    /// The hello's node was a member and is none any more.
    Removed,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// Empty: a leader's first entry (thesis §6.4).
    Noop,
    /// A command of the state machine, behind a session header.
    Command,
    /// Opens a session; its index is the session's id.
    OpenSession,
    /// A configuration of the cluster: the one payload that the core reads.
    Membership,
}

/// An entry in memory, its payload shared by log, disk and followers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term in which a leader made it.
    pub term: Term,
    /// What it is.
    pub kind: EntryKind,
    /// CRC32C of the payload, computed once, where it entered the cluster.
    pub crc: u32,
    /// What it says.
    pub payload: Bytes,
}

/// An entry whose payload is lent from a receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// The term in which a leader made it.
    pub term: Term,
    /// What it is.
    pub kind: EntryKind,
    /// CRC32C of the payload; checked by the decoder.
    pub crc: u32,
    /// What it says.
    pub payload: &'a [u8],
}

impl Entry {
    /// The same entry, lent.
    #[must_use]
    pub fn as_ref(&self) -> EntryRef<'_> {
        EntryRef {
            term: self.term,
            kind: self.kind,
            crc: self.crc,
            payload: &self.payload,
        }
    }
}

/// The entries of an append: lent by a decoder, or shared out of the log's ring (whose memory comes in two halves).
#[derive(Clone, Debug)]
pub enum Entries<'a> {
    /// Out of a received frame.
    Lent(Vec<EntryRef<'a>>),
    /// Out of the log.
    Shared(&'a [Entry], &'a [Entry]),
}

impl<'a> Entries<'a> {
    /// No entries.
    pub const NONE: Entries<'static> = Entries::Shared(&[], &[]);

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Entries::Lent(entries) => entries.len(),
            Entries::Shared(front, back) => front.len() + back.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry at `at`, counted from 0.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<EntryRef<'_>> {
        match self {
            Entries::Lent(entries) => entries.get(at).copied(),
            Entries::Shared(front, back) => front.get(at).or_else(|| back.get(at - front.len())).map(Entry::as_ref),
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        let (lent, front, back): (&[EntryRef<'_>], &[Entry], &[Entry]) = match self {
            Entries::Lent(entries) => (entries, &[], &[]),
            Entries::Shared(front, back) => (&[], front, back),
        };
        lent.iter().copied().chain(front.iter().chain(back).map(Entry::as_ref))
    }
}

impl PartialEq for Entries<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Entries<'_> {}

/// Entries to append after `prev` (thesis §3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append<'a> {
    /// The place before the first entry.
    pub prev_index: Index,
    /// The term of the entry there.
    pub prev_term: Term,
    /// What the leader knows to be committed.
    pub commit: Index,
    /// The leader's newest round of confirmation, repeated by the reply.
    pub round: Round,
    /// The entries from `prev_index + 1` on.
    pub entries: Entries<'a>,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendReply {
    /// The append's round.
    pub round: Round,
    /// Whether it fitted.
    pub result: AppendResult,
}

/// Whether an append fitted the follower's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendResult {
    /// It did: the follower's log equals the leader's up to here, durably.
    Matched(Index),
    /// It did not.
    Rejected {
        /// The refused append's `prev_index`, so that an old refusal is recognised.
        prev_index: Index,
        /// The last index at which the follower's log may agree (etcd's hint: index and term).
        hint_index: Index,
        /// The term of the follower's entry there.
        hint_term: Term,
    },
}

/// The leader's sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Committed, and known to be in this follower's log.
    pub commit: Index,
    /// The leader's newest round of confirmation, repeated by the reply.
    pub round: Round,
}

/// The follower's sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// The heartbeat's round.
    pub round: Round,
    /// So many microseconds from the receipt of the heartbeat the follower has no vote for anybody, not even for
    /// itself, unless this leader asks it to. Zero: it promises nothing.
    pub promise_us: u64,
}

/// Asks for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Only asks whether a vote would be granted; changes no state (thesis §9.6).
    pub pre: bool,
    /// The leader asked for it: heard or not, do not cling to it (thesis §3.10).
    pub by_transfer: bool,
    /// The term to be led. In a vote it equals the header's; in a pre-vote it is one more.
    pub term: Term,
    /// The candidate's last entry.
    pub last_index: Index,
    /// That entry's term.
    pub last_term: Term,
}

/// Answers a request for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteReply {
    /// Answers a pre-vote.
    pub pre: bool,
    /// Given, or refused.
    pub granted: bool,
    /// The term that was asked for.
    pub term: Term,
}

/// Answers a follower's read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadIndexReply {
    /// Leadership was confirmed after the question: answer from this index on.
    At(Index),
    /// Ask again, elsewhere.
    Refused,
}

/// Which snapshot: two with the same id are the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SnapshotId {
    /// The last entry that it holds.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// Bytes of all of it.
    pub bytes: u64,
    /// CRC32C of all of it.
    pub crc: u32,
}

/// A piece of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotChunk<'a> {
    /// Of which snapshot.
    pub id: SnapshotId,
    /// Where in it the piece begins.
    pub offset: u64,
    /// The piece; empty only in a question how much is there already.
    pub data: &'a [u8],
}

/// How much of a snapshot is here. That it is installed is said by an [`AppendReply`] that matches its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotReply {
    /// Of which snapshot.
    pub id: SnapshotId,
    /// How it goes.
    pub result: SnapshotResult,
}

/// How the transfer of a snapshot goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotResult {
    /// Everything before this offset is here: go on from there.
    Received(u64),
    /// There is no room for it: try again later.
    NoSpace,
    /// All of it came, and it is damaged: its sender should look at its disk.
    Damaged,
}

/// Changes who the members are. Nothing happens if it is so already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Adds a node, as a learner. The leader asks it first who it is.
    Add {
        /// Its id, never used before in this cluster.
        node: NodeId,
        /// `HOST:PORT` where its peers reach it.
        address: &'a str,
        /// Make it a voter as soon as it has caught up.
        promote: bool,
    },
    /// Makes a voter of a learner that has caught up.
    Promote {
        /// Which.
        node: NodeId,
    },
    /// Removes a member. Its id is not used again.
    Remove {
        /// Which.
        node: NodeId,
    },
    /// Adds a node in the place of a member, which goes when the new one has caught up.
    Replace {
        /// Who goes.
        node: NodeId,
        /// Who comes.
        by: NodeId,
        /// `HOST:PORT` where its peers reach it.
        address: &'a str,
    },
    /// Gives a member another address.
    Move {
        /// Which.
        node: NodeId,
        /// `HOST:PORT` where its peers reach it from now on.
        address: &'a str,
    },
}

impl Change<'_> {
    /// What is answered as [`Outcome::Committed`]: where the configuration stands in whose force it is so.
    #[must_use]
    pub const fn reply(index: Index) -> [u8; 8] {
        index.0.to_le_bytes()
    }

    /// Where that configuration stands, by that answer; `None` if it is none.
    #[must_use]
    pub fn index(reply: &[u8]) -> Option<Index> {
        reply.try_into().ok().map(|bytes| Index(u64::from_le_bytes(bytes)))
    }
}

/// Asks a leader to hand its leadership over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// To whom, [`NodeId::NONE`] for the voter that has most of the log.
    pub to: NodeId,
}

impl Transfer {
    /// What is answered as [`Outcome::Committed`]: who leads.
    #[must_use]
    pub const fn reply(leader: NodeId) -> [u8; 8] {
        leader.0.to_le_bytes()
    }

    /// Who leads, by that answer; `None` if it is none.
    #[must_use]
    pub fn leader(reply: &[u8]) -> Option<NodeId> {
        reply.try_into().ok().map(|bytes| NodeId(u64::from_le_bytes(bytes)))
    }
}

/// Asks for a piece of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Fetch {
    /// Of which; the default asks for a new one, of what is applied now.
    pub id: SnapshotId,
    /// From where on.
    pub offset: u64,
}

/// A command for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// The session, or zero: then a retry may apply twice.
    pub session: SessionId,
    /// The command's place in the session; zero without one.
    pub sequence: Sequence,
    /// Every reply below this has been received and may be forgotten.
    pub first_unanswered: Sequence,
    /// What the state machine will apply.
    pub command: &'a [u8],
    /// When it is answered.
    pub commit: Commit,
}

/// When a command is answered. What is answered earlier is answered sooner, and may be lost after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Commit {
    /// When it is on the disks of a majority and applied: as [`Outcome::Committed`].
    #[default]
    Strong,
    /// When it is on the leader's disk, by [`Basis::Leader`]. Lost if another node leads next that has not got it.
    Leader,
    /// When the leader has it in memory, by [`Basis::Received`]. Lost in the same way, and if the leader goes down.
    Async,
}

/// A query of the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read<'a> {
    /// What the state machine will answer.
    pub query: &'a [u8],
    /// What the answer must hold.
    pub consistency: Consistency,
}

/// What the answer to a read must hold. A node may hold more than it was asked for, and says what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Consistency {
    /// It tells of everything that was answered before it was asked for (thesis §6.4): as [`Outcome::Committed`].
    #[default]
    Linearizable,
    /// The same as long as clocks keep their bound, by [`Basis::Lease`]. A leader without a lease answers as if asked
    /// for `Linearizable`.
    Lease,
    /// What some node has applied, by [`Basis::Stale`].
    Stale {
        /// Refused as [`Refusal::TooStale`] if the node last knew itself up to date so many milliseconds ago, or more;
        /// `u64::MAX` for whatever it has.
        age_max_ms: u64,
    },
}

/// How a client's request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It is committed and applied, or read; this is the state machine's answer.
    Committed(&'a [u8]),
    /// It did not and will not happen.
    Refused(Refused<'a>),
    /// It may or may not have happened.
    Unknown,
    /// It is answered on less, as was asked for.
    Weaker {
        /// On what.
        basis: Basis,
        /// The state machine's answer to a read; of a command, which is not applied, nothing.
        answer: &'a [u8],
    },
}

/// What an answer stands for that does not stand for [`Outcome::Committed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// Read by a leader that nobody can have succeeded, if clocks keep their bound.
    Lease,
    /// Read from what a node has applied.
    Stale {
        /// So many milliseconds ago, at the least, the node last knew that it had applied all that its leader knew to be
        /// committed; `u64::MAX` if it never did.
        age_ms: u64,
    },
    /// The command is in the leader's log, and on its disk; it may be committed, or lost.
    Leader,
    /// The command is in the leader's log, in memory; it may be committed, or lost.
    Received,
}

impl Commit {
    /// Whether `basis` is an answer to a command that asked for this.
    #[must_use]
    pub fn takes(self, basis: Basis) -> bool {
        match basis {
            Basis::Leader => self != Self::Strong,
            Basis::Received => self == Self::Async,
            Basis::Lease | Basis::Stale { .. } => false,
        }
    }
}

impl Consistency {
    /// Whether `basis` is an answer to a read that asked for this.
    #[must_use]
    pub fn takes(self, basis: Basis) -> bool {
        match (self, basis) {
            (Self::Lease, Basis::Lease) => true,
            (Self::Stale { age_max_ms }, Basis::Stale { age_ms }) => age_ms < age_max_ms || age_max_ms == u64::MAX,
            _ => false,
        }
    }
}

/// Why a request did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused<'a> {
    /// The branch that the requester takes.
    pub why: Refusal,
    /// Who leads, as far as the refusing node knows.
    pub leader: NodeId,
    /// What a person should read, empty where the reason says all.
    pub detail: &'a str,
}

/// The reasons of a refusal: nothing happened, nothing will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Somebody else leads, or nobody does.
    NotLeader,
    /// Too much is uncommitted or in flight: try again later.
    Overloaded,
    /// The log is at its limit, or the disk is full; or the state is at its own limit, which the detail names.
    NoSpace,
    /// The session is not in the table: expired, or never opened.
    SessionExpired,
    /// The command or query is above a limit, which the detail names.
    TooLarge,
    /// The state machine cannot read the command or query.
    Invalid,
    /// The node is going down.
    Stopping,
    /// The node that is named is no member, or none that this can be done to.
    UnknownMember,
    /// The node that is named is a member in another way: at another address, or with another data folder.
    MemberConflict,
    /// Another change is under way, or the leader has not committed an entry of its term.
    ChangeUnderWay,
    /// The learner has not caught up.
    NotCaughtUp,
    /// No voter would be left, or more than there may be.
    Voters,
    /// The node that is named does not answer at its address.
    Unreachable,
    /// Leadership is being handed over.
    Transferring,
    /// It was tried, and did not come about in time.
    TimedOut,
    /// What this node has applied is older than the read allows.
    TooStale,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReply<'a> {
    /// What it is in its term.
    pub state: NodeState,
    /// Who leads, as far as it knows.
    pub leader: NodeId,
    /// Its highest committed index.
    pub commit: Index,
    /// Its highest applied index.
    pub applied: Index,
    /// The first index of its log.
    pub first: Index,
    /// The last index of its log.
    pub last: Index,
    /// The last index that is on its disk.
    pub durable: Index,
    /// The index of its newest snapshot, zero if it has none.
    pub snapshot: Index,
    /// Where its configuration stands in the log; zero for the one that it was founded with.
    pub membership: Index,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// The version of its program.
    pub version: &'a str,
    /// The event loop that it runs on.
    pub backend: &'a str,
    /// The members of its configuration, itself among them.
    pub members: Vec<MemberStatus<'a>>,
}

/// What a node is in its term (thesis §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeState {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks to be elected.
    Candidate,
    /// Leads.
    Leader,
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Standing {
    /// It votes and counts.
    #[default]
    Voter,
    /// It is sent the log, and does neither.
    Learner,
    /// It votes until the change that is under way is through, and no longer.
    Leaving,
    /// It is sent the log, and votes as soon as the change that is under way is through.
    Joining,
    /// A voter that lost its log: it counts, and votes when it has made up for that. Said by the node of itself alone.
    Recovering,
}

/// What a node knows of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberStatus<'a> {
    /// Whom.
    pub node: NodeId,
    /// Where its peers reach it.
    pub address: &'a str,
    /// What it may do.
    pub standing: Standing,
    /// How far its log is known to match, zero unless the replying node leads.
    pub matched: Index,
    /// Milliseconds since it was heard, `u64::MAX` if never.
    pub heard_ms: u64,
    /// How much it has of the snapshot that is sent to it, in hundredths and at most 100; 0 if none is, or nothing has
    /// arrived.
    pub snapshot_percent: u8,
}
