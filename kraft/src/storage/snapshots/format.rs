//! The bytes of a snapshot: a front, the configuration, the content in blocks, a trailer.
//!
//! Nothing in it names the node or the time: equal state at an index is equal bytes on every node, so that a transfer
//! that one node began another one can end. So every block but the last is full, however the content was written. All
//! numbers are little-endian. Each sum is a CRC32C and stands before the bytes that it covers: behind them it would
//! cancel them out of the sum of the whole file, which the snapshot is known by.
//!
//! | bytes | front |
//! |---|---|
//! | 0-7 | `KRAFTSNP` |
//! | 8-11 | sum of bytes 12-63 |
//! | 12-15 | version |
//! | 16-23 | cluster |
//! | 24-27 | group |
//! | 28-31 | length of the configuration, which stands behind the front |
//! | 32-39 | index |
//! | 40-47 | term |
//! | 48-55 | where the configuration stands |
//! | 56-59 | sum of the configuration |
//! | 60-63 | zero |
//!
//! | bytes | block |
//! |---|---|
//! | 0-3 | length of its content, 1 to [`BLOCK_BYTES`] |
//! | 4-7 | sum of bytes 0-3 and the content, begun from the block's place in the file |
//! | 8- | content |
//!
//! | bytes | trailer |
//! |---|---|
//! | 0-3 | zero, where a block has its length |
//! | 4-7 | sum of bytes 8-31, begun from the trailer's place in the file |
//! | 8-15 | bytes of the content |
//! | 16-23 | bytes of the file |
//! | 24-31 | `KRAFTEND` |

use std::fmt;
use std::io;

use bytes::Bytes;
use kraft_core::id::{ClusterId, GroupId, Index, Term};
use kraft_core::membership::ConfigurationError;
use kraft_core::message::SnapshotId;
use kraft_core::snapshot::{Head, HeadError};
use rustix::io::Errno;

/// The version of the format that this build writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// The most content in a block.
pub const BLOCK_BYTES: usize = 64 << 10;

/// The front.
pub const FRONT_BYTES: usize = 64;

/// What stands before a block's content.
pub const BLOCK_HEADER_BYTES: usize = 8;

/// The trailer.
pub const TRAILER_BYTES: usize = 32;

/// The longest configuration: a thousand members with long addresses take less.
pub const MEMBERSHIP_BYTES_MAX: usize = 1 << 20;

const MAGIC: [u8; 8] = *b"KRAFTSNP";
const END_MAGIC: [u8; 8] = *b"KRAFTEND";
const SUFFIX: &str = ".snap";

/// Whose snapshots they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
}

/// What is wrong with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// It is none, or its front is damaged.
    Front,
    /// It was written by another version of the format.
    Version(u32),
    /// It is another cluster's or group's.
    Foreign {
        /// Whose it is.
        found: Owner,
        /// Whose it should be.
        expected: Owner,
    },
    /// The configuration is damaged.
    Membership,
    /// It is as it was written, and no node can begin with it.
    Head(HeadError),
    /// A block is damaged.
    Block,
    /// The trailer is damaged.
    Trailer,
    /// It ends before its trailer.
    Short,
    /// Bytes follow its trailer.
    Long,
    /// The disk does not give it back: the system's error.
    Unreadable(i32),
    /// It is sound, but not the one that it is called: another index, term, length or sum.
    OtherId {
        /// Which it is.
        found: SnapshotId,
        /// Which it should be.
        expected: SnapshotId,
    },
}

impl Flaw {
    /// What a failed read says of the file, if it is the file that fails: bytes that the disk cannot read (EIO), or that
    /// the file system knows to be wrong (EBADMSG; on Linux also EUCLEAN, which ext4 and XFS call EFSCORRUPTED). A right, a descriptor or memory that is missing says nothing of it.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        #[cfg(target_os = "linux")]
        let is_known = |errno: &Errno| matches!(*errno, Errno::IO | Errno::BADMSG | Errno::UCLEAN);
        #[cfg(not(target_os = "linux"))]
        let is_known = |errno: &Errno| matches!(*errno, Errno::IO | Errno::BADMSG);
        let errno = Errno::from_io_error(error).filter(is_known);
        errno.map(|errno| Self::Unreadable(errno.raw_os_error()))
    }

    /// Whether a later program has written it: that is no damage.
    #[must_use]
    pub const fn is_version(&self) -> bool {
        matches!(
            self,
            Self::Version(_) | Self::Head(HeadError::Configuration(ConfigurationError::Version(_)))
        )
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Front => f.write_str("it is no snapshot, or its front is damaged"),
            Self::Version(found) => write!(f, "format version {found}; this program reads version {VERSION}"),
            Self::Foreign { found, expected } => write!(
                f,
                "it is a snapshot of cluster {:x}, group {}, not of cluster {:x}, group {}",
                found.cluster.0, found.group, expected.cluster.0, expected.group
            ),
            Self::Membership => f.write_str("the configuration in it is damaged"),
            Self::Head(error) => error.fmt(f),
            Self::Block => f.write_str("a block is damaged"),
            Self::Trailer => f.write_str("the trailer is damaged"),
            Self::Short => f.write_str("it ends before its trailer"),
            Self::Long => f.write_str("bytes follow its trailer"),
            Self::Unreadable(code) => write!(f, "it cannot be read: {}", io::Error::from_raw_os_error(*code)),
            Self::OtherId { found, expected } => write!(
                f,
                "it is the snapshot at index {} of term {} with {} bytes and sum {:08x}, not that at index {} of term \
                 {} with {} bytes and sum {:08x}",
                found.index,
                found.term,
                found.bytes,
                found.crc,
                expected.index,
                expected.term,
                expected.bytes,
                expected.crc
            ),
        }
    }
}

