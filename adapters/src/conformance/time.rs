//! Laws about time and timers.

use std::time::Duration;

use kraft_core::adapter::Adapter;
use kraft_core::id::TimerId;
use kraft_core::time::Instant;

use super::environment::Environment;
use super::party::{Pair, Party, seed};
use crate::Config;

/// Timers are never early, in order of deadline then start; a stop made before a poll holds even if the timer is due.
pub fn a11_timers_are_in_order_and_never_early<E: Environment>(environment: &E) {
    let mut rng = fastrand::Rng::with_seed(seed());
    let mut party = Party::open(environment, &Config::default());
    party.turn(Duration::ZERO);
    let start = party.adapter.now();
    let mut due: Vec<(Instant, usize, TimerId)> = Vec::new();
    for count in 0..300 {
        // Whole milliseconds, so that many are equal; some parts of one, for those who round.
        let span = match rng.bool() {
            true => Duration::from_millis(rng.u64(..20)),
            false => Duration::from_micros(rng.u64(..20_000)),
        };
        let timer = party.adapter.timers().start(start + span);
        due.push((start + span, count, timer));
    }
    assert_eq!(party.adapter.stats().timers, 300);
    due.retain(|&(_, count, timer)| {
        let stops = count % 3 == 0;
        if stops {
            assert!(party.adapter.timers().stop(timer));
            assert!(!party.adapter.timers().stop(timer), "it was stopped already");
        }
        !stops
    });
    due.sort_unstable();
    party.until("200 timers", |party| party.expired.len() >= due.len());
    let expected: Vec<_> = due.iter().map(|&(_, _, timer)| timer).collect();
    let expired: Vec<_> = party.expired.iter().map(|&(_, timer)| timer).collect();
    assert_eq!(expired, expected, "A11: another order");
    for (&(deadline, _, timer), &(now, _)) in due.iter().zip(&party.expired) {
        assert!(now >= deadline, "A11: {timer} expired {:?} early", deadline - now);
        assert!(now == deadline || !environment.is_virtual(), "{timer} expired late");
    }
    // Stopped when it is due already.
    let now = party.adapter.now();
    let [stopped, runs] = [now, now].map(|at| party.adapter.timers().start(at));
    assert!(party.adapter.timers().stop(stopped));
    assert_eq!(party.turn(Duration::ZERO), 1);
    assert_eq!(party.expired.last().map(|&(_, timer)| timer), Some(runs));
    assert!(!party.adapter.timers().stop(runs), "it has expired");
    assert_eq!(party.adapter.stats().timers, 0);
}

/// A repeating timer does not drift or burst.
pub fn a12_a_repeating_timer_neither_drifts_nor_bursts<E: Environment>(environment: &E) {
    let period = Duration::from_millis(5);
    let mut party = Party::open(environment, &Config::default());
    party.turn(Duration::ZERO);
    let first = party.adapter.now() + period;
    let timer = party.adapter.timers().repeat(first, period);
    party.until("ten expiries", |party| party.expired.len() >= 10);
    for (count, &(now, _)) in party.expired.iter().enumerate() {
        let count = u32::try_from(count).expect("there are about ten");
        let earliest = first + period * count;
        assert!(now >= earliest, "A12: expiry {count} came {:?} early", earliest - now);
        assert!(
            now == earliest || !environment.is_virtual(),
            "A12: expiry {count} drifted"
        );
    }
    // On the grid that the first one began: the next is never a whole period after the last one by then.
    let next = party.adapter.timers().next_deadline().expect("it repeats");
    assert_eq!((next - first).as_nanos() % period.as_nanos(), 0, "A12: off the grid");
    // Somebody else waits, so that several periods are missed.
    let mut other = Party::open(environment, &Config::default());
    let before = party.expired.len();
    other.turn(Duration::ZERO);
    other.turn(period * 7 + period / 2);
    assert_eq!(
        party.turn(Duration::ZERO),
        1,
        "A12: one expiry for all that were missed"
    );
    assert_eq!(party.expired.len(), before + 1);
    let next = party.adapter.timers().next_deadline().expect("it repeats");
    assert!(next > party.adapter.now());
    assert_eq!((next - first).as_nanos() % period.as_nanos(), 0, "A12: off the grid");
    assert!(party.adapter.timers().stop(timer));
    let before = party.expired.len();
    party.turn(period * 2);
    assert_eq!(party.expired.len(), before);
}

