//! What somebody else in the process does to an adapter, and what it is asked for in vain.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use kraft_core::adapter::{Adapter, CloseReason, Endpoint, Event, ListenOptions};
use kraft_core::id::ConnId;
use kraft_core::link::CloseMode;
use socket2::{SockAddr, SockRef};

use super::descriptors::processor_time;
use super::environment::{Environment, Remote};
use super::party::{Party, Served, loopback, read_some, say_skipped, write_some};
use crate::Config;

/// Descriptors that are looked through: a law has a few dozen.
const DESCRIPTORS: RawFd = 1024;

/// A descriptor that somebody else closed ends its own connection, at the latest when that is used, and nothing else:
/// no spin, no panic, nobody waits. The same of a listener, which accepts nobody any more.
pub fn a_descriptor_closed_behind_its_back_harms_nobody_else<E: Environment>(environment: &E) {
    if environment.is_virtual() {
        return say_skipped("a descriptor closed behind its back", "there are no descriptors");
    }
    for state in ["idle", "paused", "full"] {
        for user in ["puts", "flushes", "cuts"] {
            close_one_behind(environment, state, user);
        }
    }
    close_listener_behind(environment);
}

fn close_one_behind<E: Environment>(environment: &E, state: &str, user: &str) {
    let config = Config {
        write_queue_max: 16 << 20,
        linger: Duration::from_millis(100),
        ..Config::default()
    };
    let mut served = Served::open(environment, &config, 1);
    let other = served.party.begun()[0];
    let mut remote = environment.dial(&served.at).expect("it listens");
    let mut peer = None;
    while peer.is_none() {
        served.party.turn_with(Duration::from_millis(1), |_, event| {
            if let Event::Accepted { peer: from, .. } = event {
                peer = Some(from);
            }
        });
    }
    let victim = served.party.begun()[1];
    let Some(fd) = peer.and_then(|peer| descriptor(&served.at, Some(&peer))) else {
        return say_skipped("a descriptor closed behind its back", "it has none for a connection");
    };
    match state {
        "paused" => {
            served.party.link(victim).pause();
            served.party.turn(Duration::ZERO);
            write_some(&mut remote, b"unread");
        }
        "full" => served.party.put(victim, &vec![1; 16 << 20]),
        _ => {}
    }
    served.party.turn(Duration::from_millis(2));
    close(fd);
    check_idle(&mut served.party, &format!("{state}, its descriptor closed"));
    check_served(&mut served.party, other, &mut served.remotes[0]);
    // It may have been noticed.
    if let Some(link) = served.party.adapter.link(victim) {
        match user {
            "puts" => {
                // Who is full waits for room that no one announces any more.
                if link.outbox().put(b"x").is_err() || state == "full" {
                    link.close(CloseMode::Flush);
                }
            }
            "flushes" => link.close(CloseMode::Flush),
            _ => link.close(CloseMode::Now),
        }
    }
    served
        .party
        .until("its end", |party| party.track(victim).closed.is_some());
    if user == "puts" {
        let reason = served.party.track(victim).closed;
        assert_ne!(
            reason,
            Some(CloseReason::Requested),
            "{state}: what was put went nowhere"
        );
    }
    check_served(&mut served.party, other, &mut served.remotes[0]);
    // Its slot, and the number of its descriptor, serve the next.
    let mut next = environment.dial(&served.at).expect("it listens");
    served
        .party
        .until("another connection", |party| party.begun().len() == 3);
    let conn = served.party.begun()[2];
    check_served(&mut served.party, conn, &mut next);
}

fn close_listener_behind<E: Environment>(environment: &E) {
    let mut served = Served::open(environment, &Config::default(), 1);
    let other = served.party.begun()[0];
    let (doomed, at) = served.party.listen(&loopback());
    served.party.turn(Duration::from_millis(1));
    let Some(fd) = descriptor(&at, None) else {
        return say_skipped("a descriptor closed behind its back", "it has none for a listener");
    };
    close(fd);
    check_idle(&mut served.party, "a listener's descriptor closed");
    check_served(&mut served.party, other, &mut served.remotes[0]);
    served.party.adapter.unlisten(doomed);
    served.party.turn(Duration::from_millis(1));
    let (_, again) = served.party.listen(&loopback());
    let mut next = environment.dial(&again).expect("it listens");
    served
        .party
        .until("another connection", |party| party.begun().len() == 2);
    let conn = served.party.begun()[1];
    check_served(&mut served.party, conn, &mut next);
    check_served(&mut served.party, other, &mut served.remotes[0]);
}

