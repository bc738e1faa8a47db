//! When a snapshot is due.

use std::io;

use super::*;

/// Nobody calls it.
#[derive(Clone, Debug)]
struct Store;

impl SnapshotStore for Store {
    fn save(&self, _: &Head, _: &mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>) -> Result<Snapshot, StoreError> {
        unreachable!()
    }

    fn read(&self, _: SnapshotId, _: u64, _: usize) -> Result<Bytes, StoreError> {
        unreachable!()
    }

    fn receive(&self, _: SnapshotId, _: u64, _: &[u8]) -> Result<(), StoreError> {
        unreachable!()
    }

    fn finish(&self, _: SnapshotId) -> Result<Snapshot, StoreError> {
        unreachable!()
    }

    fn abandon(&self) -> Result<(), StoreError> {
        unreachable!()
    }

    fn load(&self, _: SnapshotId, _: &mut dyn FnMut(&mut dyn io::Read) -> io::Result<()>) -> Result<(), StoreError> {
        unreachable!()
    }
}

const NOW: Instant = Instant::ZERO;

fn snapshots() -> Snapshots<Store> {
    let config = Config {
        entries: 10,
        ..Config::default()
    };
    Snapshots::new(config, Store, None, Duration::from_millis(50), 1 << 20, NOW)
}

#[test]
fn what_is_asked_for_during_a_restore_does_not_keep_the_node_from_waiting() {
    let mut snapshots = snapshots();
    snapshots.applied(1, 1);
    snapshots.distrust();
    assert!(snapshots.is_due(u64::MAX, NOW));
    snapshots.restoring = Some(SnapshotId::default());
    assert!(!snapshots.is_due(u64::MAX, NOW));
    assert_eq!(snapshots.deadline(), None);
}

#[test]
fn a_damaged_snapshot_is_taken_anew_though_nothing_was_applied_since() {
    let mut snapshots = snapshots();
    snapshots.is_asked = true;
    assert!(!snapshots.is_due(u64::MAX, NOW));
    assert_eq!(snapshots.deadline(), None);
    snapshots.distrust();
    assert!(snapshots.is_due(u64::MAX, NOW));
}

#[test]
fn snapshots_that_are_gone_before_they_arrive_are_taken_ever_more_seldom() {
    let mut snapshots = snapshots();
    let id = SnapshotId::default();
    let sending = Sending::new(NodeId(2), id, &snapshots.pace, NOW);
    snapshots.sending.push(sending);
    for (lapses, entries) in [(0, 40), (1, 80), (2, 160), (40, 10 << 18)] {
        snapshots.sending[0].lapses = lapses;
        snapshots.entries = entries - 1;
        assert!(!snapshots.is_due(u64::MAX, NOW), "{lapses}");
        snapshots.entries = entries;
        assert!(snapshots.is_due(u64::MAX, NOW), "{lapses}");
        // But before the log is full, whoever waits.
        (snapshots.entries, snapshots.bytes) = (1, 5);
        assert!(snapshots.is_due(4, NOW), "{lapses}");
    }
}

#[test]
fn what_is_sent_gives_way_to_clients_unless_it_would_never_arrive() {
    let config = Config {
        bytes_per_second: 4_000_000,
        piece_bytes: 1000,
        ..Config::default()
    };
    let mut snapshots = Snapshots::new(config, Store, None, Duration::from_millis(50), 1 << 20, NOW);
    let sending = Sending::new(NodeId(2), SnapshotId::default(), &snapshots.pace, NOW);
    snapshots.sending.push(sending);
    let mut now = NOW;
    // Bytes that may leave in the ten milliseconds that follow.
    let mut grown = |snapshots: &mut Snapshots<Store>, waiting: usize| {
        snapshots.refill(waiting, now);
        snapshots.allowance.spend(u64::MAX);
        now += Duration::from_millis(10);
        snapshots.refill(waiting, now);
        snapshots.allowance.bytes()
    };
    assert_eq!(grown(&mut snapshots, 0), 40_000);
    assert_eq!(grown(&mut snapshots, 1), 10_000);
    assert_eq!(grown(&mut snapshots, 0), 10_000, "there was one a moment ago");
    for _ in 0..9 {
        grown(&mut snapshots, 0);
    }
    assert_eq!(grown(&mut snapshots, 0), 40_000);
    snapshots.sending[0].lapses = 1;
    assert_eq!(grown(&mut snapshots, 1), 40_000);
    snapshots.sending[0].lapses = 0;
    snapshots.config.bytes_per_second = u64::MAX;
    assert_eq!(grown(&mut snapshots, 1), u64::MAX / 100, "nothing bounds it");
}
