//! Simulated clusters: many seeds of a minute, in both modes, some of them twice.

use crate::command::{Failure, cargo};
use crate::steps::Outcome;

/// What has to hold before a change lands, in under five minutes on two processors.
pub(crate) fn run() -> Result<Outcome, Failure> {
    simulate("--seeds 0..1400")?;
    simulate("--seeds 1400..2000 --liveness")?;
    simulate("--seeds 0..40 --twice")?;
    // Messages are the same in every format; their sizes are not, and so neither is what goes into an append.
    for format in ["protobuf", "msgpack", "json"] {
        simulate(&format!("--seeds 0..30 --protocol {format}"))?;
    }
    Ok(Outcome::Passed)
}

/// What `long` has: 100,000 seeds.
pub(crate) fn many() -> Result<(), Failure> {
    simulate("--seeds 0..40000 --nodes 3")?;
    simulate("--seeds 40000..45000 --nodes 5")?;
    simulate("--seeds 55000..60000 --nodes 7")?;
    simulate("--seeds 65000..67500")?;
    simulate("--seeds 70000..75000 --liveness")?;
    simulate("--seeds 100000..142500 --nodes 3")
}

fn simulate(arguments: &str) -> Result<(), Failure> {
    let command = format!("run --release -p kraft-raft --bin kraftd -- simulate {arguments}");
    cargo(&command.split_whitespace().collect::<Vec<_>>())
}
