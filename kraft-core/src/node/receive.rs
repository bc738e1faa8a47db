//! What the adapter reports, taken in.

use std::ops::ControlFlow;

use super::conns::{Answer, Conn, Source, Stage};
use super::requests::{Asked, Origin};
use super::service::View;
use super::{Host, Notice, Port};
use crate::adapter::{CloseReason, Endpoint, Event};
use crate::handshake::{Established, Handshake, Kind, Rejection, Step};
use crate::id::{ConnId, ListenerId, NodeId};
use crate::inbox::{Budget, InboxError};
use crate::link::{CloseMode, Link};
use crate::machine::StateMachine;
use crate::message::{Body, Command, GoawayReason, Message, Outcome, Refusal, Refused, Role};
use crate::protocol::Protocol;
use crate::storage::Storage;
use crate::time::Instant;

use super::Task;

/// Of a peer's frames only appends come to so many bytes, and only leaders send those. A part of a smaller one says
/// nothing: a node that leads no more asks for votes and answers reads too.
const BIG_FRAME_BYTES: usize = 256;

/// What is lent, besides a connection itself, to deal with what arrived on it.
pub(super) struct Lent<'a, P> {
    pub(super) protocol: &'a P,
    pub(super) now: Instant,
    pub(super) link: &'a mut Link,
}

