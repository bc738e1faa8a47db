//! The log's memory: recent entries with their payloads. No I/O.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use crate::id::{Index, Term};
use crate::message::{Entries, Entry, EntryKind};

/// What a leader was asked to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// What it is.
    pub kind: EntryKind,
    /// CRC32C of the payload.
    pub crc: u32,
    /// What it says.
    pub payload: Bytes,
}

/// The log's memory, as [`Raft`](crate::raft::Raft) uses it. Raft itself knows terms and ranges alone; payloads stay
/// in here. [`Tail`] is the implementation; another one may share memory between groups.
///
/// Ranges are half-open: `Index(3)..Index(5)` is the entries 3 and 4.
pub trait Log {
    /// Copies received entries in, the first at `first`, which is the place after the last. One copy for all.
    fn append(&mut self, first: Index, entries: &Entries<'_>);

    /// Takes proposals in, sharing their payloads. Returns how many.
    fn propose(&mut self, first: Index, term: Term, proposals: &mut dyn Iterator<Item = Proposal>) -> u64;

    /// Forgets everything from `from` on.
    fn truncate(&mut self, from: Index);

    /// A snapshot at `index` took the log's place: forgets everything, also what is still to be loaded. The next entry
    /// is the one behind it.
    fn reset(&mut self, index: Index);

    /// Takes back entries that were loaded from storage, in front of what is in memory.
    fn restore(&mut self, first: Index, entries: Vec<Entry>);

    /// The first index that is in memory; one past the last if none is.
    fn first(&self) -> Index;

    /// The longest prefix of `range` that is in memory and has at most `bytes_max` payload bytes and `entries_max`
    /// entries; at least one entry if the first is in memory.
    fn fit(&self, range: Range<Index>, bytes_max: usize, entries_max: usize) -> Range<Index>;

    /// Payload bytes of `range`, which is in memory.
    fn bytes(&self, range: Range<Index>) -> u64;

    /// Entries of `range`, which is in memory, to encode or to write.
    fn entries(&self, range: Range<Index>) -> Entries<'_>;

    /// Forgets entries below `below` that are above the memory's bound. Called when they are durable and applied.
    fn evict(&mut self, below: Index);
}

/// The [`Log`] of a node: a ring of recent entries, and windows of older ones that were loaded back.
///
/// ```text
///   windows (loaded)              ring
///   [120..180)  [300..340)        [1000 .. last]
///   oldest        newest          first          next
/// ```
///
/// The ring holds everything that is not both durable and applied, so only its front is ever forgotten. Windows serve
/// followers that lag and the replay after a restart: each is read soon after it arrives and forgotten when others
/// need the room.
#[derive(Debug)]
pub struct Tail {
    /// The index of the ring's first entry; of the next one to come if the ring is empty.
    first: Index,
    ring: VecDeque<Entry>,
    /// For each entry of the ring, payload bytes that ever were put into the ring up to its end. Makes sums of ranges
    /// differences, whatever their length.
    ends: VecDeque<u64>,
    /// What `ends` was before the ring's first entry.
    start: u64,
    /// Sorted by age, oldest in front.
    windows: VecDeque<Window>,
    /// Nothing before this is in the log, whatever a load brings.
    floor: Index,
    tail_bytes_max: u64,
}

/// Entries that were loaded back.
#[derive(Debug)]
struct Window {
    first: Index,
    entries: Vec<Entry>,
    bytes: u64,
    /// Evictions that it has seen.
    age: u32,
}

/// After so many evictions a window is taken to be of no more use. Evictions come with each batch that is applied, so
/// that this is some hundred milliseconds of a busy node.
const WINDOW_AGE_MAX: u32 = 1024;

/// An entry costs memory of its own, and a payload may be empty: this many entries are kept at most.
fn entries_max(tail_bytes_max: u64) -> usize {
    usize::try_from(tail_bytes_max / 16)
        .unwrap_or(usize::MAX)
        .saturating_add(1024)
}

impl Tail {
    /// The memory of a log whose last entry is `last`, with nothing in it. It keeps `tail_bytes_max` payload bytes
    /// beyond what must be kept.
    #[must_use]
    pub fn new(last: Index, tail_bytes_max: u64) -> Self {
        Self {
            first: last.next(),
            ring: VecDeque::new(),
            ends: VecDeque::new(),
            start: 0,
            windows: VecDeque::new(),
            floor: Index::ZERO,
            tail_bytes_max,
        }
    }

