//! Workloads of three nodes: short runs whose figures mean nothing.

#[cfg(feature = "rivals")]
use std::process::{Command, Output};

use super::runs::{bench, said, stdout};

#[test]
fn clusters_answer_in_every_format_and_lose_nothing_with_their_leader() {
    let bench = |words: &str| {
        bench(&format!(
            "run --engines threads --rounds 1 --seconds 0.05 -o csv {words}"
        ))
    };
    let mixed = bench("--workloads mixed --cluster-rate 200");
    let kills = bench("--workloads kill-leader");
    let text = stdout(&mixed) + &stdout(&kills);
    let headings: Vec<&str> = text
        .lines()
        .next()
        .map_or(Vec::new(), |heading| heading.split(',').collect());
    let columns = headings.len();
    for cell in ["mixed 256Bx1", "mixed 256Bx64", "mixed 256Bx64 at 200/s", "kill-leader"] {
        for format in ["binary", "protobuf", "msgpack", "json"] {
            let start = format!("{cell},\"threads, {format}\",1,");
            let row = text.lines().find_map(|line| line.strip_prefix(&start));
            let row = row.unwrap_or_else(|| panic!("{start}: {}{}", said(&mixed), said(&kills)));
            // Cell, contender and round are gone.
            let fields: Vec<&str> = row.splitn(columns - 3, ',').collect();
            let (rate, fault) = (fields[0], fields[columns - 4].trim_matches('"'));
            // Nodes that do not get their core in time elect others, and should; that is tried three times.
            if fault.starts_with("deposed: ") {
                println!("SKIPPED: {start}{row}");
                continue;
            }
            assert!(rate.parse::<f64>().is_ok_and(|rate| rate > 0.0), "{start}{row}");
            let field = |name: &str| {
                let at = headings.iter().position(|heading| *heading == name);
                let field = fields[at.expect("it has a column") - 3];
                field
                    .parse::<f64>()
                    .unwrap_or_else(|error| panic!("{name}: {error}: {row}"))
            };
            if cell == "kill-leader" {
                let [detected, elected, first_write] = ["detected_ms", "elected_ms", "first_write_ms"].map(field);
                assert!(0.0 < detected && detected <= elected && elected <= first_write, "{row}");
                // Of four writers and two others, around two deaths at least.
                assert!(field("acknowledged_writes") >= f64::from(2 * (4 * 8 + 2)), "{row}");
                assert_eq!(field("lost_writes"), 0.0, "{row}");
            } else if cfg!(target_os = "linux") {
                // Three processes, each of which has its stacks, its log and this program.
                assert!(field("resident_bytes") > f64::from(3 << 20), "{row}");
                // With a thread a connection there are too many to be asked.
                assert!(
                    cell != "mixed 256Bx1" || field("context_switches_per_message") > 0.0,
                    "{row}"
                );
            }
        }
    }
}

/// Runs `kraft-bench` where programs are found in these folders alone.
#[cfg(feature = "rivals")]
fn bench_etcd(path: &std::ffi::OsStr) -> Output {
    let words = "run --workloads mixed,kill-leader --engines etcd --cluster-rate 200 --rounds 1 --seconds 0.05";
    Command::new(env!("CARGO_BIN_EXE_kraft-bench"))
        .args(words.split_whitespace())
        .env("PATH", path)
        // What is set for another one.
        .env("ETCD_NAME", "of-another-cluster")
        .output()
        .expect("the program was built")
}

#[cfg(feature = "rivals")]
#[test]
fn etcd_answers_if_it_is_installed_and_is_no_failure_if_not() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_program = |path: std::path::PathBuf| {
        let about = path.metadata();
        about.is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    let is_installed = std::env::split_paths(&path).any(|folder| is_program(folder.join("etcd")));
    // Members that do not get their core in time elect others, and should: three tries a round, and three runs.
    let runs = (0..3).map(|_| bench_etcd(&path));
    let is_led = |output: &Output| !said(output).contains("FAILED, deposed: ");
    let mut runs = runs.skip_while(|output| !is_led(output));
    let output = runs.next().expect("of three runs one keeps its leaders");
    let text = said(&output);
    if !is_installed {
        println!("SKIPPED: etcd is not installed");
        assert!(std::env::var_os("KRAFT_NO_SKIP").is_none(), "KRAFT_NO_SKIP is set");
        assert!(output.status.success(), "{text}");
        let why = "etcd, gRPC: not here, etcd is not installed, or not on the path: `apt-get install etcd-server`";
        assert_eq!(text.matches(why).count(), 4, "{text}");
        return;
    }
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("etcd, gRPC: not here"), "{text}");
    for heading in ["acknowledged", "lost"] {
        assert!(text.contains(heading), "{heading}: {text}");
    }
    assert!(cfg!(not(target_os = "linux")) || text.contains(" resident "), "{text}");
    let what = "etcd, gRPC: three etcd that are installed, by gRPC";
    assert_eq!(text.matches(what).count(), 4, "{text}");
}

#[cfg(feature = "rivals")]
#[test]
fn an_etcd_that_dies_is_a_failed_row_with_its_last_words() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("etcd");
    std::fs::write(&program, "#!/bin/sh\necho no quorum today$ETCD_NAME >&2\nexit 3\n").expect("a file");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let output = bench_etcd(folder.path().as_os_str());
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("etcd, gRPC: FAILED, broken: node "), "{text}");
    assert!(text.contains(" ended: no quorum today (exit status: 3)"), "{text}");
}
