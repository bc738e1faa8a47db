//! A data folder that begins with the state of another cluster.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kraft_core::id::{ClusterId, GroupId};
use kraft_core::message::SnapshotId;
use kraft_core::snapshot::StoreError;
use kraft_core::storage::Fault;

use super::disk_log::DiskLog;
use super::files::Files;
use super::folder::{Folder, FolderError, Identity, check_empty};
use super::real::RealFiles;
use super::snapshots::format::Owner;
use super::snapshots::{AdoptError, SnapshotFile};
use super::survey::OpenError;
use super::{Config, fit};

/// Why no folder was made of a snapshot. Nothing was changed.
#[derive(Debug)]
pub enum RestoreError {
    /// The file is damaged or no snapshot: the flaw, and the byte where it begins.
    Damaged(PathBuf, u64, String),
    /// A later program has written it, or one that has another format: what it says, and what this one reads.
    Version(PathBuf, String),
    /// It is a snapshot of the cluster that is to be made.
    SameCluster(PathBuf, String),
    /// The file cannot be read.
    Unreadable(Fault),
    /// The folder cannot be made.
    Folder(FolderError),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(path, offset, flaw) => write!(f, "{} is damaged at byte {offset}: {flaw}", path.display()),
            Self::Version(path, flaw) => write!(f, "{}: {flaw}: that is no damage", path.display()),
            Self::SameCluster(path, name) => write!(
                f,
                "{} is a snapshot of cluster {name:?}, and a restored cluster is another one: its nodes and clients would \
                 be taken for those of the former",
                path.display()
            ),
            Self::Unreadable(fault) => fault.fmt(f),
            Self::Folder(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RestoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(error) => Some(error),
            Self::Folder(error) => Some(error),
            _ => None,
        }
    }
}

impl From<FolderError> for RestoreError {
    fn from(error: FolderError) -> Self {
        Self::Folder(error)
    }
}

impl Folder {
    /// Makes a data folder at `path`, which is empty or not there, for a node of a new cluster whose log begins behind
    /// the state in `source`. Every founding node of that cluster begins with the same file.
    ///
    /// Sessions do not come along: their ids are places in the log of the former cluster, which may live and go on to
    /// give the same ids to others.
    ///
    /// Returns which snapshot the folder has: the same at every node.
    ///
    /// # Errors
    ///
    /// [`RestoreError`].
    pub fn restore(path: &Path, identity: &Identity, source: &SnapshotFile) -> Result<SnapshotId, RestoreError> {
        identity.check()?;
        let is_new = match RealFiles::open(path) {
            Ok(files) => {
                check_empty(&files)?;
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(FolderError::Failed(path.to_owned(), error).into()),
        };
        let report = source.report().map_err(RestoreError::Unreadable)?;
        let sound = match report.verdict {
            Ok(sound) => sound,
            Err((_, flaw)) if flaw.is_version() => return Err(RestoreError::Version(report.path, flaw.to_string())),
            Err((offset, flaw)) => return Err(RestoreError::Damaged(report.path, offset, flaw.to_string())),
        };
        if sound.owner.cluster == ClusterId::from_name(&identity.cluster) {
            return Err(RestoreError::SameCluster(report.path, identity.cluster.clone()));
        }
        let made = RealFiles::create(path)
            .map_err(|error| FolderError::Failed(path.to_owned(), error).into())
            .and_then(|files| Self::restore_in(&files, identity, source, sound.id));
        if made.is_err() {
            // It is the first failure that is told.
            let _ = clear(path, is_new);
        }
        made
    }
}

impl<F: Files> Folder<F> {
    /// As [`restore`](Folder::restore), in an empty folder, of a file that was found to be sound.
    pub(crate) fn restore_in<G: Files>(
        files: &F,
        identity: &Identity,
        source: &SnapshotFile<G>,
        id: SnapshotId,
    ) -> Result<SnapshotId, RestoreError> {
        let mut restored = SnapshotId::default();
        Self::create_with(files, identity, |log| {
            restored = begin_behind(log, identity, source, id)?;
            Ok::<_, RestoreError>(())
        })?;
        Ok(restored)
    }
}

/// Puts the snapshot into the folder of an empty log, and lets the log begin anew behind it.
fn begin_behind<F: Files, G: Files>(
    log: &F,
    identity: &Identity,
    source: &SnapshotFile<G>,
    id: SnapshotId,
) -> Result<SnapshotId, RestoreError> {
    let identity = identity.log(GroupId(0));
    let owner: Owner = fit::owner(&identity);
    let snapshot = source.adopt(id, log, owner).map_err(|error| match error {
        AdoptError::Source(StoreError::Damaged { path, offset, what }) => RestoreError::Damaged(path, offset, what),
        AdoptError::Source(error) => RestoreError::Unreadable(fault(error)),
        AdoptError::Target(error) => {
            let Fault { path, error, .. } = fault(error);
            FolderError::Failed(path, error).into()
        }
    })?;
    let (_, recovered) = DiskLog::open(log.clone(), identity, Config::default()).map_err(|error| match error {
        OpenError::Failed(fault) => FolderError::Failed(fault.path, fault.error),
        OpenError::Damaged(damage) => FolderError::Damaged(damage.path, "it was written a moment ago"),
        OpenError::Config(error) => FolderError::Invalid(error.field, error.value.to_string()),
    })?;
    assert_eq!(
        (recovered.base_index, recovered.base_term, recovered.last),
        (id.index, id.term, id.index),
        "the log begins behind its snapshot"
    );
    Ok(snapshot.id)
}

fn fault(error: StoreError) -> Fault {
    match error {
        StoreError::NoSpace(path) => Fault {
            operation: "write",
            path,
            error: io::ErrorKind::StorageFull.into(),
        },
        StoreError::Failed { operation, path, error } => Fault { operation, path, error },
        error => Fault {
            operation: "read",
            path: PathBuf::new(),
            error: io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
        },
    }
}

/// Removes what was made in a folder that was empty, and the folder if it was not there.
fn clear(path: &Path, is_new: bool) -> io::Result<()> {
    if is_new {
        return fs::remove_dir_all(path);
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // mkfs made it.
        if entry.file_name() == "lost+found" {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
