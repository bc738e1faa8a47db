//! An allocator that counts, for laws about memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

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
    /// Allocations of all threads so far; 0 if it is not this process's allocator.
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

    fn count(size: usize) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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
