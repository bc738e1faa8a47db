//! Laws about a whole process run in one of their own.

use std::env;
use std::process::Command;

const VARIABLE: &str = "KRAFT_LAW";

/// Whether this process was started for one law alone.
pub(super) fn is_one() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// Runs the test at `path` in a process of its own.
pub(super) fn run(path: &str) {
    // A test's name does not have the crate's.
    let (_, name) = path.split_once("::").unwrap_or(("", path));
    let binary = env::current_exe().expect("a test knows its binary");
    let output = Command::new(binary)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, name)
        .output()
        .expect("a test binary can be started again");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    print!("{text}");
    eprint!("{errors}");
    assert!(
        output.status.success(),
        "{name} failed in a process of its own: {}",
        output.status
    );
    assert!(text.contains("1 passed"), "there is no test {name} to run");
}
