//! Snapshots, as the driver takes, sends and receives them.
//!
//! ```text
//! take      enough was applied -> image on the loop -> the log is durable up to there -> saved off the loop -> Raft hears
//!           of it, and lets the log shrink
//! send      Raft: this follower needs what the log no longer has -> pieces, see `sending`
//! receive   pieces, see `receiving` -> written off the loop -> checked, durable -> Raft is asked, or nothing of it is left ->
//!           kept: a restart finds it -> Raft installs it: the log begins anew behind it, and the state machine is restored
//! fetch     a client asks for pieces, to keep them elsewhere
//! ```
//!
//! One snapshot is taken and one received at a time; followers are sent theirs side by side, within one bandwidth.

mod allowance;
mod bandwidth;
mod config;
mod fetch;
mod install;
mod receiving;
mod sending;
mod work;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use self::bandwidth::Bandwidth;
pub use self::config::Config;
use self::receiving::{Piece, Receiving};
use self::sending::{Next, OUTBOX_BYTES_MAX, Pace, Sending};
pub(super) use self::work::load;
use self::work::{Done, Jobs, Reader};
pub use self::work::{SnapshotDone, SnapshotLane, SnapshotWork};
use super::conns::Conn;
use super::receive::Lent;
use super::{Failure, Host, Notice, Task};
use crate::adapter::Adapter;
use crate::canary::{self, Canary};
use crate::id::{ConnId, Index, NodeId, RequestId};
use crate::machine::StateMachine;
use crate::message::{
    Body, Header, Message, NodeState, Refusal, SnapshotChunk, SnapshotId, SnapshotReply, SnapshotResult,
};
use crate::protocol::Protocol;
use crate::raft::Violation;
use crate::session::StateImage;
use crate::snapshot::{Head, Snapshot, SnapshotStore, StoreError};
use crate::storage::{Fault, Storage};
use crate::time::Instant;

/// Each that is gone before it has arrived makes the next one wait twice as long, up to so often.
const LAPSES_MAX: u32 = 16;

/// One of which nothing comes any more is given up after so many of [`Config::timeout`]: a new leader, or the old one when
/// it is back, may have the same.
const GIVE_UP: u32 = 6;

/// After one that could not be taken, the next is tried so much later; twice as much after each further one, up to
/// [`RETRY_MAX`].
const RETRY_AFTER: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(300);

/// A state that waits for so long for its log is told.
const WAITS_MAX: Duration = Duration::from_secs(10);

/// A state that is frozen, and written once the log is durable up to its index: what a majority has is applied, and this
/// node may not be one of it.
#[derive(Debug)]
struct Frozen {
    index: Index,
    work: SnapshotWork,
    /// When it is told that it still waits; `None` when it was.
    told_at: Option<Instant>,
}

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
    frozen: Option<Frozen>,
    /// Somebody asked for one, or has found that the newest is damaged.
    is_asked: bool,
    /// Somebody has found that the newest is damaged: one is taken even if it would be the same.
    is_distrusted: bool,
    retry_at: Instant,
    /// How many could not be taken, one behind the other.
    failures: u32,
    /// Applied since the newest one's index, or that of the one that is being taken.
    entries: u64,
    bytes: u64,
    /// Applied between the newest one's index and that of the one that is being taken: counts again if that comes to nothing.
    held: (u64, u64),
    sending: Vec<Sending>,
    /// How often one was gone before a follower had all of it. It counts until that has what the log no longer has, over
    /// connections that break.
    lapses: BTreeMap<NodeId, u32>,
    receiving: Option<Receiving>,
    /// Pieces that came.
    pieces: u64,
    /// Bytes of those that wait to be written.
    queued: u64,
    /// The state machine gives way to this one.
    pub(super) restoring: Option<SnapshotId>,
    /// Clients that wait for the first piece of one that holds everything up to an index.
    waiting: Vec<(ConnId, RequestId, Index)>,
    /// Pieces that are being read for clients.
    client_reads: usize,
    bandwidth: Bandwidth,
}

