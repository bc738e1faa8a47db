//! The state of a cluster in a file, and a new cluster made of it.

use std::fs;
use std::path::{Path, PathBuf};

use super::cluster::{Cluster, NODES};
use super::load::{Load, assert_all_acknowledged, assert_kept};
use crate::process::{Ran, contents, kraftctl, path, refused, run};

/// Runs `kraftctl snapshot` on these nodes.
fn snapshot(nodes: &str, args: &[&str]) -> Ran {
    let all: Vec<_> = ["--nodes", nodes, "snapshot"].iter().chain(args).copied().collect();
    kraftctl(&all)
}

/// Saves a snapshot; what was printed of it.
#[track_caller]
fn save(nodes: &str, file: &Path, more: &[&str]) -> String {
    let args: Vec<_> = ["save", path(file), "-o", "plain"]
        .iter()
        .chain(more)
        .copied()
        .collect();
    let ran = snapshot(nodes, &args);
    assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{ran:?}");
    ran.out
}

/// Inspects a file; what was printed of it.
#[track_caller]
fn inspect(file: &Path) -> String {
    let ran = kraftctl(&["snapshot", "inspect", path(file), "-o", "plain"]);
    assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{ran:?}");
    ran.out
}

/// A line of what was printed.
#[track_caller]
fn fact<'a>(printed: &'a str, name: &str) -> &'a str {
    let mut lines = printed.lines().filter_map(|line| line.split_once('\t'));
    let (_, value) = lines
        .find(|(found, _)| *found == name)
        .unwrap_or_else(|| panic!("{name} in {printed}"));
    value
}

#[track_caller]
fn number(printed: &str, name: &str) -> u64 {
    fact(printed, name).parse().expect("a number")
}

/// How a node of a new cluster is made of a file.
fn restore_args(cluster: &Cluster, node: usize, file: &Path) -> Vec<String> {
    let mut args = cluster.init_args(node, &cluster.data(node));
    args.extend(["--from-snapshot".to_owned(), path(file).to_owned()]);
    args
}

