//! The backends by name: which there are, which this program has, and which of them work here.

use std::fmt;
use std::io::{self, ErrorKind};
use std::str::FromStr;

use crate::any::Any;
use crate::choice::ParseError;
use crate::config::Config;

/// A backend that can be chosen by name, whether this program has it or not.
///
/// `mock` is none of them: it is for tests, which make it themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Backend {
    /// Linux's epoll, edge-triggered.
    Epoll,
    /// The BSDs' and macOS' kqueue; over epoll on Linux, to be tried out there.
    Kqueue,
    /// Linux's io_uring.
    IoUring,
    /// Threads that block, for where there is nothing better.
    Threads,
    /// The system's libuv.
    Libuv,
}

/// What `auto` tries, best first. kqueue over epoll is no better than epoll, and libuv is for programs that have it.
const AUTO: &[Backend] = if is_linux() {
    &[Backend::IoUring, Backend::Epoll, Backend::Threads]
} else {
    &[Backend::Kqueue, Backend::Threads]
};

/// The systems that have epoll and io_uring.
const fn is_linux() -> bool {
    cfg!(any(target_os = "android", target_os = "linux"))
}

impl Backend {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Epoll, Self::Kqueue, Self::IoUring, Self::Threads, Self::Libuv];

    /// The name by which it is chosen, which is that of its feature and of its adapter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::Kqueue => "kqueue",
            Self::IoUring => "io-uring",
            Self::Threads => "threads",
            Self::Libuv => "libuv",
        }
    }

    /// Those that this program has, in the order of [`ALL`](Self::ALL).
    #[must_use]
    pub const fn compiled() -> &'static [Self] {
        Any::BACKENDS
    }

    /// Whether this program has it.
    #[must_use]
    pub fn is_compiled(self) -> bool {
        Self::compiled().contains(&self)
    }

    /// What `auto` tries in this program, best first: io-uring, epoll, threads on Linux; kqueue, threads elsewhere.
    pub fn candidates() -> impl Iterator<Item = Self> {
        AUTO.iter().copied().filter(|backend| backend.is_compiled())
    }

    /// What is to be told when it runs here, if there is something.
    #[must_use]
    pub const fn remark(self) -> Option<&'static str> {
        match self {
            // The crate `polling` stands on epoll where there is no kqueue.
            Self::Kqueue if is_linux() => Some(
                "kqueue runs over epoll on this system, to be tried out: the backend epoll does the same in fewer steps",
            ),
            _ => None,
        }
    }

    /// Which backends work here, in the order of [`ALL`](Self::ALL). Tries what each is made of, whatever the version
    /// of the system.
    #[must_use]
    pub fn detect() -> Vec<(Self, Availability)> {
        let config = Config::default();
        let probed = Self::ALL.iter().map(|backend| (*backend, backend.probe(&config)));
        probed.collect()
    }

    /// Whether it works here: opens an adapter with this configuration, and closes it again.
    #[must_use]
    pub fn probe(self, config: &Config) -> Availability {
        if !self.is_compiled() {
            return Availability::Absent(self.absence());
        }
        match Any::open(self, config) {
            Ok(_) => Availability::Usable,
            Err(error) => Availability::Refused(error),
        }
    }

    /// Why this program has it not.
    fn absence(self) -> Absence {
        let is_elsewhere = match self {
            Self::Epoll => !is_linux(),
            // Android's programs may not use it.
            Self::IoUring => !cfg!(target_os = "linux"),
            Self::Kqueue | Self::Threads | Self::Libuv => false,
        };
        Absence {
            backend: self,
            is_elsewhere,
        }
    }

    /// What opening it comes to in a program that has it not.
    pub(crate) fn absent(self) -> io::Error {
        io::Error::new(ErrorKind::Unsupported, self.absence())
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Backend {
    type Err = ParseError;

    /// Takes the names, and `uring` and `io_uring` besides.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let named = |backend: &&Self| backend.name() == text;
        match (text, Self::ALL.iter().find(named)) {
            (_, Some(backend)) => Ok(*backend),
            ("uring" | "io_uring", None) => Ok(Self::IoUring),
            (_, None) => Err(ParseError::Unknown(text.into())),
        }
    }
}

/// Whether a backend works here. Its text says why not, and what to do.
#[derive(Debug)]
pub enum Availability {
    /// It works.
    Usable,
    /// This program has it not.
    Absent(Absence),
    /// It could not be opened: of kind `Unsupported` if the system refuses what it is made of, else for want of
    /// something.
    Refused(io::Error),
}

impl Availability {
    /// Whether it works.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        matches!(self, Self::Usable)
    }
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable => f.write_str("usable"),
            Self::Absent(absence) => absence.fmt(f),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

/// Why a program has a backend not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    backend: Backend,
    /// No program on this system has it.
    is_elsewhere: bool,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = self.backend;
        if self.is_elsewhere {
            write!(f, "{backend} is not of this system but of Linux: ")?;
        } else {
            write!(
                f,
                "{backend} is not in this build: build with the feature {backend}, or "
            )?;
        }
        f.write_str("use one that is there")?;
        match Backend::compiled() {
            [] => f.write_str(" (there is none: build with a backend's feature)"),
            compiled => write!(f, " ({})", listed(compiled)),
        }
    }
}

impl std::error::Error for Absence {}

/// Names, separated by commas.
pub(crate) fn listed(backends: &[Backend]) -> String {
    let names: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_read_and_shown() {
        for backend in Backend::ALL {
            assert_eq!(backend.name().parse(), Ok(*backend));
            assert_eq!(backend.to_string(), backend.name());
        }
        for alias in ["uring", "io_uring"] {
            assert_eq!(alias.parse(), Ok(Backend::IoUring));
        }
        for wrong in ["", "EPOLL", "epoll ", "mock", "auto"] {
            assert!(wrong.parse::<Backend>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn auto_takes_what_is_compiled_in_and_best_here() {
        let candidates: Vec<_> = Backend::candidates().collect();
        assert!(candidates.iter().all(|backend| backend.is_compiled()));
        assert!(!candidates.contains(&Backend::Libuv));
        assert_eq!(
            candidates.contains(&Backend::Kqueue),
            !is_linux() && Backend::Kqueue.is_compiled()
        );
        let places: Vec<_> = candidates
            .iter()
            .map(|found| AUTO.iter().position(|best| best == found))
            .collect();
        assert!(places.is_sorted(), "{candidates:?}");
    }

    #[test]
    fn what_is_absent_is_told_with_the_cure() {
        let absence = Absence {
            backend: Backend::Libuv,
            is_elsewhere: false,
        };
        let text = absence.to_string();
        assert!(
            text.starts_with("libuv is not in this build: build with the feature libuv, or use one that is there ("),
            "{text}"
        );
        let absence = Absence {
            backend: Backend::Epoll,
            is_elsewhere: true,
        };
        assert!(
            absence
                .to_string()
                .starts_with("epoll is not of this system but of Linux: use one")
        );
    }

    #[test]
    fn every_backend_is_detected_or_says_why_not() {
        for (backend, availability) in Backend::detect() {
            match availability {
                Availability::Usable => assert!(backend.is_compiled()),
                Availability::Absent(_) => assert!(!backend.is_compiled()),
                Availability::Refused(error) => {
                    assert!(backend.is_compiled());
                    assert!(error.to_string().starts_with(backend.name()), "{error}");
                }
            }
        }
    }
}
