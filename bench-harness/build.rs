//! Compiles the loop in C with the feature `libuv`.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(have_libuv)");
    println!("cargo::rerun-if-changed=src/bare/loop_uv.c");
    #[cfg(feature = "libuv")]
    build();
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
