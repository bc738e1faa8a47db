//! The choice of an event loop: by `serve`, `demo` and `doctor`, also where the system refuses one.

use kraft::adapters::Backend;

use crate::process::{Daemon, init_alone, kraftd, path, refused, run, run_command};

/// The row of a backend in doctor's table: its name, compiled, usable, selected, and why.
#[track_caller]
fn row(table: &str, backend: Backend) -> [String; 5] {
    let line = table.lines().find(|line| line.starts_with(backend.name()));
    let line = line.unwrap_or_else(|| panic!("no row of {backend} in {table}"));
    let mut cells = line.split_whitespace();
    let mut next = || cells.next().expect("a cell").to_owned();
    let (name, compiled, usable, selected) = (next(), next(), next(), next());
    [name, compiled, usable, selected, cells.collect::<Vec<_>>().join(" ")]
}

#[test]
fn doctor_has_a_row_for_each_backend_and_selects_as_serve_would() {
    let ran = run(&["doctor"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut selected = Vec::new();
    for backend in Backend::ALL {
        let [_, compiled, usable, is_selected, why] = row(&ran.out, *backend);
        assert_eq!(compiled == "yes", backend.is_compiled(), "{ran:?}");
        assert!(usable == "yes" || !why.is_empty(), "{ran:?}");
        if is_selected == "yes" {
            selected.push(*backend);
        }
    }
    let json = run(&["doctor", "-o", "json"]).out;
    let [selected] = selected[..] else { panic!("{ran:?}") };
    assert!(json.contains(&format!("\"selected\":\"{selected}\"")), "{json}");

    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    init_alone(&data);
    let line = Daemon::serve(&data, &[]).line("\"serving\"");
    assert!(line.contains(&format!("\"backend\":\"{selected}\"")), "{line}");
}

#[test]
fn every_backend_that_works_here_serves_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    init_alone(&data);
    for (backend, availability) in Backend::detect() {
        if !availability.is_usable() {
            continue;
        }
        let mut daemon = Daemon::serve(&data, &["--backend", backend.name(), "--spin", "20us"]);
        let line = daemon.line("\"serving\"");
        assert!(line.contains(&format!("\"backend\":\"{backend}\"")), "{line}");
        if let Some(remark) = backend.remark() {
            assert!(
                daemon.said.iter().any(|said| said.contains(remark)),
                "{:?}",
                daemon.said
            );
        }
        daemon.signal("TERM");
        assert!(daemon.end().success());
    }
}

#[test]
fn doctor_tells_the_limit_that_max_connections_is_beyond() {
    let ran = run(&["doctor", "--max-connections", "1048576"]);
    // A host may allow as many.
    if ran.code != Some(0) {
        refused(&ran, 78, &["max_connections needs", "raise the hard limit"]);
        assert!(ran.out.contains("or lower max_connections"), "{ran:?}");
    }
}

#[test]
fn doctor_reads_the_configuration_of_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    init_alone(&data);
    let compiled = Backend::compiled()[0].name();
    std::fs::write(data.join("kraftd.toml"), format!("backend = \"{compiled}\"\n")).expect("a file");
    let by_file = run(&["doctor", "--data", path(&data)]);
    assert!(
        by_file.out.starts_with(&format!("backend = {compiled}\n")),
        "{by_file:?}"
    );
    let by_variable = run_command(kraftd(&["doctor", "--data", path(&data)]).env("KRAFT_BACKEND", "auto"));
    assert!(by_variable.out.starts_with("backend = auto\n"), "{by_variable:?}");
}

/// Filters of system calls are Linux's.
#[cfg(target_os = "linux")]
mod refusals {
    use std::collections::BTreeMap;
    use std::process::Command;
    use std::thread;

    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    use super::*;
    use crate::process::Ran;

    const EPERM: u32 = 1;
    const ENOSYS: u32 = 38;

    /// io_uring_setup, io_uring_enter and io_uring_register, which have these numbers on every machine.
    const IO_URING: &[i64] = &[425, 426, 427];

    /// epoll_create1.
    #[cfg(target_arch = "x86_64")]
    const EPOLL: &[i64] = &[291];
    #[cfg(not(target_arch = "x86_64"))]
    const EPOLL: &[i64] = &[20];

    /// What `start` makes of kraftd in a thread whose children are answered `errno` for these system calls.
    fn without<T: Send>(calls: &[i64], errno: u32, start: impl FnOnce() -> T + Send) -> T {
        let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
        let (others, these) = (SeccompAction::Allow, SeccompAction::Errno(errno));
        let machine = std::env::consts::ARCH.try_into().expect("a machine with filters");
        let filter = SeccompFilter::new(rules, others, these, machine).expect("a filter");
        let filter: BpfProgram = filter.try_into().expect("a filter");
        thread::scope(|scope| {
            let filtered = scope.spawn(|| {
                // It is this thread's and what it starts, and cannot be taken off again.
                seccompiler::apply_filter(&filter).expect("a filter is taken");
                start()
            });
            filtered.join().expect("it does not panic")
        })
    }

    fn doctor_without(calls: &[i64], errno: u32, choice: &str) -> Ran {
        without(calls, errno, || run(&["doctor", "--backend", choice]))
    }

