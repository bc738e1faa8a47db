//! What waits to be written to a connection.

use std::fmt;

use bytes::Bytes;

/// The outbox has no room for it; nothing of it was taken. One `Drained` follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the outbox is full")
    }
}

impl std::error::Error for Full {}

/// A bounded queue of bytes for one connection: coalesced small pieces and shared payloads.
///
/// Users put; the connection's backend takes. Pieces below [`SHARE_MIN`] are copied behind each other into one
/// buffer (one of `writev`'s slices costs more than the copy of a small one), payloads from there up are kept as the
/// `Bytes` that they are and never copied.
///
/// Invariant: `len() <= limit`. A put past the limit is refused whole (law A8), remembered, and answered by one
/// `Drained` when `len()` has fallen to the low-water mark.
#[derive(Debug)]
pub struct Outbox {
    limit: usize,
}

/// From this size on a payload is shared, not copied.
pub const SHARE_MIN: usize = 4096;

impl Outbox {
    /// An empty outbox that holds at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit }
    }

    /// Bytes that were put and that the backend has not yet handed to the operating system, in flight or not.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most that it holds.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Copies `bytes` in.
    ///
    /// # Errors
    ///
    /// [`Full`]; nothing was taken.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let _ = bytes;
        todo!()
    }

    /// Takes `bytes` in, shared from [`SHARE_MIN`] up.
    ///
    /// # Errors
    ///
    /// [`Full`]; nothing was taken.
    pub fn put_shared(&mut self, bytes: &Bytes) -> Result<(), Full> {
        let _ = bytes;
        todo!()
    }

    /// Puts a frame in pieces: if `build` fails, or the frame does not fit, the outbox is as it was.
    ///
    /// # Errors
    ///
    /// What `build` returned, [`Full`] among it.
    pub fn frame<R, E: From<Full>>(&mut self, build: impl FnOnce(&mut Frame<'_>) -> Result<R, E>) -> Result<R, E> {
        let _ = build;
        todo!()
    }

    /// Marks this place: `Written { mark }` comes when everything before it is with the operating system.
    pub fn mark(&mut self) -> u64 {
        todo!()
    }
}

/// A frame under construction in an [`Outbox`].
#[derive(Debug)]
pub struct Frame<'a> {
    outbox: &'a mut Outbox,
}

impl Frame<'_> {
    /// Bytes of the frame so far.
    #[must_use]
    pub fn len(&self) -> usize {
        let _ = &self.outbox;
        todo!()
    }

    /// Whether nothing was put yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `bytes` behind the frame.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let _ = bytes;
        todo!()
    }

    /// Takes `bytes` behind the frame, shared from [`SHARE_MIN`] up.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn put_shared(&mut self, bytes: &Bytes) -> Result<(), Full> {
        let _ = bytes;
        todo!()
    }

    /// Overwrites bytes that were put (not shared) at `offset` of the frame: a header whose length and checksum are
    /// known last.
    ///
    /// # Panics
    ///
    /// If those bytes were not put, or not with one `put`.
    pub fn patch(&mut self, offset: usize, bytes: &[u8]) {
        let _ = (offset, bytes);
        todo!()
    }
}
