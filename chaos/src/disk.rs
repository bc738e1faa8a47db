//! The disks of nodes: a file system each, that can be filled, and whose power can be cut.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate, statvfs, syncfs};
use rustix::io::Errno;

use crate::command::{self, Trouble};
use crate::network::NODES;

/// What a disk holds: several times what a run of ten minutes writes. The image is sparse.
const IMAGE_BYTES: u64 = 1 << 30;

/// What a disk in memory holds: its ballast, twice that for what clients write, and no more, for all of it is taken from
/// the machine when it is filled.
const MEMORY_BYTES: u64 = 96 << 20;

/// How long clients may write to it, in seconds: they think too long to write 100 kB in each.
const MEMORY_LASTS: u64 = 600;

/// What the machine must have left when all disks in memory are full.
const MEMORY_SPARE: u64 = 512 << 20;

/// How long a file system may be in use by what is left of a dead process.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(20);

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: from here on nothing reaches the disk, the journal neither,
/// as if its power had been cut. Called from Perl, which every Debian has: an ioctl is unsafe code in Rust.
const SHUTDOWN: &str = r#"
    open(my $folder, "<", $ARGV[0]) or die "open: $!";
    my $how = pack("L", 2);
    ioctl($folder, 0x8004587d, $how) or die "EXT4_IOC_SHUTDOWN: $!";
"#;

/// What a disk is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// ext4 on a loop device: its power can be cut.
    Ext4,
    /// A file system in memory.
    Memory,
    /// A folder of the machine's own disk, which nobody fills.
    Folder,
}

impl Kind {
    /// How much of a disk may be used up on purpose.
    pub(crate) fn ballast_bytes_max(self) -> usize {
        match self {
            Self::Memory => 32 << 20,
            Self::Ext4 | Self::Folder => 400 << 20,
        }
    }
}

/// A node's disk.
#[derive(Debug)]
pub(crate) struct Disk {
    kind: Kind,
    /// Where it is mounted.
    at: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// Makes a disk and mounts it.
    ///
    /// # Errors
    ///
    /// It cannot be had here.
    pub(crate) fn make(kind: Kind, folder: &Path, name: &str) -> Result<Self, Trouble> {
        let disk = Self {
            kind,
            at: folder.join(name),
            image: folder.join(format!("{name}.img")),
        };
        fs::create_dir_all(&disk.at).map_err(|error| Trouble::at(&disk.at, &error))?;
        match kind {
            Kind::Ext4 => {
                File::create(&disk.image)
                    .and_then(|image| image.set_len(IMAGE_BYTES))
                    .map_err(|error| Trouble::at(&disk.image, &error))?;
                command::run("mkfs.ext4", &["-q", "-F", "-m", "0", text(&disk.image)])?;
                disk.mount()?;
            }
            Kind::Memory => {
                let size = format!("size={MEMORY_BYTES}");
                command::run("mount", &["-t", "tmpfs", "-o", &size, "kraft-chaos", text(&disk.at)])?;
            }
            Kind::Folder => {}
        }
        Ok(disk)
    }

    /// Whether its power can be cut.
    pub(crate) fn has_power(&self) -> bool {
        self.kind == Kind::Ext4
    }

    /// A folder on it.
    pub(crate) fn data(&self) -> PathBuf {
        self.at.join("data")
    }

    /// Leaves no byte free.
    ///
    /// # Errors
    ///
    /// Writing fails for another reason, or nothing is mounted here.
    pub(crate) fn fill(&self) -> Result<(), Trouble> {
        self.must_be_mounted()?;
        let path = self.filler();
        let file = File::create(&path).map_err(|error| Trouble::at(&path, &error))?;
        // Blocks are reserved, not written: the machine's own disk has other things to do.
        let (mut end, mut length) = (0, IMAGE_BYTES);
        while length >= 512 {
            match fallocate(&file, FallocateFlags::empty(), end, length) {
                Ok(()) => end += length,
                Err(Errno::NOSPC) => length /= 2,
                Err(Errno::INTR) => {}
                Err(error) => return Err(Trouble::at(&path, &error.into())),
            }
        }
        Ok(())
    }

