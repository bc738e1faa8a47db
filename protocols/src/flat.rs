//! Messages as flat records of numbered fields, which is what `protobuf`, `msgpack` and `json` have in common.
//!
//! A field that is absent is zero or empty. One that has no meaning in a message, by another field of it, has to be
//! absent: what it will mean comes with a kind or a number of its own.

use std::mem;

use kraft_core::handshake::Kind;
use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId, RequestId, Round, Sequence, SessionId, Term};
use kraft_core::message::{
    Append, AppendReply, AppendResult, Basis, Body, Change, Command, Commit, Consistency, Entries, EntryKind, EntryRef,
    Fetch, Goaway, Header, Heartbeat, HeartbeatReply, Hello, MemberStatus, Message, Outcome, Read, ReadIndexReply,
    Refused, SnapshotChunk, SnapshotId, SnapshotReply, SnapshotResult, Standing, StatusReply, Transfer, Versions, Vote,
    VoteReply, Welcome,
};
use kraft_core::protocol::DecodeError;
#[cfg(any(feature = "protobuf", feature = "msgpack", feature = "json"))]
use kraft_core::protocol::Decoded;

use crate::frame::HEADER;
use crate::kinds::SLOTS;
use crate::numbers::{
    APPEND_MATCHED, APPEND_REJECTED, BASIS_LEADER, BASIS_LEASE, BASIS_RECEIVED, BASIS_STALE, CHANGE_ADD, CHANGE_MOVE,
    CHANGE_PROMOTE, CHANGE_REMOVE, CHANGE_REPLACE, COMMIT_ASYNC, COMMIT_LEADER, Numbered, OUTCOME_COMMITTED,
    OUTCOME_REFUSED, OUTCOME_UNKNOWN, OUTCOME_WEAKER, READ_AT, READ_LEASE, READ_REFUSED, READ_STALE, SNAPSHOT_DAMAGED,
    SNAPSHOT_NO_SPACE, SNAPSHOT_RECEIVED, append_result, of_u64,
};
use crate::schema::{Field, Holds};

type Result<T> = std::result::Result<T, DecodeError>;

/// The number of a kind's first field behind the header's.
const FIRST: usize = 6;

/// A message's fields by their numbers, its lists apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// Numbers, flags and choices.
    pub numbers: [u64; SLOTS],
    /// Texts, in the order of their numbers.
    pub texts: [&'a str; 2],
    /// The one field of bytes that a kind has.
    pub bytes: &'a [u8],
}

/// A record that was received.
#[derive(Debug)]
pub struct Received<'a> {
    /// Its fields.
    pub record: Record<'a>,
    /// Where they stand in the frame.
    pub at: Offsets,
    /// Of an append.
    pub entries: Vec<EntryRef<'a>>,
    /// Of a status reply.
    pub members: Vec<MemberStatus<'a>>,
}

/// Where fields stand in a frame: at its body's beginning if they are absent.
#[derive(Clone, Copy, Debug)]
pub struct Offsets([usize; SLOTS]);

impl Default for Offsets {
    fn default() -> Self {
        Self([HEADER; SLOTS])
    }
}

impl Offsets {
    /// All of them absent from a part of the frame that begins at `offset`.
    #[must_use]
    pub fn all(offset: usize) -> Self {
        Self([offset; SLOTS])
    }

    /// The field `number` stands at `offset`. Numbers that no field has are passed over.
    pub fn set(&mut self, number: u32, offset: usize) {
        if let Some(slot) = usize::try_from(number).ok().and_then(|slot| self.0.get_mut(slot)) {
            *slot = offset;
        }
    }

    /// The error that the field `number` is wrong.
    ///
    /// # Panics
    ///
    /// If no field has that number.
    #[must_use]
    pub fn malformed(&self, number: usize) -> DecodeError {
        DecodeError::Malformed { offset: self.0[number] }
    }
}

impl<'a> Record<'a> {
    /// The fields of a message, its entries and members apart.
    #[must_use]
    pub fn of(message: &'a Message<'_>) -> Self {
        let mut record = Self::default();
        record.message(message);
        record
    }

