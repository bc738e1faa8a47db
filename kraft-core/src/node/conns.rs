//! The connections of a node, and what arrives on them.

use std::collections::VecDeque;
use std::time::Duration;

use super::handle;
use super::requests::{Asked, Origin};
use super::service::Counters;
use crate::adapter::{Adapter, Endpoint};
use crate::handshake::{Established, Handshake};
use crate::id::{ConnId, ListenerId, NodeId, RequestId};
use crate::inbox::{Budget, Inbox};
use crate::link::{CloseMode, Link};
use crate::message::{Body, Header, Message, Outcome, Refusal, Refused, Role};
use crate::protocol::{DIALECT_BYTES, Dialect, EncodeError, Protocol};
use crate::time::Instant;

/// Where a connection came from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// We dialled this peer.
    Dialled(NodeId),
    /// A listener accepted it.
    Accepted(Endpoint),
    /// A service's listener accepted it.
    Service(usize),
}

/// How far a connection got.
#[derive(Debug)]
pub(super) enum Stage {
    /// A dialled one that the adapter has not connected yet.
    Connecting,
    /// The handshake is under way.
    Shaking,
    /// The handshake is through, and waits until the peer's new incarnation is on disk. An accepted one then sends
    /// this welcome.
    Held(Established, Option<Message<'static>>),
    /// Messages pass.
    Open(Established),
    /// It was turned away, or serves something else: what arrives is not decoded.
    Mute,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) source: Source,
    /// Which listener accepted it.
    pub(super) listener: Option<ListenerId>,
    pub(super) stage: Stage,
    pub(super) handshake: Handshake,
    pub(super) inbox: Inbox,
    /// The first bytes of a connection that was accepted, until they tell in which format it is answered.
    opening: Vec<u8>,
    dialect: Option<Dialect>,
    /// Since when a frame is incomplete.
    pub(super) frame_since: Option<Instant>,
    /// When a service's connection has lasted long enough.
    pub(super) expires_at: Option<Instant>,
    /// Requests of a client that are not answered.
    pub(super) in_flight: usize,
    /// The client has said all that it will.
    pub(super) ended: bool,
    /// Answers that the outbox did not take, and since when.
    backlog: VecDeque<(RequestId, Asked, handle::Outcome)>,
    backlog_bytes: usize,
    pub(super) stalled_since: Option<Instant>,
    paused: bool,
}

impl Conn {
    pub(super) fn new(id: ConnId, source: Source, stage: Stage, handshake: Handshake) -> Self {
        Self {
            id,
            source,
            listener: None,
            stage,
            handshake,
            inbox: Inbox::default(),
            opening: Vec::new(),
            dialect: None,
            frame_since: None,
            expires_at: None,
            in_flight: 0,
            ended: false,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            stalled_since: None,
            paused: false,
        }
    }

    /// Whether a frame was begun so long ago that its rest is overdue. What we do not read is not late.
    pub(super) fn is_frame_late(&self, frame_timeout: Duration, now: Instant) -> bool {
        !self.paused && self.frame_since.is_some_and(|since| now >= since + frame_timeout)
    }

    /// The peer at the other end, once messages pass.
    pub(super) fn peer(&self) -> Option<NodeId> {
        match &self.stage {
            Stage::Open(established) if established.role == Role::Peer => Some(established.node),
            _ => None,
        }
    }

    /// Where it came from, for the operator.
    pub(super) fn from(&self) -> Option<&Endpoint> {
        match &self.source {
            Source::Accepted(endpoint) => Some(endpoint),
            Source::Dialled(_) | Source::Service(_) => None,
        }
    }

    /// Bytes came. The first ones of a connection that was accepted say in which of the protocol's formats it speaks; one
    /// that was dialled is answered in ours.
    pub(super) fn hear<P: Protocol + ?Sized>(&mut self, protocol: &P, bytes: &[u8]) {
        if self.dialect.is_some() || self.opening.len() >= DIALECT_BYTES || !matches!(self.source, Source::Accepted(_))
        {
            return;
        }
        let count = bytes.len().min(DIALECT_BYTES - self.opening.len());
        self.opening.extend_from_slice(&bytes[..count]);
        self.dialect = protocol.dialect(&self.opening);
    }

