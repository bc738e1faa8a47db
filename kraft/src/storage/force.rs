//! Begins a cluster anew with one node alone, when the majority is lost for good.
//!
//! What the node has becomes what the cluster has: entries of its log that no majority ever had take effect, and entries
//! that it lacks are lost, though they may have been acknowledged. So this is done by a person who knows that the others
//! will not come back. If they do, they are turned away: the node comes back with another incarnation, by which none of
//! them knows it, and under which new members learn to know it.
//!
//! The incarnation is first, the entry that makes the node the only member last: a crash between the two leaves a node that
//! its peers refuse, and that can be forced again.

use std::fmt;

use bytes::Bytes;
use kraft_core::id::{GroupId, Index, NodeId, SyncId, Term};
use kraft_core::membership::Configuration;
use kraft_core::message::{Entries, Entry, EntryKind};
use kraft_core::storage::{Completed, Fault, HardState, Recovered, Storage, Work};

use super::config::Config;
use super::disk_log::DiskLog;
use super::files::Files;
use super::folder::{Folder, FolderError, Identity};
use super::survey::OpenError;

/// A cluster has begun anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forced {
    /// The entry that says so.
    pub index: Index,
    /// In which term.
    pub term: Term,
    /// The members that are none any more.
    pub lost: Vec<NodeId>,
}

/// Why it has not. Nothing was changed, but for [`Failed`](Self::Failed).
#[derive(Debug)]
pub enum ForceError {
    /// The folder waits to be told who the members are, and has nothing.
    Empty,
    /// The node is no member by its own log.
    NoMember,
    /// Its log was damaged and begun anew: it lacks what it had.
    Recovering,
    /// It is the only member already.
    Alone,
    /// Its log does not say who the members are in a way that can be read.
    Members(String),
    /// The folder cannot be used.
    Folder(FolderError),
    /// The log cannot be used.
    Log(OpenError),
    /// The disk failed.
    Failed(Fault),
}

impl fmt::Display for ForceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the folder has no members and no log: there is nothing to begin with"),
            Self::NoMember => f.write_str(
                "the node is no member of its cluster, so that its log may be old: begin with another one, or from a \
                 snapshot (kraftd init --from-snapshot)",
            ),
            Self::Recovering => f.write_str(
                "the log of this node was damaged and begun anew, so that it lacks what it had: begin with another one, or \
                 from a snapshot (kraftd init --from-snapshot)",
            ),
            Self::Alone => f.write_str("the node is the only member already: start it"),
            Self::Members(why) => write!(f, "the members in the log: {why}"),
            Self::Folder(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
            Self::Failed(fault) => write!(f, "{fault}; look at the disk, and try again"),
        }
    }
}

impl std::error::Error for ForceError {}

impl From<FolderError> for ForceError {
    fn from(error: FolderError) -> Self {
        Self::Folder(error)
    }
}

impl From<Fault> for ForceError {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

/// Makes the node whose folder this is the only member of its cluster, durably.
///
/// # Errors
///
/// [`ForceError`].
pub fn force_new_cluster<F: Files>(folder: &Folder<F>, config: Config) -> Result<Forced, ForceError> {
    let identity = folder.identity();
    if folder.was_removed()? {
        return Err(ForceError::NoMember);
    }
    if folder.damage()?.is_there() {
        return Err(ForceError::Recovering);
    }
    let files = folder.log()?;
    let (mut log, recovered) = DiskLog::open(files, identity.log(GroupId(0)), config).map_err(ForceError::Log)?;
    let configuration = newest(&recovered, identity)?;
    if configuration.members().is_empty() {
        return Err(ForceError::Empty);
    }
    let Some(own) = configuration.member(identity.node) else {
        return Err(ForceError::NoMember);
    };
    if configuration.members().len() == 1 && own.seat.votes() {
        return Err(ForceError::Alone);
    }
    let life = Identity::draw_incarnation().map_err(|error| Fault {
        operation: "draw an incarnation of",
        path: folder.files().path(""),
        error,
    })?;
    folder.begin_life(life)?;

    let others = configuration
        .members()
        .iter()
        .filter(|member| member.node != identity.node);
    let lost = others.map(|member| member.node).collect();
    let address = match own.address.is_empty() {
        true => identity.address(),
        false => own.address.clone(),
    };
    let alone = configuration
        .alone(identity.node)
        .described(identity.node, &address, life);
    let term = recovered.hard.term.next();
    let index = recovered.last.next();
    log.save(HardState {
        term,
        vote: NodeId::NONE,
    });
    append(&mut log, index, term, alone.encode())?;
    Ok(Forced { index, term, lost })
}

/// Who the members are, by the newest entry that says so.
fn newest(recovered: &Recovered, identity: &Identity) -> Result<Configuration, ForceError> {
    let at_head = recovered.snapshot.as_ref().map(|snapshot| &snapshot.head.membership);
    let at_head = at_head.filter(|bytes| !bytes.is_empty()).map(|bytes| bytes.to_vec());
    let in_log = recovered.memberships.last().map(|(_, bytes)| bytes.to_vec());
    match in_log.or(at_head) {
        Some(bytes) => Configuration::decode(&bytes).map_err(|error| ForceError::Members(error.to_string())),
        None => {
            let ids: Vec<_> = identity.members.iter().map(|member| member.node).collect();
            Ok(Configuration::founding(&ids))
        }
    }
}

fn append<S: Storage>(log: &mut S, index: Index, term: Term, payload: Bytes) -> Result<(), Fault> {
    const SYNC: SyncId = SyncId(1);
    let entry = Entry {
        term,
        kind: EntryKind::Membership,
        crc: crc32c::crc32c(&payload),
        payload,
    };
    log.append(index, &Entries::Shared(&[entry], &[]));
    log.sync(SYNC);
    while let Some(work) = log.next_work() {
        if let Some(Completed::Synced(SYNC)) = log.done(work.run())? {
            return Ok(());
        }
    }
    unreachable!("a sync that was asked for is handed out as work")
}
