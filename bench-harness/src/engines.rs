//! Who is measured: every engine by name, and who it is held against.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::{self, Lacks};
use crate::serve::Task;
use crate::workload::Work;
use crate::{bare, cores, faulty, ours};

/// A server loop.
#[derive(Debug)]
pub(crate) struct Engine {
    /// By which it is chosen.
    pub(crate) name: &'static str,
    /// What it is, in a line.
    pub(crate) about: &'static str,
    pub(crate) family: Family,
    pub(crate) nature: Nature,
    /// The engine that its figures are divided by.
    pub(crate) baseline: Option<&'static str>,
    /// How long it looks for work before it sleeps.
    pub(crate) spin: Duration,
    /// Does what it is asked for until the process is killed, or why it was not built.
    pub(crate) serve: Result<Serve, &'static str>,
    /// What it cannot be asked for, and why.
    pub(crate) lacks: Lacks,
}

pub(crate) type Serve = fn(&Task) -> io::Result<()>;

/// Where an engine comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Family {
    /// A backend of `kraft-adapters`, through its concrete type.
    Kraft,
    /// Written by hand on the bare mechanism.
    Bare,
    /// Somebody else's.
    Rival,
    /// Does wrong, so that tests see it noticed. Never run unless it is named.
    Faulty,
}

/// What an engine is, and so what it can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// An event loop. Those that are backends of Kraft's run nodes too.
    Loop,
    /// Raft alone.
    Core,
    /// Another program's three nodes.
    Cluster,
}

/// How long engines whose name ends so look for work before they sleep. A round trip over loopback between two
/// spinning cores takes 6 µs, one with a sleeping end 20 to 70, so this outlasts both.
pub(crate) const SPIN: Duration = Duration::from_micros(50);

/// A function, or why it is not there.
macro_rules! built {
    ($condition:meta, $serve:expr, $otherwise:literal) => {{
        #[cfg($condition)]
        let serve: Result<Serve, &'static str> = Ok($serve);
        #[cfg(not($condition))]
        let serve: Result<Serve, &'static str> = Err($otherwise);
        serve
    }};
}

/// A backend of ours and its spinning variant.
const fn backend(
    name: &'static str,
    spinning: &'static str,
    baseline: &'static str,
    about: &'static str,
    serve: Result<Serve, &'static str>,
) -> [Engine; 2] {
    let calm = Engine {
        name,
        about,
        family: Family::Kraft,
        nature: Nature::Loop,
        baseline: Some(baseline),
        spin: Duration::ZERO,
        serve,
        lacks: job::NOTHING,
    };
    let spinning = Engine {
        name: spinning,
        about: "the same, spinning for 50 µs before it sleeps",
        family: Family::Kraft,
        nature: Nature::Loop,
        baseline: Some(name),
        spin: SPIN,
        serve,
        lacks: job::NOTHING,
    };
    [calm, spinning]
}

const fn bare(
    name: &'static str,
    baseline: Option<&'static str>,
    about: &'static str,
    serve: Result<Serve, &'static str>,
) -> Engine {
    Engine {
        name,
        about,
        family: Family::Bare,
        nature: Nature::Loop,
        baseline,
        spin: Duration::ZERO,
        serve,
        lacks: job::TIMERS,
    }
}

const fn faulty(name: &'static str, baseline: Option<&'static str>, about: &'static str, serve: Serve) -> Engine {
    Engine {
        name,
        about,
        family: Family::Faulty,
        nature: Nature::Loop,
        baseline,
        spin: Duration::ZERO,
        serve: Ok(serve),
        lacks: job::ALL_BUT_CONNECTIONS,
    }
}

/// The hand-written loop that readiness backends are held against, where there is epoll.
const EPOLL: &str = "raw-epoll-et";

/// And where there is kqueue.
const KQUEUE: &str = "raw-kqueue";

/// That of this system. epoll is Linux's own.
pub(crate) const REFERENCE: &str = if cfg!(target_os = "linux") { EPOLL } else { KQUEUE };

