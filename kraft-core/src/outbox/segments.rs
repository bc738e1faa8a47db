//! Bytes on their way, in pieces.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::iter;

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
    pieces: VecDeque<Piece>,
    /// The bytes of all `Copied` pieces, in order.
    copied: Vec<u8>,
    /// Where the first `Copied` piece begins in `copied`.
    copied_at: usize,
    /// The sum over `pieces`.
    len: usize,
}

enum Piece {
    /// So many bytes of `copied`. No two stand side by side, and none is empty.
    Copied(usize),
    /// A payload that somebody else holds too. Never empty.
    Shared(Bytes),
}

/// The end of some [`Segments`], to which they can be cut back.
#[derive(Clone, Copy, Debug)]
pub(super) struct SavePoint {
    pieces: usize,
    /// Bytes of the last piece, if it is `Copied`.
    open: usize,
    copied: usize,
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
        self.len
    }

    /// Whether no bytes are left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes left, piece by piece, for a gathering write.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut copied = &self.copied[self.copied_at..];
        self.pieces.iter().map(move |piece| match piece {
            Piece::Copied(count) => {
                let (head, tail) = copied.split_at(*count);
                copied = tail;
                head
            }
            Piece::Shared(bytes) => &bytes[..],
        })
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
    pub fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "advanced past the end");
        self.len -= count;
        while count > 0 {
            let front = self.pieces.front_mut().expect("len is the sum over the pieces");
            let size = match front {
                Piece::Copied(size) => *size,
                Piece::Shared(bytes) => bytes.len(),
            };
            let step = size.min(count);
            count -= step;
            match front {
                Piece::Copied(size) => {
                    *size -= step;
                    self.copied_at += step;
                }
                Piece::Shared(bytes) => bytes.advance(step),
            }
            if step == size {
                self.pieces.pop_front();
            }
        }
        if self.len == 0 {
            self.clear();
        }
    }

    /// Bytes that the coalescing buffer has room for, to see what is kept.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.copied.capacity()
    }

    /// Drops all bytes. The buffers stay, unless one grew large and is little used.
    pub fn clear(&mut self) {
        let used = self.copied.len();
        // There are few of them: less is done to take them out than for `clear`, which looks for both halves of a ring.
        while self.pieces.pop_front().is_some() {}
        self.copied.clear();
        if self.copied.capacity() > KEEP_MAX && used < self.copied.capacity() / 4 {
            self.copied = Vec::new();
        }
        self.copied_at = 0;
        self.len = 0;
    }

    pub(super) fn push_copied(&mut self, bytes: &[u8]) {
        self.extend_open(bytes);
        self.close(bytes.len());
    }

    /// Copies `bytes` to the end; they are of no piece before [`close`](Self::close) makes them one, and nothing else
    /// may be pushed before.
    #[inline]
    pub(super) fn extend_open(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
    }

    /// The same with many pieces, of about `count` bytes together; how many there were.
    #[inline]
    pub(super) fn extend_open_by<T: AsRef<[u8]>>(&mut self, count: usize, pieces: impl Iterator<Item = T>) -> usize {
        self.copied.reserve(count);
        let before = self.copied.len();
        pieces.for_each(|piece| self.copied.extend_from_slice(piece.as_ref()));
        self.copied.len() - before
    }

    /// The same by `fill`, which writes into `N` zero bytes and says how many of the first of them stay; returns that number.
    #[inline]
    pub(super) fn fill_open<const N: usize>(&mut self, fill: impl FnOnce(&mut [u8; N]) -> usize) -> usize {
        let before = self.copied.len();
        self.copied.extend_from_slice(&[0; N]);
        let count = fill(self.copied[before..].first_chunk_mut().expect("there are as many"));
        assert!(count <= N, "no more bytes are kept than there are");
        self.copied.truncate(before + count);
        count
    }

    /// Takes the last `count` of those back.
    pub(super) fn shorten_open(&mut self, count: usize) {
        self.copied.truncate(self.copied.len() - count);
    }

    /// The last bytes of those.
    #[inline]
    pub(super) fn last_open(&self, count: usize) -> &[u8] {
        &self.copied[self.copied.len() - count..]
    }

    /// Overwrites some of those, the first of which is this far from the end.
    #[inline]
    pub(super) fn overwrite_open(&mut self, from_end: usize, bytes: &[u8]) {
        let from = self.copied.len() - from_end;
        self.copied[from..from + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes the `count` bytes at the end, which are of no piece, part of the last one, or one of their own.
    pub(super) fn close(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        self.len += count;
        match self.pieces.back_mut() {
            Some(Piece::Copied(size)) => *size += count,
            _ => self.pieces.push_back(Piece::Copied(count)),
        }
    }

    /// Moves what `other` holds behind what is here, and leaves it empty with the memory that it had.
    pub(super) fn append(&mut self, other: &mut Self) {
        let mut at = other.copied_at;
        for piece in other.pieces.drain(..) {
            match piece {
                Piece::Copied(count) => {
                    self.push_copied(&other.copied[at..at + count]);
                    at += count;
                }
                Piece::Shared(bytes) => {
                    self.len += bytes.len();
                    self.pieces.push_back(Piece::Shared(bytes));
                }
            }
        }
        other.copied.clear();
        (other.copied_at, other.len) = (0, 0);
    }

    pub(super) fn push_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_MIN {
            return self.push_copied(bytes);
        }
        self.len += bytes.len();
        self.pieces.push_back(Piece::Shared(bytes.clone()));
    }

    pub(super) fn save(&self) -> SavePoint {
        SavePoint {
            pieces: self.pieces.len(),
            open: match self.pieces.back() {
                Some(Piece::Copied(size)) => *size,
                _ => 0,
            },
            copied: self.copied.len(),
            len: self.len,
        }
    }

    pub(super) fn restore(&mut self, to: SavePoint) {
        self.pieces.truncate(to.pieces);
        if let Some(Piece::Copied(size)) = self.pieces.back_mut() {
            *size = to.open;
        }
        self.copied.truncate(to.copied);
        self.len = to.len;
    }

    /// Overwrites copied bytes at `offset` behind `start`.
    pub(super) fn overwrite(&mut self, start: SavePoint, offset: usize, bytes: &[u8]) {
        // The piece that was last at `start` may have grown behind it.
        let grown = match start.pieces.checked_sub(1).map(|last| &self.pieces[last]) {
            Some(Piece::Copied(size)) => size - start.open,
            _ => 0,
        };
        let rest = self.pieces.range(start.pieces..).map(|piece| match piece {
            Piece::Copied(size) => (*size, true),
            Piece::Shared(bytes) => (bytes.len(), false),
        });
        let mut at = start.copied;
        let mut before = 0;
        for (size, is_copied) in iter::once((grown, true)).chain(rest) {
            if is_copied && offset >= before && offset + bytes.len() <= before + size {
                let from = at + (offset - before);
                self.copied[from..from + bytes.len()].copy_from_slice(bytes);
                return;
            }
            before += size;
            at += if is_copied { size } else { 0 };
        }
        panic!("patch of {} bytes at {offset}: not bytes that were put", bytes.len());
    }
}

/// Lengths alone: the bytes may be many, and secrets of the user.
impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments")
            .field("len", &self.len)
            .field("pieces", &self.pieces.len())
            .finish_non_exhaustive()
    }
}
