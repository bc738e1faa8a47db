//! The key-value machine behind its sessions, as a node applies entries: puts of 256 bytes to 10,000 keys.
//!
//! `cargo bench -p kraft-raft --bench kv`

use std::hint::black_box;
use std::time::Instant;

use bytes::BytesMut;
use kraft::kv::{Command, Kv, Limits};
use kraft_core::id::{Index, Sequence, SessionId};
use kraft_core::message::{self, EntryKind};
use kraft_core::session::{self, Applied, Sessions};

const KEYS: u64 = 10_000;
/// Few enough that their payloads are in the cache, as they are when a node applies what it has just received.
const ENTRIES: u64 = 20_000;
const ROUNDS: usize = 31;

fn main() {
    for (name, sessions) in [("without a session", 0), ("in 64 sessions", 64)] {
        let mut nanos: Vec<f64> = (0..ROUNDS).map(|_| round(sessions)).collect();
        nanos.sort_by(f64::total_cmp);
        let (median, least, most) = (nanos[ROUNDS / 2], nanos[0], nanos[ROUNDS - 1]);
        println!("put 256 B {name}: {median:.0} ns an entry ({least:.0}-{most:.0} in {ROUNDS} rounds)");
    }
}

/// Nanoseconds an entry.
fn round(sessions: u64) -> f64 {
    let payloads: Vec<BytesMut> = (0..2 * ENTRIES).map(|at| payload(at, sessions)).collect();
    let (mut table, mut kv) = (Sessions::default(), Kv::new(Limits::default()));
    let mut reply = BytesMut::new();
    for index in 1..=sessions {
        table.apply(Index(index), EntryKind::OpenSession, b"", &mut kv, &mut reply);
    }
    // The first half puts every key there, as in a cluster that has run for a while; the second is measured.
    let mut started = Instant::now();
    for (at, payload) in (0..).zip(&payloads) {
        if at == ENTRIES {
            assert_eq!(kv.len() as u64, KEYS);
            started = Instant::now();
        }
        reply.clear();
        let applied = table.apply(
            Index(sessions + at + 1),
            EntryKind::Command,
            payload,
            &mut kv,
            &mut reply,
        );
        assert_eq!(black_box(applied), Applied::Committed);
    }
    started.elapsed().as_nanos() as f64 / ENTRIES as f64
}

fn payload(at: u64, sessions: u64) -> BytesMut {
    let mut command = BytesMut::new();
    // A multiplicative hash: keys in no order, each equally often.
    let key = format!("key{:09}", at.wrapping_mul(7919) % KEYS);
    Command::Put {
        key: key.as_bytes(),
        value: &[b'v'; 256],
    }
    .encode(&mut command);
    let mut payload = BytesMut::new();
    let number = at.checked_div(sessions).map_or(0, |turn| turn + 1);
    session::encode(
        &message::Command {
            session: SessionId(at.checked_rem(sessions).map_or(0, |session| session + 1)),
            sequence: Sequence(number),
            first_unanswered: Sequence(number),
            command: &command,
            commit: message::Commit::Strong,
        },
        &mut payload,
    );
    payload
}
