//! Which backends a user would have, and the best of them that works here.

use std::fmt;
use std::io::{self, ErrorKind};
use std::str::FromStr;

use crate::any::Any;
use crate::backend::{Backend, listed};
use crate::config::Config;

/// A choice of backends: `auto`, one name, or names in the order in which they are tried.
///
/// One name is strict: it works or it fails. `auto` and a list pass over what is not available, and say so; they never
/// pass over one that is there and lacks memory or descriptors, since the next would lack them too, or run worse
/// without anybody having asked for it.
///
/// ```
/// use kraft_adapters::{Backend, Choice};
///
/// assert!("auto".parse::<Choice>()?.candidates().eq(Backend::candidates()));
/// let strict: Choice = "epoll".parse()?;
/// assert_eq!(strict, Choice::from(Backend::Epoll));
/// let list: Choice = "uring,kqueue".parse()?;
/// assert_eq!(list.to_string(), "io-uring,kqueue");
/// # Ok::<_, kraft_adapters::ParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Choice(Wanted);

#[derive(Clone, Debug, PartialEq, Eq, Default)]
enum Wanted {
    #[default]
    Auto,
    /// `1 <= len <= Backend::ALL.len()`, none of them twice.
    List(Vec<Backend>),
}

/// What a [`Choice`] came to.
#[derive(Debug)]
pub struct Opened {
    /// The first that works.
    pub adapter: Any,
    /// Those before it, which do not: to be told to whoever runs the program. None if one was named alone.
    pub passed_over: Vec<PassedOver>,
}

/// A backend that was tried and is not available. Its text says why, and what to do.
#[derive(Debug)]
pub struct PassedOver {
    /// Which.
    pub backend: Backend,
    /// Why.
    pub why: io::Error,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl Choice {
    /// These, in this order; each counts once.
    ///
    /// # Panics
    ///
    /// If there are none.
    #[must_use]
    pub fn list(backends: impl IntoIterator<Item = Backend>) -> Self {
        let mut list = Vec::new();
        for backend in backends {
            if !list.contains(&backend) {
                list.push(backend);
            }
        }
        assert!(!list.is_empty(), "a choice of nothing");
        Self(Wanted::List(list))
    }

    /// What is tried, in this order.
    pub fn candidates(&self) -> impl Iterator<Item = Backend> {
        let list = match &self.0 {
            Wanted::Auto => Backend::candidates().collect(),
            Wanted::List(list) => list.clone(),
        };
        list.into_iter()
    }

    /// Whether it is left to this crate.
    #[must_use]
    pub const fn is_auto(&self) -> bool {
        matches!(self.0, Wanted::Auto)
    }

    /// Opens the first that is available.
    ///
    /// # Errors
    ///
    /// Of kind `Unsupported` if none is available, with why and what to do for each; else that of the first that is
    /// there and could not be opened: see [`Any::open`].
    pub fn open(&self, config: &Config) -> io::Result<Opened> {
        let (adapter, passed_over) = self.first(|backend| Any::open(backend, config))?;
        Ok(Opened { adapter, passed_over })
    }

    /// What `open` makes of the first candidate that it does not refuse as `Unsupported`, and those that it does.
    fn first<T>(&self, mut open: impl FnMut(Backend) -> io::Result<T>) -> io::Result<(T, Vec<PassedOver>)> {
        let mut passed_over = Vec::new();
        for backend in self.candidates() {
            match open(backend) {
                Ok(opened) => return Ok((opened, passed_over)),
                Err(why) if why.kind() == ErrorKind::Unsupported => passed_over.push(PassedOver { backend, why }),
                Err(error) => return Err(error),
            }
        }
        Err(self.nothing(passed_over))
    }

    fn nothing(&self, mut passed_over: Vec<PassedOver>) -> io::Error {
        if passed_over.len() == 1 {
            return passed_over.remove(0).why;
        }
        let text = if passed_over.is_empty() {
            match Backend::compiled() {
                [] => "this build has no backend: build with the feature of one".to_owned(),
                compiled => format!(
                    "auto takes none of the backends of this build, which are {}: name one of them",
                    listed(compiled)
                ),
            }
        } else {
            let reasons: Vec<_> = passed_over.iter().map(ToString::to_string).collect();
            format!("no backend of {self} is available: {}", reasons.join("; "))
        };
        io::Error::new(ErrorKind::Unsupported, text)
    }
}

impl From<Backend> for Choice {
    fn from(backend: Backend) -> Self {
        Self::list([backend])
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wanted::List(list) = &self.0 else {
            return f.write_str("auto");
        };
        for (place, backend) in list.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{backend}")?;
        }
        Ok(())
    }
}

impl FromStr for Choice {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.trim() == "auto" {
            return Ok(Self(Wanted::Auto));
        }
        let mut list: Vec<Backend> = Vec::new();
        for name in text.split(',').map(str::trim) {
            if name == "auto" {
                return Err(ParseError::AutoInList);
            }
            let backend = name.parse()?;
            if list.contains(&backend) {
                return Err(ParseError::Twice(backend));
            }
            list.push(backend);
        }
        Ok(Self(Wanted::List(list)))
    }
}

