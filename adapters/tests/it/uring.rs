//! Scenarios of the io_uring backend, with plain sockets of the standard library as peers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use kraft_adapters::{Config, Setup, Uring};
use kraft_core::adapter::{Adapter, CloseReason, Endpoint, Event, ListenOptions};
use kraft_core::id::ConnId;
use kraft_core::link::CloseMode;
use kraft_core::time::Instant;

use crate::rig::{GUARD, Rig, Said, alone};

fn rig(config: &Config) -> Rig<Uring> {
    Rig::over(
        Uring::open(config).expect("io_uring is there"),
        ListenOptions::default(),
    )
}

fn rig_by(setup: Setup, completions: u32, config: &Config) -> Rig<Uring> {
    let adapter = Uring::open_by(config, setup, completions).expect("the kernel takes it");
    Rig::over(adapter, ListenOptions::default())
}

/// Sends and gets an answer, on the connection of a peer.
fn echo(rig: &mut Rig<Uring>, peer: &mut TcpStream, bytes: &[u8]) {
    peer.write_all(bytes).expect("it is connected");
    let mut answered = 0;
    rig.run(
        |event| {
            if let Event::Received { bytes, link, .. } = event {
                link.outbox().put(bytes).expect("it fits");
                answered += bytes.len();
            }
        },
        |said| {
            let received = said.iter().filter_map(|said| match said {
                Said::Received(_, bytes) => Some(bytes.len()),
                _ => None,
            });
            received.sum::<usize>() >= bytes.len()
        },
    );
    rig.adapter.flush().expect("the adapter works");
    rig.said.clear();
    let mut answer = vec![0; bytes.len()];
    peer.read_exact(&mut answer).expect("the answer comes");
    assert_eq!(answer, bytes);
}

#[test]
fn every_setup_serves() {
    for setup in Setup::LADDER {
        let mut rig = rig_by(setup, 64, &Config::default());
        assert_eq!(rig.adapter.setup(), setup);
        assert!(rig.adapter.capabilities().thread_bound);
        let (mut peer, conn) = rig.peer();
        rig.said.clear();
        echo(&mut rig, &mut peer, b"ping");
        echo(&mut rig, &mut peer, &[7; 100_000]);
        drop(peer);
        rig.run(
            |event| {
                if let Event::Ended { link, .. } = event {
                    link.close(CloseMode::Flush);
                }
            },
            |said| matches!(said.last(), Some(Said::Closed(of, CloseReason::Requested)) if *of == conn),
        );
    }
}

#[test]
fn the_best_setup_of_this_kernel_is_taken() {
    let detected = Uring::detect().expect("io_uring is there");
    let opened = Uring::open(&Config::default()).expect("io_uring is there");
    assert_eq!(opened.setup(), detected);
}

#[test]
fn an_echo_takes_one_call_each_way() {
    let mut rig = rig(&Config::default());
    let (mut peer, _) = rig.peer();
    rig.said.clear();
    echo(&mut rig, &mut peer, b"warm");
    peer.write_all(b"ping").expect("it is connected");
    let before = rig.adapter.stats().syscalls;
    let guard = rig.deadline(GUARD);
    rig.adapter
        .poll(Some(guard), |_, event| {
            if let Event::Received { bytes, link, .. } = event {
                link.outbox().put(bytes).expect("it fits");
            }
        })
        .expect("the adapter works");
    rig.adapter.flush().expect("the adapter works");
    assert_eq!(rig.adapter.stats().syscalls - before, 2, "io_uring_enter, send");
}

#[test]
fn a_turn_on_another_thread_is_refused_and_harms_nothing() {
    let mut rig = rig(&Config::default());
    let (mut peer, _) = rig.peer();
    rig.said.clear();
    thread::scope(|scope| {
        let adapter = &mut rig.adapter;
        let turns = scope.spawn(|| {
            let poll = adapter.poll(Some(Instant::ZERO), |_, _| {}).expect_err("it is bound");
            let flush = adapter.flush().expect_err("it is bound");
            [poll, flush]
        });
        for error in turns.join().expect("it only asks") {
            assert!(error.to_string().contains("the thread of its first turn"), "{error}");
        }
    });
    echo(&mut rig, &mut peer, b"as before");
}

