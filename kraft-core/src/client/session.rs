//! The client's side of its session.

use std::collections::BTreeSet;

use crate::id::{Sequence, SessionId};

/// The session that commands go under, opened when the first one needs it.
///
/// Invariant of an open one: every member of `unanswered` is below `next`, and `next` is less than `window` above the
/// least of them, so that the cluster keeps no more replies than that.
#[derive(Debug)]
pub(super) enum Session {
    Closed,
    Opening,
    Open(Open),
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: SessionId,
    next: Sequence,
    unanswered: BTreeSet<Sequence>,
    window: u64,
}

impl Open {
    pub(super) fn new(id: SessionId, window: usize) -> Self {
        Self {
            id,
            next: Sequence(1),
            unanswered: BTreeSet::new(),
            window: window as u64,
        }
    }

    /// A new sequence, unless the window is full.
    pub(super) fn issue(&mut self) -> Option<Sequence> {
        if self.next.0 >= self.first_unanswered().0 + self.window {
            return None;
        }
        let sequence = self.next;
        self.next = Sequence(sequence.0 + 1);
        self.unanswered.insert(sequence);
        Some(sequence)
    }

    /// Nobody waits for this one's reply any more.
    pub(super) fn settle(&mut self, sequence: Sequence) {
        self.unanswered.remove(&sequence);
    }

    pub(super) fn first_unanswered(&self) -> Sequence {
        self.unanswered.first().copied().unwrap_or(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_reach_no_further_than_the_window() {
        let mut open = Open::new(SessionId(1), 2);
        assert_eq!(open.first_unanswered(), Sequence(1));
        assert_eq!(open.issue(), Some(Sequence(1)));
        assert_eq!(open.issue(), Some(Sequence(2)));
        assert_eq!(open.issue(), None);
        open.settle(Sequence(2));
        assert_eq!(
            open.issue(),
            None,
            "the first one is unanswered, so two replies are kept"
        );
        open.settle(Sequence(1));
        assert_eq!(open.first_unanswered(), Sequence(3));
        assert_eq!(open.issue(), Some(Sequence(3)));
    }
}
