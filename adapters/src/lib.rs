//! Event loops for Kraft, and the suite that judges them.

mod config;

pub use crate::config::{Config, ConfigError};
