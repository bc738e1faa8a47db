//! One node, fed by hand: what it hands out is what the test sees.

use std::time::Duration;

use kraft_core::id::{Index, NodeId, RequestId, Round, SyncId, Term};
use kraft_core::log::{Log, Tail};
use kraft_core::message::{
    Append, AppendReply, AppendResult, Body, Entries, Entry, EntryKind, Header, Heartbeat, Message, NodeState, Vote,
    VoteReply,
};
use kraft_core::raft::{Config, Output, Raft, Violation};
use kraft_core::storage::{HardState, Recovered};
use kraft_core::time::Instant;

use crate::cluster::{DRAIN_MAX, Wire, proposal};

/// Node 1 of a cluster, by default of three.
pub(crate) struct Lone {
    pub(crate) raft: Raft,
    pub(crate) log: Tail,
    pub(crate) now: Instant,
    /// The last sync that was asked for.
    pub(crate) sync: SyncId,
    /// What was sent and not looked at.
    pub(crate) sent: Vec<Wire>,
    /// What else was handed out and not looked at.
    pub(crate) outputs: Vec<Output>,
}

impl Lone {
    pub(crate) fn new() -> Self {
        Self::recovered(0, &[])
    }

    /// In `term`, with a log of these terms.
    pub(crate) fn recovered(term: u64, log: &[u64]) -> Self {
        Self::with(term, log, |_| {})
    }

    pub(crate) fn with(term: u64, log: &[u64], change: impl FnOnce(&mut Config)) -> Self {
        Self::above((0, 0), term, log, change)
    }

    /// With a log that begins behind `base`, index and term.
    pub(crate) fn above(base: (u64, u64), term: u64, log: &[u64], change: impl FnOnce(&mut Config)) -> Self {
        let mut terms: Vec<(Index, Term)> = Vec::new();
        for (at, term) in log.iter().enumerate() {
            if terms.last().is_none_or(|run| run.1.0 != *term) {
                terms.push((Index(base.0 + at as u64 + 1), Term(*term)));
            }
        }
        let recovered = Recovered {
            hard: HardState {
                term: Term(term),
                vote: NodeId::NONE,
            },
            terms,
            base_index: Index(base.0),
            base_term: Term(base.1),
            last: Index(base.0 + log.len() as u64),
            ..Recovered::default()
        };
        let mut config = Config::new(NodeId(1), vec![NodeId(1), NodeId(2), NodeId(3)], 1);
        change(&mut config);
        let mut lone = Self {
            raft: Raft::new(config, &recovered, Instant::ZERO).expect("it is right"),
            log: Tail::new(recovered.last, 1 << 20),
            now: Instant::ZERO,
            sync: SyncId(0),
            sent: Vec::new(),
            outputs: Vec::new(),
        };
        lone.drain();
        lone
    }

    pub(crate) fn drain(&mut self) {
        for outputs in 0.. {
            let Some(output) = self.raft.poll_output(&self.log) else {
                break;
            };
            assert!(outputs < DRAIN_MAX, "it never ends: {output:?}");
            match output {
                Output::Send { .. } => self.sent.push(Wire::new(NodeId(1), output, &self.log)),
                Output::Sync(id) => self.sync = id,
                Output::Apply(range) => {
                    self.raft.applied(range.end.prev(), &mut self.log);
                    self.outputs.push(Output::Apply(range));
                }
                other => self.outputs.push(other),
            }
        }
    }

    pub(crate) fn try_step(&mut self, from: u64, term: u64, body: Body<'_>) -> Result<(), Violation> {
        let header = Header {
            from: NodeId(from),
            term: Term(term),
            request: RequestId(0),
            ..Header::default()
        };
        let result = self.raft.step(&Message { header, body }, self.now, &mut self.log);
        self.drain();
        result
    }

