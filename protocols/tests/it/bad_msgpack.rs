//! Row 14 of the threats: MessagePack that is none, or none of the schema's.

use kraft_core::handshake::Kind;
use kraft_core::protocol::{DecodeError, Decoded, Limits, Protocol};
use kraft_protocols::conformance::LIMITS;
use kraft_protocols::{Format, Msgpack, TEXT_MAX};

use crate::counting::allocated;
use crate::forge::{self, made};

#[track_caller]
fn malformed(kind: Kind, body: &[u8], offset: usize) {
    forge::expect_malformed_body(Format::Msgpack, kind, body, offset);
}

#[track_caller]
fn message(kind: Kind, body: &[u8]) -> String {
    forge::judge(Format::Msgpack, kind, body).unwrap()
}

#[track_caller]
fn too_large(kind: Kind, body: &[u8], limits: &Limits) {
    let frame = made(Format::Msgpack, kind, body);
    let mut scratch = Vec::new();
    let before = allocated();
    let decoded = Msgpack.decode(&frame, limits, &mut scratch);
    assert_eq!(allocated(), before);
    assert_eq!(decoded, Err(DecodeError::TooLarge));
}

#[track_caller]
fn is_message(kind: Kind, body: &[u8]) {
    let frame = made(Format::Msgpack, kind, body);
    let mut scratch = Vec::new();
    let decoded = Msgpack.decode(&frame, &LIMITS, &mut scratch);
    assert!(matches!(decoded, Ok(Decoded::Message { .. })), "{decoded:?}");
}

/// Values that are no number: of every other type, of types that there are not, and cut short.
const NO_NUMBER: [&[u8]; 22] = [
    &[0xc0],                   // nil
    &[0xc2],                   // false
    &[0xca, 0x3f, 0x80, 0, 0], // 1.0
    &[0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0],
    &[0xff], // -1
    &[0xd0, 0xff],
    &[0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xa1, b'1'],                      // "1"
    &[0xc4, 1, 1],                      // bin
    &[0x90],                            // []
    &[0x80],                            // {}
    &[0xc1],                            // never used
    &[0xd4, 1, 0],                      // fixext 1
    &[0xd8, 1, 0],                      // fixext 16
    &[0xc7, 1, 1, 0],                   // ext 8
    &[0xc8, 0, 1, 1, 0],                // ext 16
    &[0xc9, 0xff, 0xff, 0xff, 0xff, 1], // ext 32
    &[0xcc],
    &[0xcd, 0],
    &[0xce, 0, 0, 0],
    &[0xcf, 0, 0, 0, 0, 0, 0, 0],
    &[],
];

#[test]
fn row14_numbers_are_whole_and_not_negative() {
    for bad in NO_NUMBER {
        // Field 3, `from`, behind field 2.
        malformed(Kind::Status, &[&[0x82, 2, 1, 3], bad].concat(), 4);
    }
    // Any encoding of an integer is one, also a longer or a signed one.
    for good in [
        &[7][..],
        &[0xcc, 7],
        &[0xcd, 0, 7],
        &[0xce, 0, 0, 0, 7],
        &[0xcf, 0, 0, 0, 0, 0, 0, 0, 7],
        &[0xd0, 7],
        &[0xd1, 0, 7],
        &[0xd2, 0, 0, 0, 7],
        &[0xd3, 0, 0, 0, 0, 0, 0, 0, 7],
    ] {
        assert_eq!(
            message(Kind::Heartbeat, &[&[0x81, 6][..], good].concat()),
            "Heartbeat(Heartbeat { commit: Index(7), round: Round(0) })"
        );
    }
    // Group is a u32, a version a u16.
    malformed(Kind::Status, &[0x81, 2, 0xcf, 0, 0, 0, 1, 0, 0, 0, 0], 2);
    malformed(Kind::Welcome, &[0x81, 6, 0xce, 0, 1, 0, 0], 2);
}

#[test]
fn row14_keys_are_numbers_and_come_once() {
    // Those that are cut short would go on with what follows.
    for bad in &NO_NUMBER[..17] {
        malformed(Kind::Status, &[&[0x82, 2, 1], *bad, &[7]].concat(), 3);
    }
    malformed(Kind::Status, &[0x82, 2, 1, 2, 1], 3);
    malformed(Kind::Heartbeat, &[0x83, 6, 1, 7, 1, 6, 2], 5);
    // Twice the same key that nobody knows: skipped, as one is.
    assert_eq!(message(Kind::Status, &[0x82, 99, 1, 99, 1]), "Status");
}

