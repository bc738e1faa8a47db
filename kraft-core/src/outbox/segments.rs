//! Bytes on their way, in pieces.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::mem;

use bytes::{Buf, Bytes};

use super::SHARE_MIN;

/// An emptied coalescing buffer up to this size is always kept for the next bytes; a bigger one only while it is put
/// to use.
const KEEP_MAX: usize = 64 * 1024;

/// Bytes in order, in pieces: what a backend has taken out of an [`Outbox`](super::Outbox) and works on.
///
/// Belongs to the backend's slot of the connection, so that nothing that the kernel holds is within reach of a user.
/// The memory behind the slices does not move while the `Segments` are neither advanced nor cleared, also if the
/// `Segments` themselves are moved.
#[derive(Default)]
pub struct Segments {
    /// All bytes that were copied.
    copied: Vec<u8>,
    /// Where the first of them that is left stands.
    copied_at: usize,
    /// All payloads that are shared.
    shared: VecDeque<Shared>,
    /// The sum over `shared`.
    shared_len: usize,
}

/// A payload that somebody else holds too. Never empty.
struct Shared {
    bytes: Bytes,
    /// It stands behind the copied bytes up to this place.
    behind: usize,
}

/// The end of some [`Segments`], to which they can be cut back.
#[derive(Clone, Copy, Debug)]
pub(super) struct SavePoint {
    copied: usize,
    shared: usize,
    shared_len: usize,
    len: usize,
}

impl SavePoint {
    /// The length at that time.
    #[inline]
    pub(super) fn len(self) -> usize {
        self.len
    }
}

