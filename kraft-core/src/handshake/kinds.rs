//! Kinds of messages, and the table of who may send which.

use crate::message::{Body, Role};

/// A kind of message: a [`Body`] without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Body::Hello`].
    Hello,
    /// [`Body::Welcome`].
    Welcome,
    /// [`Body::Goaway`].
    Goaway,
    /// [`Body::Append`].
    Append,
    /// [`Body::AppendReply`].
    AppendReply,
    /// [`Body::Heartbeat`].
    Heartbeat,
    /// [`Body::HeartbeatReply`].
    HeartbeatReply,
    /// [`Body::Vote`].
    Vote,
    /// [`Body::VoteReply`].
    VoteReply,
    /// [`Body::ReadIndex`].
    ReadIndex,
    /// [`Body::ReadIndexReply`].
    ReadIndexReply,
    /// [`Body::Snapshot`].
    Snapshot,
    /// [`Body::SnapshotReply`].
    SnapshotReply,
    /// [`Body::TimeoutNow`].
    TimeoutNow,
    /// [`Body::OpenSession`].
    OpenSession,
    /// [`Body::Command`].
    Command,
    /// [`Body::Read`].
    Read,
    /// [`Body::Change`].
    Change,
    /// [`Body::Transfer`].
    Transfer,
    /// [`Body::Fetch`].
    Fetch,
    /// [`Body::FetchReply`].
    FetchReply,
    /// [`Body::Reply`].
    Reply,
    /// [`Body::Status`].
    Status,
    /// [`Body::StatusReply`].
    StatusReply,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 24] = [
        Self::Hello,
        Self::Welcome,
        Self::Goaway,
        Self::Append,
        Self::AppendReply,
        Self::Heartbeat,
        Self::HeartbeatReply,
        Self::Vote,
        Self::VoteReply,
        Self::ReadIndex,
        Self::ReadIndexReply,
        Self::Snapshot,
        Self::SnapshotReply,
        Self::TimeoutNow,
        Self::OpenSession,
        Self::Command,
        Self::Read,
        Self::Change,
        Self::Transfer,
        Self::Fetch,
        Self::FetchReply,
        Self::Reply,
        Self::Status,
        Self::StatusReply,
    ];

    /// The kind of a body.
    #[must_use]
    pub const fn of(body: &Body<'_>) -> Self {
        match body {
            Body::Hello(_) => Self::Hello,
            Body::Welcome(_) => Self::Welcome,
            Body::Goaway(_) => Self::Goaway,
            Body::Append(_) => Self::Append,
            Body::AppendReply(_) => Self::AppendReply,
            Body::Heartbeat(_) => Self::Heartbeat,
            Body::HeartbeatReply(_) => Self::HeartbeatReply,
            Body::Vote(_) => Self::Vote,
            Body::VoteReply(_) => Self::VoteReply,
            Body::ReadIndex => Self::ReadIndex,
            Body::ReadIndexReply(_) => Self::ReadIndexReply,
            Body::Snapshot(_) => Self::Snapshot,
            Body::SnapshotReply(_) => Self::SnapshotReply,
            Body::TimeoutNow => Self::TimeoutNow,
            Body::OpenSession => Self::OpenSession,
            Body::Command(_) => Self::Command,
            Body::Read(_) => Self::Read,
            Body::Change(_) => Self::Change,
            Body::Transfer(_) => Self::Transfer,
            Body::Fetch(_) => Self::Fetch,
            Body::FetchReply(_) => Self::FetchReply,
            Body::Reply(_) => Self::Reply,
            Body::Status => Self::Status,
            Body::StatusReply(_) => Self::StatusReply,
        }
    }

    /// Whether it answers a request, and so leaves by the connection that the request came by.
    #[must_use]
    pub const fn is_reply(self) -> bool {
        matches!(
            self,
            Self::AppendReply
                | Self::HeartbeatReply
                | Self::VoteReply
                | Self::ReadIndexReply
                | Self::SnapshotReply
                | Self::FetchReply
                | Self::Reply
                | Self::StatusReply
        )
    }
}

/// Which side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that connected. Says hello; sends requests.
    Dialler,
    /// The one that accepted. Sends replies.
    Acceptor,
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u32);

impl Kinds {
    /// What the dialler may send before the handshake is through.
    pub const HELLO: Self = Self::list(&[Kind::Hello, Kind::Goaway]);
    /// What the acceptor may send before the handshake is through.
    pub const WELCOME: Self = Self::list(&[Kind::Welcome, Kind::Goaway]);

    /// What `side` may send on an established connection whose dialler is a `role`: the one table of permissions.
    #[must_use]
    pub const fn of(role: Role, side: Side) -> Self {
        match (role, side) {
            (Role::Peer, Side::Dialler) => Self::list(&[
                Kind::Append,
                Kind::Heartbeat,
                Kind::Vote,
                Kind::ReadIndex,
                Kind::Snapshot,
                Kind::TimeoutNow,
                Kind::Status,
                Kind::Goaway,
            ]),
            (Role::Peer, Side::Acceptor) => Self::list(&[
                Kind::AppendReply,
                Kind::HeartbeatReply,
                Kind::VoteReply,
                Kind::ReadIndexReply,
                Kind::SnapshotReply,
                Kind::StatusReply,
                Kind::Goaway,
            ]),
            (Role::Client, Side::Dialler) => Self::list(&[
                Kind::OpenSession,
                Kind::Command,
                Kind::Read,
                Kind::Change,
                Kind::Transfer,
                Kind::Fetch,
                Kind::Status,
                Kind::Goaway,
            ]),
            (Role::Client, Side::Acceptor) => {
                Self::list(&[Kind::Reply, Kind::FetchReply, Kind::StatusReply, Kind::Goaway])
            }
        }
    }

    const fn list(kinds: &[Kind]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < kinds.len() {
            bits |= 1 << kinds[at] as u32;
            at += 1;
        }
        Self(bits)
    }

    /// Whether `kind` is among them.
    #[must_use]
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u32) != 0
    }
}
