//! Scenarios of the epoll backend, with plain sockets of the standard library as peers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsRawFd;
use std::time::Duration;

use kraft_adapters::{Config, Epoll};
use kraft_core::adapter::{Adapter, CloseReason, Endpoint, Event, ListenOptions};
use kraft_core::link::CloseMode;
use kraft_core::outbox::Full;
use kraft_core::time::Instant;

use crate::rig::{GUARD, Rig, Said, said};

#[test]
fn an_epoll_can_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Epoll>();
}

#[test]
fn an_echo_takes_one_call_each_way() {
    let mut rig = Rig::new();
    let (mut peer, conn) = rig.peer();
    let mut calls = 0;
    for _ in 0..3 {
        peer.write_all(b"ping").expect("it is connected");
        let before = rig.adapter.stats().syscalls;
        let mut answered = 0;
        let guard = rig.deadline(GUARD);
        rig.adapter
            .poll(Some(guard), |_, event| {
                if let Event::Received { bytes, link, .. } = event {
                    link.outbox().put(bytes).expect("it fits");
                    answered += 1;
                }
            })
            .expect("the adapter works");
        rig.adapter.flush().expect("the adapter works");
        assert_eq!(answered, 1);
        calls = rig.adapter.stats().syscalls - before;
        let mut reply = [0; 4];
        peer.read_exact(&mut reply).expect("the answer comes");
        assert_eq!(&reply, b"ping");
    }
    assert_eq!(calls, 3, "epoll_wait, recv, send");
    assert!(rig.adapter.link(conn).is_some());
}

#[test]
fn stale_event_after_close() {
    // Two connections are readable in the same wait. The answer to the first is to close it; a new connection then
    // takes over its slot, and its descriptor, while the second wait's events may still be of the old one.
    let mut rig = Rig::new();
    let (mut first, first_conn) = rig.peer();
    let (mut second, second_conn) = rig.peer();
    first.write_all(b"one").expect("it is connected");
    second.write_all(b"two").expect("it is connected");
    rig.run(
        |event| {
            if let Event::Received { conn, link, .. } = event
                && *conn == first_conn
            {
                link.close(CloseMode::Now);
            }
        },
        |said| said.iter().any(|said| matches!(said, Said::Closed(..))) && said.len() >= 5,
    );
    assert_eq!(rig.received(second_conn), b"two");
    first.write_all(b"late").ok();
    let (mut third, third_conn) = rig.peer();
    assert_eq!(third_conn.slot(), first_conn.slot(), "the slot is used again");
    assert_ne!(third_conn, first_conn);
    assert!(rig.adapter.link(first_conn).is_none());
    third.write_all(b"three").expect("it is connected");
    rig.until(|said| matches!(said.last(), Some(Said::Received(..))));
    assert_eq!(rig.received(third_conn), b"three");
    assert_eq!(
        rig.said.iter().filter(|said| matches!(said, Said::Closed(..))).count(),
        1
    );
}

#[test]
fn callback_closes_itself() {
    for mode in [CloseMode::Now, CloseMode::Flush] {
        let mut rig = Rig::new();
        let (mut peer, conn) = rig.peer();
        peer.write_all(&[1; 300_000]).expect("it is connected");
        peer.shutdown(Shutdown::Write).expect("it is connected");
        rig.run(
            |event| {
                if let Event::Received { link, .. } = event {
                    link.outbox().put(b"bye").expect("it fits");
                    link.close(mode);
                    assert_eq!(link.outbox().put(b"more"), Err(Full));
                }
            },
            |said| matches!(said.last(), Some(Said::Closed(..))),
        );
        let received = rig
            .said
            .iter()
            .filter(|said| matches!(said, Said::Received(..)))
            .count();
        assert_eq!(received, 1, "{mode:?}");
        assert_eq!(rig.closed(conn), Some(CloseReason::Requested), "{mode:?}");
        let mut rest = Vec::new();
        let end = peer.read_to_end(&mut rest);
        match mode {
            CloseMode::Flush => assert_eq!((end.expect("no reset"), rest.as_slice()), (3, b"bye".as_slice())),
            CloseMode::Now => assert!(rest.is_empty()),
        }
    }
}

#[test]
fn half_close_reads_drain() {
    let mut rig = Rig::new();
    let (mut peer, conn) = rig.peer();
    // More than is read in one turn, and FIN behind it in the same batch.
    let sent: Vec<u8> = (0..700_000_u32).map(|i| (i % 251) as u8).collect();
    let writer = std::thread::spawn({
        let (mut peer, sent) = (peer.try_clone().expect("a descriptor is free"), sent.clone());
        move || {
            peer.write_all(&sent).expect("it is connected");
            peer.shutdown(Shutdown::Write).expect("it is connected");
        }
    });
    rig.until(|said| matches!(said.last(), Some(Said::Ended(_))));
    writer.join().expect("the peer wrote all");
    assert!(rig.received(conn) == sent, "bytes were lost before FIN");
    let link = rig.adapter.link(conn).expect("it can still send");
    link.outbox().put(b"reply").expect("it fits");
    link.close(CloseMode::Flush);
    assert_eq!(rig.until_closed(conn), CloseReason::Requested);
    let mut reply = Vec::new();
    peer.read_to_end(&mut reply).expect("no reset");
    assert_eq!(reply, b"reply");
}

