//! `kraftd log`: looks and touches nothing.

use std::fs;
use std::path::Path;

use crate::process::{Daemon, Ran, contents, http, init_alone, path, refused, run};

/// A data folder with what a node wrote that led for a moment.
fn written() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    init_alone(&data);
    let mut daemon = Daemon::serve(&data, &["--metrics", "127.0.0.1:0"]);
    let monitor = Daemon::address(&daemon.line("\"serving\""), "metrics");
    while !http(&monitor, "GET /readyz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 ") {}
    daemon.signal("TERM");
    assert!(daemon.end().success());
    (folder, data)
}

fn look(action: &str, at: &Path) -> Ran {
    run(&["log", action, path(at)])
}

#[test]
fn a_log_is_looked_at_and_not_touched() {
    let (_folder, data) = written();
    let before = contents(&data);
    for at in [data.clone(), data.join("log")] {
        let verified = look("verify", &at);
        assert_eq!(verified.code, Some(0), "{verified:?}");
        assert!(
            verified.out.contains("sound: entries 1-1, term 1, vote 1"),
            "{verified:?}"
        );
        let dumped = look("dump", &at);
        assert_eq!(dumped.code, Some(0), "{dumped:?}");
        assert!(dumped.out.contains("entry 1 term 1 Noop 0 bytes"), "{dumped:?}");
    }
    assert_eq!(contents(&data), before);
}

#[test]
fn what_is_no_log_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for action in ["verify", "dump"] {
        refused(&look(action, folder.path()), 78, &["no log is there"]);
        refused(
            &look(action, &folder.path().join("missing")),
            78,
            &["missing", "name a data folder"],
        );
    }
    assert!(contents(folder.path()).is_empty());
}

#[test]
fn a_damaged_log_is_74_for_verify_and_for_serve_and_stays_as_it_is() {
    let (_folder, data) = written();
    // The vote was synced before the leader's entry was written, and the entry's batch says so.
    let dumped = look("dump", &data).out;
    let vote = dumped
        .lines()
        .find_map(|line| line.strip_suffix(": term 1 vote 1"))
        .expect("a record of the vote");
    let (number, offset) = vote.split_once(':').expect("a segment and an offset");
    let name = format!("{:0>10}.log", number);
    let segment = data.join("log").join(&name);
    let mut bytes = fs::read(&segment).unwrap_or_else(|error| panic!("{name}: {error}: {dumped}"));
    bytes[offset.parse::<usize>().expect("a number") + 8] ^= 1;
    fs::write(&segment, &bytes).expect("written");
    let before = contents(&data);
    let verified = look("verify", &data);
    refused(
        &verified,
        74,
        &[&format!("{name}: byte {offset}"), "the log is damaged"],
    );
    let dumped = look("dump", &data);
    assert_eq!(dumped.code, Some(0), "{dumped:?}");
    refused(
        &run(&["serve", "--data", path(&data), "--log-level", "error"]),
        74,
        &[&format!("{name}: byte ")],
    );
    assert_eq!(contents(&data), before);
}
