//! Three kraftd as processes, on real sockets and disks, under load and under misfortune.
//!
//! Nothing waits by sleeping: what is waited for is a line, a reply, an acknowledged write or the end of a process.

mod backup;
mod cluster;
mod crashes;
mod ctl;
mod damage;
mod disks;
mod histories;
mod load;
#[cfg(feature = "ctl")]
mod members;
mod monitors;
mod rolling;
mod snapshots;
mod stops;
#[cfg(feature = "tls")]
mod tls;
mod weather;
