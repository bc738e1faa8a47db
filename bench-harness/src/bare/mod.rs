//! Hand-written servers, each as good as its mechanism allows and no more general than the workloads need: what a backend
//! of Kraft costs is what it is slower than these. The unsafe code of this crate stands here, that which counts too.
//!
//! Each is under 300 lines of code, or it would be a loop of its own right and no measure (`cargo ci deps`): what counts is
//! its file or its folder, without blank lines, comments and what several of them share (`conns`, `wakes`).

pub(crate) mod allocations;
pub(crate) mod clock;
#[cfg(any(feature = "rivals", have_kqueue, target_os = "linux"))]
pub(crate) mod conns;
// epoll and io_uring are Linux's own.
#[cfg(target_os = "linux")]
pub(crate) mod epoll;
#[cfg(have_kqueue)]
pub(crate) mod kqueue;
#[cfg(have_libuv)]
pub(crate) mod libuv;
#[cfg(have_libuv)]
pub(crate) mod libuv_version;
#[cfg(feature = "rivals")]
pub(crate) mod mio;
#[cfg(feature = "rivals")]
pub(crate) mod polling;
pub(crate) mod readers;
// perf_event_open(2) is Linux's own.
#[cfg(target_os = "linux")]
pub(crate) mod syscalls;
pub(crate) mod threads;
#[cfg(all(feature = "io-uring", target_os = "linux"))]
pub(crate) mod uring;
pub(crate) mod wakes;
