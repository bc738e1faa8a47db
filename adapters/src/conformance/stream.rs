//! Laws about streams of bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kraft_core::adapter::{Adapter, Event, ListenOptions};
use kraft_core::id::ConnId;
use kraft_core::link::CloseMode;

use super::environment::Environment;
use super::party::{Pair, Party, assert_same, loopback, pattern, seed, skip, until};
use crate::Config;

/// Bytes arrive in order, once, none lost, however segmented: both ways at once, copied and shared, in all sizes.
pub fn a02_bytes_arrive_in_order_once<E: Environment>(environment: &E) {
    const GOAL: usize = 1 << 20;
    let mut rng = fastrand::Rng::with_seed(seed());
    let config = Config {
        read_buffer: [512, 4096, 65_536][rng.usize(..3)],
        write_queue_max: 100_000,
        ..Config::default()
    };
    let mut pair = Pair::open(environment, &config);
    let source = [pattern(0, GOAL), pattern(GOAL, GOAL)];
    let mut put = [0; 2];
    let (at_a, at_b) = (pair.at_a, pair.at_b);
    pair.until("all bytes, both ways", |a, b| {
        for (side, (party, conn)) in [(&mut *a, at_a), (&mut *b, at_b)].into_iter().enumerate() {
            for _ in 0..rng.usize(..4) {
                // Small ones often, and some above the size from which they are shared.
                let max = [10, 1000, 20_000][rng.usize(..3)];
                let count = rng.usize(1..=max).min(GOAL - put[side]);
                let piece = &source[side][put[side]..put[side] + count];
                let outbox = party.link(conn).outbox();
                let accepted = match rng.bool() {
                    true => outbox.put(piece),
                    false => outbox.put_shared(&Bytes::copy_from_slice(piece)),
                };
                if accepted.is_ok() {
                    put[side] += count;
                }
                if rng.u8(..) < 32 {
                    party.adapter.flush().expect("the adapter runs");
                }
            }
        }
        put == [GOAL; 2] && pair_is_done(a, at_a, b, at_b, GOAL)
    });
    assert_same(&pair.b.track(at_b).received, &source[0]);
    assert_same(&pair.a.track(at_a).received, &source[1]);
}

fn pair_is_done<A: Adapter>(a: &Party<A>, at_a: ConnId, b: &Party<A>, at_b: ConnId, goal: usize) -> bool {
    a.track(at_a).received_count >= goal && b.track(at_b).received_count >= goal
}

/// 1,000 connections with random sizes, checksummed.
pub fn a19_a_thousand_connections_keep_their_bytes<E: Environment>(environment: &E) {
    const COUNT: usize = 1000;
    let mut rng = fastrand::Rng::with_seed(seed());
    if !environment.is_virtual()
        && let Err(reason) = super::descriptors::raise_limit(2 * COUNT as u64 + 200)
    {
        return skip("A19", &reason);
    }
    let config = Config {
        max_connections: COUNT,
        ..Config::default()
    };
    let mut a = Party::open(environment, &config);
    let mut b = Party::open(environment, &config);
    let options = ListenOptions {
        max_connections: COUNT,
        ..ListenOptions::default()
    };
    let (_, at) = b.listen_with(&loopback(), options);
    let mut sums = BTreeMap::new();
    for _ in 0..COUNT {
        let conn = a.connect(&at);
        let size = rng.usize(..20_000);
        let body: Vec<u8> = (0..size).map(|_| rng.u8(..)).collect();
        a.put(conn, &u32::try_from(size).expect("it is small").to_le_bytes());
        a.put(conn, &body);
        sums.insert(conn, checksum(&body));
        // Connects in a burst beyond the backlog wait for a second each.
        if rng.u8(..) < 8 {
            a.turn(Duration::ZERO);
            b.turn(Duration::ZERO);
        }
    }
    // The server answers by a checksum each, and who got it closes.
    let mut answered = 0;
    let mut checked = 0;
    until(&mut a, &mut b, "1,000 checksums", |a, b| {
        while answered < b.begun().len() && is_whole(&b.track(b.begun()[answered]).received) {
            let conn = b.begun()[answered];
            let sum = checksum(&b.take_received(conn)[4..]);
            b.put(conn, &sum.to_le_bytes());
            answered += 1;
        }
        while checked < a.begun().len() && a.track(a.begun()[checked]).received.len() == 8 {
            let conn = a.begun()[checked];
            let sum = u64::from_le_bytes(a.take_received(conn).try_into().expect("it is 8 bytes"));
            assert_eq!(sum, sums[&conn], "A19: {conn} got another checksum");
            a.link(conn).close(CloseMode::Flush);
            checked += 1;
        }
        checked == COUNT
    });
    let mut closing = 0;
    until(&mut a, &mut b, "1,000 closes", |a, b| {
        while closing < COUNT && b.track(b.begun()[closing]).ended {
            let conn = b.begun()[closing];
            b.link(conn).close(CloseMode::Flush);
            closing += 1;
        }
        a.closed_count() == COUNT && b.closed_count() == COUNT
    });
    let (a, b) = (a.adapter.stats(), b.adapter.stats());
    assert_eq!((a.initiated, a.closed, a.active), (1000, 1000, 0));
    assert_eq!((b.accepted, b.closed, b.active), (1000, 1000, 0));
    assert_eq!((a.bytes_out, a.bytes_in), (b.bytes_in, b.bytes_out));
}

