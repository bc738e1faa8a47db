//! The steps by name.

use crate::command::{Failure, cargo, cargo_with};
use crate::{
    bsd, canaries, chaos, counts, coverage, deps, features, fuzz, libuv, models, mutants, page, python, readme,
    sanitizers, simulate, syscalls,
};

/// What `cargo ci NAME` runs.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn() -> Result<Outcome, Failure>,
}

/// How a step that did not fail ended.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// A part of it could not be run here; the closing table says which.
    Skipped(String),
}

impl Outcome {
    /// Of two parts of a step: what either skipped is skipped.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Skipped(one), Self::Skipped(other)) if one == other => Self::Skipped(one),
            (Self::Skipped(one), Self::Skipped(other)) => Self::Skipped(format!("{one}; {other}")),
            (Self::Passed, end) | (end, Self::Passed) => end,
        }
    }
}

/// What must hold before a change lands, the quick ones first.
pub(crate) const ALL: &[&str] = &[
    "fmt", "deps", "codegen", "clippy", "doc", "test", "simulate", "tls", "libuv", "python", "loom", "canaries",
    "syscalls", "chaos", "tsan", "bsd",
];

pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        what: "the source is formatted by rustfmt",
        run: fmt,
    },
    Step {
        name: "clippy",
        what: "no warning of the compiler or of clippy, with all, with default and with the fewest features",
        run: clippy,
    },
    Step {
        name: "test",
        what: "the test command of README.md",
        run: test,
    },
    Step {
        name: "simulate",
        what: "2,000 clusters for a simulated minute each, under faults, and some of them twice",
        run: simulate::run,
    },
    Step {
        name: "doc",
        what: "the documentation builds without a warning",
        run: doc,
    },
    Step {
        name: "tls",
        what: "the tests of kraftd and kraftctl over TLS, which is not in the default build",
        run: tls,
    },
    Step {
        name: "libuv",
        what: "the tests of the libuv backend, with the system's libuv, installed if it is missing",
        run: libuv::run,
    },
    Step {
        name: "python",
        what: "the client in Python against clusters of kraftd, in each wire format, with packages of PyPI's",
        run: python::run,
    },
    Step {
        name: "deps",
        what: "what depends on what, where unsafe stands, names, documents, licences, bans and sources",
        run: deps::run,
    },
    Step {
        name: "codegen",
        what: "the Rust and the descriptor set of protocols/schema/kraft.proto are what its generator makes",
        run: codegen,
    },
    Step {
        name: "bsd",
        what: "the BSDs and macOS from here: no warning of the compiler or of clippy, and kraftd links for FreeBSD",
        run: bsd::short,
    },
    Step {
        name: "bsd-long",
        what: "the same, and kraftd links for NetBSD and OpenBSD too",
        run: bsd::long,
    },
    Step {
        name: "hack",
        what: "every feature alone and every pair builds without a warning, by cargo-hack",
        run: features::run,
    },
    Step {
        name: "loom",
        what: "models of wakes, of stops and of what `threads` share, in every order that threads can meet in",
        run: models::run,
    },
    Step {
        name: "canaries",
        what: "deliberate bugs, planted one at a time, each of which a law has to find",
        run: canaries::run,
    },
    Step {
        name: "asan",
        what: "the adapters' tests under AddressSanitizer, with rustup's nightly",
        run: sanitizers::addresses,
    },
    Step {
        name: "tsan",
        what: "the backend `threads` and the wakers under ThreadSanitizer, after a race that it has to find",
        run: sanitizers::threads,
    },
    Step {
        name: "chaos",
        what: "five kraftd in namespaces of their own, two minutes of faults of processes, networks and disks",
        run: chaos::short,
    },
    Step {
        name: "chaos-long",
        what: "the same for ten minutes, and a planted defect that it has to find",
        run: chaos::long,
    },
    Step {
        name: "mutants",
        what: "Raft with one small change at a time, each of which its tests notice, by cargo-mutants",
        run: mutants::run,
    },
    Step {
        name: "fuzz",
        what: "every target of fuzz/ for half a minute, by cargo-fuzz and rustup's nightly",
        run: fuzz::run,
    },
    Step {
        name: "counts",
        what: "instructions of hot paths and system calls of backends, held against what is recorded in counts/",
        run: counted,
    },
    Step {
        name: "syscalls",
        what: "system calls of backends, as the kernel counts them, held against what is recorded in counts/",
        run: syscalls::run,
    },
    Step {
        name: "coverage",
        what: "which lines of Raft the simulator reaches, by rustup's llvm-tools",
        run: coverage::run,
    },
    Step {
        name: "page",
        what: "pages of kraft-bench in Chromium, light and dark, wide and narrow: nothing sticks out or is missing",
        run: page::run,
    },
    Step {
        name: "long",
        what: "tests in release with many more seeds and none skipped, the demo, benchmarks, and the slow steps",
        run: long,
    },
];