// The systems: epoll and io_uring are Linux's own.
static KRAFT: [[Engine; 2]; 5] = [
    backend(
        "epoll",
        "epoll+spin",
        REFERENCE,
        "Kraft over edge-triggered epoll",
        built!(
            all(feature = "epoll", target_os = "linux"),
            |task| ours::serve(kraft_adapters::Epoll::open, task),
            "needs Linux and feature epoll"
        ),
    ),
    backend(
        "io-uring",
        "io-uring+spin",
        REFERENCE,
        "Kraft over io_uring",
        built!(
            all(feature = "io-uring", target_os = "linux"),
            |task| ours::serve(kraft_adapters::Uring::open, task),
            "needs Linux and feature io-uring"
        ),
    ),
    backend(
        "kqueue",
        "kqueue+spin",
        REFERENCE,
        "Kraft over kqueue; on Linux the same code over level-triggered epoll",
        built!(
            feature = "kqueue",
            |task| ours::serve(kraft_adapters::Kqueue::open, task),
            "needs feature kqueue"
        ),
    ),
    backend(
        "libuv",
        "libuv+spin",
        "raw-libuv",
        "Kraft over libuv's polling handles",
        built!(
            feature = "libuv",
            |task| ours::serve(kraft_adapters::Libuv::open, task),
            "needs feature libuv"
        ),
    ),
    backend(
        "threads",
        "threads+spin",
        "raw-readers",
        "Kraft over blocking reader threads and one loop",
        Ok(|task| ours::serve(kraft_adapters::Threads::open, task)),
    ),
];

static BARE: [Engine; 8] = [
    bare(
        EPOLL,
        None,
        "hand-written: edge-triggered epoll, stops at a short read; woken by an eventfd",
        built!(target_os = "linux", bare::epoll::serve_edge, "needs Linux"),
    ),
    Engine {
        spin: SPIN,
        ..bare(
            "raw-epoll-et+spin",
            Some(EPOLL),
            "the same, spinning for 50 µs before it sleeps",
            built!(target_os = "linux", bare::epoll::serve_edge, "needs Linux"),
        )
    },
    bare(
        "raw-epoll-lt",
        Some(EPOLL),
        "hand-written: level-triggered epoll, a read an event; woken by an eventfd",
        built!(target_os = "linux", bare::epoll::serve_level, "needs Linux"),
    ),
    Engine {
        // On NetBSD (whose system has it from version 10 on) and OpenBSD the crates show no event that a program triggers.
        lacks: if cfg!(any(
            target_vendor = "apple",
            target_os = "dragonfly",
            target_os = "freebsd"
        )) {
            job::TIMERS
        } else {
            job::KQUEUE
        },
        ..bare(
            KQUEUE,
            if cfg!(target_os = "linux") { Some(EPOLL) } else { None },
            "hand-written: kqueue, told of changes alone, stops at a short read; woken by an EVFILT_USER",
            built!(
                have_kqueue,
                bare::kqueue::serve,
                "needs kqueue, which the BSDs and macOS have"
            ),
        )
    },
    bare(
        "raw-io-uring",
        Some(EPOLL),
        "hand-written: io_uring, deferred task-run, multishot receive, buffer ring; woken by an eventfd",
        built!(
            all(feature = "io-uring", target_os = "linux"),
            bare::uring::serve,
            "needs Linux and feature io-uring"
        ),
    ),
    Engine {
        lacks: job::NOTHING,
        ..bare(
            "raw-libuv",
            Some(REFERENCE),
            "libuv in C: uv_tcp_t, uv_try_write, then uv_write; uv_async_t, uv_timer_t",
            built!(
                have_libuv,
                bare::libuv::serve,
                "needs feature libuv and the library's development files (libuv1-dev)"
            ),
        )
    },
    Engine {
        lacks: job::ALL_BUT_CONNECTIONS,
        ..bare(
            "raw-threads",
            Some(REFERENCE),
            "hand-written: a blocking thread a connection, no loop",
            Ok(bare::threads::serve),
        )
    },
    bare(
        "raw-readers",
        Some(REFERENCE),
        "hand-written: a reader thread a connection and one loop; woken through its channel",
        Ok(bare::readers::serve),
    ),
];

