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
fn what_is_sent_gives_way_to_what_is_committed_unless_it_would_never_arrive() {
    let config = Config {
        bytes_per_second: 4_000_000,
        piece_bytes: 1000,
        ..Config::default()
    };
    let mut snapshots = Snapshots::new(config, Store, None, Duration::from_millis(50), 1 << 20, NOW);
    let sending = Sending::new(NodeId(2), SnapshotId::default(), &snapshots.pace, NOW);
    snapshots.sending.push(sending);
    let mut now = NOW;
    let mut commit = Index(7);
    // Bytes that may leave in the ten milliseconds that follow, in which so much is committed.
    let mut grown = |snapshots: &mut Snapshots<Store>, committed: u64| {
        snapshots.allowance.spend(u64::MAX);
        commit = Index(commit.0 + committed);
        snapshots.refill(commit, now);
        now += Duration::from_millis(10);
        snapshots.refill(commit, now);
        snapshots.allowance.bytes()
    };
    assert_eq!(grown(&mut snapshots, 1), 10_000);
    assert_eq!(grown(&mut snapshots, 1), 10_000);
    for _ in 0..9 {
        assert_eq!(grown(&mut snapshots, 0), 10_000, "a moment ago");
    }
    assert_eq!(
        grown(&mut snapshots, 0),
        40_000,
        "nothing is committed: clients may wait for just this"
    );
    assert_eq!(grown(&mut snapshots, 1), 10_000);
    snapshots.sending[0].lapses = 1;
    snapshots.refill(Index(7), NOW);
    assert_eq!(grown(&mut snapshots, 1), 40_000);
    snapshots.sending[0].lapses = 0;
    snapshots.config.bytes_per_second = u64::MAX;
    snapshots.refill(Index(7), NOW);
    assert_eq!(grown(&mut snapshots, 1), u64::MAX / 100, "nothing bounds it");
    // A quarter of next to nothing is still something.
    for rate in 1..4 {
        snapshots.config.bytes_per_second = rate;
        grown(&mut snapshots, 1);
        assert_eq!(grown(&mut snapshots, 1), 0);
        assert!(snapshots.allowance.deadline().is_some());
    }
}

#[test]
fn what_arrives_when_the_log_has_gone_on_without_it_counts_as_gone() {
    let mut snapshots = snapshots();
    let id = |index| SnapshotId {
        index: Index(index),
        ..SnapshotId::default()
    };
    let to = NodeId(2);
    assert_eq!(snapshots.begin_sending(to, id(10), Index(10), NOW), None);
    assert_eq!(snapshots.begin_sending(to, id(10), Index(10), NOW), None, "it is there");
    assert_eq!(snapshots.sending[0].lapses, 0);
    assert_eq!(snapshots.begin_sending(to, id(20), Index(11), NOW), Some(id(10)));
    assert_eq!(snapshots.begin_sending(NodeId(3), id(20), Index(11), NOW), None);
    assert_eq!(snapshots.begin_sending(to, id(30), Index(21), NOW), Some(id(20)));
    let lapses = |node| {
        snapshots
            .sending
            .iter()
            .find(|sending| sending.to == node)
            .map(|sending| sending.lapses)
    };
    assert_eq!((lapses(to), lapses(NodeId(3))), (Some(2), Some(0)));
}