    /// Sets the fields of a message in a record that has none: a record is moved as slowly as it is made.
    #[inline]
    pub(crate) fn message(&mut self, message: &'a Message<'_>) {
        let header = &message.header;
        self.set(
            1,
            [
                header.cluster.0,
                u64::from(header.group.0),
                header.from.0,
                header.term.0,
                header.request.0,
            ],
        );
        self.body(&message.body);
    }

    fn set<const N: usize>(&mut self, first: usize, numbers: [u64; N]) {
        self.numbers[first..first + N].copy_from_slice(&numbers);
    }

    // Not inline: the few fields of a kind are set where they stand, not all of them together at the end.
    #[inline(never)]
    fn body(&mut self, body: &'a Body<'_>) {
        match body {
            Body::Hello(hello) => self.hello(hello),
            Body::Welcome(welcome) => self.set(
                FIRST,
                [
                    u64::from(welcome.version),
                    u64::from(welcome.frame_max),
                    welcome.incarnation.0,
                    welcome.nonce,
                    welcome.features,
                ],
            ),
            Body::Goaway(goaway) => {
                self.set(FIRST, [u64::from(goaway.reason.number())]);
                self.texts[0] = goaway.detail;
            }
            Body::Append(append) => self.set(
                FIRST,
                [append.prev_index.0, append.prev_term.0, append.commit.0, append.round.0],
            ),
            Body::AppendReply(reply) => {
                let (result, numbers) = append_result(reply.result);
                self.set(FIRST, [reply.round.0, u64::from(result)]);
                self.set(8, numbers);
            }
            Body::Heartbeat(heartbeat) => self.set(FIRST, [heartbeat.commit.0, heartbeat.round.0]),
            Body::HeartbeatReply(reply) => self.set(FIRST, [reply.round.0, reply.promise_us]),
            Body::Vote(vote) => self.set(
                FIRST,
                [
                    u64::from(vote.pre),
                    u64::from(vote.by_transfer),
                    vote.term.0,
                    vote.last_index.0,
                    vote.last_term.0,
                ],
            ),
            Body::VoteReply(reply) => {
                self.set(FIRST, [u64::from(reply.pre), u64::from(reply.granted), reply.term.0]);
            }
            Body::ReadIndexReply(ReadIndexReply::At(index)) => self.set(FIRST, [u64::from(READ_AT), index.0]),
            Body::ReadIndexReply(ReadIndexReply::Refused) => self.set(FIRST, [u64::from(READ_REFUSED)]),
            Body::Snapshot(chunk) | Body::FetchReply(chunk) => {
                self.snapshot(&chunk.id, chunk.offset);
                self.bytes = chunk.data;
            }
            Body::SnapshotReply(reply) => {
                let (result, offset) = match reply.result {
                    SnapshotResult::Received(offset) => (SNAPSHOT_RECEIVED, offset),
                    SnapshotResult::NoSpace => (SNAPSHOT_NO_SPACE, 0),
                    SnapshotResult::Damaged => (SNAPSHOT_DAMAGED, 0),
                };
                self.snapshot(&reply.id, offset);
                self.set(11, [u64::from(result)]);
            }
            Body::ReadIndex | Body::TimeoutNow | Body::OpenSession | Body::Status => {}
            Body::Command(command) => {
                let commit = match command.commit {
                    Commit::Strong => 0,
                    Commit::Leader => COMMIT_LEADER,
                    Commit::Async => COMMIT_ASYNC,
                };
                let numbers = [command.session.0, command.sequence.0, command.first_unanswered.0];
                self.set(FIRST, numbers);
                self.set(9, [u64::from(commit)]);
                self.bytes = command.command;
            }
            Body::Read(read) => {
                let (consistency, age_max_ms) = match read.consistency {
                    Consistency::Linearizable => (0, 0),
                    Consistency::Lease => (READ_LEASE, 0),
                    Consistency::Stale { age_max_ms } => (READ_STALE, age_max_ms),
                };
                self.set(FIRST, [u64::from(consistency), age_max_ms]);
                self.bytes = read.query;
            }
            Body::Change(change) => self.change(change),
            Body::Transfer(transfer) => self.set(FIRST, [transfer.to.0]),
            Body::Fetch(fetch) => self.snapshot(&fetch.id, fetch.offset),
            Body::Reply(outcome) => self.outcome(outcome),
            Body::StatusReply(status) => self.status(status),
            // `Body` is open to other crates; whoever adds a kind finds this with the first round trip (P1).
            _ => unreachable!("every kind has its fields"),
        }
    }

