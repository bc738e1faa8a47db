//! What the records of a log add up to: term, vote, terms by index, and where the entries stand.

use std::fmt;

use kraft_core::id::{Index, NodeId, Term};
use kraft_core::storage::{HardState, Recovered};

use super::format::{Position, Record, SegmentHeader};

/// Entries are found from the nearest known place; at most about this many bytes lie between two of them.
const STRIDE_BYTES: u32 = 16 << 10;

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) index: Index,
    pub(crate) at: Position,
}

/// The sum of a log's records, in order. No payloads, and no place for most entries: 16 bytes for 16 KiB of log.
///
/// Between two places the entries stand one behind the other in the segment of the first one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) hard: HardState,
    pub(crate) base_index: Index,
    pub(crate) base_term: Term,
    pub(crate) last: Index,
    /// The first index of each run of one term, and the term; indexes and terms ascend.
    terms: Vec<(Index, Term)>,
    /// Ascending by index.
    places: Vec<Place>,
    /// Whether the next entry needs a place although the last place is near: it does not stand behind the one before.
    broken: bool,
}

/// How a record contradicts those before it. Its bytes are sound: it is another log's, or this one's writer erred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// An entry, or a segment's base, does not follow the last index.
    Index {
        /// What may stand there.
        expected: Index,
        /// What stands there.
        found: Index,
    },
    /// A term is below the one before it.
    TermBack {
        /// The least that may stand there.
        before: Term,
        /// What stands there.
        found: Term,
    },
    /// A second vote in one term.
    SecondVote {
        /// In which term.
        term: Term,
        /// The first vote.
        before: NodeId,
        /// The second.
        found: NodeId,
    },
    /// A segment begins at an index that has another term in the segments before.
    BaseTerm {
        /// The index.
        index: Index,
        /// The term there.
        expected: Term,
        /// The segment's claim.
        found: Term,
    },
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index { expected, found } => write!(f, "index {found} stands where index {expected} must follow"),
            Self::TermBack { before, found } => write!(f, "term {found} follows term {before}"),
            Self::SecondVote { term, before, found } => {
                write!(
                    f,
                    "a vote for node {found} in term {term} follows one for node {before}"
                )
            }
            Self::BaseTerm { index, expected, found } => {
                write!(
                    f,
                    "the segment begins after index {index} of term {found}, which has term {expected}"
                )
            }
        }
    }
}

impl Ledger {
    /// A log that begins with this segment.
    pub(crate) fn begin(header: &SegmentHeader) -> Self {
        Self::behind(header.hard, header.base_index, header.base_term)
    }

    /// A log without entries.
    pub(crate) fn behind(hard: HardState, base_index: Index, base_term: Term) -> Self {
        Self {
            hard,
            base_index,
            base_term,
            last: base_index,
            broken: true,
            ..Self::default()
        }
    }

    /// Goes on with the next segment.
    pub(crate) fn enter(&mut self, header: &SegmentHeader) -> Result<(), Contradiction> {
        if header.base_index < self.base_index || header.base_index > self.last {
            return Err(Contradiction::Index {
                expected: self.last,
                found: header.base_index,
            });
        }
        let expected = self.term_at(header.base_index);
        if header.base_term != expected {
            return Err(Contradiction::BaseTerm {
                index: header.base_index,
                expected,
                found: header.base_term,
            });
        }
        self.save(header.hard)?;
        self.cut(header.base_index.next());
        self.broken = true;
        Ok(())
    }

    /// Takes a record that stands at `at`.
    pub(crate) fn take(&mut self, at: Position, record: &Record) -> Result<(), Contradiction> {
        match *record {
            Record::Entry { index, term, .. } => self.append(at, index, term),
            Record::HardState(hard) => self.save(hard),
            Record::Truncate(from) => self.truncate(from),
            Record::Mark(_) => Ok(()),
        }
    }

    fn save(&mut self, hard: HardState) -> Result<(), Contradiction> {
        if hard.term < self.hard.term {
            return Err(Contradiction::TermBack {
                before: self.hard.term,
                found: hard.term,
            });
        }
        if hard.term == self.hard.term && self.hard.vote.is_some() && hard.vote != self.hard.vote {
            return Err(Contradiction::SecondVote {
                term: hard.term,
                before: self.hard.vote,
                found: hard.vote,
            });
        }
        self.hard = hard;
        Ok(())
    }

    fn append(&mut self, at: Position, index: Index, term: Term) -> Result<(), Contradiction> {
        let expected = Index(self.last.0.saturating_add(1));
        if index != expected {
            return Err(Contradiction::Index { expected, found: index });
        }
        let before = self.last_term();
        if term < before {
            return Err(Contradiction::TermBack { before, found: term });
        }
        if self.terms.last().is_none_or(|run| run.1 != term) {
            self.terms.push((index, term));
        }
        let far = self.places.last().is_none_or(|place| {
            place.at.segment != at.segment || at.offset.saturating_sub(place.at.offset) >= STRIDE_BYTES
        });
        if far || self.broken {
            self.places.push(Place { index, at });
            self.broken = false;
        }
        self.last = index;
        Ok(())
    }

    fn truncate(&mut self, from: Index) -> Result<(), Contradiction> {
        if from <= self.base_index || from > self.last {
            return Err(Contradiction::Index {
                expected: self.last,
                found: from,
            });
        }
        self.cut(from);
        Ok(())
    }

