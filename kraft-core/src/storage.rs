//! What keeps the log and the vote through crashes, as a trait.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

use crate::id::{Index, NodeId, SyncId, Term};
use crate::message::{Entries, Entry};
use crate::snapshot::{Snapshot, SnapshotStore};
use crate::time::Instant;

/// What a node must never forget: its term, and whom it voted for in it (thesis fig. 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HardState {
    /// The current term.
    pub term: Term,
    /// The vote given in it, [`NodeId::NONE`] if none.
    pub vote: NodeId,
}

/// What storage found when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Term and vote.
    pub hard: HardState,
    /// The place before the first entry.
    pub base_index: Index,
    /// The term there.
    pub base_term: Term,
    /// The log's terms, as runs: the first index of each and its term, ascending.
    pub terms: Vec<(Index, Term)>,
    /// The last index; `base_index` if the log is empty.
    pub last: Index,
    /// The newest snapshot that is whole. It holds what the log lacks: its index is at least `base_index`.
    pub snapshot: Option<Snapshot>,
    /// The payloads of the log's [`EntryKind::Membership`](crate::message::EntryKind::Membership) entries behind the
    /// snapshot, ascending.
    pub memberships: Vec<(Index, Bytes)>,
}

/// Keeps the log and the vote. Owned by a driver and called on its loop, so no call may block: calls collect what is
/// to be done, and [`next_work`](Self::next_work) hands it out as [`Work`] that is run wherever its blocking harms
/// nobody.
///
/// The order of calls is the order on the disk. Everything called before [`sync`](Self::sync) is durable when that
/// sync's id, or a later one, comes back as [`Completed::Synced`].
pub trait Storage {
    /// A unit of blocking work.
    type Work: Work;
    /// Where the snapshots are kept that hold what the log gives up.
    type Snapshots: SnapshotStore;

    /// The snapshots.
    fn snapshots(&self) -> Self::Snapshots;

    /// Writes term and vote.
    fn save(&mut self, hard: HardState);

    /// Writes entries, the first at `first`, which is the place after the last.
    fn append(&mut self, first: Index, entries: &Entries<'_>);

    /// Removes everything from `from` on.
    fn truncate(&mut self, from: Index);

    /// Removes everything, and lets the log begin anew behind a place that a durable snapshot holds. Term and vote stay.
    /// What was there before is given up when the sync that covers this is complete, and not earlier.
    fn reset(&mut self, index: Index, term: Term);

    /// Gives up entries up to `through`, all of which a durable snapshot holds, as far as that costs nothing. Returns
    /// the place that the log begins behind from here on, which may be the one that it was.
    fn release(&mut self, through: Index) -> Index;

    /// Ends a batch: what was called before is to become durable.
    fn sync(&mut self, id: SyncId);

    /// Reads entries back, as many of `range` as a bound allows, at least one.
    fn load(&mut self, range: Range<Index>);

    /// The next work to run. At most one sync is out at a time; those asked for meanwhile become one.
    fn next_work(&mut self) -> Option<Self::Work>;

    /// Takes finished work back.
    ///
    /// # Errors
    ///
    /// [`Fault`]: a write or sync failed. The storage is poisoned and the node must end; nothing is retried.
    fn done(&mut self, done: <Self::Work as Work>::Done) -> Result<Option<Completed>, Fault>;

    /// Payload bytes that can still be appended before there is no space: the log's limit and prepared space, the
    /// lesser. Grows again when space is found.
    fn room(&self) -> u64;

    /// Tells the time, once a turn. What failed without harm, such as preparing a file on a full disk, is tried again
    /// by [`next_work`](Self::next_work) some time later.
    fn tick(&mut self, now: Instant) {
        let _ = now;
    }

    /// When `next_work` will have more without anything else happening.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// Blocking work of a [`Storage`]: a write and a sync, a read, or the preparation of a file.
pub trait Work: Send + 'static {
    /// What comes of it.
    type Done: Send + 'static;

    /// Whether acknowledgements wait for it. Urgent work may run on the loop's own thread if the loop goes on
    /// elsewhere meanwhile.
    fn is_urgent(&self) -> bool;

    /// Does it.
    fn run(self) -> Self::Done;
}

/// What became of work.
#[derive(Debug)]
pub enum Completed {
    /// Everything up to this sync is durable.
    Synced(SyncId),
    /// Entries that were asked for.
    Loaded {
        /// The first one's index.
        first: Index,
        /// They.
        entries: Vec<Entry>,
    },
    /// There is more room than before, or less.
    Room,
}

/// A write or sync that failed, or a log that cannot be read. Ends the node.
#[derive(Debug)]
pub struct Fault {
    /// What was tried: "write", "fdatasync".
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.operation, self.path.display(), self.error)
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
