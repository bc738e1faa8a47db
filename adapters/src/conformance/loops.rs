//! Laws about an adapter among threads, signals, other loops and other adapters.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kraft_core::adapter::{Adapter, Event};

use super::environment::{Environment, Remote};
use super::party::{Pair, Party, Served, assert_same, loopback, pattern, write_some};
use crate::Config;

/// A wake from another thread ends a wait, also one made before the wait; many may become one.
pub fn a13_a_wake_ends_a_wait<E: Environment>(environment: &E) {
    let mut party = Party::open(environment, &Config::default());
    // Before the wait.
    let waker = party.adapter.waker();
    waker.wake();
    party.turn_until(None, |_, _| ());
    assert_eq!(party.woken, 1);
    // From another thread, while it waits or before: nothing else would end it.
    for round in 1..=20 {
        let waker = waker.clone();
        let thread = thread::spawn(move || waker.wake());
        while party.woken <= round {
            party.turn_until(None, |_, event| assert!(matches!(event, Event::Woken)));
        }
        thread.join().expect("it only wakes");
    }
    // Many at once, from several threads.
    party.woken = 0;
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let waker = party.adapter.waker();
            thread::spawn(move || (0..250).for_each(|_| waker.wake()))
        })
        .collect();
    for thread in threads {
        thread.join().expect("it only wakes");
    }
    party.turn(Duration::ZERO);
    assert!(
        (1..=1000).contains(&party.woken),
        "{} events for 1,000 wakes",
        party.woken
    );
    party.turn(Duration::from_millis(1));
    let woken = party.woken;
    assert_eq!(party.turn(Duration::from_millis(2)), 0);
    assert_eq!(party.woken, woken, "A13: a wake came twice");
    // One whose adapter is gone does nothing.
    drop(party);
    waker.wake();
}

/// EINTR is invisible.
pub fn a16_interruptions_are_invisible<E: Environment>(environment: &E) {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: an all-zero `sigaction` is a valid one; the handler does nothing, and this process runs this law alone.
    // Without SA_RESTART, so that system calls are interrupted.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as libc::sighandler_t;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut())
    };
    assert_eq!(installed, 0);
    let mut pair = Pair::open(environment, &Config::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_over);
    // SAFETY: names the calling thread, which outlives the one that signals it: that is joined below.
    let target = unsafe { libc::pthread_self() } as usize;
    let shower = thread::spawn(move || {
        while !seen.load(Ordering::Acquire) {
            // SAFETY: the thread lives, see above.
            unsafe { libc::pthread_kill(target as libc::pthread_t, libc::SIGUSR1) };
            thread::yield_now();
        }
    });
    for wait in [1, 5, 20] {
        let deadline = pair.a.adapter.now() + Duration::from_millis(wait);
        assert_eq!(
            pair.a.turn_until(Some(deadline), |_, _| ()),
            0,
            "A16: an event from a signal"
        );
        assert!(pair.a.adapter.now() >= deadline, "A16: a signal ended a wait");
    }
    let sent = pattern(0, 500_000);
    let (at_a, at_b) = (pair.at_a, pair.at_b);
    pair.a.put(at_a, &sent);
    pair.until("all bytes", |_, b| b.track(at_b).received_count == sent.len());
    assert_same(&pair.b.track(at_b).received, &sent);
    let at = pair.a.adapter.now() + Duration::from_millis(5);
    pair.a.adapter.timers().start(at);
    assert_eq!(pair.a.turn_until(None, |_, _| ()), 1);
    let mut third = Party::open(environment, &Config::default());
    let (_, at) = pair.b.listen(&loopback());
    let conn = third.connect(&at);
    super::party::until(&mut third, &mut pair.b, "a connection", |third, b| {
        third.track(conn).begun && b.begun().len() == 2
    });
    is_over.store(true, Ordering::Release);
    shower.join().expect("it only signals");
}

/// `poll_fd` is readable whenever there is work, also what a turn left undelivered; for outer loops that are level
/// triggered and for those that are edge triggered.
pub fn a23_poll_fd_is_readable_while_there_is_work<E: Environment>(environment: &E) {
    let config = Config {
        read_buffer: 512,
        reads_per_turn: 1,
        accepts_per_turn: 1,
        ..Config::default()
    };
    let probe = environment.open(&config).expect("the adapter opens");
    assert!(
        probe.poll_fd().is_some(),
        "A23: there is no poll_fd, and capabilities() does not say why"
    );
    drop(probe);
    under_outer_loop(environment, &config, |fd| is_readable(fd, Duration::from_secs(10)));
    #[cfg(target_os = "linux")]
    {
        let outer = std::cell::OnceCell::new();
        under_outer_loop(environment, &config, |fd| {
            outer.get_or_init(|| EdgeTriggered::over(fd)).wait()
        });
    }
    let mut pair = Pair::open(environment, &config);
    pair.a.turn(Duration::from_millis(5));
    pair.a.turn(Duration::ZERO);
    let fd = pair.a.adapter.poll_fd().expect("it has one");
    assert!(
        !is_readable(fd, Duration::ZERO),
        "A23: readable without work: an outer loop would spin"
    );
    let (_, at) = pair.b.listen(&loopback());
    let mut late = Party::open(environment, &config);
    late.turn(Duration::ZERO);
    late.connect(&at);
    let fd = late.adapter.poll_fd().expect("it has one");
    assert!(
        is_readable(fd, Duration::from_secs(10)),
        "A23: not readable, for a connect that came before anybody waited"
    );
}

