//! What a transcript calls things.

use std::collections::BTreeMap;

use kraft_core::id::{Index, NodeId, Round, Term};
use kraft_core::message::{AppendResult, Body, Entry, EntryKind, NodeState, ReadIndexReply};
use kraft_core::raft::Status;

use crate::cluster::Wire;

/// Numbers that begin at random, by the order in which they were first seen.
#[derive(Debug, Default)]
pub(super) struct Words {
    rounds: BTreeMap<u64, usize>,
    questions: BTreeMap<u64, usize>,
}

fn name(names: &mut BTreeMap<u64, usize>, number: u64) -> usize {
    if number == 0 {
        return 0;
    }
    let next = names.len() + 1;
    *names.entry(number).or_insert(next)
}

pub(super) fn place(index: Index, term: Term) -> String {
    format!("{}@{}", index.0, term.0)
}

/// Entries from `first` on.
pub(super) fn entries(first: Index, entries: &[Entry]) -> String {
    let one = |(at, entry): (usize, &Entry)| {
        let place = place(Index(first.0 + at as u64), entry.term);
        match entry.kind {
            EntryKind::Noop => format!("{place} no-op"),
            _ => format!("{place} {}", String::from_utf8_lossy(&entry.payload)),
        }
    };
    let all: Vec<_> = entries.iter().enumerate().map(one).collect();
    all.join(", ")
}

pub(super) fn role(state: NodeState, term: Term, leader: NodeId) -> String {
    let term = term.0;
    match state {
        NodeState::Follower if leader.is_some() => format!("follows {leader} in term {term}"),
        NodeState::Follower => format!("follows nobody in term {term}"),
        NodeState::PreCandidate => format!("asks in term {term} whether it would be elected"),
        NodeState::Candidate => format!("is candidate of term {term}"),
        NodeState::Leader => format!("leads term {term}"),
    }
}

pub(super) fn status(status: &Status, log: &[Entry]) -> String {
    let role = role(status.state, status.hard.term, status.leader);
    let vote = match status.hard.vote.is_some() {
        true => format!("voted for {}", status.hard.vote),
        false => "voted for nobody".to_owned(),
    };
    let log: Vec<_> = log
        .iter()
        .enumerate()
        .map(|(at, entry)| place(Index(at as u64 + 1), entry.term))
        .collect();
    format!(
        "{role}, {vote}; log [{}], durable {}, committed {}, applied {}",
        log.join(" "),
        status.durable,
        status.commit,
        status.applied
    )
}

impl Words {
    fn round(&mut self, round: Round) -> String {
        format!("round {}", name(&mut self.rounds, round.0))
    }

    pub(super) fn message(&mut self, wire: &Wire) -> String {
        let header = &wire.header;
        let what = match &wire.body {
            Body::Vote(vote) => {
                let (kind, term) = (if vote.pre { "pre-vote" } else { "vote" }, vote.term.0);
                let log = place(vote.last_index, vote.last_term);
                let why = if vote.by_transfer {
                    ", as its leader wants it"
                } else {
                    ""
                };
                format!("asks for a {kind} in term {term}, log up to {log}{why}")
            }
            Body::VoteReply(reply) => {
                let kind = if reply.pre { "pre-vote" } else { "vote" };
                let answer = if reply.granted { "grants" } else { "refuses" };
                format!("{answer} the {kind} in term {}", reply.term.0)
            }
            Body::Append(append) => {
                let behind = place(append.prev_index, append.prev_term);
                let what = match wire.entries.is_empty() {
                    true => "appends nothing".to_owned(),
                    false => format!("appends {}", entries(append.prev_index.next(), &wire.entries)),
                };
                let round = self.round(append.round);
                format!("{what} behind {behind}; committed {}, {round}", append.commit)
            }
            Body::AppendReply(reply) => {
                let what = match reply.result {
                    AppendResult::Matched(index) => format!("matches up to {index}"),
                    AppendResult::Rejected {
                        prev_index,
                        hint_index,
                        hint_term,
                    } => {
                        let hint = place(hint_index, hint_term);
                        format!("rejects what is behind {prev_index}, try {hint}")
                    }
                };
                format!("{what}; {}", self.round(reply.round))
            }
            Body::Heartbeat(heartbeat) => {
                format!(
                    "heartbeat; committed {}, {}",
                    heartbeat.commit,
                    self.round(heartbeat.round)
                )
            }
            Body::HeartbeatReply(reply) => format!("alive; {}", self.round(reply.round)),
            Body::TimeoutNow => "asks it to campaign at once".to_owned(),
            Body::ReadIndex => format!("question {}", name(&mut self.questions, header.request.0)),
            Body::ReadIndexReply(reply) => {
                let question = name(&mut self.questions, header.request.0);
                match reply {
                    ReadIndexReply::At(index) => format!("answer {question}: read at {index}"),
                    ReadIndexReply::Refused => format!("answer {question}: refused"),
                }
            }
            other => format!("{other:?}"),
        };
        format!("{}->{} [term {}] {what}", header.from, wire.to, header.term.0)
    }
}
