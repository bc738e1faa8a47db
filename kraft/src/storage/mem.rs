//! Files in memory, with a page cache that a crash loses and faults that can be planned.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::files::{File, Files};

/// Disks write a sector as a whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A simulated disk. Clones are the same disk.
///
/// What is written stands in the cache until it is synced, and so do names. A [crash](Self::crash) leaves what the
/// disk has, and of the rest what chance gives. All chance comes from seeds.
#[derive(Clone)]
pub struct MemFiles {
    shared: Arc<Shared>,
    path: PathBuf,
}

#[derive(Debug, Default)]
struct Shared {
    disk: Mutex<Disk>,
    unstalled: Condvar,
}

#[derive(Clone, Debug, Default)]
struct Disk {
    files: BTreeMap<u64, Inode>,
    folders: BTreeMap<PathBuf, Folder>,
    next_file: u64,
    /// How often it crashed: what was opened before is dead.
    age: u64,
    plan: Vec<Planned>,
    /// Planned errors that happened.
    fired: u64,
    /// The same, short reads and writes among them, by operation.
    happened: [u64; Operation::COUNT],
    capacity: Option<u64>,
    /// How often somebody met the capacity.
    shortages: u64,
    /// How often a long write left the disk to others.
    rests: u64,
    operations: u64,
    crash_at: Option<u64>,
    is_stalled: bool,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What a reader sees.
    cache: Vec<u8>,
    /// What a crash leaves.
    disk: Vec<u8>,
    /// The sectors of the cache that a sync will write.
    dirty: Sectors,
}

/// A set of sectors, a bit for each.
#[derive(Clone, Debug, Default)]
struct Sectors(Vec<u64>);

impl Sectors {
    fn add(&mut self, sectors: Range<usize>) {
        if self.0.len() * 64 < sectors.end {
            self.0.resize(sectors.end.div_ceil(64), 0);
        }
        for sector in sectors {
            self.0[sector / 64] |= 1 << (sector % 64);
        }
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    /// Empties it, and hands out what was in it, ascending.
    fn take(&mut self) -> impl Iterator<Item = usize> + use<> {
        let words = std::mem::take(&mut self.0);
        words.into_iter().enumerate().flat_map(|(at, mut word)| {
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                word &= word.wrapping_sub(1);
                (bit < 64).then_some(at * 64 + bit)
            })
        })
    }
}

#[derive(Clone, Debug, Default)]
struct Folder {
    names: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    /// What changed since the folder was synced, in order.
    pending: Vec<Change>,
    locks: BTreeSet<String>,
}

#[derive(Clone, Debug)]
enum Change {
    Link(String, u64),
    Rename(String, String),
    Unlink(String),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Link(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
        }
    }
}

/// What a fault can befall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Files::create`].
    Create,
    /// [`Files::open`].
    Open,
    /// [`Files::rename`].
    Rename,
    /// [`Files::remove`].
    Remove,
    /// [`Files::sync_folder`].
    SyncFolder,
    /// [`File::read_at`].
    Read,
    /// [`File::write_at`].
    Write,
    /// [`File::sync_data`]. What a failed one should have written is clean and lost (fsyncgate): the cache shows it,
    /// a second sync succeeds without writing it, a crash reveals that.
    Sync,
}

impl Operation {
    const COUNT: usize = Self::Sync as usize + 1;
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// With an error; nothing happened.
    Error(io::ErrorKind),
    /// With an error of the system, by its number; nothing happened.
    System(i32),
    /// A write or a read of half the bytes.
    Short,
}

impl Failure {
    fn error(self) -> Option<io::Error> {
        match self {
            Self::Error(kind) => Some(kind.into()),
            Self::System(number) => Some(io::Error::from_raw_os_error(number)),
            Self::Short => None,
        }
    }
}

/// A fault that will happen once.
#[derive(Clone, Debug)]
struct Planned {
    operation: Operation,
    name: String,
    skip: u32,
    failure: Failure,
}

/// What a crash does to that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is gone.
    All,
    /// It is there: the process was killed, the system lives.
    Nothing,
    /// Each sector is gone or there, by the seed; of names a prefix of the changes is there.
    Random(u64),
}

