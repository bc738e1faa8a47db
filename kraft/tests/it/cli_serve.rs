//! `kraftd serve`: what it refuses, what it says, how it ends.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use kraft::id::{GroupId, Index, Term};
use kraft::snapshot::{Head, SnapshotStore};
use kraft::storage::snapshots::format::snapshot_name;
use kraft::storage::{DiskLog, Expected, Folder, RealFiles};
use kraft_core::storage::Storage as _;

use crate::process::{Daemon, PATIENCE, contents, http, init_alone, kraftctl, kraftd, path, refused, run, run_command};

/// A data folder in a temporary one, which is returned to be kept.
fn alone() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    init_alone(&data);
    (folder, data)
}

fn serve(data: &Path, more: &[&str]) -> crate::process::Ran {
    run(&[&["serve", "--data", path(data)], more].concat())
}

/// The leader's own entry is committed and applied, and so on its disk.
fn wait_until_ready(monitor: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = http(monitor, "GET /readyz HTTP/1.0\r\n\r\n");
        if answer.starts_with("HTTP/1.1 200 ") {
            return;
        }
        assert!(Instant::now() < until, "{answer}");
    }
}

#[test]
fn a_folder_that_init_did_not_write_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    refused(
        &serve(folder.path(), &[]),
        78,
        &["holds no node, or is not there", "kraftd init"],
    );
    assert!(contents(folder.path()).is_empty());
    let missing = folder.path().join("missing");
    refused(
        &serve(&missing, &[]),
        78,
        &["holds no node, or is not there", "kraftd init"],
    );
    assert!(!missing.exists());
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    refused(&serve(&file, &[]), 78, &["ot a directory", "--data"]);
}

#[test]
fn a_port_in_use_is_told_and_changes_nothing() {
    let (_folder, data) = alone();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("its address").to_string();
    // The lock file is made by the first start, and empty.
    refused(&serve(&data, &["--backend", "none"]), 78, &["backend"]);
    let before = contents(&data);
    for flag in ["--listen", "--client", "--metrics"] {
        let ran = serve(&data, &[flag, &at]);
        refused(
            &ran,
            1,
            &[&flag[2..], &at, "the port is in use; stop the program that has it"],
        );
    }
    refused(
        &serve(&data, &["--listen", "192.0.2.1:4001"]),
        78,
        &["listen 192.0.2.1:4001: this host has no such address"],
    );
    assert_eq!(contents(&data), before);
}

#[test]
fn a_second_process_on_a_folder_is_refused() {
    let (_folder, data) = alone();
    let mut first = Daemon::serve(&data, &[]);
    first.line("\"serving\"");
    // What stands in the log is the first one's business.
    let identity = fs::read(data.join("identity")).expect("the identity");
    let locked = format!("data folder {} is locked: another process serves it", path(&data));
    refused(&serve(&data, &[]), 1, &[&locked]);
    assert_eq!(fs::read(data.join("identity")).expect("the identity"), identity);
    first.signal("TERM");
    assert!(first.end().success());
    let mut second = Daemon::serve(&data, &[]);
    second.line("\"serving\"");
}

#[test]
fn a_folder_of_another_version_or_with_a_damaged_identity_is_refused() {
    let (_folder, data) = alone();
    let identity = data.join("identity");
    let text = fs::read_to_string(&identity).expect("the identity");
    let (sealed, _) = text.rsplit_once("crc32c = ").expect("its last line");
    let newer = sealed.replace("version = 1", "version = 9");
    fs::write(
        &identity,
        format!("{newer}crc32c = {:08x}\n", crc32c::crc32c(newer.as_bytes())),
    )
    .expect("written");
    refused(
        &serve(&data, &[]),
        78,
        &["has version 9", "run the version that made it"],
    );
    fs::write(&identity, text.replace("cluster = alone", "cluster = along")).expect("written");
    let before = contents(&data);
    refused(
        &serve(&data, &[]),
        74,
        &["identity is damaged", "restore it, or leave this node down"],
    );
    assert_eq!(contents(&data), before);
}

/// The log of a data folder, to put a snapshot there.
fn log_of(data: &Path) -> DiskLog<RealFiles> {
    let folder = Folder::open(data, Expected::default()).expect("a folder");
    let files = folder.log().expect("a log");
    let identity = folder.identity().log(GroupId(0));
    DiskLog::open(files, identity, Default::default())
        .expect("it is sound")
        .0
}

fn put_snapshot(content: &[u8], data: &Path) -> PathBuf {
    let head = Head {
        index: Index(7),
        term: Term(1),
        membership_index: Index(0),
        membership: Default::default(),
    };
    let saved = log_of(data).snapshots().save(&head, &mut |out| out.write_all(content));
    let id = saved.expect("written").id;
    data.join("log/snapshots").join(snapshot_name(&id))
}

#[test]
fn a_snapshot_that_no_state_comes_of_is_told_by_its_name_and_is_no_matter_of_configuration() {
    let (_folder, data) = alone();
    let file = put_snapshot(b"not what kraftd writes", &data);
    let before = fs::read(&file).expect("it is there");
    let why = [
        "the state cannot be read",
        path(&file),
        "its checksums were right",
        "run that",
    ];
    refused(&serve(&data, &[]), 74, &why);
    assert_eq!(fs::read(&file).expect("it is left"), before);
}

