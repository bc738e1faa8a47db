//! Laws about back pressure and fairness.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kraft_core::adapter::{Adapter, CloseReason, Event};
use kraft_core::link::CloseMode;
use kraft_core::outbox::Full;
use kraft_core::time::Instant;

use super::environment::Environment;
use super::party::{Pair, Party, Served, assert_same, pattern, write_some};
use crate::Config;

/// A put past the limit is refused and changes nothing; one `Drained` follows.
pub fn a08_a_full_outbox_refuses_whole_and_drains_once<E: Environment>(environment: &E) {
    let config = Config {
        write_queue_max: 64 * 1024,
        ..Config::default()
    };
    let mut pair = Pair::open(environment, &config);
    let (at_a, at_b) = (pair.at_a, pair.at_b);
    for _ in 0..3 {
        pair.b.link(at_b).pause();
        pair.b.turn(Duration::ZERO);
        let before = pair.b.track(at_b).received_count;
        let mut sent = pair.b.track(at_b).received.clone();
        // Until the system has no room either: refused three times, without `Drained` between them.
        let mut refusals = 0;
        while refusals < 3 {
            let piece = pattern(sent.len(), 10_000);
            let drained = pair.a.track(at_a).drained;
            let outbox = pair.a.link(at_a).outbox();
            let len = outbox.len();
            match outbox.put(&piece) {
                Ok(()) => sent.extend(piece),
                Err(Full) => {
                    assert_eq!(outbox.len(), len, "A8: a refused put changed something");
                    refusals += 1;
                }
            }
            assert!(outbox.len() <= outbox.limit());
            pair.a.turn(Duration::ZERO);
            pair.b.turn(Duration::ZERO);
            if pair.a.track(at_a).drained > drained {
                // The system took it after all.
                assert!(refusals > 0, "A8: Drained, and no put was refused");
                assert_eq!(pair.a.track(at_a).drained, drained + 1, "A8: one Drained for a refusal");
                refusals = 0;
            }
            assert!(
                sent.len() < 256 << 20,
                "A8: a connection that nobody reads took 256 MiB"
            );
        }
        let drained = pair.a.track(at_a).drained;
        pair.b.link(at_b).resume();
        pair.until("all that was accepted, and Drained", |a, b| {
            b.track(at_b).received_count == sent.len() && a.track(at_a).drained > drained
        });
        for _ in 0..5 {
            pair.a.turn(Duration::from_millis(1));
        }
        assert_eq!(pair.a.track(at_a).drained, drained + 1, "A8: one Drained for a refusal");
        assert!(sent.len() > before);
        assert_same(&pair.b.track(at_b).received, &sent);
    }
}

