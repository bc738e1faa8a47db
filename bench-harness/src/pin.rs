//! What a process is given: a core, open files, and an end when its parent ends.

use std::fs;
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

/// Where server and load run; `None` where the system does not say what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) server: Option<usize>,
    pub(crate) load: Option<usize>,
    /// They are threads of one core, which share its units and caches.
    pub(crate) are_siblings: bool,
}

impl Pair {
    /// The first of these cores for the server, for the load the next one that is no `siblings` of it, if there is one.
    pub(crate) fn of(cores: &[usize], siblings: impl Fn(usize) -> Vec<usize>) -> Self {
        let server = cores.first().copied();
        let near = server.map(siblings).unwrap_or_default();
        let mut others = cores.iter().skip(1).copied();
        let apart = others.clone().find(|core| !near.contains(core));
        let load = apart.or_else(|| others.next()).or(server);
        Self {
            server,
            load,
            are_siblings: apart.is_none() && load != server,
        }
    }

    /// Whether both have to take turns, for all that is known.
    pub(crate) fn is_shared(self) -> bool {
        match self.server {
            Some(_) => self.server == self.load,
            None => thread::available_parallelism().is_ok_and(|count| count.get() == 1),
        }
    }
}

/// The hardware threads of the core that one belongs to, itself among them.
pub(crate) fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    parse_list(&fs::read_to_string(path).unwrap_or_default())
}

/// Numbers and spans of them: `0-1,8`.
fn parse_list(text: &str) -> Vec<usize> {
    let spans = text.trim().split(',').filter_map(|span| {
        let (first, last) = span.split_once('-').unwrap_or((span, span));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    });
    spans.flatten().collect()
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
             ({error}): run `ulimit -Hn {needed}` as root first, or ask for fewer connections (--conns, --idle-conns)"
        );
        io::Error::other(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_and_load_share_no_core_if_they_need_not() {
        let check = |cores: &[usize], server, load, are_siblings| {
            // Threads of a core are eight apart, as some processors count them.
            let pair = Pair::of(cores, |core| vec![core % 8, core % 8 + 8]);
            let expected = Pair {
                server,
                load,
                are_siblings,
            };
            assert_eq!(pair, expected, "{cores:?}");
        };
        check(&[], None, None, false);
        check(&[3], Some(3), Some(3), false);
        check(&[0, 1, 8, 9], Some(0), Some(1), false);
        check(&[0, 8, 9], Some(0), Some(9), false);
        check(&[0, 8], Some(0), Some(8), true);
        assert!(Pair::of(&[3], |_| Vec::new()).is_shared());
        assert!(!Pair::of(&[0, 8], |_| Vec::new()).is_shared());
    }

    #[test]
    fn lists_of_cores_have_spans() {
        assert_eq!(parse_list("0-1,8\n"), [0, 1, 8]);
        assert_eq!(parse_list("4"), [4]);
        assert_eq!(parse_list(""), Vec::<usize>::new());
    }

    #[test]
    fn too_few_open_files_are_refused_with_the_command_that_helps() {
        // Above what the kernel lets anybody have (`fs.nr_open` is an int).
        let error = raise_open_files(1 << 40).expect_err("nobody may have so many");
        assert!(error.to_string().contains("ulimit -Hn 1099511627840"), "{error}");
    }
}