impl<St: SnapshotStore> Snapshots<St> {
    pub(super) fn new(
        config: Config,
        store: St,
        newest: Option<Snapshot>,
        heartbeat_interval: Duration,
        frame_max: usize,
        now: Instant,
    ) -> Self {
        let pace = Pace::new(&config, heartbeat_interval, frame_max);
        Self {
            pace,
            jobs: Jobs::new(store),
            newest,
            is_saving: false,
            frozen: None,
            is_asked: false,
            is_distrusted: false,
            retry_at: now,
            failures: 0,
            entries: 0,
            bytes: 0,
            held: (0, 0),
            sending: Vec::new(),
            lapses: BTreeMap::new(),
            receiving: None,
            pieces: 0,
            queued: 0,
            restoring: None,
            waiting: Vec::new(),
            client_reads: 0,
            bandwidth: Bandwidth::new(config.bytes_per_second, pace.piece, now),
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
        if now < self.retry_at || !self.has_reason() {
            return false;
        }
        if self.is_asked {
            return true;
        }
        // One that is on its way would be gone before it arrives, were they taken as fast as ever.
        let lapses = self.sending.iter().map(|sending| self.lapses(sending.to)).max();
        let patience = lapses.map_or(1, |lapses| 4 << lapses.min(LAPSES_MAX));
        let newest = self.newest.as_ref().map_or(0, |newest| newest.id.bytes);
        let bytes_max = self.config.bytes.max(newest).saturating_mul(patience);
        self.entries >= self.config.entries.saturating_mul(patience) || self.bytes >= bytes_max || self.bytes > log_room
    }

    /// Whether one could be taken that is not there.
    fn has_reason(&self) -> bool {
        !self.is_saving && self.restoring.is_none() && (self.entries > 0 || self.is_distrusted)
    }

    /// Somebody could not read the newest.
    fn distrust(&mut self) {
        self.is_asked = true;
        self.is_distrusted = true;
    }

    /// How often one was gone before this follower had all of it.
    fn lapses(&self, to: NodeId) -> u32 {
        self.lapses.get(&to).copied().unwrap_or(0)
    }

    /// One was gone before this follower had all of it.
    fn lapsed(&mut self, to: NodeId) {
        *self.lapses.entry(to).or_default() += 1;
    }

    /// Sends this one to a follower; the log begins behind `base`. Which one was sent before and came too late: when it
    /// arrives the log has gone on without it.
    fn begin_sending(&mut self, to: NodeId, id: SnapshotId, base: Index, now: Instant) -> Option<SnapshotId> {
        let former = self.sending.iter().position(|sending| sending.to == to);
        let former = former.map(|at| self.sending.swap_remove(at).id);
        let gone = former.filter(|former| former.index < base);
        if gone.is_some() {
            self.lapsed(to);
        }
        self.sending.push(Sending::new(to, id, &self.pace, now));
        gone
    }

    /// How much a follower has of the one that is sent to it, in hundredths; 0 if none is.
    pub(super) fn percent(&self, to: NodeId) -> u8 {
        let sending = self.sending.iter().find(|sending| sending.to == to);
        sending.map_or(0, Sending::percent)
    }

    /// When the node must look after its snapshots at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let sending = self.sending.iter().map(|sending| sending.deadline(&self.pace));
        let refill = self.sending.iter();
        let refill = refill.filter_map(|sending| self.bandwidth.deadline(self.lapses(sending.to) > 0));
        let retry = (self.is_asked && self.has_reason()).then_some(self.retry_at);
        let receiving = self.receiving.as_ref();
        let receiving = receiving.and_then(|receiving| receiving.deadline(self.config.timeout * GIVE_UP));
        let frozen = self.frozen.as_ref().and_then(|frozen| frozen.told_at);
        let few = [retry, receiving, frozen].into_iter().flatten();
        sending.chain(refill).chain(few).min()
    }
}

