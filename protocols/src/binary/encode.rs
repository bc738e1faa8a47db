//! Messages to bytes.

use kraft_core::handshake::Kind;
use kraft_core::id::{Index, NodeId, Term};
use kraft_core::message::{
    Append, Basis, Body, Change, Commit, Consistency, Entries, EntryRef, Header, MemberStatus, Message, Outcome,
    ReadIndexReply, SnapshotChunk, SnapshotId, SnapshotReply, SnapshotResult, StatusReply,
};
use kraft_core::outbox::{Frame, Full, Outbox, SHARE_MIN};
use kraft_core::protocol::EncodeError;

use super::FORMAT;
use super::layout::{
    ADD_PROMOTE, ENTRY, FIXED_MAX, MEMBER, RUN, VOTE_BY_TRANSFER, VOTE_PRE, VOTE_REPLY_GRANTED, VOTE_REPLY_PRE,
    appended, fixed,
};
use crate::frame::{Envelope, HEADER, kind_number};
use crate::numbers::{
    BASIS_LEADER, BASIS_LEASE, BASIS_RECEIVED, BASIS_STALE, CHANGE_ADD, CHANGE_MOVE, CHANGE_PROMOTE, CHANGE_REMOVE,
    CHANGE_REPLACE, COMMIT_ASYNC, COMMIT_LEADER, Numbered, OUTCOME_COMMITTED, OUTCOME_REFUSED, OUTCOME_UNKNOWN,
    OUTCOME_WEAKER, READ_AT, READ_LEASE, READ_REFUSED, READ_STALE, SNAPSHOT_DAMAGED, SNAPSHOT_NO_SPACE,
    SNAPSHOT_RECEIVED, TEXT_MAX, address, append_result,
};

pub(super) fn encode(message: &Message<'_>, frame_max: usize, out: &mut Outbox) -> Result<(), EncodeError> {
    let kind = Kind::of(&message.body);
    let size = Size::of(&message.body)?;
    let fixed = fixed(kind) + if has_appended(&message.body) { appended(kind) } else { 0 };
    let checked = size.covered.saturating_add(fixed);
    let length = checked.saturating_add(size.payloads);
    if length.saturating_add(HEADER) > frame_max {
        return Err(EncodeError::TooLarge);
    }
    let length = u32::try_from(length).map_err(|_| EncodeError::TooLarge)?;
    let checked = u32::try_from(checked).expect("at most the length, which is a u32");

    let mut start = Start::new(fixed, &message.header);
    start.fields(&message.body, &size);
    assert_eq!(
        start.len,
        HEADER + fixed,
        "the fixed part of {kind:?} is as long as it says"
    );
    out.frame(|frame| {
        frame.put(start.bytes())?;
        put_tail(&message.body, &size, frame)?;
        // In one piece: in long ones the processor makes three checksums at once.
        let body_crc = crc32c::crc32c(frame.last(checked as usize));
        let envelope = Envelope {
            format: FORMAT,
            kind: kind_number(kind),
            length,
            checked,
            body_crc,
        };
        if let Body::Append(append) = &message.body {
            put_payloads(&append.entries, &size, frame)?;
        }
        assert_eq!(
            frame.len() - HEADER,
            length as usize,
            "the frame of a {kind:?} is as long as it says"
        );
        frame.patch(0, &envelope.to_bytes());
        Ok::<(), Full>(())
    })
    .map_err(|Full| EncodeError::Full)
}

/// Whether a field that was appended to its kind has something to say. If none has, the frame is as it was before there
/// were any, byte for byte.
fn has_appended(body: &Body<'_>) -> bool {
    match body {
        Body::Hello(hello) => hello.membership != Index::ZERO,
        Body::HeartbeatReply(reply) => reply.promise_us != 0,
        Body::Command(command) => command.commit != Commit::Strong,
        Body::Read(read) => read.consistency != Consistency::Linearizable,
        Body::StatusReply(status) => status.snapshot != Index::ZERO || status.membership != Index::ZERO,
        _ => false,
    }
}

