//! The envelope of every format: where a frame ends, and whether it is undamaged.
//!
//! ```text
//!  0      4 magic      a9 4b 52 46
//!  4      1 envelope   version of this header: 1
//!  5      1 format     of the body: 1 binary, 2 protobuf, 3 msgpack, 4 json
//!  6      2 kind       of the message
//!  8      4 length     bytes of the body
//! 12      4 checked    bytes of the body, from its first, that the body's checksum covers
//! 16      4 body crc   CRC32C of those
//! 20      4 header crc CRC32C of bytes 0-19
//! 24        body
//! ```
//!
//! Numbers are little-endian. What of a body is not covered is payloads that carry checksums of their own in the part
//! that is: a payload's is computed once, where it enters the cluster, and serves on every wire and disk.
//!
//! Every later envelope keeps the magic, the version's place and a checksum at byte 20, so that a newer envelope is
//! told from a damaged one.

use kraft_core::handshake::Kind;
use kraft_core::protocol::{DecodeError, Foreign, Limits};

/// Bytes of the header.
pub const HEADER: usize = 24;

/// The first bytes of a frame. The first of them begins no TLS record, no text and no UTF-8 sequence.
pub const MAGIC: [u8; 4] = [0xa9, b'K', b'R', b'F'];

/// The version of the header that is spoken here.
pub const ENVELOPE: u8 = 1;

/// Bytes of the header that its own checksum covers.
const HEADER_CHECKED: usize = 20;

/// What a header says of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The body's format.
    pub format: u8,
    /// The message's kind, as [`kind_number`] has it.
    pub kind: u16,
    /// Bytes of the body.
    pub length: u32,
    /// Bytes of the body, from its first, that [`body_crc`](Self::body_crc) covers.
    pub checked: u32,
    /// CRC32C of those.
    pub body_crc: u32,
}

/// A frame that is whole and, payloads apart, undamaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole<'a> {
    /// The message's kind, known or not.
    pub kind: u16,
    /// The part of the body that the body's checksum covers; it was compared.
    pub covered: &'a [u8],
    /// The rest of the body. Whoever reads the covered part finds the checksums in there and compares them.
    pub payloads: &'a [u8],
    /// Bytes of the frame.
    pub consumed: usize,
}

impl<'a> Whole<'a> {
    /// The kind, and the body of a format whose checksum covers all of it: of those that have no payloads apart.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnknownKind`], or [`DecodeError::Malformed`] if a part of the body is not covered.
    pub fn known(&self) -> Result<(Kind, &'a [u8]), DecodeError> {
        let Some(kind) = kind_of_number(self.kind) else {
            return Err(DecodeError::UnknownKind {
                kind: self.kind,
                consumed: self.consumed,
            });
        };
        if !self.payloads.is_empty() {
            return Err(DecodeError::Malformed { offset: 12 });
        }
        Ok((kind, self.covered))
    }
}

/// What [`open`] made of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened<'a> {
    /// The frame.
    Whole(Whole<'a>),
    /// The input ends within it.
    NeedMore {
        /// How many bytes the input must have, at least.
        at_least: usize,
    },
}

impl Envelope {
    /// Of a body of so many bytes, all of which `body_crc` covers.
    #[inline]
    #[must_use]
    pub const fn covering(format: u8, kind: u16, length: u32, body_crc: u32) -> Self {
        Self {
            format,
            kind,
            length,
            checked: length,
            body_crc,
        }
    }

    /// The header.
    #[inline]
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER] {
        let [m0, m1, m2, m3] = MAGIC;
        let [k0, k1] = self.kind.to_le_bytes();
        let start = u64::from_le_bytes([m0, m1, m2, m3, ENVELOPE, self.format, k0, k1]);
        let lengths = u64::from(self.length) | u64::from(self.checked) << 32;
        let crc = crc32c::crc32c(&in_words([start, lengths, self.body_crc.into()])[..HEADER_CHECKED]);
        in_words([start, lengths, u64::from(self.body_crc) | u64::from(crc) << 32])
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in the order in which it can be told: the magic, the checksum, the version.
    fn from_bytes(header: &[u8; HEADER]) -> Result<Self, DecodeError> {
        if header[..4] != MAGIC {
            return Err(DecodeError::BadMagic(foreign(header)));
        }
        if crc32c::crc32c(&header[..HEADER_CHECKED]) != u32_at(header, 20) {
            return Err(DecodeError::BadChecksum);
        }
        if header[4] != ENVELOPE {
            return Err(DecodeError::UnknownVersion);
        }
        Ok(Self {
            format: header[5],
            kind: u16::from_le_bytes([header[6], header[7]]),
            length: u32_at(header, 8),
            checked: u32_at(header, 12),
            body_crc: u32_at(header, 16),
        })
    }
}

