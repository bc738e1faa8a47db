//! Every order in which wakes and the loop can meet, by loom. A wake that is lost leaves the loop waiting for ever, which
//! loom finds.

use std::sync::Arc;

use kraft_core::adapter::Waker;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::{model, thread};

use super::sleeper::Sleeper;
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
fn check<L>(open: fn(Arc<Descriptor>) -> (L, Waker), turn: fn(&Descriptor, &L) -> bool)
where
    L: 'static,
{
    model(move || {
        let descriptor = Arc::new(Descriptor::default());
        let (own, waker) = open(Arc::clone(&descriptor));
        let announced = Arc::new(AtomicUsize::new(0));
        let wakers = [1, 2].map(|times| {
            let (waker, announced) = (waker.clone(), Arc::clone(&announced));
            thread::spawn(move || {
                for _ in 0..times {
                    // Relaxed: what orders it is the wake.
                    announced.fetch_add(1, Ordering::Relaxed);
                    waker.wake();
                }
            })
        });
        let mut seen = 0;
        while seen < 3 {
            if turn(&descriptor, &own) {
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
    let open = |descriptor| {
        let wake = Arc::new(Wake::new(descriptor));
        let waker = Arc::clone(&wake);
        (wake, Waker::new(move || waker.wake()))
    };
    check(open, |descriptor, wake| {
        descriptor.wait();
        wake.take_after(|| descriptor.silence())
    });
}

fn asleep(descriptor: Arc<Descriptor>) -> (Sleeper<Arc<Descriptor>>, Waker) {
    let sleeper = Sleeper::new(descriptor);
    let waker = sleeper.waker();
    (sleeper, waker)
}

/// A wait, and a look without waiting where the loop is awake.
fn look(descriptor: &Descriptor, sleeper: &Sleeper<Arc<Descriptor>>) {
    if !sleeper.must_not_wait() {
        descriptor.wait();
    }
    descriptor.silence();
}

#[test]
fn no_wake_is_lost_by_who_stays_awake_behind_one() {
    check(asleep, |descriptor, sleeper| {
        look(descriptor, sleeper);
        sleeper.take()
    });
}

#[test]
fn no_wake_is_lost_by_who_spins_before_he_waits() {
    check(asleep, |descriptor, sleeper| {
        sleeper.get_up();
        if sleeper.is_due() || !sleeper.lie_down() {
            return sleeper.take();
        }
        look(descriptor, sleeper);
        sleeper.take()
    });
}

/// The loop around it waits for the bell, and turns this one whenever that rings.
#[test]
fn no_wake_is_lost_by_who_waits_in_a_loop_around() {
    let embedded = |descriptor| {
        let (sleeper, waker) = asleep(descriptor);
        sleeper.embed();
        (sleeper, waker)
    };
    check(embedded, |descriptor, sleeper| {
        descriptor.wait();
        descriptor.silence();
        sleeper.take()
    });
}

/// The loop around it begins to wait in the midst of the wakes.
#[test]
fn no_wake_is_lost_by_who_is_embedded_while_he_is_awake() {
    check(asleep, |descriptor, sleeper| {
        look(descriptor, sleeper);
        let is_due = sleeper.take();
        sleeper.embed();
        is_due
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
