//! The ring of receive buffers.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// 8 MiB: between 4 and 16 the third-level cache holds it, and 256 buffers keep 64 KiB messages moving.
const BUFFER_COUNT: u16 = 256;
const BUFFER_BYTES: u32 = 32 * 1024;

/// The group's number.
pub(super) const GROUP: u16 = 0;

/// A ring of buffers for receives. Its memory is never freed: the server ends by being killed.
pub(super) struct Buffers {
    ring: *mut BufRingEntry,
    data: *mut u8,
    tail: u16,
    /// Buffers that the kernel has.
    free: u16,
    /// How many sends still need each buffer.
    needed: Vec<u16>,
}

impl Buffers {
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        const PAGE: usize = 4096;
        let ring = leak(usize::from(BUFFER_COUNT) * size_of::<BufRingEntry>(), PAGE).cast();
        let data = leak(usize::from(BUFFER_COUNT) * BUFFER_BYTES as usize, PAGE);
        // SAFETY: the memory is page-aligned, of the size for so many entries, zeroed, and never freed.
        unsafe { submitter.register_buf_ring_with_flags(ring as u64, BUFFER_COUNT, GROUP, 0) }
            .map_err(|error| io::Error::new(error.kind(), format!("io_uring_register(PBUF_RING): {error}")))?;
        let (tail, free) = (0, 0);
        let needed = vec![0; usize::from(BUFFER_COUNT)];
        let mut buffers = Self {
            ring,
            data,
            tail,
            free,
            needed,
        };
        for id in 0..BUFFER_COUNT {
            buffers.give(id);
        }
        Ok(buffers)
    }

    pub(super) fn at(&self, id: u16, offset: u32) -> *mut u8 {
        assert!(id < BUFFER_COUNT && offset < BUFFER_BYTES);
        // SAFETY: by the assertion it lies within `data`.
        unsafe { self.data.add(usize::from(id) * BUFFER_BYTES as usize + offset as usize) }
    }

    /// How many receives will find a buffer.
    pub(super) fn free(&self) -> u16 {
        self.free
    }

    /// The kernel filled a buffer, which `count` sends will need; none of them gives it back at once.
    pub(super) fn take(&mut self, id: u16, count: u16) {
        self.free -= 1;
        self.needed[usize::from(id)] = count;
        if count == 0 {
            self.give(id);
        }
    }

    /// A send needs a buffer no more.
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
        let address = self.at(id, 0);
        // SAFETY: the place lies within the ring, and is ours until the tail passes it: there are as many places as
        // buffers, and this buffer was not the kernel's.
        let entry = unsafe { &mut *self.ring.add(place) };
        entry.set_addr(address as u64);
        entry.set_len(BUFFER_BYTES);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        self.free += 1;
        // SAFETY: the tail stands in the first entry of the ring, aligned as its type, and the kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.ring).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Zeroed memory for the life of the process.
fn leak(bytes: usize, align: usize) -> *mut u8 {
    let layout = Layout::from_size_align(bytes, align).expect("both are constants of this file");
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    memory
}
