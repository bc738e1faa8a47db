//! What waits to be written to a connection.

mod segments;

use std::collections::VecDeque;
use std::fmt;
use std::mem;

use bytes::Bytes;

use self::segments::SavePoint;
pub use self::segments::Segments;

/// The outbox has no room for it; nothing of it was taken. One `Drained` follows, or `Closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the outbox is full")
    }
}

impl std::error::Error for Full {}

/// From this size on a payload is shared, not copied.
pub const SHARE_MIN: usize = 4096;

/// A bounded queue of bytes for one connection: coalesced small pieces and shared payloads.
///
/// Users put; the connection's backend takes. Pieces below [`SHARE_MIN`] are copied behind each other into one
/// buffer (one of `writev`'s slices costs more than the copy of a small one), payloads from there up are kept as the
/// `Bytes` that they are and never copied.
///
/// Invariant: `len() <= limit()`. A put past the limit is refused whole (law A8), remembered, and answered by one
/// `Drained` when there is room again.
///
/// # For backends and wrappers
///
/// A backend owns one [`Segments`] a connection for what is on its way to the operating system, and does this:
///
/// 1. When it has nothing on its way, [`take`](Self::take) moves all that waits into its `Segments`, and gives the
///    emptied ones back for the next bytes. In a steady state two sets of buffers go round and nothing is allocated
///    (law A22). What was taken is out of the user's reach.
/// 2. When the system has accepted bytes, it calls [`Segments::advance`], then [`settle`](Self::settle) with the
///    bytes that are still on their way. They count in [`len`](Self::len) until then.
/// 3. After that, [`pop_written`](Self::pop_written) until it has nothing more, an `Event::Written` for each, and one
///    `Event::Drained` if [`pop_drained`](Self::pop_drained) says so. These two also have something to say without
///    any bytes: a mark on an empty outbox, a refusal that room was there for. So a backend asks whenever a link was
///    in the user's hands; [`has_news`](Self::has_news) is the cheap question.
///
/// A buffer of its own for each of many connections is never in the cache when it is written to. A backend that minds
/// that has a spare one: it [lends](Self::lend) it to a link that it passes to the user, and when the link is back sends
/// much at once, and [takes it back](Self::take_back) with little in it or nothing.
#[derive(Debug)]
pub struct Outbox {
    limit: usize,
    /// Put and not taken.
    waiting: Segments,
    /// Taken and not yet with the operating system.
    in_flight: usize,
    /// Bytes put since the outbox was made. What is with the operating system is
    /// `put_total - waiting.len() - in_flight`.
    put_total: u64,
    /// Marks not yet reported; they grow.
    marks: VecDeque<u64>,
    /// After a refusal: the `len()` at which `Drained` is due.
    drain_at: Option<usize>,
    closed: bool,
}