impl Segments {
    /// No bytes, and no memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes left.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.copied.len() - self.copied_at + self.shared_len
    }

    /// Whether no bytes are left.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes left, piece by piece, for a gathering write. None is empty.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let shared = self.shared.iter().map(|shared| (shared.behind, &shared.bytes[..]));
        let mut at = self.copied_at;
        let pairs = shared
            .chain([(self.copied.len(), &[][..])])
            .map(move |(behind, shared)| {
                let copied = &self.copied[at..behind];
                at = behind;
                [copied, shared]
            });
        pairs.flatten().filter(|slice| !slice.is_empty())
    }

    /// The bytes left, if they are one piece, for a plain write.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> Option<&[u8]> {
        let copied = &self.copied[self.copied_at..];
        match self.shared.front() {
            None => Some(copied),
            Some(shared) if copied.is_empty() && self.shared.len() == 1 => Some(&shared.bytes),
            Some(_) => None,
        }
    }

    /// Fills `slices` with the first pieces and returns how many it filled.
    pub fn io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(self.slices()) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Drops the first `count` bytes: the system has them.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "advanced past the end");
        if count == self.len() {
            self.clear();
        } else {
            self.advance_by_part(count);
        }
    }

    fn advance_by_part(&mut self, mut count: usize) {
        while let Some(shared) = self.shared.front_mut() {
            let step = count.min(shared.behind - self.copied_at);
            self.copied_at += step;
            count -= step;
            if count < shared.bytes.len() {
                shared.bytes.advance(count);
                self.shared_len -= count;
                return;
            }
            count -= shared.bytes.len();
            self.shared_len -= shared.bytes.len();
            self.shared.pop_front();
        }
        self.copied_at += count;
    }

    /// Bytes that the coalescing buffer has room for, to see what is kept.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.copied.capacity()
    }

    /// Drops all bytes.
    #[inline]
    pub fn clear(&mut self) {
        empty(&mut self.copied);
        self.copied_at = 0;
        if self.shared_len > 0 {
            self.drop_shared();
        }
    }

    fn drop_shared(&mut self) {
        // There are few of them: less is done to take them out than for `clear`, which looks for both halves of a ring.
        while self.shared.pop_front().is_some() {}
        self.shared_len = 0;
    }

    #[inline]
    pub(super) fn push_copied(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
    }

    /// The same with many pieces, of about `count` bytes together; how many there were.
    #[inline]
    pub(super) fn push_all<T: AsRef<[u8]>>(&mut self, count: usize, pieces: impl Iterator<Item = T>) -> usize {
        self.copied.reserve(count);
        let before = self.copied.len();
        pieces.for_each(|piece| self.copied.extend_from_slice(piece.as_ref()));
        self.copied.len() - before
    }

    /// The same by `fill`, which writes into `N` zero bytes and says how many of the first of them stay; returns that
    /// number.
    #[inline]
    pub(super) fn fill<const N: usize>(&mut self, fill: impl FnOnce(&mut [u8; N]) -> usize) -> usize {
        let before = self.copied.len();
        self.copied.extend_from_slice(&[0; N]);
        let count = fill(self.copied[before..].first_chunk_mut().expect("there are as many"));
        assert!(count <= N, "no more bytes are kept than there are");
        self.copied.truncate(before + count);
        count
    }

    /// Takes the last `count` copied bytes back.
    pub(super) fn shorten(&mut self, count: usize) {
        self.copied.truncate(self.copied.len() - count);
    }

    pub(super) fn push_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_MIN {
            return self.push_copied(bytes);
        }
        self.shared_len += bytes.len();
        self.shared.push_back(Shared {
            bytes: bytes.clone(),
            behind: self.copied.len(),
        });
    }

    /// Exchanges the empty buffer for copied bytes for another one.
    ///
    /// # Panics
    ///
    /// If there are bytes left, or in `spare`.
    #[inline]
    pub(super) fn exchange(&mut self, spare: &mut Vec<u8>) {
        assert!(self.is_empty() && spare.is_empty(), "what is exchanged is empty");
        mem::swap(&mut self.copied, spare);
    }

    /// Exchanges it with the bytes in it, which go along into the other one. None were dropped so far.
    #[inline]
    pub(super) fn move_into(&mut self, spare: &mut Vec<u8>) {
        assert!(self.copied_at == 0 && spare.is_empty(), "what is exchanged is empty");
        spare.extend_from_slice(&self.copied);
        self.copied.clear();
        mem::swap(&mut self.copied, spare);
    }

    #[inline]
    pub(super) fn save(&self) -> SavePoint {
        SavePoint {
            copied: self.copied.len(),
            shared: self.shared.len(),
            shared_len: self.shared_len,
            len: self.len(),
        }
    }

    pub(super) fn restore(&mut self, to: SavePoint) {
        self.copied.truncate(to.copied);
        self.shared.truncate(to.shared);
        self.shared_len = to.shared_len;
    }

    /// How many bytes were copied behind `start` and the last shared payload.
    #[inline]
    pub(super) fn tail(&self, start: SavePoint) -> usize {
        let behind = self.shared.back().map_or(0, |shared| shared.behind);
        self.copied.len() - behind.max(start.copied)
    }

    /// The last `count` bytes of those.
    #[inline]
    pub(super) fn last(&self, count: usize) -> &[u8] {
        &self.copied[self.copied.len() - count..]
    }

    /// Overwrites copied bytes at `offset` behind `start`.
    #[inline]
    pub(super) fn overwrite(&mut self, start: SavePoint, offset: usize, bytes: &[u8]) {
        let end = (self.copied.len(), 0);
        let shared = self
            .shared
            .range(start.shared..)
            .map(|shared| (shared.behind, shared.bytes.len()));
        // Where copied bytes stand that no shared ones part, and how many bytes are behind `start` before them.
        let (mut at, mut before) = (start.copied, 0);
        for (behind, shared) in shared.chain([end]) {
            if offset >= before && offset + bytes.len() <= before + (behind - at) {
                let from = at + (offset - before);
                self.copied[from..from + bytes.len()].copy_from_slice(bytes);
                return;
            }
            before += behind - at + shared;
            at = behind;
        }
        panic!("patch of {} bytes at {offset}: not bytes that were put", bytes.len());
    }
}

/// Empties a buffer. Its memory stays, unless it grew large and is little used.
#[inline]
fn empty(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEEP_MAX {
        shrink(buffer);
    }
    buffer.clear();
}

#[cold]
fn shrink(buffer: &mut Vec<u8>) {
    if buffer.len() < buffer.capacity() / 4 {
        *buffer = Vec::new();
    }
}

/// Lengths alone: the bytes may be many, and secrets of the user.
impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments")
            .field("len", &self.len())
            .field("shared", &self.shared.len())
            .finish_non_exhaustive()
    }
}
