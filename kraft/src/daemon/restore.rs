//! `kraftd init --from-snapshot`: writes a data folder that begins with the state of another cluster.
//!
//! A flag of `init` and no command of `kraftctl`: it makes a node, by the same fields, checks and exit codes as `init`
//! does, and what it needs on the host is what a node needs there.

use std::path::Path;

use super::config::Loaded;
use super::init::{folder_failure, identity, is_input_output};
use super::{Exit, Failure};
use crate::storage::{Folder, RestoreError, SnapshotFile};

/// Makes the folder at `data` for the node that `loaded` describes, with the state in `file`; what to say of it.
///
/// # Errors
///
/// What is wrong with the fields, the file or the folder. Nothing was changed then.
pub(super) fn write(data: &Path, loaded: &Loaded, file: &Path) -> Result<String, Failure> {
    let identity = identity(loaded)?;
    let restored = SnapshotFile::at(file)
        .map_err(RestoreError::Unreadable)
        .and_then(|source| Folder::restore(data, &identity, &source));
    let id = restored.map_err(|error| failure(data, &error))?;
    Ok(format!(
        ", behind the snapshot at index {} of term {} with checksum {:08x}, which must be the same at each node of {}",
        id.index, id.term, id.crc, identity.cluster
    ))
}

fn failure(data: &Path, error: &RestoreError) -> Failure {
    let (exit, cure) = match error {
        RestoreError::Damaged(..) => (Exit::DamagedLog, "restore another copy"),
        RestoreError::Version(..) => (Exit::Config, "run the version of kraftd that wrote it"),
        RestoreError::SameCluster(..) => (Exit::Config, "give it another name with --cluster"),
        RestoreError::Unreadable(fault) if is_input_output(&fault.error) => (Exit::Disk, "look at the disk"),
        RestoreError::Unreadable(_) => (
            Exit::Config,
            "name a snapshot that this user may read with --from-snapshot",
        ),
        RestoreError::Folder(error) => return folder_failure(data, error),
    };
    Failure {
        exit,
        message: format!("{error}; {cure}"),
    }
}
