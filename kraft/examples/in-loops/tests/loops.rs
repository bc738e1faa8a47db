//! Every loop over every backend: a whole node and a client, in one thread that is not Kraft's.

#[cfg(target_os = "linux")]
use in_loops::bare_epoll;
use in_loops::{Adder, Failure, Server, in_mio, in_tokio, node};
use kraft_adapters::Backend;

fn check(backend: Backend, run: fn(Server, Adder) -> Result<i64, Failure>) {
    let folder = tempfile::tempdir().expect("there is room");
    let opened = node(&folder.path().join("node"), backend);
    let (server, at) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            assert!(std::env::var_os("KRAFT_NO_SKIP").is_none(), "{backend}: {error}");
            return eprintln!("skipped {backend}: {error}");
        }
    };
    let adder = Adder::new(at, backend, &[40, -8, 10]).expect("a second one opens too");
    let sum = run(server, adder).unwrap_or_else(|error| panic!("{backend}: {error}"));
    assert_eq!(sum, 42, "{backend}");
}

#[test]
fn a_node_and_a_client_run_in_tokio() {
    check(Backend::Epoll, in_tokio::run);
    check(Backend::IoUring, in_tokio::run);
    check(Backend::Threads, in_tokio::run);
}

#[test]
fn a_node_and_a_client_run_in_mio() {
    check(Backend::Epoll, in_mio::run);
    check(Backend::IoUring, in_mio::run);
    check(Backend::Threads, in_mio::run);
}

// epoll is Linux's own.
#[cfg(target_os = "linux")]
#[test]
fn a_node_and_a_client_run_in_a_bare_epoll_loop() {
    check(Backend::Epoll, bare_epoll::run);
    check(Backend::IoUring, bare_epoll::run);
    check(Backend::Threads, bare_epoll::run);
}
