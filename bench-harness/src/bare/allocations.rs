//! How often memory is allocated, counted by the allocator of this program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The system's allocator, which counts once that was asked for.
///
/// Nothing that is timed counts: there an allocation costs a load and a branch more than the system's, which every engine
/// pays alike.
#[derive(Debug)]
pub(crate) struct Counting;

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Counts from here on, on all threads of this process.
pub(crate) fn begin() {
    IS_COUNTING.store(true, Ordering::Relaxed);
}

/// How often memory was asked for so far, for the first time or for more; `None` if nobody counts.
pub(crate) fn count() -> Option<u64> {
    IS_COUNTING
        .load(Ordering::Relaxed)
        .then(|| COUNT.load(Ordering::Relaxed))
}

/// Memory is asked for.
pub(crate) fn note() {
    if IS_COUNTING.load(Ordering::Relaxed) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: each call is the system allocator's own, with the arguments that it was called with and what that returns;
// noting it allocates nothing and does not panic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note();
        // SAFETY: as above; the block is the system allocator's, as all are.
        unsafe { System.realloc(at, layout, bytes) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn allocations_are_counted_once_that_is_asked_for() {
        assert_eq!(count(), None);
        begin();
        let before = count().expect("it counts");
        for _ in 0..100 {
            // Of each kind one: for the first time, zeroed, and for more.
            let mut bytes = black_box(Vec::<u8>::with_capacity(1));
            bytes.reserve_exact(1000);
            drop(black_box((bytes, vec![0_u8; 10])));
        }
        // Other tests allocate too.
        let counted = count().expect("it counts") - before;
        assert!(counted >= 300, "{counted}");
    }
}
