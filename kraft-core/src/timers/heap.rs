//! A heap whose entries can be taken out of the middle.

use crate::id::TimerId;
use crate::time::Instant;

const ARITY: usize = 4;

/// An indexed 4-ary heap by (deadline, start), over slots with generations.
///
/// What a start or a stop takes is waiting for memory: entries and slots are small, four children are 64 bytes, and values,
/// which only expiry looks at, stand apart.
#[derive(Debug)]
pub(super) struct Heap<T> {
    /// `heap[(i - 1) / 4] < heap[i]`.
    heap: Vec<Entry>,
    /// `slots[heap[i].slot].place == i`; a slot that is in no entry is in `free`.
    slots: Vec<Slot>,
    /// Of each slot.
    values: Vec<T>,
    free: Vec<u32>,
    /// The greatest start.
    started: u32,
}

/// Deadline, start and slot in one number, from high to low: so it is small, and compared at once. Starts count up, so that of
/// equal deadlines the one that was started first comes first; no two entries have the same, so slots decide nothing. When
/// there is no greater start left, entries are [counted anew](Heap::count_anew).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry(u128);

#[derive(Debug)]
struct Slot {
    generation: u32,
    place: u32,
}

impl Entry {
    fn new(deadline: Instant, start: u32, slot: u32) -> Self {
        Self(u128::from(deadline.as_nanos()) << 64 | u128::from(start) << 32 | u128::from(slot))
    }

    fn deadline(self) -> Instant {
        Instant::from_nanos((self.0 >> 64) as u64)
    }

    fn start(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn slot(self) -> u32 {
        self.0 as u32
    }
}

impl<T> Default for Heap<T> {
    fn default() -> Self {
        Self {
            heap: Vec::new(),
            slots: Vec::new(),
            values: Vec::new(),
            free: Vec::new(),
            started: 0,
        }
    }
}

impl<T: Copy> Heap<T> {
    /// Empty, as if so many timers had been started.
    #[cfg(test)]
    pub(super) fn after(started: u32) -> Self {
        Self {
            started,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    #[inline]
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.deadline())
    }

    /// The first timer, if it is due at `now`: its id, its deadline and its value.
    #[inline]
    pub(super) fn due(&self, now: Instant) -> Option<(TimerId, Instant, T)> {
        let entry = self.heap.first()?;
        if entry.deadline() > now {
            return None;
        }
        let at = entry.slot() as usize;
        let timer = TimerId::new(entry.slot(), self.slots[at].generation);
        Some((timer, entry.deadline(), self.values[at]))
    }

    /// Moves the first timer to a later deadline. It keeps its id and its start.
    pub(super) fn postpone_first(&mut self, deadline: Instant) {
        let first = self.heap[0];
        self.sift_down(0, Entry::new(deadline, first.start(), first.slot()));
    }

