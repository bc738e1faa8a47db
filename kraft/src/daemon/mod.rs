//! kraftd: everything around a node that runs as a process of its own.
//!
//! `init` writes a data folder, `serve` runs the node in it, `config show` tells what it would run with and why,
//! `doctor` which event loops work here, `log` looks at the log of a node that is down, `repair` begins a damaged one
//! anew, `certs` makes certificates for a
//! first cluster, `demo` shows a cluster losing its leader and nothing else, `simulate` tries to break one in virtual
//! time.
//!
//! - [`config`]: one table of fields, from which flags, variables, the file and the documentation are made.
//! - [`http`], [`metrics`]: what a monitor reads, free of I/O.
//! - [`logging`]: lines to stderr, escaped, cut and bounded in number.

mod assemble;
mod certs;
mod cli;
pub mod config;
mod demo;
mod doctor;
mod escape;
mod exit;
pub mod http;
mod init;
mod inspect;
mod log_writer;
pub mod logging;
pub mod metrics;
mod monitor;
mod notices;
mod open_files;
mod rate;
mod recover;
mod repair;
mod restore;
mod security;
mod serve;
mod signals;
#[cfg(feature = "sim")]
mod simulate;

pub use cli::main;
pub use exit::{Exit, Failure};
