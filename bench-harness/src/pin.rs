//! What a process is given: a core, open files, and an end when its parent ends.

use std::io;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beside connections: stdio, a listener, the loop's own, pipes.
const BESIDE_CONNECTIONS: u64 = 64;

/// The cores that this process may use, ascending. Empty where the system does not say.
pub(crate) fn cores() -> Vec<usize> {
    // Affinity in this form is Linux's.
    #[cfg(target_os = "linux")]
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        return (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|core| set.is_set(*core))
            .collect();
    }
    Vec::new()
}

/// Binds this thread, and those that it starts, to a core.
///
/// # Errors
///
/// The system's; the text names the core.
pub(crate) fn to_core(core: usize) -> io::Result<()> {
    // Affinity in this form is Linux's; elsewhere `cores` is empty and nobody asks.
    #[cfg(target_os = "linux")]
    {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        rustix::thread::sched_setaffinity(None, &set).map_err(|error| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("bind to core {core}: {error}"))
        })?;
    }
    let _ = core;
    Ok(())
}

/// Whether a parent's end has to be told by a pipe, since the system does not.
pub(crate) const IS_LEASHED: bool = cfg!(not(target_os = "linux"));

/// Ends this process when the thread that started it ends, so that a killed run leaves no server behind.
pub(crate) fn die_with_parent() {
    // Linux alone has it; elsewhere see `end_with_input`.
    #[cfg(target_os = "linux")]
    {
        let kill = rustix::process::Signal::KILL;
        // Without it nothing is measured otherwise.
        let _ = rustix::process::set_parent_process_death_signal(Some(kill));
    }
}

/// Ends this process when its standard input does: a pipe that the parent holds and never writes to, and which ends with
/// the parent however that ends. It takes a thread, which sleeps.
pub(crate) fn end_with_input() {
    thread::spawn(|| {
        let mut input = io::stdin().lock();
        // A write would be a mistake, and is no end.
        let _ = io::copy(&mut input, &mut io::sink());
        std::process::exit(ORPHANED);
    });
}

/// The exit status of a server whose run is gone. Nobody is there to see it.
pub(crate) const ORPHANED: i32 = 1;

/// Raises the soft limit of open files so that `connections` fit, and never lowers it.
///
/// # Errors
///
/// The hard limit is below that; the text says how to raise it.
pub(crate) fn raise_open_files(connections: usize) -> io::Result<()> {
    let needed = connections as u64 + BESIDE_CONNECTIONS;
    let limit = getrlimit(Resource::Nofile);
    // `None` is no limit.
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(needed),
        // Root may raise the hard limit too.
        maximum: limit.maximum.map(|maximum| maximum.max(needed)),
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| {
        let has = limit.maximum.unwrap_or(needed);
        let text = format!(
            "{connections} connections need {needed} open files in each of two processes, and one may have {has} \
             ({error}): run `ulimit -Hn {needed}` as root first, or fewer connections (--conns)"
        );
        io::Error::other(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_open_files_are_refused_with_the_command_that_helps() {
        // Above what the kernel lets anybody have (`fs.nr_open` is an int).
        let error = raise_open_files(1 << 40).expect_err("nobody may have so many");
        assert!(error.to_string().contains("ulimit -Hn 1099511627840"), "{error}");
    }
}
