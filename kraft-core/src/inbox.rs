//! Cuts what a connection received into messages.

use std::fmt;
use std::ops::ControlFlow;

use crate::message::Message;
use crate::protocol::{DecodeError, Decoded, Limits, Protocol};

/// A buffer up to this size is kept for the connection's next incomplete frame; larger ones are given back at once.
const KEEP_MAX: usize = 4096;

/// The bytes of an incomplete frame of one connection.
///
/// Whole frames are decoded in place, out of the lent bytes; only an incomplete tail is copied and kept, and of the
/// next lent bytes only as much is copied as completes it. Memory grows with what was received, never with a length
/// that a header claims.
///
/// Invariant: `partial` is empty, or shorter than `at_least`; its capacity is charged to the [`Budget`].
#[derive(Debug, Default)]
pub struct Inbox {
    partial: Vec<u8>,
    /// How long `partial` must be before another decode is worth it.
    at_least: usize,
}

/// What all inboxes of a node may hold together.
#[derive(Debug)]
pub struct Budget {
    /// Bytes that are still free.
    pub free: usize,
    /// Where payloads of formats of text are unescaped, one message after the other; no larger than a frame.
    scratch: Vec<u8>,
}

impl Budget {
    /// A budget of `bytes`, all of them free.
    #[must_use]
    pub const fn new(bytes: usize) -> Self {
        Self {
            free: bytes,
            scratch: Vec::new(),
        }
    }
}

/// Why an inbox gave up; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboxError {
    /// The peer's bytes are no message.
    Decode(DecodeError),
    /// All inboxes together hold as much as they may.
    OverBudget,
    /// The protocol broke law P4 or P6: it consumed nothing, or more than there was, or asked for bytes that it has.
    BadProtocol,
}

impl fmt::Display for InboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => error.fmt(f),
            Self::OverBudget => f.write_str("incomplete frames of all connections are above their budget"),
            Self::BadProtocol => f.write_str("the protocol's decoder broke law P4 or P6"),
        }
    }
}

impl std::error::Error for InboxError {}

impl Inbox {
    /// Feeds received bytes and calls `on_message` for each whole message. When that breaks, the connection is done
    /// for: what is left of the bytes is dropped.
    ///
    /// The limits hold for all of `bytes`. Those before hello therefore bound what a dialler may send before it has
    /// its welcome.
    ///
    /// # Errors
    ///
    /// [`InboxError`]; the inbox is of no more use, messages before the error were handed out. A frame of an unknown
    /// kind is an error too: which kinds both ends know was agreed on with the version.
    pub fn feed<P: Protocol + ?Sized>(
        &mut self,
        protocol: &P,
        limits: &Limits,
        budget: &mut Budget,
        bytes: &[u8],
        mut on_message: impl FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> Result<(), InboxError> {
        let mut rest = bytes;
        while !self.partial.is_empty() {
            let taken = rest.len().min(self.at_least - self.partial.len());
            self.hold(&rest[..taken], budget)?;
            rest = &rest[taken..];
            if self.partial.len() < self.at_least {
                return Ok(());
            }
            let decoded = protocol.decode(&self.partial, limits, &mut budget.scratch);
            let flow = match decoded.map_err(InboxError::Decode)? {
                Decoded::NeedMore { at_least } => {
                    self.at_least = checked(at_least, self.partial.len(), limits)?;
                    continue;
                }
                // It asked for no more than the frame (law P4), so the frame is all that there is.
                Decoded::Message { consumed, .. } if consumed != self.partial.len() => {
                    return Err(InboxError::BadProtocol);
                }
                Decoded::Message { message, .. } => on_message(message),
            };
            self.release(budget);
            if flow.is_break() {
                return Ok(());
            }
        }
        while !rest.is_empty() {
            let decoded = protocol.decode(rest, limits, &mut budget.scratch);
            match decoded.map_err(InboxError::Decode)? {
                Decoded::Message { message, consumed } => {
                    if consumed == 0 || consumed > rest.len() {
                        return Err(InboxError::BadProtocol);
                    }
                    rest = &rest[consumed..];
                    if on_message(message).is_break() {
                        return Ok(());
                    }
                }
                Decoded::NeedMore { at_least } => {
                    self.at_least = checked(at_least, rest.len(), limits)?;
                    return self.hold(rest, budget);
                }
            }
        }
        Ok(())
    }

    /// Bytes held of a frame that is not complete.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.partial.len()
    }

