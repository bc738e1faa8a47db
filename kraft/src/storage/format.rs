//! The bytes of a segment: its header, and the records behind it.
//!
//! A segment is a file of fixed size, named by its number. It begins with a header of one sector, [`HEADER_BYTES`];
//! records follow, each a header of [`RECORD_BYTES`] and, behind an entry's, its payload, padded with zeros to
//! [`ALIGN`]. All numbers are little-endian. Behind the last record stands what stood there before: zeros, or the
//! records of the segment that the file was recycled from.
//!
//! The CRC32C of a record's header begins from the [seed](LogIdentity::seed) of its segment and its offset in it, so
//! that bytes that belong elsewhere (recycled, misdirected, another node's) are never taken for a record:
//!
//! | bytes | record header |
//! |---|---|
//! | 0-3 | CRC32C of bytes 4-31, begun from seed xor offset |
//! | 4 | kind: 1 no-op, 2 command, 3 open session, 4 membership, 16 hard state, 17 truncation, 18 mark |
//! | 5-7 | zero |
//! | 8-11 | length of the payload |
//! | 12-15 | CRC32C of the payload |
//! | 16-23 | index; of a hard state the vote, of a truncation its first index, of a mark the segment |
//! | 24-31 | term; of a truncation zero, of a mark the offset |

use std::fmt;

use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId, Term};
use kraft_core::message::EntryKind;
use kraft_core::storage::HardState;

/// The version of the format that this build writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// The header of a segment, padded to a sector: disks write a sector as a whole or not at all.
pub const HEADER_BYTES: u32 = 512;

/// The header of a record.
pub const RECORD_BYTES: u32 = 32;

/// Records begin at multiples of this.
pub const ALIGN: u32 = 8;

const MAGIC: [u8; 8] = *b"KRAFTLOG";
/// Up to here the segment's header has fields; zeros follow, and the CRC in the last four bytes.
const HEADER_FIELDS: usize = 120;

const KIND_NOOP: u8 = 1;
const KIND_COMMAND: u8 = 2;
const KIND_OPEN_SESSION: u8 = 3;
const KIND_MEMBERSHIP: u8 = 4;
const KIND_HARD_STATE: u8 = 16;
const KIND_TRUNCATE: u8 = 17;
const KIND_MARK: u8 = 18;

/// Whose log it is. Every segment names it, and every record's CRC covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The life of its data folder.
    pub incarnation: Incarnation,
    /// The group.
    pub group: GroupId,
}

impl LogIdentity {
    /// What the CRCs of a segment's records begin from.
    ///
    /// CRC32C tells any two numbers of 32 bits apart, so two segments of one log never share a seed.
    #[must_use]
    pub fn seed(&self, segment: u32) -> u32 {
        let mut bytes = [0; 32];
        bytes[0..8].copy_from_slice(&self.cluster.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.node.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.group.0.to_le_bytes());
        bytes[28..32].copy_from_slice(&segment.to_le_bytes());
        crc32c::crc32c(&bytes)
    }
}

/// A place in the log's bytes. Later bytes have greater positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The number of the segment, from 1; zero is before the first.
    pub segment: u32,
    /// The byte in it.
    pub offset: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// The name of a segment's file.
#[must_use]
pub fn segment_name(number: u32) -> String {
    format!("{number:010}.log")
}

/// The number of the segment in the file of this name, if it is one.
#[must_use]
pub fn segment_number(name: &str) -> Option<u32> {
    let number = name
        .strip_suffix(".log")
        .filter(|digits| digits.len() == 10)?
        .parse()
        .ok()?;
    (number > 0 && segment_name(number) == name).then_some(number)
}

/// What a segment opens with: what must be known where no earlier segment can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log it is.
    pub identity: LogIdentity,
    /// The segment's number.
    pub number: u32,
    /// Whether what stands behind its records may be those of the segment that its file was used for before; if not, it
    /// is zeros.
    pub is_reused: bool,
    /// Where the log before this segment ends. What stands behind it is no part of the log; neither are segments with
    /// numbers between. Zero in the first one.
    pub follows: Position,
    /// Everything before this was durable when the header was written.
    pub synced_through: Position,
    /// The last index that stands before this segment; what earlier segments have above it is removed.
    pub base_index: Index,
    /// The term there.
    pub base_term: Term,
    /// Term and vote.
    pub hard: HardState,
}

/// Why bytes are no header of a segment of this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// They are none at all: zeros, torn, or damaged.
    Invalid,
    /// They are one of another version of the format.
    Version(u32),
}

