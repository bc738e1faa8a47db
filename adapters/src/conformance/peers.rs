//! Peers that behave badly: none of them stalls the adapter, or the others.

use std::time::Duration;

use kraft_core::adapter::{Adapter, CloseReason};
use kraft_core::id::ConnId;
use kraft_core::link::CloseMode;

use super::environment::{Environment, Remote};
use super::party::{Party, Served, pattern, read_some, write_some};
use crate::Config;

/// More than a connection's buffers hold, in the system and at the peer.
const TOO_MUCH: usize = 16 << 20;

/// A peer that connects and never speaks is no work, keeps nobody waiting, and is got rid of.
pub fn silent_peers_cost_nobody_anything<E: Environment>(environment: &E) {
    let config = Config {
        linger: Duration::from_millis(100),
        ..Config::default()
    };
    let mut served = Served::open(environment, &config, 30);
    let conns = served.party.begun().to_vec();
    let (&last, silent) = conns.split_last().expect("there are thirty");
    served.party.turn(Duration::from_millis(2));
    for _ in 0..3 {
        assert_eq!(
            served.party.turn(Duration::from_millis(2)),
            0,
            "an event from somebody who is silent"
        );
    }
    let speaker = served.remotes.last_mut().expect("there are thirty");
    answer(&mut served.party, last, speaker);
    // They do not answer a FIN either: the closing flush ends all the same.
    for &conn in silent {
        served.party.link(conn).close(CloseMode::Flush);
    }
    served.party.until("silent peers to be let go", |party| {
        party.closed_count() == silent.len()
    });
    for &conn in silent {
        assert_eq!(served.party.track(conn).closed, Some(CloseReason::TimedOut));
    }
    let speaker = served.remotes.last_mut().expect("there are thirty");
    answer(&mut served.party, last, speaker);
    assert_eq!(served.party.adapter.stats().active, 1);
}

/// A peer that sends a byte at a time gets each delivered when it is there, and the others are served meanwhile.
pub fn a_byte_at_a_time_is_a_stream<E: Environment>(environment: &E) {
    let mut served = Served::open(environment, &Config::default(), 2);
    let [slow, other] = [served.party.begun()[0], served.party.begun()[1]];
    let sent = pattern(0, 300);
    for (at, &byte) in sent.iter().enumerate() {
        assert_eq!(write_some(&mut served.remotes[0], &[byte]), 1);
        served
            .party
            .until("a byte", |party| party.track(slow).received_count == at + 1);
        if at % 100 == 0 {
            answer(&mut served.party, other, &mut served.remotes[1]);
        }
    }
    assert_eq!(served.party.track(slow).received, sent);
    assert_eq!(served.party.track(slow).deliveries, sent.len());
}

/// A peer that ends what it sends and never reads again, or is gone without a word, is let go by a closing flush.
pub fn half_open_peers_are_let_go<E: Environment>(environment: &E) {
    let config = Config {
        linger: Duration::from_millis(100),
        write_queue_max: TOO_MUCH,
        ..Config::default()
    };
    let mut served = Served::open(environment, &config, 2);
    let [half, other] = [served.party.begun()[0], served.party.begun()[1]];
    served.remotes[0].end().expect("the remote lives");
    served.party.until("the end", |party| party.track(half).ended);
    served.party.put(half, &vec![1; TOO_MUCH]);
    served.party.turn(Duration::from_millis(2));
    // It is written to without end, and is no work while it does not read.
    served.party.turn(Duration::from_millis(2));
    answer(&mut served.party, other, &mut served.remotes[1]);
    served.party.link(half).close(CloseMode::Flush);
    served.party.until("who never reads to be let go", |party| {
        party.track(half).closed.is_some()
    });
    assert_eq!(served.party.track(half).closed, Some(CloseReason::TimedOut));
    answer(&mut served.party, other, &mut served.remotes[1]);
}