    #[track_caller]
    pub(crate) fn step(&mut self, from: u64, term: u64, body: Body<'_>) {
        self.try_step(from, term, body).expect("it is no violation");
    }

    /// All that was handed out becomes durable.
    pub(crate) fn sync(&mut self) {
        self.raft.synced(self.sync, self.now, &mut self.log);
        self.drain();
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.raft.tick(self.now, &mut self.log);
        self.drain();
    }

    /// What was sent since the last look.
    pub(crate) fn look(&mut self) -> Vec<(u64, Body<'static>)> {
        self.sent.drain(..).map(|wire| (wire.to.0, wire.body)).collect()
    }

    pub(crate) fn state(&self) -> NodeState {
        self.raft.status().state
    }

    pub(crate) fn term(&self) -> u64 {
        self.raft.status().hard.term.0
    }

    pub(crate) fn propose(&mut self, count: u64) {
        let mut proposals = (0..count)
            .map(|number| proposal(number, 16))
            .collect::<Vec<_>>()
            .into_iter();
        self.raft
            .propose(&mut proposals, 16 * count, self.now, &mut self.log)
            .expect("it leads");
        self.drain();
    }

    /// Becomes leader of the next term, its no-op durable.
    pub(crate) fn lead(&mut self) -> u64 {
        self.pass(300);
        let term = self.term() + 1;
        let reply = |pre| {
            let term = Term(term);
            Body::VoteReply(VoteReply {
                pre,
                granted: true,
                term,
            })
        };
        self.step(2, term - 1, reply(true));
        assert_eq!(self.state(), NodeState::Candidate);
        self.sync();
        self.step(2, term, reply(false));
        assert_eq!(self.state(), NodeState::Leader);
        self.sync();
        self.look();
        term
    }
}

/// An append of entries of these terms behind `prev`, index and term.
pub(crate) fn append(prev: (u64, u64), terms: &[u64], commit: u64) -> Body<'static> {
    let entry = |term: &u64| Entry {
        term: Term(*term),
        kind: EntryKind::Command,
        crc: 0,
        payload: (*term).to_le_bytes().to_vec().into(),
    };
    let entries: Vec<_> = terms.iter().map(entry).collect();
    Body::Append(Append {
        prev_index: Index(prev.0),
        prev_term: Term(prev.1),
        commit: Index(commit),
        round: Round(0),
        entries: Entries::Shared(Vec::leak(entries), &[]),
    })
}

pub(crate) fn heartbeat(commit: u64) -> Body<'static> {
    Body::Heartbeat(Heartbeat {
        commit: Index(commit),
        round: Round(0),
    })
}

pub(crate) fn matched(index: u64) -> Body<'static> {
    Body::AppendReply(AppendReply {
        round: Round(0),
        result: AppendResult::Matched(Index(index)),
    })
}

pub(crate) fn rejected(prev_index: u64, hint: (u64, u64)) -> Body<'static> {
    Body::AppendReply(AppendReply {
        round: Round(0),
        result: AppendResult::Rejected {
            prev_index: Index(prev_index),
            hint_index: Index(hint.0),
            hint_term: Term(hint.1),
        },
    })
}

/// A request for a vote in `term`, of a candidate whose log ends in `last`, index and term.
pub(crate) fn vote(pre: bool, term: u64, last: (u64, u64)) -> Body<'static> {
    Body::Vote(Vote {
        pre,
        by_transfer: false,
        term: Term(term),
        last_index: Index(last.0),
        last_term: Term(last.1),
    })
}

pub(crate) fn voted(pre: bool, granted: bool, term: u64) -> Body<'static> {
    let term = Term(term);
    Body::VoteReply(VoteReply { pre, granted, term })
}

/// The terms of the log in memory.
pub(crate) fn terms(lone: &Lone) -> Vec<u64> {
    let range = lone.log.first()..lone.raft.status().last.next();
    lone.log.entries(range).iter().map(|entry| entry.term.0).collect()
}
