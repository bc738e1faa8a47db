//! A data folder made of a snapshot of another cluster, on disks that crash and fill.

use bytes::BytesMut;
use kraft_core::id::{Sequence, SessionId};
use kraft_core::machine::StateMachine;
use kraft_core::message::{Command, SnapshotId};
use kraft_core::session::{self, Limits, Sessions, SessionsImage, StateImage};
use kraft_core::snapshot::{Head, SnapshotStore};
use kraft_core::storage::HardState;

use super::*;
use crate::kv::{self, Kv, KvImage, KvTotals};
use crate::storage::snapshots::format::{Owner, snapshot_name};
use crate::storage::{
    DiskSnapshots, Expected, File, Files, Folder, FolderError, Identity, Member, RestoreError, SnapshotFile,
};

const FORMER: Owner = Owner {
    cluster: ClusterId::from_name("former"),
    group: GroupId(0),
};

fn identity(node: u64) -> Identity {
    let member = |node| Member {
        node: NodeId(node),
        address: format!("localhost:700{node}"),
    };
    Identity {
        cluster: "next".to_owned(),
        node: NodeId(node),
        members: (1..=3).map(member).collect(),
        listen: "localhost:7000".to_owned(),
        client: "localhost:8000".to_owned(),
        incarnation: Incarnation(100 + node),
        created: 0,
    }
}

/// A map with keys, and a session that wrote one of them.
fn state() -> StateImage<KvImage> {
    let mut kv = Kv::new(kv::Limits::default());
    let mut sessions = Sessions::default();
    let (mut payload, mut reply) = (BytesMut::new(), BytesMut::new());
    sessions.apply(Index(1), EntryKind::OpenSession, &[], &mut kv, &mut reply);
    let mut bytes = BytesMut::new();
    let value = vec![7; 3000];
    for n in 0..100_u64 {
        let key = format!("key-{n:03}");
        let put = kv::Command::Put {
            key: key.as_bytes(),
            value: &value,
        };
        bytes.clear();
        put.encode(&mut bytes);
        let command = Command {
            session: SessionId(1),
            sequence: Sequence(n + 1),
            first_unanswered: Sequence(n + 1),
            command: &bytes,
            commit: kraft_core::message::Commit::Strong,
        };
        payload.clear();
        session::encode(&command, &mut payload);
        reply.clear();
        sessions.apply(Index(n + 2), EntryKind::Command, &payload, &mut kv, &mut reply);
    }
    StateImage {
        sessions: sessions.image(),
        machine: kv.image(),
    }
}

/// A snapshot of the former cluster, and the disk that it is on.
fn snapshot() -> (MemFiles, SnapshotFile<MemFiles>, SnapshotId) {
    let files = MemFiles::new();
    let head = Head {
        index: Index(101),
        term: Term(5),
        membership_index: Index(50),
        membership: snapshots::membership(3),
    };
    let store = DiskSnapshots::new(files.clone(), FORMER, 1, 0);
    let state = state();
    let saved = store.save(&head, &mut |out| state.write(out)).unwrap();
    let file = SnapshotFile::new(files.clone(), snapshot_name(&saved.id));
    (files, file, saved.id)
}

#[test]
fn a_restored_folder_has_the_state_and_nothing_else_of_the_former_cluster() {
    let (_, source, id) = snapshot();
    let mut restored = Vec::new();
    for node in 1..=3 {
        let files = MemFiles::new();
        let folder_id = Folder::restore_in(&files, &identity(node), &source, id).unwrap();
        restored.push(folder_id);
        let folder = Folder::open_in(files, Expected::default()).unwrap();
        assert_eq!(folder.identity(), &identity(node));
        let log = folder.log().unwrap();
        let (log, recovered) = DiskLog::open(log, identity(node).log(GroupId(0)), Config::default()).unwrap();
        assert_eq!((recovered.base_index, recovered.base_term), (id.index, id.term));
        assert_eq!((recovered.last, recovered.terms), (id.index, vec![]));
        let expected = HardState {
            term: id.term,
            vote: NodeId::NONE,
        };
        assert_eq!(recovered.hard, expected);
        let snapshot = recovered.snapshot.unwrap();
        assert_eq!(snapshot.id, folder_id);
        assert_eq!(
            (snapshot.head.membership_index, &*snapshot.head.membership),
            (Index::ZERO, &[][..])
        );
        let mut found = None;
        let limits = Limits::default();
        log.snapshots()
            .load(snapshot.id, &mut |input| {
                found = Some(StateImage::<KvImage>::read(input, &limits)?);
                Ok(())
            })
            .unwrap();
        let found = found.unwrap();
        assert!(found.sessions.is_empty());
        let bytes = |image: &KvImage| {
            let mut bytes = vec![];
            kraft_core::snapshot::Image::write(image, &mut bytes).unwrap();
            bytes
        };
        assert_eq!(bytes(&found.machine), bytes(&state().machine));
    }
    assert!(restored.iter().all(|id| *id == restored[0]), "{restored:?}");
}

