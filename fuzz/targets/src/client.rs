//! A client before nodes that answer anything: what was asked, something else, nothing, or bytes that are no messages.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use bytes::{Bytes, BytesMut};
use kraft::kv::Reply;
use kraft_core::adapter::Endpoint;
use kraft_core::client::{CallId, Client, Config, Delivery, End, Outcome, Output, Request, Sending};
use kraft_core::handshake::Kind;
use kraft_core::id::{ClusterId, GroupId, NodeId, RequestId};
use kraft_core::inbox::{Budget, Inbox};
use kraft_core::membership::Wish;
use kraft_core::message::{Body, Commit, Consistency, Header, Message, Refusal};
use kraft_core::protocol::EncodeError;
use kraft_core::time::Instant;
use kraft_core::{message, session};
use kraft_protocols::{Any, Format};

use crate::decode::encode;
use crate::said;

const EVENTS_MAX: usize = 150;
const SITES: usize = 3;
const OUTPUTS_MAX: usize = 5_000;
const CLUSTER: &str = "blue";

pub(crate) fn run(input: &[u8]) {
    let mut u = Unstructured::new(input);
    let _ = match u.ratio(1, 6) {
        Ok(true) => try_reply(&mut u),
        _ => try_calls(&mut u),
    };
}

/// Bytes as the answers that clients read out of replies.
fn try_reply(u: &mut Unstructured<'_>) -> Result<()> {
    let bytes = u.bytes(u.len())?;
    if let Ok(reply) = Reply::decode(bytes) {
        let mut again = BytesMut::new();
        reply.encode(&mut again);
        assert_eq!(&again[..], bytes, "a reply has one encoding");
        if let Reply::Entries(entries) = reply {
            assert_eq!(entries.iter().count(), entries.len());
        }
    }
    if let Some(index) = message::Change::index(bytes) {
        assert_eq!(message::Change::reply(index), bytes);
    }
    if let Some(leader) = message::Transfer::leader(bytes) {
        assert_eq!(message::Transfer::reply(leader), bytes);
    }
    if let Some(id) = session::decode_opened(bytes) {
        assert_eq!(id.0.to_le_bytes(), bytes);
    }
    Ok(())
}

/// What a call was for, as far as its end must fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Command { delivery: Delivery, commit: Commit },
    Read(Consistency),
    Other,
    Status,
    Fetch,
}

struct Rig {
    client: Client,
    calls_max: usize,
    now: Instant,
    /// Calls that did not end.
    open: BTreeMap<CallId, Asked>,
    /// Requests that wait for an answer, by site.
    waiting: Vec<(usize, RequestId, bool)>,
    /// Sites with a connection, or one that is being made, as the client asked for it.
    connected: BTreeSet<usize>,
    nonces: BTreeMap<usize, u64>,
    inboxes: Vec<Inbox>,
    budget: Budget,
    /// The next message is not taken by the outbox.
    refuses: Option<EncodeError>,
}

fn try_calls(u: &mut Unstructured<'_>) -> Result<()> {
    let config = Config {
        cluster: u.arbitrary::<bool>()?.then(|| CLUSTER.to_owned()),
        frame_max: 8192,
        in_flight_max: u.int_in_range(1..=4)?,
        in_flight_bytes_max: u.int_in_range(1..=200)?,
        calls_max: u.int_in_range(1..=8)?,
        seed: u.arbitrary()?,
        ..Config::default()
    };
    let patience = config.request_timeout;
    let address = |at: usize| Endpoint::Unix(format!("/{at}").into());
    let mut rig = Rig {
        calls_max: config.calls_max,
        client: Client::new(config, (0..SITES).map(address)),
        now: Instant::ZERO,
        open: BTreeMap::new(),
        waiting: Vec::new(),
        connected: BTreeSet::new(),
        nonces: BTreeMap::new(),
        inboxes: (0..SITES).map(|_| Inbox::default()).collect(),
        budget: Budget::new(1 << 20),
        refuses: None,
    };
    for _ in 0..EVENTS_MAX {
        if u.is_empty() {
            break;
        }
        rig.happen(u)?;
        rig.drain();
    }
    rig.now += patience;
    rig.client.tick(rig.now);
    rig.drain();
    assert!(
        rig.open.is_empty(),
        "after {patience:?} these have not ended: {:?}",
        rig.open
    );
    assert_eq!(rig.client.unanswered(), 0);
    Ok(())
}