/// `pause` stops delivery within one turn, `resume` loses nothing.
pub fn a10_pause_stops_and_resume_loses_nothing<E: Environment>(environment: &E) {
    let config = Config {
        read_buffer: 4096,
        ..Config::default()
    };
    let mut served = Served::open(environment, &config, 1);
    let conn = served.party.begun()[0];
    let remote = &mut served.remotes[0];
    let sent = pattern(0, 300_000);
    let mut written = 0;
    let mut received_before = 0;
    while received_before < sent.len() {
        written += write_some(remote, &sent[written..]);
        // Paused through the link that was lent with the first bytes of the turn.
        let mut rounds = 0;
        while served.party.track(conn).received_count == received_before {
            served.party.turn_with(Duration::from_millis(1), |_, event| {
                if let Event::Received { link, .. } = event {
                    link.pause();
                }
            });
            rounds += 1;
            assert!(rounds < 10_000, "A10: no bytes came");
        }
        let paused_at = served.party.track(conn).received_count;
        written += write_some(remote, &sent[written..]);
        for _ in 0..5 {
            served.party.turn(Duration::from_millis(1));
            let now = served.party.track(conn).received_count;
            assert_eq!(now, paused_at, "A10: received a turn after the pause");
        }
        received_before = paused_at;
        served.party.link(conn).resume();
        if received_before + 100_000 < sent.len() {
            // Not in steps of 4 KiB all the way: resumed without another pause, and then paused between polls.
            let goal = (received_before + 50_000).min(written);
            served
                .party
                .until("bytes after resuming", |party| party.track(conn).received_count >= goal);
            served.party.link(conn).pause();
            served.party.turn(Duration::ZERO);
            let paused_at = served.party.track(conn).received_count;
            served.party.turn(Duration::from_millis(2));
            assert_eq!(served.party.track(conn).received_count, paused_at);
            served.party.link(conn).resume();
            received_before = paused_at;
        }
    }
    assert_same(&served.party.track(conn).received, &sent);
    // The end waits for who is paused, too, and is not lost.
    served.party.link(conn).pause();
    served.party.turn(Duration::ZERO);
    write_some(remote, b"last");
    super::Remote::end(remote).expect("the remote lives");
    served.party.turn(Duration::from_millis(5));
    assert_eq!(served.party.track(conn).received_count, sent.len());
    // Resumed in answer to an event, and nothing put.
    served.party.link(conn).outbox().mark();
    let mut resumed = false;
    for _ in 0..10_000 {
        served.party.turn_with(Duration::from_millis(1), |_, event| {
            if let Event::Written { link, .. } = event {
                link.resume();
                resumed = true;
            }
        });
        if resumed {
            break;
        }
    }
    assert!(resumed, "A10: no `Written` for a mark");
    served.party.until("the end", |party| party.track(conn).ended);
    assert_eq!(served.party.track(conn).received_count, sent.len() + 4);
}

/// A busy connection starves no other.
pub fn a18_a_busy_connection_starves_no_other<E: Environment>(environment: &E) {
    let config = Config {
        read_buffer: 4096,
        reads_per_turn: 2,
        ..Config::default()
    };
    let mut served = Served::open(environment, &config, 4);
    served.party.keeps = false;
    let conns = served.party.begun().to_vec();
    let flood = pattern(0, 1 << 20);
    let (quiet, busy) = served.remotes.split_last_mut().expect("there are four");
    let mut turn = |party: &mut Party<E::Adapter>| {
        for remote in &mut *busy {
            write_some(remote, &flood);
        }
        party.turn(Duration::ZERO);
    };
    for round in 1..=20 {
        assert_eq!(write_some(quiet, b"x"), 1);
        let patience = Patience::of(environment, &served.party);
        for turns in 0.. {
            if served.party.track(conns[3]).received_count >= round {
                break;
            }
            turn(&mut served.party);
            patience.check(&served.party, turns);
        }
    }
    // And the busy ones do not starve each other.
    for _ in 0..5 {
        let counts = |party: &Party<E::Adapter>| [0, 1, 2].map(|nth| party.track(conns[nth]).received_count);
        let before = counts(&served.party);
        let patience = Patience::of(environment, &served.party);
        for turns in 0.. {
            let now = counts(&served.party);
            if now.iter().zip(&before).all(|(now, before)| now > before) {
                break;
            }
            turn(&mut served.party);
            patience.check(&served.party, turns);
        }
    }
    if !environment.is_virtual() {
        under_flood(environment);
    }
}

/// Somebody fills connections as fast as the adapter reads them: a turn ends, and others are heard, all the same.
fn under_flood<E: Environment>(environment: &E) {
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let config = Config {
        read_buffer: 512,
        ..Config::default()
    };
    let mut served = Served::open(environment, &config, 2);
    served.party.keeps = false;
    let conns = served.party.begun().to_vec();
    let (quiet, busy) = served.remotes.split_last_mut().expect("there are two");
    let flood = pattern(0, 1 << 20);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Dropped also if an assertion fails, or the scope would wait for ever.
        let over = Over(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                write_some(&mut busy[0], &flood);
                thread::yield_now();
            }
        });
        for round in 1..=20 {
            assert_eq!(write_some(quiet, b"x"), 1);
            let patience = Patience::of(environment, &served.party);
            for turns in 0.. {
                if served.party.track(conns[1]).received_count >= round {
                    break;
                }
                let before = served.party.track(conns[0]).deliveries;
                served.party.turn(Duration::from_millis(1));
                let count = served.party.track(conns[0]).deliveries - before;
                assert!(
                    count <= DELIVERIES_MAX,
                    "A18: {count} deliveries to one connection in a turn"
                );
                patience.check(&served.party, turns);
            }
        }
        drop(over);
    });
}

