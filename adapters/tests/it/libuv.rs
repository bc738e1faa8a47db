//! libuv: what it does in a loop of an application's, and what its own loop is for others.

pub(crate) mod app;
pub(crate) mod hosted;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use kraft_adapters::{Config, Libuv, LibuvGuest, UvLoop};
use kraft_core::adapter::{Adapter, CloseReason, Endpoint, Event, ListenOptions};
use kraft_core::time::Instant;

use self::app::App;

/// No wait of these tests should ever take as long; it ends a hang.
const GUARD: Duration = Duration::from_secs(10);

type Slot = Rc<RefCell<Option<LibuvGuest>>>;

/// A guest in the application's loop that is turned by `turn`. Who turns it may take it out of the slot.
fn guest_in(app: &App, config: &Config, mut turn: impl FnMut(&Slot) -> Option<Duration> + 'static) -> Slot {
    let slot = Slot::default();
    let seen = Rc::downgrade(&slot);
    let on_ready = move || turn(&seen.upgrade()?);
    // SAFETY: the loop is open. Every test drops the guest before the application closes its loop.
    let guest = unsafe { Libuv::with_loop(app.at(), config, on_ready) };
    *slot.borrow_mut() = Some(guest.expect("a descriptor is free"));
    slot
}

fn listen(adapter: &mut impl Adapter) -> SocketAddr {
    let any = Endpoint::Tcp(([127, 0, 0, 1], 0).into());
    let listener = adapter
        .listen(&any, ListenOptions::default())
        .expect("loopback is there");
    match adapter.local_endpoint(listener).expect("it listens") {
        Endpoint::Tcp(at) => at,
        Endpoint::Unix(path) => unreachable!("{path:?}"),
    }
}

/// Polls without waiting, gives every byte back, and says how many connections closed.
fn echo(adapter: &mut impl Adapter) -> usize {
    let mut closed = 0;
    let polled = adapter.poll(Some(Instant::ZERO), |_, event| match event {
        Event::Received { bytes, link, .. } => link.outbox().put(bytes).expect("it fits"),
        Event::Ended { link, .. } => link.close(kraft_core::link::CloseMode::Flush),
        Event::Closed { reason, .. } => {
            assert_eq!(reason, CloseReason::Requested);
            closed += 1;
        }
        _ => {}
    });
    polled.expect("the adapter runs");
    adapter.flush().expect("the adapter runs");
    closed
}

/// Somebody who says `rounds` things and hears each of them again.
fn talk(at: SocketAddr, rounds: u8) {
    let mut stream = TcpStream::connect(at).expect("it listens");
    stream.set_read_timeout(Some(GUARD)).expect("it is a socket");
    for round in 0..rounds {
        let said = [round; 1000];
        stream.write_all(&said).expect("it lives");
        let mut heard = [0; 1000];
        stream.read_exact(&mut heard).expect("it answers");
        assert_eq!(heard, said);
    }
    stream.shutdown(std::net::Shutdown::Write).expect("it lives");
    assert_eq!(stream.read(&mut [0]).expect("it ends"), 0);
}

#[test]
fn an_application_runs_its_loop_and_an_echo_in_it() {
    const TALKERS: usize = 10;
    let app = App::new();
    // It keeps the loop running until it has fired: the application's own handles have their turn.
    app.start_timer(1, 0);
    let mut closed = 0;
    let slot = guest_in(&app, &Config::default(), move |slot| {
        closed += echo(slot.borrow_mut().as_mut()?);
        if closed == TALKERS {
            slot.borrow_mut().take();
        }
        None
    });
    let at = listen(slot.borrow_mut().as_mut().expect("it was just put there"));
    let talkers: Vec<_> = (0..TALKERS).map(|_| thread::spawn(move || talk(at, 100))).collect();
    app.run();
    talkers
        .into_iter()
        .for_each(|talker| talker.join().expect("it was answered"));
    assert!(slot.borrow().is_none());
    assert_eq!(app.ticks(), 1);
}

#[test]
fn what_on_ready_answers_is_when_it_is_called_again() {
    let app = App::new();
    let calls = Rc::new(Cell::new(0));
    let count = Rc::clone(&calls);
    let slot = guest_in(&app, &Config::default(), move |slot| {
        // Past, present and future.
        let answers = [Duration::ZERO, Duration::from_micros(1), Duration::from_millis(3)];
        let Some(&answer) = answers.get(count.get()) else {
            slot.borrow_mut().take();
            return None;
        };
        count.set(count.get() + 1);
        echo(slot.borrow_mut().as_mut()?);
        Some(answer)
    });
    let before = std::time::Instant::now();
    app.run();
    assert!(slot.borrow().is_none());
    assert_eq!(calls.get(), 3);
    assert!(before.elapsed() >= Duration::from_millis(3), "it was called early");
}

