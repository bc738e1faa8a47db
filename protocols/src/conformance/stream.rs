//! Laws about frames in a stream: P1-P4 and P6.

use std::ops::ControlFlow;

use kraft_core::inbox::{Budget, Inbox};
use kraft_core::protocol::{Decoded, Protocol};

use super::{LIMITS, Sample, Subject, seed};

/// P1: what is encoded decodes to an equal message.
pub fn p01_round_trip<P: Protocol>(subject: &Subject<P>) {
    let first = seed();
    for sample in (first..first + 100).flat_map(Sample::each_kind) {
        let message = sample.message();
        let frame = subject.frame(&message);
        subject.expect_message(&frame, &message, frame.len());
    }
}

/// P2: however the bytes are cut, feeding them to an inbox gives the same messages.
pub fn p02_split<P: Protocol>(subject: &Subject<P>) {
    let first = seed();
    // Small samples: every point. Three in a row, so that the middle one's ends are cuts, too.
    let small: Vec<_> = (0..3).flat_map(|at| Sample::each_kind((first + at) * 3)).collect();
    for samples in small.windows(3).step_by(2) {
        let bytes: Vec<u8> = samples
            .iter()
            .flat_map(|sample| subject.frame(&sample.message()))
            .collect();
        for cut in 0..=bytes.len() {
            let (one, other) = bytes.split_at(cut);
            expect_fed(subject, [one, other].into_iter(), samples);
        }
        expect_fed(subject, bytes.chunks(1), samples);
        expect_fed(subject, bytes.chunks(7), samples);
    }
    // Large ones: pieces of random sizes.
    let mut rng = fastrand::Rng::with_seed(first);
    for round in 0..30 {
        let samples: Vec<_> = Sample::each_kind((first + round) * 3 + 2).collect();
        let bytes: Vec<u8> = samples
            .iter()
            .flat_map(|sample| subject.frame(&sample.message()))
            .collect();
        let mut rest = &bytes[..];
        let pieces = std::iter::from_fn(|| {
            let (piece, after) = rest.split_at(rest.len().min(rng.usize(1..10_000)));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        });
        expect_fed(subject, pieces, &samples);
    }
}

#[track_caller]
fn expect_fed<'a, P: Protocol>(subject: &Subject<P>, pieces: impl Iterator<Item = &'a [u8]>, samples: &[Sample]) {
    let mut inbox = Inbox::default();
    let mut budget = Budget::new(2 * LIMITS.frame_max);
    let mut expected = samples.iter();
    for piece in pieces {
        let fed = inbox.feed(&subject.protocol, &LIMITS, &mut budget, piece, |message| {
            let sample = expected.next().expect("no more messages come than were sent");
            assert_eq!(message, sample.message());
            ControlFlow::Continue(())
        });
        fed.expect("the frames are whole and undamaged");
    }
    assert_eq!(
        (expected.len(), inbox.pending()),
        (0, 0),
        "every message came, and nothing is left"
    );
}

/// P3: frames put one after the other decode one after the other.
pub fn p03_concatenation<P: Protocol>(subject: &Subject<P>) {
    let first = seed();
    let samples: Vec<_> = (first..first + 10).flat_map(Sample::each_kind).collect();
    let mut out = kraft_core::outbox::Outbox::new(64 << 20);
    for sample in &samples {
        let encoded = subject.protocol.encode(&sample.message(), LIMITS.frame_max, &mut out);
        encoded.expect("there is room for all samples");
    }
    let bytes = super::contents(&mut out);
    let mut rest = &bytes[..];
    for sample in &samples {
        let mut scratch = Vec::new();
        let Ok(Decoded::Message { message, consumed }) = subject.protocol.decode(rest, &LIMITS, &mut scratch) else {
            panic!("no message where {:?} should be", sample.message());
        };
        assert_eq!(message, sample.message());
        rest = &rest[consumed..];
    }
    assert_eq!(rest, [0; 0], "nothing is left");
}

/// P4: a prefix of a frame asks for more, but never for more than the frame has.
pub fn p04_truncation<P: Protocol>(subject: &Subject<P>) {
    let first = seed();
    for sample in (first..first + 6).flat_map(Sample::each_kind) {
        let frame = subject.frame(&sample.message());
        // Every prefix of small frames; of large ones the first, the last and some between.
        let step = 1 + frame.len() / 2000;
        let some = (0..frame.len()).step_by(step);
        for length in some.chain(frame.len().saturating_sub(100)..frame.len()) {
            match subject.protocol.decode(&frame[..length], &LIMITS, &mut Vec::new()) {
                Ok(Decoded::NeedMore { at_least }) => assert!(
                    (length + 1..=frame.len()).contains(&at_least),
                    "{length} of {} bytes ask for {at_least}",
                    frame.len()
                ),
                other => panic!("{length} of {} bytes are {other:?}", frame.len()),
            }
        }
    }
}

/// P6: `consumed` is exactly the frame, whatever comes after it.
pub fn p06_consumed<P: Protocol>(subject: &Subject<P>) {
    let first = seed();
    for sample in (first..first + 30).flat_map(Sample::each_kind) {
        let message = sample.message();
        let mut bytes = subject.frame(&message);
        let length = bytes.len();
        let next = bytes.clone();
        for after in [&[0_u8; 64][..], &[0xff; 64], b"GET / HTTP/1.1\r\n\r\n", b"}]\n ", &next] {
            bytes.truncate(length);
            bytes.extend_from_slice(after);
            subject.expect_message(&bytes, &message, length);
        }
    }
}
