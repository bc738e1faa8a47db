//! polling without anything above it: level-triggered, which costs it fewer calls than its oneshot mode; a read an
//! event. `notify` wakes it.

use std::io;
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
    let poller = Arc::new(Poller::new()?);
    let mut events = Events::new();
    if !task.job.has_connections() {
        let notified = Arc::clone(&poller);
        let bell = inside::ring(task, move || {
            // It fails with the poller alone, which would be seen there.
            let _ = notified.notify();
        })?;
        loop {
            wait(&poller, &mut events)?;
            bell.hear();
        }
    }
    let listener = serve::listen()?;
    listener.set_nonblocking(true)?;
    // SAFETY: the listener lives as long as the poller.
    unsafe { poller.add_with_mode(&listener, Event::readable(OWN), PollMode::Level) }?;
    let mut conns = Conns::new(task.job, task.connections);
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

fn wait(poller: &Poller, events: &mut Events) -> io::Result<()> {
    events.clear();
    match poller.wait(events, None) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

fn insert(poller: &Poller, conns: &mut Conns<TcpStream>, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let at = stream.as_raw_fd() as usize;
    // SAFETY: it is deleted where it is removed, before it is dropped.
    unsafe { poller.add_with_mode(&stream, Event::readable(at), PollMode::Level) }?;
    conns.insert(at, stream);
    Ok(())
}

fn turn(poller: &Poller, conns: &mut Conns<TcpStream>, event: Event, job: Job) -> io::Result<()> {
    let at = event.key;
    let was_blocked = conns.is_blocked(at);
    match conns.turn(at, event.readable, Reads::Once) {
        Outcome::Over => {
            if let Some(stream) = conns.remove(at) {
                poller.delete(&stream)?;
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
