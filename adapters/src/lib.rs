//! Event loops for Kraft, and the suite that judges them.
//!
//! Who writes a backend of his own finds here what ours are made of ([`slots`], [`Clock`], [`WakeLine`], `sock` with the
//! feature `sockets`), and the suite with the feature `conformance`; `docs/custom-adapters.md` shows how.

mod any;
mod backend;
mod choice;
mod clock;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod dynamic;
#[cfg(all(feature = "epoll", any(target_os = "android", target_os = "linux")))]
mod epoll;
#[cfg(feature = "kqueue")]
mod kqueue;
#[cfg(all(feature = "libuv", unix))]
mod libuv;
#[cfg(feature = "mock")]
pub mod mock;
#[cfg(any(
    feature = "kqueue",
    all(feature = "libuv", unix),
    all(feature = "epoll", any(target_os = "android", target_os = "linux"))
))]
mod ready;
#[cfg(any(
    feature = "kqueue",
    all(feature = "libuv", unix),
    all(feature = "epoll", any(target_os = "android", target_os = "linux")),
    all(feature = "io-uring", target_os = "linux")
))]
mod scratch;
pub mod slots;
#[cfg(feature = "sockets")]
pub mod sock;
mod sync;
#[cfg(feature = "threads")]
mod threads;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(all(feature = "io-uring", target_os = "linux"))]
mod uring;
mod wake;
mod wake_line;

pub use crate::any::Any;
pub use crate::backend::{Absence, Availability, Backend};
pub use crate::choice::{Choice, Opened, ParseError, PassedOver};
pub use crate::clock::Clock;
pub use crate::config::{Config, ConfigError};
pub use crate::dynamic::DynAdapter;
#[cfg(all(feature = "epoll", any(target_os = "android", target_os = "linux")))]
pub use crate::epoll::Epoll;
#[cfg(feature = "kqueue")]
pub use crate::kqueue::Kqueue;
#[cfg(all(feature = "libuv", unix))]
pub use crate::libuv::{Libuv, LibuvGuest, UvLoop};
#[cfg(feature = "threads")]
pub use crate::threads::Threads;
#[cfg(all(feature = "io-uring", target_os = "linux"))]
pub use crate::uring::{Setup, Uring};
pub use crate::wake_line::WakeLine;
