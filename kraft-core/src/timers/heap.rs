//! A heap whose entries can be taken out of the middle.

use crate::id::TimerId;
use crate::time::Instant;

const ARITY: usize = 4;

/// An indexed 4-ary heap by (deadline, start), over slots with generations.
#[derive(Debug)]
pub(super) struct Heap<T> {
    /// `heap[(i - 1) / 4] < heap[i]`.
    heap: Vec<Entry>,
    /// `slots[heap[i].slot].place == i`; a slot that is in no entry is in `free`.
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    started: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: Instant,
    /// Counts starts, so that of equal deadlines the one that was started first comes first.
    start: u64,
    slot: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    place: u32,
    value: T,
}

impl Entry {
    fn before(&self, other: &Self) -> bool {
        (self.deadline, self.start) < (other.deadline, other.start)
    }
}

impl<T> Default for Heap<T> {
    fn default() -> Self {
        Self {
            heap: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            started: 0,
        }
    }
}

impl<T: Copy> Heap<T> {
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.deadline)
    }

    /// The first timer, if it is due at `now`: its id, its deadline and its value.
    pub(super) fn due(&self, now: Instant) -> Option<(TimerId, Instant, T)> {
        let entry = self.heap.first()?;
        if entry.deadline > now {
            return None;
        }
        let slot = &self.slots[entry.slot as usize];
        Some((TimerId::new(entry.slot, slot.generation), entry.deadline, slot.value))
    }

    /// Moves the first timer to a later deadline. It keeps its id and its start.
    pub(super) fn postpone_first(&mut self, deadline: Instant) {
        self.heap[0].deadline = deadline;
        self.sift_down(0);
    }

    pub(super) fn insert(&mut self, deadline: Instant, value: T) -> TimerId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                place: 0,
                value,
            });
            u32::try_from(self.slots.len() - 1).expect("memory ends before 2^32 timers")
        });
        let slot = &mut self.slots[index as usize];
        slot.value = value;
        let timer = TimerId::new(index, slot.generation);
        self.started += 1;
        self.heap.push(Entry {
            deadline,
            start: self.started,
            slot: index,
        });
        self.sift_up(self.heap.len() - 1);
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
            .is_none_or(|entry| entry.slot as usize != timer.slot())
        {
            return false;
        }
        let entry = self.heap.swap_remove(place);
        let slot = &mut self.slots[entry.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(entry.slot);
        if place < self.heap.len() {
            // The entry that was last stands here. It came from another branch, so it may belong above or below.
            let place = self.sift_up(place);
            self.sift_down(place);
        }
        true
    }

    fn sift_up(&mut self, mut place: usize) -> usize {
        let entry = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if !entry.before(&self.heap[parent]) {
                break;
            }
            self.set(place, self.heap[parent]);
            place = parent;
        }
        self.set(place, entry);
        place
    }

    fn sift_down(&mut self, mut place: usize) {
        let entry = self.heap[place];
        loop {
            let first = place * ARITY + 1;
            let Some(children) = self.heap.get(first..self.heap.len().min(first + ARITY)) else {
                break;
            };
            let mut least = entry;
            let mut at = place;
            for (i, child) in children.iter().enumerate() {
                if child.before(&least) {
                    least = *child;
                    at = first + i;
                }
            }
            if at == place {
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
        self.slots[entry.slot as usize].place = place as u32;
    }
}
