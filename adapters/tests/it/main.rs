//! Backends against the laws, and against the operating system beyond what the laws say.

mod bent;
#[cfg(all(feature = "epoll", feature = "io-uring", feature = "kqueue", target_os = "linux"))]
mod bulk;
#[cfg(all(feature = "epoll", target_os = "linux"))]
mod chaos;
mod counting;
#[cfg(all(feature = "epoll", target_os = "linux"))]
mod epoll;
#[cfg(all(feature = "epoll", target_os = "linux"))]
mod interface;
#[cfg(all(feature = "epoll", feature = "kqueue", target_os = "linux"))]
mod kqueue;
mod laws;
#[cfg(all(feature = "libuv", unix))]
mod libuv;
#[cfg(all(feature = "epoll", target_os = "linux"))]
mod limits;
#[cfg(all(feature = "epoll", target_os = "linux"))]
mod panics;
#[cfg(all(feature = "epoll", target_os = "linux"))]
mod rig;
#[cfg(all(feature = "epoll", target_os = "linux"))]
mod scarce;
#[cfg(all(feature = "epoll", target_os = "linux"))]
mod spin;
#[cfg(all(feature = "tls", target_os = "linux"))]
mod tls;
#[cfg(all(feature = "epoll", feature = "io-uring", target_os = "linux"))]
mod uring;
#[cfg(all(feature = "epoll", feature = "io-uring", target_os = "linux"))]
mod zero_copy;