#[test]
fn what_is_in_a_snapshot_is_counted_without_a_map() {
    let (_, source, id) = snapshot();
    let mut counted = None;
    source
        .read(id, &mut |sessions, state| {
            counted = Some((sessions.len(), KvTotals::read(state).unwrap()));
        })
        .unwrap();
    let totals = KvTotals {
        keys: 100,
        key_bytes: 700,
        value_bytes: 300_000,
    };
    assert_eq!(counted, Some((1, totals)));
}

#[test]
fn another_state_machine_s_state_is_restored_as_it_is() {
    let files = MemFiles::new();
    let store = DiskSnapshots::new(files.clone(), FORMER, 1, 0);
    let head = Head {
        index: Index(7),
        term: Term(1),
        membership_index: Index::ZERO,
        membership: Bytes::new(),
    };
    let saved = store
        .save(&head, &mut |out| {
            SessionsImage::default().write(out)?;
            out.write_all(b"no map at all")
        })
        .unwrap();
    let source = SnapshotFile::new(files, snapshot_name(&saved.id));
    let target = MemFiles::new();
    let id = Folder::restore_in(&target, &identity(1), &source, saved.id).unwrap();
    let log = target.folder("log").unwrap();
    let restored = SnapshotFile::new(log.folder("snapshots").unwrap(), snapshot_name(&id));
    let mut state = vec![];
    restored
        .read(id, &mut |_, input| {
            input.read_to_end(&mut state).unwrap();
        })
        .unwrap();
    assert_eq!(state, b"no map at all");
}

#[test]
fn a_restored_folder_is_whole_or_none_whenever_its_making_is_cut_short() {
    let (_, source, id) = snapshot();
    for changes in 0.. {
        let mut is_through = false;
        for seed in 0..4 {
            let files = MemFiles::new();
            files.crash_after(changes);
            is_through = Folder::restore_in(&files, &identity(1), &source, id).is_ok();
            files.crash(Loss::Random(seed));
            match Folder::open_in(files, Expected::default()) {
                Ok(folder) => {
                    let log = folder.log().unwrap();
                    let opened = DiskLog::open(log, identity(1).log(GroupId(0)), Config::default());
                    assert_eq!(opened.unwrap().1.base_index, id.index);
                }
                Err(FolderError::NoIdentity(_)) => assert!(!is_through),
                Err(other) => panic!("after {changes} changes, seed {seed}: {other}"),
            }
        }
        if is_through {
            assert!(changes > 16);
            return;
        }
    }
}

#[test]
fn a_snapshot_that_is_damaged_meanwhile_makes_no_folder() {
    let (disk, source, id) = snapshot();
    let name = snapshot_name(&id);
    let file = disk.open(&name, true).unwrap();
    for at in [3, 70, 90, 150_000, id.bytes - 5] {
        let mut byte = [0];
        file.read_at(&mut byte, at).unwrap();
        file.write_at(&[byte[0] ^ 1], at).unwrap();
        let report = source.report().unwrap();
        assert!(report.verdict.is_err(), "byte {at}: {report}");
        let target = MemFiles::new();
        match Folder::restore_in(&target, &identity(1), &source, id) {
            Err(RestoreError::Damaged(path, ..)) => assert_eq!(path, source.path()),
            other => panic!("byte {at}: {other:?}"),
        }
        let opened = Folder::open_in(target, Expected::default());
        assert!(matches!(opened, Err(FolderError::NoIdentity(_))), "byte {at}");
        file.write_at(&byte, at).unwrap();
    }
    source.report().unwrap().verdict.unwrap();
}
