//! Snapshots, as the driver takes, sends and receives them.
//!
//! ```text
//! take      enough was applied -> image on the loop -> saved off it -> Raft hears of it, and lets the log shrink
//! send      Raft: this follower needs what the log no longer has -> pieces, see `sending`
//! receive   pieces, see `receiving` -> written off the loop -> checked, durable -> Raft installs it: the log begins
//!           anew behind it, and the state machine is restored
//! fetch     a client asks for pieces, to keep them elsewhere
//! ```
//!
//! One snapshot is taken and one received at a time; followers are sent theirs side by side, within one bandwidth.

mod receiving;
mod sending;
mod work;

use std::time::Duration;

use bytes::Bytes;

use self::receiving::{Piece, Receiving};
use self::sending::{Next, Pace, Sending};
pub(super) use self::work::load;
use self::work::{Done, Jobs, Reader};
pub use self::work::{SnapshotDone, SnapshotWork};
use super::conns::Conn;
use super::receive::Lent;
use super::requests::{Asked, Origin};
use super::{Failure, Host, Notice, Task};
use crate::adapter::Adapter;
use crate::id::{ConnId, Index, NodeId, RequestId};
use crate::machine::StateMachine;
use crate::message::{
    Body, Fetch, Header, Message, Outcome, Refusal, Refused, SnapshotChunk, SnapshotId, SnapshotReply, SnapshotResult,
};
use crate::protocol::{EncodeError, Protocol};
use crate::raft::Violation;
use crate::session::StateImage;
use crate::snapshot::{Head, Snapshot, SnapshotStore, StoreError};
use crate::storage::{Fault, Storage};
use crate::time::Instant;

/// When snapshots are taken, and how fast they travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// One is taken when so many entries were applied since the last. Default 10,000,000.
    pub entries: u64,
    /// One is taken when the entries that were applied since the last have so many bytes, and at least as many as the
    /// last has, so that no more is written for snapshots than for the log; but in any case before the log is full.
    /// Default 64 MiB.
    pub bytes: u64,
    /// Bytes of a piece of one on its way. Default 128 KiB; bounded by `frame_max`.
    pub piece_bytes: usize,
    /// Bytes on the way to one follower that it has not written. Default 2 MiB.
    pub window_bytes: u64,
    /// Bytes a second to all followers together. Default: as fast as they take it.
    pub bytes_per_second: u64,
    /// A follower that says nothing for so long is not sent more until it gives a sign of life. Default 10 s.
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            entries: 10_000_000,
            bytes: 64 << 20,
            piece_bytes: 128 << 10,
            window_bytes: 2 << 20,
            bytes_per_second: u64::MAX,
            timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<(), String> {
        let positive = [
            ("entries", self.entries == 0),
            ("bytes", self.bytes == 0),
            ("piece_bytes", self.piece_bytes == 0),
            ("window_bytes", self.window_bytes == 0),
            ("bytes_per_second", self.bytes_per_second == 0),
            ("timeout", self.timeout.is_zero()),
        ];
        match positive.iter().find(|field| field.1) {
            Some((field, _)) => Err(format!("snapshots.{field}: must be at least 1")),
            None => Ok(()),
        }
    }
}

/// What a piece of the outbox's room is left for everything else: heartbeats wait behind what is in it.
const OUTBOX_BYTES_MAX: u64 = 256 << 10;

/// After one that could not be taken, the next is tried so much later.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What a node does about snapshots.
#[derive(Debug)]
pub(super) struct Snapshots<St> {
    config: Config,
    pace: Pace,
    jobs: Jobs<St>,
    /// The newest that is kept.
    pub(super) newest: Option<Snapshot>,
    /// One is being taken.
    is_saving: bool,
    /// Somebody asked for one, or has found that the newest is damaged.
    is_asked: bool,
    retry_at: Instant,
    /// Applied since the newest one's index.
    entries: u64,
    bytes: u64,
    sending: Vec<Sending>,
    receiving: Option<Receiving>,
    /// The state machine gives way to this one.
    pub(super) restoring: Option<SnapshotId>,
    /// Clients that wait for the first piece of one that holds everything up to an index.
    waiting: Vec<(ConnId, RequestId, Index)>,
    /// Bytes that may leave now, refilled as time passes.
    allowance: u64,
    refilled: Instant,
}

