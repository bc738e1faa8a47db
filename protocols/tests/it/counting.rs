//! An allocator that counts what each thread takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kraft_protocols::conformance::Allocated;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

/// What the calling thread has allocated since it started.
pub(crate) fn allocated() -> Allocated {
    Allocated {
        count: COUNT.get(),
        bytes: BYTES.get(),
    }
}

struct Counting;

impl Counting {
    fn count(size: usize) {
        // Both cells are const and need no destructor, so they are there for as long as the thread allocates.
        COUNT.set(COUNT.get() + 1);
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
