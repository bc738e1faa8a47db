//! Notes what is built, and compiles the loop in C with the feature `libuv`.

use std::path::Path;
use std::process::Command;

#[path = "build/commit.rs"]
mod commit;
#[path = "build/versions.rs"]
mod versions;

/// Systems with kqueue.
const KQUEUE: &[&str] = &["dragonfly", "freebsd", "macos", "netbsd", "openbsd"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(have_libuv)");
    println!("cargo::rustc-check-cfg=cfg(have_kqueue)");
    let system = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if KQUEUE.contains(&system.as_str()) {
        println!("cargo::rustc-cfg=have_kqueue");
    }
    note_source();
    #[cfg(feature = "libuv")]
    build();
}

/// Commit, compiler, and versions of crates, for the environment that a run records. A published package has no commit, and
/// no lock file of a workspace around it: whoever builds it may have other versions than its own lock file says.
fn note_source() {
    // Cargo runs this again when one of them changes, and so says of every program what it was built from.
    for path in commit::SOURCES.iter().filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    for path in commit::traces(Path::new(".")) {
        println!("cargo::rerun-if-changed={path}");
    }
    if let Some(commit) = commit::of(Path::new(".")) {
        println!("cargo::rustc-env=KRAFT_BENCH_COMMIT={commit}");
    }
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    if let Some(version) = version(&compiler) {
        println!("cargo::rustc-env=KRAFT_BENCH_COMPILER={version}");
    }
    let lock = std::fs::read_to_string("../Cargo.lock").unwrap_or_default();
    let is_on = |feature: &str| {
        let name = feature.to_uppercase().replace('-', "_");
        std::env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
    };
    let built = versions::CRATES.iter().filter(|(feature, _)| feature.is_none_or(is_on));
    let known =
        built.filter_map(|(_, krate)| Some(format!("{krate} {}", versions::locked(&lock, "kraft-bench", krate)?)));
    println!(
        "cargo::rustc-env=KRAFT_BENCH_CRATES={}",
        known.collect::<Vec<_>>().join(",")
    );
}

/// What a compiler says of itself.
fn version(compiler: &str) -> Option<String> {
    let output = Command::new(compiler).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(feature = "libuv")]
fn build() {
    // 1.19 has all that is called; the link arguments come with the probe, behind the C code's own.
    let library = match pkg_config::Config::new()
        .atleast_version("1.19")
        .cargo_metadata(false)
        .probe("libuv")
    {
        Ok(library) => library,
        // kraft-adapters, which has the same feature, ends its build with what to install.
        Err(error) => {
            println!("cargo::warning=raw-libuv is not built: {error}");
            return;
        }
    };
    // GNU: the headers of libuv use types of POSIX.
    cc::Build::new()
        .file("src/bare/loop_uv.c")
        .includes(&library.include_paths)
        .std("gnu11")
        .warnings_into_errors(false)
        .compile("kraft_bench_loop_uv");
    for path in &library.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    for name in &library.libs {
        println!("cargo::rustc-link-lib={name}");
    }
    println!("cargo::rustc-cfg=have_libuv");
}
