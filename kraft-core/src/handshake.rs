//! Who may say what on a connection: hello, roles, goaway.
//!
//! A [`Handshake`] is the state of one connection, as a pure state machine: messages and time go in, what to send and
//! what was established comes out. The side that dialled says [`Hello`], the other one answers with
//! [`Welcome`](crate::message::Welcome) or [`Goaway`](crate::message::Goaway); from then on each side may send the
//! kinds of one row of [`Kinds::of`], and no other.
//!
//! ```text
//! dialler                        acceptor
//!   |  Hello                       |  waits for Hello, HELLO_TIMEOUT
//!   |----------------------------->|  cluster, version, ids, membership, incarnation: judged
//!   |  Welcome              Goaway |
//!   |<-------------------or--------|
//!   |  judged the same way         |  established, or flushed and closed
//!   |  requests ------------------>|
//!   |<------------------- replies  |
//! ```
//!
//! Nothing of a hello reaches Raft: a node of another cluster, or a copy of this one, moves no term here.
//!
//! What the owner of the connections knows of the cluster comes in as a [`Policy`]. Who is *authentic* is decided by
//! [`require`](Handshake::require), if the way to the other end proves names: a node's id is believed if its
//! [`node_name`] is among them. Without TLS a host that reaches the port can claim any member's id and, if it has seen
//! the traffic, its incarnation.

mod judge;
mod kinds;
mod policy;
mod proof;
mod rejection;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::kinds::{Kind, Kinds, Side};
pub use self::policy::{Identity, Member, NoPeers, Policy};
pub use self::proof::node_name;
pub use self::rejection::Rejection;

use crate::id::{ClusterId, GroupId, Incarnation, NodeId};
use crate::message::{Body, GoawayReason, Header, Hello, Message, Role};
use crate::protocol::Limits;
use crate::time::Instant;

/// How long a connection may be without a hello or its answer.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a peer's connection must have been silent before a newer one of the same node takes its place. Below it
/// the newer one is turned away: two processes with one id are at work, or the older connection's end is still
/// underway, and then the next dial succeeds.
pub const SILENT_AFTER: Duration = Duration::from_secs(1);

/// A goaway's detail is cut to so many bytes.
pub const DETAIL_MAX: usize = 256;

/// The smallest `frame_max` that a side may ask for: what every side must take before hello.
pub const FRAME_MAX_LEAST: u32 = 4096;

/// What a handshake agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established {
    /// What the dialler is.
    pub role: Role,
    /// The node at the other end, [`NodeId::NONE`] if that is a client.
    pub node: NodeId,
    /// The cluster that both are of; where a client did not know, the one that answered.
    pub cluster: ClusterId,
    /// The life of that node's data folder, zero from a client.
    pub incarnation: Incarnation,
    /// The incarnation was not known: it must be durable before anything that this node acknowledges or votes counts.
    pub is_new: bool,
    /// The node's older, silent connection is to be closed, with [`GoawayReason::DuplicateNode`].
    pub replaces: bool,
    /// The version that both speak.
    pub version: u16,
    /// Features that both have.
    pub features: u64,
    /// The largest frame that the other end takes, header included.
    pub frame_max: u32,
}

/// What a message or the time made of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The handshake is through, and the message is one that the other end may send: handle it.
    Pass,
    /// The handshake is through. If this side accepted, `send` is the welcome to answer with.
    Established {
        /// What was agreed on.
        established: Established,
        /// What to send.
        send: Option<Message<'static>>,
    },
    /// Send the rejection's [`message`](Rejection::message), close with `CloseMode::Flush` and tell the operator.
    Reject(Rejection),
    /// The other end said goaway: close, and tell the operator its reason and detail.
    Gone(GoawayReason),
}

/// The handshake and the permissions of one connection.
///
/// Invariant: `established` is set once and never taken back; before it only [`Kinds::HELLO`] or [`Kinds::WELCOME`]
/// pass.
#[derive(Clone, Debug)]
pub struct Handshake {
    side: Side,
    /// Whom we dialled, or which role the port is for.
    expects: Expects,
    deadline: Instant,
    /// The hello's cluster, which a client's later headers repeat.
    claimed: ClusterId,
    /// The names that the other end has proved, `None` if nothing is proved here.
    proved: Option<Box<[String]>>,
    established: Option<Established>,
}

