//! epoll by hand, edge-triggered and level-triggered; an eventfd wakes it.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};

use super::conns::{Conns, Outcome, Reads};
use super::wakes;
use crate::job::Job;
use crate::serve::{self, Task};

/// Events of one wait.
const EVENTS: usize = 1024;

/// Edge-triggered, both interests registered once; a read that does not fill the buffer says that there is no more.
pub(crate) fn serve_edge(task: &Task) -> io::Result<()> {
    serve::<true>(task)
}

/// Level-triggered: a read an event; the write interest is taken while bytes are unsent, the read interest dropped.
pub(crate) fn serve_level(task: &Task) -> io::Result<()> {
    serve::<false>(task)
}

fn serve<const EDGE: bool>(task: &Task) -> io::Result<()> {
    if task.job.has_connections() {
        Server::<EDGE>::new(task)?.run()
    } else {
        wake::<EDGE>(task)
    }
}

struct Server<const EDGE: bool> {
    waits: Waits,
    listener: TcpListener,
    /// By descriptor: the system gives the lowest one that is free, so the table is dense.
    conns: Conns<OwnedFd>,
    job: Job,
}

impl<const EDGE: bool> Server<EDGE> {
    fn new(task: &Task) -> io::Result<Self> {
        let listener = serve::listen()?;
        listener.set_nonblocking(true)?;
        let waits = Waits::new(task.spin)?;
        epoll::add(&waits.epoll, &listener, token(&listener), EventFlags::IN)?;
        Ok(Self {
            waits,
            listener,
            conns: Conns::new(task.job, task.connections),
            job: task.job,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let own = self.listener.as_raw_fd() as u64;
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            self.waits.wait(&mut events)?;
            for event in &events {
                let (flags, data) = (event.flags, event.data);
                if data.u64() == own {
                    self.accept()?;
                } else {
                    self.turn(data.u64() as usize, flags)?;
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let socket = match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return Err(error.into()),
            };
            sockopt::set_tcp_nodelay(&socket, true)?;
            let interest = if EDGE {
                // With RDHUP a FIN that came with the last bytes is seen although the read was short.
                EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET
            } else {
                EventFlags::IN
            };
            epoll::add(&self.waits.epoll, &socket, token(&socket), interest)?;
            self.conns.insert(socket.as_raw_fd() as usize, socket);
        }
    }

    fn turn(&mut self, at: usize, flags: EventFlags) -> io::Result<()> {
        let reads = match EDGE {
            true if flags.intersects(ENDING) => Reads::ToTheEnd,
            true => Reads::UntilShort,
            false => Reads::Once,
        };
        let was_blocked = self.conns.is_blocked(at);
        match self.conns.turn(at, flags.intersects(READABLE), reads) {
            // Closing takes it out of the epoll set.
            Outcome::Over => drop(self.conns.remove(at)),
            outcome if !EDGE && (outcome == Outcome::Blocked) != was_blocked => self.ask(at)?,
            _ => {}
        }
        if self.job == Job::FanOut {
            while let Some(at) = self.conns.newly_blocked() {
                if !EDGE {
                    self.ask(at)?;
                }
            }
        }
        Ok(())
    }

    /// Registers what a connection of a level-triggered loop waits for.
    fn ask(&self, at: usize) -> io::Result<()> {
        let Some(socket) = self.conns.socket(at) else {
            return Ok(());
        };
        let is_blocked = self.conns.is_blocked(at);
        let interest = if is_blocked { EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.waits.epoll, socket, token(socket), interest)?)
    }
}

const READABLE: EventFlags = EventFlags::IN.union(ENDING);
const ENDING: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);

fn token(source: impl AsFd) -> EventData {
    EventData::new_u64(source.as_fd().as_raw_fd() as u64)
}

/// The epoll set and how it waits.
struct Waits {
    epoll: OwnedFd,
    /// How long it looks for events before it sleeps.
    spin: Duration,
}

impl Waits {
    fn new(spin: Duration) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, spin })
    }

    fn wait(&self, events: &mut Vec<Event>) -> io::Result<()> {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        events.clear();
        if !self.spin.is_zero() {
            let enough = Instant::now() + self.spin;
            while events.is_empty() && Instant::now() < enough {
                self.wait_for(events, Some(&AT_ONCE))?;
            }
        }
        if events.is_empty() {
            self.wait_for(events, None)?;
        }
        Ok(())
    }

    fn wait_for(&self, events: &mut Vec<Event>, timeout: Option<&Timespec>) -> io::Result<()> {
        match epoll::wait(&self.epoll, spare_capacity(events), timeout) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A bare eventfd. Edge-triggered each write is an edge, so nothing has to be read.
fn wake<const EDGE: bool>(task: &Task) -> io::Result<()> {
    let waits = Waits::new(task.spin)?;
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let trigger = if EDGE { EventFlags::ET } else { EventFlags::empty() };
    epoll::add(&waits.epoll, &bell, token(&bell), EventFlags::IN | trigger)?;
    let wakes = wakes::by_eventfd(task, bell.try_clone()?)?;
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        waits.wait(&mut events)?;
        if !EDGE {
            // It fails if a signal ended the wait: there is nothing to be read.
            let _ = rustix::io::read(&bell, &mut [0; 8]);
        }
        wakes.hear();
    }
}
