//! Nodes that are added, replaced and removed while clients write.

use std::fs;
use std::thread;
use std::time::Instant;

use super::cluster::{Cluster, NODES, others};
use super::load::{Load, assert_kept};
use crate::process::{PATIENCE, Ran, kraftctl, path, refused, run};

/// All that there may be: whoever leads, clients find it.
const ALL: [usize; 5] = [1, 2, 3, 4, 5];

fn member(cluster: &Cluster, words: &[&str]) -> Ran {
    let nodes = cluster.clients(&ALL);
    let fixed = ["--nodes", &nodes, "--timeout", "20s", "member"];
    kraftctl(&[&fixed, words].concat())
}

#[track_caller]
fn done(cluster: &Cluster, words: &[&str]) {
    let ran = member(cluster, words);
    assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
}

/// A node with an empty data folder, which waits to be added.
fn begin(cluster: &mut Cluster, name: &str, node: usize) {
    cluster.init_joining(node, name);
    cluster.spawn(node);
}

#[track_caller]
fn add(cluster: &mut Cluster, name: &str, node: usize) {
    begin(cluster, name, node);
    let (id, at) = (node.to_string(), cluster.peers(node).to_owned());
    done(cluster, &["add", &id, &at, "--wait"]);
    // Asked again, also to leave it a learner, it is what it is.
    let ran = member(cluster, &["add", &id, &at, "--learner", "--no-wait"]);
    assert_eq!(ran.out, format!("node {id} is a member, and votes\n"), "{ran:?}");
}

/// Waits until a node that was removed has ended, and says so; and at its next start again.
#[track_caller]
fn ends_removed(cluster: &mut Cluster, node: usize) {
    let (status, said) = cluster.end(node);
    assert_eq!(status.code(), Some(76), "{said:#?}");
    assert!(
        said.iter().any(|line| line.contains("was removed from cluster")),
        "{said:#?}"
    );
    let data = cluster.data(node);
    let args = cluster.serve_args(node, &data);
    let again = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(again.code, Some(76), "{again:?}");
    assert!(again.err.contains("kraftd init --join"), "{again:?}");
}

