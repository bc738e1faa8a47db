//! What a fuzzer would try, replayed from a seed on stable Rust: mutated frames, random bytes, messages in any order.
//!
//! `KRAFT_SEED` tries others.

use std::env;
use std::ops::ControlFlow;

use fastrand::Rng;
use kraft_core::handshake::{Handshake, Identity, Kind, Member, Policy, Side, Step};
use kraft_core::id::{Incarnation, NodeId};
use kraft_core::inbox::{Budget, Inbox, InboxError};
use kraft_core::message::{Body, Role};
use kraft_core::protocol::{DecodeError, Decoded, Limits};
use kraft_core::time::Instant;
use kraft_protocols::Binary;
use kraft_protocols::conformance::{LIMITS, Sample, golden};
use kraft_protocols::frame::{Envelope, HEADER};

use crate::counting::allocated;
use crate::forge;

const TRIES: usize = 100_000;

fn rng() -> Rng {
    let seed = env::var("KRAFT_SEED").map_or(7, |seed| seed.parse().expect("KRAFT_SEED is a number"));
    println!("KRAFT_SEED={seed}");
    Rng::with_seed(seed)
}

fn frames() -> Vec<Vec<u8>> {
    let golden = golden::messages();
    // Small ones: a mutation of a field is one of many, not one of payloads.
    let samples: Vec<_> = (0..12).flat_map(|seed| Sample::each_kind(3 * seed)).collect();
    let samples = samples.iter().map(|sample| forge::encode(&sample.message()));
    golden
        .iter()
        .map(|(_, message)| forge::encode(message))
        .chain(samples.filter(|frame| frame.len() < 400))
        .collect()
}

/// One to four of what happens to bytes, by accident or not.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    for _ in 0..rng.usize(1..=4) {
        let length = bytes.len();
        let at = rng.usize(0..=length.saturating_sub(1));
        match rng.u8(0..8) {
            _ if bytes.is_empty() => bytes.push(rng.u8(..)),
            0 => bytes[at] ^= 1 << rng.u8(0..8),
            1 => bytes[at] = rng.u8(..),
            2 => {
                let edge = rng
                    .choice([0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX - 24, u32::MAX])
                    .unwrap()
                    .to_le_bytes();
                let count = edge.len().min(length - at);
                bytes[at..at + count].copy_from_slice(&edge[..count]);
            }
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..length.min(at + rng.usize(1..20)))),
            5 => {
                let mut more = vec![0; rng.usize(1..20)];
                rng.fill(&mut more);
                drop(bytes.splice(at..at, more));
            }
            6 => {
                let again = bytes[at..length.min(at + rng.usize(1..40))].to_vec();
                drop(bytes.splice(at..at, again));
            }
            _ => {
                let other = rng.choice(others).unwrap();
                bytes.truncate(at);
                bytes.extend_from_slice(&other[at.min(other.len())..]);
            }
        }
    }
}

/// Makes length and checksums fit, so that what is behind them is reached.
fn reseal(rng: &mut Rng, frame: &mut [u8]) {
    if frame.len() < HEADER {
        return;
    }
    let length = frame.len() - HEADER;
    let said = u32::from_le_bytes(frame[12..16].try_into().unwrap()) as usize;
    // Mostly what the frame had; an append has payloads behind it.
    let checked = if rng.u8(0..4) == 0 { length } else { said.min(length) };
    let envelope = Envelope {
        format: 1,
        kind: u16::from_le_bytes([frame[6], frame[7]]),
        length: u32::try_from(length).unwrap(),
        checked: u32::try_from(checked).unwrap(),
        body_crc: crc32c::crc32c(&frame[HEADER..HEADER + checked]),
    };
    frame[..HEADER].copy_from_slice(&envelope.to_bytes());
}

