//! What happened, in short lines, the last of them kept.

use std::collections::VecDeque;
use std::fmt;

use kraft_core::handshake::Kind as Message;
use kraft_core::id::{Index, NodeId, Term};
use kraft_core::message::NodeState;
use kraft_core::raft::Status;
use kraft_core::time::Instant;

use super::faults::Kind;

/// How many steps are kept.
const KEPT: usize = 4096;

/// A step of a run.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A fault befell a node, or the network.
    Fault(Kind, NodeId),
    /// It is over.
    Mended(Kind, NodeId),
    Started(NodeId),
    /// A change of the members is asked for.
    Asked(Box<str>),
    /// A configuration was seen to be committed, with these members.
    Members(Index, Box<str>),
    /// A byte of a file of a node is another one than was written.
    Rotten(NodeId, Box<str>, usize),
    /// A node ended, or did not start.
    Ended(NodeId, Box<str>),
    /// Two nodes hear less of each other, by a fault of the network.
    Cut(NodeId, NodeId),
    Role(NodeId, NodeState, Term),
    /// A frame that is not a sign of life left a node.
    Frame {
        from: NodeId,
        to: NodeId,
        kind: Message,
        term: Term,
        /// Of the entry that it speaks of.
        index: Index,
    },
}

/// A bounded list of steps and a hash of everything.
#[derive(Debug)]
pub(super) struct Trace {
    steps: VecDeque<(Instant, Step)>,
    hash: u64,
    /// What each node was last, by the place of its host.
    roles: Vec<(NodeState, Term)>,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self {
            steps: VecDeque::new(),
            hash: 0xcbf2_9ce4_8422_2325,
            roles: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, at: Instant, step: Step) {
        if self.steps.len() == KEPT {
            self.steps.pop_front();
        }
        self.steps.push_back((at, step));
    }

    /// A node said this of itself after a turn.
    pub(super) fn note(&mut self, now: Instant, place: usize, status: &Status) {
        let numbers = [
            now.as_nanos(),
            place as u64,
            status.hard.term.0,
            status.hard.vote.0,
            status.state as u64,
            status.commit.0,
            status.applied.0,
            status.last.0,
            status.durable.0,
        ];
        for number in numbers {
            self.mix(number);
        }
        if self.roles.len() <= place {
            self.roles.resize(place + 1, (NodeState::Follower, Term(0)));
        }
        let role = (status.state, status.hard.term);
        if std::mem::replace(&mut self.roles[place], role) != role {
            self.push(now, Step::Role(status.id, role.0, role.1));
        }
    }

    /// Takes a number into the hash.
    pub(super) fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    }

    /// Takes bytes into the hash.
    pub(super) fn mix_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last steps, without the traffic that says nothing new, at most `count` lines.
    pub(super) fn tail(&self, count: usize) -> Vec<String> {
        let mut lines: Vec<String> = self
            .steps
            .iter()
            .rev()
            .take(count)
            .map(|(at, step)| format!("{:>14} {step}", Seconds(*at)))
            .collect();
        lines.reverse();
        lines
    }
}

/// A time as people read it.
struct Seconds(Instant);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = self.0 - Instant::ZERO;
        f.pad(&format!("{}.{:06}s", span.as_secs(), span.subsec_micros()))
    }
}

struct Place(NodeId);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_some() {
            true => write!(f, "node {}", self.0),
            false => f.write_str("the network"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(kind, node) => write!(f, "{kind} befalls {}", Place(*node)),
            Self::Mended(kind, node) => write!(f, "{kind} of {} is over", Place(*node)),
            Self::Asked(wish) => write!(f, "asked for: {wish}"),
            Self::Members(index, members) => write!(f, "committed at {index}: the members are {members}"),
            Self::Started(node) => write!(f, "node {node} starts"),
            Self::Rotten(node, file, offset) => write!(f, "byte {offset} of {file} rots on node {node}"),
            Self::Ended(node, why) => write!(f, "node {node} is down: {why}"),
            Self::Cut(from, to) => write!(f, "node {from} does not reach node {to}"),
            Self::Role(node, state, term) => write!(f, "node {node} is {state:?} in term {term}"),
            Self::Frame {
                from,
                to,
                kind,
                term,
                index,
            } => {
                write!(f, "node {from} -> node {to}: {kind:?}, term {term}")?;
                match *index {
                    Index::ZERO => Ok(()),
                    index => write!(f, ", index {index}"),
                }
            }
        }
    }
}
