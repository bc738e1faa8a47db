//! Row 13 of the threats: Protocol Buffers that are none, or none of the schema's.

use kraft_core::handshake::Kind;
use kraft_core::id::{NodeId, Round, Term};
use kraft_core::message::{Body, EntryKind};
use kraft_core::protocol::{DecodeError, Decoded, Limits, Protocol};
use kraft_protocols::conformance::LIMITS;
use kraft_protocols::{Format, Protobuf, TEXT_MAX};

use crate::counting::allocated;
use crate::forge::{self, made};

#[track_caller]
fn malformed(kind: Kind, body: &[u8], offset: usize) {
    forge::expect_malformed_body(Format::Protobuf, kind, body, offset);
}

#[track_caller]
fn message(kind: Kind, body: &[u8]) -> String {
    forge::judge(Format::Protobuf, kind, body).unwrap()
}

/// A refusal that costs no memory.
#[track_caller]
fn too_large(frame: &[u8], limits: &Limits) {
    let mut scratch = Vec::new();
    let before = allocated();
    let decoded = Protobuf.decode(frame, limits, &mut scratch);
    assert_eq!(allocated(), before);
    assert_eq!(decoded, Err(DecodeError::TooLarge));
}

fn repeated(bytes: &[u8], count: usize) -> Vec<u8> {
    bytes.repeat(count)
}

/// Field 3, `from`, with this value behind two bytes of field 2.
fn from(value: &[u8]) -> Vec<u8> {
    [&[0x10, 0x01, 0x18], value].concat()
}

#[test]
fn row13_varints_end_and_fit() {
    let nine = [0xff; 9];
    let whole = [&nine[..], &[0x01]].concat();
    assert_eq!(message(Kind::Status, &from(&whole)), "Status");
    for bad in [
        [&nine[..], &[0x02]].concat(),
        [&nine[..], &[0x7f]].concat(),
        [&nine[..], &[0x81, 0x00]].concat(),
        repeated(&[0xff], 10),
        repeated(&[0x80], 200),
        vec![0x80],
        vec![],
    ] {
        malformed(Kind::Status, &from(&bad), 2);
        // In a field that is skipped, too: number 30.
        malformed(Kind::Status, &[&[0x10, 0x01, 0xf0, 0x01], &bad[..]].concat(), 2);
    }
}

#[test]
fn row13_tags_are_of_fields_and_wire_types() {
    for tag in [
        &[0x00, 0x01][..],                           // number 0
        &[0x02, 0x00],                               // number 0, with a length
        &[0x1e, 0x00],                               // wire type 6
        &[0x1f, 0x00],                               // wire type 7
        &[0xff, 0xff, 0xff, 0xff, 0x1f, 0x00],       // a number above 2^29 - 1, wire type 7
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0x00], // a tag above 2^32
        &[0x80],
    ] {
        malformed(Kind::Status, &[&[0x10, 0x01], tag].concat(), 2);
    }
    // The right number with the wrong wire type: `from` is a varint, `cluster` eight bytes.
    for field in [
        &[0x1a, 0x00][..],
        &[0x1d, 0, 0, 0, 0],
        &[0x19, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x08, 0x01],
    ] {
        malformed(Kind::Status, &[&[0x10, 0x01], field].concat(), 2);
    }
}

#[test]
fn row13_groups_are_skipped_within_bounds() {
    let (start, end) = ([0xf3, 0x01], [0xf4, 0x01]);
    for depth in [1, 16] {
        let group = [start.repeat(depth), end.repeat(depth)].concat();
        assert_eq!(message(Kind::Status, &group), "Status");
    }
    for bomb in [
        [start.repeat(17), end.repeat(17)].concat(),
        start.repeat(100_000),
        start.to_vec(),
        end.to_vec(),
        [&start[..], &[0xfc, 0x01]].concat(),
        [&start[..], &[0x1e], &end].concat(),
    ] {
        malformed(Kind::Status, &[&[0x10, 0x01], &bomb[..]].concat(), 2);
    }
    // A group where the schema has a number.
    malformed(Kind::Status, &[0x1b, 0x1c], 0);
}

#[test]
fn row13_lengths_end_within_the_message() {
    // Field 7 of a goaway, its detail, behind the reason; a command's bytes; a field that is skipped.
    for (kind, front, tag) in [
        (Kind::Goaway, &[0x30, 0x09][..], &[0x3a][..]),
        (Kind::Command, &[0x30, 0x09], &[0x52]),
        (Kind::Status, &[0x10, 0x01], &[0xf2, 0x01]),
        (Kind::Append, &[0x30, 0x09], &[0x52]),
        (Kind::StatusReply, &[0x30, 0x01], &[0x92, 0x01]),
    ] {
        for length in [
            &[0x02][..],
            &[0xff, 0x01],
            &[0xff, 0xff, 0xff, 0xff, 0x07],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ] {
            malformed(kind, &[front, tag, length, b"x"].concat(), 2);
        }
    }
    // An entry that goes on behind its own end: its payload has two bytes and says three.
    let entry = [0x10, 0x01, 0x22, 0x03, b'a', b'b'];
    let body = [&[0x52, 6][..], &entry, &[0x30, 0x01]].concat();
    malformed(Kind::Append, &body, 4);
}

