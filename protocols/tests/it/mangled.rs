//! Bodies of `protobuf`, `msgpack` and `json` to which something happened, sealed again: replayed from a seed, and by
//! proptest, which makes what it finds smaller.
//!
//! `KRAFT_SEED` tries others.

use std::env;

use fastrand::Rng;
use kraft_core::handshake::Kind;
use kraft_core::protocol::{DecodeError, Decoded, Protocol};
use kraft_protocols::conformance::{LIMITS, Sample, Subject, golden};
use kraft_protocols::frame::HEADER;
use kraft_protocols::{Any, Format};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use crate::counting::allocated;
use crate::forge;

const TRIES: usize = 60_000;

fn seed() -> u64 {
    let seed = env::var("KRAFT_SEED").map_or(7, |seed| seed.parse().expect("KRAFT_SEED is a number"));
    println!("KRAFT_SEED={seed}");
    seed
}

/// Kinds and bodies of golden messages and of small drawn ones.
fn bodies(format: Format) -> Vec<(Kind, Vec<u8>)> {
    let subject = Subject::from(Any::new(format));
    let of = |message: &_| subject.frame(message)[HEADER..].to_vec();
    let golden = golden::messages();
    let samples: Vec<_> = (0..12).flat_map(|seed| Sample::each_kind(3 * seed)).collect();
    let golden = golden.iter().map(|(_, message)| (Kind::of(&message.body), of(message)));
    let drawn = samples.iter().map(|sample| (sample.kind(), of(&sample.message())));
    golden.chain(drawn.filter(|(_, body)| body.len() < 600)).collect()
}

/// One to three of what happens to bytes.
fn mangle(rng: &mut Rng, body: &mut Vec<u8>, others: &[(Kind, Vec<u8>)]) {
    for _ in 0..rng.usize(1..=3) {
        let length = body.len();
        let at = rng.usize(0..=length.saturating_sub(1));
        match rng.u8(0..8) {
            _ if body.is_empty() => body.push(rng.u8(..)),
            0 => body[at] ^= 1 << rng.u8(0..8),
            1 => body[at] = rng.u8(..),
            2 => {
                body[at] = rng
                    .choice([0x80, 0xc1, 0xdd, 0xdf, 0xff, b'"', b'[', b'{', b'\\', b'9'])
                    .unwrap()
            }
            3 => body.truncate(at),
            4 => drop(body.drain(at..length.min(at + rng.usize(1..20)))),
            5 => {
                let again = body[at..length.min(at + rng.usize(1..40))].to_vec();
                drop(body.splice(at..at, again));
            }
            6 => {
                let mut more = vec![0; rng.usize(1..12)];
                rng.fill(&mut more);
                drop(body.splice(at..at, more));
            }
            _ => {
                let (_, other) = rng.choice(others).unwrap();
                body.truncate(at);
                body.extend_from_slice(&other[at.min(other.len())..]);
            }
        }
    }
}

/// What holds of any body. Returns whether it was a message.
fn judge(format: Format, kind: Kind, body: &[u8], scratch: &mut Vec<u8>) -> bool {
    let frame = forge::made(format, kind, body);
    scratch.reserve(frame.len());
    let before = allocated();
    let decoded = Any::new(format).decode(&frame, &LIMITS, scratch);
    let taken = allocated().bytes - before.bytes;
    // An entry of three bytes becomes one of forty, and for an error text is made.
    assert!(
        taken <= 64 * frame.len() as u64 + 512,
        "{taken} bytes for {}",
        frame.len()
    );
    match decoded {
        Ok(Decoded::Message { message, consumed }) => {
            assert_eq!(consumed, frame.len());
            let again = Subject::from(Any::new(format)).frame(&message);
            let mut scratch = Vec::new();
            let decoded = Any::new(format).decode(&again, &LIMITS, &mut scratch);
            let consumed = again.len();
            assert_eq!(decoded, Ok(Decoded::Message { message, consumed }));
            true
        }
        Ok(more) => panic!("{more:?}"),
        Err(DecodeError::Malformed { offset }) => {
            assert!((HEADER..=frame.len()).contains(&offset), "{offset} of {}", frame.len());
            false
        }
        Err(DecodeError::BadChecksum | DecodeError::TooLarge) => false,
        Err(other) => panic!("{other:?}"),
    }
}

