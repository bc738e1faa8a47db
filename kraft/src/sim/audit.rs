//! Who sees every frame: that nothing leaves a node before what it rests on is durable (law R10), which messages were
//! handled in which state, and the hash of it all.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kraft_adapters::mock::Leaving;
use kraft_core::handshake::Kind as Message;
use kraft_core::id::{Index, NodeId, Term};
use kraft_core::laws::{Laws, Mark, View};
use kraft_core::membership::{Configuration, Wish};
use kraft_core::message::{AppendResult, Basis, Body, NodeState, Outcome};
use kraft_core::outbox::Outbox;
use kraft_core::protocol::{DecodeError, Decoded, Dialect, EncodeError, Limits, Protocol};
use kraft_core::raft::Status;
use kraft_core::storage::HardState;
use kraft_core::time::Instant;
use kraft_protocols::{Any, Format};

use super::answers::Answers;
use super::fresh::{Heard, Spoken};
use super::host::{CLIENT_PORT, MOVED_PORT, PEER_PORT};
use super::report::{Barred, Handled};
use super::trace::{Step, Trace};
use super::watch::{Record, lock};

/// What a frame may be at most to be looked at; above every `frame_max` that is drawn.
const LIMITS: Limits = Limits {
    frame_max: 16 << 20,
    entries_max: 1 << 16,
};

/// Sees every frame of a run. Clones are the same auditor.
#[derive(Clone)]
pub(super) struct Audit(Arc<Mutex<Books>>);

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

/// What the auditor keeps.
pub(super) struct Books {
    pub(super) trace: Trace,
    pub(super) handled: Handled,
    /// By the index of their hosts.
    nodes: Vec<Audited>,
    /// Frames of which a part has left, by stream.
    partial: BTreeMap<u64, Vec<u8>>,
    laws: Laws,
    pub(super) answers: Answers,
    spoken: Spoken,
    /// Changes that cannot be and were refused as such.
    pub(super) barred: Barred,
    pub(super) broken: Option<String>,
}

/// A node as the auditor knows it.
#[derive(Clone, Debug)]
pub(super) struct Audited {
    pub(super) id: NodeId,
    pub(super) record: Arc<Mutex<Record>>,
    /// What its disk held before that was wiped first.
    ghost: Option<Arc<Mutex<Record>>>,
    state: NodeState,
    /// What it knew to be committed when its last turn ended.
    commit: Index,
    heard: Heard,
}

impl Audited {
    pub(super) fn new(id: NodeId, record: &Arc<Mutex<Record>>) -> Self {
        Self {
            id,
            record: Arc::clone(record),
            ghost: None,
            state: NodeState::Follower,
            commit: Index::ZERO,
            heard: Heard::default(),
        }
    }

    /// Its disk is empty, and it keeps this record from here on.
    pub(super) fn wipe(&mut self, record: &Arc<Mutex<Record>>) {
        let former = std::mem::replace(&mut self.record, Arc::clone(record));
        self.ghost.get_or_insert(former);
        self.state = NodeState::Follower;
    }

    /// Whether the entry at `index` that is this one is on its disk, in the log or in a snapshot, or was before that was
    /// wiped: laws hold while a majority's disks survive, and a wiped one counts as what it had.
    pub(super) fn survives(&self, index: Index, mark: Mark) -> bool {
        let record = lock(self.ghost.as_ref().unwrap_or(&self.record));
        record.survives(index, mark)
    }
}

