//! Where adapters are judged.

use std::any::Any;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kraft_core::adapter::{Adapter, Endpoint};
use socket2::SockRef;

use super::counting::Counting;
use crate::Config;

/// What a law needs: adapters that can reach each other, and other sides that are no adapter.
pub trait Environment {
    /// What is judged.
    type Adapter: Adapter;
    /// The other side of a connection.
    type Remote: Remote;

    /// Opens another adapter.
    ///
    /// # Errors
    ///
    /// The adapter's.
    fn open(&self, config: &Config) -> io::Result<Self::Adapter>;

    /// Dials an adapter, which need not have its turn for that.
    ///
    /// # Errors
    ///
    /// If nobody listens there.
    fn dial(&self, to: &Endpoint) -> io::Result<Self::Remote>;

    /// An endpoint that never answers.
    ///
    /// # Errors
    ///
    /// If there can be none.
    fn silent(&self) -> io::Result<Silent>;

    /// Whether time is virtual, so that the laws about it are exact.
    fn is_virtual(&self) -> bool {
        false
    }

    /// Allocations of this process so far, `None` if nobody counts them. [`Counting`] does, where it is the allocator.
    fn allocations(&self) -> Option<u64> {
        Counting::is_installed().then(Counting::allocations)
    }

    /// Bytes that this process has allocated at the time, `None` if nobody counts them. As [`Self::allocations`].
    fn live_bytes(&self) -> Option<u64> {
        Counting::is_installed().then(Counting::live_bytes)
    }
}

/// The other side of a connection. Reading and writing never block.
pub trait Remote: Read + Write + Send {
    /// Ends what it sends, and goes on reading.
    ///
    /// # Errors
    ///
    /// The system's.
    fn end(&mut self) -> io::Result<()>;

    /// Resets the connection.
    ///
    /// # Errors
    ///
    /// The system's.
    fn reset(self) -> io::Result<()>;
}

/// An endpoint that does not answer while this lives.
pub struct Silent {
    /// The endpoint.
    pub endpoint: Endpoint,
    _holds: Box<dyn Any>,
}

impl Silent {
    /// `holds` is what keeps it silent.
    pub fn new(endpoint: Endpoint, holds: impl Any) -> Self {
        Self {
            endpoint,
            _holds: Box::new(holds),
        }
    }
}

impl fmt::Debug for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Silent({})", self.endpoint)
    }
}

/// The environment of adapters that use the operating system's sockets: loopback, real time.
#[derive(Clone, Copy, Debug)]
pub struct Sockets<F> {
    open: F,
    allocations: Option<fn() -> u64>,
}

impl<A: Adapter, F: Fn(&Config) -> io::Result<A>> Sockets<F> {
    /// `open` opens an adapter.
    pub fn new(open: F) -> Self {
        Self {
            open,
            allocations: None,
        }
    }

    /// `allocations` says how many allocations all threads have made so far: of another global allocator than
    /// [`Counting`], which need not be given.
    #[must_use]
    pub fn counting(mut self, allocations: fn() -> u64) -> Self {
        self.allocations = Some(allocations);
        self
    }
}

impl<A: Adapter, F: Fn(&Config) -> io::Result<A>> Environment for Sockets<F> {
    type Adapter = A;
    type Remote = Socket;

    fn open(&self, config: &Config) -> io::Result<A> {
        (self.open)(config)
    }

    fn dial(&self, to: &Endpoint) -> io::Result<Socket> {
        Socket::dial(to)
    }

    /// A listener that does not accept, and whose queue is full: what dials it is dropped by the system.
    fn silent(&self) -> io::Result<Silent> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        let at = listener.local_addr()?;
        // A bound in case a system queues all: std asks for a queue of 128, on some systems of 4096.
        let mut queued = Vec::new();
        for _ in 0..5000 {
            match TcpStream::connect_timeout(&at, Duration::from_millis(200)) {
                Ok(stream) => queued.push(stream),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Ok(Silent::new(at.into(), (listener, queued)));
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the system queues without bound",
        ))
    }

    fn allocations(&self) -> Option<u64> {
        match self.allocations {
            Some(count) => Some(count()),
            None => Counting::is_installed().then(Counting::allocations),
        }
    }
}

/// A non-blocking socket of std.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Socket {
    fn dial(to: &Endpoint) -> io::Result<Self> {
        match to {
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect::<SocketAddr>(*address)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Ok(Self::Tcp(stream))
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Ok(Self::Unix(stream))
            }
        }
    }
}

impl Remote for Socket {
    fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn reset(self) -> io::Result<()> {
        match &self {
            // Closing with a linger of zero is what makes TCP reset.
            Self::Tcp(stream) => SockRef::from(stream).set_linger(Some(Duration::ZERO)),
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
