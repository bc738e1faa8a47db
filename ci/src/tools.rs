//! Subcommands of cargo that a machine may lack.

use std::path::Path;

use crate::command::{Failure, run as run_program};

/// Where one is installed if it is not there already.
const ROOT: &str = "target/tools";

/// Brings a subcommand here if it is not, from the registry. The search path on which cargo finds it.
///
/// # Errors
///
/// It is not there and cannot be installed.
pub(crate) fn ensure(tool: &str) -> Result<String, Failure> {
    let path = format!("{ROOT}/bin:{}", std::env::var("PATH").unwrap_or_default());
    let subcommand = tool.strip_prefix("cargo-").unwrap_or(tool);
    let own = format!("{ROOT}/bin/{tool}");
    if Path::new(&own).exists() || run_program(tool, &[], &[subcommand, "--version"]).is_ok() {
        return Ok(path);
    }
    println!("ci: {tool} is missing; installing it below target/");
    let variables = [("CARGO_TARGET_DIR", "target/tools/build")];
    run_program("cargo", &variables, &["install", "--locked", "--root", ROOT, tool])?;
    Ok(path)
}