/// A generator of numbers that is the same everywhere (SplitMix64).
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Default for MemFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemFiles")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl MemFiles {
    /// An empty disk without limit.
    #[must_use]
    pub fn new() -> Self {
        let files = Self {
            shared: Arc::new(Shared::default()),
            path: PathBuf::from("/disk"),
        };
        files.disk().folders.insert(files.path.clone(), Folder::default());
        files
    }

    /// Another disk with the same content, cache and plan.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            shared: Arc::new(Shared {
                disk: Mutex::new(self.disk().clone()),
                unstalled: Condvar::new(),
            }),
            path: self.path.clone(),
        }
    }

    /// Lets an operation fail, once: the first one on a file whose name contains `name`, after `skip` of them.
    pub fn fail(&self, operation: Operation, name: &str, skip: u32, failure: Failure) {
        self.disk().plan.push(Planned {
            operation,
            name: name.to_owned(),
            skip,
            failure,
        });
    }

    /// How many of the planned errors happened so far. Short reads and writes are none.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.disk().fired
    }

    /// How many of the planned faults of an operation happened so far.
    #[must_use]
    pub fn happened(&self, operation: Operation) -> u64 {
        self.disk().happened[operation as usize]
    }

    /// How often the bound of [`set_capacity`](Self::set_capacity) was met: a write found less room than it needs, or
    /// somebody asked how much is left.
    #[must_use]
    pub fn shortages(&self) -> u64 {
        self.disk().shortages
    }

    /// How often a long write left the disk to others.
    pub fn rests(&self) -> u64 {
        self.disk().rests
    }

    /// Forgets what was planned and has not happened.
    pub fn forgive(&self) {
        self.disk().plan.clear();
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.disk().used_bytes()
    }

    /// Bounds the bytes of all files together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// Lets every operation fail that comes after this many changes, until the [crash](Self::crash).
    pub fn crash_after(&self, changes: u64) {
        let mut disk = self.disk();
        disk.crash_at = Some(disk.operations + changes);
    }

    /// How many operations changed something so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.disk().operations
    }

    /// Loses what was not synced, and closes all files and locks.
    pub fn crash(&self, loss: Loss) {
        let mut guard = self.disk();
        let disk = &mut *guard;
        disk.age += 1;
        disk.plan.clear();
        disk.crash_at = None;
        disk.is_stalled = false;
        let mut chance = match loss {
            Loss::Random(seed) => Some(Chance(seed)),
            Loss::All | Loss::Nothing => None,
        };
        for folder in disk.folders.values_mut() {
            folder.locks.clear();
            if loss == Loss::Nothing {
                continue;
            }
            let kept = match &mut chance {
                Some(chance) => chance.next() as usize % (folder.pending.len() + 1),
                None => 0,
            };
            for change in &folder.pending[..kept] {
                change.apply(&mut folder.durable);
            }
            folder.pending.clear();
            folder.names = folder.durable.clone();
        }
        if loss != Loss::Nothing {
            for file in disk.files.values_mut() {
                let dirty = file.dirty.take();
                if let Some(chance) = &mut chance {
                    for sector in dirty.filter(|_| chance.next() % 2 == 0) {
                        file.write_back(sector);
                    }
                }
                file.cache = file.disk.clone();
            }
        }
        drop(guard);
        self.shared.unstalled.notify_all();
    }

    /// Lets every sync wait until this is called with `false`, or a crash.
    pub fn stall(&self, is_stalled: bool) {
        self.disk().is_stalled = is_stalled;
        self.shared.unstalled.notify_all();
    }

    /// Flips bits of a file, on the disk and in the cache.
    ///
    /// # Panics
    ///
    /// If there is no such byte.
    pub fn rot(&self, name: &str, offset: usize, bits: u8) {
        self.change(name, |bytes| bytes[offset] ^= bits);
    }

    /// Changes the bytes of a file, durably.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.disk();
        let file = disk.folders[&self.path].names[name];
        let file = disk.files.get_mut(&file).expect("a name has its file");
        change(&mut file.cache);
        file.disk.clone_from(&file.cache);
        file.dirty.clear();
    }

    /// The bytes of a file, as a reader sees them.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let disk = self.disk();
        disk.files[&disk.folders[&self.path].names[name]].cache.clone()
    }

    /// All files of all folders with their bytes, as a reader sees them.
    #[must_use]
    pub fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let disk = self.disk();
        let mut content = BTreeMap::new();
        for (path, folder) in &disk.folders {
            for (name, file) in &folder.names {
                content.insert(path.join(name), disk.files[file].cache.clone());
            }
        }
        content
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.shared.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_folder<T>(&self, change: impl FnOnce(&mut Folder) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk();
        let folder = disk.folders.get_mut(&self.path).ok_or(io::ErrorKind::NotFound)?;
        change(folder)
    }

    fn handle(&self, file: u64, age: u64) -> MemFile {
        MemFile {
            shared: Arc::clone(&self.shared),
            file,
            age,
        }
    }
}

