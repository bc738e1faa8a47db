//! An allocator that counts, for laws about memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The part of the process's life that counts.
static ERA: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The era in which this thread was first seen; 0 before that.
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// Bytes allocated less bytes freed. Wraps.
static LIVE: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counted: what law A22 and the soak need. In the test binary:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: kraft_adapters::conformance::Counting = kraft_adapters::conformance::Counting;
/// ```
///
/// Every [`Environment`](super::Environment) finds it there by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting;

impl Counting {
    /// Allocations so far, of all threads that count; 0 if it is not this process's allocator.
    ///
    /// In a law that counts these are its own thread and those that began since: the test harness has threads as well,
    /// and what one of them allocates, late on a busy machine, is not the adapter's doing.
    #[must_use]
    pub fn allocations() -> u64 {
        ALLOCATIONS.load(Ordering::Relaxed)
    }

    /// Bytes that are allocated at the time, by all threads.
    #[must_use]
    pub fn live_bytes() -> u64 {
        LIVE.load(Ordering::Relaxed)
    }

    /// Whether it is this process's allocator.
    pub(super) fn is_installed() -> bool {
        // No test gets here without an allocation.
        Self::allocations() > 0
    }

    /// From here on this thread counts, and those that were not seen so far.
    pub(super) fn leave_out_others() {
        let era = ERA.fetch_add(1, Ordering::Relaxed) + 1;
        SEEN.set(era);
    }

    /// Sees this thread, if it was not seen before: it is there, and may not have allocated anything.
    pub(super) fn see_thread() -> u64 {
        let era = ERA.load(Ordering::Relaxed);
        let seen = SEEN.try_with(|seen| {
            if seen.get() == 0 {
                seen.set(era);
            }
            seen.get()
        });
        // A thread that is about to end.
        seen.unwrap_or(era)
    }

    fn count(size: usize) {
        if Self::see_thread() == ERA.load(Ordering::Relaxed) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        LIVE.fetch_add(size as u64, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size);
        LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// It is not the allocator here, so that nobody else counts.
    #[test]
    fn threads_of_before_do_not_count() {
        let (count, counts) = mpsc::channel::<()>();
        let (begins, has_begun) = mpsc::channel();
        let old = thread::spawn(move || {
            Counting::see_thread();
            begins.send(()).expect("it is waited for");
            counts.recv().expect("it is told");
            Counting::count(1);
        });
        has_begun.recv().expect("it begins");
        Counting::leave_out_others();
        let before = Counting::allocations();
        count.send(()).expect("it waits");
        old.join().expect("it ends");
        assert_eq!(Counting::allocations(), before, "a thread of before was counted");
        Counting::count(1);
        thread::spawn(|| Counting::count(1)).join().expect("it ends");
        assert_eq!(Counting::allocations(), before + 2);
    }
}
