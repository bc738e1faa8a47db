//! The BSDs and macOS from Linux: checked and linted for each, `kraftd` linked for those whose libraries can be had.
//!
//! Debian's rustc builds the standard library from its own source (`-Zbuild-std`), so that no target has to be
//! downloaded. PyPI's zig knows the symbols of the BSDs' libraries with their versions: what links is there. Nothing
//! of it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::command::{Failure, run as run_program};
use crate::debian::install;
use crate::python;
use crate::steps::Outcome;

/// Checked and linted: of the first also tests and benchmarks, which hardly differ between them.
const CHECKED: &[&str] = &[
    "x86_64-unknown-freebsd",
    "x86_64-unknown-netbsd",
    "x86_64-unknown-openbsd",
    "x86_64-apple-darwin",
];

/// Linked, the first in every run, and what zig calls it. There is no macOS among them: its frameworks are Apple's.
const LINKED: &[(&str, &str)] = &[
    ("x86_64-unknown-freebsd", "x86_64-freebsd.14.2"),
    ("x86_64-unknown-netbsd", "x86_64-netbsd.10.1"),
    ("x86_64-unknown-openbsd", "x86_64-openbsd"),
];

/// rustup's own are for one system, and cannot build a standard library; these can.
const PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];

/// What the packages put where.
const INSTALLED: &[&str] = &[
    "/usr/bin/rustc",
    "/usr/bin/cargo",
    "/usr/bin/cargo-clippy",
    "/usr/lib/rustlib/src/rust/library/Cargo.lock",
];

/// Everything of the step: artefacts of all these targets, and what links them.
const FOLDER: &str = "target/bsd";

/// Checks and lints for all, and links for one: that takes minutes a target, and differs seldom between them.
///
/// # Errors
///
/// Something does not compile, has a warning, or does not link.
pub(crate) fn short() -> Result<Outcome, Failure> {
    run(&LINKED[..1])
}

/// The same, and links for all.
///
/// # Errors
///
/// As [`short`].
pub(crate) fn long() -> Result<Outcome, Failure> {
    run(LINKED)
}

fn run(linked: &[(&str, &str)]) -> Result<Outcome, Failure> {
    if let Err(failure) = ensure_rust() {
        println!("ci: ======== SKIPPED: the BSDs and macOS are NOT looked at: {failure}");
        return Ok(Outcome::Skipped(format!("the BSDs and macOS ({failure})")));
    }
    for (at, target) in CHECKED.iter().enumerate() {
        check(target, if at == 0 { "--all-targets " } else { "" })?;
    }
    let zig = match ensure_zig() {
        Ok(zig) => zig,
        Err(failure) => {
            println!("ci: ======== SKIPPED: kraftd is NOT linked for any BSD: {failure}");
            return Ok(Outcome::Skipped(format!("linking ({failure})")));
        }
    };
    for (target, name) in linked {
        link(target, name, &zig)?;
    }
    Ok(Outcome::Passed)
}

/// Brings Debian's Rust here if it is not.
///
/// # Errors
///
/// It cannot be had.
pub(crate) fn ensure_rust() -> Result<(), Failure> {
    let is_here = || INSTALLED.iter().all(|path| Path::new(path).exists());
    if is_here() {
        return Ok(());
    }
    println!("ci: Debian's Rust, which has the source of the standard library, is missing; installing it");
    install(PACKAGES)?;
    if is_here() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} were installed, and not all of {} is there",
        PACKAGES.join(", "),
        INSTALLED.join(", ")
    )))
}

fn check(target: &str, parts: &str) -> Result<(), Failure> {
    // `ci` is for Linux. Where a thread-local is a key of the system's, clippy takes the macro's own expansion for an
    // initializer that is not const.
    let command = format!(
        "clippy --locked -Zbuild-std=std,panic_abort --target {target} --workspace --exclude ci {parts}-- \
         -D warnings -A clippy::missing_const_for_thread_local"
    );
    // Not by way of cargo, which would find rustup's `cargo-clippy` first.
    debian(&[("CARGO_TARGET_DIR", FOLDER)], "/usr/bin/cargo-clippy", &command)
}

fn link(target: &str, name: &str, zig: &Path) -> Result<(), Failure> {
    let linker = linker(target, name, zig)?;
    let variable = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    let command = format!("build --locked -Zbuild-std=std,panic_abort --target {target} -p kraft-raft --bin kraftd");
    // Nobody debugs these: half of the time would go into what a debugger reads.
    let variables = [
        ("CARGO_TARGET_DIR", FOLDER),
        ("CARGO_PROFILE_DEV_DEBUG", "false"),
        (variable.as_str(), linker.as_str()),
    ];
    debian(&variables, "/usr/bin/cargo", &command)
}

/// Runs a program of Debian's with Debian's rustc.
pub(crate) fn debian(variables: &[(&str, &str)], program: &str, command: &str) -> Result<(), Failure> {
    let own = [
        // `cargo-clippy` runs the cargo that is named here; rustup's, which runs this program, is so far.
        ("CARGO", "/usr/bin/cargo"),
        ("RUSTC", "/usr/bin/rustc"),
        // A released rustc that takes `-Z`.
        ("RUSTC_BOOTSTRAP", "1"),
    ];
    let words: Vec<&str> = command.split_whitespace().collect();
    run_program(program, &[&own, variables].concat(), &words)
}

/// The Python in whose environment zig is.
fn ensure_zig() -> Result<PathBuf, Failure> {
    let folder = format!("{FOLDER}/zig");
    let python = fs::canonicalize(".")
        .map_err(|error| Failure::new(format!("the current folder: {error}")))?
        .join(&folder)
        .join("bin/python");
    let version = ["-m", "ziglang", "version"];
    let shown = python.to_string_lossy().into_owned();
    if python.exists() && run_program(&shown, &[], &version).is_ok() {
        return Ok(python);
    }
    python::environment(&folder)?;
    run_program(&shown, &[], &["-m", "pip", "install", "--quiet", "ziglang"])?;
    run_program(&shown, &[], &version)?;
    Ok(python)
}

/// Writes the linker of a target: zig, without the libraries that it has not and of which rustc asks in vain.
fn linker(target: &str, name: &str, zig: &Path) -> Result<String, Failure> {
    let path = zig.with_file_name(format!("link-{target}"));
    let script = format!(
        "#!/bin/sh\n\
         for word in \"$@\"; do\n\
         \x20   shift\n\
         \x20   case \"$word\" in\n\
         \x20   -lgcc_s) set -- \"$@\" -lunwind ;;\n\
         \x20   -lkvm | -lmemstat | -lprocstat | -ldevstat) ;;\n\
         \x20   *) set -- \"$@\" \"$word\" ;;\n\
         \x20   esac\n\
         done\n\
         exec '{}' -m ziglang cc -target {name} \"$@\"\n",
        zig.display()
    );
    let written = fs::write(&path, script).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
    written.map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    Ok(path.to_string_lossy().into_owned())
}