/// Clients that wait for a snapshot to be taken.
const WAITING_MAX: usize = 16;

impl<St: SnapshotStore> Snapshots<St> {
    pub(super) fn new(
        config: Config,
        store: St,
        newest: Option<Snapshot>,
        heartbeat_interval: Duration,
        frame_max: usize,
        now: Instant,
    ) -> Self {
        let piece = config.piece_bytes.min(frame_max / 2) as u64;
        let pace = Pace {
            piece,
            window_max: config.window_bytes,
            slow: heartbeat_interval,
            ask_again: (config.timeout / 10).max(heartbeat_interval),
            give_up: config.timeout,
        };
        Self {
            pace,
            jobs: Jobs(store),
            newest,
            is_saving: false,
            is_asked: false,
            retry_at: now,
            entries: 0,
            bytes: 0,
            sending: Vec::new(),
            receiving: None,
            restoring: None,
            waiting: Vec::new(),
            allowance: piece,
            refilled: now,
            config,
        }
    }

    /// Entries were applied.
    pub(super) fn applied(&mut self, entries: u64, bytes: u64) {
        self.entries += entries;
        self.bytes += bytes;
    }

    /// Whether a snapshot of what is applied is due; `log_room` is what the log still takes.
    fn is_due(&self, log_room: u64, now: Instant) -> bool {
        if self.is_saving || self.restoring.is_some() || now < self.retry_at || self.entries == 0 {
            return false;
        }
        if self.is_asked {
            return true;
        }
        // One that is on its way would be gone before it arrives, were they taken as fast as ever.
        let patience = if self.sending.is_empty() { 1 } else { 4 };
        let newest = self.newest.as_ref().map_or(0, |newest| newest.id.bytes);
        let bytes_max = self.config.bytes.max(newest).saturating_mul(patience);
        self.entries >= self.config.entries.saturating_mul(patience) || self.bytes >= bytes_max || self.bytes > log_room
    }

    /// Bytes that may leave now.
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_since(self.refilled);
        self.refilled = now;
        let grown = u128::from(self.config.bytes_per_second) * passed.as_nanos() / 1_000_000_000;
        let grown = u64::try_from(grown).unwrap_or(u64::MAX);
        // What was not used in a while is no reason for a burst.
        let most = (self.config.bytes_per_second / 20).max(self.pace.piece);
        self.allowance = self.allowance.saturating_add(grown).min(most);
    }

    /// When the node must look after its snapshots at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let sending = self.sending.iter().map(|sending| sending.deadline(&self.pace));
        let starved = !self.sending.is_empty() && self.allowance < self.pace.piece;
        let refill = starved.then(|| {
            let missing = u128::from(self.pace.piece - self.allowance) * 1_000_000_000;
            let nanos = missing.div_ceil(u128::from(self.config.bytes_per_second));
            self.refilled + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        });
        let retry = (self.is_asked && !self.is_saving && self.entries > 0).then_some(self.retry_at);
        sending.chain(refill).chain(retry).min()
    }
}

