//! Messages of every kind, as an input chooses them.

use arbitrary::{Result, Unstructured};
use kraft_core::handshake::Kind;
use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId, RequestId, Round, Sequence, SessionId, Term};
use kraft_core::message::{
    Append, AppendReply, AppendResult, Basis, Body, Change, Command, Commit, Consistency, Entries, EntryKind, EntryRef,
    Fetch, Goaway, GoawayReason, Header, Heartbeat, HeartbeatReply, Hello, MemberStatus, Message, NodeState, Outcome,
    Read, ReadIndexReply, Refusal, Refused, Role, SnapshotChunk, SnapshotId, SnapshotReply, SnapshotResult, Standing,
    StatusReply, Transfer, Versions, Vote, VoteReply, Welcome,
};

/// Long payloads, of which an input says no more than how long.
static PATTERN: [u8; 20_000] = {
    let mut pattern = [0; 20_000];
    let mut at = 0;
    while at < pattern.len() {
        pattern[at] = (at * 7 + at / 251) as u8;
        at += 1;
    }
    pattern
};

/// A message of any kind.
pub(crate) fn message<'a>(u: &mut Unstructured<'a>) -> Result<Message<'a>> {
    let kind = *u.choose(&Kind::ALL)?;
    Ok(Message {
        header: header(u)?,
        body: body(u, kind)?,
    })
}

pub(crate) fn header(u: &mut Unstructured<'_>) -> Result<Header> {
    Ok(Header {
        cluster: ClusterId(number(u)?),
        group: GroupId(*u.choose(&[0, 0, 1, u32::MAX])?),
        from: NodeId(number(u)?),
        term: Term(number(u)?),
        request: RequestId(number(u)?),
    })
}

/// A body of this kind.
pub(crate) fn body<'a>(u: &mut Unstructured<'a>, kind: Kind) -> Result<Body<'a>> {
    Ok(match kind {
        Kind::Hello => Body::Hello(hello(u)?),
        Kind::Welcome => Body::Welcome(Welcome {
            incarnation: Incarnation(number(u)?),
            nonce: number(u)?,
            version: u.arbitrary()?,
            features: number(u)?,
            frame_max: u.arbitrary()?,
        }),
        Kind::Goaway => Body::Goaway(Goaway {
            reason: goaway_reason(u)?,
            detail: text(u)?,
        }),
        Kind::Append => Body::Append(append(u)?),
        Kind::AppendReply => Body::AppendReply(AppendReply {
            round: Round(number(u)?),
            result: match u.arbitrary()? {
                true => AppendResult::Matched(Index(number(u)?)),
                false => AppendResult::Rejected {
                    prev_index: Index(number(u)?),
                    hint_index: Index(number(u)?),
                    hint_term: Term(number(u)?),
                },
            },
        }),
        Kind::Heartbeat => Body::Heartbeat(Heartbeat {
            commit: Index(number(u)?),
            round: Round(number(u)?),
        }),
        Kind::HeartbeatReply => Body::HeartbeatReply(HeartbeatReply {
            round: Round(number(u)?),
            promise_us: number(u)?,
        }),
        Kind::Vote => Body::Vote(Vote {
            pre: u.arbitrary()?,
            by_transfer: u.arbitrary()?,
            term: Term(number(u)?),
            last_index: Index(number(u)?),
            last_term: Term(number(u)?),
        }),
        Kind::VoteReply => Body::VoteReply(VoteReply {
            pre: u.arbitrary()?,
            granted: u.arbitrary()?,
            term: Term(number(u)?),
        }),
        Kind::ReadIndex => Body::ReadIndex,
        Kind::ReadIndexReply => Body::ReadIndexReply(match u.arbitrary()? {
            true => ReadIndexReply::At(Index(number(u)?)),
            false => ReadIndexReply::Refused,
        }),
        Kind::Snapshot => Body::Snapshot(chunk(u)?),
        Kind::SnapshotReply => Body::SnapshotReply(SnapshotReply {
            id: snapshot_id(u)?,
            result: match u.int_in_range(0..=2)? {
                0 => SnapshotResult::Received(number(u)?),
                1 => SnapshotResult::NoSpace,
                _ => SnapshotResult::Damaged,
            },
        }),
        Kind::TimeoutNow => Body::TimeoutNow,
        _ => asked_or_answered(u, kind)?,
    })
}

