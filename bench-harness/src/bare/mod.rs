//! Hand-written echo servers, each as good as its mechanism allows and no more general than echo needs: what a backend
//! of Kraft costs is what it is slower than these. The unsafe code of this crate stands here.

pub(crate) mod clock;
// epoll and io_uring are Linux's own.
#[cfg(target_os = "linux")]
pub(crate) mod epoll;
#[cfg(have_libuv)]
pub(crate) mod libuv;
pub(crate) mod readers;
// perf_event_open(2) is Linux's own.
#[cfg(target_os = "linux")]
pub(crate) mod syscalls;
pub(crate) mod threads;
#[cfg(all(feature = "io-uring", target_os = "linux"))]
pub(crate) mod uring;
