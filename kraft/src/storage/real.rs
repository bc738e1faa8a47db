//! Files of the operating system.

use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;

use super::files::{File, Files};

/// A folder of the operating system. Files are made with mode 0600, folders with 0700; links are not followed, and
/// no file is inherited by a child.
#[derive(Clone, Debug)]
pub struct RealFiles {
    path: Arc<Path>,
}

impl RealFiles {
    /// The folder at `path`, which exists or is made, with all that is missing above it.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn create(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                Self::create(parent)?;
            }
            match DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => return Err(error),
                _ => {}
            }
            sync_folder(parent_of(path))?;
        }
        Ok(Self { path: path.into() })
    }

    /// The folder at `path`, which exists.
    ///
    /// # Errors
    ///
    /// Those of the system; [`io::ErrorKind::NotADirectory`] if it is a file.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !fs::metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path: path.into() })
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        // std sets O_CLOEXEC.
        let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).expect("a flag of open(2) fits its int");
        options.read(true).mode(0o600).custom_flags(nofollow);
        options
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

impl Files for RealFiles {
    type File = fs::File;
    type Lock = fs::File;

    fn path(&self, name: &str) -> PathBuf {
        // Joined with nothing a path ends in a slash, which no operator wrote.
        match name {
            "" => self.path.to_path_buf(),
            name => self.path.join(name),
        }
    }

    fn create(&self, name: &str) -> io::Result<fs::File> {
        Self::options().write(true).create_new(true).open(self.path(name))
    }

    fn open(&self, name: &str, writable: bool) -> io::Result<fs::File> {
        Self::options().write(writable).open(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn move_into(&self, name: &str, folder: &Self, to: &str) -> io::Result<()> {
        fs::rename(self.path(name), folder.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn sync_folder(&self) -> io::Result<()> {
        sync_folder(&self.path)
    }

    fn folder(&self, name: &str) -> io::Result<Self> {
        Self::create(&self.path(name))
    }

    fn lock(&self, name: &str) -> io::Result<fs::File> {
        let file = Self::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path(name))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&*self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn rest(&self, span: Duration) {
        thread::sleep(span);
    }
}

impl File for fs::File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
