//! Fetches a snapshot of the cluster's state, to be kept elsewhere.

use std::fmt;
use std::io;
use std::ops::Range;
use std::time::Duration;

use kraft_core::adapter::Adapter;
use kraft_core::client::{CallId, Download, End, NoPiece, Refused, Request, Wrong};
use kraft_core::message::{Fetch, NodeState, Refusal, SnapshotId};
use kraft_core::protocol::Protocol;
use kraft_core::time::Instant;

use super::{Client, Error, NodeReport, NodeStatus};

/// Pieces that are on their way at a time: with the usual 128 KiB each they fit twice into a node's write queue.
const WINDOW: usize = 4;

/// How long a node may take to write a new snapshot, as long as it answers otherwise.
const FIRST_PIECE_MAX: Duration = Duration::from_secs(3600);

/// How often a node that writes a new snapshot is asked whether it lives; and how long is waited before another try.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How often a piece is asked for that does not come.
const TRIES: u32 = 3;

/// A node that takes snapshots faster than they are fetched is not fetched from for ever.
const RESTARTS_MAX: u32 = 5;

/// Whom to fetch from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The leader: what it answered before it was asked is in it.
    Leader,
    /// A follower, of those that answer the one that has applied the most, or else the leader: to spare the leader the
    /// work. What is not applied there yet is missing.
    Follower,
}

/// A node to fetch from.
#[derive(Clone, Debug)]
pub struct SnapshotSource {
    /// The node as it was named.
    pub name: String,
    /// What it says of itself.
    pub report: NodeReport,
    /// The highest index that any of the nodes says is committed.
    pub commit: u64,
    sites: Range<usize>,
}

