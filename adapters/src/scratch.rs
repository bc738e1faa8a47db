//! Where in a page reads go.

use std::ops::{Deref, DerefMut};

/// Bytes of a page.
const PAGE: usize = 4096;

/// Where in a page memory for reads begins.
///
/// Who passes on what was read has it copied, and allocators lay the memory that it is copied to near the start of a
/// page. Between addresses that are alike in their lower twelve bits some processors copy several times as slowly
/// (`rep movsb` on AMD's Zen: glibc bug 30994); half a page lies between these.
pub(crate) const MID_PAGE: usize = PAGE / 2;

/// What every read of a loop goes into. It begins at [`MID_PAGE`].
#[derive(Debug)]
pub(crate) struct Scratch {
    memory: Box<[u8]>,
    start: usize,
    len: usize,
}

impl Scratch {
    pub(crate) fn new(len: usize) -> Self {
        let memory = vec![0; len + PAGE].into_boxed_slice();
        let start = (PAGE + MID_PAGE - memory.as_ptr().addr() % PAGE) % PAGE;
        Self { memory, start, len }
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..][..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_in_the_middle_of_a_page() {
        for len in [512, 16 * 1024, 64 * 1024, 1 << 20] {
            let mut scratch = Scratch::new(len);
            assert_eq!(scratch.len(), len);
            assert_eq!(scratch.as_ptr().addr() % PAGE, MID_PAGE);
            scratch.fill(1);
        }
    }
}
