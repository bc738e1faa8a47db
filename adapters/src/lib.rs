//! Event loops for Kraft, and the suite that judges them.
//!
//! Who writes a backend of his own finds here what ours are made of ([`slots`], `sock` with the feature `sockets`, [`Clock`]),
//! and the suite with the feature `conformance`; `docs/custom-adapters.md` shows how.

mod clock;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(all(feature = "epoll", any(target_os = "android", target_os = "linux")))]
mod epoll;
#[cfg(feature = "mock")]
pub mod mock;
pub mod slots;
#[cfg(feature = "sockets")]
pub mod sock;

pub use crate::clock::Clock;
pub use crate::config::{Config, ConfigError};
#[cfg(all(feature = "epoll", any(target_os = "android", target_os = "linux")))]
pub use crate::epoll::Epoll;
