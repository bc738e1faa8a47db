//! Laws about how connections begin, and how they do not.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kraft_core::adapter::{Adapter, CloseReason, Endpoint, Event, ListenOptions};
use kraft_core::link::CloseMode;
use kraft_core::outbox::Full;

use super::environment::Environment;
use super::party::{Pair, Party, assert_same, loopback, pattern, read_some, skip, until, write_some};
use crate::Config;

/// A connection begins with `Accepted` or `Connected`, once, first: also if bytes and the end are there by then.
pub fn a01_begins_once_and_first<E: Environment>(environment: &E) {
    let mut a = Party::open(environment, &Config::default());
    let mut b = Party::open(environment, &Config::default());
    let (listener, at) = b.listen(&loopback());
    let dialled: Vec<_> = (0..5).map(|_| a.connect(&at)).collect();
    for &conn in &dialled {
        a.put(conn, b"early");
    }
    let mut remote = environment.dial(&at).expect("it listens");
    write_some(&mut remote, b"early");
    super::Remote::end(&mut remote).expect("the remote lives");
    let mut accepted = Vec::new();
    let mut turns = 0;
    while accepted.len() < 6 {
        a.turn(Duration::from_millis(1));
        b.turn_with(Duration::from_millis(1), |_, event| {
            if let Event::Accepted {
                listener: of,
                conn,
                peer,
                link,
            } = event
            {
                assert_eq!(of, listener);
                assert!(matches!(peer, Endpoint::Tcp(peer) if peer.ip() == Ipv4Addr::LOCALHOST));
                link.outbox().put(b"greeting").expect("it fits");
                accepted.push(conn);
            }
        });
        turns += 1;
        assert!(turns < 10_000, "only {} of 6 connections were accepted", accepted.len());
    }
    until(&mut a, &mut b, "what was put and sent early", |a, b| {
        let greeted = dialled.iter().all(|&conn| a.track(conn).received == b"greeting");
        greeted && accepted.iter().all(|&conn| b.track(conn).received == b"early")
    });
    assert_eq!(a.begun().len(), 5);
    assert_eq!(b.begun(), accepted);
    assert_eq!((a.adapter.stats().initiated, b.adapter.stats().accepted), (5, 6));
}

/// A reused slot has a new id; stale ids are inert.
pub fn a05_reused_slots_have_new_ids<E: Environment>(environment: &E) {
    let config = Config {
        max_connections: 4,
        ..Config::default()
    };
    let mut a = Party::open(environment, &config);
    let mut b = Party::open(environment, &config);
    let (listener, at) = b.listen(&loopback());
    let mut seen = BTreeSet::new();
    let mut slots = BTreeSet::new();
    for round in 0..20 {
        let conn = a.connect(&at);
        assert!(
            conn.slot() < config.max_connections,
            "{conn} is not below max_connections"
        );
        assert!(seen.insert(conn), "{conn} was used before");
        slots.insert(conn.slot());
        until(&mut a, &mut b, "a connection", |_, b| b.begun().len() == round + 1);
        let other = b.begun()[round];
        assert!(other.slot() < config.max_connections);
        b.link(other).close(CloseMode::Now);
        until(&mut a, &mut b, "the end", |a, b| {
            a.track(conn).ended && b.track(other).closed.is_some()
        });
        a.link(conn).close(CloseMode::Now);
        until(&mut a, &mut b, "the close", |a, _| a.track(conn).closed.is_some());
        for &stale in &seen {
            assert!(a.adapter.link(stale).is_none(), "{stale} is gone and has a link");
        }
    }
    assert!(slots.len() <= 4);
    b.adapter.unlisten(listener);
    let (again, _) = b.listen(&loopback());
    assert_ne!(listener, again);
    b.adapter.local_endpoint(listener).expect_err("it is stale");
    b.adapter.unlisten(listener);
    b.adapter
        .local_endpoint(again)
        .expect("a stale id does not end another listener");
}

