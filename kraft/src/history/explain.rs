//! Why there is no order, for people.

use std::fmt;

use bytes::BytesMut;
use kraft_core::client::{Delivery, Request};
use kraft_core::id::Index;
use kraft_core::machine::StateMachine;

use super::search::{Decision, decide};
use super::text::{escaped, optional};
use super::{Action, Answer, Fate, Operation};
use crate::kv::{Kv, Limits};

/// Operations that are shown of each kind.
const SHOWN: usize = 8;

/// A key whose operations no order explains: the shortest beginning of its history for which that is so, as far as the
/// budget went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Which.
    pub key: Vec<u8>,
    /// The operation with whose end the contradiction is there.
    pub culprit: Operation,
    /// An order of what had ended before, and of what else must have taken effect.
    pub before: Vec<Operation>,
    /// What that order leaves, `None` if the key is absent.
    pub leaves: Option<Vec<u8>>,
    /// What was under way when the culprit ended, or may take effect at any time.
    pub around: Vec<Operation>,
    /// Operations, whatever came of them, that would have written what the culprit saw.
    pub writers: Vec<Operation>,
    /// Each shorter beginning that was tried was decided; if not, one of them may have no order either.
    pub is_shortest: bool,
}

impl Contradiction {
    /// Of operations that are known to have no order.
    pub(super) fn find(key: &[u8], operations: &[&Operation], budget: u64) -> Self {
        let mut ends: Vec<(u64, usize)> = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            if let Fate::Answered { end, .. } = operation.fate {
                ends.push((end, at));
            }
        }
        ends.sort_unstable();
        // So many ends have an order, and so many have none; a budget that is used up counts as the former.
        let (mut good, mut bad) = (0, ends.len());
        let mut before = Vec::new();
        let mut is_shortest = true;
        while good + 1 < bad {
            let count = good.midpoint(bad);
            let beginning = beginning(operations, &ends[..count]);
            match decide(&beginning.iter().collect::<Vec<_>>(), budget) {
                Decision::Impossible => bad = count,
                Decision::OutOfBudget { .. } => (good, before, is_shortest) = (count, Vec::new(), false),
                Decision::Ordered(order) => {
                    good = count;
                    before = order.into_iter().map(|at| beginning[at].clone()).collect();
                }
            }
        }
        let (end, culprit) = ends[bad - 1];
        let culprit = operations[culprit].clone();
        let is_around = |operation: &&&Operation| match operation.fate {
            Fate::Answered { end: other, .. } => operation.begin <= end && other >= end && ***operation != culprit,
            Fate::Unknown => operation.begin <= end && !operation.action.is_read(),
            Fate::Refused => false,
        };
        Self {
            key: key.to_vec(),
            around: operations.iter().filter(is_around).map(|one| (*one).clone()).collect(),
            writers: writers(operations, &culprit),
            leaves: replay(key, &before),
            culprit,
            before,
            is_shortest,
        }
    }
}

/// The history as it was at the last of these ends.
fn beginning(operations: &[&Operation], ends: &[(u64, usize)]) -> Vec<Operation> {
    let Some((now, _)) = ends.last() else {
        return Vec::new();
    };
    let mut has_ended = vec![false; operations.len()];
    for (_, at) in ends {
        has_ended[*at] = true;
    }
    let begun = operations.iter().zip(has_ended).filter(|(one, _)| one.begin <= *now);
    begun
        .map(|(one, has_ended)| {
            let mut one = (*one).clone();
            if matches!(one.fate, Fate::Answered { .. }) && !has_ended {
                one.fate = Fate::Unknown;
            }
            one
        })
        .collect()
}

/// Who wrote what the culprit saw, or would have.
fn writers(operations: &[&Operation], culprit: &Operation) -> Vec<Operation> {
    let Fate::Answered { answer, .. } = &culprit.fate else {
        return Vec::new();
    };
    let seen = match (&culprit.action, answer) {
        (_, Answer::Value(seen) | Answer::Mismatch(Some(seen))) => seen.clone(),
        (
            Action::CompareAndSet {
                expected: Some(seen), ..
            },
            Answer::Done,
        ) => seen.clone(),
        (Action::Increment(by), Answer::Number(sum)) => sum.wrapping_sub(*by).to_string().into_bytes(),
        _ => return Vec::new(),
    };
    let writes = |operation: &&&Operation| match (&operation.action, &operation.fate) {
        (Action::Put(value) | Action::CompareAndSet { value, .. }, _) => *value == seen,
        (
            Action::Increment(_),
            Fate::Answered {
                answer: Answer::Number(sum),
                ..
            },
        ) => sum.to_string().as_bytes() == seen,
        _ => false,
    };
    operations.iter().filter(writes).map(|one| (*one).clone()).collect()
}

/// What a map holds after these.
fn replay(key: &[u8], order: &[Operation]) -> Option<Vec<u8>> {
    let mut kv = Kv::new(Limits::default());
    for operation in order {
        if let Request::Command { command, .. } = operation.action.request(key, Delivery::AtMostOnce) {
            kv.apply(Index(1), &command, &mut BytesMut::new());
        }
    }
    kv.get(key).map(<[u8]>::to_vec)
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "no order explains what clients saw of key {}", escaped(&self.key))?;
        writeln!(f, "(client, begin, end, key, action -> answer)")?;
        if !self.is_shortest {
            writeln!(
                f,
                "(the budget was used up while this was told: an earlier operation may be to blame already)"
            )?;
        }
        if !self.before.is_empty() {
            let leaves = optional(self.leaves.as_deref());
            writeln!(f, "this is one for what had ended before, and leaves {leaves}:")?;
            let hidden = self.before.len().saturating_sub(SHOWN);
            if hidden > 0 {
                writeln!(f, "    ({hidden} more)")?;
            }
            list(f, &self.before[hidden..])?;
        }
        writeln!(f, "then this one ended, and fits nowhere:")?;
        list(f, std::slice::from_ref(&self.culprit))?;
        if !self.around.is_empty() {
            writeln!(f, "these were under way, or their outcome is unknown:")?;
            list(f, &self.around)?;
        }
        match self.writers.as_slice() {
            [] => f.write_str("no operation says that it wrote what this one saw"),
            writers => {
                writeln!(f, "what it saw was written by:")?;
                list(f, writers)
            }
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, operations: &[Operation]) -> fmt::Result {
    for operation in operations.iter().take(SHOWN) {
        writeln!(f, "    {operation}")?;
    }
    match operations.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        hidden => writeln!(f, "    ({hidden} more)"),
    }
}
