//! Bytes to messages.
//!
//! Everything in here comes from somebody else. No length or count is believed before as many bytes are seen to be
//! there, sums are checked, and each error names the offset at which it was found.

use kraft_core::handshake::Kind;
use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId, RequestId, Round, Sequence, SessionId, Term};
use kraft_core::message::{
    Append, AppendReply, AppendResult, Basis, Body, Change, Command, Commit, Consistency, Entries, EntryKind, EntryRef,
    Fetch, Goaway, GoawayReason, Header, Heartbeat, HeartbeatReply, Hello, MemberStatus, Message, NodeState, Outcome,
    Read, ReadIndexReply, Refusal, Refused, Role, SnapshotChunk, SnapshotId, SnapshotReply, SnapshotResult, Standing,
    StatusReply, Transfer, Versions, Vote, VoteReply, Welcome,
};
use kraft_core::protocol::{DecodeError, Decoded, Limits};

use super::FORMAT;
use super::layout::{
    ADD_PROMOTE, ENTRY, MEMBER, RUN, VOTE_BY_TRANSFER, VOTE_PRE, VOTE_REPLY_GRANTED, VOTE_REPLY_PRE, appended, fixed,
};
use crate::frame::{self, HEADER, Opened};
use crate::numbers::{
    APPEND_MATCHED, APPEND_REJECTED, BASIS_LEADER, BASIS_LEASE, BASIS_RECEIVED, BASIS_STALE, CHANGE_ADD, CHANGE_MOVE,
    CHANGE_PROMOTE, CHANGE_REMOVE, CHANGE_REPLACE, COMMIT_ASYNC, COMMIT_LEADER, Numbered, OUTCOME_COMMITTED,
    OUTCOME_REFUSED, OUTCOME_UNKNOWN, OUTCOME_WEAKER, READ_AT, READ_LEASE, READ_REFUSED, READ_STALE, SNAPSHOT_DAMAGED,
    SNAPSHOT_NO_SPACE, SNAPSHOT_RECEIVED, TEXT_MAX,
};

type Result<T> = std::result::Result<T, DecodeError>;

pub(super) fn decode<'a>(input: &'a [u8], limits: &Limits) -> Result<Decoded<'a>> {
    let whole = match frame::open(input, FORMAT, limits)? {
        Opened::NeedMore { at_least } => return Ok(Decoded::NeedMore { at_least }),
        Opened::Whole(whole) => whole,
    };
    let consumed = whole.consumed;
    let Some(kind) = frame::kind_of_number(whole.kind) else {
        return Err(DecodeError::UnknownKind {
            kind: whole.kind,
            consumed,
        });
    };
    let payloads = Fields {
        bytes: whole.payloads,
        offset: HEADER + whole.covered.len(),
    };
    let mut parts = Parts::split(kind, whole.covered)?;
    let header = header(&mut parts.fixed)?;
    let body = match kind {
        Kind::Append => Body::Append(append(&mut parts, payloads, limits)?),
        _ if !whole.payloads.is_empty() => return Err(payloads.malformed()),
        _ => body(kind, &mut parts)?,
    };
    parts.end()?;
    Ok(Decoded::Message {
        message: Message { header, body },
        consumed,
    })
}

/// The covered part of a body.
struct Parts<'a> {
    fixed: Fields<'a>,
    tail: Fields<'a>,
    /// The fixed part is longer than this version knows; the tail may be, too.
    is_newer: bool,
}

impl<'a> Parts<'a> {
    fn split(kind: Kind, covered: &'a [u8]) -> Result<Self> {
        let mut all = Fields {
            bytes: covered,
            offset: HEADER,
        };
        let length = usize::from(all.u16()?);
        let known = fixed(kind) + appended(kind);
        // Appended fields are all there or none: nobody has ever sent a part of them.
        let is_known = length == fixed(kind) || length >= known;
        if !is_known || length > covered.len() {
            return Err(DecodeError::Malformed { offset: HEADER });
        }
        let (front, tail) = covered.split_at(length);
        // A message has one encoding: where they have nothing to say, they are left out.
        let said = &front[fixed(kind)..];
        if length == known && !said.is_empty() && said.iter().all(|&byte| byte == 0) {
            return Err(DecodeError::Malformed {
                offset: HEADER + fixed(kind),
            });
        }
        Ok(Self {
            fixed: Fields {
                bytes: &front[2..],
                offset: HEADER + 2,
            },
            tail: Fields {
                bytes: tail,
                offset: HEADER + length,
            },
            is_newer: length > known,
        })
    }

