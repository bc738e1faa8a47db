//! TiKV's `raft`: a `RawNode` over its own `MemStorage`, turned as its example does.

use std::io;
use std::time::Duration;

use raft::eraftpb::{Entry, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};

use super::{ELECTION, HEARTBEAT, KEPT, LEADER, Ledger, NODES, Trio};
use crate::serve::Task;

/// Measures it.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    super::measure(task, &mut Nodes::new()?)
}

pub(super) struct Nodes {
    nodes: [Node; NODES],
    ticked: Duration,
}

struct Node {
    raw: RawNode<MemStorage>,
    applied: Ledger,
    /// The index of the entry that was applied last, and that up to which the log was cut off.
    index: u64,
    cut: u64,
}

fn failed(what: &'static str) -> impl Fn(raft::Error) -> io::Error {
    move |error| io::Error::other(format!("{what}: {error}"))
}

impl Node {
    fn new(id: u64) -> io::Result<Self> {
        let ids: Vec<u64> = (1..=NODES as u64).collect();
        let storage = MemStorage::new_with_conf_state((ids, Vec::new()));
        let config = Config {
            id,
            election_tick: (ELECTION.as_millis() / HEARTBEAT.as_millis()) as usize,
            heartbeat_tick: 1,
            // As Kraft's.
            max_size_per_msg: 256 << 10,
            check_quorum: true,
            pre_vote: true,
            // As TiKV has it: followers learn of a commit by the next message.
            skip_bcast_commit: true,
            // Commands that are proposed in one turn go in one message.
            batch_append: true,
            ..Config::default()
        };
        let logger = Logger::root(Discard, o!());
        Ok(Self {
            raw: RawNode::new(&config, storage, &logger).map_err(failed("a node"))?,
            applied: Ledger::default(),
            index: 0,
            cut: 0,
        })
    }

    /// Does what it asks for; its messages are left in `sent`.
    fn ready(&mut self, sent: &mut Vec<Message>) -> io::Result<()> {
        let mut ready = self.raw.ready();
        sent.extend(ready.take_messages());
        self.apply(ready.take_committed_entries());
        if !ready.entries().is_empty() {
            let store = self.raw.store().clone();
            store.wl().append(ready.entries()).map_err(failed("append"))?;
        }
        if let Some(hard) = ready.hs() {
            self.raw.store().wl().set_hardstate(hard.clone());
        }
        sent.extend(ready.take_persisted_messages());
        let mut light = self.raw.advance(ready);
        if let Some(commit) = light.commit_index() {
            self.raw.store().wl().mut_hard_state().set_commit(commit);
        }
        sent.extend(light.take_messages());
        self.apply(light.take_committed_entries());
        self.raw.advance_apply();
        self.cut()
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.index = entry.index;
            // A leader's first entry is empty.
            if !entry.data.is_empty() {
                self.applied.apply(&entry.data);
            }
        }
    }

    /// Cuts the log off, half of what it keeps at a time.
    fn cut(&mut self) -> io::Result<()> {
        let kept = KEPT as u64;
        if self.index - self.cut < kept {
            return Ok(());
        }
        self.cut = self.index - kept / 2;
        self.raw.store().wl().compact(self.cut).map_err(failed("compact"))
    }
}

impl Nodes {
    /// Three nodes, of which the first was elected.
    pub(super) fn new() -> io::Result<Self> {
        let mut all = Self {
            nodes: [Node::new(1)?, Node::new(2)?, Node::new(3)?],
            ticked: Duration::ZERO,
        };
        all.nodes[LEADER].raw.campaign().map_err(failed("campaign"))?;
        all.settle()?;
        match all.nodes[LEADER].raw.raft.state {
            StateRole::Leader => Ok(all),
            state => Err(io::Error::other(format!("node 1 was not elected: {state:?}"))),
        }
    }

    /// Delivers until nobody has anything to say.
    fn settle(&mut self) -> io::Result<()> {
        let mut sent = Vec::new();
        loop {
            let mut was_busy = false;
            for at in 0..NODES {
                while self.nodes[at].raw.has_ready() {
                    was_busy = true;
                    self.nodes[at].ready(&mut sent)?;
                    for message in sent.drain(..) {
                        let to = message.to as usize - 1;
                        self.nodes[to].raw.step(message).map_err(failed("a message"))?;
                    }
                }
            }
            if !was_busy {
                return Ok(());
            }
        }
    }
}

impl Trio for Nodes {
    fn propose(&mut self, command: Vec<u8>) -> io::Result<()> {
        let leader = &mut self.nodes[LEADER].raw;
        leader.propose(Vec::new(), command).map_err(failed("propose"))
    }

    fn turn(&mut self, now: Duration) -> io::Result<()> {
        if now - self.ticked >= HEARTBEAT {
            self.ticked = now;
            for node in &mut self.nodes {
                node.raw.tick();
            }
        }
        self.settle()
    }

    fn applied(&self, node: usize) -> Ledger {
        self.nodes[node].applied
    }
}
