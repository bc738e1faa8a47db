//! The crate's integration tests.

#[cfg(feature = "daemon")]
mod cli_config;
#[cfg(feature = "daemon")]
mod cli_demo;
#[cfg(feature = "daemon")]
mod cli_docs;
#[cfg(feature = "daemon")]
mod cli_init;
#[cfg(feature = "daemon")]
mod cli_log;
#[cfg(feature = "daemon")]
mod cli_serve;
// Each cluster has an address of its own in 127.0.0.0/8, all of which is the loopback on Linux alone.
#[cfg(all(feature = "ctl", feature = "daemon", target_os = "linux"))]
mod e2e;
#[cfg(feature = "daemon")]
mod process;
mod server;
mod sim;
mod storage_folder;
mod storage_log;
mod threats;
