//! The crate's integration tests.

#[cfg(all(feature = "binary", feature = "daemon"))]
mod cli_backend;
#[cfg(all(feature = "binary", feature = "daemon"))]
mod cli_config;
#[cfg(all(feature = "binary", feature = "daemon"))]
mod cli_demo;
#[cfg(all(feature = "binary", feature = "daemon"))]
mod cli_docs;
#[cfg(all(feature = "binary", feature = "daemon"))]
mod cli_init;
// Whether a process has a handler is asked of Linux.
#[cfg(all(feature = "binary", feature = "daemon", target_os = "linux"))]
mod cli_interrupt;
#[cfg(all(feature = "binary", feature = "daemon"))]
mod cli_log;
#[cfg(all(feature = "binary", feature = "daemon"))]
mod cli_serve;
// Each cluster has an address of its own in 127.0.0.0/8, all of which is the loopback on Linux alone.
#[cfg(all(feature = "binary", feature = "ctl", feature = "daemon", target_os = "linux"))]
mod e2e;
#[cfg(all(feature = "binary", feature = "libuv", unix))]
mod libuv;
#[cfg(all(feature = "binary", feature = "daemon"))]
mod process;
mod server;
mod sim;
mod storage_folder;
mod storage_log;
mod threats;
#[cfg(all(
    feature = "binary",
    feature = "ctl",
    feature = "daemon",
    feature = "tls",
    target_os = "linux"
))]
mod tls;
#[cfg(all(feature = "binary", feature = "ctl", feature = "daemon", not(feature = "tls")))]
mod without_tls;
