//! Event loops for Kraft, and the suite that judges them.

mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(all(feature = "epoll", any(target_os = "android", target_os = "linux")))]
mod epoll;
#[cfg(feature = "mock")]
pub mod mock;
#[cfg(all(feature = "epoll", any(target_os = "android", target_os = "linux")))]
mod slots;
#[cfg(all(feature = "epoll", any(target_os = "android", target_os = "linux")))]
mod sock;

pub use crate::config::{Config, ConfigError};
#[cfg(all(feature = "epoll", any(target_os = "android", target_os = "linux")))]
pub use crate::epoll::Epoll;
