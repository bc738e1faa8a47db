//! Rows 6-10 and 15-17 of the threats that a decoder has to bear: bad lengths, bad counts, bad values, bad cuts.

use std::ops::ControlFlow;

use kraft_core::inbox::{Budget, Inbox, InboxError};
use kraft_core::message::{Append, Body, Commit, Consistency, Entries, Goaway, GoawayReason, Message};
use kraft_core::outbox::Outbox;
use kraft_core::protocol::{DecodeError, Decoded, EncodeError, Foreign, Limits, Protocol};
use kraft_protocols::Binary;
use kraft_protocols::conformance::{LIMITS, golden};
use kraft_protocols::frame::{Envelope, HEADER};

use crate::counting::allocated;
use crate::forge::{self, checked, decode, decode_with, expect_malformed, frame, seal, with};

/// Where an append's fields lie in its frame.
const PREV_INDEX: usize = 64;
const RUNS: usize = 96;
const COUNT: usize = 100;
const FIRST_RUN: usize = 104;
/// The golden append has two runs.
const FIRST_ENTRY: usize = FIRST_RUN + 2 * 16;

const EDGES: [u32; 8] = [
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX - 1,
    u32::MAX,
];

fn header(length: u32, checked: u32) -> [u8; HEADER] {
    Envelope {
        format: 1,
        kind: 36,
        length,
        checked,
        body_crc: 0,
    }
    .to_bytes()
}

#[test]
fn row06_a_length_above_the_limit_is_refused_from_the_header_alone() {
    for length in [u32::MAX, 1 << 31, 4096 - 24 + 1] {
        let header = header(length, 0);
        let before = allocated();
        let decoded = decode_with(&header, &Limits::BEFORE_HELLO);
        assert_eq!(allocated(), before);
        assert_eq!(decoded, Err(DecodeError::TooLarge), "a length of {length}");

        let mut budget = Budget::new(1 << 20);
        let fed = Inbox::default().feed(&Binary, &Limits::BEFORE_HELLO, &mut budget, &header, |_| {
            panic!("there is no message")
        });
        assert_eq!(fed, Err(InboxError::Decode(DecodeError::TooLarge)));
        assert_eq!((allocated(), budget.free), (before, 1 << 20));
    }
}

/// A length that is within the limits, from somebody who then sends nothing.
#[test]
fn row06_a_length_within_the_limit_is_not_made_room_for() {
    let header = header(u32::try_from(LIMITS.frame_max - HEADER).unwrap(), 40);
    let before = allocated();
    let mut budget = Budget::new(8 << 20);
    let mut inbox = Inbox::default();
    inbox
        .feed(&Binary, &LIMITS, &mut budget, &header, |_| {
            panic!("there is no message")
        })
        .unwrap();
    assert_eq!((inbox.pending(), (8 << 20) - budget.free), (HEADER, HEADER));
    assert_eq!(allocated().bytes - before.bytes, HEADER as u64);
}

#[test]
fn row07_a_body_shorter_than_its_kind_is_malformed() {
    for (name, _) in golden::messages() {
        let whole = frame(name);
        let fixed = usize::from(u16::from_le_bytes([whole[HEADER], whole[HEADER + 1]]));
        for length in 0..fixed {
            let short = seal(&whole, &whole[HEADER..HEADER + length], &[]);
            expect_malformed(&short, HEADER);
        }
        // As long as it says, and too short for its kind.
        for length in [0, 2, 40, fixed - 1] {
            let said = u16::try_from(length).unwrap().to_le_bytes();
            if length < fixed {
                expect_malformed(&with(&whole, HEADER, &said), HEADER);
            }
        }
        let beyond = u16::try_from(checked(&whole) + 1).unwrap();
        expect_malformed(&with(&whole, HEADER, &beyond.to_le_bytes()), HEADER);
        expect_malformed(&with(&whole, HEADER, &u16::MAX.to_le_bytes()), HEADER);
    }
}

