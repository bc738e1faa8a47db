//! Snapshots fetched over real sockets, and what breaks on the way.

use std::collections::BTreeMap;

use kraft_core::client::Wrong;

use super::*;
use crate::client::fake::Fault;

const PATIENCE: Duration = Duration::from_secs(20);

fn bytes(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; 10_500];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// Three nodes that keep a snapshot, whose fetch meets these faults.
fn cluster(faults: impl IntoIterator<Item = (u64, Fault)>) -> Cluster {
    let cluster = Cluster::start(3);
    let mut world = cluster.world();
    world.kept.keep(7, bytes(1));
    world.kept.faults = BTreeMap::from_iter(faults);
    drop(world);
    cluster
}

fn fetch(cluster: &Cluster, whom: Whom, patience: Duration) -> Result<(u64, Vec<u8>), FetchError> {
    let mut client = Client::connect(&cluster.list()).expect("addresses");
    let source = client.snapshot_source(whom)?;
    let mut all = Vec::new();
    let id = client.fetch_snapshot(&source, patience, |id, offset, data| {
        all.truncate(usize::try_from(offset).expect("small"));
        assert_eq!((all.len() as u64, id.bytes), (offset, 10_500));
        all.extend_from_slice(data);
        Ok(())
    })?;
    Ok((id.index.0, all))
}

/// It is fetched from the leader, whole, and each piece as often as it says.
#[track_caller]
fn check(faults: impl IntoIterator<Item = (u64, Fault)>, index: u64, whole: Vec<u8>, again: &[u64]) {
    let cluster = cluster(faults);
    let fetched = fetch(&cluster, Whom::Leader, PATIENCE).expect("it is fetched");
    assert_eq!(fetched, (index, whole));
    let asked = std::mem::take(&mut cluster.world().kept.fetched);
    assert!(asked.iter().all(|(node, _)| *node == 1), "{asked:?}");
    for offset in again {
        let count = asked.iter().filter(|(_, from)| from == offset).count();
        assert_eq!(count, 2, "of {offset} in {asked:?}");
    }
    if again.is_empty() {
        assert_eq!(asked.len(), 11, "{asked:?}");
    }
}

#[test]
fn a_snapshot_is_fetched_piece_by_piece_from_the_leader() {
    check([], 7, bytes(1), &[]);
}

#[test]
fn a_broken_transfer_goes_on_where_it_ended() {
    check([(5000, Fault::HangUp)], 7, bytes(1), &[5000]);
    let cluster = cluster([(5000, Fault::HangUp)]);
    fetch(&cluster, Whom::Leader, PATIENCE).expect("it is fetched");
    let asked = std::mem::take(&mut cluster.world().kept.fetched);
    for first in [u64::MAX, 1000] {
        assert_eq!(asked.iter().filter(|(_, from)| *from == first).count(), 1, "{asked:?}");
    }
}

#[test]
fn a_first_piece_that_is_lost_or_refused_for_now_is_asked_for_again() {
    for fault in [
        Fault::HangUp,
        Fault::Refuse(Refusal::Overloaded),
        Fault::Refuse(Refusal::Stopping),
    ] {
        check([(u64::MAX, fault)], 7, bytes(1), &[u64::MAX]);
    }
}

#[test]
fn a_snapshot_that_is_not_kept_any_more_gives_way_to_another_from_the_start() {
    check([(6000, Fault::Gone(bytes(2)))], 8, bytes(2), &[u64::MAX, 1000]);
}

#[test]
fn a_spoilt_piece_is_found_by_the_sum_and_all_is_fetched_again() {
    check([(3000, Fault::Spoil)], 7, bytes(1), &[u64::MAX, 3000]);
}

#[test]
fn a_follower_is_fetched_from_if_that_is_asked_for() {
    let cluster = cluster([]);
    fetch(&cluster, Whom::Follower, PATIENCE).expect("it is fetched");
    let asked = std::mem::take(&mut cluster.world().kept.fetched);
    assert!(
        asked.iter().all(|(node, _)| *node == asked[0].0 && *node != 1),
        "{asked:?}"
    );
}

#[test]
fn a_refusal_that_stays_is_told() {
    let cluster = cluster([(u64::MAX, Fault::Refuse(Refusal::NoSpace))]);
    match fetch(&cluster, Whom::Leader, PATIENCE) {
        Err(FetchError::Refused(refused)) => assert_eq!(refused.why, Refusal::NoSpace),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_taker_that_fails_ends_the_fetch() {
    let cluster = cluster([]);
    let mut client = Client::connect(&cluster.list()).expect("addresses");
    let source = client.snapshot_source(Whom::Leader).expect("it leads");
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    let ended = client.fetch_snapshot(&source, PATIENCE, |_, offset, _| match offset {
        4000 => Err(full()),
        _ => Ok(()),
    });
    assert!(
        matches!(&ended, Err(FetchError::Taker(error)) if error.kind() == io::ErrorKind::StorageFull),
        "{ended:?}"
    );
    // What was on its way does not disturb what follows.
    client.put(b"k", b"v").expect("it is put");
}

#[test]
fn a_snapshot_whose_sum_is_wrong_is_not_fetched_for_ever() {
    let cluster = cluster([]);
    cluster.world().kept.id.crc ^= 1;
    match fetch(&cluster, Whom::Leader, PATIENCE) {
        Err(FetchError::Wrong(Wrong::Sum)) => {}
        other => panic!("{other:?}"),
    }
    let asked = std::mem::take(&mut cluster.world().kept.fetched);
    assert_eq!(
        asked.iter().filter(|(_, from)| *from == u64::MAX).count(),
        6,
        "{asked:?}"
    );
}

#[test]
fn without_a_leader_each_node_says_why() {
    let cluster = cluster([]);
    cluster.world().leader = 9;
    let why = fetch(&cluster, Whom::Leader, PATIENCE)
        .expect_err("nobody leads")
        .to_string();
    let first = format!("no leader was found: {} follows node 9; ", cluster.addresses[0]);
    assert!(why.starts_with(&first), "{why}");
    let list = cluster.list();
    drop(cluster);
    let mut client = Client::connect(&list).expect("addresses");
    let why = client
        .snapshot_source(Whom::Follower)
        .expect_err("nobody is there")
        .to_string();
    assert!(why.starts_with("no node answers: "), "{why}");
}

#[test]
fn a_node_that_is_gone_is_tried_until_patience_ends() {
    let mut cluster = cluster([]);
    let mut client = Client::connect(&cluster.list()).expect("addresses");
    let source = client.snapshot_source(Whom::Leader).expect("it leads");
    let mut gone = false;
    let ended = client.fetch_snapshot(&source, Duration::from_millis(300), |_, _, _| {
        if !std::mem::replace(&mut gone, true) {
            cluster = self::cluster([]);
        }
        Ok(())
    });
    match ended {
        Err(FetchError::Broken { taken, why }) => {
            assert!(taken >= 1000 && !why.is_empty(), "{taken}, {why}");
        }
        other => panic!("{other:?}"),
    }
}