impl Audit {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Books {
            trace: Trace::new(),
            handled: Handled::default(),
            nodes: Vec::new(),
            partial: BTreeMap::new(),
            laws: Laws::new(0),
            answers: Answers::default(),
            spoken: Spoken::default(),
            barred: Barred::default(),
            broken: None,
        })))
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node of the host at `at` keeps this record; if it kept another one, its disk was wiped.
    pub(super) fn enter(&self, at: usize, id: NodeId, record: &Arc<Mutex<Record>>) {
        let mut books = self.books();
        match books.nodes.get_mut(at) {
            Some(node) => node.wipe(record),
            None => books.nodes.push(Audited::new(id, record)),
        }
    }

    /// The node of the host at `at` is in this state.
    pub(super) fn place(&self, at: usize, state: NodeState) {
        self.books().nodes[at].state = state;
    }

    /// The node of the host at `at` starts.
    pub(super) fn starts(&self, at: usize) {
        let node = &mut self.books().nodes[at];
        node.heard = Heard::default();
        node.commit = Index::ZERO;
    }

    /// A turn of the node of the host at `at` begins, at this time by its own clock.
    pub(super) fn turns(&self, at: usize, local: Instant) {
        let node = &mut self.books().nodes[at];
        node.heard.turns(local, node.state == NodeState::Leader);
    }

    /// It ends.
    pub(super) fn turned(&self, at: usize, status: &Status, configuration: &Configuration) {
        let books = &mut *self.books();
        let node = &mut books.nodes[at];
        node.commit = status.commit;
        let leads = status.state == NodeState::Leader;
        if let Err(broken) = node.heard.turned(node.id, status.applied, leads, configuration) {
            books.broken.get_or_insert(broken);
        }
    }

    /// Changes of the members that were answered since this was asked last: by whom, what, and at which index it is so.
    pub(super) fn take_changes(&self) -> Vec<(NodeId, Wish, Index)> {
        std::mem::take(&mut self.books().answers.changes)
    }

    /// The first thing that was wrong, once.
    pub(super) fn broken(&self) -> Option<String> {
        self.books().broken.take()
    }

    /// Bytes leave a host.
    pub(super) fn leaves(&self, leaving: &Leaving<'_>) {
        let books = &mut *self.books();
        let (from, to) = (leaving.from.index(), leaving.to.index());
        let (from_node, to_node) = (from < books.nodes.len(), to < books.nodes.len());
        let is_seen = match leaving.port {
            PEER_PORT | MOVED_PORT => from_node && to_node,
            CLIENT_PORT => from_node != to_node,
            _ => false,
        };
        if !is_seen {
            return;
        }
        let mut partial = books.partial.remove(&leaving.stream).unwrap_or_default();
        let whole = partial.is_empty();
        if !whole {
            partial.extend_from_slice(leaving.bytes);
        }
        let mut bytes = if whole { leaving.bytes } else { &partial[..] };
        loop {
            let mut scratch = Vec::new();
            // Any of them reads a frame of each.
            match Any::new(Format::Binary).decode(bytes, &LIMITS, &mut scratch) {
                Ok(Decoded::Message { message, consumed }) => {
                    if leaving.port != CLIENT_PORT {
                        books.frame(leaving, &message);
                    } else if let Err(broken) = books.answers.frame(&books.nodes, leaving, &message) {
                        books.broken.get_or_insert(broken);
                    }
                    bytes = &bytes[consumed..];
                }
                Ok(Decoded::NeedMore { .. }) => break,
                Err(error) => {
                    let what = format!("host {from} sent what is no frame: {error}");
                    books.broken.get_or_insert(what);
                    break;
                }
            }
        }
        if !bytes.is_empty() {
            let rest = bytes.to_vec();
            books.partial.insert(leaving.stream, rest);
        }
    }
}

impl Books {
    /// A node puts a message into an outbox, where that may wait for long: what the node knows then is what it tells.
    fn speaks(&mut self, at: usize, message: &kraft_core::message::Message<'_>) {
        let node = &mut self.nodes[at];
        if let Body::Reply(Outcome::Weaker {
            basis: Basis::Stale { age_ms },
            ..
        }) = &message.body
        {
            node.heard.claims(*age_ms);
        }
        self.spoken.put(message, node.commit);
    }

    fn frame(&mut self, leaving: &Leaving<'_>, message: &kraft_core::message::Message<'_>) {
        let from = &self.nodes[leaving.from.index()];
        let to = self.nodes[leaving.to.index()].id;
        let term = message.header.term;
        if let Err(broken) = self.laws.sent(from, to, term, &message.body)
            && self.broken.is_none()
        {
            self.broken = Some(broken.to_string());
        }
        let index = match &message.body {
            Body::Heartbeat(_) | Body::HeartbeatReply(_) => return,
            Body::Append(append) => Index(append.prev_index.0 + append.entries.len() as u64),
            Body::AppendReply(reply) => match reply.result {
                AppendResult::Matched(index) => index,
                AppendResult::Rejected { prev_index, .. } => prev_index,
            },
            Body::Vote(vote) => vote.last_index,
            Body::Snapshot(chunk) => chunk.id.index,
            Body::SnapshotReply(reply) => reply.id.index,
            _ => Index::ZERO,
        };
        let step = Step::Frame {
            from: from.id,
            to,
            kind: Message::of(&message.body),
            term,
            index,
        };
        self.trace.push(leaving.at, step);
    }
}

