//! The client in Python against clusters of `kraftd`, with what it needs of PyPI.

use std::path::Path;
use std::{env, fs};

use crate::command::{Failure, cargo, run as run_program};
use crate::debian::install;
use crate::steps::Outcome;

/// Where the client, its tests and the list of its packages are.
const CLIENT: &str = "protocols/examples/python";

/// The environment that has the packages.
const ENVIRONMENT: &str = "target/python";

/// Its tests, in each wire format.
///
/// # Errors
///
/// One of them failed.
pub(crate) fn run() -> Result<Outcome, Failure> {
    let python = match ensure() {
        Ok(python) => python,
        Err(failure) => {
            println!("ci: ======== SKIPPED: the client in Python is NOT run: {failure}");
            return Ok(Outcome::Skipped(format!("the client in Python ({failure})")));
        }
    };
    cargo(&["build", "-p", "kraft-raft", "--bins"])?;
    // Cargo puts the programs of a profile into one folder, this one's as well.
    let own = env::current_exe().map_err(|error| Failure::new(format!("the folder of this program: {error}")))?;
    let programs = own.parent().unwrap_or(&own).to_string_lossy().into_owned();
    let tests = format!("{CLIENT}/test_client.py");
    // No compiled files beside the source.
    run_program(&python, &[("KRAFTD_BIN", &programs)], &["-B", &tests, "--verbose"])?;
    Ok(Outcome::Passed)
}

/// The Python in whose environment the packages are.
fn ensure() -> Result<String, Failure> {
    let python = environment(ENVIRONMENT)?;
    let packages = format!("{CLIENT}/requirements.txt");
    run_program(
        &python,
        &[],
        &["-m", "pip", "install", "--quiet", "--requirement", &packages],
    )?;
    Ok(python)
}

/// Makes an environment in a folder, unless there is one whose Python runs. The Python of it.
///
/// # Errors
///
/// There is no Python here, and none can be installed.
pub(crate) fn environment(folder: &str) -> Result<String, Failure> {
    let root = fs::canonicalize(".").map_err(|error| Failure::new(format!("the current folder: {error}")))?;
    let python = root.join(folder).join("bin/python");
    let shown = python.to_string_lossy().into_owned();
    let runs = || run_program(&shown, &[], &["-m", "pip", "--version"]).is_ok();
    if Path::new(&python).exists() && runs() {
        return Ok(shown);
    }
    let make = ["-m", "venv", "--clear", folder];
    if run_program("python3", &[], &make).is_err() {
        // Debian has the module in a package of its own.
        install(&["python3-venv"])?;
        run_program("python3", &[], &make)?;
    }
    Ok(shown)
}
