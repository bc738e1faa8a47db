//! The file operations that the log needs, as two traits, so that the same code runs on a simulated disk.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// One folder and the files in it, by name. Clones are the same folder.
///
/// What a call has done is durable only after the sync that belongs to it: [`File::sync_data`] for bytes,
/// [`sync_folder`](Self::sync_folder) for names.
pub trait Files: Clone + fmt::Debug + Send + Sync + 'static {
    /// An open file.
    type File: File;
    /// Held while the folder is locked; dropping it, or the end of the process, unlocks.
    type Lock: fmt::Debug + Send + 'static;

    /// Where a file is, or would be, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// Makes a file that must not exist, for its owner alone.
    ///
    /// # Errors
    ///
    /// Those of the system, [`io::ErrorKind::AlreadyExists`] among them.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file that exists, to read and, with `writable`, to write.
    ///
    /// # Errors
    ///
    /// Those of the system, [`io::ErrorKind::NotFound`] among them.
    fn open(&self, name: &str, writable: bool) -> io::Result<Self::File>;

    /// Gives a file another name, replacing what has it: after a crash one of the two is there, whole.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Gives a file another name in another folder of the same disk, where nothing has it: after a crash it is in one of
    /// the two, whole.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn move_into(&self, name: &str, folder: &Self, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names in the folder, in no order.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes durable what was created, renamed and removed.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn sync_folder(&self) -> io::Result<()>;

    /// A folder within this one, made durably if it is not there, for its owner alone.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn folder(&self, name: &str) -> io::Result<Self>;

    /// Locks the folder by the file `name` in it, without waiting.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if another process holds it, and those of the system.
    fn lock(&self, name: &str) -> io::Result<Self::Lock>;

    /// Bytes that can still be written where the folder is.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Leaves the disk to others for so long. Where time is virtual nobody is disturbed, and it returns at once.
    fn rest(&self, span: Duration);
}

/// An open file. Shared by the loop and the threads that run its work.
pub trait File: fmt::Debug + Send + Sync + 'static {
    /// Reads some bytes; 0 at the end of the file.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some bytes.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes what was written durable, and as much about the file as is needed to read it back.
    ///
    /// # Errors
    ///
    /// Those of the system. What was written before is then in doubt for ever: a second call may succeed without
    /// having written anything (fsyncgate).
    fn sync_data(&self) -> io::Result<()>;

    /// How long the file is.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn size(&self) -> io::Result<u64>;
}

/// Writes all of `bytes`, going on after short writes and interruptions.
pub(crate) fn write_all_at(file: &impl File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until `bytes` is full or the file ends. Returns how many were read.
pub(crate) fn read_full_at(file: &impl File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The whole of a small file; one above `bytes_max` is an error.
pub(crate) fn read_small<F: Files>(files: &F, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = files.open(name, false)?;
    let size = file.size()?;
    if size > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("has {size} bytes, where at most {bytes_max} are expected"),
        ));
    }
    let mut bytes = vec![0; usize::try_from(size).expect("below a small bound")];
    let count = read_full_at(&file, &mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Replaces a small file: after a crash the old one or the new one is there, whole, and after the return the new one.
pub(crate) fn replace_small<F: Files>(files: &F, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    match files.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = files.create(&temporary)?;
    write_all_at(&file, bytes, 0)?;
    file.sync_data()?;
    files.rename(&temporary, name)?;
    files.sync_folder()
}
