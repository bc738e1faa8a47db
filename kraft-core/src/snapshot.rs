//! Snapshots: a state machine's whole state at an index, in place of the entries up to there (thesis §5).
//!
//! A snapshot is taken in two steps. On the loop, [`StateMachine::image`](crate::machine::StateMachine::image) and
//! [`Sessions::image`](crate::session::Sessions::image) freeze the state, which takes no time that grows with it; off
//! the loop the image is written to a [`SnapshotStore`] and becomes durable. Only then may the log give up what is in
//! it. A received one goes the other way: pieces are written as they come, the whole is checked and made durable, then
//! it is read into an image off the loop, and the image takes the state's place on it.
//!
//! What the store keeps, as one stream of bytes:
//!
//! ```text
//!   head      who it is of, index, term, the configuration that is in force there
//!   sessions  as [`Sessions`](crate::session::Sessions) writes them
//!   machine   as its image writes it
//! ```

use std::fmt;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use crate::id::{Index, Term};
use crate::membership::{Configuration, ConfigurationError};
use crate::message::SnapshotId;

/// What a snapshot says of itself, before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last entry that it holds.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// Where the configuration stands that is in force at `index`; zero for the one that the cluster was founded with.
    pub membership_index: Index,
    /// That configuration, encoded; empty for the one that the cluster was founded with.
    pub membership: Bytes,
}

impl Head {
    /// The configuration that is in force at `index`, `None` if it is the one that the cluster was founded with. A store
    /// looks before it keeps a snapshot: whoever begins with one needs it.
    ///
    /// # Errors
    ///
    /// [`HeadError`].
    pub fn configuration(&self) -> Result<Option<Configuration>, HeadError> {
        let at = self.membership_index;
        if at > self.index || self.membership.is_empty() && at > Index::ZERO {
            let index = self.index;
            return Err(HeadError::Place { at, index });
        }
        if self.membership.is_empty() {
            return Ok(None);
        }
        let configuration = Configuration::decode(&self.membership);
        configuration.map(Some).map_err(HeadError::Configuration)
    }
}

/// Why no node can begin with a snapshot, though all its bytes are as they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Its configuration is none.
    Configuration(ConfigurationError),
    /// Its configuration does not stand where it says, `at`: not up to `index`, or it is missing.
    Place {
        /// Where it is said to stand.
        at: Index,
        /// The snapshot's.
        index: Index,
    },
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(error) => write!(f, "the configuration in it cannot be read: {error}"),
            Self::Place { at, index } => write!(
                f,
                "the configuration in it is said to stand at index {at}, where it does not; the snapshot's index is {index}"
            ),
        }
    }
}

impl std::error::Error for HeadError {}

/// A snapshot that is whole and durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Which.
    pub id: SnapshotId,
    /// What it says of itself.
    pub head: Head,
}

/// A frozen state, or a part of one. It shares memory with the living state or not, but never changes.
pub trait Image: Sized + Send + 'static {
    /// Writes all of it; runs off the loop.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    fn write(&self, out: &mut dyn io::Write) -> io::Result<()>;

    /// Reads what [`write`](Self::write) wrote, to the end of `input`; runs off the loop. The bytes are those of a
    /// program of this kind, checked by sums, maybe of another version.
    ///
    /// # Errors
    ///
    /// Those of `input`, and [`io::ErrorKind::InvalidData`] for what cannot be read; the text names what and where.
    fn read(input: &mut dyn io::Read) -> io::Result<Self>;
}

/// Where a node keeps its snapshots. Clones are the same place. Every call blocks and is made off the loop; several
/// threads may make them.
pub trait SnapshotStore: Clone + Send + 'static {
    /// Writes a snapshot and makes it durable, then removes those that are too many. Calls `content` once, for what
    /// follows the head.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing of it is left.
    fn save(
        &self,
        head: &Head,
        content: &mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<Snapshot, StoreError>;

    /// Reads a piece of a snapshot that is kept, to be sent: `length` bytes from `offset`, fewer at its end.
    ///
    /// # Errors
    ///
    /// [`StoreError::Gone`] if it is not kept any more, and the others.
    fn read(&self, id: SnapshotId, offset: u64, length: usize) -> Result<Bytes, StoreError>;

    /// Writes a piece of a snapshot that is being received. The first, at offset 0, begins it and ends whatever else
    /// was being received; the others follow each other.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. What was received before stands if the piece does not follow it. If the disk failed, or what came
    /// is damaged or another cluster's, nothing of it is left.
    fn receive(&self, id: SnapshotId, offset: u64, data: &[u8]) -> Result<(), StoreError>;

    /// All of it was received: checks it, its [configuration](Head::configuration) too, and makes its bytes durable. A
    /// restart does not find it before it is [kept](Self::keep).
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if the sums do not fit, and the others; nothing of it is left.
    fn finish(&self, id: SnapshotId) -> Result<Snapshot, StoreError>;

    /// Keeps what was finished, durably, then removes those that are too many. From here on it is what a restart begins
    /// from, if it is the newest.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing of it is left.
    fn keep(&self, snapshot: &Snapshot) -> Result<(), StoreError>;

    /// Removes what was received of a snapshot that will not be finished, or not be kept.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn abandon(&self) -> Result<(), StoreError>;

    /// Reads what follows the head, checking every sum. Calls `content` once.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn load(
        &self,
        id: SnapshotId,
        content: &mut dyn FnMut(&mut dyn io::Read) -> io::Result<()>,
    ) -> Result<(), StoreError>;
}

/// Why a snapshot was not written, read or received.
#[derive(Debug)]
pub enum StoreError {
    /// There is no room. Nothing is lost; it is tried again later.
    NoSpace(PathBuf),
    /// What is there is not what was written.
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// It is not kept any more, or never was.
    Gone(SnapshotId),
    /// The system refused.
    Failed {
        /// What was tried: "write", "fsync", "rename".
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace(path) => write!(f, "{}: no space for a snapshot: make room there", path.display()),
            Self::Damaged { path, offset, what } => {
                write!(f, "{} is damaged at byte {offset}: {what}", path.display())
            }
            Self::Gone(id) => write!(f, "the snapshot at index {} is not kept any more", id.index),
            Self::Failed { operation, path, error } => write!(f, "{operation} {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed { error, .. } => Some(error),
            _ => None,
        }
    }
}