const fn rival(name: &'static str, lacks: Lacks, about: &'static str, serve: Result<Serve, &'static str>) -> Engine {
    Engine {
        family: Family::Rival,
        lacks,
        ..bare(name, Some(REFERENCE), about, serve)
    }
}

static RIVALS: [Engine; 5] = [
    rival(
        "tokio",
        job::NOTHING,
        "tokio on one thread, a task a connection",
        built!(feature = "rivals", crate::rivals::tokio::serve, "needs feature rivals"),
    ),
    rival(
        "mio",
        job::TIMERS,
        "mio alone, edge-triggered",
        built!(feature = "rivals", bare::mio::serve, "needs feature rivals"),
    ),
    rival(
        "polling",
        job::TIMERS,
        "polling alone, level-triggered",
        built!(feature = "rivals", bare::polling::serve, "needs feature rivals"),
    ),
    rival(
        "monoio",
        job::MONOIO,
        "monoio over io_uring, a task a connection",
        built!(
            all(feature = "rivals", target_os = "linux"),
            crate::rivals::monoio::serve,
            "needs Linux and feature rivals"
        ),
    ),
    rival(
        "compio",
        job::COMPIO,
        "compio over io_uring, a task a connection",
        built!(
            all(feature = "rivals", target_os = "linux"),
            crate::rivals::compio::serve,
            "needs Linux and feature rivals"
        ),
    ),
];

/// The core that the others are held against.
const CORE: &str = "kraft-core";

const fn core(name: &'static str, about: &'static str, serve: Result<Serve, &'static str>) -> Engine {
    Engine {
        nature: Nature::Core,
        ..rival(name, job::NOTHING, about, serve)
    }
}

static CORES: [Engine; 3] = [
    Engine {
        family: Family::Kraft,
        baseline: None,
        ..core(CORE, "Kraft's Raft alone", Ok(cores::kraft::serve))
    },
    Engine {
        baseline: Some(CORE),
        ..core(
            "raft-rs",
            "TiKV's Raft alone, its RawNode over its MemStorage",
            built!(feature = "rivals", cores::raft_rs::serve, "needs feature rivals"),
        )
    },
    Engine {
        baseline: Some(CORE),
        ..core(
            "openraft",
            "openraft alone, on tokio with one thread, without which it does not run",
            built!(feature = "rivals", cores::openraft::serve, "needs feature rivals"),
        )
    },
];

static CLUSTERS: [Engine; 1] = [Engine {
    baseline: None,
    nature: Nature::Cluster,
    ..rival(
        "etcd",
        job::NOTHING,
        "three etcd that are installed, by gRPC, with its own batches and files",
        built!(
            all(feature = "cluster", feature = "rivals"),
            no_loop,
            "needs features cluster and rivals"
        ),
    )
}];

/// What is asked of another program is asked by [`cluster`](crate::cluster).
#[cfg(all(feature = "cluster", feature = "rivals"))]
fn no_loop(_: &Task) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "it is a program of its own"))
}

static FAULTY: [Engine; 12] = [
    faulty(
        "test-hoards",
        None,
        "keeps for a client whatever it does not read",
        faulty::hoard,
    ),
    faulty("test-bent", None, "bends a bit now and then", faulty::bend),
    faulty("test-dies", None, "ends at the first bytes", faulty::die),
    faulty("test-hangs", None, "answers once, then never", faulty::hang),
    faulty("test-stops", None, "answers 200 messages, then none", faulty::stop),
    faulty("test-starves", None, "answers all connections but one", faulty::starve),
    faulty(
        "test-fidgets",
        None,
        "works while nothing is asked of it",
        faulty::fidget,
    ),
    faulty(
        "test-trickles",
        None,
        "answers a byte at a time, each later than the one before",
        faulty::trickle,
    ),
    Engine {
        lacks: job::NOTHING,
        ..faulty(
            "test-interrupts",
            None,
            "sends its parent a SIGINT, and then nothing",
            faulty::interrupt,
        )
    },
    Engine {
        lacks: job::NOTHING,
        ..faulty("test-deaf", None, "loses wakes, and is no node", faulty::deaf)
    },
    faulty(STEADY, None, "takes 20 µs for a message", faulty::steady),
    faulty(SLOW, Some(STEADY), "a tenth slower than test-steady", faulty::slow),
];

