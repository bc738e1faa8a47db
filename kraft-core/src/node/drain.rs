//! What follows from what was taken in: Raft's outputs, answers, dials, closes.

use std::ops::Range;

use bytes::Bytes;

use super::conns::{Conn, Source, Stage};
use super::handle::{Call, Outcome as Owned};
use super::requests::{Origin, ReadGroup};
use super::{Host, Notice, Place, Port, READ_WAIT_MAX, SWEEP_INTERVAL, Task};
use crate::adapter::{Adapter, CloseReason, Endpoint};
use crate::handshake::{Handshake, Rejection};
use crate::id::{ConnId, Incarnation, Index, NodeId, RequestId, Sequence, SessionId, Term};
use crate::link::CloseMode;
use crate::log::Log;
use crate::machine::{self, StateMachine};
use crate::message::{Body, Command, GoawayReason, Message, Outcome, Refusal, Refused};
use crate::peers::Step;
use crate::protocol::{EncodeError, Protocol};
use crate::raft::{Outgoing, Output};
use crate::storage::Storage;
use crate::time::Instant;

impl<S: Storage, M: StateMachine> Host<S, M> {
    /// Takes what handles asked for into the turn's batch.
    pub(super) fn take_calls(&mut self, now: Instant) {
        let mut calls = std::mem::take(&mut self.calls);
        if self.queue.take(&mut calls) && self.stopping.is_none() {
            self.stopping = Some(now);
        }
        for call in calls.drain(..) {
            match call {
                Call::Status(completion) => completion.end(Some(self.raft.status())),
                Call::Read(query, completion) => {
                    self.counters.reads += 1;
                    if self.is_full_for(&query) {
                        completion.end(self.refusal(Refusal::Overloaded, String::new()));
                    } else {
                        self.requests.reads.push(&query, Origin::Local(completion));
                    }
                }
                Call::Propose(command, completion) => {
                    self.counters.commands += 1;
                    match self.judge(&command) {
                        Some(refusal) => completion.end(refusal),
                        None => self
                            .requests
                            .batch
                            .command(&sessionless(&command), Origin::Local(completion)),
                    }
                }
            }
        }
        self.calls = calls;
    }

    /// Whether this query is one too many.
    pub(super) fn is_full_for(&self, query: &[u8]) -> bool {
        let bytes = self.requests.queries_bytes() + query.len();
        self.requests.waiting() >= self.config.requests_max || bytes > self.config.queries_bytes_max
    }

    fn judge(&self, command: &Bytes) -> Option<Owned> {
        if self.stopping.is_some() {
            return Some(self.refusal(Refusal::Stopping, String::new()));
        }
        if !self.leads() {
            return Some(self.refusal(Refusal::NotLeader, String::new()));
        }
        if self.requests.waiting() >= self.config.requests_max {
            return Some(self.refusal(Refusal::Overloaded, String::new()));
        }
        let refused = self.check(command).err()?;
        Some(self.refusal(refused.why, refused.detail))
    }

    /// Whether a command may be proposed: it fits a frame to a follower, and the machine takes it.
    pub(super) fn check(&self, command: &[u8]) -> Result<(), machine::Refused> {
        let command_bytes_max = self.config.command_bytes_max();
        if command.len() <= command_bytes_max {
            return self.machine.check(command);
        }
        let detail = format!(
            "a command of {} bytes is above {command_bytes_max}, what frame_max ({}) leaves for one",
            command.len(),
            self.config.limits.frame_max
        );
        Err(machine::Refused {
            why: Refusal::TooLarge,
            detail,
        })
    }

    fn refusal(&self, why: Refusal, detail: String) -> Owned {
        Owned::Refused {
            why,
            leader: self.place.leader,
            detail,
        }
    }

    /// Tells an operator once that the log is short of room, and once that it has a message's worth more again.
    fn tell_room(&mut self, is_short: bool) {
        let bytes = self.room;
        let margin = self.config.raft.append_bytes_max as u64;
        match self.short_at {
            None if is_short => self.short_at = Some(bytes),
            Some(short_at) if !is_short && bytes > short_at.saturating_add(margin) => self.short_at = None,
            _ => return,
        }
        (self.observer)(Notice::Room { is_short, bytes });
    }