#[test]
fn partial_write_backpressure() {
    let config = Config {
        write_queue_max: 8 << 20,
        ..Config::default()
    };
    let mut rig = Rig::with(&config, ListenOptions::default());
    let (mut peer, conn) = rig.peer();
    let sent: Vec<u8> = (0..8_000_000_u32).map(|i| (i % 253) as u8).collect();
    let link = rig.adapter.link(conn).expect("it lives");
    let mut marks = Vec::new();
    for piece in sent.chunks(1_000_000) {
        link.outbox().put(piece).expect("it fits");
        marks.push(link.outbox().mark());
    }
    assert_eq!(link.outbox().put(&[0; 1 << 20]), Err(Full));
    rig.adapter.flush().expect("the adapter works");
    let calls = rig.adapter.stats().syscalls;
    rig.adapter.flush().expect("the adapter works");
    assert_eq!(rig.adapter.stats().syscalls, calls, "a full socket is not tried again");
    let in_flight = rig.adapter.link(conn).expect("it lives").outbox().len();
    assert!(in_flight > 0, "the socket buffers cannot hold it all");

    let reader = std::thread::spawn(move || {
        let mut got = vec![0; 8_000_000];
        peer.read_exact(&mut got).expect("all of it comes");
        (peer, got)
    });
    rig.until(|said| said.contains(&Said::Written(conn, 8_000_000)) && said.contains(&Said::Drained(conn)));
    let written: Vec<u64> = rig
        .said
        .iter()
        .filter_map(|said| match said {
            Said::Written(_, mark) => Some(*mark),
            _ => None,
        })
        .collect();
    assert_eq!(written, marks);
    assert_eq!(
        rig.said.iter().filter(|said| matches!(said, Said::Drained(_))).count(),
        1
    );
    let (_peer, got) = reader.join().expect("the peer read all");
    assert!(got == sent, "bytes were lost or swapped");
}

#[test]
fn timer_in_past_no_spin() {
    let mut rig = Rig::new();
    let timer = rig.adapter.timers().start(Instant::ZERO);
    rig.until(|said| said == [Said::Expired(timer)]);
    let before = rig.adapter.stats().syscalls;
    let deadline = rig.deadline(Duration::from_millis(30));
    assert_eq!(
        rig.adapter.poll(Some(deadline), |_, _| {}).expect("the adapter works"),
        0
    );
    assert!(rig.adapter.now() >= deadline, "it came back early");
    let calls = rig.adapter.stats().syscalls - before;
    assert!(calls <= 3, "{calls} waits for one deadline");
}

#[test]
fn stop_from_other_thread_while_blocked() {
    let mut rig = Rig::new();
    let waker = rig.adapter.waker();
    let started = std::sync::Arc::new(std::sync::Barrier::new(2));
    let thread = std::thread::spawn({
        let started = started.clone();
        move || {
            started.wait();
            for _ in 0..1000 {
                waker.wake();
            }
            waker
        }
    });
    started.wait();
    rig.until(|said| said.contains(&Said::Woken));
    let waker = thread.join().expect("waking does not fail");
    drop(rig);
    waker.wake();
}

#[test]
fn connect_to_a_free_port_ends_in_closed() {
    let mut rig = Rig::new();
    let free = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        listener.local_addr().expect("it is bound")
    };
    let nowhere = std::env::temp_dir().join("kraft-nobody-listens-here");
    for to in [Endpoint::Tcp(free), Endpoint::Unix(nowhere)] {
        let conn = rig.adapter.connect(&to).expect("a descriptor is free");
        rig.adapter
            .link(conn)
            .expect("it is there")
            .outbox()
            .put(b"hello")
            .expect("it fits");
        assert_eq!(rig.until_closed(conn), CloseReason::Refused);
        assert!(rig.adapter.link(conn).is_none());
    }
    assert_eq!(rig.adapter.stats().failed, 2);
    assert_eq!(rig.adapter.stats().active, 0);
}

#[test]
fn an_answer_that_a_reset_follows_is_delivered() {
    let mut rig = Rig::new();
    let (mut peer, conn) = rig.peer();
    // The peer answers and goes away with our bytes unread, which resets the connection.
    let link = rig.adapter.link(conn).expect("it lives");
    link.outbox().put(b"question").expect("it fits");
    rig.adapter.flush().expect("the adapter works");
    let mut first = [0; 1];
    peer.read_exact(&mut first).expect("it is on its way");
    peer.write_all(b"goaway").expect("it is connected");
    drop(peer);
    let link = rig.adapter.link(conn).expect("it lives");
    link.outbox().put(b"into the reset").expect("it fits");
    rig.adapter.flush().expect("the adapter works");
    assert_eq!(rig.until_closed(conn), CloseReason::Reset);
    assert_eq!(rig.received(conn), b"goaway");
}

