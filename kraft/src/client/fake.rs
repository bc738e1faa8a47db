//! Nodes without a log: real sockets, hellos and sessions around one shared state, and faults by order.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use bytes::BytesMut;
use kraft_adapters::{Any, Config};
use kraft_core::adapter::{Adapter, Endpoint, Event, ListenOptions, Waker};
use kraft_core::handshake::{Handshake, Identity, NoPeers, Step};
use kraft_core::id::{ConnId, Incarnation, Index, NodeId, Term};
use kraft_core::inbox::{Budget, Inbox};
use kraft_core::link::{CloseMode, Link};
use kraft_core::machine::StateMachine;
use kraft_core::message::{
    Body, EntryKind, Fetch, Header, Message, NodeState, Outcome, Refusal, Refused, Role, SnapshotChunk, SnapshotId,
    StatusReply, Transfer,
};
use kraft_core::protocol::{Limits, Protocol};
use kraft_core::session::{self, Sessions};
use kraft_protocols::Binary;

use crate::kv::Kv;

/// What the nodes share.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) leader: u64,
    pub(crate) kv: Kv,
    pub(crate) sessions: Sessions,
    pub(crate) applied: u64,
    /// So many commands are applied, and the connection is closed in place of a reply.
    pub(crate) replies_lost: u32,
    /// Leadership cannot be handed over, for this reason.
    pub(crate) stays: Option<Refusal>,
    /// Every connection is closed once.
    pub(crate) hang_up: u32,
    pub(crate) kept: Kept,
    stop: bool,
}

/// The snapshot that all nodes keep.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) id: SnapshotId,
    pub(crate) bytes: Vec<u8>,
    /// Fetches so far: which node, and from which offset on; `u64::MAX` for a new one.
    pub(crate) fetched: Vec<(u64, u64)>,
    /// At each of these offsets, once, another thing happens.
    pub(crate) faults: BTreeMap<u64, Fault>,
}

/// What happens in place of a piece.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    HangUp,
    /// Another snapshot took its place.
    Gone(Vec<u8>),
    Refuse(Refusal),
    /// A byte of the piece is another one.
    Spoil,
}

impl Kept {
    pub(crate) fn keep(&mut self, index: u64, bytes: Vec<u8>) {
        self.id = SnapshotId {
            index: Index(index),
            term: Term(3),
            bytes: bytes.len() as u64,
            crc: crc32c::crc32c(&bytes),
        };
        self.bytes = bytes;
    }
}

/// Nodes on threads, stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    world: Arc<Mutex<World>>,
    pub(crate) addresses: Vec<SocketAddr>,
    wakers: Vec<Waker>,
    threads: Vec<JoinHandle<()>>,
}

impl Cluster {
    /// So many nodes; node 1 leads.
    pub(crate) fn start(nodes: u64) -> Self {
        let world = World {
            leader: 1,
            ..World::default()
        };
        let mut cluster = Self {
            world: Arc::new(Mutex::new(world)),
            addresses: vec![],
            wakers: vec![],
            threads: vec![],
        };
        for id in 1..=nodes {
            let opened = super::unasked().open(&Config::default());
            let mut adapter = opened.expect("an event loop").adapter;
            let at = Endpoint::Tcp((Ipv4Addr::LOCALHOST, 0).into());
            let listener = adapter.listen(&at, ListenOptions::default()).expect("a port");
            let Ok(Endpoint::Tcp(address)) = adapter.local_endpoint(listener) else {
                panic!("a TCP listener has a TCP address");
            };
            cluster.addresses.push(address);
            cluster.wakers.push(adapter.waker());
            let node = Node::new(id, Arc::clone(&cluster.world));
            cluster.threads.push(std::thread::spawn(move || node.run(adapter)));
        }
        cluster
    }

    /// For `--nodes`.
    pub(crate) fn list(&self) -> String {
        let addresses: Vec<_> = self.addresses.iter().map(SocketAddr::to_string).collect();
        addresses.join(",")
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no node panicked")
    }