/// Bytes behind the fixed part.
#[derive(Default)]
struct Size {
    covered: usize,
    payloads: usize,
    /// Some payload is large enough to be shared.
    is_shared: bool,
    /// Runs of entries of one term.
    runs: usize,
}

impl Size {
    fn of(body: &Body<'_>) -> Result<Self, EncodeError> {
        let covered = match body {
            Body::Append(append) => return Ok(Self::of_append(append)),
            Body::Hello(hello) => text(hello.cluster_name)?,
            Body::Goaway(goaway) => text(goaway.detail)?,
            Body::Command(command) => command.command.len(),
            Body::Read(read) => read.query.len(),
            Body::Snapshot(chunk) | Body::FetchReply(chunk) => chunk.data.len(),
            Body::Change(change) => text(address(change))?,
            Body::Reply(Outcome::Committed(answer) | Outcome::Weaker { answer, .. }) => answer.len(),
            Body::Reply(Outcome::Refused(refused)) => text(refused.detail)?,
            Body::StatusReply(status) => {
                let mut sum = text(status.version)? + text(status.backend)?;
                for member in &status.members {
                    sum += MEMBER + text(member.address)?;
                }
                sum
            }
            _ => 0,
        };
        Ok(Self {
            covered,
            ..Self::default()
        })
    }

    fn of_append(append: &Append<'_>) -> Self {
        let mut size = Self::default();
        let mut term = None;
        append.entries.iter().for_each(|entry| {
            size.payloads = size.payloads.saturating_add(entry.payload.len());
            size.is_shared |= entry.payload.len() >= SHARE_MIN;
            size.runs += usize::from(term != Some(entry.term));
            term = Some(entry.term);
        });
        size.covered = size.runs * RUN + append.entries.len() * ENTRY;
        size
    }
}

fn text(text: &str) -> Result<usize, EncodeError> {
    if text.len() > TEXT_MAX {
        return Err(EncodeError::TooLarge);
    }
    Ok(text.len())
}

/// Header and fixed part of a frame under construction; the header is filled in last.
struct Start {
    bytes: [u8; HEADER + FIXED_MAX],
    len: usize,
}

impl Start {
    fn new(fixed: usize, header: &Header) -> Self {
        let mut start = Self {
            bytes: [0; HEADER + FIXED_MAX],
            len: HEADER,
        };
        start.u16(u16::try_from(fixed).expect("fixed parts are short"));
        start.skip(2);
        start.u32(header.group.0);
        start.u64(header.cluster.0);
        start.u64(header.from.0);
        start.u64(header.term.0);
        start.u64(header.request.0);
        start
    }

    fn fields(&mut self, body: &Body<'_>, size: &Size) {
        match body {
            Body::Hello(hello) => {
                self.u8(hello.role.number());
                self.skip(1);
                self.u16(hello.versions.min);
                self.u16(hello.versions.max);
                self.skip(2);
                self.u32(hello.frame_max);
                self.length(hello.cluster_name.len());
                self.u64(hello.to.0);
                self.u64(hello.incarnation.0);
                self.u64(hello.nonce);
                self.u64(hello.features);
                if hello.membership != Index::ZERO {
                    self.u64(hello.membership.0);
                }
            }
            Body::Welcome(welcome) => {
                self.u16(welcome.version);
                self.skip(2);
                self.u32(welcome.frame_max);
                self.u64(welcome.incarnation.0);
                self.u64(welcome.nonce);
                self.u64(welcome.features);
            }
            Body::Goaway(goaway) => {
                self.u16(goaway.reason.number());
                self.skip(2);
                self.length(goaway.detail.len());
            }
            Body::OpenSession | Body::Status => {}
            Body::Command(command) => {
                self.u64(command.session.0);
                self.u64(command.sequence.0);
                self.u64(command.first_unanswered.0);
                self.length(command.command.len());
                self.skip(4);
                match command.commit {
                    Commit::Strong => {}
                    Commit::Leader => self.number(COMMIT_LEADER),
                    Commit::Async => self.number(COMMIT_ASYNC),
                }
            }
            Body::Read(read) => {
                self.length(read.query.len());
                self.skip(4);
                let (number, age_max_ms) = match read.consistency {
                    Consistency::Linearizable => return,
                    Consistency::Lease => (READ_LEASE, 0),
                    Consistency::Stale { age_max_ms } => (READ_STALE, age_max_ms),
                };
                self.number(number);
                self.u64(age_max_ms);
            }
            Body::Change(change) => self.change(change),
            Body::Transfer(transfer) => self.u64(transfer.to.0),
            Body::Fetch(fetch) => {
                self.snapshot(&fetch.id);
                self.skip(4);
                self.u64(fetch.offset);
            }
            Body::FetchReply(chunk) => self.chunk(chunk),
            Body::Reply(outcome) => self.outcome(outcome),
            Body::StatusReply(status) => self.status(status),
            _ => self.raft(body, size),
        }
    }

