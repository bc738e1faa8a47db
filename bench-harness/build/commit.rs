//! Which commit the program is built from, as `build.rs` notes it. A test has it too.

use std::path::Path;
use std::process::Command;

/// What goes into the program, seen from this package: what is compiled and how. Documents and tests of others do not.
pub(crate) const SOURCES: [&str; 16] = [
    "build",
    "build.rs",
    "Cargo.toml",
    "src",
    "../.cargo",
    "../Cargo.lock",
    "../Cargo.toml",
    "../adapters/Cargo.toml",
    "../adapters/build.rs",
    "../adapters/src",
    "../kraft/Cargo.toml",
    "../kraft/src",
    "../kraft-core/Cargo.toml",
    "../kraft-core/src",
    "../protocols/Cargo.toml",
    "../protocols/src",
];

/// What every checkout of this project tracks. A folder that merely lies in somebody's repository does not.
const TRACKED: [&str; 2] = ["Cargo.toml", "../kraft-core/Cargo.toml"];

/// The commit of the sources, with a `+` if they differ from it; `None` if that is not known for sure.
pub(crate) fn of(package: &Path) -> Option<String> {
    git(
        package,
        &[&["ls-files", "--error-unmatch", "--"], &TRACKED[..]].concat(),
    )?;
    let commit = git(package, &["rev-parse", "--short=12", "HEAD"])?;
    // A file that is not tracked may be part of a module all the same.
    let status = [
        "--no-optional-locks",
        "status",
        "--porcelain",
        "--untracked-files=all",
        "--",
    ];
    let changes = git(package, &[&status, &SOURCES[..]].concat())?;
    Some(commit + if changes.is_empty() { "" } else { "+" })
}

/// Files that change whenever the commit does. Where there is no log of it, cargo finds a path that is not there, and
/// asks every time.
pub(crate) fn traces(package: &Path) -> Vec<String> {
    let names = ["logs/HEAD", "HEAD"].into_iter();
    names
        .filter_map(|name| git(package, &["rev-parse", "--git-path", name]))
        .collect()
}

/// What git says; `None` if it is not there, or fails.
fn git(package: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(package).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
