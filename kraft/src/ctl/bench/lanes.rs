//! All connections of the load: what is asked, and what the answers were.

use std::ops::ControlFlow;
use std::time::Duration;

use fastrand::Rng;
use hdrhistogram::Histogram;
use kraft_core::adapter::{CloseReason, Endpoint, Event};
use kraft_core::handshake::{Handshake, Identity, NoPeers, Step};
use kraft_core::id::{ConnId, NodeId, Sequence, SessionId};
use kraft_core::inbox::Budget;
use kraft_core::link::{CloseMode, Link};
use kraft_core::message::{Body, Command, Commit, Consistency, Message, Outcome, Read, Refusal, Refused};
use kraft_core::protocol::{Limits, Protocol};
use kraft_core::session;
use kraft_core::time::Instant;

use super::lane::{Asked, Lane, Outstanding};
use super::workload::Workload;
use crate::ctl::cli::{Bench, Op};
use crate::ctl::format::printable;

/// A refused or broken lane waits so long, so that a cluster without a leader is not flooded.
pub(super) const REST: Duration = Duration::from_millis(10);

/// The largest frame that the load takes.
const FRAME_MAX: u32 = 4 << 20;

/// A node: who, and where.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) node: NodeId,
    pub(super) address: Endpoint,
}

/// How the measured operations ended.
#[derive(Debug)]
pub(super) struct Tally {
    /// Answered, in time.
    pub(super) ok: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
    /// Latencies of the answered ones, in nanoseconds.
    pub(super) latency: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        // Three digits from 1 µs to a minute, in 200 KiB.
        let latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order");
        Self {
            ok: 0,
            refused: 0,
            unknown: 0,
            latency,
        }
    }
}

/// What the load is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Lanes become ready, nothing is asked.
    Connecting,
    /// Every key is written once.
    Filling,
    /// Measured.
    Running,
    /// Nothing new is asked.
    Draining,
}

/// The lanes, and what they share. The adapter is outside: it lends its events to this.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) sites: Vec<Site>,
    /// The site that is believed to lead.
    pub(super) leader: usize,
    pub(super) lanes: Vec<Lane>,
    /// By slot of the connection.
    lane_of: Vec<u32>,
    identity: Identity,
    workload: Workload,
    sessions: bool,
    pipeline: usize,
    pub(super) phase: Phase,
    /// The next key to be written, and those whose write failed.
    fill_next: u32,
    fill_end: u32,
    fill_again: Vec<u32>,
    /// Writes that were done: whether filling makes progress.
    pub(super) filled: u64,
    pub(super) tally: Tally,
    pub(super) next_look: Instant,
    /// The last trouble of a connection, for the message when nothing works.
    pub(super) trouble: String,
    rng: Rng,
}

impl Lanes {
    pub(super) fn new(options: &Bench, sites: Vec<Site>, leader: usize) -> Self {
        Self {
            sites,
            leader,
            lanes: (0..options.clients).map(|_| Lane::default()).collect(),
            lane_of: Vec::new(),
            identity: Identity::client(None, FRAME_MAX),
            workload: Workload::new(options),
            sessions: options.sessions,
            pipeline: options.pipeline as usize,
            phase: Phase::Connecting,
            fill_next: 0,
            fill_end: options.keys,
            fill_again: Vec::new(),
            filled: 0,
            tally: Tally::new(),
            next_look: Instant::ZERO,
            trouble: "no answer".into(),
            rng: Rng::with_seed(options.seed),
        }
    }

    pub(super) fn is_filled(&self) -> bool {
        self.fill_next == self.fill_end
            && self.fill_again.is_empty()
            && self.lanes.iter().all(|lane| lane.outstanding.is_empty())
    }

    /// The lane has this connection, to the site that is believed to lead.
    pub(super) fn dialled(&mut self, at: usize, conn: ConnId) {
        if self.lane_of.len() <= conn.slot() {
            self.lane_of.resize(conn.slot() + 1, 0);
        }
        self.lane_of[conn.slot()] = u32::try_from(at).expect("clients are counted in a u32");
        let lane = &mut self.lanes[at];
        lane.conn = Some(conn);
        lane.site = self.leader;
        lane.rest_until = Instant::ZERO;
    }

    /// The lane of a connection, unless it has another one by now.
    fn lane(&self, conn: ConnId) -> Option<usize> {
        let at = *self.lane_of.get(conn.slot())? as usize;
        (self.lanes[at].conn == Some(conn)).then_some(at)
    }

