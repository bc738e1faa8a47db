//! The loop's side of a wake.

use std::cell::Cell;
use std::fmt::Debug;
use std::sync::Arc;

use kraft_core::adapter::Waker;

use super::{ASLEEP, Bell, WOKEN, Wake};
use crate::sync::Ordering;

/// The loop looks for wakes before it waits: they are found without a ring. The third state of a [`Wake`].
const AWAKE: u8 = 2;

/// Knows whether a loop may wait, and whether it was woken.
///
/// A loop that was woken stays awake for one more look at the system, without waiting: where wakes come in numbers the
/// next is on its way, and costs whoever sends it no system call then. A loop that spins is awake as long as it does.
///
/// Inside of somebody else's loop it is never awake, since that one waits for the bell.
#[derive(Debug)]
pub(crate) struct Sleeper<B: Bell> {
    wake: Arc<Wake<B>>,
    /// The state is not `ASLEEP`.
    is_awake: Cell<bool>,
    /// Somebody waits for the bell in a loop of his own.
    embedded: Cell<bool>,
}

impl<B: Bell> Sleeper<B> {
    pub(crate) fn new(bell: B) -> Self {
        Self {
            wake: Arc::new(Wake::new(bell)),
            is_awake: Cell::new(false),
            embedded: Cell::new(false),
        }
    }

    /// One that wakes the loop.
    pub(crate) fn waker(&self) -> Waker
    where
        B: Send + 'static,
    {
        let wake = Arc::clone(&self.wake);
        Waker::new(move || wake.wake())
    }

    /// Whether the loop is to look at the system without waiting: it is awake, or a wake is due whose ring was heard in a
    /// turn that somebody's panic ended.
    pub(crate) fn must_not_wait(&self) -> bool {
        self.is_awake.get() || self.is_due()
    }

    /// Whether a user's wake is due.
    pub(crate) fn is_due(&self) -> bool {
        // In one order with what the bell keeps of its own rings: silenced before, it is rung anew or this sees the wake.
        self.wake.state.load(Ordering::SeqCst) == WOKEN
    }

    /// Whether a user's wake is due, once. Called after the loop has looked at the system, which silences the bell, and
    /// before the user looks for what the wake announced: a later announcement is another wake.
    pub(crate) fn take(&self) -> bool {
        // Most turns are for something else. They write nothing, which would cost those who wake.
        let is_due = if self.is_awake.get() {
            !self.lie_down()
        } else {
            self.is_due()
        };
        if is_due && self.embedded.get() {
            self.is_awake.set(false);
            return self.wake.take();
        }
        self.is_awake.set(is_due);
        // Takes part in the order of wakes, so that what the last of them announced is seen.
        is_due && self.wake.state.swap(AWAKE, Ordering::AcqRel) == WOKEN
    }

    /// The loop is going to look at the system, and for wakes, again and again.
    pub(crate) fn get_up(&self) {
        if !self.embedded.get() && !self.is_awake.replace(true) {
            // One that is due stays due.
            let state = &self.wake.state;
            let _ = state.compare_exchange(ASLEEP, AWAKE, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// The loop is about to wait. Whether it may: no wake is due that has not rung.
    pub(crate) fn lie_down(&self) -> bool {
        if self.is_awake.get() {
            let state = &self.wake.state;
            let was = state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
            self.is_awake.set(was.is_err());
        }
        !self.is_awake.get()
    }

    /// Somebody waits for the bell from here on.
    pub(crate) fn embed(&self) {
        self.embedded.set(true);
        self.lie_down();
        self.is_awake.set(false);
        // One that is due may not have rung, or was heard already.
        if self.is_due() {
            self.signal();
        }
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.embedded.get()
    }

    /// Rings, without a `Woken`.
    pub(crate) fn signal(&self) {
        self.wake.signal();
    }

    /// Drops the bell; wakers are inert from here on.
    pub(crate) fn close(&self) {
        self.wake.close();
    }
}

impl<B: Bell> Drop for Sleeper<B> {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// How often it rang.
    #[derive(Clone, Default)]
    struct Counter(Arc<AtomicUsize>);

    impl Bell for Counter {
        fn ring(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Counter {
        fn rings(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn asleep() -> (Counter, Sleeper<Counter>, Waker) {
        let bell = Counter::default();
        let sleeper = Sleeper::new(bell.clone());
        let waker = sleeper.waker();
        (bell, sleeper, waker)
    }

    #[test]
    fn many_wakes_are_one_and_ring_once() {
        let (bell, sleeper, waker) = asleep();
        assert!(!sleeper.take());
        waker.wake();
        waker.wake();
        assert!(sleeper.take());
        assert!(!sleeper.take());
        assert_eq!(bell.rings(), 1);
    }

    #[test]
    fn a_wake_that_follows_another_does_not_ring_and_one_behind_a_look_in_vain_does() {
        let (bell, sleeper, waker) = asleep();
        waker.wake();
        for _ in 0..3 {
            assert!(sleeper.take());
            assert!(sleeper.must_not_wait(), "it has to look, or it would miss the next");
            waker.wake();
        }
        assert_eq!(bell.rings(), 1);
        assert!(sleeper.take());
        assert!(!sleeper.take(), "the look in vain");
        assert!(!sleeper.must_not_wait() && sleeper.lie_down());
        waker.wake();
        assert_eq!(bell.rings(), 2);
    }

    #[test]
    fn a_loop_that_spins_is_not_rung_and_must_not_wait_past_a_wake() {
        let (bell, sleeper, waker) = asleep();
        sleeper.get_up();
        waker.wake();
        assert!(sleeper.is_due() && !sleeper.lie_down());
        assert!(sleeper.take());
        assert_eq!(bell.rings(), 0);
    }

    #[test]
    fn a_wake_before_the_spinning_stays_due() {
        let (_, sleeper, waker) = asleep();
        waker.wake();
        sleeper.get_up();
        assert!(!sleeper.lie_down() && sleeper.take());
    }

    #[test]
    fn the_first_wake_between_two_turns_rings_for_a_loop_around() {
        let (bell, sleeper, waker) = asleep();
        sleeper.embed();
        for turn in 1..4 {
            waker.wake();
            waker.wake();
            assert_eq!(bell.rings(), turn);
            assert!(sleeper.take() && !sleeper.must_not_wait());
            sleeper.get_up();
            assert!(sleeper.lie_down(), "nobody would look");
        }
    }

    #[test]
    fn who_is_embedded_while_awake_rings_for_what_is_due() {
        let (bell, sleeper, waker) = asleep();
        waker.wake();
        assert!(sleeper.take());
        waker.wake();
        assert_eq!(bell.rings(), 1);
        sleeper.embed();
        assert_eq!(bell.rings(), 2);
        assert!(sleeper.take() && !sleeper.take());
    }

    /// As behind a callback that panicked in the turn that heard the bell.
    #[test]
    fn a_wake_that_rang_in_vain_is_not_waited_past() {
        let (bell, sleeper, waker) = asleep();
        waker.wake();
        assert!(!sleeper.is_awake.get() && sleeper.must_not_wait());
        sleeper.embed();
        assert_eq!(bell.rings(), 2, "nor by a loop around");
        assert!(sleeper.take() && !sleeper.must_not_wait());
    }

    #[test]
    fn a_late_waker_is_inert() {
        let (bell, sleeper, waker) = asleep();
        drop(sleeper);
        waker.wake();
        assert_eq!(bell.rings(), 0);
    }
}