impl Outbox {
    /// An empty outbox that holds at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            waiting: Segments::new(),
            in_flight: 0,
            put_total: 0,
            marks: VecDeque::new(),
            drain_at: None,
            closed: false,
        }
    }

    /// Bytes that were put and that the backend has not yet handed to the operating system, in flight or not.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len() + self.in_flight
    }

    /// Whether nothing waits and nothing is in flight.
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
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.admit(bytes.len())?;
        self.waiting.push_copied(bytes);
        Ok(())
    }

    /// Takes `bytes` in, shared from [`SHARE_MIN`] up.
    ///
    /// # Errors
    ///
    /// [`Full`]; nothing was taken.
    #[inline]
    pub fn put_shared(&mut self, bytes: &Bytes) -> Result<(), Full> {
        self.admit(bytes.len())?;
        self.waiting.push_shared(bytes);
        Ok(())
    }

    /// Puts a frame in pieces: if `build` fails or panics, or the frame does not fit, the outbox is as it was.
    ///
    /// A `build` that overlooks a [`Full`] and returns `Ok` leaves nothing behind either: the outcome is `Full`.
    ///
    /// ```
    /// use kraft_core::outbox::{Full, Outbox};
    ///
    /// let mut outbox = Outbox::new(64);
    /// outbox.frame(|frame| {
    ///     frame.put(&[0; 4])?;
    ///     frame.put(b"payload")?;
    ///     let length = u32::try_from(frame.len()).expect("it is short");
    ///     frame.patch(0, &length.to_le_bytes());
    ///     Ok::<_, Full>(())
    /// })?;
    /// assert_eq!(outbox.len(), 11);
    /// # Ok::<_, Full>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What `build` returned, [`Full`] among it.
    pub fn frame<R, E: From<Full>>(&mut self, build: impl FnOnce(&mut Frame<'_>) -> Result<R, E>) -> Result<R, E> {
        let start = self.waiting.save();
        let room = (!self.closed).then(|| self.limit.saturating_sub(self.len()));
        let mut frame = Frame {
            outbox: self,
            start,
            room,
            full: false,
        };
        match build(&mut frame) {
            Ok(_) if frame.full => Err(Full.into()),
            Ok(built) => {
                frame.keep();
                // Dropped it would be taken back.
                mem::forget(frame);
                Ok(built)
            }
            Err(error) => Err(error),
        }
    }

    /// Marks this place: `Written { mark }` comes when everything before it is with the operating system.
    ///
    /// A mark is the number of bytes put so far. Two marks with nothing put between them are one and the same, and
    /// one `Written` comes for both.
    pub fn mark(&mut self) -> u64 {
        if self.marks.back() != Some(&self.put_total) {
            self.marks.push_back(self.put_total);
        }
        self.put_total
    }

    /// Moves all that waits into `into`, whose emptied buffers are kept for the next bytes. Returns how many bytes
    /// were moved; they are in flight from here on. For backends.
    ///
    /// # Panics
    ///
    /// If `into` still holds bytes.
    #[inline]
    pub fn take(&mut self, into: &mut Segments) -> usize {
        assert!(into.is_empty(), "taken bytes are still in flight");
        // Also if nothing waits: so the next bytes go into the buffer that the last ones were in.
        mem::swap(&mut self.waiting, into);
        self.in_flight += into.len();
        into.len()
    }

    /// Lends the outbox `spare`, an empty buffer, for what is put next, in exchange for its own. Whether it did: not if
    /// bytes wait already. For backends, see the end of [the type's documentation](Self).
    ///
    /// # Panics
    ///
    /// If `spare` holds bytes.
    #[inline]
    pub fn lend(&mut self, spare: &mut Vec<u8>) -> bool {
        let lends = self.waiting.is_empty();
        if lends {
            self.waiting.exchange(spare);
        }
        lends
    }

    /// Takes back what [`lend`](Self::lend) lent, and gives the outbox its own buffer again. What waits is copied into it.
    /// For backends.
    ///
    /// # Panics
    ///
    /// If `spare` holds bytes.
    #[inline]
    pub fn take_back(&mut self, spare: &mut Vec<u8>) {
        self.waiting.move_into(spare);
    }

    /// Bytes that wait to be taken, without those in flight. For backends.
    #[inline]
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Tells how many of the bytes taken are still in flight. For backends, whenever the system has accepted some.
    ///
    /// An absolute count, not a difference: if a user swapped two links, the next call mends the account.
    #[inline]
    pub fn settle(&mut self, in_flight: usize) {
        self.in_flight = in_flight;
    }

    /// Whether [`pop_written`](Self::pop_written) or [`pop_drained`](Self::pop_drained) has something. For backends.
    #[inline]
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.marks.front().is_some_and(|&mark| mark <= self.handed_over())
            || self.drain_at.is_some_and(|level| self.len() <= level)
    }

    /// Takes the next mark whose bytes are all with the operating system. For backends.
    pub fn pop_written(&mut self) -> Option<u64> {
        let handed_over = self.handed_over();
        let &mark = self.marks.front()?;
        if mark > handed_over {
            return None;
        }
        self.marks.pop_front()
    }

    /// Whether `Drained` is due: true once after a refusal, when there is room again. For backends.
    pub fn pop_drained(&mut self) -> bool {
        let due = self.drain_at.is_some_and(|level| self.len() <= level);
        if due {
            self.drain_at = None;
        }
        due
    }

    /// Drops what waits and refuses what comes; marks and refusals are forgotten. For backends, when the connection
    /// is gone.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.marks.clear();
        self.drain_at = None;
        self.closed = true;
    }

    /// Refuses what comes; what was put is still sent, and `Closed` stands in for `Drained`.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.drain_at = None;
    }

    /// Bytes that are with the operating system. Saturates, since after a swap of two links the account is off until
    /// the next `settle`.
    fn handed_over(&self) -> u64 {
        self.put_total.saturating_sub(self.len() as u64)
    }

    /// Accounts for a put of `count` bytes, or remembers the refusal.
    #[inline]
    fn admit(&mut self, count: usize) -> Result<(), Full> {
        if !self.closed && count <= self.limit.saturating_sub(self.len()) {
            self.put_total += count as u64;
            return Ok(());
        }
        self.refuse(count);
        Err(Full)
    }

    /// Remembers that `wanted` bytes found no room.
    #[cold]
    fn refuse(&mut self, wanted: usize) {
        if !self.closed {
            // `Drained` comes at half the limit, or later if what was refused would not fit there: a user who
            // answers `Drained` by the same put is not sent round in a busy loop.
            let level = (self.limit / 2).min(self.limit.saturating_sub(wanted));
            self.drain_at = Some(self.drain_at.map_or(level, |other| other.min(level)));
        }
    }
}

