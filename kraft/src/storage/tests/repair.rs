//! Damaged logs that are set aside and begun anew.

use super::*;
use crate::storage::format::{HEADER_BYTES, Record, segment_name};
use crate::storage::inspect::{Dumped, dump};
use crate::storage::{Expected, Files, Folder, FolderError, Identity, Member, RepairError, Repaired, repair};

const LOG: &str = "log";

fn identity(members: u64) -> Identity {
    let member = |node| Member {
        node: NodeId(node),
        address: format!("localhost:{}", 7000 + node),
    };
    Identity {
        cluster: "demo".to_owned(),
        node: NodeId(1),
        members: (1..=members).map(member).collect(),
        listen: "localhost:7001".to_owned(),
        client: "localhost:8001".to_owned(),
        incarnation: Incarnation(7),
        created: 0,
    }
}

/// Segments with room for all entries of a test.
fn roomy() -> Config {
    Config {
        segment_bytes: 64 << 10,
        first_segment_bytes: 16 << 10,
        ..small()
    }
}

/// The log in a data folder, by hand.
#[track_caller]
fn rig(files: &MemFiles) -> Rig {
    let log = files.folder(LOG).unwrap();
    let identity = Folder::read_identity(files).unwrap().log(GroupId(0));
    let (opened, recovered) = DiskLog::open(log.clone(), identity, roomy()).unwrap_or_else(|error| panic!("{error}"));
    Rig {
        files: log,
        config: roomy(),
        log: opened,
        last: recovered.last,
        recovered,
        syncs: 0,
    }
}

/// A node of so many, with entries 1 to 9 of term 4, which then saw term 5, and entries up to 12 of that. The disk, the
/// segment, and the offset of each record.
fn node_of(members: u64) -> (MemFiles, String, Vec<usize>) {
    let files = MemFiles::new();
    Folder::create_in(&files, &identity(members)).unwrap();
    let mut rig = rig(&files);
    rig.log.save(hard(4, 2));
    for at in 1..10 {
        rig.write(4, &[&[at; 300]]);
    }
    rig.log.save(hard(5, 3));
    rig.sync();
    for at in 10..13 {
        rig.write(5, &[&[at; 300]]);
    }
    drop(rig);
    files.crash(Loss::All);
    let (segment, offsets) = records(&files);
    (files, segment, offsets)
}

/// The last segment that has entries, and where its records stand.
fn records(files: &MemFiles) -> (String, Vec<usize>) {
    let identity = Folder::read_identity(files).unwrap().log(GroupId(0));
    let mut found = Vec::new();
    let mut last = 0;
    let note = |dumped| {
        if let Dumped::Record(at, record) = dumped {
            found.push(at);
            if matches!(record, Record::Entry { .. }) {
                last = at.segment;
            }
        }
    };
    dump(&files.folder(LOG).unwrap(), Some(identity), note).unwrap();
    let here = found.iter().filter(|at| at.segment == last);
    (segment_name(last), here.map(|at| at.offset as usize).collect())
}

#[track_caller]
fn open(files: &MemFiles) -> Folder<MemFiles> {
    Folder::open_in(files.clone(), Expected::default()).unwrap()
}

#[track_caller]
fn repaired(files: &MemFiles, term: Option<u64>) -> Repaired {
    repair(&open(files), term.map(Term)).unwrap_or_else(|error| panic!("{error}"))
}

/// It is refused, and nothing changes but for the lock.
#[track_caller]
fn refused(files: &MemFiles, term: Option<u64>) -> RepairError {
    let before = files.content();
    let error = repair(&open(files), term.map(Term)).expect_err("it is refused");
    assert_eq!(files.content(), before, "{error}");
    error
}

fn rot(files: &MemFiles, segment: &str, offset: usize) {
    files.folder(LOG).unwrap().rot(segment, offset, 1);
}

/// What `serve` would find.
#[track_caller]
fn begins_with(files: &MemFiles) -> (HardState, u64, u64) {
    let folder = open(files);
    assert!(folder.damage().unwrap().is_there());
    folder.log().unwrap();
    folder.peers().unwrap();
    let Recovered {
        hard, base_index, last, ..
    } = rig(files).recovered;
    (hard, base_index.0, last.0)
}

#[test]
fn a_damaged_log_is_set_aside_and_begins_anew_in_a_fresh_term() {
    let (files, segment, offsets) = node_of(3);
    let log = files.folder(LOG).unwrap();
    // The payload of the third entry.
    rot(&files, &segment, offsets[4] + 40);
    let damaged = log.bytes(&segment);
    let done = repaired(&files, None);
    assert_eq!((done.term, done.snapshot), (Term(6), Index::ZERO));
    assert_eq!(done.aside, files.path("damaged-1"));
    assert_eq!(files.folder("damaged-1").unwrap().bytes(&segment), damaged);
    assert_eq!(begins_with(&files), (hard(6, 0), 0, 0));
    files.crash(Loss::All);
    assert_eq!(begins_with(&files), (hard(6, 0), 0, 0), "it is durable");
    assert!(matches!(refused(&files, None), RepairError::Sound));

    open(&files).damage().unwrap().forget().unwrap();
    files.crash(Loss::All);
    assert!(!open(&files).damage().unwrap().is_there());
}

