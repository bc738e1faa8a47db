//! Non-blocking stream sockets for backends that read and write themselves, with what systems make hard about them:
//! connects that meet themselves, errors of accept that are not the listener's, stale socket files.

use std::fs;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use kraft_core::adapter::{CloseReason, Endpoint, Stats};
use kraft_core::outbox::{Outbox, Segments};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use crate::config::Config;

/// Slices of one gathering write. More pieces than these go out by another call.
const SLICES_MAX: usize = 64;

/// So many bytes put in answer to one event leave at once, not with the flush that ends the turn: a call is a fiftieth of
/// what they cost in TCP, and they are in the cache. Measured against bare epoll with 1,000 connections: messages of 16
/// and 64 KiB that waited for the flush, each in memory of its own connection, cost 1.2 and 1.4 of its CPU time, and
/// cost 1.03 and 1.1 when they leave at once, by way of buffers that all connections share.
pub const BULK: usize = 16 * 1024;

/// No signal if the connection is gone, and no waiting: some backends have sockets that block, for their readers. macOS
/// knew no MSG_NOSIGNAL for long; there SO_NOSIGPIPE does it, which socket2 sets.
const SEND_FLAGS: SendFlags = SendFlags::from_bits_retain((libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) as u32);

/// Probes that a silent peer may miss before keep-alive gives the connection up.
#[cfg(not(target_os = "openbsd"))]
const KEEPALIVE_PROBES: u32 = 3;

/// A connected, or connecting, stream socket. Closed when it is dropped.
#[derive(Debug)]
pub struct Stream(Socket);

/// What one write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bytes that the system took.
    pub bytes: usize,
    /// Whether it took less than it was offered, so that it has no room.
    pub short: bool,
}

