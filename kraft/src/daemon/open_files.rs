//! The limit of open files, raised to what the configuration needs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Failure;

/// Descriptors beside connections: segments of the log, folders, listeners, the event loop's own, stdio.
const BESIDE_CONNECTIONS: u64 = 64;

/// How many open files so many connections need.
pub(super) fn needed(connections: u64) -> u64 {
    connections + BESIDE_CONNECTIONS
}

/// Raises the soft limit of open files so that `connections` fit, and never lowers it.
///
/// A node that runs into the limit could not open a segment of its log because of a flood of clients.
///
/// # Errors
///
/// The hard limit is below that.
pub(super) fn raise(connections: u64) -> Result<(), Failure> {
    let needed = needed(connections);
    let limit = getrlimit(Resource::Nofile);
    // `None` is no limit.
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let too_few = |why: &str| {
        Failure::config(format!(
            "max_connections needs {needed} open files, and {why}: raise the hard limit (ulimit -Hn, LimitNOFILE), or \
             lower max_connections"
        ))
    };
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < needed) {
        return Err(too_few(&format!("this process may have {maximum}")));
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| too_few(&format!("the limit cannot be raised ({error})")))
}
