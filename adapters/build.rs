//! Finds the system's libuv for the feature `libuv`, and does nothing without it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "libuv")]
    find_libuv();
}

/// The oldest libuv with `uv_handle_get_data` and `uv_handle_type_name`.
#[cfg(feature = "libuv")]
const LIBUV: &str = "1.19";

#[cfg(feature = "libuv")]
fn find_libuv() {
    // docs.rs has no libuv, and documentation is not linked.
    println!("cargo::rerun-if-env-changed=DOCS_RS");
    if std::env::var_os("DOCS_RS").is_some() {
        return;
    }
    if let Err(error) = pkg_config::Config::new().atleast_version(LIBUV).probe("libuv") {
        eprintln!(
            "The feature `libuv` of kraft-adapters links the system's libuv, {LIBUV} or later, which pkg-config does \
             not find: install it with its headers (Debian: libuv1-dev and pkg-config; FreeBSD: libuv and pkgconf), \
             set PKG_CONFIG_PATH to its libuv.pc, or build without the feature.\n\n{error}"
        );
        std::process::exit(1);
    }
}
