//! Event loops against each other: Kraft's backends and hand-written loops under the same load.
//!
//! `kraft-bench run` starts each engine as a process of its own, once a round, and drives it from a single-threaded
//! load (`generator`) that checks every byte. All engines of a cell take part in every round, in an order that changes
//! (`schedule`), and are compared by ratios paired by round (`stats`). An engine is an entry in `engines`; a workload is
//! a variant in `workload`; what the project asks of its backends stands in `targets`. `docs/benchmarks.md` says how
//! to read the results.

#![deny(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

// Elsewhere none of the three is there, and nothing is unsafe.
#[cfg_attr(
    any(
        target_os = "android",
        target_os = "freebsd",
        target_os = "linux",
        feature = "rivals",
        have_libuv
    ),
    expect(unsafe_code, reason = "io_uring, C and another process's clock")
)]
mod bare;
mod cli;
#[cfg(feature = "cluster")]
mod cluster;
mod drive;
mod engines;
mod fault;
mod faulty;
mod figures;
mod generator;
mod inside;
mod job;
mod json;
mod machine;
mod ours;
mod pattern;
mod pin;
mod report;
mod request;
#[cfg(feature = "rivals")]
mod rivals;
mod run;
mod schedule;
mod serve;
mod server;
mod stats;
mod targets;
mod workload;

use crate::cli::{Cli, Kind, Serve, What};
use crate::engines::Family;
use crate::fault::Fault;

/// What went wrong with an engine: the rest was measured.
const SOME_FAILED: u8 = 1;

fn main() -> ExitCode {
    #[cfg(feature = "cluster")]
    if cluster::is_node() {
        return cluster::run_node();
    }
    let outcome = match Cli::parse().what {
        What::Run(options) => run(&options),
        What::List => list(),
        What::Serve(options) => serve(&options).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("kraft-bench: {error}");
        ExitCode::FAILURE
    })
}

fn run(options: &cli::Run) -> io::Result<ExitCode> {
    let results = run::run(options)?;
    let mut out = io::stdout().lock();
    report::print(options, &results, &mut out)?;
    let failed = results
        .cells
        .iter()
        .flat_map(|cell| &cell.rows)
        .any(|row| row.fault.as_ref().is_some_and(Fault::is_failure));
    Ok(if failed {
        ExitCode::from(SOME_FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

fn list() -> io::Result<ExitCode> {
    use clap::ValueEnum as _;

    let mut out = io::stdout().lock();
    writeln!(out, "engines")?;
    for engine in engines::all().filter(|engine| engine.family != Family::Faulty) {
        let built = engine.serve.err().map(|why| format!(" (not built: {why})"));
        writeln!(
            out,
            "  {:<18}{}{}",
            engine.name,
            engine.about,
            built.unwrap_or_default()
        )?;
    }
    writeln!(out, "workloads")?;
    for kind in Kind::value_variants() {
        if let Some(value) = kind.to_possible_value() {
            let about = value.get_help().map(ToString::to_string).unwrap_or_default();
            writeln!(out, "  {:<18}{about}", value.get_name())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(options: &Serve) -> io::Result<()> {
    let engine = engines::find(&options.engine).ok_or_else(|| io::Error::other("there is no such engine"))?;
    let task = serve::Task {
        connections: options.connections,
        puts: options.puts,
        spin: engine.spin,
        job: options.job,
        measured: options.seconds,
        warm_up: options.seconds / 4,
        beside: options.beside.filter(|core| options.core != Some(*core)),
    };
    serve::serve(engine, options.core, &task)
}