fn mangled_bodies_do_no_harm(format: Format) {
    let mut rng = Rng::with_seed(seed());
    let bodies = bodies(format);
    let mut scratch = Vec::new();
    let mut messages = 0;
    for _ in 0..TRIES {
        let (kind, mut body) = rng.choice(&bodies).unwrap().clone();
        mangle(&mut rng, &mut body, &bodies);
        // A body of another kind, now and then.
        let kind = if rng.u8(0..8) == 0 {
            rng.choice(Kind::ALL).unwrap()
        } else {
            kind
        };
        messages += usize::from(judge(format, kind, &body, &mut scratch));
    }
    let refused = TRIES - messages;
    assert!(
        messages > TRIES / 100 && refused > TRIES / 20,
        "{messages} messages, {refused} not: both are tried"
    );
}

#[test]
fn mangled_protobuf_does_no_harm() {
    mangled_bodies_do_no_harm(Format::Protobuf);
}

#[test]
fn mangled_msgpack_does_no_harm() {
    mangled_bodies_do_no_harm(Format::Msgpack);
}

#[test]
fn mangled_json_does_no_harm() {
    mangled_bodies_do_no_harm(Format::Json);
}

/// Runs a property; what fails is made small before it is told.
#[track_caller]
fn hold<S: Strategy>(cases: u32, of: &S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    match TestRunner::new_with_rng(config, rng).run(of, property) {
        Ok(()) => {}
        Err(TestError::Fail(why, value)) => panic!("{why}\nleast: {value:?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// A message is the same in every format, and says the same when it comes back from any of them by way of another.
#[test]
fn a_message_is_the_same_in_every_format() {
    let of = (
        select(&Kind::ALL[..]),
        any::<u64>(),
        select(Format::ALL),
        select(Format::ALL),
    );
    hold(4_000, &of, |(kind, seed, one, other)| {
        let sample = Sample::new(kind, seed);
        let message = sample.message();
        let first = Subject::from(Any::new(one)).frame(&message);
        let mut scratch = Vec::new();
        let decoded = Any::new(other).decode(&first, &LIMITS, &mut scratch);
        let Ok(Decoded::Message {
            message: read,
            consumed,
        }) = decoded
        else {
            return Err(TestCaseError::fail(format!("{one}: {decoded:?}")));
        };
        prop_assert_eq!(&read, &message);
        prop_assert_eq!(consumed, first.len());
        let second = Subject::from(Any::new(other)).frame(&read);
        prop_assert_eq!(second, Subject::from(Any::new(other)).frame(&message));
        Ok(())
    });
}

/// Any bytes at all as the body of any kind: an error with its place, or a message.
#[test]
fn any_body_is_a_message_or_an_error_with_its_place() {
    let formats = select(&Format::ALL[1..]);
    let byte = prop_oneof![
        any::<u8>(),
        select(&b"\x80\x81\x82\xa1\xc4\x08\x10\x18\x30[]{}\",:019"[..])
    ];
    let of = (formats, select(&Kind::ALL[..]), prop::collection::vec(byte, 0..60));
    hold(20_000, &of, |(format, kind, body)| {
        judge(format, kind, &body, &mut Vec::new());
        Ok(())
    });
}

/// However a frame of any format is cut, and whatever format came before it, it is the same message.
#[test]
fn frames_of_all_formats_follow_each_other() {
    use kraft_core::inbox::{Budget, Inbox};
    use std::ops::ControlFlow;

    let one = (select(&Kind::ALL[..]), any::<u64>(), select(Format::ALL));
    let of = (
        prop::collection::vec(one, 1..6),
        prop::collection::vec(1..3000_usize, 1..8),
    );
    hold(600, &of, |(frames, cuts)| {
        let samples: Vec<_> = frames.iter().map(|(kind, seed, _)| Sample::new(*kind, *seed)).collect();
        let bytes: Vec<u8> = (samples.iter().zip(&frames))
            .flat_map(|(sample, (.., format))| Subject::from(Any::new(*format)).frame(&sample.message()))
            .collect();
        let mut inbox = Inbox::default();
        let mut budget = Budget::new(8 << 20);
        let mut rest = &bytes[..];
        let mut expected = samples.iter();
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at(rest.len().min(*cut));
            rest = after;
            let fed = inbox.feed(&Any::new(Format::Binary), &LIMITS, &mut budget, piece, |message| {
                assert_eq!(Some(message), expected.next().map(Sample::message));
                ControlFlow::Continue(())
            });
            prop_assert_eq!(fed, Ok(()));
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!((expected.len(), inbox.pending()), (0, 0));
        Ok(())
    });
}