/// What is wrong with the name of a backend, or with a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseError {
    /// No backend is called so.
    Unknown(Box<str>),
    /// It stands in the list twice.
    Twice(Backend),
    /// `auto` is a list by itself.
    AutoInList,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(
                f,
                "no backend is called \"{}\": use auto or one of {} (this build has {})",
                name.escape_debug(),
                listed(Backend::ALL),
                match Backend::compiled() {
                    [] => "none".to_owned(),
                    compiled => listed(compiled),
                }
            ),
            Self::Twice(backend) => write!(f, "{backend} stands in the list twice: name it once"),
            Self::AutoInList => f.write_str("auto stands in a list: use it alone, or names alone"),
        }
    }
}

impl std::error::Error for ParseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&[Backend], &str>) {
        match (text.parse::<Choice>(), expected) {
            (Ok(choice), Ok(list)) => {
                assert_eq!(choice, Choice::list(list.iter().copied()));
                assert_eq!(choice.to_string().parse(), Ok(choice));
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, _) => panic!("{text:?}: {got:?}"),
        }
    }

    #[test]
    fn a_choice_is_auto_or_a_list_of_names() {
        assert_eq!(" auto ".parse(), Ok(Choice::default()));
        assert_eq!(Choice::default().to_string(), "auto");
        check("epoll", Ok(&[Backend::Epoll]));
        check(" libuv, threads ", Ok(&[Backend::Libuv, Backend::Threads]));
        check("uring", Ok(&[Backend::IoUring]));
        check("uring,io-uring", Err("io-uring stands in the list twice"));
        check("epoll,auto", Err("auto stands in a list"));
        check("", Err("no backend is called \"\""));
        check("epoll,", Err("no backend is called \"\""));
        check(
            "epol\u{1b}",
            Err("no backend is called \"epol\\u{1b}\": use auto or one of epoll, kqueue, io-uring, threads, libuv"),
        );
    }

    /// What `open` refuses, by kind: everything else opens.
    fn first(choice: &str, refused: &[(Backend, ErrorKind)]) -> io::Result<(Backend, Vec<Backend>)> {
        let choice: Choice = choice.parse().expect("a choice");
        let opened = choice.first(|backend| match refused.iter().find(|(of, _)| *of == backend) {
            Some((_, kind)) => Err(io::Error::new(*kind, format!("{backend}: cause and cure"))),
            None => Ok(backend),
        });
        opened.map(|(backend, passed)| (backend, passed.iter().map(|passed| passed.backend).collect()))
    }

    #[test]
    fn a_list_passes_over_what_is_not_available_and_says_so() {
        let (opened, passed) = first("io-uring,epoll,threads", &[]).expect("the first");
        assert_eq!((opened, passed), (Backend::IoUring, vec![]));
        let no_uring = [(Backend::IoUring, ErrorKind::Unsupported)];
        let (opened, passed) = first("io-uring,epoll,threads", &no_uring).expect("the second");
        assert_eq!((opened, passed), (Backend::Epoll, vec![Backend::IoUring]));
    }

    #[test]
    fn one_name_is_strict() {
        let error = first("io-uring", &[(Backend::IoUring, ErrorKind::Unsupported)]).expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.to_string(), "io-uring: cause and cure");
    }

    #[test]
    fn lack_of_resources_is_passed_over_by_nobody() {
        for kind in [
            ErrorKind::OutOfMemory,
            ErrorKind::QuotaExceeded,
            ErrorKind::PermissionDenied,
        ] {
            let error = first("io-uring,epoll", &[(Backend::IoUring, kind)]).expect_err("a failure");
            assert_eq!(error.kind(), kind);
        }
    }

    #[test]
    fn a_list_of_which_nothing_is_available_says_why_for_each() {
        let neither = [
            (Backend::IoUring, ErrorKind::Unsupported),
            (Backend::Kqueue, ErrorKind::Unsupported),
        ];
        let error = first("io-uring,kqueue", &neither).expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(
            error.to_string(),
            "no backend of io-uring,kqueue is available: io-uring: cause and cure; kqueue: cause and cure"
        );
    }

    #[test]
    fn what_is_not_in_this_build_is_not_available() {
        let Some(absent) = Backend::ALL.iter().find(|backend| !backend.is_compiled()) else {
            return;
        };
        let error = Choice::from(*absent).open(&Config::default()).expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let Some(present) = Backend::candidates().last() else {
            return;
        };
        let list = Choice::list([*absent, present]);
        let opened = list.open(&Config::default()).expect("the second");
        assert_eq!(opened.adapter.backend(), present);
        assert_eq!(opened.passed_over[0].backend, *absent);
        assert!(opened.passed_over[0].to_string().starts_with(absent.name()));
    }

    #[test]
    fn auto_opens_the_first_that_works() {
        let opened = Choice::default().open(&Config::default());
        match opened {
            Ok(Opened { adapter, passed_over }) => {
                let tried: Vec<_> = passed_over.iter().map(|passed| passed.backend).collect();
                let mut expected = tried.clone();
                expected.push(adapter.backend());
                assert!(Backend::candidates().collect::<Vec<_>>().starts_with(&expected));
            }
            Err(error) => assert!(Backend::candidates().next().is_none(), "{error}"),
        }
    }
}
