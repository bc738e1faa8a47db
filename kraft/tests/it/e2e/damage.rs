//! Logs that are not as they were written.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kraft::message::NodeState;
use kraft::storage::RealFiles;
use kraft::storage::format::{Record, segment_name};
use kraft::storage::inspect::{Dumped, Verdict, dump, verify};

use super::cluster::{Cluster, NODES, others, reports};
use super::load::{Load, assert_kept};
use crate::process::{PATIENCE, Ran, contents, kraftctl, path, refused, run};

/// The log in a data folder.
fn log(data: &Path) -> PathBuf {
    data.join("log")
}

/// What a log holds that is sound.
fn verdict(data: &Path) -> Verdict {
    let files = RealFiles::open(&log(data)).expect("a log");
    let report = verify(&files, None).expect("it is read");
    report.verdict.expect("it is sound")
}

/// The file and the offset of every entry, by index as they stand.
fn entries(data: &Path) -> Vec<(PathBuf, u64)> {
    let files = RealFiles::open(&log(data)).expect("a log");
    let mut entries = Vec::new();
    let note = |found| {
        if let Dumped::Record(at, Record::Entry { .. }) = found {
            entries.push((log(data).join(segment_name(at.segment)), u64::from(at.offset)));
        }
    };
    dump(&files, None, note).expect("it is read");
    entries
}

