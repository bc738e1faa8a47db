//! A snapshot that came whole: judged, kept, installed; then the state machine is restored from it.

use std::io;

use bytes::Bytes;

use super::{fault, refusal};
use crate::adapter::Adapter;
use crate::id::{Index, NodeId, RequestId};
use crate::machine::StateMachine;
use crate::message::{Body, SnapshotId, SnapshotReply, SnapshotResult};
use crate::node::{Failure, Host, Notice, Task};
use crate::protocol::Protocol;
use crate::session::StateImage;
use crate::snapshot::{Head, Snapshot, StoreError};
use crate::storage::Storage;
use crate::time::Instant;

/// Of a snapshot that is none of this cluster's.
const CONTRADICTION: &str = "it contradicts what is committed here: compare the data folders of the nodes";

fn contradicts(id: SnapshotId) -> StoreError {
    StoreError::Failed {
        operation: "install",
        path: format!("the snapshot at index {}", id.index).into(),
        error: io::Error::new(io::ErrorKind::InvalidData, CONTRADICTION),
    }
}

impl<S: Storage, M: StateMachine> Host<S, M> {
    /// A snapshot that came is whole and on disk, where no restart finds it. If it cannot be, it goes before one does: the
    /// log would begin anew behind it.
    pub(super) fn snapshot_whole<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        id: SnapshotId,
        result: Result<Snapshot, StoreError>,
    ) {
        match result {
            Ok(snapshot) if self.raft.may_install(&snapshot) => {
                let work = self.snapshots.jobs.keep::<M::Image>(snapshot);
                self.tasks.push_back(Task::Snapshot(work));
            }
            Ok(_) => {
                let work = self.snapshots.jobs.abandon::<M::Image>();
                self.tasks.push_back(Task::Snapshot(work));
                self.not_received(adapter, protocol, id, &contradicts(id), SnapshotResult::Damaged);
            }
            Err(error) => self.not_received(adapter, protocol, id, &error, refusal(&error)),
        }
    }

    pub(super) fn snapshot_kept<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        snapshot: Snapshot,
        result: Result<(), StoreError>,
        now: Instant,
    ) {
        let id = snapshot.id;
        if let Err(error) = result {
            return self.not_received(adapter, protocol, id, &error, refusal(&error));
        }
        if !self.raft.may_install(&snapshot) {
            // Shown to be wrong while it was kept: it stays on disk, and who runs the node has to know.
            return self.not_received(adapter, protocol, id, &contradicts(id), SnapshotResult::Damaged);
        }
        let node = self.end_receiving(id);
        (self.observer)(Notice::SnapshotReceived { node, id });
        let newest = self.snapshots.newest.as_ref();
        if newest.is_none_or(|newest| newest.id.index < id.index) {
            self.snapshots.newest = Some(snapshot.clone());
        }
        self.raft.install(&snapshot, now, &mut self.log);
    }

    /// Nothing is left of a snapshot that came, which is said to who sent it.
    fn not_received<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        id: SnapshotId,
        error: &StoreError,
        result: SnapshotResult,
    ) {
        let from = self.end_receiving(id);
        (self.observer)(Notice::SnapshotFailed { error });
        let body = Body::SnapshotReply(SnapshotReply { id, result });
        self.send_body(adapter, protocol, from, RequestId(0), body);
    }

    /// From whom it came.
    fn end_receiving(&mut self, id: SnapshotId) -> NodeId {
        let receiving = self.snapshots.receiving.take_if(|receiving| receiving.id == id);
        receiving.map_or(NodeId::NONE, |receiving| receiving.from)
    }

    /// Raft says that the state machine is to be restored.
    pub(in super::super) fn restore(&mut self, id: SnapshotId) {
        self.snapshots.restoring = Some(id);
        let work = self.snapshots.jobs.load::<M::Image>(id, self.config.sessions);
        self.tasks.push_back(Task::Snapshot(work));
    }

    pub(super) fn loaded(
        &mut self,
        id: SnapshotId,
        result: Result<StateImage<M::Image>, StoreError>,
    ) -> Result<(), Failure> {
        let StateImage { sessions, machine } = result.map_err(|error| Failure::Disk(fault(error)))?;
        self.snapshots.restoring = None;
        (self.snapshots.entries, self.snapshots.bytes) = (0, 0);
        self.snapshots.held = (0, 0);
        // What is frozen and not handed out yet is of no use any more.
        let frozen = &mut self.snapshots.frozen;
        if frozen.take_if(|frozen| frozen.index <= id.index).is_some() {
            self.snapshots.is_saving = false;
        }
        let former = StateImage {
            sessions: self.sessions.restore(sessions),
            machine: self.machine.restore(machine),
        };
        let work = self.snapshots.jobs.drop_state(former);
        self.tasks.push_back(Task::Snapshot(work));
        self.counters.restores += 1;
        self.raft.applied(id.index, &mut self.log);
        self.serve_waiting();
        Ok(())
    }

    pub(super) fn install_unfinished(&mut self, id: SnapshotId, now: Instant) {
        let head = Head {
            index: id.index,
            term: id.term,
            membership_index: Index::ZERO,
            membership: Bytes::new(),
        };
        self.raft.install(&Snapshot { id, head }, now, &mut self.log);
    }
}
