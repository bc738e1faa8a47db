//! Event loops against each other: Kraft's backends and hand-written loops under the same load.
//!
//! `kraft-bench run` starts each engine as a process of its own, once a round, and drives it from a single-threaded
//! load (`generator`) that checks every byte. All engines of a cell take part in every round, in an order by lot
//! (`schedule`), most of them side by side (`side_by_side`), and are compared by ratios paired by round (`stats`). What is
//! found is a document (`record`), which tables, pages and comparisons are made of. An engine is an entry in `engines`; a
//! workload is a variant in `workload` and what it does in `drive`; a figure is a variant in `figures`; what the project asks
//! of its backends stands in `targets`. `docs/benchmarks.md` says how to read the results.

#![deny(unsafe_code)]

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

#[expect(
    unsafe_code,
    reason = "an allocator, kqueue, io_uring, C and another process's clock"
)]
mod bare;
mod buffers;
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
mod look;
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
mod side_by_side;
mod stats;
mod targets;
mod workload;

use crate::bare::allocations;
use crate::cli::{Cli, Kind, Serve, What};
use crate::engines::Family;

/// Of a server it counts what a message takes, in a round of its own.
#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

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
            .map(|is_honest| match interrupt::is_asked() {
                true => ExitCode::from(interrupt::EXIT_CODE),
                false => news(!is_honest),
            }),
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
    let keep = |folder: &PathBuf| -> io::Result<()> {
        record::write(folder, &record, &logs)?;
        let shown = folder.display();
        eprintln!("kraft-bench: kept in {shown}; `kraft-bench report {shown}` makes a page of it");
        Ok(())
    };
    let kept = options.out.as_ref().map(keep).transpose();
    // What cannot be kept is shown all the same.
    let format = if options.json {
        cli::Format::Json
    } else {
        options.output
    };
    report::print(format, &record, &mut io::stdout().lock())?;
    kept?;
    let page = options.out.as_ref().filter(|_| options.open);
    let shown = page.map_or(Ok(()), |folder| open(&write_page(folder, &record)?));
    if record.interrupted {
        // Whether it is shown or not.
        if let Err(error) = shown {
            eprintln!("kraft-bench: {error}");
        }
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    shown.map(|()| news(record.has_failed_rows()))
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
        let text = fs::read_to_string(shown).map_err(|error| named(shown, &error))?;
        let missing = page::missing(&record, &text);
        for what in &missing {
            eprintln!("kraft-bench: not in the page: {what}");
        }
        return Ok(news(!missing.is_empty()));
    }
    if let Some(format) = options.output {
        report::print(format, &record, &mut io::stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = if options.dir.is_dir() {
        options.dir.as_path()
    } else {
        options.dir.parent().unwrap_or(&options.dir)
    };
    let path = write_page(folder, &record)?;
    writeln!(io::stdout(), "{}", path.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Where a run's page is, which is made.
fn write_page(folder: &Path, record: &record::Record) -> io::Result<PathBuf> {
    let path = folder.join("report.html");
    fs::write(&path, page::html(record)).map_err(|error| named(&path, &error))?;
    Ok(path)
}

/// Shows a page in whatever shows pages here.
fn open(page: &Path) -> io::Result<()> {
    let program = if cfg!(target_vendor = "apple") {
        "open"
    } else {
        "xdg-open"
    };
    let mut command = Command::new(program);
    // It may outlive us: neither ^C nor a pipe that somebody reads from us is for it.
    command.process_group(0).arg(page);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    start(command, LOOK).map(drop).map_err(|why| {
        let page = page.display();
        io::Error::other(format!("{program} does not open {page}: {why}; a browser does"))
    })
}

/// Whether a browser starts is known by then. It may go on as long as its user likes, and nobody waits for that.
const LOOK: Duration = Duration::from_secs(1);
const NAP: Duration = Duration::from_millis(5);

/// Starts a program that may run on behind us; it is looked at for so long.
///
/// # Errors
///
/// It does not start, or has failed by then.
fn start(mut command: Command, look: Duration) -> io::Result<Child> {
    let mut child = command.spawn()?;
    let end = Instant::now() + look;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(child),
            Some(status) => return Err(io::Error::other(status.to_string())),
            None if Instant::now() >= end => return Ok(child),
            None => thread::sleep(NAP),
        }
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
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
    match options.count {
        true => serve::count(options.job),
        false if options.leash => pin::end_with_input(),
        false => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_browser_that_runs() {
        let shell = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            command
        };
        let long = Duration::from_secs(60);
        let why = |outcome: io::Result<Child>| outcome.expect_err("it fails").to_string();
        assert_eq!(why(start(shell("exit 4"), long)), "exit status: 4");
        assert!(start(Command::new("/no/browser"), long).is_err());
        assert!(start(shell("exit 0"), long).is_ok());
        let mut runs = start(shell("exec sleep 3600"), NAP).expect("it runs");
        assert!(runs.try_wait().expect("it is ours").is_none());
        runs.kill().expect("it is ours");
        runs.wait().expect("it was killed");
    }
}
