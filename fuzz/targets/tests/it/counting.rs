//! An allocator that counts what each thread takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

/// Bytes that the calling thread has allocated since it started, those given back included.
pub(crate) fn allocated() -> u64 {
    BYTES.get()
}

struct Counting;

impl Counting {
    fn count(size: usize) {
        // The cell is const and needs no destructor, so it is there for as long as the thread allocates.
        BYTES.set(BYTES.get() + size as u64);
    }
}

// SAFETY: every call is passed on to `System`, whose contract is the same; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller keeps `alloc_zeroed`'s contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract, and `at` is from `System`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size);
        // SAFETY: the caller keeps `realloc`'s contract, and `at` is from `System`.
        unsafe { System.realloc(at, layout, size) }
    }
}