/// A reset is `Closed(Reset)` in whatever state the connection is, and the others go on.
pub fn a_reset_in_every_state_is_closed<E: Environment>(environment: &E) {
    let config = Config {
        linger: Duration::from_secs(60),
        write_queue_max: TOO_MUCH,
        ..Config::default()
    };
    let mut served = Served::open(environment, &config, 1);
    let other = served.party.begun()[0];
    for state in [
        "idle",
        "unread",
        "paused",
        "ended",
        "full",
        "full and paused",
        "flushing",
        "shut",
    ] {
        let mut remote = environment.dial(&served.at).expect("it listens");
        let party = &mut served.party;
        let before = party.begun().len();
        party.until("another connection", |party| party.begun().len() > before);
        let conn = party.begun()[before];
        bring(party, conn, &mut remote, state);
        remote.reset().expect("the remote lives");
        party.turn(Duration::from_millis(1));
        // A backend may hear of it only when it reads or writes again.
        if let Some(link) = party.adapter.link(conn) {
            link.resume();
            let _ = link.outbox().put(b"x");
        }
        party.until(state, |party| party.track(conn).closed.is_some());
        assert_eq!(
            party.track(conn).closed,
            Some(CloseReason::Reset),
            "reset while {state}"
        );
        let ended = party.track(conn).ended;
        assert_eq!(ended, state == "ended", "A28: a reset is no end (while {state})");
        answer(party, other, &mut served.remotes[0]);
    }
    is_gone_at_a_flush(environment, &mut served);
    answer(&mut served.party, other, &mut served.remotes[0]);
    is_cut_after_a_reset(environment, &mut served);
    answer(&mut served.party, other, &mut served.remotes[0]);
    assert_eq!(served.party.adapter.stats().active, 1);
}

/// A peer has ended and is gone, and the adapter does not know of it when it begins a closing flush: the system answers
/// what was put by a reset, perhaps before the adapter's own end.
fn is_gone_at_a_flush<E: Environment>(environment: &E, served: &mut Served<E::Adapter, E::Remote>) {
    let remote = environment.dial(&served.at).expect("it listens");
    let party = &mut served.party;
    let before = party.begun().len();
    party.until("another connection", |party| party.begun().len() > before);
    let conn = party.begun()[before];
    drop(remote);
    party.put(conn, b"to nobody");
    party.link(conn).close(CloseMode::Flush);
    party.until("the end of it", |party| party.track(conn).closed.is_some());
    let reason = party.track(conn).closed;
    // Of the peer's end and the reset, whichever the adapter hears of first.
    let is_either = [CloseReason::Reset, CloseReason::Requested].map(Some).contains(&reason);
    assert!(is_either, "a flush to somebody who is gone: {reason:?}");
}

/// Somebody cuts a connection that its peer has reset, before the adapter had a turn in which to hear of it.
fn is_cut_after_a_reset<E: Environment>(environment: &E, served: &mut Served<E::Adapter, E::Remote>) {
    let remote = environment.dial(&served.at).expect("it listens");
    let party = &mut served.party;
    let before = party.begun().len();
    party.until("another connection", |party| party.begun().len() > before);
    let conn = party.begun()[before];
    remote.reset().expect("the remote lives");
    party.link(conn).close(CloseMode::Now);
    party.until("the close", |party| party.track(conn).closed.is_some());
    assert_eq!(
        party.track(conn).closed,
        Some(CloseReason::Requested),
        "cut after a reset"
    );
}

/// Brings a connection into a state in which it is to be reset.
fn bring<A: Adapter>(party: &mut Party<A>, conn: ConnId, remote: &mut impl Remote, state: &str) {
    if state.contains("paused") {
        party.link(conn).pause();
        party.turn(Duration::ZERO);
        write_some(remote, &pattern(0, 5000));
    }
    if state.contains("full") || state == "flushing" {
        party.put(conn, &vec![1; TOO_MUCH]);
    }
    match state {
        "unread" => {
            write_some(remote, &pattern(0, 5000));
            return;
        }
        "ended" => {
            remote.end().expect("the remote lives");
            party.until("the end", |party| party.track(conn).ended);
        }
        "flushing" => party.link(conn).close(CloseMode::Flush),
        "shut" => {
            party.link(conn).close(CloseMode::Flush);
            party.until("FIN", |_| read_some(remote, &mut Vec::new()));
        }
        _ => {}
    }
    party.turn(Duration::from_millis(1));
}

/// Sends a byte there and one back.
#[track_caller]
fn answer<A: Adapter>(party: &mut Party<A>, conn: ConnId, remote: &mut impl Remote) {
    let goal = party.track(conn).received_count + 1;
    assert_eq!(write_some(remote, b"?"), 1);
    party.until("a byte", |party| party.track(conn).received_count == goal);
    party.put(conn, b"!");
    let mut answer = Vec::new();
    party.until("its answer", |_| {
        read_some(remote, &mut answer);
        answer == b"!"
    });
}
