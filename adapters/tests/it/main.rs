//! Backends against the operating system, beyond what the laws say.

#![cfg(all(feature = "epoll", target_os = "linux"))]

mod chaos;
mod epoll;
mod limits;
mod rig;
