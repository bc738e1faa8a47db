//! How the process ends.

use std::fmt;

/// The exit status, by which scripts and service managers tell failures apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The log is damaged. It was left as it was.
    DamagedLog = 74,
    /// The disk failed.
    Disk = 75,
    /// The node was removed from its cluster.
    Removed = 76,
    /// The configuration is wrong, or does not fit the data folder.
    Config = 78,
    /// ^C ended it; what it had so far was printed.
    #[cfg(feature = "sim")]
    Interrupted = crate::interrupt::EXIT_CODE,
}

/// Why the process ends: one sentence with what failed, on what, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    /// The sentence.
    pub message: String,
}

impl Failure {
    /// A failure of the general kind.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            message: message.into(),
        }
    }

    /// A failure that the configuration, or what stands in the data folder, is to blame for.
    pub fn config(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Config,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