#[test]
fn the_first_turn_binds_not_the_opening() {
    let mut opened = rig(&Config::default());
    let nobody = opened.adapter.connect(&Endpoint::Unix("/nonexistent/kraft".into()));
    let nobody = nobody.expect("a descriptor is free");
    opened.adapter.link(nobody).expect("it is young").close(CloseMode::Now);
    opened.adapter.flush().expect("it binds nothing");
    thread::spawn(move || {
        let mut rig = opened;
        assert_eq!(rig.until_closed(nobody), CloseReason::Requested);
        let (mut peer, _) = rig.peer();
        rig.said.clear();
        echo(&mut rig, &mut peer, b"elsewhere");
    })
    .join()
    .expect("the thread has the adapter");
}

#[test]
fn dropped_on_another_thread_it_ends_its_connections() {
    let mut rig = rig(&Config::default());
    let (mut peer, conn) = rig.peer();
    rig.adapter
        .link(conn)
        .expect("it lives")
        .outbox()
        .put(b"last")
        .expect("it fits");
    rig.adapter.flush().expect("the adapter works");
    let at = rig.at;
    thread::spawn(move || drop(rig)).join().expect("it is dropped");
    let mut last = Vec::new();
    peer.read_to_end(&mut last).expect("it ends");
    assert_eq!(last, b"last");
    TcpStream::connect(at).expect_err("nobody listens");
}

#[test]
fn more_than_can_be_queued_before_the_first_turn_is_queued() {
    let mut server = rig(&Config::default());
    let mut client = Uring::open_by(&Config::default(), Setup::Deferred, 16).expect("io_uring is there");
    for _ in 0..100 {
        client.connect(&Endpoint::Tcp(server.at)).expect("a descriptor is free");
    }
    let mut connected = 0;
    let guard = std::time::Instant::now();
    while connected < 100 {
        let soon = client.now() + Duration::from_millis(1);
        client
            .poll(Some(soon), |_, event| {
                assert!(matches!(event, Event::Connected { .. }), "{event:?}");
                connected += 1;
            })
            .expect("the adapter works");
        server.run(|_| {}, |_| true);
        assert!(guard.elapsed() < GUARD, "{connected} of 100 are connected");
    }
}

/// Eight completions fit, and fifty connections have something at once, over and over.
#[test]
fn a_full_completion_queue_loses_nothing() {
    for setup in Setup::LADDER {
        let mut rig = rig_by(setup, 8, &Config::default());
        let mut peers: Vec<_> = (0..50)
            .map(|_| TcpStream::connect(rig.at).expect("it listens"))
            .collect();
        rig.until(|said| said.iter().filter(|said| matches!(said, Said::Accepted(_))).count() == 50);
        rig.said.clear();
        for round in 0..20_u8 {
            for peer in &mut peers {
                peer.write_all(&[round; 10]).expect("it is connected");
            }
            rig.until(|said| {
                let bytes = said.iter().map(|said| match said {
                    Said::Received(_, bytes) => bytes.len(),
                    other => panic!("{other:?}"),
                });
                bytes.sum::<usize>() == 500
            });
            let wrong = rig.said.iter().find(|said| match said {
                Said::Received(_, bytes) => bytes.iter().any(|byte| *byte != round),
                _ => true,
            });
            assert_eq!(wrong, None);
            rig.said.clear();
        }
    }
}