    /// Bytes that nobody asked for are appended fields of a newer version (law P11) or, without such, garbage.
    fn end(&self) -> Result<()> {
        if self.is_newer || self.tail.bytes.is_empty() {
            return Ok(());
        }
        Err(self.tail.malformed())
    }

    /// The bytes whose length is the next fixed field.
    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.fixed.length()?;
        self.tail.take(length)
    }

    /// The text whose length is the next fixed field.
    fn text(&mut self) -> Result<&'a str> {
        let length = self.fixed.length()?;
        self.tail.text(length)
    }
}

fn header(fields: &mut Fields<'_>) -> Result<Header> {
    fields.reserved::<2>()?;
    Ok(Header {
        group: GroupId(fields.u32()?),
        cluster: ClusterId(fields.u64()?),
        from: NodeId(fields.u64()?),
        term: Term(fields.u64()?),
        request: RequestId(fields.u64()?),
    })
}

fn body<'a>(kind: Kind, parts: &mut Parts<'a>) -> Result<Body<'a>> {
    let fields = &mut parts.fixed;
    Ok(match kind {
        Kind::Hello => Body::Hello(hello(parts)?),
        Kind::Welcome => {
            let version = fields.u16()?;
            fields.reserved::<2>()?;
            Body::Welcome(Welcome {
                version,
                frame_max: fields.u32()?,
                incarnation: Incarnation(fields.u64()?),
                nonce: fields.u64()?,
                features: fields.u64()?,
            })
        }
        Kind::Goaway => {
            let reason = fields.u16_value::<GoawayReason>()?;
            fields.reserved::<2>()?;
            Body::Goaway(Goaway {
                reason,
                detail: parts.text()?,
            })
        }
        Kind::Append => unreachable!("an append is read with its payloads"),
        Kind::AppendReply => Body::AppendReply(append_reply(fields)?),
        Kind::Heartbeat => Body::Heartbeat(Heartbeat {
            commit: Index(fields.u64()?),
            round: Round(fields.u64()?),
        }),
        Kind::HeartbeatReply => Body::HeartbeatReply(HeartbeatReply {
            round: Round(fields.u64()?),
            promise_us: fields.appended_u64()?,
        }),
        Kind::Vote => {
            let [pre, by_transfer] = fields.flags([VOTE_PRE, VOTE_BY_TRANSFER])?;
            Body::Vote(Vote {
                pre,
                by_transfer,
                term: Term(fields.u64()?),
                last_index: Index(fields.u64()?),
                last_term: Term(fields.u64()?),
            })
        }
        Kind::VoteReply => {
            let [pre, granted] = fields.flags([VOTE_REPLY_PRE, VOTE_REPLY_GRANTED])?;
            Body::VoteReply(VoteReply {
                pre,
                granted,
                term: Term(fields.u64()?),
            })
        }
        Kind::ReadIndex => Body::ReadIndex,
        Kind::ReadIndexReply => Body::ReadIndexReply(read_index_reply(fields)?),
        Kind::Snapshot => Body::Snapshot(chunk(parts)?),
        Kind::SnapshotReply => Body::SnapshotReply(snapshot_reply(fields)?),
        Kind::TimeoutNow => Body::TimeoutNow,
        Kind::OpenSession => Body::OpenSession,
        Kind::Command => Body::Command(command(parts)?),
        Kind::Read => Body::Read(read(parts)?),
        Kind::Change => Body::Change(change(parts)?),
        Kind::Transfer => Body::Transfer(Transfer {
            to: NodeId(fields.u64()?),
        }),
        Kind::Fetch => {
            let id = snapshot(fields)?;
            fields.reserved::<4>()?;
            let offset = fields.u64()?;
            Body::Fetch(Fetch { id, offset })
        }
        Kind::FetchReply => Body::FetchReply(chunk(parts)?),
        Kind::Reply => Body::Reply(outcome(parts)?),
        Kind::Status => Body::Status,
        Kind::StatusReply => Body::StatusReply(status(parts)?),
    })
}