/// Every number of every kind, and every place between, at the edges where sums wrap.
/// The frame of before the fields were appended is read with their defaults; with them it has all of them, and something
/// in one of them.
#[test]
fn row07_appended_fields_are_whole_or_not_there() {
    let appended = [
        ("hello-membership", 88, 96),
        ("heartbeat-reply-promise", 48, 56),
        ("command-leader", 72, 80),
        ("read-lease", 48, 64),
        ("read-stale", 48, 64),
        ("status-reply-standings", 112, 128),
    ];
    for (name, before, fixed) in appended {
        let whole = frame(name);
        let (covered, _) = whole[HEADER..].split_at(checked(&whole));
        assert_eq!(whole[HEADER..HEADER + 2], u16::to_le_bytes(fixed), "{name}");
        let (appended, tail) = (usize::from(before), usize::from(fixed));
        for length in before..=fixed {
            let mut body = covered[..usize::from(length)].to_vec();
            body[..2].copy_from_slice(&length.to_le_bytes());
            body.extend_from_slice(&covered[tail..]);
            let forged = seal(&whole, &body, &[]);
            if length != before && length != fixed {
                expect_malformed(&forged, HEADER);
                continue;
            }
            let Ok(Decoded::Message { message, .. }) = decode(&forged) else {
                panic!("{name} with a fixed part of {length} bytes: {:?}", decode(&forged));
            };
            assert_eq!(forge::encode(&message), forged, "{name}");
            let says_nothing = match &message.body {
                Body::Hello(hello) => hello.membership.0 == 0,
                Body::HeartbeatReply(reply) => reply.promise_us == 0,
                Body::Command(command) => command.commit == Commit::Strong,
                Body::Read(read) => read.consistency == Consistency::Linearizable,
                Body::StatusReply(status) => (status.membership.0, status.snapshot.0) == (0, 0),
                other => panic!("{other:?}"),
            };
            assert_eq!(says_nothing, length == before, "{name}: {message:?}");
        }
        let zeros = with(&whole, HEADER + appended, &vec![0; tail - appended]);
        expect_malformed(&zeros, HEADER + appended);
    }
}

/// What is answered, and on what, is one of the numbers that there are, and has the fields of that one alone.
#[test]
fn row07_an_unknown_commit_consistency_or_basis_is_none() {
    for (name, at, known) in [("command-leader", 72, 2), ("read-stale", 48, 2)] {
        for number in known + 1..=u8::MAX {
            expect_malformed(&with(&frame(name), HEADER + at, &[number]), HEADER + at);
        }
    }
    let reply = frame("reply-lease");
    for number in (5..=u16::MAX).chain([0]) {
        expect_malformed(&with(&reply, HEADER + 42, &number.to_le_bytes()), HEADER + 42);
    }
    // An age belongs to what may be old alone.
    expect_malformed(&with(&reply, HEADER + 48, &[1]), HEADER + 48);
    expect_malformed(&with(&frame("read-lease"), HEADER + 56, &[1]), HEADER + 56);
    let linearizable = with(&frame("read-stale"), HEADER + 48, &[0]);
    expect_malformed(&linearizable, HEADER + 56);
}

#[test]
fn row07_no_member_has_more_than_all_of_a_snapshot() {
    let whole = frame("status-reply-snapshot");
    let learner = whole.windows(4).position(|part| part == [1, 57, 0, 0]);
    let percent = learner.expect("it has 57 % of one") + 1;
    for more in 101..=u8::MAX {
        expect_malformed(&with(&whole, percent, &[more]), percent);
    }
}

#[test]
fn row08_numbers_at_the_edges_never_wrap() {
    for (name, _) in golden::messages() {
        let whole = frame(name);
        for at in HEADER..HEADER + checked(&whole) - 4 {
            for edge in EDGES {
                forge::is_message(&with(&whole, at, &edge.to_le_bytes()));
            }
        }
        for at in HEADER..HEADER + checked(&whole) - 8 {
            for edge in [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1] {
                forge::is_message(&with(&whole, at, &edge.to_le_bytes()));
            }
        }
    }
}