/// Bytes that were on their way to a paused connection are kept without a buffer of the ring: others have them all.
#[test]
fn paused_connections_keep_no_buffers() {
    let config = Config {
        read_buffer: 512,
        ring_bytes: 4096,
        ..Config::default()
    };
    let mut rig = rig(&config);
    let mut paused = Vec::new();
    for _ in 0..20 {
        let (mut peer, conn) = rig.peer();
        // There before the adapter hears of the pause.
        peer.write_all(&[9; 3000]).expect("it is connected");
        rig.adapter.link(conn).expect("it lives").pause();
        paused.push((peer, conn));
    }
    let (mut busy, _) = rig.peer();
    let heard = |said: &Said| matches!(said, Said::Received(..));
    assert!(!rig.said.iter().any(heard), "a paused connection received");
    rig.said.clear();
    for _ in 0..20 {
        echo(&mut rig, &mut busy, &[1; 4096]);
    }
    for &(_, conn) in &paused {
        rig.adapter.link(conn).expect("it lives").resume();
    }
    rig.until(|said| {
        let bytes = said.iter().map(|said| match said {
            Said::Received(_, bytes) => bytes.len(),
            other => panic!("{other:?}"),
        });
        bytes.sum::<usize>() == 20 * 3000
    });
}

#[test]
fn a_paused_connection_hears_of_a_reset() {
    let mut rig = rig(&Config::default());
    let (peer, conn) = rig.peer();
    rig.adapter.link(conn).expect("it lives").pause();
    rig.run(|_| {}, |_| true);
    // std has no way to linger; a peer that goes with bytes unread resets.
    rig.adapter
        .link(conn)
        .expect("it lives")
        .outbox()
        .put(b"unread")
        .expect("it fits");
    rig.adapter.flush().expect("the adapter works");
    let mut first = [0; 1];
    peer.peek(&mut first).expect("it came");
    drop(peer);
    assert_eq!(rig.until_closed(conn), CloseReason::Reset);
}

#[test]
fn what_has_no_room_goes_by_the_ring() {
    let config = Config {
        write_queue_max: 32 << 20,
        ..Config::default()
    };
    let mut rig = rig(&config);
    let (mut peer, conn) = rig.peer();
    let sent: Vec<u8> = (0..16_u32 << 20)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let outbox = rig.adapter.link(conn).expect("it lives").outbox();
    outbox.put(&sent[..1000]).expect("it fits");
    outbox.put_shared(&sent[1000..].to_vec().into()).expect("it fits");
    let mark = outbox.mark();
    let reader = thread::spawn(move || {
        let mut received = vec![0; 16 << 20];
        peer.read_exact(&mut received).expect("it comes");
        received
    });
    rig.until(|said| said.last() == Some(&Said::Written(conn, mark)));
    assert!(reader.join().expect("it reads") == sent, "other bytes arrived");
}

/// So many that small answers go by the ring.
const CROWD: usize = 8;

fn crowd(rig: &mut Rig<Uring>) -> Vec<(TcpStream, ConnId)> {
    let crowd = (0..CROWD).map(|_| rig.peer()).collect();
    rig.said.clear();
    crowd
}

#[test]
fn what_is_put_to_many_links_takes_one_call() {
    let mut rig = rig(&Config::default());
    let mut peers = crowd(&mut rig);
    let before = rig.adapter.stats();
    let mut due = Vec::new();
    for (at, (_, conn)) in peers.iter().enumerate() {
        let outbox = rig.adapter.link(*conn).expect("it lives").outbox();
        outbox.put(&[at as u8; 100]).expect("it fits");
        due.push(Said::Written(*conn, outbox.mark()));
    }
    rig.adapter.flush().expect("the adapter works");
    assert_eq!(rig.adapter.stats().syscalls - before.syscalls, 1, "io_uring_enter");
    rig.until(|said| said.len() == CROWD);
    assert!(due.iter().all(|due| rig.said.contains(due)), "{:?}", rig.said);
    assert_eq!(rig.adapter.stats().bytes_out - before.bytes_out, 100 * CROWD as u64);
    for (at, (peer, _)) in peers.iter_mut().enumerate() {
        let mut received = [0; 100];
        peer.read_exact(&mut received).expect("it came");
        assert_eq!(received, [at as u8; 100]);
    }
}

