//! Five `kraftd` on real sockets and disks, under faults, while clients run; then what the clients saw is judged.
//!
//! `cargo ci chaos` runs it. It works in namespaces of its own for mounts, networks and processes, so that the kernel
//! takes back all that it made however it ends. What the machine does not allow it leaves out, and names.

#![forbid(unsafe_code)]
// Every module but this one is for namespaces, loop devices and netfilter, which are Linux's.

#[cfg(target_os = "linux")]
mod cluster;
#[cfg(target_os = "linux")]
mod command;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod packets;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod sandbox;
#[cfg(target_os = "linux")]
mod schedule;
#[cfg(target_os = "linux")]
mod verdict;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    sandbox::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("kraft-chaos: this system has no namespaces: run it on Linux");
    ExitCode::FAILURE
}
