//! The suite over an adapter that is not one of Kraft's own.

use kraft_adapters::conformance::{Counting, Sockets};
use poll_adapter::Poll;

/// Without it law A22, and the memory of the soak, are not judged.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

kraft_adapters::suite!(poll, || Sockets::new(Poll::open));

/// The guide says so.
#[test]
fn it_takes_less_than_400_lines_of_code() {
    let source = include_str!("../src/lib.rs");
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let lines = source.lines().filter(is_code).count();
    assert!(lines < 400, "{lines} lines");
}
