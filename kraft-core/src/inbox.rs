//! Cuts what a connection received into messages.

use std::ops::ControlFlow;

use crate::message::Message;
use crate::protocol::{DecodeError, Limits, Protocol};

/// The bytes of an incomplete frame of one connection.
///
/// Whole frames are decoded in place, out of the lent bytes; only an incomplete tail is copied and kept, and of the
/// next lent bytes only as much is copied as completes it. Memory grows with what was received, never with a length
/// that a header claims.
#[derive(Debug, Default)]
pub struct Inbox {}

/// What all inboxes of a node may hold together.
#[derive(Debug)]
pub struct Budget {
    /// Bytes that are still free.
    pub free: usize,
}

/// Why an inbox gave up; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboxError {
    /// The peer's bytes are no message.
    Decode(DecodeError),
    /// All inboxes together hold as much as they may.
    OverBudget,
    /// The protocol broke law P4 or P6: it consumed nothing, or more than there was.
    BadProtocol,
}

impl Inbox {
    /// Feeds received bytes and calls `on_message` for each whole message, until it breaks.
    ///
    /// A frame of an unknown kind is given to the connection's owner as
    /// [`DecodeError::UnknownKind`] only; the caller decides whether to feed on.
    ///
    /// # Errors
    ///
    /// [`InboxError`]; the inbox is of no more use.
    pub fn feed<P: Protocol + ?Sized>(
        &mut self,
        protocol: &P,
        limits: &Limits,
        budget: &mut Budget,
        bytes: &[u8],
        on_message: impl FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> Result<(), InboxError> {
        let _ = (protocol, limits, budget, bytes, on_message);
        todo!()
    }

    /// Bytes held of a frame that is not complete.
    #[must_use]
    pub fn pending(&self) -> usize {
        todo!()
    }

    /// Gives what is held back to the budget; the connection is gone.
    pub fn clear(&mut self, budget: &mut Budget) {
        let _ = budget;
        todo!()
    }
}
