//! Laws about what encoding leaves behind and what decoding lends: P10-P12.

use std::ops::Range;

use kraft_core::message::{Body, Entries, Message, Outcome};
use kraft_core::outbox::{Outbox, SHARE_MIN, Segments};
use kraft_core::protocol::{Decoded, EncodeError, Protocol};

use super::{LIMITS, Sample, Subject, contents, seed, skipped};

/// P10: a failed encode leaves the outbox as it was.
pub fn p10_all_or_nothing<P: Protocol>(subject: &Subject<P>) {
    const BEFORE: &[u8] = b"what was put before";
    let first = seed();
    for sample in (first..first + 6).flat_map(Sample::each_kind) {
        let message = sample.message();
        let frame = subject.frame(&message);
        // Every limit at which a small frame does not fit; of a large one some, so that each piece fails once.
        let limits = (0..frame.len()).step_by(1 + frame.len() / 300);
        for room in limits.chain([frame.len() - 1]) {
            let mut out = Outbox::new(BEFORE.len() + room);
            out.put(BEFORE).expect("it fits");
            assert_eq!(
                subject.protocol.encode(&message, LIMITS.frame_max, &mut out),
                Err(EncodeError::Full)
            );
            assert_eq!(out.len(), BEFORE.len());
            assert_eq!(
                contents(&mut out),
                BEFORE,
                "a frame of {} bytes and room for {room}",
                frame.len()
            );
        }
        let mut out = Outbox::new(BEFORE.len() + frame.len());
        out.put(BEFORE).expect("it fits");
        assert_eq!(
            subject.protocol.encode(&message, frame.len() - 1, &mut out),
            Err(EncodeError::TooLarge)
        );
        assert_eq!(out.len(), BEFORE.len());
        assert_eq!(subject.protocol.encode(&message, frame.len(), &mut out), Ok(()));
        assert_eq!(contents(&mut out), [BEFORE, &frame].concat());
    }
}

/// P11: an optional field that is not known here is skipped.
pub fn p11_unknown_fields<P: Protocol>(subject: &Subject<P>) {
    let Some(newer) = subject.newer else {
        return skipped("P11", "nobody says what a newer version would write");
    };
    let first = seed();
    for sample in (first..first + 30).flat_map(Sample::each_kind) {
        let message = sample.message();
        let frame = subject.frame(&message);
        let wider = newer(&frame);
        assert_ne!(wider, frame);
        subject.expect_message(&wider, &message, wider.len());
    }
}

/// P12: decoding lends payloads from its input, and allocates once at most; encoding allocates nothing, and shares the
/// log's large payloads with the outbox.
pub fn p12_no_copy<P: Protocol>(subject: &Subject<P>) {
    if subject.copies {
        return skipped("P12", "a format of text has to unescape");
    }
    let first = seed();
    for sample in (first..first + 60).flat_map(Sample::each_kind) {
        let message = sample.message();
        let frame = subject.frame(&message);
        let mut scratch = Vec::new();
        let (decoded, allocated) = subject.counted(|| subject.protocol.decode(&frame, &LIMITS, &mut scratch));
        let Ok(Decoded::Message { message: decoded, .. }) = decoded else {
            panic!("{sample:?} is not decoded");
        };
        expect_lent(&decoded, frame.as_ptr_range());
        if let Some(allocated) = allocated {
            let rows = match &decoded.body {
                Body::Append(append) => append.entries.len(),
                Body::StatusReply(status) => status.members.len(),
                _ => 0,
            };
            assert!(allocated.count <= u64::from(rows > 0), "{allocated:?} for {rows} rows");
            assert!(allocated.bytes <= rows as u64 * 64, "{allocated:?} for {rows} rows");
        }
        expect_encoded_in_place(subject, &message);
        expect_shared(subject, &message);
    }
    if subject.allocated.is_none() {
        skipped("a part of P12", "no counting allocator");
    }
}

#[track_caller]
fn expect_lent(message: &Message<'_>, input: Range<*const u8>) {
    let expect = |payload: &[u8]| {
        let Range { start, end } = payload.as_ptr_range();
        assert!(
            payload.is_empty() || (input.start <= start && end <= input.end),
            "a payload was copied"
        );
    };
    match &message.body {
        Body::Append(append) => {
            assert!(append.entries.is_empty() || matches!(append.entries, Entries::Lent(_)));
            append.entries.iter().for_each(|entry| expect(entry.payload));
        }
        Body::Command(command) => expect(command.command),
        Body::Read(read) => expect(read.query),
        Body::Snapshot(chunk) | Body::FetchReply(chunk) => expect(chunk.data),
        Body::Reply(Outcome::Committed(answer) | Outcome::Weaker { answer, .. }) => expect(answer),
        _ => {}
    }
}

/// Encodes into an outbox whose buffers have their size.
#[track_caller]
fn expect_encoded_in_place<P: Protocol>(subject: &Subject<P>, message: &Message<'_>) {
    let mut out = Outbox::new(LIMITS.frame_max);
    let mut taken = Segments::new();
    for _ in 0..3 {
        subject
            .protocol
            .encode(message, LIMITS.frame_max, &mut out)
            .expect("there is room");
        out.take(&mut taken);
        taken.clear();
        out.settle(0);
    }
    let (encoded, allocated) = subject.counted(|| subject.protocol.encode(message, LIMITS.frame_max, &mut out));
    assert_eq!(encoded, Ok(()));
    assert_eq!(allocated.unwrap_or_default().count, 0, "encoding {message:?}");
}

/// The log's large payloads are in the outbox where they are in the log.
#[track_caller]
fn expect_shared<P: Protocol>(subject: &Subject<P>, message: &Message<'_>) {
    let Body::Append(append) = &message.body else { return };
    let Entries::Shared(front, back) = append.entries else {
        return;
    };
    let mut out = Outbox::new(LIMITS.frame_max);
    subject
        .protocol
        .encode(message, LIMITS.frame_max, &mut out)
        .expect("there is room");
    let mut taken = Segments::new();
    out.take(&mut taken);
    for entry in front
        .iter()
        .chain(back)
        .filter(|entry| entry.payload.len() >= SHARE_MIN)
    {
        let is_shared = taken
            .slices()
            .any(|piece| piece.as_ptr_range() == entry.payload.as_ptr_range());
        assert!(is_shared, "a payload of {} bytes was copied", entry.payload.len());
    }
}