    fn raft(&mut self, body: &Body<'_>, size: &Size) {
        match body {
            Body::Append(append) => {
                self.u64(append.prev_index.0);
                self.u64(append.prev_term.0);
                self.u64(append.commit.0);
                self.u64(append.round.0);
                self.length(size.runs);
                self.length(append.entries.len());
            }
            Body::AppendReply(reply) => {
                let (result, numbers) = append_result(reply.result);
                self.u64(reply.round.0);
                self.u8(result);
                self.skip(7);
                for number in numbers {
                    self.u64(number);
                }
            }
            Body::Heartbeat(heartbeat) => {
                self.u64(heartbeat.commit.0);
                self.u64(heartbeat.round.0);
            }
            Body::HeartbeatReply(reply) => {
                self.u64(reply.round.0);
                if reply.promise_us != 0 {
                    self.u64(reply.promise_us);
                }
            }
            Body::Vote(vote) => {
                self.u8(flag(vote.pre, VOTE_PRE) | flag(vote.by_transfer, VOTE_BY_TRANSFER));
                self.skip(7);
                self.u64(vote.term.0);
                self.u64(vote.last_index.0);
                self.u64(vote.last_term.0);
            }
            Body::VoteReply(reply) => {
                self.u8(flag(reply.pre, VOTE_REPLY_PRE) | flag(reply.granted, VOTE_REPLY_GRANTED));
                self.skip(7);
                self.u64(reply.term.0);
            }
            Body::ReadIndexReply(reply) => {
                let (result, index) = match reply {
                    ReadIndexReply::At(index) => (READ_AT, index.0),
                    ReadIndexReply::Refused => (READ_REFUSED, 0),
                };
                self.u8(result);
                self.skip(7);
                self.u64(index);
            }
            Body::Snapshot(chunk) => self.chunk(chunk),
            Body::SnapshotReply(reply) => self.snapshot_reply(reply),
            Body::ReadIndex | Body::TimeoutNow => {}
            // `Body` is open to other crates; whoever adds a kind finds this with the first round trip (P1).
            _ => unreachable!("every kind has a layout"),
        }
    }

    fn snapshot(&mut self, id: &SnapshotId) {
        self.u64(id.index.0);
        self.u64(id.term.0);
        self.u64(id.bytes);
        self.u32(id.crc);
    }

    fn chunk(&mut self, chunk: &SnapshotChunk<'_>) {
        self.snapshot(&chunk.id);
        self.length(chunk.data.len());
        self.u64(chunk.offset);
    }