fn run_all(args: &[String]) -> Ran {
    run(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Three nodes of a new cluster, all made of this file.
#[track_caller]
fn restore(name: &str, file: &Path) -> Cluster {
    let mut cluster = Cluster::prepare(name, &[]);
    let mut checksums = Vec::new();
    for node in NODES {
        let ran = run_all(&restore_args(&cluster, node, file));
        assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{ran:?}");
        let (_, rest) = ran.out.split_once("with checksum ").expect("it is told");
        checksums.push(rest[..8].to_owned());
        cluster.spawn(node);
    }
    assert!(checksums.iter().all(|sum| *sum == checksums[0]), "{checksums:?}");
    cluster
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_snapshot_saved_under_load_has_what_was_answered_before_and_makes_a_new_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("orders.snap");
    let former = Cluster::start("former", &[]);
    let leader = former.leader(&NODES);
    let load = Load::start(&former, &NODES, 4, 2000);
    load.wait_for(100);
    let mut client = former.connect(&NODES);
    let value = vec![b'v'; 30_000];
    for n in 0..40 {
        client
            .put(format!("mine/{n:02}").as_bytes(), &value)
            .expect("it is put");
    }
    let saved = save(&former.clients(&NODES), &file, &[]);
    load.wait_for(20);
    assert_all_acknowledged(&load.stop());
    assert_eq!(number(&saved, "node"), leader as u64);
    assert!(number(&saved, "index") > 140, "{saved}");
    assert!(number(&saved, "bytes") > 40 * 30_000, "{saved}");
    assert!(fact(&saved, "member").starts_with("1\t127."), "{saved}");
    assert_eq!(names(folder.path()), ["orders.snap"]);

    let inspected = inspect(&file);
    for name in ["cluster", "index", "term", "bytes", "checksum", "configuration"] {
        assert_eq!(fact(&inspected, name), fact(&saved, name), "{name}");
    }
    assert!(number(&inspected, "sessions") >= 5, "{inspected}");
    assert!(number(&inspected, "keys") >= 40 + 50, "{inspected}");
    drop(former);

    let next = restore("next", &file);
    next.leader(&NODES);
    next.wait_until_equal(&NODES);
    for node in NODES {
        let mut client = next.connect(&[node]);
        for n in 0..40 {
            let found = client.get(format!("mine/{n:02}").as_bytes()).expect("it is read");
            assert_eq!(found.as_deref(), Some(&value[..]), "mine/{n:02} on node {node}");
        }
    }
    let mut client = next.connect(&NODES);
    let statuses = client.status().expect("a loop");
    let index = number(&saved, "index");
    assert!(
        statuses
            .iter()
            .all(|status| status.report.as_ref().is_ok_and(|report| report.first.0 == index + 1)),
        "{statuses:#?}"
    );

    // What it begins with is a snapshot of its own.
    let again = folder.path().join("again.snap");
    let saved = save(&next.clients(&NODES), &again, &[]);
    assert_ne!(fact(&saved, "cluster"), fact(&inspected, "cluster"));
    assert!(number(&saved, "index") > index, "{saved}");
}

#[test]
fn a_second_snapshot_of_an_idle_cluster_is_the_first_and_does_not_wait() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let former = Cluster::start("idle", &[]);
    let leader = former.leader(&NODES);
    let load = Load::start(&former, &NODES, 3, 500);
    load.wait_for(100);
    let written = load.stop();
    former.wait_until_equal(&NODES);
    let nodes = former.clients(&NODES);
    let first = save(&nodes, &at("a"), &[]);
    let second = save(&nodes, &at("b"), &[]);
    for name in ["index", "checksum"] {
        assert_eq!(fact(&first, name), fact(&second, name), "{name}");
    }
    // Equal states at an index are equal bytes on every node.
    let third = save(&nodes, &at("c"), &["--from", "follower"]);
    assert_ne!(number(&third, "node"), leader as u64);
    let bytes = |name| fs::read(at(name)).expect("it was saved");
    assert!(bytes("a") == bytes("b") && bytes("a") == bytes("c"));

    // All of it is in a new cluster, through a restart, too.
    let mut next = restore("idle-2", &at("c"));
    next.leader(&NODES);
    assert_kept(&next, &NODES, &written);
    for node in NODES {
        next.kill(node);
    }
    for node in NODES {
        next.spawn(node);
    }
    next.leader(&NODES);
    assert_kept(&next, &NODES, &written);
}

#[test]
fn a_file_is_not_replaced_unless_that_is_said_and_nothing_is_left_of_a_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("f");
    let mut cluster = Cluster::start("replace", &[]);
    cluster.leader(&NODES);
    let nodes = cluster.clients(&NODES);
    fs::write(&file, "dear").expect("a file");
    let ran = snapshot(&nodes, &["save", path(&file)]);
    refused(&ran, 1, &["f is there already", "--force"]);
    assert_eq!(fs::read(&file).expect("it is there"), b"dear");
    // What another run left is no obstacle.
    fs::write(folder.path().join("f.partial"), "half").expect("a file");
    save(&nodes, &file, &["--force"]);
    inspect(&file);
    let nowhere = folder.path().join("none/f");
    refused(
        &snapshot(&nodes, &["save", path(&nowhere)]),
        1,
        &["none/f.partial: No such file", "nothing was saved"],
    );
    for node in NODES {
        cluster.kill(node);
    }
    let other = folder.path().join("g");
    refused(
        &snapshot(&nodes, &["save", path(&other)]),
        4,
        &["g: nothing was saved: no leader was found: 127.", "kraftctl status"],
    );
    assert_eq!(names(folder.path()), ["f"]);
}

