//! The incarnations that peers are known by, durably.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kraft_core::id::{Incarnation, NodeId};
use kraft_core::storage::Fault;

use super::files::{Files, read_small, replace_small};
use super::folder::FolderError;
use super::sealed_text;
use super::survey::fault;

const PEERS: &str = "peers";
const PEERS_BYTES_MAX: u64 = 1 << 20;
const TITLE: &str = "The life of each peer's data folder. The last line is the checksum of all above it.";

/// Which incarnation each peer is known by. A peer is believed when it is in here, and is in here when that is
/// durable; another incarnation of it is another disk, and refused.
#[derive(Debug)]
pub struct PeerBook<F: Files> {
    files: F,
    known: Mutex<BTreeMap<NodeId, Incarnation>>,
}

impl<F: Files> PeerBook<F> {
    /// Begins the book of a new data folder.
    pub(crate) fn create(files: &F) -> io::Result<()> {
        replace_small(files, PEERS, &encode(&BTreeMap::new()))
    }

    /// Reads the book of a data folder.
    ///
    /// # Errors
    ///
    /// [`FolderError::Damaged`], also if it is missing: peers that are known would be taken for new ones; and
    /// [`FolderError::Failed`].
    pub fn open(files: F) -> Result<Self, FolderError> {
        let path = files.path(PEERS);
        let bytes = match read_small(&files, PEERS, PEERS_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(FolderError::Damaged(path, "it is missing"));
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(FolderError::Damaged(path, "it is too long"));
            }
            Err(error) => return Err(FolderError::Failed(path, error)),
        };
        let known = match decode(&bytes) {
            Ok(known) => known,
            Err(what) => return Err(FolderError::Damaged(path, what)),
        };
        // The book may have its name in the page cache alone, if the process was killed before it synced the folder.
        files.sync_folder().map_err(|error| FolderError::Failed(path, error))?;
        Ok(Self {
            files,
            known: Mutex::new(known),
        })
    }

    /// The incarnation that a peer is known by.
    pub fn get(&self, node: NodeId) -> Option<Incarnation> {
        self.lock().get(&node).copied()
    }

    /// Every peer that is known, by its incarnation.
    pub fn all(&self) -> Vec<(NodeId, Incarnation)> {
        self.lock()
            .iter()
            .map(|(node, incarnation)| (*node, *incarnation))
            .collect()
    }

    /// Records the incarnation of a peer that was not known, durably. Blocks on the disk, once in the life of a peer:
    /// called off the loop. A peer that is known by another incarnation stays known by that one.
    ///
    /// # Errors
    ///
    /// [`Fault`]: the disk failed; the book is as it was.
    pub fn remember(&self, node: NodeId, incarnation: Incarnation) -> Result<Incarnation, Fault> {
        let mut known = self.lock();
        if let Some(before) = known.get(&node) {
            return Ok(*before);
        }
        let mut next = known.clone();
        next.insert(node, incarnation);
        replace_small(&self.files, PEERS, &encode(&next)).map_err(fault(&self.files, PEERS, "replace"))?;
        *known = next;
        Ok(incarnation)
    }

    /// Forgets a peer that was removed from the cluster.
    ///
    /// # Errors
    ///
    /// [`Fault`]: the disk failed; the book is as it was.
    pub fn forget(&self, node: NodeId) -> Result<(), Fault> {
        let mut known = self.lock();
        let mut next = known.clone();
        if next.remove(&node).is_some() {
            replace_small(&self.files, PEERS, &encode(&next)).map_err(fault(&self.files, PEERS, "replace"))?;
            *known = next;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Incarnation>> {
        // The map is replaced as a whole, so it is sound whatever happened to another holder.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode(known: &BTreeMap<NodeId, Incarnation>) -> Vec<u8> {
    let mut lines = vec![("version".to_owned(), "1".to_owned())];
    for (node, incarnation) in known {
        lines.push((format!("peer.{node}"), format!("{:016x}", incarnation.0)));
    }
    sealed_text::encode(TITLE, &lines)
}

fn decode(bytes: &[u8]) -> Result<BTreeMap<NodeId, Incarnation>, &'static str> {
    let lines = sealed_text::decode(bytes)?;
    let Some(((key, version), peers)) = lines.split_first() else {
        return Err("it has no version");
    };
    if key != "version" || version != "1" {
        return Err("it has another version");
    }
    let mut known = BTreeMap::new();
    for (key, value) in peers {
        let node = key
            .strip_prefix("peer.")
            .and_then(|node| node.parse().ok())
            .ok_or("an unknown key")?;
        let incarnation = u64::from_str_radix(value, 16).map_err(|_| "an incarnation")?;
        known.insert(NodeId(node), Incarnation(incarnation));
    }
    Ok(known)
}
