//! In tokio: each descriptor is an `AsyncFd`, each deadline a timeout.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use kraft::time::Instant;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use crate::{Adder, Failure, Server};

/// A copy of the descriptor, so that it can be waited for while its owner is turned.
fn watch(fd: Option<BorrowedFd<'_>>) -> Result<AsyncFd<OwnedFd>, Failure> {
    let fd = fd.ok_or("the backend has no descriptor to wait on")?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe; an OwnedFd is open as long as the AsyncFd has it"
    )]
    let watched = AsyncFd::with_interest(fd.try_clone_to_owned()?, Interest::READABLE)?;
    Ok(watched)
}

/// Waits until there is work, or for `wait`.
async fn work(fd: &AsyncFd<OwnedFd>, wait: Option<Duration>) -> Result<(), Failure> {
    let wait = wait.unwrap_or(Duration::MAX);
    if let Ok(ready) = timeout(wait, fd.readable()).await {
        // tokio hears of a change once: forgotten before the turn, which looks at everything that was there.
        ready?.clear_ready();
    }
    Ok(())
}

/// Turns a node until it is stopped.
///
/// # Errors
///
/// What ended the node.
pub async fn serve(mut server: Server) -> Result<(), Failure> {
    let fd = watch(server.poll_fd())?;
    while !server.is_stopped() {
        let wait = server.next_wait();
        work(&fd, Some(wait)).await?;
        server.turn(Some(Instant::ZERO))?;
    }
    Ok(())
}

/// Turns a client until its numbers are added. Returns the sum.
///
/// # Errors
///
/// A number was not added.
pub async fn add(mut adder: Adder) -> Result<i64, Failure> {
    let fd = watch(adder.runner.poll_fd())?;
    loop {
        adder.runner.turn(Some(Instant::ZERO))?;
        adder.step()?;
        if let Some(sum) = adder.sum {
            return Ok(sum);
        }
        let wait = adder.runner.next_wait();
        work(&fd, wait).await?;
    }
}

/// A node and a client, two tasks of one runtime. Returns the sum.
///
/// # Errors
///
/// What ended either of them.
pub fn run(server: Server, adder: Adder) -> Result<i64, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = server.handle();
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let served = spawn_local(serve(server));
        let sum = add(adder).await;
        handle.stop();
        served.await??;
        sum
    })
}
