//! The ring of receive buffers.

use std::alloc::{Layout, alloc_zeroed};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// 8 MiB: between 4 and 16 the third-level cache holds it, and 256 buffers keep 64 KiB messages moving.
pub(super) const BUFFER_COUNT: u16 = 256;
const BUFFER_BYTES: usize = 32 * 1024;

/// The group's number.
pub(super) const GROUP: u16 = 0;

/// The ring's entries, which begin on a page, and its buffers.
#[repr(C, align(4096))]
struct Memory {
    entries: [BufRingEntry; BUFFER_COUNT as usize],
    data: [[u8; BUFFER_BYTES]; BUFFER_COUNT as usize],
}

/// A ring of buffers for receives. Its memory is never freed: the server ends by being killed.
pub(super) struct Buffers {
    memory: *mut Memory,
    tail: u16,
    /// Buffers that the kernel has: so many receives will find one.
    pub(super) free: u16,
    /// How many still need each buffer.
    needed: [u16; BUFFER_COUNT as usize],
}

impl Buffers {
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        // SAFETY: the size is not zero.
        let memory = unsafe { alloc_zeroed(Layout::new::<Memory>()) };
        assert!(!memory.is_null(), "no memory for the buffers of receives");
        // SAFETY: the memory is page-aligned, begins with so many entries, zeroed, and is never freed.
        unsafe { submitter.register_buf_ring_with_flags(memory as u64, BUFFER_COUNT, GROUP, 0) }
            .map_err(|error| io::Error::new(error.kind(), format!("io_uring_register(PBUF_RING): {error}")))?;
        let mut buffers = Self {
            memory: memory.cast(),
            tail: 0,
            free: 0,
            needed: [0; BUFFER_COUNT as usize],
        };
        (0..BUFFER_COUNT).for_each(|id| buffers.give(id));
        Ok(buffers)
    }

    /// Where a buffer begins.
    pub(super) fn at(&self, id: u16) -> *const u8 {
        // SAFETY: the memory is never freed, and no reference to it is made; the place lies within it, or this panics.
        unsafe { (&raw const (*self.memory).data[usize::from(id)]).cast() }
    }

    /// The kernel filled a buffer, which `count` sends will need; none of them has given it back yet.
    pub(super) fn take(&mut self, id: u16, count: u16) {
        self.free -= 1;
        self.needed[usize::from(id)] = count + 1;
        self.release(id);
    }

    /// A send needs a buffer no more, or its receiver does.
    pub(super) fn release(&mut self, id: u16) {
        let needed = &mut self.needed[usize::from(id)];
        *needed -= 1;
        if *needed == 0 {
            self.give(id);
        }
    }

    /// Gives a buffer to the kernel.
    fn give(&mut self, id: u16) {
        let place = usize::from(self.tail % BUFFER_COUNT);
        // SAFETY: the place is ours until the tail passes it: there are as many places as buffers, and this buffer was not
        // the kernel's.
        let entry = unsafe { &mut (*self.memory).entries[place] };
        entry.set_addr(self.at(id) as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        self.free += 1;
        // SAFETY: the tail stands in the first entry of the ring, aligned as its type, and the kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.memory.cast()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
