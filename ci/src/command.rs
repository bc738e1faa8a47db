//! Commands of the steps: printed, run, judged by their exit status.

use std::ffi::OsString;
use std::fmt;
use std::process::{Command, ExitStatus, Stdio};

/// Why a step failed, for the person who reads the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs `cargo ARGUMENTS`, with its output where ours goes.
///
/// # Errors
///
/// It could not be run, or its exit status is not 0.
pub(crate) fn cargo(arguments: &[&str]) -> Result<(), Failure> {
    cargo_with(&[], arguments)
}

/// Runs `cargo ARGUMENTS` with these variables added to its environment.
///
/// # Errors
///
/// As [`cargo`].
pub(crate) fn cargo_with(variables: &[(&str, &str)], arguments: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new(program());
    command.args(arguments).envs(variables.iter().copied());
    judge(command, &show("cargo", variables, arguments))
}

/// Runs `cargo ARGUMENTS`, whose exit status means something.
///
/// # Errors
///
/// It could not be run.
pub(crate) fn cargo_status(arguments: &[&str]) -> Result<ExitStatus, Failure> {
    let mut command = Command::new(program());
    command.args(arguments);
    status(command, &show("cargo", &[], arguments))
}

/// Runs `PROGRAM ARGUMENTS` with these variables added to its environment, and with nothing to read.
///
/// # Errors
///
/// As [`cargo`].
pub(crate) fn run(program: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    judge(command, &show(program, variables, arguments))
}

/// What `PROGRAM ARGUMENTS` prints, without a word of ours.
///
/// # Errors
///
/// As [`cargo`].
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let shown = show(program, &[], arguments);
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::new(format!("`{shown}`: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!("`{shown}`: {}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|error| Failure::new(format!("`{shown}`: {error}")))
}

fn status(mut command: Command, shown: &str) -> Result<ExitStatus, Failure> {
    println!("ci: $ {shown}");
    command
        .status()
        .map_err(|error| Failure::new(format!("`{shown}`: {error}")))
}

fn judge(command: Command, shown: &str) -> Result<(), Failure> {
    let status = status(command, shown)?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("`{shown}`: {status}")))
    }
}

/// What `cargo ARGUMENTS` prints, with these variables added to its environment.
///
/// # Errors
///
/// As [`cargo`].
pub(crate) fn cargo_output(variables: &[(&str, &str)], arguments: &[&str]) -> Result<String, Failure> {
    let shown = show("cargo", variables, arguments);
    println!("ci: $ {shown}");
    let output = Command::new(program())
        .args(arguments)
        .envs(variables.iter().copied())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(format!("`{shown}`: {error}")))?;
    if !output.status.success() {
        // What a test says of its failure is there, too.
        print!("{}", String::from_utf8_lossy(&output.stdout));
        return Err(Failure::new(format!("`{shown}`: {}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|error| Failure::new(format!("`{shown}`: {error}")))
}

/// Whether `cargo ARGUMENTS` can be run and succeeds, without a word.
pub(crate) fn cargo_succeeds(arguments: &[&str]) -> bool {
    Command::new(program())
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The cargo that runs us, so that a `+toolchain` holds for the steps too.
fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn show(program: &str, variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let mut shown = String::new();
    for (name, value) in variables {
        shown.push_str(&format!("{name}={} ", quote(value)));
    }
    shown.push_str(program);
    for argument in arguments {
        shown.push(' ');
        shown.push_str(&quote(argument));
    }
    shown
}

fn quote(word: &str) -> String {
    if word.contains(' ') {
        format!("'{word}'")
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_a_shell_takes_them() {
        let shown = show("cargo", &[("RUSTDOCFLAGS", "-D warnings")], &["doc", "--no-deps"]);
        assert_eq!(shown, "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }

    #[test]
    fn a_command_that_fails_is_named() {
        let failure = cargo(&["no-such-subcommand-of-cargo"]).expect_err("cargo has no such subcommand");
        assert!(
            failure
                .to_string()
                .starts_with("`cargo no-such-subcommand-of-cargo`: exit status: ")
        );
    }
}
