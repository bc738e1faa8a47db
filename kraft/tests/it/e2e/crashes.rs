//! Nodes that are killed and come back.

use std::fs;
use std::time::{Duration, Instant};

use super::cluster::{Cluster, NODES, others};
use super::load::{Load, assert_all_acknowledged, assert_kept};
use crate::process::{path, run};

/// How long a stop may take before the process ends itself: `linger_ms` and what it adds.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Kills a node that leads, or does not, under load; brings it back under load.
#[track_caller]
fn kill_under_load(name: &str, choose: impl Fn(usize) -> usize) {
    let mut cluster = Cluster::start(name, &[]);
    let victim = choose(cluster.leader(&NODES));
    let load = Load::start(&cluster, &NODES, 4, 100);
    load.wait_for(100);
    cluster.kill(victim);
    load.wait_for(100);
    let start = cluster.spawn(victim);
    assert!(!start.contains("\"log\":\"empty\""), "{start}");
    load.wait_for(100);
    let written = load.stop();
    cluster.wait_until_equal(&NODES);
    assert_kept(&cluster, &NODES, &written);
}

#[test]
fn kill9_of_the_leader_under_load_loses_nothing() {
    kill_under_load("kill-leader", |leader| leader);
}

#[test]
fn kill9_of_a_follower_under_load_loses_nothing() {
    kill_under_load("kill-follower", |leader| others(leader)[0]);
}

#[test]
fn restart_of_all_nodes_keeps_everything() {
    let mut cluster = Cluster::start("restart-all", &[]);
    // A majority acknowledges without the third, which may have nothing yet on a busy machine.
    cluster.wait_until_equal(&NODES);
    let load = Load::start(&cluster, &NODES, 4, 100);
    for signal in ["KILL", "TERM", "KILL"] {
        load.wait_for(100);
        // All at once: nobody is left who could have it in memory alone.
        for node in NODES {
            cluster.node(node).signal(signal);
        }
        for node in NODES {
            let (status, said) = cluster.end(node);
            assert_eq!(status.code(), (signal == "TERM").then_some(0), "{said:#?}");
        }
        for node in NODES {
            let start = cluster.spawn(node);
            assert!(!start.contains("\"log\":\"empty\""), "{start}");
        }
    }
    load.wait_for(100);
    let written = load.stop();
    cluster.wait_until_equal(&NODES);
    assert_kept(&cluster, &NODES, &written);
}

#[test]
fn sigterm_is_graceful() {
    let mut cluster = Cluster::start("sigterm", &[]);
    let load = Load::start(&cluster, &NODES, 4, 100);
    // A follower first, then the leader: each call is answered, by another node if need be.
    for choose in [|leader| others(leader)[0], |leader| leader] {
        let node = choose(cluster.leader(&NODES));
        load.wait_for(100);
        let begun = Instant::now();
        cluster.node(node).signal("TERM");
        let (status, said) = cluster.end(node);
        assert_eq!(status.code(), Some(0), "{said:#?}");
        assert!(begun.elapsed() < STOP_TIMEOUT, "{said:#?}");
        assert!(said.iter().any(|line| line.contains("\"stopped\"")), "{said:#?}");
        load.wait_for(100);
        cluster.spawn(node);
        cluster.wait_until_equal(&NODES);
    }
    let written = load.stop();
    assert_all_acknowledged(&written);
    assert_kept(&cluster, &NODES, &written);
}

#[test]
fn a_wiped_data_folder_cannot_come_back_as_its_old_self() {
    let mut cluster = Cluster::start("wiped", &[]);
    let leader = cluster.leader(&NODES);
    let [wiped, other] = others(leader);
    cluster.wait_until_equal(&NODES);
    cluster.kill(wiped);
    fs::remove_dir_all(cluster.data(wiped)).expect("it is there");
    cluster.init(wiped);
    let start = cluster.spawn(wiped);
    assert!(start.contains("\"log\":\"empty\""), "{start}");
    let told = cluster.node(wiped).line("\"goaway\"");
    assert!(
        told.contains("WrongIncarnation") && told.contains("a peer turned this node away"),
        "{told}"
    );
    let told = cluster.node(leader).line("\"turned_away\"");
    assert!(told.contains("WrongIncarnation"), "{told}");
    // The two that remember go on; when one of them is lost the newcomer does not stand in for it.
    cluster
        .connect(&[leader, other])
        .put(b"key", b"value")
        .expect("two of three");
    cluster.kill(leader);
    let nodes = cluster.clients(&[other, wiped]);
    let ran = crate::process::kraftctl(&["--nodes", &nodes, "--timeout", "1s", "put", "key", "other"]);
    assert!(matches!(ran.code, Some(4 | 5)), "{ran:?}");
    let ran = run(&["log", "verify", path(&cluster.data(wiped))]);
    assert!(ran.out.contains("vote 0"), "{ran:?}");
    cluster.spawn(leader);
    let value = cluster.connect(&[leader, other]).get(b"key").expect("two of three");
    assert_eq!(value.as_deref(), Some(&b"value"[..]));
}
