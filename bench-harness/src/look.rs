//! A look at what it costs on this machine to set up what is measured, for an estimate that holds.

use std::time::{Duration, Instant};

use crate::cli::{Run, Waiting};
use crate::engines;
use crate::fault::Fault;
use crate::generator::Load;
use crate::pin;
use crate::plan::{Costs, USUAL};
use crate::server::{Purpose, Server};
use crate::stats::median;
use crate::workload::{self, Contender, SMALL, Work};

/// Connections that are opened: enough for a mean, in a fraction of a second.
const CONNS: usize = 1_000;

/// Of so many looks the one in the middle counts.
const LOOKS: usize = 3;

/// Longer than that nobody looks.
const PATIENCE: Duration = Duration::from_secs(5);

/// What setting up costs here with the first of the engines that are asked for; what is usual if it does not serve.
pub(crate) fn costs(options: &Run) -> Costs {
    let work = |conns| Work::Echo {
        conns,
        size: SMALL,
        depth: 1,
    };
    let usable: Vec<_> = engines::all().filter(|engine| engine.is_default()).collect();
    let contenders = workload::contenders(work(1), &options.engines, &usable);
    let able = contenders.iter().find(|one| one.engine.answers(work(1)).is_ok());
    let looked = able.and_then(|contender| {
        pin::raise_open_files(CONNS).ok()?;
        let of = |conns| {
            let looks = (0..LOOKS).map(|_| look(contender, work(conns)));
            let looks = looks.map(|look| look.map(|took| took.as_secs_f64()));
            median(looks.collect::<Result<Vec<_>, _>>().ok()?)
        };
        Some((of(1)?, of(CONNS)?))
    });
    looked.map_or(USUAL, |(one, many)| Costs {
        process: Duration::from_secs_f64(one),
        // A thread a connection costs twice as much as a loop's, and is one engine in four.
        connection: Duration::from_secs_f64((many - one).max(0.0)) * 5 / 4 / CONNS as u32,
    })
}

/// How long it takes until a server has come, with all its connections, and gone.
fn look(contender: &Contender, work: Work) -> Result<Duration, Fault> {
    let began = Instant::now();
    let server = Server::start(contender, work, None, Purpose::Times)?;
    let load = Load::connect(server.address, work.conns(), 0, Waiting::Block, PATIENCE)?;
    drop((load, server));
    Ok(began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_serve_costs_what_is_usual() {
        let costs = costs(&Run {
            engines: vec!["kraft-core".into()],
            ..Run::default()
        });
        assert_eq!((costs.process, costs.connection), (USUAL.process, USUAL.connection));
    }
}
