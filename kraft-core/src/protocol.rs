//! The wire format, as a trait.

use std::fmt;

use crate::message::Message;
use crate::outbox::{Full, Outbox};

/// A wire format: messages to bytes and back. Stateless and object-safe.
///
/// # Laws
///
/// `kraft_protocols::conformance` has a function for each.
///
/// - P1 *round trip*: what is encoded decodes to an equal message.
/// - P2 *split*: however the bytes are cut, feeding them gives the same messages.
/// - P3 *concatenation*: frames put one after the other decode one after the other.
/// - P4 *truncation*: a prefix of a frame is [`Decoded::NeedMore`], which never asks for more than the frame has.
/// - P5 *damage*: a flipped bit is an error, never a panic, a hang or another message.
/// - P6 *consumed* is exactly the frame.
/// - P7 *limits* hold before anything is allocated.
/// - P8 *unknown* kinds and versions are told apart from damage.
/// - P9 *golden vectors* do not change.
/// - P10 *all or nothing*: a failed encode leaves the outbox as it was.
/// - P11 *unknown optional fields* are skipped, so that old and new nodes mix.
/// - P12 *no copy*: decoding lends payloads from its input; formats of text are exempt.
pub trait Protocol {
    /// Appends `message` to `out` as one frame, or leaves `out` as it was.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Full`] if the outbox has no room, [`EncodeError::TooLarge`] if the frame would be above
    /// `frame_max`.
    fn encode(&self, message: &Message<'_>, frame_max: usize, out: &mut Outbox) -> Result<(), EncodeError>;

    /// Reads the frame that `input` begins with. Payloads of the message point into `input`.
    ///
    /// A format of text, whose payloads are not in there as they are, unescapes them into `scratch`, of no more bytes
    /// than the frame has. Whoever decodes keeps it for the next message; what it holds before does not matter.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; the connection cannot go on after any but [`DecodeError::UnknownKind`].
    fn decode<'a>(
        &self,
        input: &'a [u8],
        limits: &Limits,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Decoded<'a>, DecodeError>;

    /// In which of its formats a connection speaks whose first bytes are `input`; `None` as long as they are too few to
    /// tell, and of a protocol of one format. [`DIALECT_BYTES`] are enough.
    ///
    /// A node asks this of each connection that it accepts, and answers in that format, so that nodes and clients of
    /// several formats get on with each other.
    fn dialect(&self, input: &[u8]) -> Option<Dialect> {
        let _ = input;
        None
    }

    /// [`encode`](Self::encode) in the format that [`dialect`](Self::dialect) told; in the protocol's own without.
    ///
    /// # Errors
    ///
    /// As there.
    fn encode_in(
        &self,
        dialect: Option<Dialect>,
        message: &Message<'_>,
        frame_max: usize,
        out: &mut Outbox,
    ) -> Result<(), EncodeError> {
        let _ = dialect;
        self.encode(message, frame_max, out)
    }

    /// What its frames have besides payloads, at the most. A node packs its appends so that they fit.
    fn overhead(&self) -> Overhead {
        Overhead::default()
    }

    /// Whether replies must leave in the order of their requests, because the format has no correlation ids.
    fn ordered(&self) -> bool {
        false
    }

    /// The name by which users choose it.
    fn name(&self) -> &'static str;
}

/// What frames have besides payloads, at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overhead {
    /// Bytes of an entry besides those of its payload.
    pub entry_bytes: usize,
    /// Bytes of a frame besides those of its entries.
    pub frame_bytes: usize,
    /// How many bytes three of a payload become: 3, unless they are escaped.
    pub three_become: usize,
}

impl Default for Overhead {
    /// Of a format that has payloads as they are.
    fn default() -> Self {
        Self {
            entry_bytes: 32,
            frame_bytes: 256,
            three_become: 3,
        }
    }
}

impl Overhead {
    /// Bytes of a frame of entries whose payloads have `payload_bytes` together, at the most.
    #[must_use]
    pub fn frame(&self, entries: usize, payload_bytes: usize) -> usize {
        let payload = payload_bytes.div_ceil(3).saturating_mul(self.three_become);
        entries
            .saturating_mul(self.entry_bytes)
            .saturating_add(self.frame_bytes)
            .saturating_add(if self.three_become == 3 { payload_bytes } else { payload })
    }

    /// Bytes of payloads for which a frame of `entries` and `frame_max` bytes has room.
    #[must_use]
    pub fn room(&self, entries: usize, frame_max: usize) -> usize {
        let room = frame_max.saturating_sub(self.frame(entries, 0));
        match self.three_become {
            3 => room,
            longer => room / longer * 3,
        }
    }
}

/// One of the formats of a protocol that has several, by a number that is the protocol's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dialect(pub u8);

/// Bytes by which [`Protocol::dialect`] can tell, at the most.
pub const DIALECT_BYTES: usize = 8;

/// What a decoder made of the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A whole message.
    Message {
        /// The message, lent from the input.
        message: Message<'a>,
        /// How many bytes of the input it was.
        consumed: usize,
    },
    /// The input ends within the frame.
    NeedMore {
        /// How many bytes the input must have, at least, before another try is worth it.
        at_least: usize,
    },
}

/// What a decoder refuses before it allocates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a frame, header included.
    pub frame_max: usize,
    /// Entries of an append.
    pub entries_max: usize,
}

impl Limits {
    /// Before hello: 4 KiB and no entries.
    pub const BEFORE_HELLO: Self = Self {
        frame_max: 4096,
        entries_max: 0,
    };
}

/// Why a message was not encoded. The outbox is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The outbox has no room; wait for `Drained`.
    Full,
    /// The frame would be above the receiver's limit.
    TooLarge,
}

/// Why bytes are no message. The peer's fault; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first bytes are of another protocol.
    BadMagic(Foreign),
    /// The envelope, or the format within it, is of a version or kind of format that is not spoken here.
    UnknownVersion,
    /// A whole, undamaged frame of a kind that is not known here: skip `consumed` bytes, or close.
    UnknownKind {
        /// The kind's number.
        kind: u16,
        /// The frame's bytes.
        consumed: usize,
    },
    /// A frame, or a count within it, above a limit.
    TooLarge,
    /// A checksum that does not fit.
    BadChecksum,
    /// Fields that make no message, at this offset within the frame.
    Malformed {
        /// Bytes from the frame's first.
        offset: usize,
    },
}

/// What foreign bytes look like, for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// A TLS record.
    Tls,
    /// An HTTP request.
    Http,
    /// Something else.
    Other,
}

impl From<Full> for EncodeError {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the outbox is full",
            Self::TooLarge => "the message is above the receiver's frame_max",
        })
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadMagic(Foreign::Tls) => f.write_str("a TLS record on a plaintext port"),
            Self::BadMagic(Foreign::Http) => f.write_str("an HTTP request on a Kraft port"),
            Self::BadMagic(Foreign::Other) => f.write_str("bytes of another protocol"),
            Self::UnknownVersion => f.write_str("an envelope version or format that is not spoken here"),
            Self::UnknownKind { kind, .. } => write!(f, "a message of unknown kind {kind}"),
            Self::TooLarge => f.write_str("a frame above the limit"),
            Self::BadChecksum => f.write_str("a damaged frame"),
            Self::Malformed { offset } => write!(f, "a malformed field at byte {offset}"),
        }
    }
}

impl std::error::Error for EncodeError {}
impl std::error::Error for DecodeError {}