/// Who waits for nothing uses no processor.
#[track_caller]
fn check_idle<A: Adapter>(party: &mut Party<A>, what: &str) {
    let wait = Duration::from_millis(100);
    party.turn(Duration::from_millis(2));
    let before = processor_time();
    let deadline = party.adapter.now() + wait;
    let mut turns = 0;
    while party.adapter.now() < deadline {
        party.turn_until(Some(deadline), |_, _| ());
        turns += 1;
    }
    let used = processor_time() - before;
    assert!(
        used < wait / 2,
        "{what}: {used:?} of processor time in {wait:?} of idling"
    );
    assert!(turns <= 3, "{what}: {turns} turns of an idle adapter");
}

#[track_caller]
fn check_served<A: Adapter>(party: &mut Party<A>, conn: ConnId, remote: &mut impl Remote) {
    let goal = party.track(conn).received_count + 1;
    assert_eq!(write_some(remote, b"?"), 1);
    party.until("a byte", |party| party.track(conn).received_count == goal);
    party.put(conn, b"!");
    let mut answer = Vec::new();
    party.until("its answer", |_| {
        read_some(remote, &mut answer);
        answer == b"!"
    });
}

/// The socket of this process that is bound to `at` and connected to `peer`, or listens.
fn descriptor(at: &Endpoint, peer: Option<&Endpoint>) -> Option<RawFd> {
    (3..DESCRIPTORS).find(|&fd| {
        // SAFETY: it may be open or not: the calls below find out. This process runs one law, in one thread, so that
        // nobody closes it meanwhile.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let socket = SockRef::from(&fd);
        let is = |address: SockAddr, of: &Endpoint| address.as_socket().map(Endpoint::from).as_ref() == Some(of);
        let is_bound = socket.local_addr().is_ok_and(|address| is(address, at));
        is_bound
            && match (socket.peer_addr(), peer) {
                (Ok(address), Some(peer)) => is(address, peer),
                (Err(_), None) => true,
                _ => false,
            }
    })
}

/// Closes it behind its owner's back. Its number is given out again at once, as it would be before long: a closed one that
/// its owner closes again is what Rust's library ends the process for, where it is compiled to look.
fn close(fd: RawFd) {
    let nothing = File::open("/dev/null").expect("it is there");
    // SAFETY: two numbers; that the owner of one does not know is what is judged.
    assert_eq!(unsafe { libc::dup2(nothing.as_raw_fd(), fd) }, fd);
}

/// What cannot be listened at or connected to at all is refused by an error that says what was asked for, and where;
/// nothing is used up.
pub fn refused_endpoints_are_named<E: Environment>(environment: &E) {
    let mut party = Party::open(environment, &Config::default());
    let (_, taken) = party.listen(&loopback());
    check_refused(&mut party, &taken);
    if !environment.is_virtual() {
        // TEST-NET-1 (RFC 5737) is nobody's.
        check_refused(&mut party, &Endpoint::Tcp(([192, 0, 2, 1], 0).into()));
        let folder = std::env::temp_dir();
        let name = |end: &str| folder.join(format!("kraft-{}-{end}", std::process::id()));
        check_refused(&mut party, &Endpoint::Unix(folder.join("x".repeat(200))));
        check_refused(&mut party, &Endpoint::Unix(PathBuf::from("/nonexistent/kraft/socket")));
        let (at, file) = (Endpoint::Unix(name("taken")), name("file"));
        let (listener, _) = party.listen(&at);
        check_refused(&mut party, &at);
        party.adapter.unlisten(listener);
        std::fs::write(&file, b"precious").expect("the folder can be written to");
        check_refused(&mut party, &Endpoint::Unix(file.clone()));
        assert_eq!(std::fs::read(&file).expect("it is there"), b"precious");
        std::fs::remove_file(&file).expect("it is there");
        // Too long to be dialled; where nobody listens is known by `Closed` (law A7).
        let long = Endpoint::Unix(folder.join("x".repeat(200)));
        let error = party.adapter.connect(&long).expect_err("the path is too long");
        check_text(&error, "connect", &long);
    }
    // What is in use is still served.
    let mut remote = environment.dial(&taken).expect("it listens");
    party.until("a connection", |party| party.begun().len() == 1);
    let conn = party.begun()[0];
    check_served(&mut party, conn, &mut remote);
    assert_eq!(party.adapter.stats().active, 1);
}

#[track_caller]
fn check_refused<A: Adapter>(party: &mut Party<A>, at: &Endpoint) {
    let refused = party.adapter.listen(at, ListenOptions::default());
    check_text(&refused.expect_err("nobody can listen there"), "listen", at);
}

#[track_caller]
fn check_text(error: &std::io::Error, what: &str, at: &Endpoint) {
    let text = error.to_string();
    assert!(text.contains(&at.to_string()), "it does not say where ({at}): {text}");
    assert!(text.contains(what), "it does not say what ({what}): {text}");
    let reason = text.replace(&at.to_string(), "").replace(what, "");
    assert!(reason.trim_matches([' ', ':']).len() > 3, "it does not say why: {text}");
}
