//! The laws of an adapter, over every backend that this crate has.

use kraft_adapters::conformance::Wires;

use crate::counting::allocations;

kraft_adapters::suite!(mock, || Wires::new(1).counting(allocations));

#[cfg(all(feature = "epoll", any(target_os = "android", target_os = "linux")))]
kraft_adapters::suite!(epoll, || {
    kraft_adapters::conformance::Sockets::new(kraft_adapters::Epoll::open).counting(allocations)
});

// What a user chose at run time is as good as the backend itself.
#[cfg(all(feature = "epoll", any(target_os = "android", target_os = "linux")))]
kraft_adapters::suite!(any_epoll, || {
    let open = |config: &kraft_adapters::Config| kraft_adapters::Any::open(kraft_adapters::Backend::Epoll, config);
    kraft_adapters::conformance::Sockets::new(open).counting(allocations)
});

#[cfg(all(feature = "epoll", any(target_os = "android", target_os = "linux")))]
kraft_adapters::suite!(dyn_epoll, || {
    let open = |config: &kraft_adapters::Config| -> std::io::Result<Box<dyn kraft_adapters::DynAdapter>> {
        Ok(Box::new(kraft_adapters::Epoll::open(config)?))
    };
    kraft_adapters::conformance::Sockets::new(open).counting(allocations)
});

#[cfg(feature = "kqueue")]
kraft_adapters::suite!(kqueue, || {
    kraft_adapters::conformance::Sockets::new(kraft_adapters::Kqueue::open).counting(allocations)
});

#[cfg(feature = "threads")]
kraft_adapters::suite!(threads, || {
    kraft_adapters::conformance::Sockets::new(kraft_adapters::Threads::open).counting(allocations)
});

#[cfg(all(feature = "io-uring", target_os = "linux"))]
kraft_adapters::suite!(uring, || {
    kraft_adapters::conformance::Sockets::new(kraft_adapters::Uring::open).counting(allocations)
});

// The same, with every byte sent without a copy.
#[cfg(all(feature = "io-uring", target_os = "linux"))]
kraft_adapters::suite!(uring_zero_copy, || {
    let open = |config: &kraft_adapters::Config| {
        kraft_adapters::Uring::open(&kraft_adapters::Config {
            zero_copy_min: Some(1),
            ..config.clone()
        })
    };
    kraft_adapters::conformance::Sockets::new(open).counting(allocations)
});

#[cfg(all(feature = "libuv", unix))]
kraft_adapters::suite!(libuv, || {
    kraft_adapters::conformance::Sockets::new(kraft_adapters::Libuv::open).counting(allocations)
});

// In a loop of an application's, turned by its callbacks.
#[cfg(all(feature = "libuv", unix))]
kraft_adapters::suite!(libuv_guest, || {
    kraft_adapters::conformance::Sockets::new(crate::libuv::hosted::Hosted::open).counting(allocations)
});
