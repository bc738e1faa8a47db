//! Linearizable reads by ReadIndex (thesis §6.4), batched.
//!
//! Reads that come between two drains share one round: on a leader one heartbeat to each follower, on a follower one
//! question to the leader. A read is answered with the commit index of a moment after it came, once a majority has
//! confirmed, after that moment, that nobody else leads.

use std::collections::VecDeque;

use super::{Outgoing, Output, Raft};
use crate::canary::{self, Canary};
use crate::id::{Index, NodeId, RequestId, Round, Term};
use crate::message::{Body, Header, NodeState, ReadIndexReply, Refusal};
use crate::time::Instant;

/// Who asked.
#[derive(Clone, Copy, Debug)]
struct Asker {
    /// A follower, or [`NodeId::NONE`] for a user of this node.
    node: NodeId,
    request: RequestId,
}

/// Reads that share their fate.
#[derive(Debug)]
struct Batch {
    askers: Vec<Asker>,
    /// Of the oldest: then all are refused.
    deadline: Instant,
    stage: Stage,
}

/// What a batch waits for.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// A leader's: that a majority confirms `round`; then it is answered with `index`.
    Confirm { round: Round, index: Index },
    /// A follower's: that the leader answers this.
    Forwarded(RequestId),
}

/// Reads that wait.
#[derive(Debug)]
pub(super) struct Reads {
    /// Came since the last drain, or while a fresh leader cannot answer.
    fresh: Vec<Asker>,
    fresh_deadline: Instant,
    /// Oldest in front.
    batches: VecDeque<Batch>,
    /// All that wait.
    count: usize,
    /// Ids of questions to leaders: they begin at random, so that an answer to a former process is not taken for one
    /// to this.
    next_id: u64,
    answers: VecDeque<Output>,
}

impl Reads {
    pub(super) fn new(first_id: u64) -> Self {
        Self {
            fresh: Vec::new(),
            fresh_deadline: Instant::ZERO,
            batches: VecDeque::new(),
            count: 0,
            next_id: first_id,
            answers: VecDeque::new(),
        }
    }

    fn push(&mut self, asker: Asker, deadline: Instant) {
        if self.fresh.is_empty() {
            self.fresh_deadline = deadline;
        }
        self.fresh.push(asker);
        self.count += 1;
    }

    /// Ends reads, well or not.
    fn answer(&mut self, askers: Vec<Asker>, result: Result<Index, Refusal>, term: Term) {
        self.count -= askers.len();
        for Asker { node, request } in askers {
            self.answers.push_back(if node.is_some() {
                let reply = result.map_or(ReadIndexReply::Refused, ReadIndexReply::At);
                Output::Send {
                    to: node,
                    request,
                    term,
                    message: Outgoing::Other(Body::ReadIndexReply(reply)),
                }
            } else {
                Output::ReadAt { request, result }
            });
        }
    }

    /// Refuses all: whoever was to answer them is no longer the one to do it.
    pub(super) fn fail_all(&mut self, term: Term) {
        while let Some(batch) = self.batches.pop_front() {
            self.answer(batch.askers, Err(Refusal::NotLeader), term);
        }
        let fresh = std::mem::take(&mut self.fresh);
        self.answer(fresh, Err(Refusal::NotLeader), term);
    }

    /// Refuses what waited too long.
    pub(super) fn expire(&mut self, now: Instant, term: Term) {
        while self.batches.front().is_some_and(|batch| batch.deadline <= now) {
            let batch = self.batches.pop_front().expect("it was just looked at");
            self.answer(batch.askers, Err(Refusal::NotLeader), term);
        }
        if !self.fresh.is_empty() && self.fresh_deadline <= now {
            let fresh = std::mem::take(&mut self.fresh);
            self.answer(fresh, Err(Refusal::NotLeader), term);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let fresh = (!self.fresh.is_empty()).then_some(self.fresh_deadline);
        let oldest = self.batches.front().map(|batch| batch.deadline);
        fresh.into_iter().chain(oldest).min()
    }

    pub(super) fn poll_answer(&mut self) -> Option<Output> {
        self.answers.pop_front()
    }
}

impl Raft {
    pub(super) fn ask_read_index(&mut self, request: RequestId) -> Result<(), Refusal> {
        if !self.leader.is_some() {
            return Err(Refusal::NotLeader);
        }
        if self.reads.count >= self.config.reads_max {
            return Err(Refusal::Overloaded);
        }
        let asker = Asker {
            node: NodeId::NONE,
            request,
        };
        self.reads.push(asker, self.now + self.config.election_timeout.end);
        Ok(())
    }

