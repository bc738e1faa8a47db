//! In a loop over epoll by hand, level-triggered.

use std::os::fd::{BorrowedFd, OwnedFd};

use kraft::time::Instant;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::{Adder, Failure, Server};

fn watch(outer: &OwnedFd, fd: Option<BorrowedFd<'_>>, token: u64) -> Result<(), Failure> {
    let fd = fd.ok_or("the backend has no descriptor to wait on")?;
    epoll::add(outer, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?;
    Ok(())
}

/// A node and a client in one loop. Returns the sum.
///
/// # Errors
///
/// What ended either of them.
pub fn run(mut server: Server, mut adder: Adder) -> Result<i64, Failure> {
    let outer = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut events = Vec::with_capacity(16);
    watch(&outer, server.poll_fd(), 0)?;
    watch(&outer, adder.runner.poll_fd(), 1)?;
    while !server.is_stopped() {
        server.turn(Some(Instant::ZERO))?;
        adder.runner.turn(Some(Instant::ZERO))?;
        adder.step()?;
        if adder.sum.is_some() {
            server.handle().stop();
        }
        let wait = [Some(server.next_wait()), adder.runner.next_wait()];
        let wait = wait.into_iter().flatten().min().map(Timespec::try_from).transpose()?;
        events.clear();
        match epoll::wait(&outer, spare_capacity(&mut events), wait.as_ref()) {
            // Signals, and io_uring's work for this thread, end a wait without an event.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    adder.sum.ok_or_else(|| "the node stopped first".into())
}