/// `poll` with a deadline in the past does not block, and has its turn all the same.
pub fn a14_a_past_deadline_does_not_block<E: Environment>(environment: &E) {
    let mut pair = Pair::open(environment, &Config::default());
    // If one of these blocked, nothing would end it.
    for deadline in [Instant::ZERO, pair.a.adapter.now()] {
        for _ in 0..100 {
            assert_eq!(pair.a.turn_until(Some(deadline), |_, _| ()), 0);
        }
    }
    let (at_a, at_b) = (pair.at_a, pair.at_b);
    pair.a.put(at_a, b"x");
    pair.a.turn_until(Some(Instant::ZERO), |_, _| ());
    pair.b.until("the byte", |b| b.track(at_b).received == b"x");
    let before = pair.a.adapter.now();
    pair.a.turn_until(Some(Instant::ZERO), |_, _| ());
    assert!(pair.a.adapter.now() >= before);
}

/// `poll` returns never before work or its deadline, and by it.
pub fn a15_poll_returns_at_its_deadline_and_not_before<E: Environment>(environment: &E) {
    let mut pair = Pair::open(environment, &Config::default());
    // What is left of making the connection.
    pair.a.turn(Duration::from_millis(5));
    let waits = [1, 50, 300, 999, 1000, 1001, 2500, 20_000].map(Duration::from_micros);
    for wait in waits {
        let deadline = pair.a.adapter.now() + wait;
        assert_eq!(pair.a.turn_until(Some(deadline), |_, _| ()), 0);
        let now = pair.a.adapter.now();
        assert!(
            now >= deadline,
            "A15: returned {:?} early, without work",
            deadline - now
        );
        assert!(now == deadline || !environment.is_virtual(), "A15: returned late");
    }
    // A timer that is due sooner is work, and without any deadline it is what ends the wait.
    for has_deadline in [true, false] {
        pair.a.turn(Duration::ZERO);
        let at = pair.a.adapter.now() + Duration::from_millis(3);
        pair.a.adapter.timers().start(at);
        let deadline = has_deadline.then(|| at + Duration::from_secs(60));
        assert_eq!(pair.a.turn_until(deadline, |_, _| ()), 1);
        let now = pair.a.adapter.now();
        assert!(now >= at, "A15: returned early");
        assert!(now == at || !environment.is_virtual());
    }
    // So are bytes.
    let at_b = pair.at_b;
    pair.b.put(at_b, b"x");
    pair.b.adapter.flush().expect("the adapter runs");
    assert_eq!(pair.a.turn_until(None, |_, _| ()), 1);
    assert_eq!(pair.a.track(pair.at_a).received, b"x");
}

/// `now` is monotone and constant in a turn: read once, and read again only by the next poll.
pub fn a17_now_is_monotone_and_constant_in_a_turn<E: Environment>(environment: &E) {
    let mut pair = Pair::open(environment, &Config::default());
    let mut last = pair.a.adapter.now();
    for _ in 0..20 {
        pair.a.turn(Duration::from_micros(300));
        let now = pair.a.adapter.now();
        assert!(now >= last, "A17: went back");
        // Meanwhile another adapter waits, and so time passes.
        pair.b.turn(Duration::from_micros(500));
        assert_eq!(pair.a.adapter.now(), now, "A17: changed between polls");
        let read = pair.a.adapter.read_clock().unwrap_or(now);
        assert!(read >= now, "A17: the clock that is read is behind `now`");
        assert!(
            pair.a.adapter.read_clock().is_none_or(|again| again >= read),
            "A17: it went back"
        );
        pair.a.adapter.flush().expect("the adapter runs");
        assert_eq!(pair.a.adapter.now(), now, "A17: changed in a flush");
        last = now;
    }
    // Many events of one turn have one `now`, which every party checks: timers and bytes together.
    let now = pair.a.adapter.now();
    for _ in 0..100 {
        pair.a.adapter.timers().start(now);
    }
    pair.check_works();
    assert_eq!(pair.a.expired.len(), 100);
    assert!(pair.a.adapter.now() >= last);
}
