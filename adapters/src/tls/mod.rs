//! Any adapter, encrypted.
//!
//! [`Tls`] is an adapter around another one: its users put and get plaintext, the inner adapter's connections carry TLS 1.3
//! records. It keeps the laws of an adapter by the inner one's keeping them.
//!
//! - A connection begins (`Accepted`, `Connected`) when its handshake is through, with the names that the other end has
//!   proved in [`Link::proof`]. One whose handshake fails is never shown if it was accepted, and ends in `Closed` if it
//!   was dialled; why is told to the observer, as a [`Failure`]. A handshake is bounded in time, and to a
//!   fifth of that while more than half of the connections that a listener takes have not ended theirs.
//! - In TLS 1.3 the dialler is through first: one whose certificate is refused sees `Connected`, and then `Closed`.
//! - `Ended` is what the other end said (`close_notify`). A stream that breaks off without it is `Closed` with
//!   `Failed(UnexpectedEof)`: somebody on the way may have cut it. `close(Flush)` says the end behind all that was put;
//!   `close(Now)` says it if nothing that was put is dropped by it, else the other end sees a stream cut off, as it is.
//! - What is put is taken as the user's outbox holds it, encrypted, and moved into the inner outbox as far as that has
//!   room. It counts in the user's outbox until the system has its ciphertext, so that `write_queue_max` bounds the two
//!   together but for what encryption adds: 22 bytes a record of up to 16 KiB. Marks are of what the system has.
//! - Received ciphertext is decrypted a record at a time. While the user is paused the inner connection is too; what one
//!   turn still brings is held as ciphertext.
//!
//! Whom a listener is for ([`Audience`]) chooses what is asked of those who dial it; a listener without a configuration,
//! and dials without one, pass through unchanged.
//!
//! rustls' buffered interface is used, not the unbuffered one: that one leaves the buffers to its user, but has him lend
//! all that was received of a record in one mutable piece, which a lent receive buffer is not; and it copies what is
//! encrypted as well.

mod conn;
mod failure;
mod renewal;
mod state;
mod trust;

