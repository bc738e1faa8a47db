//! Raft with one small change at a time, each of which a test must notice.

use crate::command::{Failure, run as run_program};
use crate::steps::Outcome;
use crate::tools;

/// Seeds of bad weather for each change: what is not found by these few is mostly found by none.
const SEEDS: &str = "100";

/// Changes `kraft-core/src/raft` by cargo-mutants and runs the crate's tests on each. What cannot be noticed is left out
/// by `.cargo/mutants.toml`, with the reason; `docs/testing.md` has it too.
///
/// # Errors
///
/// A change is not noticed.
pub(crate) fn run() -> Result<Outcome, Failure> {
    let path = match tools::ensure("cargo-mutants") {
        Ok(path) => path,
        Err(failure) => {
            println!("ci: ======== SKIPPED: NOTHING of Raft is changed to see whether a test notices: {failure}");
            return Ok(Outcome::Skipped(format!("changes of Raft ({failure})")));
        }
    };
    // Nobody debugs these builds.
    let variables = [
        ("PATH", path.as_str()),
        ("KRAFT_SEEDS", SEEDS),
        ("CARGO_PROFILE_DEV_DEBUG", "0"),
    ];
    // A change that lets no cluster settle makes each of its tests run to its end: the tests take ten times as long, and
    // fail. One that makes them endless they tell themselves.
    let command = "mutants --package kraft-core --file kraft-core/src/raft/** --no-shuffle --output target \
                   --build-timeout 300 --timeout 60 --colors never -- --lib --test it";
    run_program("cargo", &variables, &command.split_whitespace().collect::<Vec<_>>())?;
    Ok(Outcome::Passed)
}
