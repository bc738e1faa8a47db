//! In mio: two descriptors and one wait, for the earlier of two deadlines.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, BorrowedFd};

use kraft::time::Instant;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::{Adder, Failure, Server};

const NODE: Token = Token(0);
const CLIENT: Token = Token(1);

fn watch(poll: &Poll, fd: Option<BorrowedFd<'_>>, token: Token) -> Result<(), Failure> {
    let fd = fd.ok_or("the backend has no descriptor to wait on")?;
    poll.registry()
        .register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
    Ok(())
}

/// A node and a client in one loop. Returns the sum.
///
/// # Errors
///
/// What ended either of them.
pub fn run(mut server: Server, mut adder: Adder) -> Result<i64, Failure> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(16);
    watch(&poll, server.poll_fd(), NODE)?;
    watch(&poll, adder.runner.poll_fd(), CLIENT)?;
    while !server.is_stopped() {
        // A turn without work costs next to nothing: both have theirs, whoever it was.
        server.turn(Some(Instant::ZERO))?;
        adder.runner.turn(Some(Instant::ZERO))?;
        adder.step()?;
        if adder.sum.is_some() {
            server.handle().stop();
        }
        let wait = [Some(server.next_wait()), adder.runner.next_wait()];
        match poll.poll(&mut events, wait.into_iter().flatten().min()) {
            // Signals, and io_uring's work for this thread, end a wait without an event.
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
    }
    adder.sum.ok_or_else(|| "the node stopped first".into())
}