/// Turns only when the descriptor says so must do.
fn under_outer_loop<E: Environment>(environment: &E, config: &Config, wait: impl Fn(BorrowedFd<'_>) -> bool) {
    let mut party = Party::open(environment, config);
    let (_, at) = party.listen(&loopback());
    let run = |party: &mut Party<E::Adapter>, what: &str, is_done: &dyn Fn(&Party<E::Adapter>) -> bool| {
        while !is_done(party) {
            let fd = party.adapter.poll_fd().expect("it has one");
            assert!(wait(fd), "A23: not readable, waiting for: {what}");
            party.turn(Duration::ZERO);
        }
    };
    party.adapter.waker().wake();
    run(&mut party, "a wake", &|party| party.woken == 1);
    // More than one turn takes: 3 to accept, then 100 buffers full for each.
    let mut remotes: Vec<_> = (0..3).map(|_| environment.dial(&at).expect("it listens")).collect();
    run(&mut party, "connections", &|party| party.begun().len() == 3);
    let sent = |nth| pattern(nth * 51_200, 51_200);
    for (nth, remote) in remotes.iter_mut().enumerate() {
        assert_eq!(write_some(remote, &sent(nth)), 51_200);
    }
    let mut conns = party.begun().to_vec();
    run(&mut party, "bytes", &|party| {
        conns.iter().all(|&conn| party.track(conn).received_count == 51_200)
    });
    // In the order of the remotes: who dialled first need not be through a handshake first.
    conns.sort_by_key(|&conn| (0..3).position(|nth| party.track(conn).received == sent(nth)));
    // What is resumed counts as work, and so does the end.
    party.link(conns[0]).pause();
    party.turn(Duration::ZERO);
    write_some(&mut remotes[0], b"x");
    remotes[0].end().expect("the remote lives");
    party.turn(Duration::from_millis(2));
    party.link(conns[0]).resume();
    party.adapter.flush().expect("the adapter runs");
    run(&mut party, "what came while it was paused", &|party| {
        party.track(conns[0]).ended
    });
    // What was put and flushed, and its mark.
    party.put(conns[1], b"reply");
    let mark = party.link(conns[1]).outbox().mark();
    party.adapter.flush().expect("the adapter runs");
    run(&mut party, "Written", &|party| party.track(conns[1]).written == [mark]);
    // And a close.
    party.link(conns[1]).close(kraft_core::link::CloseMode::Now);
    party.adapter.flush().expect("the adapter runs");
    run(&mut party, "Closed", &|party| party.track(conns[1]).closed.is_some());
}

fn is_readable(fd: BorrowedFd<'_>, wait: Duration) -> bool {
    let mut entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one entry, which is valid for the call.
    let count = unsafe { libc::poll(&raw mut entry, 1, millis) };
    count == 1 && entry.revents & libc::POLLIN != 0
}

/// An outer loop that hears of each change once.
#[cfg(target_os = "linux")]
struct EdgeTriggered(std::os::fd::OwnedFd);

#[cfg(target_os = "linux")]
impl EdgeTriggered {
    fn over(fd: BorrowedFd<'_>) -> Self {
        use std::os::fd::FromRawFd;

        // SAFETY: the descriptor is new and ours; the event is valid for the call.
        unsafe {
            let outer = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            assert!(outer >= 0);
            let outer = std::os::fd::OwnedFd::from_raw_fd(outer);
            let mut event = libc::epoll_event {
                events: (libc::EPOLLIN | libc::EPOLLET) as u32,
                u64: 0,
            };
            let added = libc::epoll_ctl(outer.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event);
            assert_eq!(added, 0);
            Self(outer)
        }
    }

    fn wait(&self) -> bool {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for one event, which is valid for the call.
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut event, 1, 10_000) };
        count == 1
    }
}

/// Two adapters in a process do not disturb each other.
pub fn a24_two_adapters_do_not_disturb_each_other<E: Environment>(environment: &E) {
    let mut one = Served::open(environment, &Config::default(), 1);
    let mut other = Served::open(environment, &Config::default(), 1);
    let (conn, other_conn) = (one.party.begun()[0], other.party.begun()[0]);
    // Ids are equal numbers, and mean different connections.
    assert_eq!(conn, other_conn);
    write_some(&mut one.remotes[0], b"for one");
    one.party.adapter.waker().wake();
    let at = one.party.adapter.now();
    one.party.adapter.timers().start(at);
    assert_eq!(
        other.party.turn(Duration::from_millis(5)),
        0,
        "A24: got what another's is"
    );
    one.party.until("its own", |party| {
        party.track(conn).received == b"for one" && party.woken == 1 && party.expired.len() == 1
    });
    assert_eq!(other.party.turn(Duration::from_millis(1)), 0);
    // One goes, the other stays.
    drop(one);
    write_some(&mut other.remotes[0], b"for the other");
    other.party.adapter.waker().wake();
    other.party.until("its own", |party| {
        party.track(other_conn).received == b"for the other" && party.woken == 1
    });
    let mut remote = environment.dial(&other.at).expect("it still listens");
    write_some(&mut remote, b"x");
    other.party.until("another connection", |party| {
        party
            .begun()
            .get(1)
            .is_some_and(|&conn| party.track(conn).received == b"x")
    });
}
