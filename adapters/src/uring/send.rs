//! Bytes on their way to the system.

use std::fmt;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use kraft_core::outbox::Segments;

use crate::sock::Stream;

/// Pieces of one ring send. More go out by another one.
const SLICES_MAX: usize = 64;

/// What was taken out of a connection's outbox and is not with the system yet.
///
/// Invariant: while it is lent, the kernel may read the memory of `segments` and of `message`: neither is changed, moved
/// or freed. Should this be dropped all the same, both are leaked.
pub(super) struct Sending {
    segments: ManuallyDrop<Segments>,
    /// What a ring send points to. Made for the first one, and kept; a connection that never waits for room has none.
    /// A pointer, since the kernel reads through it while this struct moves.
    message: Option<NonNull<Message>>,
    loan: Loan,
}

/// What the kernel has of the segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loan {
    None,
    /// It sends them.
    Sent,
    /// It took so many bytes, and may read them until it says that it is done: it has no copy.
    Kept(usize),
}

/// The header of a ring send, and the slices that it names.
struct Message {
    header: libc::msghdr,
    slices: [libc::iovec; SLICES_MAX],
}

// SAFETY: the pointer is to memory that this alone owns, and those inside point into its own segments.
unsafe impl Send for Sending {}

impl Sending {
    pub(super) fn new() -> Self {
        Self {
            segments: ManuallyDrop::new(Segments::new()),
            message: None,
            loan: Loan::None,
        }
    }

    /// Bytes that the system has not taken.
    pub(super) fn unsent(&self) -> usize {
        match self.loan {
            Loan::Kept(taken) => self.segments.len() - taken,
            Loan::None | Loan::Sent => self.segments.len(),
        }
    }

    /// Whether nothing is left, nor read by the kernel any more.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether the kernel may still read them.
    pub(super) fn is_lent(&self) -> bool {
        self.loan != Loan::None
    }

    /// Whether the kernel has taken bytes and reads them yet.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self.loan, Loan::Kept(_))
    }

    /// To fill and to advance.
    pub(super) fn segments_mut(&mut self) -> &mut Segments {
        assert!(!self.is_lent(), "the kernel may read it");
        &mut self.segments
    }

    /// Lends the first pieces to the kernel, until [`take_back`](Self::take_back). What is returned, and what it
    /// names, stays valid and unchanged until then.
    pub(super) fn lend(&mut self) -> *const libc::msghdr {
        assert!(!self.is_lent(), "one send at a time");
        let message = *self.message.get_or_insert_with(Message::allocate);
        // SAFETY: this alone owns the message, and the kernel does not read it: nothing is lent.
        let Message { header, slices } = unsafe { &mut *message.as_ptr() };
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(self.segments.slices()) {
            slice.iov_base = piece.as_ptr().cast_mut().cast();
            slice.iov_len = piece.len();
            count += 1;
        }
        header.msg_iov = slices.as_mut_ptr();
        header.msg_iovlen = count;
        self.loan = Loan::Sent;
        &raw const *header
    }

    /// As [`lend`](Self::lend), of all that there is, which is one piece: less than
    /// [`SHARE_MIN`](kraft_core::outbox::SHARE_MIN) always is. It takes no header.
    pub(super) fn lend_one(&mut self) -> *const [u8] {
        assert!(!self.is_lent(), "one send at a time");
        let mut slices = self.segments.slices();
        let piece: *const [u8] = slices.next().expect("there is something to lend");
        assert!(slices.next().is_none(), "one piece at a time");
        drop(slices);
        self.loan = Loan::Sent;
        piece
    }

    /// The kernel took so many bytes of what was lent. It may read them yet.
    pub(super) fn taken(&mut self, bytes: usize) {
        assert!(self.loan == Loan::Sent, "nothing was lent, or it was taken");
        assert!(bytes <= self.segments.len(), "the kernel took what it was not lent");
        self.loan = Loan::Kept(bytes);
    }

    /// Gives up what is lent, for good: nobody can say when the kernel is done with it.
    pub(super) fn abandon(&mut self) {
        assert!(self.is_lent(), "nothing was lent");
        mem::forget(mem::replace(self, Self::new()));
    }

    /// The kernel has said its last word about what was lent; what it took is gone.
    pub(super) fn take_back(&mut self) {
        assert!(self.is_lent(), "nothing was lent");
        if let Loan::Kept(taken) = mem::replace(&mut self.loan, Loan::None) {
            self.segments.advance(taken);
        }
    }
}

impl Message {
    fn allocate() -> NonNull<Self> {
        // SAFETY: all-zero is a valid `msghdr` (no name, no control data, no slices) and a valid `iovec`.
        let message: Self = unsafe { mem::zeroed() };
        NonNull::from(Box::leak(Box::new(message)))
    }
}

