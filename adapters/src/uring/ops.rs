//! What is asked of the kernel, and the tokens by which its answers are told apart.

use std::os::fd::RawFd;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode};
use kraft_core::id::{ConnId, ListenerId};

/// The group of the receive buffers, the only one of a ring.
pub(super) const BUFFERS: u16 = 0;

/// Bits of a token below its kind: slots are below 2^24.
const KIND_SHIFT: u32 = 24;
const KIND_MASK: u64 = 0xff << KIND_SHIFT;

/// What an operation does. Of each kind at most one is in flight for a connection or listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Takes back another operation. Its answer says only that there was nothing to take back.
    Cancel,
    /// Waits for a wake.
    Wake,
    /// Accepts connections, until further notice.
    Accept,
    /// Receives bytes, until further notice.
    Receive,
    /// Sends what a connection's slot lent.
    Send,
    /// Waits for a connect's outcome, or for the death of a connection that is not received from.
    Watch,
}

const KINDS: [Kind; 6] = [
    Kind::Cancel,
    Kind::Wake,
    Kind::Accept,
    Kind::Receive,
    Kind::Send,
    Kind::Watch,
];

/// Whose operation it is, and which: it comes back with each of its completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(u64);

impl Token {
    pub(super) const CANCEL: Self = Self::new(Kind::Cancel, 0);
    pub(super) const WAKE: Self = Self::new(Kind::Wake, 0);

    const fn new(kind: Kind, id: u64) -> Self {
        Self(id | (kind as u64) << KIND_SHIFT)
    }

    pub(super) const fn of_conn(kind: Kind, conn: ConnId) -> Self {
        Self::new(kind, conn.to_u64())
    }

    pub(super) const fn of_listener(listener: ListenerId) -> Self {
        Self::new(Kind::Accept, listener.to_u64())
    }

    /// What it is about.
    pub(super) fn kind(self) -> Kind {
        KINDS[((self.0 & KIND_MASK) >> KIND_SHIFT) as usize]
    }

    /// The connection, of those kinds that have one.
    pub(super) fn conn(self) -> ConnId {
        ConnId::from_u64(self.0 & !KIND_MASK)
    }

    /// The listener, of an accept.
    pub(super) fn listener(self) -> ListenerId {
        ListenerId::from_u64(self.0 & !KIND_MASK)
    }
}

/// An operation that may be handed to the kernel: whatever it points to stays valid until its last completion. That is
/// promised where it is made; all but sends point to nothing.
#[derive(Debug)]
pub(super) struct Op {
    entry: Entry,
    /// Whether it ends in a completion that has to be waited for.
    is_counted: bool,
}

impl Op {
    fn new(entry: Entry, token: Token) -> Self {
        Self {
            entry: entry.user_data(token.0),
            is_counted: true,
        }
    }

    /// Accepts from `listener`, one completion a connection.
    pub(super) fn accept(listener: RawFd, token: Token) -> Self {
        // Non-blocking too, since bytes are sent by plain calls.
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        Self::new(opcode::AcceptMulti::new(Fd(listener)).flags(flags).build(), token)
    }

    /// Receives from `stream` into buffers of the ring's group, one completion a buffer.
    pub(super) fn receive(stream: RawFd, token: Token) -> Self {
        Self::new(opcode::RecvMulti::new(Fd(stream), BUFFERS).build(), token)
    }

    /// Sends the message at `header` to `stream`, as much as there is room for, and waits for some if there is none.
    ///
    /// # Safety
    ///
    /// The header and all memory that it names stay valid and unchanged until the operation's last completion.
    pub(super) unsafe fn send(stream: RawFd, header: *const libc::msghdr, token: Token) -> Self {
        let flags = libc::MSG_NOSIGNAL as u32;
        Self::new(opcode::SendMsg::new(Fd(stream), header).flags(flags).build(), token)
    }

    /// As [`send`](Self::send), of one piece, for which the kernel reads no header.
    ///
    /// # Safety
    ///
    /// As for [`send`](Self::send).
    pub(super) unsafe fn send_one(stream: RawFd, bytes: *const [u8], token: Token) -> Self {
        let len = u32::try_from(bytes.len()).expect("it is small");
        let send = opcode::Send::new(Fd(stream), bytes.cast(), len).flags(libc::MSG_NOSIGNAL);
        Self::new(send.build(), token)
    }

    /// As [`send`](Self::send), without a copy: after the completion that says how much was taken comes another one, when
    /// the system reads the memory no more.
    ///
    /// # Safety
    ///
    /// As for [`send`](Self::send).
    pub(super) unsafe fn send_zero_copy(stream: RawFd, header: *const libc::msghdr, token: Token) -> Self {
        let flags = libc::MSG_NOSIGNAL as u32;
        Self::new(opcode::SendMsgZc::new(Fd(stream), header).flags(flags).build(), token)
    }

    /// Waits once until `fd` is ready for any of `events`, or in error, or hung up.
    pub(super) fn watch(fd: RawFd, events: libc::c_short, token: Token) -> Self {
        Self::new(opcode::PollAdd::new(Fd(fd), events as u32).build(), token)
    }

    /// Tells of each write to an eventfd.
    pub(super) fn watch_wakes(eventfd: RawFd) -> Self {
        let entry = opcode::PollAdd::new(Fd(eventfd), libc::POLLIN as u32)
            .multi(true)
            .build();
        Self::new(entry, Token::WAKE)
    }

    /// Takes back the operation with this token. It still has its own last completion.
    pub(super) fn cancel(token: Token) -> Self {
        Self::uncounted(opcode::AsyncCancel::new(token.0).build())
    }

    /// Takes back all that is in flight.
    pub(super) fn cancel_all() -> Self {
        Self::uncounted(opcode::AsyncCancel2::new(CancelBuilder::any()).build())
    }

    fn uncounted(entry: Entry) -> Self {
        Self {
            // That something was taken back is seen from that itself.
            entry: entry.flags(Flags::SKIP_SUCCESS).user_data(Token::CANCEL.0),
            is_counted: false,
        }
    }

    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(super) fn is_counted(&self) -> bool {
        self.is_counted
    }
}

/// What the kernel has to say about an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) token: Token,
    /// What the system call would have returned: a number of bytes, a descriptor, an error below zero.
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    pub(super) fn new(entry: &cqueue::Entry) -> Self {
        Self {
            token: Token(entry.user_data()),
            result: entry.result(),
            flags: entry.flags(),
        }
    }

    /// Whether more of the same operation will come. If not it has ended, whatever it was to do.
    pub(super) fn has_more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// Whether it says of a send without a copy that the memory is free again, and nothing else.
    pub(super) fn is_notice(self) -> bool {
        cqueue::notif(self.flags)
    }

    /// The buffer that was taken from the group. Also failures and cancelled operations may have one.
    pub(super) fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// The number of the error, 0 for none.
    pub(super) fn error(self) -> i32 {
        -self.result.min(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_whose_it_is_and_what_it_is_about() {
        let conn = ConnId::new((1 << 24) - 1, u32::MAX);
        for kind in KINDS {
            let token = Token::of_conn(kind, conn);
            assert_eq!((token.kind(), token.conn()), (kind, conn));
        }
        let listener = ListenerId::new(1023, 7);
        let token = Token::of_listener(listener);
        assert_eq!((token.kind(), token.listener()), (Kind::Accept, listener));
        assert_eq!(Token::CANCEL.kind(), Kind::Cancel);
        assert_eq!(Token::WAKE.kind(), Kind::Wake);
    }
}
