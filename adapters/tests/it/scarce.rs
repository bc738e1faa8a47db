//! Every backend where the system has no descriptor or no memory for a call: a filter of system calls says so.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{BorrowedFd, RawFd};
use std::thread;
use std::time::Duration;

use kraft_adapters::Config;
use kraft_core::adapter::{Adapter, CloseReason, Endpoint, ListenOptions};
use kraft_core::id::ConnId;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use socket2::SockRef;

use crate::rig::{Rig, Said, alone};

const SENDS: &[i64] = &[libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_writev, libc::SYS_write];
const RECEIVES: &[i64] = &[libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_readv, libc::SYS_read];

/// On this thread, and those that it starts, these calls fail from here on: for this descriptor, or for all.
fn fail(calls: &[i64], fd: Option<RawFd>, error: i32) {
    let is_it = |fd| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, fd as u64);
    fail_if(
        calls,
        fd.map(|fd| is_it(fd).expect("calls have a first argument")),
        error,
    );
}

fn fail_if(calls: &[i64], condition: Option<SeccompCondition>, error: i32) {
    let rules = condition.map_or_else(Vec::new, |condition| {
        vec![SeccompRule::new(vec![condition]).expect("it has a condition")]
    });
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, rules.clone())).collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(error as u32),
        TargetArch::try_from(std::env::consts::ARCH).expect("the filter knows this processor"),
    );
    let program: seccompiler::BpfProgram = filter.expect("the rules are in order").try_into().expect("it is short");
    seccompiler::apply_filter(&program).expect("a process may give up calls");
}

/// The descriptor in this process whose other end is `peer`.
fn other_end(peer: &TcpStream) -> RawFd {
    let at = peer.local_addr().expect("it is connected");
    let is_it = |fd: &RawFd| {
        // SAFETY: whatever it is, or was: the call finds out, and this thread owns the one that it looks for.
        let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
        let peer = SockRef::from(&fd).peer_addr();
        peer.is_ok_and(|peer| peer.as_socket() == Some(at))
    };
    (3..4096).find(is_it).expect("its other end is in this process")
}

/// Sends there, and gets an answer.
fn echo<A: Adapter>(rig: &mut Rig<A>, peer: &mut TcpStream, conn: ConnId) {
    rig.said.clear();
    peer.write_all(b"ping").expect("it is connected");
    rig.until(|said| matches!(said.last(), Some(Said::Received(of, _)) if *of == conn));
    rig.adapter
        .link(conn)
        .expect("it lives")
        .outbox()
        .put(b"pong")
        .expect("it fits");
    rig.adapter.flush().expect("the adapter works");
    let mut answer = [0; 4];
    peer.read_exact(&mut answer).expect("the answer comes");
    assert_eq!(&answer, b"pong");
}