/// What holds of any bytes. Returns whether they began with a message.
fn judge(bytes: &[u8], limits: &Limits) -> bool {
    let before = allocated();
    let decoded = forge::decode_with(bytes, limits);
    let taken = allocated().bytes - before.bytes;
    // A row of twelve bytes becomes one of forty.
    assert!(
        taken <= 4 * bytes.len() as u64,
        "{taken} bytes allocated for {}",
        bytes.len()
    );
    match decoded {
        Ok(Decoded::Message { message, consumed }) => {
            assert!((HEADER..=bytes.len().min(limits.frame_max)).contains(&consumed));
            let again = forge::encode(&message);
            let is_newer = bytes[HEADER..HEADER + 2] != again[HEADER..HEADER + 2];
            assert!(is_newer || again == bytes[..consumed], "one message has two encodings");
            true
        }
        Ok(Decoded::NeedMore { at_least }) => {
            assert!(bytes.len() < at_least && at_least <= limits.frame_max);
            false
        }
        Err(DecodeError::UnknownKind { consumed, .. }) => {
            assert!((HEADER..=bytes.len().min(limits.frame_max)).contains(&consumed));
            false
        }
        Err(DecodeError::Malformed { offset }) => {
            assert!(offset <= bytes.len());
            false
        }
        Err(_) => false,
    }
}

/// How many messages come of the bytes, cut by `cut`, and how it ended.
fn feed(bytes: &[u8], mut cut: impl FnMut(usize) -> usize) -> (usize, Option<InboxError>) {
    let mut inbox = Inbox::default();
    let mut budget = Budget::new(1 << 20);
    let mut count = 0;
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(cut(rest.len()));
        rest = after;
        let fed = inbox.feed(&Binary, &LIMITS, &mut budget, piece, |_| {
            count += 1;
            ControlFlow::Continue(())
        });
        if let Err(error) = fed {
            return (count, Some(error));
        }
    }
    inbox.clear(&mut budget);
    assert_eq!(budget.free, 1 << 20, "what was taken of the budget is given back");
    (count, None)
}

#[test]
fn mutated_frames_do_no_harm() {
    let mut rng = rng();
    let frames = frames();
    let (mut messages, mut refused) = (0, 0);
    for _ in 0..TRIES {
        let mut bytes = rng.choice(&frames).unwrap().clone();
        mutate(&mut rng, &mut bytes, &frames);
        if rng.u8(0..4) > 0 {
            reseal(&mut rng, &mut bytes);
        }
        let limits = if rng.u8(0..8) == 0 {
            Limits::BEFORE_HELLO
        } else {
            LIMITS
        };
        if judge(&bytes, &limits) {
            messages += 1;
        } else {
            refused += 1;
        }
    }
    assert!(
        messages > TRIES / 20 && refused > TRIES / 20,
        "{messages} messages, {refused} not: both are tried"
    );
}

#[test]
fn mutated_streams_are_cut_alike_wherever_reads_end() {
    let mut rng = rng();
    let frames = frames();
    let mut ends = [0, 0];
    for _ in 0..TRIES / 20 {
        let mut bytes = Vec::new();
        for _ in 0..rng.usize(1..6) {
            let mut frame = rng.choice(&frames).unwrap().clone();
            if rng.u8(0..6) == 0 {
                mutate(&mut rng, &mut frame, &frames);
                reseal(&mut rng, &mut frame);
            }
            bytes.extend_from_slice(&frame);
        }
        let whole = feed(&bytes, |length| length);
        let size = rng.usize(1..200);
        let pieces = feed(&bytes, |length| rng.usize(1..=size).min(length));
        assert_eq!(pieces, whole);
        ends[usize::from(whole.1.is_some())] += 1;
    }
    assert!(
        ends.iter().all(|&count| count > TRIES / 200),
        "{ends:?}: both are tried"
    );
}

#[test]
fn random_bytes_do_no_harm() {
    let mut rng = rng();
    for _ in 0..TRIES {
        let mut bytes = vec![0; rng.usize(0..200)];
        rng.fill(&mut bytes);
        if rng.bool() {
            // A header that is believed, and anything behind it.
            let kinds = [
                1_u16, 2, 3, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42,
            ];
            if let Some(kind) = bytes.get_mut(6..8) {
                kind.copy_from_slice(&rng.choice(kinds).unwrap().to_le_bytes());
            }
            reseal(&mut rng, &mut bytes);
        }
        judge(&bytes, &LIMITS);
        feed(&bytes, |length| length.min(7));
    }
}