fn hello<'a>(parts: &mut Parts<'a>) -> Result<Hello<'a>> {
    let fields = &mut parts.fixed;
    let role = fields.u8_value::<Role>()?;
    fields.reserved::<1>()?;
    let versions = Versions {
        min: fields.u16()?,
        max: fields.u16()?,
    };
    fields.reserved::<2>()?;
    let frame_max = fields.u32()?;
    let cluster_name = parts.text()?;
    let fields = &mut parts.fixed;
    Ok(Hello {
        role,
        to: NodeId(fields.u64()?),
        incarnation: Incarnation(fields.u64()?),
        nonce: fields.u64()?,
        versions,
        features: fields.u64()?,
        frame_max,
        cluster_name,
        membership: fields.appended_index()?,
    })
}

fn append<'a>(parts: &mut Parts<'a>, payloads: Fields<'a>, limits: &Limits) -> Result<Append<'a>> {
    let fields = &mut parts.fixed;
    let prev_index = Index(fields.u64()?);
    let prev_term = Term(fields.u64()?);
    let commit = Index(fields.u64()?);
    let round = Round(fields.u64()?);
    let at_counts = fields.malformed();
    let runs = fields.length()?;
    let count = fields.length()?;
    if count > limits.entries_max {
        return Err(DecodeError::TooLarge);
    }
    // Everybody who counts on from `prev_index` may do so unchecked.
    if runs > count || prev_index.checked_add(count as u64).is_none() {
        return Err(at_counts);
    }
    let runs = parts.tail.rows(runs, RUN)?;
    let table = parts.tail.rows(count, ENTRY)?;
    Ok(Append {
        prev_index,
        prev_term,
        commit,
        round,
        entries: entries(runs, table, payloads)?,
    })
}

fn entries<'a>(mut runs: Fields<'a>, table: Fields<'a>, payloads: Fields<'a>) -> Result<Entries<'a>> {
    // As many as there are rows in the frame: bounded by what was received.
    let (mut rows, _) = table.bytes.as_chunks::<ENTRY>();
    let count = rows.len();
    if count == 0 {
        payloads.end()?;
        return Ok(Entries::NONE);
    }
    let mut rest = payloads.bytes;
    let mut entries: Vec<EntryRef<'_>> = Vec::with_capacity(count);
    while !runs.bytes.is_empty() {
        let at_term = runs.malformed();
        let term = Term(runs.u64()?);
        // A message has one encoding: neighbours of one term are one run.
        if entries.last().is_some_and(|last| last.term == term) {
            return Err(at_term);
        }
        let at_count = runs.malformed();
        let run = runs.length()?;
        runs.reserved::<4>()?;
        if run == 0 || run > rows.len() {
            return Err(at_count);
        }
        let (taken, behind) = rows.split_at(run);
        rows = behind;
        for row in taken {
            let at_row = || table.offset + entries.len() * ENTRY;
            let Row { length, crc, kind } = Row::of(row, at_row)?;
            let Some((payload, behind)) = rest.split_at_checked(length) else {
                return Err(payloads.malformed_before(rest));
            };
            rest = behind;
            if crc32c::crc32c(payload) != crc {
                return Err(DecodeError::BadChecksum);
            }
            entries.push(EntryRef {
                term,
                kind,
                crc,
                payload,
            });
        }
    }
    if !rows.is_empty() {
        return Err(table.malformed_before(rows.as_flattened()));
    }
    if !rest.is_empty() {
        return Err(payloads.malformed_before(rest));
    }
    Ok(Entries::Lent(entries))
}

/// A row of an append's table.
struct Row {
    length: usize,
    crc: u32,
    kind: EntryKind,
}

impl Row {
    /// In one piece, since there may be thousands of them.
    #[inline]
    fn of(row: &[u8; ENTRY], offset: impl Fn() -> usize) -> Result<Self> {
        let [l0, l1, l2, l3, c0, c1, c2, c3, kind, reserved @ ..] = *row;
        let malformed = |at| DecodeError::Malformed { offset: offset() + at };
        let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).map_err(|_| malformed(0))?;
        let kind = EntryKind::of(kind).ok_or_else(|| malformed(8))?;
        if reserved != [0; 3] {
            return Err(malformed(9));
        }
        let crc = u32::from_le_bytes([c0, c1, c2, c3]);
        Ok(Self { length, crc, kind })
    }
}

