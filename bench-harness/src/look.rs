//! A look at what it costs on this machine to set up what is measured, for an estimate that holds.

use std::time::{Duration, Instant};

use crate::cli::{Run, Waiting};
use crate::engines;
use crate::fault::Fault;
use crate::generator::Load;
use crate::pin;
use crate::plan::{self, CROWD, Costs, USUAL};
use crate::server::{Purpose, Server};
use crate::stats::median;
use crate::workload::{self, Contender, SMALL, Work};

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
        pin::raise_open_files(CROWD).ok()?;
        let of = |conns, greeting, looks| {
            let looks = (0..looks).map(|_| look(contender, work(conns), greeting));
            let looks = looks.map(|look| look.map(|took| took.as_secs_f64()));
            median(looks.collect::<Result<Vec<_>, _>>().ok()?)
        };
        let one = of(1, 0, LOOKS)?;
        // A thread a connection costs twice as much as a loop's, and is one engine in four.
        let each = |all: f64, conns: usize| Duration::from_secs_f64((all - one).max(0.0)) * 5 / 4 / conns as u32;
        let connection = each(of(CROWD, 0, LOOKS)?, CROWD);
        // That takes seconds, and is looked at only if it is going to be done.
        let most = plan::connections_asked(options);
        let is_possible = most > CROWD && pin::raise_open_files(most).is_ok();
        let crowd = is_possible.then(|| of(most, SMALL, 1)).flatten();
        let crowded = crowd.map_or(connection, |all| each(all, most));
        Some(Costs {
            process: Duration::from_secs_f64(one),
            connection,
            crowded,
        })
    });
    looked.unwrap_or(USUAL)
}

/// How long it takes until a server has come, with all its connections, and gone.
fn look(contender: &Contender, work: Work, greeting: usize) -> Result<Duration, Fault> {
    let began = Instant::now();
    let server = Server::start(contender, work, None, Purpose::Times)?;
    let load = Load::connect(server.address, work.conns(), greeting, Waiting::Block, PATIENCE)?;
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