#[test]
fn it_may_be_damaged_again_before_it_has_made_up_for_that() {
    let (files, segment, offsets) = node_of(3);
    rot(&files, &segment, offsets[4] + 40);
    repaired(&files, None);
    let mut rig = rig(&files);
    rig.write(6, &[b"one"]);
    rig.write(6, &[b"two"]);
    drop(rig);
    files.crash(Loss::All);
    let (segment, _) = records(&files);
    let bytes = files.folder(LOG).unwrap().bytes(&segment);
    let payload = bytes.windows(3).position(|bytes| bytes == b"one").unwrap();
    rot(&files, &segment, payload);
    let done = repaired(&files, None);
    assert_eq!((done.term, done.aside), (Term(7), files.path("damaged-2")));
    assert_eq!(begins_with(&files), (hard(7, 0), 0, 0));
}

#[test]
fn a_sound_log_is_not_set_aside() {
    let (files, segment, offsets) = node_of(3);
    assert!(matches!(refused(&files, None), RepairError::Sound));
    assert!(matches!(refused(&files, Some(9)), RepairError::Sound));
    // Nor is one that looks torn.
    rot(&files, &segment, offsets.last().unwrap() + 40);
    assert!(matches!(refused(&files, None), RepairError::Sound));
}

#[test]
fn a_term_that_may_be_lost_is_asked_for() {
    let (files, segment, offsets) = node_of(3);
    // What the log says of term 5 itself; the entries of that term are no proof that there was no later one.
    let log = files.folder(LOG).unwrap();
    let is_hard = |at: &usize| log.bytes(&segment)[*at + 24..*at + 32] == 5u64.to_le_bytes();
    let hard_state = offsets.iter().copied().find(is_hard).unwrap();
    rot(&files, &segment, hard_state + 20);
    let error = refused(&files, None);
    assert!(matches!(error, RepairError::Term(Term(5))), "{error}");
    let error = refused(&files, Some(4));
    let (named, found) = (Term(4), Term(5));
    assert!(matches!(error, RepairError::TermTooLow { named: n, found: f } if (n, f) == (named, found)));
    assert_eq!(repaired(&files, Some(8)).term, Term(9));
    assert_eq!(begins_with(&files), (hard(9, 0), 0, 0));
}

/// The node came back in a term that nobody would hear of, or that none could follow.
#[test]
fn a_term_that_no_member_can_be_in_is_refused() {
    let too_high = |files: &MemFiles, named: u64, most: u64| {
        let error = refused(files, Some(named));
        let (named, most) = (Term(named), Term(most));
        assert!(
            matches!(error, RepairError::TermTooHigh { named: n, most: m } if (n, m) == (named, most)),
            "{error}"
        );
    };
    // It was in term 5, for certain.
    let (files, segment, offsets) = node_of(3);
    rot(&files, &segment, offsets[4] + 40);
    let most = 5 + (1 << 32);
    too_high(&files, most + 1, most);
    too_high(&files, u64::MAX, most);
    assert_eq!(repaired(&files, Some(most)).term, Term(most + 1));
    // Nobody knows.
    let (files, ..) = node_of(3);
    let log = files.folder(LOG).unwrap();
    for name in log.list().unwrap() {
        let _ = log.remove(&name);
    }
    too_high(&files, u64::MAX, 1 << 62);
    too_high(&files, (1 << 62) + 1, 1 << 62);
    assert_eq!(repaired(&files, Some(1 << 40)).term, Term((1 << 40) + 1));
}

#[test]
fn a_later_word_of_the_term_is_as_good() {
    let (files, segment, offsets) = node_of(3);
    // The header of an entry, which could have been anything; the node says its term behind it.
    rot(&files, &segment, offsets[6] + 2);
    assert_eq!(repaired(&files, None).term, Term(6));
}

#[test]
fn a_log_that_is_gone_needs_the_term_of_the_others() {
    let (files, ..) = node_of(3);
    let log = files.folder(LOG).unwrap();
    for name in log.list().unwrap() {
        let _ = log.remove(&name);
    }
    assert!(matches!(refused(&files, None), RepairError::Term(Term(0))));
    assert_eq!(repaired(&files, Some(7)).term, Term(8));
    assert_eq!(begins_with(&files), (hard(8, 0), 0, 0));
}

#[test]
fn the_only_member_has_nobody_to_ask() {
    let (files, segment, offsets) = node_of(1);
    rot(&files, &segment, offsets[4] + 40);
    assert!(matches!(refused(&files, None), RepairError::Alone));
}

