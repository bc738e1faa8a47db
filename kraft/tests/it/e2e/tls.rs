//! A cluster whose connections are encrypted, with the certificates that kraftd makes.

use std::path::Path;

use kraft::client::Security;
use kraft::tls::{read_authorities, read_credentials};

use super::cluster::{Cluster, NODES, others};
use crate::process::{http, kraftctl, path, run};

/// The flags of a node; clients must show certificates.
fn flags(folder: &Path, node: usize) -> Vec<String> {
    let file = |name: String| path(&folder.join("certs").join(name)).to_owned();
    let named = [
        ("--tls-ca", file("ca.pem".to_owned())),
        ("--tls-client-ca", file("ca.pem".to_owned())),
        ("--tls-cert", file(format!("node-{node}.pem"))),
        ("--tls-key", file(format!("node-{node}.key"))),
    ];
    named
        .into_iter()
        .flat_map(|(flag, file)| [flag.to_owned(), file])
        .collect()
}

#[test]
fn a_cluster_over_tls_loses_its_leader_and_no_write() {
    let mut cluster = Cluster::prepare("tls", &[]);
    let certs = cluster.folder().join("certs");
    let made = run(&["certs", "--cluster", "tls", "--out", path(&certs)]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let file = |name: &str| certs.join(name);
    let authorities = read_authorities(&file("ca.pem")).expect("the authority");
    let own = read_credentials(&file("client.pem"), &file("client.key")).expect("the client's");
    let security = Security::tls(&authorities, Some(&own)).expect("they can be used");
    cluster.protect(flags, security);
    for node in NODES {
        cluster.init(node);
        let start = cluster.spawn(node);
        assert!(start.contains("\"tls\":\"on, clients show certificates\""), "{start}");
    }
    let leader = cluster.leader(&NODES);
    let mut client = cluster.connect(&NODES);
    client.put(b"key", b"before").expect("a leader commits");

    cluster.kill(leader);
    client.put(b"key", b"after").expect("two of three commit");
    let next = cluster.leader(&others(leader));
    assert_ne!(next, leader);
    cluster.spawn(leader);
    cluster.wait_until_equal(&NODES);
    let value = cluster
        .connect(&[leader])
        .get(b"key")
        .expect("it reads through the leader");
    assert_eq!(value.as_deref(), Some(&b"after"[..]));

    // The same by hand; monitors have a listener of their own, and no keys.
    let (ca, pem, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let by_hand = |what: &[&str]| {
        let nodes = cluster.clients(&NODES);
        let trust = ["--nodes", &nodes, "--tls-ca", path(&ca)];
        let own = ["--tls-cert", path(&pem), "--tls-key", path(&key)];
        kraftctl(&[&trust[..], &own, what].concat())
    };
    let got = by_hand(&["get", "key"]);
    assert_eq!((got.code, &*got.out), (Some(0), "after\n"), "{got:?}");
    let status = by_hand(&["status"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    let bench = by_hand(&["bench", "--seconds", "0.2", "--clients", "4"]);
    assert_eq!(bench.code, Some(0), "{bench:?}");
    let metrics = http(cluster.monitors(next), "GET /livez HTTP/1.0\r\n\r\n");
    assert!(metrics.ends_with("live\n"), "{metrics}");
}
