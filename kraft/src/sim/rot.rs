//! A bit that is not what was written, and what is known of it.

use kraft_core::id::NodeId;
use kraft_core::message::SnapshotId;

use super::trace::Step;
use crate::storage::{Files as _, MemFiles};

/// A flipped bit.
#[derive(Clone, Debug)]
pub(super) struct Rot {
    pub(super) file: String,
    pub(super) offset: usize,
    pub(super) bits: u8,
    /// Of a file in the log's folder, or in that of the snapshots.
    pub(super) folder: MemFiles,
    /// The snapshot that is in the file.
    pub(super) snapshot: Option<SnapshotId>,
    /// The byte as it should be.
    pub(super) sound: u8,
}

impl Rot {
    /// What is told of it.
    pub(super) fn step(&self, node: NodeId) -> Step {
        Step::Rotten(node, self.file.as_str().into(), self.offset)
    }

    /// Whether it is a snapshot that rots: that may be done without.
    pub(super) fn is_snapshots(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Whether the file is there, as rotten as it was.
    pub(super) fn is_there(&self) -> bool {
        let is_named = |names: Vec<String>| names.contains(&self.file);
        self.folder.list().is_ok_and(is_named)
            && self.folder.bytes(&self.file).get(self.offset) == Some(&(self.sound ^ self.bits))
    }
}
