//! What the system has a part in: floods of sockets, the memory of a process, disks that stall.

use std::time::Duration;

use kraft::adapter::ListenOptions;
use kraft::id::NodeId;
use kraft::message::NodeState;
use kraft::node::{Config, Outcome};
use kraft::storage::MemFiles;

use super::line;
use super::live::{self, Cluster, eventually, steps_down};
use super::tape::long;
#[cfg(all(feature = "daemon", target_os = "linux"))]
use crate::process::{self, Daemon};

fn disks(count: usize) -> Vec<MemFiles> {
    (0..count).map(|_| MemFiles::new()).collect()
}

#[test]
fn t03_a_connection_flood_stops_at_max_connections_and_the_cluster_keeps_its_leader() {
    let clients = ListenOptions {
        max_connections: 32,
        ..ListenOptions::default()
    };
    let mut cluster = Cluster::new(&disks(3), |_| (), clients);
    let (leader, seen) = cluster.told.leader(0);
    let node = cluster.node(leader);
    assert!(matches!(node.propose(b"before"), Outcome::Committed(_)));

    // At the clients' port: as many are welcomed as there may be, each of the others is turned away.
    let welcomed: Vec<_> = (0..200).filter_map(|_| live::client(node.clients)).collect();
    assert_eq!(welcomed.len(), 32);
    // At the peers' port: by those who say nothing, garbage, and the truth of another, who is let in where that one's
    // own connection is silent: without TLS nobody is authentic.
    for _ in 0..100 {
        drop(live::dial(node.peers));
        let mut garbage = live::dial(node.peers);
        if garbage.try_send(b"GET / HTTP/1.1\r\n\r\n") {
            assert_eq!(garbage.next(), None);
        }
        let mut duplicate = live::dial(node.peers);
        if duplicate.try_send(&line::frame(&line::peer(leader % 3 + 1, leader, leader % 3 + 1))) {
            let answer = duplicate.next();
            assert!(answer.is_none_or(|answer| answer.contains("Goaway") || answer.contains("Welcome")));
        }
    }
    assert!(matches!(node.propose(b"meanwhile"), Outcome::Committed(_)));
    drop(welcomed);
    // There is room again once the node has seen their ends.
    let mut again = eventually(|| live::client(node.clients));
    again.send(&line::ask(1, line::command(b"after")));
    assert!(again.next().is_some_and(|answer| answer.contains("Committed")));
    // Whose connection was taken from it may ask whether the leader is gone, and hears that it is not.
    let told = cluster.told.all().split_off(seen + 1);
    let is_election = |notice: &str| notice.contains("state: Candidate") || notice.contains("state: Leader");
    let elections: Vec<_> = told.iter().filter(|(_, notice)| is_election(notice)).collect();
    assert!(elections.is_empty(), "{elections:?}");
    for node in &mut cluster.nodes {
        node.stop();
    }
}

/// `VmHWM`, the most that a process ever had in memory, in KiB.
#[cfg(all(feature = "daemon", target_os = "linux"))]
fn most_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .expect("Linux tells");
    let number = line.split_ascii_whitespace().nth(1).expect("a number");
    number.parse().expect("a number")
}

