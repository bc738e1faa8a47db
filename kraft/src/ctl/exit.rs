//! How the process ends.

use std::fmt;
use std::io;
use std::process::ExitCode;

use kraft_adapters::ParseError;
use kraft_core::message::Refusal;
use kraft_protocols::UnknownFormat;

use crate::client::{Error, Refused, is_kept_out};

/// The exit status, by which scripts tell outcomes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was done.
    Ok = 0,
    /// It failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The key is absent, or the comparison failed.
    NotFound = 3,
    /// Refused; nothing was changed.
    Refused = 4,
    /// Nobody knows whether it happened.
    Unknown = 5,
    /// A snapshot is not as it was written.
    Damaged = 74,
    /// ^C ended it; what it had so far was printed.
    Interrupted = crate::interrupt::EXIT_CODE,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not end well: what failed, on what, why, and what to do.
#[derive(Debug)]
pub(super) enum Failure {
    /// Neither `--nodes` nor `KRAFT_NODES`.
    NoNodes,
    /// `KRAFT_BACKEND` names no backend.
    Backend(ParseError),
    /// `KRAFT_PROTOCOL` names no wire format.
    Protocol(UnknownFormat),
    /// The flags or variables of TLS do not go together, or not with this build.
    TlsUsage(&'static str),
    /// A certificate or key cannot be used.
    #[cfg(feature = "tls")]
    TlsFile(String),
    /// The cluster's answer, or its absence.
    Client(Error),
    /// The same, of leadership that was to be handed over.
    Transfer(Error),
    /// The same, of a change of the members.
    Member(Error),
    /// Nobody said who the members are.
    Members(Error),
    /// A new member did not catch up while it was waited for.
    Lags(String),
    /// Standard output.
    Output(io::Error),
    /// Standard input.
    Input(io::Error),
    /// A benchmark could not run.
    Bench(String),
    /// ^C ended a benchmark, when.
    Interrupted(String),
    /// A snapshot was not saved, or cannot be read.
    Snapshot { exit: Exit, message: String },
}

impl Failure {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Snapshot { exit, .. } => *exit,
            Self::Interrupted(_) => Exit::Interrupted,
            Self::NoNodes | Self::Backend(_) | Self::Protocol(_) | Self::TlsUsage(_) => Exit::Usage,
            Self::Client(Error::Address { error, .. }) if is_malformed(error) => Exit::Usage,
            Self::Client(Error::Unknown) | Self::Transfer(Error::Unknown) | Self::Member(Error::Unknown) => {
                Exit::Unknown
            }
            Self::Transfer(Error::Refused(_)) | Self::Member(Error::Refused(_)) => Exit::Refused,
            Self::Members(_) => Exit::Failed,
            Self::Client(Error::Refused(_) | Error::NotANumber | Error::Overflow) => Exit::Refused,
            #[cfg(feature = "tls")]
            Self::TlsFile(_) => Exit::Failed,
            Self::Member(_) | Self::Lags(_) => Exit::Failed,
            Self::Client(_) | Self::Transfer(_) | Self::Output(_) | Self::Input(_) | Self::Bench(_) => Exit::Failed,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNodes => f.write_str(
                "no nodes to talk to: give --nodes HOST:PORT,HOST:PORT,… or set KRAFT_NODES to the client addresses \
                 of the cluster",
            ),
            Self::Backend(error) => write!(f, "KRAFT_BACKEND: {error}"),
            Self::Protocol(error) => write!(f, "KRAFT_PROTOCOL: {error}"),
            Self::TlsUsage(message) => f.write_str(message),
            #[cfg(feature = "tls")]
            Self::TlsFile(message) => f.write_str(message),
            Self::Client(Error::Refused(refused)) => {
                write!(f, "refused, nothing was changed: {refused}")?;
                match refused.why {
                    Refusal::NotLeader => f.write_str(no_leader(refused)),
                    Refusal::NoSpace if refused.detail.is_empty() => {
                        f.write_str(" (make room, or raise log_bytes_max)")
                    }
                    Refusal::NoSpace => f.write_str(" (make room, or raise it)"),
                    // Of the client's own making: the node's limits have other names there.
                    Refusal::TooLarge if !refused.detail.contains("_bytes_max") => {
                        f.write_str(" (kraftd bounds a value by value_bytes_max, and a message by frame_bytes_max)")
                    }
                    Refusal::Overloaded => f.write_str(" (try again later, with less at a time)"),
                    _ => Ok(()),
                }
            }
            Self::Client(error @ (Error::NotANumber | Error::Overflow)) => {
                write!(f, "refused, nothing was changed: {error}")
            }
            Self::Transfer(Error::Refused(refused)) => {
                write!(f, "leadership was not handed over: {refused}")?;
                f.write_str(match refused.why {
                    Refusal::TimedOut => " (does it lag, or its disk? see kraftctl status; writes are taken again)",
                    Refusal::Unreachable => " (is it up, and connected? see kraftctl status)",
                    Refusal::UnknownMember => " (kraftctl status shows who there is)",
                    Refusal::NotLeader => no_leader(refused),
                    _ => "",
                })
            }
            Self::Transfer(Error::Unknown) => f.write_str(
                "unknown: no answer came in time, so leadership may or may not have been handed over; see kraftctl status",
            ),
            Self::Transfer(error) => error.fmt(f),
            Self::Member(Error::Refused(refused)) => {
                write!(f, "the members were not changed: {refused}")?;
                f.write_str(match refused.why {
                    Refusal::NotLeader if refused.leader.is_some() || is_kept_out(&refused.detail) => no_leader(refused),
                    Refusal::NotLeader => {
                        " (is a majority up? see kraftctl status; if it is lost for good, kraftd recover --help)"
                    }
                    Refusal::NoSpace => " (make room for the log, or raise log_bytes_max)",
                    Refusal::Overloaded | Refusal::Transferring => " (try again)",
                    _ => "",
                })
            }
            Self::Member(Error::Unknown) => f.write_str(
                "unknown: no answer came in time, so the members may or may not have been changed; see kraftctl member \
                 list, and give the same command again: what is so already is not done twice",
            ),
            Self::Member(error) => error.fmt(f),
            Self::Members(Error::Refused(Refused { why: Refusal::NotLeader, detail, .. })) => {
                write!(f, "no node said who the members are: {detail}")?;
                f.write_str(match is_kept_out(detail) {
                    true => "",
                    false => " (are they up, and are these their client addresses?)",
                })
            }
            Self::Members(error) => error.fmt(f),
            Self::Lags(message) => f.write_str(message),
            Self::Interrupted(when) => write!(f, "interrupted {when}"),
            Self::Client(Error::Unknown) => f.write_str(
                "unknown: no answer came in time, so a write may or may not have happened; read the key before you \
                 write it again, or give more time with --timeout",
            ),
            Self::Client(Error::Address { address, error }) if is_malformed(error) => write!(
                f,
                "address {address:?}: {}; give --nodes or KRAFT_NODES as HOST:PORT,HOST:PORT,…",
                match is_without_port(address) {
                    true => "it has no port".to_owned(),
                    false => error.to_string(),
                }
            ),
            Self::Client(error @ Error::Address { .. }) => {
                write!(
                    f,
                    "{error}; correct the name in --nodes or KRAFT_NODES, or give a number"
                )
            }
            Self::Client(error) => error.fmt(f),
            Self::Output(error) => write!(f, "standard output: {error}"),
            Self::Input(error) => write!(f, "standard input: {error}"),
            Self::Bench(message) | Self::Snapshot { message, .. } => f.write_str(message),
        }
    }
}

/// What to do where no leader was found. One that is known and was not reached is at none of the addresses given.
fn no_leader(refused: &Refused) -> &'static str {
    match refused.leader.is_some() {
        _ if is_kept_out(&refused.detail) => "",
        true => " (add its client address to --nodes or KRAFT_NODES)",
        false => " (is a majority up? see kraftctl status)",
    }
}

/// The system calls it no socket address, and does not say why.
fn is_without_port(address: &str) -> bool {
    !address.is_empty() && !address.contains([':', ','])
}

/// No address of any host, whatever names it knows: the system was not even asked.
fn is_malformed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

/// The one kind of plain I/O here is the output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
