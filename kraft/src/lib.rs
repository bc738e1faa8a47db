//! Replicated nodes: Raft on a pluggable event loop with a pluggable wire format.

#![forbid(unsafe_code)]

#[cfg(feature = "daemon")]
pub mod daemon;
pub mod kv;
pub mod server;
pub mod storage;
