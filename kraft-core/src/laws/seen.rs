//! What was seen of a node's log: of a log whose front may go, and which may begin anew.

use super::Mark;
use crate::id::{Index, Term};

/// A node's log as it was seen.
#[derive(Debug, Default)]
pub(super) struct SeenLog {
    /// The place before its first entry, and the term there.
    pub(super) base: (Index, Term),
    pub(super) marks: Vec<Mark>,
}

impl SeenLog {
    pub(super) fn last(&self) -> Index {
        Index(self.base.0.0 + self.marks.len() as u64)
    }

    pub(super) fn last_term(&self) -> Term {
        self.marks.last().map_or(self.base.1, |mark| mark.term)
    }

    pub(super) fn get(&self, index: Index) -> Option<Mark> {
        let at = index.0.checked_sub(self.base.0.0)?.checked_sub(1)?;
        self.marks.get(at as usize).copied()
    }

    /// The log begins behind `base`.
    pub(super) fn begin(&mut self, base: (Index, Term)) {
        if base.0 < self.base.0 || base.0 > self.last() {
            self.marks.clear();
        } else {
            self.marks.drain(..(base.0.0 - self.base.0.0) as usize);
        }
        self.base = base;
    }

    pub(super) fn truncate(&mut self, last: Index) {
        self.marks.truncate(last.0.saturating_sub(self.base.0.0) as usize);
    }
}
