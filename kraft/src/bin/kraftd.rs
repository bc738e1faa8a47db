//! The daemon around a node.

use std::process::ExitCode;

fn main() -> ExitCode {
    kraft::daemon::main()
}
