//! Three nodes, each a process, under a load of puts and gets, or without a leader every now and then.
//!
//! A node is `kraftd`, which this program is too when a variable says so ([`is_node`]): what is measured was
//! built with what measures it.

#[cfg(feature = "rivals")]
mod etcd;
mod kills;
mod nodes;
mod processes;
mod watch;

use std::path::PathBuf;

#[cfg(feature = "rivals")]
pub(crate) use self::etcd::version as etcd_version;
use self::nodes::Cluster;
pub(crate) use self::processes::{is_node, run_node};
use crate::cli::Waiting;
#[cfg(feature = "rivals")]
use crate::engines::Nature;
use crate::fault::Fault;
use crate::generator::{Askers, Clocks, Figures, Span};
use crate::server;
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

/// One contender in one round: a cluster of its own. `repeats` grows by how often it was begun again.
pub(crate) fn measure(
    work: Work,
    contender: &Contender,
    ground: &Ground,
    span: Span,
    waiting: Waiting,
    repeats: &mut usize,
) -> Result<Figures, Fault> {
    until_led(repeats, || {
        #[cfg(feature = "rivals")]
        if contender.engine.nature == Nature::Cluster {
            return etcd::measure(work, ground, span, waiting);
        }
        let mut cluster = Cluster::start(contender.engine.name, contender.format, ground)?;
        let outcome = match work {
            Work::KillLeader => cluster
                .mortal()
                .and_then(|mut victims| kills::kill_leaders(&mut victims, span)),
            _ => ask(work, contender, &mut cluster, span, waiting),
        };
        outcome.map_err(|fault| cluster.blame(fault))
    })
}

/// Does a round again that was led by several, and counts how often.
fn until_led<T>(repeats: &mut usize, mut round: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    for _ in 1..TRIES {
        match round() {
            Err(Fault::Deposed(_)) => *repeats += 1,
            outcome => return outcome,
        }
    }
    round().map_err(|fault| match fault {
        Fault::Deposed(what) => Fault::Deposed(format!("{what} ({TRIES} times in a row)")),
        fault => fault,
    })
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
    let pids = cluster.pids();
    let clocks = &|| clocks(&pids);
    match pace {
        Pace::Closed { .. } => askers.closed(ask, span, clocks),
        Pace::Open { rate, .. } => askers.open(ask, rate, span, clocks),
    }
}

/// What nodes, together, and this process used so far.
fn clocks(pids: &[u32]) -> Clocks {
    Clocks {
        resident: server::resident(pids),
        ..server::clocks(pids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_are_begun_again_are_counted_and_few() {
        let deposed = || Fault::Deposed("the leader left".into());
        let mut repeats = 0;
        let mut outcomes = [Ok(7), Err(deposed()), Err(deposed())].to_vec();
        assert_eq!(until_led(&mut repeats, || outcomes.pop().expect("three tries")), Ok(7));
        assert_eq!(repeats, 2);
        // They add up over the rounds of a row.
        let mut outcomes: Vec<Result<i32, _>> = [Err(deposed()), Err(deposed()), Err(deposed())].to_vec();
        let fault = until_led(&mut repeats, || outcomes.pop().expect("three tries")).expect_err("no round went well");
        assert_eq!(fault.to_string(), "deposed: the leader left (3 times in a row)");
        assert_eq!(repeats, 4);
        // Who is to blame for something else has no other try.
        let broken = || Err(Fault::closed("node 2 ended"));
        assert_eq!(until_led::<()>(&mut repeats, broken), broken());
        assert_eq!(repeats, 4);
    }
}
