//! Every CI step as one program: `cargo ci STEP`.
//!
//! A step is a list of commands, or checks of the source that no tool makes. `all` is what must hold before a change
//! lands, within 30 minutes on two cores; what takes longer stands in `long`.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

mod bsd;
mod canaries;
mod ceilings;
mod chaos;
mod command;
mod counts;
mod coverage;
mod debian;
mod deps;
mod features;
mod fuzz;
mod libuv;
mod models;
mod mutants;
mod page;
mod python;
mod readme;
mod report;
mod sanitizers;
mod simulate;
mod source;
mod steps;
mod syscalls;
mod tools;

use crate::command::Failure;
use crate::report::Report;
use crate::steps::{ALL, STEPS, Step};

/// What a command of `all` takes at most: as long as all of them should.
const LIMIT: Duration = Duration::from_secs(30 * 60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let chosen: Vec<&Step> = match arguments.as_slice() {
        [name] if name == "all" => {
            command::limit(LIMIT);
            ALL.iter().filter_map(|name| steps::find(name)).collect()
        }
        [name] => match steps::find(name) {
            Some(step) => vec![step],
            None => return usage(),
        },
        _ => return usage(),
    };
    if let Err(failure) = enter_workspace() {
        eprintln!("ci: {failure}");
        return ExitCode::FAILURE;
    }
    let mut report = Report::default();
    for step in chosen {
        println!("ci: {}: {}", step.name, step.what);
        let outcome = report.time(step);
        if let Err(failure) = outcome {
            report.print();
            eprintln!("ci: {} failed: {failure}", step.name);
            return ExitCode::FAILURE;
        }
    }
    report.print();
    ExitCode::SUCCESS
}

/// All steps name paths from the root of the workspace.
fn enter_workspace() -> Result<(), Failure> {
    let root = source::root();
    std::env::set_current_dir(&root).map_err(|error| Failure::new(format!("cd {}: {error}", root.display())))
}

fn usage() -> ExitCode {
    eprintln!("usage: cargo ci STEP, where STEP is one of");
    for step in STEPS {
        eprintln!("  {:<11}{}", step.name, step.what);
    }
    eprintln!("  {:<11}{}", "all", ALL.join(", "));
    ExitCode::from(2)
}