    /// Takes an event in and puts what follows into the lent link.
    pub(super) fn take<P: Protocol>(&mut self, protocol: &P, budget: &mut Budget, now: Instant, event: Event<'_>) {
        match event {
            Event::Received { conn, bytes, link } => {
                if let Some(at) = self.lane(conn) {
                    self.received(at, protocol, budget, bytes, link, now);
                }
            }
            Event::Connected { conn, link } => {
                if let Some(at) = self.lane(conn) {
                    let mut handshake = Handshake::dial(NodeId::NONE, self.rng.u64(..), now);
                    if let Some(proof) = link.proof() {
                        handshake
                            .require(proof, &self.identity)
                            .expect("a client dials nobody by id");
                    }
                    let hello = handshake.hello(&self.identity);
                    let encoded = protocol.encode(&hello, Limits::BEFORE_HELLO.frame_max, link.outbox());
                    encoded.expect("a hello fits an empty outbox");
                    self.lanes[at].handshake = Some(handshake);
                }
            }
            Event::Ended { link, .. } => link.close(CloseMode::Now),
            Event::Closed { conn, reason } => {
                if let Some(at) = self.lane(conn) {
                    if reason != CloseReason::Requested {
                        self.trouble = reason.to_string();
                    }
                    self.down(at, budget, now);
                }
            }
            _ => {}
        }
    }