#[test]
fn row14_types_are_those_of_the_schema() {
    // A flag, a choice, a text, bytes, entries, members: what stands there, and what may not.
    for (kind, front, good, bad) in [
        (Kind::Vote, &[0x81, 6][..], &[0xc3][..], &[1][..]),
        (
            Kind::Command,
            &[0x81, 9],
            &[1],
            &[0xa6, b'l', b'e', b'a', b'd', b'e', b'r'],
        ),
        (Kind::Goaway, &[0x82, 6, 9, 7], &[0xa1, b'x'], &[0xc4, 1, b'x']),
        (Kind::Command, &[0x81, 10], &[0xc4, 1, b'x'], &[0xa1, b'x']),
        (Kind::Append, &[0x81, 10], &[0x90], &[0x80]),
        (Kind::Append, &[0x81, 10], &[0x91, 0x81, 2, 2], &[0x91, 0x93, 2, 2, 2]),
        (Kind::StatusReply, &[0x82, 6, 1, 18], &[0x91, 0x80], &[0xc0]),
    ] {
        message(kind, &[front, good].concat());
        let within = usize::from(bad.first() == Some(&0x91));
        malformed(kind, &[front, bad].concat(), front.len() + within);
        malformed(kind, &[front, &[0xc0]].concat(), front.len());
        malformed(kind, &[front, &[0xc1]].concat(), front.len());
        malformed(kind, &[front, &[0xd4, 1, 0]].concat(), front.len());
    }
    // The body is a map and nothing else.
    for body in [&[][..], &[0x90], &[0xc0], &[1], &[0xc1], &[0xd4, 1, 0]] {
        malformed(Kind::Status, body, 0);
    }
    malformed(Kind::Goaway, &[0x82, 6, 9, 7, 0xa1, 0xff], 4);
    malformed(Kind::Goaway, &[0x81, 6, 99], 2);
    malformed(Kind::Goaway, &[0x80], 0);
}

#[test]
fn row14_lengths_end_within_the_body() {
    for (front, tag) in [
        (&[0x82, 6, 9, 7][..], &[0xdb][..]),
        (&[0x82, 6, 9, 99], &[0xdb]),
        (&[0x82, 6, 9, 99], &[0xc6]),
        (&[0x82, 6, 9, 99], &[0xdd]),
        (&[0x82, 6, 9, 99], &[0xdf]),
    ] {
        for length in [2_u32, 0xffff, 1 << 31, u32::MAX] {
            let body = [front, tag, &length.to_be_bytes(), &[1]].concat();
            let judged = forge::judge(Format::Msgpack, Kind::Goaway, &body);
            match judged {
                // A value short in a list: where it would stand.
                Err(DecodeError::Malformed { .. }) => {}
                Err(DecodeError::TooLarge) => assert!(tag == [0xdb] && length > 1024),
                other => panic!("{other:?}"),
            }
        }
    }
    for count in [2_u32, 1 << 16, u32::MAX] {
        let lists = [&[0x81, 10, 0xdd][..], &count.to_be_bytes(), &[0x81, 2, 2]].concat();
        malformed(Kind::Append, &lists, 2);
    }
    // Maps that claim more entries than there are.
    malformed(Kind::Status, &[0x81], 1);
    malformed(Kind::Status, &[0x82, 3, 7], 3);
    malformed(Kind::Status, &[0xdf, 0xff, 0xff, 0xff, 0xff, 3, 7], 7);
    malformed(Kind::Append, &[0x81, 10, 0x91, 0x82, 2, 2], 6);
    // And bytes behind the map.
    malformed(Kind::Status, &[0x80, 0x80], 1);
    malformed(Kind::Status, &[0x81, 3, 7, 0xc0], 3);
}

#[test]
fn row14_nesting_is_skipped_within_bounds() {
    let nested = |depth: usize| [&[0x81, 99][..], &[0x91].repeat(depth), &[1]].concat();
    assert_eq!(message(Kind::Status, &nested(16)), "Status");
    malformed(Kind::Status, &nested(17), 2 + 16);
    malformed(Kind::Status, &nested(100_000), 2 + 16);
    let maps = [&[0x81, 99][..], &[0x81, 1].repeat(17), &[1]].concat();
    malformed(Kind::Status, &maps, 2 + 32);
    // Extension types are nothing here, not even to be skipped.
    for bad in [&[0xd4, 1, 0][..], &[0xc7, 1, 1, 0], &[0x91, 0xd4, 1, 0], &[0xc1]] {
        let within = usize::from(bad[0] == 0x91);
        malformed(Kind::Status, &[&[0x81, 99], bad].concat(), 2 + within);
    }
}

#[test]
fn row09_lists_and_texts_above_the_limit_are_refused_before_there_is_room_for_them() {
    let entries = |count: usize| {
        let length = u16::try_from(count).unwrap().to_be_bytes();
        [&[0x81, 10, 0xdc][..], &length, &[0x81, 2, 2].repeat(count)].concat()
    };
    is_message(Kind::Append, &entries(LIMITS.entries_max));
    too_large(Kind::Append, &entries(LIMITS.entries_max + 1), &LIMITS);
    too_large(Kind::Append, &entries(1), &Limits::BEFORE_HELLO);

    let members = |count: usize| {
        let length = u16::try_from(count).unwrap().to_be_bytes();
        [&[0x82, 6, 1, 18, 0xdc][..], &length, &[0x80].repeat(count)].concat()
    };
    is_message(Kind::StatusReply, &members(256));
    too_large(Kind::StatusReply, &members(257), &LIMITS);

    let goaway = |length: usize| {
        let bytes = u16::try_from(length).unwrap().to_be_bytes();
        [&[0x82, 6, 9, 7, 0xda][..], &bytes, &vec![b'x'; length]].concat()
    };
    is_message(Kind::Goaway, &goaway(TEXT_MAX));
    too_large(Kind::Goaway, &goaway(TEXT_MAX + 1), &LIMITS);
}
