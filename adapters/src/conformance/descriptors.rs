//! Laws about what an adapter uses up: descriptors, threads, memory, processor time.

use std::fs::{self, File};
use std::time::Duration;

use kraft_core::adapter::{Adapter, CloseReason, Event, ListenOptions};
use kraft_core::id::ConnId;
use kraft_core::link::CloseMode;

use super::counting::Counting;
use super::environment::Environment;
use super::party::{Pair, Party, Served, count_turn, is_over, loopback, pattern, read_some, skip, write_some};
use crate::Config;

/// Drop closes every fd and joins every thread, whatever the adapter was about.
pub fn a21_drop_leaves_nothing_open<E: Environment>(environment: &E) {
    let round = || {
        let mut served = Served::open(environment, &Config::default(), 3);
        let conns = served.party.begun().to_vec();
        served.party.put(conns[0], &pattern(0, 1_000_000));
        served.party.link(conns[1]).close(CloseMode::Flush);
        served.party.link(conns[2]).pause();
        write_some(&mut served.remotes[2], b"unread");
        served.party.turn(Duration::ZERO);
        let waker = served.party.adapter.waker();
        let start = served.party.adapter.now();
        served.party.adapter.timers().start(start + Duration::from_secs(60));
        let at = served.at.clone();
        served.party.connect(&at);
        let Served { party, at, mut remotes } = served;
        drop(party);
        waker.wake();
        assert!(environment.dial(&at).is_err(), "A21: somebody still listens");
        for remote in &mut remotes {
            let mut received = Vec::new();
            while !is_over(remote) {
                read_or_reset(remote, &mut received);
            }
        }
    };
    // What std and the system open once.
    round();
    let before = (entries("/proc/self/fd"), entries("/proc/self/task"));
    for _ in 0..3 {
        round();
    }
    let after = (entries("/proc/self/fd"), entries("/proc/self/task"));
    assert_eq!(before.0, after.0, "A21: descriptors are left open");
    assert_eq!(before.1, after.1, "A21: threads are left");
    if before.0.is_none() && !environment.is_virtual() {
        skip("A21 in part", "the system does not list descriptors in /proc");
    }
}

/// A reset is what a socket gets whose peer went with bytes unread.
fn read_or_reset(remote: &mut impl std::io::Read, into: &mut Vec<u8>) {
    let mut buffer = [0; 65_536];
    if let Ok(count) = remote.read(&mut buffer) {
        into.extend_from_slice(&buffer[..count]);
    }
}

fn entries(folder: &str) -> Option<usize> {
    Some(fs::read_dir(folder).ok()?.count())
}

/// No allocation in a steady turn.
///
/// A thread allocates when it first waits for another one, which on a busy machine may be late. So what counts is that
/// there comes a time without any: a backend that allocates as it goes has none.
pub fn a22_steady_turns_do_not_allocate<E: Environment>(environment: &E) {
    const WARM_UP: usize = 300;
    const MEASURED: usize = 1000;
    const TRIES: usize = 4;
    if environment.allocations().is_none() {
        return skip("A22", "the environment does not count allocations");
    }
    Counting::leave_out_others();
    let mut pair = Pair::open(environment, &Config::default());
    let (at_a, at_b) = (pair.at_a, pair.at_b);
    pair.a.turn(Duration::ZERO);
    // Past the parties, which keep what they see.
    let (a, b) = (&mut pair.a.adapter, &mut pair.b.adapter);
    let small = [1; 100];
    let big = bytes::Bytes::from(pattern(0, 16_384));
    let mut round = |round: usize| {
        count_turn();
        let now = a.now();
        let link = a.link(at_a).expect("the connection lives");
        link.outbox().put(&small).expect("it fits");
        if round.is_multiple_of(4) {
            link.outbox().put_shared(&big).expect("it fits");
        }
        link.outbox().mark();
        // An election timer restarts at every heartbeat.
        let timer = a.timers().start(now + Duration::from_secs(60));
        let sent = 100 + if round.is_multiple_of(4) { big.len() } else { 0 };
        let (mut there, mut back) = (0, 0);
        while back < sent {
            let deadline = a.now() + Duration::from_millis(1);
            let polled = a.poll(Some(deadline), |_, event| {
                if let Event::Received { bytes, .. } = event {
                    back += bytes.len();
                }
            });
            polled.expect("the adapter runs");
            let deadline = b.now() + Duration::from_millis(1);
            let polled = b.poll(Some(deadline), |_, event| {
                if let Event::Received { bytes, link, .. } = event {
                    there += bytes.len();
                    link.outbox().put(bytes).expect("it fits");
                }
            });
            polled.expect("the adapter runs");
            b.flush().expect("the adapter runs");
        }
        assert_eq!((there, back), (sent, sent));
        assert!(a.timers().stop(timer));
        assert!(b.link(at_b).is_some());
    };
    (0..WARM_UP).for_each(&mut round);
    let mut counts = Vec::new();
    while counts.len() < TRIES {
        let before = environment.allocations();
        (0..MEASURED).for_each(&mut round);
        if environment.allocations() == before {
            return;
        }
        counts.push(
            before
                .zip(environment.allocations())
                .map(|(before, after)| after - before),
        );
    }
    panic!("A22: allocations in {MEASURED} steady turns, again and again: {counts:?}");
}

