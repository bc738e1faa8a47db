//! Runs of a few milliseconds, and what they print.

use std::process::{Command, Output};

/// Runs `kraft-bench` with these words.
pub(super) fn bench(words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kraft-bench"))
        .args(words.split_whitespace())
        .output()
        .expect("the program was built")
}

pub(super) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both texts, for the message of a failed assertion.
pub(super) fn said(output: &Output) -> String {
    stdout(output) + &String::from_utf8_lossy(&output.stderr)
}

#[cfg(all(feature = "epoll", target_os = "linux"))]
#[test]
fn a_run_prints_a_table_and_its_targets() {
    let words = "run --workloads echo --engines epoll,raw-epoll-et --sizes 64 --conns 1,8 --depth 1 --rounds 10 \
                 --seconds 0.02";
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
    // Ten rounds are enough for intervals, whatever they are; only a round without CPU time may be missing.
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
fn what_a_message_allocates_is_counted() {
    let words =
        "run --workloads ping-pong --engines raw-threads,test-hoards --sizes 64 --rounds 2 --seconds 0.1 -o csv";
    let output = bench(words);
    assert!(output.status.success(), "{}", said(&output));
    let text = stdout(&output);
    let mut lines = text.lines();
    let mut headings = lines.next().expect("there is one").split(',');
    let place = headings.position(|heading| heading == "allocations_per_message");
    let of = |contender: &str| -> Vec<f64> {
        let own = text.lines().filter(|line| line.split(',').nth(1) == Some(contender));
        let fields = own.filter_map(|line| line.split(',').nth(place?));
        fields.filter_map(|field| field.parse().ok()).collect()
    };
    // A thread answers from the buffer that it reads into; the hoarder copies every message, and has a list of them.
    let (none, some) = (of("raw-threads"), of("test-hoards"));
    assert!(none.len() == 2 && none.iter().all(|each| *each < 0.1), "{text}");
    assert!(
        some.len() == 2 && some.iter().all(|each| (0.5..2.0).contains(each)),
        "{text}"
    );
}

// perf_event_open(2) is Linux's own.
#[cfg(target_os = "linux")]
#[test]
fn what_waits_in_many_sockets_when_counting_begins_is_a_small_share() {
    let words = "run --workloads echo --engines raw-epoll-et --sizes 64 --conns 1000 --depth 1 --rounds 1 \
                 --seconds 0.02 -o csv";
    let output = bench(words);
    assert!(output.status.success(), "{}", said(&output));
    let text = stdout(&output);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let place = lines[0].iter().position(|name| *name == "syscalls_per_message");
    let field = lines[1][place.expect("it has a column")];
    if field.is_empty() {
        println!("SKIPPED: this kernel does not count system calls for us");
        return;
    }
    // A receive and a send, and now and then a wait. A tenth of the messages may be some whose calls were made before.
    let each: f64 = field.parse().expect("it is a number");
    assert!((1.8..4.0).contains(&each), "{text}");
}

// perf_event_open(2) is Linux's own.
#[cfg(all(feature = "epoll", target_os = "linux"))]
#[test]
fn the_system_calls_of_a_wake_are_those_of_the_loop() {
    let words =
        "run --workloads ping-pong,wake --engines raw-threads,epoll --sizes 64 --rounds 1 --seconds 0.02 -o csv";
    let output = bench(words);
    let text = stdout(&output);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let place = lines[0].iter().position(|name| *name == "syscalls_per_message");
    let place = place.expect("it has a column");
    let of = |cell: &str, engine: &str| {
        let line = lines.iter().find(|line| line[0] == cell && line[1] == engine);
        line.expect("it took part")[place]
    };
    if of("ping-pong 64B", "raw-threads").is_empty() {
        println!("SKIPPED: this kernel does not count system calls for us");
        return;
    }
    // A wait, and a read of what woke it; the thread that wakes writes, and yields where it has no core of its own.
    let each: f64 = of("wake", "epoll").parse().expect("wakes are counted, too");
    assert!((1.5..2.5).contains(&each), "{text}");
}

#[cfg(feature = "libuv")]
#[test]
fn what_is_allocated_in_c_is_counted() {
    let output = bench("run --workloads multi-accept --engines raw-libuv --rounds 1 --seconds 0.1 -o csv");
    assert!(output.status.success(), "{}", said(&output));
    let text = stdout(&output);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let place = lines[0].iter().position(|name| *name == "allocations_per_message");
    let each = place.and_then(|place| lines[1][place].parse::<f64>().ok());
    // Each connection has a handle.
    assert!(each.is_some_and(|each| each > 0.5), "{text}");
}

#[test]
fn a_document_has_every_round() {
    let output = bench(
        "run --engines raw-threads,raw-threads#2 --sizes 64 --conns 2 --depth 1 --rounds 2 --seconds 0.02 -o json",
    );
    assert!(output.status.success(), "{}", said(&output));
    let text = stdout(&output);
    // Of each row its medians and its rounds; and of both rounds the slices.
    let [numbers, slices] = [":", ":["].map(|end| text.matches(&format!("\"messages_per_second\"{end}")).count());
    assert_eq!((numbers - slices, slices), (2 * (2 + 1), 2 * 2), "{text}");
    assert!(
        text.contains("\"contender\":\"raw-threads#2\",\"engine\":\"raw-threads\","),
        "{text}"
    );
    assert_eq!(text.matches("\"baseline\":\"raw-threads\"").count(), 1, "{text}");
    assert_eq!(text.matches('{').count(), text.matches('}').count(), "{text}");
}

// Elsewhere nobody tells what another process uses.
#[cfg(target_os = "linux")]
#[test]
fn who_works_while_nothing_is_asked_of_him_stands_beside_nobody() {
    let output =
        bench("run --engines test-fidgets,raw-threads --sizes 64 --conns 2 --depth 1 --rounds 2 --seconds 0.5");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = stdout(&output);
    let failed = "test-fidgets: FAILED, not measured: it uses ";
    assert!(
        text.contains(failed) && text.contains(" of its core while nothing is asked"),
        "{text}"
    );
    let lived = text.lines().find(|line| line.trim_start().starts_with("raw-threads "));
    assert!(lived.is_some_and(|line| !line.contains(" - ")), "{text}");
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
    // Nor is it shown what it was worth before.
    let bent = text.lines().find(|line| line.trim_start().starts_with("test-bent "));
    assert!(
        bent.is_some_and(|line| line.split_whitespace().skip(1).all(|cell| cell == "-")),
        "{text}"
    );
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

/// A run of one engine fails with this fault.
#[track_caller]
fn check_fails(words: &str, fault: &str) {
    let output = bench(&format!("run {words} --rounds 1"));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(stdout(&output).contains(fault), "{fault}: {}", said(&output));
}

#[test]
fn who_falls_silent_within_a_round_of_the_open_loop_is_noticed() {
    check_fails(
        "--workloads open --engines test-stops --rate 2000 --seconds 0.2 --patience 1",
        " messages have no answer",
    );
}

#[test]
fn a_connection_that_starves_is_noticed() {
    check_fails(
        "--engines test-starves --sizes 64 --conns 4 --depth 1 --seconds 0.05",
        "test-starves: FAILED, stalled: 1 of 4 connections had no answer, the others ",
    );
}

#[test]
fn a_first_answer_has_to_come_in_time_as_a_whole() {
    check_fails(
        "--workloads idle --idle-conns 1 --filter spoken --engines test-trickles --seconds 0.02 --patience 0.5",
        "test-trickles: FAILED, stalled: connection 1 of 1: ",
    );
}

#[test]
fn what_failed_in_one_cell_is_tried_in_the_next() {
    let cluster = if cfg!(feature = "cluster") { "put," } else { "" };
    let words = format!(
        "run --workloads {cluster}wake,echo --engines test-deaf --sizes 64 --conns 1 --depth 1 --rounds 1 --seconds 0.02"
    );
    let output = bench(&words);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = stdout(&output);
    assert!(text.contains("test-deaf: FAILED, broken: a wake was lost"), "{text}");
    if cfg!(feature = "cluster") {
        // It ended of itself, with its reason.
        assert!(text.contains("test-deaf, binary: FAILED, broken: node "), "{text}");
        assert!(
            text.contains("no backend is called \"test-deaf\"") && text.contains("(exit status: "),
            "{text}"
        );
    }
    let (_, echo) = text.split_once("\necho 64Bx1\n").expect("it is the last cell");
    assert!(!echo.contains("FAILED"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn who_is_interrupted_while_he_is_waited_for_has_not_failed() {
    // While connections are made, while they are filled, and where there are none.
    let all = [
        "--sizes 64 --conns 1 --depth 1",
        "--workloads slow-reader",
        "--workloads wake",
    ];
    for words in all {
        let output = bench(&format!(
            "run --engines test-interrupts --rounds 3 --seconds 0.02 --patience 3 {words}"
        ));
        assert_eq!(output.status.code(), Some(130), "{words}: {}", said(&output));
        let text = stdout(&output);
        assert!(
            text.contains("interrupted: ") && !text.contains("FAILED"),
            "{words}: {text}"
        );
    }
    // Of what was not asked to the end nothing is said.
    let output = bench("honesty --engine test-interrupts --seconds 0.02 --repeats 1");
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
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
    let words = "run --engines raw-threads,raw-threads#2 --sizes 64 --conns 2 --rounds 10 --seconds 0.02 --seed 42";
    let output = bench(&format!("{words} --out {}", folder.show()));
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("seed 42"), "{}", said(&output));
    assert!(folder.file("results.json").starts_with("{\"schema\":3,"));
    let log = folder.file("latency/echo_64Bx2--raw-threads#2.hlog");
    assert_eq!(
        log.lines().filter(|line| line.contains("HISTFAAA")).count(),
        10,
        "{log}"
    );
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

// Elsewhere file systems want names to be text.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_may_have_any_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = Folder::new("any-name");
    let words = "run --engines raw-threads --sizes 64 --conns 1 --depth 1 --rounds 1 --seconds 0.02 --out";
    let output = Command::new(env!("CARGO_BIN_EXE_kraft-bench"))
        .args(words.split_whitespace())
        .arg(folder.0.join(OsStr::from_bytes(b"no text: \xff")))
        .output()
        .expect("the program was built");
    assert!(output.status.success(), "{}", said(&output));
}

// Elsewhere it is another program.
#[cfg(target_os = "linux")]
#[test]
fn a_page_is_made_and_shown_if_that_is_asked_for() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new("shown");
    std::fs::create_dir_all(&folder.0).expect("there is room");
    let (program, seen) = (folder.0.join("xdg-open"), folder.0.join("seen"));
    let run = |name: &str, engine: &str, shows: &str| {
        std::fs::write(&program, format!("#!/bin/sh\n{shows}\n")).expect("there is room");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("it is ours");
        let words = "run --sizes 64 --conns 1 --depth 1 --rounds 1 --seconds 0.02 --json --engines";
        Command::new(env!("CARGO_BIN_EXE_kraft-bench"))
            .args(words.split_whitespace())
            .args([engine, "--open", "--out"])
            .arg(folder.0.join(name))
            .env("PATH", &folder.0)
            .output()
            .expect("the program was built")
    };
    let output = run("one", "raw-threads", &format!("echo \"$1\" > {}", seen.display()));
    assert!(output.status.success(), "{}", said(&output));
    assert!(stdout(&output).starts_with("{\"schema\":"), "{}", said(&output));
    // On a crowded machine it is not waited for.
    let guard = std::time::Instant::now();
    let page = loop {
        match std::fs::read_to_string(&seen) {
            Ok(page) if page.ends_with('\n') => break page,
            _ => std::thread::yield_now(),
        }
        assert!(guard.elapsed().as_secs() < 60, "nothing was shown");
    };
    assert!(page.trim_end().ends_with("one/report.html"), "{page}");
    assert!(folder.file("one/report.html").starts_with("<!doctype html>"));
    // Where nothing shows pages it is said where this one is.
    let output = run("two", "raw-threads", "exit 3");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("two/report.html: exit status: 3"),
        "{}",
        said(&output)
    );
    // Who interrupts a run sees that, whatever shows its page.
    let output = run("three", "test-interrupts", "exit 3");
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(
        said(&output).contains("three/report.html: exit status: 3"),
        "{}",
        said(&output)
    );
    let output = bench("run --open");
    assert!(said(&output).contains("--out"), "{}", said(&output));
}

#[test]
fn what_cannot_be_kept_is_shown_all_the_same() {
    let folder = Folder::new("cannot-be-kept");
    // In the way of what is written.
    std::fs::create_dir_all(folder.0.join("results.json.partial")).expect("there is room");
    let words = "run --engines raw-threads --sizes 64 --conns 1 --depth 1 --rounds 1 --seconds 0.02";
    let output = bench(&format!("{words} --out {}", folder.show()));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(stdout(&output).contains("\necho 64Bx1\n"), "{}", said(&output));
    assert!(said(&output).contains("results.json.partial: "), "{}", said(&output));
}

#[cfg(target_os = "linux")]
#[test]
fn switches_of_threads_that_come_and_go_are_not_told() {
    let words = "run --workloads multi-accept --engines raw-threads,raw-epoll-et --rounds 1 --seconds 0.05 -o csv";
    let output = bench(words);
    assert!(output.status.success(), "{}", said(&output));
    let text = stdout(&output);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let place = lines[0].iter().position(|name| *name == "context_switches_per_message");
    let place = place.expect("it is a column");
    let of = |contender: &str| lines.iter().find(|line| line[1] == contender).map(|line| line[place]);
    assert_eq!(of("raw-threads"), Some(""), "{text}");
    assert!(
        of("raw-epoll-et").is_some_and(|each| each.parse::<f64>().is_ok()),
        "{text}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_run_writes_what_it_has() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;

    let mut child = Command::new(env!("CARGO_BIN_EXE_kraft-bench"))
        .args("run --engines raw-threads --sizes 64 --conns 1 --depth 1 --rounds 1000 --seconds 1".split_whitespace())
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

/// Every engine that is built answers every cell, byte for byte, or says why not.
#[track_caller]
fn check_all_answer(words: &str, cells: &[&str]) {
    let output = bench(&format!("{words} --rounds 1 --seconds 0.02 -o csv"));
    let text = stdout(&output);
    let columns = text.lines().next().map_or(0, |heading| heading.split(',').count());
    for cell in cells {
        let rows: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with(&format!("{cell},")))
            .collect();
        assert!(rows.len() >= 3, "{cell}: {}", said(&output));
        for row in rows {
            let fields: Vec<&str> = row.splitn(columns, ',').collect();
            let (rate, fault) = (fields[3], fields[columns - 1].trim_matches('"'));
            match fault {
                "" => assert!(rate.parse::<f64>().is_ok_and(|rate| rate > 0.0), "{row}"),
                "it has no timers" | "it has no loop that could be woken" => {}
                _ if fields[1] == "monoio" || fields[1] == "compio" => {
                    assert!(cell.starts_with("wake") || cell.starts_with("million"), "{row}")
                }
                _ => {
                    // Of all that they are made of, some systems keep io_uring alone from them.
                    assert!(fault.starts_with("refused: ") && fields[1].contains("uring"), "{row}");
                    println!("SKIPPED: {row}");
                }
            }
        }
    }
}

#[test]
fn every_engine_that_is_built_echoes() {
    check_all_answer(
        "run --sizes 64,65536 --conns 1,20 --depth 4",
        &["echo 64Bx1 4 deep", "echo 64KiBx20 4 deep"],
    );
    check_all_answer("run --workloads ping-pong --sizes 1000", &["ping-pong 1000B"]);
}

#[test]
fn every_engine_that_is_built_pumps_and_fans_out() {
    check_all_answer(
        "run --workloads pump,fan-out",
        &[
            "pump 64KiBx1",
            "pump 64KiBx64",
            "fan-out 64B to 2 16 deep",
            "fan-out 16KiB to 64 16 deep",
        ],
    );
}

#[test]
fn every_engine_that_is_built_lets_clients_come_and_go() {
    check_all_answer("run --workloads multi-accept", &["multi-accept 64"]);
}

#[test]
fn every_engine_that_is_built_bears_the_idle_and_the_slow() {
    check_all_answer(
        "run --workloads idle,slow-reader --idle-conns 100 --filter beside",
        &["idle 100 beside 10 busy", "slow-reader 4 beside 10"],
    );
}

#[test]
fn every_engine_is_woken_and_keeps_time_or_says_why_not() {
    check_all_answer(
        "run --workloads wake,million-timers",
        &[
            "wake",
            "wake flood",
            "million-timers start and stop",
            "million-timers expire",
        ],
    );
}

#[test]
fn every_core_that_is_built_replicates() {
    let output = bench("run --workloads replicate --rounds 1 --seconds 0.02 -o csv");
    assert!(output.status.success(), "{}", said(&output));
    let text = stdout(&output);
    let cores: &[&str] = if cfg!(feature = "rivals") {
        &["kraft-core", "raft-rs", "openraft"]
    } else {
        &["kraft-core"]
    };
    assert_eq!(text.lines().count(), 1 + 2 * cores.len(), "{text}");
    for cell in ["replicate 256Bx1", "replicate 256Bx64"] {
        for core in cores {
            let start = format!("{cell},{core},1,");
            let row = text.lines().find_map(|line| line.strip_prefix(&start));
            let row = row.unwrap_or_else(|| panic!("{start}: {}", said(&output)));
            let rate = row.split(',').next().and_then(|rate| rate.parse::<f64>().ok());
            assert!(rate.is_some_and(|rate| rate > 0.0), "{start}{row}");
        }
    }
}

#[test]
fn loops_and_cores_say_what_they_are_not() {
    let output = bench(
        "run --workloads replicate,echo --engines raw-threads,kraft-core --sizes 64 --conns 1 --depth 1 --rounds 1 \
         --seconds 0.02",
    );
    assert!(output.status.success(), "{}", said(&output));
    let text = stdout(&output);
    for why in [
        "raw-threads: not here, it is a loop, and has no Raft",
        "kraft-core: not here, it is Raft alone, without a loop",
    ] {
        assert!(text.contains(why), "{why}: {text}");
    }
}

#[test]
fn a_loop_that_is_no_node_says_so() {
    let output = bench("run --workloads put --engines raw-threads --rounds 1 --seconds 0.02");
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    let why = if cfg!(feature = "cluster") {
        "no node runs on it"
    } else {
        "needs feature cluster"
    };
    assert!(
        text.contains(&format!("no cell is left to run: put 256Bx1: {why}")),
        "{text}"
    );
}

#[test]
fn a_server_that_keeps_what_nobody_reads_is_noticed() {
    let output = bench("run --workloads slow-reader --engines test-hoards --rounds 1 --seconds 0.02");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = stdout(&output);
    assert!(text.contains("test-hoards: FAILED, unbounded: it grew by "), "{text}");
}

#[test]
fn what_an_engine_lacks_is_no_failure() {
    let output = bench("run --workloads million-timers --engines threads,raw-threads --rounds 1 --seconds 0.02");
    assert!(output.status.success(), "{}", said(&output));
    let text = stdout(&output);
    assert!(text.contains("raw-threads: not here, it has no timers"), "{text}");
}

#[test]
fn what_cannot_be_run_is_said_before_the_run() {
    let output = bench("run --engines epol");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("did you mean epoll"), "{}", said(&output));
    let absent = if cfg!(target_os = "linux") {
        "raw-kqueue"
    } else {
        "raw-io-uring"
    };
    let output = bench(&format!("run --workloads echo,wake --engines threads,{absent}"));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains(&format!("{absent} is not in this program: needs ")),
        "{}",
        said(&output)
    );
    let output = bench("run --filter no-such-cell");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("--filter takes a part"), "{}", said(&output));
    let output = bench("run --sizes 1048576 --conns 1000 --depth 1");
    assert!(
        said(&output).contains("no cell is left to run: echo 1024KiBx1000: "),
        "{}",
        said(&output)
    );
    let output = bench("run --engines raw-threads,raw-threads");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("raw-threads is named twice"),
        "{}",
        said(&output)
    );
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
    // What another system's loop is made of is said where it is missing.
    let why = "(not built: needs kqueue, which the BSDs and macOS have)";
    let mut lines = text.lines();
    let kqueue = lines.find(|line| line.trim_start().starts_with("raw-kqueue "));
    let is_here = cfg!(not(target_os = "linux"));
    assert!(kqueue.is_some_and(|line| is_here || line.ends_with(why)), "{text}");
}
