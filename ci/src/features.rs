//! Every feature alone, and every pair of them.

use crate::command::{Failure, run as run_program};
use crate::steps::Outcome;
use crate::{libuv, tools};

/// Checks each feature of each crate alone, in pairs, all of them and none, without a warning.
///
/// # Errors
///
/// A combination does not build, or warns.
pub(crate) fn run() -> Result<Outcome, Failure> {
    let path = match tools::ensure("cargo-hack") {
        Ok(path) => path,
        Err(failure) => {
            println!("ci: ======== SKIPPED: NO combination of features is looked at: {failure}");
            return Ok(Outcome::Skipped(format!("all combinations of features ({failure})")));
        }
    };
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
