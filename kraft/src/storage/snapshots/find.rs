//! Finds the snapshot that a node begins from, without touching anything.

use std::io;
use std::path::PathBuf;

use kraft_core::id::Index;
use kraft_core::message::SnapshotId;
use kraft_core::snapshot::Snapshot;
use kraft_core::storage::Fault;

use super::check::Found;
use super::format::{Flaw, Owner, snapshot_of_name};
use super::read::{Reader, Stopped};
use super::{FOLDER, RECEIVING, SAVING};
use crate::storage::files::{File, Files};
use crate::storage::survey::fault;

/// A snapshot that is not as it was written, or that the disk does not give back. It was kept, under another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is.
    pub path: PathBuf,
    /// Where what is wrong with it begins.
    pub offset: u64,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// What is in the folder of the snapshots.
#[derive(Debug, Default)]
pub(crate) struct Finding {
    /// The newest without a flaw.
    pub(crate) newest: Option<Snapshot>,
    /// Those above it. One of another version is the last of them: what is older may be of no use beside it.
    pub(crate) flawed: Vec<(String, Index, Found)>,
    /// What a crash left.
    strays: Vec<&'static str>,
}

/// Looks for snapshots in the folder of a log.
pub(crate) fn find_in<F: Files>(log: &F, owner: Owner) -> Result<Finding, Fault> {
    let names = log.list().map_err(fault(log, "", "list"))?;
    if !names.iter().any(|name| name == FOLDER) {
        return Ok(Finding::default());
    }
    let files = log.folder(FOLDER).map_err(fault(log, FOLDER, "open"))?;
    find(&files, owner)
}

/// Looks for snapshots in their folder. Reads from the newest down to the first without a flaw.
pub(super) fn find<F: Files>(files: &F, owner: Owner) -> Result<Finding, Fault> {
    let names = files.list().map_err(fault(files, "", "list"))?;
    let mut finding = Finding::default();
    let strays = [SAVING, RECEIVING].into_iter();
    finding.strays = strays.filter(|stray| names.iter().any(|name| name == stray)).collect();
    let mut snapshots: Vec<_> = names
        .into_iter()
        .filter_map(|name| Some((snapshot_of_name(&name, 0)?, name)))
        .collect();
    snapshots.sort_unstable();
    for (named, name) in snapshots.into_iter().rev() {
        match check(files, &name, named, owner)? {
            Ok(snapshot) => {
                finding.newest = Some(snapshot);
                break;
            }
            Err(found) => finding.flawed.push((name, named.index, found)),
        }
        if finding.of_another_version().is_some() {
            break;
        }
    }
    Ok(finding)
}

/// Reads the snapshot of this name. What is wrong with the file is found; what else keeps it from being read is a fault.
fn check<F: Files>(files: &F, name: &str, named: SnapshotId, owner: Owner) -> Result<Result<Snapshot, Found>, Fault> {
    let failed = |at, operation, error: io::Error| match Flaw::of(&error) {
        Some(flaw) => Ok(Err((at, flaw))),
        None => Err(fault(files, name, operation)(error)),
    };
    let file = match files.open(name, false) {
        Ok(file) => file,
        Err(error) => return failed(0, "open", error),
    };
    let id = match file.size() {
        Ok(bytes) => SnapshotId { bytes, ..named },
        Err(error) => return failed(0, "stat", error),
    };
    match Reader::new(&file, Some(owner)).finish(Some(id)) {
        Ok(checked) => Ok(Ok(Snapshot { id, head: checked.head })),
        Err(Stopped::Flawed(found)) => Ok(Err(found)),
        Err(Stopped::Failed(at, error)) => failed(at, "read", error),
    }
}

impl Finding {
    /// The newest, if a later program has written it.
    pub(crate) fn of_another_version(&self) -> Option<&(String, Index, Found)> {
        self.flawed.last().filter(|(_, _, (_, flaw))| flaw.is_version())
    }

    /// Gives those with a flaw other names, removes what a crash left, and makes durable what was found: after a kill
    /// the newest may have its name in the page cache alone, and the log is to rely on it.
    pub(crate) fn clean<F: Files>(&self, files: &F) -> Result<Vec<SetAside>, Fault> {
        for stray in &self.strays {
            match files.remove(stray) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(fault(files, stray, "remove")(error));
                }
                _ => {}
            }
        }
        let mut aside = Vec::with_capacity(self.flawed.len());
        for (name, _, (offset, flaw)) in &self.flawed {
            let kept = free_name(files, name)?;
            files.rename(name, &kept).map_err(fault(files, &kept, "rename"))?;
            aside.push(SetAside {
                path: files.path(&kept),
                offset: *offset,
                flaw: *flaw,
            });
        }
        if self.newest.is_some() || !self.strays.is_empty() || !aside.is_empty() {
            files.sync_folder().map_err(fault(files, "", "fsync"))?;
        }
        Ok(aside)
    }
}

/// A name that nothing has: a snapshot may be received a second time, and be damaged a second time.
fn free_name<F: Files>(files: &F, name: &str) -> Result<String, Fault> {
    let names = files.list().map_err(fault(files, "", "list"))?;
    let mut kept = format!("{name}.damaged");
    let mut count = 1;
    while names.contains(&kept) {
        count += 1;
        kept = format!("{name}.{count}.damaged");
    }
    Ok(kept)
}
