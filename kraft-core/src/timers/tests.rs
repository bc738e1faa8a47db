use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use super::*;

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn expired(timers: &mut Timers, now: u64) -> Vec<TimerId> {
    std::iter::from_fn(|| timers.expire(at(now))).collect()
}

#[test]
fn a11_in_order_of_deadline_then_start_and_never_early() {
    let mut timers = Timers::default();
    let late = timers.start(at(30));
    let first = timers.start(at(10));
    let second = timers.start(at(10));
    assert_eq!(timers.next_deadline(), Some(at(10)));
    assert_eq!(expired(&mut timers, 9), []);
    assert_eq!(expired(&mut timers, 29), [first, second]);
    assert_eq!(timers.next_deadline(), Some(at(30)));
    assert_eq!(expired(&mut timers, 30), [late]);
    assert_eq!((timers.len(), timers.next_deadline()), (0, None));
}

#[test]
fn a11_a_stop_holds_even_if_the_timer_is_due() {
    let mut timers = Timers::default();
    let timer = timers.start(at(5));
    assert!(timers.stop(timer));
    assert!(!timers.stop(timer));
    assert_eq!(expired(&mut timers, 100), []);
}

#[test]
fn a05_a_stale_id_stops_nothing() {
    let mut timers = Timers::default();
    let once = timers.start(at(5));
    assert_eq!(expired(&mut timers, 5), [once]);
    let other = timers.start(at(7));
    assert_eq!(once.slot(), other.slot(), "the slot is used again");
    assert!(!timers.stop(once));
    assert!(!timers.stop(TimerId::new(99, 0)));
    let gone = timers.start(at(6));
    assert!(timers.stop(gone));
    assert!(
        !timers.stop(TimerId::new(1, gone.generation() + 1)),
        "an id that was never handed out"
    );
    assert_eq!(expired(&mut timers, 7), [other]);
}

#[test]
fn a12_a_repeating_timer_neither_drifts_nor_bursts() {
    let mut timers = Timers::default();
    let timer = timers.repeat(at(100), Duration::from_nanos(10));
    assert_eq!(expired(&mut timers, 103), [timer]);
    assert_eq!(timers.next_deadline(), Some(at(110)), "late by 3, still on the grid");
    assert_eq!(expired(&mut timers, 145), [timer], "four periods late, one expiry");
    assert_eq!(timers.next_deadline(), Some(at(150)));
    assert_eq!(expired(&mut timers, 150), [timer]);
    assert_eq!(timers.next_deadline(), Some(at(160)));
    assert!(timers.stop(timer));
    assert!(timers.is_empty());
}

#[test]
fn a_repeating_timer_ends_with_time() {
    let mut timers = Timers::default();
    let timer = timers.repeat(at(u64::MAX - 1), Duration::MAX);
    assert_eq!(expired(&mut timers, u64::MAX), [timer]);
    assert!(timers.is_empty());
    let timer = timers.repeat(at(0), Duration::from_nanos(1));
    assert_eq!(expired(&mut timers, u64::MAX - 1), [timer]);
    assert_eq!(
        expired(&mut timers, u64::MAX),
        [timer],
        "every period of time was missed"
    );
    assert!(timers.is_empty());
    let timer = timers.repeat(at(0), Duration::from_nanos(1));
    assert_eq!(expired(&mut timers, u64::MAX), [timer]);
    assert!(timers.is_empty());
}

#[test]
fn timer_in_past_no_spin() {
    let mut timers = Timers::default();
    let timer = timers.start(Instant::ZERO);
    assert_eq!(expired(&mut timers, 1_000), [timer]);
    assert_eq!(timers.next_deadline(), None);
}

#[test]
fn a_backends_own_timers_stand_apart() {
    let mut timers = Timers::default();
    let own = timers.start_own(at(5), 42);
    timers.start_own(at(7), 43);
    let users = timers.start(at(6));
    assert_eq!((timers.len(), timers.next_deadline()), (1, Some(at(5))));
    assert!(timers.stop_own(own));
    assert_eq!(timers.next_deadline(), Some(at(6)));
    assert_eq!(expired(&mut timers, 10), [users]);
    assert_eq!(timers.expire_own(at(6)), None);
    assert_eq!(timers.expire_own(at(7)), Some(43));
    assert_eq!((timers.expire_own(at(7)), timers.next_deadline()), (None, None));
}

/// Against a BTreeMap by (deadline, start).
#[test]
fn any_sequence_expires_in_order() {
    let mut random = fastrand::Rng::with_seed(seed());
    check_sequence(50_000, Heap::default(), &mut random);
    // About half of the turns start a timer: most of these count their starts anew.
    for _ in 0..50 {
        let before = u32::MAX - random.u32(..1_000);
        check_sequence(2_000, Heap::after(before), &mut random);
    }
}

fn check_sequence(turns: u32, users: Heap<Duration>, random: &mut fastrand::Rng) {
    let mut timers = Timers {
        users,
        ..Timers::default()
    };
    let mut model: BTreeMap<(u64, u64), (TimerId, u64)> = BTreeMap::new();
    let (mut now, mut started) = (0_u64, 0_u64);
    for _ in 0..turns {
        match random.u8(..10) {
            0..5 => {
                let deadline = now.saturating_sub(20) + random.u64(..200);
                let period = if random.u8(..4) == 0 { random.u64(1..50) } else { 0 };
                let timer = match period {
                    0 => timers.start(at(deadline)),
                    _ => timers.repeat(at(deadline), Duration::from_nanos(period)),
                };
                started += 1;
                model.insert((deadline, started), (timer, period));
            }
            5..8 => {
                let Some(nth) = (!model.is_empty()).then(|| random.usize(..model.len())) else {
                    continue;
                };
                let key = *model.keys().nth(nth).expect("it is below the length");
                let (timer, _) = model.remove(&key).expect("it is there");
                assert!(timers.stop(timer));
            }
            _ => {
                now += random.u64(..30);
                loop {
                    let due = model.first_key_value().filter(|((deadline, _), _)| *deadline <= now);
                    let expected = due.map(|(&key, &value)| (key, value));
                    assert_eq!(timers.expire(at(now)), expected.map(|(_, (timer, _))| timer));
                    let Some((key, (timer, period))) = expected else {
                        break;
                    };
                    model.remove(&key);
                    if let Some(missed) = (now - key.0).checked_div(period) {
                        model.insert((key.0 + period * (missed + 1), key.1), (timer, period));
                    }
                }
            }
        }
        assert_eq!(timers.len(), model.len());
        assert_eq!(
            timers.next_deadline(),
            model.keys().next().map(|&(deadline, _)| at(deadline))
        );
    }
}

fn seed() -> u64 {
    let seed = match std::env::var("KRAFT_SEED") {
        Ok(seed) => seed.parse().expect("KRAFT_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0),
    };
    println!("KRAFT_SEED={seed}");
    seed
}
