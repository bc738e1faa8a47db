//! Scenarios of the kqueue backend where it runs over epoll.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::time::Duration;

use kraft_adapters::{Config, Kqueue};
use kraft_core::adapter::{Adapter, ListenOptions};

use crate::rig::{Rig, Said};

#[test]
fn an_urgent_byte_keeps_no_loop_busy() {
    let adapter = Kqueue::open(&Config::default()).expect("epoll is there");
    let mut rig = Rig::over(adapter, ListenOptions::default());
    let (mut peer, conn) = rig.peer();
    // SAFETY: one byte, which lives as long as the call; the socket is open.
    let sent = unsafe { libc::send(peer.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
    assert_eq!(sent, 1);
    peer.write_all(b"then").expect("it is connected");
    let all = |said: &[Said]| {
        let bytes = said.iter().map(|said| match said {
            Said::Received(_, bytes) => bytes.len(),
            _ => 0,
        });
        bytes.sum::<usize>() == 5
    };
    rig.until(all);
    assert_eq!(rig.received(conn), b"!then");
    let before = rig.adapter.stats().syscalls;
    let deadline = rig.deadline(Duration::from_millis(50));
    rig.adapter.poll(Some(deadline), |_, _| {}).expect("the adapter works");
    let calls = rig.adapter.stats().syscalls - before;
    assert!(calls < 10, "{calls} calls while nothing came");
}