impl Rig {
    fn happen(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let site = u.int_in_range(0..=SITES - 1)?;
        match u.int_in_range(0..=15)? {
            0..=3 => self.call(u)?,
            4 => self.client.connected(site, None, self.now),
            5 => self.welcome(u, site)?,
            6..=9 => self.answer(u)?,
            10 => {
                let message = said::message(u)?;
                self.client.received(site, &message, self.now);
            }
            11 => self.bytes(u, site)?,
            12 => {
                self.client.closed(site, &"it was cut", self.now);
                self.forget(site);
            }
            13 => self.client.drained(site, self.now),
            14 => self.refuses = Some(*u.choose(&[EncodeError::Full, EncodeError::TooLarge])?),
            _ => {
                self.now += Duration::from_millis(u.int_in_range(0..=1_500)?);
                self.client.tick(self.now);
                self.drain();
                let next = self.client.deadline();
                assert!(
                    next.is_none_or(|next| next > self.now),
                    "a deadline that is over is set again"
                );
            }
        }
        Ok(())
    }

    fn call(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let short = |u: &mut Unstructured<'_>| -> Result<Bytes> {
            let length = usize::from(u.arbitrary::<u8>()?) % 100;
            Ok(Bytes::copy_from_slice(u.bytes(length.min(u.len()))?))
        };
        let site = u.int_in_range(0..=SITES - 1)?;
        let (asked, request) = match u.int_in_range(0..=6)? {
            0..=2 => {
                let delivery = *u.choose(&[Delivery::ExactlyOnce, Delivery::AtMostOnce])?;
                let commit = *u.choose(&[Commit::Strong, Commit::Leader, Commit::Async])?;
                let command = short(u)?;
                let request = Request::Command {
                    command,
                    delivery,
                    commit,
                };
                (Asked::Command { delivery, commit }, request)
            }
            3 => {
                let age_max_ms = said::number(u)?;
                let all = [
                    Consistency::Linearizable,
                    Consistency::Lease,
                    Consistency::Stale { age_max_ms },
                ];
                let consistency = *u.choose(&all)?;
                let query = short(u)?;
                (Asked::Read(consistency), Request::Read { query, consistency })
            }
            4 => {
                let node = NodeId(u.int_in_range(0..=4)?);
                let request = match u.arbitrary()? {
                    true => Request::Transfer { to: node },
                    false => Request::Change {
                        wish: Wish::Remove { node },
                    },
                };
                (Asked::Other, request)
            }
            5 => (Asked::Status, Request::Status { site }),
            _ => {
                let fetch = message::Fetch {
                    id: said::snapshot_id(u)?,
                    offset: said::number(u)?,
                };
                (Asked::Fetch, Request::Fetch { site, fetch })
            }
        };
        let taken = self.client.call(request, self.now);
        assert!(taken.is_ok() || self.client.unanswered() >= self.calls_max);
        if let Ok(id) = taken {
            assert!(self.open.insert(id, asked).is_none(), "{id:?} is given twice");
        }
        Ok(())
    }

    fn header(&self, site: usize, request: RequestId) -> Header {
        Header {
            cluster: ClusterId::from_name(CLUSTER),
            group: GroupId(0),
            from: NodeId(site as u64 + 1),
            request,
            ..Header::default()
        }
    }

    fn welcome(&mut self, u: &mut Unstructured<'_>, site: usize) -> Result<()> {
        self.client.connected(site, None, self.now);
        self.drain();
        let Some(&nonce) = self.nonces.get(&site) else {
            return Ok(());
        };
        let welcome = message::Welcome {
            incarnation: kraft_core::id::Incarnation(1),
            nonce,
            version: 1,
            features: 0,
            frame_max: *u.choose(&[4096, 1 << 20, 0])?,
        };
        let message = Message {
            header: self.header(site, RequestId(0)),
            body: Body::Welcome(welcome),
        };
        self.client.received(site, &message, self.now);
        Ok(())
    }

    /// Something that is an answer, to a request that may wait for one.
    fn answer(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let at = u.int_in_range(0..=self.waiting.len() - 1)?;
        let (site, request, opens) = self.waiting[at];
        if u.ratio(7, 8)? {
            self.waiting.swap_remove(at);
        }
        let opened = u.int_in_range(0..=3_u64)?.to_le_bytes();
        let body = match u.int_in_range(0..=7)? {
            0..=1 if opens => Body::Reply(message::Outcome::Committed(&opened)),
            0..=4 => Body::Reply(said::outcome(u)?),
            5 => Body::StatusReply(said::status(u)?),
            6 => said::body(u, Kind::FetchReply)?,
            _ => Body::Reply(message::Outcome::Refused(message::Refused {
                why: Refusal::NotLeader,
                leader: NodeId(u.int_in_range(0..=4)?),
                detail: said::text(u)?,
            })),
        };
        let message = Message {
            header: self.header(site, request),
            body,
        };
        self.client.received(site, &message, self.now);
        Ok(())
    }

    /// Bytes that the site's node sends.
    fn bytes(&mut self, u: &mut Unstructured<'_>, site: usize) -> Result<()> {
        let message = said::message(u)?;
        let Some(mut frame) = encode(*u.choose(Format::ALL)?, &message) else {
            return Ok(());
        };
        if u.ratio(1, 3)? {
            let at = u.int_in_range(0..=frame.len() - 1)?;
            frame[at] ^= u.int_in_range(1..=255)?;
        }
        frame.truncate(u.int_in_range(0..=frame.len())?.max(1));
        let limits = self.client.limits(site);
        let (client, now) = (&mut self.client, self.now);
        let fed = self.inboxes[site].feed(
            &Any::new(Format::Binary),
            &limits,
            &mut self.budget,
            &frame,
            |message| {
                client.received(site, &message, now);
                ControlFlow::Continue(())
            },
        );
        if let Err(error) = fed {
            self.client.closed(site, &error, self.now);
            self.forget(site);
        }
        Ok(())
    }

    fn forget(&mut self, site: usize) {
        self.waiting.retain(|(of, ..)| *of != site);
        self.nonces.remove(&site);
        self.connected.remove(&site);
        self.inboxes[site].clear(&mut self.budget);
    }

    fn drain(&mut self) {
        for outputs in 0.. {
            let Some(output) = self.client.poll_output() else { break };
            assert!(outputs < OUTPUTS_MAX, "it never ends: {output:?}");
            match output {
                Output::Connect { to } => {
                    assert!(
                        to < SITES && self.connected.insert(to),
                        "site {to} is connected already"
                    );
                }
                Output::Disconnect { from } => {
                    assert!(self.connected.contains(&from), "site {from} has no connection");
                    self.forget(from);
                }
                Output::Send { to, frame_max, message } => self.send(to, frame_max, &message),
                Output::Done { call, end } => self.ended(call, &end),
            }
        }
        assert!(self.client.unanswered() >= self.open.len());
        assert!(
            self.client.unanswered() <= self.calls_max + 1,
            "the calls of others, and the session's own"
        );
        for site in 0..SITES {
            assert_eq!(self.client.is_connected(site), self.connected.contains(&site));
        }
    }

    fn send(&mut self, to: usize, frame_max: usize, sending: &Sending) {
        assert!(self.connected.contains(&to), "site {to} has no connection");
        assert!(frame_max >= 4096);
        let message = self.client.message(sending);
        let opens = matches!(message.body, Body::OpenSession);
        if let Body::Hello(hello) = &message.body {
            self.nonces.insert(to, hello.nonce);
        }
        assert!(encode(Format::Json, &message).is_some());
        if let Some(error) = self.refuses.take() {
            self.client.unsent(to, sending, error, self.now);
        } else if sending.request().0 > 0 {
            self.waiting.push((to, sending.request(), opens));
        }
    }

    fn ended(&mut self, call: CallId, end: &End) {
        let asked = self.open.remove(&call);
        let asked = asked.unwrap_or_else(|| panic!("{call:?} ends twice, or was never asked: {end:?}"));
        match (asked, end) {
            (Asked::Status, End::Report(_)) | (Asked::Fetch, End::Piece(_)) => {}
            (Asked::Command { commit, .. }, End::Outcome(Outcome::Weaker { basis, .. })) => {
                assert!(commit.takes(*basis), "{basis:?} to {commit:?}");
            }
            (Asked::Read(consistency), End::Outcome(Outcome::Weaker { basis, .. })) => {
                assert!(consistency.takes(*basis), "{basis:?} to {consistency:?}");
            }
            (Asked::Command { .. } | Asked::Read(_) | Asked::Other, End::Outcome(Outcome::Refused(refused))) => {
                assert!(refused.detail.chars().count() <= 512, "{refused:?}");
                assert!(!refused.detail.chars().any(char::is_control), "{refused:?}");
            }
            (Asked::Command { .. } | Asked::Read(_) | Asked::Other, End::Outcome(_)) => {}
            (asked, end) => panic!("{asked:?} ended as {end:?}"),
        }
    }
}
