//! The crate's integration tests.

mod storage_log;