#[test]
fn a_snapshot_of_a_later_version_is_left_alone() {
    let (_folder, data) = alone();
    let file = put_snapshot(b"whatever it is", &data);
    let mut bytes = fs::read(&file).expect("it is there");
    bytes[12] = 2;
    let sum = crc32c::crc32c(&bytes[12..64]).to_le_bytes();
    bytes[8..12].copy_from_slice(&sum);
    fs::write(&file, &bytes).expect("written");
    let why = [path(&file), "format version 2", "run the version that wrote it"];
    refused(&serve(&data, &[]), 78, &why);
    refused(&run(&["log", "verify", path(&data)]), 78, &why);
    refused(&run(&["repair", "--data", path(&data)]), 78, &why);
    let mut restore = vec!["init", "--id", "1", "--cluster", "other", "--peers", "1=127.0.0.1:1"];
    let new = data.with_extension("new");
    restore.extend([
        "--listen",
        "127.0.0.1:0",
        "--client",
        "127.0.0.1:0",
        "--data",
        path(&new),
    ]);
    restore.extend(["--from-snapshot", path(&file)]);
    let why = [path(&file), "format version 2", "that is no damage, "];
    refused(
        &run(&restore),
        78,
        &["no damage; run the version of kraftd that wrote it"],
    );
    assert!(!new.exists());
    refused(&kraftctl(&["snapshot", "inspect", path(&file)]), 1, &why);
    assert_eq!(fs::read(&file).expect("it is left"), bytes);
}

#[test]
fn signals_and_the_parents_end_stop_it_in_order() {
    let (_folder, data) = alone();
    for signal in ["TERM", "INT"] {
        let mut daemon = Daemon::serve(&data, &[]);
        daemon.line("\"serving\"");
        daemon.signal(signal);
        daemon.line(&format!("SIG{signal}: stopping"));
        daemon.line("\"stopped\"");
        assert_eq!(daemon.end().code(), Some(0));
    }
    let mut daemon = Daemon::serve(&data, &["--exit-with-parent"]);
    daemon.line("\"serving\"");
    daemon.close_stdin();
    daemon.line("the parent is gone: stopping");
    assert_eq!(daemon.end().code(), Some(0));
}

/// What takes long to read is here a pipe that nobody writes to: the node waits for it as it is opened.
#[test]
fn a_node_that_reads_its_log_stops_at_a_signal() {
    let (_folder, data) = alone();
    let pipe = data.join("log/0000000002.log");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
    assert!(made.success());
    for signal in ["TERM", "INT"] {
        let mut daemon = Daemon::serve(&data, &["--log-level", "debug"]);
        daemon.line("\"reads the log\"");
        daemon.signal(signal);
        daemon.line(&format!("SIG{signal}: stopping"));
        daemon.line("\"stopped before it served\"");
        assert_eq!(daemon.end().code(), Some(0));
    }
}

#[test]
fn the_first_line_tells_what_runs_and_what_was_recovered() {
    let (_folder, data) = alone();
    let mut daemon = Daemon::serve(&data, &["--metrics", "127.0.0.1:0"]);
    let start = daemon.line("\"serving\"");
    let folder = format!("\"data\":\"{}\"", path(&data));
    for part in [
        "\"node\":1",
        "\"cluster\":\"alone\"",
        "\"backend\":\"",
        "\"protocol\":\"binary\"",
        "\"log\":\"empty\"",
        "\"listen\":\"127.0.0.1:",
        "\"client\":\"127.0.0.1:",
        "\"metrics\":\"127.0.0.1:",
        &folder,
    ] {
        assert!(start.contains(part), "{part} is not in {start}");
    }
    wait_until_ready(&Daemon::address(&start, "metrics"));
    daemon.signal("KILL");
    daemon.end();
    let again = Daemon::serve(&data, &[]).line("\"serving\"");
    assert!(
        again.contains("\"log\":\"1-1\"") && again.contains("\"term\":1"),
        "{again}"
    );
}

#[test]
fn monitors_are_answered_on_the_nodes_own_loop() {
    let (_folder, data) = alone();
    let mut daemon = Daemon::serve(&data, &["--metrics", "127.0.0.1:0"]);
    let at = Daemon::address(&daemon.line("\"serving\""), "metrics");
    daemon.line("\"leads\"");
    let get = |what: &str| http(&at, &format!("GET {what} HTTP/1.1\r\nHost: {at}\r\n\r\n"));
    wait_until_ready(&at);
    assert!(get("/livez").ends_with("\r\n\r\nlive\n"));
    let metrics = get("/metrics");
    for line in [
        "kraft_raft_leader_id 1",
        "kraft_raft_state{state=\"leader\"} 1",
        "kraft_elections_won_total 1",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} is not in {metrics}");
    }
    assert!(get("/etc/passwd").starts_with("HTTP/1.1 404 "));
    assert!(http(&at, "POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(http(&at, &"x".repeat(4096)).starts_with("HTTP/1.1 431 "));
    // A request in two pieces, and one that never ends, beside each other.
    let mut endless = TcpStream::connect(&at).expect("a listener");
    endless.write_all(b"GET /livez").expect("it is taken");
    assert!(get("/livez").ends_with("live\n"));
    endless.write_all(b" HTTP/1.0\r\n\r\n").expect("it is taken");
    let mut answer = String::new();
    endless.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("live\n"), "{answer}");
}

