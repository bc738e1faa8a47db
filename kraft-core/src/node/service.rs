//! Other listeners on a node's loop: a metrics page, an application's own port.

use std::fmt;
use std::time::Duration;

use crate::adapter::Stats;
use crate::id::{ConnId, Term};
use crate::link::Link;
use crate::message::StatusReply;

/// Answers connections of a listener that speaks something else than Kraft. Called on the node's loop, so it must
/// not block.
pub trait Service: Send {
    /// Bytes arrived; put the answer into `link`, close it when all is said.
    fn received(&mut self, conn: ConnId, bytes: &[u8], link: &mut Link, view: &View<'_>);

    /// The connection is gone.
    fn closed(&mut self, conn: ConnId);

    /// How long a connection may last, asked once for each; those that say nothing would else keep others out for
    /// ever. `None` for as long as it likes.
    fn age_max(&self) -> Option<Duration> {
        None
    }
}

/// What a [`Service`] may know of the node that it runs on.
#[derive(Debug)]
pub struct View<'a> {
    /// What the node says of itself.
    pub status: &'a StatusReply<'a>,
    /// The term in which it says so.
    pub term: Term,
    /// Counters of its event loop.
    pub stats: &'a Stats,
    /// Counters of the node.
    pub counters: &'a Counters,
}

/// What a node counts, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Commands taken from clients and handles.
    pub commands: u64,
    /// Reads taken from clients and handles.
    pub reads: u64,
    /// Requests refused.
    pub refused: u64,
    /// Requests whose outcome is unknown.
    pub unknown: u64,
    /// Entries applied.
    pub applied: u64,
    /// Syncs completed.
    pub syncs: u64,
    /// Connections closed for bytes that are no message.
    pub garbage: u64,
    /// Connections turned away at hello.
    pub turned_away: u64,
    /// Peers' messages that contradicted what was agreed on.
    pub violations: u64,
    /// Clients dropped since they did not read.
    pub slow_readers: u64,
    /// Snapshots taken of the own state.
    pub snapshots: u64,
    /// States that were restored from a snapshot of the leader's.
    pub restores: u64,
    /// Times that this node became leader.
    pub elections_won: u64,
}

impl fmt::Debug for dyn Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}
