//! The laws of an adapter, over every backend that this crate has.

use kraft_adapters::conformance::Wires;

use crate::counting::allocations;

kraft_adapters::suite!(mock, || Wires::new(1).counting(allocations));

#[cfg(all(feature = "epoll", any(target_os = "android", target_os = "linux")))]
kraft_adapters::suite!(epoll, || {
    kraft_adapters::conformance::Sockets::new(kraft_adapters::Epoll::open).counting(allocations)
});
