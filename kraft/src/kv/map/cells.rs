//! A short list in place: a search that finds it where the node is saves a cache miss for each.

use std::ops::{Deref, DerefMut};

use super::NODE_MAX;

/// At most [`NODE_MAX`] of something.
///
/// Invariant: what is at `len` and behind is the default, which holds no memory.
#[derive(Clone, Debug)]
pub(super) struct Cells<T> {
    len: u8,
    cells: [T; NODE_MAX],
}

impl<T: Default> Cells<T> {
    pub(super) fn new() -> Self {
        Self {
            len: 0,
            cells: std::array::from_fn(|_| T::default()),
        }
    }

    pub(super) fn push(&mut self, cell: T) {
        self.insert(self.len(), cell);
    }

    pub(super) fn insert(&mut self, at: usize, cell: T) {
        let len = self.len();
        self.cells[at..=len].rotate_right(1);
        self.cells[at] = cell;
        self.len += 1;
    }

    pub(super) fn remove(&mut self, at: usize) -> T {
        self[at..].rotate_left(1);
        self.len -= 1;
        std::mem::take(&mut self.cells[usize::from(self.len)])
    }

    /// Moves the last `count` in front of those of `other`.
    pub(super) fn move_to_front_of(&mut self, count: usize, other: &mut Self) {
        let (start, len) = (self.len() - count, other.len());
        other.cells[..len + count].rotate_right(count);
        other.cells[..count].swap_with_slice(&mut self.cells[start..start + count]);
        self.len -= count as u8;
        other.len += count as u8;
    }

    /// Moves the first `count` of `other` behind those that are here.
    pub(super) fn take_front_of(&mut self, count: usize, other: &mut Self) {
        let len = self.len();
        self.cells[len..len + count].swap_with_slice(&mut other.cells[..count]);
        other.rotate_left(count);
        self.len += count as u8;
        other.len -= count as u8;
    }
}

impl<T> Deref for Cells<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.cells[..usize::from(self.len)]
    }
}

impl<T> DerefMut for Cells<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.cells[..usize::from(self.len)]
    }
}
