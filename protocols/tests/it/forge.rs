//! Frames of the `binary` format with one lie in them, their checksums right.

use kraft_core::handshake::Kind;
use kraft_core::id::Term;
use kraft_core::message::{Entry, EntryKind, Message};
use kraft_core::outbox::Outbox;
use kraft_core::protocol::{DecodeError, Decoded, Limits, Protocol};
use kraft_protocols::conformance::{LIMITS, contents, golden};
use kraft_protocols::frame::{Envelope, HEADER, kind_number};
use kraft_protocols::{Any, Binary, Format};

use crate::counting::allocated;

/// The golden frame called `name`.
#[track_caller]
pub(crate) fn frame(name: &str) -> Vec<u8> {
    let messages = golden::messages();
    let (_, message) = messages
        .iter()
        .find(|(other, _)| *other == name)
        .expect("there is a golden message of the name");
    encode(message)
}

pub(crate) fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut out = Outbox::new(LIMITS.frame_max);
    Binary.encode(message, LIMITS.frame_max, &mut out).unwrap();
    contents(&mut out)
}

/// The covered part of a frame's body.
pub(crate) fn checked(frame: &[u8]) -> usize {
    u32::from_le_bytes(frame[12..16].try_into().unwrap()) as usize
}

/// The frame with `value` at `at`, counted from the frame's first byte, and checksums that fit.
#[track_caller]
pub(crate) fn with(frame: &[u8], at: usize, value: &[u8]) -> Vec<u8> {
    assert!(
        HEADER <= at && at + value.len() <= HEADER + checked(frame),
        "only the covered part is sealed again"
    );
    let mut frame = frame.to_vec();
    frame[at..at + value.len()].copy_from_slice(value);
    let checked = checked(&frame);
    seal(&frame, &frame[HEADER..HEADER + checked], &frame[HEADER + checked..])
}

/// A frame of the kind of `like`, with this body.
pub(crate) fn seal(like: &[u8], covered: &[u8], payloads: &[u8]) -> Vec<u8> {
    let envelope = Envelope {
        format: like[5],
        kind: u16::from_le_bytes([like[6], like[7]]),
        length: u32::try_from(covered.len() + payloads.len()).unwrap(),
        checked: u32::try_from(covered.len()).unwrap(),
        body_crc: crc32c::crc32c(covered),
    };
    [&envelope.to_bytes()[..], covered, payloads].concat()
}

/// A frame of this format, kind and body.
pub(crate) fn made(format: Format, kind: Kind, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    let envelope = Envelope::covering(format.number(), kind_number(kind), length, crc32c::crc32c(body));
    [&envelope.to_bytes()[..], body].concat()
}

/// What `format` makes of a body of this kind: a message, in as many words, or an error. Refusals allocate nothing.
#[track_caller]
pub(crate) fn judge(format: Format, kind: Kind, body: &[u8]) -> Result<String, DecodeError> {
    let frame = made(format, kind, body);
    let mut scratch = Vec::new();
    let before = allocated();
    let decoded = Protocol::decode(&Any::new(format), &frame, &LIMITS, &mut scratch);
    let after = allocated();
    let taken = after.bytes - before.bytes;
    assert!(
        taken <= 64 * frame.len() as u64 + 1024,
        "{taken} bytes for {}",
        frame.len()
    );
    match decoded {
        Ok(Decoded::Message { message, consumed }) => {
            assert_eq!(consumed, frame.len());
            Ok(format!("{:?}", message.body))
        }
        Ok(more) => panic!("{more:?}"),
        Err(error) => {
            if let DecodeError::Malformed { offset } = error {
                assert!(offset <= frame.len(), "{error:?} in {} bytes", frame.len());
            }
            Err(error)
        }
    }
}

/// The body is malformed at `offset` of itself.
#[track_caller]
pub(crate) fn expect_malformed_body(format: Format, kind: Kind, body: &[u8], offset: usize) {
    let expected = Err(DecodeError::Malformed {
        offset: HEADER + offset,
    });
    assert_eq!(
        judge(format, kind, body),
        expected,
        "{:?}",
        body.escape_ascii().to_string()
    );
}

#[track_caller]
pub(crate) fn expect_malformed(frame: &[u8], offset: usize) {
    assert_eq!(decode(frame), Err(DecodeError::Malformed { offset }));
}

pub(crate) fn decode(frame: &[u8]) -> Result<Decoded<'_>, DecodeError> {
    Binary.decode(frame, &LIMITS)
}

pub(crate) fn decode_with<'a>(frame: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, DecodeError> {
    Binary.decode(frame, limits)
}

/// `count` entries of `size` bytes, in one term.
pub(crate) fn entries(count: usize, size: usize) -> Vec<Entry> {
    let payload = bytes::Bytes::from(vec![7; size]);
    let entry = Entry {
        term: Term(1),
        kind: EntryKind::Command,
        crc: crc32c::crc32c(&payload),
        payload,
    };
    vec![entry; count]
}

/// Whether decoding gave a message; it consumed the whole frame then.
pub(crate) fn is_message(frame: &[u8]) -> bool {
    match decode(frame) {
        Ok(Decoded::Message { consumed, .. }) => {
            assert_eq!(consumed, frame.len());
            true
        }
        _ => false,
    }
}