    pub(super) fn insert(&mut self, deadline: Instant, value: T) -> TimerId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                place: 0,
            });
            self.values.push(value);
            u32::try_from(self.slots.len() - 1).expect("memory ends before 2^32 timers")
        });
        self.values[index as usize] = value;
        let timer = TimerId::new(index, self.slots[index as usize].generation);
        if self.started == u32::MAX {
            self.count_anew();
        }
        self.started += 1;
        let entry = Entry::new(deadline, self.started, index);
        self.heap.push(entry);
        self.sift_up(self.heap.len() - 1, entry);
        timer
    }

    /// Takes a timer out and makes its id stale; whether it was there.
    pub(super) fn remove(&mut self, timer: TimerId) -> bool {
        let place = match self.slots.get(timer.slot()) {
            Some(slot) if slot.generation == timer.generation() => slot.place as usize,
            _ => return false,
        };
        // A free slot has a generation that was not handed out yet, but anybody can make an id.
        if self
            .heap
            .get(place)
            .is_none_or(|entry| entry.slot() as usize != timer.slot())
        {
            return false;
        }
        let slot = &mut self.slots[timer.slot()];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(timer.slot() as u32);
        // The last one comes here. It is from another branch, so it may belong above or below.
        if let Some(last) = self.heap.pop()
            && place < self.heap.len()
        {
            match place.checked_sub(1).map(|below| below / ARITY) {
                Some(parent) if last < self.heap[parent] => self.sift_up(place, last),
                _ => self.sift_down(place, last),
            }
        }
        true
    }

    /// Gives entries the least starts there are, in the order in which they were started: not in the order of deadlines,
    /// since a timer that is postponed keeps its start and is compared with others by it later. This one start of 2^32
    /// sorts all timers, which takes O(n log n).
    fn count_anew(&mut self) {
        self.heap.sort_unstable_by_key(|entry| entry.start());
        for (start, entry) in self.heap.iter_mut().enumerate() {
            *entry = Entry::new(entry.deadline(), start as u32, entry.slot());
        }
        self.started = self.heap.len() as u32;
        // A heap that is sorted is one.
        self.heap.sort_unstable();
        for (place, entry) in self.heap.iter().enumerate() {
            self.slots[entry.slot() as usize].place = place as u32;
        }
    }

    /// Puts an entry there, or as far above as it belongs.
    fn sift_up(&mut self, mut place: usize, entry: Entry) {
        while place > 0 {
            let at = (place - 1) / ARITY;
            let parent = self.heap[at];
            if entry > parent {
                break;
            }
            self.set(place, parent);
            place = at;
        }
        self.set(place, entry);
    }

    /// Puts an entry there, or as far below as it belongs.
    fn sift_down(&mut self, mut place: usize, entry: Entry) {
        loop {
            let first = place * ARITY + 1;
            let (at, least) = match self.heap.get(first..).unwrap_or_default() {
                [a, b, c, d, ..] => {
                    // Which is the least nobody can foresee: the processor chooses and does not guess.
                    let (left, right) = (usize::from(b < a), 2 + usize::from(d < c));
                    let (low, high) = (*a.min(b), *c.min(d));
                    (first + if high < low { right } else { left }, low.min(high))
                }
                rest => match rest.iter().enumerate().min_by_key(|(_, child)| **child) {
                    Some((at, child)) => (first + at, *child),
                    None => break,
                },
            };
            if entry < least {
                break;
            }
            self.set(place, least);
            place = at;
        }
        self.set(place, entry);
    }

    fn set(&mut self, place: usize, entry: Entry) {
        self.heap[place] = entry;
        // Checked when the slot was made: there are no more entries than slots.
        self.slots[entry.slot() as usize].place = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_counted_beyond_what_an_entry_holds() {
        let mut heap = Heap::after(u32::MAX - 100);
        // Two deadlines, and a third that is always the next one and stopped again: entries do not stand as they were started.
        let mut all = Vec::new();
        for at in 0..300_u64 {
            let first = heap.insert(Instant::from_nanos(1), 0);
            all.push((at % 2, heap.insert(Instant::from_nanos(10 + at % 2), at)));
            assert!(heap.remove(first));
        }
        assert!(heap.started < 1_000, "it began anew");
        all.sort_by_key(|(deadline, _)| *deadline);
        for (_, timer) in all {
            let due = heap.due(Instant::from_nanos(20)).map(|(due, ..)| due);
            assert_eq!(due, Some(timer));
            assert!(heap.remove(timer));
        }
        assert_eq!(heap.len(), 0);
    }

    #[test]
    fn a_timer_that_is_postponed_after_starts_are_counted_anew_keeps_its_rank() {
        let at = Instant::from_nanos;
        let mut heap = Heap::after(u32::MAX - 2);
        let second = heap.insert(at(20), 'b');
        let repeating = heap.insert(at(10), 'a');
        heap.insert(at(1_000), 'c');
        assert!(heap.started < 10, "it began anew");
        assert_eq!(heap.due(at(10)), Some((repeating, at(10), 'a')));
        heap.postpone_first(at(20));
        assert_eq!(heap.due(at(20)), Some((second, at(20), 'b')));
        assert!(heap.remove(second));
        assert_eq!(heap.due(at(20)), Some((repeating, at(20), 'a')));
    }
}