impl View for Audited {
    fn status(&self) -> Status {
        Status {
            id: self.id,
            hard: self.disk(),
            state: self.state,
            leader: NodeId::NONE,
            commit: Index::ZERO,
            applied: Index::ZERO,
            last: Index::ZERO,
            durable: Index::ZERO,
            membership: Index::ZERO,
            is_removed: false,
        }
    }

    fn run(&self) -> u64 {
        0
    }

    fn is_up(&self) -> bool {
        true
    }

    fn entry(&self, index: Index) -> Option<Mark> {
        lock(&self.record).entry(index)
    }

    fn disk(&self) -> HardState {
        lock(&self.record).disk()
    }

    fn disk_entry(&self, index: Index) -> Option<Mark> {
        lock(&self.record).disk_entry(index)
    }

    fn base(&self) -> (Index, Term) {
        lock(&self.record).base()
    }

    fn disk_base(&self) -> Index {
        lock(&self.record).disk_base()
    }

    fn disk_snapshot(&self) -> (Index, Term) {
        lock(&self.record).snapshot()
    }
}

/// A format that tells the auditor what it decodes for the node of the host at `place`.
#[derive(Clone, Debug)]
pub(super) struct Overheard {
    audit: Audit,
    place: usize,
    protocol: Any,
}

impl Overheard {
    pub(super) fn new(audit: Audit, place: usize, format: Format) -> Self {
        let protocol = Any::new(format);
        Self { audit, place, protocol }
    }
}

impl Protocol for Overheard {
    fn encode(
        &self,
        message: &kraft_core::message::Message<'_>,
        frame_max: usize,
        out: &mut Outbox,
    ) -> Result<(), EncodeError> {
        self.encode_in(None, message, frame_max, out)
    }

    fn decode<'a>(
        &self,
        input: &'a [u8],
        limits: &Limits,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Decoded<'a>, DecodeError> {
        let decoded = self.protocol.decode(input, limits, scratch)?;
        if let Decoded::Message { message, consumed } = &decoded {
            let books = &mut *self.audit.books();
            let node = &mut books.nodes[self.place];
            node.heard.heard(message, &books.spoken);
            let state = node.state;
            books.handled.note(Message::of(&message.body), state);
            books.trace.mix_bytes(&input[..*consumed]);
        }
        Ok(decoded)
    }

    fn dialect(&self, input: &[u8]) -> Option<Dialect> {
        self.protocol.dialect(input)
    }

    fn encode_in(
        &self,
        dialect: Option<Dialect>,
        message: &kraft_core::message::Message<'_>,
        frame_max: usize,
        out: &mut Outbox,
    ) -> Result<(), EncodeError> {
        self.protocol.encode_in(dialect, message, frame_max, out)?;
        self.audit.books().speaks(self.place, message);
        Ok(())
    }

    fn name(&self) -> &'static str {
        self.protocol.name()
    }
}

#[cfg(test)]
mod tests {
    use kraft_adapters::mock::Network;
    use kraft_core::message::{Header, Message as Sent, VoteReply};
    use kraft_core::outbox::Segments;

    use super::*;

    #[test]
    fn a_vote_that_leaves_before_it_is_durable_is_seen_however_it_is_cut() {
        let network = Network::new(1);
        let audit = Audit::new();
        let hosts = [network.add_host(), network.add_host()];
        for (host, id) in hosts.iter().zip(1..) {
            audit.enter(host.index(), NodeId(id), &Arc::default());
        }
        let header = Header {
            from: NodeId(1),
            term: Term(4),
            ..Header::default()
        };
        let reply = |granted| {
            Body::VoteReply(VoteReply {
                pre: false,
                granted,
                term: Term(4),
            })
        };
        for (granted, broken) in [(false, None), (true, Some(true))] {
            let mut out = Outbox::new(1 << 16);
            let body = reply(granted);
            Any::new(Format::Binary)
                .encode(&Sent { header, body }, 1 << 16, &mut out)
                .expect("it fits");
            let mut segments = Segments::new();
            out.take(&mut segments);
            let bytes: Vec<u8> = segments.slices().flat_map(<[u8]>::to_vec).collect();
            for piece in bytes.chunks(7) {
                audit.leaves(&Leaving {
                    at: Instant::ZERO,
                    from: hosts[0],
                    to: hosts[1],
                    port: PEER_PORT,
                    stream: 0,
                    bytes: piece,
                });
            }
            assert_eq!(audit.broken().map(|what| what.starts_with("R10")), broken);
        }
    }
}
