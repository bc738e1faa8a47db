//! Much that is put in answer to one event: where it waits, and when it leaves.

use std::io::{Read, Write};
use std::net::TcpStream;

use kraft_adapters::conformance::Counting;
use kraft_adapters::{Config, Epoll, Kqueue, Uring};
use kraft_core::adapter::{Adapter, Event, ListenOptions};

use crate::rig::{GUARD, Rig, alone};

const PEERS: usize = 32;
const BYTES: usize = 32 * 1024;

/// Echoes what each peer sends; returns by how many bytes the process grew.
fn grown_by_an_echo<A: Adapter>(adapter: A) -> u64 {
    let mut rig = Rig::over(adapter, ListenOptions::default());
    let mut peers: Vec<TcpStream> = (0..PEERS).map(|_| rig.peer().0).collect();
    let mut message = vec![7; BYTES];
    let before = Counting::live_bytes();
    for peer in &mut peers {
        peer.write_all(&message).expect("the socket has room for it");
    }
    let mut echoed = 0;
    while echoed < PEERS * BYTES {
        let guard = rig.deadline(GUARD);
        let polled = rig.adapter.poll(Some(guard), |_, event| {
            if let Event::Received { bytes, link, .. } = event {
                link.outbox().put(bytes).expect("it fits");
                echoed += bytes.len();
            }
        });
        assert!(polled.expect("the adapter works") > 0, "it hangs after {echoed} bytes");
    }
    rig.adapter.flush().expect("the adapter works");
    for peer in &mut peers {
        peer.read_exact(&mut message).expect("it was sent");
    }
    Counting::live_bytes() - before
}

#[track_caller]
fn check(name: &str, grown: u64) {
    let all = (PEERS * BYTES) as u64;
    assert!(
        grown < all / 2,
        "{name}: {grown} bytes are kept of {all} that were echoed"
    );
}

#[test]
fn what_many_connections_answer_goes_through_shared_buffers() {
    if !alone("bulk::what_many_connections_answer_goes_through_shared_buffers") {
        return;
    }
    let config = Config::default();
    check("epoll", grown_by_an_echo(Epoll::open(&config).expect("epoll is there")));
    check(
        "kqueue",
        grown_by_an_echo(Kqueue::open(&config).expect("kqueue is there")),
    );
    // Where it is not to be had, other tests say so.
    if let Ok(ring) = Uring::open(&config) {
        check("io-uring", grown_by_an_echo(ring));
    }
}
