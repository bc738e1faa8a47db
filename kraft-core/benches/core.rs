//! The core alone: three nodes in one thread, batches of 64 x 256 B, payloads handled.
//!
//! Every batch is copied out of received bytes, proposed, appended by the leader, sent, copied out of lent bytes into
//! each follower's tail as a decoder would give it, made durable, acknowledged, committed and applied on all nodes. What a wire format and
//! a disk would cost is not in it. `cargo bench -p kraft-core` prints medians of interleaved rounds; `cargo bench -p
//! kraft-core --bench core -- "64 x"` runs the workloads whose name contains that.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "what is measured is the time of the machine"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use kraft_core::id::{Index, NodeId, RequestId, SyncId};
use kraft_core::log::{Log, Proposal, Tail};
use kraft_core::message::{Append, Body, Entries, EntryKind, Header, Message, NodeState};
use kraft_core::raft::{Config, Outgoing, Output, Raft};
use kraft_core::storage::Recovered;
use kraft_core::time::Instant;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 15;
const BATCHES: u64 = 4_000;

/// What a round measures.
#[derive(Clone, Copy, Debug)]
struct Workload {
    name: &'static str,
    nodes: u64,
    batch: usize,
    value_bytes: usize,
    reads: bool,
}

const WORKLOADS: [Workload; 5] = [
    Workload {
        name: "3 nodes, 64 x 256 B",
        nodes: 3,
        batch: 64,
        value_bytes: 256,
        reads: false,
    },
    Workload {
        name: "3 nodes, 1 x 256 B",
        nodes: 3,
        batch: 1,
        value_bytes: 256,
        reads: false,
    },
    Workload {
        name: "3 nodes, 16 x 4 KiB",
        nodes: 3,
        batch: 16,
        value_bytes: 4 << 10,
        reads: false,
    },
    Workload {
        name: "5 nodes, 64 x 256 B",
        nodes: 5,
        batch: 64,
        value_bytes: 256,
        reads: false,
    },
    Workload {
        name: "3 nodes, 64 reads",
        nodes: 3,
        batch: 64,
        value_bytes: 0,
        reads: true,
    },
];

struct Node {
    raft: Raft,
    log: Tail,
    sync: Option<SyncId>,
    applied: u64,
    reads: u64,
}

/// A message on its way. Of an append the entries stay in the sender's tail until they are taken.
struct Wire {
    from: usize,
    to: usize,
    header: Header,
    message: Outgoing,
}

struct Cluster {
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    /// Drained while `wires` fills.
    taken: Vec<Wire>,
    now: Instant,
    request: u64,
}

impl Cluster {
    fn new(voters: u64) -> Self {
        let ids: Vec<_> = (1..=voters).map(NodeId).collect();
        let node = |id: &NodeId| Node {
            raft: Raft::new(Config::new(*id, ids.clone(), 1), &Recovered::default(), Instant::ZERO)
                .expect("it is right"),
            log: Tail::new(Index(0), 1 << 20),
            sync: None,
            applied: 0,
            reads: 0,
        };
        let mut cluster = Self {
            nodes: ids.iter().map(node).collect(),
            wires: Vec::new(),
            taken: Vec::new(),
            now: Instant::ZERO,
            request: 0,
        };
        cluster.now += Duration::from_millis(300);
        let now = cluster.now;
        cluster.turn(0, |raft, log| raft.tick(now, log));
        cluster.settle();
        assert_eq!(cluster.nodes[0].raft.status().state, NodeState::Leader);
        cluster
    }

    /// One input, and everything that it asks for.
    fn turn<T>(&mut self, at: usize, input: impl FnOnce(&mut Raft, &mut Tail) -> T) -> T {
        let node = &mut self.nodes[at];
        let result = input(&mut node.raft, &mut node.log);
        while let Some(output) = node.raft.poll_output(&node.log) {
            match output {
                Output::Send {
                    to,
                    request,
                    term,
                    message,
                } => {
                    let header = Header {
                        from: NodeId(at as u64 + 1),
                        term,
                        request,
                        ..Header::default()
                    };
                    let to = to.0 as usize - 1;
                    self.wires.push(Wire {
                        from: at,
                        to,
                        header,
                        message,
                    });
                }
                Output::Append(range) => drop(black_box(node.log.entries(range))),
                Output::Sync(id) => node.sync = Some(id),
                Output::Apply(range) => {
                    let last = range.end.prev();
                    node.applied += black_box(node.log.entries(range)).len() as u64;
                    node.raft.applied(last, &mut node.log);
                }
                Output::ReadAt { result, .. } => node.reads += u64::from(result.is_ok()),
                _ => {}
            }
        }
        result
    }

    /// Delivers messages and completes syncs until nothing is under way.
    fn settle(&mut self) {
        let now = self.now;
        loop {
            for at in 0..self.nodes.len() {
                if let Some(sync) = self.nodes[at].sync.take() {
                    self.turn(at, |raft, log| raft.synced(sync, now, log));
                }
            }
            if self.wires.is_empty() {
                return;
            }
            std::mem::swap(&mut self.wires, &mut self.taken);
            let mut taken = std::mem::take(&mut self.taken);
            for wire in taken.drain(..) {
                self.deliver(wire);
            }
            self.taken = taken;
        }
    }

