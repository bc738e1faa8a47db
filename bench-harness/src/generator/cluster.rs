//! Clients of a cluster: the load of puts and gets, on connections to the leader.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::ControlFlow;

use bytes::BytesMut;
use kraft::kv::{Command, Query, Reply};
use kraft::protocols::{Any, Format};
use kraft_core::handshake::{Handshake, Identity, NoPeers, Step};
use kraft_core::id::{NodeId, RequestId, Sequence, SessionId};
use kraft_core::inbox::{Budget, Inbox};
use kraft_core::message::{self, Body, Commit, Consistency, Header, Message, Outcome, Refusal};
use kraft_core::outbox::{Outbox, Segments};
use kraft_core::protocol::{Limits, Protocol};
use kraft_core::time::Instant;
use mio::net::TcpStream;
use mio::{Events, Poll};

use super::meter::{Meter, Times, UNSENT};
use super::opening::{Opening, register};
use super::pace::{self, Crowd};
use super::{EVENTS, Figures, ReadClocks, Span, list, settle, wait};
use crate::cli::Waiting;
use crate::fault::Fault;
use crate::pattern::{Pattern, Place, WINDOW};
use crate::workload::Ask;

/// Different keys. Each has one value for good, a piece of the pattern, which every get is held against.
pub(super) const KEYS: usize = 1_000;

/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 256;

/// The largest frame taken, and what a connection may have to send: requests are few and small.
const FRAME_MAX: u32 = 1 << 20;

/// What incomplete replies of all connections may hold together.
const BUDGET_BYTES: usize = 64 << 20;

/// Clients, each on a connection of its own.
#[derive(Debug)]
pub(crate) struct Askers {
    poll: Poll,
    conns: Vec<Asker>,
    shared: Shared,
    waiting: Waiting,
    draws: Draws,
}

/// What all connections need for a moment.
#[derive(Debug)]
struct Shared {
    protocol: Any,
    identity: Identity,
    budget: Budget,
    buffer: Vec<u8>,
    segments: Segments,
    body: BytesMut,
}

#[derive(Debug)]
struct Asker {
    stream: TcpStream,
    handshake: Handshake,
    inbox: Inbox,
    outbox: Outbox,
    /// What the socket did not take, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    asked: VecDeque<Asked>,
    next_request: u64,
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    request: RequestId,
    times: Times,
    /// The key that it gets; a put without it.
    gets: Option<usize>,
}

impl Askers {
    /// Connects to a node that leads; all are welcome when it returns.
    pub(crate) fn connect(
        at: SocketAddr,
        count: usize,
        format: &str,
        waiting: Waiting,
        span: Span,
    ) -> Result<Self, Fault> {
        let poll = Poll::new().map_err(|error| Fault::own("epoll", &error))?;
        let format: Format = format.parse().map_err(|error| Fault::Own(format!("{error}")))?;
        let mut all = Self {
            poll,
            conns: Vec::with_capacity(count),
            shared: Shared {
                protocol: Any::new(format),
                identity: Identity::client(None, FRAME_MAX),
                budget: Budget::new(BUDGET_BYTES),
                buffer: vec![0; WINDOW],
                segments: Segments::new(),
                body: BytesMut::new(),
            },
            waiting,
            draws: Draws::default(),
        };
        let opening = Opening::new(at, count, span.patience);
        for number in 0..count {
            let stream = opening.open(number)?;
            let stream = register(stream, &all.poll, number)?;
            let mut conn = Asker::new(stream, number as u64);
            conn.greet(&mut all.shared)?;
            all.conns.push(conn);
        }
        all.settle(span, Asker::is_welcome)?;
        Ok(all)
    }

    /// Puts every key once.
    pub(crate) fn fill(&mut self, span: Span) -> Result<(), Fault> {
        let count = self.conns.len();
        for key in 0..KEYS {
            self.conns[key % count].ask(&mut self.shared, Op::Put, key, 0)?;
        }
        for conn in &mut self.conns {
            conn.flush(&mut self.shared)?;
        }
        self.settle(span, |conn| conn.asked.is_empty())
    }

    /// Waits until all are through.
    fn settle(&mut self, span: Span, is_through: impl Fn(&Asker) -> bool) -> Result<(), Fault> {
        let Self {
            poll, conns, shared, ..
        } = self;
        settle(conns, poll, self.waiting, span, is_through, |conn, at, meter| {
            let now = meter.now();
            conn.receive(shared, now, |times| meter.note(at, now, times))?;
            conn.flush(shared)
        })
    }

    /// Each client has one request on its way, and asks again when it is answered.
    pub(crate) fn closed(&mut self, ask: Ask, span: Span, clocks: ReadClocks<'_>) -> Result<Figures, Fault> {
        pace::closed(&mut Asking::new(self, ask), 1, span, clocks)
    }

