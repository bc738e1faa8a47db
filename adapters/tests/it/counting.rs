//! Counts the allocations of this process, for law A22 and the soak.

use kraft_adapters::conformance::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of all threads so far.
pub(crate) fn allocations() -> u64 {
    Counting::allocations()
}