/// On a thread of its own, which keeps the filter.
fn with_rig<A: Adapter>(open: fn(&Config) -> io::Result<A>, run: impl FnOnce(&mut Rig<A>) + Send) {
    let config = Config {
        accept_pause: Duration::from_millis(20),
        ..Config::default()
    };
    let body = || {
        run(&mut Rig::over(
            open(&config).expect("it opens"),
            ListenOptions::default(),
        ))
    };
    thread::scope(|scope| {
        if let Err(panic) = scope.spawn(body).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// There is neither: whoever waits is let be for a while, and the others are served.
fn an_accept_without_memory_is_put_off<A: Adapter>(open: fn(&Config) -> io::Result<A>) {
    for error in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
        with_rig(open, |rig| {
            let (mut old, conn) = rig.peer();
            fail(&[libc::SYS_accept, libc::SYS_accept4], None, error);
            let _waits = TcpStream::connect(rig.at).expect("the system queues it");
            let (before, said) = (rig.adapter.stats().syscalls, rig.said.len());
            let deadline = rig.deadline(Duration::from_millis(200));
            while rig.adapter.now() < deadline {
                let polled = rig.adapter.poll(Some(deadline), |_, event| panic!("{event:?}"));
                polled.expect("the adapter works");
            }
            assert_eq!(rig.said.len(), said);
            let calls = rig.adapter.stats().syscalls - before;
            assert!(calls <= 2 * (200 / 20 + 2), "{error}: {calls} calls in ten pauses");
            echo(rig, &mut old, conn);
        });
    }
}

/// A connection for which there is no memory ends, and no other.
fn a_call_that_fails_for_one<A: Adapter>(open: fn(&Config) -> io::Result<A>, calls: &[i64]) {
    for error in [libc::ENOBUFS, libc::ENOMEM] {
        with_rig(open, |rig| {
            let (mut peer, victim) = rig.peer();
            let (mut other, conn) = rig.peer();
            fail(calls, Some(other_end(&peer)), error);
            if calls == SENDS {
                rig.adapter
                    .link(victim)
                    .expect("it lives")
                    .outbox()
                    .put(b"x")
                    .expect("it fits");
            } else {
                peer.write_all(b"x").expect("it is connected");
            }
            let kind = io::Error::from_raw_os_error(error).kind();
            assert_eq!(rig.until_closed(victim), CloseReason::Failed(kind));
            echo(rig, &mut other, conn);
            assert_eq!(rig.adapter.stats().active, 1);
        });
    }
}

/// Who asks for a socket hears at once that there is none, and for what.
fn a_socket_that_is_not_to_be_had_is_told<A: Adapter>(open: fn(&Config) -> io::Result<A>) {
    for (error, text) in [
        (libc::EMFILE, "Too many open files"),
        (libc::ENFILE, "Too many open files in system"),
        (libc::ENOBUFS, "No buffer space available"),
        (libc::ENOMEM, "Cannot allocate memory"),
    ] {
        with_rig(open, |rig| {
            let (mut peer, conn) = rig.peer();
            fail(&[libc::SYS_socket], None, error);
            let at = Endpoint::Tcp(rig.at);
            let dialled = rig.adapter.connect(&at).expect_err("there is no socket");
            let listening = rig
                .adapter
                .listen(&at, ListenOptions::default())
                .expect_err("there is no socket");
            assert_ne!(dialled.kind(), ErrorKind::Unsupported);
            let (dialled, listening) = (dialled.to_string(), listening.to_string());
            assert!(
                dialled.starts_with(&format!("connect to {at}: ")) && dialled.contains(text),
                "{dialled}"
            );
            assert!(
                listening.starts_with(&format!("listen on {at}: ")) && listening.contains(text),
                "{listening}"
            );
            assert_eq!(rig.adapter.stats().active, 1, "the slot was given back");
            echo(rig, &mut peer, conn);
        });
    }
}

fn a_send_without_memory_ends_its_connection<A: Adapter>(open: fn(&Config) -> io::Result<A>) {
    a_call_that_fails_for_one(open, SENDS);
}

fn a_receive_without_memory_ends_its_connection<A: Adapter>(open: fn(&Config) -> io::Result<A>) {
    a_call_that_fails_for_one(open, RECEIVES);
}

/// Opened with so few descriptors left it works, or says that there are none: that is not to be taken for a backend that
/// is not available, which another may stand in for. Nothing stays open, and the process lives.
fn few_descriptors_are_told<A: Adapter>(test: &str, open: fn(&Config) -> io::Result<A>) {
    if !alone(test) {
        return;
    }
    let limit = |count: usize| {
        let limit = libc::rlimit {
            rlim_cur: count as libc::rlim_t,
            rlim_max: 4096,
        };
        // SAFETY: the limit lives over the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    };
    // What is open is below it.
    limit(64);
    let fill = || std::iter::from_fn(|| File::open("/dev/null").ok()).collect::<Vec<_>>();
    let mut fillers = fill();
    let (mut refusals, mut opened, mut kept) = (0, 0, 0);
    while opened < 2 {
        match open(&Config::default()) {
            Ok(_) => opened += 1,
            Err(error) => {
                refusals += 1;
                assert_ne!(error.kind(), ErrorKind::Unsupported, "{error}");
                assert!(error.to_string().contains("Too many open files"), "{error}");
            }
        }
        // libuv keeps what it makes once a process.
        let free = fill().len();
        if opened == 1 && kept == 0 {
            kept = refusals - free;
        }
        assert_eq!(free + kept, refusals + opened - 1, "something stays open");
        fillers.pop().expect("it takes fewer");
    }
    assert!(refusals > 0, "it takes a descriptor");
}

macro_rules! scarce {
    ($($(#[$when:meta])* $backend:ident($open:path): $($test:ident),+;)+) => {
        $(
            $(#[$when])*
            mod $backend {
                $(
                    #[test]
                    fn $test() {
                        super::$test($open);
                    }
                )+

                #[test]
                fn few_descriptors_are_told() {
                    let test = concat!("scarce::", stringify!($backend), "::few_descriptors_are_told");
                    super::few_descriptors_are_told(test, $open);
                }
            }
        )+
    };
}

// What io_uring receives and accepts is no system call (laws A26 and A30 have it), and `threads` receives on threads that
// a filter does not reach.
scarce! {
    epoll(kraft_adapters::Epoll::open):
        an_accept_without_memory_is_put_off, a_send_without_memory_ends_its_connection,
        a_receive_without_memory_ends_its_connection, a_socket_that_is_not_to_be_had_is_told;
    #[cfg(feature = "kqueue")]
    kqueue(kraft_adapters::Kqueue::open):
        an_accept_without_memory_is_put_off, a_send_without_memory_ends_its_connection,
        a_receive_without_memory_ends_its_connection, a_socket_that_is_not_to_be_had_is_told;
    #[cfg(feature = "libuv")]
    libuv(kraft_adapters::Libuv::open):
        an_accept_without_memory_is_put_off, a_send_without_memory_ends_its_connection,
        a_receive_without_memory_ends_its_connection, a_socket_that_is_not_to_be_had_is_told;
    #[cfg(feature = "threads")]
    threads(kraft_adapters::Threads::open):
        an_accept_without_memory_is_put_off, a_send_without_memory_ends_its_connection,
        a_socket_that_is_not_to_be_had_is_told;
    #[cfg(feature = "io-uring")]
    uring(kraft_adapters::Uring::open):
        a_send_without_memory_ends_its_connection, a_socket_that_is_not_to_be_had_is_told;
}

/// What cannot be submitted waits; what was submitted goes on, and waiting for memory is not a busy loop.
#[cfg(feature = "io-uring")]
#[test]
fn submissions_without_memory_wait_and_stall_nobody() {
    for error in [libc::EAGAIN, libc::ENOMEM] {
        with_rig(kraft_adapters::Uring::open, |rig| {
            let (_peer, paused) = rig.peer();
            let (mut other, conn) = rig.peer();
            echo(rig, &mut other, conn);
            let submits = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Gt, 0);
            fail_if(
                &[libc::SYS_io_uring_enter],
                Some(submits.expect("it has a second argument")),
                error,
            );
            // What it receives for this one is to be taken back.
            rig.adapter.link(paused).expect("it lives").pause();
            let before = rig.adapter.stats().syscalls;
            let deadline = rig.deadline(Duration::from_millis(200));
            while rig.adapter.now() < deadline {
                let polled = rig.adapter.poll(Some(deadline), |_, event| panic!("{event:?}"));
                polled.expect("the adapter works");
            }
            let calls = rig.adapter.stats().syscalls - before;
            assert!(calls <= 2 * (200 / 10 + 2), "{error}: {calls} calls in twenty rests");
            echo(rig, &mut other, conn);
        });
    }
}
