//! Nodes that are restarted in order, one after the other.

use std::time::Instant;

use kraft::client::Error;
use kraft::id::NodeId;

use super::cluster::{Cluster, NODES};
use super::load::{Load, assert_all_acknowledged, assert_kept};
use crate::process::PATIENCE;

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
    let written = load.stop();
    assert_all_acknowledged(&written);
    cluster.wait_until_equal(&NODES);
    assert_kept(&cluster, &NODES, &written);
}