/// Reads the frame of `format` that `input` begins with, up to its kind: the common part of all decoders.
///
/// # Errors
///
/// Any [`DecodeError`] but [`DecodeError::UnknownKind`], which is for the format to say.
pub fn open<'a>(input: &'a [u8], format: u8, limits: &Limits) -> Result<Opened<'a>, DecodeError> {
    match cut(input, format, limits)? {
        Cut::NeedMore { at_least } => Ok(Opened::NeedMore { at_least }),
        Cut::Frame(frame) => frame.check().map(Opened::Whole),
    }
}

/// What [`cut`] made of the bytes so far.
pub(crate) enum Cut<'a> {
    Frame(Unchecked<'a>),
    NeedMore { at_least: usize },
}

/// A frame whose header is undamaged; of the body nobody knows yet.
#[derive(Clone, Copy)]
pub(crate) struct Unchecked<'a> {
    whole: Whole<'a>,
    body_crc: u32,
}

impl<'a> Unchecked<'a> {
    /// Compares the body's checksum.
    #[inline]
    pub(crate) fn check(&self) -> Result<Whole<'a>, DecodeError> {
        if crc32c::crc32c(self.whole.covered) == self.body_crc {
            return Ok(self.whole);
        }
        Err(DecodeError::BadChecksum)
    }

    /// The part of the body that its checksum covers.
    #[cfg(any(feature = "protobuf", feature = "msgpack"))]
    pub(crate) fn body(&self) -> &'a [u8] {
        self.whole.covered
    }

    #[cfg(any(feature = "protobuf", feature = "msgpack"))]
    pub(crate) fn body_crc(&self) -> u32 {
        self.body_crc
    }

    /// Whether it is an append without payloads apart: all of it is covered.
    #[cfg(any(feature = "protobuf", feature = "msgpack"))]
    pub(crate) fn is_append(&self) -> bool {
        self.whole.kind == kind_number(Kind::Append) && self.whole.payloads.is_empty()
    }

    /// Bytes of the frame.
    #[cfg(any(feature = "protobuf", feature = "msgpack"))]
    pub(crate) fn consumed(&self) -> usize {
        self.whole.consumed
    }
}

/// Cuts the frame of `format` that `input` begins with off. Each format has it inline: what it makes is loaded again at
/// once, which takes longer than to make it.
#[inline(always)]
pub(crate) fn cut<'a>(input: &'a [u8], format: u8, limits: &Limits) -> Result<Cut<'a>, DecodeError> {
    let Some((header, body)) = input.split_first_chunk::<HEADER>() else {
        // The first byte is enough to tell a browser that it is wrong here, and each that follows is looked at when it comes.
        if !MAGIC.starts_with(&input[..input.len().min(4)]) {
            return Err(DecodeError::BadMagic(foreign(input)));
        }
        let at_least = if input.len() < MAGIC.len() {
            input.len() + 1
        } else {
            HEADER
        };
        return Ok(Cut::NeedMore { at_least });
    };
    let envelope = Envelope::from_bytes(header)?;
    if envelope.format != format {
        return Err(DecodeError::UnknownVersion);
    }
    let length = usize::try_from(envelope.length).map_err(|_| DecodeError::TooLarge)?;
    let frame = length.checked_add(HEADER).ok_or(DecodeError::TooLarge)?;
    if frame > limits.frame_max {
        return Err(DecodeError::TooLarge);
    }
    if envelope.checked > envelope.length {
        return Err(DecodeError::Malformed { offset: 12 });
    }
    let Some(body) = body.get(..length) else {
        return Ok(Cut::NeedMore { at_least: frame });
    };
    let checked = usize::try_from(envelope.checked).expect("at most the length, which is a usize");
    let (covered, payloads) = body.split_at(checked);
    Ok(Cut::Frame(Unchecked {
        whole: Whole {
            kind: envelope.kind,
            covered,
            payloads,
            consumed: frame,
        },
        body_crc: envelope.body_crc,
    }))
}