/// Refused, timed-out and unroutable connects end in `Closed`, without `Connected`.
pub fn a07_failed_connects_end_in_closed<E: Environment>(environment: &E) {
    let timeout = Duration::from_millis(300);
    let config = Config {
        connect_timeout: timeout,
        ..Config::default()
    };
    let mut party = Party::open(environment, &config);
    let (listener, nobody) = party.listen(&loopback());
    // Before that port is free, or the system might give the silent one just this.
    let silent = environment.silent().expect("the environment has a silent endpoint");
    party.adapter.unlisten(listener);
    // There is no way to everybody: whatever routers answer elsewhere, the own system refuses this.
    let nowhere = Endpoint::Tcp(SocketAddr::from((Ipv4Addr::BROADCAST, 9)));
    let missing = Endpoint::Unix(socket_path());
    // A turn first: a time-out begins at the connect, by a clock that is read once a turn.
    party.turn(Duration::ZERO);
    let start = party.adapter.now();
    let refused = party.connect(&nobody);
    let timed_out = party.connect(&silent.endpoint);
    let unroutable = party.connect(&nowhere);
    let missing = party.connect(&missing);
    party.put(refused, b"to nobody");
    party.until("the end of a connect that times out", |party| {
        party.track(timed_out).closed.is_some()
    });
    assert!(party.adapter.now() - start >= timeout, "A7: a connect timed out early");
    party.until("the end of all connects", |party| party.closed_count() == 4);
    assert!(party.begun().is_empty());
    assert_eq!(party.track(refused).closed, Some(CloseReason::Refused));
    assert_eq!(party.track(timed_out).closed, Some(CloseReason::TimedOut));
    // Systems differ in what they call it.
    assert!(party.track(unroutable).closed.is_some());
    assert!(party.track(missing).closed.is_some());
    assert_eq!(party.adapter.stats().failed, 4);
    assert_eq!(party.adapter.stats().active, 0);
}

/// IPv4, IPv6 and Unix sockets behave the same; a stale socket file is cleaned up, and nothing else is.
pub fn a31_address_families_behave_the_same<E: Environment>(environment: &E) {
    check_family(environment, &loopback());
    let v6 = Endpoint::Tcp((Ipv6Addr::LOCALHOST, 0).into());
    let mut probe = environment.open(&Config::default()).expect("the adapter opens");
    match probe.listen(&v6, ListenOptions::default()) {
        Ok(_) => check_family(environment, &v6),
        Err(error) => skip("A31 over IPv6", &error.to_string()),
    }
    let path = socket_path();
    check_family(environment, &Endpoint::Unix(path.clone()));
    if environment.is_virtual() {
        return;
    }
    // A socket whose process is gone leaves its file.
    let _ = fs::remove_file(&path);
    drop(UnixListener::bind(&path).expect("nothing is there"));
    assert!(path.exists());
    let at = Endpoint::Unix(path.clone());
    check_family(environment, &at);
    // One that is in use is not taken away.
    let _ = fs::remove_file(&path);
    let living = UnixListener::bind(&path).expect("nothing is there");
    probe
        .listen(&at, ListenOptions::default())
        .expect_err("somebody listens there");
    std::os::unix::net::UnixStream::connect(&path).expect("who listened there still does");
    drop(living);
    let _ = fs::remove_file(&path);
    fs::write(&path, "precious").expect("the folder can be written to");
    probe
        .listen(&at, ListenOptions::default())
        .expect_err("a file is there");
    assert_eq!(fs::read(&path).expect("it is still there"), b"precious");
    let _ = fs::remove_file(&path);
}

