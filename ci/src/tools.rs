//! Subcommands of cargo, and other programs of the registry, that a machine may lack.

use std::fs;
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
    install(&[tool])?;
    Ok(path)
}

/// Brings a program here in this very version, from the registry, whatever other one the machine has. The search path on
/// which it is found.
///
/// # Errors
///
/// It is not there and cannot be installed.
pub(crate) fn ensure_version(program: &str, version: &str) -> Result<String, Failure> {
    let path = format!("{ROOT}/bin:{}", std::env::var("PATH").unwrap_or_default());
    // Cargo's own account of what it installed.
    let installed = fs::read_to_string(format!("{ROOT}/.crates.toml")).unwrap_or_default();
    if !installed.contains(&format!("\"{program} {version} (")) {
        println!("ci: {program} {version} is missing; installing it below target/");
        install(&["--force", "--version", version, program])?;
    }
    // Programs look for others from folders of their own.
    let root = std::env::current_dir().map_err(|error| Failure::new(format!("the current folder: {error}")))?;
    Ok(format!("{}/{path}", root.display()))
}

fn install(arguments: &[&str]) -> Result<(), Failure> {
    let variables = [("CARGO_TARGET_DIR", "target/tools/build")];
    let command = [&["install", "--locked", "--root", ROOT], arguments].concat();
    run_program("cargo", &variables, &command)
}
