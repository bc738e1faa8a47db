//! What was written and how it ended, and whether a node still has it.

use std::fmt::Write as _;

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was acknowledged.
    Acknowledged,
    /// It may or may not have happened.
    Unknown,
    /// It did not happen.
    Refused,
}

/// The writes of one client, in order. Every write has a key of its own, so that each can be looked for.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    client: usize,
    value_bytes: usize,
    writes: Vec<Ended>,
}

/// What a node has of what was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Writes that were acknowledged and are there.
    pub(super) found: u64,
    /// Writes that were acknowledged and are not there.
    pub(super) lost: u64,
    /// Keys with another value than was written.
    pub(super) wrong: u64,
    /// Keys that were refused, or never written.
    pub(super) strange: u64,
}

/// What all keys begin with.
pub(super) const PREFIX: &str = "demo/";

impl Ledger {
    /// The ledger of a client that has not written.
    pub(super) const fn new(client: usize, value_bytes: usize) -> Self {
        Self {
            client,
            value_bytes,
            writes: Vec::new(),
        }
    }

    /// The next write: its key and value.
    pub(super) fn next(&self, key: &mut String, value: &mut Vec<u8>) {
        self.at(self.writes.len(), key, value);
    }

    /// How that write ended.
    pub(super) fn end(&mut self, ended: Ended) {
        self.writes.push(ended);
    }

    /// How many ended so.
    pub(super) fn count(&self, ended: Ended) -> u64 {
        self.writes.iter().filter(|other| **other == ended).count() as u64
    }

    /// Keys ascend as they are written. The value is drawn from the key's numbers.
    fn at(&self, place: usize, key: &mut String, value: &mut Vec<u8>) {
        key.clear();
        // A `String` takes what is written to it.
        let _ = write!(key, "{PREFIX}{:04}/{place:010}", self.client);
        value.clear();
        let mut state = (self.client as u64) << 40 ^ place as u64;
        while value.len() < self.value_bytes {
            // SplitMix64 (Steele, Lea, Flood 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            value.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
        }
        value.truncate(self.value_bytes);
    }
}

/// Compares what was written, clients ascending, with what a node has: keys ascending, each once.
pub(super) struct Comparer<'a> {
    ledgers: &'a [Ledger],
    /// The next write to be met: a ledger and a place in it.
    next: (usize, usize),
    comparison: Comparison,
    key: String,
    value: Vec<u8>,
}

impl<'a> Comparer<'a> {
    /// Compares with these.
    pub(super) fn new(ledgers: &'a [Ledger]) -> Self {
        Self {
            ledgers,
            next: (0, 0),
            comparison: Comparison::default(),
            key: String::new(),
            value: Vec::new(),
        }
    }

    /// Takes the node's next key.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) {
        while let Some(ended) = self.load() {
            if self.key.as_bytes() > key {
                break;
            }
            let is_it = self.key.as_bytes() == key;
            self.next.1 += 1;
            if !is_it {
                self.absent(ended);
                continue;
            }
            match ended {
                Ended::Refused => self.comparison.strange += 1,
                _ if value != self.value => self.comparison.wrong += 1,
                Ended::Acknowledged => self.comparison.found += 1,
                Ended::Unknown => {}
            }
            return;
        }
        self.comparison.strange += 1;
    }

    /// What came of it, after the node's last key.
    pub(super) fn end(mut self) -> Comparison {
        while let Some(ended) = self.load() {
            self.next.1 += 1;
            self.absent(ended);
        }
        self.comparison
    }

    fn absent(&mut self, ended: Ended) {
        if ended == Ended::Acknowledged {
            self.comparison.lost += 1;
        }
    }

    /// Loads key and value of the next write.
    fn load(&mut self) -> Option<Ended> {
        loop {
            let ledger = self.ledgers.get(self.next.0)?;
            if let Some(ended) = ledger.writes.get(self.next.1) {
                ledger.at(self.next.1, &mut self.key, &mut self.value);
                return Some(*ended);
            }
            self.next = (self.next.0 + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two clients: client 0 wrote an acknowledged, an unknown, a refused and an acknowledged key; client 1 one.
    fn ledgers() -> Vec<Ledger> {
        let mut first = Ledger::new(0, 20);
        for ended in [Ended::Acknowledged, Ended::Unknown, Ended::Refused, Ended::Acknowledged] {
            first.end(ended);
        }
        let mut second = Ledger::new(1, 20);
        second.end(Ended::Acknowledged);
        vec![first, second]
    }

    /// Compares with a node that has these places, `true` if with the value that was written.
    #[track_caller]
    fn check(has: &[(usize, usize, bool)], expected: Comparison) {
        let ledgers = ledgers();
        let mut comparer = Comparer::new(&ledgers);
        for (client, place, is_right) in has {
            let (mut key, mut value) = (String::new(), Vec::new());
            Ledger::new(*client, 20).at(*place, &mut key, &mut value);
            value[0] ^= u8::from(!is_right);
            comparer.take(key.as_bytes(), &value);
        }
        assert_eq!(comparer.end(), expected, "{has:?}");
    }

    const ALL: Comparison = Comparison {
        found: 3,
        lost: 0,
        wrong: 0,
        strange: 0,
    };

    #[test]
    fn what_is_unknown_may_be_there_or_not() {
        check(&[(0, 0, true), (0, 3, true), (1, 0, true)], ALL);
        check(&[(0, 0, true), (0, 1, true), (0, 3, true), (1, 0, true)], ALL);
    }

    #[test]
    fn every_loss_is_seen() {
        check(
            &[],
            Comparison {
                found: 0,
                lost: 3,
                ..ALL
            },
        );
        check(
            &[(0, 3, true), (1, 0, true)],
            Comparison {
                found: 2,
                lost: 1,
                ..ALL
            },
        );
        check(
            &[(0, 0, true), (1, 0, true)],
            Comparison {
                found: 2,
                lost: 1,
                ..ALL
            },
        );
        check(
            &[(0, 0, true), (0, 3, true)],
            Comparison {
                found: 2,
                lost: 1,
                ..ALL
            },
        );
    }

    #[test]
    fn what_was_not_written_so_is_seen() {
        let most = [(0, 0, true), (0, 3, true), (1, 0, false)];
        check(
            &most,
            Comparison {
                found: 2,
                wrong: 1,
                ..ALL
            },
        );
        check(
            &[(0, 0, true), (0, 1, false), (0, 3, true), (1, 0, true)],
            Comparison { wrong: 1, ..ALL },
        );
        check(
            &[(0, 0, true), (0, 2, true), (0, 3, true), (1, 0, true)],
            Comparison { strange: 1, ..ALL },
        );
        check(
            &[(0, 0, true), (0, 3, true), (0, 9, true), (1, 0, true)],
            Comparison { strange: 1, ..ALL },
        );
        check(
            &[(0, 0, true), (0, 3, true), (1, 0, true), (1, 7, true)],
            Comparison { strange: 1, ..ALL },
        );
    }

    #[test]
    fn values_tell_keys_apart() {
        let (mut key, mut one, mut two) = (String::new(), Vec::new(), Vec::new());
        Ledger::new(1, 64).at(0, &mut key, &mut one);
        Ledger::new(0, 64).at(1, &mut key, &mut two);
        assert!(one != two && one.len() == 64);
    }
}
