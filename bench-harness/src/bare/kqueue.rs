//! kqueue by hand: the read interest registered once and told of changes alone, the write interest for one event and only
//! while bytes are unsent. Changes go with the next wait, so that none costs a call. An `EVFILT_USER` wakes it.
//!
//! It is compiled and linted for the BSDs and macOS (`cargo ci bsd`). It has never run.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::buffer::spare_capacity;
use rustix::event::kqueue::{Event, EventFilter, EventFlags, kevent, kqueue};
use rustix::io::Errno;
use rustix::net::sockopt;

use super::conns::{Conns, Outcome, Reads};
use crate::job::Job;
use crate::serve::{self, Task};

/// Events of one wait.
const EVENTS: usize = 1024;

/// Serves on this thread.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    // Where nothing can be triggered the engine lacks these jobs.
    #[cfg(any(target_vendor = "apple", target_os = "dragonfly", target_os = "freebsd"))]
    if !task.job.has_connections() {
        return wake(task);
    }
    Server::new(task)?.run()
}

struct Server {
    queue: Queue,
    listener: TcpListener,
    /// By descriptor: the system gives the lowest one that is free, so the table is dense.
    conns: Conns<OwnedFd>,
    job: Job,
}

impl Server {
    fn new(task: &Task) -> io::Result<Self> {
        let listener = serve::listen()?;
        listener.set_nonblocking(true)?;
        let mut queue = Queue::new()?;
        // Told of its state: who is left in its queue is told of again.
        queue.ask(EventFilter::Read(listener.as_raw_fd()), EventFlags::empty());
        Ok(Self {
            queue,
            listener,
            conns: Conns::new(task.job, task.connections),
            job: task.job,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let own = self.listener.as_raw_fd();
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            self.queue.wait(&mut events)?;
            for event in &events {
                let flags = event.flags();
                if flags.contains(EventFlags::ERROR) {
                    // A change was refused.
                    return Err(io::Error::from_raw_os_error(event.data() as i32));
                }
                match event.filter() {
                    // So many wait to be accepted.
                    EventFilter::Read(fd) if fd == own => self.accept(event.data())?,
                    // With the end of the stream a short read says nothing: FIN stands behind the bytes.
                    EventFilter::Read(fd) if flags.contains(EventFlags::EOF) => self.turn(fd, true, Reads::ToTheEnd),
                    EventFilter::Read(fd) => self.turn(fd, true, Reads::UntilShort),
                    EventFilter::Write(fd) => self.writable(fd),
                    _ => {}
                }
            }
        }
    }

    fn accept(&mut self, waiting: i64) -> io::Result<()> {
        for _ in 0..waiting.max(1) {
            let socket = match accept(&self.listener) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => break,
                // It is told of again.
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return Err(error.into()),
            };
            sockopt::set_tcp_nodelay(&socket, true)?;
            let fd = socket.as_raw_fd();
            // What came before this is told of too.
            self.queue.ask(EventFilter::Read(fd), EventFlags::CLEAR);
            self.conns.insert(fd as usize, socket);
        }
        Ok(())
    }

    /// The socket has room again; the interest in that is gone.
    fn writable(&mut self, fd: RawFd) {
        // What came meanwhile, the end included, has been told of.
        self.turn(fd, false, Reads::ToTheEnd);
        if self.conns.is_blocked(fd as usize) {
            self.ask_for_room(fd);
        }
    }

    fn turn(&mut self, fd: RawFd, is_readable: bool, reads: Reads) {
        let at = fd as usize;
        let was_blocked = self.conns.is_blocked(at);
        match self.conns.turn(at, is_readable, reads) {
            Outcome::Over => {
                self.queue.forget(fd);
                // Closing takes it out of the queue.
                drop(self.conns.remove(at));
            }
            Outcome::Blocked if !was_blocked => self.ask_for_room(fd),
            _ => {}
        }
        if self.job == Job::FanOut {
            while let Some(at) = self.conns.newly_blocked() {
                self.ask_for_room(at as RawFd);
            }
        }
    }

