//! The data folder, made on a disk that crashes.

use super::*;
use crate::storage::{Expected, Folder, FolderError, Identity, Member};

fn identity() -> Identity {
    Identity {
        cluster: "demo".to_owned(),
        node: NodeId(1),
        members: vec![Member {
            node: NodeId(1),
            address: "localhost:7000".to_owned(),
        }],
        listen: "localhost:7000".to_owned(),
        client: "localhost:8000".to_owned(),
        incarnation: Incarnation(7),
        created: 0,
    }
}

#[test]
fn a_folder_is_whole_or_none_whenever_its_making_is_cut_short() {
    for changes in 0.. {
        let mut is_through = false;
        for seed in 0..4 {
            let files = MemFiles::new();
            files.crash_after(changes);
            is_through = Folder::create_in(&files, &identity()).is_ok();
            files.crash(Loss::Random(seed));
            match Folder::open_in(files, Expected::default()) {
                Ok(folder) => {
                    assert_eq!(folder.identity(), &identity());
                    folder.peers().unwrap();
                    let log = folder.log().unwrap();
                    DiskLog::open(log, identity().log(GroupId(0)), Config::default()).unwrap();
                }
                Err(FolderError::NoIdentity(_)) => assert!(!is_through),
                Err(other) => panic!("after {changes} changes, seed {seed}: {other}"),
            }
        }
        if is_through {
            assert!(changes > 8);
            return;
        }
    }
}

#[test]
fn a_peer_is_remembered_durably_or_not_at_all() {
    let files = MemFiles::new();
    Folder::create_in(&files, &identity()).unwrap();
    for changes in 0..6 {
        for seed in 0..8 {
            let files = files.fork();
            let folder = Folder::open_in(files.clone(), Expected::default()).unwrap();
            let peers = folder.peers().unwrap();
            files.crash_after(changes);
            let is_remembered = peers.remember(NodeId(2), Incarnation(9)).is_ok();
            assert_eq!(peers.get(NodeId(2)).is_some(), is_remembered);
            files.crash(Loss::Random(seed));
            let known = Folder::open_in(files, Expected::default())
                .unwrap()
                .peers()
                .unwrap()
                .get(NodeId(2));
            assert!(known == Some(Incarnation(9)) || (known.is_none() && !is_remembered));
        }
    }
}

#[test]
fn what_a_book_says_after_a_kill_is_durable() {
    let files = MemFiles::new();
    Folder::create_in(&files, &identity()).unwrap();
    let known = |files: &MemFiles| {
        let folder = Folder::open_in(files.clone(), Expected::default()).unwrap();
        folder.peers().unwrap().get(NodeId(2))
    };
    for changes in 0..6 {
        let files = files.fork();
        let folder = Folder::open_in(files.clone(), Expected::default()).unwrap();
        let peers = folder.peers().unwrap();
        files.crash_after(changes);
        let _ = peers.remember(NodeId(2), Incarnation(9));
        // Killed: the page cache has what the disk lacks, and the next start believes it.
        files.crash(Loss::Nothing);
        let believed = known(&files);
        files.crash(Loss::All);
        assert_eq!(known(&files), believed, "after {changes} changes");
    }
}