#[track_caller]
fn listed(cluster: &Cluster) -> Vec<(String, String)> {
    let ran = member(cluster, &["list", "-o", "plain"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let fields = |line: &str| {
        let mut words = line.split('\t').map(str::to_owned);
        let id = words.next().expect("an id");
        (id, words.nth(1).expect("what it may do"))
    };
    ran.out.lines().map(fields).collect()
}

fn voters(nodes: &[usize]) -> Vec<(String, String)> {
    nodes
        .iter()
        .map(|node| (node.to_string(), "voter".to_owned()))
        .collect()
}

#[test]
fn three_nodes_become_five_and_three_again_under_load() {
    let name = "grow-shrink";
    let mut cluster = Cluster::start(name, &[]);
    cluster.leader(&NODES);
    let load = Load::start(&cluster, &ALL, 8, 100);
    load.wait_for(100);
    add(&mut cluster, name, 4);
    load.wait_for(100);
    add(&mut cluster, name, 5);
    load.wait_for(100);
    assert_eq!(listed(&cluster), voters(&[1, 2, 3, 4, 5]));
    // Who leads goes, twice: the worst of them.
    let mut left = vec![1, 2, 3, 4, 5];
    for _ in 0..2 {
        let leader = cluster.leader(&left);
        done(&cluster, &["remove", &leader.to_string()]);
        left.retain(|node| *node != leader);
        ends_removed(&mut cluster, leader);
        load.wait_for(100);
    }
    assert_eq!(listed(&cluster), voters(&left));
    let written = load.stop();
    cluster.wait_until_equal(&left);
    assert_kept(&cluster, &left, &written);
}

#[test]
fn a_dead_node_whose_disk_is_gone_is_replaced_under_load() {
    let name = "replace";
    let mut cluster = Cluster::start(name, &[]);
    let leader = cluster.leader(&NODES);
    let [dead, other] = others(leader);
    let load = Load::start(&cluster, &ALL, 8, 100);
    load.wait_for(100);
    cluster.kill(dead);
    fs::remove_dir_all(cluster.data(dead)).expect("a folder");
    load.wait_for(100);
    begin(&mut cluster, name, 4);
    let at = cluster.peers(4).to_owned();
    done(&cluster, &["replace", &dead.to_string(), "4", &at, "--wait"]);
    let mut left = vec![leader, other, 4];
    left.sort_unstable();
    load.wait_for(100);
    assert_eq!(listed(&cluster), voters(&left));
    // And the new one is as good as the old one was.
    cluster.kill(leader);
    load.wait_for(100);
    cluster.spawn(leader);
    let written = load.stop();
    cluster.wait_until_equal(&left);
    assert_kept(&cluster, &left, &written);
}

#[test]
fn kill9_of_the_leader_in_the_middle_of_a_change_loses_nothing() {
    let name = "kill-change";
    let mut cluster = Cluster::start(name, &[]);
    let load = Load::start(&cluster, &ALL, 8, 100);
    load.wait_for(100);
    begin(&mut cluster, name, 4);
    let leader = cluster.leader(&NODES);
    let [gone, _] = others(leader);
    let (gone_id, at) = (gone.to_string(), cluster.peers(4).to_owned());
    let words = ["replace", &gone_id, "4", &at];
    thread::scope(|scope| {
        let nodes = cluster.clients(&ALL);
        let asked =
            scope.spawn(move || kraftctl(&[&["--nodes", &nodes, "--timeout", "20s", "member"], &words[..]].concat()));
        load.wait_for(20);
        cluster.kill(leader);
        let ran = asked.join().expect("no panic");
        assert!(matches!(ran.code, Some(0 | 4 | 5)), "{ran:?}");
    });
    load.wait_for(100);
    // Whatever became of it, asking again makes it so.
    let until = Instant::now() + PATIENCE;
    while member(&cluster, &words).code != Some(0) {
        assert!(Instant::now() < until, "it does not come about");
    }
    let mut left: Vec<_> = NODES.into_iter().filter(|node| *node != gone).collect();
    left.push(4);
    cluster.spawn(leader);
    while listed(&cluster) != voters(&left) {
        assert!(Instant::now() < until, "{:?}", listed(&cluster));
    }
    ends_removed(&mut cluster, gone);
    load.wait_for(100);
    let written = load.stop();
    cluster.wait_until_equal(&left);
    assert_kept(&cluster, &left, &written);
}

#[test]
fn who_cannot_be_added_is_refused_by_its_own_reason() {
    let name = "refused";
    let mut cluster = Cluster::start(name, &[]);
    cluster.leader(&NODES);
    let at = |cluster: &Cluster, node| cluster.peers(node).to_owned();
    let nobody = at(&cluster, 4);
    refused(
        &member(&cluster, &["add", "4", &nobody]),
        4,
        &["the node does not answer", "start it"],
    );
    begin(&mut cluster, "elsewhere", 6);
    let elsewhere = at(&cluster, 6);
    refused(
        &member(&cluster, &["add", "6", &elsewhere]),
        4,
        &["a node of another cluster answers", "kraftd init --join"],
    );
    refused(
        &member(&cluster, &["promote", "4"]),
        4,
        &["there is no such member", "the members are 1, 2, 3"],
    );
    add(&mut cluster, name, 4);
    done(&cluster, &["add", "4", &nobody]);
    // Its disk is wiped, and it comes back under its old name.
    cluster.kill(4);
    fs::remove_dir_all(cluster.data(4)).expect("a folder");
    begin(&mut cluster, name, 4);
    let until = Instant::now() + PATIENCE;
    loop {
        // The connection of its former life has to end first.
        let ran = member(&cluster, &["add", "4", &nobody]);
        if ran.code == Some(4) {
            break refused(&ran, 4, &["the member is another one", "remove it, and add"]);
        }
        assert!(Instant::now() < until, "{ran:?}");
    }
    done(&cluster, &["remove", "4"]);
    refused(&member(&cluster, &["add", "4", &nobody]), 4, &["no id is used twice"]);
    let words = ["move", "3", &elsewhere];
    done(&cluster, &words);
    let ran = member(&cluster, &["list"]);
    assert!(ran.out.contains(&elsewhere), "{ran:?}");
}

#[test]
fn the_majority_is_lost_and_one_node_goes_on() {
    let name = "forced";
    let mut cluster = Cluster::start(name, &[]);
    cluster.leader(&NODES);
    let load = Load::start(&cluster, &NODES, 4, 100);
    load.wait_for(100);
    let written = load.stop();
    cluster.wait_until_equal(&NODES);
    for node in NODES {
        cluster.kill(node);
    }
    let data = cluster.data(2);
    let recover = ["recover", "--force-new-cluster", "--data", path(&data)];
    refused(&run(&recover), 2, &["add --confirm forced", "nothing was changed"]);
    let wrong = [&recover[..], &["--confirm", "other"]].concat();
    refused(&run(&wrong), 2, &["a node of cluster forced"]);
    let meant = [&recover[..], &["--confirm", name]].concat();
    let ran = run(&meant);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("it was left by 1, 3"), "{ran:?}");
    refused(&run(&meant), 1, &["the only member already"]);
    cluster.spawn(2);
    assert_eq!(cluster.leader(&[2]), 2);
    assert_kept(&cluster, &[2], &written);
    // Who comes back from the dead is turned away, and turns it away.
    cluster.spawn(1);
    add(&mut cluster, name, 4);
    add(&mut cluster, name, 5);
    assert_eq!(listed(&cluster), voters(&[2, 4, 5]));
    cluster.wait_until_equal(&[2, 4, 5]);
}
