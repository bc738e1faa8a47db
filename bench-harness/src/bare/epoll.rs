//! epoll by hand, edge-triggered and level-triggered.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send, sockopt};

use crate::serve::{self, READ_BUFFER, Task};

/// Events of one wait.
const EVENTS: usize = 1024;

/// Edge-triggered, both interests registered once; a read that does not fill the buffer says that there is no more.
pub(crate) fn serve_edge(task: &Task) -> io::Result<()> {
    Server::<true>::new(task)?.run()
}

/// Level-triggered: a read an event; the write interest is taken while bytes are unsent, the read interest dropped.
pub(crate) fn serve_level(task: &Task) -> io::Result<()> {
    Server::<false>::new(task)?.run()
}

struct Server<const EDGE: bool> {
    epoll: OwnedFd,
    listener: TcpListener,
    /// By descriptor: the system gives the lowest one that is free, so the table is dense.
    conns: Vec<Option<Conn>>,
    buffer: Vec<u8>,
    /// How long it looks for events before it sleeps.
    spin: Duration,
}

struct Conn {
    socket: OwnedFd,
    /// What the system did not take. Nothing is read until it has.
    unsent: Vec<u8>,
    sent: usize,
}

/// How reading or writing ended.
#[derive(PartialEq, Eq)]
enum Outcome {
    Goes,
    /// Unsent bytes wait for the socket.
    Blocked,
    Over,
}

impl<const EDGE: bool> Server<EDGE> {
    fn new(task: &Task) -> io::Result<Self> {
        let listener = serve::listen()?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, token(&listener), EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            conns: Vec::with_capacity(task.connections),
            buffer: vec![0; READ_BUFFER],
            spin: task.spin,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let own = self.listener.as_raw_fd() as u64;
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            self.wait(&mut events)?;
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
            epoll::add(&self.epoll, &socket, token(&socket), interest)?;
            let at = socket.as_raw_fd() as usize;
            if self.conns.len() <= at {
                self.conns.resize_with(at + 1, || None);
            }
            let (unsent, sent) = (Vec::new(), 0);
            self.conns[at] = Some(Conn { socket, unsent, sent });
        }
    }

    fn turn(&mut self, at: usize, flags: EventFlags) -> io::Result<()> {
        let Some(conn) = self.conns.get_mut(at).and_then(Option::as_mut) else {
            return Ok(());
        };
        let was_blocked = !conn.unsent.is_empty();
        let mut outcome = Outcome::Goes;
        if was_blocked {
            outcome = conn.flush();
        }
        // What came while it was blocked had its edge already.
        if outcome == Outcome::Goes && (was_blocked || flags.intersects(READABLE)) {
            let to_the_end = EDGE && flags.intersects(ENDING);
            outcome = conn.echo::<EDGE>(&mut self.buffer, to_the_end);
        }
        if outcome == Outcome::Over {
            // Closing takes it out of the epoll set.
            self.conns[at] = None;
            return Ok(());
        }
        let is_blocked = outcome == Outcome::Blocked;
        if !EDGE && is_blocked != was_blocked {
            let interest = if is_blocked { EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(&self.epoll, &conn.socket, token(&conn.socket), interest)?;
        }
        Ok(())
    }
}

const READABLE: EventFlags = EventFlags::IN.union(ENDING);
const ENDING: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);

fn token(source: impl AsFd) -> EventData {
    EventData::new_u64(source.as_fd().as_raw_fd() as u64)
}

impl Conn {
    /// Reads and answers: edge-triggered until a short read, or until the end if the peer is through; level-triggered
    /// once.
    fn echo<const EDGE: bool>(&mut self, buffer: &mut [u8], to_the_end: bool) -> Outcome {
        loop {
            let count = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((_, 0)) => return Outcome::Over,
                Ok((_, count)) => count,
                Err(Errno::AGAIN) => return Outcome::Goes,
                Err(Errno::INTR) => continue,
                Err(_) => return Outcome::Over,
            };
            let sent = match send(&self.socket, &buffer[..count], SendFlags::NOSIGNAL) {
                Ok(sent) => sent,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(_) => return Outcome::Over,
            };
            if sent < count {
                self.unsent.extend_from_slice(&buffer[sent..count]);
                return self.flush();
            }
            if !EDGE || (count < buffer.len() && !to_the_end) {
                return Outcome::Goes;
            }
        }
    }

    /// Sends what is unsent, until it is or the socket takes no more.
    fn flush(&mut self) -> Outcome {
        while self.sent < self.unsent.len() {
            match send(&self.socket, &self.unsent[self.sent..], SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent += sent,
                Err(Errno::AGAIN) => return Outcome::Blocked,
                Err(Errno::INTR) => {}
                Err(_) => return Outcome::Over,
            }
        }
        self.unsent.clear();
        self.sent = 0;
        Outcome::Goes
    }
}