    fn hello(&mut self, hello: &Hello<'a>) {
        self.set(
            FIRST,
            [
                u64::from(hello.role.number()),
                hello.to.0,
                hello.incarnation.0,
                hello.nonce,
                u64::from(hello.versions.min),
                u64::from(hello.versions.max),
                hello.features,
                u64::from(hello.frame_max),
            ],
        );
        self.texts[0] = hello.cluster_name;
        self.set(15, [hello.membership.0]);
    }

    fn snapshot(&mut self, id: &SnapshotId, offset: u64) {
        self.set(FIRST, [id.index.0, id.term.0, id.bytes, u64::from(id.crc), offset]);
    }

    fn change(&mut self, change: &Change<'a>) {
        let (number, node, address, promote, by) = match *change {
            Change::Add { node, address, promote } => (CHANGE_ADD, node, address, promote, NodeId::NONE),
            Change::Promote { node } => (CHANGE_PROMOTE, node, "", false, NodeId::NONE),
            Change::Remove { node } => (CHANGE_REMOVE, node, "", false, NodeId::NONE),
            Change::Replace { node, by, address } => (CHANGE_REPLACE, node, address, false, by),
            Change::Move { node, address } => (CHANGE_MOVE, node, address, false, NodeId::NONE),
        };
        self.set(FIRST, [u64::from(number), node.0]);
        self.texts[0] = address;
        self.set(9, [u64::from(promote), by.0]);
    }

    fn outcome(&mut self, outcome: &Outcome<'a>) {
        match *outcome {
            Outcome::Committed(answer) => {
                self.set(FIRST, [u64::from(OUTCOME_COMMITTED)]);
                self.bytes = answer;
            }
            Outcome::Refused(refused) => {
                let numbers = [OUTCOME_REFUSED.into(), refused.why.number().into(), refused.leader.0];
                self.set(FIRST, numbers);
                self.texts[0] = refused.detail;
            }
            Outcome::Unknown => self.set(FIRST, [u64::from(OUTCOME_UNKNOWN)]),
            Outcome::Weaker { basis, answer } => {
                let (basis, age_ms) = match basis {
                    Basis::Lease => (BASIS_LEASE, 0),
                    Basis::Stale { age_ms } => (BASIS_STALE, age_ms),
                    Basis::Leader => (BASIS_LEADER, 0),
                    Basis::Received => (BASIS_RECEIVED, 0),
                };
                self.set(FIRST, [u64::from(OUTCOME_WEAKER)]);
                self.set(10, [u64::from(basis), age_ms]);
                self.bytes = answer;
            }
        }
    }

    fn status(&mut self, status: &'a StatusReply<'_>) {
        self.set(
            FIRST,
            [
                u64::from(status.state.number()),
                status.leader.0,
                status.commit.0,
                status.applied.0,
                status.first.0,
                status.last.0,
                status.durable.0,
                status.snapshot.0,
                status.membership.0,
                status.uptime_ms,
            ],
        );
        self.texts = [status.version, status.backend];
    }

    /// Whether a field of the record, a list apart, is there to be written.
    #[must_use]
    pub fn says(&self, field: &Field) -> bool {
        match field.holds {
            Holds::Number(_) | Holds::Choice(_) | Holds::Flag => self.numbers[usize::from(field.number)] != 0,
            Holds::Text(at) => !self.texts[at].is_empty(),
            Holds::Bytes => !self.bytes.is_empty(),
            Holds::Entries | Holds::Members => false,
        }
    }

