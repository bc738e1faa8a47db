//! Sends of the io_uring backend without a copy: what the kernel reads stays until it says that it is done.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use kraft_adapters::{Config, Uring};
use kraft_core::adapter::{Adapter, CloseReason, Endpoint, ListenOptions};
use kraft_core::id::ConnId;
use kraft_core::link::CloseMode;

use crate::rig::{GUARD, Rig, Said, alone};

/// More than a connection's buffers hold, in the system and at the peer.
const TOO_MUCH: usize = 16 << 20;

fn rig(min: usize) -> Rig<Uring> {
    rig_by(min, Duration::from_millis(100))
}

fn rig_by(min: usize, linger: Duration) -> Rig<Uring> {
    let config = Config {
        write_queue_max: 2 * TOO_MUCH,
        zero_copy_min: Some(min),
        linger,
        ..Config::default()
    };
    let adapter = Uring::open(&config).expect("io_uring is there");
    Rig::over(adapter, ListenOptions::default())
}

/// Asked of the kernel so far.
fn sends(rig: &Rig<Uring>) -> u64 {
    rig.adapter.zero_copy_sends().expect("the kernel knows how")
}

fn payload(len: usize) -> Bytes {
    (0..len as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect::<Vec<_>>()
        .into()
}

fn put(rig: &mut Rig<Uring>, conn: ConnId, bytes: &Bytes) -> u64 {
    let outbox = rig.adapter.link(conn).expect("it lives").outbox();
    outbox.put_shared(bytes).expect("it fits");
    let mark = outbox.mark();
    rig.adapter.flush().expect("the adapter works");
    mark
}

/// A peer that reads what comes, and returns so much of it.
fn reader(mut peer: impl Read + Send + 'static, len: usize) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut received = vec![0; len];
        peer.read_exact(&mut received).expect("it comes");
        received
    })
}

/// Turns until the kernel has let go of them.
fn until_free(rig: &mut Rig<Uring>, bytes: &Bytes) {
    let guard = rig.deadline(GUARD);
    while !bytes.is_unique() {
        let soon = rig.deadline(Duration::from_millis(1));
        rig.adapter.poll(Some(soon), |_, _| {}).expect("the adapter works");
        assert!(rig.adapter.now() < guard, "the memory is never given up");
    }
}

/// A connection whose peer reads nothing, with bytes of which the kernel has taken some.
fn stalled(rig: &mut Rig<Uring>) -> (TcpStream, ConnId, Bytes) {
    let (peer, conn) = rig.peer();
    let bytes = Bytes::from(vec![7; TOO_MUCH]);
    let before = rig.adapter.stats().bytes_out;
    put(rig, conn, &bytes);
    let guard = rig.deadline(GUARD);
    while rig.adapter.stats().bytes_out == before {
        let soon = rig.deadline(Duration::from_millis(1));
        rig.adapter.poll(Some(soon), |_, _| {}).expect("the adapter works");
        assert!(rig.adapter.now() < guard, "nothing is sent");
    }
    (peer, conn, bytes)
}

#[test]
fn bulk_is_sent_without_a_copy_and_its_memory_given_up() {
    let mut rig = rig(4096);
    let (peer, conn) = rig.peer();
    let bytes = payload(TOO_MUCH);
    let reader = reader(peer, TOO_MUCH);
    let mark = put(&mut rig, conn, &bytes);
    rig.until(|said| said.last() == Some(&Said::Written(conn, mark)));
    assert!(sends(&rig) > 0, "none was asked for");
    until_free(&mut rig, &bytes);
    assert!(reader.join().expect("it reads") == bytes, "other bytes arrived");
}

#[test]
fn below_the_threshold_everything_is_copied() {
    let mut rig = rig(4096);
    let (peer, conn) = rig.peer();
    let reader = reader(peer, 4095);
    let outbox = rig.adapter.link(conn).expect("it lives").outbox();
    outbox.put(&payload(4095)).expect("it fits");
    rig.adapter.flush().expect("the adapter works");
    assert!(reader.join().expect("it reads") == payload(4095));
    assert_eq!(sends(&rig), 0);
}

#[test]
fn it_is_off_unless_it_was_asked_for() {
    let adapter = Uring::open(&Config::default()).expect("io_uring is there");
    assert_eq!(adapter.zero_copy_sends(), None);
}

#[test]
fn unix_sockets_copy_after_one_attempt() {
    let mut rig = rig(4096);
    let path = std::env::temp_dir().join(format!("kraft-zero-copy-{}", std::process::id()));
    let at = Endpoint::Unix(path.clone());
    rig.adapter
        .listen(&at, ListenOptions::default())
        .expect("the path is free");
    let peer = UnixStream::connect(&path).expect("it listens");
    rig.until(|said| matches!(said.last(), Some(Said::Accepted(_))));
    let Some(&Said::Accepted(conn)) = rig.said.last() else {
        unreachable!("it was just seen")
    };
    let bytes = payload(1 << 20);
    let reader = reader(peer, 3 << 20);
    for _ in 0..3 {
        let mark = put(&mut rig, conn, &bytes);
        rig.until(|said| said.last() == Some(&Said::Written(conn, mark)));
    }
    assert_eq!(sends(&rig), 1);
    assert!(
        reader
            .join()
            .expect("it reads")
            .chunks(1 << 20)
            .all(|part| part == bytes)
    );
}

