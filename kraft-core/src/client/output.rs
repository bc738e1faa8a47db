//! What the client hands out.

use bytes::Bytes;

use super::call::{CallId, Outcome};
use super::fetch::{NoPiece, Piece};
use super::status::NodeReport;
use crate::id::{NodeId, RequestId, Sequence, SessionId};
use crate::membership::Wish;
use crate::message::{Commit, Consistency, Fetch};

/// What to do next. Each may be performed the moment it is handed out, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect to this site; call [`Client::connected`](super::Client::connected) or [`Client::closed`](super::Client::closed).
    Connect {
        /// Which of the given addresses.
        to: usize,
    },
    /// Close this site's connection and say no more of it: the client has forgotten it already.
    Disconnect {
        /// Which of the given addresses.
        from: usize,
    },
    /// Encode [`Client::message`](super::Client::message) of this into the site's connection; if that fails, call [`Client::unsent`](super::Client::unsent) at once.
    Send {
        /// Which of the given addresses.
        to: usize,
        /// The largest frame that the node takes.
        frame_max: usize,
        /// What.
        message: Sending,
    },
    /// A call ended.
    Done {
        /// Which.
        call: CallId,
        /// How.
        end: End,
    },
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A command, a read or a transfer.
    Outcome(Outcome),
    /// A status call: what the node said, or why it said nothing.
    Report(Result<Box<NodeReport>, String>),
    /// A piece of a snapshot, or why there is none.
    Piece(Result<Piece, NoPiece>),
}

/// A message to be sent; [`Client::message`](super::Client::message) makes one that can be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    pub(super) request: RequestId,
    pub(super) body: SendingBody,
}

impl Sending {
    /// Joins the reply to it; zero for a hello.
    #[must_use]
    pub fn request(&self) -> RequestId {
        self.request
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SendingBody {
    Hello {
        nonce: u64,
    },
    OpenSession,
    Command {
        session: SessionId,
        sequence: Sequence,
        first_unanswered: Sequence,
        command: Bytes,
        commit: Commit,
    },
    Read {
        query: Bytes,
        consistency: Consistency,
    },
    Change {
        wish: Wish,
    },
    Transfer {
        to: NodeId,
    },
    Status,
    Fetch(Fetch),
}