/// Also if nobody waits for the sends of the ring.
#[test]
fn what_many_links_put_comes_before_their_end() {
    for ends in [CloseMode::Flush, CloseMode::Now] {
        let mut rig = rig(&Config::default());
        let mut peers = crowd(&mut rig);
        for (_, conn) in &peers {
            let outbox = rig.adapter.link(*conn).expect("it lives").outbox();
            outbox.put(b"last").expect("it fits");
        }
        rig.adapter.flush().expect("the adapter works");
        for (_, conn) in &peers {
            rig.adapter.link(*conn).expect("it lives").close(ends);
        }
        rig.adapter.flush().expect("the adapter works");
        drop(rig);
        for (peer, _) in &mut peers {
            let mut last = Vec::new();
            peer.read_to_end(&mut last).expect("it ends");
            assert_eq!(last, b"last");
        }
    }
}

/// Small sends that find no room, or room for some of their bytes.
#[test]
fn a_crowd_that_does_not_read_loses_nothing() {
    const PUT: usize = 3001;
    let mut rig = rig(&Config::default());
    let peers = crowd(&mut rig);
    // Each time a turn passes, so that what is put is small, until no outbox takes more.
    let mut sent = [0; CROWD];
    let mut is_full = [false; CROWD];
    while is_full != [true; CROWD] {
        for (at, (_, conn)) in peers.iter().enumerate() {
            if is_full[at] {
                continue;
            }
            let bytes: Vec<u8> = (sent[at]..sent[at] + PUT).map(|byte| (byte % 251) as u8).collect();
            let outbox = rig.adapter.link(*conn).expect("it lives").outbox();
            is_full[at] = outbox.put(&bytes).is_err();
            sent[at] += if is_full[at] { 0 } else { PUT };
        }
        rig.run(|_| {}, |_| true);
    }
    let readers: Vec<_> = peers
        .into_iter()
        .zip(sent)
        .map(|((mut peer, _), count)| {
            thread::spawn(move || {
                let mut received = vec![0; count];
                peer.read_exact(&mut received).expect("it comes");
                received.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8)
            })
        })
        .collect();
    rig.until(|said| said.iter().filter(|said| matches!(said, Said::Drained(_))).count() == CROWD);
    let guard = rig.deadline(GUARD);
    while !readers.iter().all(thread::JoinHandle::is_finished) {
        assert!(rig.adapter.now() < guard, "they wait");
        rig.run(|_| {}, |_| true);
    }
    for reader in readers {
        assert!(reader.join().expect("it reads"), "other bytes arrived");
    }
}

/// Each has been used, so that its buffers are there. 10 MiB are 1,300 bytes for each.
#[test]
fn eight_thousand_idle_connections_take_ten_mebibytes() {
    const COUNT: usize = 8000;
    if !alone("uring::eight_thousand_idle_connections_take_ten_mebibytes") {
        return;
    }
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("it is there");
        let kib = line.split_whitespace().nth(1).expect("a number follows");
        kib.parse::<usize>().expect("it is a number")
    };
    if raise_descriptors(2 * COUNT as u64 + 100).is_err() {
        eprintln!("skipped: it needs {} descriptors", 2 * COUNT + 100);
        assert!(std::env::var_os("KRAFT_NO_SKIP").is_none(), "KRAFT_NO_SKIP is set");
        return;
    }
    let config = Config {
        max_connections: COUNT,
        ..Config::default()
    };
    let options = ListenOptions {
        max_connections: COUNT,
        ..ListenOptions::default()
    };
    let mut rig = Rig::over(Uring::open(&config).expect("io_uring is there"), options);
    let mut peers = Vec::with_capacity(COUNT);
    rig.run(|_| {}, |_| true);
    let before = resident();
    let mut accepted = 0;
    let mut echoed = 0;
    while echoed < COUNT {
        if peers.len() < COUNT {
            let mut peer = TcpStream::connect(rig.at).expect("it listens");
            peer.write_all(&[5; 64]).expect("it is connected");
            peers.push(peer);
        }
        let soon = rig.deadline(Duration::from_millis(u64::from(peers.len() == COUNT)));
        let turn = rig.adapter.poll(Some(soon), |_, event| match event {
            Event::Accepted { .. } => accepted += 1,
            Event::Received { bytes, link, .. } => {
                link.outbox().put(bytes).expect("it fits");
                echoed += usize::from(bytes.len() == 64);
            }
            other => panic!("{other:?}"),
        });
        turn.expect("the adapter works");
    }
    rig.adapter.flush().expect("the adapter works");
    assert_eq!(accepted, COUNT);
    let grown = resident().saturating_sub(before);
    println!("{grown} KiB for {COUNT} connections");
    assert!(grown <= 10 * 1024, "{grown} KiB for {COUNT} connections");
}

