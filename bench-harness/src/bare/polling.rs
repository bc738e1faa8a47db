//! polling without anything above it: level-triggered, which costs it fewer calls than its oneshot mode; a read an
//! event. `notify` wakes it.

use std::io;
use std::mem;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use polling::{Event, Events, PollMode, Poller};

use super::conns::{Conns, Outcome, Reads};
use crate::inside;
use crate::job::Job;
use crate::serve::{self, Task};

/// The listener's. Connections have their descriptors, which are ints.
const OWN: usize = usize::MAX - 1;

/// Serves on this thread.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    let mut events = Events::new();
    if !task.job.has_connections() {
        return be_woken(task, &mut events);
    }
    let listener = serve::listen()?;
    listener.set_nonblocking(true)?;
    let mut conns = Conns::new(task.job, task.connections);
    // Behind its sources: whatever ends this function, it is gone before they are.
    let poller = Poller::new()?;
    // SAFETY: the listener is declared above and moved nowhere, so it is dropped behind the poller, which has nothing
    // registered any more by then.
    unsafe { poller.add_with_mode(&listener, Event::readable(OWN), PollMode::Level) }?;
    loop {
        wait(&poller, &mut events)?;
        for event in events.iter() {
            if event.key == OWN {
                loop {
                    match listener.accept() {
                        Ok((stream, _)) => insert(&poller, &mut conns, stream)?,
                        Err(error) => match error.kind() {
                            io::ErrorKind::WouldBlock => break,
                            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                            _ => return Err(error),
                        },
                    }
                }
            } else {
                turn(&poller, &mut conns, event, task.job)?;
            }
        }
    }
}

/// Without connections: another thread notifies.
fn be_woken(task: &Task, events: &mut Events) -> io::Result<()> {
    let poller = Arc::new(Poller::new()?);
    let notified = Arc::clone(&poller);
    let bell = inside::ring(task, move || {
        // It fails with the poller alone, which would be seen there.
        let _ = notified.notify();
    })?;
    loop {
        wait(&poller, events)?;
        bell.hear();
    }
}

fn wait(poller: &Poller, events: &mut Events) -> io::Result<()> {
    events.clear();
    match poller.wait(events, None) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// `conns` outlive the poller: `serve` declares them before it.
fn insert(poller: &Poller, conns: &mut Conns<TcpStream>, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let at = stream.as_raw_fd() as usize;
    // SAFETY: where this fails it is not registered. Otherwise it goes to `conns`, at a place that is free, since a
    // descriptor is nobody else's. `turn` alone takes it from there, and drops it when it is deleted; what is left in
    // `conns` is dropped behind the poller.
    unsafe { poller.add_with_mode(&stream, Event::readable(at), PollMode::Level) }?;
    conns.insert(at, stream);
    Ok(())
}

fn turn(poller: &Poller, conns: &mut Conns<TcpStream>, event: Event, job: Job) -> io::Result<()> {
    let at = event.key;
    let was_blocked = conns.is_blocked(at);
    match conns.turn(at, event.readable, Reads::Once) {
        Outcome::Over => {
            if let Some(stream) = conns.remove(at)
                && let Err(error) = poller.delete(&stream)
            {
                // It is registered still: better a descriptor that stays open than one that the poller has and nobody
                // else.
                mem::forget(stream);
                return Err(error);
            }
        }
        outcome if (outcome == Outcome::Blocked) != was_blocked => ask(poller, conns, at)?,
        _ => {}
    }
    if job == Job::FanOut {
        while let Some(at) = conns.newly_blocked() {
            ask(poller, conns, at)?;
        }
    }
    Ok(())
}

/// Registers what a connection waits for.
fn ask(poller: &Poller, conns: &Conns<TcpStream>, at: usize) -> io::Result<()> {
    let Some(stream) = conns.socket(at) else {
        return Ok(());
    };
    let interest = if conns.is_blocked(at) {
        Event::writable(at)
    } else {
        Event::readable(at)
    };
    poller.modify_with_mode(stream, interest, PollMode::Level)
}
