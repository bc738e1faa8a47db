//! Event loops for Kraft, and the suite that judges them.

mod config;
#[cfg(feature = "mock")]
pub mod mock;

pub use crate::config::{Config, ConfigError};
