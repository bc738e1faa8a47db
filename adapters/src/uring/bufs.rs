//! Receive buffers: a ring of them, from which the kernel takes one when bytes arrive.

use std::io;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::ops::BUFFERS;
use super::ring::Ring;
use crate::config::Config;
use crate::scratch::MID_PAGE;

/// The largest buffer. Of the ring's bytes, smaller buffers serve more connections at once; larger ones save
/// completions of bulk. Measured against bare epoll with 64 connections and messages of 64 KiB: buffers of 16 KiB cost
/// 1.20 of its CPU time a message, of 32 KiB 1.12, of 64 KiB 1.06. Small messages, also over 1,000 and 10,000
/// connections, do not tell them apart.
const BUFFER_MAX: usize = 64 * 1024;

/// Bytes of buffers that circulate at first. Buffers come back in the order in which they were taken, so all that
/// circulate pass through the cache: no more of them than the load has shown to need. A second-level cache holds so
/// many.
const CIRCULATING_MIN: usize = 1024 * 1024;

/// The most entries of a ring of buffers (`IORING_REGISTER_PBUF_RING`).
const ENTRIES_MAX: usize = 1 << 15;

/// A buffer that the kernel filled and that is the loop's until it is given back.
#[derive(Debug)]
pub(super) struct Filled {
    index: u16,
    len: usize,
}

/// The buffers of a ring, each of which begins at [`MID_PAGE`] if they are whole pages long.
///
/// Idle connections hold none: the kernel takes a buffer when there are bytes. So the memory is bounded by
/// `Config::ring_bytes` however many connections there are, and buffers come back within the turn.
///
/// Invariant: the kernel may write to a buffer unless it is `Filled` or in reserve, and reads `entries`, from
/// [`register`](Self::register) on until the ring is known to be quiet. Both are leaked if this is dropped before
/// [`retire`](Self::retire).
#[derive(Debug)]
pub(super) struct Bufs {
    memory: Region,
    entries: Region,
    /// Bytes of each.
    size: usize,
    /// How many there are: a power of two, so also the number of entries.
    count: u16,
    /// Those below it circulate between the kernel and the loop; the others are in reserve, and were never touched.
    circulating: u16,
    /// The end of the ring as the kernel knows it.
    tail: u16,
    /// Which of them are with the kernel. What it says is believed once.
    with_kernel: Box<[bool]>,
}

impl Bufs {
    pub(super) fn new(config: &Config) -> io::Result<Self> {
        let size = config.read_buffer.min(BUFFER_MAX).min(config.ring_bytes / 2);
        let fitting = (config.ring_bytes / size).min(ENTRIES_MAX);
        // The power of two at or below it.
        let count = 1 << fitting.ilog2();
        let entries = Region::map(count * size_of::<BufRingEntry>())?;
        Ok(Self {
            memory: Region::map(MID_PAGE + count * size)?,
            entries,
            size,
            count: u16::try_from(count).expect("ENTRIES_MAX"),
            circulating: 0,
            tail: 0,
            with_kernel: vec![false; count].into_boxed_slice(),
        })
    }

    /// Makes them known to the kernel, and hands it the first.
    pub(super) fn register(&mut self, ring: &Ring) -> io::Result<()> {
        let address = self.entries.start.as_ptr() as u64;
        // SAFETY: the entries are mapped, and stay so until `retire`, or for ever.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(address, self.count, BUFFERS, 0)
        }?;
        (self.memory.is_shared, self.entries.is_shared) = (true, true);
        let first = (CIRCULATING_MIN / self.size).clamp(2, usize::from(self.count));
        self.circulate(first);
        Ok(())
    }

    /// Doubles what circulates, as far as there is reserve. For when the kernel was short of them.
    pub(super) fn grow(&mut self) {
        self.circulate(usize::from(self.circulating));
    }

    fn circulate(&mut self, more: usize) {
        let until = usize::from(self.count).min(usize::from(self.circulating) + more) as u16;
        for index in self.circulating..until {
            self.hand_over(index);
        }
        self.circulating = until;
        self.publish();
    }

    /// Bytes of each.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// How many the kernel may take at once, at most.
    pub(super) fn circulating(&self) -> usize {
        usize::from(self.circulating)
    }

    /// Takes over a buffer into which the kernel has written `len` bytes, as a completion says.
    pub(super) fn claim(&mut self, index: u16, len: usize) -> Filled {
        let slot = &mut self.with_kernel[usize::from(index)];
        assert!(
            *slot && len <= self.size,
            "the kernel filled a buffer that it does not have"
        );
        *slot = false;
        Filled { index, len }
    }

    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        // SAFETY: within the mapping, which lives as long as `self`. The kernel does not write to it before it is
        // given back, which takes the `Filled`; and it wrote it before the completion that `claim` goes by.
        unsafe { slice::from_raw_parts(self.start_of(filled.index).as_ptr(), filled.len) }
    }

    /// Lets the kernel have a buffer again.
    pub(super) fn give_back(&mut self, filled: Filled) {
        self.hand_over(filled.index);
        self.publish();
    }

    /// The kernel has said its last word: nothing is in flight, so the memory is free to go.
    pub(super) fn retire(&mut self) {
        (self.memory.is_shared, self.entries.is_shared) = (false, false);
    }

    fn hand_over(&mut self, index: u16) {
        let address = self.start_of(index).as_ptr() as u64;
        let slot = usize::from(self.tail & (self.count - 1));
        let entry = self.entries.start.cast::<BufRingEntry>();
        // SAFETY: within the mapping: slot < count. The kernel does not read an entry beyond the tail, and there are
        // as many entries as buffers, so that of another one cannot be overwritten. Fields are set one by one, since
        // the tail itself lies in the first entry.
        unsafe {
            let entry = &mut *entry.as_ptr().add(slot);
            entry.set_addr(address);
            entry.set_len(self.size as u32);
            entry.set_bid(index);
        }
        self.tail = self.tail.wrapping_add(1);
        self.with_kernel[usize::from(index)] = true;
    }

    /// Shows the kernel what was handed over.
    fn publish(&self) {
        // SAFETY: the mapping begins with an entry; the tail in it is written atomically by this alone, and read by
        // the kernel.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.start.cast().as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    fn start_of(&self, index: u16) -> NonNull<u8> {
        assert!(index < self.count);
        // SAFETY: within the mapping, which has `count` buffers behind its first half page.
        unsafe { self.memory.start.add(MID_PAGE + usize::from(index) * self.size) }
    }
}

/// Memory of the process that no child inherits: it is the kernel's too.
#[derive(Debug)]
struct Region {
    start: NonNull<u8>,
    len: usize,
    /// The kernel may use it.
    is_shared: bool,
}

// SAFETY: the memory belongs to this alone, whatever thread that is on.
unsafe impl Send for Region {}

impl Region {
    /// Zeroed and page-aligned. No memory is used before it is written to.
    fn map(len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: asks for new memory, and touches none that is there.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("nothing is mapped at null");
        let region = Self {
            start,
            len,
            is_shared: false,
        };
        // SAFETY: the region is mapped, and ours.
        // After a fork the first to write would get another page than the one that the kernel knows.
        if unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTFORK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(region)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.is_shared {
            // Only the pages go: what the kernel may still write finds new ones, at an address that stays taken.
            // SAFETY: the region is mapped, ours, and nobody in this process looks at it again.
            unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, libc::MADV_DONTNEED) };
            return;
        }
        // SAFETY: the region is mapped, ours, and neither the process nor the kernel uses it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
