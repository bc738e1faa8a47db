//! Raft's outputs, performed in order, and the answers that follow from them.

use std::ops::Range;

use super::requests::ReadGroup;
use super::{Host, Notice, Place, Task};
use crate::adapter::Adapter;
use crate::canary::{self, Canary};
use crate::handshake::Kind;
use crate::id::{Index, NodeId, RequestId, Term};
use crate::link::CloseMode;
use crate::log::Log;
use crate::machine::{self, StateMachine};
use crate::message::{Basis, Body, Consistency, Message, Outcome, Refusal, Refused};
use crate::protocol::{EncodeError, Protocol};
use crate::raft::{Outgoing, Output};
use crate::storage::Storage;

/// What an entry takes of a log beside its payload.
const ENTRY_BYTES: u64 = 32;

impl<S: Storage, M: StateMachine> Host<S, M> {
    /// Performs Raft's outputs, in order, until there are none, or the turn has applied enough.
    pub(super) fn drain<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P) {
        let mut budget = self.config.applied_per_turn_max;
        if let Some(through) = self.applied_unsaid.take() {
            self.raft.applied(through, &mut self.log);
        }
        while let Some(output) = self.raft.poll_output(&self.log) {
            match output {
                Output::Save(hard) => self.storage.save(hard),
                Output::Append(range) => self.storage.append(range.start, &self.log.entries(range)),
                Output::Truncate(from) => self.storage.truncate(from),
                Output::Sync(sync) => self.storage.sync(sync),
                Output::Load(range) => self.storage.load(range),
                Output::Reset { index, term } => {
                    self.storage.reset(index, term);
                    self.first = index.next();
                }
                Output::Release(through) => {
                    let base = self.storage.release(through);
                    self.first = base.next();
                    self.raft.released(base);
                }
                Output::SendSnapshot { to, .. } => self.send_snapshot(to, adapter.now()),
                Output::Restore(id) => self.restore(id),
                Output::Recovered => self.tasks.push_back(Task::ForgetDamage),
                Output::Send {
                    to,
                    request,
                    term,
                    message,
                } => {
                    self.send(adapter, protocol, to, request, term, &message);
                }
                Output::Apply(range) => {
                    let through = range.end.prev();
                    budget = budget.saturating_sub(range.end.0 - range.start.0);
                    self.apply(adapter, protocol, range);
                    if budget == 0 {
                        self.applied_unsaid = Some(through);
                    } else {
                        self.raft.applied(through, &mut self.log);
                    }
                }
                Output::ReadAt {
                    request,
                    result: Ok(index),
                } => self.requests.read_at(request, index),
                Output::ReadAt {
                    request,
                    result: Err(why),
                } => self.refuse_reads(adapter, protocol, request, why),
                Output::Members { .. } => self.follow_members(adapter, protocol),
                Output::Transferred { to, result } => self.transferred(adapter, protocol, to, result),
                Output::Role { state, term, leader } => {
                    self.role(adapter, protocol, Place { state, term, leader });
                }
            }
        }
        let applied = self.applied();
        let durable = match canary::is(Canary::LeaderAnswersUnsynced) {
            true => Index(u64::MAX),
            false => self.raft.status().durable,
        };
        self.answer_durable(adapter, protocol, durable);
        while let Some(group) = self.requests.next_ready(applied) {
            match group.leased {
                None => self.answer_reads(adapter, protocol, group),
                Some(term) => self.answer_leased(adapter, protocol, group, term),
            }
        }
        self.answer_stale(adapter, protocol);
        for id in std::mem::take(&mut self.conns.dropped) {
            (self.observer)(Notice::SlowReader { conn: id });
        }
    }

    /// Requests leave on the connection that we dialled, replies on the one that the peer dialled.
    fn send<A: Adapter, P: Protocol>(
        &self,
        adapter: &mut A,
        protocol: &P,
        to: NodeId,
        request: RequestId,
        term: Term,
        message: &Outgoing,
    ) {
        let header = crate::message::Header {
            term,
            ..self.header(request)
        };
        let body = message.body(&self.log);
        self.send_message(adapter, protocol, to, &Message { header, body });
    }

    /// The same, for what is not of Raft.
    pub(super) fn send_body<A: Adapter, P: Protocol>(
        &self,
        adapter: &mut A,
        protocol: &P,
        to: NodeId,
        request: RequestId,
        body: Body<'_>,
    ) {
        let header = self.header(request);
        self.send_message(adapter, protocol, to, &Message { header, body });
    }

    fn send_message<A: Adapter, P: Protocol>(&self, adapter: &mut A, protocol: &P, to: NodeId, message: &Message<'_>) {
        let Some(peer) = self.peers.get(to) else { return };
        let id = if Kind::of(&message.body).is_reply() {
            peer.accepted
        } else {
            peer.dialled
        };
        // Without a connection the message is lost, as on any network; Raft was told when it broke.
        let Some(id) = id else { return };
        let (Some(conn), Some(link)) = (self.conns.get(id), adapter.link(id)) else {
            return;
        };
        match conn.send(protocol, message, link) {
            Ok(()) => {}
            // The outbox holds more than what may be in flight: the peer does not read. Dialled again, it starts anew.
            Err(EncodeError::Full | EncodeError::TooLarge) => link.close(CloseMode::Now),
        }
    }

    fn apply<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, range: Range<Index>) {
        let header = self.header(RequestId(0));
        let entries = self.log.entries(range.clone());
        let mut bytes = 0;
        for (at, entry) in entries.iter().enumerate() {
            let index = Index(range.start.0 + at as u64);
            self.reply.clear();
            let applied = self
                .sessions
                .apply(index, entry.kind, entry.payload, &mut self.machine, &mut self.reply);
            self.counters.applied += 1;
            bytes += entry.payload.len() as u64;
            let Some(origin) = self.requests.applied(index) else {
                continue;
            };
            // Nobody proposes entries of the cluster's own.
            let outcome = applied.outcome(&self.reply).unwrap_or(Outcome::Unknown);
            self.conns
                .answer(adapter, protocol, header, origin, outcome, &mut self.counters);
        }
        let count = range.end.0 - range.start.0;
        self.snapshots.applied(count, bytes + count * ENTRY_BYTES);
    }

    fn answer_reads<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, mut group: ReadGroup) {
        let header = self.header(RequestId(0));
        group.drain(|query, origin| {
            self.reply.clear();
            let read = self.machine.read(query, &mut self.reply);
            let outcome = outcome(&read, None, &self.reply, self.place.leader);
            self.conns
                .answer(adapter, protocol, header, origin, outcome, &mut self.counters);
        });
        self.requests.recycle(group);
    }

    /// Answers whoever waits for the own disk alone. What is left of them was proposed in this term of office: the
    /// others were answered when the former one ended.
    fn answer_durable<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, durable: Index) {
        let header = self.header(RequestId(0));
        let outcome = Outcome::Weaker {
            basis: Basis::Leader,
            answer: b"",
        };
        while let Some(origin) = self.requests.next_durable(durable) {
            self.conns
                .answer(adapter, protocol, header, origin, outcome, &mut self.counters);
        }
    }

    /// Answers by lease, each by a look at a clock that follows the look at the state. Those for which it was too late
    /// are asked for like others, in the next turn.
    fn answer_leased<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        mut group: ReadGroup,
        term: Term,
    ) {
        let header = self.header(RequestId(0));
        group.drain(|query, origin| {
            self.reply.clear();
            let read = self.machine.read(query, &mut self.reply);
            let leased = adapter.read_clock().and_then(|clock| self.raft.leased(clock));
            if leased.is_none_or(|(now, _)| now != term) {
                return self.requests.reads.push(query, origin);
            }
            let outcome = outcome(&read, Some(Basis::Lease), &self.reply, self.place.leader);
            self.conns
                .answer(adapter, protocol, header, origin, outcome, &mut self.counters);
        });
        self.requests.recycle(group);
    }

    /// Answers from what is applied, and says how old that may be.
    fn answer_stale<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P) {
        let header = self.header(RequestId(0));
        let (mut group, ages_max) = self.requests.take_stale();
        let mut ages_max = ages_max.into_iter();
        group.drain(|query, origin| {
            self.reply.clear();
            let read = self.machine.read(query, &mut self.reply);
            let now = adapter.read_clock().unwrap_or_else(|| adapter.now());
            let age_ms = self.raft.age(now).map_or(u64::MAX, |age| {
                u64::try_from(age.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
            });
            let age_max_ms = ages_max.next().unwrap_or_default();
            let basis = Basis::Stale { age_ms };
            let detail;
            let outcome = if (Consistency::Stale { age_max_ms }).takes(basis) {
                outcome(&read, Some(basis), &self.reply, self.place.leader)
            } else {
                detail = match age_ms {
                    u64::MAX => "this node has not known itself up to date with a leader since it started".to_owned(),
                    _ => format!("this node last knew itself up to date {age_ms} ms ago, {age_max_ms} ms are allowed"),
                };
                Outcome::Refused(Refused {
                    why: Refusal::TooStale,
                    leader: self.place.leader,
                    detail: &detail,
                })
            };
            self.conns
                .answer(adapter, protocol, header, origin, outcome, &mut self.counters);
        });
        self.requests.recycle(group);
    }

    fn role<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, place: Place) {
        let (led, before) = (self.leads(), self.place.term);
        self.place = place;
        let Place { state, term, leader } = place;
        (self.observer)(Notice::Role { state, term, leader });
        if self.leads() && (!led || term != before) {
            self.counters.elections_won += 1;
        }
        // Changes within a turn are told as one: a leader of a later term lost its leadership in between.
        if led && (!self.leads() || term != before) {
            let header = self.header(RequestId(0));
            for origin in self.requests.take_pending() {
                self.conns
                    .answer(adapter, protocol, header, origin, Outcome::Unknown, &mut self.counters);
            }
        }
        if led && (!self.leads() || term != before) {
            self.lose_change(adapter, protocol);
        }
        // The leader that said from which index on these reads may be answered is gone, and did not say that so much
        // is committed. The next one may be long in coming; whoever reads can ask again.
        if !leader.is_some() {
            let commit = self.raft.status().commit;
            while let Some(group) = self.requests.next_beyond(commit) {
                self.refuse_group(adapter, protocol, group, Refusal::NotLeader);
            }
        }
    }
}

/// What a read came to: by less than linearizability if there is a `basis`.
fn outcome<'a>(
    read: &'a Result<(), machine::Refused>,
    basis: Option<Basis>,
    answer: &'a [u8],
    leader: NodeId,
) -> Outcome<'a> {
    match (read, basis) {
        (Ok(()), None) => Outcome::Committed(answer),
        (Ok(()), Some(basis)) => Outcome::Weaker { basis, answer },
        (Err(refused), _) => Outcome::Refused(Refused {
            why: refused.why,
            leader,
            detail: &refused.detail,
        }),
    }
}