/// The number of a kind on the wire, the same in every format. Numbers are never used again.
#[must_use]
pub const fn kind_number(kind: Kind) -> u16 {
    match kind {
        Kind::Hello => 1,
        Kind::Welcome => 2,
        Kind::Goaway => 3,
        Kind::Append => 16,
        Kind::AppendReply => 17,
        Kind::Heartbeat => 18,
        Kind::HeartbeatReply => 19,
        Kind::Vote => 20,
        Kind::VoteReply => 21,
        Kind::ReadIndex => 22,
        Kind::ReadIndexReply => 23,
        Kind::Snapshot => 24,
        Kind::SnapshotReply => 25,
        Kind::TimeoutNow => 26,
        Kind::OpenSession => 32,
        Kind::Command => 33,
        Kind::Read => 34,
        Kind::Reply => 35,
        Kind::Status => 36,
        Kind::StatusReply => 37,
        Kind::Change => 38,
        Kind::Transfer => 39,
        Kind::Fetch => 40,
        Kind::FetchReply => 41,
    }
}

/// The kind of a number; `None` if it is not known here.
#[must_use]
pub const fn kind_of_number(number: u16) -> Option<Kind> {
    /// By their numbers.
    const KINDS: [Option<Kind>; kind_number(Kind::FetchReply) as usize + 1] = {
        let mut kinds = [None; _];
        let mut at = 0;
        while at < Kind::ALL.len() {
            kinds[kind_number(Kind::ALL[at]) as usize] = Some(Kind::ALL[at]);
            at += 1;
        }
        kinds
    };
    if (number as usize) < KINDS.len() {
        return KINDS[number as usize];
    }
    None
}

/// What bytes that do not begin with the magic look like.
fn foreign(input: &[u8]) -> Foreign {
    const METHODS: [&[u8]; 9] = [
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"CONNECT ",
        b"OPTIONS ",
        b"TRACE ",
        b"PATCH ",
    ];
    // The preface of HTTP/2 begins with PRI (RFC 9113 §3.4).
    let is_http = |method: &[u8]| {
        let seen = input.len().min(method.len());
        input[..seen] == method[..seen]
    };
    match input {
        // A record of SSL 3 or TLS with a handshake, type 22, or an alert, 21, which is what a TLS port answers to
        // plaintext; major version 3 (RFC 8446 §5.1).
        [0x15 | 0x16] | [0x15 | 0x16, 0x03, ..] => Foreign::Tls,
        _ if METHODS.iter().any(|method| is_http(method)) || is_http(b"PRI * HTTP/2") => Foreign::Http,
        _ => Foreign::Other,
    }
}

/// A header out of registers: one that was stored in smaller pieces is not there yet when it is loaded in larger ones.
#[inline]
fn in_words([start, lengths, checksums]: [u64; 3]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&start.to_le_bytes());
    header[8..16].copy_from_slice(&lengths.to_le_bytes());
    header[16..].copy_from_slice(&checksums.to_le_bytes());
    header
}

