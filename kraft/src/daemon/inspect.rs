//! `kraftd log`: looks at the log of a node without touching it.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kraft_core::id::GroupId;
use kraft_core::storage::Fault;

use super::init::folder_failure;
use super::{Exit, Failure};
use crate::storage::inspect::{dump, verify};
use crate::storage::{Folder, FolderError, LogIdentity, RealFiles};

/// What to look for.
#[derive(Debug, Subcommand)]
pub(super) enum LogAction {
    /// Read all of it and say what a node would recover, or why it would not start (exit code 74).
    Verify(Target),
    /// Print every record, whatever the log's state.
    Dump(Target),
}

/// Where the log is.
#[derive(Args, Debug)]
pub(super) struct Target {
    /// A data folder, or the folder of a log alone. Its node should be down, or what it writes meanwhile looks torn.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl LogAction {
    /// Looks.
    ///
    /// # Errors
    ///
    /// The log is damaged, or cannot be read.
    pub(super) fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Verify(target) => target.verify(),
            Self::Dump(target) => target.dump(),
        }
    }
}

impl Target {
    fn verify(&self) -> Result<(), Failure> {
        let (files, identity) = self.open()?;
        let report = verify(&files, identity).map_err(|fault| self.failure(&fault))?;
        match &report.verdict {
            Ok(_) => super::cli::print(&format!("{report}\n")),
            Err(error) => {
                for segment in &report.segments {
                    super::cli::print(&format!("{segment}\n"))?;
                }
                for snapshot in &report.snapshots {
                    super::cli::print(&format!("{snapshot}\n"))?;
                }
                Err(Failure {
                    exit: super::serve::exit_of(error),
                    message: error.to_string(),
                })
            }
        }
    }

    fn dump(&self) -> Result<(), Failure> {
        let (files, identity) = self.open()?;
        let mut out = BufWriter::new(io::stdout().lock());
        let mut written = Ok(());
        let dumped = dump(&files, identity, |dumped| {
            // After a failure there is nobody to print for.
            if written.is_ok() {
                written = writeln!(out, "{dumped}");
            }
        });
        match written.and_then(|()| out.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                return Err(Failure::new(format!("stdout: {error}")));
            }
            _ => {}
        }
        dumped.map_err(|fault| self.failure(&fault))
    }

    /// The log's files, and whose log it is if an identity stands beside it.
    fn open(&self) -> Result<(RealFiles, Option<LogIdentity>), Failure> {
        let open = |folder: &Path| {
            RealFiles::open(folder).map_err(|error| {
                Failure::config(format!(
                    "{}: {error}; name a data folder or the folder of a log",
                    folder.display()
                ))
            })
        };
        let files = open(&self.folder)?;
        match Folder::read_identity(&files) {
            Ok(identity) => Ok((open(&self.folder.join("log"))?, Some(identity.log(GroupId(0))))),
            Err(FolderError::NoIdentity(_)) => Ok((files, None)),
            Err(error) => Err(folder_failure(&self.folder, &error)),
        }
    }

    fn failure(&self, fault: &Fault) -> Failure {
        if fault.error.kind() == ErrorKind::NotFound {
            let folder = self.folder.display();
            return Failure::config(format!(
                "{folder}: no log is there; name a data folder or the folder of a log"
            ));
        }
        Failure {
            exit: Exit::Disk,
            message: format!("{fault}; look at the disk"),
        }
    }
}