/// An idle adapter uses no CPU: also with a paused connection that has bytes, a half-closed one, and a full one.
pub fn a25_idle_uses_no_cpu<E: Environment>(environment: &E) {
    let wait = Duration::from_millis(400);
    let config = Config {
        write_queue_max: 16 << 20,
        ..Config::default()
    };
    let mut served = Served::open(environment, &config, 4);
    let conns = served.party.begun().to_vec();
    served.party.link(conns[0]).pause();
    served.party.turn(Duration::ZERO);
    write_some(&mut served.remotes[0], &pattern(0, 100_000));
    super::Remote::end(&mut served.remotes[0]).expect("the remote lives");
    super::Remote::end(&mut served.remotes[1]).expect("the remote lives");
    served.party.put(conns[2], &vec![1; 16 << 20]);
    served.party.until("the end", |party| party.track(conns[1]).ended);
    served.party.turn(Duration::from_millis(20));
    let before = processor_time();
    let deadline = served.party.adapter.now() + wait;
    let mut turns = 0;
    while served.party.adapter.now() < deadline {
        assert_eq!(served.party.turn_until(Some(deadline), |_, _| ()), 0);
        turns += 1;
    }
    let used = processor_time() - before;
    assert!(
        used < wait / 10,
        "A25: {used:?} of processor time in {wait:?} of idling"
    );
    assert!(turns <= 2, "A25: {turns} turns of an idle adapter");
}

/// EMFILE while accepting neither spins nor kills the listener.
pub fn a26_emfile_neither_spins_nor_kills_the_listener<E: Environment>(environment: &E) {
    let mut served = Served::open(environment, &Config::default(), 1);
    let conn = served.party.begun()[0];
    // So few that using them up takes no time.
    set_limit(200);
    let mut fillers: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(!fillers.is_empty());
    // One for who dials; none for who accepts.
    fillers.pop();
    let mut remote = environment.dial(&served.at).expect("it listens");
    assert!(File::open("/dev/null").is_err(), "there is a descriptor left");
    write_some(&mut remote, b"patience");
    let wait = Duration::from_millis(500);
    let before = processor_time();
    let deadline = served.party.adapter.now() + wait;
    while served.party.adapter.now() < deadline {
        served.party.turn_until(Some(deadline), |_, _| ());
    }
    let used = processor_time() - before;
    assert!(
        used < wait / 5,
        "A26: {used:?} of processor time in {wait:?} without descriptors"
    );
    // Who is there already is served.
    write_some(&mut served.remotes[0], b"x");
    served.party.until("a byte", |party| party.track(conn).received == b"x");
    served.party.put(conn, b"y");
    let mut answer = Vec::new();
    let other = &mut served.remotes[0];
    served.party.until("its answer", |_| {
        read_some(other, &mut answer);
        answer == b"y"
    });
    // A backend may have turned the one away that it had no descriptor for; it must take the next.
    let is_turned_away = is_over(&mut remote);
    drop(fillers);
    if is_turned_away {
        remote = environment.dial(&served.at).expect("it listens");
        write_some(&mut remote, b"patience");
    }
    served.party.until("the connection that had to wait", |party| {
        party
            .begun()
            .get(1)
            .is_some_and(|&conn| party.track(conn).received == b"patience")
    });
}

