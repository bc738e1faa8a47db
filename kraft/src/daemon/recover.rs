//! `kraftd recover --force-new-cluster`: one node goes on alone when the majority is lost.

use std::path::PathBuf;

use clap::Args;

use super::init::folder_failure;
use super::{Exit, Failure, assemble, cli, init};
use crate::storage::{Expected, Folder, ForceError, force_new_cluster};

/// Whose cluster.
#[derive(Args, Debug)]
pub(super) struct Recover {
    /// Make this node the only member of its cluster.
    #[arg(long, required = true)]
    force_new_cluster: bool,
    /// The data folder that init wrote, or KRAFT_DATA. Its node is down.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The name of the cluster, to say that this is meant. Without it the command tells what it would do, and does nothing.
    #[arg(long, value_name = "CLUSTER")]
    confirm: Option<String>,
    #[command(flatten)]
    settings: cli::Settings,
}

impl Recover {
    /// Does it.
    ///
    /// # Errors
    ///
    /// Why not; and that it was not confirmed.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let data = cli::required_data(self.data.as_deref())?;
        let folder = Folder::open(&data, Expected::default()).map_err(|error| folder_failure(&data, &error))?;
        let identity = folder.identity();
        let loaded = self.settings.load(Some(&data), init::layer(identity))?;
        loaded.validate()?;
        self.check_meant(&identity.cluster, identity.node.0)?;
        let forced = force_new_cluster(&folder, assemble::storage_config(&loaded.config));
        let forced = forced.map_err(|error| match error {
            ForceError::Folder(error) => folder_failure(&data, &error),
            error => Failure {
                exit: exit_of(&error),
                message: format!("{}: {error}", data.display()),
            },
        })?;
        let lost: Vec<_> = forced.lost.iter().map(ToString::to_string).collect();
        cli::print(&format!(
            "node {} is the only member of cluster {} since index {}, term {}; it was left by {}. Never start those again \
             with the data folders that they have. Start this one with: kraftd serve --data {}; then make new nodes with \
             kraftd init --join, and add them with kraftctl member add\n",
            identity.node,
            identity.cluster,
            forced.index,
            forced.term,
            lost.join(", "),
            data.display()
        ))
    }

    fn check_meant(&self, cluster: &str, node: u64) -> Result<(), Failure> {
        match self.confirm.as_deref() {
            Some(named) if named == cluster => Ok(()),
            Some(named) => Err(Failure {
                exit: Exit::Usage,
                message: format!(
                    "--confirm {}: this is a node of cluster {cluster}; nothing was changed",
                    super::escape::escaped(named)
                ),
            }),
            None => Err(Failure {
                exit: Exit::Usage,
                message: format!(
                    "this would make node {node} the only member of cluster {cluster}. Only for a cluster whose majority is \
                     lost for good: writes that the others acknowledged and this node lacks are lost, and writes that it has \
                     and that were never acknowledged take effect. While the others run, or if they come back, there are two \
                     clusters of one name: stop them all first. Take the node with the highest last index (kraftd log \
                     verify). If this is meant, add --confirm {cluster}; nothing was changed"
                ),
            }),
        }
    }
}

const fn exit_of(error: &ForceError) -> Exit {
    match error {
        ForceError::Failed(_) => Exit::Disk,
        ForceError::Log(_) | ForceError::Recovering | ForceError::Members(_) => Exit::DamagedLog,
        ForceError::NoMember => Exit::Removed,
        ForceError::Empty | ForceError::Alone | ForceError::Folder(_) => Exit::Failed,
    }
}