/// The step of this name.
pub(crate) fn find(name: &str) -> Option<&'static Step> {
    STEPS.iter().find(|step| step.name == name)
}

fn fmt() -> Result<Outcome, Failure> {
    cargo(&["fmt", "--all", "--", "--check"])?;
    Ok(Outcome::Passed)
}

fn clippy() -> Result<Outcome, Failure> {
    let (features, outcome) = libuv::all_features();
    // `expect` with a reason warns when its reason is gone; `allow` never does.
    let lints = "-- -D warnings -D clippy::allow_attributes -D clippy::allow_attributes_without_reason";
    let all_targets = words("clippy --workspace --all-targets");
    cargo(&[&all_targets, features, &words(lints)].concat())?;
    // Without `--all-targets` no test is in it: these hold for what ships alone.
    let shipped = "clippy --workspace -- -D warnings -D clippy::unwrap_used -D clippy::todo \
                   -D clippy::unimplemented -D clippy::dbg_macro";
    cargo(&words(shipped))?;
    cargo(&words(
        "clippy -p kraft-raft --no-default-features --features epoll,binary -- -D warnings",
    ))?;
    Ok(outcome)
}

fn test() -> Result<Outcome, Failure> {
    let command = readme::test_command()?;
    let mut words = command.split_whitespace();
    if words.next() != Some("cargo") {
        return Err(Failure::new(format!("README.md: `{command}` is not run by cargo")));
    }
    cargo(&words.collect::<Vec<_>>())?;
    Ok(Outcome::Passed)
}

fn tls() -> Result<Outcome, Failure> {
    cargo(&words("test -p kraft-raft --features tls tls"))?;
    Ok(Outcome::Passed)
}

fn doc() -> Result<Outcome, Failure> {
    let (features, outcome) = libuv::all_features();
    let command = words("doc --workspace --no-deps");
    cargo_with(&[("RUSTDOCFLAGS", "-D warnings")], &[&command, features].concat())?;
    Ok(outcome)
}

fn codegen() -> Result<Outcome, Failure> {
    cargo(&words("run -q -p kraft-codegen -- --check"))?;
    Ok(Outcome::Passed)
}

/// What does not move with the machine's noise. The system calls first: they take seconds, and `all` has them too.
fn counted() -> Result<Outcome, Failure> {
    Ok(syscalls::run()?.and(counts::run()?))
}

fn long() -> Result<Outcome, Failure> {
    // What this machine cannot show is skipped by `test`, loudly, and fails here.
    cargo_with(
        &[("KRAFT_NO_SKIP", "1")],
        &words("test -p kraft-adapters --test it laws::epoll"),
    )?;
    // A script takes tens of milliseconds on real sockets; each runs on every backend.
    cargo_with(
        &[("KRAFT_SEEDS", "2000")],
        &words("test -p kraft-adapters --release --test it random_scripts"),
    )?;
    // A seed of Raft alone takes milliseconds, one of whole nodes with their disks some tens of them.
    cargo_with(
        &[("KRAFT_SEEDS", "20000")],
        &words("test -p kraft-core --release --test it random"),
    )?;
    simulate::many()?;
    // Processes take their own time: three seconds a seed.
    cargo_with(
        &[("KRAFT_SEEDS", "50"), ("KRAFT_NO_SKIP", "1")],
        &words("test -p kraft-raft --release --test it e2e::"),
    )?;
    // Other people's loops, cores and programs are in no default build.
    cargo(&words("test -p kraft-bench --features cluster,rivals"))?;
    cargo(&words("run --release --bin kraftd -- demo"))?;
    // Targets of kind bench alone: libraries and binaries have no figures to print.
    cargo(&words("bench --workspace --bench *"))?;
    // Features change seldom, and a hundred combinations take minutes that `all` has for what changes often.
    let slow = [
        bsd::long,
        chaos::long,
        sanitizers::addresses,
        counted,
        coverage::run,
        mutants::run,
        features::run,
        fuzz::run,
        page::run,
    ];
    slow.into_iter()
        .try_fold(Outcome::Passed, |ended, part| Ok(ended.and(part()?)))
}

fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_made_of_steps_that_exist() {
        for name in ALL {
            assert!(find(name).is_some(), "{name}");
        }
        assert!(!ALL.contains(&"long"));
    }

    #[test]
    fn what_a_part_skips_the_step_skips() {
        let skipped = |what: &str| Outcome::Skipped(what.to_owned());
        let fold = |parts: [Outcome; 3]| parts.into_iter().fold(Outcome::Passed, Outcome::and);
        let passed = Outcome::Passed;
        assert_eq!(fold([passed.clone(), passed.clone(), passed.clone()]), passed);
        assert_eq!(fold([passed.clone(), skipped("a"), passed.clone()]), skipped("a"));
        assert_eq!(fold([skipped("a"), passed, skipped("b")]), skipped("a; b"));
        assert_eq!(fold([skipped("a"), skipped("a"), skipped("b")]), skipped("a; b"));
    }
}