    /// Encodes `message` in the format that the connection speaks, in a frame of `frame_max` bytes at most.
    pub(super) fn encode<P: Protocol + ?Sized>(
        &self,
        protocol: &P,
        message: &Message<'_>,
        frame_max: usize,
        link: &mut Link,
    ) -> Result<(), EncodeError> {
        protocol.encode_in(self.dialect, message, frame_max, link.outbox())
    }

    /// Encodes `message` if messages pass.
    pub(super) fn send<P: Protocol + ?Sized>(
        &self,
        protocol: &P,
        message: &Message<'_>,
        link: &mut Link,
    ) -> Result<(), EncodeError> {
        match &self.stage {
            Stage::Open(established) => self.encode(protocol, message, established.frame_max as usize, link),
            _ => Ok(()),
        }
    }

    /// A request was taken; its answer comes later.
    pub(super) fn took(&mut self, link: &mut Link, limits: &ConnLimits) {
        self.in_flight += 1;
        if self.in_flight >= limits.in_flight_max && !self.paused {
            self.paused = true;
            link.pause();
        }
    }

    /// Answers a request of this client.
    ///
    /// What the outbox does not take waits in order, up to a bound; the client gets no more attention until it has
    /// read that. Past the bound it is dropped, and hears nothing: its requests are unknown to it.
    pub(super) fn answer<P: Protocol + ?Sized>(
        &mut self,
        protocol: &P,
        answer: Answer<'_>,
        link: &mut Link,
        limits: &ConnLimits,
        now: Instant,
    ) -> Result<(), SlowReader> {
        self.in_flight = self.in_flight.saturating_sub(1);
        // It was dropped or turned away, and its end is not here so far.
        if matches!(self.stage, Stage::Mute) {
            return Ok(());
        }
        if self.backlog.is_empty() && self.put(protocol, answer, link).is_ok() {
            self.rest(link, limits, now);
            return Ok(());
        }
        let owned = handle::Outcome::from(answer.outcome);
        self.backlog_bytes += owned.bytes();
        self.backlog.push_back((answer.header.request, answer.asked, owned));
        self.stalled_since.get_or_insert(now);
        if self.backlog_bytes > limits.backlog_bytes_max || self.backlog.len() > limits.backlog_max {
            self.stage = Stage::Mute;
            self.backlog = VecDeque::new();
            link.close(CloseMode::Now);
            return Err(SlowReader);
        }
        if !self.paused {
            self.paused = true;
            link.pause();
        }
        Ok(())
    }

    /// The outbox has room again.
    pub(super) fn drained<P: Protocol + ?Sized>(
        &mut self,
        protocol: &P,
        header: Header,
        link: &mut Link,
        limits: &ConnLimits,
        now: Instant,
    ) {
        while let Some((request, asked, outcome)) = self.backlog.pop_front() {
            let bytes = outcome.bytes();
            let answer = Answer {
                header: Header { request, ..header },
                asked,
                outcome: outcome.lend(),
            };
            if self.put(protocol, answer, link).is_err() {
                self.backlog.push_front((request, asked, outcome));
                return;
            }
            self.backlog_bytes -= bytes;
            // It reads, however slowly.
            self.stalled_since = Some(now);
        }
        self.stalled_since = None;
        self.rest(link, limits, now);
    }

    fn put<P: Protocol + ?Sized>(&self, protocol: &P, answer: Answer<'_>, link: &mut Link) -> Result<(), EncodeError> {
        let Answer { header, asked, outcome } = answer;
        let sent = self.send(
            protocol,
            &Message {
                header,
                body: Body::Reply(outcome),
            },
            link,
        );
        if sent != Err(EncodeError::TooLarge) {
            return sent;
        }
        let told = match asked {
            Asked::Read => Outcome::Refused(Refused {
                why: Refusal::TooLarge,
                leader: NodeId::NONE,
                detail: "the answer is above the frame_max of this connection: ask for less",
            }),
            // It happened, and what came of it cannot be told.
            Asked::Command => Outcome::Unknown,
        };
        self.send(
            protocol,
            &Message {
                header,
                body: Body::Reply(told),
            },
            link,
        )
    }

    /// A request was answered by a message of its own kind, which the outbox took.
    pub(super) fn answered(&mut self, link: &mut Link, limits: &ConnLimits, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.rest(link, limits, now);
    }