#[test]
fn a_closing_flush_gives_up_on_a_peer_that_never_reads() {
    let config = Config {
        linger: Duration::from_millis(30),
        write_queue_max: 16 << 20,
        ..Config::default()
    };
    let mut rig = Rig::with(&config, ListenOptions::default());
    let (_peer, conn) = rig.peer();
    let link = rig.adapter.link(conn).expect("it lives");
    link.outbox().put(&vec![0; 16 << 20]).expect("it fits");
    link.close(CloseMode::Flush);
    let before = rig.adapter.now();
    assert_eq!(rig.until_closed(conn), CloseReason::TimedOut);
    assert!(rig.adapter.now() - before >= config.linger);
}

#[test]
fn an_outer_loop_sees_what_a_turn_left() {
    let config = Config {
        read_buffer: 512,
        reads_per_turn: 1,
        ..Config::default()
    };
    let mut rig = Rig::with(&config, ListenOptions::default());
    let (mut peer, conn) = rig.peer();
    let deadline = rig.deadline(Duration::ZERO);
    assert_eq!(
        rig.adapter.poll(Some(deadline), |_, _| {}).expect("the adapter works"),
        0
    );
    assert!(!is_readable(&rig.adapter), "nothing to do");
    peer.write_all(&[7; 2000]).expect("it is connected");
    let mut turns = 0;
    while rig.received(conn).len() < 2000 {
        assert!(
            is_readable(&rig.adapter),
            "{} bytes are left",
            2000 - rig.received(conn).len()
        );
        let said_so_far = &mut rig.said;
        rig.adapter
            .poll(Some(Instant::ZERO), |_, event| said_so_far.push(said(&event)))
            .expect("the adapter works");
        turns += 1;
        assert!(turns < 100, "it hangs");
    }
    while is_readable(&rig.adapter) {
        assert_eq!(
            rig.adapter
                .poll(Some(Instant::ZERO), |_, _| {})
                .expect("the adapter works"),
            0
        );
        turns += 1;
        assert!(turns < 100, "readable for nothing");
    }
    let link = rig.adapter.link(conn).expect("it lives");
    link.outbox().mark();
    rig.adapter.flush().expect("the adapter works");
    assert!(is_readable(&rig.adapter), "a Written is due");
    rig.until(|said| matches!(said.last(), Some(Said::Written(..))));
    rig.adapter.waker().wake();
    assert!(is_readable(&rig.adapter), "a Woken is due");
    rig.until(|said| said.contains(&Said::Woken));
}

#[test]
fn unlisten_leaves_accepted_connections_alone() {
    let mut rig = Rig::new();
    let path = std::env::temp_dir().join(format!("kraft-unlisten-{}", std::process::id()));
    let at = Endpoint::Unix(path.clone());
    let listener = rig
        .adapter
        .listen(&at, ListenOptions::default())
        .expect("the path is free");
    let mut peer = std::os::unix::net::UnixStream::connect(&path).expect("it listens");
    rig.until(|said| matches!(said, [Said::Accepted(_)]));
    rig.adapter.unlisten(listener);
    rig.adapter.unlisten(listener);
    assert!(!path.exists(), "its socket file goes with it");
    let gone = rig.adapter.local_endpoint(listener).expect_err("the id is stale");
    assert_eq!(gone.kind(), std::io::ErrorKind::NotFound);
    peer.write_all(b"still here").expect("it is connected");
    rig.until(|said| matches!(said, [_, Said::Received(_, bytes)] if bytes == b"still here"));
    let again = rig
        .adapter
        .listen(&at, ListenOptions::default())
        .expect("the path is free again");
    assert_eq!(again.slot(), listener.slot());
    assert_ne!(again, listener);
}

#[test]
fn listen_names_what_is_taken() {
    let mut rig = Rig::new();
    let at = Endpoint::Tcp(rig.at);
    let taken = rig
        .adapter
        .listen(&at, ListenOptions::default())
        .expect_err("it is taken");
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    assert!(taken.to_string().starts_with(&format!("listen on {at}: ")), "{taken}");
}

#[test]
fn spin_looks_before_it_sleeps() {
    let config = Config {
        spin: Duration::from_millis(5),
        ..Config::default()
    };
    let mut rig = Rig::with(&config, ListenOptions::default());
    let mut calls = 0;
    // Once is enough, unless the machine takes the processor away all the while.
    for _ in 0..100 {
        let before = rig.adapter.stats().syscalls;
        rig.until(|_| true);
        let deadline = rig.deadline(config.spin);
        assert_eq!(
            rig.adapter.poll(Some(deadline), |_, _| {}).expect("the adapter works"),
            0
        );
        assert!(rig.adapter.now() >= deadline, "it came back early");
        calls = rig.adapter.stats().syscalls - before;
        if calls > 4 {
            break;
        }
    }
    assert!(calls > 4, "{calls} looks in 5 ms");
}

/// Whether the adapter's descriptor is readable, by poll(2); waits a while for it, since loopback takes its time.
fn is_readable(adapter: &Epoll) -> bool {
    let fd = adapter.poll_fd().expect("epoll has one").as_raw_fd();
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: `poll` is one entry, and lives over the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 20) };
    ready == 1
}
