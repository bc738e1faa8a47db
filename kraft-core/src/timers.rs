//! One set of timers for all backends; no kernel timers.

use std::time::Duration;

use crate::id::TimerId;
use crate::time::Instant;

/// Timers of an adapter. Backends call [`expire`](Self::expire) in every turn and wait no longer than
/// [`next_deadline`](Self::next_deadline).
///
/// An indexed 4-ary heap over slots with generations: the exact next deadline is at hand, and stopping a timer in the
/// middle costs as little as starting one (an election timer restarts at every heartbeat). A timer wheel is faster
/// still and knows its next deadline only roughly.
#[derive(Debug, Default)]
pub struct Timers {
    /// A heap by (deadline, start): `heap[(i - 1) / 4] < heap[i]`.
    heap: Vec<Entry>,
    /// `slots[heap[i].slot].place == i`; a slot that is in no entry is in `free`.
    slots: Vec<Slot>,
    free: Vec<u32>,
    started: u64,
}

const ARITY: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: Instant,
    /// Counts starts, so that of equal deadlines the one that was started first expires first.
    start: u64,
    slot: u32,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    place: u32,
    /// Zero for a timer that expires once.
    period: Duration,
}

impl Entry {
    fn before(&self, other: &Self) -> bool {
        (self.deadline, self.start) < (other.deadline, other.start)
    }
}

impl Timers {
    /// Starts a timer that expires once at `deadline`, or at once if that is past.
    pub fn start(&mut self, deadline: Instant) -> TimerId {
        self.insert(deadline, Duration::ZERO)
    }

    /// Starts a timer that expires at `first` and then every `period`, without drift; turns that came too late for
    /// several periods get one expiry (law A12).
    ///
    /// # Panics
    ///
    /// If `period` is zero.
    pub fn repeat(&mut self, first: Instant, period: Duration) -> TimerId {
        assert!(!period.is_zero(), "a period of zero never ends");
        self.insert(first, period)
    }

    /// Stops a timer; whether it was running. A stop before a poll holds even if the timer is due (law A11).
    pub fn stop(&mut self, timer: TimerId) -> bool {
        let Some(slot) = self.slots.get(timer.slot()) else {
            return false;
        };
        if slot.generation != timer.generation() {
            return false;
        }
        self.remove(slot.place as usize);
        true
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.deadline)
    }

    /// Takes one timer that is due at `now`: the earliest deadline, of equals the one that was started first. For
    /// backends; a repeating timer is set to its next period.
    ///
    /// `while let Some(timer) = timers.expire(now)` ends: what repeats is next due after `now`.
    pub fn expire(&mut self, now: Instant) -> Option<TimerId> {
        let entry = *self.heap.first()?;
        if entry.deadline > now {
            return None;
        }
        let slot = &self.slots[entry.slot as usize];
        let timer = TimerId::new(entry.slot, slot.generation);
        let next = following(entry.deadline, slot.period, now);
        match next {
            Some(deadline) => {
                self.heap[0].deadline = deadline;
                self.sift_down(0);
            }
            None => self.remove(0),
        }
        Some(timer)
    }

    /// How many run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    fn insert(&mut self, deadline: Instant, period: Duration) -> TimerId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                place: 0,
                period,
            });
            u32::try_from(self.slots.len() - 1).expect("memory ends before 2^32 timers")
        });
        let slot = &mut self.slots[index as usize];
        slot.period = period;
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

    /// Takes the entry at `place` out and makes its id stale.
    fn remove(&mut self, place: usize) {
        let entry = self.heap.swap_remove(place);
        let slot = &mut self.slots[entry.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(entry.slot);
        if place < self.heap.len() {
            // The entry that was last stands here. It came from another branch, so it may belong above or below.
            let place = self.sift_up(place);
            self.sift_down(place);
        }
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

/// The first deadline of a repeating timer after `now`, on the grid that its first one began. `None` if it does not
/// repeat, or at the end of time.
fn following(deadline: Instant, period: Duration, now: Instant) -> Option<Instant> {
    if period.is_zero() {
        return None;
    }
    let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    let missed = (now.as_nanos() - deadline.as_nanos()) / period;
    let next = period
        .checked_mul(missed + 1)
        .and_then(|span| deadline.as_nanos().checked_add(span))?;
    Some(Instant::from_nanos(next))
}

#[cfg(test)]
mod tests;