impl SegmentHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[0..8].copy_from_slice(&MAGIC);
        let mut at = 8;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&VERSION.to_le_bytes());
        put(&self.identity.group.0.to_le_bytes());
        put(&self.identity.cluster.0.to_le_bytes());
        put(&self.identity.node.0.to_le_bytes());
        put(&self.identity.incarnation.0.to_le_bytes());
        put(&self.number.to_le_bytes());
        put(&u32::from(self.is_reused).to_le_bytes());
        for position in [self.follows, self.synced_through] {
            put(&position.segment.to_le_bytes());
            put(&position.offset.to_le_bytes());
        }
        put(&self.base_index.0.to_le_bytes());
        put(&self.base_term.0.to_le_bytes());
        put(&self.hard.term.0.to_le_bytes());
        put(&self.hard.vote.0.to_le_bytes());
        debug_assert!(at <= HEADER_FIELDS);
        let crc = crc32c::crc32c(&bytes[..HEADER_BYTES as usize - 4]);
        bytes[HEADER_BYTES as usize - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`HeaderError`]. Whether the header belongs to this log and file is the caller's to compare.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let Some(bytes) = bytes.first_chunk::<{ HEADER_BYTES as usize }>() else {
            return Err(HeaderError::Invalid);
        };
        let (covered, crc) = bytes.split_at(HEADER_BYTES as usize - 4);
        if bytes[..8] != MAGIC || crc32c::crc32c(covered).to_le_bytes() != *crc {
            return Err(HeaderError::Invalid);
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let position = |at| Position {
            segment: u32_at(bytes, at),
            offset: u32_at(bytes, at + 4),
        };
        Ok(Self {
            identity: LogIdentity {
                group: GroupId(u32_at(bytes, 12)),
                cluster: ClusterId(u64_at(bytes, 16)),
                node: NodeId(u64_at(bytes, 24)),
                incarnation: Incarnation(u64_at(bytes, 32)),
            },
            number: u32_at(bytes, 40),
            is_reused: u32_at(bytes, 44) != 0,
            follows: position(48),
            synced_through: position(56),
            base_index: Index(u64_at(bytes, 64)),
            base_term: Term(u64_at(bytes, 72)),
            hard: HardState {
                term: Term(u64_at(bytes, 80)),
                vote: NodeId(u64_at(bytes, 88)),
            },
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// What a record says; an entry's payload stands behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry.
    Entry {
        /// Its place.
        index: Index,
        /// Its term.
        term: Term,
        /// What it is.
        kind: EntryKind,
        /// The length of its payload.
        length: u32,
        /// The CRC32C of its payload.
        crc: u32,
    },
    /// Term and vote from here on.
    HardState(HardState),
    /// Entries from here on are removed.
    Truncate(Index),
    /// Opens a batch: everything before this position was durable when the batch was handed to the disk.
    Mark(Position),
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// They are none: zeros, torn, stale, misdirected, or damaged.
    Invalid,
    /// They are one, of a kind that this build does not know.
    Kind(u8),
}

impl Record {
    /// The bytes of the record and its payload, padding included.
    ///
    /// `None` if they are more than any segment holds.
    #[must_use]
    pub const fn size(&self) -> Option<u32> {
        match self {
            Self::Entry { length, .. } => record_bytes(*length as usize),
            _ => Some(RECORD_BYTES),
        }
    }

    /// The record's header, for a place in a segment.
    #[must_use]
    pub fn encode(&self, seed: u32, offset: u32) -> [u8; RECORD_BYTES as usize] {
        let (kind, length, payload_crc, index, term) = match *self {
            Self::Entry {
                index,
                term,
                kind,
                length,
                crc,
            } => (kind_to_u8(kind), length, crc, index.0, term.0),
            Self::HardState(hard) => (KIND_HARD_STATE, 0, 0, hard.vote.0, hard.term.0),
            Self::Truncate(from) => (KIND_TRUNCATE, 0, 0, from.0, 0),
            Self::Mark(synced) => (KIND_MARK, 0, 0, u64::from(synced.segment), u64::from(synced.offset)),
        };
        let mut bytes = [0; RECORD_BYTES as usize];
        bytes[4] = kind;
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12..16].copy_from_slice(&payload_crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&index.to_le_bytes());
        bytes[24..32].copy_from_slice(&term.to_le_bytes());
        let crc = crc32c::crc32c_append(seed ^ offset, &bytes[4..]);
        bytes[0..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of a record, from its place in a segment. The payload is the caller's to check.
    ///
    /// # Errors
    ///
    /// [`RecordError`].
    pub fn decode(bytes: &[u8; RECORD_BYTES as usize], seed: u32, offset: u32) -> Result<Self, RecordError> {
        // No record has kind 0, so zeros cost no CRC.
        if bytes[4] == 0 || crc32c::crc32c_append(seed ^ offset, &bytes[4..]) != u32_at(bytes, 0) {
            return Err(RecordError::Invalid);
        }
        let (length, crc) = (u32_at(bytes, 8), u32_at(bytes, 12));
        let (index, term) = (u64_at(bytes, 16), u64_at(bytes, 24));
        if let Some(kind) = kind_from_u8(bytes[4]) {
            return Ok(Self::Entry {
                index: Index(index),
                term: Term(term),
                kind,
                length,
                crc,
            });
        }
        match bytes[4] {
            KIND_HARD_STATE => Ok(Self::HardState(HardState {
                term: Term(term),
                vote: NodeId(index),
            })),
            KIND_TRUNCATE => Ok(Self::Truncate(Index(index))),
            KIND_MARK => match (u32::try_from(index), u32::try_from(term)) {
                (Ok(segment), Ok(offset)) => Ok(Self::Mark(Position { segment, offset })),
                _ => Err(RecordError::Invalid),
            },
            kind => Err(RecordError::Kind(kind)),
        }
    }
}

/// Whether these bytes, at a record's place, may be one of a kind that this build knows. Cheaper than reading it.
pub(crate) const fn may_be_record(bytes: &[u8; RECORD_BYTES as usize]) -> bool {
    let is_known = matches!(bytes[4], KIND_NOOP..=KIND_MEMBERSHIP | KIND_HARD_STATE..=KIND_MARK);
    is_known && bytes[5] == 0 && bytes[6] == 0 && bytes[7] == 0
}

/// The bytes of a record with a payload of `length`, padding included; `None` if they are more than any segment holds.
#[must_use]
pub const fn record_bytes(length: usize) -> Option<u32> {
    if length > SEGMENT_BYTES_MAX as usize {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is at most SEGMENT_BYTES_MAX")]
    let length = length as u32;
    Some(RECORD_BYTES + length.next_multiple_of(ALIGN))
}

/// The largest segment: offsets, and sums of a few of them, stay within 32 bits.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;

const fn kind_to_u8(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Noop => KIND_NOOP,
        EntryKind::Command => KIND_COMMAND,
        EntryKind::OpenSession => KIND_OPEN_SESSION,
        EntryKind::Membership => KIND_MEMBERSHIP,
    }
}

const fn kind_from_u8(kind: u8) -> Option<EntryKind> {
    match kind {
        KIND_NOOP => Some(EntryKind::Noop),
        KIND_COMMAND => Some(EntryKind::Command),
        KIND_OPEN_SESSION => Some(EntryKind::OpenSession),
        KIND_MEMBERSHIP => Some(EntryKind::Membership),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: LogIdentity = LogIdentity {
        cluster: ClusterId(1),
        node: NodeId(2),
        incarnation: Incarnation(3),
        group: GroupId(4),
    };

    #[test]
    fn a_segment_header_survives_the_round_trip() {
        let header = SegmentHeader {
            identity: IDENTITY,
            number: 5,
            is_reused: true,
            follows: Position { segment: 4, offset: 6 },
            synced_through: Position { segment: 7, offset: 8 },
            base_index: Index(9),
            base_term: Term(10),
            hard: HardState {
                term: Term(11),
                vote: NodeId(12),
            },
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderError::Invalid), "bit {bit}");
        }
    }

    #[test]
    fn a_record_is_one_at_its_own_place_alone() {
        let record = Record::Entry {
            index: Index(9),
            term: Term(3),
            kind: EntryKind::Command,
            length: 5,
            crc: 77,
        };
        let bytes = record.encode(IDENTITY.seed(1), 512);
        assert_eq!(Record::decode(&bytes, IDENTITY.seed(1), 512), Ok(record));
        assert_eq!(Record::decode(&bytes, IDENTITY.seed(1), 520), Err(RecordError::Invalid));
        assert_eq!(Record::decode(&bytes, IDENTITY.seed(2), 512), Err(RecordError::Invalid));
        let other = LogIdentity {
            incarnation: Incarnation(4),
            ..IDENTITY
        };
        assert_eq!(Record::decode(&bytes, other.seed(1), 512), Err(RecordError::Invalid));
    }

    #[test]
    fn names_of_segments_are_read_strictly() {
        assert_eq!(segment_number(&segment_name(7)), Some(7));
        for name in [
            "7.log",
            "0000000000.log",
            "+000000007.log",
            "0000000007.tmp",
            "9999999999.log",
        ] {
            assert_eq!(segment_number(name), None, "{name}");
        }
    }
}