/// The name of a snapshot's file. It is made of numbers alone, whoever said them.
#[must_use]
pub fn snapshot_name(id: &SnapshotId) -> String {
    format!("{:020}-{:020}-{:08x}{SUFFIX}", id.index.0, id.term.0, id.crc)
}

/// The snapshot in the file of this name and size, as far as these tell.
#[must_use]
pub fn snapshot_of_name(name: &str, bytes: u64) -> Option<SnapshotId> {
    let mut parts = name.strip_suffix(SUFFIX)?.splitn(3, '-');
    let index = parts.next()?.parse().ok()?;
    let term = parts.next()?.parse().ok()?;
    let crc = u32::from_str_radix(parts.next()?, 16).ok()?;
    let id = SnapshotId {
        index: Index(index),
        term: Term(term),
        bytes,
        crc,
    };
    (snapshot_name(&id) == name).then_some(id)
}

/// The front, and what it says of the configuration behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front {
    pub(super) owner: Owner,
    pub(super) index: Index,
    pub(super) term: Term,
    pub(super) membership_index: Index,
    pub(super) membership_bytes: usize,
    pub(super) membership_crc: u32,
}

impl Front {
    pub(super) fn of(owner: Owner, head: &Head) -> Self {
        Self {
            owner,
            index: head.index,
            term: head.term,
            membership_index: head.membership_index,
            membership_bytes: head.membership.len(),
            membership_crc: crc32c::crc32c(&head.membership),
        }
    }

    pub(super) fn encode(&self) -> [u8; FRONT_BYTES] {
        let membership_bytes = u32::try_from(self.membership_bytes).expect("checked against MEMBERSHIP_BYTES_MAX");
        let mut bytes = [0; FRONT_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[12..16].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.owner.cluster.0.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.owner.group.0.to_le_bytes());
        bytes[28..32].copy_from_slice(&membership_bytes.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.index.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.membership_index.0.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.membership_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; FRONT_BYTES]) -> Result<Self, Flaw> {
        if bytes[..8] != MAGIC || u32_at(bytes, 8) != crc32c::crc32c(&bytes[12..]) {
            return Err(Flaw::Front);
        }
        let version = u32_at(bytes, 12);
        if version != VERSION {
            return Err(Flaw::Version(version));
        }
        let membership_bytes = u32_at(bytes, 28) as usize;
        if membership_bytes > MEMBERSHIP_BYTES_MAX {
            return Err(Flaw::Front);
        }
        Ok(Self {
            owner: Owner {
                cluster: ClusterId(u64_at(bytes, 16)),
                group: GroupId(u32_at(bytes, 24)),
            },
            index: Index(u64_at(bytes, 32)),
            term: Term(u64_at(bytes, 40)),
            membership_index: Index(u64_at(bytes, 48)),
            membership_bytes,
            membership_crc: u32_at(bytes, 56),
        })
    }

    /// The head, with the configuration that stands behind the front.
    pub(super) fn head(&self, membership: &[u8]) -> Result<Head, Flaw> {
        if membership.len() != self.membership_bytes || crc32c::crc32c(membership) != self.membership_crc {
            return Err(Flaw::Membership);
        }
        Ok(Head {
            index: self.index,
            term: self.term,
            membership_index: self.membership_index,
            membership: Bytes::copy_from_slice(membership),
        })
    }
}

/// What the sum of what stands at `offset` begins from, so that blocks that changed places are told.
pub(super) fn seed(offset: u64) -> u32 {
    crc32c::crc32c(&offset.to_le_bytes())
}

/// What stands before a block's content, which begins the sum of it.
pub(super) fn block_header(offset: u64, content: &[u8]) -> [u8; BLOCK_HEADER_BYTES] {
    let length = u32::try_from(content.len()).expect("a block is below 32 bits");
    let crc = crc32c::crc32c_append(block_sum(offset, length), content);
    let mut bytes = [0; BLOCK_HEADER_BYTES];
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The sum of a block before its content.
pub(super) fn block_sum(offset: u64, length: u32) -> u32 {
    crc32c::crc32c_append(seed(offset), &length.to_le_bytes())
}

pub(super) fn trailer(offset: u64, content_bytes: u64) -> [u8; TRAILER_BYTES] {
    let mut bytes = [0; TRAILER_BYTES];
    bytes[8..16].copy_from_slice(&content_bytes.to_le_bytes());
    bytes[16..24].copy_from_slice(&(offset + TRAILER_BYTES as u64).to_le_bytes());
    bytes[24..32].copy_from_slice(&END_MAGIC);
    let crc = crc32c::crc32c_append(seed(offset), &bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_snapshots_are_read_strictly() {
        let id = SnapshotId {
            index: Index(u64::MAX),
            term: Term(7),
            bytes: 99,
            crc: 0xab,
        };
        let name = snapshot_name(&id);
        assert_eq!(name, "18446744073709551615-00000000000000000007-000000ab.snap");
        assert_eq!(snapshot_of_name(&name, 99), Some(id));
        for name in [
            "1-7-ab.snap",
            "18446744073709551616-00000000000000000007-000000ab.snap",
            "18446744073709551615-00000000000000000007-000000AB.snap",
            "18446744073709551615-00000000000000000007-000000ab.snap.damaged",
            "../446744073709551615-00000000000000000007-000000ab.snap",
            "receive.tmp",
        ] {
            assert_eq!(snapshot_of_name(name, 99), None, "{name}");
        }
    }
}
