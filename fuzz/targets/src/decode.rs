//! Bytes before a decoder, and messages through an encoder and back.

use arbitrary::Unstructured;
use kraft_core::handshake::Kind;
use kraft_core::message::{Append, Body, Entries, Entry, Message};
use kraft_core::outbox::{Outbox, Segments};
use kraft_core::protocol::{DecodeError, Decoded, EncodeError, Limits, Protocol};
use kraft_protocols::frame::{Envelope, HEADER, kind_number};
use kraft_protocols::{Any, Binary, Format, Json, Msgpack, Protobuf, TEXT_MAX};

use crate::meter::metered;
use crate::said;

/// So tight that short inputs come up against them.
const TIGHT: Limits = Limits {
    frame_max: 2048,
    entries_max: 16,
};

/// Room for everything that an input can say, in any format.
pub(crate) const WIDE: Limits = Limits {
    frame_max: 4 << 20,
    entries_max: 1 << 10,
};

/// Bytes as they are, or as the body of a frame whose sums are right: by the first byte.
pub(crate) fn any_bytes(format: Format, input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let limits = match choice >> 1 & 3 {
        0 => Limits::BEFORE_HELLO,
        1 => TIGHT,
        _ => WIDE,
    };
    let bytes = match choice & 1 {
        0 => rest.to_vec(),
        _ => sealed(format, rest),
    };
    judge(format, &bytes, &limits);
}

/// A frame of a kind that the first byte names, with what follows as its body. Of `binary` the last byte says how many
/// bytes at the end are payloads.
fn sealed(format: Format, input: &[u8]) -> Vec<u8> {
    let (kind, mut body) = input.split_first().unwrap_or((&0, &[]));
    let kind = match Kind::ALL.get(usize::from(*kind) % (Kind::ALL.len() + 1)) {
        Some(kind) => kind_number(*kind),
        None => 0x7fff,
    };
    let mut payloads = 0;
    if format == Format::Binary
        && let Some((last, rest)) = body.split_last()
    {
        (payloads, body) = (usize::from(*last).min(rest.len()), rest);
    }
    seal(format, kind, body, payloads)
}

/// A frame whose last bytes are `payloads`.
pub(crate) fn seal(format: Format, kind: u16, body: &[u8], payloads: usize) -> Vec<u8> {
    let checked = &body[..body.len() - payloads];
    let number = |length: usize| u32::try_from(length).expect("an input is short");
    let envelope = Envelope {
        format: format.number(),
        kind,
        length: number(body.len()),
        checked: number(checked.len()),
        body_crc: crc32c::crc32c(checked),
    };
    [&envelope.to_bytes(), body].concat()
}

fn decode<'a>(
    format: Format,
    input: &'a [u8],
    limits: &Limits,
    scratch: &'a mut Vec<u8>,
) -> Result<Decoded<'a>, DecodeError> {
    match format {
        Format::Protobuf => Protocol::decode(&Protobuf, input, limits, scratch),
        Format::Msgpack => Protocol::decode(&Msgpack, input, limits, scratch),
        Format::Json => Protocol::decode(&Json, input, limits, scratch),
        _ => Protocol::decode(&Binary, input, limits, scratch),
    }
}

/// The frame of a message; `None` if it is above a limit, and the outbox is as it was then.
pub(crate) fn encode(format: Format, message: &Message<'_>) -> Option<Vec<u8>> {
    let mut out = Outbox::new(2 * WIDE.frame_max);
    let encoded = Any::new(format).encode(message, WIDE.frame_max, &mut out);
    let mut segments = Segments::new();
    out.take(&mut segments);
    let frame = segments.slices().flatten().copied().collect::<Vec<_>>();
    match encoded {
        Ok(()) => Some(frame),
        Err(EncodeError::TooLarge) => {
            assert!(frame.is_empty(), "{format}: what is not encoded leaves nothing");
            None
        }
        Err(EncodeError::Full) => panic!("{format}: the outbox is larger than the largest frame"),
    }
}

/// What holds of any bytes.
fn judge(format: Format, bytes: &[u8], limits: &Limits) {
    let mut scratch = Vec::new();
    let (decoded, taken) = metered(|| decode(format, bytes, limits, &mut scratch));
    // In binary a row of twelve bytes becomes one of forty; the others have rows of two bytes, and lists that double.
    let (factor, base) = if format == Format::Binary { (4, 0) } else { (64, 1024) };
    let bound = factor * bytes.len() as u64 + base;
    assert!(taken <= bound, "{taken} bytes are allocated for {}", bytes.len());
    match decoded {
        Ok(Decoded::Message { message, consumed }) => {
            assert!((HEADER..=bytes.len().min(limits.frame_max)).contains(&consumed));
            expect_more(format, &bytes[..consumed], limits);
            if let Body::Append(append) = &message.body {
                assert!(append.entries.len() <= limits.entries_max);
            }
            for &other in Format::ALL {
                expect_same(other, &message);
            }
        }
        Ok(Decoded::NeedMore { at_least }) => {
            assert!(bytes.len() < at_least && at_least <= limits.frame_max.max(HEADER));
        }
        Err(DecodeError::UnknownKind { consumed, .. }) => {
            assert!((HEADER..=bytes.len().min(limits.frame_max)).contains(&consumed));
        }
        Err(DecodeError::Malformed { offset }) => {
            assert!(offset <= bytes.len(), "byte {offset} of {}", bytes.len());
        }
        Err(_) => {}
    }
}