/// Drops what a TCP socket has not sent, or not been acknowledged, with a reset for its peer: the system lets go of memory
/// that it reads without a copy, and would not before the peer answers. The descriptor stays what it is. Whether that is a
/// socket at all: somebody else may have closed it.
pub(super) fn discard(stream: &Stream) -> bool {
    let nowhere = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    let len = size_of::<libc::sockaddr>() as libc::socklen_t;
    // connect(2): an address of the family AF_UNSPEC dissolves the association. It fails if there is none any more.
    // SAFETY: the address lives over the call, and is as long as is said.
    let outcome = unsafe { libc::connect(stream.as_raw_fd(), &raw const nowhere, len) };
    outcome == 0
        || !matches!(
            io::Error::last_os_error().raw_os_error(),
            Some(libc::EBADF | libc::ENOTSOCK)
        )
}

impl Drop for Sending {
    fn drop(&mut self) {
        if self.is_lent() {
            return;
        }
        // SAFETY: they are not used after this.
        unsafe { ManuallyDrop::drop(&mut self.segments) };
        if let Some(message) = self.message {
            // SAFETY: it came from a box in `allocate`, and the kernel does not read it: nothing is lent.
            drop(unsafe { Box::from_raw(message.as_ptr()) });
        }
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending")
            .field("segments", &self.segments)
            .field("loan", &self.loan)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kraft_core::outbox::{Outbox, SHARE_MIN};

    use super::*;

    #[test]
    fn what_is_lent_describes_the_pieces_and_survives_a_move() {
        let payload = Bytes::from(vec![7; SHARE_MIN]);
        let mut outbox = Outbox::new(1 << 20);
        outbox.put(b"head").expect("it fits");
        outbox.put_shared(&payload).expect("it fits");
        let mut sending = Sending::new();
        outbox.take(sending.segments_mut());
        let header = sending.lend();
        let mut moved = Box::new(sending);
        // SAFETY: it is lent, so header, slices and pieces are valid.
        let (first, second) = unsafe {
            let header = &*header;
            assert_eq!(header.msg_iovlen, 2);
            let slices = std::slice::from_raw_parts(header.msg_iov, 2);
            let piece = |slice: &libc::iovec| std::slice::from_raw_parts(slice.iov_base.cast::<u8>(), slice.iov_len);
            (piece(&slices[0]), piece(&slices[1]))
        };
        assert_eq!(first, b"head");
        assert_eq!(second.as_ptr(), payload.as_ptr());
        moved.taken(4);
        assert_eq!(moved.unsent(), SHARE_MIN);
        assert!(moved.is_lent() && moved.is_kept(), "the kernel may still read it");
        moved.take_back();
        assert_eq!(moved.segments_mut().len(), SHARE_MIN);
    }

    #[test]
    fn what_is_small_is_lent_as_one_piece() {
        let mut outbox = Outbox::new(1 << 20);
        outbox.put(&[1; SHARE_MIN - 2]).expect("it fits");
        outbox.put_shared(&Bytes::from_static(&[2])).expect("it fits");
        let mut sending = Sending::new();
        outbox.take(sending.segments_mut());
        let piece = sending.lend_one();
        let mut moved = Box::new(sending);
        // SAFETY: it is lent, so the piece is valid.
        assert_eq!(unsafe { (&*piece).split_last() }, Some((&2, &[1; SHARE_MIN - 2][..])));
        moved.taken(SHARE_MIN - 1);
        moved.take_back();
        assert!(moved.is_empty());
    }

    #[test]
    fn what_is_lent_is_leaked_rather_than_freed() {
        let payload = Bytes::from(vec![7; SHARE_MIN]);
        let mut outbox = Outbox::new(1 << 20);
        outbox.put_shared(&payload).expect("it fits");
        let mut sending = Sending::new();
        outbox.take(sending.segments_mut());
        sending.lend();
        drop(sending);
        assert!(!payload.is_unique(), "its bytes were freed");
    }

    #[test]
    fn what_was_taken_without_a_copy_is_leaked_rather_than_freed() {
        let payload = Bytes::from(vec![7; SHARE_MIN]);
        let mut outbox = Outbox::new(1 << 20);
        outbox.put_shared(&payload).expect("it fits");
        let mut sending = Sending::new();
        outbox.take(sending.segments_mut());
        sending.lend();
        sending.taken(SHARE_MIN);
        assert_eq!((sending.unsent(), sending.is_empty()), (0, false));
        drop(sending);
        assert!(!payload.is_unique(), "its bytes were freed");
    }

    #[test]
    #[should_panic(expected = "the kernel may read it")]
    fn what_is_lent_cannot_be_advanced() {
        let mut sending = Sending::new();
        sending.lend();
        sending.segments_mut();
    }
}
