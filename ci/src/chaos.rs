//! Five kraftd in namespaces of their own, under faults of processes, networks and disks.

use std::path::Path;
use std::{env, fs};

use crate::command::{Failure, cargo, cargo_status};
use crate::debian;
use crate::steps::Outcome;

/// Programs that make namespaces, networks and disks, with the packages of Debian's that have them.
const TOOLS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("iptables-restore", "iptables"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("perl", "perl-base"),
    ("unshare", "util-linux"),
];

/// What the program could not have here stands in it.
const LEFT_OUT: &str = "target/chaos/left-out.txt";

/// The exit status of a run that could not be made.
const SKIPPED: i32 = 77;

/// Two minutes.
///
/// # Errors
///
/// A node or a client saw what nobody may, or the cluster did not recover.
pub(crate) fn short() -> Result<Outcome, Failure> {
    run(&["--seconds", "120"])
}

/// Ten minutes, after a short run whose disks forget what was synced, which has to be found.
///
/// # Errors
///
/// As [`short`].
pub(crate) fn long() -> Result<Outcome, Failure> {
    let planted = run(&["--seconds", "20", "--plant", "rollback"])?;
    Ok(planted.and(run(&["--seconds", "600"])?))
}

fn run(arguments: &[&str]) -> Result<Outcome, Failure> {
    if !cfg!(target_os = "linux") {
        return Ok(skipped("all of it (namespaces are Linux's)"));
    }
    install_tools();
    // What ships is tried.
    cargo(&["build", "--release", "-p", "kraft-raft", "-p", "kraft-chaos", "--bins"])?;
    let cannot = |error| Failure::new(format!("{LEFT_OUT}: {error}"));
    fs::create_dir_all("target/chaos").map_err(cannot)?;
    fs::write(LEFT_OUT, "").map_err(cannot)?;
    let run = ["run", "--release", "-p", "kraft-chaos", "--", "--left-out", LEFT_OUT];
    let status = cargo_status(&[&run, arguments].concat())?;
    let left_out = fs::read_to_string(LEFT_OUT).map_err(cannot)?;
    let left_out: Vec<&str> = left_out.lines().collect();
    match status.code() {
        Some(0) if left_out.is_empty() => Ok(Outcome::Passed),
        Some(0 | SKIPPED) => Ok(skipped(&left_out.join("; "))),
        _ => Err(Failure::new(format!(
            "kraft-chaos: {status}; what it said last tells why"
        ))),
    }
}

/// Without them the program says which faults it leaves out.
fn install_tools() {
    let mut missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(program, _)| !is_here(program))
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return;
    }
    println!("ci: {} missing; installing Debian's packages", missing.join(", "));
    if let Err(failure) = debian::install(&missing) {
        println!("ci: {} not installed: {failure}", missing.join(", "));
    }
}

fn is_here(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| Path::new(&folder).join(program).exists())
}

fn skipped(what: &str) -> Outcome {
    println!("ci: ======== SKIPPED: faults that are NOT tried on real processes: {what}");
    Outcome::Skipped(format!("faults: {what}"))
}