impl Stream {
    /// Begins to connect. The outer error is ours (no descriptor, a path that is none); the inner one is known at
    /// once about the peer, and ends in `Closed` all the same.
    ///
    /// # Errors
    ///
    /// The outer one: the system's, without the endpoint; see [`named`].
    pub fn connect(to: &Endpoint, config: &Config) -> io::Result<(Self, io::Result<()>)> {
        let address = address(to)?;
        let socket = open(address.domain())?;
        if let Endpoint::Tcp(_) = to {
            set_tcp_options(&socket, config)?;
        }
        let outcome = match socket.connect(&address) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
            // EINTR: the connect goes on by itself, as POSIX has it.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            // A Unix socket answers so if the listener's queue is full, where TCP would try again by itself.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::ConnectionRefused.into()),
            outcome => outcome,
        };
        Ok((Self(socket), outcome))
    }

    /// Takes over a non-blocking connection that was accepted otherwise than by [`Acceptor::accept`].
    ///
    /// # Errors
    ///
    /// Its other end is gone already.
    pub fn accepted(fd: OwnedFd) -> io::Result<(Self, Endpoint)> {
        let socket = Socket::from(fd);
        let peer = endpoint(&socket.peer_addr()?);
        Ok((Self(socket), peer))
    }

    /// How a connect stands once the socket is writable or in error: `Ok(true)` if it is connected, `Ok(false)` if
    /// it is still on its way.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn connected(&self) -> io::Result<bool> {
        if let Some(error) = self.0.take_error()? {
            return Err(error);
        }
        let peer = match self.0.peer_addr() {
            Ok(peer) => peer,
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
            // macOS answers EINVAL once both directions have ended.
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(ErrorKind::ConnectionReset.into()),
            Err(error) => return Err(error),
        };
        // A TCP socket that dials a free port of its own host may be given that very port and then meets itself.
        if peer.as_socket().is_some() && self.0.local_addr()?.as_socket() == peer.as_socket() {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        Ok(true)
    }

    /// Reads into `buffer`; 0 is the peer's FIN.
    ///
    /// # Errors
    ///
    /// The system's, `WouldBlock` and `Interrupted` among them.
    #[inline]
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, count) = recv(&self.0, buffer, RecvFlags::empty())?;
        Ok(count)
    }

    /// Offers the first pieces to the system, by `sendmsg` only if there are several. Never raises SIGPIPE.
    ///
    /// # Errors
    ///
    /// The system's, `WouldBlock` and `Interrupted` among them.
    #[inline]
    pub fn send(&self, segments: &Segments) -> io::Result<Sent> {
        let Some(piece) = segments.as_slice() else {
            return self.send_gathered(segments);
        };
        let bytes = send(&self.0, piece, SEND_FLAGS)?;
        let short = bytes < piece.len();
        Ok(Sent { bytes, short })
    }

    /// On its own, since its slices take much of the stack.
    #[inline(never)]
    fn send_gathered(&self, segments: &Segments) -> io::Result<Sent> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = segments.io_slices(&mut slices);
        let slices = &slices[..count];
        let bytes = sendmsg(&self.0, slices, &mut SendAncillaryBuffer::default(), SEND_FLAGS)?;
        let offered = slices.iter().map(|slice| slice.len()).sum();
        let short = bytes < offered;
        Ok(Sent { bytes, short })
    }

    /// Hands the system what was put, until there is no more or it has no room, and settles the outbox's account.
    /// Whether there is room left; if not, come back when the socket is writable.
    ///
    /// # Errors
    ///
    /// The system's: the connection is broken, though bytes that came before may still be read.
    #[inline]
    pub fn send_all(&self, outbox: &mut Outbox, in_flight: &mut Segments, stats: &mut Stats) -> io::Result<bool> {
        while !in_flight.is_empty() || outbox.take(in_flight) > 0 {
            stats.syscalls += 1;
            match self.send(in_flight) {
                Ok(sent) => {
                    stats.bytes_out += sent.bytes as u64;
                    in_flight.advance(sent.bytes);
                    outbox.settle(in_flight.len());
                    if sent.short {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Sends FIN behind what was sent.
    ///
    /// # Errors
    ///
    /// The system's: the connection is gone.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self.0.shutdown(std::net::Shutdown::Write) {
            // It was connected: a reset that nobody has heard of came first.
            Err(error) if error.kind() == ErrorKind::NotConnected => {
                Err(self.take_error().unwrap_or_else(|| ErrorKind::ConnectionReset.into()))
            }
            done => done,
        }
    }

    /// The error that the socket is in, once.
    #[must_use]
    pub fn take_error(&self) -> Option<io::Error> {
        self.0.take_error().unwrap_or_else(Some)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A listening stream socket. Closed when it is dropped, and its socket file removed if it still is the one that was
/// bound.
#[derive(Debug)]
pub struct Acceptor {
    socket: Socket,
    file: Option<SocketFile>,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// What became of an attempt to accept.
#[derive(Debug)]
pub enum Accept {
    /// A connection and its other end.
    One(Stream, Endpoint),
    /// Nobody waits.
    Empty,
    /// One connection failed before it was accepted; others may wait.
    Failed,
    /// The system has no descriptor or memory for a connection that waits, and has none until something is closed.
    Exhausted,
}

impl Accept {
    /// What an error of accept means for the listener. Never `One`.
    #[must_use]
    pub fn failed(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Self::Empty,
            // Linux hands pending network errors of the new connection to accept; they are not the listener's.
            Some(
                libc::ECONNABORTED
                | libc::EINTR
                | libc::EPERM
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH,
            ) => Self::Failed,
            // EMFILE, ENFILE, ENOBUFS, ENOMEM; and an error that is not known must not be met in a busy loop.
            _ => Self::Exhausted,
        }
    }
}

impl Acceptor {
    /// Binds and listens. A socket file that nobody listens at is removed first (law A31).
    ///
    /// # Errors
    ///
    /// The system's, without the endpoint; see [`named`].
    pub fn listen(at: &Endpoint, backlog: u32, config: &Config) -> io::Result<Self> {
        let address = address(at)?;
        let socket = open(address.domain())?;
        let file = match at {
            Endpoint::Tcp(_) => {
                // Else a restart within a minute finds its port in TIME_WAIT.
                socket.set_reuse_address(true)?;
                // Accepted sockets inherit both, which saves three calls for each.
                set_tcp_options(&socket, config)?;
                socket.bind(&address)?;
                None
            }
            Endpoint::Unix(path) => {
                bind_path(&socket, &address, path)?;
                Some(SocketFile {
                    path: path.clone(),
                    identity: identity(path)?,
                })
            }
        };
        let acceptor = Self { socket, file };
        acceptor.socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(acceptor)
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn endpoint(&self) -> io::Result<Endpoint> {
        Ok(endpoint(&self.socket.local_addr()?))
    }

    /// Accepts one connection.
    #[must_use]
    pub fn accept(&self) -> Accept {
        match accept(&self.socket) {
            Ok((socket, peer)) => Accept::One(Stream(socket), endpoint(&peer)),
            Err(error) => Accept::failed(&error),
        }
    }

    /// Stops listening at once, also for who still holds the socket, and removes the socket file.
    pub fn stop(&mut self) {
        // A listener is woken and its port free; an error would say that it is no listener any more.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        self.remove_file();
    }

    fn remove_file(&mut self) {
        if let Some(file) = self.file.take()
            && identity(&file.path).is_ok_and(|identity| identity == file.identity)
        {
            // If it fails the file is stale, and the next to listen there removes it.
            let _ = fs::remove_file(&file.path);
        }
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Acceptor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.remove_file();
    }
}

/// Why a connection ended, from the system's error.
#[must_use]
pub fn close_reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        // NotFound: no socket file at the path.
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => CloseReason::Refused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => CloseReason::Reset,
        ErrorKind::TimedOut => CloseReason::TimedOut,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => CloseReason::Unreachable,
        kind => CloseReason::Failed(kind),
    }
}

/// An error that says what failed on what: `connect to 127.0.0.1:7101: Too many open files`.
#[must_use]
pub fn named(what: &str, at: &Endpoint, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {at}: {error}"))
}

fn open(domain: Domain) -> io::Result<Socket> {
    // Close-on-exec is set by `Socket::new`; both in the same call, but on macOS, which has no flags for a new socket.
    #[cfg(not(target_vendor = "apple"))]
    return Socket::new(domain, Type::STREAM.nonblocking(), None);
    #[cfg(target_vendor = "apple")]
    {
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

/// A connection that does not block and that no child inherits.
#[cfg(not(target_vendor = "apple"))]
fn accept(listener: &Socket) -> io::Result<(Socket, SockAddr)> {
    listener.accept4(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
}

/// macOS has no `accept4`: two more calls, and a child that is started between them inherits the descriptor.
#[cfg(target_vendor = "apple")]
fn accept(listener: &Socket) -> io::Result<(Socket, SockAddr)> {
    // It sets FD_CLOEXEC; SO_NOSIGPIPE is the listener's.
    let (socket, peer) = listener.accept()?;
    // EINVAL: the peer has reset it already, and nothing can be set any more.
    match socket.set_nonblocking(true) {
        Ok(()) => Ok((socket, peer)),
        Err(_) => Err(io::Error::from_raw_os_error(libc::ECONNABORTED)),
    }
}

fn set_tcp_options(socket: &Socket, config: &Config) -> io::Result<()> {
    if config.tcp_nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(idle) = config.tcp_keepalive {
        let keepalive = TcpKeepalive::new().with_time(idle);
        // The system's own probes are 75 s apart and nine: a dead peer would be held for twelve minutes. OpenBSD has
        // them for the whole system alone (net.inet.tcp.keepintvl).
        #[cfg(not(target_os = "openbsd"))]
        let keepalive = keepalive
            .with_interval((idle / KEEPALIVE_PROBES).max(std::time::Duration::from_secs(1)))
            .with_retries(KEEPALIVE_PROBES);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

fn address(endpoint: &Endpoint) -> io::Result<SockAddr> {
    match endpoint {
        Endpoint::Tcp(address) => Ok((*address).into()),
        Endpoint::Unix(path) => SockAddr::unix(path),
    }
}

fn endpoint(address: &SockAddr) -> Endpoint {
    match address.as_socket() {
        Some(address) => Endpoint::Tcp(address),
        // A Unix socket that dials has no path.
        None => Endpoint::Unix(address.as_pathname().map(Path::to_path_buf).unwrap_or_default()),
    }
}

/// Binds a Unix socket, over a socket file that nobody listens at if need be.
fn bind_path(socket: &Socket, address: &SockAddr, path: &Path) -> io::Result<()> {
    let error = match socket.bind(address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => error,
        outcome => return outcome,
    };
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Err(io::Error::new(
            ErrorKind::AddrInUse,
            "the path is taken by something that is no socket",
        ));
    }
    match open(Domain::UNIX)?.connect(address) {
        Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path)?;
            socket.bind(address)
        }
        _ => Err(error),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a31_a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let path = std::env::temp_dir().join(format!("kraft-sock-{}", std::process::id()));
        let at = Endpoint::Unix(path.clone());
        let config = Config::default();
        // The standard library's listener leaves its file behind.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("the path is free"));
        assert!(path.exists());

        let acceptor = Acceptor::listen(&at, 8, &config).expect("the file was stale");
        assert_eq!(acceptor.endpoint().expect("it is bound"), at);
        let taken = Acceptor::listen(&at, 8, &config).expect_err("somebody listens");
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        drop(acceptor);
        assert!(!path.exists(), "its own file goes with it");

        fs::write(&path, b"precious").expect("the folder is writable");
        Acceptor::listen(&at, 8, &config).expect_err("no socket is never removed");
        assert_eq!(fs::read(&path).expect("it is still there"), b"precious");
        fs::remove_file(&path).expect("it is ours");
    }

    #[test]
    fn tcp_options_are_set_on_both_ends() {
        let config = Config::default();
        let any = Endpoint::Tcp(([127, 0, 0, 1], 0).into());
        let acceptor = Acceptor::listen(&any, 8, &config).expect("loopback is there");
        let at = acceptor.endpoint().expect("it is bound");
        let (dialled, outcome) = Stream::connect(&at, &config).expect("a descriptor is free");
        outcome.expect("somebody listens");
        let Accept::One(accepted, _) = acceptor.accept() else {
            panic!("nobody came");
        };
        for socket in [&dialled.0, &accepted.0] {
            assert!(socket.tcp_nodelay().expect("it is a TCP socket"));
            assert!(socket.keepalive().expect("it is a TCP socket"));
            // OpenBSD has the time for the whole system alone.
            #[cfg(not(target_os = "openbsd"))]
            assert_eq!(socket.tcp_keepalive_time().ok(), config.tcp_keepalive);
            assert!(socket.nonblocking().expect("it is a socket"));
        }
    }
}
