//! The `binary` format: fixed fields at fixed places, then texts and payloads.
//!
//! Every body begins with the same 40 bytes and goes on with its kind's fields. The first two bytes say how long this
//! fixed part is: a newer node appends fields to it, an older one skips what it does not know (law P11). Fields that
//! were appended since the first release are left out where they have their defaults, and so a frame without them is
//! the bytes that it has always been. Behind the fixed part stand the variable parts whose lengths it gives, those of an
//! append's entries last.
//!
//! Encoding allocates nothing and shares entries of 4 KiB and more with the outbox; decoding allocates one `Vec`, of
//! the entries of an append or the members of a status, and lends everything else.

mod decode;
mod encode;
mod layout;

use kraft_core::message::Message;
use kraft_core::outbox::Outbox;
use kraft_core::protocol::{DecodeError, Decoded, EncodeError, Limits, Protocol};

pub use crate::numbers::TEXT_MAX;

/// The number of this format in the envelope.
pub const FORMAT: u8 = 1;

/// The `binary` format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Binary;

impl Binary {
    /// [`Protocol::decode`] without scratch memory, of which this format has no need.
    ///
    /// # Errors
    ///
    /// As the trait's.
    pub fn decode<'a>(&self, input: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, DecodeError> {
        decode::decode(input, limits)
    }
}

impl Protocol for Binary {
    fn encode(&self, message: &Message<'_>, frame_max: usize, out: &mut Outbox) -> Result<(), EncodeError> {
        encode::encode(message, frame_max, out)
    }

    fn decode<'a>(&self, input: &'a [u8], limits: &Limits, _: &'a mut Vec<u8>) -> Result<Decoded<'a>, DecodeError> {
        decode::decode(input, limits)
    }

    fn name(&self) -> &'static str {
        "binary"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kraft_core::id::{ClusterId, Index, NodeId, RequestId, Round, Term};
    use kraft_core::message::{Append, Body, Entries, Entry, EntryKind, Header};
    use kraft_core::outbox::Segments;

    #[test]
    fn an_append_comes_back() {
        let entries: Vec<_> = [(1, 10), (1, 5000), (2, 0)]
            .into_iter()
            .map(|(term, size)| {
                let payload = vec![7; size];
                Entry {
                    term: Term(term),
                    kind: EntryKind::Command,
                    crc: crc32c::crc32c(&payload),
                    payload: payload.into(),
                }
            })
            .collect();
        let message = Message {
            header: Header {
                cluster: ClusterId(1),
                from: NodeId(2),
                term: Term(3),
                request: RequestId(4),
                ..Header::default()
            },
            body: Body::Append(Append {
                prev_index: Index(5),
                prev_term: Term(1),
                commit: Index(4),
                round: Round(9),
                entries: Entries::Shared(&entries[..1], &entries[1..]),
            }),
        };
        let mut out = Outbox::new(1 << 20);
        Binary.encode(&message, 1 << 20, &mut out).unwrap();
        let mut segments = Segments::new();
        out.take(&mut segments);
        let bytes: Vec<u8> = segments.slices().flatten().copied().collect();
        let limits = Limits {
            frame_max: 1 << 20,
            entries_max: 3,
        };
        let consumed = bytes.len();
        assert_eq!(
            Binary.decode(&bytes, &limits),
            Ok(Decoded::Message { message, consumed })
        );
    }
}