    fn snapshot_reply(&mut self, reply: &SnapshotReply) {
        let (result, offset) = match reply.result {
            SnapshotResult::Received(offset) => (SNAPSHOT_RECEIVED, offset),
            SnapshotResult::NoSpace => (SNAPSHOT_NO_SPACE, 0),
            SnapshotResult::Damaged => (SNAPSHOT_DAMAGED, 0),
        };
        self.snapshot(&reply.id);
        self.u8(result);
        self.skip(3);
        self.u64(offset);
    }

    fn change(&mut self, change: &Change<'_>) {
        let (number, flags, node, by) = match *change {
            Change::Add { node, promote, .. } => (CHANGE_ADD, flag(promote, ADD_PROMOTE), node, NodeId::NONE),
            Change::Promote { node } => (CHANGE_PROMOTE, 0, node, NodeId::NONE),
            Change::Remove { node } => (CHANGE_REMOVE, 0, node, NodeId::NONE),
            Change::Replace { node, by, .. } => (CHANGE_REPLACE, 0, node, by),
            Change::Move { node, .. } => (CHANGE_MOVE, 0, node, NodeId::NONE),
        };
        self.u8(number);
        self.u8(flags);
        self.skip(2);
        self.length(address(change).len());
        self.u64(node.0);
        self.u64(by.0);
    }

    fn outcome(&mut self, outcome: &Outcome<'_>) {
        let (number, why, length, last) = match outcome {
            Outcome::Committed(answer) => (OUTCOME_COMMITTED, 0, answer.len(), 0),
            Outcome::Refused(refused) => (
                OUTCOME_REFUSED,
                refused.why.number(),
                refused.detail.len(),
                refused.leader.0,
            ),
            Outcome::Unknown => (OUTCOME_UNKNOWN, 0, 0, 0),
            Outcome::Weaker { basis, answer } => {
                let (number, age_ms) = match *basis {
                    Basis::Lease => (BASIS_LEASE, 0),
                    Basis::Stale { age_ms } => (BASIS_STALE, age_ms),
                    Basis::Leader => (BASIS_LEADER, 0),
                    Basis::Received => (BASIS_RECEIVED, 0),
                };
                (OUTCOME_WEAKER, number, answer.len(), age_ms)
            }
        };
        self.u8(number);
        self.skip(1);
        self.u16(why);
        self.length(length);
        self.u64(last);
    }