    /// Gives what is held back to the budget; the connection is gone.
    pub fn clear(&mut self, budget: &mut Budget) {
        budget.free += self.partial.capacity();
        self.partial = Vec::new();
    }

    /// Keeps `bytes` of a frame. The buffer doubles, but not past what the frame is known to need.
    fn hold(&mut self, bytes: &[u8], budget: &mut Budget) -> Result<(), InboxError> {
        let needed = self.partial.len() + bytes.len();
        let capacity = self.partial.capacity();
        if needed > capacity {
            let wanted = (2 * capacity).min(self.at_least).max(needed);
            // Room for the new buffer; the old one is given back with the move.
            if wanted > budget.free {
                return Err(InboxError::OverBudget);
            }
            self.partial.reserve_exact(wanted - self.partial.len());
            budget.free = (budget.free + capacity).saturating_sub(self.partial.capacity());
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn release(&mut self, budget: &mut Budget) {
        self.partial.clear();
        if self.partial.capacity() > KEEP_MAX {
            self.clear(budget);
        }
    }
}

/// Protects from protocols of others (law P4): asking for what is there would loop, asking for more than a frame may
/// have would never end.
fn checked(at_least: usize, len: usize, limits: &Limits) -> Result<usize, InboxError> {
    if at_least <= len {
        return Err(InboxError::BadProtocol);
    }
    if at_least > limits.frame_max {
        return Err(InboxError::Decode(DecodeError::TooLarge));
    }
    Ok(at_least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Body, Consistency, Header, Read};
    use crate::outbox::Outbox;
    use crate::protocol::EncodeError;

    const LIMITS: Limits = Limits {
        frame_max: 64 * 1024,
        entries_max: 0,
    };

    /// Frames of a length (u16, big-endian) and a query; `lie` spoils its answers.
    #[derive(Default)]
    struct Toy {
        lie: Lie,
    }

    #[derive(Default, Clone, Copy)]
    enum Lie {
        #[default]
        No,
        ConsumesNothing,
        ConsumesMore,
        NeedsWhatThereIs,
        NeedsTheWorld,
    }

    impl Protocol for Toy {
        fn encode(&self, _: &Message<'_>, _: usize, _: &mut Outbox) -> Result<(), EncodeError> {
            Err(EncodeError::TooLarge)
        }

        fn decode<'a>(&self, input: &'a [u8], _: &Limits, _: &'a mut Vec<u8>) -> Result<Decoded<'a>, DecodeError> {
            let need = |at_least| Ok(Decoded::NeedMore { at_least });
            match self.lie {
                Lie::NeedsWhatThereIs => return need(input.len()),
                Lie::NeedsTheWorld => return need(usize::MAX),
                _ => {}
            }
            let Some((length, rest)) = input.split_first_chunk::<2>() else {
                return need(2);
            };
            let length = usize::from(u16::from_be_bytes(*length));
            let Some(query) = rest.get(..length) else {
                return need(2 + length);
            };
            if query == b"bad" {
                return Err(DecodeError::BadChecksum);
            }
            let consumed = match self.lie {
                Lie::ConsumesNothing => 0,
                Lie::ConsumesMore => input.len() + 1,
                _ => 2 + length,
            };
            let message = Message {
                header: Header::default(),
                body: Body::Read(Read {
                    query,
                    consistency: Consistency::Linearizable,
                }),
            };
            Ok(Decoded::Message { message, consumed })
        }

        fn name(&self) -> &'static str {
            "toy"
        }
    }

    fn frames(queries: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for query in queries {
            bytes.extend_from_slice(&u16::try_from(query.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(query);
        }
        bytes
    }

    fn query(message: &Message<'_>) -> Vec<u8> {
        match message.body {
            Body::Read(Read { query, .. }) => query.to_vec(),
            _ => panic!("the toy knows reads alone"),
        }
    }

    #[derive(Default)]
    struct Fed {
        inbox: Inbox,
        got: Vec<Vec<u8>>,
    }

    impl Fed {
        fn feed(&mut self, budget: &mut Budget, bytes: &[u8]) -> Result<(), InboxError> {
            let got = &mut self.got;
            self.inbox.feed(&Toy::default(), &LIMITS, budget, bytes, |message| {
                got.push(query(&message));
                ControlFlow::Continue(())
            })
        }
    }

    #[test]
    fn however_it_is_cut_the_messages_are_the_same() {
        let queries: [&[u8]; 4] = [b"one", b"", b"three", b"four and more"];
        let bytes = frames(&queries);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut budget = Budget::new(1000);
                let mut fed = Fed::default();
                for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    fed.feed(&mut budget, part).unwrap();
                }
                assert_eq!(fed.got, queries, "cut at {first} and {second}");
                assert_eq!(fed.inbox.pending(), 0);
                fed.inbox.clear(&mut budget);
                assert_eq!(budget.free, 1000);
            }
        }
    }