/// More than `max_connections` are turned away and the rest keep working.
pub fn a27_more_than_the_limit_are_turned_away<E: Environment>(environment: &E) {
    // The limit of the listener, and that of the adapter.
    for (of_listener, of_adapter) in [(3, 100), (100, 3)] {
        let config = Config {
            max_connections: of_adapter,
            ..Config::default()
        };
        let options = ListenOptions {
            max_connections: of_listener,
            ..ListenOptions::default()
        };
        let mut party = Party::open(environment, &config);
        let (_, at) = party.listen_with(&loopback(), options);
        let mut remotes: Vec<_> = (0..10).map(|_| environment.dial(&at).expect("it listens")).collect();
        party.until("ten connections", |party| {
            let stats = party.adapter.stats();
            stats.accepted + stats.turned_away == 10
        });
        assert_eq!((party.begun().len(), party.adapter.stats().turned_away), (3, 7));
        party.until("seven to be turned away", |_| {
            remotes.retain_mut(|remote| !is_over(remote));
            remotes.len() <= 3
        });
        assert_eq!(remotes.len(), 3, "who was accepted stays");
        for &conn in &party.begun().to_vec() {
            party.put(conn, b"served");
        }
        let mut answers = vec![Vec::new(); 3];
        party.until("three to be served", |_| {
            for (remote, answer) in remotes.iter_mut().zip(&mut answers) {
                assert!(!read_some(remote, answer));
            }
            answers.iter().all(|answer| answer == b"served")
        });
        if of_adapter == 3 {
            party.adapter.connect(&at).expect_err("no slot is left");
        }
        // Room again.
        let conn: ConnId = party.begun()[1];
        party.link(conn).close(CloseMode::Now);
        party.until("the close", |party| party.track(conn).closed.is_some());
        assert_eq!(party.track(conn).closed, Some(CloseReason::Requested));
        let mut remote = environment.dial(&at).expect("it listens");
        write_some(&mut remote, b"x");
        party.until("a fourth", |party| {
            party
                .begun()
                .get(3)
                .is_some_and(|&conn| party.track(conn).received == b"x")
        });
    }
}

/// Processor time of this process so far.
pub(super) fn processor_time() -> Duration {
    // SAFETY: an all-zero `rusage` is a valid one, and is valid for the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0);
        usage
    };
    let sum = |time: libc::timeval| {
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    sum(usage.ru_utime) + sum(usage.ru_stime)
}

fn limit() -> libc::rlimit {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is valid for the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit
}

fn set_limit(count: u64) {
    let limit = libc::rlimit {
        rlim_cur: count as libc::rlim_t,
        ..limit()
    };
    // SAFETY: the limit is valid for the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// Makes room for so many descriptors. Never lowers the limit.
pub(super) fn raise_limit(count: u64) -> Result<(), String> {
    let limit = limit();
    #[cfg_attr(
        not(any(target_os = "dragonfly", target_os = "freebsd")),
        expect(clippy::unnecessary_cast, reason = "it is signed on FreeBSD")
    )]
    let (soft, hard) = (limit.rlim_cur as u64, limit.rlim_max as u64);
    match () {
        () if soft >= count => Ok(()),
        () if hard >= count => {
            set_limit(count);
            Ok(())
        }
        () => Err(format!("it needs {count} descriptors, and the hard limit is {hard}")),
    }
}
