//! Much that is put in answer to one event, by many connections: whose memory it takes.

use std::io::{Read, Write};
use std::net::TcpStream;

use kraft_adapters::conformance::Counting;
use kraft_adapters::{Config, Epoll, Kqueue, Uring};
use kraft_core::adapter::{Adapter, Event, ListenOptions};

use crate::rig::{GUARD, Rig, alone};

const PEERS: usize = 32;
const BULK: usize = 32 * 1024;

/// Peers whose messages come back.
struct Echo<A> {
    rig: Rig<A>,
    peers: Vec<TcpStream>,
    message: Vec<u8>,
}

impl<A: Adapter> Echo<A> {
    fn new(adapter: A) -> Self {
        let mut rig = Rig::over(adapter, ListenOptions::default());
        let peers = (0..PEERS).map(|_| rig.peer().0).collect();
        let message = vec![7; BULK];
        Self { rig, peers, message }
    }

    /// These peers send so many bytes each, all before the next turn, and get them back.
    fn round(&mut self, senders: &[(usize, usize)]) {
        for (peer, bytes) in senders {
            let sent = self.peers[*peer].write_all(&self.message[..*bytes]);
            sent.expect("the socket has room for it");
        }
        let (mut echoed, all) = (0, senders.iter().map(|(_, bytes)| bytes).sum());
        while echoed < all {
            let guard = self.rig.deadline(GUARD);
            let polled = self.rig.adapter.poll(Some(guard), |_, event| {
                if let Event::Received { bytes, link, .. } = event {
                    link.outbox().put(bytes).expect("it fits");
                    echoed += bytes.len();
                }
            });
            assert!(polled.expect("the adapter works") > 0, "it hangs after {echoed} bytes");
        }
        self.rig.adapter.flush().expect("the adapter works");
        for (peer, bytes) in senders {
            let came = self.peers[*peer].read_exact(&mut self.message[..*bytes]);
            came.expect("it was sent");
        }
    }
}

#[track_caller]
fn check<A: Adapter>(adapter: A) {
    let mut echo = Echo::new(adapter);
    let before = Counting::live_bytes();
    let all: Vec<_> = (0..PEERS).map(|peer| (peer, BULK)).collect();
    echo.round(&all);
    // One that answers much beside others that answer little: its buffers do not stay with them.
    for peer in 1..PEERS {
        echo.round(&[(0, BULK), (peer, 10)]);
    }
    let grown = Counting::live_bytes() - before;
    let name = echo.rig.adapter.name();
    assert!(
        grown < (PEERS * BULK) as u64 / 4,
        "{name}: {grown} bytes are kept by {PEERS} connections that answered {BULK} bytes each"
    );
}

#[test]
fn what_many_connections_answer_goes_through_shared_buffers() {
    if !alone("bulk::what_many_connections_answer_goes_through_shared_buffers") {
        return;
    }
    let config = Config::default();
    check(Epoll::open(&config).expect("epoll is there"));
    check(Kqueue::open(&config).expect("kqueue is there"));
    // Where it is not to be had, other tests say so.
    if let Ok(ring) = Uring::open(&config) {
        check(ring);
    }
}
