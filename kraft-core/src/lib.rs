//! Raft as a pure state machine, with the traits of its event loop and wire format.

#![forbid(unsafe_code)]

pub mod adapter;
#[doc(hidden)]
pub mod canary;
pub mod client;
pub mod handshake;
pub mod host_port;
pub mod id;
pub mod inbox;
pub mod laws;
pub mod link;
pub mod log;
pub mod machine;
pub mod membership;
pub mod message;
pub mod node;
pub mod outbox;
pub mod peers;
pub mod protocol;
pub mod raft;
pub mod session;
mod shown;
pub mod snapshot;
pub mod storage;
mod sync;
pub mod time;
pub mod timers;