impl Inode {
    /// Brings a sector of the cache to the disk.
    fn write_back(&mut self, sector: usize) {
        let from = sector * SECTOR_BYTES;
        let to = (from + SECTOR_BYTES).min(self.cache.len());
        if self.disk.len() < to {
            self.disk.resize(to, 0);
        }
        self.disk[from..to].copy_from_slice(&self.cache[from..to]);
    }
}

impl Disk {
    /// Counts the operation, and says how it fails, if it does.
    fn begin(&mut self, operation: Operation, name: &str) -> io::Result<Option<Failure>> {
        let is_change = !matches!(operation, Operation::Read | Operation::Open);
        if self.crash_at.is_some_and(|at| self.operations >= at) {
            return Err(io::Error::other("crashed"));
        }
        self.operations += u64::from(is_change);
        let Self { plan, .. } = self;
        for at in 0..plan.len() {
            if plan[at].operation != operation || !name.contains(&plan[at].name) {
                continue;
            }
            if plan[at].skip > 0 {
                plan[at].skip -= 1;
                continue;
            }
            let failure = plan.remove(at).failure;
            self.fired += u64::from(failure.error().is_some());
            self.happened[operation as usize] += 1;
            return Ok(Some(failure));
        }
        Ok(None)
    }

    /// The same, for operations that cannot be done by half.
    fn begin_whole(&mut self, operation: Operation, name: &str) -> io::Result<()> {
        match self.begin(operation, name)? {
            Some(failure) => failure.error().map_or(Ok(()), Err),
            None => Ok(()),
        }
    }

    fn name_of(&self, file: u64) -> Option<String> {
        let mut names = self.folders.values().flat_map(|folder| &folder.names);
        names.find_map(|(name, named)| (*named == file).then(|| name.clone()))
    }

    fn used_bytes(&self) -> u64 {
        let linked = self.folders.values().flat_map(|folder| folder.names.values());
        linked.map(|file| self.files[file].cache.len() as u64).sum()
    }

    fn free_bytes(&self) -> u64 {
        self.capacity
            .map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(self.used_bytes()))
    }
}

/// A file of [`MemFiles`].
#[derive(Clone, Debug)]
pub struct MemFile {
    shared: Arc<Shared>,
    file: u64,
    age: u64,
}

/// What is left of a disk.
struct Room<'a> {
    free: u64,
    shortages: &'a mut u64,
}

/// The lock of a folder of [`MemFiles`].
#[derive(Debug)]
pub struct MemLock {
    files: MemFiles,
    name: String,
    age: u64,
}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut disk = self.files.disk();
        if disk.age == self.age
            && let Some(folder) = disk.folders.get_mut(&self.files.path)
        {
            folder.locks.remove(&self.name);
        }
    }
}

impl Files for MemFiles {
    type File = MemFile;
    type Lock = MemLock;

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn create(&self, name: &str) -> io::Result<MemFile> {
        let mut disk = self.disk();
        disk.begin_whole(Operation::Create, name)?;
        let number = disk.next_file;
        let age = disk.age;
        let folder = disk.folders.get_mut(&self.path).ok_or(io::ErrorKind::NotFound)?;
        if folder.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        folder.names.insert(name.to_owned(), number);
        folder.pending.push(Change::Link(name.to_owned(), number));
        disk.files.insert(number, Inode::default());
        disk.next_file += 1;
        drop(disk);
        Ok(self.handle(number, age))
    }

    fn open(&self, name: &str, _writable: bool) -> io::Result<MemFile> {
        let mut disk = self.disk();
        disk.begin_whole(Operation::Open, name)?;
        let folder = disk.folders.get(&self.path).ok_or(io::ErrorKind::NotFound)?;
        let file = *folder.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let age = disk.age;
        drop(disk);
        Ok(self.handle(file, age))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk().begin_whole(Operation::Rename, to)?;
        self.with_folder(|folder| {
            let file = folder.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            folder.names.insert(to.to_owned(), file);
            folder.pending.push(Change::Rename(from.to_owned(), to.to_owned()));
            Ok(())
        })
    }

