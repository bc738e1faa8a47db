//! Models of what threads share, run by loom in every order that the threads can meet in.

use crate::command::{Failure, cargo_with};
use crate::steps::Outcome;

/// Switches of threads that are not waits, in one order. Faults need few; without a bound the models take minutes.
const PREEMPTIONS_MAX: &str = "3";

/// Runs the models.
///
/// # Errors
///
/// In some order a model fails, or its threads wait for each other for ever.
pub(crate) fn run() -> Result<Outcome, Failure> {
    let variables = [
        // For all crates, of which ours alone know it: each other feature is left out that would bring one that does too.
        ("RUSTFLAGS", "--cfg loom"),
        ("LOOM_MAX_PREEMPTIONS", PREEMPTIONS_MAX),
        ("CARGO_TARGET_DIR", "target/loom"),
    ];
    for options in [
        "-p kraft-core",
        "-p kraft-adapters --no-default-features --features threads",
    ] {
        let command = format!("test --locked {options} --lib models::");
        cargo_with(&variables, &command.split_whitespace().collect::<Vec<_>>())?;
    }
    Ok(Outcome::Passed)
}
