//! The data folder: who the node is, written once.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use kraft_core::id::{ClusterId, GroupId, Incarnation, NodeId};

use super::config::Config;
use super::disk_log::DiskLog;
use super::files::{Files, read_small, replace_small};
use super::format::{LogIdentity, segment_number};
use super::peer_book::PeerBook;
use super::real::RealFiles;
use super::repair::DamageNote;
use super::sealed_text;
use super::survey::OpenError;

const IDENTITY: &str = "identity";
const LOCK: &str = "lock";
pub(crate) const LOG: &str = "log";
const VERSION: &str = "1";
const IDENTITY_BYTES_MAX: u64 = 64 << 10;
const TITLE: &str = "Written once, when the data folder was made. The last line is the checksum of all above it.";

/// Who a node is. Written by `init`, read by every start, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name of the cluster.
    pub cluster: String,
    /// The node.
    pub node: NodeId,
    /// The members that the cluster was founded with, this node among them, ascending by id; none if the node waits to be
    /// added to a cluster.
    pub members: Vec<Member>,
    /// Where peers reach this node: `HOST:PORT` to listen on.
    pub listen: String,
    /// Where clients reach it.
    pub client: String,
    /// The life of the folder.
    pub incarnation: Incarnation,
    /// When it was made, in seconds since 1970. Read by people alone.
    pub created: u64,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// Where its peers reach it: `HOST:PORT`.
    pub address: String,
}

/// What the caller knows of the folder already, from flags or a file; what is `None` is not compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'a> {
    /// The name of the cluster.
    pub cluster: Option<&'a str>,
    /// The node.
    pub node: Option<NodeId>,
}