impl<S: Storage, M: StateMachine> Host<S, M> {
    /// What is due about snapshots, once a turn, behind Raft's outputs.
    pub(super) fn keep_snapshots<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        if self.snapshots.is_due(self.room, now) {
            self.take_snapshot();
        }
        self.send_snapshots(adapter, protocol, now);
    }

    /// Freezes what is applied; the rest happens off the loop.
    fn take_snapshot(&mut self) {
        let applied = self.applied_unsaid.unwrap_or_else(|| self.raft.status().applied);
        let Some(term) = self.raft.term_at(applied) else { return };
        let (membership_index, configuration) = self.raft.configuration_at(applied);
        let is_founding = membership_index == Index::ZERO;
        let head = Head {
            index: applied,
            term,
            membership_index,
            membership: if is_founding {
                Bytes::new()
            } else {
                configuration.encode()
            },
        };
        self.snapshots.is_saving = true;
        self.snapshots.is_asked = false;
        (self.snapshots.entries, self.snapshots.bytes) = (0, 0);
        let state = StateImage {
            sessions: self.sessions.image(),
            machine: self.machine.image(),
        };
        let work = self.snapshots.jobs.save(head, state);
        self.tasks.push_back(Task::Snapshot(work));
    }

    /// Raft says that this follower needs what the log no longer has.
    pub(super) fn send_snapshot(&mut self, to: NodeId, now: Instant) {
        let Some(newest) = &self.snapshots.newest else {
            // A log that begins behind the first entry has a snapshot before it.
            return self.raft.snapshot_ended(to, now);
        };
        let id = newest.id;
        self.snapshots.sending.retain(|sending| sending.to != to);
        let sending = Sending::new(to, id, &self.snapshots.pace, now);
        self.snapshots.sending.push(sending);
        (self.observer)(Notice::SnapshotSending { node: to, id });
    }

    fn send_snapshots<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        if self.snapshots.sending.is_empty() {
            return;
        }
        self.snapshots.refill(now);
        let mut all = std::mem::take(&mut self.snapshots.sending);
        // Who was served first in this turn is served last in the next.
        all.rotate_left(1);
        all.retain_mut(|sending| {
            // It has it, leads by now, or is no member any more.
            if self.raft.sends_snapshot(sending.to).is_none() {
                return false;
            }
            while self.send_piece(adapter, protocol, sending, now) {}
            match sending.is_given_up(&self.snapshots.pace, now) {
                true => {
                    self.raft.snapshot_ended(sending.to, now);
                    false
                }
                false => true,
            }
        });
        self.snapshots.sending = all;
    }

    /// Takes one step of a transfer. Whether there may be another one.
    fn send_piece<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        sending: &mut Sending,
        now: Instant,
    ) -> bool {
        let Some(link) = self
            .peers
            .get(sending.to)
            .and_then(|peer| peer.dialled)
            .and_then(|id| adapter.link(id))
        else {
            return false;
        };
        let waiting = link.outbox().waiting() as u64;
        let room = OUTBOX_BYTES_MAX.saturating_sub(waiting).min(self.snapshots.allowance);
        let (offset, data) = match sending.next(room, &self.snapshots.pace, now) {
            Next::Ask => (0, Bytes::new()),
            Next::Put { offset, piece } => (offset, piece),
            Next::Read { offset, length } => {
                let reader = Reader::Node(sending.to);
                let work = self.snapshots.jobs.read::<M::Image>(reader, sending.id, offset, length);
                self.tasks.push_back(Task::Snapshot(work));
                return true;
            }
            Next::Wait => return false,
        };
        self.snapshots.allowance -= (data.len() as u64).min(self.snapshots.allowance);
        let body = Body::Snapshot(SnapshotChunk {
            id: sending.id,
            offset,
            data: &data,
        });
        self.send_body(adapter, protocol, sending.to, RequestId(0), body);
        true
    }

    /// A piece came from a leader.
    pub(super) fn on_snapshot<P: Protocol>(
        &mut self,
        lent: &mut Lent<'_, P>,
        conn: &mut Conn,
        header: &Header,
        chunk: &SnapshotChunk<'_>,
    ) -> Result<(), Violation> {
        if !self.raft.takes_snapshot(header, &chunk.id) {
            return Ok(());
        }
        let from = header.from;
        match Receiving::take(&mut self.snapshots.receiving, from, chunk) {
            Piece::Impossible => return Err(Violation::SnapshotPiece),
            Piece::Ignore => {}
            Piece::Answer => {
                let there = self.snapshots.receiving.as_ref().map_or(0, |receiving| receiving.taken);
                let reply = self.snapshot_reply(chunk.id, SnapshotResult::Received(there));
                // It is asked again.
                let _ = conn.send(lent.protocol, &reply, lent.link);
            }
            Piece::Write(data) => {
                let work = self.snapshots.jobs.receive::<M::Image>(chunk.id, chunk.offset, data);
                self.tasks.push_back(Task::Snapshot(work));
            }
        }
        Ok(())
    }

    fn snapshot_reply(&self, id: SnapshotId, result: SnapshotResult) -> Message<'static> {
        Message {
            header: self.header(RequestId(0)),
            body: Body::SnapshotReply(SnapshotReply { id, result }),
        }
    }

    /// A follower says how much of it is there.
    pub(super) fn on_snapshot_reply(
        &mut self,
        from: NodeId,
        reply: &SnapshotReply,
        now: Instant,
    ) -> Result<(), Violation> {
        let pace = self.snapshots.pace;
        let Some(sending) = self.snapshots.sending.iter_mut().find(|sending| sending.to == from) else {
            return Ok(());
        };
        match reply.result {
            SnapshotResult::Received(there) => {
                if !sending.answered(reply.id, there, &pace, now) {
                    return Err(Violation::Unasked);
                }
            }
            SnapshotResult::NoSpace if reply.id == sending.id => {
                sending.refused(now);
                (self.observer)(Notice::SnapshotRefused {
                    node: from,
                    id: reply.id,
                    result: reply.result,
                });
            }
            SnapshotResult::Damaged if reply.id == sending.id => {
                sending.refused(now);
                // It may be the line, the other disk or this one: the next try is with a new one.
                self.snapshots.is_asked = true;
                (self.observer)(Notice::SnapshotRefused {
                    node: from,
                    id: reply.id,
                    result: reply.result,
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// A client asks for a piece.
    pub(super) fn on_fetch<P: Protocol>(
        &mut self,
        lent: &mut Lent<'_, P>,
        conn: &mut Conn,
        message: &Message<'_>,
        fetch: &Fetch,
    ) {
        let request = message.header.request;
        if fetch.id != SnapshotId::default() {
            let reader = Reader::Client(conn.id, request);
            let length = usize::try_from(self.snapshots.pace.piece).unwrap_or(usize::MAX);
            let work = self
                .snapshots
                .jobs
                .read::<M::Image>(reader, fetch.id, fetch.offset, length);
            self.tasks.push_back(Task::Snapshot(work));
        } else if let Err((why, detail)) = self.fetch_newest(conn.id, request, lent.now) {
            return self.refuse(lent, conn, message, Asked::Read, why, detail);
        }
        conn.took(lent.link, &self.conns.limits);
    }

    /// A client asks for the first piece of a snapshot of all that is applied: the newest if it is one, or another is
    /// taken. One that is being taken may have begun before what this client wrote.
    fn fetch_newest(&mut self, conn: ConnId, request: RequestId, now: Instant) -> Result<(), (Refusal, &'static str)> {
        let applied = self.applied_unsaid.unwrap_or_else(|| self.raft.status().applied);
        let snapshots = &mut self.snapshots;
        if snapshots.waiting.len() >= WAITING_MAX {
            return Err((Refusal::Overloaded, "too many wait for a snapshot"));
        }
        if applied == Index::ZERO {
            return Err((Refusal::Invalid, "nothing was applied yet: is there a leader?"));
        }
        snapshots.waiting.push((conn, request, applied));
        if snapshots
            .newest
            .as_ref()
            .is_some_and(|newest| newest.id.index >= applied)
        {
            self.serve_waiting();
            return Ok(());
        }
        // The one that is being taken holds all of it, if nothing was applied since it began.
        if !snapshots.is_saving || snapshots.entries > 0 {
            // What was counted went with a snapshot that could not be taken.
            snapshots.entries = snapshots.entries.max(1);
            snapshots.is_asked = true;
            snapshots.retry_at = now;
        }
        Ok(())
    }

    /// Reads the first piece of the newest for all whom it is new enough.
    fn serve_waiting(&mut self) {
        let Some(id) = self.snapshots.newest.as_ref().map(|newest| newest.id) else {
            return;
        };
        let length = usize::try_from(self.snapshots.pace.piece).unwrap_or(usize::MAX);
        let waiting = std::mem::take(&mut self.snapshots.waiting);
        for (conn, request, applied) in waiting {
            if applied > id.index {
                self.snapshots.waiting.push((conn, request, applied));
                continue;
            }
            let reader = Reader::Client(conn, request);
            let work = self.snapshots.jobs.read::<M::Image>(reader, id, 0, length);
            self.tasks.push_back(Task::Snapshot(work));
        }
    }

    /// Takes back what was done off the loop.
    pub(super) fn snapshot_done<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        done: SnapshotDone,
        now: Instant,
    ) -> Result<(), Failure> {
        match Done::<M::Image>::unwrap(done) {
            Done::Saved(result) => self.saved(adapter, protocol, result, now),
            Done::Read {
                reader,
                id,
                offset,
                piece,
            } => self.piece_read(adapter, protocol, reader, (id, offset), piece, now),
            Done::Received { id, end, result } => self.piece_written(adapter, protocol, id, end, result),
            Done::Finished { id, result } => self.snapshot_received(adapter, protocol, id, result, now),
            Done::Loaded { id, result } => return self.loaded(id, result),
            Done::Nothing => {}
        }
        Ok(())
    }

    fn saved<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        result: Result<Snapshot, StoreError>,
        now: Instant,
    ) {
        self.snapshots.is_saving = false;
        match result {
            Ok(snapshot) => {
                self.counters.snapshots += 1;
                (self.observer)(Notice::SnapshotTaken { id: snapshot.id });
                // One that was received meanwhile may be newer.
                if self
                    .snapshots
                    .newest
                    .as_ref()
                    .is_none_or(|newest| newest.id.index <= snapshot.id.index)
                {
                    self.raft.snapshot_taken(snapshot.id.index, now);
                    self.snapshots.newest = Some(snapshot);
                }
            }
            Err(error) => {
                self.snapshots.retry_at = now + RETRY_AFTER;
                self.snapshots.is_asked = true;
                (self.observer)(Notice::SnapshotFailed { error: &error });
                let detail = error.to_string();
                for (conn, request, _) in std::mem::take(&mut self.snapshots.waiting) {
                    self.refuse_fetch(adapter, protocol, (conn, request), Refusal::NoSpace, &detail);
                }
                return;
            }
        }
        self.serve_waiting();
    }

    fn piece_read<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        reader: Reader,
        (id, offset): (SnapshotId, u64),
        piece: Result<Bytes, StoreError>,
        now: Instant,
    ) {
        match reader {
            Reader::Node(node) => {
                let newest = self.snapshots.newest.as_ref().map(|newest| newest.id);
                let Some(sending) = self.snapshots.sending.iter_mut().find(|sending| sending.to == node) else {
                    return;
                };
                match piece {
                    Ok(piece) => sending.read(id, offset, piece),
                    // A newer one took its place.
                    Err(StoreError::Gone(_)) if newest.is_some_and(|newest| newest != id) => {
                        sending.not_read();
                        sending.begin(newest.unwrap_or(id), now);
                    }
                    Err(error) => {
                        sending.not_read();
                        sending.refused(now);
                        self.snapshots.is_asked = true;
                        (self.observer)(Notice::SnapshotFailed { error: &error });
                    }
                }
            }
            Reader::Client(conn, request) => match piece {
                Ok(data) => {
                    let chunk = SnapshotChunk {
                        id,
                        offset,
                        data: &data,
                    };
                    self.answer_fetch(adapter, protocol, (conn, request), chunk);
                }
                Err(error) => {
                    let detail = error.to_string();
                    self.refuse_fetch(adapter, protocol, (conn, request), Refusal::Invalid, &detail);
                }
            },
        }
    }

    fn answer_fetch<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        (id, request): (ConnId, RequestId),
        chunk: SnapshotChunk<'_>,
    ) {
        let header = self.header(request);
        let limits = self.conns.limits;
        let now = adapter.now();
        let (Some(conn), Some(link)) = (self.conns.get_mut(id), adapter.link(id)) else {
            return;
        };
        let message = Message {
            header,
            body: Body::FetchReply(chunk),
        };
        match conn.send(protocol, &message, link) {
            Ok(()) => conn.answered(link, &limits, now),
            Err(error) => {
                let detail = match error {
                    EncodeError::TooLarge => "the piece is above the frame_max of this connection",
                    EncodeError::Full => "read the pieces that are on their way before you ask for more",
                };
                self.refuse_fetch(adapter, protocol, (id, request), Refusal::Overloaded, detail);
            }
        }
    }

    fn refuse_fetch<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        (conn, request): (ConnId, RequestId),
        why: Refusal,
        detail: &str,
    ) {
        let header = self.header(RequestId(0));
        let origin = Origin::Client {
            conn,
            request,
            asked: Asked::Read,
        };
        let outcome = Outcome::Refused(Refused {
            why,
            leader: self.place.leader,
            detail,
        });
        self.conns
            .answer(adapter, protocol, header, origin, outcome, &mut self.counters);
    }

    fn piece_written<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        id: SnapshotId,
        end: u64,
        result: Result<(), StoreError>,
    ) {
        let Some(receiving) = self.snapshots.receiving.as_mut().filter(|receiving| receiving.id == id) else {
            return;
        };
        let from = receiving.from;
        let answer = match result {
            Ok(()) => {
                if receiving.wrote(end) {
                    let work = self.snapshots.jobs.finish::<M::Image>(id);
                    self.tasks.push_back(Task::Snapshot(work));
                }
                SnapshotResult::Received(end)
            }
            Err(error) => {
                self.snapshots.receiving = None;
                let work = self.snapshots.jobs.abandon::<M::Image>();
                self.tasks.push_back(Task::Snapshot(work));
                (self.observer)(Notice::SnapshotFailed { error: &error });
                SnapshotResult::NoSpace
            }
        };
        let body = Body::SnapshotReply(SnapshotReply { id, result: answer });
        self.send_body(adapter, protocol, from, RequestId(0), body);
    }

    fn snapshot_received<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        id: SnapshotId,
        result: Result<Snapshot, StoreError>,
        now: Instant,
    ) {
        let from = match self.snapshots.receiving.take_if(|receiving| receiving.id == id) {
            Some(receiving) => receiving.from,
            None => NodeId::NONE,
        };
        match result {
            Ok(snapshot) => {
                (self.observer)(Notice::SnapshotReceived { node: from, id });
                if self
                    .snapshots
                    .newest
                    .as_ref()
                    .is_none_or(|newest| newest.id.index < id.index)
                {
                    self.snapshots.newest = Some(snapshot.clone());
                }
                self.raft.install(&snapshot, now, &mut self.log);
            }
            Err(error) => {
                let result = match error {
                    StoreError::Damaged { .. } => SnapshotResult::Damaged,
                    _ => SnapshotResult::NoSpace,
                };
                (self.observer)(Notice::SnapshotFailed { error: &error });
                let body = Body::SnapshotReply(SnapshotReply { id, result });
                self.send_body(adapter, protocol, from, RequestId(0), body);
            }
        }
    }

    /// Raft says that the state machine is to be restored.
    pub(super) fn restore(&mut self, id: SnapshotId) {
        self.snapshots.restoring = Some(id);
        let work = self.snapshots.jobs.load::<M::Image>(id, self.config.sessions);
        self.tasks.push_back(Task::Snapshot(work));
    }

    fn loaded(&mut self, id: SnapshotId, result: Result<StateImage<M::Image>, StoreError>) -> Result<(), Failure> {
        let StateImage { sessions, machine } = result.map_err(|error| Failure::Disk(fault(error)))?;
        self.snapshots.restoring = None;
        (self.snapshots.entries, self.snapshots.bytes) = (0, 0);
        let former = StateImage {
            sessions: self.sessions.restore(sessions),
            machine: self.machine.restore(machine),
        };
        let work = self.snapshots.jobs.drop_state(former);
        self.tasks.push_back(Task::Snapshot(work));
        self.counters.restores += 1;
        self.raft.applied(id.index, &mut self.log);
        Ok(())
    }
}

/// A snapshot that was checked a moment ago and cannot be read now: the disk fails.
pub(super) fn fault(error: StoreError) -> Fault {
    use std::io;
    match error {
        StoreError::Failed { operation, path, error } => Fault { operation, path, error },
        StoreError::NoSpace(path) => Fault {
            operation: "write",
            path,
            error: io::ErrorKind::StorageFull.into(),
        },
        StoreError::Damaged { path, offset, what } => Fault {
            operation: "read",
            path,
            error: io::Error::new(io::ErrorKind::InvalidData, format!("byte {offset}: {what}")),
        },
        StoreError::Gone(id) => Fault {
            operation: "open",
            path: format!("the snapshot at index {}", id.index).into(),
            error: io::ErrorKind::NotFound.into(),
        },
    }
}
