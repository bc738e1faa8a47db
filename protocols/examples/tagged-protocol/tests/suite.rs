//! The format before the suite.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kraft_protocols::conformance::{Allocated, Subject};
use kraft_protocols::frame::{Envelope, HEADER};
use tagged_protocol::{FORMAT, Tagged};

kraft_protocols::suite!(tagged, || Subject::from(Tagged).newer(newer).allocated(allocated));

/// What a newer version would send: a field that nobody knows yet, in front and behind (law P11).
fn newer(frame: &[u8]) -> Vec<u8> {
    let unknown = [99, 3, 0, 0, 0, b'n', b'e', b'w'];
    let body = [&unknown, &frame[HEADER..], &unknown].concat();
    let length = u32::try_from(body.len()).expect("it is short");
    let envelope = Envelope {
        format: FORMAT,
        kind: u16::from_le_bytes([frame[6], frame[7]]),
        length,
        checked: length,
        body_crc: crc32c(&body),
    };
    [&envelope.to_bytes()[..], &body].concat()
}

/// CRC32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    });
    !crc
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
