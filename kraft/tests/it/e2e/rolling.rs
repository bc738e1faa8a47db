//! Nodes that are restarted in order, one after the other.

use std::time::Instant;

use kraft::client::Error;
use kraft::id::NodeId;

use super::cluster::{Cluster, NODES};
use super::load::{Load, assert_all_acknowledged, assert_kept};
use crate::process::{PATIENCE, kraftctl, kraftd, run_command};

/// Leadership goes to a node as soon as that has everything.
#[track_caller]
fn lead(cluster: &Cluster, node: usize) {
    let mut client = cluster.connect(&NODES);
    let until = Instant::now() + PATIENCE;
    loop {
        match client.transfer(Some(NodeId(node as u64))) {
            Ok(leader) => return assert_eq!(leader, NodeId(node as u64)),
            Err(Error::Refused(_) | Error::Unknown) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < until, "node {node} does not come to lead");
    }
}

/// All that was written was acknowledged, and is on all nodes.
#[track_caller]
fn assert_nothing_lost(cluster: &Cluster, load: Load) {
    let written = load.stop();
    assert_all_acknowledged(&written);
    cluster.wait_until_equal(&NODES);
    assert_kept(cluster, &NODES, &written);
}

#[test]
fn a_rolling_restart_under_64_clients_loses_nothing() {
    let mut cluster = Cluster::start("rolling", &[]);
    cluster.leader(&NODES);
    let load = Load::start(&cluster, &NODES, 64, 100);
    load.wait_for(200);
    for node in NODES {
        // Each is restarted while it leads, which is the worst time.
        lead(&cluster, node);
        load.wait_for(200);
        cluster.node(node).signal("TERM");
        let (status, said) = cluster.end(node);
        assert!(status.success(), "{status}: {said:?}");
        load.wait_for(200);
        cluster.spawn(node);
    }
    lead(&cluster, 1);
    assert_nothing_lost(&cluster, load);
}

/// A cluster changes its wire format as it changes its version: one node after the other, while clients of each format
/// write through it.
#[test]
fn a_cluster_moves_from_binary_to_protobuf_node_by_node_and_loses_nothing() {
    let mut cluster = Cluster::start("formats", &["--protocol", "binary"]);
    cluster.leader(&NODES);
    let load = Load::start(&cluster, &NODES, 32, 100);
    load.wait_for(200);
    cluster.set_flags(&["--protocol", "protobuf"]);
    for node in NODES {
        lead(&cluster, node);
        load.wait_for(200);
        cluster.node(node).signal("TERM");
        let (status, said) = cluster.end(node);
        assert!(status.success(), "{status}: {said:?}");
        load.wait_for(200);
        let start = cluster.spawn(node);
        assert!(start.contains("\"protocol\":\"protobuf\""), "{start}");
        // It leads and follows nodes of the other format.
        lead(&cluster, node);
        load.wait_for(200);
        for format in ["binary", "protobuf", "msgpack", "json"] {
            let nodes = cluster.clients(&NODES);
            let key = format!("by/{format}");
            let ran = kraftctl(&["--nodes", &nodes, "--protocol", format, "incr", &key]);
            assert_eq!(
                (ran.code, ran.out),
                (Some(0), format!("{node}\n")),
                "{format}: {}",
                ran.err
            );
        }
    }
    assert_nothing_lost(&cluster, load);
}

/// A cluster of each format runs, and tells a name that is none.
#[test]
fn a_cluster_runs_on_each_format() {
    for format in ["protobuf", "msgpack", "json"] {
        let mut cluster = Cluster::start(&format!("on-{format}"), &["--protocol", format]);
        cluster.leader(&NODES);
        let load = Load::start(&cluster, &NODES, 8, 20_000);
        load.wait_for(100);
        cluster.kill(1);
        load.wait_for(100);
        cluster.spawn(1);
        load.wait_for(100);
        let written = load.stop();
        cluster.wait_until_equal(&NODES);
        assert_kept(&cluster, &NODES, &written);
    }
    let cluster = Cluster::prepare("on-morse", &["--protocol", "morse"]);
    cluster.init(1);
    let args = cluster.serve_args(1, &cluster.data(1));
    let ran = run_command(&mut kraftd(&args.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(
        ran.err.contains("no wire format is called morse: choose one of binary"),
        "{}",
        ran.err
    );
}
