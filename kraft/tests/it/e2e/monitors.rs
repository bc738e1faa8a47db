//! What a monitor sees of a cluster.

use std::time::Instant;

use super::cluster::{Cluster, NODES, others};
use crate::process::{PATIENCE, http};

fn page(cluster: &Cluster, node: usize, name: &str) -> String {
    http(
        cluster.monitors(node),
        &format!("GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n"),
    )
}

/// The value of a sample, by its name and labels.
#[track_caller]
fn sample(metrics: &str, name: &str) -> f64 {
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("{name} is not in {metrics}"));
    value.parse().expect("a number")
}

#[test]
fn monitors_see_the_leader_and_the_loss_of_the_majority() {
    let mut cluster = Cluster::start("monitors", &[]);
    let leader = cluster.leader(&NODES);
    cluster.wait_until_equal(&NODES);
    let leads = f64::from(u32::try_from(leader).expect("small"));
    for node in NODES {
        assert!(page(&cluster, node, "livez").starts_with("HTTP/1.1 200 "));
        let ready = page(&cluster, node, "readyz");
        assert!(
            ready.starts_with("HTTP/1.1 200 ") && ready.ends_with("\r\n\r\nready\n"),
            "{ready}"
        );
        let metrics = page(&cluster, node, "metrics");
        assert!(metrics.contains("Content-Type: text/plain"), "{metrics}");
        assert_eq!(sample(&metrics, "kraft_raft_leader_id"), leads);
        let state = |state| sample(&metrics, &format!("kraft_raft_state{{state=\"{state}\"}}"));
        let expected = if node == leader { (1.0, 0.0) } else { (0.0, 1.0) };
        assert_eq!((state("leader"), state("follower")), expected);
        let commit = sample(&metrics, "kraft_raft_commit_index");
        assert!(
            commit >= 2.0 && sample(&metrics, "kraft_raft_durable_index") >= commit,
            "{metrics}"
        );
        assert!(sample(&metrics, "kraft_syncs_total") >= 1.0);
    }
    let metrics = page(&cluster, leader, "metrics");
    for member in others(leader) {
        assert!(sample(&metrics, &format!("kraft_member_matched_index{{member=\"{member}\"}}")) >= 1.0);
    }

    for node in others(leader) {
        cluster.kill(node);
    }
    let until = Instant::now() + PATIENCE;
    loop {
        let ready = page(&cluster, leader, "readyz");
        if ready.starts_with("HTTP/1.1 503 ") {
            assert!(ready.ends_with("not ready: no leader is known\n"), "{ready}");
            break;
        }
        assert!(Instant::now() < until, "{ready}");
    }
    assert!(page(&cluster, leader, "livez").starts_with("HTTP/1.1 200 "));
    let metrics = page(&cluster, leader, "metrics");
    assert_eq!(sample(&metrics, "kraft_raft_leader_id"), 0.0);
    assert_eq!(sample(&metrics, "kraft_raft_state{state=\"leader\"}"), 0.0);
}