struct Everybody;

impl Policy for Everybody {
    fn member(&self, node: NodeId) -> Member {
        match node.0 % 3 {
            0 => Member::Unknown,
            1 => Member::New,
            _ => Member::Known(Incarnation(1)),
        }
    }

    fn heard(&self, node: NodeId) -> Option<Instant> {
        (node.0.is_multiple_of(5)).then_some(Instant::ZERO)
    }

    fn is_own_nonce(&self, nonce: u64) -> bool {
        nonce.is_multiple_of(2)
    }
}

/// Any messages, in any order, on either side: nothing but a hello or welcome comes first, what was agreed on stays,
/// and what passes is what the role may send.
#[test]
fn messages_in_any_order_keep_to_the_handshake() {
    let mut rng = rng();
    let node = Identity::node("blue", NodeId(1), Incarnation(1), 1 << 20);
    let client = Identity::client(None, 1 << 16);
    let mut established = 0;
    let mut passed = 0;
    for _ in 0..TRIES / 25 {
        let local = if rng.bool() { &node } else { &client };
        let mut handshake = match rng.u8(0..3) {
            0 => Handshake::dial(NodeId(rng.u64(0..3)), 2, Instant::ZERO),
            1 => Handshake::accept(None, Instant::ZERO),
            _ => Handshake::accept(Some(Role::Peer), Instant::ZERO),
        };
        for _ in 0..20 {
            let sample = Sample::new(rng.choice(Kind::ALL).unwrap(), 3 * rng.u64(0..1 << 60));
            let mut message = sample.message();
            let agreed = handshake.established().copied();
            plausible(&mut rng, &mut message, &node);
            if let Some(agreed) = agreed.filter(|_| rng.bool()) {
                message.header.from = agreed.node;
            }
            let before = allocated();
            let step = handshake.receive(&message, local, &Everybody, Instant::from_nanos(rng.u64(..)));
            match step {
                Step::Pass => {
                    let agreed = agreed.expect("nothing passes before the handshake is through");
                    assert_eq!((message.header.from, allocated()), (agreed.node, before));
                    passed += 1;
                }
                Step::Established { established: now, send } => {
                    assert_eq!((agreed, handshake.established()), (None, Some(&now)));
                    assert_eq!(send.is_some(), handshake.side() == Side::Acceptor);
                    established += 1;
                }
                Step::Reject(rejection) => assert!(rejection.detail.len() <= 256),
                Step::Gone(reason) => {
                    assert!(matches!(message.body, Body::Goaway(goaway) if goaway.reason == reason));
                }
            }
            if let Some(agreed) = agreed {
                assert_eq!(handshake.established(), Some(&agreed), "what was agreed on stays");
            }
        }
    }
    assert!(
        established > 200 && passed > 300,
        "{established} established, {passed} passed"
    );
}

/// Puts right, now and then, what a handshake would turn away.
fn plausible(rng: &mut Rng, message: &mut kraft_core::message::Message<'_>, node: &Identity) {
    if rng.u8(0..8) > 0 {
        message.header.cluster = node.cluster;
        message.header.group = kraft_core::id::GroupId(0);
        message.header.from = NodeId(rng.u64(0..3));
    }
    match &mut message.body {
        Body::Hello(hello) if rng.u8(0..8) > 0 => {
            hello.cluster_name = "blue";
            hello.versions.min = 1;
            hello.to = NodeId(rng.u64(0..2));
            hello.incarnation = Incarnation(rng.u64(0..2));
        }
        Body::Welcome(welcome) if rng.u8(0..8) > 0 => {
            welcome.version = 1;
            welcome.nonce = 2;
            welcome.incarnation = Incarnation(rng.u64(0..2));
        }
        _ => {}
    }
}
