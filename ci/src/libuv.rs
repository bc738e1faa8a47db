//! The backend that needs a library of the system's: libuv, brought here if it is missing.

use std::process::{Command, Stdio};

use crate::command::{Failure, cargo};
use crate::debian;
use crate::steps::Outcome;

/// Brings libuv here if it is not.
///
/// # Errors
///
/// It cannot be had.
pub(crate) fn ensure() -> Result<(), Failure> {
    if is_here() {
        return Ok(());
    }
    println!("ci: libuv is missing; installing Debian's package");
    if let Err(failure) = debian::install(&["libuv1-dev", "pkg-config"]) {
        return Err(Failure::new(format!(
            "libuv is not installed and could not be: {failure}"
        )));
    }
    if is_here() {
        return Ok(());
    }
    Err(Failure::new(
        "libuv was installed, and `pkg-config --exists libuv` does not find it",
    ))
}

/// The features of a step that wants all of them, and how it ends: without libuv, loudly, if that cannot be had.
pub(crate) fn all_features() -> (&'static [&'static str], Outcome) {
    match ensure() {
        Ok(()) => (&["--all-features"], Outcome::Passed),
        Err(failure) => (&["--features", "kraft-raft/testing,kraft-raft/tls"], skipped(&failure)),
    }
}

/// The tests of the libuv backend, which no default feature brings.
///
/// # Errors
///
/// One of them failed.
pub(crate) fn run() -> Result<Outcome, Failure> {
    if let Err(failure) = ensure() {
        return Ok(skipped(&failure));
    }
    cargo(&["test", "-p", "kraft-adapters", "--features", "libuv", "libuv"])?;
    cargo(&[
        "test",
        "-p",
        "kraft-raft",
        "--features",
        "libuv",
        "--test",
        "it",
        "libuv",
    ])?;
    Ok(Outcome::Passed)
}

/// Without it, loudly.
pub(crate) fn skipped(failure: &Failure) -> Outcome {
    println!("ci: ======== SKIPPED: the backend `libuv` is NOT looked at: {failure}");
    Outcome::Skipped(format!("the backend libuv ({failure})"))
}

fn is_here() -> bool {
    Command::new("pkg-config")
        .args(["--exists", "libuv"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