/// Every prefix of a frame is too short, and says so without asking for more than the frame.
fn expect_more(format: Format, frame: &[u8], limits: &Limits) {
    for cut in [0, 1, HEADER - 1, HEADER, frame.len() / 2, frame.len() - 1] {
        if cut < frame.len() {
            match decode(format, &frame[..cut], limits, &mut Vec::new()) {
                Ok(Decoded::NeedMore { at_least }) => assert!(cut < at_least && at_least <= frame.len()),
                other => panic!("{format}: {cut} bytes of {}: {other:?}", frame.len()),
            }
        }
    }
}

/// A message is the same again through `format`; or it is too large there, if a text of it is.
fn expect_same(format: Format, message: &Message<'_>) {
    let Some(frame) = encode(format, message) else {
        assert!(has_long_text(&message.body), "{format}: refused: {message:?}");
        return;
    };
    match decode(format, &frame, &WIDE, &mut Vec::new()) {
        Ok(Decoded::Message {
            message: again,
            consumed,
        }) => {
            assert_eq!(consumed, frame.len(), "{format}");
            assert!(again == *message, "{format}: {message:?} became {again:?}");
        }
        other => panic!("{format}: {message:?} became {other:?}"),
    }
    if let Body::Append(append) = &message.body {
        let payloads: usize = append.entries.iter().map(|entry| entry.payload.len()).sum();
        let bound = Any::new(format).overhead().frame(append.entries.len(), payloads);
        assert!(
            frame.len() <= bound,
            "{format}: {} bytes, {bound} at the most",
            frame.len()
        );
        let shared = shared(append);
        let entries = Entries::Shared(&shared[..shared.len() / 3], &shared[shared.len() / 3..]);
        let message = Message {
            header: message.header,
            body: Body::Append(Append {
                entries,
                ..append.clone()
            }),
        };
        assert!(
            encode(format, &message) == Some(frame),
            "{format}: lent or shared is the same"
        );
    }
}

fn shared(append: &Append<'_>) -> Vec<Entry> {
    let entry = |entry: kraft_core::message::EntryRef<'_>| Entry {
        term: entry.term,
        kind: entry.kind,
        crc: entry.crc,
        payload: bytes::Bytes::copy_from_slice(entry.payload),
    };
    append.entries.iter().map(entry).collect()
}

fn has_long_text(body: &Body<'_>) -> bool {
    use kraft_core::message::{Change, Outcome};
    let is_long = |text: &str| text.len() > TEXT_MAX;
    match body {
        Body::Hello(hello) => is_long(hello.cluster_name),
        Body::Goaway(goaway) => is_long(goaway.detail),
        Body::Change(Change::Add { address, .. } | Change::Replace { address, .. } | Change::Move { address, .. }) => {
            is_long(address)
        }
        Body::Reply(Outcome::Refused(refused)) => is_long(refused.detail),
        Body::StatusReply(status) => {
            let mut addresses = status.members.iter().map(|member| member.address);
            is_long(status.version) || is_long(status.backend) || addresses.any(is_long)
        }
        _ => false,
    }
}

/// A message that the input chooses, through `format` and the others; then with a byte of its frame changed.
pub(crate) fn any_message(format: Format, input: &[u8]) {
    let mut u = Unstructured::new(input);
    let Ok(message) = said::message(&mut u) else { return };
    for &other in Format::ALL {
        expect_same(other, &message);
    }
    let Some(mut frame) = encode(format, &message) else {
        return;
    };
    let (Ok(at), Ok(bits)) = (u.int_in_range(0..=frame.len() - 1), u.int_in_range(1..=255_u8)) else {
        return;
    };
    frame[at] ^= bits;
    // A sum of 32 bits finds every change of one byte.
    match decode(format, &frame, &WIDE, &mut Vec::new()) {
        Ok(Decoded::Message { message, .. }) => panic!("{format}: byte {at} changed by {bits:#x}: {message:?}"),
        Ok(Decoded::NeedMore { at_least }) => panic!("{format}: byte {at} changed: {at_least} bytes are wanted"),
        Err(_) => {}
    }
}