#[test]
fn a_newer_version_is_no_damage() {
    let (files, segment, _) = node_of(3);
    let log = files.folder(LOG).unwrap();
    log.change(&segment, |bytes| {
        bytes[8] += 1;
        let end = HEADER_BYTES as usize;
        let crc = crc32c::crc32c(&bytes[..end - 4]).to_le_bytes();
        bytes[end - 4..end].copy_from_slice(&crc);
    });
    let error = refused(&files, None);
    assert!(matches!(error, RepairError::Version(_)), "{error}");
}

#[test]
fn a_sound_snapshot_stays() {
    let (files, ..) = node_of(3);
    let rig = rig(&files);
    rig.snapshot(3, 4);
    rig.snapshot(7, 4);
    drop(rig);
    files.crash(Loss::All);
    let (segment, offsets) = records(&files);
    rot(&files, &segment, offsets[4] + 40);
    let copy = files.fork();
    assert_eq!(repaired(&files, None).snapshot, Index(7));
    assert_eq!(begins_with(&files), (hard(6, 0), 7, 7));
    // A damaged one is set aside, and the one before it counts.
    let newest = copy.folder(LOG).unwrap().folder("snapshots").unwrap();
    let names = newest.list().unwrap();
    let name = names.iter().max().unwrap();
    newest.rot(name, 90, 1);
    assert_eq!(repaired(&copy, None).snapshot, Index(3));
    assert_eq!(begins_with(&copy), (hard(6, 0), 3, 3));
}

#[test]
fn a_snapshot_of_a_later_version_is_no_damage_either() {
    let (files, ..) = node_of(3);
    rig(&files).snapshot(7, 4);
    files.crash(Loss::All);
    let snapshots = files.folder(LOG).unwrap().folder("snapshots").unwrap();
    let name = snapshots.list().unwrap().remove(0);
    snapshots.change(&name, |bytes| {
        bytes[12] = 2;
        let crc = crc32c::crc32c(&bytes[12..64]).to_le_bytes();
        bytes[8..12].copy_from_slice(&crc);
    });
    let error = refused(&files, None);
    assert!(matches!(error, RepairError::Version(_)), "{error}");
    assert!(snapshots.list().unwrap().contains(&name));
}

#[test]
fn a_snapshot_that_the_disk_does_not_give_back_is_mended_by_the_others() {
    const EIO: i32 = 5;
    let (files, ..) = node_of(3);
    let mut rig = rig(&files);
    for _ in 0..40 {
        rig.write(6, &[&[1; 4000]]);
    }
    rig.snapshot(3, 4);
    rig.snapshot(40, 6);
    assert!(rig.log.release(Index(40)) > Index(3));
    rig.run().unwrap();
    drop(rig);
    files.crash(Loss::All);
    // It cannot be read by the repair, nor by the start.
    for _ in 0..4 {
        files.fail(Operation::Read, "00000000000000000040-", 0, Failure::System(EIO));
    }
    assert_eq!(repaired(&files, None).snapshot, Index(3));
    assert_eq!(begins_with(&files), (hard(7, 0), 3, 3));
}

#[test]
fn a_repair_goes_on_wherever_it_was_cut_short() {
    let (files, ..) = node_of(3);
    rig(&files).snapshot(5, 4);
    files.crash(Loss::All);
    let (segment, offsets) = records(&files);
    rot(&files, &segment, offsets[4] + 40);
    let bytes = |files: &MemFiles| -> Vec<Vec<u8>> { files.content().into_values().collect() };
    let damaged = files.folder(LOG).unwrap().bytes(&segment);
    for changes in 0.. {
        let mut is_through = false;
        for loss in [Loss::All, Loss::Nothing, Loss::Random(changes), Loss::Random(!changes)] {
            let files = files.fork();
            let folder = open(&files);
            files.crash_after(changes);
            is_through = repair(&folder, None).is_ok();
            drop(folder);
            files.crash(loss);
            let folder = open(&files);
            // Whatever was done, the node does not start from the half of it.
            match folder.log() {
                Ok(log) if folder.damage().unwrap().is_there() => {
                    DiskLog::open(log, identity(3).log(GroupId(0)), roomy()).unwrap();
                }
                Ok(log) => {
                    assert!(!is_through);
                    let error = DiskLog::open(log, identity(3).log(GroupId(0)), roomy()).expect_err("it is damaged");
                    assert!(matches!(&error, OpenError::Damaged(damage) if file_name(damage) == segment));
                }
                Err(error) => assert!(matches!(error, FolderError::Unrepaired(_)), "{error}"),
            }
            match repair(&folder, None) {
                Ok(done) => assert_eq!(done.snapshot, Index(5)),
                Err(error) => assert!(matches!(error, RepairError::Sound), "{error}"),
            }
            drop(folder);
            assert_eq!(
                begins_with(&files),
                (hard(6, 0), 5, 5),
                "after {changes} changes, {loss:?}"
            );
            assert!(bytes(&files).contains(&damaged), "after {changes} changes, {loss:?}");
        }
        if is_through {
            assert!(changes > 8);
            return;
        }
    }
}
