//! What clients saw of the key-value machine, and whether one order of it explains that.
//!
//! Clients record what they asked and how it ended in a [`History`]; [`History::check`] looks for an order of all
//! operations, each between its beginning and its end, in which a single map would have given the same answers: that
//! is linearizability, laws R6, R7 and R8 as clients see them. An operation whose outcome is unknown may take effect
//! at any time after its beginning, or never; one that was refused must have had none.
//!
//! ```
//! use kraft::history::{Action, Answer, Budget, Fate, History, Operation, Verdict};
//!
//! let mut history = History::new();
//! let mut add = |begin, end, action, answer| history.push(Operation {
//!     client: 1,
//!     key: b"key".to_vec(),
//!     action,
//!     begin,
//!     fate: Fate::Answered { end, answer },
//! });
//! add(1, 2, Action::Put(b"old".to_vec()), Answer::Done);
//! add(3, 4, Action::Put(b"new".to_vec()), Answer::Done);
//! add(5, 6, Action::Get, Answer::Value(b"old".to_vec()));
//! assert!(matches!(history.check(Budget::default()), Verdict::NotLinearizable(_)));
//! ```
//!
//! # How it looks
//!
//! The search is that of Wing and Gong, with Lowe's memory of what was tried ("Testing for linearizability", 2017):
//! linearizability is local, so each key is judged alone; of the operations that could come next one is chosen, and
//! the choice taken back when nothing follows from it. It is exponential at worst, hence the [`Budget`], counted in
//! steps and not in time, so that a run that is replayed is judged the same. `search` says what makes it fast.

mod explain;
mod model;
mod perform;
mod search;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::fmt;

use bytes::BytesMut;
use kraft_core::client::{Delivery, Outcome, Request};
use kraft_core::message::Basis;

pub use self::explain::Contradiction;
use self::search::{Decision, decide};
use crate::kv::{Command, Query, Reply};

/// What is asked of a key. A scan is of many keys and has no place here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads it.
    Get,
    /// Sets it to a value.
    Put(Vec<u8>),
    /// Removes it.
    Delete,
    /// Sets it if it is as expected.
    CompareAndSet {
        /// What it must have, `None` if it must be absent.
        expected: Option<Vec<u8>>,
        /// To what.
        value: Vec<u8>,
    },
    /// Adds to its number.
    Increment(i64),
}

/// What the machine said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// The key is absent.
    NotFound,
    /// The value of the key.
    Value(Vec<u8>),
    /// The value that was there where another was expected.
    Mismatch(Option<Vec<u8>>),
    /// The sum.
    Number(i64),
    /// The value is no number.
    NotANumber,
    /// The sum is beyond 64 bits.
    Overflow,
    /// Something that answers none of these questions.
    Other,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It took effect and was answered.
    Answered {
        /// When, in nanoseconds.
        end: u64,
        /// What.
        answer: Answer,
    },
    /// It did not and will not take effect.
    Refused,
    /// It may take effect at any time after its beginning, or never.
    Unknown,
}

/// An operation of a client.
///
/// Times are nanoseconds of one clock for all clients of a history; two operations of which one ends when the other
/// begins count as simultaneous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Whose, for people.
    pub client: u32,
    /// Of which key.
    pub key: Vec<u8>,
    /// What.
    pub action: Action,
    /// When the client began it, in nanoseconds.
    pub begin: u64,
    /// How it ended.
    pub fate: Fate,
}

/// Names an operation of the history that it was begun in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(usize);

impl OperationId {
    /// Where it stands in [`History::operations`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

/// What the clients of a cluster did and saw, from its first day on: keys are absent at its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    operations: Vec<Operation>,
}

/// How long to look for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Steps for each key, each a fraction of a microsecond and at most some tens of bytes of memory: what is remembered of
    /// a point counts by its size.
    pub steps: u64,
}

impl Default for Budget {
    /// Twenty million steps, some seconds for a key at worst. Where values are unique an operation takes a few steps for
    /// each that is under way at the same time.
    fn default() -> Self {
        Self { steps: 20_000_000 }
    }
}

/// What the check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains everything.
    Linearizable,
    /// There is none.
    NotLinearizable(Box<Contradiction>),
    /// The budget was used up before one was found, and no other key has none.
    Undecided {
        /// Where.
        key: Vec<u8>,
        /// What there was to order.
        operations: usize,
        /// What was spent.
        steps: u64,
    },
}