    fn received<P: Protocol>(
        &mut self,
        at: usize,
        protocol: &P,
        budget: &mut Budget,
        bytes: &[u8],
        link: &mut Link,
        now: Instant,
    ) {
        let limits = if self.lanes[at].is_welcome() {
            Limits {
                frame_max: FRAME_MAX as usize,
                entries_max: 0,
            }
        } else {
            Limits::BEFORE_HELLO
        };
        let mut inbox = std::mem::take(&mut self.lanes[at].inbox);
        let fed = inbox.feed(protocol, &limits, budget, bytes, |message| {
            self.message(at, protocol, &message, link, now);
            if link.is_closing() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        self.lanes[at].inbox = inbox;
        if let Err(error) = fed {
            self.trouble = error.to_string();
            link.close(CloseMode::Now);
        }
        self.issue(at, protocol, link, now);
    }

    fn message<P: Protocol>(&mut self, at: usize, protocol: &P, message: &Message<'_>, link: &mut Link, now: Instant) {
        let Some(handshake) = &mut self.lanes[at].handshake else {
            return;
        };
        match handshake.receive(message, &self.identity, &NoPeers, now) {
            Step::Pass => {
                let Some(out) = self.lanes[at].answered(message.header.request) else {
                    return;
                };
                match &message.body {
                    Body::Reply(Outcome::Committed(reply)) => self.committed(at, &out, reply, link, now),
                    Body::Reply(Outcome::Refused(refused)) => self.refused(at, &out, refused, link, now),
                    _ => self.unknown(at, &out, link, now),
                }
            }
            Step::Established { .. } => {
                if self.sessions
                    && let Err(error) = self.lanes[at].ask(protocol, Asked::Session, Body::OpenSession, link, now)
                {
                    self.trouble = error.to_string();
                    link.close(CloseMode::Now);
                }
            }
            Step::Reject(rejection) => {
                self.trouble = rejection.to_string();
                link.close(CloseMode::Now);
            }
            Step::Gone(reason) => {
                self.trouble = match &message.body {
                    Body::Goaway(goaway) => {
                        format!("turned us away ({reason:?}): {}", printable(goaway.detail.as_bytes()))
                    }
                    _ => format!("turned us away ({reason:?})"),
                };
                link.close(CloseMode::Now);
            }
        }
    }

    fn committed(&mut self, at: usize, out: &Outstanding, reply: &[u8], link: &mut Link, now: Instant) {
        match out.asked {
            Asked::Session => match session::decode_opened(reply) {
                Some(id) => self.lanes[at].session = id,
                None => link.close(CloseMode::Now),
            },
            Asked::Fill(_) if Workload::is_done(reply) => self.filled += 1,
            Asked::Op if Workload::is_done(reply) => {
                if self.phase == Phase::Running {
                    self.tally.ok += 1;
                    let nanos = u64::try_from((now - out.sent).as_nanos()).unwrap_or(u64::MAX);
                    self.tally.latency.saturating_record(nanos);
                }
            }
            Asked::Fill(_) | Asked::Op => {
                self.trouble = "the state machine refuses the operation".into();
                self.failed(at, out, now);
            }
        }
    }

    fn refused(&mut self, at: usize, out: &Outstanding, refused: &Refused<'_>, link: &mut Link, now: Instant) {
        self.trouble = format!("{:?} {}", refused.why, printable(refused.detail.as_bytes()));
        let lane = &mut self.lanes[at];
        if matches!(
            refused.why,
            Refusal::NotLeader | Refusal::Stopping | Refusal::SessionExpired
        ) {
            // What else is outstanding here gets its own answer first.
            lane.is_leaving = true;
            if lane.outstanding.is_empty() {
                link.close(CloseMode::Now);
            }
            if refused.why != Refusal::SessionExpired && lane.site == self.leader {
                let hinted = self.sites.iter().position(|site| site.node == refused.leader);
                self.leader = hinted.unwrap_or((self.leader + 1) % self.sites.len());
            }
        } else if out.asked == Asked::Session {
            link.close(CloseMode::Now);
        }
        self.failed(at, out, now);
    }

    /// A refusal, by the node or by the state machine: the lane rests, so that nobody is flooded with what is refused.
    fn failed(&mut self, at: usize, out: &Outstanding, now: Instant) {
        match out.asked {
            Asked::Session => {}
            Asked::Fill(key) => self.fill_again.push(key),
            Asked::Op => self.tally.refused += 1,
        }
        self.lanes[at].rest_until = now + REST;
    }

    fn unknown(&mut self, at: usize, out: &Outstanding, link: &mut Link, now: Instant) {
        match out.asked {
            Asked::Session => link.close(CloseMode::Now),
            Asked::Fill(key) => self.fill_again.push(key),
            Asked::Op => self.tally.unknown += 1,
        }
        self.lanes[at].rest_until = now + REST;
    }

    fn down(&mut self, at: usize, budget: &mut Budget, now: Instant) {
        let lane = &mut self.lanes[at];
        lane.inbox.clear(budget);
        lane.rest_until = now + REST;
        let site = lane.site;
        for out in lane.down() {
            match out.asked {
                Asked::Session => {}
                Asked::Fill(key) => self.fill_again.push(key),
                Asked::Op => self.tally.unknown += 1,
            }
        }
        if site == self.leader && self.phase != Phase::Connecting {
            self.leader = (self.leader + 1) % self.sites.len();
        }
    }

    /// Asks as much as the lane may have outstanding.
    pub(super) fn issue<P: Protocol>(&mut self, at: usize, protocol: &P, link: &mut Link, now: Instant) {
        let lane = &self.lanes[at];
        if lane.is_leaving && lane.outstanding.is_empty() {
            link.close(CloseMode::Now);
        }
        let waits = lane.rest_until > now || (self.sessions && lane.session == SessionId(0));
        if waits || lane.is_leaving || link.is_closing() || !lane.is_welcome() {
            return;
        }
        while self.lanes[at].outstanding.len() < self.pipeline {
            let (asked, op, key) = match self.phase {
                Phase::Running => (Asked::Op, self.workload.draw(), None),
                Phase::Filling => match self.next_fill() {
                    Some(key) => (Asked::Fill(key), Op::Put, Some(key)),
                    None => return,
                },
                Phase::Connecting | Phase::Draining => return,
            };
            let bytes = self.workload.encode(op, key);
            let body = match op {
                Op::Get => Body::Read(Read {
                    query: bytes,
                    consistency: Consistency::Linearizable,
                }),
                _ => Body::Command(Command {
                    session: SessionId(0),
                    sequence: Sequence(0),
                    first_unanswered: Sequence(0),
                    command: bytes,
                    commit: Commit::Strong,
                }),
            };
            if let Err(error) = self.lanes[at].ask(protocol, asked, body, link, now) {
                self.trouble = error.to_string();
                if let Asked::Fill(key) = asked {
                    self.fill_again.push(key);
                } else {
                    self.tally.refused += 1;
                }
                self.lanes[at].rest_until = now + REST;
                return;
            }
        }
    }

    fn next_fill(&mut self) -> Option<u32> {
        if let Some(key) = self.fill_again.pop() {
            return Some(key);
        }
        (self.fill_next < self.fill_end).then(|| {
            self.fill_next += 1;
            self.fill_next - 1
        })
    }
}
