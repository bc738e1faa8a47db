//! Programs of the system's: run, and told of when they fail.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// What went wrong, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble(String);

impl Trouble {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The system refused to do something to a file or a folder.
    pub(crate) fn at(path: &Path, error: &io::Error) -> Self {
        Self(format!("{}: {error}", path.display()))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs a program to its end.
///
/// # Errors
///
/// It is missing, or its exit status is not 0.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), Trouble> {
    feed(program, arguments, "")
}

/// As [`run`], with a text to read.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn feed(program: &str, arguments: &[&str], text: &str) -> Result<(), Trouble> {
    let shown = || format!("`{program} {}`", arguments.join(" "));
    let failed = |error: io::Error| Trouble(format!("{}: {error}", shown()));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that failed early does not read, and says why below.
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(Trouble(format!("{}: {}: {}", shown(), output.status, said.join("; "))))
}
