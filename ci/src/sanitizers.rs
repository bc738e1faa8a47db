//! The tests under the sanitizers of compilers that are not the one in use.

use std::fs;
use std::path::{Path, PathBuf};

use crate::bsd;
use crate::command::{Failure, output, run};
use crate::steps::Outcome;

/// What a binary runs on that is made with `-Zsanitizer`; std of rustup's is made without, which is enough for
/// addresses.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Tests that leak on purpose: what is lent to a kernel that does not give it back, as it never does behind a descriptor
/// that somebody else has replaced, and an adapter that is bent so that a law finds its leak.
const LEAK: &[&str] = &[
    "is_leaked_rather_than_freed",
    "uring_zero_copy::a_descriptor_closed_behind_its_back",
    "every_fault_is_found_by_its_law",
];

/// Tests whose figure is memory, of which the sanitizer takes its own share.
const MEASURE_MEMORY: &[&str] = &["eight_thousand_idle_connections_take_ten_mebibytes"];

/// Freed memory that is kept back, to find who still uses it. With the 256 MiB that it is else, what A20 bounds grows.
const ASAN_OPTIONS: &str = "quarantine_size_mb=8";

/// What ThreadSanitizer looks at: the laws over `threads`, and wakes and stops from other threads elsewhere.
const RACES: &[&str] = &[
    "laws::threads::",
    "a13_",
    "wake",
    "stop_from_other_thread",
    "mailbox",
    "dropped_on_another_thread",
];

/// A race that every run of ThreadSanitizer must find.
const PLANTED: &str = "\
static mut COUNT: u32 = 0;

fn main() {
    let count = || unsafe { (&raw mut COUNT).write((&raw const COUNT).read() + 1) };
    let other = std::thread::spawn(count);
    count();
    other.join().unwrap();
}
";

/// AddressSanitizer over the adapters' tests.
///
/// # Errors
///
/// A test failed, or memory was used that is not there, or not given back.
pub(crate) fn addresses() -> Result<Outcome, Failure> {
    if let Err(failure) = nightly_runtime("asan") {
        println!("ci: ======== SKIPPED: NO test ran under AddressSanitizer: {failure}");
        return Ok(Outcome::Skipped(format!("AddressSanitizer ({failure})")));
    }
    let variables = [
        ("RUSTFLAGS", "-Zsanitizer=address"),
        ("CARGO_TARGET_DIR", "target/asan"),
        ("ASAN_OPTIONS", ASAN_OPTIONS),
    ];
    let mut arguments = words("run nightly cargo test --locked -p kraft-adapters --lib --tests --target");
    arguments.extend([TARGET, "--"]);
    for test in LEAK.iter().chain(MEASURE_MEMORY) {
        arguments.extend(["--skip", test]);
    }
    run("rustup", &variables, &arguments)?;
    Ok(Outcome::Passed)
}

/// ThreadSanitizer over what threads share, after a race that it has to find.
///
/// # Errors
///
/// A test failed, there is a race, or the planted one was not found.
pub(crate) fn threads() -> Result<Outcome, Failure> {
    let found = bsd::ensure_rust().and_then(|()| nightly_runtime("tsan"));
    let runtime = match found {
        Ok(runtime) => runtime,
        Err(failure) => {
            println!("ci: ======== SKIPPED: NO test ran under ThreadSanitizer: {failure}");
            return Ok(Outcome::Skipped(format!("ThreadSanitizer ({failure})")));
        }
    };
    // std of rustup's is made without the sanitizer, which then sees races in it that are none; Debian's comes with its
    // source, to be made with it, and without the sanitizer's runtime, which is nightly's.
    let flags = format!(
        "-Zsanitizer=thread -Zexternal-clangrt -Zpre-link-arg=-Wl,--whole-archive -Zpre-link-arg={} \
         -Zpre-link-arg=-Wl,--no-whole-archive",
        runtime.display()
    );
    let variables = [
        ("RUSTFLAGS", flags.as_str()),
        ("CARGO_TARGET_DIR", "target/tsan"),
        ("CARGO_PROFILE_DEV_DEBUG", "line-tables-only"),
        // The first one ends it, with a status of its own.
        ("TSAN_OPTIONS", "halt_on_error=1:exitcode=66"),
    ];
    let options = format!("-Zbuild-std=std,panic_unwind --target {TARGET}");
    planted(&variables, &options)?;
    let command = format!(
        "test --locked {options} -p kraft-adapters --lib --test it -- {} --skip tls::",
        RACES.join(" ")
    );
    bsd::debian(&variables, "/usr/bin/cargo", &command)?;
    Ok(Outcome::Passed)
}

/// Has the planted race found.
fn planted(variables: &[(&str, &str)], options: &str) -> Result<(), Failure> {
    let folder = Path::new("target/tsan/planted");
    let manifest = "[package]\nname = \"planted\"\nedition = \"2024\"\n\n[workspace]\n";
    let written = fs::create_dir_all(folder.join("src"))
        .and_then(|()| fs::write(folder.join("Cargo.toml"), manifest))
        .and_then(|()| fs::write(folder.join("src/main.rs"), PLANTED));
    written.map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    let command = format!("build {options} --manifest-path {}/Cargo.toml", folder.display());
    bsd::debian(variables, "/usr/bin/cargo", &command)?;
    let binary = format!("target/tsan/{TARGET}/debug/planted");
    match run(&binary, variables, &[]) {
        Err(failure) if failure.to_string().ends_with("exit status: 66") => {
            println!("ci: the planted race is found");
            Ok(())
        }
        Err(failure) => Err(failure),
        Ok(()) => Err(Failure::new(
            "ThreadSanitizer does not see a planted race: its word is nothing",
        )),
    }
}

/// The runtime of a sanitizer, as rustup's nightly has it.
fn nightly_runtime(name: &str) -> Result<PathBuf, Failure> {
    let sysroot = output("rustup", &words("run nightly rustc --print sysroot"))
        .map_err(|failure| Failure::new(format!("no nightly toolchain of rustup's: {failure}")))?;
    let path = Path::new(sysroot.trim()).join(format!("lib/rustlib/{TARGET}/lib/librustc-nightly_rt.{name}.a"));
    if path.exists() {
        Ok(path)
    } else {
        Err(Failure::new(format!("{} is missing", path.display())))
    }
}

fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}
