//! ^C in what runs for long: it prints what it has and says that it was interrupted.

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use crate::process::{Daemon, PATIENCE, kraftd};

/// Until the process has a handler for SIGINT: before that ^C ends it, as any other.
fn wait_until_it_catches(program: &Daemon) {
    const SIGINT: u64 = 1 << 1;
    let status = format!("/proc/{}/status", program.id());
    let until = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(&status).expect("it runs");
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.expect("a field of its own").trim(), 16).expect("a mask");
        if caught & SIGINT != 0 {
            return;
        }
        assert!(Instant::now() < until, "{text}");
    }
}

#[cfg(feature = "sim")]
#[test]
fn simulations_that_are_interrupted_print_what_they_came_to() {
    let args = ["simulate", "--seeds", "0..1000000", "--span", "1s", "--jobs", "2"];
    let mut program = Daemon::spawn(kraftd(&args).stdout(Stdio::piped()).stderr(Stdio::piped()));
    wait_until_it_catches(&program);
    program.signal("INT");
    let status = program.end();
    assert_eq!(status.code(), Some(130), "{:#?}", program.said);
    let said = |part: &str| program.said.iter().any(|line| line.contains(part));
    assert!(said(" seeds: ") && said("operations: "), "{:#?}", program.said);
    assert!(
        said("interrupted: every law held in ") && said(" of 1000000 seeds"),
        "{:#?}",
        program.said
    );
}

#[cfg(feature = "ctl")]
#[test]
fn a_benchmark_that_is_interrupted_prints_the_figures_so_far() {
    use crate::process::{http, init_alone, without_settings};

    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    init_alone(&data);
    let mut server = Daemon::serve(&data, &["--metrics", "127.0.0.1:0"]);
    let start = server.line("\"metrics\":\"");
    let (clients, monitor) = (Daemon::address(&start, "client"), Daemon::address(&start, "metrics"));
    let args = ["--nodes", &clients, "bench", "--seconds", "3600", "-o", "json"];
    let mut bench = without_settings(env!("CARGO_BIN_EXE_kraftctl"), &args);
    let mut program = Daemon::spawn(bench.stdout(Stdio::piped()).stderr(Stdio::piped()));
    // The keys of puts are not written before: what is counted is measured.
    let until = Instant::now() + PATIENCE;
    let is_zero = |page: &str| page.contains("\nkraft_commands_total 0\n");
    while is_zero(&http(&monitor, "GET /metrics HTTP/1.0\r\n\r\n")) {
        assert!(Instant::now() < until, "{:#?}", program.said);
    }
    program.signal("INT");
    let status = program.end();
    assert_eq!(status.code(), Some(130), "{:#?}", program.said);
    let said = |part: &str| program.said.iter().any(|line| line.contains(part));
    assert!(said("\"ops_per_second\":"), "{:#?}", program.said);
    assert!(
        said("kraftctl: interrupted after ") && said(" of 3600 seconds"),
        "{:#?}",
        program.said
    );
}