fn raise_descriptors(count: u64) -> std::io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: count,
        rlim_max: count,
    };
    let mut now = limit;
    // SAFETY: the limits live over the calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut now) == 0 && now.rlim_max >= count {
            now.rlim_cur = now.rlim_cur.max(count);
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const now) == 0 {
                return Ok(());
            }
        }
    }
    Err(std::io::Error::last_os_error())
}

/// All that an adapter can have in flight: accepts, receives with bytes on their way, sends without room, connects,
/// cancelled ones of each, wakes.
fn fill(config: &Config, setup: Setup, silent: &Endpoint) -> (Uring, Vec<TcpStream>) {
    let mut rig = rig_by(setup, 32, config);
    let mut peers = Vec::new();
    let mut conns = Vec::new();
    for _ in 0..4 {
        let (peer, conn) = rig.peer();
        peers.push(peer);
        conns.push(conn);
    }
    let full = rig.adapter.link(conns[0]).expect("it lives");
    full.outbox().put_shared(&vec![1; 8 << 20].into()).expect("it fits");
    let cut = rig.adapter.link(conns[1]).expect("it lives");
    cut.outbox().put_shared(&vec![2; 8 << 20].into()).expect("it fits");
    rig.adapter.connect(silent).expect("a descriptor is free");
    rig.run(|_| {}, |_| true);
    for peer in &mut peers {
        peer.write_all(&[3; 2000]).expect("it is connected");
    }
    // In the queue of who accepts.
    peers.push(TcpStream::connect(rig.at).expect("it listens"));
    rig.adapter.link(conns[1]).expect("it lives").close(CloseMode::Now);
    rig.adapter.link(conns[2]).expect("it lives").pause();
    rig.adapter.waker().wake();
    (rig.adapter, peers)
}

#[test]
fn dropped_with_everything_in_flight_a_thousand_times() {
    if !alone("uring::dropped_with_everything_in_flight_a_thousand_times") {
        return;
    }
    let open = || std::fs::read_dir("/proc/self/fd").expect("/proc is mounted").count();
    let mapped = || {
        std::fs::read_to_string("/proc/self/maps")
            .expect("/proc is mounted")
            .lines()
            .count()
    };
    let config = Config {
        write_queue_max: 16 << 20,
        ring_bytes: 64 << 10,
        ..Config::default()
    };
    // Its queue is full, so that connects hang.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let at = silent.local_addr().expect("it is bound");
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&at, Duration::from_millis(100)) {
        queued.push(stream);
    }
    let mut before = None;
    for round in 0..1000 {
        let config = Config {
            zero_copy_min: (round % 4 >= 2).then_some(1),
            ..config.clone()
        };
        let (mut adapter, peers) = fill(&config, Setup::LADDER[round % 3], &at.into());
        // Submitted and not reaped; or not even submitted.
        if round % 2 == 0 {
            adapter.flush().expect("the adapter works");
        }
        drop(adapter);
        for mut peer in peers {
            // Every socket is closed: the peer hears an end, or a reset.
            let _ = peer.set_read_timeout(Some(GUARD));
            let mut buffer = vec![0; 1 << 20];
            while !matches!(peer.read(&mut buffer), Ok(0) | Err(_)) {}
        }
        if round == 20 {
            before = Some((open(), mapped()));
        }
    }
    let (descriptors, mappings) = before.expect("round 20 was");
    assert_eq!(open(), descriptors, "descriptors are left open");
    assert!(
        mapped() <= mappings + 8,
        "memory is left mapped: {} for {mappings}",
        mapped()
    );
}
