//! A machine's own clock, which jumps and drifts against the network's time.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kraft_adapters::mock::Mock;
use kraft_core::adapter::{Adapter, Capabilities, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

/// A clock that runs in step with the network's.
const STEADY: u64 = 1 << 20;

/// The rate of a clock that is so much faster, from -1 to 1: up to a half and twice as fast.
pub(super) fn rate(faster: f64) -> u64 {
    let by = match faster < 0.0 {
        true => 1.0 / (1.0 - faster),
        false => 1.0 + faster,
    };
    (STEADY as f64 * by) as u64
}

/// A monotone clock: at the network's time `since` it showed `shown`, and runs at `rate / 2^20` of it from there.
#[derive(Clone, Copy, Debug)]
struct Dial {
    since: Instant,
    shown: Instant,
    rate: u64,
}

/// A machine's clock. Clones are the same clock. It survives its node.
#[derive(Clone, Debug)]
pub(super) struct Clock(Arc<Mutex<Dial>>);

impl Clock {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Dial {
            since: Instant::ZERO,
            shown: Instant::ZERO,
            rate: STEADY,
        })))
    }

    fn dial(&self) -> Dial {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, dial: Dial) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = dial;
    }

    /// What it shows at the network's time `at`.
    pub(super) fn local(&self, at: Instant) -> Instant {
        self.dial().local(at)
    }

    /// The first moment of the network's time at which it shows `local`.
    pub(super) fn global(&self, local: Instant) -> Instant {
        self.dial().global(local)
    }

    /// Lets it jump forward.
    pub(super) fn jump(&self, now: Instant, span: Duration) {
        let dial = self.dial();
        self.set(Dial {
            since: now,
            shown: dial.local(now) + span,
            ..dial
        });
    }

    /// Lets it run at `rate / 2^20` of the network's time from now on.
    pub(super) fn drift(&self, now: Instant, rate: u64) {
        let shown = self.local(now);
        self.set(Dial {
            since: now,
            shown,
            rate: rate.max(1),
        });
    }

    /// Lets it run in step.
    pub(super) fn steady(&self, now: Instant) {
        self.drift(now, STEADY);
    }
}

impl Dial {
    fn local(self, at: Instant) -> Instant {
        let span = u128::from(at.as_nanos().saturating_sub(self.since.as_nanos()));
        let span = span * u128::from(self.rate) / u128::from(STEADY);
        self.shown + Duration::from_nanos(u64::try_from(span).unwrap_or(u64::MAX))
    }

    fn global(self, local: Instant) -> Instant {
        let span = u128::from(local.as_nanos().saturating_sub(self.shown.as_nanos()));
        let span = (span * u128::from(STEADY)).div_ceil(u128::from(self.rate));
        self.since + Duration::from_nanos(u64::try_from(span).unwrap_or(u64::MAX))
    }
}

/// A mock whose user sees a machine's own clock. Its timers run by the network's: nodes start none.
#[derive(Debug)]
pub(super) struct Clocked {
    inner: Mock,
    clock: Clock,
    now: Instant,
}

impl Clocked {
    pub(super) fn new(inner: Mock, clock: Clock) -> Self {
        let now = clock.local(inner.now());
        Self { inner, clock, now }
    }
}

impl Adapter for Clocked {
    fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
        self.inner.listen(at, options)
    }

    fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
        self.inner.local_endpoint(listener)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.inner.unlisten(listener);
    }

    fn connect(&mut self, to: &Endpoint) -> io::Result<ConnId> {
        self.inner.connect(to)
    }

    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        self.inner.link(conn)
    }

    fn timers(&mut self) -> &mut Timers {
        self.inner.timers()
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn read_clock(&self) -> Option<Instant> {
        Some(self.clock.local(self.inner.now()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }

    fn poll<F>(&mut self, deadline: Option<Instant>, mut on_event: F) -> io::Result<usize>
    where
        F: FnMut(Instant, Event<'_>),
    {
        let deadline = deadline.map(|at| self.clock.global(at));
        let dial = self.clock.dial();
        let polled = self.inner.poll(deadline, |now, event| on_event(dial.local(now), event));
        self.now = dial.local(self.inner.now());
        polled
    }

    fn waker(&self) -> Waker {
        self.inner.waker()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.poll_fd()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_never_goes_back_and_its_deadlines_are_met() {
        println!("KRAFT_SEED=7");
        let mut rng = fastrand::Rng::with_seed(7);
        let clock = Clock::new();
        let (mut now, mut shown) = (Instant::ZERO, Instant::ZERO);
        for _ in 0..10_000 {
            now += Duration::from_nanos(rng.u64(..5_000_000));
            match rng.u8(..20) {
                0 => clock.jump(now, Duration::from_millis(rng.u64(..3_600_000))),
                1 => clock.drift(now, rng.u64(STEADY / 2..STEADY * 2)),
                2 => clock.steady(now),
                _ => {}
            }
            let local = clock.local(now);
            assert!(local >= shown, "{local:?} after {shown:?}");
            shown = local;
            let deadline = local + Duration::from_nanos(rng.u64(..5_000_000));
            let due = clock.global(deadline);
            assert!(due >= now && clock.local(due) >= deadline);
            assert!(due == now || clock.local(Instant::from_nanos(due.as_nanos() - 1)) < deadline);
        }
    }
}