    /// Undoes [`fill`](Self::fill).
    ///
    /// # Errors
    ///
    /// The file cannot be removed.
    pub(crate) fn free(&self) -> Result<(), Trouble> {
        let path = self.filler();
        fs::remove_file(&path).map_err(|error| Trouble::at(&path, &error))
    }

    /// Cuts its power: what ext4 had not written is gone, and every write fails until it is mounted again.
    ///
    /// It is no test of barriers. What ext4 did write to its loop device is in the machine's own page cache, flushed or
    /// not, and comes back: that a flush is missing is not seen here.
    ///
    /// # Errors
    ///
    /// The file system does not know how, or nothing is mounted here.
    pub(crate) fn cut_power(&self) -> Result<(), Trouble> {
        self.must_be_mounted()?;
        command::run("perl", &["-e", SHUTDOWN, text(&self.at)])
    }

    /// Mounts it again. No process may use it.
    ///
    /// # Errors
    ///
    /// Somebody does, or ext4 does not recover.
    pub(crate) fn restore_power(&self) -> Result<(), Trouble> {
        let until = Instant::now() + UNMOUNT_TIMEOUT;
        // The kernel may still hold files of a process that is gone, on behalf of its ring.
        while let Err(trouble) = command::run("umount", &[text(&self.at)]) {
            if Instant::now() > until {
                return Err(trouble);
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.mount()?;
        // Its removal need not have reached the disk: the power cut brought it back.
        if self.filler().exists() { self.free() } else { Ok(()) }
    }

    /// Fills it, frees it, and cuts its power before it is known on the disk that it was freed.
    fn bear_faults(&self) -> Result<(), Trouble> {
        self.fill()?;
        let at = |error: io::Error| Trouble::at(&self.at, &error);
        File::open(&self.at)
            .and_then(|folder| Ok(syncfs(folder)?))
            .map_err(at)?;
        self.free()?;
        if self.has_power() {
            self.cut_power()?;
            self.restore_power()?;
        }
        if self.filler().exists() {
            return Err(Trouble::new(format!("{} is full again", self.at.display())));
        }
        Ok(())
    }

    fn mount(&self) -> Result<(), Trouble> {
        // The loop device frees itself when it is unmounted.
        let options = "loop,errors=remount-ro";
        command::run(
            "mount",
            &["-t", "ext4", "-o", options, text(&self.image), text(&self.at)],
        )
    }

    /// Without a file system of its own, what is done to it would be done to the machine's.
    fn must_be_mounted(&self) -> Result<(), Trouble> {
        let device = |path: &Path| {
            let found = fs::metadata(path).map_err(|error| Trouble::at(path, &error))?;
            Ok(found.dev())
        };
        let around = self.at.parent().unwrap_or(&self.at);
        if device(&self.at)? == device(around)? {
            return Err(Trouble::new(format!(
                "{}: no file system is mounted here: what is around it is left alone",
                self.at.display()
            )));
        }
        Ok(())
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }
}

/// Which disks can be had here, the best first, and why the better ones cannot.
pub(crate) fn probe(folder: &Path, seconds: u64) -> (Kind, Vec<Trouble>) {
    let mut refused = Vec::new();
    for kind in [Kind::Ext4, Kind::Memory] {
        match check_memory(kind, seconds).and_then(|()| try_out(kind, folder)) {
            Ok(()) => return (kind, refused),
            Err(trouble) => refused.push(trouble),
        }
    }
    (Kind::Folder, refused)
}

/// Makes a disk and does to it what faults do; leaves nothing mounted.
fn try_out(kind: Kind, folder: &Path) -> Result<(), Trouble> {
    let disk = Disk::make(kind, folder, "probe")?;
    let tried = disk.bear_faults();
    let unmounted = command::run("umount", &[text(&disk.at)]);
    let _ = fs::remove_file(&disk.image);
    tried.and(unmounted)
}

/// Whether disks in memory, if it is about these, can be had for so many seconds.
fn check_memory(kind: Kind, seconds: u64) -> Result<(), Trouble> {
    if kind != Kind::Memory {
        return Ok(());
    }
    if seconds > MEMORY_LASTS {
        return Err(Trouble::new(format!(
            "disks in memory are full after {MEMORY_LASTS} seconds"
        )));
    }
    let path = Path::new("/proc/meminfo");
    let text = fs::read_to_string(path).map_err(|error| Trouble::at(path, &error))?;
    check_available(&text)
}

/// Whether there is memory for all disks in it, by what `/proc/meminfo` says.
fn check_available(meminfo: &str) -> Result<(), Trouble> {
    let needed = NODES as u64 * MEMORY_BYTES + MEMORY_SPARE;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    let available = number.map_or(0, |number: u64| number << 10);
    if available >= needed {
        return Ok(());
    }
    Err(Trouble::new(format!(
        "disks in memory: {} MiB of memory available, {} MiB needed",
        available >> 20,
        needed >> 20
    )))
}

/// Whether the machine's own disk has room for a run of so many seconds. Disks in memory need next to none of it.
///
/// # Errors
///
/// It has not: writes to images would fail, as if nodes were to blame.
pub(crate) fn check_room(kind: Kind, folder: &Path, seconds: u64) -> Result<(), Trouble> {
    if kind == Kind::Memory {
        return Ok(());
    }
    // Measured: five nodes write less than 3 MB a second in all.
    let needed = (1 << 30) + seconds * (3 << 20);
    let found = statvfs(folder).map_err(|error| Trouble::at(folder, &error.into()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free >= needed {
        return Ok(());
    }
    Err(Trouble::new(format!(
        "{}: {} MiB free, {} MiB needed: make room, or name another place with --folder",
        folder.display(),
        free >> 20,
        needed >> 20
    )))
}

fn text(path: &Path) -> &str {
    path.to_str()
        .expect("the folder of a run is in UTF-8, and our names are")
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process;

    use super::*;

    #[test]
    fn disks_in_memory_need_memory_that_is_available() {
        let available = |kilobytes: u64| format!("MemTotal: 99999999 kB\nMemAvailable: {kilobytes} kB\nCached: 1 kB\n");
        let needed = (5 * MEMORY_BYTES + MEMORY_SPARE) >> 10;
        assert_eq!(check_available(&available(needed)), Ok(()));
        assert!(check_available(&available(needed - 1)).is_err());
        assert!(check_available("MemTotal: 99999999 kB\n").is_err());
        assert!(check_memory(Kind::Memory, MEMORY_LASTS + 1).is_err());
        assert_eq!(check_memory(Kind::Ext4, MEMORY_LASTS + 1), Ok(()));
    }

    #[test]
    fn a_folder_of_the_machine_s_own_disk_is_left_alone() {
        let folder = env::temp_dir().join(format!("kraft-chaos-{}-disk", process::id()));
        let disk = Disk {
            kind: Kind::Ext4,
            at: folder.join("disk"),
            image: folder.join("disk.img"),
        };
        fs::create_dir_all(&disk.at).expect("a folder");
        let refused = disk.must_be_mounted();
        fs::remove_dir_all(&folder).expect("removed");
        let trouble = refused.expect_err("nothing is mounted there");
        assert!(trouble.to_string().contains("no file system is mounted"), "{trouble}");
        // Every Linux has one there.
        let other = Disk {
            at: "/proc".into(),
            ..disk
        };
        assert_eq!(other.must_be_mounted(), Ok(()));
    }
}
