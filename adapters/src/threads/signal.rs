//! A descriptor that is readable while a signal is up.
//!
//! A pipe with at most one byte in it. Linux has the eventfd for this, one descriptor cheaper; a pipe is the same
//! everywhere, so that what is tested here is what runs there, and costs as much: both are one system call to raise
//! and one to lower.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// The end that raises.
#[derive(Debug)]
pub(super) struct Raiser(PipeWriter);

/// The end that is waited on, and that lowers.
#[derive(Debug)]
pub(super) struct Raised(PipeReader);

/// Both ends of a signal that is not up. Who uses them keeps account of whether it is, under a lock, so that it is
/// raised only while it is down and lowered only while it is up: then neither ever blocks.
///
/// # Errors
///
/// No descriptor is left.
pub(super) fn signal() -> io::Result<(Raiser, Raised)> {
    let (reader, writer) = io::pipe()?;
    Ok((Raiser(writer), Raised(reader)))
}

impl Raiser {
    pub(super) fn raise(&self) {
        // Fails only if the other end is gone, and nobody waits any more; `write_all` goes on after EINTR. No SIGPIPE:
        // both ends have one owner, who drops this one first.
        let _ = (&self.0).write_all(&[1]);
    }
}

impl Raised {
    pub(super) fn lower(&self) {
        // One byte is there: nothing to fail, but for a descriptor that somebody else closed.
        let _ = (&self.0).read_exact(&mut [0]);
    }
}

impl AsFd for Raised {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Raised {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
