//! `kraftd repair`: sets a damaged log aside.

use std::path::PathBuf;

use clap::Args;
use kraft_core::id::{Index, Term};

use super::init::folder_failure;
use super::{Exit, Failure, cli};
use crate::storage::{Expected, Folder, RepairError, repair};

/// Whose log.
#[derive(Args, Debug)]
pub(super) struct Repair {
    /// The data folder that init wrote, or KRAFT_DATA. Its node is down.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The highest term of all other members, as `kraftctl status` shows them: asked for if the log's own is unreadable.
    #[arg(long, value_name = "TERM")]
    term: Option<u64>,
}

impl Repair {
    /// Sets it aside.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let data = cli::required_data(self.data.as_deref())?;
        let folder = Folder::open(&data, Expected::default()).map_err(|error| folder_failure(&data, &error))?;
        let repaired = repair(&folder, self.term.map(Term)).map_err(|error| match error {
            RepairError::Folder(error) => folder_failure(&data, &error),
            error => Failure {
                exit: exit_of(&error),
                message: format!("{}: {error}", data.display()),
            },
        })?;
        let from = match repaired.snapshot {
            Index::ZERO => String::new(),
            index => format!(", behind the snapshot at index {index}"),
        };
        let (data, aside) = (data.display(), repaired.aside.display());
        cli::print(&format!(
            "set the damaged log aside in {aside}; it begins anew in term {}{from}. Start the node with: kraftd serve \
             --data {data}. It does not vote until it has made up for what it lost: take no other node down before \
             `kraftctl status` shows it as follower\n",
            repaired.term
        ))
    }
}

const fn exit_of(error: &RepairError) -> Exit {
    match error {
        RepairError::Sound => Exit::Failed,
        RepairError::TermTooLow { .. } | RepairError::TermTooHigh { .. } => Exit::Usage,
        RepairError::Version(_) => Exit::Config,
        RepairError::Alone | RepairError::Term(_) | RepairError::Folder(_) => Exit::DamagedLog,
        RepairError::Failed(_) => Exit::Disk,
    }
}