    fn deliver(&mut self, wire: Wire) {
        let now = self.now;
        // The sender's memory stands for the receive buffer: it is lent for the call.
        let sender = std::mem::replace(&mut self.nodes[wire.from].log, Tail::new(Index(0), 0));
        let sent = wire.message.body(&sender);
        let body = match &sent {
            Body::Append(append) => Body::Append(Append {
                entries: Entries::Lent(append.entries.iter().collect()),
                ..*append
            }),
            other => other.clone(),
        };
        let message = Message {
            header: wire.header,
            body,
        };
        self.turn(wire.to, |raft, log| raft.step(&message, now, log))
            .expect("no violation");
        drop(message);
        drop(sent);
        self.nodes[wire.from].log = sender;
    }

    /// Commands that came in one frame, `value_bytes` each: copied out of it once, as the driver does.
    fn write(&mut self, received: &[u8], value_bytes: usize) {
        self.now += Duration::from_micros(100);
        let now = self.now;
        // A byte to spare, as in `Tail::append`.
        let mut block = Vec::with_capacity(received.len() + 1);
        block.extend_from_slice(received);
        let block = Bytes::from(block);
        let mut proposals = (0..received.len() / value_bytes).map(|at| Proposal {
            kind: EntryKind::Command,
            crc: 0,
            payload: block.slice(at * value_bytes..(at + 1) * value_bytes),
        });
        let bytes = received.len() as u64;
        self.turn(0, |raft, log| raft.propose(&mut proposals, bytes, now, log))
            .expect("it leads");
        self.settle();
        self.beat();
    }

    fn read(&mut self, count: usize) {
        self.now += Duration::from_micros(100);
        let now = self.now;
        let first = self.request;
        self.request += count as u64;
        self.turn(0, |raft, _| {
            for request in first..first + count as u64 {
                raft.read(RequestId(request), now).expect("it leads");
            }
        });
        self.settle();
        self.beat();
    }

    /// Timers that are due: followers hear heartbeats and commitments.
    fn beat(&mut self) {
        let now = self.now;
        for at in 0..self.nodes.len() {
            if self.nodes[at].raft.deadline().is_some_and(|deadline| deadline <= now) {
                self.turn(at, |raft, log| raft.tick(now, log));
            }
        }
        self.settle();
    }
}

/// Nanoseconds and allocations an operation.
fn round(workload: Workload) -> (f64, f64) {
    let mut cluster = Cluster::new(workload.nodes);
    let mut received = vec![0_u8; workload.batch * workload.value_bytes];
    let mut run = |cluster: &mut Cluster, batches: u64| {
        let (mut elapsed, mut allocations) = (Duration::ZERO, 0);
        for number in 0..batches {
            // Outside of the clock: no two batches are alike, and no two commands in it are.
            for (at, command) in received.chunks_mut(workload.value_bytes.max(1)).enumerate() {
                command[..8].copy_from_slice(&(number << 8 | at as u64).to_le_bytes());
            }
            let (started, before) = (Clock::now(), ALLOCATIONS.load(Relaxed));
            if workload.reads {
                cluster.read(workload.batch);
            } else {
                cluster.write(&received, workload.value_bytes);
            }
            elapsed += started.elapsed();
            allocations += ALLOCATIONS.load(Relaxed) - before;
        }
        (elapsed, allocations)
    };
    run(&mut cluster, BATCHES / 10);
    let (elapsed, allocations) = run(&mut cluster, BATCHES);
    cluster.now += Duration::from_millis(60);
    cluster.beat();
    check(&cluster, workload);
    let operations = (BATCHES * workload.batch as u64) as f64;
    (elapsed.as_nanos() as f64 / operations, allocations as f64 / operations)
}

/// Everything was applied everywhere, byte for byte the same.
fn check(cluster: &Cluster, workload: Workload) {
    let batches = BATCHES + BATCHES / 10;
    let expected = batches * workload.batch as u64;
    if workload.reads {
        assert_eq!(cluster.nodes[0].reads, expected, "all reads were answered");
        return;
    }
    let range = |node: &Node| node.log.first()..node.raft.status().last.next();
    let reference = range(&cluster.nodes[0]);
    for node in &cluster.nodes {
        assert_eq!(node.applied, expected + 1, "the commands and the no-op");
        assert_eq!(range(node), reference);
        assert_eq!(
            node.log.entries(reference.clone()),
            cluster.nodes[0].log.entries(reference.clone())
        );
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let is_chosen = |workload: &&Workload| filter.as_ref().is_none_or(|filter| workload.name.contains(filter));
    let workloads: Vec<_> = WORKLOADS.iter().filter(is_chosen).copied().collect();
    let mut results: Vec<Vec<(f64, f64)>> = vec![Vec::new(); workloads.len()];
    for _ in 0..ROUNDS {
        for (workload, results) in workloads.iter().zip(&mut results) {
            results.push(round(*workload));
        }
    }
    println!(
        "{:<24} {:>12} {:>18} {:>18}",
        "workload", "ns an entry", "least .. most", "allocations"
    );
    for (workload, results) in workloads.iter().zip(&results) {
        let mut nanos: Vec<_> = results.iter().map(|result| result.0).collect();
        let mut allocations: Vec<_> = results.iter().map(|result| result.1).collect();
        let middle = median(&mut nanos);
        let spread = format!("{:.1} .. {:.1}", nanos[0], nanos[nanos.len() - 1]);
        println!(
            "{:<24} {middle:>12.1} {spread:>18} {:>18.3}",
            workload.name,
            median(&mut allocations)
        );
    }
}
