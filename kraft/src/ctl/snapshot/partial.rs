//! A file that has its name when it is whole and on the disk, and not before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file under its temporary name; removed when this is dropped.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    is_placed: bool,
}

impl Partial {
    /// Begins the file that will be `target`. What another run left of it is removed.
    pub(super) fn begin(target: &Path) -> io::Result<Self> {
        let path = name_of(target);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // All of the cluster's state is in it.
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self {
            path,
            file,
            is_placed: false,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts bytes behind the last; at offset 0 it begins anew.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        use std::io::Seek;
        if offset == 0 {
            self.file.set_len(0)?;
            self.file.rewind()?;
        }
        self.file.write_all(bytes)
    }

    /// Makes durable what is in it.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives it its name, durably.
    pub(super) fn place(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.is_placed = true;
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_placed {
            // Whoever looks finds that it is partial.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The temporary name.
pub(super) fn name_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
