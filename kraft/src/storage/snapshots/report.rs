//! Reads a snapshot without touching it, for people.

use std::fmt;
use std::path::PathBuf;

use kraft_core::message::SnapshotId;
use kraft_core::snapshot::Head;
use kraft_core::storage::Fault;

use super::format::{Flaw, Owner, snapshot_of_name};
use super::read::{Reader, Stopped};
use crate::storage::files::{File, Files};
use crate::storage::survey::fault;

/// What a file holds that should be a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotReport {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What is in it, or at which byte what is wrong with it begins.
    pub verdict: Result<SoundSnapshot, (u64, Flaw)>,
}

/// A snapshot without a flaw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoundSnapshot {
    /// Whose it is.
    pub owner: Owner,
    /// Which it is.
    pub id: SnapshotId,
    /// What it says of itself.
    pub head: Head,
    /// Bytes of its content: the sessions and the state machine.
    pub content_bytes: u64,
    /// In how many blocks.
    pub block_count: u64,
}

/// Reads all of a file and says what snapshot it is, checking every sum. `owner` is whose it must be; `None` if it may
/// be anybody's. If its name is one that a node gave it, that must fit, too.
///
/// # Errors
///
/// [`Fault`]: the system refused to read it.
pub fn snapshot<F: Files>(files: &F, name: &str, owner: Option<Owner>) -> Result<SnapshotReport, Fault> {
    let file = files.open(name, false).map_err(fault(files, name, "open"))?;
    let bytes = file.size().map_err(fault(files, name, "stat"))?;
    let verdict = match Reader::new(&file, owner).finish(snapshot_of_name(name, bytes)) {
        Ok(checked) => Ok(SoundSnapshot {
            owner: checked.owner,
            id: checked.id,
            head: checked.head,
            content_bytes: checked.content_bytes,
            block_count: checked.block_count,
        }),
        Err(Stopped::Flawed(found)) => Err(found),
        // Of a file in a node's folder it is told as of any other damage there; elsewhere another try may read it.
        Err(Stopped::Failed(at, error)) => match Flaw::of(&error).filter(|_| owner.is_some()) {
            Some(flaw) => Err((at, flaw)),
            None => return Err(fault(files, name, "read")(error)),
        },
    };
    Ok(SnapshotReport {
        path: files.path(name),
        bytes,
        verdict,
    })
}

impl fmt::Display for SnapshotReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes, ", self.path.display(), self.bytes)?;
        let sound = match &self.verdict {
            Ok(sound) => sound,
            Err((_, flaw)) if flaw.is_version() => return flaw.fmt(f),
            Err((offset, flaw)) => return write!(f, "damaged at byte {offset}: {flaw}"),
        };
        let SoundSnapshot {
            owner,
            id,
            head,
            content_bytes,
            block_count,
        } = sound;
        write!(
            f,
            "sound: cluster {:x}, group {}, up to index {} of term {}, sum {:08x}, ",
            owner.cluster.0, owner.group, id.index, id.term, id.crc
        )?;
        match head.membership.len() {
            0 => f.write_str("the configuration that the cluster was founded with, ")?,
            length => write!(
                f,
                "the configuration of index {} in {length} bytes, ",
                head.membership_index
            )?,
        }
        write!(f, "{content_bytes} bytes of content in {block_count} blocks")
    }
}
