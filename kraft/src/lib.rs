//! Replicated nodes: Raft on a pluggable event loop with a pluggable wire format.

#![forbid(unsafe_code)]

pub mod kv;
pub mod storage;
