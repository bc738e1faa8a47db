//! The daemon around a node.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    kraft::daemon::main()
}