    #[test]
    fn whole_frames_are_not_copied() {
        let mut budget = Budget::new(0);
        let mut fed = Fed::default();
        fed.feed(&mut budget, &frames(&[&[7; 5000], b"x"])).unwrap();
        assert_eq!(fed.got.len(), 2);
    }

    #[test]
    fn a_frame_takes_only_what_completes_it() {
        let mut budget = Budget::new(20);
        let mut fed = Fed::default();
        let bytes = frames(&[b"0123456789", &[7; 5000]]);
        fed.feed(&mut budget, &bytes[..5]).unwrap();
        assert_eq!(fed.inbox.pending(), 5);
        fed.feed(&mut budget, &bytes[5..]).unwrap();
        assert_eq!((fed.got.len(), fed.inbox.pending()), (2, 0));
    }

    #[test]
    fn memory_follows_what_was_received_not_what_was_claimed() {
        let mut budget = Budget::new(100_000);
        let mut fed = Fed::default();
        let bytes = frames(&[&[7; 60_000]]);
        for (at, byte) in bytes.iter().enumerate().take(59_999) {
            fed.feed(&mut budget, std::slice::from_ref(byte)).unwrap();
            let held = 100_000 - budget.free;
            assert!(held <= 2 * (at + 1) + 2, "{held} bytes held of {} received", at + 1);
        }
        fed.feed(&mut budget, &bytes[59_999..]).unwrap();
        assert_eq!(fed.got.len(), 1);
        assert_eq!(budget.free, 100_000, "a large buffer is given back at once");
    }

    #[test]
    fn inboxes_share_a_budget() {
        let bytes = frames(&[&[7; 900]]);
        let mut budget = Budget::new(1000);
        let (mut one, mut two) = (Fed::default(), Fed::default());
        one.feed(&mut budget, &bytes[..600]).unwrap();
        assert_eq!(two.feed(&mut budget, &bytes[..600]), Err(InboxError::OverBudget));
        two.inbox.clear(&mut budget);
        one.inbox.clear(&mut budget);
        assert_eq!(budget.free, 1000);
        two = Fed::default();
        two.feed(&mut budget, &bytes[..600]).unwrap();
    }

    #[test]
    fn messages_before_damage_are_handed_out() {
        let mut fed = Fed::default();
        let damage = fed.feed(&mut Budget::new(100), &frames(&[b"good", b"bad", b"late"]));
        assert_eq!(damage, Err(InboxError::Decode(DecodeError::BadChecksum)));
        assert_eq!(fed.got, [b"good"]);
    }

    #[test]
    fn a_break_ends_it() {
        let bytes = frames(&[b"one", b"two"]);
        for cut in 0..=bytes.len() {
            let mut inbox = Inbox::default();
            let mut got = 0;
            let mut budget = Budget::new(100);
            for part in [&bytes[..cut], &bytes[cut..]] {
                if got == 0 {
                    let fed = inbox.feed(&Toy::default(), &LIMITS, &mut budget, part, |_| {
                        got += 1;
                        ControlFlow::Break(())
                    });
                    fed.unwrap();
                }
            }
            assert_eq!(got, 1, "cut at {cut}");
        }
    }

    /// Row 17 of the threats: a protocol plugged in from elsewhere must not make a node loop or index out of bounds.
    #[test]
    fn a_lying_protocol_is_found_out() {
        let bytes = frames(&[b"one"]);
        for (lie, expected) in [
            (Lie::ConsumesNothing, InboxError::BadProtocol),
            (Lie::ConsumesMore, InboxError::BadProtocol),
            (Lie::NeedsWhatThereIs, InboxError::BadProtocol),
            (Lie::NeedsTheWorld, InboxError::Decode(DecodeError::TooLarge)),
        ] {
            for cut in [0, 1, 3] {
                let mut inbox = Inbox::default();
                let mut budget = Budget::new(100);
                let go = |_: Message<'_>| ControlFlow::Continue(());
                let first = inbox.feed(&Toy::default(), &LIMITS, &mut budget, &bytes[..cut], go);
                first.unwrap();
                let second = inbox.feed(&Toy { lie }, &LIMITS, &mut budget, &bytes[cut..], go);
                assert_eq!(second, Err(expected));
            }
        }
    }
}
