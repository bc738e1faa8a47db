//! Snapshots on disk, in a folder of their own within the log's.
//!
//! A snapshot is written under a temporary name, synced, renamed, and the folder is synced: under its own name it is
//! whole. One whose write or sync failed is thrown away, and the log goes on as it was: nothing was released for it.

mod check;
mod file;
mod find;
pub mod format;
mod read;
mod report;
mod write;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kraft_core::canary::{self, Canary};
use kraft_core::message::SnapshotId;
use kraft_core::snapshot::{Head, Snapshot, SnapshotStore, StoreError};

use self::check::{Checker, Found};
use self::format::{FRONT_BYTES, Flaw, MEMBERSHIP_BYTES_MAX, Owner, TRAILER_BYTES, snapshot_name, snapshot_of_name};
use self::read::{Reader, Stopped};
use self::write::{Failed, Writer, check_room};
use super::files::{File, Files, read_full_at, write_all_at};

pub(crate) use file::AdoptError;
pub use file::SnapshotFile;
pub use find::SetAside;
pub(crate) use find::{Finding, find_in};
pub use report::{SnapshotReport, SoundSnapshot, snapshot};

/// The folder of the snapshots, in that of the log.
pub(crate) const FOLDER: &str = "snapshots";

/// What is being written.
const SAVING: &str = "save.tmp";
/// What is being received.
const RECEIVING: &str = "receive.tmp";

/// After so much one that comes, or that must be there soon, is synced, so that a sync of the log never waits for all of it.
const SYNC_BYTES: u64 = 1 << 20;

/// The snapshots of a [`DiskLog`](super::DiskLog). Clones are the same place, and may be used by several threads: a
/// save, a transfer and any number of reads go on side by side; a second save waits for the first.
#[derive(Debug)]
pub struct DiskSnapshots<F: Files> {
    shared: Arc<Shared<F>>,
}

#[derive(Debug)]
struct Shared<F: Files> {
    files: F,
    owner: Owner,
    /// How many are kept.
    keep: usize,
    /// What a snapshot leaves of the disk, for the log.
    reserve_bytes: u64,
    /// One that is taken is written as fast as the disk takes it.
    is_urgent: AtomicBool,
    /// Held by whoever writes [`SAVING`].
    saving: Mutex<()>,
    receiving: Mutex<Slot<F>>,
}

/// What is in [`RECEIVING`].
#[derive(Debug)]
enum Slot<F: Files> {
    /// Nothing that counts.
    Empty,
    /// A part of one.
    Part(Box<Receiving<F>>),
    /// All of one, checked and synced.
    Whole(SnapshotId),
}

/// A snapshot that comes in pieces. What is in its file was checked as far as a block is whole.
#[derive(Debug)]
struct Receiving<F: Files> {
    id: SnapshotId,
    file: F::File,
    checker: Checker,
    unsynced: u64,
}

impl<F: Files> Slot<F> {
    fn part(&mut self, id: SnapshotId) -> Option<&mut Receiving<F>> {
        match self {
            Self::Part(receiving) => Some(&mut **receiving).filter(|receiving| receiving.id == id),
            Self::Empty | Self::Whole(_) => None,
        }
    }
}

impl<F: Files> Clone for DiskSnapshots<F> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<F: Files> DiskSnapshots<F> {
    /// The snapshots in a folder; reads nothing.
    pub(crate) fn new(files: F, owner: Owner, keep: u32, reserve_bytes: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                files,
                owner,
                keep: keep as usize,
                reserve_bytes,
                is_urgent: AtomicBool::new(true),
                saving: Mutex::new(()),
                receiving: Mutex::new(Slot::Empty),
            }),
        }
    }

    /// Whether one that is taken must be there soon, or may leave the disk to others most of the time. It must, unless
    /// somebody says otherwise.
    pub(crate) fn set_urgent(&self, is_urgent: bool) {
        self.shared.is_urgent.store(is_urgent, Ordering::Relaxed);
    }
}

