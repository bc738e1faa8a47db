//! One beyond each limit, in each format: refused, and nothing was allocated for it.

use kraft_core::handshake::Kind;
use kraft_core::protocol::{DecodeError, Limits, Protocol};
use kraft_protocols::conformance::LIMITS;
use kraft_protocols::frame::HEADER;
use kraft_protocols::{Any, Format, TEXT_MAX};

use crate::counting::allocated;
use crate::forge::{frame, made, seal, with};

const MEMBERS_MAX: usize = 256;
const DEPTH_MAX: usize = 16;

/// What the parser of JSON makes of an error, however long the frame is.
const ERROR_BYTES: u64 = 512;

/// The frame is refused for this, and for nothing of memory.
#[track_caller]
fn refused(format: Format, frame: &[u8], limits: &Limits, expected: DecodeError) {
    // Of JSON there is always room for a frame that came; it is kept from one to the next.
    let mut scratch = Vec::with_capacity(frame.len());
    let before = allocated();
    let decoded = Any::new(format).decode(frame, limits, &mut scratch);
    let taken = allocated().bytes - before.bytes;
    assert_eq!(decoded, Err(expected), "{format}");
    let free = if format == Format::Json { ERROR_BYTES } else { 0 };
    assert!(taken <= free, "{format}: {taken} bytes for what is refused");
}

#[track_caller]
fn too_large(format: Format, kind: Kind, body: &[u8]) {
    refused(format, &made(format, kind, body), &LIMITS, DecodeError::TooLarge);
}

#[track_caller]
fn malformed(format: Format, kind: Kind, body: &[u8], offset: usize) {
    let offset = HEADER + offset;
    refused(
        format,
        &made(format, kind, body),
        &LIMITS,
        DecodeError::Malformed { offset },
    );
}

/// With the length of what follows, as protobuf has it.
fn sized(tag: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = tag.to_vec();
    bytes.extend([length as u8 | 0x80, (length >> 7) as u8]);
    bytes
}

#[test]
fn an_entry_too_many_costs_no_memory() {
    let count = LIMITS.entries_max + 1;
    let length = u16::try_from(count).unwrap().to_be_bytes();
    let json = format!(r#"{{"entries":[{}]}}"#, vec![r#"{"kind":"noop"}"#; count].join(","));
    too_large(Format::Json, Kind::Append, json.as_bytes());
    let msgpack = [&[0x81, 10, 0xdc][..], &length, &[0x81, 2, 2].repeat(count)].concat();
    too_large(Format::Msgpack, Kind::Append, &msgpack);
    too_large(Format::Protobuf, Kind::Append, &[0x52, 2, 0x10, 0x02].repeat(count));
    let limits = Limits {
        entries_max: 3,
        ..LIMITS
    };
    refused(Format::Binary, &frame("append"), &limits, DecodeError::TooLarge);
}

#[test]
fn a_member_too_many_costs_no_memory() {
    let count = MEMBERS_MAX + 1;
    let length = u16::try_from(count).unwrap().to_be_bytes();
    let json = format!(r#"{{"state":"leader","members":[{}]}}"#, vec!["{}"; count].join(","));
    too_large(Format::Json, Kind::StatusReply, json.as_bytes());
    let msgpack = [&[0x82, 6, 1, 18, 0xdc][..], &length, &[0x80].repeat(count)].concat();
    too_large(Format::Msgpack, Kind::StatusReply, &msgpack);
    let protobuf = [&[0x30, 0x01][..], &[0x92, 0x01, 0].repeat(count)].concat();
    too_large(Format::Protobuf, Kind::StatusReply, &protobuf);
}

#[test]
fn a_byte_of_text_too_many_costs_no_memory() {
    let length = TEXT_MAX + 1;
    let text = vec![b'x'; length];
    let json = format!(r#"{{"reason":"malformed","detail":"{}"}}"#, "x".repeat(length));
    too_large(Format::Json, Kind::Goaway, json.as_bytes());
    let msgpack = [
        &[0x82, 6, 9, 7, 0xda][..],
        &u16::try_from(length).unwrap().to_be_bytes(),
        &text,
    ]
    .concat();
    too_large(Format::Msgpack, Kind::Goaway, &msgpack);
    too_large(
        Format::Protobuf,
        Kind::Goaway,
        &[&sized(&[0x30, 0x09, 0x3a], length)[..], &text].concat(),
    );
    let goaway = frame("goaway-violation");
    let mut body = [&goaway[HEADER..], &text].concat();
    body[44..48].copy_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
    refused(
        Format::Binary,
        &seal(&goaway, &body, &[]),
        &LIMITS,
        DecodeError::TooLarge,
    );
}

#[test]
fn a_level_too_many_costs_no_memory() {
    let json = |depth: usize| format!(r#"{{"later":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
    malformed(
        Format::Json,
        Kind::Status,
        json(DEPTH_MAX + 1).as_bytes(),
        r#"{"later":"#.len(),
    );
    for depth in [DEPTH_MAX + 1, 100_000] {
        let msgpack = [&[0x81, 99][..], &[0x91].repeat(depth), &[1]].concat();
        malformed(Format::Msgpack, Kind::Status, &msgpack, 2 + DEPTH_MAX);
        let group = [[0xf3, 0x01].repeat(depth), [0xf4, 0x01].repeat(depth)].concat();
        malformed(Format::Protobuf, Kind::Status, &group, 0);
    }
    // The parser of JSON finds the end of a value before it is known how deep that goes: a bit of memory a level.
    let frame = made(Format::Json, Kind::Status, json(100_000).as_bytes());
    let before = allocated();
    let mut scratch = Vec::new();
    let decoded = Any::new(Format::Json).decode(&frame, &LIMITS, &mut scratch);
    let taken = allocated().bytes - before.bytes;
    assert!(matches!(decoded, Err(DecodeError::Malformed { .. })), "{decoded:?}");
    assert!(taken <= 3 * frame.len() as u64, "{taken} bytes for {}", frame.len());
}

/// A byte too many of a varint; a number a bit above 64; a length beyond what is there.
#[test]
fn a_number_too_long_costs_no_memory() {
    malformed(
        Format::Protobuf,
        Kind::Status,
        &[&[0x18], &[0xff; 10][..], &[0x01]].concat(),
        0,
    );
    malformed(
        Format::Protobuf,
        Kind::Status,
        &[&[0x18], &[0xff; 9][..], &[0x02]].concat(),
        0,
    );
    malformed(Format::Json, Kind::Status, br#"{"from":"18446744073709551616"}"#, 8);
    for length in [14, u32::MAX] {
        let command = with(&frame("command"), HEADER + 64, &length.to_le_bytes());
        let mut scratch = Vec::new();
        let before = allocated();
        let decoded = Any::new(Format::Binary).decode(&command, &LIMITS, &mut scratch);
        assert!(matches!(decoded, Err(DecodeError::Malformed { .. })), "{decoded:?}");
        assert_eq!(allocated(), before);
    }
    let msgpack = [&[0x82, 6, 9, 99, 0xc6][..], &u32::MAX.to_be_bytes(), &[1]].concat();
    let mut scratch = Vec::new();
    let frame = made(Format::Msgpack, Kind::Goaway, &msgpack);
    let before = allocated();
    let decoded = Any::new(Format::Msgpack).decode(&frame, &LIMITS, &mut scratch);
    assert!(matches!(decoded, Err(DecodeError::Malformed { .. })), "{decoded:?}");
    assert_eq!(allocated(), before);
}
