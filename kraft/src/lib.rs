//! Replicated nodes: Raft on a pluggable event loop with a pluggable wire format.

#![forbid(unsafe_code)]

#[cfg(all(feature = "epoll", feature = "binary"))]
pub mod client;
#[cfg(feature = "ctl")]
pub mod ctl;
#[cfg(feature = "daemon")]
pub mod daemon;
pub mod kv;
pub mod server;
#[cfg(feature = "testing")]
pub mod sim;
pub mod storage;

pub use kraft_adapters as adapters;
pub use kraft_core::{adapter, id, machine, message, node, protocol, time};
pub use kraft_protocols as protocols;

#[cfg(all(feature = "epoll", feature = "binary"))]
pub use client::Client;
