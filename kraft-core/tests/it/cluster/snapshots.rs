//! Snapshots of the nodes of a cluster: taken, sent in one piece, stored, installed, restored, and cut off by crashes
//! between any two of these steps.

use std::collections::BTreeMap;
use std::time::Duration;

use kraft_core::id::{Index, NodeId};
use kraft_core::message::{Body, Header, SnapshotChunk, SnapshotId};

use super::{Cluster, Event, Wire};
use crate::disk::Stored;

/// What goes on beside the log.
#[derive(Debug)]
pub(super) enum Happening {
    /// A node's own snapshot is whole and durable.
    Taken(NodeId, u64, Stored),
    /// A received one is.
    Received(NodeId, u64, Stored),
    /// The state of one has taken the state machine's place.
    Restored(NodeId, u64, Stored),
    /// A transfer took too long: who sends, whom to, and which of its transfers.
    Late(NodeId, u64, NodeId, u64),
}

/// What a node does with snapshots.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    /// Is being written. A crash may leave it there or not.
    writing: Option<Stored>,
    /// How many it began to send, each by its number.
    pub(crate) sent: u64,
    /// The newest transfer to each node.
    sending: BTreeMap<NodeId, u64>,
    /// How often its log began anew behind one.
    pub(crate) installed: u64,
    /// Those that it restored.
    pub(crate) restored: Vec<SnapshotId>,
}

impl Snapshots {
    /// The node ends. What it was writing may have become whole.
    pub(super) fn stop(&mut self) -> Option<Stored> {
        self.writing.take()
    }
}

impl Cluster {
    /// Begins to take a snapshot of a node, if there is something to take and it is not writing one already.
    pub(crate) fn take_snapshot(&mut self, id: u64) {
        let node = &mut self.nodes[id as usize - 1];
        let Some(raft) = &node.raft else { return };
        if node.applied.is_empty() || node.snapshots.writing.is_some() {
            return;
        }
        let members = raft.configuration_at(Index(node.applied.len() as u64));
        let stored = Stored::of(&node.applied).with_members(members);
        node.snapshots.writing = Some(stored.clone());
        let run = node.run;
        let delay = self.rng.u64(self.weather.sync.clone());
        self.happens(delay, Happening::Taken(NodeId(id), run, stored));
    }

    /// Takes a snapshot of a node, and lets it become durable at once.
    pub(crate) fn snapshot(&mut self, id: u64) {
        let node = self.node(id);
        let raft = node.raft.as_ref().expect("it is up");
        let members = raft.configuration_at(Index(node.applied.len() as u64));
        let stored = Stored::of(&node.applied).with_members(members);
        let index = stored.snapshot.id.index;
        self.nodes[id as usize - 1].disk.store(stored);
        self.with_raft(id, |raft, _, now| raft.snapshot_taken(index, now));
    }

    /// A leader has to send its newest snapshot.
    pub(super) fn send_snapshot(&mut self, id: u64, to: NodeId, index: Index) {
        let node = &mut self.nodes[id as usize - 1];
        let stored = node.disk.snapshot().expect("it has one").clone();
        assert!(
            stored.snapshot.id.index >= index,
            "the newest is at {index} or behind it"
        );
        node.snapshots.sent += 1;
        let (run, number) = (node.run, node.snapshots.sent);
        node.snapshots.sending.insert(to, number);
        let chunk = SnapshotChunk {
            id: stored.snapshot.id,
            offset: 0,
            data: &[],
        };
        let header = Header {
            from: NodeId(id),
            term: node.raft.as_ref().expect("it is up").status().hard.term,
            ..Header::default()
        };
        let late = 2 * self.weather.delay.end + self.weather.sync.end + 20_000;
        self.happens(late, Happening::Late(NodeId(id), run, to, number));
        self.send(Wire {
            to,
            header,
            body: Body::Snapshot(chunk),
            entries: Vec::new(),
            snapshot: Some(stored),
        });
    }

    /// All of a snapshot came, and is wanted.
    pub(super) fn receive_snapshot(&mut self, id: u64, stored: Stored) {
        let node = &mut self.nodes[id as usize - 1];
        if node.snapshots.writing.is_some() {
            return;
        }
        node.snapshots.writing = Some(stored.clone());
        let run = node.run;
        let delay = self.rng.u64(self.snapshot_delay.clone());
        self.happens(delay, Happening::Received(NodeId(id), run, stored));
    }

    /// A node has to put its state machine into the state of this one.
    pub(super) fn restore_snapshot(&mut self, id: u64, snapshot: SnapshotId) {
        let node = self.node(id);
        let stored = node
            .disk
            .load(snapshot)
            .expect("what is to be restored is kept")
            .clone();
        let run = node.run;
        let delay = self.rng.u64(self.weather.sync.clone());
        self.happens(delay, Happening::Restored(NodeId(id), run, stored));
    }

    fn happens(&mut self, micros: u64, happening: Happening) {
        self.schedule(micros, Event::Snapshot(happening));
    }

    pub(super) fn happened(&mut self, happening: Happening) {
        let (Happening::Taken(id, run, _)
        | Happening::Received(id, run, _)
        | Happening::Restored(id, run, _)
        | Happening::Late(id, run, ..)) = happening;
        let node = &mut self.nodes[id.0 as usize - 1];
        if node.run != run || node.raft.is_none() {
            return;
        }
        match happening {
            Happening::Taken(.., stored) => {
                node.snapshots.writing = None;
                let index = stored.snapshot.id.index;
                node.disk.store(stored);
                self.with_raft(id.0, |raft, _, now| raft.snapshot_taken(index, now));
            }
            Happening::Received(.., stored) => {
                node.snapshots.writing = None;
                let snapshot = stored.snapshot.clone();
                node.disk.store(stored);
                let begins_anew = self.with_raft(id.0, |raft, log, now| raft.install(&snapshot, now, log));
                self.nodes[id.0 as usize - 1].snapshots.installed += u64::from(begins_anew == Some(true));
            }
            Happening::Restored(.., stored) => {
                let snapshot = stored.snapshot.id;
                if let Err(broken) = self.laws.check_state(id, snapshot.index, &stored.state) {
                    panic!("{broken}");
                }
                node.applied = stored.state;
                node.snapshots.restored.push(snapshot);
                self.with_raft(id.0, |raft, log, _| raft.applied(snapshot.index, log));
            }
            Happening::Late(.., to, number) if node.snapshots.sending.get(&to) == Some(&number) => {
                self.with_raft(id.0, |raft, _, now| {
                    if raft.sends_snapshot(to).is_some() {
                        raft.snapshot_ended(to, now);
                    }
                });
            }
            Happening::Late(..) => {}
        }
    }

    /// Lets every node take a snapshot each so many milliseconds, for so long, while the leader is proposed to.
    pub(crate) fn run_with_snapshots(&mut self, millis: u64, every: u64, act: impl Fn(&mut Self)) {
        let end = self.now + Duration::from_millis(millis);
        while self.now < end {
            for id in self.ids() {
                self.take_snapshot(id);
            }
            act(self);
            self.run_for(every);
        }
    }
}
