//! The client as a pure state machine: its inputs and outputs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use fastrand::Rng;

use super::Config;
use super::call::{Call, CallId, Kind, Place, Refused, Request, TooMany, printable};
use super::output::{Output, Sending, SendingBody};
use super::session::Session;
use super::site::{Site, State};
use crate::adapter::Endpoint;
use crate::handshake::{Handshake, Identity, NoPeers, Step};
use crate::id::{ClusterId, NodeId, RequestId};
use crate::message::{Body, Command, Header, Message, Read, Refusal, Transfer};
use crate::protocol::{EncodeError, Limits};
use crate::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The call is over.
    Call(CallId),
    /// The call's attempt has no answer.
    Attempt(CallId),
}

/// A client of the cluster, without I/O.
///
/// Inputs are methods; after each (or after many) drain [`poll_output`](Self::poll_output) to `None`, then call
/// [`tick`](Self::tick) when [`deadline`](Self::deadline) is reached. A *site* is one of the given addresses, by its
/// place in their list.
///
/// Invariants: a call is in one queue, in flight at one site, or parked for the session; `in_flight` and
/// `in_flight_bytes` are sums over the sites.
#[derive(Debug)]
pub struct Client {
    pub(super) config: Config,
    pub(super) identity: Identity,
    /// Of the first node that welcomed us, if the configuration names none.
    pub(super) cluster: Option<ClusterId>,
    pub(super) sites: Vec<Site>,
    /// Where requests go.
    pub(super) aim: usize,
    /// Who is said to lead, while no site is known to be that node.
    pub(super) wanted: NodeId,
    /// Changes of aim, and refusals to wait for, since the last success.
    pub(super) steps: u32,
    /// Nothing is sent before.
    pub(super) hold_until: Instant,
    /// When something that waits can go on.
    pub(super) wake_at: Option<Instant>,
    pub(super) calls: BTreeMap<CallId, Call>,
    next_call: u64,
    pub(super) next_request: u64,
    /// Calls to be tried again, ahead of `queue`.
    pub(super) retries: VecDeque<CallId>,
    pub(super) queue: VecDeque<CallId>,
    /// Calls that wait for the session.
    pub(super) parked: VecDeque<CallId>,
    pub(super) session: Session,
    pub(super) in_flight: usize,
    pub(super) in_flight_bytes: usize,
    pub(super) timers: BTreeSet<(Instant, Timer)>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) rng: Rng,
    pub(super) now: Instant,
}

impl Client {
    /// A client of the nodes at `addresses`. It connects when the first call comes.
    ///
    /// # Panics
    ///
    /// If `addresses` is empty or a limit of the configuration is zero.
    #[must_use]
    pub fn new(config: Config, addresses: impl IntoIterator<Item = Endpoint>) -> Self {
        assert!(
            config.in_flight_max > 0 && config.calls_max > 0,
            "a limit of the client is zero"
        );
        let mut rng = Rng::with_seed(config.seed);
        let sites: Vec<_> = addresses.into_iter().map(Site::new).collect();
        assert!(!sites.is_empty(), "a client needs an address");
        Self {
            identity: Identity::client(config.cluster.as_deref(), config.frame_max),
            cluster: config.cluster.as_deref().map(ClusterId::from_name),
            // Clients that start together begin at different nodes.
            aim: rng.usize(..sites.len()),
            sites,
            wanted: NodeId::NONE,
            steps: 0,
            hold_until: Instant::ZERO,
            wake_at: None,
            calls: BTreeMap::new(),
            next_call: 1,
            next_request: 1,
            retries: VecDeque::new(),
            queue: VecDeque::new(),
            parked: VecDeque::new(),
            session: Session::Closed,
            in_flight: 0,
            in_flight_bytes: 0,
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            rng,
            now: Instant::ZERO,
            config,
        }
    }