    /// Payload bytes in memory.
    #[must_use]
    pub fn bytes_held(&self) -> u64 {
        self.ring_bytes() + self.windows.iter().map(|window| window.bytes).sum::<u64>()
    }

    fn ring_bytes(&self) -> u64 {
        self.ends.back().map_or(0, |end| end - self.start)
    }

    /// One past the last index.
    fn next(&self) -> Index {
        Index(self.first.0 + self.ring.len() as u64)
    }

    /// Bytes that were ever put in before `index`, which is in the ring or one past it.
    fn end_before(&self, index: Index) -> u64 {
        match index.0 - self.first.0 {
            0 => self.start,
            at => self.ends[at as usize - 1],
        }
    }

    fn push(&mut self, entry: Entry) {
        let end = self.ends.back().copied().unwrap_or(self.start) + entry.payload.len() as u64;
        self.ends.push_back(end);
        self.ring.push_back(entry);
    }

    fn window(&self, index: Index) -> Option<&Window> {
        self.windows.iter().rev().find(|window| window.range().contains(&index))
    }

    /// Where `range` lies in the window that holds its first entry.
    fn slice(&self, range: &Range<Index>) -> &[Entry] {
        let window = self.window(range.start).expect("the range is in memory");
        let from = (range.start.0 - window.first.0) as usize;
        &window.entries[from..from + (range.end.0 - range.start.0) as usize]
    }
}

impl Window {
    fn range(&self) -> Range<Index> {
        self.first..Index(self.first.0 + self.entries.len() as u64)
    }
}

impl Log for Tail {
    fn append(&mut self, first: Index, entries: &Entries<'_>) {
        assert_eq!(first, self.next(), "entries are appended after the last");
        match entries {
            Entries::Lent(lent) => {
                // One block for all payloads: one allocation and one pass over the memory, however many entries.
                let bytes: usize = lent.iter().map(|entry| entry.payload.len()).sum();
                // A byte to spare makes `Bytes` count references from the start; a block without one is turned over
                // at its first slice, and each later slice asks whether it was.
                let mut block = Vec::with_capacity(bytes + 1);
                for entry in lent {
                    block.extend_from_slice(entry.payload);
                }
                let block = Bytes::from(block);
                let mut end = self.ends.back().copied().unwrap_or(self.start);
                self.ends.extend(lent.iter().map(|entry| {
                    end += entry.payload.len() as u64;
                    end
                }));
                let mut at = 0;
                self.ring.extend(lent.iter().map(|entry| {
                    let from = at;
                    at += entry.payload.len();
                    Entry {
                        term: entry.term,
                        kind: entry.kind,
                        crc: entry.crc,
                        payload: if from == at {
                            Bytes::new()
                        } else {
                            block.slice(from..at)
                        },
                    }
                }));
            }
            Entries::Shared(front, back) => {
                for entry in front.iter().chain(*back) {
                    self.push(entry.clone());
                }
            }
        }
    }

    fn propose(&mut self, first: Index, term: Term, proposals: &mut dyn Iterator<Item = Proposal>) -> u64 {
        assert_eq!(first, self.next(), "entries are appended after the last");
        let before = self.ring.len();
        for Proposal { kind, crc, payload } in proposals {
            self.push(Entry {
                term,
                kind,
                crc,
                payload,
            });
        }
        (self.ring.len() - before) as u64
    }

    fn truncate(&mut self, from: Index) {
        let keep = from.0.saturating_sub(self.first.0) as usize;
        self.ring.truncate(keep);
        self.ends.truncate(keep);
        // What is put after this stands from here on, even if what was there had left the memory.
        self.first = self.first.min(from);
        for window in &mut self.windows {
            let keep = from.0.saturating_sub(window.first.0) as usize;
            for entry in window.entries.drain(keep.min(window.entries.len())..) {
                window.bytes -= entry.payload.len() as u64;
            }
        }
        self.windows.retain(|window| !window.entries.is_empty());
    }

    fn reset(&mut self, index: Index) {
        self.start = self.ends.back().copied().unwrap_or(self.start);
        self.ring.clear();
        self.ends.clear();
        self.windows.clear();
        self.first = index.next();
        self.floor = self.first;
    }

