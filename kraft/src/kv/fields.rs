//! The fields that commands, queries and replies are made of.

use std::fmt;

use bytes::{BufMut, BytesMut};

/// The first byte of everything.
const VERSION: u8 = 1;

/// Why bytes are no command, query or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Of a version that is not spoken here.
    Version(u8),
    /// Of this version, of a kind that it does not have.
    Kind(u8),
    /// The bytes end within a field.
    Truncated,
    /// A field has a value that it cannot have, or bytes follow the last one.
    Malformed,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "key-value encoding version {version}, and {VERSION} is spoken"),
            Self::Kind(kind) => write!(f, "unknown key-value operation {kind}"),
            Self::Truncated => f.write_str("the bytes end within a field"),
            Self::Malformed => f.write_str("a field has a value that it cannot have"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Begins a command, query or reply.
pub(super) fn put_head(kind: u8, out: &mut BytesMut) {
    out.put_slice(&[VERSION, kind]);
}

/// A length and the bytes.
pub(super) fn put_sized(bytes: &[u8], out: &mut BytesMut) {
    out.put_u32_le(u32::try_from(bytes.len()).expect("keys and values are below 4 GiB"));
    out.put_slice(bytes);
}

/// Reads fields from the front. Nothing is allocated by a length that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// Reads the version; returns the kind and what follows.
    pub(super) fn open(bytes: &'a [u8]) -> Result<(u8, Self), DecodeError> {
        let mut fields = Self(bytes);
        let version = fields.u8()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        Ok((fields.u8()?, fields))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.take().map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.take().map(i64::from_le_bytes)
    }

    /// Whether an optional field follows.
    pub(super) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Malformed),
        }
    }

    pub(super) fn sized(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u32()? as usize;
        let (head, tail) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// There is nothing left.
    pub(super) fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed)
        }
    }
}
