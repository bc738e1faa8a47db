//! Commands of the steps: printed, run, judged by their exit status.

use std::ffi::OsString;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;
use std::{fmt, fs, io, thread};

/// How long a command may take, if there is a bound.
static LIMIT: OnceLock<Duration> = OnceLock::new();

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

/// From here on no command takes longer: what hangs would hold whoever waits for all steps, without a word why.
pub(crate) fn limit(limit: Duration) {
    // Nobody sets it twice.
    let _ = LIMIT.set(limit);
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
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = wait(command, &shown, Child::wait_with_output)?;
    if !output.status.success() {
        return Err(Failure::new(format!("`{shown}`: {}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|error| Failure::new(format!("`{shown}`: {error}")))
}

fn status(command: Command, shown: &str) -> Result<ExitStatus, Failure> {
    println!("ci: $ {shown}");
    wait(command, shown, |mut child| child.wait())
}

fn judge(command: Command, shown: &str) -> Result<(), Failure> {
    let status = status(command, shown)?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("`{shown}`: {status}")))
    }
}

/// Waits for a command in this way, and ends it behind the [`LIMIT`].
fn wait<T: Send + 'static>(command: Command, shown: &str, wait: fn(Child) -> io::Result<T>) -> Result<T, Failure> {
    wait_at_most(LIMIT.get().copied().unwrap_or(Duration::MAX), command, shown, wait)
}

fn wait_at_most<T: Send + 'static>(
    limit: Duration,
    mut command: Command,
    shown: &str,
    wait: fn(Child) -> io::Result<T>,
) -> Result<T, Failure> {
    let failed = |error: io::Error| Failure::new(format!("`{shown}`: {error}"));
    let child = command.spawn().map_err(failed)?;
    let id = child.id();
    let (tells, is_over) = mpsc::channel();
    // Whoever holds its output may outlive it: that thread is left behind then.
    thread::spawn(move || tells.send(wait(child)));
    match is_over.recv_timeout(limit) {
        Ok(waited) => waited.map_err(failed),
        Err(_) => {
            end(id);
            let seconds = limit.as_secs_f64();
            Err(Failure::new(format!(
                "`{shown}` took longer than {seconds} s and was ended"
            )))
        }
    }
}

/// Ends a process with all that it started, and what those started: a test that hangs is cargo's child. Where there is
/// no `/proc` as Linux has it, the process alone.
fn end(id: u32) {
    let mut ids = vec![id];
    loop {
        // Who is stopped starts no others.
        signal("STOP", &ids);
        let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(parent);
        let is_new = |(id, parent): &(u32, u32)| ids.contains(parent) && !ids.contains(id);
        let new: Vec<u32> = processes.filter(is_new).map(|(id, _)| id).collect();
        if new.is_empty() {
            return signal("KILL", &ids);
        }
        ids.extend(new);
    }
}

/// By the shell, since not every system has a program for it. One that has ended meanwhile is none.
fn signal(name: &str, ids: &[u32]) {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    let kill = format!("kill -{name} {} 2>/dev/null", ids.join(" "));
    let _ = Command::new("sh").args(["-c", &kill]).status();
}

/// A process and its parent, of an entry of `/proc`.
fn parent(entry: io::Result<fs::DirEntry>) -> Option<(u32, u32)> {
    let path = entry.ok()?.path();
    let id = path.file_name()?.to_str()?.parse().ok()?;
    let status = fs::read_to_string(path.join("status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    Some((id, parent.trim().parse().ok()?))
}

/// What `cargo ARGUMENTS` prints, with these variables added to its environment.
///
/// # Errors
///
/// As [`cargo`].
pub(crate) fn cargo_output(variables: &[(&str, &str)], arguments: &[&str]) -> Result<String, Failure> {
    let shown = show("cargo", variables, arguments);
    println!("ci: $ {shown}");
    let mut command = Command::new(program());
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let output = wait(command, &shown, Child::wait_with_output)?;
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

    /// Elsewhere the command alone is ended.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_command_that_hangs_is_ended_with_all_that_it_started() {
        let (mut held, holds) = io::pipe().expect("a pipe");
        let mut command = Command::new("sh");
        // The shell waits for another one, which waits for what never comes.
        command
            .args(["-c", "sh -c 'read line; exit 0'; exit 0"])
            .stdin(Stdio::piped())
            .stdout(holds);
        let waited = wait_at_most(Duration::from_millis(100), command, "a shell", |mut child| {
            let _stdin = child.stdin.take();
            child.wait()
        });
        let failure = waited.expect_err("it hung").to_string();
        assert_eq!(failure, "`a shell` took longer than 0.1 s and was ended");
        // It ends when the last of them is gone.
        io::copy(&mut held, &mut io::sink()).expect("the pipe ends");
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