#[derive(Clone, Copy, Debug)]
enum Expects {
    Welcome { from: NodeId, nonce: u64 },
    Hello { role: Option<Role> },
}

impl Handshake {
    /// The state of a connection that was dialled: to `to`, or with [`NodeId::NONE`] to whoever answers. `nonce` is
    /// drawn afresh. Send [`hello`](Self::hello) at once; the deadline runs from `now`, so call this when the
    /// connection is there.
    #[must_use]
    pub fn dial(to: NodeId, nonce: u64, now: Instant) -> Self {
        Self {
            side: Side::Dialler,
            expects: Expects::Welcome { from: to, nonce },
            deadline: now + HELLO_TIMEOUT,
            claimed: ClusterId(0),
            proved: None,
            established: None,
        }
    }

    /// The state of a connection that was accepted, on a port that takes `role` alone or, with `None`, both.
    #[must_use]
    pub fn accept(role: Option<Role>, now: Instant) -> Self {
        Self {
            side: Side::Acceptor,
            expects: Expects::Hello { role },
            deadline: now + HELLO_TIMEOUT,
            claimed: ClusterId(0),
            proved: None,
            established: None,
        }
    }

    /// Believes a node's id from here on only if its [`node_name`] is among `proved`, the names that the other end has
    /// proved by a certificate ([`Link::proof`](crate::link::Link::proof)). A client's id is nobody's, so that any
    /// client passes. Called before the first message.
    ///
    /// # Errors
    ///
    /// A dialler knows whom it dialled: if the names are of somebody else, it need not say hello.
    pub fn require(&mut self, proved: &[String], local: &Identity) -> Result<(), Rejection> {
        self.proved = Some(proved.into());
        match self.expects {
            Expects::Welcome { from, .. } if from.is_some() => proof::check(Some(proved), from, local),
            _ => Ok(()),
        }
    }