/// What clients say, and what they are told.
fn asked_or_answered<'a>(u: &mut Unstructured<'a>, kind: Kind) -> Result<Body<'a>> {
    Ok(match kind {
        Kind::OpenSession => Body::OpenSession,
        Kind::Command => Body::Command(Command {
            session: SessionId(number(u)?),
            sequence: Sequence(number(u)?),
            first_unanswered: Sequence(number(u)?),
            command: payload(u)?,
            commit: *u.choose(&[Commit::Strong, Commit::Leader, Commit::Async])?,
        }),
        Kind::Read => Body::Read(Read {
            query: payload(u)?,
            consistency: match u.int_in_range(0..=2)? {
                0 => Consistency::Linearizable,
                1 => Consistency::Lease,
                _ => Consistency::Stale { age_max_ms: number(u)? },
            },
        }),
        Kind::Change => Body::Change(change(u)?),
        Kind::Transfer => Body::Transfer(Transfer { to: NodeId(number(u)?) }),
        Kind::Fetch => Body::Fetch(Fetch {
            id: snapshot_id(u)?,
            offset: number(u)?,
        }),
        Kind::FetchReply => Body::FetchReply(chunk(u)?),
        Kind::Reply => Body::Reply(outcome(u)?),
        Kind::StatusReply => Body::StatusReply(status(u)?),
        _ => Body::Status,
    })
}

/// Mostly the edges, where encodings break.
pub(crate) fn number(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.int_in_range(0..=9)? {
        0..=3 => u64::from(u.arbitrary::<u8>()?),
        4 => u64::from(u.arbitrary::<u16>()?),
        5 => u64::MAX - u64::from(u.arbitrary::<u8>()?),
        6 => u64::from(u32::MAX) - 1 + u.int_in_range(0..=2)?,
        // Above it, a JSON number loses bits.
        7 => (1 << 53) - 1 + u.int_in_range(0..=2)?,
        8 => 1 << u.int_in_range(0..=63)?,
        _ => u.arbitrary()?,
    })
}

/// A text, now and then longer than may be.
pub(crate) fn text<'a>(u: &mut Unstructured<'a>) -> Result<&'a str> {
    let length = match u.int_in_range(0..=15)? {
        15 => 1100,
        // An even number of bytes is half as likely to cut a character as any.
        short => 4 * short,
    };
    let bytes = u.bytes(length.min(u.len()))?;
    Ok(match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    })
}

/// A payload: bytes of the input, or many of a pattern.
pub(crate) fn payload<'a>(u: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    match u.int_in_range(0..=7)? {
        0 => Ok(&[]),
        1 => Ok(&PATTERN[..u.int_in_range(0..=PATTERN.len())?]),
        // Where outboxes begin to share memory.
        2 => Ok(&PATTERN[..4094 + u.int_in_range(0..=4)?]),
        _ => {
            let length = usize::from(u.arbitrary::<u8>()?);
            u.bytes(length.min(u.len()))
        }
    }
}

/// A payload of an entry, its sum right.
fn entry<'a>(u: &mut Unstructured<'a>, term: u64) -> Result<EntryRef<'a>> {
    let kinds = [
        EntryKind::Command,
        EntryKind::Noop,
        EntryKind::OpenSession,
        EntryKind::Membership,
    ];
    let kind = *u.choose(&kinds)?;
    let payload = payload(u)?;
    Ok(EntryRef {
        term: Term(term),
        kind,
        crc: crc32c::crc32c(payload),
        payload,
    })
}

fn append<'a>(u: &mut Unstructured<'a>) -> Result<Append<'a>> {
    let count = u.int_in_range(0..=40_u64)?;
    let mut term = number(u)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        if u.is_empty() {
            break;
        }
        if u.ratio(1, 4)? {
            term = number(u)?;
        }
        entries.push(entry(u, term)?);
    }
    Ok(Append {
        // So that the last entry's index is a number.
        prev_index: Index(number(u)?.min(u64::MAX - count)),
        prev_term: Term(number(u)?),
        commit: Index(number(u)?),
        round: Round(number(u)?),
        entries: Entries::Lent(entries),
    })
}

pub(crate) fn hello<'a>(u: &mut Unstructured<'a>) -> Result<Hello<'a>> {
    Ok(Hello {
        role: *u.choose(&[Role::Peer, Role::Client])?,
        to: NodeId(number(u)?),
        incarnation: Incarnation(number(u)?),
        nonce: number(u)?,
        versions: Versions {
            min: u.arbitrary()?,
            max: u.arbitrary()?,
        },
        features: number(u)?,
        frame_max: u.arbitrary()?,
        cluster_name: text(u)?,
        membership: Index(number(u)?),
    })
}

pub(crate) fn snapshot_id(u: &mut Unstructured<'_>) -> Result<SnapshotId> {
    Ok(SnapshotId {
        index: Index(number(u)?),
        term: Term(number(u)?),
        bytes: number(u)?,
        crc: u.arbitrary()?,
    })
}

