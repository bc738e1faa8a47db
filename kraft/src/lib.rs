//! Replicated nodes: Raft on a pluggable event loop with a pluggable wire format.

#![forbid(unsafe_code)]

#[cfg(feature = "binary")]
pub mod client;
#[cfg(all(feature = "binary", feature = "ctl"))]
pub mod ctl;
#[cfg(all(feature = "binary", feature = "daemon"))]
pub mod daemon;
#[cfg(feature = "sim")]
pub mod history;
#[cfg(all(feature = "binary", any(feature = "ctl", all(feature = "daemon", feature = "sim"))))]
mod interrupt;
pub mod kv;
pub mod server;
#[cfg(feature = "sim")]
pub mod sim;
pub mod storage;
#[cfg(feature = "tls")]
pub mod tls;
pub mod transport;

pub use kraft_adapters as adapters;
pub use kraft_core::{adapter, id, machine, membership, message, node, protocol, snapshot, time};
pub use kraft_protocols as protocols;

#[cfg(feature = "binary")]
pub use client::Client;
pub use transport::Transport;