#[cfg(all(feature = "daemon", target_os = "linux"))]
#[test]
fn t36_the_memory_of_a_node_is_flat_whoever_reads_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let any = "127.0.0.1:0";
    let ran = process::run(&[
        "init",
        "--id=1",
        "--peers=1=127.0.0.1:0",
        &format!("--cluster={}", line::CLUSTER),
        &format!("--listen={any}"),
        &format!("--client={any}"),
        &format!("--data={}", process::path(&data)),
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut daemon = Daemon::serve(&data, &[]);
    let at = Daemon::address(&daemon.line("\"serving\""), "client")
        .parse()
        .expect("an address");

    let mut encoded = bytes::BytesMut::new();
    let value = [7; 100 << 10];
    kraft::kv::Command::Put {
        key: b"k",
        value: &value,
    }
    .encode(&mut encoded);
    // Until it leads.
    eventually(|| {
        let mut writer = live::client(at).expect("welcome");
        writer.send(&line::ask(1, line::command(&encoded)));
        writer.next().filter(|answer| answer.contains("Committed"))
    });
    let before = most_memory(daemon.id());
    let mut query = bytes::BytesMut::new();
    kraft::kv::Query::Get { key: b"k" }.encode(&mut query);
    // Each asks for 1 GB.
    let requests = line::ask(1, line::read(&query)).repeat(1000);
    for _ in 0..8 {
        let mut greedy = live::client(at).expect("welcome");
        for _ in 0..10 {
            greedy.try_send(&requests);
        }
        daemon.line("slow_reader");
    }
    let grown = most_memory(daemon.id()) - before;
    assert!(grown < 24 << 10, "{grown} KiB");
    let mut other = live::client(at).expect("welcome");
    other.send(&line::ask(2, line::read(&query)));
    assert!(other.next().is_some_and(|answer| answer.contains("Committed")));
}

#[test]
fn t54_clients_that_go_while_they_are_answered_harm_nobody() {
    let cluster = Cluster::new(&disks(1), |_| (), ListenOptions::default());
    cluster.told.leader(0);
    let node = cluster.node(1);
    let requests = line::ask(1, line::read(&long(10_000))).repeat(50);
    for _ in 0..50 {
        let mut gone = live::client(node.clients).expect("welcome");
        gone.send(&requests);
        // With answers unread, its system resets the connection.
    }
    let mut client = live::client(node.clients).expect("welcome");
    client.send(&line::ask(2, line::command(b"x")));
    assert!(client.next().is_some_and(|answer| answer.contains("Committed")));
}

#[test]
fn a_stalled_sync_does_not_stop_the_loop() {
    let disks = disks(3);
    // Long enough for a busy machine to write and read meanwhile.
    let stall_max = |config: &mut Config| config.raft.sync_stall_max = Duration::from_secs(3);
    let mut cluster = Cluster::new(&disks, stall_max, ListenOptions::default());
    let (leader, seen) = cluster.told.leader(0);
    assert!(matches!(cluster.node(leader).propose(b"before"), Outcome::Committed(_)));
    let mut client = live::client(cluster.node(leader).clients).expect("welcome");

    disks[leader as usize - 1].stall(true);
    // Its sync does not end, and the two others are a majority: its loop goes on.
    assert!(matches!(
        cluster.node(leader).propose(b"meanwhile"),
        Outcome::Committed(_)
    ));
    client.send(&line::ask(1, line::read(b"?")));
    assert!(
        client.next().is_some_and(|answer| answer.contains("Committed")),
        "a read needs no disk"
    );
    // The stall costs it its leadership, as its operator is told by the same loop.
    let (_, down) = cluster
        .told
        .wait(seen + 1, |id, notice| id == leader && steps_down(notice));
    let (next, elected) = cluster.told.leader(down + 1);
    assert_ne!(next, leader);
    assert!(matches!(
        cluster.node(next).propose(b"elsewhere"),
        Outcome::Committed(_)
    ));
    // It follows, still without its disk, and answers.
    cluster.told.wait(elected + 1, |id, notice| {
        id == leader && notice.contains(&format!("leader: {:?}", NodeId(next)))
    });
    assert_eq!(cluster.node(leader).state(), NodeState::Follower);
    client.send(&line::ask(2, line::command(b"not here")));
    assert!(client.next().is_some_and(|answer| answer.contains("NotLeader")));

    // The disk comes back: the baton with it, and what it missed.
    disks[leader as usize - 1].stall(false);
    assert!(matches!(cluster.node(next).propose(b"after"), Outcome::Committed(_)));
    let count = eventually(|| {
        let read = cluster.node(leader).handle.read(b"?"[..].into()).wait(live::PATIENCE);
        match read.expect("it ends") {
            Outcome::Committed(count) => Some(count),
            // A leader that is new, or was not heard of so far.
            Outcome::Refused { .. } | Outcome::Unknown | Outcome::Weaker { .. } => None,
        }
    });
    assert_eq!(count, 4_u64.to_le_bytes()[..]);
    let durable = |id: u64| {
        let status = cluster
            .node(id)
            .handle
            .status()
            .wait(live::PATIENCE)
            .expect("it answers");
        status.expect("it runs").durable
    };
    eventually(|| (durable(leader) >= durable(next)).then_some(()));
    for node in &mut cluster.nodes {
        node.stop();
    }
}

#[test]
fn a_stop_while_the_disk_stalls_waits_for_the_disk_alone() {
    let disks = disks(1);
    let mut cluster = Cluster::new(&disks, |_| (), ListenOptions::default());
    cluster.told.leader(0);
    disks[0].stall(true);
    let write = cluster.nodes[0].handle.propose(b"x"[..].into());
    let mut client = live::client(cluster.nodes[0].clients).expect("the loop goes on");
    cluster.nodes[0].handle.stop();
    assert!(client.next().is_some_and(|goodbye| goodbye.contains("Stopping")));
    assert_eq!(client.next(), None);
    drop(client);
    assert_eq!(write.wait(live::PATIENCE), Some(Outcome::Unknown));
    disks[0].stall(false);
    cluster.nodes[0].stop();
}
