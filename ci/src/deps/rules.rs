//! Rules of the source: where `unsafe` stands, what is called what, what is left over.

use std::collections::BTreeMap;

use crate::source::{Source, identifiers};

/// Folders whose code may be unsafe: the backends, and the hand-written loops that they are measured against.
const UNSAFE_FOLDERS: &[&str] = &["adapters/", "bench-harness/src/bare/"];

/// Crates whose roots, libraries and binaries alike, forbid unsafe code.
const SAFE_CRATES: &[&str] = &[
    "chaos",
    "ci",
    "counts",
    "fuzz/targets",
    "kraft",
    "kraft-core",
    "protocols",
    "protocols/codegen",
];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// A longer file is split.
const LINES_MAX: usize = 800;

/// The hand-written loops that backends are measured against, each a file or a folder of this one, and of less code than this.
const BARE: (&str, usize) = ("bench-harness/src/bare/", 300);

/// Everything that breaks a rule, with its place.
pub(crate) fn problems(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources {
        problems.extend(unsafe_where_it_may_not(source));
        problems.extend(root_without_forbid(source));
        problems.extend(empty_name(source));
        problems.extend(ignored_test(source));
        problems.extend(sleeping_test(source));
        let lines = source.text.lines().count();
        // Nobody reads what a generator makes, and it is split as the generator likes.
        if lines > LINES_MAX && !source.path.contains("/generated/") {
            problems.push(format!("{}: {lines} lines, at most {LINES_MAX}: split it", source.path));
        }
    }
    problems.extend(long_bare_loops(sources));
    problems
}

fn long_bare_loops(sources: &[Source]) -> Vec<String> {
    let (folder, limit) = BARE;
    let mut lines = BTreeMap::<&str, usize>::new();
    for source in sources {
        if let Some(path) = source.path.strip_prefix(folder) {
            let name = path.split(['/', '.']).next().unwrap_or(path);
            let code = source.code.lines().filter(|line| !line.trim().is_empty());
            *lines.entry(name).or_default() += code.count();
        }
    }
    let long = lines.into_iter().filter(|(_, lines)| *lines >= limit);
    long.map(|(name, lines)| format!("{folder}{name}: {lines} lines of code, to be less than {limit}"))
        .collect()
}

fn unsafe_where_it_may_not(source: &Source) -> Vec<String> {
    let in_folder = UNSAFE_FOLDERS.iter().any(|folder| source.path.starts_with(folder));
    // A test that counts allocations needs an allocator of its own.
    let counts_allocations = source.is_test() && source.lines_with("GlobalAlloc").next().is_some();
    if in_folder || counts_allocations {
        return Vec::new();
    }
    let places = source.lines_with("unsafe");
    places
        .map(|(line, _)| format!("{}:{line}: unsafe code outside {UNSAFE_FOLDERS:?}", source.path))
        .collect()
}

fn root_without_forbid(source: &Source) -> Option<String> {
    let (krate, file) = source.path.split_once("/src/")?;
    let in_bin = file
        .strip_prefix("bin/")
        .is_some_and(|name| !name.contains('/') || name.ends_with("/main.rs"));
    let is_root = matches!(file, "lib.rs" | "main.rs") || in_bin;
    let forbids = source
        .code
        .lines()
        .any(|line| line.replace(' ', "") == "#![forbid(unsafe_code)]");
    let promised = SAFE_CRATES.contains(&krate) && is_root;
    (promised && !forbids).then(|| format!("{}: has no #![forbid(unsafe_code)]", source.path))
}

fn empty_name(source: &Source) -> Vec<String> {
    let path = source.path.strip_suffix(".rs").unwrap_or(&source.path);
    let files = path.split('/').filter(|part| EMPTY_NAMES.contains(part));
    let mut problems: Vec<String> = files
        .map(|part| format!("{}: the name `{part}` says nothing", source.path))
        .collect();
    for (line, code) in source.lines_with("mod") {
        let name = identifiers(code)
            .skip_while(|word| *word != "mod")
            .nth(1)
            .unwrap_or_default();
        if EMPTY_NAMES.contains(&name) {
            problems.push(format!("{}:{line}: the name `{name}` says nothing", source.path));
        }
    }
    problems
}

fn ignored_test(source: &Source) -> Vec<String> {
    let places = source
        .lines_with("ignore")
        .filter(|(_, code)| code.trim_start().starts_with("#["));
    places
        .map(|(line, _)| {
            format!(
                "{}:{line}: an ignored test; skip loudly, or move it to `long`",
                source.path
            )
        })
        .collect()
}

