//! A cluster in a test: whole nodes in one thread of virtual time, under every fault that has a name.
//!
//! The driver, the protocol, the log and the state machine are the real ones; the adapter is the mock's network, the
//! disk keeps what was synced and forgets the rest. A run follows from its [`Options`] byte for byte, on any machine:
//! the seed draws which faults happen, how often and how hard, and how the nodes are set up. Laws R1-R6 and R11 are
//! checked after every turn of a node, and that state machines which applied the same are in the same state; R10 on every
//! frame as it leaves, R7 and R8 by the users' history at the end, and of stale reads as they are answered, R9 when all is
//! healed.
//!
//! [`Laws::check_state`](kraft_core::laws::Laws::check_state) is not used: it wants all that a machine has applied, entry by
//! entry. `states` compares what that made of machine and sessions, after each turn, and right behind a snapshot, too.
//!
//! ```
//! use kraft::sim::{Faults, Options, run};
//!
//! let report = run(&Options { seed: 7, faults: Faults::ALL, ..Options::default() }).expect("every law holds");
//! assert!(report.committed > 0);
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `plan` | what a seed draws before the run begins |
//! | `cluster` | the stepping, the checks of each step, the end of a run |
//! | `faults`, `strike`, `atlas` | kinds of faults; how they begin and end; which of them Raft tolerates |
//! | `members`, `operator` | how members change, and what must hold of that; who asks for it |
//! | `vain` | changes that cannot be, each refused for its own reason |
//! | `network`, `clock`, `host`, `rot` | what they befall: paths, clocks, machines with their disks |
//! | `watch`, `audit`, `answers` | what disks were told, what leaves on the wire for nodes, for clients |
//! | `fresh` | how old what is read may be |
//! | `states` | what state machines came to |
//! | `trace`, `report`, `shrink` | the last steps and the hash of all; figures; a failing run with less in it |

mod answers;
mod atlas;
mod audit;
mod clock;
mod cluster;
mod faults;
mod fresh;
mod host;
mod members;
mod network;
mod operator;
mod plan;
mod report;
mod rot;
mod shrink;
mod states;
mod strike;
mod trace;
mod user;
mod vain;
mod watch;

use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use kraft_protocols::Format;

pub use self::faults::{Kind, Kinds};
pub use self::report::{Barred, Changed, Fired, Handled, Report, STATES, Snapped, Violation, Weaker};
pub use self::shrink::shrink;

use self::cluster::Cluster;

/// What a run is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Decides everything that happens by chance.
    pub seed: u64,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Users, each with one operation at a time.
    pub users: usize,
    /// Keys that they share.
    pub keys: usize,
    /// How long a user rests between two operations, on average.
    pub pace: Duration,
    /// How long faults happen, in virtual time. Then all is healed, and the cluster must commit within
    /// [`heal_max`](Self::heal_max).
    pub span: Duration,
    /// What goes wrong.
    pub faults: Faults,
    /// Whether the cluster must stay live meanwhile.
    pub mode: Mode,
    /// How long a healed cluster may take to commit again (law R9).
    pub heal_max: Duration,
    /// The wire format of nodes and users.
    pub protocol: Format,
}

/// Which faults happen in a run. How often and how hard is the seed's to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Those that the seed draws.
    Drawn,
    /// These.
    These(Kinds),
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self::These(Kinds::NONE);
    /// Everything goes wrong.
    pub const ALL: Self = Self::These(Kinds::ALL);
}

/// What a run is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No law is broken, whatever happens to whomever.
    Safety,
    /// While faults keep within what Raft tolerates, the cluster commits, within [`Options::heal_max`] at any time.
    Liveness,
}

impl Default for Options {
    /// Three nodes, three users, ten seconds, nothing goes wrong.
    fn default() -> Self {
        Self {
            seed: 0,
            nodes: 3,
            users: 3,
            keys: 4,
            pace: Duration::from_millis(20),
            span: Duration::from_secs(10),
            faults: Faults::NONE,
            mode: Mode::Safety,
            heal_max: Duration::from_secs(20),
            protocol: Format::Binary,
        }
    }
}

impl Options {
    /// A minute of everything as the seed draws it: nodes, users, keys, pace and faults.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let (nodes, users, keys, pace) = plan::draw_shape(seed);
        Self {
            seed,
            nodes,
            users,
            keys,
            pace,
            span: Duration::from_secs(60),
            faults: Faults::Drawn,
            ..Self::default()
        }
    }

    /// The kinds of faults of this run.
    #[must_use]
    pub fn kinds(&self) -> Kinds {
        plan::Plan::draw(self).kinds
    }

    /// The command that runs this again, if nothing but what a command can say differs from [`drawn`](Self::drawn).
    #[must_use]
    pub fn command(&self) -> String {
        let Self { seed, nodes, .. } = self;
        let liveness = match self.mode {
            Mode::Safety => "",
            Mode::Liveness => " --liveness",
        };
        let faults = match self.faults {
            Faults::Drawn => String::new(),
            Faults::These(kinds) => format!(" --faults {kinds}"),
        };
        let span = written(self.span);
        let protocol = match self.protocol {
            Format::Binary => String::new(),
            other => format!(" --protocol {other}"),
        };
        format!(
            "kraftd simulate --seeds {seed}..{} --nodes {nodes} --span {span}{faults}{liveness}{protocol}",
            seed.saturating_add(1)
        )
    }
}

/// A span as one writes it on a command line.
fn written(span: Duration) -> String {
    match span.subsec_millis() {
        0 => format!("{}s", span.as_secs()),
        _ => format!("{}ms", span.as_millis()),
    }
}

/// Runs a cluster.
///
/// # Errors
///
/// The first [`Violation`].
pub fn run(options: &Options) -> Result<Report, Box<Violation>> {
    let mut cluster = Cluster::new(options);
    // An assertion that does not hold is a violation like any other: it has a seed, and can be made smaller.
    let ended = panic::catch_unwind(AssertUnwindSafe(|| cluster.run()));
    let ended = ended.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref().copied());
        Err(format!("a panic: {}", text.unwrap_or("without a text")))
    });
    ended.map_err(|what| Box::new(cluster.violation(what)))
}
