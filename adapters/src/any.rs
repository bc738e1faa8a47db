//! The backends that this program has, as one type.

// A build without a backend has nothing to hand an argument on to.
#![cfg_attr(
    not(any(
        feature = "epoll",
        feature = "io-uring",
        feature = "kqueue",
        feature = "libuv",
        feature = "threads"
    )),
    expect(unused_variables, reason = "no backend is compiled in")
)]

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;

use kraft_core::adapter::{Adapter, Capabilities, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

use crate::backend::Backend;
use crate::config::Config;

/// One row a backend: where it is compiled, its name, its type.
macro_rules! any {
    ($d:tt $(#[$when:meta] $(#[doc = $doc:literal])+ $backend:ident($adapter:ty),)+) => {
        /// One of the backends that this program has, chosen when it is opened.
        ///
        /// Each call is handed on by a `match`: measured, that cannot be told from calling the backend itself. A build
        /// without a backend's feature has no variants, and nothing that could be opened.
        #[derive(Debug)]
        #[non_exhaustive]
        pub enum Any {
            $(#[$when] $(#[doc = $doc])+ $backend($adapter),)+
        }

        impl Any {
            /// The backends that are variants of this type.
            pub(crate) const BACKENDS: &'static [Backend] = &[$(#[$when] Backend::$backend,)+];

            /// Opens the backend if this program has it.
            fn find(backend: Backend, config: &Config) -> Option<io::Result<Self>> {
                $(
                    #[$when]
                    if backend == Backend::$backend {
                        return Some(<$adapter>::open(config).map(Self::$backend));
                    }
                )+
                None
            }

            /// Which one it is.
            #[must_use]
            pub const fn backend(&self) -> Backend {
                match *self {
                    $(#[$when] Self::$backend(_) => Backend::$backend,)+
                }
            }
        }

        $(
            #[$when]
            impl From<$adapter> for Any {
                fn from(adapter: $adapter) -> Self {
                    Self::$backend(adapter)
                }
            }
        )+

        /// Hands a call on to the backend that it is.
        macro_rules! hand_on {
            ($d any:expr, $d adapter:pat => $d call:expr) => {
                match $d any {
                    $(#[$when] Any::$backend($d adapter) => $d call,)+
                }
            };
        }
    };
}

any! { $
    #[cfg(all(feature = "epoll", any(target_os = "android", target_os = "linux")))]
    /// [`Backend::Epoll`].
    Epoll(crate::Epoll),

    #[cfg(all(feature = "io-uring", target_os = "linux"))]
    /// [`Backend::IoUring`].
    IoUring(crate::Uring),

    #[cfg(feature = "kqueue")]
    /// [`Backend::Kqueue`].
    Kqueue(crate::Kqueue),

    #[cfg(feature = "threads")]
    /// [`Backend::Threads`].
    Threads(crate::Threads),

    #[cfg(all(feature = "libuv", unix))]
    /// [`Backend::Libuv`].
    Libuv(crate::Libuv),
}

impl Any {
    /// Opens this backend and no other. [`Choice`](crate::Choice) opens the best of several.
    ///
    /// # Errors
    ///
    /// Of kind `Unsupported` if this program or this system has it not, with why and what to do; `InvalidInput` for a
    /// field of `config` that is out of its range; else the system's, if it has no descriptor or memory left. The text
    /// names the backend.
    pub fn open(backend: Backend, config: &Config) -> io::Result<Self> {
        match Self::find(backend, config) {
            Some(opened) => opened.map_err(|error| named(backend, error)),
            None => Err(backend.absent()),
        }
    }
}

/// The error of a backend that was not opened, with its name. What is wrong with the configuration is no backend's.
fn named(backend: Backend, error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::InvalidInput => error,
        kind => io::Error::new(kind, format!("{backend}: {error}")),
    }
}

impl Adapter for Any {
    fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
        hand_on!(*self, ref mut adapter => adapter.listen(at, options))
    }

    fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
        hand_on!(*self, ref adapter => adapter.local_endpoint(listener))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        hand_on!(*self, ref mut adapter => adapter.unlisten(listener))
    }

    fn connect(&mut self, to: &Endpoint) -> io::Result<ConnId> {
        hand_on!(*self, ref mut adapter => adapter.connect(to))
    }

    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        hand_on!(*self, ref mut adapter => adapter.link(conn))
    }

    fn timers(&mut self) -> &mut Timers {
        hand_on!(*self, ref mut adapter => adapter.timers())
    }

    fn now(&self) -> Instant {
        hand_on!(*self, ref adapter => adapter.now())
    }

    fn read_clock(&self) -> Option<Instant> {
        hand_on!(*self, ref adapter => adapter.read_clock())
    }

    fn flush(&mut self) -> io::Result<()> {
        hand_on!(*self, ref mut adapter => adapter.flush())
    }

    fn poll<F>(&mut self, deadline: Option<Instant>, on_event: F) -> io::Result<usize>
    where
        F: FnMut(Instant, Event<'_>),
    {
        hand_on!(*self, ref mut adapter => adapter.poll(deadline, on_event))
    }

    fn waker(&self) -> Waker {
        hand_on!(*self, ref adapter => adapter.waker())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        hand_on!(*self, ref adapter => adapter.poll_fd())
    }

    fn capabilities(&self) -> Capabilities {
        hand_on!(*self, ref adapter => adapter.capabilities())
    }

    fn stats(&self) -> Stats {
        hand_on!(*self, ref adapter => adapter.stats())
    }

    fn name(&self) -> &'static str {
        hand_on!(*self, ref adapter => adapter.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_can_move_to_another_thread() {
        fn is_send<T: Send>() {}
        is_send::<Any>();
    }

    #[test]
    fn each_backend_is_opened_by_its_name_or_says_that_it_is_not_there() {
        for backend in Backend::ALL {
            match Any::open(*backend, &Config::default()) {
                Ok(adapter) => {
                    assert_eq!(adapter.backend(), *backend);
                    assert_eq!(adapter.name(), backend.name());
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                    assert!(error.to_string().starts_with(backend.name()), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_wrong_configuration_is_told_by_its_field() {
        let wrong = Config {
            max_connections: 0,
            ..Config::default()
        };
        for backend in Backend::compiled() {
            let error = Any::open(*backend, &wrong).expect_err("a refusal");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), "max_connections must be 1 to 2^24");
        }
    }
}
