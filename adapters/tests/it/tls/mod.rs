//! The wrapper that encrypts: the laws, over every backend, and what the laws do not say.

mod certificates;
mod crowds;
mod environment;
mod pressure;
#[cfg(feature = "epoll")]
mod refusals;

use kraft_adapters::conformance::Wires;

use self::environment::Encrypted;
use crate::counting::allocations;

kraft_adapters::suite!(mock, || Encrypted::new(Wires::new(1).counting(allocations)));

#[cfg(feature = "epoll")]
kraft_adapters::suite!(epoll, || {
    Encrypted::new(kraft_adapters::conformance::Sockets::new(kraft_adapters::Epoll::open).counting(allocations))
});

/// Chosen at run time, as a program does it.
#[cfg(any(feature = "io-uring", feature = "kqueue", feature = "libuv", feature = "threads"))]
fn chosen(backend: kraft_adapters::Backend) -> impl kraft_adapters::conformance::Environment {
    let open = move |config: &kraft_adapters::Config| kraft_adapters::Any::open(backend, config);
    Encrypted::new(kraft_adapters::conformance::Sockets::new(open).counting(allocations))
}

#[cfg(feature = "threads")]
kraft_adapters::suite!(threads, || chosen(kraft_adapters::Backend::Threads));

#[cfg(feature = "io-uring")]
kraft_adapters::suite!(uring, || chosen(kraft_adapters::Backend::IoUring));

#[cfg(feature = "kqueue")]
kraft_adapters::suite!(kqueue, || chosen(kraft_adapters::Backend::Kqueue));

#[cfg(feature = "libuv")]
kraft_adapters::suite!(libuv, || chosen(kraft_adapters::Backend::Libuv));