fn u32_at(header: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "binary")]
    use std::ops::ControlFlow;

    #[cfg(feature = "binary")]
    use kraft_core::inbox::{Budget, Inbox, InboxError};

    use super::*;

    const LIMITS: Limits = Limits {
        frame_max: 1 << 20,
        entries_max: 0,
    };

    fn sealed(body: &[u8], change: impl FnOnce(&mut [u8; HEADER])) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap();
        let envelope = Envelope::covering(1, 7, length, crc32c::crc32c(body));
        let mut header = envelope.to_bytes();
        change(&mut header);
        let crc = crc32c::crc32c(&header[..20]);
        header[20..].copy_from_slice(&crc.to_le_bytes());
        [&header[..], body].concat()
    }

    #[track_caller]
    fn check(input: &[u8], expected: Result<Opened<'_>, DecodeError>) {
        assert_eq!(open(input, 1, &LIMITS), expected);
    }

    #[test]
    fn kinds_have_numbers_of_their_own() {
        for kind in Kind::ALL {
            assert_eq!(kind_of_number(kind_number(kind)), Some(kind));
        }
        assert_eq!(kind_of_number(0), None);
        assert_eq!(kind_of_number(u16::MAX), None);
    }

    #[test]
    fn a_whole_frame_opens() {
        let frame = sealed(b"body", |_| ());
        let whole = Whole {
            kind: 7,
            covered: b"body",
            payloads: b"",
            consumed: HEADER + 4,
        };
        check(&frame, Ok(Opened::Whole(whole)));
        check(&[&frame[..], b"more"].concat(), Ok(Opened::Whole(whole)));
        check(&frame[..HEADER], Ok(Opened::NeedMore { at_least: HEADER + 4 }));
        check(&frame[..4], Ok(Opened::NeedMore { at_least: HEADER }));
        check(&frame[..3], Ok(Opened::NeedMore { at_least: 4 }));
        check(&frame[..1], Ok(Opened::NeedMore { at_least: 2 }));
        check(&[], Ok(Opened::NeedMore { at_least: 1 }));
    }

    #[test]
    fn foreign_bytes_are_named_from_the_first_on() {
        for (input, expected) in [
            (&[0x16][..], Foreign::Tls),
            (&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], Foreign::Tls),
            (&[0x15, 3, 3, 0, 2, 2, 50], Foreign::Tls),
            (&[0x15, 2, 3, 0, 2, 2, 50], Foreign::Other),
            (&[0x16, 4], Foreign::Other),
            (b"G", Foreign::Http),
            (b"GET / HTTP/1.1\r\nHost: example\r\n\r\n", Foreign::Http),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Foreign::Http),
            (b"GETTING", Foreign::Other),
            (b"SSH-2.0-OpenSSH_9.2p1", Foreign::Other),
            (b"*1\r\n$4\r\nPING\r\n", Foreign::Other),
            (&[0], Foreign::Other),
            (&[0xa9, b'K', b'R', b'X'], Foreign::Other),
        ] {
            check(input, Err(DecodeError::BadMagic(expected)));
        }
    }

    #[cfg(feature = "binary")]
    #[test]
    fn foreign_bytes_that_come_one_by_one_are_told_as_early() {
        let foreign = [&MAGIC[..2], b"x"].concat();
        let mut inbox = Inbox::default();
        let (mut budget, limits) = (Budget::new(100), Limits::BEFORE_HELLO);
        let mut feed = |byte: &u8| {
            let protocol = crate::Any::new(crate::Format::Binary);
            let bytes = std::slice::from_ref(byte);
            inbox.feed(&protocol, &limits, &mut budget, bytes, |_| ControlFlow::Continue(()))
        };
        let outcomes: Vec<_> = foreign.iter().map(&mut feed).collect();
        let damage = InboxError::Decode(DecodeError::BadMagic(Foreign::Other));
        assert_eq!(outcomes, [Ok(()), Ok(()), Err(damage)]);
    }

    #[test]
    fn versions_are_told_from_damage() {
        check(&sealed(b"", |header| header[4] = 2), Err(DecodeError::UnknownVersion));
        check(&sealed(b"", |header| header[5] = 2), Err(DecodeError::UnknownVersion));
        let mut damaged = sealed(b"", |_| ());
        damaged[4] = 2;
        check(&damaged, Err(DecodeError::BadChecksum));
    }

    #[test]
    fn a_length_is_refused_by_the_header_alone() {
        for length in [u32::MAX, 1 << 31, (1 << 20) - 23, u32::MAX - 23, u32::MAX - 24] {
            let mut frame = sealed(b"", |header| header[8..12].copy_from_slice(&length.to_le_bytes()));
            check(&frame, Err(DecodeError::TooLarge));
            frame[11] ^= 1;
            check(&frame, Err(DecodeError::BadChecksum));
        }
        let frame = sealed(b"", |header| {
            header[8..12].copy_from_slice(&((1_u32 << 20) - 24).to_le_bytes())
        });
        check(&frame, Ok(Opened::NeedMore { at_least: 1 << 20 }));
    }

    #[test]
    fn no_more_is_covered_than_there_is() {
        check(
            &sealed(b"body", |header| header[12] = 5),
            Err(DecodeError::Malformed { offset: 12 }),
        );
    }
}
