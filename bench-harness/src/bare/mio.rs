//! mio without anything above it: edge-triggered, both interests registered once, a read that does not fill the buffer
//! says that there is no more. Its waker wakes it.

use std::io;
use std::os::fd::AsRawFd;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::conns::{Conns, Outcome, Reads};
use crate::inside;
use crate::job::Job;
use crate::serve::{self, Task};

/// Events of one wait.
const EVENTS: usize = 1024;

/// The listener's, or the waker's. Connections have their descriptors, which are ints.
const OWN: Token = Token(usize::MAX);

/// Serves on this thread.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(EVENTS);
    if !task.job.has_connections() {
        let waker = Waker::new(poll.registry(), OWN)?;
        let bell = inside::ring(task, move || {
            // Only a full counter fails, and that is readable.
            let _ = waker.wake();
        })?;
        loop {
            wait(&mut poll, &mut events)?;
            bell.hear();
        }
    }
    let listener = serve::listen()?;
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    poll.registry().register(&mut listener, OWN, Interest::READABLE)?;
    let mut conns = Conns::new(task.job, task.connections);
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            if event.token() == OWN {
                accept(&poll, &listener, &mut conns)?;
            } else {
                turn(&mut conns, event, task.job);
            }
        }
    }
}

fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, None) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

fn accept(poll: &Poll, listener: &TcpListener, conns: &mut Conns<TcpStream>) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(()),
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                _ => return Err(error),
            },
        };
        stream.set_nodelay(true)?;
        let at = stream.as_raw_fd() as usize;
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(at), both)?;
        conns.insert(at, stream);
    }
}

fn turn(conns: &mut Conns<TcpStream>, event: &Event, job: Job) {
    let at = event.token().0;
    let reads = if event.is_read_closed() || event.is_error() {
        Reads::ToTheEnd
    } else {
        Reads::UntilShort
    };
    if conns.turn(at, event.is_readable() || event.is_error(), reads) == Outcome::Over {
        // Closing takes it out of the epoll set.
        conns.remove(at);
    }
    if job == Job::FanOut {
        // Their edges come by themselves.
        while conns.newly_blocked().is_some() {}
    }
}
