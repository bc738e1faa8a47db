//! The suite over an adapter that is not one of Kraft's own.

use kraft_adapters::conformance::{Counting, Sockets};
use poll_adapter::Poll;

/// Without it law A22, and the memory of the soak, are not judged.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

kraft_adapters::suite!(poll, || Sockets::new(Poll::open));