#[test]
fn row08_the_index_of_the_last_entry_is_a_number() {
    let append = frame("append");
    let last = (u64::MAX - 4).to_le_bytes();
    assert!(forge::is_message(&with(&append, PREV_INDEX, &last)));
    for beyond in [u64::MAX - 3, u64::MAX] {
        expect_malformed(&with(&append, PREV_INDEX, &beyond.to_le_bytes()), RUNS);
    }
    assert!(forge::is_message(&with(
        &frame("append-probe"),
        PREV_INDEX,
        &u64::MAX.to_le_bytes()
    )));
}

/// Whoever puts a piece in its place may count on from its offset.
#[test]
fn row08_a_piece_lies_within_its_snapshot() {
    const BYTES: usize = 80;
    const OFFSET: usize = 96;
    for name in ["snapshot", "fetch-reply"] {
        let whole = frame(name);
        // The golden piece has seven bytes, its snapshot ten thousand.
        for offset in [0, 9992, 9993] {
            assert!(forge::is_message(&with(&whole, OFFSET, &u64::to_le_bytes(offset))));
        }
        for offset in [9994, 10_000, 10_001, 1 << 63, u64::MAX - 6, u64::MAX] {
            expect_malformed(&with(&whole, OFFSET, &offset.to_le_bytes()), OFFSET);
        }
        for bytes in [0, 6, 4096, 4102] {
            expect_malformed(&with(&whole, BYTES, &u64::to_le_bytes(bytes)), OFFSET);
        }
        assert!(forge::is_message(&with(&whole, BYTES, &u64::to_le_bytes(4103))));
    }
}

