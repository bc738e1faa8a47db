//! cargo-deny: licences, bans and sources, by deny.toml.

use std::time::Instant;

use crate::command::{Failure, cargo, cargo_succeeds, cargo_with};
use crate::steps::Outcome;

/// Of which deny.toml is written.
const VERSION: &str = "^0.20";

/// Checks the dependencies by deny.toml. Installs cargo-deny if it is missing; what cannot be checked is skipped
/// loudly, but fails where `CI=true`.
pub(crate) fn run() -> Result<Outcome, Failure> {
    if !cargo_succeeds(&["deny", "--version"])
        && let Err(failure) = install()
    {
        let cause = format!("cargo-deny is not installed and could not be: {failure}");
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            return Err(Failure::new(cause));
        }
        println!("ci: ======== SKIPPED: licences, bans and sources are NOT checked: {cause}");
        return Ok(Outcome::Skipped(format!("licences, bans, sources ({cause})")));
    }
    // Offline, because `advisories` needs a database of its own and nothing else needs the network after the fetch.
    cargo(&[
        "deny",
        "--offline",
        "--all-features",
        "check",
        "licenses",
        "bans",
        "sources",
    ])?;
    Ok(Outcome::Passed)
}

/// Unoptimised and without debug information: a minute and a half of two cores, where the release profile of
/// cargo-deny takes many for a program that runs for a second.
fn install() -> Result<(), Failure> {
    println!("ci: cargo-deny is missing; installing it, once for this machine, takes minutes");
    let start = Instant::now();
    cargo_with(
        &[("CARGO_PROFILE_DEV_DEBUG", "0")],
        &["install", "--locked", "--debug", "cargo-deny", "--version", VERSION],
    )?;
    println!(
        "ci: installed cargo-deny in {:.1} minutes",
        start.elapsed().as_secs_f64() / 60.0
    );
    Ok(())
}