    fn move_into(&self, name: &str, folder: &Self, to: &str) -> io::Result<()> {
        self.disk().begin_whole(Operation::Rename, to)?;
        let file = self.with_folder(|from| {
            let file = from.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
            from.pending.push(Change::Unlink(name.to_owned()));
            Ok(file)
        })?;
        // A crash may leave it in both, never in neither.
        folder.with_folder(|into| {
            into.names.insert(to.to_owned(), file);
            into.durable.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk().begin_whole(Operation::Remove, name)?;
        self.with_folder(|folder| {
            folder.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
            folder.pending.push(Change::Unlink(name.to_owned()));
            Ok(())
        })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let disk = self.disk();
        let folder = disk.folders.get(&self.path).ok_or(io::ErrorKind::NotFound)?;
        let within = disk.folders.keys().filter(|path| path.parent() == Some(&self.path));
        let within = within.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Ok(folder.names.keys().cloned().chain(within).collect())
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.disk().begin_whole(Operation::SyncFolder, "")?;
        self.with_folder(|folder| {
            folder.durable = folder.names.clone();
            folder.pending.clear();
            Ok(())
        })
    }

    fn folder(&self, name: &str) -> io::Result<Self> {
        let path = self.path.join(name);
        self.disk().folders.entry(path.clone()).or_default();
        Ok(Self {
            shared: Arc::clone(&self.shared),
            path,
        })
    }

    fn lock(&self, name: &str) -> io::Result<MemLock> {
        let age = self.disk().age;
        self.with_folder(|folder| match folder.locks.insert(name.to_owned()) {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        })?;
        Ok(MemLock {
            files: self.clone(),
            name: name.to_owned(),
            age,
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut disk = self.disk();
        disk.shortages += u64::from(disk.capacity.is_some());
        Ok(disk.free_bytes())
    }

    fn rest(&self, _: Duration) {
        self.disk().rests += 1;
    }
}

impl MemFile {
    fn with<T>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut Inode, Option<Failure>, Room<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut disk = self.shared.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if operation == Operation::Sync {
            let stalled = self.shared.unstalled.wait_while(disk, |disk| disk.is_stalled);
            disk = stalled.unwrap_or_else(PoisonError::into_inner);
        }
        if disk.age != self.age {
            return Err(io::Error::other("the file was open before a crash"));
        }
        let name = match disk.plan.is_empty() {
            true => String::new(),
            false => disk.name_of(self.file).unwrap_or_default(),
        };
        let failure = disk.begin(operation, &name)?;
        let free = disk.free_bytes();
        let Disk { files, shortages, .. } = &mut *disk;
        let file = files.get_mut(&self.file).expect("an open file is there");
        act(file, failure, Room { free, shortages })
    }
}

impl File for MemFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(Operation::Read, |file, failure, _| {
            let wanted = match failure {
                Some(failure) => match failure.error() {
                    Some(error) => return Err(error),
                    None => bytes.len().div_ceil(2),
                },
                None => bytes.len(),
            };
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.cache.len());
            let count = wanted.min(file.cache.len() - from);
            bytes[..count].copy_from_slice(&file.cache[from..from + count]);
            Ok(count)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.with(Operation::Write, |file, failure, room| {
            let wanted = match failure {
                Some(failure) => match failure.error() {
                    Some(error) => return Err(error),
                    None => bytes.len().div_ceil(2),
                },
                None => bytes.len(),
            };
            let from = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let size_max = file
                .cache
                .len()
                .saturating_add(usize::try_from(room.free).unwrap_or(usize::MAX));
            let count = wanted.min(size_max.saturating_sub(from));
            *room.shortages += u64::from(count < wanted);
            if count == 0 && wanted > 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let to = from + count;
            if file.cache.len() < to {
                file.cache.resize(to, 0);
            }
            file.cache[from..to].copy_from_slice(&bytes[..count]);
            file.dirty.add(from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES));
            Ok(count)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(Operation::Sync, |file, failure, _| {
            let dirty = file.dirty.take();
            if let Some(error) = failure.and_then(Failure::error) {
                return Err(error);
            }
            // All at once: a new file comes to the disk in a thousand sectors.
            file.disk.reserve(file.cache.len().saturating_sub(file.disk.len()));
            for sector in dirty {
                file.write_back(sector);
            }
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        let disk = self.shared.disk.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(disk.files[&self.file].cache.len() as u64)
    }
}