#[test]
fn row13_texts_are_utf_8() {
    for text in [&[0xff][..], &[0xc3], &[0xed, 0xa0, 0x80], &[0xc0, 0x80]] {
        let length = u8::try_from(text.len()).unwrap();
        malformed(Kind::Goaway, &[&[0x30, 0x09, 0x3a, length], text].concat(), 2);
    }
}

#[test]
fn row13_what_is_missing_or_unknown_is_no_message() {
    // Without the choice that a message is of, or with one that there is not: at the field, or at the body if it is not
    // there.
    for (kind, choice) in [
        (Kind::Hello, 0x30),
        (Kind::Goaway, 0x30),
        (Kind::AppendReply, 0x38),
        (Kind::ReadIndexReply, 0x30),
        (Kind::SnapshotReply, 0x58),
        (Kind::Change, 0x30),
        (Kind::Reply, 0x30),
        (Kind::StatusReply, 0x30),
    ] {
        malformed(kind, &[], 0);
        malformed(kind, &[0x10, 0x01], 0);
        malformed(kind, &[0x10, 0x01, choice, 0x00], 2);
        malformed(kind, &[0x10, 0x01, choice, 0x63], 2);
        let negative = [&[choice][..], &[0xff; 9], &[0x01]].concat();
        malformed(kind, &negative, 0);
    }
    malformed(Kind::Command, &[0x48, 0x03], 0);
    malformed(Kind::Read, &[0x30, 0x03], 0);
    // A version is a u16.
    malformed(Kind::Hello, &[0x30, 0x01, 0x50, 0x80, 0x80, 0x04], 2);
    malformed(Kind::Welcome, &[0x30, 0x80, 0x80, 0x04], 0);
    // An entry without its kind, and one whose checksum is of another payload.
    malformed(Kind::Append, &[0x52, 2, 0x08, 0x01], 2);
    let damaged = [0x52, 7, 0x10, 0x01, 0x1d, 1, 0, 0, 0];
    let judged = forge::judge(Format::Protobuf, Kind::Append, &damaged);
    assert_eq!(judged, Err(DecodeError::BadChecksum));
}

#[test]
fn row13_what_has_no_meaning_is_not_there() {
    for (kind, body, offset) in [
        (Kind::AppendReply, &[0x38, 0x01, 0x48, 0x01][..], 2), // matched with a hint
        (Kind::AppendReply, &[0x38, 0x01, 0x50, 0x01], 2),
        (Kind::ReadIndexReply, &[0x30, 0x02, 0x38, 0x01], 2), // refused at an index
        (Kind::SnapshotReply, &[0x50, 0x01, 0x58, 0x02], 0),  // no space for an offset
        (Kind::Read, &[0x38, 0x01], 0),                       // linearizable of an age
        (Kind::Read, &[0x30, 0x01, 0x38, 0x01], 2),
        (Kind::Change, &[0x30, 0x02, 0x42, 1, b'x'], 2), // promote at an address
        (Kind::Change, &[0x30, 0x01, 0x50, 0x01], 2),    // add by somebody
        (Kind::Change, &[0x30, 0x04, 0x48, 0x01], 2),    // replace and promote
        (Kind::Change, &[0x30, 0x05, 0x48, 0x01], 2),
        (Kind::Reply, &[0x30, 0x01, 0x38, 0x01], 2), // committed and why not
        (Kind::Reply, &[0x30, 0x01, 0x4a, 1, b'x'], 2), // committed with a detail
        (Kind::Reply, &[0x30, 0x03, 0x62, 1, b'x'], 2), // unknown with an answer
        (Kind::Reply, &[0x30, 0x02, 0x38, 1, 0x62, 1, b'x'], 4), // refused with an answer
        (Kind::Reply, &[0x30, 0x04, 0x50, 1, 0x58, 1], 4), // by the lease, of an age
        (Kind::Reply, &[0x30, 0x04], 0),             // weaker, and no basis
        (Kind::Snapshot, &[0x50, 0x01], 0),          // a piece behind the end of its snapshot
        (Kind::FetchReply, &[0x40, 0x03, 0x50, 0x03, 0x5a, 1, b'x'], 2),
    ] {
        malformed(kind, body, offset);
    }
    // The last entry has no index.
    let last = [&[0x30][..], &[0xff; 9], &[0x01]].concat();
    let entry = [0x52, 2, 0x10, 0x02];
    malformed(Kind::Append, &[&last[..], &entry].concat(), 0);
}