    /// After an answer: reads on if that had stopped, and closes if the client ended and has all its answers.
    fn rest(&mut self, link: &mut Link, limits: &ConnLimits, now: Instant) {
        if self.paused && self.backlog.is_empty() && self.in_flight <= limits.in_flight_max / 2 {
            self.paused = false;
            link.resume();
            // The rest of a frame was not read meanwhile: it has its time from here on.
            self.frame_since = self.frame_since.map(|_| now);
        }
        if self.ended && self.has_all_answers() {
            link.close(CloseMode::Flush);
        }
    }

    /// Whether every request of this client is answered, and the outbox took the answers.
    pub(super) fn has_all_answers(&self) -> bool {
        self.in_flight == 0 && self.backlog.is_empty()
    }
}

/// An answer to a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'a> {
    /// Names the request.
    pub(super) header: Header,
    pub(super) asked: Asked,
    pub(super) outcome: Outcome<'a>,
}

/// A client that lets its answers lie.
#[derive(Debug)]
pub(super) struct SlowReader;

/// Bounds of each client's connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnLimits {
    pub(super) in_flight_max: usize,
    pub(super) backlog_max: usize,
    pub(super) backlog_bytes_max: usize,
}

/// All connections, by slot.
#[derive(Debug)]
pub(super) struct Conns {
    slots: Vec<Option<Box<Conn>>>,
    live: usize,
    pub(super) limits: ConnLimits,
    /// Clients that were dropped since they did not read, for the operator.
    pub(super) dropped: Vec<ConnId>,
}

impl Conns {
    pub(super) fn new(limits: ConnLimits) -> Self {
        Self {
            slots: Vec::new(),
            live: 0,
            limits,
            dropped: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    pub(super) fn insert(&mut self, conn: Conn) {
        let slot = conn.id.slot();
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        assert!(self.slots[slot].is_none(), "an adapter gave a slot twice (law A5)");
        self.slots[slot] = Some(Box::new(conn));
        self.live += 1;
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.slots
            .get_mut(id.slot())?
            .as_deref_mut()
            .filter(|conn| conn.id == id)
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.slots.get(id.slot())?.as_deref().filter(|conn| conn.id == id)
    }

    /// Takes a connection out while its bytes are dealt with; [`put_back`](Self::put_back) follows.
    pub(super) fn take_out(&mut self, id: ConnId) -> Option<Box<Conn>> {
        self.slots.get_mut(id.slot())?.take_if(|conn| conn.id == id)
    }

    /// The same between two polls, with its link. One that has lost its link stays where it is: its `Closed` is on
    /// the way, and what follows from that is still to be done.
    pub(super) fn take_live<'a, A: Adapter>(
        &mut self,
        adapter: &'a mut A,
        id: ConnId,
    ) -> Option<(Box<Conn>, &'a mut Link)> {
        let link = adapter.link(id)?;
        Some((self.take_out(id)?, link))
    }

    pub(super) fn put_back(&mut self, conn: Box<Conn>) {
        let slot = conn.id.slot();
        self.slots[slot] = Some(conn);
    }

    /// The connection is gone; what its inbox held is given back.
    pub(super) fn remove(&mut self, id: ConnId, budget: &mut Budget) -> Option<Box<Conn>> {
        let mut conn = self.take_out(id)?;
        self.live -= 1;
        conn.inbox.clear(budget);
        Some(conn)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.slots.iter().filter_map(Option::as_deref)
    }

    /// Answers whoever waits.
    pub(super) fn answer<A: Adapter, P: Protocol + ?Sized>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        header: Header,
        origin: Origin,
        outcome: Outcome<'_>,
        counters: &mut Counters,
    ) {
        match outcome {
            Outcome::Committed(_) | Outcome::Weaker { .. } => {}
            Outcome::Refused(_) => counters.refused += 1,
            Outcome::Unknown => counters.unknown += 1,
        }
        match origin {
            Origin::Local(completion) => completion.end(handle::Outcome::from(outcome)),
            Origin::Client {
                conn: id,
                request,
                asked,
            } => {
                let now = adapter.now();
                let limits = self.limits;
                let (Some(conn), Some(link)) = (self.get_mut(id), adapter.link(id)) else {
                    return;
                };
                let header = Header { request, ..header };
                let answer = Answer { header, asked, outcome };
                if conn.answer(protocol, answer, link, &limits, now).is_err() {
                    counters.slow_readers += 1;
                    self.dropped.push(id);
                }
            }
        }
    }
}