    /// The first message of a connection that was dialled.
    ///
    /// # Panics
    ///
    /// If it was accepted.
    #[must_use]
    pub fn hello<'a>(&self, local: &'a Identity) -> Message<'a> {
        let Expects::Welcome { from, nonce } = self.expects else {
            panic!("hello is said by the side that dialled");
        };
        Message {
            header: local.header(),
            body: Body::Hello(Hello {
                role: local.role(),
                to: from,
                incarnation: local.incarnation,
                nonce,
                versions: local.versions,
                features: local.features,
                frame_max: local.frame_max,
                cluster_name: &local.cluster_name,
                membership: local.membership,
            }),
        }
    }

    /// Which side of the connection this is.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// What was agreed on, once the handshake is through.
    #[must_use]
    pub const fn established(&self) -> Option<&Established> {
        self.established.as_ref()
    }

    /// When to call [`expire`](Self::expire); `None` once the handshake is through.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        match self.established {
            None => Some(self.deadline),
            Some(_) => None,
        }
    }

    /// The nonce of the hello that was sent, for [`Policy::is_own_nonce`].
    #[must_use]
    pub const fn nonce(&self) -> Option<u64> {
        match self.expects {
            Expects::Welcome { nonce, .. } => Some(nonce),
            Expects::Hello { .. } => None,
        }
    }

    /// The decoder's limits for this connection, `established` ones once the handshake is through.
    #[must_use]
    pub const fn limits<'a>(&self, established: &'a Limits) -> &'a Limits {
        match self.established {
            None => &Limits::BEFORE_HELLO,
            Some(_) => established,
        }
    }

    /// Whether this side may send `kind` now.
    #[must_use]
    pub const fn may_send(&self, kind: Kind) -> bool {
        self.kinds(self.side).contains(kind)
    }

    /// Tells that it is `now`: a connection without its handshake past the deadline is turned away.
    #[must_use]
    pub fn expire(&self, now: Instant) -> Option<Rejection> {
        let late = self.established.is_none() && now >= self.deadline;
        let awaited = match self.side {
            Side::Dialler => "welcome",
            Side::Acceptor => "hello",
        };
        late.then(|| {
            Rejection::new(
                GoawayReason::TooSlow,
                format_args!("no {awaited} within {} s", HELLO_TIMEOUT.as_secs()),
            )
        })
    }

    /// Judges a received message. Called for every one, in order, before anybody else sees it.
    pub fn receive<P: Policy + ?Sized>(
        &mut self,
        message: &Message<'_>,
        local: &Identity,
        policy: &P,
        now: Instant,
    ) -> Step {
        let kind = Kind::of(&message.body);
        let other = match self.side {
            Side::Dialler => Side::Acceptor,
            Side::Acceptor => Side::Dialler,
        };
        if !self.kinds(other).contains(kind) {
            return Step::Reject(self.not_allowed(kind));
        }
        let judged = match (&message.body, self.expects) {
            (Body::Goaway(goaway), _) => return Step::Gone(goaway.reason),
            (Body::Hello(hello), Expects::Hello { role }) => {
                judge::hello(&message.header, hello, role, local, policy, now)
            }
            (Body::Welcome(welcome), Expects::Welcome { from, nonce }) => {
                judge::welcome(&message.header, welcome, from, nonce, local, policy)
            }
            _ => {
                return self
                    .check_header(&message.header, local)
                    .map_or_else(Step::Reject, |()| Step::Pass);
            }
        };
        let judged = judged.and_then(|established| {
            proof::check(self.proved.as_deref(), established.node, local)?;
            Ok(established)
        });
        match judged {
            Err(rejection) => Step::Reject(rejection),
            Ok(established) => {
                let send = match &message.body {
                    Body::Hello(hello) => Some(judge::answer(hello, &established, local)),
                    _ => None,
                };
                self.claimed = message.header.cluster;
                self.established = Some(established);
                Step::Established { established, send }
            }
        }
    }

    const fn kinds(&self, side: Side) -> Kinds {
        match (&self.established, side) {
            (Some(established), _) => Kinds::of(established.role, side),
            (None, Side::Dialler) => Kinds::HELLO,
            (None, Side::Acceptor) => Kinds::WELCOME,
        }
    }

    fn not_allowed(&self, kind: Kind) -> Rejection {
        match (&self.established, self.side) {
            (None, Side::Dialler) => {
                Rejection::new(GoawayReason::NotAllowed, format_args!("{kind:?} before the welcome"))
            }
            (None, Side::Acceptor) => {
                Rejection::new(GoawayReason::NotAllowed, format_args!("{kind:?} before the hello"))
            }
            (Some(established), side) => {
                let (who, to) = match (established.role, side) {
                    (Role::Peer, Side::Acceptor) => ("a peer that dialled", "ask"),
                    (Role::Client, Side::Acceptor) => ("a client", "ask"),
                    (Role::Peer | Role::Client, Side::Dialler) => ("a node that was dialled", "answer"),
                };
                Rejection::new(
                    GoawayReason::NotAllowed,
                    format_args!("{who} may not {to} with {kind:?}"),
                )
            }
        }
    }

    /// Every message repeats cluster and sender; one that names others contradicts the hello.
    fn check_header(&self, header: &Header, local: &Identity) -> Result<(), Rejection> {
        let established = self
            .established
            .as_ref()
            .expect("other kinds pass only an established connection");
        if header.cluster != established.cluster && header.cluster != self.claimed {
            return Err(Rejection::new(
                GoawayReason::WrongCluster,
                format_args!(
                    "a message of cluster {:#x} on a connection of {:#x}",
                    header.cluster.0, local.cluster.0
                ),
            ));
        }
        if header.from != established.node {
            return Err(Rejection::new(
                GoawayReason::Violation,
                format_args!(
                    "a message from node {} on a connection of node {}",
                    header.from, established.node
                ),
            ));
        }
        if header.group != GroupId(0) {
            return Err(Rejection::new(
                GoawayReason::Violation,
                format_args!("a message for group {}; there is group 0 alone", header.group),
            ));
        }
        Ok(())
    }
}
