//! Logs whose front is gone: nodes that start from snapshots, and nodes that are sent one.

use std::fs;
use std::path::Path;

use super::cluster::{Cluster, NODES, others};
use super::load::{Load, assert_kept};

/// Some thousand writes between snapshots, and little of the log stays behind them.
const OFTEN: [&str; 8] = [
    "--log-segment-bytes",
    "1048576",
    "--snapshot-entries",
    "1000",
    "--snapshot-margin-entries",
    "50",
    "--snapshot-margin-bytes",
    "50000",
];

/// So slow that the state of a test is about a second on its way.
const SLOWLY: [&str; 2] = ["--snapshot-bytes-per-second", "1000000"];

/// Values so large that a thousand of them fill a segment.
const VALUE_BYTES: usize = 1000;

/// Writes until what `node` lacks is in nobody's log any more, and it is sent a snapshot.
#[track_caller]
fn leave_behind(cluster: &mut Cluster, load: &Load, node: usize) -> usize {
    let rest = others(node);
    cluster.kill(node);
    load.wait_for(2500);
    let leader = cluster.leader(&rest);
    cluster.spawn(node);
    cluster.node(leader).line("\"snapshot_sending\"");
    leader
}

#[test]
fn slow_follower_after_compaction() {
    let mut cluster = Cluster::start("behind", &OFTEN);
    let behind = others(cluster.leader(&NODES))[0];
    let load = Load::start(&cluster, &NODES, 4, VALUE_BYTES);
    leave_behind(&mut cluster, &load, behind);
    cluster.node(behind).line("\"snapshot_received\"");
    load.wait_for(100);
    let written = load.stop();
    cluster.wait_until_equal(&NODES);
    assert_kept(&cluster, &NODES, &written);
}

#[test]
fn kill9_in_the_middle_of_transfers_loses_nothing() {
    let mut cluster = Cluster::start("cut-transfers", &[&OFTEN[..], &SLOWLY[..]].concat());
    let behind = others(cluster.leader(&NODES))[0];
    let load = Load::start(&cluster, &NODES, 4, VALUE_BYTES);
    leave_behind(&mut cluster, &load, behind);
    // The follower, in the middle of it.
    let leader = leave_behind(&mut cluster, &load, behind);
    // The leader, in the middle of the next: its successor sends its own.
    cluster.kill(leader);
    let [one, other] = others(leader);
    let successor = if one == behind { other } else { one };
    cluster.node(successor).line("\"snapshot_sending\"");
    // The two need each other: only then writes go on.
    cluster.node(behind).line("\"snapshot_received\"");
    load.wait_for(100);
    cluster.spawn(leader);
    let written = load.stop();
    cluster.wait_until_equal(&NODES);
    assert_kept(&cluster, &NODES, &written);
}

#[test]
fn a_node_starts_from_its_snapshot_and_its_disk_stays_within_bounds() {
    let mut cluster = Cluster::start("from-snapshot", &OFTEN);
    let load = Load::start(&cluster, &NODES, 4, VALUE_BYTES);
    // The same load writes some ten times what the log keeps.
    load.wait_for(10_000);
    for node in NODES {
        cluster.kill(node);
    }
    for node in NODES {
        let kept = bytes_below(&cluster.data(node).join("log"), "log");
        // Segments behind the snapshot, one zeroed ahead, and those that wait to be used again.
        assert!(kept <= 12 << 20, "{kept} bytes of log on node {node}");
        let count = count_of(&cluster.data(node).join("log/snapshots"), "snap");
        assert!((1..=2).contains(&count), "{count} snapshots on node {node}");
        let start = cluster.spawn(node);
        assert!(!start.contains("\"log\":\"empty\""), "{start}");
    }
    load.wait_for(100);
    let written = load.stop();
    cluster.wait_until_equal(&NODES);
    assert_kept(&cluster, &NODES, &written);
}

fn files(folder: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

fn bytes_below(folder: &Path, extension: &str) -> u64 {
    let bytes = |path: std::path::PathBuf| fs::metadata(path).expect("a file").len();
    files(folder, extension).into_iter().map(bytes).sum()
}

fn count_of(folder: &Path, extension: &str) -> usize {
    files(folder, extension).len()
}