fn check_family<E: Environment>(environment: &E, at: &Endpoint) {
    let mut a = Party::open(environment, &Config::default());
    let mut b = Party::open(environment, &Config::default());
    let (_, at) = b.listen(at);
    let conn = a.connect(&at);
    let sent = pattern(0, 100_000);
    a.put(conn, &sent);
    a.link(conn).outbox().mark();
    until(&mut a, &mut b, "all bytes", |a, b| {
        let received = b.begun().first().map(|&conn| b.track(conn).received.len());
        received == Some(sent.len()) && a.track(conn).written.len() == 1
    });
    let other = b.begun()[0];
    assert_same(&b.track(other).received, &sent);
    b.put(other, b"reply");
    b.link(other).close(CloseMode::Flush);
    until(&mut a, &mut b, "the reply and the end", |a, _| a.track(conn).ended);
    assert_eq!(a.track(conn).received, b"reply");
    a.link(conn).close(CloseMode::Flush);
    until(&mut a, &mut b, "both closed", |a, b| {
        a.track(conn).closed.is_some() && b.track(other).closed.is_some()
    });
    assert_eq!(a.track(conn).closed, Some(CloseReason::Requested));
    assert_eq!(b.track(other).closed, Some(CloseReason::Requested));
    let mut remote = environment.dial(&at).expect("it listens");
    write_some(&mut remote, b"half");
    super::Remote::end(&mut remote).expect("the remote lives");
    b.until("the remote's end", |b| {
        b.begun().get(1).is_some_and(|&conn| b.track(conn).ended)
    });
    let last = b.begun()[1];
    b.put(last, b"answer");
    b.link(last).close(CloseMode::Flush);
    let mut answer = Vec::new();
    b.until("the answer", |_| read_some(&mut remote, &mut answer));
    assert_eq!(answer, b"answer");
}

/// What is put between `connect` and `Connected` is sent first, in order, and A8 holds meanwhile.
pub fn a33_puts_before_connected_are_sent_first<E: Environment>(environment: &E) {
    let config = Config {
        write_queue_max: 10_000,
        ..Config::default()
    };
    let mut a = Party::open(environment, &config);
    let mut b = Party::open(environment, &config);
    let (_, at) = b.listen(&loopback());
    let conn = a.connect(&at);
    let outbox = a.link(conn).outbox();
    let mut sent = Vec::new();
    for _ in 0..10 {
        let piece = pattern(sent.len(), 1000);
        outbox.put(&piece).expect("it fits");
        sent.extend(piece);
    }
    assert_eq!(outbox.put(b"!"), Err(Full));
    assert_eq!(outbox.len(), 10_000);
    let mut connected = false;
    let mut rounds = 0;
    while !connected {
        b.turn(Duration::ZERO);
        a.turn_with(Duration::from_millis(1), |_, event| match event {
            Event::Connected { .. } => connected = true,
            Event::Drained { link, .. } => {
                assert!(connected, "A33: Drained before Connected");
                link.outbox().put(b"later").expect("it fits");
            }
            _ => {}
        });
        rounds += 1;
        assert!(rounds < 10_000, "the connection was not made");
    }
    until(&mut a, &mut b, "what was put", |a, b| {
        let received = b.begun().first().map_or(0, |&conn| b.track(conn).received.len());
        received >= sent.len() && a.track(conn).drained == 1
    });
    let later = b.begun()[0];
    assert_same(&b.track(later).received[..sent.len()], &sent);
    // A close before the connection is there sends what was put all the same.
    let conn = a.connect(&at);
    a.put(conn, b"last words");
    a.link(conn).close(CloseMode::Flush);
    until(&mut a, &mut b, "the last words", |_, b| {
        b.begun().get(1).is_some_and(|&conn| b.track(conn).ended)
    });
    assert_eq!(b.track(b.begun()[1]).received, b"last words");
    // And one at once is never there.
    let conn = a.connect(&at);
    a.link(conn).close(CloseMode::Now);
    until(&mut a, &mut b, "the close", |a, _| a.track(conn).closed.is_some());
    assert_eq!(a.track(conn).closed, Some(CloseReason::Requested));
    Pair::open(environment, &config).check_works();
}

/// A path for a socket that nobody else has.
fn socket_path() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "kraft-{}-{}.sock",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    std::env::temp_dir().join(name)
}