/// Why a folder was not made or not opened. Nothing was changed.
#[derive(Debug)]
pub enum FolderError {
    /// There is no folder, or it has no identity.
    NoIdentity(PathBuf),
    /// A folder to be made has something in it.
    NotEmpty(PathBuf, String),
    /// It is the folder of another cluster.
    OtherCluster {
        /// Which folder.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// It is the folder of another node.
    OtherNode {
        /// Which folder.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Whose it should be.
        expected: NodeId,
    },
    /// It was made by a program that writes another version.
    Version(PathBuf, String),
    /// A file in it is not as it was written.
    Damaged(PathBuf, &'static str),
    /// A repair of its log was begun, and has not ended.
    Unrepaired(PathBuf),
    /// Another process has it open.
    Locked(PathBuf),
    /// What is to be written cannot be.
    Invalid(&'static str, String),
    /// The system refused.
    Failed(PathBuf, io::Error),
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIdentity(path) => write!(
                f,
                "{} holds no node, or is not there: make one with `kraftd init`, or name the one that was made",
                path.display()
            ),
            Self::NotEmpty(path, name) => write!(
                f,
                "{} is not empty ({} is in it): a data folder is made once, in an empty or new folder",
                path.display(),
                name.escape_debug()
            ),
            Self::OtherCluster { path, found, expected } => write!(
                f,
                "{} belongs to cluster {found:?}, not to {expected:?}: name the folder of this cluster",
                path.display()
            ),
            Self::OtherNode { path, found, expected } => write!(
                f,
                "{} belongs to node {found}, not to node {expected}: name the folder of this node",
                path.display()
            ),
            Self::Version(path, found) => write!(
                f,
                "{} has version {}, and this program reads version {VERSION}: run the version that made it",
                path.display(),
                found.escape_debug()
            ),
            Self::Damaged(path, what) => write!(
                f,
                "{} is damaged ({what}): restore it, or leave this node down: the majority goes on without it",
                path.display()
            ),
            Self::Unrepaired(path) => write!(
                f,
                "the repair of the log in {0} was begun and did not end: go on with `kraftd repair --data {0}`",
                path.display()
            ),
            Self::Locked(path) => write!(
                f,
                "{} is locked: another process serves it; stop that one, or name another folder",
                path.display()
            ),
            Self::Invalid(field, value) => write!(f, "{field} cannot be {value:?}"),
            Self::Failed(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for FolderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(_, error) => Some(error),
            _ => None,
        }
    }
}

impl Identity {
    /// Whose log it is, for one of the cluster's groups.
    #[must_use]
    pub fn log(&self, group: GroupId) -> LogIdentity {
        LogIdentity {
            cluster: ClusterId::from_name(&self.cluster),
            node: self.node,
            incarnation: self.incarnation,
            group,
        }
    }

    /// Where the peers of this node reach it, as far as the folder says.
    #[must_use]
    pub fn address(&self) -> String {
        let own = self.members.iter().find(|member| member.node == self.node);
        own.map_or(&self.listen, |member| &member.address).clone()
    }

    /// A random life for a new folder.
    ///
    /// # Errors
    ///
    /// Those of the system's source of randomness.
    pub fn draw_incarnation() -> io::Result<Incarnation> {
        loop {
            let number = getrandom::u64().map_err(io::Error::other)?;
            // Zero is the incarnation of clients.
            if number != 0 {
                return Ok(Incarnation(number));
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), FolderError> {
        let is_text = |value: &str| !value.is_empty() && value.len() <= 255 && !value.contains(char::is_control);
        let own = self.members.is_empty() || self.members.iter().any(|member| member.node == self.node);
        let ascends = self.members.windows(2).all(|pair| pair[0].node < pair[1].node);
        let fields = [
            ("cluster", &self.cluster),
            ("listen", &self.listen),
            ("client", &self.client),
        ];
        let members = self
            .members
            .iter()
            .map(|member| ("a member's address", &member.address));
        for (field, value) in fields.into_iter().chain(members) {
            if !is_text(value) || value.trim() != value {
                return Err(FolderError::Invalid(field, value.clone()));
            }
        }
        if !self.node.is_some() || !own {
            return Err(FolderError::Invalid("node", self.node.to_string()));
        }
        if !ascends || self.members.iter().any(|member| !member.node.is_some()) {
            let ids: Vec<_> = self.members.iter().map(|member| member.node.to_string()).collect();
            return Err(FolderError::Invalid("members", ids.join(",")));
        }
        if self.incarnation.0 == 0 {
            return Err(FolderError::Invalid("incarnation", "0".to_owned()));
        }
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut lines = vec![
            ("version".to_owned(), VERSION.to_owned()),
            ("cluster".to_owned(), self.cluster.clone()),
            ("node".to_owned(), self.node.to_string()),
        ];
        for member in &self.members {
            lines.push((format!("member.{}", member.node), member.address.clone()));
        }
        lines.push(("listen".to_owned(), self.listen.clone()));
        lines.push(("client".to_owned(), self.client.clone()));
        lines.push(("incarnation".to_owned(), format!("{:016x}", self.incarnation.0)));
        lines.push(("created".to_owned(), self.created.to_string()));
        sealed_text::encode(TITLE, &lines)
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, FolderError> {
        let damaged = |what| FolderError::Damaged(path.to_owned(), what);
        let lines = sealed_text::decode(bytes).map_err(damaged)?;
        let mut identity = Self {
            cluster: String::new(),
            node: NodeId::NONE,
            members: Vec::new(),
            listen: String::new(),
            client: String::new(),
            incarnation: Incarnation(0),
            created: 0,
        };
        match lines.first() {
            Some((key, version)) if key == "version" && version == VERSION => {}
            Some((key, version)) if key == "version" => {
                return Err(FolderError::Version(path.to_owned(), version.clone()));
            }
            _ => return Err(damaged("it has no version")),
        }
        for (key, value) in &lines[1..] {
            let number = || value.parse::<u64>().map_err(|_| damaged("a number"));
            match (key.as_str(), key.strip_prefix("member.")) {
                ("cluster", _) => identity.cluster = value.clone(),
                ("node", _) => identity.node = NodeId(number()?),
                ("listen", _) => identity.listen = value.clone(),
                ("client", _) => identity.client = value.clone(),
                ("created", _) => identity.created = number()?,
                ("incarnation", _) => {
                    let number = u64::from_str_radix(value, 16).map_err(|_| damaged("the incarnation"))?;
                    identity.incarnation = Incarnation(number);
                }
                (_, Some(node)) => identity.members.push(Member {
                    node: NodeId(node.parse().map_err(|_| damaged("a member's id"))?),
                    address: value.clone(),
                }),
                _ => return Err(damaged("an unknown key")),
            }
        }
        identity.check().map_err(|_| damaged("a field is missing or wrong"))?;
        Ok(identity)
    }
}

/// An open data folder. It is locked until this is dropped.
#[derive(Debug)]
pub struct Folder<F: Files = RealFiles> {
    files: F,
    identity: Identity,
    _lock: F::Lock,
}

impl Folder {
    /// Makes a data folder at `path`, which is empty or not there.
    ///
    /// # Errors
    ///
    /// [`FolderError`].
    pub fn create(path: &Path, identity: &Identity) -> Result<(), FolderError> {
        identity.check()?;
        match RealFiles::open(path) {
            Ok(files) => check_empty(&files)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(FolderError::Failed(path.to_owned(), error)),
        }
        let files = RealFiles::create(path).map_err(|error| FolderError::Failed(path.to_owned(), error))?;
        Self::create_in(&files, identity)
    }

    /// Opens the data folder at `path`, and locks it.
    ///
    /// # Errors
    ///
    /// [`FolderError`].
    pub fn open(path: &Path, expected: Expected<'_>) -> Result<Self, FolderError> {
        let files = RealFiles::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FolderError::NoIdentity(path.to_owned()),
            _ => FolderError::Failed(path.to_owned(), error),
        })?;
        Self::open_in(files, expected)
    }
}

pub(super) fn check_empty<F: Files>(files: &F) -> Result<(), FolderError> {
    let here = || files.path("");
    let names = files.list().map_err(|error| FolderError::Failed(here(), error))?;
    // mkfs makes the one, an `init` that was refused leaves the other.
    let left = ["lost+found", LOCK];
    match names.into_iter().find(|name| !left.contains(&name.as_str())) {
        Some(name) => Err(FolderError::NotEmpty(here(), name)),
        None => Ok(()),
    }
}

/// Begins the log. From then on a log that is not there is a log that was lost, and never one that begins: a node
/// that forgot its vote could give it twice.
fn begin_log<F: Files>(files: &F, identity: &Identity) -> Result<(), FolderError> {
    let log = files
        .folder(LOG)
        .map_err(|error| FolderError::Failed(files.path(LOG), error))?;
    match DiskLog::open(log, identity.log(GroupId(0)), Config::default()) {
        Ok(_) => Ok(()),
        Err(OpenError::Failed(fault)) => Err(FolderError::Failed(fault.path, fault.error)),
        Err(OpenError::Damaged(damage)) => Err(FolderError::Damaged(damage.path, "a new log has something in it")),
        Err(OpenError::Config(error)) => Err(FolderError::Invalid(error.field, error.value.to_string())),
    }
}

impl<F: Files> Folder<F> {
    /// Makes a data folder of an empty folder.
    ///
    /// # Errors
    ///
    /// [`FolderError`].
    pub fn create_in(files: &F, identity: &Identity) -> Result<(), FolderError> {
        Self::create_with(files, identity, |_| Ok(()))
    }

    /// As [`create_in`](Self::create_in), with something done to the folder of a log that has begun.
    pub(super) fn create_with<E: From<FolderError>>(
        files: &F,
        identity: &Identity,
        fill: impl FnOnce(&F) -> Result<(), E>,
    ) -> Result<(), E> {
        identity.check()?;
        check_empty(files)?;
        let failed = |name: &str| {
            let path = files.path(name);
            move |error| FolderError::Failed(path, error)
        };
        let lock = lock(files)?;
        begin_log(files, identity)?;
        let log = files.folder(LOG).map_err(failed(LOG))?;
        fill(&log)?;
        PeerBook::create(files).map_err(failed("peers"))?;
        // The identity is last: with it the folder is whole.
        replace_small(files, IDENTITY, &identity.encode()).map_err(failed(IDENTITY))?;
        drop(lock);
        Ok(())
    }

    /// Opens a data folder, and locks it.
    ///
    /// # Errors
    ///
    /// [`FolderError`].
    pub fn open_in(files: F, expected: Expected<'_>) -> Result<Self, FolderError> {
        let identity = Self::read_identity(&files)?;
        let path = files.path("");
        if let Some(cluster) = expected.cluster.filter(|cluster| *cluster != identity.cluster) {
            return Err(FolderError::OtherCluster {
                path,
                found: identity.cluster,
                expected: cluster.to_owned(),
            });
        }
        if let Some(node) = expected.node.filter(|node| *node != identity.node) {
            return Err(FolderError::OtherNode {
                path,
                found: identity.node,
                expected: node,
            });
        }
        let lock = lock(&files)?;
        Ok(Self {
            files,
            identity,
            _lock: lock,
        })
    }

    /// Who the node is whose folder this is, without opening it.
    ///
    /// # Errors
    ///
    /// [`FolderError`].
    pub fn read_identity(files: &F) -> Result<Identity, FolderError> {
        let path = files.path(IDENTITY);
        let bytes = read_small(files, IDENTITY, IDENTITY_BYTES_MAX).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FolderError::NoIdentity(files.path("")),
            io::ErrorKind::InvalidData => FolderError::Damaged(path.clone(), "it is too long"),
            _ => FolderError::Failed(path.clone(), error),
        })?;
        Identity::decode(&path, &bytes)
    }

    /// Who the node is.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The folder of the log.
    ///
    /// # Errors
    ///
    /// [`FolderError::Damaged`] if there is no log, [`FolderError::Unrepaired`] if it is being begun anew, and
    /// [`FolderError::Failed`].
    pub fn log(&self) -> Result<F, FolderError> {
        self.damage()?;
        let path = self.files.path(LOG);
        let failed = |error| FolderError::Failed(path.clone(), error);
        if !self.files.list().map_err(failed)?.iter().any(|name| name == LOG) {
            return Err(FolderError::Damaged(path, "it is missing"));
        }
        let log = self.files.folder(LOG).map_err(failed)?;
        if !log
            .list()
            .map_err(failed)?
            .iter()
            .any(|name| segment_number(name).is_some())
        {
            return Err(FolderError::Damaged(path, "its segments are missing"));
        }
        Ok(log)
    }

    /// Whether the log was damaged and begun anew by [`repair`](super::repair()): then the node is
    /// [recovering](kraft_core::raft::Config::recovering), until it has the note removed.
    ///
    /// # Errors
    ///
    /// As for [`log`](Self::log).
    pub fn damage(&self) -> Result<DamageNote<F>, FolderError> {
        DamageNote::read(self.files.clone())
    }

    pub(super) const fn files(&self) -> &F {
        &self.files
    }

    /// The incarnations of peers.
    ///
    /// # Errors
    ///
    /// [`FolderError::Damaged`] and [`FolderError::Failed`].
    pub fn peers(&self) -> Result<PeerBook<F>, FolderError> {
        PeerBook::open(self.files.clone())
    }
}

fn lock<F: Files>(files: &F) -> Result<F::Lock, FolderError> {
    files.lock(LOCK).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => FolderError::Locked(files.path("")),
        _ => FolderError::Failed(files.path(LOCK), error),
    })
}
