//! The data folder on files of the operating system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kraft::storage::{Expected, Folder, FolderError, Identity, Member};
use kraft_core::id::{Incarnation, NodeId};

fn identity() -> Identity {
    Identity {
        cluster: "demo".to_owned(),
        node: NodeId(2),
        members: (1..=3)
            .map(|node| Member {
                node: NodeId(node),
                address: format!("host-{node}:7000"),
            })
            .collect(),
        listen: "[::]:7000".to_owned(),
        client: "0.0.0.0:8000".to_owned(),
        incarnation: Identity::draw_incarnation().unwrap(),
        created: 1_700_000_000,
    }
}

/// Every file below a folder, and what it holds.
fn content(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[track_caller]
fn check_refused(path: &Path, expected: Expected<'_>, says: &[&str]) -> FolderError {
    let before = path.exists().then(|| content(path));
    let error = Folder::open(path, expected).unwrap_err();
    for part in says {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(
        path.exists().then(|| content(path)),
        before,
        "a refused folder was changed"
    );
    error
}

#[test]
fn a_folder_is_made_once_and_opened_again() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("deep/data");
    let identity = identity();
    Folder::create(&path, &identity).unwrap();
    let folder = Folder::open(
        &path,
        Expected {
            cluster: Some("demo"),
            node: Some(NodeId(2)),
        },
    )
    .unwrap();
    assert_eq!(folder.identity(), &identity);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("log")), 0o700);
    assert_eq!((mode(&path.join("identity")), mode(&path.join("lock"))), (0o600, 0o600));

    let before = content(&path);
    let error = Folder::create(&path, &identity).unwrap_err();
    assert!(
        matches!(error, FolderError::NotEmpty(..)) && error.to_string().contains("not empty"),
        "{error}"
    );
    assert_eq!(content(&path), before);
}

#[test]
fn a_second_lock_is_refused() {
    let root = tempfile::tempdir().unwrap();
    Folder::create(root.path(), &identity()).unwrap();
    let first = Folder::open(root.path(), Expected::default()).unwrap();
    let name = root.path().display().to_string();
    let error = check_refused(root.path(), Expected::default(), &[&name, "another process"]);
    assert!(matches!(error, FolderError::Locked(_)));
    drop(first);
    Folder::open(root.path(), Expected::default()).unwrap();
}

#[test]
fn a_foreign_empty_or_damaged_folder_is_refused() {
    let root = tempfile::tempdir().unwrap();
    check_refused(root.path(), Expected::default(), &["holds no node", "kraftd init"]);
    check_refused(
        &root.path().join("absent"),
        Expected::default(),
        &["holds no node", "kraftd init"],
    );

    let path = root.path().join("data");
    Folder::create(&path, &identity()).unwrap();
    let other = Expected {
        cluster: Some("prod"),
        node: None,
    };
    check_refused(&path, other, &["\"demo\"", "\"prod\""]);
    let other = Expected {
        cluster: None,
        node: Some(NodeId(3)),
    };
    check_refused(&path, other, &["node 2", "node 3"]);

    let file = path.join("identity");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("node = 2", "node = 3")).unwrap();
    let error = check_refused(&path, Expected::default(), &["damaged", "checksum"]);
    assert!(matches!(error, FolderError::Damaged(..)));
    let newer = text.replace("version = 1", "version = 9");
    let body = newer.split("crc32c = ").next().unwrap();
    fs::write(
        &file,
        format!("{body}crc32c = {:08x}\n", crc32c::crc32c(body.as_bytes())),
    )
    .unwrap();
    let error = check_refused(&path, Expected::default(), &["version 9"]);
    assert!(matches!(error, FolderError::Version(..)));
}

#[test]
fn a_folder_whose_log_or_peers_were_lost_is_refused() {
    // A node that began an empty log under its old name could vote twice.
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    Folder::create(&path, &identity()).unwrap();
    fs::remove_file(path.join("peers")).unwrap();
    let folder = Folder::open(&path, Expected::default()).unwrap();
    assert!(matches!(folder.peers(), Err(FolderError::Damaged(..))));
    folder.log().unwrap();
    for entry in fs::read_dir(path.join("log")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
    let error = folder.log().unwrap_err();
    assert!(error.to_string().contains("segments are missing"), "{error}");
    fs::remove_dir_all(path.join("log")).unwrap();
    assert!(matches!(folder.log(), Err(FolderError::Damaged(..))));
    assert!(!path.join("log").exists());
}

#[test]
fn an_identity_that_cannot_be_is_refused_before_anything_is_made() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    let wrong: [fn(&mut Identity); 7] = [
        |identity| identity.cluster.clear(),
        |identity| identity.cluster = "two\nlines".to_owned(),
        |identity| identity.node = NodeId(4),
        |identity| identity.node = NodeId::NONE,
        |identity| identity.members.reverse(),
        |identity| identity.listen = "x".repeat(300),
        |identity| identity.incarnation = Incarnation(0),
    ];
    for change in wrong {
        let mut identity = identity();
        change(&mut identity);
        let error = Folder::create(&path, &identity).unwrap_err();
        assert!(matches!(error, FolderError::Invalid(..)), "{error}");
        assert!(!path.exists());
    }
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    Folder::create(&path, &identity()).unwrap();
    fs::rename(path.join("identity"), root.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(root.path().join("elsewhere"), path.join("identity")).unwrap();
    let error = Folder::open(&path, Expected::default()).unwrap_err();
    assert!(matches!(error, FolderError::Failed(..)), "{error}");
}

#[test]
fn double_vote_after_disk_wipe() {
    // A peer is known by the incarnation that was seen first, also after a restart; a wiped disk has another one.
    let root = tempfile::tempdir().unwrap();
    Folder::create(root.path(), &identity()).unwrap();
    let folder = Folder::open(root.path(), Expected::default()).unwrap();
    let peers = folder.peers().unwrap();
    assert_eq!(peers.get(NodeId(1)), None);
    assert_eq!(peers.remember(NodeId(1), Incarnation(7)).unwrap(), Incarnation(7));
    assert_eq!(peers.remember(NodeId(1), Incarnation(8)).unwrap(), Incarnation(7));
    peers.remember(NodeId(3), Incarnation(9)).unwrap();
    peers.forget(NodeId(3)).unwrap();
    let peers = folder.peers().unwrap();
    assert_eq!(
        (peers.get(NodeId(1)), peers.get(NodeId(3))),
        (Some(Incarnation(7)), None)
    );

    let file = root.path().join("peers");
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(matches!(folder.peers(), Err(FolderError::Damaged(..))));
}
