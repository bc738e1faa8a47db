//! Why a round has no figures.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// What went wrong in a round. Its engine is shown as failed, and the run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "what", rename_all = "snake_case")]
pub(crate) enum Fault {
    /// The engine does not start, for this cell.
    Refused(String),
    /// What came back is not what was sent.
    Corrupt(String),
    /// A connection ended, or the server did.
    Closed(String),
    /// No answer for as long as one is patient, or far too few.
    Stalled(String),
    /// The server grew as clients that do not read would have it.
    Grew(String),
    /// The leader of a cluster was none any more.
    Deposed(String),
    /// The engine has nothing to answer this workload with. No failure.
    Lacks(String),
    /// Our side: no port, no descriptor, no memory.
    Own(String),
    /// Somebody ended the run. The engine is not to blame, and its row has no fault.
    Interrupted,
}

impl Fault {
    pub(crate) fn closed(what: impl Into<String>) -> Self {
        Self::Closed(what.into())
    }

    /// Whether something went wrong.
    pub(crate) fn is_failure(&self) -> bool {
        !matches!(self, Self::Lacks(_))
    }

    /// Of an operation of ours.
    pub(crate) fn own(what: &str, error: &io::Error) -> Self {
        Self::Own(format!("{what}: {error}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(what) => write!(f, "refused: {what}"),
            Self::Corrupt(what) => write!(f, "corrupt: {what}"),
            Self::Closed(what) => write!(f, "broken: {what}"),
            Self::Stalled(what) => write!(f, "stalled: {what}"),
            Self::Grew(what) => write!(f, "unbounded: {what}"),
            Self::Deposed(what) => write!(f, "deposed: {what}"),
            Self::Lacks(what) => f.write_str(what),
            Self::Own(what) => write!(f, "not measured: {what}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}