impl<S: Storage, M: StateMachine> Host<S, M> {
    pub(super) fn on_event<P: Protocol>(&mut self, protocol: &P, now: Instant, event: Event<'_>) {
        match event {
            Event::Accepted {
                listener,
                conn,
                peer,
                link,
            } => self.accepted(now, listener, conn, peer, link),
            Event::Connected { conn, link } => self.connected(&mut Lent { protocol, now, link }, conn),
            Event::Received { conn, bytes, link } => self.received(&mut Lent { protocol, now, link }, conn, bytes),
            Event::Drained { conn: id, link } => {
                let header = self.header(crate::id::RequestId(0));
                let limits = self.conns.limits;
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.drained(protocol, header, link, &limits, now);
                }
            }
            Event::Ended { conn, link } => self.ended(conn, link),
            Event::Closed { conn, reason } => self.closed(now, conn, reason),
            // Wakes only end the wait: calls and completions are looked for in every turn. The node starts no timers
            // and no marks of its own.
            _ => {}
        }
    }

    fn accepted(&mut self, now: Instant, listener: ListenerId, id: ConnId, from: Endpoint, link: &mut Link) {
        let found = self.listeners.iter().find(|known| known.listener == listener);
        let port = found.map(|known| known.port);
        let (role, source, stage) = match port {
            Some(Port::Role(role)) => (Some(role), Source::Accepted(from), Stage::Shaking),
            Some(Port::Service(service)) => (None, Source::Service(service), Stage::Mute),
            None => (None, Source::Accepted(from), Stage::Mute),
        };
        if port.is_none() || self.stopping.is_some() {
            link.close(CloseMode::Now);
        }
        let mut handshake = Handshake::accept(role, now);
        if let Some(proof) = link.proof() {
            handshake
                .require(proof, &self.identity)
                .expect("who dialled is asked for its id by hello alone");
        }
        let mut conn = Conn::new(id, source, stage, handshake);
        conn.listener = Some(listener);
        if let Some(Port::Service(service)) = port {
            let age_max = self.services.get(service).and_then(|service| service.age_max());
            conn.expires_at = age_max.map(|age| now + age);
        }
        self.conns.insert(conn);
        self.has_accepted = true;
    }

    fn connected<P: Protocol>(&mut self, lent: &mut Lent<'_, P>, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let Source::Dialled(node) = conn.source else { return };
        let nonce = self.peers.draw_nonce(node);
        let mut handshake = Handshake::dial(node, nonce, lent.now);
        let required = lent.link.proof().map(|proof| handshake.require(proof, &self.identity));
        if let Some(Err(rejection)) = required
            && let Some(mut conn) = self.conns.take_out(id)
        {
            self.reject(lent, &mut conn, &rejection);
            return self.conns.put_back(conn);
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.handshake = handshake;
        conn.stage = Stage::Shaking;
        let hello = conn.handshake.hello(&self.identity);
        // An outbox takes the first frame of its connection; if it were smaller than a hello, the deadline ends it.
        let _ = lent
            .protocol
            .encode(&hello, crate::handshake::FRAME_MAX_LEAST as usize, lent.link.outbox());
    }

    fn received<P: Protocol>(&mut self, lent: &mut Lent<'_, P>, id: ConnId, bytes: &[u8]) {
        let Some(mut conn) = self.conns.take_out(id) else {
            return;
        };
        match (&conn.stage, &conn.source) {
            (Stage::Mute | Stage::Connecting, Source::Service(service)) => {
                let service = *service;
                self.service_received(lent.now, service, id, bytes, lent.link);
            }
            (Stage::Mute | Stage::Connecting, _) => {}
            _ => self.feed(lent, &mut conn, bytes),
        }
        self.conns.put_back(conn);
    }

    fn service_received(&mut self, now: Instant, service: usize, id: ConnId, bytes: &[u8], link: &mut Link) {
        let Some(mut taken) = self
            .services
            .get_mut(service)
            .map(|own| std::mem::replace(own, Box::new(Absent)))
        else {
            return;
        };
        let view = View {
            status: &self.status_reply(now),
            term: self.raft.status().hard.term,
            stats: &self.stats,
            counters: &self.counters,
        };
        taken.received(id, bytes, link, &view);
        self.services[service] = taken;
    }

    fn feed<P: Protocol>(&mut self, lent: &mut Lent<'_, P>, conn: &mut Conn, bytes: &[u8]) {
        conn.hear(lent.protocol, bytes);
        let limits = *conn.handshake.limits(&self.config.limits);
        let mut inbox = std::mem::take(&mut conn.inbox);
        let mut budget = std::mem::replace(&mut self.budget, Budget::new(0));
        let fed = inbox.feed(lent.protocol, &limits, &mut budget, bytes, |message| {
            conn.frame_since = None;
            self.on_message(lent, conn, &message)
        });
        let (partial, is_big) = (inbox.pending() > 0, inbox.pending() >= BIG_FRAME_BYTES);
        self.budget = budget;
        conn.inbox = inbox;
        if let Err(error) = fed {
            return self.garbage(lent, conn, error, &limits);
        }
        // A whole frame has reset it: what is partial then began in these bytes.
        conn.frame_since = if partial {
            conn.frame_since.or(Some(lent.now))
        } else {
            None
        };
        // A big frame on a slow line is a sign of life too.
        if let Some(node) = conn.peer().filter(|_| is_big) {
            self.raft.heard(node, lent.now);
        }
    }

    fn on_message<P: Protocol>(
        &mut self,
        lent: &mut Lent<'_, P>,
        conn: &mut Conn,
        message: &Message<'_>,
    ) -> ControlFlow<()> {
        conn.frame_since = None;
        // Who waits for us to remember it has not been welcomed, and was asked for nothing.
        if matches!(conn.stage, Stage::Held(..)) && !matches!(message.body, Body::Goaway(_)) {
            let rejection = Rejection {
                reason: GoawayReason::NotAllowed,
                detail: format!(
                    "{:?} before this node has recorded who you are",
                    Kind::of(&message.body)
                ),
            };
            self.reject(lent, conn, &rejection);
            return ControlFlow::Break(());
        }
        match conn.handshake.receive(message, &self.identity, &self.peers, lent.now) {
            Step::Pass => return self.pass(lent, conn, message),
            Step::Established { established, send } => self.established(lent, conn, established, send),
            Step::Reject(rejection) => {
                self.reject(lent, conn, &rejection);
                return ControlFlow::Break(());
            }
            Step::Gone(reason) => {
                if let Body::Goaway(goaway) = &message.body {
                    let node = match conn.source {
                        Source::Dialled(node) => node,
                        _ => conn.peer().unwrap_or(NodeId::NONE),
                    };
                    (self.observer)(Notice::Goaway {
                        node,
                        reason,
                        detail: goaway.detail,
                    });
                    if let Source::Dialled(node) = conn.source {
                        self.dialled_goaway(node, reason, goaway.detail);
                    }
                }
                self.mute(conn, lent.now);
                lent.link.close(CloseMode::Flush);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn established<P: Protocol>(
        &mut self,
        lent: &mut Lent<'_, P>,
        conn: &mut Conn,
        established: Established,
        welcome: Option<Message<'static>>,
    ) {
        if !established.is_new {
            return self.open(lent, conn, established, welcome);
        }
        // Believed only once it is on disk, so that a second claim to the id is told apart for ever after.
        let (node, incarnation) = (established.node, established.incarnation);
        conn.stage = Stage::Held(established, welcome);
        lent.link.pause();
        if self.peers.begin_remembering(node, incarnation) {
            self.tasks.push_back(Task::Remember { node, incarnation });
        }
    }

    /// Messages pass from here on.
    pub(super) fn open<P: Protocol>(
        &mut self,
        lent: &mut Lent<'_, P>,
        conn: &mut Conn,
        established: Established,
        welcome: Option<Message<'static>>,
    ) {
        conn.stage = Stage::Open(established);
        if let Some(welcome) = welcome {
            // The first frame of its connection: if it does not fit, none does, and the dialler's deadline ends it.
            let _ = conn.send(lent.protocol, &welcome, lent.link);
        }
        if established.role == Role::Client {
            return;
        }
        let node = established.node;
        if let Source::Accepted(_) = conn.source {
            self.peers.admit(node, lent.now);
        }
        if let Some(peer) = self.peers.get_mut(node) {
            peer.seen = Some(established.incarnation);
        }
        if let Source::Dialled(_) = conn.source {
            let least = self.config.append_frame_max();
            if (established.frame_max as usize) < least {
                let detail = format!(
                    "node {node} takes frames of {} bytes, appends of this node may have {least}: set frame_max alike",
                    established.frame_max
                );
                let reason = GoawayReason::TooLarge;
                return self.reject(lent, conn, &Rejection { reason, detail });
            }
            if !self.peers.welcomed(node, conn.id, lent.now) {
                conn.stage = Stage::Mute;
                return lent.link.close(CloseMode::Now);
            }
            (self.observer)(Notice::PeerUp { node });
        } else if let Some(peer) = self.peers.get_mut(node) {
            peer.heard = Some(lent.now);
            peer.accepted_heard = Some(lent.now);
            let older = peer.accepted.replace(conn.id);
            if let Some(older) = older.filter(|older| *older != conn.id) {
                let detail = format!("node {node} has a newer connection");
                self.to_close.push((
                    older,
                    Rejection {
                        reason: GoawayReason::DuplicateNode,
                        detail,
                    },
                ));
            }
        }
    }

    /// An allowed message on an established connection.
    fn pass<P: Protocol>(&mut self, lent: &mut Lent<'_, P>, conn: &mut Conn, message: &Message<'_>) -> ControlFlow<()> {
        match &message.body {
            Body::Command(command) => self.on_command(lent, conn, message, Some(command)),
            Body::OpenSession => self.on_command(lent, conn, message, None),
            Body::Read(read) => {
                self.counters.reads += 1;
                if self.is_full_for(read.query) {
                    self.refuse(lent, conn, message, Asked::Read, Refusal::Overloaded, "");
                } else {
                    let origin = Origin::Client {
                        conn: conn.id,
                        request: message.header.request,
                        asked: Asked::Read,
                    };
                    self.requests.read(read.query, read.consistency, origin);
                    conn.took(lent.link, &self.conns.limits);
                }
            }
            Body::Status => {
                let body = Body::StatusReply(self.status_reply(lent.now));
                let reply = Message {
                    header: self.header(message.header.request),
                    body,
                };
                // Not worth a place in the backlog: who does not read gets no status.
                let _ = conn.send(lent.protocol, &reply, lent.link);
            }
            Body::Transfer(transfer) => self.on_transfer(lent, conn, message, transfer.to),
            Body::StatusReply(_) => {}
            Body::Change(change) => self.on_change(lent, conn, message, *change),
            Body::Fetch(fetch) => self.on_fetch(lent, conn, message, fetch),
            _ => return self.on_raft(lent, conn, message),
        }
        ControlFlow::Continue(())
    }

    fn on_raft<P: Protocol>(
        &mut self,
        lent: &mut Lent<'_, P>,
        conn: &mut Conn,
        message: &Message<'_>,
    ) -> ControlFlow<()> {
        let node = message.header.from;
        if let Some(peer) = self.peers.get_mut(node) {
            peer.heard = Some(lent.now);
            if peer.accepted == Some(conn.id) {
                peer.accepted_heard = Some(lent.now);
            }
        }
        let stepped = self.raft.step(message, lent.now, &mut self.log);
        let stepped = stepped.and_then(|()| match &message.body {
            Body::Snapshot(chunk) => self.on_snapshot(lent, conn, &message.header, chunk),
            Body::SnapshotReply(reply) => self.on_snapshot_reply(node, reply, lent.now),
            _ => Ok(()),
        });
        let Err(violation) = stepped else {
            return ControlFlow::Continue(());
        };
        self.counters.violations += 1;
        (self.observer)(Notice::Violation { node, violation });
        let detail = format!("{violation:?}");
        let reason = GoawayReason::Violation;
        self.turn_away(lent, conn, &Rejection { reason, detail });
        ControlFlow::Break(())
    }

    fn on_command<P: Protocol>(
        &mut self,
        lent: &mut Lent<'_, P>,
        conn: &mut Conn,
        message: &Message<'_>,
        command: Option<&Command<'_>>,
    ) {
        self.counters.commands += 1;
        let asked = Asked::Command;
        if let Some(why) = self.turned_down() {
            return self.refuse(lent, conn, message, asked, why, "");
        }
        let origin = Origin::Client {
            conn: conn.id,
            request: message.header.request,
            asked,
        };
        match command {
            None => self.requests.batch.open_session(origin),
            Some(command) => {
                if let Err(refused) = self.check(command.command) {
                    return self.refuse(lent, conn, message, asked, refused.why, &refused.detail);
                }
                self.requests.batch.command(command, origin);
            }
        }
        conn.took(lent.link, &self.conns.limits);
    }

    pub(super) fn refuse<P: Protocol>(
        &mut self,
        lent: &mut Lent<'_, P>,
        conn: &mut Conn,
        message: &Message<'_>,
        asked: Asked,
        why: Refusal,
        detail: &str,
    ) {
        self.counters.refused += 1;
        let outcome = Outcome::Refused(Refused {
            why,
            leader: self.place.leader,
            detail,
        });
        let answer = Answer {
            header: self.header(message.header.request),
            asked,
            outcome,
        };
        conn.in_flight += 1;
        if conn
            .answer(lent.protocol, answer, lent.link, &self.conns.limits, lent.now)
            .is_err()
        {
            self.counters.slow_readers += 1;
            self.conns.dropped.push(conn.id);
        }
    }

    /// Turns a connection away at its hello, or for a kind that it may not send.
    pub(super) fn reject<P: Protocol>(&mut self, lent: &mut Lent<'_, P>, conn: &mut Conn, rejection: &Rejection) {
        self.counters.turned_away += 1;
        let Rejection { reason, detail } = rejection;
        (self.observer)(Notice::TurnedAway {
            from: conn.from(),
            reason: *reason,
            detail,
        });
        if let Source::Dialled(node) = conn.source {
            self.dialled_rejected(node, *reason, detail);
        }
        self.turn_away(lent, conn, rejection);
    }

    fn garbage<P: Protocol>(
        &mut self,
        lent: &mut Lent<'_, P>,
        conn: &mut Conn,
        error: InboxError,
        limits: &crate::protocol::Limits,
    ) {
        self.counters.garbage += 1;
        (self.observer)(Notice::Garbage {
            from: conn.from(),
            error,
        });
        if Rejection::is_foreign(error) {
            self.mute(conn, lent.now);
            return lent.link.close(CloseMode::Flush);
        }
        let rejection = Rejection::of_bytes(error, limits, &self.identity);
        self.turn_away(lent, conn, &rejection);
    }

    /// Says goaway and closes.
    pub(super) fn turn_away<P: Protocol>(&mut self, lent: &mut Lent<'_, P>, conn: &mut Conn, rejection: &Rejection) {
        if !matches!(conn.source, Source::Service(_)) {
            let goaway = rejection.message(&self.identity);
            // The connection ends either way; a goaway that does not fit is not missed.
            let least = crate::handshake::FRAME_MAX_LEAST as usize;
            let _ = conn.encode(lent.protocol, &goaway, least, lent.link);
        }
        self.mute(conn, lent.now);
        lent.link.close(CloseMode::Flush);
    }

    /// Nothing passes any more. A peer whose connection this was may come back before its end is here.
    fn mute(&mut self, conn: &mut Conn, now: Instant) {
        if let (Source::Accepted(_), Some(node)) = (&conn.source, conn.peer())
            && let Some(peer) = self.peers.get_mut(node)
            && peer.accepted == Some(conn.id)
        {
            peer.accepted = None;
            self.raft.unreachable(node, now);
            self.peers.see_off(node);
        }
        conn.stage = Stage::Mute;
    }

    fn ended(&mut self, id: ConnId, link: &mut Link) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.ended = true;
        // A client that half-closes gets its answers first.
        if conn.has_all_answers() {
            link.close(CloseMode::Flush);
        }
    }

    fn closed(&mut self, now: Instant, id: ConnId, reason: CloseReason) {
        let Some(mut conn) = self.conns.remove(id, &mut self.budget) else {
            return;
        };
        match conn.source {
            Source::Service(service) => {
                if let Some(service) = self.services.get_mut(service) {
                    service.closed(id);
                }
            }
            Source::Dialled(node) => {
                let was_up = self.peers.get(node).is_some_and(|peer| peer.dialled == Some(id));
                if was_up {
                    (self.observer)(Notice::PeerDown { node, reason });
                    self.raft.unreachable(node, now);
                }
                match self.peers.closed(node, id, now) {
                    Some(step) => self.to_connect.push((node, step)),
                    None if self.dial_failed(node, &reason) => {}
                    None if !was_up && self.peers.failed_first(node) => {
                        let address = self.peers.get(node).map_or("", |peer| peer.address.as_str());
                        (self.observer)(Notice::DialFailed { node, address, reason });
                    }
                    None => {}
                }
            }
            Source::Accepted(_) => {
                self.snapshots_without(id);
                self.mute(&mut conn, now);
            }
        }
    }
}

/// Stands in for a service while that is called.
struct Absent;

impl super::Service for Absent {
    fn received(&mut self, _: ConnId, _: &[u8], _: &mut Link, _: &View<'_>) {}

    fn closed(&mut self, _: ConnId) {}
}