impl<S: Storage, M: StateMachine> Host<S, M> {
    /// What is due about snapshots, once a turn, behind Raft's outputs.
    pub(super) fn keep_snapshots<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        if self.snapshots.is_due(self.room, now) {
            self.take_snapshot(now);
        }
        self.save_frozen(now);
        self.send_snapshots(adapter, protocol, now);
        self.forget_lapses();
        self.give_up_receiving(now);
    }

    /// Has what is frozen written if the log is as far.
    fn save_frozen(&mut self, now: Instant) {
        let durable = self.raft.status().durable;
        let is_covered = |frozen: &mut Frozen| frozen.index <= durable || canary::is(Canary::SnapshotBeforeDurable);
        if let Some(Frozen { work, .. }) = self.snapshots.frozen.take_if(is_covered) {
            self.tasks.push_back(Task::Snapshot(work));
        }
        if let Some(Frozen { index, told_at, .. }) = &mut self.snapshots.frozen
            && told_at.take_if(|at| *at <= now).is_some()
        {
            (self.observer)(Notice::SnapshotWaits { index: *index, durable });
        }
    }

    /// Ends what will not be received to its end.
    fn give_up_receiving(&mut self, now: Instant) {
        let Some(receiving) = &self.snapshots.receiving else {
            return;
        };
        let Some(deadline) = receiving.deadline(self.snapshots.config.timeout * GIVE_UP) else {
            return;
        };
        // What it holds may have come as entries since.
        if now >= deadline || receiving.id.index <= self.raft.status().commit {
            self.abandon();
        }
    }

    fn abandon(&mut self) {
        self.snapshots.receiving = None;
        let work = self.snapshots.jobs.abandon::<M::Image>();
        self.tasks.push_back(Task::Snapshot(work));
    }

    /// Freezes what is applied. The rest happens off the loop.
    fn take_snapshot(&mut self, now: Instant) {
        let mut applied = self.applied();
        if canary::is(Canary::SnapshotIndexBehind) && applied.prev() > self.raft.base() {
            applied = applied.prev();
        }
        if canary::is(Canary::ReleasedBeforeSaved) {
            self.raft.snapshot_taken(applied, now);
        }
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
        self.snapshots.is_distrusted = false;
        self.snapshots.held = (self.snapshots.entries, self.snapshots.bytes);
        (self.snapshots.entries, self.snapshots.bytes) = (0, 0);
        let state = StateImage {
            sessions: self.sessions.image(),
            machine: self.machine.image(),
        };
        self.snapshots.frozen = Some(Frozen {
            index: applied,
            work: self.snapshots.jobs.save(head, state),
            told_at: Some(now + WAITS_MAX),
        });
    }

    /// Raft says that this follower needs what the log no longer has.
    pub(super) fn send_snapshot(&mut self, to: NodeId, now: Instant) {
        let Some(newest) = &self.snapshots.newest else {
            // A log that begins behind the first entry has a snapshot before it.
            return self.raft.snapshot_ended(to, now);
        };
        let id = newest.id;
        if let Some(id) = self.snapshots.begin_sending(to, id, self.raft.base(), now) {
            (self.observer)(Notice::SnapshotLapsed { node: to, id });
        }
        (self.observer)(Notice::SnapshotSending { node: to, id });
    }

    fn send_snapshots<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        if self.snapshots.sending.is_empty() {
            return;
        }
        let commit = self.raft.status().commit;
        self.snapshots.bandwidth.refill(commit, now);
        let mut all = std::mem::take(&mut self.snapshots.sending);
        // Who was served first in this turn is served last in the next.
        all.rotate_left(1);
        all.retain_mut(|sending| {
            // It has it, leads by now, or is no member any more.
            if self.raft.sends_snapshot(sending.to).is_none() {
                return false;
            }
            let dialled = self.peers.get(sending.to).and_then(|peer| peer.dialled);
            let is_over = match dialled.filter(|id| adapter.link(*id).is_some()) {
                Some(conn) => {
                    while self.send_piece(adapter, protocol, sending, conn, now) {}
                    sending.is_given_up(&self.snapshots.pace, now)
                }
                // When there is a connection again there is a sign of life.
                None => true,
            };
            if is_over {
                self.raft.snapshot_ended(sending.to, now);
            }
            !is_over
        });
        self.snapshots.sending = all;
    }

    /// Who has what the log no longer has is late no more.
    fn forget_lapses(&mut self) {
        if self.snapshots.lapses.is_empty() {
            return;
        }
        let (raft, base) = (&self.raft, self.raft.base());
        let is_behind = |node| raft.sends_snapshot(node).is_some() || raft.progress(node).0 < base;
        let peers = &self.peers;
        let is_member = |node| self.place.state == NodeState::Leader && peers.get(node).is_some();
        self.snapshots
            .lapses
            .retain(|node, _| is_member(*node) && is_behind(*node));
    }

    /// Takes one step of a transfer. Whether there may be another one.
    fn send_piece<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        sending: &mut Sending,
        conn: ConnId,
        now: Instant,
    ) -> bool {
        let Some(link) = adapter.link(conn) else { return false };
        let waiting = link.outbox().waiting() as u64;
        let is_late = self.snapshots.lapses(sending.to) > 0;
        let room = OUTBOX_BYTES_MAX
            .saturating_sub(waiting)
            .min(self.snapshots.bandwidth.bytes(is_late));
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
        self.snapshots.bandwidth.spend(is_late, data.len() as u64);
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
        self.snapshots.pieces += 1;
        let number = self.snapshots.pieces;
        let queued = self.snapshots.queued;
        match Receiving::take(&mut self.snapshots.receiving, from, chunk, number, queued, lent.now) {
            Piece::Impossible => return Err(Violation::SnapshotPiece),
            Piece::Ignore => {}
            Piece::Answer => {
                let there = self.snapshots.receiving.as_ref().map_or(0, |receiving| receiving.taken);
                let reply = self.snapshot_reply(chunk.id, SnapshotResult::Received(there));
                // It is asked again.
                let _ = conn.send(lent.protocol, &reply, lent.link);
            }
            Piece::Write(data) => {
                let Some(Receiving { id, number, .. }) = self.snapshots.receiving else {
                    return Ok(());
                };
                self.snapshots.queued += data.len() as u64;
                let jobs = &self.snapshots.jobs;
                let work = jobs.receive::<M::Image>(id, number, chunk.offset, data);
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
            SnapshotResult::Received(there) if !sending.answered(reply.id, there, &pace, now) => {
                return Err(Violation::Unasked);
            }
            SnapshotResult::NoSpace | SnapshotResult::Damaged if reply.id == sending.id => {
                let is_damaged = reply.result == SnapshotResult::Damaged;
                sending.refused(is_damaged, now);
                if is_damaged {
                    // It may be the line, the other disk or this one: the next try is with a new one.
                    self.snapshots.distrust();
                }
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
            Done::Received {
                id,
                number,
                bytes,
                end,
                result,
            } => {
                self.snapshots.queued -= bytes;
                self.piece_written(adapter, protocol, (id, number), end, result);
            }
            Done::Finished { id, result } => self.snapshot_whole(adapter, protocol, id, result),
            Done::Kept { snapshot, result } => self.snapshot_kept(adapter, protocol, snapshot, result, now),
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
                self.snapshots.failures = 0;
                (self.observer)(Notice::SnapshotTaken { id: snapshot.id });
                // One that was received meanwhile may be newer.
                if self
                    .snapshots
                    .newest
                    .as_ref()
                    .is_none_or(|newest| newest.id.index <= snapshot.id.index)
                {
                    self.raft.snapshot_taken(snapshot.id.index, now);
                    for sending in self.snapshots.sending.iter_mut() {
                        if sending.is_distrusted {
                            sending.begin(snapshot.id, now);
                        }
                    }
                    self.snapshots.newest = Some(snapshot);
                }
            }
            Err(error) => {
                let wait = RETRY_AFTER
                    .saturating_mul(1 << self.snapshots.failures.min(8))
                    .min(RETRY_MAX);
                self.snapshots.retry_at = now + wait;
                self.snapshots.failures += 1;
                self.snapshots.is_asked = true;
                let (entries, bytes) = std::mem::take(&mut self.snapshots.held);
                self.snapshots.applied(entries, bytes);
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
                    // It was begun anew, with another one.
                    Err(_) if id != sending.id => sending.not_read(),
                    // A newer one took its place.
                    Err(StoreError::Gone(_)) if newest.is_some_and(|newest| newest != id) => {
                        sending.not_read();
                        sending.begin(newest.unwrap_or(id), now);
                        self.snapshots.lapsed(node);
                        (self.observer)(Notice::SnapshotLapsed { node, id });
                    }
                    Err(error) => {
                        sending.not_read();
                        sending.refused(true, now);
                        self.snapshots.distrust();
                        (self.observer)(Notice::SnapshotFailed { error: &error });
                    }
                }
            }
            Reader::Client(conn, request) => {
                self.snapshots.client_reads -= 1;
                match piece {
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
                }
            }
        }
    }

    fn piece_written<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        (id, number): (SnapshotId, u64),
        end: u64,
        result: Result<(), StoreError>,
    ) {
        let receiving = self.snapshots.receiving.as_mut();
        let Some(receiving) = receiving.filter(|receiving| receiving.number == number) else {
            return;
        };
        let from = receiving.from;
        let answer = match result {
            Ok(()) => {
                let is_whole = receiving.wrote(end);
                if is_whole && canary::is(Canary::ResetBeforeDurable) {
                    self.install_unfinished(id, adapter.now());
                }
                if is_whole {
                    let work = self.snapshots.jobs.finish::<M::Image>(id);
                    self.tasks.push_back(Task::Snapshot(work));
                }
                SnapshotResult::Received(end)
            }
            Err(error) => {
                self.abandon();
                (self.observer)(Notice::SnapshotFailed { error: &error });
                refusal(&error)
            }
        };
        let body = Body::SnapshotReply(SnapshotReply { id, result: answer });
        self.send_body(adapter, protocol, from, RequestId(0), body);
    }
}

/// What a leader is told of it.
fn refusal(error: &StoreError) -> SnapshotResult {
    match error {
        StoreError::Damaged { .. } => SnapshotResult::Damaged,
        _ => SnapshotResult::NoSpace,
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

#[cfg(test)]
mod tests;
