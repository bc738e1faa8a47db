//! Laws about bytes that are no message, or one that is too large: P5, P7 and P8.

use kraft_core::handshake::Kind;
use kraft_core::message::{Body, Message};
use kraft_core::outbox::Outbox;
use kraft_core::protocol::{DecodeError, Decoded, EncodeError, Limits, Protocol};

use super::{LIMITS, Sample, Subject, seed, skipped};
use crate::frame::{HEADER, MAGIC};

/// P5: a flipped bit is an error: no message, no panic, and no wait for bytes that never come. And it is told from a
/// version or kind that is not known here (P8).
pub fn p05_damage<P: Protocol>(subject: &Subject<P>) {
    let first = seed();
    for sample in (first..first + 6).flat_map(Sample::each_kind) {
        let mut frame = subject.frame(&sample.message());
        let bits = frame.len() * 8;
        // Every bit of small frames; of large ones the header's and table's, and some of the payload's.
        let some = (0..bits).step_by(1 + bits / 8000);
        for bit in (0..bits.min(1600)).chain(some) {
            frame[bit / 8] ^= 1 << (bit % 8);
            match subject.protocol.decode(&frame, &LIMITS, &mut Vec::new()) {
                Err(DecodeError::UnknownKind { .. } | DecodeError::UnknownVersion) => {
                    panic!("bit {bit} of {sample:?} makes another version of it")
                }
                Err(_) => {}
                Ok(decoded) => panic!("bit {bit} of {sample:?} makes it {decoded:?}"),
            }
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// P7: limits hold, and so does what the protocol says of its overhead, from the header on where the envelope is this crate's, and before anything is allocated.
pub fn p07_limits<P: Protocol>(subject: &Subject<P>) {
    let first = seed();
    for sample in (first..first + 30).flat_map(Sample::each_kind) {
        let message = sample.message();
        let frame = subject.frame(&message);
        frames_end_at_the_limit(subject, &message, &frame);
        if let Body::Append(append) = &message.body {
            let entries = append.entries.len();
            let payload = append.entries.iter().map(|entry| entry.payload.len()).sum();
            let at_most = subject.protocol.overhead().frame(entries, payload);
            assert!(
                frame.len() <= at_most,
                "{} bytes, and by its overhead no more than {at_most}",
                frame.len()
            );
            for entries_max in [0, entries / 2, entries.saturating_sub(1), entries] {
                let limits = Limits { entries_max, ..LIMITS };
                let is_refused =
                    subject.protocol.decode(&frame, &limits, &mut Vec::new()) == Err(DecodeError::TooLarge);
                assert_eq!(
                    is_refused,
                    entries_max < entries,
                    "{entries} entries where {entries_max} are allowed"
                );
            }
        }
    }
    claimed_lengths_allocate_nothing(subject);
}

#[track_caller]
fn frames_end_at_the_limit<P: Protocol>(subject: &Subject<P>, message: &Message<'_>, frame: &[u8]) {
    let mut out = Outbox::new(LIMITS.frame_max);
    let encoded = subject.protocol.encode(message, frame.len() - 1, &mut out);
    assert_eq!((encoded, out.len()), (Err(EncodeError::TooLarge), 0));
    assert_eq!(subject.protocol.encode(message, frame.len(), &mut out), Ok(()));

    let at = |frame_max| Limits { frame_max, ..LIMITS };
    let mut scratch = Vec::new();
    let decoded = subject.protocol.decode(frame, &at(frame.len()), &mut scratch);
    assert!(
        matches!(decoded, Ok(Decoded::Message { .. })),
        "at the limit: {decoded:?}"
    );
    let mut scratch = Vec::new();
    let (decoded, allocated) = subject.counted(|| subject.protocol.decode(frame, &at(frame.len() - 1), &mut scratch));
    assert_eq!(decoded, Err(DecodeError::TooLarge));
    assert_eq!(allocated.unwrap_or_default().count, 0);
    if frame.starts_with(&MAGIC) {
        let mut scratch = Vec::new();
        let decoded = subject
            .protocol
            .decode(&frame[..HEADER], &at(frame.len() - 1), &mut scratch);
        assert_eq!(decoded, Err(DecodeError::TooLarge), "from the header alone");
    }
}

/// A header that is right in everything but claims up to 4 GiB.
fn claimed_lengths_allocate_nothing<P: Protocol>(subject: &Subject<P>) {
    if subject.allocated.is_none() {
        skipped("a part of P7", "no counting allocator");
    }
    for sample in Sample::each_kind(0) {
        let mut frame = subject.frame(&sample.message());
        if !frame.starts_with(&MAGIC) {
            return skipped("a part of P7", "an envelope of its own");
        }
        let beyond = u32::try_from(LIMITS.frame_max - HEADER + 1).expect("the limit is a few MiB");
        for (length, limits) in [
            (u32::MAX, LIMITS),
            (1 << 31, LIMITS),
            (beyond, LIMITS),
            (4096 - 24 + 1, Limits::BEFORE_HELLO),
        ] {
            frame[8..12].copy_from_slice(&length.to_le_bytes());
            seal_header(&mut frame);
            let mut scratch = Vec::new();
            let (decoded, allocated) = subject.counted(|| subject.protocol.decode(&frame, &limits, &mut scratch));
            assert_eq!(decoded, Err(DecodeError::TooLarge), "a length of {length}");
            assert_eq!(allocated.unwrap_or_default().count, 0, "a length of {length}");
        }
        // Within the limit: more bytes are awaited, and nothing is made ready for them.
        frame[8..12].copy_from_slice(&(beyond - 1).to_le_bytes());
        seal_header(&mut frame);
        let mut scratch = Vec::new();
        let (decoded, allocated) = subject.counted(|| subject.protocol.decode(&frame, &LIMITS, &mut scratch));
        assert_eq!(
            decoded,
            Ok(Decoded::NeedMore {
                at_least: LIMITS.frame_max
            })
        );
        assert_eq!(allocated.unwrap_or_default().count, 0);
    }
}

/// P8: kinds and versions that are not known here are told from damage, and an unknown kind can be skipped.
pub fn p08_unknown<P: Protocol>(subject: &Subject<P>) {
    for sample in Sample::each_kind(0) {
        let frame = subject.frame(&sample.message());
        if !frame.starts_with(&MAGIC) {
            return skipped("P8", "an envelope of its own");
        }
        let changed = |at: usize, value: &[u8]| {
            let mut frame = frame.clone();
            frame[at..at + value.len()].copy_from_slice(value);
            seal_header(&mut frame);
            frame
        };
        let consumed = frame.len();
        // An append of a new kind may have payloads that nobody here can check; its body has been.
        for kind in [0, 4, 15, 27, 42, 0x7fff, u16::MAX] {
            let unknown = changed(6, &kind.to_le_bytes());
            let expected = Err(DecodeError::UnknownKind { kind, consumed });
            assert_eq!(subject.protocol.decode(&unknown, &LIMITS, &mut Vec::new()), expected);
            let followed = [&unknown[..], &frame].concat();
            assert_eq!(subject.protocol.decode(&followed, &LIMITS, &mut Vec::new()), expected);
            for length in [HEADER, consumed - 1] {
                let mut scratch = Vec::new();
                let decoded = subject.protocol.decode(&unknown[..length], &LIMITS, &mut scratch);
                let more = Ok(Decoded::NeedMore { at_least: consumed });
                assert_eq!(decoded, more, "whole before it is judged");
            }
            let mut damaged = unknown;
            damaged[HEADER] ^= 1;
            assert_eq!(
                subject.protocol.decode(&damaged, &LIMITS, &mut Vec::new()),
                Err(DecodeError::BadChecksum)
            );
        }
        for (at, value) in [(4, 0), (4, 2), (4, 255), (5, 0), (5, 255)] {
            let unknown = changed(at, &[value]);
            assert_eq!(
                subject.protocol.decode(&unknown, &LIMITS, &mut Vec::new()),
                Err(DecodeError::UnknownVersion)
            );
            let mut damaged = unknown;
            damaged[20] ^= 1;
            assert_eq!(
                subject.protocol.decode(&damaged, &LIMITS, &mut Vec::new()),
                Err(DecodeError::BadChecksum)
            );
        }
    }
    assert_eq!(
        Kind::ALL.len(),
        24,
        "a new kind has a number that this law does not take for unknown"
    );
}

/// Makes the header's checksum fit its content.
fn seal_header(frame: &mut [u8]) {
    let crc = crc32c::crc32c(&frame[..20]);
    frame[20..24].copy_from_slice(&crc.to_le_bytes());
}
