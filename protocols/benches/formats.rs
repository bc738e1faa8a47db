//! An append of 64 entries of 256 bytes, encoded and decoded, against the least that must be done with its bytes: to
//! copy them once and to compare the checksum of each payload.
//!
//! `cargo bench -p kraft-protocols`. Formats and baseline take turns; the median of the rounds counts.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kraft_core::id::{ClusterId, Index, NodeId, RequestId, Round, Term};
use kraft_core::message::{Append, Body, Entries, Entry, EntryKind, Header, Message};
use kraft_core::outbox::{Outbox, Segments};
use kraft_core::protocol::{Decoded, Limits, Protocol};
use kraft_protocols::Binary;

const ENTRIES: usize = 64;
const BYTES: usize = 256;
const ROUNDS: usize = 51;
const TURNS: u32 = 2000;

const LIMITS: Limits = Limits {
    frame_max: 1 << 20,
    entries_max: 1024,
};

fn main() {
    let entries: Vec<_> = (0..ENTRIES)
        .map(|at| entry(u8::try_from(at).expect("there are 64")))
        .collect();
    let message = Message {
        header: Header {
            cluster: ClusterId(1),
            from: NodeId(1),
            term: Term(1),
            request: RequestId(1),
            ..Header::default()
        },
        body: Body::Append(Append {
            prev_index: Index(100),
            prev_term: Term(1),
            commit: Index(100),
            round: Round(1),
            entries: Entries::Shared(&entries, &[]),
        }),
    };
    let mut least = Vec::new();
    let mut binary = Vec::new();
    for _ in 0..ROUNDS {
        least.push(copy_and_check(&entries));
        binary.push(encode_and_decode(&Binary, &message));
    }
    let least = median(&mut least);
    println!("{ENTRIES} entries of {BYTES} bytes, median (and spread of the middle half) of {ROUNDS} rounds");
    report("copy + checksum", least, least);
    report("binary", median(&mut binary), least);
}

fn entry(fill: u8) -> Entry {
    let payload = Bytes::from(vec![fill; BYTES]);
    Entry {
        term: Term(1),
        kind: EntryKind::Command,
        crc: crc32c::crc32c(&payload),
        payload,
    }
}

fn copy_and_check(entries: &[Entry]) -> Duration {
    let mut copy = Vec::with_capacity(ENTRIES * BYTES);
    time(|| {
        copy.clear();
        for entry in entries {
            copy.extend_from_slice(&entry.payload);
        }
        for (entry, payload) in entries.iter().zip(black_box(&copy).chunks(BYTES)) {
            assert_eq!(crc32c::crc32c(payload), entry.crc);
        }
    })
}

fn encode_and_decode(protocol: &impl Protocol, message: &Message<'_>) -> Duration {
    let mut out = Outbox::new(LIMITS.frame_max);
    let mut segments = Segments::new();
    let mut scratch = Vec::new();
    time(|| {
        protocol
            .encode(black_box(message), LIMITS.frame_max, &mut out)
            .expect("there is room");
        out.take(&mut segments);
        // Small payloads lie behind each other: one piece, as it would be received.
        let frame = segments.slices().next().expect("there is a frame");
        let decoded = protocol
            .decode(black_box(frame), &LIMITS, &mut scratch)
            .expect("the frame is undamaged");
        assert!(matches!(black_box(&decoded), Decoded::Message { consumed, .. } if *consumed == frame.len()));
        drop(decoded);
        segments.clear();
        out.settle(0);
    })
}

fn time(mut turn: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..TURNS {
        turn();
    }
    start.elapsed() / TURNS
}

/// The median, and the distance of the quartiles.
fn median(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort_unstable();
    (
        times[times.len() / 2],
        times[times.len() * 3 / 4] - times[times.len() / 4],
    )
}

fn report(name: &str, (time, spread): (Duration, Duration), (least, _): (Duration, Duration)) {
    let ratio = time.as_secs_f64() / least.as_secs_f64();
    println!(
        "{name:<16} {:>7.2} µs (± {:.2})  {ratio:.2} x",
        micros(time),
        micros(spread)
    );
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