    /// Closes all connections.
    pub(crate) fn hang_up(&self) {
        self.world().hang_up += 1;
        self.wakers.iter().for_each(Waker::wake);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.world().stop = true;
        self.wakers.iter().for_each(Waker::wake);
        for thread in self.threads.drain(..) {
            thread.join().expect("no node panicked");
        }
    }
}

struct Conn {
    id: ConnId,
    handshake: Handshake,
    inbox: Inbox,
}

struct Node {
    identity: Identity,
    world: Arc<Mutex<World>>,
    conns: Vec<Conn>,
    budget: Budget,
    hung_up: u32,
}

impl Node {
    fn new(id: u64, world: Arc<Mutex<World>>) -> Self {
        Self {
            identity: Identity::node("fake", NodeId(id), Incarnation(id), 1 << 20),
            world,
            conns: vec![],
            budget: Budget::new(1 << 24),
            hung_up: 0,
        }
    }

    fn run(mut self, mut adapter: Any) {
        loop {
            adapter.poll(None, |now, event| self.take(now, event)).expect("a turn");
            let world = self.world.lock().expect("no node panicked");
            let (stop, hang_up) = (world.stop, world.hang_up);
            drop(world);
            if stop {
                return;
            }
            if hang_up != self.hung_up {
                self.hung_up = hang_up;
                for conn in &self.conns {
                    if let Some(link) = adapter.link(conn.id) {
                        link.close(CloseMode::Now);
                    }
                }
            }
        }
    }

    fn take(&mut self, now: kraft_core::time::Instant, event: Event<'_>) {
        match event {
            Event::Accepted { conn, .. } => self.conns.push(Conn {
                id: conn,
                handshake: Handshake::accept(Some(Role::Client), now),
                inbox: Inbox::default(),
            }),
            Event::Received { conn, bytes, link } => {
                let at = self.conns.iter().position(|c| c.id == conn).expect("an accepted one");
                let mut conn = self.conns.swap_remove(at);
                let established = Limits {
                    frame_max: 1 << 20,
                    entries_max: 0,
                };
                let limits = *conn.handshake.limits(&established);
                let mut budget = std::mem::replace(&mut self.budget, Budget::new(0));
                let fed = conn.inbox.feed(&Binary, &limits, &mut budget, bytes, |message| {
                    match conn.handshake.receive(&message, &self.identity, &NoPeers, now) {
                        Step::Pass => self.answer(&message, link),
                        Step::Established { send, .. } => {
                            let welcome = send.expect("a hello is answered");
                            Binary.encode(&welcome, 4096, link.outbox()).expect("room");
                        }
                        Step::Reject(_) | Step::Gone(_) => link.close(CloseMode::Flush),
                    }
                    ControlFlow::Continue(())
                });
                fed.expect("clients speak well");
                self.budget = budget;
                self.conns.push(conn);
            }
            Event::Ended { link, .. } => link.close(CloseMode::Flush),
            Event::Closed { conn, .. } => self.conns.retain(|c| c.id != conn),
            _ => {}
        }
    }

