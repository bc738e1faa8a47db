//! Kraft's core. Its log's memory, [`Tail`], is the log; who is sent a message is lent it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use kraft_core::id::{Index, NodeId};
use kraft_core::log::{Log, Proposal, Tail};
use kraft_core::message::{EntryKind, Header, Message, NodeState};
use kraft_core::raft::{Config, Output, Raft};
use kraft_core::storage::Recovered;
use kraft_core::time::Instant;

use super::{COMMAND_BYTES, ELECTION, HEARTBEAT, KEPT, LEADER, Ledger, NODES, Trio};
use crate::serve::Task;

/// Measures it.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    super::measure(task, &mut Nodes::new()?)
}

#[derive(Debug)]
pub(super) struct Nodes {
    nodes: [Node; NODES],
    /// Cores' time, which begins at the election.
    now: Instant,
    began: Instant,
}

#[derive(Debug)]
struct Node {
    raft: Raft,
    log: Tail,
    applied: Ledger,
}

impl Node {
    fn new(id: u64) -> io::Result<Self> {
        let voters = (1..=NODES as u64).map(NodeId).collect();
        let config = Config {
            heartbeat_interval: HEARTBEAT,
            election_timeout: ELECTION..2 * ELECTION,
            ..Config::new(NodeId(id), voters, 1)
        };
        Ok(Self {
            raft: Raft::new(config, &Recovered::default(), Instant::ZERO).map_err(io::Error::other)?,
            log: Tail::new(Index::ZERO, (KEPT * COMMAND_BYTES) as u64),
            applied: Ledger::default(),
        })
    }

    fn tick(&mut self, now: Instant) {
        if self.raft.deadline().is_some_and(|deadline| deadline <= now) {
            self.raft.tick(now, &mut self.log);
        }
    }
}

impl Nodes {
    /// Three nodes, of which the first was elected.
    pub(super) fn new() -> io::Result<Self> {
        let nodes = [Node::new(1)?, Node::new(2)?, Node::new(3)?];
        let deadline = nodes[LEADER].raft.deadline();
        let now = deadline.ok_or_else(|| io::Error::other("node 1 waits for no election"))?;
        let mut all = Self { nodes, now, began: now };
        all.nodes[LEADER].tick(now);
        all.settle()?;
        match all.nodes[LEADER].raft.status().state {
            NodeState::Leader => Ok(all),
            state => Err(io::Error::other(format!("node 1 was not elected: {state:?}"))),
        }
    }

    /// Delivers until nobody has anything to say.
    fn settle(&mut self) -> io::Result<()> {
        loop {
            let mut was_busy = false;
            for at in 0..NODES {
                was_busy |= self.drain(at)?;
            }
            if !was_busy {
                return Ok(());
            }
        }
    }

    /// Does all that a node asks for; whether there was anything.
    fn drain(&mut self, at: usize) -> io::Result<bool> {
        let mut was_busy = false;
        while let Some(output) = self.nodes[at].raft.poll_output(&self.nodes[at].log) {
            was_busy = true;
            let node = &mut self.nodes[at];
            match output {
                // The log's memory has them, and a hard state that is never read again needs no place.
                Output::Save(_) | Output::Append(_) | Output::Role { .. } | Output::Members { .. } => {}
                Output::Sync(sync) => node.raft.synced(sync, self.now, &mut node.log),
                Output::Apply(range) => {
                    for entry in node.log.entries(range.clone()).iter() {
                        if entry.kind == EntryKind::Command {
                            node.applied.apply(entry.payload);
                        }
                    }
                    node.raft.applied(range.end.prev(), &mut node.log);
                }
                Output::Send {
                    to,
                    request,
                    term,
                    message,
                } => {
                    let from = NodeId(at as u64 + 1);
                    let to = to.0 as usize - 1;
                    let parted = self.nodes.get_disjoint_mut([at, to]);
                    let [sender, receiver] = parted.map_err(|error| io::Error::other(error.to_string()))?;
                    let header = Header {
                        from,
                        term,
                        request,
                        ..Header::default()
                    };
                    let body = message.body(&sender.log);
                    let stepped = receiver
                        .raft
                        .step(&Message { header, body }, self.now, &mut receiver.log);
                    stepped.map_err(|violation| io::Error::other(format!("node {}: {violation:?}", to + 1)))?;
                }
                other => return Err(io::Error::other(format!("node {}: {other:?}", at + 1))),
            }
        }
        Ok(was_busy)
    }
}

impl Trio for Nodes {
    fn propose(&mut self, command: Vec<u8>) -> io::Result<()> {
        let Node { raft, log, .. } = &mut self.nodes[LEADER];
        let bytes = command.len() as u64;
        // The driver takes it when a command comes in; it goes with the command to every node and disk.
        let crc = crc32c::crc32c(&command);
        let proposal = Proposal {
            kind: EntryKind::Command,
            crc,
            payload: Bytes::from(command),
        };
        let proposed = raft.propose(&mut std::iter::once(proposal), bytes, self.now, log);
        proposed
            .map(drop)
            .map_err(|refusal| io::Error::other(format!("node 1 refused a command: {refusal:?}")))
    }

    fn turn(&mut self, now: Duration) -> io::Result<()> {
        self.now = self.began + now;
        let now = self.now;
        self.nodes.iter_mut().for_each(|node| node.tick(now));
        self.settle()
    }

    fn applied(&self, node: usize) -> Ledger {
        self.nodes[node].applied
    }
}