#[test]
fn what_is_no_sound_snapshot_of_another_cluster_makes_no_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("f");
    let former = Cluster::start("sound", &[]);
    former.leader(&NODES);
    let mut client = former.connect(&NODES);
    client.put(b"key", &[7; 90_000]).expect("it is put");
    save(&former.clients(&NODES), &file, &[]);
    let sound = fs::read(&file).expect("it was saved");

    let next = Cluster::prepare("sound-2", &[]);
    let refuse = |args: &[String], code: i32, parts: &[&str]| {
        refused(&run_all(args), code, parts);
        assert!(!next.data(1).exists(), "{args:?}");
    };
    let damage = |name: &str, bytes: &[u8]| -> PathBuf {
        let at = folder.path().join(name);
        fs::write(&at, bytes).expect("a file");
        at
    };
    let mut flipped = sound.clone();
    flipped[70_000] ^= 1;
    let damaged = [
        ("flipped", &flipped[..], "a block is damaged"),
        ("cut", &sound[..sound.len() - 1], "it ends before its trailer"),
        ("empty", &[], "it ends before its trailer"),
        ("letter", &[b'a'; 200], "it is no snapshot"),
    ];
    for (name, bytes, why) in damaged {
        let at = damage(name, bytes);
        refuse(
            &restore_args(&next, 1, &at),
            74,
            &[&format!("{name} is damaged at byte "), why, "another copy"],
        );
        let ran = kraftctl(&["snapshot", "inspect", path(&at)]);
        refused(&ran, 74, &[&format!("{name} is damaged at byte "), why, "another copy"]);
        assert_eq!(ran.out, "");
    }
    let missing = folder.path().join("missing");
    refuse(
        &restore_args(&next, 1, &missing),
        78,
        &["missing: No such file", "--from-snapshot"],
    );
    refuse(
        &restore_args(&next, 1, folder.path()),
        78,
        &["it is no file", "--from-snapshot"],
    );
    refused(
        &kraftctl(&["snapshot", "inspect", path(&missing)]),
        1,
        &["missing: No such file", "name a snapshot"],
    );

    let with = |flag: &str, value: &str| {
        let mut args = restore_args(&next, 1, &file);
        let place = args.iter().position(|arg| arg == flag).expect("a flag of init");
        value.clone_into(&mut args[place + 1]);
        args
    };
    refuse(
        &with("--cluster", "sound"),
        78,
        &["is a snapshot of cluster \"sound\"", "--cluster"],
    );
    refuse(&with("--id", "7"), 78, &["add 7=HOST:PORT"]);
    let ran = run_all(&restore_args(&next, 1, &file)[..3]);
    assert_eq!(ran.code, Some(2), "{ran:?}");

    // A folder with something in it is left alone; an empty one is as good as none.
    fs::create_dir(next.data(1)).expect("a folder");
    fs::write(next.data(1).join("letter"), "dear").expect("a file");
    let before = contents(&next.data(1));
    refused(
        &run_all(&restore_args(&next, 1, &file)),
        78,
        &["is not empty (letter is in it)"],
    );
    assert_eq!(contents(&next.data(1)), before);
    fs::remove_file(next.data(1).join("letter")).expect("it is there");
    refused(
        &run_all(&restore_args(&next, 1, &damage("flipped", &flipped))),
        74,
        &["a block"],
    );
    assert!(contents(&next.data(1)).is_empty());
    let ran = run_all(&restore_args(&next, 1, &file));
    assert_eq!(ran.code, Some(0), "{ran:?}");

    // A snapshot in a node's own folder is as good.
    let kept = former.data(1).join("log/snapshots");
    let leader = former.leader(&NODES);
    let kept = if names(&kept).is_empty() {
        former.data(leader).join("log/snapshots")
    } else {
        kept
    };
    let name = names(&kept).pop().expect("one was taken");
    let ran = run_all(&restore_args(&next, 2, &kept.join(name)));
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