fn flip(file: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(file).expect("a segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("it is there");
    file.write_all_at(&[byte[0] ^ 1], offset).expect("it is written");
}

/// Kills a node under load, changes its log, starts it again and has it catch up under load. Returns what it had and
/// what it found.
#[track_caller]
fn come_back_from(
    cluster: &mut Cluster,
    load: &Load,
    node: usize,
    change: impl FnOnce(&Path, &Verdict),
) -> (Verdict, Verdict) {
    load.wait_for(50);
    cluster.kill(node);
    // What the others have by then holds all that this node acknowledged.
    load.wait_for(50);
    let data = cluster.data(node);
    let before = verdict(&data);
    change(&data, &before);
    let after = verdict(&data);
    let told = run(&["log", "verify", path(&data)]);
    assert_eq!(told.code, Some(0), "{told:?}");
    let [torn] = &after.torn[..] else {
        panic!("{after:?}");
    };
    let cut = format!("torn: {}: byte {}: {} bytes", path(&torn.path), torn.offset, torn.bytes);
    assert!(told.out.contains(&cut), "{cut} is not in {told:?}");
    let start = cluster.spawn(node);
    let range = format!("\"log\":\"1-{}\"", after.recovered.last);
    assert!(start.contains(&range), "{start}");
    let line = format!(
        "\"kind\":\"torn_tail\",\"file\":\"{}\",\"byte\":{},\"bytes\":{}",
        path(&torn.path),
        torn.offset,
        torn.bytes
    );
    let said = &cluster.node(node).said;
    assert!(
        said.iter().any(|said| said.contains(&line)),
        "{line} is not in {said:#?}"
    );
    load.wait_for(50);
    cluster.wait_until_equal(&NODES);
    (before, after)
}

/// What stands behind the end, of a batch that was being written.
type Tear = fn(&[u8]) -> Vec<u8>;

#[test]
fn a_torn_tail_is_cut_and_told() {
    let mut cluster = Cluster::start("torn", &[]);
    let leader = cluster.leader(&NODES);
    let load = Load::start(&cluster, &NODES, 4, 100);
    let [one, other] = others(leader);
    // A batch that was being written: its first half; its second half; what never was a record.
    let tails: [(usize, Tear); 3] = [
        (one, |batch| batch[..batch.len() / 2].to_vec()),
        (leader, |batch| [&[0; 48], &batch[48..]].concat()),
        (other, |_| vec![0xa5; 4096]),
    ];
    for (node, torn) in tails {
        let (before, after) = come_back_from(&mut cluster, &load, node, |data, verdict| {
            let (file, offset) = entries(data).pop().expect("there was load");
            let file = File::options().read(true).write(true).open(file).expect("a segment");
            let end = u64::from(verdict.end.offset);
            let mut batch = vec![0; usize::try_from(end - offset).expect("small")];
            file.read_exact_at(&mut batch, offset).expect("it is there");
            file.write_all_at(&torn(&batch), end).expect("it is written");
        });
        assert_eq!(after.recovered, before.recovered);
    }
    let written = load.stop();
    assert_kept(&cluster, &NODES, &written);
}

/// It looks like a torn tail, but it was acknowledged: the node has forgotten what its leader counts on.
#[test]
fn rot_in_the_last_batch_is_filled_by_the_others() {
    let mut cluster = Cluster::start("rot", &[]);
    let leader = cluster.leader(&NODES);
    let load = Load::start(&cluster, &NODES, 4, 100);
    let [one, other] = others(leader);
    for node in [one, other, leader] {
        let (before, after) = come_back_from(&mut cluster, &load, node, |data, _| {
            let (file, offset) = entries(data).pop().expect("there was load");
            flip(&file, offset + 40);
        });
        assert!(after.recovered.last < before.recovered.last, "{after:?}");
    }
    let written = load.stop();
    assert_kept(&cluster, &NODES, &written);
}

#[test]
fn a_log_damaged_in_the_middle_is_refused() {
    let mut cluster = Cluster::start("damaged", &[]);
    let leader = cluster.leader(&NODES);
    let load = Load::start(&cluster, &NODES, 4, 100);
    load.wait_for(100);
    let [node, other] = others(leader);
    cluster.kill(node);
    let data = cluster.data(node);
    let entries = entries(&data);
    let (file, offset) = &entries[entries.len() / 2];
    // In its header, in its payload.
    for at in [offset + 3, offset + 40] {
        flip(file, at);
        let before = contents(&data);
        let parts = [
            path(file),
            &format!("byte {offset}:"),
            "the log is damaged",
            "nothing was changed",
            "leave this node down",
            &format!("`kraftd repair --data {}`", path(&data)),
        ];
        let args = cluster.serve_args(node, &data);
        let ran = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        refused(&ran, 74, &parts);
        assert_eq!(contents(&data), before);
        flip(file, at);
    }
    load.wait_for(100);
    // As it was, it is sound.
    cluster.spawn(node);
    load.wait_for(100);
    let written = load.stop();
    cluster.wait_until_equal(&[leader, node, other]);
    assert_kept(&cluster, &NODES, &written);
}

fn repair(data: &Path) -> Ran {
    run(&["repair", "--data", path(data)])
}

/// Tries to start a node, which refuses and names the command that mends it.
#[track_caller]
fn refuses_to_start(cluster: &Cluster, node: usize) {
    let data = cluster.data(node);
    let args = cluster.serve_args(node, &data);
    let ran = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    refused(&ran, 74, &[&format!("`kraftd repair --data {}`", path(&data))]);
}

/// Sets the log aside; all that was in it is there.
#[track_caller]
fn set_aside(data: &Path) {
    let before = contents(&log(data));
    let ran = repair(data);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let aside = data.join("damaged-1");
    assert!(ran.out.contains(path(&aside)), "{ran:?}");
    let kept = contents(&aside);
    for (name, bytes) in before.iter().filter(|(name, _)| name.ends_with(".log")) {
        let name = Path::new(name).file_name().expect("it has one");
        assert_eq!(kept.get(path(&aside.join(name))), Some(bytes), "{}", name.display());
    }
}

/// Waits until a node that recovers does so no more.
#[track_caller]
fn wait_until_recovered(cluster: &mut Cluster, node: usize) {
    cluster.node(node).line("this node votes again");
    let report = reports(&mut cluster.connect(&[node])).remove(0).expect("it runs");
    assert!(!report.recovering, "{report:?}");
    assert!(!cluster.data(node).join("recovering").exists());
}

#[test]
fn a_repaired_node_votes_when_it_has_what_it_lost() {
    let mut cluster = Cluster::start("repaired", &[]);
    let leader = cluster.leader(&NODES);
    let load = Load::start(&cluster, &NODES, 4, 100);
    load.wait_for(100);
    let [node, other] = others(leader);
    let data = cluster.data(node);
    refused(&repair(&data), 1, &["is locked", "stop that one"]);
    cluster.kill(node);
    let before = contents(&data);
    refused(&repair(&data), 1, &["the log is sound", "start the node"]);
    assert_eq!(contents(&data), before);
    load.wait_for(100);
    let written = load.stop();

    let entries = entries(&data);
    let (file, offset) = &entries[entries.len() / 2];
    flip(file, offset + 40);
    refuses_to_start(&cluster, node);
    set_aside(&data);
    // What the killed node acknowledged may be with the leader alone. Without that one nobody has all.
    cluster.kill(leader);
    let start = cluster.spawn(node);
    assert!(start.contains("\"log\":\"empty\""), "{start}");
    let said = &cluster.node(node).said;
    assert!(
        said.iter().any(|line| line.contains("\"kind\":\"recovering\"")),
        "{said:#?}"
    );
    cluster.node(other).line("\"kind\":\"peer_up\"");
    cluster.node(other).line("asks whether it would be elected");
    let nodes = [node, other];
    // It asks again and again meanwhile, and is not elected.
    let put = [
        "--nodes",
        &cluster.clients(&nodes),
        "--timeout",
        "1s",
        "put",
        "key",
        "value",
    ];
    assert_ne!(kraftctl(&put).code, Some(0));
    let [Some(report), Some(candidate)] = &reports(&mut cluster.connect(&nodes))[..] else {
        panic!("both run");
    };
    assert!(report.recovering && report.state == NodeState::Follower, "{report:?}");
    assert!(candidate.state != NodeState::Leader, "{candidate:?}");
    let shown = kraftctl(&["--nodes", &cluster.clients(&nodes), "status"]);
    assert!(shown.out.contains("recovering"), "{shown:?}");

    cluster.spawn(leader);
    wait_until_recovered(&mut cluster, node);
    cluster.wait_until_equal(&NODES);
    assert_kept(&cluster, &NODES, &written);
    // Its vote counts again.
    let leader = cluster.leader(&NODES);
    let away = if leader == node { other } else { leader };
    cluster.kill(away);
    cluster.leader(&others(away));
    assert_kept(&cluster, &others(away), &written);
    cluster.spawn(away);
    cluster.wait_until_equal(&NODES);
}

/// The log begins behind a snapshot, and that is damaged: log and snapshot are of no use without each other.
#[test]
fn a_node_with_a_damaged_snapshot_is_sent_another() {
    let flags = [
        ["--log-segment-bytes", "1048576"],
        ["--snapshot-entries", "100"],
        ["--snapshots-keep", "1"],
        ["--snapshot-margin-entries", "0"],
        ["--snapshot-margin-bytes", "0"],
    ];
    let mut cluster = Cluster::start("damaged-snapshot", flags.as_flattened());
    let leader = cluster.leader(&NODES);
    let load = Load::start(&cluster, &NODES, 4, 10_000);
    let node = others(leader)[0];
    let mut client = cluster.connect(&NODES);
    let data = cluster.data(node);
    let segments = || {
        let names = fs::read_dir(log(&data)).expect("a folder");
        names
            .map(|name| name.expect("an entry").file_name())
            .min()
            .expect("a segment")
    };
    let first = segments();
    let until = Instant::now() + PATIENCE;
    let is_released = |client: &mut _| reports(client).iter().flatten().all(|report| report.first.0 > 1);
    // What is released is in its file until that is used again or removed, and a start would find it there.
    while !is_released(&mut client) || segments() == first {
        assert!(Instant::now() < until, "no log is released");
        load.wait_for(100);
    }
    cluster.kill(node);
    let snapshots = fs::read_dir(log(&data).join("snapshots")).expect("a folder");
    // It may have been killed while it wrote one, or received one.
    let is_whole = |path: &PathBuf| path.extension().is_none_or(|extension| extension != "tmp");
    let paths = snapshots.map(|snapshot| snapshot.expect("an entry").path());
    for snapshot in paths.filter(is_whole) {
        flip(&snapshot, 200);
    }
    refuses_to_start(&cluster, node);
    set_aside(&data);
    cluster.spawn(node);
    wait_until_recovered(&mut cluster, node);
    let said = &cluster.node(node).said;
    assert!(
        said.iter().any(|line| line.contains("received a snapshot")),
        "{said:#?}"
    );
    load.wait_for(100);
    let written = load.stop();
    cluster.wait_until_equal(&NODES);
    cluster.kill(leader);
    cluster.leader(&others(leader));
    assert_kept(&cluster, &others(leader), &written);
}