impl<F: Files> Shared<F> {
    fn receiving(&self) -> MutexGuard<'_, Slot<F>> {
        // What a panic left is checked as a whole in the end.
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a temporary file. One that stays is removed before the next, or by the next start.
    fn discard(&self, name: &str) -> io::Result<()> {
        match self.files.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn write(
        &self,
        head: &Head,
        content: &mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<SnapshotId, Failed> {
        self.discard(SAVING).map_err(|error| ("remove", error))?;
        check_room(&self.files, self.reserve_bytes)?;
        let file = self.files.create(SAVING).map_err(|error| ("create", error))?;
        let mut writer = Writer::new(
            &self.files,
            &file,
            self.reserve_bytes,
            &self.is_urgent,
            self.owner,
            head,
        );
        let written = content(&mut writer).and_then(|()| writer.flush());
        // The writer's own failure says more than what became of it above.
        match (writer.failed(), written) {
            (Some(failed), _) => Err(failed),
            (None, Err(error)) => Err(("write", error)),
            (None, Ok(())) => writer.finish(head),
        }
    }

    /// Gives a file that is whole and synced its name, durably.
    fn place(&self, temporary: &str, id: SnapshotId) -> Result<(), StoreError> {
        let name = snapshot_name(&id);
        let was_there = self.files.open(&name, false).is_ok();
        let renamed = self.files.rename(temporary, &name);
        renamed.map_err(|error| failed(self.files.path(&name))(("rename", error)))?;
        let synced = match canary::is(Canary::SnapshotNotSynced) {
            true => Ok(()),
            false => self.files.sync_folder(),
        };
        if let Err(error) = synced {
            // Nobody relies on this one; on one with the same bytes that was there before somebody may.
            if !was_there {
                let _ = self.discard(&name);
            }
            return Err(failed(self.files.path(""))(("fsync", error)));
        }
        self.prune(id);
        Ok(())
    }

    /// Removes those that are too many, but neither this one nor the newest, which may be another one: the log may begin
    /// anew behind one that was received while this one was being written. What stays because of an error is one too
    /// many the next time, too.
    fn prune(&self, placed: SnapshotId) {
        let Ok(names) = self.files.list() else { return };
        let mut ids: Vec<_> = names.iter().filter_map(|name| snapshot_of_name(name, 0)).collect();
        ids.sort_unstable();
        let surplus = ids.len().saturating_sub(self.keep);
        ids.pop();
        let old = ids.iter().map(snapshot_name);
        let old = old.filter(|name| *name != snapshot_name(&placed));
        for name in old.take(surplus) {
            let _ = self.files.remove(&name);
        }
        if surplus > 0 {
            let _ = self.files.sync_folder();
        }
    }

    fn open(&self, id: SnapshotId) -> Result<F::File, StoreError> {
        let name = snapshot_name(&id);
        let file = self.files.open(&name, false).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Gone(id),
            _ => failed(self.files.path(&name))(("open", error)),
        })?;
        let bytes = file
            .size()
            .map_err(|error| failed(self.files.path(&name))(("stat", error)))?;
        if bytes == id.bytes {
            return Ok(file);
        }
        let found = SnapshotId { bytes, ..id };
        Err(self.damaged(&name, (0, Flaw::OtherId { found, expected: id })))
    }

    fn damaged(&self, name: &str, (offset, flaw): Found) -> StoreError {
        if flaw.is_version() {
            return StoreError::Failed {
                operation: "read",
                path: self.files.path(name),
                error: io::Error::new(io::ErrorKind::Unsupported, flaw.to_string()),
            };
        }
        StoreError::Damaged {
            path: self.files.path(name),
            offset,
            what: flaw.to_string(),
        }
    }

    /// What the caller does wrong.
    fn misused(&self, what: String) -> StoreError {
        StoreError::Failed {
            operation: "receive",
            path: self.files.path(RECEIVING),
            error: io::Error::new(io::ErrorKind::InvalidInput, what),
        }
    }

    fn begin(&self, id: SnapshotId) -> Result<Receiving<F>, StoreError> {
        let failed = failed(self.files.path(RECEIVING));
        self.discard(RECEIVING).map_err(|error| failed(("remove", error)))?;
        if id.bytes < (FRONT_BYTES + TRAILER_BYTES) as u64 {
            return Err(self.damaged(RECEIVING, (id.bytes, Flaw::Short)));
        }
        check_room(&self.files, self.reserve_bytes.saturating_add(id.bytes)).map_err(&failed)?;
        let file = self
            .files
            .create(RECEIVING)
            .map_err(|error| failed(("create", error)))?;
        Ok(Receiving {
            id,
            file,
            checker: Checker::new(Some(self.owner)).blind_if(canary::is(Canary::SnapshotsMixed)),
            unsynced: 0,
        })
    }

    fn take(&self, receiving: &mut Receiving<F>, data: &[u8]) -> Result<(), StoreError> {
        let failed = failed(self.files.path(RECEIVING));
        let at = receiving.checker.offset();
        let checked = receiving.checker.feed(data, None);
        checked.map_err(|found| self.damaged(RECEIVING, found))?;
        write_all_at(&receiving.file, data, at).map_err(|error| failed(("write", error)))?;
        receiving.unsynced += data.len() as u64;
        if receiving.unsynced >= SYNC_BYTES {
            receiving.unsynced = 0;
            let synced = receiving.file.sync_data();
            synced.map_err(|error| failed(("fsync", error)))?;
            check_room(&self.files, self.reserve_bytes).map_err(failed)?;
        }
        Ok(())
    }
}

/// Tells a full disk from others.
fn failed(path: PathBuf) -> impl Fn(Failed) -> StoreError {
    move |(operation, error)| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace(path.clone()),
        _ => StoreError::Failed {
            operation,
            path: path.clone(),
            error,
        },
    }
}

