//! The format before the suite.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kraft_core::id::{Index, Round, Term};
use kraft_core::message::{Append, Body, Entries, Entry, EntryKind, Header, Message};
use kraft_core::outbox::{Outbox, SHARE_MIN, Segments};
use kraft_core::protocol::{DecodeError, Limits, Protocol};
use kraft_protocols::conformance::{Allocated, Subject};
use kraft_protocols::frame::{Envelope, HEADER, Opened, open};
use tagged_protocol::{FORMAT, Tagged};

kraft_protocols::suite!(tagged, || Subject::from(Tagged).newer(newer).allocated(allocated));

/// What a newer version would send: a field that nobody knows yet, in front and behind (law P11).
fn newer(frame: &[u8]) -> Vec<u8> {
    let unknown = [99, 3, 0, 0, 0, b'n', b'e', b'w'];
    let body = [&unknown, &frame[HEADER..], &unknown].concat();
    let length = u32::try_from(body.len()).expect("it is short");
    let kind = u16::from_le_bytes([frame[6], frame[7]]);
    let envelope = Envelope::covering(FORMAT, kind, length, crc32c(&body));
    [&envelope.to_bytes()[..], &body].concat()
}

/// CRC32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    });
    !crc
}

/// The frame's checksum is made of the entry's, be it right or wrong, where the payload is shared; so its bytes, which the
/// disk and other peers are sent too, were not read once more.
#[test]
fn a_payload_that_is_shared_is_not_read() {
    let limits = Limits { frame_max: 1 << 20, entries_max: 8 };
    let frame = |crc| {
        let payload = vec![7; SHARE_MIN];
        let entry = Entry { term: Term(1), kind: EntryKind::Command, crc, payload: payload.into() };
        let append = Append {
            prev_index: Index(1),
            prev_term: Term(1),
            commit: Index(1),
            round: Round(1),
            entries: Entries::Shared(&[entry], &[]),
        };
        let message = Message { header: Header::default(), body: Body::Append(append) };
        let (mut outbox, mut segments) = (Outbox::new(limits.frame_max), Segments::new());
        Tagged.encode(&message, limits.frame_max, &mut outbox).expect("there is room");
        outbox.take(&mut segments);
        segments.slices().collect::<Vec<_>>().concat()
    };
    let crc = crc32c(&[7; SHARE_MIN]);
    assert!(matches!(open(&frame(crc), FORMAT, &limits), Ok(Opened::Whole(_))));
    assert_eq!(open(&frame(!crc), FORMAT, &limits), Err(DecodeError::BadChecksum));
}

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

/// Without it a part of the laws P7 and P12 is not judged.
fn allocated() -> Allocated {
    Allocated { count: COUNT.get(), bytes: BYTES.get() }
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is passed on to `System`, whose contract is the same; counting allocates nothing. What has no method
// here comes by way of these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        BYTES.set(BYTES.get() + layout.size() as u64);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract, and `at` is from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}
