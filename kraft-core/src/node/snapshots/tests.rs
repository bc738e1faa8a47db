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

    fn keep(&self, _: &Snapshot) -> Result<(), StoreError> {
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
        snapshots.lapses.insert(NodeId(2), lapses);
        snapshots.entries = entries - 1;
        assert!(!snapshots.is_due(u64::MAX, NOW), "{lapses}");
        snapshots.entries = entries;
        assert!(snapshots.is_due(u64::MAX, NOW), "{lapses}");
        // But before the log is full, whoever waits.
        (snapshots.entries, snapshots.bytes) = (1, 5);
        assert!(snapshots.is_due(4, NOW), "{lapses}");
    }
}

fn id(index: u64) -> SnapshotId {
    SnapshotId {
        index: Index(index),
        ..SnapshotId::default()
    }
}

#[test]
fn what_arrives_when_the_log_has_gone_on_without_it_counts_as_gone() {
    let mut snapshots = snapshots();
    let to = NodeId(2);
    assert_eq!(snapshots.begin_sending(to, id(10), Index(10), NOW), None);
    assert_eq!(snapshots.begin_sending(to, id(10), Index(10), NOW), None, "it is there");
    assert_eq!(snapshots.lapses(to), 0);
    assert_eq!(snapshots.begin_sending(to, id(20), Index(11), NOW), Some(id(10)));
    assert_eq!(snapshots.begin_sending(NodeId(3), id(20), Index(11), NOW), None);
    assert_eq!(snapshots.begin_sending(to, id(30), Index(21), NOW), Some(id(20)));
    assert_eq!((snapshots.lapses(to), snapshots.lapses(NodeId(3))), (2, 0));
}

#[test]
fn what_counts_as_gone_does_so_over_a_connection_that_breaks() {
    let mut snapshots = snapshots();
    let to = NodeId(2);
    assert_eq!(snapshots.begin_sending(to, id(10), Index(10), NOW), None);
    assert_eq!(snapshots.begin_sending(to, id(20), Index(11), NOW), Some(id(10)));
    // As the driver does it when there is no connection.
    snapshots.sending.clear();
    assert_eq!(
        snapshots.begin_sending(to, id(30), Index(21), NOW),
        None,
        "nobody knows how far that one came"
    );
    assert_eq!(snapshots.lapses(to), 1);
}