impl<F: Files> SnapshotStore for DiskSnapshots<F> {
    fn save(
        &self,
        head: &Head,
        content: &mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<Snapshot, StoreError> {
        let shared = &self.shared;
        let failed = failed(shared.files.path(SAVING));
        if head.membership.len() > MEMBERSHIP_BYTES_MAX {
            let what = format!(
                "a configuration of {} bytes, where at most {MEMBERSHIP_BYTES_MAX} are expected",
                head.membership.len()
            );
            return Err(failed(("write", io::Error::new(io::ErrorKind::InvalidInput, what))));
        }
        let _saving = shared.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let written = shared.write(head, content).map_err(failed);
        let saved = written.and_then(|id| shared.place(SAVING, id).map(|()| id));
        if saved.is_err() {
            let _ = shared.discard(SAVING);
        }
        Ok(Snapshot {
            id: saved?,
            head: head.clone(),
        })
    }

    fn read(&self, id: SnapshotId, offset: u64, length: usize) -> Result<Bytes, StoreError> {
        let file = self.shared.open(id)?;
        let left = usize::try_from(id.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(left)];
        let name = snapshot_name(&id);
        let count = read_full_at(&file, &mut bytes, offset)
            .map_err(|error| failed(self.shared.files.path(&name))(("read", error)))?;
        if count < bytes.len() {
            return Err(self.shared.damaged(&name, (offset + count as u64, Flaw::Short)));
        }
        Ok(Bytes::from(bytes))
    }

    fn receive(&self, id: SnapshotId, offset: u64, data: &[u8]) -> Result<(), StoreError> {
        let shared = &self.shared;
        let mut slot = shared.receiving();
        if offset == 0 {
            *slot = Slot::Empty;
            *slot = Slot::Part(Box::new(shared.begin(id)?));
        }
        let Some(receiving) = slot.part(id) else {
            return Err(shared.misused(format!(
                "byte {offset} of the snapshot at index {} came, of which nothing is here",
                id.index
            )));
        };
        let expected = receiving.checker.offset();
        if offset != expected {
            return Err(shared.misused(format!("byte {offset} came where byte {expected} must follow")));
        }
        if data.len() as u64 > id.bytes - offset {
            return Err(shared.misused(format!("{} bytes came at byte {offset} of {}", data.len(), id.bytes)));
        }
        let taken = shared.take(receiving, data);
        if taken.is_err() {
            *slot = Slot::Empty;
            let _ = shared.discard(RECEIVING);
        }
        taken
    }

    fn finish(&self, id: SnapshotId) -> Result<Snapshot, StoreError> {
        let shared = &self.shared;
        let mut slot = shared.receiving();
        if slot.part(id).is_none() {
            return Err(shared.misused(format!("nothing of the snapshot at index {} is here", id.index)));
        }
        let Slot::Part(part) = std::mem::replace(&mut *slot, Slot::Empty) else {
            unreachable!("a part of it is here");
        };
        let Receiving { file, checker, .. } = *part;
        let checked = checker.finish_as(id).map_err(|found| shared.damaged(RECEIVING, found));
        let finished = checked.and_then(|checked| {
            if !canary::is(Canary::SnapshotNotSynced) {
                let synced = file.sync_data();
                synced.map_err(|error| failed(shared.files.path(RECEIVING))(("fsync", error)))?;
            }
            Ok(checked.head)
        });
        *slot = match finished {
            Ok(_) => Slot::Whole(id),
            Err(_) => {
                let _ = shared.discard(RECEIVING);
                Slot::Empty
            }
        };
        Ok(Snapshot { id, head: finished? })
    }

    fn keep(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let (shared, id) = (&self.shared, snapshot.id);
        let mut slot = shared.receiving();
        if !matches!(&*slot, Slot::Whole(whole) if *whole == id) {
            return Err(shared.misused(format!("the snapshot at index {} was not finished", id.index)));
        }
        *slot = Slot::Empty;
        let placed = shared.place(RECEIVING, id);
        if placed.is_err() {
            let _ = shared.discard(RECEIVING);
        }
        placed
    }

    fn abandon(&self) -> Result<(), StoreError> {
        let mut slot = self.shared.receiving();
        *slot = Slot::Empty;
        let path = self.shared.files.path(RECEIVING);
        self.shared
            .discard(RECEIVING)
            .map_err(|error| failed(path)(("remove", error)))
    }

    fn load(
        &self,
        id: SnapshotId,
        content: &mut dyn FnMut(&mut dyn io::Read) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let shared = &self.shared;
        let file = shared.open(id)?;
        let name = snapshot_name(&id);
        let mut reader = Reader::new(&file, Some(shared.owner));
        let loaded = content(&mut reader);
        let offset = reader.offset();
        let stopped = |stopped| match stopped {
            Stopped::Flawed(found) => shared.damaged(&name, found),
            Stopped::Failed(_, error) => failed(shared.files.path(&name))(("read", error)),
        };
        // The reader's own failure says more than what became of it above.
        if let Some(why) = reader.stopped() {
            return Err(stopped(why));
        }
        loaded.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => StoreError::Damaged {
                path: shared.files.path(&name),
                offset,
                what: error.to_string(),
            },
            _ => failed(shared.files.path(&name))(("read", error)),
        })?;
        reader.finish(Some(id)).map_err(stopped)?;
        Ok(())
    }
}
