//! Connections are opened and speak for the first time, each in bounded time, and all of them too.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use mio::{Interest, Poll, Token};
use socket2::SockRef;

use super::INTERRUPT_NAP;
use crate::fault::Fault;
use crate::interrupt;
use crate::job::Job;
use crate::pattern::{Pattern, Place};
use crate::request;

/// What a connection may add to the time that all of them have. It costs 50 µs over loopback, and a thousand times that
/// where a server that starts threads for it shares its core with others.
const EACH_MAX: Duration = Duration::from_millis(100);

/// Connections to a server, one after the other.
#[derive(Debug)]
pub(super) struct Opening {
    at: SocketAddr,
    count: usize,
    patience: Duration,
    /// When all are to be there.
    end: Instant,
}

/// The first message of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Greeting {
    /// Of the connection.
    pub(super) number: usize,
    pub(super) place: Place,
    pub(super) size: usize,
}

impl Opening {
    /// `count` of them.
    pub(super) fn new(at: SocketAddr, count: usize, patience: Duration) -> Self {
        let each = EACH_MAX * u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            at,
            count,
            patience,
            end: Instant::now() + patience + each,
        }
    }

    /// Opens one.
    pub(super) fn open(&self, number: usize) -> Result<TcpStream, Fault> {
        if interrupt::is_asked() {
            return Err(Fault::Interrupted);
        }
        let left = self.end.saturating_duration_since(Instant::now()).min(self.patience);
        if left.is_zero() {
            return Err(self.all_too_late(number));
        }
        open(self.at, left).map_err(|fault| match fault {
            Fault::Stalled(what) => self.too_late(number, &what),
            Fault::Own(what) => Fault::Own(self.about(number, &what)),
            fault => fault,
        })
    }

    /// Sends a first message, or asks for it.
    pub(super) fn speak(&self, stream: &mut TcpStream, greeting: Greeting, job: Job) -> Result<(), Fault> {
        // One that blocked for longer would hear of a ^C too late: a timed read begins anew when a signal comes.
        let naps = stream.set_read_timeout(Some(INTERRUPT_NAP));
        let naps = naps.and_then(|()| stream.set_write_timeout(Some(INTERRUPT_NAP)));
        naps.map_err(|error| Fault::own("SO_RCVTIMEO", &error))?;
        let request = request::encode(greeting.place, greeting.size);
        let bytes = match job {
            Job::Pump => &request,
            _ => Pattern::shared().window(greeting.place, greeting.size),
        };
        self.pass(greeting.number, bytes.len(), |sent| stream.write(&bytes[sent..]))
    }

    /// Hears it back.
    pub(super) fn hear(&self, stream: &mut TcpStream, greeting: Greeting) -> Result<(), Fault> {
        let mut back = vec![0; greeting.size];
        self.pass(greeting.number, greeting.size, |came| stream.read(&mut back[came..]))?;
        match Pattern::shared().difference(greeting.place, &back) {
            None => Ok(()),
            Some(place) => Err(Fault::Corrupt(format!(
                "byte {place} of the first message is not what was sent"
            ))),
        }
    }

    /// Reads or writes so many bytes; `some` is told how many there are already, and blocks for a nap at most.
    fn pass(&self, number: usize, size: usize, mut some: impl FnMut(usize) -> io::Result<usize>) -> Result<(), Fault> {
        let end = Instant::now() + self.patience;
        let mut passed = 0;
        while passed < size {
            match some(passed) {
                Ok(0) => return Err(Fault::closed("the first message: the server closed a connection")),
                Ok(count) => passed += count,
                Err(error) if is_nap(error.kind()) => {}
                Err(error) => return Err(Fault::closed(format!("the first message: {error}"))),
            }
            if interrupt::is_asked() {
                return Err(Fault::Interrupted);
            }
            if passed < size && Instant::now() >= end {
                return Err(self.too_late(number, "its first message has no answer"));
            }
            if passed < size && Instant::now() >= self.end {
                return Err(self.all_too_late(number));
            }
        }
        Ok(())
    }

    fn all_too_late(&self, number: usize) -> Fault {
        Fault::Stalled(self.about(number, "the time that all of them have is over"))
    }

    fn about(&self, number: usize, what: &str) -> String {
        format!("connection {} of {}: {what}", number + 1, self.count)
    }

    fn too_late(&self, number: usize, what: &str) -> Fault {
        let patience = self.patience.as_secs_f64();
        Fault::Stalled(self.about(number, &format!("{what} within {patience} s")))
    }
}

fn is_nap(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// A connection that ends with a reset, not with ten thousand ports that wait for a minute.
pub(super) fn open(at: SocketAddr, patience: Duration) -> Result<TcpStream, Fault> {
    let stream = TcpStream::connect_timeout(&at, patience).map_err(|error| match error.kind() {
        _ if interrupt::is_asked() => Fault::Interrupted,
        ErrorKind::TimedOut => Fault::Stalled("it is not accepted".into()),
        // Who listened there does so no more.
        ErrorKind::ConnectionRefused => Fault::closed(format!("connect: {error}")),
        _ => Fault::own("connect", &error),
    })?;
    let set = stream.set_nodelay(true);
    let set = set.and_then(|()| SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
    set.map_err(|error| Fault::own("TCP_NODELAY", &error))?;
    Ok(stream)
}

/// Makes a connection one of the load's, under its number.
pub(super) fn register(stream: TcpStream, poll: &Poll, number: usize) -> Result<mio::net::TcpStream, Fault> {
    let nonblocking = stream.set_nonblocking(true);
    nonblocking.map_err(|error| Fault::own("O_NONBLOCK", &error))?;
    let mut stream = mio::net::TcpStream::from_std(stream);
    let both = Interest::READABLE | Interest::WRITABLE;
    let registered = poll.registry().register(&mut stream, Token(number), both);
    registered.map_err(|error| Fault::own("epoll_ctl", &error))?;
    Ok(stream)
}