use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kraft_core::adapter::{Adapter, Audience, Capabilities, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

pub use self::failure::{Failure, Why};
use self::renewal::Next;
pub use self::renewal::Renewal;
use self::state::State;
pub use self::trust::{Authorities, Credentials, TrustError, acceptor, dialler};
pub use rustls;

/// What the wrapper itself cannot keep, with the inner adapter's.
const CANNOT: &[(u8, &str)] = &[(22, "TLS: rustls allocates for each record")];

/// What is asked of whom.
#[derive(Clone, Debug)]
pub struct Config {
    /// Of peers that dial; made by [`acceptor`]. `None` takes them unencrypted, as with the next two.
    pub peers: Option<Arc<ServerConfig>>,
    /// Of clients that dial.
    pub clients: Option<Arc<ServerConfig>>,
    /// Of others that dial.
    pub others: Option<Arc<ServerConfig>>,
    /// Of whom this side dials; made by [`dialler`].
    pub dial: Option<Arc<ClientConfig>>,
    /// How long a handshake may take, from the connection of the inner adapter on.
    pub handshake_timeout: Duration,
}

impl Default for Config {
    /// Nothing is encrypted.
    fn default() -> Self {
        Self {
            peers: None,
            clients: None,
            others: None,
            dial: None,
            handshake_timeout: Duration::from_secs(5),
        }
    }
}

impl Config {
    fn validate(&self) -> io::Result<()> {
        let unusable = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        if self.handshake_timeout.is_zero() {
            return Err(unusable("handshake_timeout must be more than zero".to_owned()));
        }
        for server in [&self.peers, &self.clients, &self.others].into_iter().flatten() {
            ServerConnection::new(Arc::clone(server)).map_err(|error| unusable(error.to_string()))?;
        }
        if let Some(client) = &self.dial {
            let anybody = rustls::pki_types::ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
            ClientConnection::new(Arc::clone(client), anybody).map_err(|error| unusable(error.to_string()))?;
        }
        Ok(())
    }

    fn server(&self, audience: Audience) -> Option<&Arc<ServerConfig>> {
        match audience {
            Audience::Peers => self.peers.as_ref(),
            Audience::Clients => self.clients.as_ref(),
            Audience::Others => self.others.as_ref(),
        }
    }
}

type Observer = Box<dyn FnMut(&Failure) + Send>;

/// An adapter that encrypts what another one carries. See the [module](self).
#[derive(Debug)]
pub struct Tls<A> {
    inner: A,
    state: State,
    /// A configuration that came since the last turn.
    next: Arc<Next>,
    /// Whom each listener that encrypts is for.
    audiences: Vec<(ListenerId, Audience)>,
    /// Somebody waits on the inner descriptor in a loop of his own.
    embedded: Cell<bool>,
}

impl<A: Adapter> Tls<A> {
    /// Wraps `inner`, which was opened with `adapter` and has no listener and no connection. `observer` is told of
    /// connections that TLS ended, on the loop.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a field of either configuration that cannot be used.
    pub fn new(
        inner: A,
        adapter: &crate::Config,
        config: Config,
        observer: impl FnMut(&Failure) + Send + 'static,
    ) -> io::Result<Self> {
        adapter.validate()?;
        config.validate()?;
        Ok(Self {
            inner,
            state: State::new(adapter, config, Box::new(observer)),
            next: Arc::default(),
            audiences: Vec::new(),
            embedded: Cell::new(false),
        })
    }

    /// The adapter that carries the ciphertext.
    pub fn inner(&self) -> &A {
        &self.inner
    }

    /// What gives it another configuration while it runs, from any thread.
    #[must_use]
    pub fn renewal(&self) -> Renewal {
        Renewal::new(Arc::clone(&self.next), self.inner.waker())
    }

    /// Takes over what came.
    fn renew(&mut self) {
        if let Some(config) = self.next.take() {
            self.state.renew(config, &self.audiences);
        }
    }

    /// Acts on links and flushes the inner adapter.
    fn flush_links(&mut self) -> io::Result<()> {
        self.state.act(&mut self.inner);
        self.flush_inner()
    }

    fn flush_inner(&mut self) -> io::Result<()> {
        self.inner.flush()?;
        if self.state.after_flush(&mut self.inner) {
            self.inner.flush()?;
        }
        Ok(())
    }

    /// Makes the inner descriptor readable if there is something to deliver (law A23).
    fn signal_work(&self) {
        if self.embedded.get() && self.state.has_work() {
            self.inner.waker().wake();
        }
    }
}

impl<A: Adapter> Adapter for Tls<A> {
    fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
        let server = self.state.config.server(options.audience).cloned();
        let id = self.inner.listen(at, options)?;
        if let Some(server) = server {
            self.audiences.push((id, options.audience));
            self.state.listen(id, server, options.max_connections);
        }
        Ok(id)
    }

    fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
        self.inner.local_endpoint(listener)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.audiences.retain(|(id, _)| *id != listener);
        self.state.unlisten(listener);
        self.inner.unlisten(listener);
    }

    fn connect(&mut self, to: &Endpoint) -> io::Result<ConnId> {
        self.renew();
        let id = self.inner.connect(to)?;
        if let Some(link) = self.inner.link(id) {
            self.state.dial(id, to, link);
        }
        Ok(id)
    }

    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        match self.state.link(conn) {
            Some(link) => Some(link),
            None => self.inner.link(conn),
        }
    }

    fn timers(&mut self) -> &mut Timers {
        self.inner.timers()
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn read_clock(&self) -> Option<Instant> {
        self.inner.read_clock()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_links()?;
        self.signal_work();
        Ok(())
    }

    fn poll<F>(&mut self, deadline: Option<Instant>, mut on_event: F) -> io::Result<usize>
    where
        F: FnMut(Instant, Event<'_>),
    {
        loop {
            self.renew();
            if self.state.is_dirty() {
                self.flush_links()?;
            }
            let wait = if self.state.has_work() {
                Some(Instant::ZERO)
            } else {
                deadline
            };
            let Self { inner, state, .. } = &mut *self;
            let mut count = 0;
            inner.poll(wait, |now, event| count += state.take(now, event, &mut on_event))?;
            count += state.deliver(inner, &mut on_event);
            if count > 0 || deadline.is_some_and(|deadline| deadline <= inner.now()) {
                // What a handshake has to say does not wait for the user's next turn.
                if self.state.is_moved() {
                    self.flush_inner()?;
                }
                self.signal_work();
                return Ok(count);
            }
        }
    }

    fn waker(&self) -> Waker {
        let (woken, inner) = (Arc::clone(&self.state.woken), self.inner.waker());
        Waker::new(move || {
            woken.store(true, Ordering::Release);
            inner.wake();
        })
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.embedded.set(true);
        self.signal_work();
        self.inner.poll_fd()
    }

    fn capabilities(&self) -> Capabilities {
        let inner = self.inner.capabilities();
        Capabilities {
            cannot: joined(inner.cannot),
            ..inner
        }
    }

    /// As the inner adapter counts, bytes of ciphertext; connections that were not shown count as turned away, from the
    /// turn on in which the inner adapter says that they are gone.
    fn stats(&self) -> Stats {
        let inner = self.inner.stats();
        let counts = self.state.counts;
        Stats {
            accepted: inner.accepted - counts.refused - counts.strangers,
            turned_away: inner.turned_away + counts.refused,
            failed: inner.failed + counts.failed_dials,
            closed: inner.closed - counts.refused,
            // It may have let one go of which its word is still to come.
            active: inner.active.saturating_sub(counts.strangers),
            timers: inner.timers - self.state.own_timers(),
            ..inner
        }
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }
}

/// What an inner adapter cannot keep, and the wrapper. The lists live as long as the program, one for each backend that
/// it wraps.
fn joined(inner: &'static [(u8, &'static str)]) -> &'static [(u8, &'static str)] {
    type List = &'static [(u8, &'static str)];
    static JOINED: Mutex<Vec<(List, List)>> = Mutex::new(Vec::new());
    let mut known = JOINED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, list)) = known.iter().find(|(of, _)| *of == inner) {
        return list;
    }
    let list: List = Vec::leak([inner, CANNOT].concat());
    known.push((inner, list));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_kept_is_the_inner_adapters_and_ours() {
        let inner: &'static [(u8, &'static str)] = &[(30, "no ring")];
        let all = joined(inner);
        assert_eq!(all, [inner, CANNOT].concat());
        assert!(std::ptr::eq(all, joined(inner)), "made once");
    }
}