    fn answer(&self, message: &Message<'_>, link: &mut Link) {
        let world = &mut *self.world.lock().expect("no node panicked");
        let leader = NodeId(world.leader);
        let not_leader = Outcome::Refused(Refused {
            why: Refusal::NotLeader,
            leader,
            detail: "",
        });
        let mut reply = BytesMut::new();
        let mut payload = BytesMut::new();
        let is_leader = leader == self.identity.node;
        let (kind, detail) = match &message.body {
            Body::Fetch(fetch) => return self.fetch(message, fetch, &mut world.kept, link),
            Body::Status => return self.status(message, is_leader, leader, link),
            Body::Read(read) => match world.kv.read(read.query, &mut reply) {
                Ok(()) => return self.reply(message, Outcome::Committed(&reply), link),
                Err(refused) => (None, Some(refused)),
            },
            _ if !is_leader => return self.reply(message, not_leader, link),
            Body::Transfer(transfer) => {
                if let Some(why) = world.stays {
                    let detail = "node 3 is asleep";
                    return self.reply(message, Outcome::Refused(Refused { why, leader, detail }), link);
                }
                world.leader = if transfer.to.is_some() { transfer.to.0 } else { 2 };
                return self.reply(
                    message,
                    Outcome::Committed(&Transfer::reply(NodeId(world.leader))),
                    link,
                );
            }
            Body::OpenSession => (Some(EntryKind::OpenSession), None),
            Body::Command(command) => {
                session::encode(command, &mut payload);
                (Some(EntryKind::Command), world.kv.check(command.command).err())
            }
            other => panic!("a client asked {other:?}"),
        };
        if let Some(refused) = detail {
            let outcome = Outcome::Refused(Refused {
                why: refused.why,
                leader,
                detail: &refused.detail,
            });
            return self.reply(message, outcome, link);
        }
        world.applied += 1;
        let kind = kind.expect("what is not refused is an entry");
        let index = Index(world.applied);
        let applied = world.sessions.apply(index, kind, &payload, &mut world.kv, &mut reply);
        if kind == EntryKind::Command && world.replies_lost > 0 {
            world.replies_lost -= 1;
            link.close(CloseMode::Now);
            return;
        }
        let outcome = applied.outcome(&reply).expect("a client waits for it");
        self.reply(message, outcome, link);
    }

    fn fetch(&self, message: &Message<'_>, fetch: &Fetch, kept: &mut Kept, link: &mut Link) {
        let is_new = fetch.id == SnapshotId::default();
        let from = if is_new { u64::MAX } else { fetch.offset };
        kept.fetched.push((self.identity.node.0, from));
        let refused = |why| {
            Outcome::Refused(Refused {
                why,
                leader: NodeId::NONE,
                detail: "why it is",
            })
        };
        let fault = kept.faults.remove(&from);
        match &fault {
            Some(Fault::HangUp) => return link.close(CloseMode::Now),
            Some(Fault::Refuse(why)) => return self.reply(message, refused(*why), link),
            Some(Fault::Gone(bytes)) => kept.keep(kept.id.index.0 + 1, bytes.clone()),
            Some(Fault::Spoil) | None => {}
        }
        if !is_new && fetch.id != kept.id {
            return self.reply(message, refused(Refusal::Invalid), link);
        }
        let offset = usize::try_from(fetch.offset).expect("small");
        let mut piece = kept.bytes[offset..kept.bytes.len().min(offset + 1000)].to_vec();
        if matches!(fault, Some(Fault::Spoil)) {
            piece[0] ^= 1;
        }
        let chunk = SnapshotChunk {
            id: kept.id,
            offset: fetch.offset,
            data: &piece,
        };
        self.say(message, Body::FetchReply(chunk), link);
    }

    fn reply(&self, to: &Message<'_>, outcome: Outcome<'_>, link: &mut Link) {
        self.say(to, Body::Reply(outcome), link);
    }

    fn status(&self, to: &Message<'_>, is_leader: bool, leader: NodeId, link: &mut Link) {
        let status = StatusReply {
            state: if is_leader {
                NodeState::Leader
            } else {
                NodeState::Follower
            },
            leader,
            commit: Index(7),
            applied: Index(7),
            first: Index(1),
            last: Index(8),
            durable: Index(8),
            snapshot: Index::ZERO,
            membership: Index::ZERO,
            uptime_ms: 61_000,
            version: "0.1.0",
            backend: "epoll",
            members: vec![],
        };
        self.say(to, Body::StatusReply(status), link);
    }

    fn say(&self, to: &Message<'_>, body: Body<'_>, link: &mut Link) {
        let header = Header {
            term: Term(3),
            request: to.header.request,
            ..self.identity.header()
        };
        let said = Binary.encode(&Message { header, body }, 1 << 20, link.outbox());
        // Nothing more is taken after a hang-up, with requests that came in one piece with its.
        assert!(said.is_ok() || link.is_closing(), "{said:?}");
    }
}
