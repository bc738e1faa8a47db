//! Disks that are full, and disks that fail.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use kraft::client::Error;
use kraft::message::Refusal;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::cluster::{Cluster, NODES, others};
use super::load::{Load, assert_kept};
use crate::process::{PATIENCE, contents, kraftctl, kraftd, path, refused, run_command, without_settings};

/// Small segments, so that a small disk is soon full.
const SMALL: [&str; 2] = ["--log-segment-bytes", "1048576"];

/// The smallest log.
const LIMIT: [&str; 4] = ["--log-bytes-max", "4194304", "--snapshot-margin-bytes", "1048576"];

/// What is released behind snapshots is all that the log has room for; its margins alone would fill it.
#[test]
fn a_log_at_its_bound_goes_on_behind_snapshots_and_over_a_restart() {
    let mut cluster = Cluster::start("small-log", &[&SMALL[..], &LIMIT].concat());
    for round in 0..2u8 {
        let mut client = cluster.connect(&NODES);
        for at in 0..100u8 {
            let until = Instant::now() + PATIENCE;
            // A snapshot may be under way.
            while let Err(error) = client.put(&[at % 4], &[at; 100_000]) {
                let is_full = matches!(&error, Error::Refused(refused) if refused.why == Refusal::NoSpace);
                assert!(is_full && Instant::now() < until, "round {round}, write {at}: {error}");
            }
        }
        cluster.wait_until_equal(&NODES);
        for node in NODES {
            cluster.kill(node);
        }
        for node in NODES {
            cluster.spawn(node);
        }
    }
    let mut client = cluster.connect(&NODES);
    assert_eq!(
        client.get(&[3]).expect("it is there").as_deref(),
        Some(&[99; 100_000][..])
    );
}

#[test]
fn log_bytes_max_is_answered_by_name_and_reads_go_on() {
    let mut cluster = Cluster::start("log-bytes-max", &[&SMALL[..], &LIMIT].concat());
    // Snapshots would make room.
    for node in NODES {
        fs::remove_dir(cluster.data(node).join("log/snapshots")).expect("there is none yet");
    }
    let leader = cluster.leader(&NODES);
    let load = Load::start(&cluster, &NODES, 2, 100_000);
    let why = load.wait_for_failure();
    assert!(why.contains("the log or its disk is full"), "{why}");
    let written = load.stop();
    let room = cluster.node(leader).line("\"room\"");
    assert!(room.contains("room_bytes"), "{room}");
    // What is refused to two at once may just fit for one.
    let mut client = cluster.connect(&NODES);
    let refused = (0..50).find_map(|_| client.put(b"key", &[0; 100_000]).err());
    assert!(
        matches!(&refused, Some(Error::Refused(refused)) if refused.why == Refusal::NoSpace),
        "{refused:?}"
    );
    // The leader answers; a follower whose log is full before may lack what was committed, and waits for it.
    assert!(client.get(b"leader").expect("reads go on").is_some());
    let (nodes, value) = (cluster.clients(&NODES), "v".repeat(100_000));
    let put = || kraftctl(&["--nodes", &nodes, "put", "key", &value]);
    let ran = (0..50).map(|_| put()).find(|ran| ran.code != Some(0));
    let ran = ran.expect("the log is full");
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.err.contains("make room, or raise log_bytes_max"), "{ran:?}");

    // More room, by a restart of one after the other.
    cluster.set_flags(&SMALL);
    for node in NODES {
        cluster.node(node).signal("TERM");
        assert!(cluster.end(node).0.success());
        cluster.spawn(node);
    }
    client.put(b"key", &[0; 100_000]).expect("there is room");
    cluster.wait_until_equal(&NODES);
    assert_kept(&cluster, &NODES, &written);
}

/// Whether this test may mount, in a namespace of its own; else why not.
fn may_mount() -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("unshare");
    command.args(["--mount", "mount", "-t", "tmpfs", "none", path(folder.path())]);
    let output = command.output().map_err(|error| format!("unshare: {error}"))?;
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(why) }
}

/// Says what is skipped, past the capture of the test harness: skipping is loud.
fn skip(what: &str, why: &str) {
    assert!(
        std::env::var_os("KRAFT_NO_SKIP").is_none(),
        "skipped {what}: {why} (KRAFT_NO_SKIP is set)"
    );
    let _ = writeln!(std::io::stderr(), "skipped {what}: {why}");
}

/// Arguments for a shell. None has a quote in it.
fn quoted(args: &[String]) -> String {
    args.iter().map(|arg| format!("'{arg}' ")).collect()
}

/// Starts a node whose data is on a small disk of its own, which goes away with its process.
fn spawn_on_small_disk(cluster: &mut Cluster, node: usize) -> PathBuf {
    let disk = cluster.data(node);
    fs::create_dir(&disk).expect("a folder");
    let data = disk.join("data");
    let kraftd = kraftd(&[]);
    let kraftd = kraftd.get_program().to_str().expect("UTF-8");
    let script = format!(
        "mount -t tmpfs -o size=12m none '{}' && '{kraftd}' {} >&2 && exec '{kraftd}' {}",
        path(&disk),
        quoted(&cluster.init_args(node, &data)),
        quoted(&cluster.serve_args(node, &data)),
    );
    let mut command = without_settings("unshare", &["--mount", "sh", "-c", &script]);
    cluster.spawn_as(node, &mut command);
    // The namespace, as others see it.
    let root = PathBuf::from(format!("/proc/{}/root", cluster.node(node).id()));
    root.join(disk.strip_prefix("/").expect("it is absolute"))
}