/// The slot and its bytes stay while the kernel may read them, and no longer than `linger`.
#[test]
fn a_cut_waits_for_what_the_kernel_reads_and_not_for_ever() {
    let mut rig = rig(4096);
    let (peer, conn, bytes) = stalled(&mut rig);
    rig.adapter.link(conn).expect("it lives").close(CloseMode::Now);
    assert_eq!(rig.until_closed(conn), CloseReason::Requested);
    assert!(bytes.is_unique(), "the memory outlives the connection");
    // Who comes next has the slot, and nothing of its past.
    let (next, again) = rig.peer();
    assert_eq!(again.slot(), conn.slot());
    let reader = reader(next, 4096);
    put(&mut rig, again, &payload(4096));
    assert!(reader.join().expect("it reads") == payload(4096));
    drop(peer);
}

#[test]
fn a_closing_flush_gives_up_on_who_does_not_read_and_frees_its_memory() {
    let mut rig = rig(4096);
    let (_peer, conn, bytes) = stalled(&mut rig);
    rig.adapter.link(conn).expect("it lives").close(CloseMode::Flush);
    assert_eq!(rig.until_closed(conn), CloseReason::TimedOut);
    assert!(bytes.is_unique(), "the memory outlives the connection");
}

#[test]
fn a_closing_flush_delivers_all_without_a_copy() {
    let mut rig = rig_by(1, GUARD);
    let (peer, conn) = rig.peer();
    let bytes = payload(TOO_MUCH);
    put(&mut rig, conn, &bytes);
    rig.adapter.link(conn).expect("it lives").close(CloseMode::Flush);
    let reader = thread::spawn(move || {
        let mut received = Vec::new();
        (&peer).read_to_end(&mut received).expect("it comes");
        received
    });
    assert_eq!(rig.until_closed(conn), CloseReason::Requested);
    assert!(reader.join().expect("it reads") == bytes, "other bytes arrived");
}

#[test]
fn a_reset_frees_what_the_kernel_reads() {
    let mut rig = rig(4096);
    let (peer, conn, bytes) = stalled(&mut rig);
    // With bytes unread, which makes it a reset.
    drop(peer);
    assert_eq!(rig.until_closed(conn), CloseReason::Reset);
    assert!(bytes.is_unique(), "the memory outlives the connection");
}

#[test]
fn dropped_while_the_kernel_reads_its_memory_is_given_up() {
    for _ in 0..20 {
        let mut rig = rig(4096);
        let stalled: Vec<_> = (0..3).map(|_| stalled(&mut rig)).collect();
        drop(rig);
        for (mut peer, _, bytes) in stalled {
            assert!(bytes.is_unique(), "the memory is leaked");
            let mut buffer = vec![0; 1 << 20];
            while !matches!(peer.read(&mut buffer), Ok(0) | Err(_)) {}
        }
    }
}

/// Pages that the kernel reads count as locked. Who may lock none copies.
#[test]
fn without_memory_to_lock_bytes_are_copied() {
    if !alone("zero_copy::without_memory_to_lock_bytes_are_copied") {
        return;
    }
    if let Err(error) = lock_no_memory() {
        eprintln!("skipped: {error}");
        assert!(std::env::var_os("KRAFT_NO_SKIP").is_none(), "KRAFT_NO_SKIP is set");
        return;
    }
    let mut rig = rig(4096);
    let (peer, conn) = rig.peer();
    let bytes = payload(TOO_MUCH);
    let reader = reader(peer, TOO_MUCH);
    let mark = put(&mut rig, conn, &bytes);
    rig.until(|said| said.last() == Some(&Said::Written(conn, mark)));
    assert_eq!(sends(&rig), 1, "what is left of these bytes is copied");
    assert!(reader.join().expect("it reads") == bytes, "other bytes arrived");
}

/// Sets the limit of locked memory to nothing, and gives up the capability that lifts it.
fn lock_no_memory() -> std::io::Result<()> {
    const CAP_IPC_LOCK: u32 = 14;
    /// `_LINUX_CAPABILITY_VERSION_3`: two sets of 32, of effective, permitted and inheritable ones.
    const VERSION: u32 = 0x2008_0522;
    let mut header = [VERSION, 0];
    let mut sets = [0_u32; 6];
    let limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: header and sets are as capget(2) has them, and live over the calls, as the limit does.
    unsafe {
        if libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        sets[0] &= !(1 << CAP_IPC_LOCK);
        if libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) != 0
            || libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) != 0
        {
            return Err(std::io::Error::last_os_error());
        }
    }
    match Uring::open(&Config::default()) {
        // Older kernels count the ring itself.
        Err(error) if error.kind() == ErrorKind::OutOfMemory => Err(error),
        _ => Ok(()),
    }
}