fn append_reply(fields: &mut Fields<'_>) -> Result<AppendReply> {
    let round = Round(fields.u64()?);
    let at_result = fields.malformed();
    let result = fields.u8()?;
    fields.reserved::<7>()?;
    let index = Index(fields.u64()?);
    let result = match result {
        APPEND_MATCHED => {
            fields.reserved::<16>()?;
            AppendResult::Matched(index)
        }
        APPEND_REJECTED => AppendResult::Rejected {
            prev_index: index,
            hint_index: Index(fields.u64()?),
            hint_term: Term(fields.u64()?),
        },
        _ => return Err(at_result),
    };
    Ok(AppendReply { round, result })
}

fn read_index_reply(fields: &mut Fields<'_>) -> Result<ReadIndexReply> {
    let at_result = fields.malformed();
    let result = fields.u8()?;
    fields.reserved::<7>()?;
    match result {
        READ_AT => Ok(ReadIndexReply::At(Index(fields.u64()?))),
        READ_REFUSED => {
            fields.reserved::<8>()?;
            Ok(ReadIndexReply::Refused)
        }
        _ => Err(at_result),
    }
}

fn snapshot(fields: &mut Fields<'_>) -> Result<SnapshotId> {
    Ok(SnapshotId {
        index: Index(fields.u64()?),
        term: Term(fields.u64()?),
        bytes: fields.u64()?,
        crc: fields.u32()?,
    })
}

fn chunk<'a>(parts: &mut Parts<'a>) -> Result<SnapshotChunk<'a>> {
    let id = snapshot(&mut parts.fixed)?;
    let data = parts.bytes()?;
    let at_offset = parts.fixed.malformed();
    let offset = parts.fixed.u64()?;
    // Everybody who puts the piece in its place may count unchecked.
    if id.bytes.checked_sub(offset).is_none_or(|rest| rest < data.len() as u64) {
        return Err(at_offset);
    }
    Ok(SnapshotChunk { id, offset, data })
}

fn snapshot_reply(fields: &mut Fields<'_>) -> Result<SnapshotReply> {
    let id = snapshot(fields)?;
    let at_result = fields.malformed();
    let result = fields.u8()?;
    fields.reserved::<3>()?;
    let result = match result {
        SNAPSHOT_RECEIVED => SnapshotResult::Received(fields.u64()?),
        SNAPSHOT_NO_SPACE | SNAPSHOT_DAMAGED => {
            fields.reserved::<8>()?;
            if result == SNAPSHOT_NO_SPACE {
                SnapshotResult::NoSpace
            } else {
                SnapshotResult::Damaged
            }
        }
        _ => return Err(at_result),
    };
    Ok(SnapshotReply { id, result })
}

fn change<'a>(parts: &mut Parts<'a>) -> Result<Change<'a>> {
    let fields = &mut parts.fixed;
    let at_change = fields.malformed();
    let change = fields.u8()?;
    let at_flags = fields.malformed();
    let flags = fields.u8()?;
    let known = if change == CHANGE_ADD { ADD_PROMOTE } else { 0 };
    if !(CHANGE_ADD..=CHANGE_MOVE).contains(&change) {
        return Err(at_change);
    }
    if flags & !known != 0 {
        return Err(at_flags);
    }
    fields.reserved::<2>()?;
    if matches!(change, CHANGE_PROMOTE | CHANGE_REMOVE) {
        fields.reserved::<4>()?;
        let node = NodeId(fields.u64()?);
        fields.reserved::<8>()?;
        return Ok(match change {
            CHANGE_PROMOTE => Change::Promote { node },
            _ => Change::Remove { node },
        });
    }
    let address = parts.text()?;
    let fields = &mut parts.fixed;
    let node = NodeId(fields.u64()?);
    if change == CHANGE_REPLACE {
        let by = NodeId(fields.u64()?);
        return Ok(Change::Replace { node, by, address });
    }
    fields.reserved::<8>()?;
    Ok(match change {
        CHANGE_ADD => Change::Add {
            node,
            address,
            promote: flags & ADD_PROMOTE != 0,
        },
        _ => Change::Move { node, address },
    })
}