    fn status(&mut self, status: &StatusReply<'_>) {
        self.u8(status.state.number());
        self.skip(3);
        self.length(status.members.len());
        self.u64(status.leader.0);
        for index in [status.commit, status.applied, status.first, status.last, status.durable] {
            self.u64(index.0);
        }
        self.u64(status.uptime_ms);
        self.length(status.version.len());
        self.length(status.backend.len());
        if status.snapshot != Index::ZERO || status.membership != Index::ZERO {
            self.u64(status.snapshot.0);
            self.u64(status.membership.0);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Reserved bytes, which are zero.
    fn skip(&mut self, count: usize) {
        self.len += count;
    }

    fn u8(&mut self, number: u8) {
        self.put(&[number]);
    }

    /// A number and seven reserved bytes.
    fn number(&mut self, number: u8) {
        self.u8(number);
        self.skip(7);
    }

    fn u16(&mut self, number: u16) {
        self.put(&number.to_le_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.put(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }

    /// A length or count of a variable part.
    fn length(&mut self, length: usize) {
        self.u32(u32::try_from(length).expect("parts are no longer than the frame, whose length is a u32"));
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

const fn flag(is_set: bool, bit: u8) -> u8 {
    if is_set { bit } else { 0 }
}

/// Puts the variable parts that the body's checksum covers.
fn put_tail(body: &Body<'_>, size: &Size, frame: &mut Frame<'_>) -> Result<(), Full> {
    match body {
        Body::Append(append) => put_table(&append.entries, size.runs, frame),
        Body::Hello(hello) => frame.put(hello.cluster_name.as_bytes()),
        Body::Goaway(goaway) => frame.put(goaway.detail.as_bytes()),
        Body::Command(command) => frame.put(command.command),
        Body::Read(read) => frame.put(read.query),
        Body::Snapshot(chunk) | Body::FetchReply(chunk) => frame.put(chunk.data),
        Body::Change(change) => frame.put(address(change).as_bytes()),
        Body::Reply(Outcome::Committed(answer) | Outcome::Weaker { answer, .. }) => frame.put(answer),
        Body::Reply(Outcome::Refused(refused)) => frame.put(refused.detail.as_bytes()),
        Body::StatusReply(status) => {
            frame.put(status.version.as_bytes())?;
            frame.put(status.backend.as_bytes())?;
            status.members.iter().try_for_each(|member| put_member(member, frame))
        }
        _ => Ok(()),
    }
}

fn put_member(member: &MemberStatus<'_>, frame: &mut Frame<'_>) -> Result<(), Full> {
    let mut fields = [0; MEMBER];
    fields[0..8].copy_from_slice(&member.node.0.to_le_bytes());
    fields[8..16].copy_from_slice(&member.matched.0.to_le_bytes());
    fields[16..24].copy_from_slice(&member.heard_ms.to_le_bytes());
    let length = u32::try_from(member.address.len()).expect("a text is at most TEXT_MAX");
    fields[24..28].copy_from_slice(&length.to_le_bytes());
    fields[28] = member.standing.number();
    fields[29] = member.snapshot_percent;
    frame.put(&fields)?;
    frame.put(member.address.as_bytes())
}

/// Runs of terms, then entries.
fn put_table(entries: &Entries<'_>, runs: usize, frame: &mut Frame<'_>) -> Result<(), Full> {
    let mut terms = entries.iter().map(|entry| entry.term);
    match (runs, terms.next()) {
        // Nearly always: a leader sends what it made, and was not another one's follower a moment ago.
        (1, Some(term)) => put_run(term, entries.len(), frame)?,
        (_, Some(first)) => {
            let (mut term, mut count) = (first, 1);
            for next in terms {
                if next != term {
                    put_run(term, count, frame)?;
                    (term, count) = (next, 0);
                }
                count += 1;
            }
            put_run(term, count, frame)?;
        }
        (_, None) => {}
    }
    // Written out for each way that entries are held: an iterator over both asks at each entry which it is.
    let count = entries.len() * ENTRY;
    match entries {
        Entries::Lent(entries) => frame.put_all(count, entries.iter().map(|entry| row(*entry))),
        Entries::Shared(front, back) => {
            let both = front.iter().chain(*back);
            frame.put_all(count, both.map(|entry| row(entry.as_ref())))
        }
    }
}

#[inline]
fn row(entry: EntryRef<'_>) -> [u8; ENTRY] {
    let length = u32::try_from(entry.payload.len()).expect("a payload is shorter than its frame");
    let mut row = [0; ENTRY];
    row[0..4].copy_from_slice(&length.to_le_bytes());
    row[4..8].copy_from_slice(&entry.crc.to_le_bytes());
    row[8] = entry.kind.number();
    row
}

fn put_run(term: Term, count: usize, frame: &mut Frame<'_>) -> Result<(), Full> {
    let count = u32::try_from(count).expect("there are fewer entries than bytes of the frame");
    let mut row = [0; RUN];
    row[0..8].copy_from_slice(&term.0.to_le_bytes());
    row[8..12].copy_from_slice(&count.to_le_bytes());
    frame.put(&row)
}

fn put_payloads(entries: &Entries<'_>, size: &Size, frame: &mut Frame<'_>) -> Result<(), Full> {
    match entries {
        Entries::Lent(entries) => frame.put_all(size.payloads, entries.iter().map(|entry| entry.payload)),
        Entries::Shared(front, back) => {
            let mut payloads = front.iter().chain(*back).map(|entry| &entry.payload);
            if size.is_shared {
                return payloads.try_for_each(|payload| frame.put_shared(payload));
            }
            frame.put_all(size.payloads, payloads)
        }
    }
}
