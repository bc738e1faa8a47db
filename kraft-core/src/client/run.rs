//! The client on an adapter and a protocol.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::call::{CallId, Request, TooMany};
use super::engine::Client;
use super::output::{End, Output};
use crate::adapter::{Adapter, Event};
use crate::id::ConnId;
use crate::inbox::{Budget, Inbox, InboxError};
use crate::link::CloseMode;
use crate::protocol::{DecodeError, Foreign, Protocol};
use crate::time::Instant;

/// What is told of a node that speaks TLS to a client that does not.
pub const SPEAKS_TLS: &str = "speaks TLS, and this client does not: give it the authorities of the nodes";

/// A [`Client`] with an event loop and a wire format of its own.
///
/// Alone: [`call`](Self::call), then [`turn`](Self::turn) until [`poll_done`](Self::poll_done) gives the end. Inside
/// another loop: wait on [`poll_fd`](Self::poll_fd) for [`next_wait`](Self::next_wait) at most, then
/// `turn(Some(Instant::ZERO))`, which does not wait.
#[derive(Debug)]
pub struct Runner<A, P> {
    adapter: A,
    protocol: P,
    client: Client,
    /// By site.
    conns: Vec<Option<Conn>>,
    budget: Budget,
    done: VecDeque<(CallId, End)>,
    /// A call was taken in, and nothing was sent since.
    called: bool,
}

#[derive(Debug)]
struct Conn {
    id: ConnId,
    inbox: Inbox,
}

impl<A: Adapter, P: Protocol> Runner<A, P> {
    /// Runs `client` on `adapter`, in the format `protocol`. The adapter is the client's alone.
    pub fn new(client: Client, adapter: A, protocol: P) -> Self {
        let sites = client.addresses().len();
        let limits = client.frame_max();
        Self {
            adapter,
            protocol,
            client,
            conns: (0..sites).map(|_| None).collect(),
            // Each site's connection may hold a frame; a replaced one may be cleared a little later.
            budget: Budget::new(limits.saturating_mul(2 * sites)),
            done: VecDeque::new(),
            called: false,
        }
    }

    /// Takes a call in.
    ///
    /// # Errors
    ///
    /// [`TooMany`].
    pub fn call(&mut self, request: Request) -> Result<CallId, TooMany> {
        self.called = true;
        self.client.call(request, self.adapter.now())
    }

    /// Takes a call in that ends at `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// [`TooMany`].
    pub fn call_until(&mut self, request: Request, deadline: Instant) -> Result<CallId, TooMany> {
        self.called = true;
        self.client.call_until(request, deadline, self.adapter.now())
    }

    /// The next call that ended.
    pub fn poll_done(&mut self) -> Option<(CallId, End)> {
        self.done.pop_front()
    }

