//! Packages of Debian's, installed where they are missing.

use crate::command::{Failure, run};

/// Installs packages, with what they need and nothing that they recommend.
///
/// # Errors
///
/// This is no Debian, nobody may install here, or the packages cannot be had.
pub(crate) fn install(packages: &[&str]) -> Result<(), Failure> {
    let quiet = &[("DEBIAN_FRONTEND", "noninteractive")];
    run("apt-get", quiet, &["update"])?;
    run(
        "apt-get",
        quiet,
        &[&["install", "--yes", "--no-install-recommends"], packages].concat(),
    )
}
