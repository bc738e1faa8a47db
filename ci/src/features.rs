//! Every feature alone, and every pair of them.

use std::path::Path;

use crate::command::{Failure, run as run_program};
use crate::libuv;
use crate::steps::Outcome;

/// Where cargo-hack is installed if it is not there already.
const ROOT: &str = "target/tools";

/// Checks each feature of each crate alone, in pairs, all of them and none, without a warning.
///
/// # Errors
///
/// A combination does not build, or warns.
pub(crate) fn run() -> Result<Outcome, Failure> {
    if let Err(failure) = ensure() {
        println!("ci: ======== SKIPPED: NO combination of features is looked at: {failure}");
        return Ok(Outcome::Skipped(format!("all combinations of features ({failure})")));
    }
    // cargo finds the subcommand there.
    let path = format!("{ROOT}/bin:{}", std::env::var("PATH").unwrap_or_default());
    let with_libuv = libuv::ensure();
    let mut words = vec![
        "hack",
        "check",
        "--workspace",
        "--feature-powerset",
        "--depth",
        "2",
        "--locked",
    ];
    // Its artefacts are no one else's: a warning as an error is another flag, and another flag another build.
    let variables = [
        ("PATH", path.as_str()),
        ("RUSTFLAGS", "-D warnings"),
        ("CARGO_TARGET_DIR", "target/hack"),
        ("CARGO_PROFILE_DEV_DEBUG", "false"),
    ];
    if with_libuv.is_err() {
        words.extend(["--exclude-features", "libuv", "--exclude-all-features"]);
    }
    run_program("cargo", &variables, &words)?;
    Ok(match with_libuv {
        Ok(()) => Outcome::Passed,
        Err(failure) => Outcome::Skipped(format!("the feature libuv ({failure})")),
    })
}

/// Brings cargo-hack here if it is not.
fn ensure() -> Result<(), Failure> {
    let own = format!("{ROOT}/bin/cargo-hack");
    let asked = ["hack", "--version"];
    if Path::new(&own).exists() || run_program("cargo-hack", &[], &asked).is_ok() {
        return Ok(());
    }
    println!("ci: cargo-hack is missing; installing it below target/");
    let variables = [("CARGO_TARGET_DIR", "target/tools/build")];
    run_program(
        "cargo",
        &variables,
        &["install", "--locked", "--root", ROOT, "cargo-hack"],
    )
}
