//! Which versions of other people's crates are in the program, as `build.rs` notes them. A test has it too.

/// Crates that loops, Raft cores and their clients are made of, by the feature that brings them; mio is the load's, too.
pub(crate) const CRATES: [(Option<&str>, &str); 9] = [
    (None, "mio"),
    (Some("io-uring"), "io-uring"),
    (Some("kqueue"), "polling"),
    (Some("rivals"), "compio"),
    (Some("rivals"), "h2"),
    (Some("rivals"), "monoio"),
    (Some("rivals"), "openraft"),
    (Some("rivals"), "raft"),
    (Some("rivals"), "tokio"),
];

/// The version of a crate that a package depends on, as a lock file has it; `None` if it does not say.
pub(crate) fn locked<'a>(lock: &'a str, package: &str, krate: &str) -> Option<&'a str> {
    // Where there are several versions the package says which one is meant.
    let (_, own) = lock.split_once(&format!("name = \"{package}\"\n"))?;
    let own = own.split("[[package]]").next()?;
    let mut names = own
        .lines()
        .filter_map(|line| line.trim().trim_end_matches(',').strip_prefix('"'));
    let mut words = names.find_map(|name| {
        let words = name.trim_end_matches('"').split(' ');
        (words.clone().next() == Some(krate)).then_some(words)
    })?;
    if let Some(version) = words.nth(1) {
        return Some(version);
    }
    let (_, entry) = lock.split_once(&format!("name = \"{krate}\"\nversion = \""))?;
    entry.split('"').next()
}
