//! What the key-value machine answers.

use bytes::{BufMut, BytesMut};

use super::fields::{DecodeError, Fields, put_head, put_sized};

const DONE: u8 = 1;
const NOT_FOUND: u8 = 2;
const VALUE: u8 = 3;
const MISMATCH: u8 = 4;
const NUMBER: u8 = 5;
const NOT_A_NUMBER: u8 = 6;
const OVERFLOW: u8 = 7;
const ENTRIES: u8 = 8;
const INVALID: u8 = 9;

/// What the machine answers to a command or query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// It was done.
    Done,
    /// The key is absent.
    NotFound,
    /// The value of the key.
    Value(&'a [u8]),
    /// The value is not the expected one; this is what it is. Nothing was changed.
    Mismatch(Option<&'a [u8]>),
    /// The sum.
    Number(i64),
    /// The value is no number in decimal text. Nothing was changed.
    NotANumber,
    /// The sum is beyond 64 bits. Nothing was changed.
    Overflow,
    /// A page of a scan.
    Entries(Entries<'a>),
    /// The machine cannot read the command; an older or newer program wrote it. Nothing was changed.
    Invalid,
}

/// A page of a scan, checked when it was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries<'a> {
    /// Whether keys follow that did not fit: ask again, `after` the last key.
    pub more: bool,
    count: u32,
    bytes: &'a [u8],
}

impl<'a> Entries<'a> {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Keys and values, keys ascending.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut fields = Fields(self.bytes);
        std::iter::from_fn(move || Some((fields.sized().ok()?, fields.sized().ok()?)))
    }

    fn decode(mut fields: Fields<'a>) -> Result<Self, DecodeError> {
        let more = fields.flag()?;
        let count = fields.u32()?;
        let bytes = fields.0;
        // A wrong count ends with the bytes, so this costs no more than was received.
        for _ in 0..count {
            fields.sized()?;
            fields.sized()?;
        }
        fields.end()?;
        Ok(Self { more, count, bytes })
    }
}

/// Writes a page of a scan entry by entry, within a bound.
#[derive(Debug)]
pub(super) struct PageWriter<'a> {
    out: &'a mut BytesMut,
    start: usize,
    count: u32,
}

impl<'a> PageWriter<'a> {
    pub(super) fn new(out: &'a mut BytesMut) -> Self {
        let start = out.len();
        put_head(ENTRIES, out);
        out.put_u8(0);
        out.put_u32_le(0);
        Self { out, start, count: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.out.len() - self.start
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        put_sized(key, self.out);
        put_sized(value, self.out);
        self.count += 1;
    }

    pub(super) fn finish(self, more: bool) {
        let head = &mut self.out[self.start + 2..][..5];
        head[0] = u8::from(more);
        head[1..].copy_from_slice(&self.count.to_le_bytes());
    }
}

impl<'a> Reply<'a> {
    /// Appends the encoded reply.
    pub fn encode(&self, out: &mut BytesMut) {
        match *self {
            Self::Done => put_head(DONE, out),
            Self::NotFound => put_head(NOT_FOUND, out),
            Self::Value(value) => {
                put_head(VALUE, out);
                out.put_slice(value);
            }
            Self::Mismatch(value) => {
                put_head(MISMATCH, out);
                out.put_u8(u8::from(value.is_some()));
                out.put_slice(value.unwrap_or_default());
            }
            Self::Number(number) => {
                put_head(NUMBER, out);
                out.put_i64_le(number);
            }
            Self::NotANumber => put_head(NOT_A_NUMBER, out),
            Self::Overflow => put_head(OVERFLOW, out),
            Self::Entries(entries) => {
                let mut page = PageWriter::new(out);
                for (key, value) in entries.iter() {
                    page.put(key, value);
                }
                page.finish(entries.more);
            }
            Self::Invalid => put_head(INVALID, out),
        }
    }

    /// Reads a reply.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (kind, mut fields) = Fields::open(bytes)?;
        let reply = match kind {
            DONE => Self::Done,
            NOT_FOUND => Self::NotFound,
            VALUE => Self::Value(fields.rest()),
            MISMATCH => Self::Mismatch(if fields.flag()? { Some(fields.rest()) } else { None }),
            NUMBER => Self::Number(fields.i64()?),
            NOT_A_NUMBER => Self::NotANumber,
            OVERFLOW => Self::Overflow,
            ENTRIES => return Entries::decode(fields).map(Self::Entries),
            INVALID => Self::Invalid,
            kind => return Err(DecodeError::Kind(kind)),
        };
        fields.end()?;
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(reply: &Reply<'_>) -> BytesMut {
        let mut bytes = BytesMut::new();
        reply.encode(&mut bytes);
        bytes
    }

    #[test]
    fn replies_survive_the_round_trip_and_no_damage_panics() {
        let mut page = BytesMut::new();
        let mut writer = PageWriter::new(&mut page);
        writer.put(b"a", b"1");
        writer.put(b"b", b"");
        writer.finish(true);
        let replies = [
            Reply::Done,
            Reply::NotFound,
            Reply::Value(b""),
            Reply::Value(b"value"),
            Reply::Mismatch(None),
            Reply::Mismatch(Some(b"")),
            Reply::Number(-1),
            Reply::NotANumber,
            Reply::Overflow,
            Reply::decode(&page).expect("a page"),
            Reply::Invalid,
        ];
        for reply in &replies {
            let bytes = encoded(reply);
            assert_eq!(Reply::decode(&bytes), Ok(*reply));
            for cut in 0..bytes.len() {
                let _ = Reply::decode(&bytes[..cut]);
                let mut flipped = bytes.clone();
                for bit in 0..8 {
                    flipped[cut] ^= 1 << bit;
                    let _ = Reply::decode(&flipped);
                }
            }
        }
    }

    #[test]
    fn bytes_behind_a_reply_are_an_error() {
        let mut bytes = encoded(&Reply::Number(1));
        bytes.put_u8(0);
        assert_eq!(Reply::decode(&bytes), Err(DecodeError::Malformed));
        assert_eq!(Reply::decode(b"\x01\x04\x00x"), Err(DecodeError::Malformed));
    }

    #[test]
    fn an_entry_count_of_4_billion_allocates_nothing() {
        assert_eq!(
            Reply::decode(b"\x01\x08\x00\xff\xff\xff\xff"),
            Err(DecodeError::Truncated)
        );
    }
}