#[test]
fn a_timer_that_is_flushed_is_kept() {
    let app = App::new();
    let due = Rc::new(Cell::new(Instant::ZERO));
    let expected = Rc::clone(&due);
    let slot = guest_in(&app, &Config::default(), move |slot| {
        let mut is_due = false;
        let mut borrowed = slot.borrow_mut();
        let guest = borrowed.as_mut()?;
        let polled = guest.poll(Some(Instant::ZERO), |now, event| {
            if let Event::Expired { .. } = event {
                assert!(now >= expected.get());
                is_due = true;
            }
        });
        polled.expect("the adapter runs");
        if is_due {
            borrowed.take();
        }
        None
    });
    // The first call, which every guest gets, is over when the timer starts.
    app.run_nowait();
    {
        let mut borrowed = slot.borrow_mut();
        let guest = borrowed.as_mut().expect("nothing was due");
        due.set(guest.now() + Duration::from_millis(2));
        guest.timers().start(due.get());
        guest.flush().expect("the adapter runs");
    }
    app.run();
    assert!(slot.borrow().is_none());
}

#[test]
fn a_wake_from_another_thread_turns_the_guest() {
    let app = App::new();
    let slot = guest_in(&app, &Config::default(), |slot| {
        let mut is_woken = false;
        let mut borrowed = slot.borrow_mut();
        let polled = borrowed.as_mut()?.poll(Some(Instant::ZERO), |_, event| {
            is_woken |= matches!(event, Event::Woken);
        });
        polled.expect("the adapter runs");
        if is_woken {
            borrowed.take();
        }
        None
    });
    app.run_nowait();
    let waker = slot.borrow().as_ref().expect("nobody woke it").waker();
    let thread = thread::spawn(move || {
        waker.wake();
        waker
    });
    app.run();
    assert!(slot.borrow().is_none());
    // One whose guest is gone does nothing.
    thread.join().expect("it only wakes").wake();
}

#[test]
fn the_application_runs_its_loop_once_more_and_closes_it() {
    let app = App::new();
    let slot = guest_in(&app, &Config::default(), |_| None);
    let at = listen(slot.borrow_mut().as_mut().expect("it was just put there"));
    let peer = TcpStream::connect(at).expect("it listens");
    echo(slot.borrow_mut().as_mut().expect("it lives"));
    app.run_nowait();
    echo(slot.borrow_mut().as_mut().expect("it lives"));
    assert_eq!(slot.borrow().as_ref().expect("it lives").stats().active, 1);
    slot.borrow_mut().take();
    assert!(app.is_alive(), "close callbacks are to come");
    assert_eq!(app.try_close(), app::BUSY);
    app.run_nowait();
    assert!(!app.is_alive());
    drop(peer);
    // `App` closes its loop, and fails if anything is left in it.
}

#[test]
fn an_application_that_closes_our_handles_crashes_nobody() {
    let app = App::new();
    let slot = guest_in(&app, &Config::default(), |_| None);
    listen(slot.borrow_mut().as_mut().expect("it was just put there"));
    app.close_everything();
    app.run();
    slot.borrow_mut().take();
}

#[test]
fn a_panic_stops_the_loop_and_goes_on_when_the_guest_is_used() {
    let app = App::new();
    let slot = guest_in(&app, &Config::default(), |_| panic!("on purpose"));
    assert!(app.run_until_stopped(), "the guest is there yet");
    // It is not called again, and keeps the loop from nothing.
    app.start_timer(1, 0);
    while app.ticks() == 0 {
        app.run_once();
    }
    let mut guest = slot.borrow_mut().take().expect("it lives");
    let panic = catch_unwind(AssertUnwindSafe(|| guest.poll(Some(Instant::ZERO), |_, _| {})));
    assert_eq!(panic.expect_err("it was kept").downcast_ref(), Some(&"on purpose"));
    // Once.
    drop(guest);
}

#[test]
fn a_panic_is_not_lost_with_the_guest() {
    let app = App::new();
    let slot = guest_in(&app, &Config::default(), |_| panic!("on purpose"));
    app.run_until_stopped();
    let guest = slot.borrow_mut().take();
    let panic = catch_unwind(AssertUnwindSafe(|| drop(guest)));
    assert_eq!(panic.expect_err("it was kept").downcast_ref(), Some(&"on purpose"));
}

#[test]
fn a_loop_of_rust_is_run_by_one_at_a_time() {
    let uv = UvLoop::open().expect("a descriptor is free");
    let again = uv.clone();
    let guest = LibuvGuest::in_loop(&uv, &Config::default(), move || {
        again.run();
        None
    });
    let guest = guest.expect("a descriptor is free");
    uv.run();
    let panic = catch_unwind(AssertUnwindSafe(|| drop(guest))).expect_err("it was kept");
    assert_eq!(panic.downcast_ref(), Some(&"a libuv loop that runs is run again"));
    assert!(!uv.run(), "nothing is left");
}