    /// Proposes the turn's batch: one append, whatever it holds.
    pub(super) fn propose<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        let room = self.storage.room();
        if room != self.room {
            self.room = room;
            self.raft.room(room, now);
        }
        // A follower takes a message whole or not at all.
        if room < self.config.raft.append_bytes_max as u64 {
            self.tell_room(true);
        } else if self.short_at.is_some() {
            self.tell_room(false);
        }
        if self.requests.batch.is_empty() {
            return;
        }
        let bytes = self.requests.batch.bytes();
        let proposed = self
            .raft
            .propose(&mut self.requests.batch.take(), bytes, now, &mut self.log);
        match proposed {
            Ok(range) => self.requests.proposed(range),
            Err(why) => {
                if why == Refusal::NoSpace {
                    self.tell_room(true);
                }
                let header = self.header(RequestId(0));
                let refused = Outcome::Refused(Refused {
                    why,
                    leader: self.place.leader,
                    detail: "",
                });
                // Raft may have taken none of the proposals out of the batch.
                self.requests.batch.take().for_each(drop);
                for origin in self.requests.batch.take_origins() {
                    self.conns
                        .answer(adapter, protocol, header, origin, refused, &mut self.counters);
                }
            }
        }
    }

    /// Asks Raft once for all reads of the turn.
    pub(super) fn ask_reads<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        if self.requests.reads.is_empty() {
            return;
        }
        let request = self.next_read;
        self.next_read.0 += 1;
        self.requests.asked(request, now);
        if let Err(why) = self.raft.read(request, now) {
            self.refuse_reads(adapter, protocol, request, why);
        }
    }

    fn refuse_reads<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        request: RequestId,
        why: Refusal,
    ) {
        if let Some(group) = self.requests.read_refused(request) {
            self.refuse_group(adapter, protocol, group, why);
        }
    }

    fn refuse_group<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        mut group: ReadGroup,
        why: Refusal,
    ) {
        let header = self.header(RequestId(0));
        let refused = Outcome::Refused(Refused {
            why,
            leader: self.place.leader,
            detail: "",
        });
        group.drain(|_, origin| {
            self.conns
                .answer(adapter, protocol, header, origin, refused, &mut self.counters)
        });
        self.requests.recycle(group);
    }

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
                Output::Role { state, term, leader } => {
                    self.role(adapter, protocol, Place { state, term, leader });
                }
            }
        }
        let applied = self.applied_unsaid.unwrap_or_else(|| self.raft.status().applied);
        while let Some(group) = self.requests.next_ready(applied) {
            self.answer_reads(adapter, protocol, group);
        }
        for id in std::mem::take(&mut self.conns.dropped) {
            (self.observer)(Notice::SlowReader { conn: id });
        }
    }

    /// Requests leave on the connection that we dialled, replies on the one that the peer dialled.
    fn send<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        to: NodeId,
        request: RequestId,
        term: Term,
        message: &Outgoing,
    ) {
        let body = message.body(&self.log);
        let header = crate::message::Header {
            term,
            ..self.header(request)
        };
        let Some(peer) = self.peers.get(to) else { return };
        let id = if is_reply(&body) { peer.accepted } else { peer.dialled };
        // Without a connection the message is lost, as on any network; Raft was told when it broke.
        let Some(id) = id else { return };
        let (Some(conn), Some(link)) = (self.conns.get(id), adapter.link(id)) else {
            return;
        };
        match conn.send(protocol, &Message { header, body }, link) {
            Ok(()) => {}
            // The outbox holds more than what may be in flight: the peer does not read. Dialled again, it starts anew.
            Err(EncodeError::Full | EncodeError::TooLarge) => link.close(CloseMode::Now),
        }
    }

    fn apply<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, range: Range<Index>) {
        let header = self.header(RequestId(0));
        let entries = self.log.entries(range.clone());
        for (at, entry) in entries.iter().enumerate() {
            let index = Index(range.start.0 + at as u64);
            self.reply.clear();
            let applied = self
                .sessions
                .apply(index, entry.kind, entry.payload, &mut self.machine, &mut self.reply);
            self.counters.applied += 1;
            let Some(origin) = self.requests.applied(index) else {
                continue;
            };
            // Nobody proposes entries of the cluster's own.
            let outcome = applied.outcome(&self.reply).unwrap_or(Outcome::Unknown);
            self.conns
                .answer(adapter, protocol, header, origin, outcome, &mut self.counters);
        }
    }

    fn answer_reads<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, mut group: ReadGroup) {
        let header = self.header(RequestId(0));
        group.drain(|query, origin| {
            self.reply.clear();
            let read = self.machine.read(query, &mut self.reply);
            let outcome = match &read {
                Ok(()) => Outcome::Committed(&self.reply),
                Err(refused) => Outcome::Refused(Refused {
                    why: refused.why,
                    leader: self.place.leader,
                    detail: &refused.detail,
                }),
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
            for (_, origin) in self.requests.take_pending() {
                self.conns
                    .answer(adapter, protocol, header, origin, Outcome::Unknown, &mut self.counters);
            }
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

    /// Dials, closes, and looks over the connections.
    pub(super) fn keep_conns<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        for (id, rejection) in std::mem::take(&mut self.to_close) {
            if let Some((mut conn, link)) = self.conns.take_live(adapter, id) {
                self.reject(protocol, now, &mut conn, link, &rejection);
                self.conns.put_back(conn);
            }
        }
        if std::mem::take(&mut self.has_accepted) {
            self.evict_oldest_strangers(adapter);
        }
        if self.stopping.is_none() {
            for (node, step) in std::mem::take(&mut self.to_connect) {
                self.dial(adapter, node, step, now);
            }
            while let Some((node, step)) = self.peers.due(now) {
                self.dial(adapter, node, step, now);
            }
        }
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP_INTERVAL;
            self.sweep(adapter, protocol, now);
            self.end_late_reads(adapter, protocol, now);
        }
    }

    /// Connections that say nothing, or that were turned away and do not close, must not keep out those that would say
    /// hello. They get no goodbye: it would keep their place until they close.
    fn evict_oldest_strangers<A: Adapter>(&mut self, adapter: &mut A) {
        let roles = self
            .listeners
            .iter()
            .filter(|known| matches!(known.port, Port::Role(_)));
        let mut evicted = Vec::new();
        for known in roles {
            let is_stranger = |conn: &&Conn| {
                conn.listener == Some(known.listener) && matches!(conn.stage, Stage::Shaking | Stage::Mute)
            };
            let strangers = self.conns.iter().filter(is_stranger);
            let mut strangers: Vec<_> = strangers.map(|conn| (conn.handshake.deadline(), conn.id)).collect();
            let excess = strangers.len().saturating_sub(known.strangers_max);
            strangers.sort_by_key(|(deadline, _)| *deadline);
            evicted.extend(strangers[..excess].iter().map(|(_, id)| (*id, known.strangers_max)));
        }
        for (id, strangers_max) in evicted {
            let (Some(conn), Some(link)) = (self.conns.get_mut(id), adapter.link(id)) else {
                continue;
            };
            link.close(CloseMode::Now);
            if !matches!(std::mem::replace(&mut conn.stage, Stage::Mute), Stage::Mute) {
                self.counters.turned_away += 1;
                let detail = format!("more than {strangers_max} connections have not said hello");
                (self.observer)(Notice::TurnedAway {
                    from: conn.from(),
                    reason: GoawayReason::TooMany,
                    detail: &detail,
                });
            }
        }
    }

    fn dial<A: Adapter>(&mut self, adapter: &mut A, node: NodeId, step: Step, now: Instant) {
        match step {
            Step::Resolve(name) => self.tasks.push_back(Task::Resolve { node, name }),
            Step::Connect(endpoint, rest) => self.connect(adapter, node, endpoint, rest, now),
        }
    }

    fn connect<A: Adapter>(
        &mut self,
        adapter: &mut A,
        node: NodeId,
        mut endpoint: Endpoint,
        mut rest: Vec<Endpoint>,
        now: Instant,
    ) {
        loop {
            match adapter.connect(&endpoint) {
                Ok(id) => {
                    self.peers.connecting(node, id, rest);
                    let handshake = Handshake::dial(node, 0, now);
                    let conn = Conn::new(id, Source::Dialled(node), Stage::Connecting, handshake);
                    return self.conns.insert(conn);
                }
                // A family that this system lacks, say: the name's next address may be of another.
                Err(_) if !rest.is_empty() => endpoint = rest.remove(0),
                Err(error) => {
                    self.peers.failed(node, now);
                    if self.peers.failed_first(node) {
                        let address = self.peers.get(node).map_or("", |peer| peer.address.as_str());
                        let reason = CloseReason::Failed(error.kind());
                        (self.observer)(Notice::DialFailed { node, address, reason });
                    }
                    return;
                }
            }
        }
    }

    /// Ends reads that may be answered from an index on that does not come.
    fn end_late_reads<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        let Some(time) = now.as_nanos().checked_sub(READ_WAIT_MAX.as_nanos() as u64) else {
            return;
        };
        while let Some(group) = self.requests.next_late(Instant::from_nanos(time)) {
            self.refuse_group(adapter, protocol, group, Refusal::NotLeader);
        }
    }

    /// Ends what takes too long: hellos, frames, clients that do not read.
    fn sweep<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        let mut late: Vec<(ConnId, Rejection)> = Vec::new();
        let mut stalled = Vec::new();
        let mut old = Vec::new();
        for conn in self.conns.iter() {
            let slow = |what: &str| Rejection {
                reason: GoawayReason::TooSlow,
                detail: what.to_owned(),
            };
            if matches!(conn.stage, Stage::Shaking) {
                late.extend(conn.handshake.expire(now).map(|rejection| (conn.id, rejection)));
            } else if conn.is_frame_late(self.config.frame_timeout, now) {
                late.push((conn.id, slow("a frame was begun and not ended in time")));
            } else if conn
                .stalled_since
                .is_some_and(|since| now >= since + self.config.client_stall_max)
            {
                stalled.push(conn.id);
            } else if conn.expires_at.is_some_and(|at| now >= at) {
                old.push(conn.id);
            }
        }
        for id in old {
            if let Some(link) = adapter.link(id) {
                link.close(CloseMode::Now);
            }
        }
        for (id, rejection) in late {
            if let Some((mut conn, link)) = self.conns.take_live(adapter, id) {
                self.reject(protocol, now, &mut conn, link, &rejection);
                self.conns.put_back(conn);
            }
        }
        for id in stalled {
            if let (Some(conn), Some(link)) = (self.conns.get_mut(id), adapter.link(id)) {
                conn.stage = Stage::Mute;
                link.close(CloseMode::Now);
                self.counters.slow_readers += 1;
                (self.observer)(Notice::SlowReader { conn: id });
            }
        }
    }

    /// A peer's incarnation is on disk: connections that waited for it open, unless they claimed another.
    pub(super) fn remembered<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        node: NodeId,
        incarnation: Incarnation,
        now: Instant,
    ) {
        self.peers.remembered(node, incarnation);
        (self.observer)(Notice::PeerKnown { node, incarnation });
        let held = |conn: &&Conn| matches!(&conn.stage, Stage::Held(established, _) if established.node == node);
        let waiting: Vec<_> = self.conns.iter().filter(held).map(|conn| conn.id).collect();
        for id in waiting {
            let Some((mut conn, link)) = self.conns.take_live(adapter, id) else {
                continue;
            };
            if let Stage::Held(established, welcome) = std::mem::replace(&mut conn.stage, Stage::Mute) {
                if established.incarnation == incarnation {
                    link.resume();
                    self.open(protocol, now, &mut conn, link, established, welcome);
                } else {
                    let detail = format!(
                        "node {node} is known as incarnation {incarnation}, this is {}: it must join as a new node",
                        established.incarnation
                    );
                    let reason = GoawayReason::WrongIncarnation;
                    self.reject(protocol, now, &mut conn, link, &Rejection { reason, detail });
                }
            }
            self.conns.put_back(conn);
        }
    }

    /// Takes leave: no new connections, goodbye to the ones there are, an outcome for whoever waits.
    pub(super) fn stop_if_asked<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        if self.stopping != Some(now) || self.listeners.is_empty() {
            return;
        }
        for known in std::mem::take(&mut self.listeners) {
            adapter.unlisten(known.listener);
        }
        let header = self.header(RequestId(0));
        for (_, origin) in self.requests.take_pending() {
            self.conns
                .answer(adapter, protocol, header, origin, Outcome::Unknown, &mut self.counters);
        }
        let ids: Vec<_> = self.conns.iter().map(|conn| conn.id).collect();
        let goodbye = Rejection {
            reason: GoawayReason::Stopping,
            detail: "the node is going down".to_owned(),
        };
        for id in ids {
            if let Some((mut conn, link)) = self.conns.take_live(adapter, id) {
                self.turn_away(protocol, now, &mut conn, link, &goodbye);
                self.conns.put_back(conn);
            }
        }
    }
}

fn sessionless(command: &[u8]) -> Command<'_> {
    Command {
        session: SessionId(0),
        sequence: Sequence(0),
        first_unanswered: Sequence(0),
        command,
    }
}

fn is_reply(body: &Body<'_>) -> bool {
    matches!(
        body,
        Body::AppendReply(_) | Body::HeartbeatReply(_) | Body::VoteReply(_) | Body::ReadIndexReply(_)
    )
}