fn command<'a>(parts: &mut Parts<'a>) -> Result<Command<'a>> {
    let fields = &mut parts.fixed;
    let session = SessionId(fields.u64()?);
    let sequence = Sequence(fields.u64()?);
    let first_unanswered = Sequence(fields.u64()?);
    let command = parts.bytes()?;
    let fields = &mut parts.fixed;
    fields.reserved::<4>()?;
    let mut commit = Commit::Strong;
    if !fields.bytes.is_empty() {
        let at_commit = fields.malformed();
        commit = match fields.u8()? {
            0 => Commit::Strong,
            COMMIT_LEADER => Commit::Leader,
            COMMIT_ASYNC => Commit::Async,
            _ => return Err(at_commit),
        };
        fields.reserved::<7>()?;
    }
    Ok(Command {
        session,
        sequence,
        first_unanswered,
        command,
        commit,
    })
}

fn read<'a>(parts: &mut Parts<'a>) -> Result<Read<'a>> {
    let query = parts.bytes()?;
    let fields = &mut parts.fixed;
    fields.reserved::<4>()?;
    let mut consistency = Consistency::Linearizable;
    if !fields.bytes.is_empty() {
        let at_consistency = fields.malformed();
        let number = fields.u8()?;
        fields.reserved::<7>()?;
        consistency = match number {
            0 | READ_LEASE => {
                fields.reserved::<8>()?;
                match number {
                    READ_LEASE => Consistency::Lease,
                    _ => Consistency::Linearizable,
                }
            }
            READ_STALE => Consistency::Stale {
                age_max_ms: fields.u64()?,
            },
            _ => return Err(at_consistency),
        };
    }
    Ok(Read { query, consistency })
}

fn outcome<'a>(parts: &mut Parts<'a>) -> Result<Outcome<'a>> {
    let fields = &mut parts.fixed;
    let at_outcome = fields.malformed();
    let outcome = fields.u8()?;
    fields.reserved::<1>()?;
    match outcome {
        OUTCOME_COMMITTED => {
            fields.reserved::<2>()?;
            let answer = parts.bytes()?;
            parts.fixed.reserved::<8>()?;
            Ok(Outcome::Committed(answer))
        }
        OUTCOME_REFUSED => {
            let why = fields.u16_value::<Refusal>()?;
            let detail = parts.text()?;
            let leader = NodeId(parts.fixed.u64()?);
            Ok(Outcome::Refused(Refused { why, leader, detail }))
        }
        OUTCOME_UNKNOWN => {
            fields.reserved::<14>()?;
            Ok(Outcome::Unknown)
        }
        OUTCOME_WEAKER => {
            let at_basis = fields.malformed();
            let basis = fields.u16()?;
            let answer = parts.bytes()?;
            let fields = &mut parts.fixed;
            if basis == BASIS_STALE {
                let age_ms = fields.u64()?;
                let basis = Basis::Stale { age_ms };
                return Ok(Outcome::Weaker { basis, answer });
            }
            let basis = match basis {
                BASIS_LEASE => Basis::Lease,
                BASIS_LEADER => Basis::Leader,
                BASIS_RECEIVED => Basis::Received,
                _ => return Err(at_basis),
            };
            fields.reserved::<8>()?;
            Ok(Outcome::Weaker { basis, answer })
        }
        _ => Err(at_outcome),
    }
}

fn status<'a>(parts: &mut Parts<'a>) -> Result<StatusReply<'a>> {
    let fields = &mut parts.fixed;
    let state = fields.u8_value::<NodeState>()?;
    fields.reserved::<3>()?;
    let at_count = fields.malformed();
    let count = fields.length()?;
    let leader = NodeId(fields.u64()?);
    let mut indexes = [Index::ZERO; 5];
    for index in &mut indexes {
        *index = Index(fields.u64()?);
    }
    let [commit, applied, first, last, durable] = indexes;
    let uptime_ms = fields.u64()?;
    let version = parts.text()?;
    let backend = parts.text()?;
    let snapshot = parts.fixed.appended_index()?;
    let membership = parts.fixed.appended_index()?;
    if count > parts.tail.bytes.len() / MEMBER {
        return Err(at_count);
    }
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        members.push(member(&mut parts.tail)?);
    }
    Ok(StatusReply {
        state,
        leader,
        commit,
        applied,
        first,
        last,
        durable,
        snapshot,
        membership,
        uptime_ms,
        version,
        backend,
        members,
    })
}

