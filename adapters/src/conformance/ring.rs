//! The law about buffers that are shared by all connections.

use std::time::Duration;

use kraft_core::adapter::Adapter;

use super::environment::{Environment, Remote};
use super::party::{Served, assert_same, pattern, write_some};
use crate::Config;

/// Connections, all of which have bytes at all times: many more than there are buffers.
const CONNS: usize = 40;

/// Bytes that each of them gets, while the others have more to send.
const GOAL: usize = 50_000;

/// Bytes that they have sent ahead of what was received, at least.
const AHEAD: usize = 8192;

/// Turns in which somebody gets nothing. A fair ring of eight buffers has gone round in a few dozen.
const TURNS_MAX: usize = 1000;

/// Buffer-ring exhaustion only slows: nothing is lost, nobody is closed or forgotten, and turns that find no buffer do
/// not go to the same few for ever.
pub fn a30_buffer_exhaustion_only_slows<E: Environment>(environment: &E) {
    let config = Config {
        read_buffer: 512,
        ring_bytes: 4096,
        ..Config::default()
    };
    let mut served = Served::open(environment, &config, CONNS);
    let conns = served.party.begun().to_vec();
    let mut sent = vec![Vec::new(); CONNS];
    let mut least = 0;
    let mut turns = 0;
    while least < GOAL {
        for (nth, remote) in served.remotes.iter_mut().enumerate() {
            // More than all buffers together, at all times, and no more than can be received in the end.
            if sent[nth].len() < served.party.track(conns[nth]).received_count + AHEAD {
                let more = pattern((nth << 24) + sent[nth].len(), AHEAD);
                let count = write_some(remote, &more);
                sent[nth].extend_from_slice(&more[..count]);
            }
        }
        served.party.turn(Duration::from_millis(1));
        // Whoever has got least gets on, while the others have more all the time.
        let received = conns.iter().map(|&conn| served.party.track(conn).received_count);
        let now = received.min().expect("there are some");
        turns = if now > least { 0 } else { turns + 1 };
        assert!(
            turns < TURNS_MAX,
            "A30: a connection got nothing in {turns} turns, and {now} bytes so far"
        );
        least = now;
    }
    for remote in &mut served.remotes {
        remote.end().expect("the remote lives");
    }
    served
        .party
        .until("all ends", |party| conns.iter().all(|&conn| party.track(conn).ended));
    for (&conn, sent) in conns.iter().zip(&sent) {
        let track = served.party.track(conn);
        assert_eq!(track.closed, None, "A30: {conn} was closed");
        assert_same(&track.received, sent);
    }
    let shortages = served.party.adapter.stats().buffer_shortages;
    assert!(shortages > 0, "the ring was never short, so nothing was judged");
    // It is as good as before.
    let last = conns[CONNS - 1];
    served.party.put(last, b"served");
    let mut answer = Vec::new();
    served.party.until("an answer", |_| {
        super::party::read_some(&mut served.remotes[CONNS - 1], &mut answer);
        answer == b"served"
    });
}
