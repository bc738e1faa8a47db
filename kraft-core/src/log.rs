//! The log's memory: recent entries with their payloads. No I/O.

use std::ops::Range;

use bytes::Bytes;

use crate::id::{Index, Term};
use crate::message::{Entries, Entry, EntryKind};

/// What a leader was asked to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// What it is.
    pub kind: EntryKind,
    /// CRC32C of the payload.
    pub crc: u32,
    /// What it says.
    pub payload: Bytes,
}

/// The log's memory, as [`Raft`](crate::raft::Raft) uses it. Raft itself knows terms and ranges alone; payloads stay
/// in here. [`Tail`] is the implementation; another one may share memory between groups.
///
/// Ranges are half-open: `Index(3)..Index(5)` is the entries 3 and 4.
pub trait Log {
    /// Copies received entries in, the first at `first`, which is the place after the last. One copy for all.
    fn append(&mut self, first: Index, entries: &Entries<'_>);

    /// Takes proposals in, sharing their payloads. Returns how many.
    fn propose(&mut self, first: Index, term: Term, proposals: &mut dyn Iterator<Item = Proposal>) -> u64;

    /// Forgets everything from `from` on.
    fn truncate(&mut self, from: Index);

    /// Takes back entries that were loaded from storage, in front of what is in memory.
    fn restore(&mut self, first: Index, entries: Vec<Entry>);

    /// The first index that is in memory; one past the last if none is.
    fn first(&self) -> Index;

    /// The longest prefix of `range` that is in memory and has at most `bytes_max` payload bytes and `entries_max`
    /// entries; at least one entry if the first is in memory.
    fn fit(&self, range: Range<Index>, bytes_max: usize, entries_max: usize) -> Range<Index>;

    /// Payload bytes of `range`, which is in memory.
    fn bytes(&self, range: Range<Index>) -> u64;

    /// Entries of `range`, which is in memory, to encode or to write.
    fn entries(&self, range: Range<Index>) -> Entries<'_>;

    /// Forgets entries below `below` that are above the memory's bound. Called when they are durable and applied.
    fn evict(&mut self, below: Index);
}