#[test]
fn row08_header_lengths_at_the_edges_are_refused() {
    for length in EDGES {
        for covered in EDGES.into_iter().chain([0, 40]) {
            let header = header(length, covered);
            for limits in [
                LIMITS,
                Limits::BEFORE_HELLO,
                Limits {
                    frame_max: usize::MAX,
                    ..LIMITS
                },
            ] {
                match decode_with(&header, &limits) {
                    Ok(Decoded::NeedMore { at_least }) => {
                        assert!(covered <= length && at_least == HEADER + length as usize);
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => assert!(
                        matches!(error, DecodeError::TooLarge | DecodeError::Malformed { offset: 12 }),
                        "{error:?}"
                    ),
                }
            }
        }
    }
}

#[test]
fn row09_a_count_of_entries_is_bounded_by_what_is_there() {
    let append = frame("append");
    let unlimited = Limits {
        entries_max: usize::MAX,
        ..LIMITS
    };
    for count in [5, 1000, 1 << 31, u32::MAX] {
        let bomb = with(&append, COUNT, &count.to_le_bytes());
        let before = allocated();
        let decoded = decode_with(&bomb, &unlimited);
        assert_eq!(allocated(), before, "a count of {count}");
        assert_eq!(
            decoded,
            Err(DecodeError::Malformed { offset: FIRST_ENTRY }),
            "a count of {count}"
        );
    }
    assert_eq!(
        decode_with(
            &append,
            &Limits {
                entries_max: 3,
                ..LIMITS
            }
        ),
        Err(DecodeError::TooLarge)
    );
    assert_eq!(decode_with(&append, &Limits::BEFORE_HELLO), Err(DecodeError::TooLarge));
}

#[test]
fn row09_a_count_of_runs_is_bounded_by_the_entries() {
    let append = frame("append");
    for runs in [0_u32, 1, 3, 5, 1 << 31, u32::MAX] {
        let bomb = with(&append, RUNS, &runs.to_le_bytes());
        let before = allocated();
        let decoded = decode(&bomb);
        // The table begins elsewhere then, so that its checksums may be the first to tell.
        assert!(decoded.is_err(), "{runs} runs: {decoded:?}");
        drop(decoded);
        assert!(allocated().bytes - before.bytes <= 4 * 40, "{runs} runs");
    }
    // Runs that have no entries, too many, or go on where the one before left off.
    for (at, value) in [
        (FIRST_RUN + 8, 0_u32),
        (FIRST_RUN + 8, 5),
        (FIRST_RUN + 24, 3),
        (FIRST_RUN + 24, u32::MAX),
    ] {
        expect_malformed(&with(&append, at, &value.to_le_bytes()), at);
    }
    expect_malformed(
        &with(&append, FIRST_RUN + 8, &1_u32.to_le_bytes()),
        FIRST_ENTRY + 3 * 12,
    );
    expect_malformed(&with(&append, FIRST_RUN + 16, &5_u64.to_le_bytes()), FIRST_RUN + 16);
}

#[test]
fn row09_a_count_of_members_is_bounded_by_what_is_there() {
    let status = frame("status-reply");
    for count in [4, 1 << 31, u32::MAX] {
        let bomb = with(&status, 68, &count.to_le_bytes());
        let before = allocated();
        let decoded = decode(&bomb);
        assert!(
            matches!(decoded, Err(DecodeError::Malformed { .. })),
            "{count} members: {decoded:?}"
        );
        drop(decoded);
        assert!(allocated().bytes - before.bytes <= 4 * 64, "{count} members");
    }
}

#[test]
fn row10_a_part_longer_than_the_frame_is_malformed() {
    // The frame, where a length stands, what it is, and where its part begins.
    for (name, at, length, part) in [
        ("hello-peer", 76, 5_u32, 112),
        ("hello-membership", 76, 5, 120),
        ("goaway", 68, 37, 72),
        ("command", 88, 13, 96),
        ("read", 64, 7, 72),
        ("snapshot", 92, 7, 104),
        ("fetch-reply", 92, 7, 104),
        ("change-add", 68, 13, 88),
        ("change-replace", 68, 13, 88),
        ("change-move", 68, 13, 88),
        ("reply-committed", 68, 5, 80),
        ("reply-refused", 68, 12, 80),
        ("status-reply", 128, 5, 136),
        ("status-reply", 132, 5, 141),
        ("status-reply", 146 + 24, 13, 178),
        ("status-reply-standings", 128, 5, 152),
        ("status-reply-standings", 162 + 24, 14, 194),
    ] {
        let whole = frame(name);
        assert_eq!(whole[at..at + 4], length.to_le_bytes(), "{name} has its length at {at}");
        let rest = HEADER + checked(&whole) - part;
        for beyond in [rest as u32 + 1, TEXT_MAX, TEXT_MAX + 1, 1 << 31, u32::MAX] {
            match decode(&with(&whole, at, &beyond.to_le_bytes())) {
                Err(DecodeError::Malformed { offset }) => assert_eq!(offset, part, "{name}"),
                Err(DecodeError::TooLarge) => assert!(beyond > TEXT_MAX, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

const TEXT_MAX: u32 = kraft_protocols::binary::TEXT_MAX as u32;

#[test]
fn row10_payloads_are_exactly_those_of_the_table() {
    let append = frame("append");
    let covered = HEADER + checked(&append);
    for length in [4_u32, 8, u32::MAX] {
        assert!(
            !forge::is_message(&with(&append, FIRST_ENTRY, &length.to_le_bytes())),
            "a payload of {length} bytes"
        );
    }
    expect_malformed(&with(&append, FIRST_ENTRY + 36, &5_u32.to_le_bytes()), covered + 3);
    let (body, payloads) = append[HEADER..].split_at(covered - HEADER);
    expect_malformed(
        &seal(&append, body, &[payloads, b"more"].concat()),
        covered + payloads.len(),
    );
    expect_malformed(&seal(&append, body, &payloads[..6]), covered + 3);
    let probe = frame("append-probe");
    expect_malformed(&seal(&probe, &probe[HEADER..], b"more"), probe.len());
    // No other kind has any.
    let command = frame("command");
    let (front, back) = command[HEADER..].split_at(80);
    expect_malformed(&seal(&command, front, back), HEADER + 80);
}

#[test]
fn row15_foreign_and_damaged_frames_are_told_apart() {
    let whole = frame("append");
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], DecodeError::BadMagic(Foreign::Http)),
        (
            &[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3],
            DecodeError::BadMagic(Foreign::Tls),
        ),
        (&[0; 100], DecodeError::BadMagic(Foreign::Other)),
    ] {
        for length in [1, 2, bytes.len()] {
            let decoded = decode(&bytes[..length]);
            assert!(matches!(decoded, Err(DecodeError::BadMagic(_))), "{decoded:?}");
        }
        assert_eq!(decode(bytes), Err(expected));
    }
    // A payload has a checksum of its own.
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 0x80;
    assert_eq!(decode(&damaged), Err(DecodeError::BadChecksum));
}

/// Every reserved byte, flag and number of every kind.
#[test]
fn row15_reserved_bits_and_unknown_values_are_malformed() {
    for (name, at) in [
        ("status", 26),
        ("hello-peer", 64),
        ("hello-peer", 65),
        ("hello-peer", 70),
        ("welcome", 66),
        ("goaway", 64),
        ("goaway", 66),
        ("append", FIRST_RUN + 12),
        ("append", FIRST_ENTRY + 8),
        ("append", FIRST_ENTRY + 9),
        ("append-matched", 72),
        ("append-matched", 73),
        ("append-matched", 88),
        ("append-rejected", 73),
        ("vote", 64),
        ("vote", 65),
        ("vote-granted", 64),
        ("vote-granted", 65),
        ("read-index-at", 64),
        ("read-index-at", 65),
        ("read-index-refused", 72),
        ("command", 92),
        ("read", 68),
        ("reply-committed", 64),
        ("reply-committed", 65),
        ("reply-committed", 66),
        ("reply-committed", 72),
        ("reply-refused", 66),
        ("reply-unknown", 68),
        ("reply-unknown", 72),
        ("status-reply", 64),
        ("status-reply", 65),
        ("status-reply", 146 + 28),
        ("status-reply", 146 + 29),
        ("snapshot-received", 92),
        ("snapshot-received", 93),
        ("snapshot-no-space", 93),
        ("snapshot-no-space", 96),
        ("snapshot-damaged", 96),
        ("change-add", 64),
        ("change-add", 65),
        ("change-add", 66),
        ("change-add", 80),
        ("change-promote", 65),
        ("change-promote", 68),
        ("change-promote", 80),
        ("change-remove", 68),
        ("change-replace", 65),
        ("change-move", 65),
        ("change-move", 80),
        ("fetch", 92),
    ] {
        let whole = frame(name);
        let decoded = decode(&with(&whole, at, &[0xf0])).map(|decoded| format!("{decoded:?}"));
        let Err(DecodeError::Malformed { offset }) = decoded else {
            panic!("{name}, byte {at}: {decoded:?}");
        };
        assert!(
            offset <= at && at - offset < 16,
            "{name}, byte {at}: the error names {offset}"
        );
    }
}

#[test]
fn row15_trailing_garbage_is_malformed() {
    for (name, _) in golden::messages() {
        let whole = frame(name);
        let covered = HEADER + checked(&whole);
        let body = [&whole[HEADER..covered], b"?"].concat();
        expect_malformed(&seal(&whole, &body, &whole[covered..]), covered);
    }
}

#[test]
fn row15_texts_are_utf_8() {
    for (name, at) in [
        ("hello-peer", 112),
        ("goaway", 72),
        ("reply-refused", 80),
        ("status-reply", 178),
        ("change-add", 88),
    ] {
        let whole = frame(name);
        for bad in [&[0xff][..], &[0xc0, 0x80], &[0xed, 0xa0, 0x80]] {
            expect_malformed(&with(&whole, at, bad), at);
        }
    }
}

/// What is accepted has one encoding: no bytes hide in a frame that its message does not tell of.
#[test]
fn row15_an_accepted_frame_is_the_only_one_of_its_message() {
    let mut accepted = 0;
    for (name, _) in golden::messages() {
        let whole = frame(name);
        // Behind the first two bytes, by which a newer version says that it has more.
        for at in HEADER + 2..HEADER + checked(&whole) {
            for value in [0, 1, 2, 3, 0x7f, 0x80, 0xff] {
                let changed = with(&whole, at, &[value]);
                if let Ok(Decoded::Message { message, .. }) = decode(&changed) {
                    assert_eq!(forge::encode(&message), changed, "{name}, byte {at}");
                    accepted += 1;
                }
            }
        }
    }
    assert!(accepted > 1000, "the numbers of a message may be anything");
}

#[test]
fn row16_frames_across_reads_are_the_same_messages() {
    let entries = forge::entries(20, 300);
    let append = Message {
        header: golden::messages()[0].1.header,
        body: Body::Append(Append {
            prev_index: kraft_core::id::Index(1),
            prev_term: kraft_core::id::Term(1),
            commit: kraft_core::id::Index(0),
            round: kraft_core::id::Round(1),
            entries: Entries::Shared(&entries, &[]),
        }),
    };
    let one = forge::encode(&append);
    let bytes = one.repeat(10);
    for size in [1, 2, 23, 24, 25, 100, one.len() - 1, one.len(), one.len() + 1, 64 << 10] {
        let mut budget = Budget::new(one.len() * 2);
        let mut inbox = Inbox::default();
        let mut count = 0;
        for piece in bytes.chunks(size) {
            let fed = inbox.feed(&Binary, &LIMITS, &mut budget, piece, |message| {
                assert_eq!(message, append);
                count += 1;
                ControlFlow::Continue(())
            });
            fed.unwrap();
        }
        assert_eq!((count, inbox.pending()), (10, 0), "in pieces of {size}");
    }
}

/// A format from elsewhere that says it consumed what is not there.
struct Lying(usize);

impl Protocol for Lying {
    fn encode(&self, message: &Message<'_>, frame_max: usize, out: &mut Outbox) -> Result<(), EncodeError> {
        Binary.encode(message, frame_max, out)
    }

    fn decode<'a>(&self, input: &'a [u8], limits: &Limits, _: &'a mut Vec<u8>) -> Result<Decoded<'a>, DecodeError> {
        Ok(match Binary.decode(input, limits)? {
            Decoded::Message { message, .. } => Decoded::Message {
                message,
                consumed: self.0,
            },
            more => more,
        })
    }

    fn name(&self) -> &'static str {
        "lying"
    }
}

#[test]
fn row17_a_protocol_that_consumes_what_is_not_there_ends_its_connection() {
    let status = frame("status");
    for lie in [0, status.len() + 1, usize::MAX] {
        for pieces in [[&status[..], &[]], [&status[..30], &status[30..]]] {
            let mut budget = Budget::new(1000);
            let mut inbox = Inbox::default();
            let fed = pieces.iter().try_for_each(|piece| {
                inbox.feed(&Lying(lie), &LIMITS, &mut budget, piece, |_| {
                    panic!("it is not believed")
                })
            });
            assert_eq!(fed, Err(InboxError::BadProtocol), "consumed {lie} of {}", status.len());
        }
    }
}

#[test]
fn row44_texts_are_bounded_on_both_ways() {
    let text = "x".repeat(TEXT_MAX as usize + 1);
    let goaway = |detail| Message {
        header: golden::messages()[0].1.header,
        body: Body::Goaway(Goaway {
            reason: GoawayReason::Malformed,
            detail,
        }),
    };
    let longest = forge::encode(&goaway(&text[1..]));
    assert!(forge::is_message(&longest));
    let mut out = Outbox::new(1 << 20);
    let encoded = Binary.encode(&goaway(&text), LIMITS.frame_max, &mut out);
    assert_eq!((encoded, out.len()), (Err(EncodeError::TooLarge), 0));

    let mut body = [&longest[HEADER..], b"x"].concat();
    body[44..48].copy_from_slice(&(TEXT_MAX + 1).to_le_bytes());
    assert_eq!(decode(&seal(&longest, &body, &[])), Err(DecodeError::TooLarge));
}