impl History {
    /// Of nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An operation begins. Until it is said how it ended that is unknown.
    pub fn begin(&mut self, client: u32, key: &[u8], action: Action, now: u64) -> OperationId {
        self.push(Operation {
            client,
            key: key.to_vec(),
            action,
            begin: now,
            fate: Fate::Unknown,
        })
    }

    /// An operation ended, as the client library says.
    pub fn end(&mut self, id: OperationId, outcome: &Outcome, now: u64) {
        self.operations[id.0].fate = match outcome {
            // A read by lease claims as much as any other.
            Outcome::Committed(reply)
            | Outcome::Weaker {
                basis: Basis::Lease,
                answer: reply,
            } => Fate::Answered {
                end: now,
                answer: Reply::decode(reply).map_or(Answer::Other, |reply| Answer::from(&reply)),
            },
            Outcome::Refused(_) => Fate::Refused,
            // What is not committed may be lost, and what may be old proves nothing.
            Outcome::Unknown | Outcome::Weaker { .. } => Fate::Unknown,
        };
    }

    /// Adds an operation as it is.
    pub fn push(&mut self, operation: Operation) -> OperationId {
        self.operations.push(operation);
        OperationId(self.operations.len() - 1)
    }

    /// Adds what other clients of the same cluster saw, by the same clock.
    pub fn merge(&mut self, other: Self) {
        self.operations.extend(other.operations);
    }

    /// In the order of their recording.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Looks for an order that explains all of it, key by key in their order, with so much effort for each.
    #[must_use]
    pub fn check(&self, budget: Budget) -> Verdict {
        let mut keys: BTreeMap<&[u8], Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            keys.entry(&operation.key).or_default().push(operation);
        }
        let mut verdict = Verdict::Linearizable;
        for (key, operations) in keys {
            match decide(&operations, budget.steps) {
                Decision::Ordered(_) => {}
                Decision::Impossible => {
                    return Verdict::NotLinearizable(Box::new(Contradiction::find(key, &operations, budget.steps)));
                }
                Decision::OutOfBudget { steps } => {
                    if verdict == Verdict::Linearizable {
                        verdict = Verdict::Undecided {
                            key: key.to_vec(),
                            operations: operations.len(),
                            steps,
                        };
                    }
                }
            }
        }
        verdict
    }
}

impl Verdict {
    /// Whether an order was found.
    #[must_use]
    pub fn is_linearizable(&self) -> bool {
        *self == Self::Linearizable
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linearizable => f.write_str("linearizable"),
            Self::NotLinearizable(contradiction) => contradiction.fmt(f),
            Self::Undecided { key, operations, steps } => write!(
                f,
                "undecided: key {} has {operations} operations, and {steps} steps found no order; allow more steps, or \
                 fewer operations at once on a key",
                text::escaped(key)
            ),
        }
    }
}

impl Action {
    /// Whether it changes nothing, whatever comes of it.
    #[must_use]
    pub fn is_read(&self) -> bool {
        *self == Self::Get
    }

    /// What a client asks of the cluster.
    #[must_use]
    pub fn request(&self, key: &[u8], delivery: Delivery) -> Request {
        let mut bytes = BytesMut::new();
        let command = match self {
            Self::Get => {
                Query::Get { key }.encode(&mut bytes);
                return Request::read(bytes.freeze());
            }
            Self::Put(value) => Command::Put { key, value },
            Self::Delete => Command::Delete { key },
            Self::CompareAndSet { expected, value } => Command::CompareAndSet {
                key,
                expected: expected.as_deref(),
                value,
            },
            Self::Increment(by) => Command::Increment { key, by: *by },
        };
        command.encode(&mut bytes);
        Request::command(bytes.freeze(), delivery)
    }
}

impl From<&Reply<'_>> for Answer {
    fn from(reply: &Reply<'_>) -> Self {
        match reply {
            Reply::Done => Self::Done,
            Reply::NotFound => Self::NotFound,
            Reply::Value(value) => Self::Value(value.to_vec()),
            Reply::Mismatch(value) => Self::Mismatch(value.map(<[u8]>::to_vec)),
            Reply::Number(number) => Self::Number(*number),
            Reply::NotANumber => Self::NotANumber,
            Reply::Overflow => Self::Overflow,
            Reply::Entries(_) | Reply::Invalid => Self::Other,
        }
    }
}
