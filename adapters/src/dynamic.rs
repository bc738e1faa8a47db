//! Adapters whose type is known at run time alone.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use kraft_core::adapter::{Adapter, Capabilities, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

/// An [`Adapter`] without its type: for one that is plugged in at run time, from another crate or behind a wrapper that
/// a user may ask for.
///
/// Every adapter is one, and a `Box<dyn DynAdapter>`, or `Box<dyn DynAdapter + Send>`, is an adapter again. So nobody
/// implements this trait or calls its methods, which stand for those of [`Adapter`] of the same name:
///
/// ```
/// # #[cfg(all(feature = "epoll", target_os = "linux"))] {
/// use kraft_adapters::{Config, DynAdapter, Epoll};
/// use kraft_core::adapter::Adapter;
///
/// let adapters: Vec<Box<dyn DynAdapter + Send>> = vec![Box::new(Epoll::open(&Config::default())?)];
/// assert_eq!(adapters[0].name(), "epoll");
/// # }
/// # Ok::<_, std::io::Error>(())
/// ```
///
/// Backends of this crate are better chosen through [`Any`](crate::Any), which asks for no box.
pub trait DynAdapter {
    /// [`Adapter::listen`].
    fn dyn_listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId>;

    /// [`Adapter::local_endpoint`].
    fn dyn_local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint>;

    /// [`Adapter::unlisten`].
    fn dyn_unlisten(&mut self, listener: ListenerId);

    /// [`Adapter::connect`].
    fn dyn_connect(&mut self, to: &Endpoint) -> io::Result<ConnId>;

    /// [`Adapter::link`].
    fn dyn_link(&mut self, conn: ConnId) -> Option<&mut Link>;

    /// [`Adapter::timers`].
    fn dyn_timers(&mut self) -> &mut Timers;

    /// [`Adapter::now`].
    fn dyn_now(&self) -> Instant;
    /// [`Adapter::read_clock`].
    fn dyn_read_clock(&self) -> Option<Instant>;

    /// [`Adapter::flush`].
    fn dyn_flush(&mut self) -> io::Result<()>;

    /// [`Adapter::poll`].
    fn dyn_poll(
        &mut self,
        deadline: Option<Instant>,
        on_event: &mut dyn FnMut(Instant, Event<'_>),
    ) -> io::Result<usize>;

    /// [`Adapter::waker`].
    fn dyn_waker(&self) -> Waker;

    /// [`Adapter::poll_fd`].
    fn dyn_poll_fd(&self) -> Option<BorrowedFd<'_>>;

    /// [`Adapter::capabilities`].
    fn dyn_capabilities(&self) -> Capabilities;

    /// [`Adapter::stats`].
    fn dyn_stats(&self) -> Stats;

    /// [`Adapter::name`].
    fn dyn_name(&self) -> &'static str;
}

impl<A: Adapter> DynAdapter for A {
    fn dyn_listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
        self.listen(at, options)
    }

    fn dyn_local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
        self.local_endpoint(listener)
    }

    fn dyn_unlisten(&mut self, listener: ListenerId) {
        self.unlisten(listener);
    }

    fn dyn_connect(&mut self, to: &Endpoint) -> io::Result<ConnId> {
        self.connect(to)
    }

    fn dyn_link(&mut self, conn: ConnId) -> Option<&mut Link> {
        self.link(conn)
    }

    fn dyn_timers(&mut self) -> &mut Timers {
        self.timers()
    }

    fn dyn_now(&self) -> Instant {
        self.now()
    }

    fn dyn_read_clock(&self) -> Option<Instant> {
        self.read_clock()
    }

    fn dyn_flush(&mut self) -> io::Result<()> {
        self.flush()
    }

    fn dyn_poll(
        &mut self,
        deadline: Option<Instant>,
        on_event: &mut dyn FnMut(Instant, Event<'_>),
    ) -> io::Result<usize> {
        self.poll(deadline, on_event)
    }

    fn dyn_waker(&self) -> Waker {
        self.waker()
    }

    fn dyn_poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.poll_fd()
    }

    fn dyn_capabilities(&self) -> Capabilities {
        self.capabilities()
    }

    fn dyn_stats(&self) -> Stats {
        self.stats()
    }

    fn dyn_name(&self) -> &'static str {
        self.name()
    }
}

/// What is in the box is called, never the box: that is an adapter too, and would call itself.
macro_rules! boxed {
    ($erased:ty) => {
        impl Adapter for Box<$erased> {
            fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
                (**self).dyn_listen(at, options)
            }

            fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
                (**self).dyn_local_endpoint(listener)
            }

            fn unlisten(&mut self, listener: ListenerId) {
                (**self).dyn_unlisten(listener);
            }

            fn connect(&mut self, to: &Endpoint) -> io::Result<ConnId> {
                (**self).dyn_connect(to)
            }

            fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
                (**self).dyn_link(conn)
            }

            fn timers(&mut self) -> &mut Timers {
                (**self).dyn_timers()
            }

            fn now(&self) -> Instant {
                (**self).dyn_now()
            }

            fn read_clock(&self) -> Option<Instant> {
                (**self).dyn_read_clock()
            }

            fn flush(&mut self) -> io::Result<()> {
                (**self).dyn_flush()
            }

            fn poll<F>(&mut self, deadline: Option<Instant>, mut on_event: F) -> io::Result<usize>
            where
                F: FnMut(Instant, Event<'_>),
            {
                (**self).dyn_poll(deadline, &mut on_event)
            }

            fn waker(&self) -> Waker {
                (**self).dyn_waker()
            }

            fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
                (**self).dyn_poll_fd()
            }

            fn capabilities(&self) -> Capabilities {
                (**self).dyn_capabilities()
            }

            fn stats(&self) -> Stats {
                (**self).dyn_stats()
            }

            fn name(&self) -> &'static str {
                (**self).dyn_name()
            }
        }

        impl fmt::Debug for $erased {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple("DynAdapter").field(&self.dyn_name()).finish()
            }
        }
    };
}

boxed!(dyn DynAdapter);
boxed!(dyn DynAdapter + Send);