/// Deliveries to one connection in one turn, while another waits, at most: far above what any backend means to do, and
/// far below what a flood gives to one that reads until nothing is left.
const DELIVERIES_MAX: usize = 1024;

/// How long somebody may have to wait whose bytes are there. A fair loop needs a turn or two.
struct Patience {
    until: Instant,
    turns: u32,
}

impl Patience {
    fn of<E: Environment>(environment: &E, party: &Party<E::Adapter>) -> Self {
        match environment.is_virtual() {
            // Turns that do not wait take no time there.
            true => Self {
                until: Instant::ZERO,
                turns: 50,
            },
            // Both: a busy system may take a while to hand bytes from one socket to the other.
            false => Self {
                until: party.adapter.now() + Duration::from_secs(2),
                turns: 50,
            },
        }
    }

    #[track_caller]
    fn check<A: Adapter>(&self, party: &Party<A>, turns: u32) {
        let is_over = turns > self.turns && party.adapter.now() >= self.until;
        assert!(!is_over, "A18: a connection got nothing in {turns} turns");
    }
}

/// `Written` comes once for each mark, in order, or `Closed` instead.
pub fn a29_written_comes_for_each_mark_in_order<E: Environment>(environment: &E) {
    let mut pair = Pair::open(environment, &Config::default());
    let (at_a, at_b) = (pair.at_a, pair.at_b);
    let mut marks = Vec::new();
    for count in [1, 10, 5000, 0, 100_000, 300_000, 7] {
        if count > 0 {
            pair.a.put(at_a, &pattern(0, count));
        }
        let mark = pair.a.link(at_a).outbox().mark();
        // Marks with nothing between them are one.
        if marks.last() != Some(&mark) {
            marks.push(mark);
        }
    }
    pair.until("a Written for each mark", |a, _| {
        a.track(at_a).written.len() >= marks.len()
    });
    assert_eq!(pair.a.track(at_a).written, marks);
    // With nothing before it that is still to be sent.
    pair.a.put(at_a, b"x");
    pair.until("the byte", |_, b| b.track(at_b).received_count == 405_019);
    let mark = pair.a.link(at_a).outbox().mark();
    marks.push(mark);
    pair.until("a Written for an empty outbox", |a, _| {
        a.track(at_a).written.len() == marks.len()
    });
    assert_eq!(pair.a.track(at_a).written, marks);
    // Not before the system has it: nobody reads, and the outbox holds more than systems do.
    pair.b.link(at_b).pause();
    pair.b.turn(Duration::ZERO);
    let mut mark = 0;
    let mut turns = 0;
    while turns < 20 {
        let outbox = pair.a.link(at_a).outbox();
        match outbox.put(&[0; 100_000]) {
            Ok(()) => {
                mark = outbox.mark();
                turns = 0;
            }
            Err(Full) => turns += 1,
        }
        pair.a.turn(Duration::ZERO);
        pair.b.turn(Duration::ZERO);
    }
    let written = pair.a.track(at_a).written.clone();
    assert!(!written.contains(&mark), "A29: Written while the outbox is full");
    pair.a.link(at_a).close(CloseMode::Now);
    pair.until("the close", |a, _| a.track(at_a).closed.is_some());
    let track = pair.a.track(at_a);
    assert_eq!(track.closed, Some(CloseReason::Requested));
    assert!(!track.written.contains(&mark), "A29: Written for what was dropped");
    assert!(
        track.written.is_sorted_by(|one, next| one < next),
        "A29: out of order or twice"
    );
}
