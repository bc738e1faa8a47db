//! What happens where the system, or the configuration, gives no more.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use kraft_adapters::Config;
use kraft_core::adapter::{Adapter, Endpoint, Event, ListenOptions};
use kraft_core::link::CloseMode;

use crate::rig::{GUARD, Rig, Said, alone, said};

/// The most descriptors that this process may have; returns what it was.
fn limit_descriptors(to: libc::rlim_t) -> libc::rlim_t {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` lives over both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        let before = std::mem::replace(&mut limit.rlim_cur, to);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        before
    }
}

#[test]
fn emfile_on_accept_no_spin() {
    if !alone("limits::emfile_on_accept_no_spin") {
        return;
    }
    let config = Config {
        accept_pause: Duration::from_millis(20),
        ..Config::default()
    };
    let mut rig = Rig::with(&config, ListenOptions::default());
    let (mut old, old_conn) = rig.peer();
    let peers: Vec<TcpStream> = (0..5)
        .map(|_| TcpStream::connect(rig.at).expect("it listens"))
        .collect();
    let enough = limit_descriptors(3);

    let before = rig.adapter.stats().syscalls;
    let deadline = rig.deadline(Duration::from_millis(200));
    let said_so_far = &mut rig.said;
    rig.adapter
        .poll(Some(deadline), |_, event| said_so_far.push(said(&event)))
        .expect("the adapter works");
    assert_eq!(rig.said.len(), 1, "nobody can be accepted: {:?}", rig.said);
    let calls = rig.adapter.stats().syscalls - before;
    assert!(calls <= 2 * (200 / 20 + 2), "{calls} calls in ten pauses");

    let refused = rig
        .adapter
        .connect(&Endpoint::Tcp(rig.at))
        .expect_err("no descriptor is left");
    assert!(refused.to_string().contains(&rig.at.to_string()), "{refused}");
    assert_eq!(rig.adapter.stats().active, 1, "the slot was given back");

    old.write_all(b"still here").expect("it is connected");
    rig.until(|said| matches!(said.last(), Some(Said::Received(..))));
    assert_eq!(rig.received(old_conn), b"still here");

    limit_descriptors(enough);
    rig.until(|said| said.iter().filter(|said| matches!(said, Said::Accepted(_))).count() == 1 + peers.len());
}

#[test]
fn a_wakers_descriptor_goes_with_the_adapter() {
    if !alone("limits::a_wakers_descriptor_goes_with_the_adapter") {
        return;
    }
    let open = || std::fs::read_dir("/proc/self/fd").expect("/proc is mounted").count();
    let before = open();
    let mut rig = Rig::new();
    let waker = rig.adapter.waker();
    let (peer, _) = rig.peer();
    assert!(open() > before + 3);
    drop((rig, peer));
    assert_eq!(open(), before);
    waker.wake();
}

#[test]
fn a_limit_of_connections_turns_the_rest_away() {
    let config = Config {
        max_connections: 3,
        ..Config::default()
    };
    let two = ListenOptions {
        max_connections: 2,
        ..ListenOptions::default()
    };
    let mut rig = Rig::with(&config, two);
    let (_first, _) = rig.peer();
    let (second, second_conn) = rig.peer();
    let mut third = TcpStream::connect(rig.at).expect("the system accepts it");
    rig.run(|_| {}, |_| true);
    let guard = rig.deadline(GUARD);
    while rig.adapter.stats().turned_away == 0 {
        let soon = rig.deadline(Duration::from_millis(1));
        assert_eq!(rig.adapter.poll(Some(soon), |_, _| {}).expect("the adapter works"), 0);
        assert!(rig.adapter.now() < guard);
    }
    assert_eq!(third.read(&mut [0]).expect("it is closed without a reset"), 0);

    // The slot that the listener may not use is there to dial with; after that all are in use.
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let to = Endpoint::Tcp(elsewhere.local_addr().expect("it is bound"));
    let dialled = rig.adapter.connect(&to).expect("one slot is left");
    assert!(dialled.slot() < 3);
    let full = rig.adapter.connect(&to).expect_err("no slot is left");
    assert!(full.to_string().contains("max_connections"), "{full}");
    rig.until(|said| said.contains(&Said::Connected(dialled)));

    drop(second);
    rig.run(
        |event| {
            if let Event::Ended { link, .. } = event {
                link.close(CloseMode::Flush);
            }
        },
        |said| said.iter().any(|said| matches!(said, Said::Closed(..))),
    );
    assert!(rig.closed(second_conn).is_some());
    let (_fourth, fourth_conn) = rig.peer();
    assert_eq!(fourth_conn.slot(), second_conn.slot());
}
