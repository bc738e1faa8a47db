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
#[cfg(feature = "daemon")]
mod process;
mod sim;
mod storage_folder;
mod storage_log;
mod threats;
