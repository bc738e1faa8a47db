//! The crate's integration tests.

#[cfg(feature = "daemon")]
mod cli_docs;
mod storage_log;