/// As the standard has it: of a field that comes twice the last one counts, unknown fields are skipped.
#[test]
fn row13_the_last_of_two_counts() {
    let twice = [0x30, 0x07, 0x38, 0x01, 0x30, 0x08];
    assert_eq!(
        message(Kind::Heartbeat, &twice),
        "Heartbeat(Heartbeat { commit: Index(8), round: Round(1) })"
    );
}

/// Encoders write fields in order, but what they write may come in any: fields stand between elements of a list, too.
#[test]
fn row13_fields_between_and_behind_the_elements_of_a_list_are_read() {
    let entry = [0x52, 2, 0x10, 0x02];
    let (round, term, unknown) = ([0x48, 7], [0x20, 5], [0xf0, 0x01, 3]);
    let (between, behind) = (
        [&entry[..], &round, &entry].concat(),
        [&entry[..], &entry, &round].concat(),
    );
    for body in [
        between.clone(),
        behind.clone(),
        [&between[..], &unknown].concat(),
        [&[0x48, 6], &behind[..]].concat(),
    ] {
        let frame = made(Format::Protobuf, Kind::Append, &[&body[..], &term].concat());
        let mut scratch = Vec::new();
        let Ok(Decoded::Message { message, .. }) = Protobuf.decode(&frame, &LIMITS, &mut scratch) else {
            panic!("{body:02x?} is no message");
        };
        let Body::Append(append) = &message.body else {
            panic!("an append");
        };
        let kinds: Vec<_> = append.entries.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [EntryKind::Noop; 2], "{body:02x?}");
        assert_eq!((append.round, message.header.term), (Round(7), Term(5)), "{body:02x?}");
    }

    let (state, member, leader) = ([0x30, 0x01], |node| [0x92, 0x01, 2, 0x08, node], [0x38, 3]);
    for body in [
        [&state[..], &member(1), &leader, &member(2)].concat(),
        [&state[..], &member(1), &member(2), &leader].concat(),
        [&member(1)[..], &state, &unknown, &leader, &member(2)].concat(),
    ] {
        let frame = made(Format::Protobuf, Kind::StatusReply, &[&body[..], &term].concat());
        let mut scratch = Vec::new();
        let Ok(Decoded::Message { message, .. }) = Protobuf.decode(&frame, &LIMITS, &mut scratch) else {
            panic!("{body:02x?} is no message");
        };
        let Body::StatusReply(status) = &message.body else {
            panic!("a reply to a status");
        };
        let nodes: Vec<_> = status.members.iter().map(|member| member.node).collect();
        assert_eq!(nodes, [NodeId(1), NodeId(2)], "{body:02x?}");
        assert_eq!(
            (status.leader, message.header.term),
            (NodeId(3), Term(5)),
            "{body:02x?}"
        );
    }

    // What is wrong behind the first element is told where it is.
    malformed(Kind::Append, &[&entry[..], &[0x4a, 0x00], &entry].concat(), 4);
    malformed(Kind::Append, &[&entry[..], &[0x52, 2, 0x08, 0x01], &round].concat(), 6);
}

#[test]
fn row09_lists_and_texts_above_the_limit_are_refused_before_there_is_room_for_them() {
    let entry = [0x52, 2, 0x10, 0x02];
    let at_limit = made(Format::Protobuf, Kind::Append, &entry.repeat(LIMITS.entries_max));
    let mut scratch = Vec::new();
    let decoded = Protobuf.decode(&at_limit, &LIMITS, &mut scratch);
    assert!(matches!(decoded, Ok(Decoded::Message { .. })), "{decoded:?}");
    too_large(
        &made(Format::Protobuf, Kind::Append, &entry.repeat(LIMITS.entries_max + 1)),
        &LIMITS,
    );
    too_large(&made(Format::Protobuf, Kind::Append, &entry), &Limits::BEFORE_HELLO);

    let members = |count| [&[0x30, 0x01][..], &[0x92, 0x01, 0].repeat(count)].concat();
    let most = made(Format::Protobuf, Kind::StatusReply, &members(256));
    let mut scratch = Vec::new();
    assert!(matches!(
        Protobuf.decode(&most, &LIMITS, &mut scratch),
        Ok(Decoded::Message { .. })
    ));
    too_large(&made(Format::Protobuf, Kind::StatusReply, &members(257)), &LIMITS);

    let goaway = |length: usize| {
        let bytes = u16::try_from(length).unwrap();
        let varint = [
            u8::try_from(bytes & 0x7f).unwrap() | 0x80,
            u8::try_from(bytes >> 7).unwrap(),
        ];
        let body = [&[0x30, 0x09, 0x3a][..], &varint, &vec![b'x'; length]].concat();
        made(Format::Protobuf, Kind::Goaway, &body)
    };
    let mut scratch = Vec::new();
    let longest = goaway(TEXT_MAX);
    assert!(matches!(
        Protobuf.decode(&longest, &LIMITS, &mut scratch),
        Ok(Decoded::Message { .. })
    ));
    too_large(&goaway(TEXT_MAX + 1), &LIMITS);
}