/// Takes all the room that a disk has.
fn fill(disk: &Path) {
    let mut ballast = File::create(disk.join("ballast")).expect("a file");
    loop {
        match ballast.write_all(&[0; 4096]) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_full_disk() {
    if let Err(why) = may_mount() {
        return skip("a_full_disk", &why);
    }
    let mut cluster = Cluster::prepare("full-disk", &SMALL);
    let disks = NODES.map(|node| spawn_on_small_disk(&mut cluster, node));
    let leader = cluster.leader(&NODES);
    let load = Load::start(&cluster, &NODES, 4, 4_000);
    load.wait_for(50);
    let disk = &disks[leader - 1];
    fill(disk);
    cluster.node(leader).line("no space for the log");
    // It leaves the lead to those who have room.
    let next = cluster.leader(&others(leader));
    assert!(others(leader).contains(&next));
    load.wait_for(50);
    let written = load.stop();
    fs::remove_file(disk.join("ballast")).expect("it is there");
    cluster.node(leader).line("there is space for the log");
    cluster.wait_until_equal(&NODES);
    assert_kept(&cluster, &NODES, &written);

    // With nobody to yield to, writes are refused and reads go on.
    disks.iter().for_each(|disk| fill(disk));
    let mut client = cluster.connect(&NODES);
    let refused = (0..2_000).find_map(|_| client.put(b"ballast", &[0; 4_000]).err());
    assert!(
        matches!(&refused, Some(Error::Refused(refused)) if refused.why == Refusal::NoSpace),
        "{refused:?}"
    );
    // The leader answers; a follower without room may lack what was committed, and waits for it.
    assert!(client.get(b"leader").expect("reads go on").is_some());
    for disk in &disks {
        fs::remove_file(disk.join("ballast")).expect("it is there");
    }
    let until = Instant::now() + PATIENCE;
    while client.put(b"ballast", b"").is_err() {
        assert!(Instant::now() < until, "there is room, and it is not found");
    }
    cluster.wait_until_equal(&NODES);
    assert_kept(&cluster, &NODES, &written);
}

#[test]
fn a_failed_disk_ends_the_node() {
    let mut cluster = Cluster::start("failed-disk", &[]);
    let leader = cluster.leader(&NODES);
    let load = Load::start(&cluster, &NODES, 4, 100);
    for node in [others(leader)[0], leader] {
        load.wait_for(50);
        let pid = i32::try_from(cluster.node(node).id()).ok().and_then(Pid::from_raw);
        // From here on the system answers EFBIG to every write to a file.
        let none = Rlimit {
            current: Some(0),
            maximum: None,
        };
        prlimit(pid, Resource::Fsize, none).expect("it is this user's process");
        let (status, said) = cluster.end(node);
        let last = said.last().expect("it says why");
        assert_eq!(status.code(), Some(75), "{said:#?}");
        let log = format!("{}/log/", path(&cluster.data(node)));
        for part in ["\"write ", &log, ".log: File too large", "\"exit_code\":75"] {
            assert!(last.contains(part), "{part:?} is not in {last}");
        }
        load.wait_for(50);
        cluster.spawn(node);
        cluster.wait_until_equal(&NODES);
    }
    let written = load.stop();
    assert_kept(&cluster, &NODES, &written);
}

/// As for a user who may not write there; but that the administrator, who may run the tests, may write anywhere.
#[test]
fn a_data_folder_that_cannot_be_written_is_refused_and_stays_as_it_is() {
    if let Err(why) = may_mount() {
        return skip(
            "a_data_folder_that_cannot_be_written_is_refused_and_stays_as_it_is",
            &why,
        );
    }
    let cluster = Cluster::prepare("read-only", &[]);
    cluster.init(1);
    let data = cluster.data(1);
    let before = contents(&data);
    let read_only = |args: &[String]| {
        let kraftd = kraftd(&[]);
        let kraftd = kraftd.get_program().to_str().expect("UTF-8");
        let script = format!(
            "mount --bind '{0}' '{0}' && mount -o remount,bind,ro '{0}' && exec '{kraftd}' {1}",
            path(&data),
            quoted(args)
        );
        run_command(&mut without_settings("unshare", &["--mount", "sh", "-c", &script]))
    };
    let cure = "make it a folder that this user may read and write";
    refused(
        &read_only(&cluster.serve_args(1, &data)),
        78,
        &["Read-only file system", cure],
    );
    let new = data.join("new");
    refused(
        &read_only(&cluster.init_args(1, &new)),
        78,
        &["Read-only file system", path(&new), cure],
    );
    assert_eq!(contents(&data), before);
}

#[test]
fn a_disk_that_takes_nothing_is_75_at_the_start() {
    let cluster = Cluster::prepare("no-disk", &[]);
    cluster.init(1);
    let serve = cluster.serve_args(1, &cluster.data(1));
    let serve = kraftd(&serve.iter().map(String::as_str).collect::<Vec<_>>());
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(serve.get_program())
        .args(serve.get_args());
    let ran = run_command(&mut command);
    assert_eq!(ran.code, Some(75), "{ran:?}");
    assert!(
        ran.err.contains("write ") && ran.err.contains("File too large"),
        "{ran:?}"
    );
}
