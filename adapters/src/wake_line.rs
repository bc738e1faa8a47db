//! Ends a wait for descriptors from another thread. For backends.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use kraft_core::adapter::Waker;

use crate::wake::{Bell, Wake};

/// A pair of sockets behind a flag, for a backend that waits for descriptors and has nothing better: it waits for this
/// one to be readable too.
///
/// Of many wakes between two turns only the first costs a system call (law A13). Both descriptors go with the line,
/// whoever still has a waker (law A21).
#[derive(Debug)]
pub struct WakeLine {
    ours: UnixStream,
    wake: Arc<Wake<UnixStream>>,
}

impl Bell for UnixStream {
    fn ring(&self) {
        // There is room: what was written before is read before the flag is cleared.
        let _ = (&mut &*self).write(&[1]);
    }
}

impl WakeLine {
    /// A new line.
    ///
    /// # Errors
    ///
    /// The system has no descriptor left.
    pub fn open() -> io::Result<Self> {
        let (ours, line) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        line.set_nonblocking(true)?;
        let wake = Arc::new(Wake::new(line));
        Ok(Self { ours, wake })
    }

    /// One that makes the descriptor readable.
    #[must_use]
    pub fn waker(&self) -> Waker {
        let wake = Arc::clone(&self.wake);
        Waker::new(move || wake.wake())
    }

    /// Whether `Woken` is due. Called when the descriptor is readable, before the user looks for what the wake announced:
    /// a later announcement makes it readable again.
    pub fn take(&self) -> bool {
        self.wake.take_after(|| {
            let _ = (&self.ours).read(&mut [0; 8]);
        })
    }
}

impl Drop for WakeLine {
    fn drop(&mut self) {
        self.wake.close();
    }
}

impl AsFd for WakeLine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ours.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wakes_are_one_and_a_late_waker_is_inert() {
        let line = WakeLine::open().expect("a descriptor is free");
        let waker = line.waker();
        assert!(!line.take());
        waker.wake();
        waker.wake();
        let written = (&line.ours).read(&mut [0; 8]);
        assert_eq!(written.expect("it is readable"), 1);
        assert!(line.take());
        assert!(!line.take());
        drop(line);
        waker.wake();
    }
}
