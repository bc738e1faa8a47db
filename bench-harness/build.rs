//! Notes what is built, and compiles the loop in C with the feature `libuv`.

use std::process::Command;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(have_libuv)");
    println!("cargo::rerun-if-changed=src/bare/loop_uv.c");
    note_source();
    #[cfg(feature = "libuv")]
    build();
}

/// The commit and the compiler, for the environment that a run records. Neither is there in a published package.
fn note_source() {
    if let Some(log) = said("git", &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    if let Some(commit) = said("git", &["rev-parse", "--short=12", "HEAD"]) {
        let is_changed = said("git", &["status", "--porcelain", "--untracked-files=no"]).is_some();
        println!(
            "cargo::rustc-env=KRAFT_BENCH_COMMIT={commit}{}",
            if is_changed { "+" } else { "" }
        );
    }
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    if let Some(version) = said(&compiler, &["--version"]) {
        println!("cargo::rustc-env=KRAFT_BENCH_COMPILER={version}");
    }
}

/// What a command says, if it succeeds and says anything.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
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
