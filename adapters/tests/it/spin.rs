//! `Config::spin` in every backend: it looks before it sleeps, and sleeps after that.

use std::io::{self, Write};
use std::time::Duration;

use kraft_adapters::Config;
use kraft_core::adapter::{Adapter, ListenOptions};
use kraft_core::time::Instant;

use crate::rig::{GUARD, Rig, Said, on_every_backend};

const SPIN: Duration = Duration::from_millis(10);

/// Processor time of this thread so far.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time lives over the call.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(outcome, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What a wait of so long costs.
fn idle<A: Adapter>(rig: &mut Rig<A>, wait: Duration) -> Duration {
    rig.adapter
        .poll(Some(Instant::ZERO), |_, _| {})
        .expect("the adapter works");
    let deadline = rig.deadline(wait);
    let before = processor_time();
    let count = rig.adapter.poll(Some(deadline), |_, _| {}).expect("the adapter works");
    assert_eq!(count, 0);
    assert!(rig.adapter.now() >= deadline, "it came back early");
    processor_time() - before
}

fn a_loop_looks_before_it_sleeps<A: Adapter>(open: fn(&Config) -> io::Result<A>) {
    let config = Config {
        spin: SPIN,
        ..Config::default()
    };
    let mut rig = Rig::over(open(&config).expect("it opens"), ListenOptions::default());
    let (mut peer, conn) = rig.peer();
    // Once is enough, unless the machine takes the processor away all the while.
    assert!((0..100).any(|_| idle(&mut rig, SPIN) >= SPIN / 4), "it sleeps at once");
    let long = 20 * SPIN;
    assert!(idle(&mut rig, long) < long / 2, "it never sleeps");
    // What comes while it looks is seen, and so are timers and wakes.
    peer.write_all(b"x").expect("it is connected");
    rig.until(|said| matches!(said.last(), Some(Said::Received(of, _)) if *of == conn));
    let now = rig.adapter.now();
    let timer = rig.adapter.timers().start(now + SPIN / 2);
    let guard = now + GUARD;
    let count = rig.adapter.poll(Some(guard), |_, event| {
        assert!(matches!(event, kraft_core::adapter::Event::Expired { timer: of } if of == timer));
    });
    assert_eq!(count.expect("the adapter works"), 1);
    assert!(rig.adapter.now() >= now + SPIN / 2, "it is early");
    rig.adapter.waker().wake();
    rig.until(|said| said.last() == Some(&Said::Woken));
}

fn a_loop_that_is_not_to_look_sleeps_at_once<A: Adapter>(open: fn(&Config) -> io::Result<A>) {
    let mut rig = Rig::over(open(&Config::default()).expect("it opens"), ListenOptions::default());
    let (_peer, _) = rig.peer();
    assert!(idle(&mut rig, 20 * SPIN) < SPIN, "it looks for work");
}

on_every_backend!(a_loop_looks_before_it_sleeps, a_loop_that_is_not_to_look_sleeps_at_once);