fn is_whole(received: &[u8]) -> bool {
    let length = received.first_chunk().map(|length| u32::from_le_bytes(*length));
    length.is_some_and(|length| received.len() == length as usize + 4)
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// 64 MiB through one connection in 1-byte and 1-MiB puts, to a slow reader, in bounded memory.
pub fn a20_a_slow_reader_gets_64_mib<E: Environment>(environment: &E) {
    const MIB: usize = 1 << 20;
    const GOAL: usize = 64 * MIB;
    /// Behind each MiB so much is put byte by byte.
    const BYTEWISE: usize = MIB / 16;
    /// After so many bytes the stream begins again, so that it need not be kept whole. No divisor of any size here.
    const PERIOD: usize = MIB + 7;
    let source = Bytes::from([pattern(0, PERIOD), pattern(0, MIB)].concat());
    let part = |at: usize, count: usize| source.slice(at % PERIOD..at % PERIOD + count);
    let mut rng = fastrand::Rng::with_seed(seed());
    let config = Config {
        write_queue_max: MIB + 100_000,
        ..Config::default()
    };
    let mut pair = Pair::open(environment, &config);
    let (at_a, at_b) = (pair.at_a, pair.at_b);
    pair.a.keeps = false;
    pair.b.keeps = false;
    let memory_before = memory();
    let mut put = 0;
    let mut received = 0;
    while received < GOAL {
        let outbox = pair.a.link(at_a).outbox();
        let in_group = put % (MIB + BYTEWISE);
        if in_group == 0 && GOAL - put >= MIB {
            if outbox.put_shared(&part(put, MIB)).is_ok() {
                put += MIB;
            }
        } else {
            let left = (MIB + BYTEWISE - in_group).min(GOAL - put);
            for _ in 0..rng.usize(1..10_000).min(left) {
                if outbox.put(&part(put, 1)).is_err() {
                    break;
                }
                put += 1;
            }
        }
        assert!(
            outbox.len() <= outbox.limit(),
            "A20: the outbox holds more than its limit"
        );
        pair.a.turn(Duration::ZERO);
        // Slow: paused half of the time.
        match rng.bool() {
            true => pair.b.link(at_b).resume(),
            false => pair.b.link(at_b).pause(),
        }
        let wait = Duration::from_micros(rng.u64(..50));
        pair.b.turn_with(wait, |_, event| {
            if let Event::Received { bytes, .. } = event {
                assert_same(bytes, &part(received, bytes.len()));
                received += bytes.len();
            }
        });
    }
    assert_eq!((put, received), (GOAL, GOAL));
    if let (Some(before), Some(after)) = (memory_before, memory()) {
        let grown = after.saturating_sub(before) / 1024;
        assert!(grown < 32, "A20: memory grew by {grown} MiB");
    }
}

/// The most memory that this process has had, in KiB.
fn memory() -> Option<u64> {
    // Linux has it there; elsewhere the outbox's limit is what is checked.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
