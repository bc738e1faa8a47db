//! An environment whose adapters encrypt, around one whose adapters do not.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

use kraft_adapters::Config;
use kraft_adapters::conformance::{Environment, Remote, Silent};
use kraft_adapters::tls::rustls::ClientConnection;
use kraft_adapters::tls::rustls::pki_types::ServerName;
use kraft_adapters::tls::{self, Tls};
use kraft_core::adapter::{Adapter, Capabilities, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

use super::certificates::Authority;

/// `inner`, with everything encrypted, both sides known by certificates.
pub(crate) struct Encrypted<E: Environment> {
    inner: E,
    remotes: Remotes<E::Remote>,
}

/// All remotes of an environment. A handshake takes the remote's part too, and a law waits for an adapter alone: so the
/// remotes have their turns when an adapter has its own.
type Remotes<R> = Arc<Mutex<Vec<Weak<Mutex<Session<R>>>>>>;

impl<E: Environment> Encrypted<E> {
    pub(crate) fn new(inner: E) -> Self {
        Self {
            inner,
            remotes: Arc::default(),
        }
    }
}

/// Certificates of this process, and what is made of them.
fn config() -> &'static tls::Config {
    static CONFIG: OnceLock<tls::Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let authority = Authority::new();
        let (authorities, own) = (authority.authorities(), authority.node("kraft://laws/node/1"));
        let acceptor = tls::acceptor(&own, Some(&authorities)).expect("it can be used");
        tls::Config {
            peers: Some(Arc::clone(&acceptor)),
            clients: Some(Arc::clone(&acceptor)),
            others: Some(acceptor),
            dial: Some(tls::dialler(&authorities, Some(&own)).expect("it can be used")),
            // A thousand at once take a while where nothing is optimised and other laws run beside.
            handshake_timeout: Duration::from_secs(60),
        }
    })
}

impl<E: Environment> Environment for Encrypted<E> {
    type Adapter = Judged<E>;
    type Remote = EncryptedRemote<E::Remote>;

    fn open(&self, adapter: &Config) -> io::Result<Judged<E>> {
        let inner = self.inner.open(adapter)?;
        Ok(Judged {
            tls: Tls::new(inner, adapter, config().clone(), |_| ())?,
            remotes: Arc::clone(&self.remotes),
        })
    }

    fn dial(&self, to: &Endpoint) -> io::Result<EncryptedRemote<E::Remote>> {
        let dial = config().dial.clone().expect("it is set above");
        let name = ServerName::try_from("remote.test").expect("it is a name");
        let session = Session {
            session: ClientConnection::new(dial, name).map_err(io::Error::other)?,
            io: Some(self.inner.dial(to)?),
            ending: false,
            ended: false,
            failed: None,
        };
        let session = Arc::new(Mutex::new(session));
        lock(&session).pump();
        let mut remotes = self.remotes.lock().expect("no pump panicked");
        remotes.retain(|remote| remote.strong_count() > 0);
        remotes.push(Arc::downgrade(&session));
        Ok(EncryptedRemote(session))
    }

    fn silent(&self) -> io::Result<Silent> {
        self.inner.silent()
    }

    fn is_virtual(&self) -> bool {
        self.inner.is_virtual()
    }

    fn allocations(&self) -> Option<u64> {
        self.inner.allocations()
    }
}

fn lock<R>(session: &Mutex<Session<R>>) -> MutexGuard<'_, Session<R>> {
    session.lock().expect("no pump panicked")
}

/// The wrapper under judgement; in its turns the remotes have theirs.
pub(crate) struct Judged<E: Environment> {
    tls: Tls<E::Adapter>,
    remotes: Remotes<E::Remote>,
}

impl<E: Environment> Judged<E> {
    fn pump(&self) {
        let remotes = self.remotes.lock().expect("no pump panicked").clone();
        for remote in remotes.iter().filter_map(Weak::upgrade) {
            lock(&remote).pump();
        }
    }
}

impl<E: Environment> Adapter for Judged<E> {
    fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
        self.tls.listen(at, options)
    }

    fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
        self.tls.local_endpoint(listener)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.tls.unlisten(listener);
    }

    fn connect(&mut self, to: &Endpoint) -> io::Result<ConnId> {
        self.tls.connect(to)
    }

    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        self.tls.link(conn)
    }

    fn timers(&mut self) -> &mut Timers {
        self.tls.timers()
    }

    fn now(&self) -> Instant {
        self.tls.now()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tls.flush()
    }

    fn poll<F: FnMut(Instant, Event<'_>)>(&mut self, deadline: Option<Instant>, on_event: F) -> io::Result<usize> {
        self.pump();
        let polled = self.tls.poll(deadline, on_event);
        self.pump();
        polled
    }

    fn waker(&self) -> Waker {
        self.tls.waker()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pump();
        self.tls.poll_fd()
    }

    fn capabilities(&self) -> Capabilities {
        self.tls.capabilities()
    }

    fn stats(&self) -> Stats {
        self.tls.stats()
    }

    fn name(&self) -> &'static str {
        self.tls.name()
    }
}

/// The other side of a connection, which is no adapter.
pub(crate) struct EncryptedRemote<R: Remote>(Arc<Mutex<Session<R>>>);

struct Session<R> {
    session: ClientConnection,
    /// `None` once it was reset.
    io: Option<R>,
    /// It is to end, or has.
    ending: bool,
    ended: bool,
    failed: Option<ErrorKind>,
}

impl<R: Remote> Session<R> {
    /// Moves what can be moved.
    fn pump(&mut self) {
        let Self {
            session,
            io: Some(io),
            failed,
            ..
        } = self
        else {
            return;
        };
        loop {
            let mut moved = false;
            if session.wants_write() {
                match session.write_tls(io) {
                    Ok(count) => moved |= count > 0,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => *failed = Some(error.kind()),
                }
            }
            // What is not read by the law stays with the system.
            if session.wants_read() && failed.is_none() {
                match session.read_tls(io) {
                    Ok(count) => moved |= count > 0,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => *failed = Some(error.kind()),
                }
                if session.process_new_packets().is_err() {
                    *failed = Some(ErrorKind::InvalidData);
                }
            }
            if !moved || failed.is_some() {
                break;
            }
        }
        if self.ending && !session.is_handshaking() {
            session.send_close_notify();
            let _ = session.write_tls(io);
            if !session.wants_write() && !self.ended {
                self.ended = true;
                let _ = io.end();
            }
        }
    }
}

/// As a socket that is dropped: the end is said if there is room for it, and nobody is waited for.
impl<R: Remote> Drop for EncryptedRemote<R> {
    fn drop(&mut self) {
        // A law that failed says so itself.
        if let Ok(mut session) = self.0.lock() {
            session.ending = true;
            session.pump();
        }
    }
}

impl<R: Remote> Read for EncryptedRemote<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut session = lock(&self.0);
        session.pump();
        match session.session.reader().read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(session.failed.unwrap_or(ErrorKind::WouldBlock).into())
            }
            outcome => outcome,
        }
    }
}

impl<R: Remote> Write for EncryptedRemote<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut session = lock(&self.0);
        session.pump();
        if let Some(kind) = session.failed {
            return Err(kind.into());
        }
        let taken = session.session.writer().write(bytes)?;
        session.pump();
        match taken {
            0 => Err(ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<R: Remote> Remote for EncryptedRemote<R> {
    fn end(&mut self) -> io::Result<()> {
        let mut session = lock(&self.0);
        session.ending = true;
        session.pump();
        Ok(())
    }

    fn reset(self) -> io::Result<()> {
        lock(&self.0).io.take().expect("it was not reset before").reset()
    }
}
