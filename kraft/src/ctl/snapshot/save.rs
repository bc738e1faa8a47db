//! Fetches a snapshot into a file.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kraft_core::message::Refusal;

use super::partial::{Partial, name_of};
use super::{Fact, Seated, Value, check, facts_of, failure, members_of, print};
use crate::client::{Client, FetchError, NodeStatus, SnapshotSource, Whom, is_kept_out};
use crate::ctl::cli::{Format, Source};
use crate::ctl::exit::{Exit, Failure};
use crate::ctl::format::printable;
use crate::storage::SnapshotFile;

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// What is to be saved where.
pub(in crate::ctl) struct Order<'a> {
    file: &'a Path,
    shown: String,
    force: bool,
    whom: Whom,
    patience: Duration,
}

impl<'a> Order<'a> {
    /// Looks whether the file can be. `timeout` is how long a piece may take.
    pub(in crate::ctl) fn new(file: &'a Path, force: bool, from: Source, timeout: Duration) -> Result<Self, Failure> {
        let order = Self {
            file,
            shown: printable(file.as_os_str().as_encoded_bytes()),
            force,
            whom: match from {
                Source::Leader => Whom::Leader,
                Source::Follower => Whom::Follower,
            },
            patience: timeout.saturating_mul(3),
        };
        order.check_absent()?;
        Ok(order)
    }

    /// Fetches it and prints what it is.
    pub(in crate::ctl) fn save(
        &self,
        client: &mut Client,
        format: Format,
        out: &mut impl Write,
    ) -> Result<Exit, Failure> {
        let mut partial = Partial::begin(self.file).map_err(|error| self.unwritable(&name_of(self.file), &error))?;
        let source = client
            .snapshot_source(self.whom)
            .map_err(|error| self.unfetched(error))?;
        let SnapshotSource { report, commit, .. } = &source;
        if self.whom == Whom::Follower && report.applied.0 < *commit {
            let _ = writeln!(
                io::stderr(),
                "kraftctl: node {} has applied up to index {}, and {commit} is committed",
                report.node,
                report.applied
            );
        }
        let mut progress = Progress::new();
        let fetched = client.fetch_snapshot(&source, self.patience, |id, offset, data| {
            partial.put(offset, data)?;
            progress.show(offset + data.len() as u64, id.bytes);
            Ok(())
        });
        progress.end();
        let fetched = fetched.map_err(|error| match error {
            FetchError::Taker(error) => self.unwritable(partial.path(), &error),
            error => self.unfetched(error),
        })?;
        partial
            .sync()
            .map_err(|error| self.unwritable(partial.path(), &error))?;
        // The node may have sent what its disk has spoilt.
        let at = PathBuf::from(partial.path());
        let file = SnapshotFile::at(&at).map_err(|fault| self.unwritable(&at, &fault.error))?;
        let sound = check(&file, &printable(at.as_os_str().as_encoded_bytes()))?;
        if sound.id != fetched {
            let message = format!(
                "{}: another process wrote to {} meanwhile; save it again",
                self.shown,
                at.display()
            );
            return Err(failure(Exit::Failed, message));
        }
        self.check_absent()?;
        let placed = partial.place(self.file);
        placed.map_err(|error| self.unwritable(self.file, &error))?;
        let mut facts = facts_of(&self.shown, &sound);
        // One of the founders does not say who they are; the node that it is of does.
        let members = members_of(&sound).unwrap_or_else(|| {
            let members = report.members.iter().map(|member| Seated {
                node: member.node,
                address: member.address.clone(),
                standing: member.standing,
            });
            members.collect()
        });
        facts.push(Fact {
            name: "members",
            value: Value::Members(Some(members)),
        });
        facts.push(Fact::number("node", report.node.0));
        facts.push(Fact::number("committed", *commit));
        print(&facts, format, out)?;
        Ok(Exit::Ok)
    }

    fn check_absent(&self) -> Result<(), Failure> {
        if self.force || self.file.symlink_metadata().is_err() {
            return Ok(());
        }
        let message = format!(
            "{} is there already; name another file, or replace it with --force",
            self.shown
        );
        Err(failure(Exit::Failed, message))
    }

    fn unwritable(&self, path: &Path, error: &io::Error) -> Failure {
        let cure = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there, or name another folder",
            _ => "name a file in a folder that this user may write to",
        };
        let path = printable(path.as_os_str().as_encoded_bytes());
        failure(Exit::Failed, format!("{path}: {error}; nothing was saved: {cure}"))
    }

    fn unfetched(&self, error: FetchError) -> Failure {
        let (exit, cure) = match &error {
            // TLS says what to do.
            FetchError::NoSource(_, nodes) if are_kept_from_us(nodes) => (Exit::Refused, ""),
            FetchError::NoSource(Whom::Leader, nodes) if follow(nodes) => (
                Exit::Refused,
                "does --nodes name the leader's client address? see kraftctl status, or use --from follower",
            ),
            FetchError::NoSource(Whom::Leader, _) => (
                Exit::Refused,
                "is a majority up? see kraftctl status, or use --from follower",
            ),
            FetchError::NoSource(..) => (Exit::Refused, "start a node, or correct --nodes"),
            FetchError::Refused(refused) if refused.why == Refusal::NoSpace => {
                (Exit::Refused, "make room on the disk of the node")
            }
            FetchError::Refused(_) => (Exit::Refused, "try again later, or another node with --from follower"),
            FetchError::Broken { .. } => (Exit::Failed, "try again, or give more time with --timeout"),
            FetchError::Wrong(_) => (
                Exit::Failed,
                "look at the node's disk and at the network, and try again",
            ),
            _ => (Exit::Failed, "try again"),
        };
        let cure = match cure {
            "" => String::new(),
            cure => format!(" ({cure})"),
        };
        failure(exit, format!("{}: nothing was saved: {error}{cure}", self.shown))
    }
}

/// Whether TLS kept us from one of them.
fn are_kept_from_us(nodes: &[NodeStatus]) -> bool {
    let mut troubles = nodes.iter().filter_map(|status| status.report.as_ref().err());
    troubles.any(|why| is_kept_out(why))
}

/// Whether one of them knows a leader, which is none of them then.
fn follow(nodes: &[NodeStatus]) -> bool {
    let mut reports = nodes.iter().filter_map(|status| status.report.as_ref().ok());
    reports.any(|report| report.leader.is_some())
}

/// Shows how far it is, to whoever looks.
struct Progress {
    is_shown: bool,
    shown_at: Option<Instant>,
}

impl Progress {
    fn new() -> Self {
        Self {
            is_shown: io::stderr().is_terminal(),
            shown_at: None,
        }
    }

    fn show(&mut self, taken: u64, all: u64) {
        let is_due = self.shown_at.is_none_or(|at| at.elapsed() >= SHOW_EVERY);
        if self.is_shown && (is_due || taken == all) {
            self.shown_at = Some(Instant::now());
            let percent = u128::from(taken) * 100 / u128::from(all.max(1));
            // A terminal that is gone is no failure.
            let _ = write!(io::stderr(), "\r{taken} of {all} bytes, {percent} %");
        }
    }

    fn end(&self) {
        if self.shown_at.is_some() {
            let _ = writeln!(io::stderr());
        }
    }
}
