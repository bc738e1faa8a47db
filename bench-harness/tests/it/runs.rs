//! Runs of a few milliseconds, and what they print.

use std::process::{Command, Output};

/// Runs `kraft-bench` with these words.
fn bench(words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kraft-bench"))
        .args(words.split_whitespace())
        .output()
        .expect("the program was built")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both texts, for the message of a failed assertion.
fn said(output: &Output) -> String {
    stdout(output) + &String::from_utf8_lossy(&output.stderr)
}

#[cfg(all(feature = "epoll", target_os = "linux"))]
#[test]
fn a_run_prints_a_table_and_its_targets() {
    let words = "run --workloads echo --engines epoll,raw-epoll-et --sizes 64 --conns 1,8 --rounds 6 --seconds 0.02";
    let output = bench(words);
    assert!(output.status.success(), "{}", said(&output));
    let text = stdout(&output);
    let lines_of = |start: &str| text.lines().filter(|line| line.trim_start().starts_with(start)).count();
    assert_eq!(lines_of("echo 64Bx"), 2, "{text}");
    assert_eq!(lines_of("raw-epoll-et "), 2, "{text}");
    // Once in each cell, two comparisons and two targets in each.
    assert_eq!(lines_of("epoll "), 2 + 4 + 4, "{text}");
    assert_eq!(lines_of("epoll / raw-epoll-et "), 4, "{text}");
    assert_eq!(lines_of("targets"), 1, "{text}");
    assert!(text.contains("of 4 reached"), "{text}");
    // Six rounds are enough for intervals, whatever they are; only a round without CPU time may be missing.
    let is_rate = |line: &&str| line.contains(" throughput ");
    assert!(
        !text.lines().filter(is_rate).any(|line| line.contains("too few rounds")),
        "{text}"
    );
}

#[test]
fn a_csv_has_a_line_for_each_round() {
    let output = bench(
        "run --engines raw-threads,raw-readers --sizes 100,70000 --conns 3 --depth 2 --rounds 3 --seconds 0.02 -o csv",
    );
    assert!(output.status.success(), "{}", said(&output));
    let text = stdout(&output);
    let mut lines = text.lines();
    let heading = lines.next().expect("there is one");
    let columns = heading.split(',').count();
    assert!(
        heading.starts_with("cell,contender,round,messages_per_second,"),
        "{heading}"
    );
    let rest: Vec<&str> = lines.collect();
    assert_eq!(rest.len(), 2 * 2 * 3, "{text}");
    for line in rest {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), columns, "{line}");
        let rate: f64 = fields[3].parse().expect("a number");
        assert!(rate > 0.0, "{line}");
    }
}

#[test]
fn a_document_has_every_round() {
    let output =
        bench("run --engines raw-threads,raw-threads#2 --sizes 64 --conns 2 --rounds 2 --seconds 0.02 -o json");
    assert!(output.status.success(), "{}", said(&output));
    let text = stdout(&output);
    assert_eq!(text.matches("\"messages_per_second\":").count(), 2 * (2 + 1), "{text}");
    assert!(
        text.contains("\"contender\":\"raw-threads#2\",\"engine\":\"raw-threads\","),
        "{text}"
    );
    assert_eq!(text.matches("\"baseline\":\"raw-threads\"").count(), 1, "{text}");
    assert_eq!(text.matches('{').count(), text.matches('}').count(), "{text}");
}

#[test]
fn bytes_that_come_back_wrong_are_noticed_and_the_run_goes_on() {
    let output = bench("run --engines test-bent,raw-threads --sizes 1024 --conns 2 --rounds 1 --seconds 0.05");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = stdout(&output);
    let failed = "test-bent: FAILED, corrupt: byte ";
    assert!(text.contains(failed), "{text}");
    let lived = text.lines().find(|line| line.trim_start().starts_with("raw-threads "));
    let rate = lived.and_then(|line| line.split_whitespace().nth(1));
    assert!(rate.is_some_and(|rate| rate != "-"), "{text}");
}

#[test]
fn an_engine_that_dies_leaves_its_last_words() {
    let output = bench("run --engines test-dies --sizes 64 --conns 1 --rounds 1 --seconds 0.02");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = stdout(&output);
    assert!(
        text.contains("this engine ends at the first bytes, as it should (exit status: 3)"),
        "{text}"
    );
}

#[test]
fn an_engine_that_hangs_is_given_up() {
    let words = "run --engines test-hangs,raw-threads --sizes 64 --conns 1 --rounds 1 --seconds 0.02 --patience 1";
    let output = bench(words);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = stdout(&output);
    assert!(
        text.contains("test-hangs: FAILED, stalled: no answer for 1 s"),
        "{text}"
    );
    assert!(!text.contains("raw-threads: FAILED"), "{text}");
}

