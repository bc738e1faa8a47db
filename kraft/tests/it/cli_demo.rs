//! `kraftd demo`: a cluster that loses its leader and nothing else.

use kraft::adapters::Backend;

use crate::process::{contents, kraftd, run_command};

#[test]
fn the_demo_loses_its_leader_and_no_write() {
    demo(&["--seconds", "2"], "");
}

#[test]
fn the_demo_loses_no_write_on_any_backend() {
    for (backend, availability) in Backend::detect() {
        if availability.is_usable() {
            let name = backend.name();
            demo(&["--seconds", "1", "--backend", name], &format!("leads, on {name}"));
        }
    }
}

#[test]
fn the_demo_loses_no_write_in_any_wire_format() {
    for format in kraft::protocols::Format::ALL {
        let name = format.name();
        let says = match name {
            "binary" => String::new(),
            name => format!(", in {name}"),
        };
        demo(&["--seconds", "1", "--protocol", name], &says);
    }
}

#[cfg(feature = "tls")]
#[test]
fn the_demo_loses_no_write_over_tls_on_any_backend() {
    for (backend, availability) in Backend::detect() {
        if availability.is_usable() {
            let name = backend.name();
            let says = format!("leads, on {name}, over TLS");
            demo(&["--seconds", "1", "--tls", "--backend", name], &says);
        }
    }
}

#[test]
fn the_demo_restarts_all_nodes_and_loses_no_write() {
    let parts = [
        "node 1 stopped in order",
        "node 2 stopped in order",
        "node 3 is back",
        "longest pause of writes",
    ];
    show(&["--seconds", "2", "--scenario", "rolling-restart"], &parts);
}

#[test]
fn the_demo_replaces_a_node_and_loses_no_write() {
    let parts = [
        "and its disk is gone",
        "node 4 begins with nothing, and votes",
        "longest pause of writes",
    ];
    show(&["--seconds", "2", "--scenario", "replace-node"], &parts);
}

#[test]
fn the_demo_grows_and_shrinks_and_loses_no_write() {
    let parts = [
        "5 members",
        "which led, is removed and has ended with exit code 76; 3 members",
    ];
    show(&["--seconds", "3", "--scenario", "grow-shrink"], &parts);
}

#[track_caller]
fn demo(more: &[&str], says: &str) {
    let parts = [
        says,
        "kill -9 of node",
        "starts again",
        "time without a leader",
        "latency p99",
    ];
    show(more, &parts);
}

#[track_caller]
fn show(more: &[&str], parts: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let args = [&["demo", "--clients", "4"], more].concat();
    let ran = run_command(kraftd(&args).env("TMPDIR", folder.path()));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for part in parts {
        assert!(ran.out.contains(part), "{part:?} is not in {ran:?}");
    }
    let row = |name: &str| {
        let line = ran
            .out
            .lines()
            .find_map(|line| line.trim().strip_prefix(name))
            .expect("a row of the table");
        line.replace(',', "")
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(row("lost"), ["0"], "{ran:?}");
    assert_eq!(row("wrong"), ["0"], "{ran:?}");
    let acknowledged = row("writes acknowledged").remove(0);
    assert_eq!(row("found through each node"), [&*acknowledged; 3], "{ran:?}");
    assert!(acknowledged.parse::<u64>().expect("a number") > 10, "{ran:?}");
    assert!(contents(folder.path()).is_empty(), "its data is removed");
}

/// Processes are found by /proc, which is Linux's.
#[cfg(target_os = "linux")]
mod leftovers {
    use std::path::Path;
    use std::process::Stdio;
    use std::time::Instant;

    use crate::process::{Daemon, PATIENCE, contents, kraftd};

    /// The processes whose command line names a folder below `folder`.
    fn processes_in(folder: &Path) -> usize {
        let of = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
        let lines = std::fs::read_dir("/proc").expect("proc").flatten().filter_map(of);
        lines
            .filter(|line| String::from_utf8_lossy(line).contains(&folder.display().to_string()))
            .count()
    }

    #[test]
    fn an_interrupted_demo_leaves_nothing_behind() {
        for signal in ["INT", "HUP"] {
            let folder = tempfile::tempdir().expect("a folder");
            let mut command = kraftd(&["demo"]);
            command
                .env("TMPDIR", folder.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let mut demo = Daemon::spawn(&mut command);
            demo.line("clients write");
            assert_eq!(processes_in(folder.path()), 3);
            demo.signal(signal);
            demo.line("interrupted");
            assert_eq!(demo.end().code(), Some(1));
            assert_eq!(processes_in(folder.path()), 0);
            assert!(contents(folder.path()).is_empty(), "its data is removed");
        }
    }

    #[test]
    fn nodes_end_when_a_demo_is_killed() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = kraftd(&["demo"]);
        command.env("TMPDIR", folder.path()).stdout(Stdio::piped());
        let mut demo = Daemon::spawn(&mut command);
        demo.line("clients write");
        demo.signal("KILL");
        demo.end();
        let until = Instant::now() + PATIENCE;
        while processes_in(folder.path()) > 0 {
            assert!(Instant::now() < until, "nodes outlive their parent");
        }
    }
}