    /// Once: every acknowledgement makes room, and would be an event.
    fn ask_for_room(&mut self, fd: RawFd) {
        if self.conns.socket(fd as usize).is_some() {
            self.queue.ask(EventFilter::Write(fd), EventFlags::ONESHOT);
        }
    }
}

/// The queue, and what is to be changed about it.
struct Queue {
    kqueue: OwnedFd,
    /// Each is of a socket that is open.
    changes: Vec<Event>,
}

impl Queue {
    fn new() -> io::Result<Self> {
        Ok(Self {
            kqueue: kqueue()?,
            changes: Vec::with_capacity(EVENTS),
        })
    }

    /// Adds an interest, with the next wait.
    fn ask(&mut self, what: EventFilter, flags: EventFlags) {
        let change = Event::new(what, EventFlags::ADD | flags, ptr::null_mut());
        self.changes.push(change);
    }

    /// The socket is about to be closed.
    fn forget(&mut self, fd: RawFd) {
        let is_of_another = |change: &Event| match change.filter() {
            EventFilter::Read(own) | EventFilter::Write(own) => own != fd,
            _ => true,
        };
        self.changes.retain(is_of_another);
    }

    fn wait(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        events.clear();
        // SAFETY: the descriptors of the changes are those of sockets that their owner, the server, has open: `forget`
        // takes out what is about to be closed, and closing takes a socket out of the queue. Nobody is told of one under
        // a number that is another's by then but in the events of one wait, and those are looked up in the server's table.
        let waited = unsafe { kevent(&self.kqueue, &self.changes, spare_capacity(events), None) };
        match waited {
            // kqueue(2): all changes are applied before it is interrupted.
            Ok(_) | Err(Errno::INTR) => {
                self.changes.clear();
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// In one call.
#[cfg(not(target_vendor = "apple"))]
fn accept(listener: &TcpListener) -> Result<OwnedFd, Errno> {
    use rustix::net::{SocketFlags, accept_with};

    accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
}

/// Apple's has no accept4.
#[cfg(target_vendor = "apple")]
fn accept(listener: &TcpListener) -> Result<OwnedFd, Errno> {
    let socket = rustix::net::accept(listener)?;
    rustix::io::ioctl_fioclex(&socket)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// A bare event that the program triggers itself, told of once for all that triggered it since.
#[cfg(any(target_vendor = "apple", target_os = "dragonfly", target_os = "freebsd"))]
fn wake(task: &Task) -> io::Result<()> {
    use std::sync::Arc;

    use rustix::event::kqueue::{UserDefinedFlags, UserFlags};

    let user = |flags| EventFilter::User {
        ident: 0,
        flags,
        user_flags: UserDefinedFlags::new(0),
    };
    let queue = Arc::new(kqueue()?);
    let add = EventFlags::ADD | EventFlags::CLEAR;
    let bell = Event::new(user(UserFlags::NOINPUT), add, ptr::null_mut());
    // SAFETY: the event is of no descriptor.
    unsafe { kevent(&*queue, &[bell], <&mut [Event]>::default(), None) }?;
    let rung = Arc::clone(&queue);
    let wakes = super::wakes::start(task, move || {
        let ring = Event::new(user(UserFlags::TRIGGER), EventFlags::empty(), ptr::null_mut());
        // SAFETY: as above. It fails for an event that is not there.
        let _ = unsafe { kevent(&*rung, &[ring], <&mut [Event]>::default(), None) };
    })?;
    let mut events: Vec<Event> = Vec::with_capacity(1);
    loop {
        events.clear();
        // SAFETY: nothing is changed.
        match unsafe { kevent(&*queue, &[], spare_capacity(&mut events), None) } {
            Ok(_) | Err(Errno::INTR) => wakes.hear(),
            Err(error) => return Err(error.into()),
        }
    }
}
