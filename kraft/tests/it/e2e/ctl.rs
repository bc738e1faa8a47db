//! kraftctl against nodes that run: what it prints, and how it ends.

use super::cluster::{Cluster, NODES, others};
use crate::process::{Ran, kraftctl, run_command, without_settings};

/// Runs kraftctl on these nodes and compares how it ends and what it prints.
#[track_caller]
fn check(nodes: &str, line: &str, code: i32, out: &str) -> Ran {
    let args: Vec<_> = ["--nodes", nodes].into_iter().chain(line.split(' ')).collect();
    let ran = kraftctl(&args);
    assert_eq!((ran.code, &*ran.out), (Some(code), out), "{line}: {ran:?}");
    assert_eq!(ran.err.is_empty(), code == 0, "{line}: {ran:?}");
    ran
}

#[test]
fn kraftctl_ends_and_prints_as_documented() {
    // So that a leader without a majority keeps a read waiting for it.
    let mut cluster = Cluster::start("ctl", &["--check-quorum", "false"]);
    cluster.leader(&NODES);
    let nodes = cluster.clients(&NODES);
    let done = |line: &str, out: &str| drop(check(&nodes, line, 0, out));
    done("put key value", "done\n");
    done("get key", "value\n");
    done("get key -o plain", "value");
    done("get key -o json", "{\"key\":\"key\",\"value\":\"value\"}\n");
    done("cas key other --expect value", "done\n");
    done("cas new 1 --absent -o json", "{\"done\":true}\n");
    done("incr new 41", "42\n");
    done("incr new -o json", "{\"key\":\"new\",\"sum\":43}\n");
    done("scan", "KEY     VALUE\nkey     other\nleader  ?\nnew     43\n");
    done("scan k -o plain", "key\tother\n");
    done(
        "scan --limit 2 -o json",
        "[{\"key\":\"key\",\"value\":\"other\"},\n {\"key\":\"leader\",\"value\":\"?\"}]\n",
    );
    done("del key", "done\n");
    done("scan none -o json", "[]\n");
    done("put empty -o plain ", "");
    done("get empty -o plain", "");

    let args = [
        "--nodes",
        &nodes,
        "bench",
        "--seconds",
        "0.2",
        "--clients",
        "4",
        "--keys",
        "9",
    ];
    let ran = kraftctl(&args);
    assert!(ran.code == Some(0) && ran.out.contains("p99"), "{ran:?}");

    let fails = |line: &str, code, part: &str| {
        let args: Vec<_> = ["--nodes", &nodes].into_iter().chain(line.split(' ')).collect();
        let ran = kraftctl(&args);
        assert!(ran.code == Some(code) && ran.err.contains(part), "{line}: {ran:?}");
        ran
    };
    fails("get key", 3, "key \"key\" is absent");
    assert_eq!(
        fails("get key -o json", 3, "").out,
        "{\"key\":\"key\",\"value\":null}\n"
    );
    assert_eq!(fails("del key", 3, "").out, "not found\n");
    assert_eq!(fails("cas new 1 --expect 2", 3, "").out, "43\n");
    assert_eq!(fails("cas new 1 --absent -o plain", 3, "").out, "43");
    fails("incr leader", 4, "refused, nothing was changed: the value is no number");
    fails(&format!("put {} value", "k".repeat(5000)), 4, "key_bytes_max");
    let nobody = "leadership was not handed over: there is no such member: node 9 is no voter";
    fails("leader transfer --to 9", 4, nobody);
    fails("frobnicate", 2, "Usage");
    fails("put key", 2, "<VALUE>");
    assert_eq!(kraftctl(&["get", "key"]).code, Some(2));
    assert_eq!(kraftctl(&["--nodes", "nowhere", "get", "key"]).code, Some(2));
    let mut by_variable = without_settings(env!("CARGO_BIN_EXE_kraftctl"), &["get", "new"]);
    assert_eq!(run_command(by_variable.env("KRAFT_NODES", &nodes)).out, "43\n");

    // A read that was sent and not answered is unknown; a write that waits for its session never was sent.
    let leader = cluster.leader(&NODES);
    for node in others(leader) {
        cluster.node(node).signal("STOP");
    }
    let leads = cluster.clients(&[leader]);
    let ran = check(&leads, "--timeout 1s get new", 5, "");
    assert!(ran.err.contains("unknown: no answer came in time"), "{ran:?}");
    let ran = check(&leads, "--timeout 1s put new 1", 4, "");
    assert!(ran.err.contains("refused, nothing was changed"), "{ran:?}");
    for node in NODES {
        cluster.kill(node);
    }
    fails("--timeout 500ms put new 1", 4, "no leader was found");
}

