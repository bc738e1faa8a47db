//! Wakes of a loop by another thread, whatever its bell is: of many between two looks only the first rings.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::inside::{self, Bell};
use crate::serve::Task;

/// The loop's side of its wakes.
pub(crate) struct Wakes {
    bell: Arc<Bell>,
    is_rung: Arc<Flag>,
}

/// Starts the thread that wakes, which calls `ring` where the loop has looked since the last call.
///
/// # Errors
///
/// No thread can be started.
pub(crate) fn start(task: &Task, ring: impl Fn() + Send + 'static) -> io::Result<Wakes> {
    let is_rung = Arc::new(Flag::default());
    let raised = Arc::clone(&is_rung);
    let bell = inside::ring(task, move || {
        if raised.raise() {
            ring();
        }
    })?;
    Ok(Wakes { bell, is_rung })
}

/// As [`start`], by writes to an eventfd, of which each is an edge.
///
/// # Errors
///
/// No thread can be started.
// eventfd(2) is Linux's own.
#[cfg(target_os = "linux")]
pub(crate) fn by_eventfd(task: &Task, bell: OwnedFd) -> io::Result<Wakes> {
    start(task, move || {
        // Full after 2^64 - 2 writes.
        let _ = rustix::io::write(&bell, &1_u64.to_ne_bytes());
    })
}

impl Wakes {
    /// The loop was rung, and its bell is silent again: it looks.
    pub(crate) fn hear(&self) {
        // Before the look: a wake that comes behind it rings.
        self.is_rung.lower();
        self.bell.hear();
    }
}

/// Apart from what else the two threads write.
#[derive(Default)]
#[repr(align(128))]
struct Flag(AtomicBool);

impl Flag {
    /// Whether it was down.
    fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// An exchange, and no store: whoever looks behind it sees what was said before it was raised.
    fn lower(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wake_behind_a_look_rings() {
        let flag = Flag::default();
        assert_eq!([flag.raise(), flag.raise()], [true, false]);
        flag.lower();
        assert_eq!([flag.raise(), flag.raise()], [true, false]);
    }
}