    fn restore(&mut self, mut first: Index, mut entries: Vec<Entry>) {
        // What a reset removed while it was read.
        let gone = self.floor.0.saturating_sub(first.0).min(entries.len() as u64);
        entries.drain(..gone as usize);
        first.0 += gone;
        // The ring is newer than anything read from storage: a read may have been overtaken by a truncation.
        entries.truncate(self.first.0.saturating_sub(first.0) as usize);
        if entries.is_empty() {
            return;
        }
        let bytes = entries.iter().map(|entry| entry.payload.len() as u64).sum();
        self.windows.push_back(Window {
            first,
            entries,
            bytes,
            age: 0,
        });
        let mut held: u64 = self.windows.iter().map(|window| window.bytes).sum();
        while held > self.tail_bytes_max && self.windows.len() > 1 {
            held -= self.windows.pop_front().map_or(0, |window| window.bytes);
        }
    }

    fn first(&self) -> Index {
        self.first
    }

    fn fit(&self, range: Range<Index>, bytes_max: usize, entries_max: usize) -> Range<Index> {
        let Range { start, end } = range;
        let nothing = start..start;
        if start >= end || start >= self.next() {
            return nothing;
        }
        let end_max = Index(start.0.saturating_add(entries_max.max(1) as u64)).min(end);
        if start >= self.first {
            let end = end_max.min(self.next());
            let limit = self.end_before(start).saturating_add(bytes_max as u64);
            if self.end_before(end) <= limit {
                return start..end;
            }
            let from = (start.0 - self.first.0) as usize;
            let fitting = self.ends.partition_point(|end| *end <= limit).saturating_sub(from);
            return start..Index(start.0 + fitting.max(1) as u64);
        }
        let Some(window) = self.window(start) else {
            return nothing;
        };
        let within = start..end_max.min(window.range().end);
        let mut bytes = 0;
        let fitting = self
            .slice(&within)
            .iter()
            .take_while(|entry| {
                bytes += entry.payload.len();
                bytes <= bytes_max
            })
            .count();
        start..Index(start.0 + fitting.max(1) as u64)
    }

    fn bytes(&self, range: Range<Index>) -> u64 {
        if range.is_empty() {
            0
        } else if range.start >= self.first {
            self.end_before(range.end) - self.end_before(range.start)
        } else {
            self.slice(&range).iter().map(|entry| entry.payload.len() as u64).sum()
        }
    }

    fn entries(&self, range: Range<Index>) -> Entries<'_> {
        if range.is_empty() {
            return Entries::NONE;
        }
        if range.start < self.first {
            return Entries::Shared(self.slice(&range), &[]);
        }
        assert!(range.end <= self.next(), "the range is in memory");
        let from = (range.start.0 - self.first.0) as usize;
        let to = (range.end.0 - self.first.0) as usize;
        let (front, back) = self.ring.as_slices();
        let cut = front.len();
        Entries::Shared(
            &front[from.min(cut)..to.min(cut)],
            &back[from.saturating_sub(cut)..to.saturating_sub(cut)],
        )
    }

