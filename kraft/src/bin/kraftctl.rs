//! The client on the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    kraft::ctl::main()
}