/// Why no snapshot was fetched.
#[derive(Debug)]
#[non_exhaustive]
pub enum FetchError {
    /// No node that answers leads, or none answers; what each says.
    NoSource(Whom, Vec<NodeStatus>),
    /// The node refused.
    Refused(Refused),
    /// Nothing new came for too long.
    Broken {
        /// Bytes that came before.
        taken: u64,
        /// What was last heard, or how long nothing was.
        why: String,
    },
    /// The node answered what cannot be.
    Wrong(Wrong),
    /// The taker failed.
    Taker(io::Error),
    /// The client's own event loop failed.
    Client(Error),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSource(whom, nodes) => {
                f.write_str(match whom {
                    Whom::Leader => "no leader was found: ",
                    Whom::Follower => "no node answers: ",
                })?;
                for (at, NodeStatus { node, report }) in nodes.iter().enumerate() {
                    let separator = if at == 0 { "" } else { "; " };
                    write!(f, "{separator}{} ", node.name.escape_debug())?;
                    match report {
                        Ok(report) if report.leader.is_some() => write!(f, "follows node {}", report.leader)?,
                        Ok(_) => f.write_str("knows no leader")?,
                        Err(why) => f.write_str(why)?,
                    }
                }
                Ok(())
            }
            Self::Refused(refused) if refused.why == Refusal::Invalid => f.write_str(&refused.detail),
            Self::Refused(refused) => refused.fmt(f),
            Self::Broken { taken, why } => write!(f, "{why}; {taken} bytes had come"),
            Self::Wrong(wrong) => wrong.fmt(f),
            Self::Taker(error) => error.fmt(f),
            Self::Client(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            Self::Wrong(error) => Some(error),
            Self::Taker(error) => Some(error),
            Self::Client(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for FetchError {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl<A: Adapter, P: Protocol> Client<A, P> {
    /// Looks for a node to fetch a snapshot from.
    ///
    /// # Errors
    ///
    /// [`FetchError::NoSource`], [`FetchError::Client`].
    pub fn snapshot_source(&mut self, whom: Whom) -> Result<SnapshotSource, FetchError> {
        let nodes = self.status()?;
        let mut sites = 0..0;
        let mut best: Option<(_, SnapshotSource)> = None;
        let mut commit = 0;
        for NodeStatus { node, report } in &nodes {
            sites = sites.end..sites.end + node.addresses.len();
            let Ok(report) = report else { continue };
            commit = commit.max(report.commit.0);
            let leads = report.state == NodeState::Leader;
            let rank = match whom {
                Whom::Leader if leads => (true, report.term.0),
                Whom::Leader => continue,
                Whom::Follower => (!leads, report.applied.0),
            };
            if best.as_ref().is_none_or(|(least, _)| rank > *least) {
                let source = SnapshotSource {
                    name: node.name.clone(),
                    report: report.clone(),
                    commit: 0,
                    sites: sites.clone(),
                };
                best = Some((rank, source));
            }
        }
        match best {
            Some((_, source)) => Ok(SnapshotSource { commit, ..source }),
            None => Err(FetchError::NoSource(whom, nodes)),
        }
    }

    /// Has a node take a snapshot of what it has applied, unless its newest is one, and fetches it. `take` is given its
    /// pieces in order: which snapshot, where the piece begins, the piece. One at offset 0 begins anew: the node did not
    /// keep the former any more.
    ///
    /// A break is followed by other tries at the same node, which go on where the last one ended, until nothing new came
    /// for `patience`, of which a piece may take a third. Length and checksum of the whole are compared in the end.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub fn fetch_snapshot(
        &mut self,
        source: &SnapshotSource,
        patience: Duration,
        mut take: impl FnMut(SnapshotId, u64, &[u8]) -> io::Result<()>,
    ) -> Result<SnapshotId, FetchError> {
        let mut fetching = Fetching::new(source, patience, self.runner.now());
        loop {
            self.ask(&mut fetching)?;
            let until = self.runner.now() + PROBE_EVERY.min(patience / 2);
            let Some((call, end)) = self.end_until(until)? else {
                self.probe(&mut fetching)?;
                fetching.check_patience(self.runner.now())?;
                continue;
            };
            let now = self.runner.now();
            fetching.ended(call, end, now)?;
            while let Some(piece) = fetching.download.ready() {
                take(piece.id, piece.offset, &piece.data).map_err(FetchError::Taker)?;
                fetching.progress = now;
            }
            match fetching.download.is_complete() {
                Ok(true) => return Ok(fetching.download.id().expect("a complete one is known")),
                Ok(false) => {}
                Err(wrong) => fetching.restart(FetchError::Wrong(wrong))?,
            }
            fetching.check_patience(now)?;
        }
    }

    /// Asks for the pieces that are wanted; after a failure, when everything that was asked for has ended and some time
    /// has passed.
    fn ask(&mut self, fetching: &mut Fetching) -> Result<(), FetchError> {
        if fetching.is_troubled {
            if !fetching.asked.is_empty() {
                return Ok(());
            }
            let until = self.runner.now() + RETRY_AFTER;
            while let Some((call, end)) = self.end_until(until)? {
                fetching.ended(call, end, self.runner.now())?;
            }
            fetching.is_troubled = false;
        }
        while let Some(fetch) = fetching.download.ask() {
            let span = match fetch.id == SnapshotId::default() {
                true => FIRST_PIECE_MAX,
                false => fetching.patience / TRIES,
            };
            let deadline = self.runner.now() + span;
            let site = fetching.site;
            let called = self.runner.call_until(Request::Fetch { site, fetch }, deadline);
            let call = called.map_err(|error| Error::Io(io::Error::new(io::ErrorKind::WouldBlock, error)))?;
            fetching.asked.push((call, fetch));
        }
        Ok(())
    }

    /// Nothing came for a while: a node that is writing a snapshot says nothing of it, but answers this.
    fn probe(&mut self, fetching: &mut Fetching) -> Result<(), Error> {
        if fetching.download.id().is_none() && fetching.probe.is_none() && !fetching.asked.is_empty() {
            let site = fetching.site;
            fetching.probe = Some(self.start(Request::Status { site })?);
        }
        Ok(())
    }

    fn end_until(&mut self, until: Instant) -> Result<Option<(CallId, End)>, Error> {
        loop {
            if let Some(done) = self.runner.poll_done() {
                return Ok(Some(done));
            }
            if self.runner.now() >= until {
                return Ok(None);
            }
            self.runner.turn(Some(until))?;
        }
    }
}

/// A transfer under way.
struct Fetching {
    download: Download,
    sites: Range<usize>,
    /// The address that is used, among `sites`.
    site: usize,
    patience: Duration,
    asked: Vec<(CallId, Fetch)>,
    /// Asks whether the node lives.
    probe: Option<CallId>,
    /// When something new last came.
    progress: Instant,
    /// What went wrong since, for a person.
    trouble: Option<String>,
    /// Nothing is asked before what was asked has ended.
    is_troubled: bool,
    restarts: u32,
}

impl Fetching {
    fn new(source: &SnapshotSource, patience: Duration, now: Instant) -> Self {
        Self {
            download: Download::new(WINDOW),
            sites: source.sites.clone(),
            site: source.sites.start,
            patience,
            asked: Vec::new(),
            probe: None,
            progress: now,
            trouble: None,
            is_troubled: false,
            restarts: 0,
        }
    }

    fn ended(&mut self, call: CallId, end: End, now: Instant) -> Result<(), FetchError> {
        if self.probe == Some(call) {
            self.probe = None;
            // It lives, and the snapshot is being written.
            if matches!(end, End::Report(Ok(_))) && !self.asked.is_empty() {
                self.progress = now;
            }
            return Ok(());
        }
        let Some(at) = self.asked.iter().position(|(asked, _)| *asked == call) else {
            // It was asked before a restart.
            return Ok(());
        };
        let (_, fetch) = self.asked.swap_remove(at);
        let End::Piece(piece) = end else {
            return Ok(());
        };
        match piece {
            Ok(piece) => {
                self.download.took(&fetch, piece).map_err(FetchError::Wrong)?;
                self.trouble = None;
            }
            Err(NoPiece::Lost(why)) => {
                self.failed(&fetch, why);
                let next = self.site + 1;
                self.site = if next < self.sites.end { next } else { self.sites.start };
            }
            Err(NoPiece::Refused(refused)) => match refused.why {
                Refusal::Overloaded | Refusal::Stopping => self.failed(&fetch, refused.to_string()),
                // It does not keep that one any more, or cannot read it.
                Refusal::Invalid if fetch.id != SnapshotId::default() => {
                    self.restart(FetchError::Refused(refused))?;
                }
                _ => return Err(FetchError::Refused(refused)),
            },
        }
        Ok(())
    }

    fn failed(&mut self, fetch: &Fetch, why: String) {
        self.download.lost(fetch);
        self.trouble = Some(why);
        self.is_troubled = true;
    }

    /// Begins anew, or ends with `why` if that was done too often.
    fn restart(&mut self, why: FetchError) -> Result<(), FetchError> {
        self.restarts += 1;
        if self.restarts > RESTARTS_MAX {
            return Err(why);
        }
        self.trouble = Some(why.to_string());
        self.asked.clear();
        self.download.restart();
        Ok(())
    }

    fn check_patience(&self, now: Instant) -> Result<(), FetchError> {
        if now.saturating_since(self.progress) < self.patience {
            return Ok(());
        }
        let nothing = || format!("nothing came for {:?}", self.patience);
        Err(FetchError::Broken {
            taken: self.download.taken(),
            why: self.trouble.clone().unwrap_or_else(nothing),
        })
    }
}