/// Two whose ratio is known: the second answers 10 messages where the first answers 11.
pub(crate) const STEADY: &str = "test-steady";
pub(crate) const SLOW: &str = "test-slow";

/// Those of a quick run: what one would choose, and what that is held against.
const QUICK: &[&str] = &[
    // What is built of the two.
    if cfg!(target_os = "linux") { "epoll" } else { "kqueue" },
    "io-uring",
    "threads",
    "libuv",
    REFERENCE,
    "raw-io-uring",
    "raw-libuv",
    "raw-readers",
];

/// All engines, ours first.
pub(crate) fn all() -> impl Iterator<Item = &'static Engine> {
    KRAFT
        .iter()
        .flatten()
        .chain(&BARE)
        .chain(&RIVALS)
        .chain(&CORES)
        .chain(&CLUSTERS)
        .chain(&FAULTY)
}

/// The engine of this name. Behind a `#` stands what tells two entries of the same engine apart.
pub(crate) fn find(name: &str) -> Option<&'static Engine> {
    let name = name.split('#').next().unwrap_or(name);
    all().find(|engine| engine.name == name)
}

impl Engine {
    /// Whether it can be asked for it.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub(crate) fn answers(&self, work: Work) -> Result<(), &'static str> {
        match self.nature {
            Nature::Loop if work.is_of_cores() => return Err("it is a loop, and has no Raft"),
            Nature::Core if !work.is_of_cores() => return Err("it is Raft alone, without a loop"),
            Nature::Cluster if !work.is_of_clusters() => return Err("it is a program of its own, and no loop"),
            Nature::Cluster => return self.serve.map(drop),
            _ => {}
        }
        if work.is_of_clusters() {
            return match self.family {
                _ if cfg!(not(feature = "cluster")) => Err("needs feature cluster"),
                Family::Kraft if self.is_spinning() => Err("nodes spin by a setting of their own"),
                Family::Kraft => Ok(()),
                // A node that ends at once.
                Family::Faulty => Ok(()),
                _ => Err("no node runs on it"),
            };
        }
        match self.lacks.iter().find(|(lacks, _)| *lacks == work.job()) {
            Some((_, why)) => Err(why),
            None => Ok(()),
        }
    }

    /// Whether it takes part if nobody chose.
    pub(crate) fn is_default(&self) -> bool {
        self.family != Family::Faulty && self.serve.is_ok()
    }

    /// Whether it takes part in a quick run.
    pub(crate) fn is_quick(&self) -> bool {
        self.nature != Nature::Loop || QUICK.contains(&self.name)
    }

    pub(crate) fn is_spinning(&self) -> bool {
        !self.spin.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_baselines_exist() {
        let names: Vec<&str> = all().map(|engine| engine.name).collect();
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name), "{name} twice");
            assert!(!name.contains(['#', ',']), "{name} could not be chosen");
        }
        for engine in all() {
            if let Some(baseline) = engine.baseline {
                assert!(find(baseline).is_some(), "{}: {baseline}", engine.name);
                assert_ne!(baseline, engine.name);
            }
        }
    }

    #[test]
    fn a_quick_run_has_engines_that_exist_and_their_baselines() {
        for name in QUICK {
            let engine = find(name).unwrap_or_else(|| panic!("{name} is no engine"));
            assert!(
                engine.baseline.is_none_or(|baseline| QUICK.contains(&baseline)),
                "{name}"
            );
        }
    }

    #[test]
    fn spinning_is_told_by_the_name() {
        for engine in all() {
            assert_eq!(engine.is_spinning(), engine.name.ends_with("+spin"), "{}", engine.name);
        }
    }

    #[test]
    fn an_engine_may_enter_twice() {
        let once = find("raw-threads#2").expect("the label does not count");
        assert_eq!(once.name, "raw-threads");
        assert!(find("raw-thread").is_none());
    }
}