    /// `rate` operations a second over the clients in turn, each when it is due, however many are on their way.
    pub(crate) fn open(&mut self, ask: Ask, rate: u64, span: Span, clocks: ReadClocks<'_>) -> Result<Figures, Fault> {
        pace::open(&mut Asking::new(self, ask), rate, span, clocks)
    }

    /// The next operation, over the connection `at`.
    fn draw(&mut self, at: usize, ask: Ask, when: u64) -> Result<(), Fault> {
        let (op, key) = self.draws.draw(ask);
        self.conns[at].ask(&mut self.shared, op, key, when)
    }
}

/// Clients, and what they ask for.
struct Asking<'a> {
    askers: &'a mut Askers,
    ask: Ask,
    events: Events,
}

impl<'a> Asking<'a> {
    fn new(askers: &'a mut Askers, ask: Ask) -> Self {
        let events = Events::with_capacity(EVENTS);
        Self { askers, ask, events }
    }
}

impl Crowd for Asking<'_> {
    fn conns(&self) -> usize {
        self.askers.conns.len()
    }

    fn ask(&mut self, conn: usize, when: u64) -> Result<(), Fault> {
        self.askers.draw(conn, self.ask, when)
    }

    fn flush(&mut self, conn: usize, now: u64) -> Result<(), Fault> {
        self.askers.conns[conn].flush_at(&mut self.askers.shared, now)
    }

    fn hear(&mut self, conn: usize, now: u64, answered: impl FnMut(Times)) -> Result<usize, Fault> {
        self.askers.conns[conn].receive(&mut self.askers.shared, now, answered)
    }

    fn wait(&mut self, meter: &mut Meter, ready: &mut Vec<usize>) -> Result<bool, Fault> {
        let askers = &mut *self.askers;
        let found = wait(&mut askers.poll, askers.waiting, &mut self.events, meter)?;
        list(&self.events, ready);
        Ok(found)
    }
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put,
    Get,
}

/// Operations and their keys, one after the other.
#[derive(Debug, Default)]
pub(super) struct Draws(usize);

impl Draws {
    pub(super) fn draw(&mut self, ask: Ask) -> (Op, usize) {
        let op = match ask {
            Ask::Put => Op::Put,
            Ask::Get => Op::Get,
            Ask::Mixed if self.0.is_multiple_of(2) => Op::Put,
            Ask::Mixed => Op::Get,
        };
        self.0 += 1;
        // A prime, without a factor in common with the number of keys: all come, in no order.
        (op, self.0.wrapping_mul(7_919) % KEYS)
    }
}

pub(super) fn key_bytes(key: usize) -> [u8; 8] {
    (key as u64).to_be_bytes()
}

pub(super) fn value(key: usize) -> &'static [u8] {
    Pattern::shared().window(Place::of(key), VALUE_BYTES)
}

impl Asker {
    fn new(stream: TcpStream, nonce: u64) -> Self {
        Self {
            stream,
            handshake: Handshake::dial(NodeId::NONE, nonce, Instant::ZERO),
            inbox: Inbox::default(),
            outbox: Outbox::new(FRAME_MAX as usize * 2),
            unsent: Vec::new(),
            sent: 0,
            asked: VecDeque::new(),
            next_request: 0,
        }
    }

    fn is_welcome(&self) -> bool {
        self.handshake.established().is_some()
    }

    fn greet(&mut self, shared: &mut Shared) -> Result<(), Fault> {
        let hello = self.handshake.hello(&shared.identity);
        let encoded = shared
            .protocol
            .encode(&hello, Limits::BEFORE_HELLO.frame_max, &mut self.outbox);
        encoded.map_err(|error| Fault::Own(format!("a hello: {error}")))?;
        self.flush(shared)
    }

    /// Puts a request before what is to be sent.
    fn ask(&mut self, shared: &mut Shared, op: Op, key: usize, when: u64) -> Result<(), Fault> {
        let established = self.handshake.established();
        let established = established.expect("nothing is asked before the welcome");
        self.next_request += 1;
        let request = RequestId(self.next_request);
        let key_bytes = key_bytes(key);
        shared.body.clear();
        let body = match op {
            Op::Put => {
                let (key, value) = (&key_bytes[..], value(key));
                Command::Put { key, value }.encode(&mut shared.body);
                Body::Command(message::Command {
                    session: SessionId(0),
                    sequence: Sequence(0),
                    first_unanswered: Sequence(0),
                    command: &shared.body,
                    commit: Commit::Strong,
                })
            }
            Op::Get => {
                Query::Get { key: &key_bytes }.encode(&mut shared.body);
                Body::Read(message::Read {
                    query: &shared.body,
                    consistency: Consistency::Linearizable,
                })
            }
        };
        let header = Header {
            cluster: established.cluster,
            request,
            ..Header::default()
        };
        let frame_max = established.frame_max as usize;
        let encoded = shared
            .protocol
            .encode(&Message { header, body }, frame_max, &mut self.outbox);
        encoded.map_err(|error| Fault::Own(format!("a request: {error}")))?;
        let gets = (op == Op::Get).then_some(key);
        let times = Times::due(when);
        self.asked.push_back(Asked { request, times, gets });
        Ok(())
    }