    #[test]
    fn a_backend_that_a_filter_refuses_is_passed_over_loudly_or_fails_by_name() {
        let cases = [(Backend::IoUring, IO_URING), (Backend::Epoll, EPOLL)];
        let compiled = cases.into_iter().filter(|(backend, _)| backend.is_compiled());
        for (backend, calls) in compiled {
            for errno in [ENOSYS, EPERM] {
                refused_backend(backend, calls, errno);
            }
        }
    }

    fn refused_backend(backend: Backend, calls: &[i64], errno: u32) {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        init_alone(&data);
        let name = backend.name();

        // By name: cause and cure.
        let parts = [name, "seccomp filter", "allow the system call", "use another backend"];
        let strict = without(calls, errno, || {
            run(&["serve", "--data", path(&data), "--backend", name])
        });
        refused(&strict, 78, &parts);
        let strict = doctor_without(calls, errno, name);
        refused(&strict, 78, &parts);
        let [_, compiled, usable, selected, why] = row(&strict.out, backend);
        assert_eq!([&*compiled, &*usable, &*selected], ["yes", "no", "no"], "{strict:?}");
        assert!(
            why.contains("seccomp filter") && why.contains("use another backend"),
            "{why}"
        );

        // In a list: the next one, which is told once.
        let list = format!("{name},threads");
        let passed = doctor_without(calls, errno, &list);
        assert_eq!(passed.code, Some(0), "{passed:?}");
        assert_eq!(row(&passed.out, Backend::Threads)[3], "yes", "{passed:?}");
        let mut daemon = without(calls, errno, || Daemon::serve(&data, &["--backend", &list]));
        let line = daemon.line("\"serving\"");
        assert!(line.contains("\"backend\":\"threads\""), "{line}");
        let warnings = daemon.said.iter().filter(|said| said.contains(&format!("{name}: ")));
        let warnings: Vec<_> = warnings.collect();
        let [warning] = &warnings[..] else {
            panic!("{:?}", daemon.said)
        };
        for part in ["\"level\":\"warn\"", "seccomp filter", "this node runs on threads"] {
            assert!(warning.contains(part), "{part:?} is not in {warning}");
        }
    }

    #[test]
    fn auto_passes_over_what_a_filter_refuses() {
        let all: Vec<_> = IO_URING.iter().chain(EPOLL).copied().collect();
        for errno in [ENOSYS, EPERM] {
            let ran = doctor_without(&all, errno, "auto");
            assert_eq!(ran.code, Some(0), "{ran:?}");
            assert_eq!(row(&ran.out, Backend::Threads)[2..4], ["yes", "yes"], "{ran:?}");
            assert_eq!(row(&ran.out, Backend::Epoll)[2..4], ["no", "no"], "{ran:?}");
        }
    }

    #[test]
    fn a_lack_of_descriptors_is_passed_over_by_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        init_alone(&data);
        // As if the last one had gone a moment before.
        const EMFILE: u32 = 24;
        for (backend, calls) in [(Backend::IoUring, &IO_URING[..1]), (Backend::Epoll, EPOLL)] {
            if !backend.is_compiled() {
                continue;
            }
            let list = format!("{},threads", backend.name());
            let ran = without(calls, EMFILE, || {
                run(&["serve", "--data", path(&data), "--backend", &list])
            });
            refused(
                &ran,
                1,
                &[backend.name(), "Too many open files", "raise the limit of open files"],
            );
            let ran = doctor_without(calls, EMFILE, &list);
            refused(&ran, 1, &["Too many open files"]);
            assert_eq!(row(&ran.out, Backend::Threads)[3], "no", "{ran:?}");
        }
    }

    #[test]
    fn kraftctl_is_told_what_it_passes_over() {
        let kraftctl = env!("CARGO_BIN_EXE_kraftctl");
        let mut command: Command = crate::process::without_settings(
            kraftctl,
            &[
                "--backend",
                "epoll,threads",
                "--nodes",
                "127.0.0.1:1",
                "--timeout",
                "50ms",
                "get",
                "k",
            ],
        );
        let ran = without(EPOLL, ENOSYS, || run_command(&mut command));
        assert!(
            ran.err.starts_with("kraftctl: passed over: epoll: epoll_create1: "),
            "{ran:?}"
        );
        let mut strict = crate::process::without_settings(kraftctl, &["--nodes", "127.0.0.1:1", "status"]);
        let ran = without(EPOLL, ENOSYS, || run_command(strict.env("KRAFT_BACKEND", "epoll")));
        refused(&ran, 1, &["epoll: epoll_create1: ", "use another backend"]);
        let mut wrong = crate::process::without_settings(kraftctl, &["--nodes", "127.0.0.1:1", "status"]);
        refused(
            &run_command(wrong.env("KRAFT_BACKEND", "epol")),
            2,
            &["KRAFT_BACKEND: no backend is called \"epol\""],
        );
        let mut wrong = crate::process::without_settings(kraftctl, &["--nodes", "127.0.0.1:1", "status"]);
        refused(
            &run_command(wrong.env("KRAFT_PROTOCOL", "morse")),
            2,
            &["KRAFT_PROTOCOL: no wire format is called morse: choose one of binary"],
        );
    }
}