    pub(super) fn step_read_index(&mut self, header: &Header) {
        let Header { from, request, .. } = *header;
        if header.term > self.tail.hard.term {
            self.become_follower(header.term, NodeId::NONE);
        }
        let leads = self.state == NodeState::Leader && header.term == self.tail.hard.term;
        if leads && self.reads.count < self.config.reads_max {
            let asker = Asker { node: from, request };
            self.reads.push(asker, self.now + self.config.election_timeout.end);
        } else {
            self.send_ready(from, request, Body::ReadIndexReply(ReadIndexReply::Refused));
        }
    }

    pub(super) fn step_read_index_reply(&mut self, header: &Header, reply: &ReadIndexReply) {
        if header.term > self.tail.hard.term {
            self.become_follower(header.term, NodeId::NONE);
        }
        if header.term < self.tail.hard.term || header.from != self.leader {
            return;
        }
        let is_it = |batch: &Batch| matches!(batch.stage, Stage::Forwarded(id) if id == header.request);
        let Some(at) = self.reads.batches.iter().position(is_it) else {
            return;
        };
        let batch = self.reads.batches.remove(at).expect("it was just found");
        let result = match reply {
            ReadIndexReply::At(index) => Ok(*index),
            ReadIndexReply::Refused => Err(Refusal::NotLeader),
        };
        self.reads.answer(batch.askers, result, self.tail.hard.term);
    }

    /// Sends the reads that came since the last drain on their way.
    pub(super) fn start_reads(&mut self) {
        if self.reads.fresh.is_empty() {
            return;
        }
        let term = self.tail.hard.term;
        let stage = if self.state == NodeState::Leader {
            if !self.has_committed_in_term() && !canary::is(Canary::ReadBeforeNoop) {
                return;
            }
            if self.is_sole() || canary::is(Canary::ReadWithoutRound) {
                let fresh = std::mem::take(&mut self.reads.fresh);
                self.reads.answer(fresh, Ok(self.commit), term);
                return;
            }
            self.begin_round();
            Stage::Confirm {
                round: self.round,
                index: self.commit,
            }
        } else if self.leader.is_some() {
            let id = RequestId(self.reads.next_id);
            self.reads.next_id += 1;
            self.send_ready(self.leader, id, Body::ReadIndex);
            Stage::Forwarded(id)
        } else {
            let fresh = std::mem::take(&mut self.reads.fresh);
            self.reads.answer(fresh, Err(Refusal::NotLeader), term);
            return;
        };
        let batch = Batch {
            askers: std::mem::take(&mut self.reads.fresh),
            deadline: self.reads.fresh_deadline,
            stage,
        };
        self.reads.batches.push_back(batch);
    }

    /// Answers the reads whose round a majority has confirmed.
    pub(super) fn confirm_reads(&mut self) {
        if self.reads.batches.is_empty() {
            return;
        }
        let confirmed = self.quorum().reached(|voter| match self.peer(voter) {
            Some(peer) => self.progress[peer].round_seen,
            None => Round(u64::MAX),
        });
        let confirmed = confirmed.unwrap_or_default();
        while let Some(batch) = self.reads.batches.front() {
            let Stage::Confirm { round, index } = batch.stage else {
                break;
            };
            if round > confirmed {
                break;
            }
            let batch = self.reads.batches.pop_front().expect("it was just looked at");
            self.reads.answer(batch.askers, Ok(index), self.tail.hard.term);
        }
    }
}
