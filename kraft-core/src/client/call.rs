//! What a user asks of the cluster, and how it ends.

use std::fmt;

use bytes::Bytes;

use crate::id::{NodeId, RequestId, Sequence, SessionId};
use crate::membership::Wish;
use crate::message::{self, Basis, Commit, Consistency, Fetch, Refusal};
use crate::shown::shown;
use crate::time::Instant;

/// Names a call, from its request to its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A command for the log.
    Command {
        /// What the state machine will apply.
        command: Bytes,
        /// What becomes of it when an answer is lost.
        delivery: Delivery,
        /// When it is answered.
        commit: Commit,
    },
    /// A query of the state machine.
    Read {
        /// What the state machine will answer.
        query: Bytes,
        /// What the answer must hold.
        consistency: Consistency,
    },
    /// Changes who the members are; the answer is read by [`Change::index`](crate::message::Change::index).
    ///
    /// It is tried again when an answer is lost: what is so already succeeds.
    Change {
        /// How.
        wish: Wish,
    },
    /// Hands leadership over; the answer is read by [`Transfer::leader`](crate::message::Transfer::leader).
    ///
    /// With a name it is tried again when an answer is lost: in the end that node leads.
    Transfer {
        /// To whom, [`NodeId::NONE`] for the voter that has most of the log.
        to: NodeId,
    },
    /// A node's report of itself.
    Status {
        /// Which of the given addresses, counted from 0.
        site: usize,
    },
    /// A piece of a snapshot that a node keeps; [`Download`](super::Download) says which. It may take as long as the call.
    Fetch {
        /// Which of the given addresses, counted from 0.
        site: usize,
        /// Which piece.
        fetch: Fetch,
    },
}

impl Request {
    /// A command that is answered when it is committed and applied.
    #[must_use]
    pub fn command(command: Bytes, delivery: Delivery) -> Self {
        Self::Command {
            command,
            delivery,
            commit: Commit::Strong,
        }
    }

    /// A linearizable query.
    #[must_use]
    pub fn read(query: Bytes) -> Self {
        Self::Read {
            query,
            consistency: Consistency::Linearizable,
        }
    }
}

/// What becomes of a command when an answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is tried again under the same session and sequence; it applies once.
    ExactlyOnce,
    /// It is not tried again, and its outcome is unknown. Costs no session.
    AtMostOnce,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed and applied, or read; this is the state machine's answer.
    Committed(Bytes),
    /// It did not and will not happen.
    Refused(Refused),
    /// A command may or may not have happened; a read got no answer.
    Unknown,
    /// It is answered on less, as was asked for.
    Weaker {
        /// On what.
        basis: Basis,
        /// The state machine's answer to a read; of a command, which is not applied, nothing.
        answer: Bytes,
    },
}

/// Why a call did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The branch that the caller takes. [`Refusal::NotLeader`] also when no node could be reached.
    pub why: Refusal,
    /// Who leads, as far as is known.
    pub leader: NodeId,
    /// What a person should read; may be empty.
    pub detail: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Refusal::NotLeader => "no leader was found",
            Refusal::Overloaded => "the cluster is overloaded",
            Refusal::NoSpace if self.detail.is_empty() => "the log or its disk is full",
            Refusal::NoSpace => "there is no space",
            Refusal::SessionExpired => "the session expired",
            Refusal::TooLarge => "it is above a limit",
            Refusal::Invalid => "the state machine cannot read it",
            Refusal::Stopping => "the node is going down",
            Refusal::UnknownMember => "there is no such member",
            Refusal::MemberConflict => "the member is another one",
            Refusal::ChangeUnderWay => "another change of the members is under way",
            Refusal::NotCaughtUp => "the learner has not caught up",
            Refusal::Voters => "so many voters cannot be",
            Refusal::Unreachable => "the node does not answer",
            Refusal::Transferring => "leadership is being handed over",
            Refusal::TimedOut => "it did not come about in time",
            Refusal::TooStale => "no node knows itself up to date so lately",
        };
        f.write_str(why)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

/// `calls_max` calls are not answered yet; nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many calls are unanswered (calls_max)")
    }
}

impl std::error::Error for TooMany {}

/// A reply's detail is cut to so many characters.
const DETAIL_MAX: usize = 256;

/// Text of a node for a person's terminal: escaped and cut.
pub(super) fn printable(text: &str) -> String {
    shown(text).take(DETAIL_MAX).collect()
}

impl Refused {
    pub(super) fn of(refused: &message::Refused<'_>) -> Self {
        Self {
            why: refused.why,
            leader: refused.leader,
            detail: printable(refused.detail),
        }
    }
}

/// What a call is for.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Command {
        command: Bytes,
        delivery: Delivery,
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
    Status {
        site: usize,
    },
    Fetch {
        site: usize,
        fetch: Fetch,
    },
    /// The client's own: opens its session.
    OpenSession,
}

impl Kind {
    /// Whether an attempt without an answer may be followed by another.
    pub(super) fn is_repeatable(&self) -> bool {
        match self {
            Self::Command { delivery, .. } => *delivery == Delivery::ExactlyOnce,
            Self::Transfer { to } => to.is_some(),
            Self::Change { .. } => true,
            Self::Read { .. } | Self::Status { .. } | Self::Fetch { .. } | Self::OpenSession => true,
        }
    }

    pub(super) fn payload_bytes(&self) -> usize {
        match self {
            Self::Command { command, .. } => command.len(),
            Self::Read { query, .. } => query.len(),
            Self::Change { wish } => wish.bytes(),
            Self::Transfer { .. } | Self::Status { .. } | Self::Fetch { .. } | Self::OpenSession => 0,
        }
    }

    /// Whether an answer on this basis is one to what was asked.
    pub(super) fn takes(&self, basis: Basis) -> bool {
        match self {
            Self::Command { commit, .. } => commit.takes(basis),
            Self::Read { consistency, .. } => consistency.takes(basis),
            Self::Change { .. } => true,
            Self::Transfer { .. } | Self::Status { .. } | Self::Fetch { .. } | Self::OpenSession => false,
        }
    }

    /// The one site that it is for.
    pub(super) fn site(&self) -> Option<usize> {
        match self {
            Self::Status { site } | Self::Fetch { site, .. } => Some(*site),
            _ => None,
        }
    }
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In one of the queues.
    Waiting,
    /// Sent to a site and not answered.
    Sent {
        site: usize,
        request: RequestId,
        at: Instant,
    },
}

/// A call that is not answered.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) kind: Kind,
    pub(super) deadline: Instant,
    pub(super) place: Place,
    /// Kept through all attempts: this is what makes them one.
    pub(super) ticket: Option<(SessionId, Sequence)>,
    /// An attempt went without an answer, or was answered `Unknown`.
    pub(super) is_uncertain: bool,
    /// Answers `Unknown` so far.
    pub(super) unknowns: u32,
    /// The last refusal that was not final.
    pub(super) refused: Option<Refused>,
}
