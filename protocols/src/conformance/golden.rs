//! Golden vectors (law P9): messages, and the bytes that they have been since their first release.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use kraft_core::handshake::Kind;
use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId, RequestId, Round, Sequence, SessionId, Term};
use kraft_core::message::{
    Append, AppendReply, AppendResult, Basis, Body, Change, Command, Commit, Consistency, Entries, EntryKind, EntryRef,
    Fetch, Goaway, GoawayReason, Header, Heartbeat, HeartbeatReply, Hello, MemberStatus, Message, NodeState, Outcome,
    Read, ReadIndexReply, Refusal, Refused, Role, SnapshotChunk, SnapshotId, SnapshotReply, SnapshotResult, Standing,
    StatusReply, Transfer, Versions, Vote, VoteReply, Welcome,
};
use kraft_core::protocol::Protocol;

use super::{Subject, skipped};

/// P9: golden vectors do not change.
///
/// A file `NAME.hex` for each of [`messages`], in the subject's folder; `KRAFT_REWRITE=1` writes them.
pub fn p09_golden<P: Protocol>(subject: &Subject<P>) {
    let Some(folder) = &subject.golden else {
        return skipped("P9", "no folder of golden vectors");
    };
    let messages = messages();
    for kind in Kind::ALL {
        let is_there = messages.iter().any(|(_, message)| Kind::of(&message.body) == kind);
        assert!(is_there, "there is a golden {kind:?}");
    }
    let rewrite = env::var_os("KRAFT_REWRITE").is_some_and(|value| value == "1");
    for (name, message) in &messages {
        let path = folder.join(name).with_extension("hex");
        let frame = subject.frame(message);
        if rewrite {
            fs::write(&path, to_hex(name, &frame)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        let golden = read(&path);
        assert_eq!(frame, golden, "{name}: P9: golden vectors do not change");
        subject.expect_message(&golden, message, golden.len());
    }
}

/// The bytes of a golden vector: hexadecimal digits, blanks between them, comments from `#` on.
///
/// # Panics
///
/// If the file cannot be read.
#[must_use]
pub fn read(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{}: {error}; KRAFT_REWRITE=1 writes golden vectors", path.display()));
    let digits: Vec<u8> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(str::chars)
        .filter(|char| !char.is_whitespace())
        .map(|digit| u8::try_from(digit.to_digit(16).expect("golden vectors are hexadecimal")).expect("a digit"))
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn to_hex(name: &str, frame: &[u8]) -> String {
    let mut text = format!("# {name}, {} bytes\n", frame.len());
    // Lines of eight, as the fields of the layout lie.
    for (line, bytes) in frame.chunks(8).enumerate() {
        for byte in bytes {
            write!(text, "{byte:02x} ").expect("a string takes it");
        }
        let padding = 3 * (8 - bytes.len());
        writeln!(text, "{:padding$}# {}", "", line * 8).expect("a string takes it");
    }
    text
}

/// The messages of the golden vectors: every kind, every variant.
#[must_use]
#[rustfmt::skip] // A table: a line a message.
pub fn messages() -> Vec<(&'static str, Message<'static>)> {
    let bodies = [
        ("hello-peer", Body::Hello(HELLO)),
        ("hello-client", Body::Hello(Hello { role: Role::Client, to: NodeId::NONE, incarnation: Incarnation(0), cluster_name: "", ..HELLO })),
        ("hello-membership", Body::Hello(Hello { membership: Index(88), ..HELLO })),
        ("welcome", Body::Welcome(Welcome { incarnation: Incarnation(0x1122_3344_5566_7788), nonce: 0x0102_0304_0506_0708, version: 1, features: 5, frame_max: 1 << 20 })),
        ("goaway", Body::Goaway(Goaway { reason: GoawayReason::WrongCluster, detail: "this node is of \"prod\" – not \"test\"" })),
        ("goaway-violation", Body::Goaway(Goaway { reason: GoawayReason::Violation, detail: "" })),
        ("goaway-removed", Body::Goaway(Goaway { reason: GoawayReason::Removed, detail: "node 2 was removed" })),
        ("append-probe", Body::Append(append(Entries::NONE))),
        ("append", Body::Append(append(Entries::Lent(entries())))),
        ("append-matched", Body::AppendReply(AppendReply { round: Round(9), result: AppendResult::Matched(Index(104)) })),
        ("append-rejected", Body::AppendReply(AppendReply { round: Round(9), result: AppendResult::Rejected { prev_index: Index(100), hint_index: Index(90), hint_term: Term(3) } })),
        ("heartbeat", Body::Heartbeat(Heartbeat { commit: Index(99), round: Round(10) })),
        ("heartbeat-reply", Body::HeartbeatReply(HeartbeatReply { round: Round(10), promise_us: 0 })),
        ("heartbeat-reply-promise", Body::HeartbeatReply(HeartbeatReply { round: Round(10), promise_us: 150_000 })),
        ("vote", Body::Vote(Vote { pre: false, by_transfer: true, term: Term(8), last_index: Index(104), last_term: Term(7) })),
        ("vote-pre", Body::Vote(Vote { pre: true, by_transfer: false, term: Term(8), last_index: Index(104), last_term: Term(7) })),
        ("vote-granted", Body::VoteReply(VoteReply { pre: false, granted: true, term: Term(8) })),
        ("vote-pre-refused", Body::VoteReply(VoteReply { pre: true, granted: false, term: Term(8) })),
        ("read-index", Body::ReadIndex),
        ("read-index-at", Body::ReadIndexReply(ReadIndexReply::At(Index(104)))),
        ("read-index-refused", Body::ReadIndexReply(ReadIndexReply::Refused)),
        ("snapshot", Body::Snapshot(SnapshotChunk { id: SNAPSHOT, offset: 4096, data: b"a piece" })),
        ("snapshot-question", Body::Snapshot(SnapshotChunk { id: SNAPSHOT, offset: 0, data: b"" })),
        ("snapshot-received", Body::SnapshotReply(SnapshotReply { id: SNAPSHOT, result: SnapshotResult::Received(4103) })),
        ("snapshot-no-space", Body::SnapshotReply(SnapshotReply { id: SNAPSHOT, result: SnapshotResult::NoSpace })),
        ("snapshot-damaged", Body::SnapshotReply(SnapshotReply { id: SNAPSHOT, result: SnapshotResult::Damaged })),
        ("timeout-now", Body::TimeoutNow),
        ("open-session", Body::OpenSession),
        ("command", Body::Command(Command { session: SessionId(33), sequence: Sequence(5), first_unanswered: Sequence(4), command: b"put key value", commit: Commit::Strong })),
        ("command-leader", Body::Command(Command { session: SessionId(33), sequence: Sequence(6), first_unanswered: Sequence(5), command: b"put key value", commit: Commit::Leader })),
        ("command-async", Body::Command(Command { session: SessionId(0), sequence: Sequence(0), first_unanswered: Sequence(0), command: b"put key value", commit: Commit::Async })),
        ("read", Body::Read(Read { query: b"get key", consistency: Consistency::Linearizable })),
        ("read-lease", Body::Read(Read { query: b"get key", consistency: Consistency::Lease })),
        ("read-stale", Body::Read(Read { query: b"get key", consistency: Consistency::Stale { age_max_ms: 2500 } })),
        ("change-add", Body::Change(Change::Add { node: NodeId(4), address: "10.0.0.4:7001", promote: false })),
        ("change-add-promote", Body::Change(Change::Add { node: NodeId(4), address: "10.0.0.4:7001", promote: true })),
        ("change-promote", Body::Change(Change::Promote { node: NodeId(4) })),
        ("change-remove", Body::Change(Change::Remove { node: NodeId(3) })),
        ("change-replace", Body::Change(Change::Replace { node: NodeId(3), by: NodeId(4), address: "10.0.0.4:7001" })),
        ("change-move", Body::Change(Change::Move { node: NodeId(3), address: "10.0.1.3:7001" })),
        ("transfer", Body::Transfer(Transfer { to: NodeId(3) })),
        ("fetch", Body::Fetch(Fetch { id: SNAPSHOT, offset: 4096 })),
        ("fetch-new", Body::Fetch(Fetch { id: SnapshotId::default(), offset: 0 })),
        ("fetch-reply", Body::FetchReply(SnapshotChunk { id: SNAPSHOT, offset: 4096, data: b"a piece" })),
        ("reply-committed", Body::Reply(Outcome::Committed(b"value"))),
        ("reply-refused", Body::Reply(Outcome::Refused(Refused { why: Refusal::NotLeader, leader: NodeId(3), detail: "node 3 leads" }))),
        ("reply-refused-timed-out", Body::Reply(Outcome::Refused(Refused { why: Refusal::TimedOut, leader: NodeId(2), detail: "" }))),
        ("reply-refused-too-stale", Body::Reply(Outcome::Refused(Refused { why: Refusal::TooStale, leader: NodeId(2), detail: "" }))),
        ("reply-unknown", Body::Reply(Outcome::Unknown)),
        ("reply-lease", Body::Reply(Outcome::Weaker { basis: Basis::Lease, answer: b"value" })),
        ("reply-stale", Body::Reply(Outcome::Weaker { basis: Basis::Stale { age_ms: 31 }, answer: b"value" })),
        ("reply-leader", Body::Reply(Outcome::Weaker { basis: Basis::Leader, answer: b"" })),
        ("reply-received", Body::Reply(Outcome::Weaker { basis: Basis::Received, answer: b"" })),
        ("status", Body::Status),
        ("status-reply", Body::StatusReply(status())),
        ("status-reply-standings", Body::StatusReply(status_of_a_change(0))),
        ("status-reply-snapshot", Body::StatusReply(status_of_a_change(57))),
    ];
    bodies.into_iter().map(|(name, body)| (name, Message { header: HEADER, body })).collect()
}

const HEADER: Header = Header {
    cluster: ClusterId(0x7b19_6ae1_b5d7_2a01),
    group: GroupId(0),
    from: NodeId(2),
    term: Term(7),
    request: RequestId(0x0a0b_0c0d_0e0f_1011),
};

const HELLO: Hello<'_> = Hello {
    role: Role::Peer,
    to: NodeId(1),
    incarnation: Incarnation(0x1122_3344_5566_7788),
    nonce: 0x0102_0304_0506_0708,
    versions: Versions { min: 1, max: 3 },
    features: 1 << 63 | 5,
    frame_max: 1 << 20,
    cluster_name: "grün",
    membership: Index::ZERO,
};

const SNAPSHOT: SnapshotId = SnapshotId {
    index: Index(96),
    term: Term(6),
    bytes: 10_000,
    crc: 0x5e6f_7a8b,
};

fn append(entries: Entries<'static>) -> Append<'static> {
    Append {
        prev_index: Index(100),
        prev_term: Term(5),
        commit: Index(99),
        round: Round(9),
        entries,
    }
}

fn entries() -> Vec<EntryRef<'static>> {
    let entry = |term, kind, payload: &'static [u8]| EntryRef {
        term: Term(term),
        kind,
        crc: crc32c::crc32c(payload),
        payload,
    };
    vec![
        entry(5, EntryKind::Command, b"one"),
        entry(5, EntryKind::OpenSession, b""),
        entry(7, EntryKind::Noop, b""),
        entry(7, EntryKind::Membership, b"\x01\x02\x03\x04"),
    ]
}

fn status() -> StatusReply<'static> {
    let member = |node, address, matched, heard_ms| MemberStatus {
        node: NodeId(node),
        address,
        standing: Standing::Voter,
        matched: Index(matched),
        heard_ms,
        snapshot_percent: 0,
    };
    StatusReply {
        state: NodeState::Leader,
        leader: NodeId(2),
        commit: Index(104),
        applied: Index(103),
        first: Index(1),
        last: Index(105),
        durable: Index(104),
        snapshot: Index::ZERO,
        membership: Index::ZERO,
        uptime_ms: 86_400_000,
        version: "0.1.0",
        backend: "epoll",
        members: vec![
            member(1, "10.0.0.1:7001", 104, 12),
            member(2, "[fd00::2]:7001", 105, 0),
            member(3, "node-3.example:7001", 0, u64::MAX),
        ],
    }
}

/// With all that was appended to a status reply, and a member of each standing; the learner has so much of a snapshot.
fn status_of_a_change(percent: u8) -> StatusReply<'static> {
    let member = |node, address, standing| MemberStatus {
        node: NodeId(node),
        address,
        standing,
        matched: Index(104),
        heard_ms: 3,
        snapshot_percent: if standing == Standing::Learner { percent } else { 0 },
    };
    StatusReply {
        snapshot: Index(96),
        membership: Index(88),
        members: vec![
            member(2, "[fd00::2]:7001", Standing::Voter),
            member(3, "node-3.example:7001", Standing::Leaving),
            member(4, "10.0.0.4:7001", Standing::Joining),
            member(5, "10.0.0.5:7001", Standing::Learner),
        ],
        ..status()
    }
}
