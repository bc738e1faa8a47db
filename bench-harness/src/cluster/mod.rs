//! Three nodes, each a process, under a load of puts and gets, or without a leader every now and then.
//!
//! A node is `kraftd`, which this program is too when a variable says so ([`is_node`]): what is measured was
//! built with what measures it.

mod kills;
mod nodes;

use std::path::PathBuf;

use self::nodes::Cluster;
pub(crate) use self::nodes::{is_node, run_node};
use crate::bare::clock;
use crate::cli::Waiting;
use crate::fault::Fault;
use crate::generator::{Askers, Clocks, Figures, Span};
use crate::workload::{Contender, Pace, Work};

/// How often a round is tried whose cluster changed its leader: on a crowded machine that happens, and says nothing.
const TRIES: usize = 3;

/// What clusters share.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    /// The core of all nodes: three of them beside each other are what they are on any machine, the load has another.
    pub(crate) core: Option<usize>,
    /// Where their data is; in a folder for temporary files without it.
    pub(crate) data: Option<PathBuf>,
}

/// One contender in one round: a cluster of its own.
pub(crate) fn measure(
    work: Work,
    contender: &Contender,
    ground: &Ground,
    span: Span,
    waiting: Waiting,
) -> Result<Figures, Fault> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut cluster = Cluster::start(contender.engine.name, contender.format, ground)?;
        let outcome = match work {
            Work::KillLeader => kills::kill_leaders(&mut cluster, span),
            _ => ask(work, contender, &mut cluster, span, waiting),
        };
        match outcome {
            Err(Fault::Deposed(_)) if tries < TRIES => {}
            outcome => return outcome,
        }
    }
}

fn ask(
    work: Work,
    contender: &Contender,
    cluster: &mut Cluster,
    span: Span,
    waiting: Waiting,
) -> Result<Figures, Fault> {
    let Work::Cluster { ask, pace } = work else {
        unreachable!("there is no other workload of clusters");
    };
    let leader = cluster.leader()?;
    let clients = match pace {
        Pace::Closed { clients } | Pace::Open { clients, .. } => clients,
    };
    let mut askers = Askers::connect(cluster.client_address(leader), clients, contender.format, waiting, span)?;
    // Every key is there, so that each get has a value to be checked.
    askers.fill(span)?;
    let own = std::process::id();
    let pids = cluster.pids();
    let clocks = &|| Clocks {
        server: pids.iter().map(|pid| clock::cpu_time(*pid)).sum(),
        own: clock::cpu_time(own),
        ..Clocks::default()
    };
    match pace {
        Pace::Closed { .. } => askers.closed(ask, span, clocks),
        Pace::Open { rate, .. } => askers.open(ask, rate, span, clocks),
    }
}