#[test]
fn kraftctl_status_shows_every_node_and_the_one_that_is_dead() {
    let mut cluster = Cluster::start("status", &[]);
    let leader = cluster.leader(&NODES);
    cluster.wait_until_equal(&NODES);
    let nodes = cluster.clients(&NODES);
    let status = |format| kraftctl(&["--nodes", &nodes, "status", "-o", format]);
    let ran = status("plain");
    assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{ran:?}");
    for (node, line) in NODES.into_iter().zip(ran.out.lines()) {
        let cells: Vec<_> = line.split('\t').collect();
        let state = if node == leader { "leader" } else { "follower" };
        assert_eq!(
            cells[..3],
            [&*node.to_string(), &cluster.clients(&[node]), state],
            "{line}"
        );
        assert_eq!(cells[4], leader.to_string(), "{line}");
        assert_eq!(cells[5], cells[7], "commit and durable: {line}");
    }

    let [dead, _] = others(leader);
    cluster.kill(dead);
    let dead_at = cluster.clients(&[dead]);
    let ran = status("table");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.starts_with("NODE  ADDRESS"), "{ran:?}");
    let row = ran
        .out
        .lines()
        .find(|line| line.contains(&dead_at))
        .expect("a row for each");
    assert!(
        row.trim_start().starts_with('?') && row.ends_with("unreachable"),
        "{ran:?}"
    );
    let why = format!("{dead_at}: ");
    assert!(ran.out.lines().any(|line| line.starts_with(&why)), "{ran:?}");
    assert_eq!(ran.out.matches("follower").count(), 1, "{ran:?}");
    let ran = status("json");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.out.contains(&format!("{{\"address\":\"{dead_at}\",\"error\":\"")),
        "{ran:?}"
    );
    assert!(ran.out.contains("\"state\":\"leader\""), "{ran:?}");
    assert!(status("plain").out.contains(&format!("?\t{dead_at}\tunreachable\t")));
}

/// Reads are forwarded to the leader; a write goes to the leader alone, and a client dials nobody whom it was not given.
#[test]
fn a_follower_s_address_alone_is_enough_to_read_and_not_to_write() {
    let cluster = Cluster::start("follower", &[]);
    let leader = cluster.leader(&NODES);
    cluster.connect(&NODES).put(b"key", b"value").expect("a leader commits");
    for follower in others(leader) {
        let nodes = cluster.clients(&[follower]);
        check(&nodes, "get key", 0, "value\n");
        let ran = check(&nodes, "--timeout 500ms put key other", 4, "");
        assert!(
            ran.err.contains("refused, nothing was changed: no leader was found"),
            "{ran:?}"
        );
        check(&nodes, "get key", 0, "value\n");
    }
}

#[test]
fn kraftctl_says_what_an_answer_stands_for() {
    let cluster = Cluster::start("stands-for", &["--lease-reads", "true"]);
    cluster.leader(&NODES);
    let nodes = cluster.clients(&NODES);
    let run = |line: &str| {
        let args: Vec<_> = ["--nodes", &nodes].into_iter().chain(line.split(' ')).collect();
        let ran = kraftctl(&args);
        assert_eq!(ran.code, Some(0), "{line}: {ran:?}");
        ran
    };
    assert_eq!(run("put key strong --commit strong").out, "done\n");
    let read = run("get key --consistency linearizable -o json");
    assert_eq!(
        read.out,
        "{\"key\":\"key\",\"value\":\"strong\",\"basis\":\"linearizable\"}\n"
    );
    // The leader's lease may have to be renewed first; then it is linearizable by asking.
    let leased = run("get key --consistency lease -o json").out;
    let by = |basis: &str| format!("{{\"key\":\"key\",\"value\":\"strong\",\"basis\":\"{basis}\"}}\n");
    assert!(leased == by("lease") || leased == by("linearizable"), "{leased}");
    // Whoever is asked may not have applied it so far.
    let read = kraftctl(&["--nodes", &nodes, "get", "key", "--consistency", "stale=1h"]);
    assert!(read.err.starts_with("kraftctl: stale: the node last knew"), "{read:?}");

    // A majority may be faster than the leader's disk, and more than was asked for is no less.
    let put = run("put key durable --commit leader").out;
    assert!(
        put.starts_with("accepted, on the leader's disk") || put == "done\n",
        "{put}"
    );
    let put = run("put key received --commit async -o json").out;
    assert_eq!(put, "{\"done\":false,\"accepted\":true,\"basis\":\"async\"}\n");
}