fn sleeping_test(source: &Source) -> Vec<String> {
    if !source.is_test() {
        return Vec::new();
    }
    let places = source
        .lines_with("sleep")
        .filter(|(_, code)| code.contains("thread::sleep") || code.contains("time::sleep"));
    places
        .map(|(line, _)| format!("{}:{line}: a test that sleeps; wait for the event", source.path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, text: &str, expected: &[&str]) {
        assert_eq!(problems(&[Source::new(path, text)]), expected);
    }

    #[test]
    fn unsafe_stands_in_adapters_and_in_test_allocators() {
        let places = r#"kraft/src/log.rs:1: unsafe code outside ["adapters/", "bench-harness/src/bare/"]"#;
        check("kraft/src/log.rs", "unsafe { read() }", &[places]);
        check("kraft/src/log.rs", "// unsafe\n#![deny(unsafe_code)]", &[]);
        check("adapters/src/epoll.rs", "unsafe { read() }", &[]);
        check(
            "kraft-core/benches/core.rs",
            "unsafe impl GlobalAlloc for Counting {}",
            &[],
        );
        let elsewhere = r#"kraft-core/benches/core.rs:1: unsafe code outside ["adapters/", "bench-harness/src/bare/"]"#;
        check("kraft-core/benches/core.rs", "unsafe { read() }", &[elsewhere]);
    }

    #[test]
    fn promised_roots_forbid_unsafe_code() {
        check("protocols/src/lib.rs", "#![forbid(unsafe_code)]\npub mod frame;", &[]);
        check(
            "protocols/src/lib.rs",
            "// #![forbid(unsafe_code)]",
            &["protocols/src/lib.rs: has no #![forbid(unsafe_code)]"],
        );
        check(
            "kraft/src/bin/kraftd.rs",
            "fn main() {}",
            &["kraft/src/bin/kraftd.rs: has no #![forbid(unsafe_code)]"],
        );
        check(
            "kraft/src/bin/kraftd/main.rs",
            "",
            &["kraft/src/bin/kraftd/main.rs: has no #![forbid(unsafe_code)]"],
        );
        check("kraft/src/bin/kraftd/demo.rs", "", &[]);
        check("adapters/src/lib.rs", "", &[]);
    }

    #[test]
    fn names_say_what_a_module_holds() {
        check(
            "kraft/src/utils/mod.rs",
            "",
            &["kraft/src/utils/mod.rs: the name `utils` says nothing"],
        );
        check(
            "kraft/src/sim/common.rs",
            "",
            &["kraft/src/sim/common.rs: the name `common` says nothing"],
        );
        check(
            "kraft/src/kv/mod.rs",
            "pub mod helpers {}",
            &["kraft/src/kv/mod.rs:1: the name `helpers` says nothing"],
        );
    }

    #[test]
    fn tests_are_neither_ignored_nor_asleep() {
        check(
            "kraft/src/kv/mod.rs",
            "#[ignore = \"slow\"]",
            &["kraft/src/kv/mod.rs:1: an ignored test; skip loudly, or move it to `long`"],
        );
        check(
            "kraft/tests/it/main.rs",
            "std::thread::sleep(second);",
            &["kraft/tests/it/main.rs:1: a test that sleeps; wait for the event"],
        );
        check(
            "kraft/src/bin/kraftd.rs",
            "#![forbid(unsafe_code)]\nstd::thread::sleep(second);",
            &[],
        );
    }

    #[test]
    fn long_files_are_split() {
        check(
            "kraft/src/kv/mod.rs",
            &"\n".repeat(801),
            &["kraft/src/kv/mod.rs: 801 lines, at most 800: split it"],
        );
        check("protocols/src/protobuf/generated/kraft.rs", &"\n".repeat(801), &[]);
    }

    #[test]
    fn a_bare_loop_is_short_in_all_its_files() {
        let folder = "bench-harness/src/bare/";
        let of = |name: &str, lines: usize| {
            Source::new(format!("{folder}{name}"), format!("\n// b\n{}", "a();\n".repeat(lines)))
        };
        let mut sources = vec![of("epoll.rs", 299), of("uring/mod.rs", 150), of("uring/bufs.rs", 149)];
        assert_eq!(problems(&sources), [""; 0]);
        sources.push(of("uring/wake.rs", 1));
        let long = format!("{folder}uring: 300 lines of code, to be less than 300");
        assert_eq!(problems(&sources), [long]);
    }
}