    /// The fields of an entry; its payload is the record's bytes.
    #[must_use]
    pub fn of_entry(entry: EntryRef<'a>) -> Self {
        let mut record = Self {
            bytes: entry.payload,
            ..Self::default()
        };
        record.set(1, [entry.term.0, entry.kind.number().into(), entry.crc.into()]);
        record
    }

    /// The fields of a member.
    #[must_use]
    pub fn of_member(member: &MemberStatus<'a>) -> Self {
        let mut record = Self {
            texts: [member.address, ""],
            ..Self::default()
        };
        record.set(1, [member.node.0]);
        let numbers = [
            member.standing.number().into(),
            member.matched.0,
            member.heard_ms,
            member.snapshot_percent.into(),
        ];
        record.set(3, numbers);
        record
    }

    /// The entry of these fields.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Malformed`] if it is of no kind, [`DecodeError::BadChecksum`] if its payload is damaged.
    pub fn entry(&self, at: &Offsets) -> Result<EntryRef<'a>> {
        let entry = self.unchecked_entry(at)?;
        if crc32c::crc32c(entry.payload) != entry.crc {
            return Err(DecodeError::BadChecksum);
        }
        Ok(entry)
    }

    /// The same, its payload not compared with its checksum.
    pub(crate) fn unchecked_entry(&self, at: &Offsets) -> Result<EntryRef<'a>> {
        let kind = of_u64::<EntryKind>(self.numbers[2]).ok_or_else(|| at.malformed(2))?;
        let crc = u32::try_from(self.numbers[3]).map_err(|_| at.malformed(3))?;
        Ok(EntryRef {
            term: Term(self.numbers[1]),
            kind,
            crc,
            payload: self.bytes,
        })
    }

    /// The member of these fields.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Malformed`].
    pub fn member(&self, at: &Offsets) -> Result<MemberStatus<'a>> {
        let percent = u8::try_from(self.numbers[6]).ok().filter(|percent| *percent <= 100);
        Ok(MemberStatus {
            node: NodeId(self.numbers[1]),
            address: self.texts[0],
            standing: of_u64::<Standing>(self.numbers[3]).ok_or_else(|| at.malformed(3))?,
            matched: Index(self.numbers[4]),
            heard_ms: self.numbers[5],
            snapshot_percent: percent.ok_or_else(|| at.malformed(6))?,
        })
    }
}

impl<'a> Received<'a> {
    /// No fields, of a message, entry or member that begins at `offset`.
    #[cfg(any(feature = "protobuf", feature = "msgpack"))]
    pub(crate) fn nothing(offset: usize) -> Self {
        Self {
            record: Record::default(),
            at: Offsets::all(offset),
            entries: Vec::new(),
            members: Vec::new(),
        }
    }

