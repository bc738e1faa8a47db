//! What clients ask of the key-value machine.

use bytes::{BufMut, BytesMut};

use super::fields::{DecodeError, Fields, put_head, put_sized};

const PUT: u8 = 1;
const DELETE: u8 = 2;
const COMPARE_AND_SET: u8 = 3;
const INCREMENT: u8 = 4;

const GET: u8 = 1;
const SCAN: u8 = 2;

/// Changes the map; goes through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Sets a key.
    Put {
        /// Which.
        key: &'a [u8],
        /// To what.
        value: &'a [u8],
    },
    /// Removes a key.
    Delete {
        /// Which.
        key: &'a [u8],
    },
    /// Sets a key if it has the expected value.
    CompareAndSet {
        /// Which.
        key: &'a [u8],
        /// What it must have, `None` if it must be absent.
        expected: Option<&'a [u8]>,
        /// To what.
        value: &'a [u8],
    },
    /// Adds to a key whose value is a number in decimal text; an absent key counts as 0.
    Increment {
        /// Which.
        key: &'a [u8],
        /// How much; may be negative.
        by: i64,
    },
}

/// Asks without changing; goes not through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query<'a> {
    /// The value of a key.
    Get {
        /// Which.
        key: &'a [u8],
    },
    /// Keys that begin with a prefix, ascending, with their values.
    Scan {
        /// How they begin; empty for all.
        prefix: &'a [u8],
        /// Only keys above this one: the last key of the page before, or empty.
        after: &'a [u8],
        /// At most so many; 0 for as many as fit into a reply.
        limit: u32,
    },
}

impl<'a> Command<'a> {
    /// Appends the encoded command.
    pub fn encode(&self, out: &mut BytesMut) {
        match *self {
            Self::Put { key, value } => {
                put_head(PUT, out);
                put_sized(key, out);
                out.put_slice(value);
            }
            Self::Delete { key } => {
                put_head(DELETE, out);
                out.put_slice(key);
            }
            Self::CompareAndSet { key, expected, value } => {
                put_head(COMPARE_AND_SET, out);
                put_sized(key, out);
                out.put_u8(u8::from(expected.is_some()));
                if let Some(expected) = expected {
                    put_sized(expected, out);
                }
                out.put_slice(value);
            }
            Self::Increment { key, by } => {
                put_head(INCREMENT, out);
                out.put_i64_le(by);
                out.put_slice(key);
            }
        }
    }

    /// Reads a command.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (kind, mut fields) = Fields::open(bytes)?;
        Ok(match kind {
            PUT => Self::Put {
                key: fields.sized()?,
                value: fields.rest(),
            },
            DELETE => Self::Delete { key: fields.rest() },
            COMPARE_AND_SET => Self::CompareAndSet {
                key: fields.sized()?,
                expected: if fields.flag()? { Some(fields.sized()?) } else { None },
                value: fields.rest(),
            },
            INCREMENT => Self::Increment {
                by: fields.i64()?,
                key: fields.rest(),
            },
            kind => return Err(DecodeError::Kind(kind)),
        })
    }

    /// The key that it changes.
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        match *self {
            Self::Put { key, .. }
            | Self::Delete { key }
            | Self::CompareAndSet { key, .. }
            | Self::Increment { key, .. } => key,
        }
    }
}

impl<'a> Query<'a> {
    /// Appends the encoded query.
    pub fn encode(&self, out: &mut BytesMut) {
        match *self {
            Self::Get { key } => {
                put_head(GET, out);
                out.put_slice(key);
            }
            Self::Scan { prefix, after, limit } => {
                put_head(SCAN, out);
                out.put_u32_le(limit);
                put_sized(prefix, out);
                out.put_slice(after);
            }
        }
    }

    /// Reads a query.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (kind, mut fields) = Fields::open(bytes)?;
        Ok(match kind {
            GET => Self::Get { key: fields.rest() },
            SCAN => Self::Scan {
                limit: fields.u32()?,
                prefix: fields.sized()?,
                after: fields.rest(),
            },
            kind => return Err(DecodeError::Kind(kind)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: &[Command<'_>] = &[
        Command::Put {
            key: b"k",
            value: b"value",
        },
        Command::Put { key: b"", value: b"" },
        Command::Delete { key: b"k\0\xff" },
        Command::CompareAndSet {
            key: b"k",
            expected: Some(b""),
            value: b"new",
        },
        Command::CompareAndSet {
            key: b"k",
            expected: None,
            value: b"",
        },
        Command::Increment {
            key: b"n",
            by: i64::MIN,
        },
    ];

    const QUERIES: &[Query<'_>] = &[
        Query::Get { key: b"k" },
        Query::Scan {
            prefix: b"p",
            after: b"p1",
            limit: 7,
        },
    ];

    #[test]
    fn commands_and_queries_survive_the_round_trip() {
        for command in COMMANDS {
            let mut bytes = BytesMut::new();
            command.encode(&mut bytes);
            assert_eq!(Command::decode(&bytes), Ok(*command));
        }
        for query in QUERIES {
            let mut bytes = BytesMut::new();
            query.encode(&mut bytes);
            assert_eq!(Query::decode(&bytes), Ok(*query));
        }
    }

    #[test]
    fn a_put_is_the_documented_bytes() {
        let mut bytes = BytesMut::new();
        COMMANDS[0].encode(&mut bytes);
        assert_eq!(&bytes[..], b"\x01\x01\x01\0\0\0kvalue");
    }

    #[test]
    fn no_bytes_panic_and_a_length_of_4_gib_is_truncated() {
        assert_eq!(
            Command::decode(b"\x01\x01\xff\xff\xff\xffk"),
            Err(DecodeError::Truncated)
        );
        assert_eq!(Command::decode(b"\x02\x01"), Err(DecodeError::Version(2)));
        assert_eq!(Command::decode(b"\x01\x63"), Err(DecodeError::Kind(0x63)));
        assert_eq!(Command::decode(b""), Err(DecodeError::Truncated));
        assert_eq!(Query::decode(b"\x01\x03"), Err(DecodeError::Kind(3)));
        for command in COMMANDS {
            let mut bytes = BytesMut::new();
            command.encode(&mut bytes);
            for cut in 0..bytes.len() {
                let _ = Command::decode(&bytes[..cut]);
                let mut flipped = bytes.clone();
                for bit in 0..8 {
                    flipped[cut] ^= 1 << bit;
                    let _ = Command::decode(&flipped);
                    let _ = Query::decode(&flipped);
                }
            }
        }
    }
}