/// A folder for a run, removed in the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kraft-bench-it-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        let path = self.0.join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn show(&self) -> std::path::Display<'_> {
        self.0.display()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_run_that_is_kept_can_be_compared_and_shown() {
    let folder = Folder::new("kept");
    let words = "run --engines raw-threads,raw-threads#2 --sizes 64 --conns 2 --rounds 6 --seconds 0.02 --seed 42";
    let output = bench(&format!("{words} --out {}", folder.show()));
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("seed 42"), "{}", said(&output));
    assert!(folder.file("results.json").starts_with("{\"schema\":1,"));
    let log = folder.file("latency/echo_64Bx2--raw-threads#2.hlog");
    assert_eq!(log.lines().filter(|line| line.contains("HISTFAAA")).count(), 6, "{log}");
    // A run is no worse than itself.
    let output = bench(&format!("compare {0} {0}", folder.show()));
    assert!(output.status.success(), "{}", said(&output));
    assert!(stdout(&output).contains("0 worse, 0 better"), "{}", said(&output));
    let output = bench(&format!("report {}", folder.show()));
    assert!(output.status.success(), "{}", said(&output));
    let page = folder.file("report.html");
    assert!(page.contains("raw-threads#2") && page.len() < 400_000, "{}", page.len());
    // What was kept is never overwritten.
    let output = bench(&format!("{words} --out {}", folder.show()));
    assert!(said(&output).contains("is there already"), "{}", said(&output));
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_run_writes_what_it_has() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;

    let mut child = Command::new(env!("CARGO_BIN_EXE_kraft-bench"))
        .args("run --engines raw-threads --sizes 64 --conns 1 --rounds 1000 --seconds 1".split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built");
    // It says what it is going to do when it begins, and listens before that.
    let stderr = BufReader::new(child.stderr.take().expect("it is a pipe"));
    let mut lines = stderr.lines().map(|line| line.expect("it is text"));
    let plan = lines.find(|line| line.contains(" measurements of "));
    let pid = rustix::process::Pid::from_child(&child);
    // Before anything is asserted: it would run for a quarter of an hour.
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert!(plan.is_some());
    let mut text = String::new();
    let mut stdout = child.stdout.take().expect("it is a pipe");
    stdout.read_to_string(&mut text).expect("it is text");
    let status = child.wait().expect("it was started");
    assert_eq!(status.code(), Some(130), "{text}");
    assert!(text.contains("interrupted: this is what there was by then"), "{text}");
    assert!(!text.contains("FAILED"), "{text}");
}

#[cfg(all(feature = "epoll", target_os = "linux"))]
#[test]
fn every_workload_runs() {
    let words = "run --workloads open,frames,idle --engines epoll,raw-epoll-lt --rate 2000 --idle-conns 100 --rounds 1 \
                 --seconds 0.05 -o csv";
    let output = bench(words);
    assert!(output.status.success(), "{}", said(&output));
    let text = stdout(&output);
    for start in [
        "open 64Bx64 at 2000/s,epoll,1,",
        "open 64Bx64 at 2000/s,raw-epoll-lt,1,",
        "frames 16 of 64Bx64,\"epoll, 1 put\",1,",
        "frames 16 of 1KiBx64,\"epoll, 16 puts\",1,",
        "idle 100,epoll,1,",
        "idle 100 spoken,raw-epoll-lt,1,",
    ] {
        assert_eq!(
            text.lines().filter(|line| line.starts_with(start)).count(),
            1,
            "{start}: {text}"
        );
    }
}

/// Every engine that is built answers, byte for byte; those that this system does not let run say so.
#[test]
fn every_engine_that_is_built_answers() {
    let output = bench("run --sizes 64,65536 --conns 1,20 --depth 4 --rounds 1 --seconds 0.02");
    let text = stdout(&output);
    assert!(!text.is_empty(), "{}", said(&output));
    for line in text.lines().filter(|line| line.contains("FAILED")) {
        assert!(line.contains("FAILED, refused: "), "{text}");
        println!("SKIPPED:{line}");
    }
}

#[test]
fn what_cannot_be_run_is_said_before_the_run() {
    let output = bench("run --engines epol");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("did you mean epoll"), "{}", said(&output));
    let output = bench("run --filter no-such-cell");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("no cell is left to run"), "{}", said(&output));
}

#[test]
fn engines_and_workloads_are_listed() {
    let text = stdout(&bench("list"));
    for name in ["epoll ", "raw-epoll-et ", "raw-libuv ", "echo ", "idle "] {
        assert!(
            text.lines().any(|line| line.trim_start().starts_with(name)),
            "{name}: {text}"
        );
    }
    assert!(!text.contains("test-bent"), "{text}");
}