fn member<'a>(fields: &mut Fields<'a>) -> Result<MemberStatus<'a>> {
    let node = NodeId(fields.u64()?);
    let matched = Index(fields.u64()?);
    let heard_ms = fields.u64()?;
    let length = fields.length()?;
    let standing = fields.u8_value::<Standing>()?;
    let snapshot_percent = fields.percent()?;
    fields.reserved::<2>()?;
    Ok(MemberStatus {
        node,
        address: fields.text(length)?,
        standing,
        matched,
        heard_ms,
        snapshot_percent,
    })
}

/// What is left to read of a part of a frame.
#[derive(Clone, Copy)]
struct Fields<'a> {
    bytes: &'a [u8],
    /// Bytes of the frame in front of it.
    offset: usize,
}

impl<'a> Fields<'a> {
    /// The error that there is something wrong with what comes next.
    fn malformed(&self) -> DecodeError {
        DecodeError::Malformed { offset: self.offset }
    }

    /// The same, if `rest` is what is left of it.
    #[cold]
    fn malformed_before(&self, rest: &[u8]) -> DecodeError {
        DecodeError::Malformed {
            offset: self.offset + self.bytes.len() - rest.len(),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            return Err(self.malformed());
        };
        self.bytes = rest;
        self.offset += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((taken, rest)) = self.bytes.split_first_chunk() else {
            return Err(self.malformed());
        };
        self.bytes = rest;
        self.offset += N;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// An index that was appended to its kind: zero if the fixed part ends before it.
    fn appended_index(&mut self) -> Result<Index> {
        self.appended_u64().map(Index)
    }

    /// A number that was appended to its kind: zero if the fixed part ends before it.
    fn appended_u64(&mut self) -> Result<u64> {
        if self.bytes.is_empty() {
            return Ok(0);
        }
        self.u64()
    }

    fn u8_value<T: Numbered<Number = u8>>(&mut self) -> Result<T> {
        let error = self.malformed();
        T::of(self.u8()?).ok_or(error)
    }

    fn u16_value<T: Numbered<Number = u16>>(&mut self) -> Result<T> {
        let error = self.malformed();
        T::of(self.u16()?).ok_or(error)
    }

    /// A length or count. It is compared with what is there where it is used.
    fn length(&mut self) -> Result<usize> {
        let error = self.malformed();
        usize::try_from(self.u32()?).map_err(|_| error)
    }

    /// A share in hundredths.
    fn percent(&mut self) -> Result<u8> {
        let error = self.malformed();
        Some(self.u8()?).filter(|percent| *percent <= 100).ok_or(error)
    }

    /// Bytes that are zero. What they will mean comes with a version of its own, so others are refused.
    fn reserved<const N: usize>(&mut self) -> Result<()> {
        let error = self.malformed();
        if self.array::<N>()? == [0; N] {
            Ok(())
        } else {
            Err(error)
        }
    }

    /// A byte of two flags, and seven reserved.
    fn flags(&mut self, [first, second]: [u8; 2]) -> Result<[bool; 2]> {
        let error = self.malformed();
        let flags = self.u8()?;
        if flags & !(first | second) != 0 {
            return Err(error);
        }
        self.reserved::<7>()?;
        Ok([flags & first != 0, flags & second != 0])
    }

    fn text(&mut self, length: usize) -> Result<&'a str> {
        let error = self.malformed();
        if length > TEXT_MAX {
            return Err(DecodeError::TooLarge);
        }
        str::from_utf8(self.take(length)?).map_err(|_| error)
    }

    /// `count` rows of `size` bytes.
    fn rows(&mut self, count: usize, size: usize) -> Result<Self> {
        let offset = self.offset;
        let bytes = count.checked_mul(size).ok_or_else(|| self.malformed())?;
        Ok(Self {
            bytes: self.take(bytes)?,
            offset,
        })
    }

    fn end(&self) -> Result<()> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }
}