/// A frame under construction in an [`Outbox`].
#[derive(Debug)]
pub struct Frame<'a> {
    outbox: &'a mut Outbox,
    start: SavePoint,
    /// Bytes that the outbox still has room for; `None` if it is closed.
    room: Option<usize>,
    full: bool,
}

impl Frame<'_> {
    /// Bytes of the frame so far.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.outbox.waiting.len() - self.start.len()
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
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.admit(bytes.len())?;
        self.outbox.waiting.push_copied(bytes);
        Ok(())
    }

    /// Copies pieces of `count` bytes together behind the frame: room is asked for once, not for each of them.
    ///
    /// # Errors
    ///
    /// [`Full`]; none was taken.
    ///
    /// # Panics
    ///
    /// If the pieces have another sum.
    #[inline]
    pub fn put_all<T: AsRef<[u8]>>(&mut self, count: usize, pieces: impl Iterator<Item = T>) -> Result<(), Full> {
        self.admit(count)?;
        let put = self.outbox.waiting.push_all(count, pieces);
        assert_eq!(put, count, "pieces of a frame are as long as was said");
        Ok(())
    }

    /// Lets `fill` write into `N` zero bytes behind the frame and say how many of the first of them stay; returns that
    /// number. What is made where it stays need not be copied there.
    ///
    /// # Errors
    ///
    /// [`Full`]; none was taken.
    ///
    /// # Panics
    ///
    /// If `fill` gives back more than `N`.
    #[inline]
    pub fn fill<const N: usize>(&mut self, fill: impl FnOnce(&mut [u8; N]) -> usize) -> Result<usize, Full> {
        let count = self.outbox.waiting.fill(fill);
        if self.room.is_none_or(|room| room < count) {
            self.outbox.waiting.shorten(count);
        }
        self.admit(count)?;
        Ok(count)
    }

    /// Takes `bytes` behind the frame, shared from [`SHARE_MIN`] up.
    ///
    /// # Errors
    ///
    /// [`Full`].
    #[inline]
    pub fn put_shared(&mut self, bytes: &Bytes) -> Result<(), Full> {
        self.admit(bytes.len())?;
        self.outbox.waiting.push_shared(bytes);
        Ok(())
    }

    /// The last `count` bytes that were put, to be looked at once more: for a checksum.
    ///
    /// # Panics
    ///
    /// If the frame has not as many behind the last payload that is shared.
    #[inline]
    #[must_use]
    pub fn last(&self, count: usize) -> &[u8] {
        let tail = self.outbox.waiting.tail(self.start);
        assert!(count <= tail, "the last {count} bytes of a frame");
        self.outbox.waiting.last(count)
    }

    /// Overwrites bytes that were put (not shared) at `offset` of the frame: a header whose length and checksum are
    /// known last.
    ///
    /// # Panics
    ///
    /// If the frame has not all of those bytes, or if one of them is in a shared payload.
    #[inline]
    pub fn patch(&mut self, offset: usize, bytes: &[u8]) {
        self.outbox.waiting.overwrite(self.start, offset, bytes);
    }

    #[inline]
    fn admit(&mut self, count: usize) -> Result<(), Full> {
        if let Some(rest) = self.room.and_then(|room| room.checked_sub(count)) {
            self.room = Some(rest);
            return Ok(());
        }
        self.full = true;
        self.outbox.refuse(self.len().saturating_add(count));
        Err(Full)
    }

    /// The frame is whole, and the outbox has it.
    #[inline]
    fn keep(&mut self) {
        self.outbox.put_total += self.len() as u64;
    }
}

/// What is not kept is taken back, also if whoever builds it panics: half a frame on the wire makes damage of all that
/// comes behind it.
impl Drop for Frame<'_> {
    fn drop(&mut self) {
        self.outbox.waiting.restore(self.start);
    }
}

#[cfg(test)]
mod tests;
