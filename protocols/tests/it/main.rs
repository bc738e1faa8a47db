//! The formats of this crate before the suite, and under attack.

mod counting;
mod documented;
mod forge;
mod fuzz;
mod threats;

use std::path::Path;

use kraft_protocols::Binary;
use kraft_protocols::conformance::Subject;
use kraft_protocols::frame::{Envelope, HEADER};

kraft_protocols::suite!(binary, || {
    Subject::from(Binary)
        .golden(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/binary"))
        .newer(binary_of_tomorrow)
        .allocated(counting::allocated)
});

/// A frame as a newer version of the `binary` format might write it: the fixed part longer by twelve bytes, the
/// variable parts by seven. What this version leaves out where it is zero has to stand before what comes after it.
fn binary_of_tomorrow(frame: &[u8]) -> Vec<u8> {
    let u32_at = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
    let (covered, payloads) = frame[HEADER..].split_at(u32_at(12) as usize);
    let fixed = usize::from(u16::from_le_bytes([covered[0], covered[1]]));
    let known = match u16::from_le_bytes([frame[6], frame[7]]) {
        1 => 96,
        19 => 56,
        33 => 80,
        34 => 64,
        37 => 128,
        _ => fixed,
    };
    let mut number = vec![0; known - fixed];
    number.extend_from_slice(b"a new number");
    let mut body = covered.to_vec();
    body[0..2].copy_from_slice(&u16::try_from(fixed + number.len()).unwrap().to_le_bytes());
    drop(body.splice(fixed..fixed, number));
    body.extend_from_slice(b"new text".first_chunk::<7>().unwrap());
    let envelope = Envelope {
        format: frame[5],
        kind: u16::from_le_bytes([frame[6], frame[7]]),
        length: u32::try_from(body.len() + payloads.len()).unwrap(),
        checked: u32::try_from(body.len()).unwrap(),
        body_crc: crc32c::crc32c(&body),
    };
    [&envelope.to_bytes()[..], &body, payloads].concat()
}
