//! Every order in which wakes and the loop can meet, by loom. A wake that is lost leaves the loop waiting for ever, which
//! loom finds.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::{model, thread};

use super::{Bell, Wake};

/// What a descriptor is to those who wait on it: up from a ring until it is silenced.
#[derive(Default)]
struct Descriptor {
    is_up: Mutex<bool>,
    changed: Condvar,
}

impl Descriptor {
    fn wait(&self) {
        let mut is_up = self.is_up.lock().expect("nobody panics");
        while !*is_up {
            is_up = self.changed.wait(is_up).expect("nobody panics");
        }
    }

    fn silence(&self) {
        *self.is_up.lock().expect("nobody panics") = false;
    }
}

impl Bell for Arc<Descriptor> {
    fn ring(&self) {
        *self.is_up.lock().expect("nobody panics") = true;
        self.changed.notify_one();
    }
}

/// Two threads announce something and wake, one of them twice; the loop looks whenever it is woken, and must see all.
///
/// Twice, because a wake that goes by unheard does harm by the next one, which is taken for announced.
fn check(turn: fn(&Descriptor, &Wake<Arc<Descriptor>>) -> bool) {
    model(move || {
        let descriptor = Arc::new(Descriptor::default());
        let wake = Arc::new(Wake::new(Arc::clone(&descriptor)));
        let announced = Arc::new(AtomicUsize::new(0));
        let wakers = [1, 2].map(|times| {
            let (wake, announced) = (Arc::clone(&wake), Arc::clone(&announced));
            thread::spawn(move || {
                for _ in 0..times {
                    // Relaxed: what orders it is the wake.
                    announced.fetch_add(1, Ordering::Relaxed);
                    wake.wake();
                }
            })
        });
        let mut seen = 0;
        while seen < 3 {
            if turn(&descriptor, &wake) {
                seen = announced.load(Ordering::Relaxed);
            }
        }
        for waker in wakers {
            waker.join().expect("it only wakes");
        }
    });
}

/// As `WakeLine` does.
#[test]
fn no_wake_is_lost_by_who_silences_the_bell() {
    check(|descriptor, wake| {
        descriptor.wait();
        wake.take_after(|| descriptor.silence())
    });
}

/// As a selector does that tells of each ring once, and as io_uring does, whose watch ends with the first ring.
#[test]
fn no_wake_is_lost_by_who_is_told_of_each_ring() {
    check(|descriptor, wake| {
        descriptor.wait();
        descriptor.silence();
        wake.take()
    });
}

#[test]
fn a_wake_meets_the_end_of_the_adapter_and_rings_no_more_once_it_is_closed() {
    struct Closing(Arc<AtomicBool>);

    impl Bell for Closing {
        fn ring(&self) {
            assert!(!self.0.load(Ordering::Relaxed), "the descriptor is closed");
        }
    }

    impl Drop for Closing {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    model(|| {
        let is_closed = Arc::new(AtomicBool::new(false));
        let wake = Arc::new(Wake::new(Closing(Arc::clone(&is_closed))));
        let other = Arc::clone(&wake);
        let waker = thread::spawn(move || {
            other.wake();
            other.signal();
        });
        wake.close();
        assert!(
            is_closed.load(Ordering::Relaxed),
            "its descriptor goes with the adapter"
        );
        waker.join().expect("it only wakes");
    });
}