    /// Sends as [`flush`](Self::flush), `now`.
    fn flush_at(&mut self, shared: &mut Shared, now: u64) -> Result<(), Fault> {
        self.flush(shared)?;
        if self.unsent.is_empty() {
            let fresh = self.asked.iter_mut().rev();
            let fresh = fresh.take_while(|asked| asked.times.sent == UNSENT);
            fresh.for_each(|asked| asked.times.sent = now);
        }
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it.
    fn flush(&mut self, shared: &mut Shared) -> Result<(), Fault> {
        self.outbox.take(&mut shared.segments);
        shared
            .segments
            .slices()
            .for_each(|slice| self.unsent.extend_from_slice(slice));
        shared.segments.clear();
        self.outbox.settle(0);
        while self.sent < self.unsent.len() {
            match self.stream.write(&self.unsent[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::closed(format!("send: {error}"))),
            }
        }
        self.unsent.clear();
        self.sent = 0;
        Ok(())
    }

    /// Receives and checks what is there; `answered` gets the times of each request that was answered. Returns
    /// their number.
    fn receive(&mut self, shared: &mut Shared, now: u64, mut answered: impl FnMut(Times)) -> Result<usize, Fault> {
        let mut count = 0;
        loop {
            let read = match self.stream.read(&mut shared.buffer) {
                Ok(0) => return Err(Fault::Deposed("the leader closed a connection".into())),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Fault::closed(format!("receive: {error}"))),
            };
            let limits = if self.is_welcome() {
                Limits {
                    frame_max: FRAME_MAX as usize,
                    entries_max: 0,
                }
            } else {
                Limits::BEFORE_HELLO
            };
            let Self {
                handshake,
                inbox,
                asked,
                ..
            } = self;
            let identity = &shared.identity;
            let mut fault = None;
            let bytes = &shared.buffer[..read];
            let fed = inbox.feed(&shared.protocol, &limits, &mut shared.budget, bytes, |message| {
                let judged = judge(&message, handshake, asked, identity, Instant::from_nanos(now));
                match judged {
                    Ok(None) => ControlFlow::Continue(()),
                    Ok(Some(times)) => {
                        count += 1;
                        answered(times);
                        ControlFlow::Continue(())
                    }
                    Err(found) => {
                        fault = Some(found);
                        ControlFlow::Break(())
                    }
                }
            });
            if let Some(fault) = fault {
                return Err(fault);
            }
            fed.map_err(|error| Fault::Corrupt(error.to_string()))?;
            if read < shared.buffer.len() {
                break;
            }
        }
        Ok(count)
    }
}

/// What a message says: since when the request that it answers is on its way, if it answers one.
fn judge(
    message: &Message<'_>,
    handshake: &mut Handshake,
    asked: &mut VecDeque<Asked>,
    identity: &Identity,
    now: Instant,
) -> Result<Option<Times>, Fault> {
    match handshake.receive(message, identity, &NoPeers, now) {
        Step::Established { .. } => return Ok(None),
        Step::Pass => {}
        Step::Reject(rejection) => return Err(Fault::closed(rejection.to_string())),
        Step::Gone(reason) => return Err(Fault::Deposed(format!("the leader turned us away: {reason:?}"))),
    }
    let request = message.header.request;
    let at = asked.iter().position(|asked| asked.request == request);
    let asked = at.and_then(|at| asked.remove(at));
    let asked =
        asked.ok_or_else(|| Fault::Corrupt(format!("an answer to request {}, which nobody asked", request.0)))?;
    let reply = match &message.body {
        Body::Reply(Outcome::Committed(reply)) => reply,
        Body::Reply(Outcome::Refused(refused)) => {
            let what = format!("the leader refused: {:?}", refused.why);
            return Err(match refused.why {
                Refusal::NotLeader | Refusal::Stopping => Fault::Deposed(what),
                _ => Fault::closed(what),
            });
        }
        _ => {
            return Err(Fault::Deposed(
                "the leader does not know what became of a request".into(),
            ));
        }
    };
    match (asked.gets, Reply::decode(reply)) {
        (None, Ok(Reply::Done)) => Ok(Some(asked.times)),
        (Some(key), Ok(Reply::Value(found))) if found == value(key) => Ok(Some(asked.times)),
        (_, reply) => Err(Fault::Corrupt(format!("{asked:?} was answered with {reply:?}"))),
    }
}