#[test]
fn an_adapter_moves_between_threads() {
    let mut adapter = Libuv::open(&Config::default()).expect("a descriptor is free");
    let at = listen(&mut adapter);
    let talker = thread::spawn(move || talk(at, 10));
    // Each turn on a thread of its own, and its end on another.
    let mut closed = 0;
    while closed == 0 {
        let turn = thread::spawn(move || {
            let guard = adapter.now() + GUARD;
            let polled = adapter.poll(Some(guard), |now, event| {
                assert!(now < guard, "it hangs");
                match event {
                    Event::Received { bytes, link, .. } => link.outbox().put(bytes).expect("it fits"),
                    Event::Ended { link, .. } => link.close(kraft_core::link::CloseMode::Flush),
                    Event::Closed { .. } => closed += 1,
                    _ => {}
                }
            });
            polled.expect("the adapter runs");
            (adapter, closed)
        });
        (adapter, closed) = turn.join().expect("no panic");
    }
    talker.join().expect("it was answered");
    thread::spawn(move || drop(adapter)).join().expect("it closes anywhere");
}

#[test]
fn a_reset_is_heard_of_though_reading_is_paused() {
    for has_unsent in [true, false] {
        let config = Config {
            write_queue_max: 32 << 20,
            ..Config::default()
        };
        let mut adapter = Libuv::open(&config).expect("a descriptor is free");
        let at = listen(&mut adapter);
        let peer = TcpStream::connect(at).expect("it listens");
        let mut paused = None;
        let mut reason = None;
        let guard = adapter.now() + GUARD;
        let mut turn = |adapter: &mut Libuv, react: &mut dyn FnMut(&mut kraft_core::link::Link)| {
            let polled = adapter.poll(Some(guard), |now, event| {
                assert!(now < guard, "it hangs");
                match event {
                    Event::Accepted { conn, link, .. } => {
                        link.pause();
                        react(link);
                        paused = Some(conn);
                    }
                    Event::Closed { reason: why, .. } => reason = Some(why),
                    Event::Written { .. } | Event::Drained { .. } => {}
                    other => panic!("{other:?}"),
                }
            });
            polled.expect("the adapter runs");
            (paused, reason)
        };
        // More than the system takes for a peer that does not read.
        let fill = vec![1; config.write_queue_max];
        let (paused, _) = turn(&mut adapter, &mut |link| {
            if has_unsent {
                link.outbox().put(&fill).expect("it fits");
            }
        });
        let paused = paused.expect("the first that it hears of");
        adapter.flush().expect("the adapter runs");
        assert_eq!(adapter.link(paused).expect("it lives").outbox().is_empty(), !has_unsent);
        socket2::SockRef::from(&peer)
            .set_linger(Some(Duration::ZERO))
            .expect("it is a socket");
        drop(peer);
        if !has_unsent {
            // Nobody waits for it. Who goes on reading finds out.
            adapter.link(paused).expect("it lives").resume();
        }
        let (_, reason) = turn(&mut adapter, &mut |_| {});
        assert_eq!(reason, Some(CloseReason::Reset), "has_unsent: {has_unsent}");
    }
}

/// libuv has memory of its own, which law A22 does not see.
#[cfg(all(feature = "epoll", target_os = "linux"))]
mod memory {
    use std::ffi::{c_int, c_void};
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

    unsafe extern "C" {
        fn uv_replace_allocator(
            malloc: unsafe extern "C" fn(usize) -> *mut c_void,
            realloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
            calloc: unsafe extern "C" fn(usize, usize) -> *mut c_void,
            free: unsafe extern "C" fn(*mut c_void),
        ) -> c_int;
    }

    unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on as it came.
        unsafe { libc::malloc(size) }
    }

    unsafe extern "C" fn realloc(memory: *mut c_void, size: usize) -> *mut c_void {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { libc::realloc(memory, size) }
    }

    unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { libc::calloc(count, size) }
    }

    #[test]
    fn libuv_allocates_nothing_in_a_steady_turn() {
        if !crate::rig::alone("libuv::memory::libuv_allocates_nothing_in_a_steady_turn") {
            return;
        }
        // SAFETY: nothing of libuv was called before in this process; the functions are malloc's, counted.
        assert_eq!(unsafe { uv_replace_allocator(malloc, realloc, calloc, libc::free) }, 0);
        let mut adapter = Libuv::open(&Config::default()).expect("a descriptor is free");
        let at = listen(&mut adapter);
        let mut peer = TcpStream::connect(at).expect("it listens");
        peer.set_read_timeout(Some(GUARD)).expect("it is a socket");
        let mut round = |said: &[u8]| {
            peer.write_all(said).expect("it lives");
            let mut heard = 0;
            while heard < said.len() {
                let deadline = adapter.now() + Duration::from_millis(1);
                let polled = adapter.poll(Some(deadline), |_, event| {
                    if let Event::Received { bytes, link, .. } = event {
                        link.outbox().put(bytes).expect("it fits");
                        heard += bytes.len();
                    }
                });
                polled.expect("the adapter runs");
                adapter.flush().expect("the adapter runs");
            }
            peer.read_exact(&mut vec![0; said.len()]).expect("it answers");
        };
        (0..10).for_each(|_| round(&[1; 1000]));
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        assert_ne!(before, 0, "nobody counts");
        (0..1000).for_each(|_| round(&[2; 1000]));
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before);
    }
}
