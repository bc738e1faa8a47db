//! Where connections and listeners stand. For backends.

/// Values in slots with generations, so that an id of a former value is recognised as stale (law A5).
///
/// A value is taken out in two steps. [`retire`](Self::retire) makes its id stale; its slot is used again only after
/// [`release`](Self::release), because users keep state a slot, and have the last event of the old value (`Closed`)
/// before the first of the next.
///
/// ```
/// use kraft_adapters::slots::Slots;
/// use kraft_core::id::ConnId;
///
/// let mut conns = Slots::new(1);
/// let (slot, generation) = conns.insert_with(|_, _| "a").expect("a slot is free");
/// let id = ConnId::new(slot, generation);
/// assert_eq!(conns.retire(id.slot(), id.generation()), Some("a"));
/// assert_eq!(conns.get(id.slot(), id.generation()), None);
/// // `Closed` is delivered; the next one gets the slot, and another id.
/// conns.release(id.slot());
/// assert_eq!(conns.insert_with(|_, _| "b"), Some((slot, generation + 1)));
/// ```
#[derive(Debug)]
pub struct Slots<T> {
    entries: Vec<Entry<T>>,
    /// Slots of `entries` that can be used again.
    free: Vec<u32>,
    /// `entries.len() <= max`.
    max: usize,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    /// No values, and never more than `max`.
    ///
    /// # Panics
    ///
    /// If `max` is above 2^24.
    #[must_use]
    pub fn new(max: usize) -> Self {
        assert!(max <= 1 << 24, "more slots than tokens can tell apart");
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            max,
        }
    }

    /// Slots in use, those that wait for their release among them.
    #[must_use]
    pub fn used(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether no slot is free.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.used() == self.max
    }

    /// Puts in what `make` makes of its slot and generation, which are the return value; `None` if no slot is free.
    pub fn insert_with(&mut self, make: impl FnOnce(u32, u32) -> T) -> Option<(u32, u32)> {
        if self.is_full() {
            return None;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                generation: 0,
                value: None,
            });
            u32::try_from(self.entries.len() - 1).expect("max is at most 2^24")
        });
        let entry = &mut self.entries[slot as usize];
        entry.value = Some(make(slot, entry.generation));
        Some((slot, entry.generation))
    }

    /// The value that a slot holds, with its generation.
    pub fn at_mut(&mut self, slot: usize) -> Option<(u32, &mut T)> {
        let entry = self.entries.get_mut(slot)?;
        Some((entry.generation, entry.value.as_mut()?))
    }

    /// The values with their slots and generations, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, &T)> {
        (0..).zip(&self.entries).filter_map(|(slot, entry)| {
            let value = entry.value.as_ref()?;
            Some((slot, entry.generation, value))
        })
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, u32, &mut T)> {
        (0..).zip(&mut self.entries).filter_map(|(slot, entry)| {
            let value = entry.value.as_mut()?;
            Some((slot, entry.generation, value))
        })
    }

    /// The value, if the id is not stale.
    #[must_use]
    pub fn get(&self, slot: usize, generation: u32) -> Option<&T> {
        let entry = self.entries.get(slot)?;
        entry.value.as_ref().filter(|_| entry.generation == generation)
    }

    /// The value, if the id is not stale.
    pub fn get_mut(&mut self, slot: usize, generation: u32) -> Option<&mut T> {
        let entry = self.entries.get_mut(slot)?;
        entry.value.as_mut().filter(|_| entry.generation == generation)
    }

    /// Takes the value out. From here on its id is stale; its slot waits for [`release`](Self::release).
    pub fn retire(&mut self, slot: usize, generation: u32) -> Option<T> {
        let entry = self.entries.get_mut(slot)?;
        if entry.generation != generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = generation.wrapping_add(1);
        Some(value)
    }

    /// Lets a slot be used again. Called once for each value that was retired.
    ///
    /// # Panics
    ///
    /// If the slot holds a value.
    pub fn release(&mut self, slot: usize) {
        assert!(self.entries[slot].value.is_none(), "released what is in use");
        self.free.push(u32::try_from(slot).expect("max is at most 2^24"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a05_a_reused_slot_has_a_new_id() {
        let mut slots = Slots::new(1);
        assert_eq!(slots.insert_with(|_, _| 'a'), Some((0, 0)));
        assert!(slots.is_full());
        assert_eq!(slots.insert_with(|_, _| 'b'), None);
        assert_eq!(slots.retire(0, 0), Some('a'));
        assert_eq!(slots.retire(0, 0), None);
        assert_eq!(slots.insert_with(|_, _| 'b'), None, "its Closed is not delivered yet");
        slots.release(0);
        assert_eq!(slots.used(), 0);
        assert_eq!(slots.insert_with(|_, _| 'b'), Some((0, 1)));
        assert_eq!(slots.get(0, 0), None);
        assert_eq!(slots.get_mut(0, 0), None);
        assert_eq!(slots.get(0, 1), Some(&'b'));
        assert_eq!(slots.get(7, 0), None);
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(0, 1, &'b')]);
        slots.iter_mut().for_each(|(_, _, value)| *value = 'c');
        assert_eq!(slots.retire(0, 1), Some('c'));
        assert_eq!(slots.iter().count(), 0);
    }

    #[test]
    #[should_panic(expected = "released what is in use")]
    fn a_slot_in_use_is_not_released() {
        let mut slots = Slots::new(1);
        slots.insert_with(|_, _| ());
        slots.release(0);
    }
}
