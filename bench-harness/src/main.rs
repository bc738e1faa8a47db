//! Event loops against each other: Kraft's backends and hand-written loops under the same load.
//!
//! `kraft-bench run` starts each engine as a process of its own, once a round, and drives it from a single-threaded
//! load (`generator`) that checks every byte. All engines of a cell take part in every round, in an order by lot
//! (`schedule`), and are compared by ratios paired by round (`stats`). What is found is a document (`record`), which
//! tables, pages and comparisons are made of. An engine is an entry in `engines`; a workload is a variant in `workload`
//! and what it does in `measure`; a figure is a variant in `figures`; what the project asks of its backends stands in
//! `targets`. `docs/benchmarks.md` says how to read the results.

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
mod compare;
mod cores;
mod drive;
mod engines;
mod fault;
mod faulty;
mod figures;
mod generator;
mod honesty;
mod inside;
mod interrupt;
mod job;
mod machine;
mod measure;
mod ours;
mod page;
mod pattern;
mod pin;
mod plan;
mod progress;
mod record;
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

/// An engine failed and the rest was measured, something became worse, a method was not honest.
const BAD_NEWS: u8 = 1;

fn main() -> ExitCode {
    #[cfg(feature = "cluster")]
    if cluster::is_node() {
        return cluster::run_node();
    }
    let outcome = match Cli::parse().what {
        What::Run(options) => run(&options),
        What::Compare(options) => compare(&options),
        What::Report(options) => report(&options),
        What::Honesty(options) => interrupt::listen()
            .and_then(|()| honesty::ask(&options, &mut io::stdout()))
            .map(|is_honest| news(!is_honest)),
        What::List => list(),
        What::Serve(options) => serve(&options).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("kraft-bench: {error}");
        ExitCode::FAILURE
    })
}

fn news(is_bad: bool) -> ExitCode {
    ExitCode::from(if is_bad { BAD_NEWS } else { 0 })
}

fn run(options: &cli::Run) -> io::Result<ExitCode> {
    if let Some(folder) = &options.out {
        record::create(folder)?;
    }
    interrupt::listen()?;
    let (record, logs) = run::run(options)?;
    if let Some(folder) = &options.out {
        record::write(folder, &record, &logs)?;
        let shown = folder.display();
        eprintln!("kraft-bench: kept in {shown}; `kraft-bench report {shown}` makes a page of it");
    }
    report::print(options.output, &record, &mut io::stdout().lock())?;
    if record.interrupted {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    Ok(news(record.has_failed_rows()))
}

fn compare(options: &cli::Compare) -> io::Result<ExitCode> {
    let (old, new) = (record::read(&options.old)?, record::read(&options.new)?);
    let comparison = compare::compare(&old, &new, options.margin / 100.0);
    let is_worse = comparison.print(&old, &new, &mut io::stdout().lock())?;
    Ok(news(is_worse))
}

fn report(options: &cli::Report) -> io::Result<ExitCode> {
    let record = record::read(&options.dir)?;
    if let Some(shown) = &options.check {
        let missing = page::missing(&record, &std::fs::read_to_string(shown)?);
        for what in &missing {
            eprintln!("kraft-bench: not in the page: {what}");
        }
        return Ok(news(!missing.is_empty()));
    }
    let folder = if options.dir.is_dir() {
        options.dir.as_path()
    } else {
        options.dir.parent().unwrap_or(&options.dir)
    };
    let path = folder.join("report.html");
    std::fs::write(&path, page::html(&record))?;
    writeln!(io::stdout(), "{}", path.display())?;
    Ok(ExitCode::SUCCESS)
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
    if options.leash {
        pin::end_with_input();
    }
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
