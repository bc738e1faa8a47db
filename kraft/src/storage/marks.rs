//! What became of a node after its data folder was made: files of a line or two beside the identity, which never changes.

use std::io;

use kraft_core::id::Incarnation;
use kraft_core::storage::Fault;

use super::files::{Files, read_small, replace_small};
use super::folder::{Folder, FolderError};
use super::sealed_text;
use super::survey::fault;

const REMOVED: &str = "removed";
const REMOVED_TITLE: &str = "This node was removed from its cluster. The last line is the checksum of all above it.";
const LIFE: &str = "life";
const LIFE_TITLE: &str =
    "The cluster was begun anew with this node alone. The last line is the checksum of all above it.";
const MARK_BYTES_MAX: u64 = 4 << 10;

impl<F: Files> Folder<F> {
    /// The life by which peers know this node: that of the folder, or since the cluster was
    /// [begun anew](super::force_new_cluster), another one, so that former members do not take it for who it was.
    ///
    /// # Errors
    ///
    /// [`FolderError::Damaged`] and [`FolderError::Failed`].
    pub fn life(&self) -> Result<Incarnation, FolderError> {
        let Some(lines) = read(self.files(), LIFE)? else {
            return Ok(self.identity().incarnation);
        };
        let life = lines.iter().find(|(key, _)| key == "incarnation");
        let life = life.and_then(|(_, text)| u64::from_str_radix(text, 16).ok());
        match life {
            Some(number) if number != 0 => Ok(Incarnation(number)),
            _ => Err(FolderError::Damaged(self.files().path(LIFE), "the incarnation")),
        }
    }

    /// Another life begins, durably.
    pub(super) fn begin_life(&self, life: Incarnation) -> Result<(), Fault> {
        let lines = [("version", "1".to_owned()), ("incarnation", format!("{:016x}", life.0))];
        write(self.files(), LIFE, LIFE_TITLE, lines)
    }

    /// Notes durably that this node was removed from its cluster: it is not started again.
    ///
    /// # Errors
    ///
    /// [`Fault`]: the disk failed.
    pub fn mark_removed(&self) -> Result<(), Fault> {
        let node = ("node", self.identity().node.to_string());
        write(
            self.files(),
            REMOVED,
            REMOVED_TITLE,
            [("version", "1".to_owned()), node],
        )
    }

    /// Whether that was noted.
    ///
    /// # Errors
    ///
    /// [`FolderError::Damaged`] and [`FolderError::Failed`].
    pub fn was_removed(&self) -> Result<bool, FolderError> {
        Ok(read(self.files(), REMOVED)?.is_some())
    }
}

type Lines = Vec<(String, String)>;

/// `None` if there is none.
fn read<F: Files>(files: &F, name: &str) -> Result<Option<Lines>, FolderError> {
    let path = files.path(name);
    let bytes = match read_small(files, name, MARK_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(FolderError::Damaged(path, "it is too long"));
        }
        Err(error) => return Err(FolderError::Failed(path, error)),
    };
    let lines = sealed_text::decode(&bytes).map_err(|what| FolderError::Damaged(path.clone(), what))?;
    match lines.first() {
        Some((key, version)) if key == "version" && version == "1" => Ok(Some(lines)),
        _ => Err(FolderError::Damaged(path, "it is of another version")),
    }
}

fn write<F: Files>(files: &F, name: &str, title: &str, lines: [(&str, String); 2]) -> Result<(), Fault> {
    let lines = lines.map(|(key, value)| (key.to_owned(), value));
    replace_small(files, name, &sealed_text::encode(title, &lines)).map_err(fault(files, name, "replace"))
}
