//! Instructions of what every message and every turn passes through: timers, an outbox, an inbox, Raft.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use gungraun::{library_benchmark, library_benchmark_group, main};
use kraft_core::id::{Index, NodeId, Round, SyncId, Term};
use kraft_core::inbox::{Budget, Inbox};
use kraft_core::log::{Proposal, Tail};
use kraft_core::message::{Append, Body, Command, Entries, Entry, EntryKind, Header, Heartbeat, Message};
use kraft_core::outbox::{Outbox, Segments};
use kraft_core::protocol::{Limits, Protocol};
use kraft_core::raft::{Config, Output, Raft};
use kraft_core::storage::Recovered;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;
use kraft_protocols::Binary;

const LIMITS: Limits = Limits {
    frame_max: 1 << 20,
    entries_max: 1024,
};

/// Timers that run beside the one that is looked at.
const RUNNING: u64 = 100_000;

/// Small things that are put, received or proposed in a turn.
const COUNT: usize = 64;

/// Bytes of a command.
const BYTES: usize = 256;

fn timers() -> Timers {
    let mut timers = Timers::default();
    // Deadlines in no order, as those of many connections are.
    for at in 0..RUNNING {
        timers.start(Instant::from_nanos(1_000_000 + at * 7919 % RUNNING * 1000));
    }
    timers
}

#[library_benchmark(setup = timers)]
#[bench::running_100000()]
fn timer_start_stop(mut timers: Timers) -> Timers {
    let timer = timers.start(black_box(Instant::from_nanos(50_000_000)));
    assert!(timers.stop(timer));
    timers
}

#[library_benchmark(setup = timers)]
#[bench::running_100000()]
fn timers_expire_64(mut timers: Timers) -> Timers {
    let now = Instant::from_nanos(1_000_000 + (COUNT as u64 - 1) * 1000);
    let mut count = 0;
    while timers.expire(black_box(now)).is_some() {
        count += 1;
    }
    assert_eq!(count, COUNT);
    timers
}

/// An outbox that was sent before: its buffers have their size.
fn outbox(payload: usize) -> (Outbox, Segments, Bytes) {
    let mut filled = (
        Outbox::new(LIMITS.frame_max),
        Segments::new(),
        Bytes::from(vec![7; payload]),
    );
    for _ in 0..2 {
        filled = put_64(filled);
    }
    filled
}

fn put_64((mut out, mut segments, payload): (Outbox, Segments, Bytes)) -> (Outbox, Segments, Bytes) {
    for _ in 0..COUNT {
        out.put_shared(black_box(&payload)).expect("there is room");
    }
    out.take(&mut segments);
    segments.advance(segments.len());
    out.settle(0);
    (out, segments, payload)
}

#[library_benchmark(setup = outbox)]
#[bench::copied_64_bytes(64)]
#[bench::shared_4_kib(4096)]
fn outbox_put_64(filled: (Outbox, Segments, Bytes)) -> (Outbox, Segments, Bytes) {
    put_64(filled)
}

/// Frames of commands, behind each other.
fn commands() -> Vec<u8> {
    let payload = [7; BYTES];
    let mut out = Outbox::new(LIMITS.frame_max);
    for _ in 0..COUNT {
        let message = Message {
            header: Header::default(),
            body: Body::Command(Command {
                session: Default::default(),
                sequence: Default::default(),
                first_unanswered: Default::default(),
                command: &payload,
                commit: Default::default(),
            }),
        };
        Binary
            .encode(&message, LIMITS.frame_max, &mut out)
            .expect("there is room");
    }
    let mut segments = Segments::new();
    out.take(&mut segments);
    segments.slices().flatten().copied().collect()
}

#[library_benchmark]
#[bench::whole(commands(), usize::MAX)]
#[bench::cut_at_1448(commands(), 1448)]
fn inbox_feed_64(bytes: Vec<u8>, piece: usize) -> Vec<u8> {
    let (mut inbox, mut budget) = (Inbox::default(), Budget::new(LIMITS.frame_max));
    let mut count = 0;
    for piece in bytes.chunks(piece) {
        inbox
            .feed(&Binary, &LIMITS, &mut budget, black_box(piece), |message| {
                black_box(&message);
                count += 1;
                ControlFlow::Continue(())
            })
            .expect("the frames are undamaged");
    }
    assert_eq!(count, COUNT);
    bytes
}

/// A node of three, and its log.
struct Node {
    raft: Raft,
    log: Tail,
    now: Instant,
    /// What was last asked for.
    sync: Option<SyncId>,
    sent: usize,
}

