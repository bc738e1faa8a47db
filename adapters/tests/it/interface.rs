//! Every backend where a network interface goes away, and comes back: in a network of the test's own.

use std::ffi::c_ulong;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use kraft_adapters::Config;
use kraft_core::adapter::{Adapter, CloseReason, Endpoint, ListenOptions};
use kraft_core::id::ConnId;
use kraft_core::link::CloseMode;

use crate::rig::{Rig, Said};

const MARK: &str = "KRAFT_TEST_NETWORK";

/// An address that is only there as long as its interface is.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// Runs a test of this binary again, in a network where there is nothing but a loopback that is down. True in there.
#[track_caller]
fn in_a_network_of_its_own(test: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let exe = std::env::current_exe().expect("it runs");
    let unshare = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--map-root-user", command]);
        unshare
    };
    if !unshare("true").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped {test}: unshare(1) makes no network here");
        assert!(std::env::var_os("KRAFT_NO_SKIP").is_none(), "KRAFT_NO_SKIP is set");
        return false;
    }
    let output = unshare(exe.to_str().expect("a path that can be read"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("it can run again");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{}: {text}",
        output.status
    );
    false
}

/// The request of an interface's address or flags: netdevice(7).
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    value: Value,
    /// What other members of the system's union would need.
    _rest: [u8; 16],
}

#[repr(C)]
union Value {
    flags: libc::c_short,
    address: libc::sockaddr_in,
}

fn ask(request: c_ulong, interface: &str, value: Value) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut name = [0; libc::IFNAMSIZ];
    name[..interface.len()].copy_from_slice(interface.as_bytes());
    let mut asked = Request {
        name,
        value,
        _rest: [0; 16],
    };
    // SAFETY: the request is as the system has it, and lives over the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), request as _, &raw mut asked) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn set_up(interface: &str, is_up: bool) {
    let flags = if is_up { libc::IFF_UP | libc::IFF_RUNNING } else { 0 };
    let flags = Value {
        flags: flags as libc::c_short,
    };
    ask(libc::SIOCSIFFLAGS as c_ulong, interface, flags).expect("the network is the test's own");
}

fn add_address() {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from(ADDRESS).to_be(),
        },
        sin_zero: [0; 8],
    };
    ask(libc::SIOCSIFADDR as c_ulong, "lo:1", Value { address }).expect("the network is the test's own");
}

/// Sends there, and gets an answer.
fn echo<A: Adapter>(rig: &mut Rig<A>, peer: &mut TcpStream, conn: ConnId) {
    rig.said.clear();
    peer.write_all(b"ping").expect("it is connected");
    rig.until(|said| matches!(said.last(), Some(Said::Received(of, _)) if *of == conn));
    let outbox = rig.adapter.link(conn).expect("it lives").outbox();
    outbox.put(b"pong").expect("it fits");
    rig.adapter.flush().expect("the adapter works");
    let mut answer = [0; 4];
    peer.read_exact(&mut answer).expect("the answer comes");
    assert_eq!(&answer, b"pong");
}

fn accepted<A: Adapter>(rig: &mut Rig<A>, at: SocketAddr) -> (TcpStream, ConnId) {
    rig.said.clear();
    let peer = TcpStream::connect(at).expect("it listens");
    rig.until(|said| matches!(said.last(), Some(Said::Accepted(_))));
    match rig.said.last() {
        Some(Said::Accepted(conn)) => (peer, *conn),
        other => unreachable!("{other:?}"),
    }
}

/// A listener, and connections, whose address goes away: nothing of it is work, they can be got rid of, the others are
/// served, and the listener is there when the address is.
fn an_interface_that_goes_away_stalls_nobody<A: Adapter>(test: &str, open: fn(&Config) -> io::Result<A>) {
    if !in_a_network_of_its_own(test) {
        return;
    }
    set_up("lo", true);
    add_address();
    let config = Config {
        connect_timeout: Duration::from_millis(200),
        linger: Duration::from_millis(100),
        ..Config::default()
    };
    let mut rig = Rig::over(open(&config).expect("it opens"), ListenOptions::default());
    let (mut old, conn) = rig.peer();
    let listener = rig
        .adapter
        .listen(&Endpoint::Tcp((ADDRESS, 0).into()), ListenOptions::default())
        .expect("the address is there");
    let Endpoint::Tcp(there) = rig.adapter.local_endpoint(listener).expect("it listens") else {
        unreachable!("it was asked for TCP")
    };
    let (_cut, cut) = accepted(&mut rig, there);
    let (_flushed, flushed) = accepted(&mut rig, there);

    set_up("lo:1", false);
    TcpStream::connect_timeout(&there, Duration::from_millis(50)).expect_err("the address is gone");
    for conn in [cut, flushed] {
        let outbox = rig.adapter.link(conn).expect("it lives").outbox();
        outbox.put(b"into the void").expect("it fits");
    }
    let before = rig.adapter.stats().syscalls;
    let deadline = rig.deadline(Duration::from_millis(100));
    while rig.adapter.now() < deadline {
        rig.adapter.poll(Some(deadline), |_, _| {}).expect("the adapter works");
    }
    let calls = rig.adapter.stats().syscalls - before;
    assert!(calls < 20, "{calls} calls with an interface that is gone");
    echo(&mut rig, &mut old, conn);
    // They may have been reset meanwhile.
    for (conn, mode) in [(cut, CloseMode::Now), (flushed, CloseMode::Flush)] {
        if let Some(link) = rig.adapter.link(conn) {
            link.close(mode);
            rig.until_closed(conn);
        }
    }
    let elsewhere = rig.adapter.connect(&Endpoint::Tcp(there)).expect("a socket is free");
    let reason = rig.until_closed(elsewhere);
    assert!(
        matches!(reason, CloseReason::Unreachable | CloseReason::TimedOut),
        "{reason:?}"
    );

    add_address();
    let (mut again, back) = accepted(&mut rig, there);
    echo(&mut rig, &mut again, back);

    // All of it: what is sent waits in the system, which sends it again when it can.
    set_up("lo", false);
    let before = rig.adapter.stats().syscalls;
    let deadline = rig.deadline(Duration::from_millis(100));
    while rig.adapter.now() < deadline {
        rig.adapter.poll(Some(deadline), |_, _| {}).expect("the adapter works");
    }
    let calls = rig.adapter.stats().syscalls - before;
    assert!(calls < 20, "{calls} calls without an interface");
    set_up("lo", true);
    echo(&mut rig, &mut old, conn);
}

macro_rules! every {
    ($($(#[$when:meta])* $backend:ident($open:path),)+) => {
        $(
            $(#[$when])*
            #[test]
            fn $backend() {
                let test = concat!("interface::", stringify!($backend));
                an_interface_that_goes_away_stalls_nobody(test, $open);
            }
        )+
    };
}

every! {
    epoll(kraft_adapters::Epoll::open),
    #[cfg(feature = "kqueue")]
    kqueue(kraft_adapters::Kqueue::open),
    #[cfg(feature = "libuv")]
    libuv(kraft_adapters::Libuv::open),
    #[cfg(feature = "threads")]
    threads(kraft_adapters::Threads::open),
    #[cfg(feature = "io-uring")]
    uring(kraft_adapters::Uring::open),
}