    fn cut(&mut self, from: Index) {
        self.last = self.last.min(from.prev());
        self.terms.truncate(self.terms.partition_point(|run| run.0 < from));
        self.places
            .truncate(self.places.partition_point(|place| place.index < from));
        self.broken = true;
    }

    /// Forgets what stands at or below `base`, of which this is the term.
    pub(crate) fn release(&mut self, base: Index, term: Term) {
        let runs = self.terms.partition_point(|run| run.0 <= base);
        if runs > 0 {
            let (_, run_term) = self.terms[runs - 1];
            self.terms.drain(..runs);
            if base < self.last && self.terms.first().is_none_or(|run| run.0 > base.next()) {
                self.terms.insert(0, (base.next(), run_term));
            }
        }
        self.places
            .drain(..self.places.partition_point(|place| place.index <= base));
        self.base_index = base;
        self.base_term = term;
    }

    pub(crate) fn last_term(&self) -> Term {
        self.terms.last().map_or(self.base_term, |run| run.1)
    }

    /// The term at an index from the base to the last.
    pub(crate) fn term_at(&self, index: Index) -> Term {
        match self.terms.partition_point(|run| run.0 <= index) {
            0 => self.base_term,
            runs => self.terms[runs - 1].1,
        }
    }

    /// What a node begins from.
    pub(crate) fn recovered(&self) -> Recovered {
        Recovered {
            hard: self.hard,
            base_index: self.base_index,
            base_term: self.base_term,
            terms: self.terms.clone(),
            last: self.last,
            ..Recovered::default()
        }
    }

    /// The nearest place at or before `index`, and those behind it.
    pub(crate) fn places_from(&self, index: Index) -> &[Place] {
        let behind = self.places.partition_point(|place| place.index <= index);
        &self.places[behind.saturating_sub(1)..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kraft_core::message::EntryKind;

    fn entry(index: u64, term: u64) -> Record {
        Record::Entry {
            index: Index(index),
            term: Term(term),
            kind: EntryKind::Command,
            length: 0,
            crc: 0,
        }
    }

    fn at(offset: u32) -> Position {
        Position { segment: 1, offset }
    }

    #[test]
    fn terms_are_kept_as_runs_and_cut_with_the_entries() {
        let mut ledger = Ledger::default();
        for (index, term) in [(1, 1), (2, 1), (3, 2), (4, 4)] {
            ledger.take(at(512), &entry(index, term)).unwrap();
        }
        assert_eq!(
            ledger.terms,
            [(Index(1), Term(1)), (Index(3), Term(2)), (Index(4), Term(4))]
        );
        ledger.take(at(512), &Record::Truncate(Index(3))).unwrap();
        assert_eq!((ledger.last, ledger.last_term()), (Index(2), Term(1)));
        assert_eq!(ledger.term_at(Index(2)), Term(1));
        ledger.take(at(512), &entry(3, 3)).unwrap();
        assert_eq!(ledger.terms, [(Index(1), Term(1)), (Index(3), Term(3))]);
    }

    #[test]
    fn the_entry_behind_a_truncation_has_a_place_of_its_own() {
        let mut ledger = Ledger::default();
        for index in 1..=4 {
            ledger.take(at(512 + index as u32 * 32), &entry(index, 1)).unwrap();
        }
        ledger.take(at(700), &Record::Truncate(Index(3))).unwrap();
        ledger.take(at(732), &entry(3, 2)).unwrap();
        let places: Vec<_> = ledger.places_from(Index(2)).iter().map(|place| place.index.0).collect();
        assert_eq!(places, [1, 3]);
        assert_eq!(ledger.places_from(Index(3))[0].at, at(732));
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let mut ledger = Ledger::default();
        ledger.take(at(0), &entry(1, 5)).unwrap();
        let expected = Contradiction::Index {
            expected: Index(2),
            found: Index(3),
        };
        assert_eq!(ledger.take(at(0), &entry(3, 5)), Err(expected));
        let expected = Contradiction::TermBack {
            before: Term(5),
            found: Term(4),
        };
        assert_eq!(ledger.take(at(0), &entry(2, 4)), Err(expected));
        let hard = |term, vote| {
            Record::HardState(HardState {
                term: Term(term),
                vote: NodeId(vote),
            })
        };
        ledger.take(at(0), &hard(6, 0)).unwrap();
        ledger.take(at(0), &hard(6, 1)).unwrap();
        let expected = Contradiction::SecondVote {
            term: Term(6),
            before: NodeId(1),
            found: NodeId(2),
        };
        assert_eq!(ledger.take(at(0), &hard(6, 2)), Err(expected));
        assert!(matches!(
            ledger.take(at(0), &hard(5, 1)),
            Err(Contradiction::TermBack { .. })
        ));
        assert!(matches!(
            ledger.take(at(0), &Record::Truncate(Index(2))),
            Err(Contradiction::Index { .. })
        ));
    }

    #[test]
    fn a_released_front_leaves_the_terms_of_the_rest() {
        let mut ledger = Ledger::default();
        for (index, term) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)] {
            ledger.take(at(512), &entry(index, term)).unwrap();
        }
        ledger.release(Index(3), Term(2));
        assert_eq!(ledger.terms, [(Index(4), Term(2)), (Index(5), Term(3))]);
        assert_eq!((ledger.term_at(Index(3)), ledger.term_at(Index(4))), (Term(2), Term(2)));
        ledger.release(Index(5), Term(3));
        assert_eq!((ledger.terms.len(), ledger.last_term()), (0, Term(3)));
    }
}
