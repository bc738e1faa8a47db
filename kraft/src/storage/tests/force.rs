//! A cluster that is begun anew with one node.

use kraft_core::id::Incarnation;
use kraft_core::membership::{Configuration, Seat};

use super::*;
use crate::storage::{Expected, Folder, ForceError, Forced, Identity, Member, force_new_cluster};

fn identity(members: &[u64]) -> Identity {
    let member = |node: &u64| Member {
        node: NodeId(*node),
        address: format!("10.0.0.{node}:7001"),
    };
    Identity {
        cluster: "c".to_owned(),
        node: NodeId(1),
        members: members.iter().map(member).collect(),
        listen: "0.0.0.0:7001".to_owned(),
        client: "0.0.0.0:7002".to_owned(),
        incarnation: Incarnation(7),
        created: 0,
    }
}

fn folder(files: &MemFiles) -> Folder<MemFiles> {
    Folder::open_in(files.clone(), Expected::default()).expect("a folder")
}

/// A folder whose log has some entries.
fn written(members: &[u64]) -> MemFiles {
    let files = MemFiles::new();
    Folder::create_in(&files, &identity(members)).expect("a folder");
    let folder = folder(&files);
    let (mut log, _) = open(&folder);
    log.save(HardState {
        term: Term(3),
        vote: NodeId(2),
    });
    let entry = |term| Entry {
        term: Term(term),
        kind: EntryKind::Noop,
        crc: 0,
        payload: Bytes::new(),
    };
    log.append(Index(1), &Entries::Shared(&[entry(2), entry(3)], &[]));
    log.sync(SyncId(1));
    while let Some(work) = log.next_work() {
        log.done(work.run()).expect("the disk works");
    }
    drop(log);
    drop(folder);
    files
}

fn open(folder: &Folder<MemFiles>) -> (DiskLog<MemFiles>, Recovered) {
    let log = folder.log().expect("a log");
    DiskLog::open(log, folder.identity().log(GroupId(0)), Config::default()).expect("a log")
}

#[track_caller]
fn assert_alone(files: &MemFiles) {
    let folder = folder(files);
    let life = folder.life().expect("a life");
    assert_ne!(life, Incarnation(7), "its peers would take it for who it was");
    let (_, recovered) = open(&folder);
    assert_eq!((recovered.last, recovered.hard.term), (Index(3), Term(4)));
    let (index, payload) = recovered.memberships.last().expect("a configuration");
    let configuration = Configuration::decode(payload).expect("a configuration");
    assert_eq!(*index, Index(3));
    let [own] = configuration.members() else {
        panic!("{configuration:?}")
    };
    assert_eq!((own.node, own.seat, own.incarnation), (NodeId(1), Seat::Voter, life));
    assert_eq!(own.address, "10.0.0.1:7001");
    assert!(
        !configuration.is_removed(NodeId(2)),
        "it is a stranger, and is told nothing"
    );
}

#[test]
fn a_forced_node_is_alone_and_keeps_what_it_has() {
    let files = written(&[1, 2, 3]);
    let forced = force_new_cluster(&folder(&files), Config::default()).expect("it goes on");
    let expected = Forced {
        index: Index(3),
        term: Term(4),
        lost: vec![NodeId(2), NodeId(3)],
    };
    assert_eq!(forced, expected);
    files.crash(Loss::All);
    assert_alone(&files);
    let again = force_new_cluster(&folder(&files), Config::default());
    assert!(matches!(again, Err(ForceError::Alone)), "{again:?}");
}

#[test]
fn a_force_that_is_cut_short_can_be_done_again() {
    let whole = written(&[1, 2, 3]);
    for changes in 0.. {
        let mut is_through = false;
        for loss in [Loss::All, Loss::Nothing, Loss::Random(changes), Loss::Random(!changes)] {
            let files = whole.fork();
            let at = folder(&files);
            files.crash_after(changes);
            is_through = force_new_cluster(&at, Config::default()).is_ok();
            drop(at);
            files.crash(loss);
            let at = folder(&files);
            let is_alone = !open(&at).1.memberships.is_empty();
            let life = at.life().expect("a life");
            assert!(
                !is_through || is_alone,
                "{changes} changes, {loss:?}: it was not durable"
            );
            assert!(
                !is_alone || life != Incarnation(7),
                "{changes} changes, {loss:?}: peers would take it for who it was"
            );
            if !is_alone {
                force_new_cluster(&at, Config::default()).expect("it goes on");
            }
            drop(at);
            let (_, recovered) = open(&folder(&files));
            let (_, payload) = recovered.memberships.last().expect("a configuration");
            let members = Configuration::decode(payload).expect("one");
            assert_eq!(members.members().len(), 1, "{changes} changes, {loss:?}");
        }
        if is_through {
            assert!(changes > 3, "{changes}");
            return;
        }
    }
}

#[test]
fn who_cannot_go_on_alone_is_refused() {
    let refused = |files: &MemFiles| force_new_cluster(&folder(files), Config::default()).expect_err("a refusal");
    assert!(matches!(refused(&written(&[1])), ForceError::Alone));
    assert!(matches!(refused(&written(&[])), ForceError::Empty));
    let removed = written(&[1, 2, 3]);
    assert!(!folder(&removed).was_removed().expect("it is read"));
    folder(&removed).mark_removed().expect("it is written");
    removed.crash(Loss::All);
    assert!(folder(&removed).was_removed().expect("it is read"));
    assert!(matches!(refused(&removed), ForceError::NoMember));
    assert_eq!(folder(&removed).life().expect("a life"), Incarnation(7));
}
