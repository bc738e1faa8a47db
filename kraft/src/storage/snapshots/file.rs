//! A snapshot in a file of its own, outside any node's folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kraft_core::id::Index;
use kraft_core::message::SnapshotId;
use kraft_core::session::{Limits, SessionsImage};
use kraft_core::snapshot::{Head, Snapshot, SnapshotStore, StoreError};
use kraft_core::storage::Fault;

use super::format::Owner;
use super::read::{Reader, Stopped};
use super::report::{SnapshotReport, snapshot};
use super::{DiskSnapshots, FOLDER, failed};
use crate::storage::files::Files;
use crate::storage::real::RealFiles;

/// No limit on what a table of sessions has: it was within those of the nodes that wrote it.
const ANY_SESSIONS: Limits = Limits {
    sessions_max: usize::MAX,
    replies_max: usize::MAX,
    reply_bytes_max: usize::MAX,
    table_bytes_max: usize::MAX,
};

/// A file that should be a snapshot, in any folder and under any name.
#[derive(Clone, Debug)]
pub struct SnapshotFile<F: Files = RealFiles> {
    files: F,
    name: String,
}

impl SnapshotFile {
    /// The file at `path`, which may be a link to it.
    ///
    /// # Errors
    ///
    /// [`Fault`]: it is not there, is no file, or has a name that is no text.
    pub fn at(path: &Path) -> Result<Self, Fault> {
        let fault = |error| Fault {
            operation: "open",
            path: path.to_owned(),
            error,
        };
        let whole = fs::canonicalize(path).map_err(fault)?;
        // A pipe would be waited for.
        if !fs::metadata(&whole).map_err(fault)?.is_file() {
            return Err(fault(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")));
        }
        let (Some(folder), Some(name)) = (whole.parent(), whole.file_name().and_then(|name| name.to_str())) else {
            return Err(fault(io::Error::new(
                io::ErrorKind::InvalidInput,
                "its name is no text",
            )));
        };
        Ok(Self {
            files: RealFiles::open(folder).map_err(fault)?,
            name: name.to_owned(),
        })
    }
}

impl<F: Files> SnapshotFile<F> {
    /// The file of this name in a folder.
    pub fn new(files: F, name: impl Into<String>) -> Self {
        Self {
            files,
            name: name.into(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.files.path(&self.name)
    }

    /// Reads all of it and says what is in it, checking every sum.
    ///
    /// # Errors
    ///
    /// [`Fault`]: the system refused to read it.
    pub fn report(&self) -> Result<SnapshotReport, Fault> {
        snapshot(&self.files, &self.name, None)
    }

    /// Reads its sessions, and gives what follows them to `state`, every sum checked. It is the snapshot that a
    /// [report](Self::report) found there.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what `state` makes of the bytes is its own affair.
    pub fn read(
        &self,
        id: SnapshotId,
        state: &mut dyn FnMut(&SessionsImage, &mut dyn io::Read),
    ) -> Result<(), StoreError> {
        let failed = failed(self.path());
        let damaged = |offset, what| StoreError::Damaged {
            path: self.path(),
            offset,
            what,
        };
        let stopped = |stopped| match stopped {
            Stopped::Flawed((offset, flaw)) => damaged(offset, flaw.to_string()),
            Stopped::Failed(_, error) => failed(("read", error)),
        };
        let file = self.files.open(&self.name, false);
        let file = file.map_err(|error| failed(("open", error)))?;
        let mut reader = Reader::new(&file, None);
        let sessions = SessionsImage::read(&mut reader, &ANY_SESSIONS);
        if let Ok(sessions) = &sessions {
            state(sessions, &mut reader);
        }
        // The reader's own failure says more than what became of it above.
        if let Some(why) = reader.stopped() {
            return Err(stopped(why));
        }
        let offset = reader.offset();
        reader.finish(Some(id)).map_err(stopped)?;
        sessions.map_err(|error| damaged(offset, error.to_string()))?;
        Ok(())
    }

    /// Writes it again, as the snapshot that another cluster begins with, into the folder of that one's log: the same
    /// state at the same place, no sessions, and the configuration that the cluster is founded with. Of equal files and
    /// clusters come equal snapshots.
    ///
    /// # Errors
    ///
    /// The source's failure, or that of the log's folder.
    pub(crate) fn adopt<G: Files>(&self, id: SnapshotId, log: &G, owner: Owner) -> Result<Snapshot, AdoptError> {
        let folder = log.folder(FOLDER);
        let folder = folder.map_err(|error| AdoptError::Target(failed(log.path(FOLDER))(("create", error))))?;
        let store = DiskSnapshots::new(folder, owner, 1, 0);
        let head = Head {
            index: id.index,
            term: id.term,
            membership_index: Index::ZERO,
            membership: Bytes::new(),
        };
        let mut source = Ok(());
        let saved = store.save(&head, &mut |out| {
            let mut copied = Ok(());
            source = self.read(id, &mut |_, state| {
                copied = SessionsImage::default()
                    .write(out)
                    .and_then(|()| io::copy(state, out).map(drop));
            });
            match &source {
                Ok(()) => copied,
                Err(_) => Err(io::ErrorKind::InvalidData.into()),
            }
        });
        source.map_err(AdoptError::Source)?;
        saved.map_err(AdoptError::Target)
    }
}

/// Whose failure it is.
#[derive(Debug)]
pub(crate) enum AdoptError {
    Source(StoreError),
    Target(StoreError),
}
