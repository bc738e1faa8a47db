//! Many connections, one after the other, and what is left of them.

use std::fs;

use kraft_core::adapter::{Adapter, Endpoint, ListenOptions};
use kraft_core::link::CloseMode;

use super::environment::{Environment, Remote};
use super::party::{Party, loopback, nobody, pattern, skip, until};
use crate::Config;

/// Connections at a time: half dialled by the adapter, half by remotes.
const BATCH: usize = 100;

/// After so many everything has the size that it keeps.
const WARM_UP: usize = 1000;

/// Live bytes that there may be more after 10,000 connections: less than an id for each.
const LIVE_BYTES_MAX: u64 = 64 << 10;

/// Memory of the process, in KiB, that there may be more where nobody counts bytes: pages that the allocator keeps come
/// and go by the hundred, and 10,000 links that stay take 4 MiB.
const RESIDENT_KIB_MAX: u64 = 2 << 10;

/// 10,000 connections, closed in every way that there is, leave the descriptors, threads and memory of the beginning.
pub fn ten_thousand_connections_leave_nothing_behind<E: Environment>(environment: &E) {
    let config = Config {
        max_connections: 2 * BATCH,
        ..Config::default()
    };
    let options = ListenOptions {
        max_connections: 2 * BATCH,
        ..ListenOptions::default()
    };
    let mut a = Party::open(environment, &config);
    let mut b = Party::open(environment, &config);
    let (_, at) = b.listen_with(&loopback(), options);
    let mut soak = |count: usize| (0..count / BATCH).for_each(|_| batch(environment, &mut a, &mut b, &at));
    soak(WARM_UP);
    let before = Left::behind(environment);
    soak(10_000);
    // Threads that close and end may do so a moment later.
    let mut after = Left::behind(environment);
    a.until(&format!("what was open before, {before:?}"), |_| {
        after = Left::behind(environment);
        // What was counted before may have been about to go, too.
        after.descriptors <= before.descriptors && after.threads <= before.threads
    });
    if before.descriptors.is_none() && !environment.is_virtual() {
        skip("the soak in part", "the system does not list descriptors in /proc");
    }
    match (before.live_bytes, after.live_bytes) {
        (Some(before), Some(after)) => {
            let more = after.saturating_sub(before);
            assert!(more <= LIVE_BYTES_MAX, "{more} bytes are left of 10,000 connections");
        }
        _ => {
            let more = after.resident_kib.saturating_sub(before.resident_kib);
            assert!(more <= RESIDENT_KIB_MAX, "{more} KiB are left of 10,000 connections");
        }
    }
}

/// Opens and closes a batch of connections.
fn batch<E: Environment>(environment: &E, a: &mut Party<E::Adapter>, b: &mut Party<E::Adapter>, at: &Endpoint) {
    let nobody = nobody();
    let dialled: Vec<_> = (0..BATCH / 2)
        .map(|nth| a.connect(if nth % 10 == 9 { &nobody } else { at }))
        .collect();
    // Cut before they are there.
    for &conn in dialled.iter().step_by(10) {
        a.link(conn).close(CloseMode::Now);
    }
    let mut remotes: Vec<_> = (0..BATCH / 2)
        .map(|_| environment.dial(at).expect("it listens"))
        .collect();
    let living = BATCH * 8 / 10;
    until(a, b, "connections", |a, b| {
        a.begun().len() == BATCH / 2 * 8 / 10 && b.begun().len() >= BATCH / 2 + BATCH / 2 * 8 / 10
    });
    assert!(b.begun().len() >= living);
    for (nth, &conn) in a.begun().to_vec().iter().enumerate() {
        if nth % 4 < 2 {
            a.put(conn, &pattern(nth, 3000));
        }
        match nth % 3 {
            0 => a.link(conn).close(CloseMode::Flush),
            1 => a.link(conn).close(CloseMode::Now),
            _ => a.link(conn).pause(),
        }
    }
    for (nth, &conn) in b.begun().to_vec().iter().enumerate() {
        let Some(link) = b.adapter.link(conn) else { continue };
        match nth % 5 {
            0 => link.close(CloseMode::Flush),
            1 => link.close(CloseMode::Now),
            2 => link.outbox().put(&pattern(nth, 5000)).expect("it fits"),
            3 => link.pause(),
            _ => {}
        }
    }
    for (nth, mut remote) in remotes.drain(..).enumerate() {
        match nth % 4 {
            0 => drop(remote),
            1 => remote.reset().expect("the remote lives"),
            2 => {
                let _ = std::io::Write::write(&mut remote, &pattern(nth, 1000));
                let _ = remote.end();
            }
            // With bytes that nobody reads, perhaps.
            _ => {
                b.turn(std::time::Duration::ZERO);
                let _ = remote.end();
            }
        }
    }
    // Whoever is left.
    for party in [&mut *a, &mut *b] {
        for conn in dialled.iter().copied().chain(party.begun().to_vec()) {
            if let Some(link) = party.adapter.link(conn) {
                link.close(CloseMode::Flush);
            }
        }
    }
    let late = |party: &mut Party<E::Adapter>| {
        for conn in party.begun().to_vec() {
            if let Some(link) = party.adapter.link(conn).filter(|link| !link.is_closing()) {
                link.close(CloseMode::Flush);
            }
        }
    };
    until(a, b, "the end of a batch", |a, b| {
        late(b);
        a.closed_count() == dialled.len() && b.closed_count() == b.begun().len()
    });
    if environment.is_virtual() {
        // Time-outs of connects that were made are still planned there, and are gone when they are due.
        a.turn(Config::default().connect_timeout);
    }
    assert_eq!(a.adapter.stats().active + b.adapter.stats().active, 0);
    a.forget();
    b.forget();
}

/// What a process holds.
#[derive(Debug)]
struct Left {
    descriptors: Option<usize>,
    threads: Option<usize>,
    live_bytes: Option<u64>,
    resident_kib: u64,
}

impl Left {
    fn behind<E: Environment>(environment: &E) -> Self {
        let entries = |folder| Some(fs::read_dir(folder).ok()?.count());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
        Self {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            live_bytes: environment.live_bytes(),
            resident_kib: kib.unwrap_or(0),
        }
    }
}
