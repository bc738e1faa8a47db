//! `kraftd init`: writes a data folder, once.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kraft_core::id::NodeId;

use super::config::{Config, Field, Loaded};
use super::{Exit, Failure};
use crate::storage::{Folder, FolderError, Identity, Member};

/// The fields that init writes, and that no other source need repeat.
pub(super) const WRITTEN: [&str; 5] = ["cluster", "id", "peers", "listen", "client"];

/// Makes the folder at `data` for the node that `loaded` describes.
///
/// # Errors
///
/// What is wrong with the fields, or with the folder. Nothing was changed then.
pub(super) fn write(data: &Path, loaded: &Loaded) -> Result<(), Failure> {
    let identity = identity(loaded)?;
    Folder::create(data, &identity).map_err(|error| folder_failure(data, &error))
}

/// Who the node is that `loaded` describes, with a life of its own.
pub(super) fn identity(loaded: &Loaded) -> Result<Identity, Failure> {
    loaded.validate()?;
    let config = &loaded.config;
    let show = |name| Field::named(name).map(|field| field.show(config)).unwrap_or_default();
    let incarnation = Identity::draw_incarnation()
        .map_err(|error| Failure::new(format!("the system's randomness: {error}; the folder was not made")))?;
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Ok(Identity {
        cluster: config.cluster.clone(),
        node: NodeId(config.id),
        members: members(config),
        listen: show("listen"),
        client: show("client"),
        incarnation,
        created: since_1970.map_or(0, |since| since.as_secs()),
    })
}

/// The members as the folder and the driver name them.
fn members(config: &Config) -> Vec<Member> {
    let member = |(id, at): (u64, &super::config::HostPort)| Member {
        node: NodeId(id),
        address: at.to_string(),
    };
    config.peers.iter().map(member).collect()
}

/// What init wrote, as a layer of the configuration.
pub(super) fn layer(identity: &Identity) -> Vec<(&'static str, String)> {
    let peers: Vec<_> = identity
        .members
        .iter()
        .map(|member| format!("{}={}", member.node, member.address))
        .collect();
    let peers = match peers.is_empty() {
        true => "join".to_owned(),
        false => peers.join(","),
    };
    let values = [
        identity.cluster.clone(),
        identity.node.to_string(),
        peers,
        identity.listen.clone(),
        identity.client.clone(),
    ];
    WRITTEN.into_iter().zip(values).collect()
}

/// The sentence and exit status of a folder that was not made or not opened.
pub(super) fn folder_failure(data: &Path, error: &FolderError) -> Failure {
    let exit = match error {
        FolderError::Damaged(..) | FolderError::Unrepaired(_) => Exit::DamagedLog,
        // The one that has it may be about to end.
        FolderError::Locked(_) => Exit::Failed,
        FolderError::Failed(_, system) if is_input_output(system) => Exit::Disk,
        _ => Exit::Config,
    };
    let message = match error {
        FolderError::Failed(path, system) => {
            let path = if path.as_os_str().is_empty() {
                data.to_owned()
            } else {
                PathBuf::from(path)
            };
            let cure = match system.kind() {
                _ if exit == Exit::Disk => "look at the disk",
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room there, or name another one with --data",
                _ => "make it a folder that this user may read and write, or name another one with --data",
            };
            format!("data folder {}: {system}; {cure}", path.display())
        }
        // They name what they are about.
        FolderError::Unrepaired(_) | FolderError::Invalid(..) => error.to_string(),
        error => format!("data folder {error}"),
    };
    Failure { exit, message }
}

/// EIO is the disk's; everything else is about names, rights and room.
pub(super) fn is_input_output(error: &std::io::Error) -> bool {
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[track_caller]
    fn check(error: io::Error, exit: Exit, cure: &str) {
        let failure = folder_failure(Path::new("/data"), &FolderError::Failed(PathBuf::new(), error));
        assert_eq!(failure.exit, exit, "{failure}");
        assert!(failure.message.contains(cure), "{failure}");
    }

    #[test]
    fn a_failure_names_what_it_is_about_once() {
        for (error, begin) in [
            (FolderError::NoIdentity("d".into()), "data folder d holds no node"),
            (
                FolderError::Unrepaired("d".into()),
                "the repair of the log in d was begun",
            ),
            (FolderError::Invalid("cluster", String::new()), "cluster cannot be"),
        ] {
            let failure = folder_failure(Path::new("d"), &error);
            assert!(failure.message.starts_with(begin), "{failure}");
        }
    }

    #[test]
    fn the_cure_is_of_what_the_system_refused() {
        check(io::Error::from_raw_os_error(5), Exit::Disk, "look at the disk");
        check(ErrorKind::StorageFull.into(), Exit::Config, "make room");
        check(ErrorKind::PermissionDenied.into(), Exit::Config, "may read and write");
    }
}