fn chunk<'a>(u: &mut Unstructured<'a>) -> Result<SnapshotChunk<'a>> {
    let (id, data) = (snapshot_id(u)?, payload(u)?);
    let length = data.len() as u64;
    // So that the piece lies within the snapshot.
    let bytes = id.bytes.max(length);
    Ok(SnapshotChunk {
        id: SnapshotId { bytes, ..id },
        offset: number(u)?.min(bytes - length),
        data,
    })
}

pub(crate) fn change<'a>(u: &mut Unstructured<'a>) -> Result<Change<'a>> {
    let node = NodeId(number(u)?);
    Ok(match u.int_in_range(0..=4)? {
        0 => Change::Add {
            node,
            address: text(u)?,
            promote: u.arbitrary()?,
        },
        1 => Change::Promote { node },
        2 => Change::Remove { node },
        3 => Change::Replace {
            node,
            by: NodeId(number(u)?),
            address: text(u)?,
        },
        _ => Change::Move {
            node,
            address: text(u)?,
        },
    })
}

pub(crate) fn outcome<'a>(u: &mut Unstructured<'a>) -> Result<Outcome<'a>> {
    Ok(match u.int_in_range(0..=3)? {
        0 => Outcome::Committed(payload(u)?),
        1 => Outcome::Refused(Refused {
            why: refusal(u)?,
            leader: NodeId(number(u)?),
            detail: text(u)?,
        }),
        2 => Outcome::Unknown,
        _ => Outcome::Weaker {
            basis: match u.int_in_range(0..=3)? {
                0 => Basis::Lease,
                1 => Basis::Stale { age_ms: number(u)? },
                2 => Basis::Leader,
                _ => Basis::Received,
            },
            answer: payload(u)?,
        },
    })
}

fn refusal(u: &mut Unstructured<'_>) -> Result<Refusal> {
    let all = [
        Refusal::NotLeader,
        Refusal::Overloaded,
        Refusal::NoSpace,
        Refusal::SessionExpired,
        Refusal::TooLarge,
        Refusal::Invalid,
        Refusal::Stopping,
        Refusal::UnknownMember,
        Refusal::MemberConflict,
        Refusal::ChangeUnderWay,
        Refusal::NotCaughtUp,
        Refusal::Voters,
        Refusal::Unreachable,
        Refusal::Transferring,
        Refusal::TimedOut,
        Refusal::TooStale,
    ];
    Ok(*u.choose(&all)?)
}

fn goaway_reason(u: &mut Unstructured<'_>) -> Result<GoawayReason> {
    let all = [
        GoawayReason::WrongCluster,
        GoawayReason::WrongNode,
        GoawayReason::OwnId,
        GoawayReason::UnknownNode,
        GoawayReason::WrongIncarnation,
        GoawayReason::DuplicateNode,
        GoawayReason::NoCommonVersion,
        GoawayReason::NotAllowed,
        GoawayReason::Malformed,
        GoawayReason::TooLarge,
        GoawayReason::TooSlow,
        GoawayReason::TooMany,
        GoawayReason::Stopping,
        GoawayReason::Violation,
        GoawayReason::Removed,
    ];
    Ok(*u.choose(&all)?)
}

pub(crate) fn status<'a>(u: &mut Unstructured<'a>) -> Result<StatusReply<'a>> {
    let states = [
        NodeState::Follower,
        NodeState::PreCandidate,
        NodeState::Candidate,
        NodeState::Leader,
    ];
    let standings = [
        Standing::Voter,
        Standing::Learner,
        Standing::Leaving,
        Standing::Joining,
        Standing::Recovering,
    ];
    let mut members = Vec::new();
    for _ in 0..u.int_in_range(0..=6)? {
        let (node, address, standing) = (NodeId(number(u)?), text(u)?, *u.choose(&standings)?);
        let (matched, heard_ms) = (Index(number(u)?), number(u)?);
        members.push(MemberStatus {
            node,
            address,
            standing,
            matched,
            heard_ms,
            // Without a choice of its own, so that kept inputs mean what they did.
            snapshot_percent: (heard_ms % 101) as u8,
        });
    }
    Ok(StatusReply {
        state: *u.choose(&states)?,
        leader: NodeId(number(u)?),
        commit: Index(number(u)?),
        applied: Index(number(u)?),
        first: Index(number(u)?),
        last: Index(number(u)?),
        durable: Index(number(u)?),
        snapshot: Index(number(u)?),
        membership: Index(number(u)?),
        uptime_ms: number(u)?,
        version: text(u)?,
        backend: text(u)?,
        members,
    })
}