/// The descriptors of a process that a program it starts would have, and what they are.
#[cfg(target_os = "linux")]
fn left_open(process: &str) -> std::collections::BTreeSet<(String, PathBuf)> {
    let mut found = std::collections::BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{process}/fdinfo")).expect("a process") {
        let number = entry.expect("an entry").file_name().into_string().expect("a number");
        // One that was open while the folder was read may be gone.
        let Ok(info) = fs::read_to_string(format!("/proc/{process}/fdinfo/{number}")) else {
            continue;
        };
        let flags = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .expect("flags");
        let flags = u32::from_str_radix(flags.trim(), 8).expect("octal");
        if flags & rustix::fs::OFlags::CLOEXEC.bits() == 0 {
            let what = fs::read_link(format!("/proc/{process}/fd/{number}")).unwrap_or_default();
            found.insert((number, what));
        }
    }
    found
}

/// Files, sockets and what an event loop has of its own; but for stdin and its like, and what this test itself was given.
/// Linux shows them in /proc.
#[cfg(target_os = "linux")]
#[test]
fn no_descriptor_is_left_to_a_program_that_a_node_starts() {
    let given = left_open("self");
    for (backend, _) in kraft::adapters::Backend::detect()
        .iter()
        .filter(|(_, it)| it.is_usable())
    {
        let (_folder, data) = alone();
        let mut daemon = Daemon::serve(&data, &["--metrics", "127.0.0.1:0", "--backend", backend.name()]);
        let start = daemon.line("\"serving\"");
        let metrics = Daemon::address(&start, "metrics");
        wait_until_ready(&metrics);
        let _client = TcpStream::connect(Daemon::address(&start, "client")).expect("a listener");
        // Answered after the other was accepted.
        http(&metrics, "GET /livez HTTP/1.0\r\n\r\n");
        let left = left_open(&daemon.id().to_string());
        let own: Vec<_> = left
            .difference(&given)
            .filter(|(number, _)| !["0", "1", "2"].contains(&number.as_str()))
            .collect();
        assert!(own.is_empty(), "{}: {own:?}", backend.name());
    }
}

#[test]
fn a_flood_of_garbage_gives_a_bounded_number_of_lines() {
    const FLOOD: usize = 200;
    let (_folder, data) = alone();
    let mut daemon = Daemon::serve(&data, &["--metrics", "127.0.0.1:0"]);
    let start = daemon.line("\"serving\"");
    let (client, metrics) = (Daemon::address(&start, "client"), Daemon::address(&start, "metrics"));
    for _ in 0..FLOOD {
        let mut stream = TcpStream::connect(&client).expect("a listener");
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: \x1b[31mred\r\n\r\n")
            .expect("it is taken");
        // Its end: the node has closed it.
        let mut rest = Vec::new();
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let _ = stream.read_to_end(&mut rest);
    }
    let answer = http(&metrics, "GET /metrics HTTP/1.0\r\n\r\n");
    let garbage = format!("kraft_garbage_total {FLOOD}");
    assert!(answer.lines().any(|line| line == garbage), "{answer}");
    daemon.signal("TERM");
    assert!(daemon.end().success());
    let lines = daemon
        .said
        .iter()
        .filter(|line| line.contains("\"kind\":\"garbage\""))
        .count();
    let suppressed: usize = daemon
        .said
        .iter()
        .filter_map(|line| line.split_once("\"suppressed\":"))
        .map(|(_, rest)| rest.trim_end_matches('}').parse::<usize>().expect("a number"))
        .sum();
    assert!((10..FLOOD / 2).contains(&lines), "{lines} lines: {:#?}", daemon.said);
    assert!(suppressed > FLOOD / 2, "{:#?}", daemon.said);
    assert!(daemon.said.iter().all(|line| !line.contains('\u{1b}')));
}

#[test]
fn limits_of_the_system_are_raised_or_told() {
    let (_folder, data) = alone();
    let limited = |limit: &str| {
        let serve = kraftd(&["serve", "--data", path(&data)]);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")]);
        command
            .arg(serve.get_program())
            .args(serve.get_args())
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        command
    };
    let ran = run_command(&mut limited("-n 200"));
    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(
        ran.err.contains("this process may have 200: raise the hard limit"),
        "{ran:?}"
    );
    Daemon::spawn(&mut limited("-S -n 200")).line("serving");
    // Less than the first segment of a log: the system refuses to write it.
    let ran = run_command(&mut limited("-f 100"));
    assert_eq!(ran.code, Some(75), "{ran:?}");
    assert!(ran.err.contains("look at the disk"), "{ran:?}");
}
