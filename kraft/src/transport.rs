//! What carries the connections of `kraftd`, `kraftctl` and [`Client`](crate::client::Client).

use std::io;
use std::os::fd::BorrowedFd;

use kraft_adapters::Any;
#[cfg(feature = "tls")]
use kraft_adapters::tls::Tls;
use kraft_core::adapter::{Adapter, Capabilities, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

/// An event loop, as it is or encrypted.
///
/// One type for both, so that whoever runs on it is compiled once; where nothing is encrypted, nothing of TLS is passed.
#[cfg_attr(
    feature = "tls",
    expect(
        clippy::large_enum_variant,
        reason = "a program has one, or a few, and moves them once"
    )
)]
#[derive(Debug)]
#[non_exhaustive]
pub enum Transport {
    /// Plaintext.
    Plain(Any),
    /// Encrypted, but for listeners and dials that were given no configuration.
    #[cfg(feature = "tls")]
    Tls(Tls<Any>),
}

impl Transport {
    /// The event loop itself.
    #[must_use]
    pub fn inner(&self) -> &Any {
        match self {
            Self::Plain(adapter) => adapter,
            #[cfg(feature = "tls")]
            Self::Tls(adapter) => adapter.inner(),
        }
    }
}

impl From<Any> for Transport {
    fn from(adapter: Any) -> Self {
        Self::Plain(adapter)
    }
}

#[cfg(feature = "tls")]
impl From<Tls<Any>> for Transport {
    fn from(adapter: Tls<Any>) -> Self {
        Self::Tls(adapter)
    }
}

/// Hands a call on.
macro_rules! hand_on {
    ($transport:expr, $adapter:pat => $call:expr) => {
        match $transport {
            Transport::Plain($adapter) => $call,
            #[cfg(feature = "tls")]
            Transport::Tls($adapter) => $call,
        }
    };
}

impl Adapter for Transport {
    fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
        hand_on!(self, adapter => adapter.listen(at, options))
    }

    fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
        hand_on!(self, adapter => adapter.local_endpoint(listener))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        hand_on!(self, adapter => adapter.unlisten(listener))
    }

    fn connect(&mut self, to: &Endpoint) -> io::Result<ConnId> {
        hand_on!(self, adapter => adapter.connect(to))
    }

    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        hand_on!(self, adapter => adapter.link(conn))
    }

    fn timers(&mut self) -> &mut Timers {
        hand_on!(self, adapter => adapter.timers())
    }

    fn now(&self) -> Instant {
        hand_on!(self, adapter => adapter.now())
    }

    fn read_clock(&self) -> Option<Instant> {
        hand_on!(self, adapter => adapter.read_clock())
    }

    fn flush(&mut self) -> io::Result<()> {
        hand_on!(self, adapter => adapter.flush())
    }

    fn poll<F>(&mut self, deadline: Option<Instant>, on_event: F) -> io::Result<usize>
    where
        F: FnMut(Instant, Event<'_>),
    {
        hand_on!(self, adapter => adapter.poll(deadline, on_event))
    }

    fn waker(&self) -> Waker {
        hand_on!(self, adapter => adapter.waker())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        hand_on!(self, adapter => adapter.poll_fd())
    }

    fn capabilities(&self) -> Capabilities {
        hand_on!(self, adapter => adapter.capabilities())
    }

    fn stats(&self) -> Stats {
        hand_on!(self, adapter => adapter.stats())
    }

    fn name(&self) -> &'static str {
        hand_on!(self, adapter => adapter.name())
    }
}