    /// The time of the adapter.
    pub fn now(&self) -> Instant {
        self.adapter.now()
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The adapter.
    pub fn adapter(&mut self) -> &mut A {
        &mut self.adapter
    }

    /// When to call [`turn`](Self::turn) though `poll_fd` says nothing.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        if self.called || !self.done.is_empty() {
            return Some(self.adapter.now());
        }
        let timers = self.adapter.timers().next_deadline();
        [timers, self.client.deadline()].into_iter().flatten().min()
    }

    /// How long to wait for [`poll_fd`](Self::poll_fd) at the most; `None` for as long as it takes.
    pub fn next_wait(&mut self) -> Option<Duration> {
        let deadline = self.next_deadline()?;
        Some(deadline - self.adapter.now())
    }

    /// The adapter's descriptor, to wait on inside another loop.
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.adapter.poll_fd()
    }

    /// One turn: sends what waits, waits until something happens or `until`, takes it in, and sends what follows.
    /// Does not wait while calls that ended are not taken.
    ///
    /// # Errors
    ///
    /// Only what ends the adapter.
    pub fn turn(&mut self, until: Option<Instant>) -> io::Result<()> {
        self.perform();
        let until = if self.done.is_empty() {
            until
        } else {
            Some(self.adapter.now())
        };
        let deadline = [until, self.client.deadline()].into_iter().flatten().min();
        let Self {
            adapter,
            protocol,
            client,
            conns,
            budget,
            ..
        } = self;
        adapter.poll(deadline, |now, event| take(client, conns, budget, protocol, now, event))?;
        self.client.tick(self.adapter.now());
        self.perform();
        self.adapter.flush()
    }

    fn perform(&mut self) {
        self.called = false;
        while let Some(output) = self.client.poll_output() {
            let now = self.adapter.now();
            match output {
                Output::Connect { to } => {
                    let address = self.client.addresses().nth(to).expect("a site has an address");
                    match self.adapter.connect(address) {
                        Ok(id) => {
                            self.conns[to] = Some(Conn {
                                id,
                                inbox: Inbox::default(),
                            });
                        }
                        Err(error) => self.client.closed(to, &error, now),
                    }
                }
                Output::Disconnect { from } => {
                    if let Some(mut conn) = self.conns[from].take() {
                        conn.inbox.clear(&mut self.budget);
                        if let Some(link) = self.adapter.link(conn.id) {
                            link.close(CloseMode::Now);
                        }
                    }
                }
                Output::Send { to, frame_max, message } => {
                    let conn = self.conns[to].as_ref().map(|conn| conn.id);
                    let Some(link) = conn.and_then(|conn| self.adapter.link(conn)) else {
                        self.client.closed(to, &"the connection is gone", now);
                        continue;
                    };
                    // What not even an empty outbox holds is too large: it would be refused at each `Drained`.
                    let outbox = link.outbox();
                    let frame_max = frame_max.min(outbox.limit());
                    let encoded = self.protocol.encode(&self.client.message(&message), frame_max, outbox);
                    if let Err(error) = encoded {
                        self.client.unsent(to, &message, error, now);
                    }
                }
                Output::Done { call, end } => self.done.push_back((call, end)),
            }
        }
    }
}

fn take<P: Protocol>(
    client: &mut Client,
    conns: &mut [Option<Conn>],
    budget: &mut Budget,
    protocol: &P,
    now: Instant,
    event: Event<'_>,
) {
    let position =
        |conns: &[Option<Conn>], conn: ConnId| conns.iter().position(|c| c.as_ref().is_some_and(|c| c.id == conn));
    match event {
        Event::Connected { conn, link } => {
            if let Some(site) = position(conns, conn) {
                client.connected(site, link.proof(), now);
            }
        }
        Event::Received { conn, bytes, link } => {
            let Some(site) = position(conns, conn) else {
                return;
            };
            let limits = client.limits(site);
            let inbox = &mut conns[site].as_mut().expect("position found it").inbox;
            let fed = inbox.feed(protocol, &limits, budget, bytes, |message| {
                client.received(site, &message, now);
                if client.is_connected(site) {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            });
            if let Err(error) = fed {
                link.close(CloseMode::Now);
                inbox.clear(budget);
                conns[site] = None;
                match error {
                    // The alert of a node that was taken for one that speaks plaintext.
                    InboxError::Decode(DecodeError::BadMagic(Foreign::Tls)) => {
                        client.closed(site, &SPEAKS_TLS, now);
                    }
                    error => client.closed(site, &error, now),
                }
            }
        }
        Event::Drained { conn, .. } => {
            if let Some(site) = position(conns, conn) {
                client.drained(site, now);
            }
        }
        Event::Ended { conn, link } => {
            link.close(CloseMode::Now);
            if let Some(site) = position(conns, conn) {
                conns[site].take().expect("position found it").inbox.clear(budget);
                client.closed(site, &"the node closed the connection", now);
            }
        }
        Event::Closed { conn, reason } => {
            if let Some(site) = position(conns, conn) {
                conns[site].take().expect("position found it").inbox.clear(budget);
                client.closed(site, &reason, now);
            }
        }
        // The adapter is the client's alone, and it listens nowhere, marks nothing and starts no timers.
        _ => {}
    }
}