    /// The message of these fields.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Malformed`] at the field that is missing, unknown or without meaning.
    pub fn message(mut self, kind: Kind) -> Result<Message<'a>> {
        self.made(kind, |message| message)
    }

    /// The same, as what a decoder gives back for a frame of so many bytes.
    #[cfg(any(feature = "protobuf", feature = "msgpack", feature = "json"))]
    pub(crate) fn decoded(&mut self, kind: Kind, consumed: usize) -> Result<Decoded<'a>> {
        self.made(kind, |message| Decoded::Message { message, consumed })
    }

    /// What `make` makes of the message. A message is large, and moving it costs as much as reading its fields: it is
    /// made where it is to stay.
    #[inline]
    fn made<T>(&mut self, kind: Kind, make: impl FnOnce(Message<'a>) -> T) -> Result<T> {
        let [cluster, _, from, term, request] = self.numbers(1);
        let header = Header {
            cluster: ClusterId(cluster),
            group: GroupId(self.u32(2)?),
            from: NodeId(from),
            term: Term(term),
            request: RequestId(request),
        };
        let of = |body| Ok(make(Message { header, body }));
        match kind {
            Kind::Append => of(Body::Append(self.append()?)),
            Kind::StatusReply => of(Body::StatusReply(self.status()?)),
            Kind::Heartbeat => {
                let [commit, round] = self.numbers(6);
                of(Body::Heartbeat(Heartbeat {
                    commit: Index(commit),
                    round: Round(round),
                }))
            }
            _ => of(self.body(kind)?),
        }
    }

    fn numbers<const N: usize>(&self, first: usize) -> [u64; N] {
        std::array::from_fn(|at| self.record.numbers[first + at])
    }

    fn u32(&self, number: usize) -> Result<u32> {
        u32::try_from(self.record.numbers[number]).map_err(|_| self.at.malformed(number))
    }

    fn u16(&self, number: usize) -> Result<u16> {
        u16::try_from(self.record.numbers[number]).map_err(|_| self.at.malformed(number))
    }

    fn flag(&self, number: usize) -> bool {
        self.record.numbers[number] != 0
    }

    fn choice<T: Numbered>(&self, number: usize) -> Result<T>
    where
        T::Number: TryFrom<u64>,
    {
        of_u64(self.record.numbers[number]).ok_or_else(|| self.at.malformed(number))
    }

    /// A choice that picks what the message is: small, or none.
    fn pick(&self, number: usize) -> u8 {
        u8::try_from(self.record.numbers[number]).unwrap_or(u8::MAX)
    }

    /// These fields have no meaning in this message.
    fn absent(&self, numbers: &[usize]) -> Result<()> {
        match numbers.iter().find(|&&number| self.record.numbers[number] != 0) {
            Some(&number) => Err(self.at.malformed(number)),
            None => Ok(()),
        }
    }

    fn no_text(&self, number: usize) -> Result<()> {
        if self.record.texts[0].is_empty() {
            return Ok(());
        }
        Err(self.at.malformed(number))
    }

    fn no_bytes(&self, number: usize) -> Result<()> {
        if self.record.bytes.is_empty() {
            return Ok(());
        }
        Err(self.at.malformed(number))
    }

    fn body(&self, kind: Kind) -> Result<Body<'a>> {
        Ok(match kind {
            Kind::Hello => Body::Hello(self.hello()?),
            Kind::Welcome => {
                let [incarnation, nonce, features] = self.numbers(8);
                Body::Welcome(Welcome {
                    incarnation: Incarnation(incarnation),
                    nonce,
                    version: self.u16(6)?,
                    features,
                    frame_max: self.u32(7)?,
                })
            }
            Kind::Goaway => Body::Goaway(Goaway {
                reason: self.choice(6)?,
                detail: self.record.texts[0],
            }),
            Kind::AppendReply => Body::AppendReply(self.append_reply()?),
            Kind::HeartbeatReply => {
                let [round, promise_us] = self.numbers(6);
                Body::HeartbeatReply(HeartbeatReply {
                    round: Round(round),
                    promise_us,
                })
            }
            Kind::Vote => {
                let [term, last_index, last_term] = self.numbers(8);
                Body::Vote(Vote {
                    pre: self.flag(6),
                    by_transfer: self.flag(7),
                    term: Term(term),
                    last_index: Index(last_index),
                    last_term: Term(last_term),
                })
            }
            Kind::VoteReply => Body::VoteReply(VoteReply {
                pre: self.flag(6),
                granted: self.flag(7),
                term: Term(self.record.numbers[8]),
            }),
            Kind::ReadIndex => Body::ReadIndex,
            Kind::ReadIndexReply => Body::ReadIndexReply(match self.pick(6) {
                READ_AT => ReadIndexReply::At(Index(self.record.numbers[7])),
                READ_REFUSED => {
                    self.absent(&[7])?;
                    ReadIndexReply::Refused
                }
                _ => return Err(self.at.malformed(6)),
            }),
            Kind::Snapshot => Body::Snapshot(self.chunk()?),
            Kind::SnapshotReply => Body::SnapshotReply(self.snapshot_reply()?),
            Kind::TimeoutNow => Body::TimeoutNow,
            Kind::OpenSession => Body::OpenSession,
            Kind::Command => Body::Command(self.command()?),
            Kind::Read => Body::Read(self.read()?),
            Kind::Change => Body::Change(self.change()?),
            Kind::Transfer => Body::Transfer(Transfer {
                to: NodeId(self.record.numbers[6]),
            }),
            Kind::Fetch => Body::Fetch(Fetch {
                id: self.snapshot()?,
                offset: self.record.numbers[10],
            }),
            Kind::FetchReply => Body::FetchReply(self.chunk()?),
            Kind::Reply => Body::Reply(self.outcome()?),
            Kind::Status => Body::Status,
            Kind::Append | Kind::StatusReply | Kind::Heartbeat => unreachable!("they are made in place"),
        })
    }

    fn hello(&self) -> Result<Hello<'a>> {
        let [to, incarnation, nonce] = self.numbers(7);
        Ok(Hello {
            role: self.choice(6)?,
            to: NodeId(to),
            incarnation: Incarnation(incarnation),
            nonce,
            versions: Versions {
                min: self.u16(10)?,
                max: self.u16(11)?,
            },
            features: self.record.numbers[12],
            frame_max: self.u32(13)?,
            cluster_name: self.record.texts[0],
            membership: Index(self.record.numbers[15]),
        })
    }

    fn append(&mut self) -> Result<Append<'a>> {
        let [prev_index, prev_term, commit, round] = self.numbers(6);
        // Everybody who counts on from `prev_index` may do so unchecked.
        if prev_index.checked_add(self.entries.len() as u64).is_none() {
            return Err(self.at.malformed(6));
        }
        Ok(Append {
            prev_index: Index(prev_index),
            prev_term: Term(prev_term),
            commit: Index(commit),
            round: Round(round),
            entries: if self.entries.is_empty() {
                Entries::NONE
            } else {
                Entries::Lent(mem::take(&mut self.entries))
            },
        })
    }

    fn append_reply(&self) -> Result<AppendReply> {
        let [index, hint_index, hint_term] = self.numbers(8);
        let result = match self.pick(7) {
            APPEND_MATCHED => {
                self.absent(&[9, 10])?;
                AppendResult::Matched(Index(index))
            }
            APPEND_REJECTED => AppendResult::Rejected {
                prev_index: Index(index),
                hint_index: Index(hint_index),
                hint_term: Term(hint_term),
            },
            _ => return Err(self.at.malformed(7)),
        };
        Ok(AppendReply {
            round: Round(self.record.numbers[6]),
            result,
        })
    }

    fn snapshot(&self) -> Result<SnapshotId> {
        let [index, term, bytes] = self.numbers(6);
        Ok(SnapshotId {
            index: Index(index),
            term: Term(term),
            bytes,
            crc: self.u32(9)?,
        })
    }

    fn chunk(&self) -> Result<SnapshotChunk<'a>> {
        let id = self.snapshot()?;
        let (offset, data) = (self.record.numbers[10], self.record.bytes);
        // Everybody who puts the piece in its place may count unchecked.
        if id.bytes.checked_sub(offset).is_none_or(|rest| rest < data.len() as u64) {
            return Err(self.at.malformed(10));
        }
        Ok(SnapshotChunk { id, offset, data })
    }

    fn snapshot_reply(&self) -> Result<SnapshotReply> {
        let result = match self.pick(11) {
            SNAPSHOT_RECEIVED => SnapshotResult::Received(self.record.numbers[10]),
            result @ (SNAPSHOT_NO_SPACE | SNAPSHOT_DAMAGED) => {
                self.absent(&[10])?;
                if result == SNAPSHOT_NO_SPACE {
                    SnapshotResult::NoSpace
                } else {
                    SnapshotResult::Damaged
                }
            }
            _ => return Err(self.at.malformed(11)),
        };
        Ok(SnapshotReply {
            id: self.snapshot()?,
            result,
        })
    }

    fn command(&self) -> Result<Command<'a>> {
        let [session, sequence, first_unanswered] = self.numbers(6);
        let commit = match self.pick(9) {
            0 => Commit::Strong,
            COMMIT_LEADER => Commit::Leader,
            COMMIT_ASYNC => Commit::Async,
            _ => return Err(self.at.malformed(9)),
        };
        Ok(Command {
            session: SessionId(session),
            sequence: Sequence(sequence),
            first_unanswered: Sequence(first_unanswered),
            command: self.record.bytes,
            commit,
        })
    }

    fn read(&self) -> Result<Read<'a>> {
        let age_max_ms = self.record.numbers[7];
        let consistency = match self.pick(6) {
            READ_STALE => Consistency::Stale { age_max_ms },
            weaker @ (0 | READ_LEASE) => {
                self.absent(&[7])?;
                if weaker == READ_LEASE {
                    Consistency::Lease
                } else {
                    Consistency::Linearizable
                }
            }
            _ => return Err(self.at.malformed(6)),
        };
        Ok(Read {
            query: self.record.bytes,
            consistency,
        })
    }

    fn change(&self) -> Result<Change<'a>> {
        let node = NodeId(self.record.numbers[7]);
        let by = NodeId(self.record.numbers[10]);
        let address = self.record.texts[0];
        let change = match self.pick(6) {
            CHANGE_ADD => Change::Add {
                node,
                address,
                promote: self.flag(9),
            },
            CHANGE_PROMOTE => Change::Promote { node },
            CHANGE_REMOVE => Change::Remove { node },
            CHANGE_REPLACE => Change::Replace { node, by, address },
            CHANGE_MOVE => Change::Move { node, address },
            _ => return Err(self.at.malformed(6)),
        };
        match change {
            Change::Add { .. } => self.absent(&[10])?,
            Change::Replace { .. } => self.absent(&[9])?,
            Change::Move { .. } => self.absent(&[9, 10])?,
            Change::Promote { .. } | Change::Remove { .. } => {
                self.no_text(8)?;
                self.absent(&[9, 10])?;
            }
        }
        Ok(change)
    }

    fn outcome(&self) -> Result<Outcome<'a>> {
        let answer = self.record.bytes;
        match self.pick(6) {
            OUTCOME_COMMITTED => {
                self.absent(&[7, 8, 10, 11])?;
                self.no_text(9)?;
                Ok(Outcome::Committed(answer))
            }
            OUTCOME_REFUSED => {
                self.absent(&[10, 11])?;
                self.no_bytes(12)?;
                Ok(Outcome::Refused(Refused {
                    why: self.choice(7)?,
                    leader: NodeId(self.record.numbers[8]),
                    detail: self.record.texts[0],
                }))
            }
            OUTCOME_UNKNOWN => {
                self.absent(&[7, 8, 10, 11])?;
                self.no_text(9)?;
                self.no_bytes(12)?;
                Ok(Outcome::Unknown)
            }
            OUTCOME_WEAKER => {
                self.absent(&[7, 8])?;
                self.no_text(9)?;
                let basis = match u16::from(self.pick(10)) {
                    BASIS_LEASE => Basis::Lease,
                    BASIS_STALE => Basis::Stale {
                        age_ms: self.record.numbers[11],
                    },
                    BASIS_LEADER => Basis::Leader,
                    BASIS_RECEIVED => Basis::Received,
                    _ => return Err(self.at.malformed(10)),
                };
                if !matches!(basis, Basis::Stale { .. }) {
                    self.absent(&[11])?;
                }
                Ok(Outcome::Weaker { basis, answer })
            }
            _ => Err(self.at.malformed(6)),
        }
    }

    fn status(&mut self) -> Result<StatusReply<'a>> {
        let [
            leader,
            commit,
            applied,
            first,
            last,
            durable,
            snapshot,
            membership,
            uptime_ms,
        ] = self.numbers(7);
        Ok(StatusReply {
            state: self.choice(6)?,
            leader: NodeId(leader),
            commit: Index(commit),
            applied: Index(applied),
            first: Index(first),
            last: Index(last),
            durable: Index(durable),
            snapshot: Index(snapshot),
            membership: Index(membership),
            uptime_ms,
            version: self.record.texts[0],
            backend: self.record.texts[1],
            members: mem::take(&mut self.members),
        })
    }
}
