//! The checksum of bytes that stand behind others, made of the checksums of both.
//!
//! A payload's checksum is known since it entered the cluster. Where a frame's covers it, too, a large payload need not
//! be read again: a CRC is the rest of a division of polynomials over GF(2), so the rest of what is in front is
//! multiplied by x to the power of the bits behind it. Mark Adler's zlib does it so for CRC32.

#[cfg(any(feature = "protobuf", feature = "msgpack"))]
use kraft_core::outbox::SHARE_MIN;
#[cfg(any(feature = "protobuf", feature = "msgpack"))]
use kraft_core::protocol::DecodeError;

#[cfg(any(feature = "protobuf", feature = "msgpack"))]
use crate::frame::Unchecked;

/// The polynomial of CRC32C, its highest power in the lowest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// Digits to the base of 16 of the longest length.
const DIGITS: usize = 8;

/// x to the power of the bits of `digit * 16^place` bytes.
const POWERS: [[u32; 16]; DIGITS] = {
    let mut powers = [[ONE; 16]; DIGITS];
    // x^8: a byte.
    let mut unit = ONE >> 8;
    let mut place = 0;
    while place < DIGITS {
        let mut digit = 1;
        while digit < 16 {
            powers[place][digit] = product(powers[place][digit - 1], unit);
            digit += 1;
        }
        unit = product(powers[place][15], unit);
        place += 1;
    }
    powers
};

/// The CRC32C of bytes whose checksum is `front`, with `back_len` bytes behind them whose own is `back`.
pub(crate) fn joined(front: u32, back: u32, back_len: u32) -> u32 {
    let mut shifted = front;
    let mut rest = back_len;
    for powers in &POWERS {
        if rest == 0 {
            break;
        }
        let digit = rest % 16;
        if digit != 0 {
            shifted = product(shifted, powers[digit as usize]);
        }
        rest /= 16;
    }
    shifted ^ back
}

/// Compares the checksum of a body that was read already, and those of the payloads in it. A large payload is read once
/// for both.
#[cfg(any(feature = "protobuf", feature = "msgpack"))]
pub(crate) struct Checking<'a> {
    frame: Unchecked<'a>,
    /// Of the body's first `checked` bytes.
    crc: u32,
    checked: usize,
}

#[cfg(any(feature = "protobuf", feature = "msgpack"))]
impl<'a> Checking<'a> {
    pub(crate) fn new(frame: Unchecked<'a>) -> Self {
        let (crc, checked) = (0, 0);
        Self { frame, crc, checked }
    }

    /// A payload that lies in the body, behind those before.
    #[inline]
    pub(crate) fn payload(&mut self, payload: &'a [u8], crc: u32) -> Result<(), DecodeError> {
        if crc32c::crc32c(payload) != crc {
            return Err(DecodeError::BadChecksum);
        }
        if payload.len() >= SHARE_MIN {
            self.join(payload, crc);
        }
        Ok(())
    }

    fn join(&mut self, payload: &'a [u8], crc: u32) {
        let body = self.frame.body();
        let at = payload.as_ptr() as usize - body.as_ptr() as usize;
        // Of payloads that are no longer than the frame, in order: otherwise the whole body is read at the end.
        if let (Some(between), Ok(length)) = (body.get(self.checked..at), u32::try_from(payload.len())) {
            self.crc = joined(crc32c::crc32c_append(self.crc, between), crc, length);
            self.checked = at + payload.len();
        }
    }

    /// What was read of the body, if it is undamaged; else that it is not, whatever was wrong with it.
    pub(crate) fn judge<T>(self, read: Result<T, DecodeError>) -> Result<T, DecodeError> {
        if read.is_err() {
            self.frame.check()?;
            return read;
        }
        let rest = &self.frame.body()[self.checked..];
        if crc32c::crc32c_append(self.crc, rest) != self.frame.body_crc() {
            return Err(DecodeError::BadChecksum);
        }
        read
    }
}

/// The product of two polynomials, modulo [`POLYNOMIAL`].
const fn product(one: u32, other: u32) -> u32 {
    let mut product = 0;
    let mut other = other;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        // Masks of all bits or none: which of them are set nobody foresees.
        product ^= (one >> bit & 1).wrapping_neg() & other;
        other = other >> 1 ^ ((other & 1).wrapping_neg() & POLYNOMIAL);
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_checksums_are_those_of_joined_bytes() {
        let bytes: Vec<u8> = (0..1_100_000_u32).map(|at| (at * 31 + at / 251) as u8).collect();
        let lengths = [
            0, 1, 2, 15, 16, 17, 255, 256, 4095, 4096, 65_536, 65_537, 987_654, 1_048_576,
        ];
        for front in [0, 1, 7, 300] {
            for back in lengths {
                let (front, rest) = bytes.split_at(front);
                let both = joined(crc32c::crc32c(front), crc32c::crc32c(&rest[..back]), back as u32);
                assert_eq!(
                    both,
                    crc32c::crc32c(&bytes[..front.len() + back]),
                    "{} and {back}",
                    front.len()
                );
            }
        }
        assert_eq!(
            joined(0x1234_5678, 0x9abc_def0, u32::MAX),
            crc32c::crc32c_combine(0x1234_5678, 0x9abc_def0, u32::MAX as usize)
        );
    }
}