    /// The given addresses.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = &Endpoint> {
        self.sites.iter().map(|site| &site.address)
    }

    /// Calls that are not answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.calls.len()
    }

    /// Takes a call in; it ends in one [`Output::Done`], after [`Config::request_timeout`] at the latest.
    ///
    /// # Errors
    ///
    /// [`TooMany`].
    ///
    /// # Panics
    ///
    /// If a call names a site that is none.
    pub fn call(&mut self, request: Request, now: Instant) -> Result<CallId, TooMany> {
        let deadline = now + self.config.request_timeout;
        self.call_until(request, deadline, now)
    }

    /// Takes a call in that ends at `deadline` at the latest; else as [`call`](Self::call).
    ///
    /// # Errors
    ///
    /// [`TooMany`].
    ///
    /// # Panics
    ///
    /// If a call names a site that is none.
    pub fn call_until(&mut self, request: Request, deadline: Instant, now: Instant) -> Result<CallId, TooMany> {
        self.now = now;
        if self.calls.len() >= self.config.calls_max {
            return Err(TooMany);
        }
        let kind = match request {
            Request::Command {
                command,
                delivery,
                commit,
            } => Kind::Command {
                command,
                delivery,
                commit,
            },
            Request::Read { query, consistency } => Kind::Read { query, consistency },
            Request::Transfer { to } => Kind::Transfer { to },
            Request::Change { wish } => Kind::Change { wish },
            Request::Status { site } => {
                assert!(
                    site < self.sites.len(),
                    "a status call names site {site} of {}",
                    self.sites.len()
                );
                Kind::Status { site }
            }
            Request::Fetch { site, fetch } => {
                assert!(
                    site < self.sites.len(),
                    "a fetch call names site {site} of {}",
                    self.sites.len()
                );
                Kind::Fetch { site, fetch }
            }
        };
        let site = kind.site();
        let id = self.admit(kind, deadline);
        match site {
            Some(site) => self.sites[site].asked.push_back(id),
            None => self.queue.push_back(id),
        }
        Ok(id)
    }

    /// The site's connection is there. `proof` is what its other end has proved, if anything
    /// ([`Link::proof`](crate::link::Link::proof)): the node that welcomes us must be named there.
    pub fn connected(&mut self, site: usize, proof: Option<&[String]>, now: Instant) {
        self.now = now;
        let State::Connecting { give_up_at } = self.sites[site].state else {
            return;
        };
        let nonce = self.rng.u64(..);
        let mut handshake = Handshake::dial(NodeId::NONE, nonce, now);
        if let Some(proof) = proof {
            handshake
                .require(proof, &self.identity)
                .expect("a client dials nobody by id");
        }
        self.sites[site].state = State::Greeting { handshake, give_up_at };
        self.outputs.push_back(Output::Send {
            to: site,
            frame_max: Limits::BEFORE_HELLO.frame_max,
            message: Sending {
                request: RequestId(0),
                body: SendingBody::Hello { nonce },
            },
        });
    }

    /// A message came from the site's node.
    pub fn received(&mut self, site: usize, message: &Message<'_>, now: Instant) {
        self.now = now;
        self.sites[site].heard = now;
        let (State::Greeting { handshake, .. } | State::Ready { handshake }) = &mut self.sites[site].state else {
            return;
        };
        match handshake.receive(message, &self.identity, &NoPeers, now) {
            Step::Pass => self.answered(site, message),
            Step::Established { established, .. } => self.welcomed(site, &established),
            Step::Reject(rejection) => self.lose(site, rejection.to_string(), true),
            Step::Gone(reason) => {
                let detail = match &message.body {
                    Body::Goaway(goaway) => printable(goaway.detail),
                    _ => String::new(),
                };
                self.lose(site, format!("turned us away ({reason:?}): {detail}"), true);
            }
        }
    }

    /// The site's connection is gone, or could not be made, or brought bytes that are no message.
    pub fn closed(&mut self, site: usize, why: &dyn fmt::Display, now: Instant) {
        self.now = now;
        if !self.sites[site].is_idle() {
            self.lose(site, why.to_string(), false);
        }
    }

    /// A message that [`Output::Send`] handed out could not be encoded; nothing of it left.
    pub fn unsent(&mut self, site: usize, message: &Sending, error: EncodeError, now: Instant) {
        self.now = now;
        let Some(&id) = self.sites[site].in_flight.get(&message.request) else {
            // Only a hello is in no list, and it is the first thing in an empty outbox.
            self.lose(site, format!("the hello could not be sent: {error}"), true);
            return;
        };
        match error {
            EncodeError::Full => {
                self.recall(id);
                self.sites[site].is_full = true;
                match self.calls[&id].kind.site() {
                    Some(_) => self.sites[site].asked.push_front(id),
                    None => self.retries.push_front(id),
                }
            }
            EncodeError::TooLarge => self.refuse(
                id,
                Refused {
                    why: Refusal::TooLarge,
                    leader: NodeId::NONE,
                    detail: "the frame would be above the node's frame_max, or the client's write_queue_max".into(),
                },
            ),
        }
    }

    /// The site's outbox has room again.
    pub fn drained(&mut self, site: usize, now: Instant) {
        self.now = now;
        self.sites[site].is_full = false;
    }

    /// Takes note that time has passed.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        for site in 0..self.sites.len() {
            if self.sites[site].give_up_at().is_some_and(|at| at <= now) {
                let waited = self.config.connect_timeout;
                self.lose(site, format!("no welcome within {waited:?}"), true);
            }
        }
        while let Some(&(at, timer)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Call(id) => self.call_expired(id),
                Timer::Attempt(id) => self.attempt_expired(id),
            }
        }
    }

    /// When to call [`tick`](Self::tick), once outputs are drained.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let give_up = self.sites.iter().filter_map(Site::give_up_at).min();
        [timer, give_up, self.wake_at].into_iter().flatten().min()
    }

    /// The next thing to do, `None` when all is done until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if !self.advance() {
                return None;
            }
        }
    }

    /// The message to encode, its payload lent.
    #[must_use]
    pub fn message<'a>(&'a self, sending: &'a Sending) -> Message<'a> {
        let body = match &sending.body {
            SendingBody::Hello { nonce } => {
                return Handshake::dial(NodeId::NONE, *nonce, self.now).hello(&self.identity);
            }
            SendingBody::OpenSession => Body::OpenSession,
            SendingBody::Command {
                session,
                sequence,
                first_unanswered,
                command,
                commit,
            } => Body::Command(Command {
                session: *session,
                sequence: *sequence,
                first_unanswered: *first_unanswered,
                command,
                commit: *commit,
            }),
            SendingBody::Read { query, consistency } => Body::Read(Read {
                query,
                consistency: *consistency,
            }),
            SendingBody::Change { wish } => Body::Change(wish.lend()),
            SendingBody::Transfer { to } => Body::Transfer(Transfer { to: *to }),
            SendingBody::Status => Body::Status,
            SendingBody::Fetch(fetch) => Body::Fetch(*fetch),
        };
        let header = Header {
            cluster: self.cluster.unwrap_or_default(),
            request: sending.request,
            ..Header::default()
        };
        Message { header, body }
    }

    /// What to decode the site's bytes by.
    #[must_use]
    pub fn limits(&self, site: usize) -> Limits {
        let frame_max = match self.sites[site].state {
            State::Ready { .. } => self.config.frame_max as usize,
            _ => Limits::BEFORE_HELLO.frame_max,
        };
        Limits {
            frame_max,
            entries_max: 0,
        }
    }

    /// Bytes of the largest frame that the client takes.
    #[must_use]
    pub fn frame_max(&self) -> usize {
        self.config.frame_max as usize
    }

    /// Whether the site has a connection, or one is being made.
    #[must_use]
    pub fn is_connected(&self, site: usize) -> bool {
        !self.sites[site].is_idle()
    }

    pub(super) fn admit(&mut self, kind: Kind, deadline: Instant) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.timers.insert((deadline, Timer::Call(id)));
        let call = Call {
            kind,
            deadline,
            place: Place::Waiting,
            ticket: None,
            is_uncertain: false,
            unknowns: 0,
            refused: None,
        };
        self.calls.insert(id, call);
        id
    }
}