impl Node {
    fn new() -> Self {
        let voters = (1..=3).map(NodeId).collect();
        let config = Config::new(NodeId(1), voters, 1);
        Self {
            raft: Raft::new(config, &Recovered::default(), Instant::ZERO).expect("it is right"),
            log: Tail::new(Index(0), 1 << 20),
            now: Instant::ZERO,
            sync: None,
            sent: 0,
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.raft.poll_output(&self.log) {
            match black_box(output) {
                Output::Sync(id) => self.sync = Some(id),
                Output::Send { .. } => self.sent += 1,
                Output::Apply(range) => self.raft.applied(range.end.prev(), &mut self.log),
                _ => {}
            }
        }
    }

    fn synced(&mut self) {
        if let Some(sync) = self.sync.take() {
            self.raft.synced(sync, self.now, &mut self.log);
            self.drain();
        }
    }

    fn step(&mut self, from: u64, term: u64, body: Body<'_>) {
        let header = Header {
            from: NodeId(from),
            term: Term(term),
            ..Header::default()
        };
        let message = Message { header, body };
        self.raft
            .step(black_box(&message), self.now, &mut self.log)
            .expect("no violation");
        self.drain();
    }
}

/// A follower of node 2 in term 1, with an entry.
fn follower() -> (Node, Vec<Entry>) {
    let entry = |_| {
        let payload = Bytes::from(vec![7; BYTES]);
        Entry {
            term: Term(1),
            kind: EntryKind::Command,
            crc: crc32c::crc32c(&payload),
            payload,
        }
    };
    let entries: Vec<_> = (0..COUNT).map(entry).collect();
    let mut node = Node::new();
    node.step(2, 1, append(0, &entries[..1]));
    node.synced();
    (node, entries)
}

fn append(prev_index: u64, entries: &[Entry]) -> Body<'_> {
    Body::Append(Append {
        prev_index: Index(prev_index),
        prev_term: Term(prev_index.min(1)),
        commit: Index(prev_index),
        round: Round(1),
        // As a decoder gives it.
        entries: Entries::Lent(entries.iter().map(Entry::as_ref).collect()),
    })
}

#[library_benchmark(setup = follower)]
#[bench::append_64()]
fn raft_step((mut node, entries): (Node, Vec<Entry>)) -> (Node, Vec<Entry>) {
    node.step(2, 1, append(1, &entries));
    node.synced();
    assert_eq!(node.raft.status().last, Index(1 + COUNT as u64));
    (node, entries)
}

#[library_benchmark(setup = follower)]
#[bench::of_a_follower()]
fn raft_step_heartbeat((mut node, entries): (Node, Vec<Entry>)) -> (Node, Vec<Entry>) {
    let heartbeat = Heartbeat {
        commit: Index(1),
        round: Round(2),
    };
    node.step(2, 1, Body::Heartbeat(heartbeat));
    (node, entries)
}

/// The leader of term 1, whose followers have its first entry.
fn leader() -> (Node, Bytes) {
    use kraft_core::message::{AppendReply, AppendResult, VoteReply};
    let mut node = Node::new();
    node.now = Instant::ZERO + Duration::from_millis(400);
    node.raft.tick(node.now, &mut node.log);
    node.drain();
    node.synced();
    for pre in [true, false] {
        let term = Term(1);
        let granted = true;
        let reply = VoteReply { pre, granted, term };
        node.step(2, u64::from(!pre), Body::VoteReply(reply));
        node.synced();
    }
    for from in [2, 3] {
        let reply = AppendReply {
            round: Round(0),
            result: AppendResult::Matched(Index(1)),
        };
        node.step(from, 1, Body::AppendReply(reply));
    }
    (node, Bytes::from(vec![7; COUNT * BYTES]))
}

#[library_benchmark(setup = leader)]
#[bench::of_64()]
fn raft_propose((mut node, block): (Node, Bytes)) -> (Node, Bytes) {
    let mut proposals = (0..COUNT).map(|at| Proposal {
        kind: EntryKind::Command,
        crc: 0,
        payload: block.slice(at * BYTES..(at + 1) * BYTES),
    });
    let sent = node.sent;
    node.raft
        .propose(&mut proposals, (COUNT * BYTES) as u64, node.now, &mut node.log)
        .expect("it leads");
    node.drain();
    node.synced();
    assert!(node.sent >= sent + 2, "both followers are sent the entries");
    (node, block)
}

library_benchmark_group!(
    name = ours,
    benchmarks = [
        timer_start_stop,
        timers_expire_64,
        outbox_put_64,
        inbox_feed_64,
        raft_step,
        raft_step_heartbeat,
        raft_propose
    ]
);

main!(library_benchmark_groups = ours);