    fn evict(&mut self, below: Index) {
        let below = below.min(self.next());
        // The shortest prefix whose going brings the ring under its bounds.
        let limit = (self.start + self.ring_bytes()).saturating_sub(self.tail_bytes_max);
        let by_bytes = match limit > self.start {
            true => self.ends.partition_point(|end| *end < limit) + 1,
            false => 0,
        };
        let by_entries = self.ring.len().saturating_sub(entries_max(self.tail_bytes_max));
        let may_go = below.0.saturating_sub(self.first.0) as usize;
        let count = by_bytes.max(by_entries).min(may_go);
        if count > 0 {
            self.start = self.ends[count - 1];
            self.ring.drain(..count);
            self.ends.drain(..count);
            self.first = Index(self.first.0 + count as u64);
        }
        for window in &mut self.windows {
            window.age += 1;
        }
        self.windows.retain(|window| window.age <= WINDOW_AGE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::EntryRef;

    fn lent(payloads: &[&'static str]) -> Entries<'static> {
        let entry = |payload: &'static str| EntryRef {
            term: Term(1),
            kind: EntryKind::Command,
            crc: 0,
            payload: payload.as_bytes(),
        };
        Entries::Lent(payloads.iter().map(|payload| entry(payload)).collect())
    }

    fn owned(payloads: &[&'static str]) -> Vec<Entry> {
        let mut tail = Tail::new(Index(0), 0);
        tail.append(Index(1), &lent(payloads));
        tail.ring.into()
    }

    fn text(tail: &Tail, range: Range<u64>) -> String {
        let entries = tail.entries(Index(range.start)..Index(range.end));
        let payloads: Vec<_> = entries
            .iter()
            .map(|entry| String::from_utf8_lossy(entry.payload).into_owned())
            .collect();
        payloads.join(" ")
    }

    #[test]
    fn received_payloads_are_copied_into_one_block() {
        let mut tail = Tail::new(Index(4), 0);
        tail.append(Index(5), &lent(&["ab", "", "cde"]));
        assert_eq!(text(&tail, 5..8), "ab  cde");
        let (first, last) = (tail.ring[0].payload.as_ptr(), tail.ring[2].payload.as_ptr());
        assert_eq!(first.wrapping_add(2), last);
    }

    #[test]
    fn a_range_may_lie_across_the_ring_s_seam() {
        let mut tail = Tail::new(Index(0), 3);
        let mut next = 1;
        for _ in 0..50 {
            tail.append(Index(next), &lent(&["x", "y", "z"]));
            next += 3;
            tail.evict(Index(next));
            assert_eq!(text(&tail, next - 3..next), "x y z");
            assert_eq!(tail.first(), Index(next - 3));
        }
    }

    #[test]
    fn fit_is_bounded_by_bytes_and_entries_and_gives_at_least_one() {
        let mut tail = Tail::new(Index(0), 0);
        tail.append(Index(1), &lent(&["aaaa", "bb", "c", "dddd"]));
        let fit = |bytes, entries| tail.fit(Index(1)..Index(5), bytes, entries).end.0 - 1;
        assert_eq!(
            [fit(7, 9), fit(6, 9), fit(1, 9), fit(0, 9), fit(99, 3)],
            [3, 2, 1, 1, 3]
        );
        assert_eq!(tail.fit(Index(5)..Index(9), 9, 9), Index(5)..Index(5));
        assert_eq!(tail.bytes(Index(2)..Index(5)), 7);
    }

    #[test]
    fn eviction_keeps_the_bound_and_what_must_be_kept() {
        let mut tail = Tail::new(Index(0), 4);
        tail.append(Index(1), &lent(&["aa", "bb", "cc", "dd", "ee"]));
        tail.evict(Index(1));
        assert_eq!(tail.first(), Index(1), "nothing may go");
        tail.evict(Index(3));
        assert_eq!(tail.first(), Index(3), "over the bound, but the rest must stay");
        tail.evict(Index(6));
        assert_eq!((tail.first(), tail.bytes_held()), (Index(4), 4));
    }

    #[test]
    fn loaded_entries_serve_until_others_need_the_room() {
        let mut tail = Tail::new(Index(100), 4);
        tail.restore(Index(10), owned(&["aa", "bb"]));
        assert_eq!(text(&tail, 10..12), "aa bb");
        assert_eq!(tail.fit(Index(10)..Index(50), 3, 9), Index(10)..Index(11));
        tail.restore(Index(20), owned(&["cc", "dd"]));
        assert_eq!(tail.fit(Index(10)..Index(50), 9, 9), Index(10)..Index(10));
        assert_eq!(text(&tail, 20..22), "cc dd");
    }

    #[test]
    fn a_load_that_a_reset_overtook_is_cut() {
        let mut tail = Tail::new(Index(9), 64);
        tail.restore(Index(2), owned(&["two"]));
        tail.append(Index(10), &lent(&["old"]));
        tail.reset(Index(7));
        assert_eq!((tail.first(), tail.bytes_held()), (Index(8), 0));
        tail.append(Index(8), &lent(&["eight", "nine"]));
        tail.restore(Index(6), owned(&["gone", "gone", "stale", "stale"]));
        tail.restore(Index(3), owned(&["gone", "gone"]));
        assert_eq!(tail.windows.len(), 0, "nothing of before is of any use");
        assert_eq!(text(&tail, 8..10), "eight nine");
    }

    #[test]
    fn a_load_that_a_truncation_overtook_is_cut() {
        let mut tail = Tail::new(Index(10), 64);
        tail.truncate(Index(8));
        tail.append(Index(8), &lent(&["new"]));
        tail.restore(Index(6), owned(&["six", "seven", "stale", "stale"]));
        assert_eq!(text(&tail, 6..8), "six seven");
        assert_eq!(text(&tail, 8..9), "new");
        let beyond = Index(8)..Index(10);
        assert_eq!(
            tail.windows[0].range().end,
            beyond.start,
            "what was stale is gone for good"
        );
        tail.truncate(Index(7));
        assert_eq!(tail.fit(Index(6)..Index(9), 99, 99), Index(6)..Index(7));
    }
}
