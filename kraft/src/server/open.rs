//! A node from its data folder.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use kraft_core::adapter::{Adapter, ListenOptions};
use kraft_core::id::GroupId;
use kraft_core::machine::StateMachine;
use kraft_core::message::Role;
use kraft_core::node::{self, Config, Member, Node, Notice, Parts};
use kraft_core::protocol::Protocol;
use kraft_core::snapshot::StoreError;

use super::Server;
use crate::storage::{self, DiskLog, Folder, FolderError, Identity, RealFiles};

/// Why a node does not start.
#[derive(Debug)]
pub enum OpenError {
    /// Its data folder, or the list of peers in it, cannot be used.
    Folder(FolderError),
    /// Its log cannot be used.
    Log(storage::OpenError),
    /// The identity in the folder makes no valid configuration.
    Config(String),
    /// Its newest snapshot cannot be read.
    Snapshot(StoreError),
    /// It cannot listen for its peers, or the system has no randomness.
    System(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
            Self::Config(text) => f.write_str(text),
            Self::Snapshot(error) => error.fmt(f),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<node::OpenError> for OpenError {
    fn from(error: node::OpenError) -> Self {
        match error {
            node::OpenError::Config(what) => Self::Config(what),
            node::OpenError::Snapshot(error) => Self::Snapshot(error),
        }
    }
}

impl<A, P, M> Server<A, P, DiskLog<RealFiles>, M>
where
    A: Adapter,
    P: Protocol,
    M: StateMachine,
{
    /// Opens the node whose data folder this is, with every setting at its default: replays its log, which blocks, and
    /// listens for its peers. `observer` is told what an operator should hear of, on the node's loop.
    ///
    /// A node with settings of its own is made as this one is: by [`DiskLog::open`], [`Node::open`] and
    /// [`Server::new`].
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing was changed.
    pub fn open(
        folder: &Folder<RealFiles>,
        adapter: A,
        protocol: P,
        machine: M,
        observer: impl FnMut(Notice<'_>) + Send + 'static,
    ) -> Result<Self, OpenError> {
        let identity = folder.identity();
        let book = folder.peers().map_err(OpenError::Folder)?;
        let members = identity.members.iter().map(|member| Member {
            node: member.node,
            address: member.address.clone(),
            incarnation: book.get(member.node),
        });
        let seed = Identity::draw_incarnation().map_err(OpenError::System)?.0;
        let incarnation = folder.life().map_err(OpenError::Folder)?;
        let (cluster, node) = (&identity.cluster, identity.node);
        let mut config = Config::new(cluster, node, incarnation, members.collect(), seed);
        config.incarnations = book.all();
        let damage = folder.damage().map_err(OpenError::Folder)?;
        config.raft.recovering = damage.is_there();
        let files = folder.log().map_err(OpenError::Folder)?;
        let opened = DiskLog::open(files, identity.log(GroupId(0)), Default::default());
        let (storage, recovered) = opened.map_err(OpenError::Log)?;
        let parts = Parts {
            adapter,
            protocol,
            storage,
            recovered,
            machine,
        };
        let node = Node::open(config, parts, observer)?;
        let mut server = Self::new(node, move |peer, life| book.remember(peer, life).map(drop))
            .forgetting_damage(move || damage.forget());
        let peers: SocketAddr = identity.listen.parse().map_err(|error| {
            OpenError::Config(format!(
                "listen address {:?} of the data folder: {error}",
                identity.listen
            ))
        })?;
        let listening = server.listen(Role::Peer, &peers.into(), ListenOptions::default());
        listening.map_err(OpenError::System)?;
        Ok(server)
    }
}
