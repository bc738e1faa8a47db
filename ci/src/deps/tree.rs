//! Which crate depends on which.

use std::collections::BTreeSet;

use crate::command::{Failure, cargo, cargo_output};

/// All that `kraft-core` may have at run time, directly or not.
const CORE: &[&str] = &["bytes", "crc32c", "fastrand"];

/// Which crates of the workspace each one may depend on: one way, from the traits up to what joins them.
const INWARD: &[(&str, &[&str])] = &[
    ("kraft-core", &[]),
    ("kraft-adapters", &["kraft-core"]),
    ("kraft-protocols", &["kraft-core"]),
    // A program of somebody else's with a loop of its own.
    (
        "in-loops",
        &["kraft-core", "kraft-adapters", "kraft-protocols", "kraft-raft"],
    ),
    // An adapter of somebody else's: what he may use.
    ("poll-adapter", &["kraft-core", "kraft-adapters"]),
    // A wire format of somebody else's.
    ("tagged-protocol", &["kraft-core", "kraft-protocols"]),
    ("kraft-raft", &["kraft-core", "kraft-adapters", "kraft-protocols"]),
    (
        "kraft-bench",
        &["kraft-core", "kraft-adapters", "kraft-protocols", "kraft-raft"],
    ),
    // Nodes as processes, and clients that talk to them.
    ("kraft-chaos", &["kraft-core", "kraft-raft"]),
    // What fuzzers run.
    ("kraft-fuzz-targets", &["kraft-core", "kraft-protocols", "kraft-raft"]),
    ("ci", &[]),
    // Benchmarks alone, of what tests may use, too.
    ("kraft-counts", &[]),
    // Makes source code of the schema.
    ("kraft-codegen", &[]),
];

/// Brings every crate of the lock file here, those of other systems too: what follows runs offline.
///
/// # Errors
///
/// The registry cannot be reached, or `Cargo.lock` does not fit the manifests.
pub(crate) fn fetch() -> Result<(), Failure> {
    cargo(&["fetch", "--locked"])
}

/// Dependencies that are not allowed.
///
/// # Errors
///
/// `cargo tree` failed.
pub(crate) fn problems() -> Result<Vec<String>, Failure> {
    let members = names(&cargo_output(
        &[],
        &words("tree --workspace --depth 0 --prefix none --format {p}"),
    )?);
    let mut problems = Vec::new();
    for member in &members {
        let Some((_, allowed)) = INWARD.iter().find(|(name, _)| name == member) else {
            problems.push(format!(
                "{member}: a new crate; say in ci/src/deps/tree.rs what it may depend on"
            ));
            continue;
        };
        let found = run_time(member, "--depth 1")?;
        for dependency in found.iter().filter(|found| members.contains(*found)) {
            if !allowed.contains(&dependency.as_str()) {
                problems.push(format!(
                    "{member}: depends on {dependency}, against the direction of the workspace"
                ));
            }
        }
    }
    let found = run_time("kraft-core", "--all-features")?;
    let allowed: BTreeSet<String> = CORE.iter().map(|name| (*name).to_owned()).collect();
    for name in found.difference(&allowed) {
        problems.push(format!(
            "kraft-core: depends on {name}; it may have {} alone",
            CORE.join(", ")
        ));
    }
    Ok(problems)
}

/// What a crate depends on when it runs, without itself: build scripts and tests may have more.
fn run_time(krate: &str, options: &str) -> Result<BTreeSet<String>, Failure> {
    let command = format!("tree -p {krate} --edges normal --target all --prefix none --format {{p}} {options}");
    let mut found = names(&cargo_output(&[], &words(&command))?);
    found.remove(krate);
    Ok(found)
}

/// The first word of each line.
fn names(output: &str) -> BTreeSet<String> {
    output
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_first_words() {
        let output = "kraft-core v0.1.0 (/src/kraft-core)\nbytes v1.12.2\n\nbytes v1.12.2 (*)\n";
        assert_eq!(names(output).into_iter().collect::<Vec<_>>(), ["bytes", "kraft-core"]);
    }

    #[test]
    fn nothing_depends_on_what_depends_on_it() {
        for (name, allowed) in INWARD {
            for (other, theirs) in INWARD.iter().filter(|(other, _)| allowed.contains(other)) {
                assert!(!theirs.contains(name), "{name} and {other}");
            }
        }
    }
}
