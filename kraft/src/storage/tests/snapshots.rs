//! Snapshots on a simulated disk.

use std::sync::{Arc, Barrier};

use kraft_core::membership::{Configuration, ConfigurationError};
use kraft_core::message::SnapshotId;
use kraft_core::snapshot::{Head, HeadError, Snapshot, SnapshotStore, StoreError};

use super::*;
use crate::storage::snapshots::format::{BLOCK_BYTES, Flaw, Owner, snapshot_name, snapshot_of_name};
use crate::storage::snapshots::{find_in, snapshot};
use crate::storage::{DiskSnapshots, Files};

const OWNER: Owner = Owner {
    cluster: ClusterId(1),
    group: GroupId(0),
};

pub(super) fn head(index: u64, term: u64) -> Head {
    Head {
        index: Index(index),
        term: Term(term),
        membership_index: Index(index / 2),
        membership: membership(3),
    }
}

/// Who they are.
pub(super) fn membership(voters: u64) -> Bytes {
    let voters: Vec<_> = (1..=voters).map(NodeId).collect();
    Configuration::founding(&voters).encode()
}

fn content(seed: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    fastrand::Rng::with_seed(seed).fill(&mut content);
    content
}

/// A disk and the snapshots on it.
struct Place {
    disk: MemFiles,
    files: MemFiles,
    store: DiskSnapshots<MemFiles>,
}

impl Place {
    fn new() -> Self {
        Self::on(MemFiles::new(), 2)
    }

    fn on(disk: MemFiles, keep: u32) -> Self {
        let files = disk.folder("snapshots").unwrap();
        Self {
            store: DiskSnapshots::new(files.clone(), OWNER, keep, 0),
            disk,
            files,
        }
    }

    /// As a start does it.
    fn restart(&self, loss: Loss) -> Self {
        let disk = self.disk.fork();
        disk.crash(loss);
        let place = Self::on(disk, 2);
        find_in(&place.disk, OWNER).unwrap().clean(&place.files).unwrap();
        place
    }

    fn newest(&self) -> Option<Snapshot> {
        let finding = find_in(&self.disk, OWNER).unwrap();
        assert!(finding.flawed.is_empty(), "{finding:?}");
        finding.newest
    }

    fn save(&self, index: u64, content: &[u8]) -> Result<Snapshot, StoreError> {
        self.store.save(&head(index, 3), &mut |out| out.write_all(content))
    }

    fn content(&self, id: SnapshotId) -> Result<Vec<u8>, StoreError> {
        let mut content = Vec::new();
        self.store
            .load(id, &mut |input| input.read_to_end(&mut content).map(drop))?;
        Ok(content)
    }

    /// The bytes as they are sent.
    fn pieces(&self, id: SnapshotId, length: usize) -> Vec<Bytes> {
        let offsets = (0..id.bytes).step_by(length);
        offsets
            .map(|offset| self.store.read(id, offset, length).unwrap())
            .collect()
    }

    fn receive(&self, id: SnapshotId, pieces: &[Bytes]) -> Result<Snapshot, StoreError> {
        let mut offset = 0;
        for piece in pieces {
            self.store.receive(id, offset, piece)?;
            offset += piece.len() as u64;
        }
        let snapshot = self.store.finish(id)?;
        self.store.keep(&snapshot)?;
        Ok(snapshot)
    }

    #[track_caller]
    fn has_no_temporary(&self) {
        let names = self.files.list().unwrap();
        assert!(
            names.iter().all(|name| snapshot_of_name(name, 0).is_some()),
            "{names:?}"
        );
    }
}

#[track_caller]
fn flaw_at(error: &StoreError) -> (u64, &str) {
    match error {
        StoreError::Damaged { offset, what, .. } => (*offset, what),
        other => panic!("{other}"),
    }
}

#[test]
fn equal_state_is_the_same_snapshot_on_every_node_however_it_was_written() {
    let sizes = [
        0,
        1,
        BLOCK_BYTES - 1,
        BLOCK_BYTES,
        BLOCK_BYTES + 1,
        3 << 20,
        (9 << 20) + 7,
    ];
    for bytes in sizes {
        let content = content(1, bytes);
        let (one, other) = (Place::new(), Place::new());
        let saved = one.save(7, &content).unwrap();
        let again = other.store.save(&head(7, 3), &mut |out| {
            content.chunks(10_007).try_for_each(|part| out.write_all(part))
        });
        assert_eq!(saved, again.unwrap(), "{bytes} bytes");
        assert_eq!(saved.head, head(7, 3));
        let whole = one.pieces(saved.id, 100_000).concat();
        assert_eq!(whole.len() as u64, saved.id.bytes);
        assert_eq!(crc32c::crc32c(&whole), saved.id.crc);
        assert_eq!(one.content(saved.id).unwrap(), content);
        assert_eq!(one.newest(), Some(saved.clone()));
        // What was received is the same file, and goes on to others.
        let third = Place::new();
        let received = third.receive(saved.id, &one.pieces(saved.id, 30_011)).unwrap();
        assert_eq!(received, saved);
        assert_eq!(third.disk.content(), one.disk.content());
        third.has_no_temporary();
    }
}

#[test]
fn another_state_is_another_snapshot() {
    let place = Place::new();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        assert!(seen.insert(place.save(7, &content(seed, 1000)).unwrap().id.crc));
    }
    for voters in [0, 1, 2] {
        let founding = Head {
            membership_index: Index::ZERO,
            membership: Bytes::new(),
            ..head(7, 3)
        };
        let head = match voters {
            0 => founding,
            _ => Head {
                membership: membership(voters),
                ..head(7, 3)
            },
        };
        let saved = place
            .store
            .save(&head, &mut |out| out.write_all(&content(0, 1000)))
            .unwrap();
        assert!(seen.insert(saved.id.crc), "{voters} voters");
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_told_by_all_who_read() {
    let place = Place::new();
    let saved = place.save(7, &content(1, 300)).unwrap();
    let (name, sound) = (snapshot_name(&saved.id), place.pieces(saved.id, 1 << 20).concat());
    let refused = |bytes: &[u8], what: &str| {
        place.files.change(&name, |file| *file = bytes.to_vec());
        let error = place.content(saved.id).unwrap_err();
        assert!(flaw_at(&error).0 <= sound.len() as u64, "{what}: {error}");
        let finding = find_in(&place.disk, OWNER).unwrap();
        assert!(finding.newest.is_none() && finding.flawed.len() == 1, "{what}");
        let report = snapshot(&place.files, &name, None).unwrap();
        assert!(report.verdict.is_err(), "{what}: {report}");
        let to = Place::new();
        let pieces: Vec<_> = bytes.chunks(50).map(Bytes::copy_from_slice).collect();
        assert!(to.receive(saved.id, &pieces).is_err(), "{what}");
        to.store.abandon().unwrap();
        assert!(to.files.list().unwrap().is_empty(), "{what}");
    };
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        refused(&bytes, &format!("byte {at} flipped"));
    }
    for length in 0..sound.len() {
        refused(&sound[..length], &format!("cut to {length} bytes"));
    }
    refused(&[&sound[..], b"x"].concat(), "a byte more");
    place.files.change(&name, |file| *file = sound.clone());
    assert_eq!(place.content(saved.id).unwrap(), content(1, 300));
}

#[test]
fn blocks_in_each_others_place_are_told() {
    let place = Place::new();
    let saved = place.save(7, &content(1, 3 * BLOCK_BYTES)).unwrap();
    let name = snapshot_name(&saved.id);
    let first = 64 + membership(3).len();
    let block = BLOCK_BYTES + 8;
    place.files.change(&name, |file| {
        let (one, two) = file[first..].split_at_mut(block);
        one.swap_with_slice(&mut two[..block]);
    });
    let error = place.content(saved.id).unwrap_err();
    assert_eq!(flaw_at(&error), (first as u64, "a block is damaged"));
}

#[test]
fn pieces_that_do_not_follow_are_refused_and_what_was_received_stands() {
    let from = Place::new();
    let saved = from.save(7, &content(1, 1000)).unwrap();
    let id = saved.id;
    let bytes = from.pieces(id, 1 << 20).concat();
    let to = Place::new();
    let misused = |result: Result<(), StoreError>, what: &str| {
        let error = result.unwrap_err();
        assert!(
            matches!(
                &error,
                StoreError::Failed {
                    operation: "receive",
                    ..
                }
            ) && error.to_string().contains(what),
            "{error}"
        );
    };
    misused(to.store.receive(id, 10, &bytes[10..20]), "of which nothing is here");
    misused(
        to.store.finish(id).map(drop),
        "nothing of the snapshot at index 7 is here",
    );
    to.store.receive(id, 0, &bytes[..100]).unwrap();
    misused(
        to.store.receive(id, 101, &bytes[101..200]),
        "byte 101 came where byte 100 must follow",
    );
    misused(
        to.store.receive(id, 99, &bytes[99..200]),
        "byte 99 came where byte 100 must follow",
    );
    misused(to.store.receive(id, u64::MAX, &bytes[..10]), "must follow");
    let other = SnapshotId { crc: !id.crc, ..id };
    misused(
        to.store.receive(other, 100, &bytes[100..200]),
        "of which nothing is here",
    );
    let beyond = [&bytes[100..], b"x"].concat();
    misused(to.store.receive(id, 100, &beyond), "bytes came at byte 100");
    to.store.receive(id, 100, &[]).unwrap();
    to.store.receive(id, 100, &bytes[100..]).unwrap();
    misused(to.store.keep(&saved), "the snapshot at index 7 was not finished");
    assert_eq!(to.store.finish(id).unwrap(), saved);
    misused(to.store.finish(id).map(drop), "nothing of the snapshot");
    to.store.keep(&saved).unwrap();
    misused(to.store.keep(&saved), "was not finished");
    assert_eq!(to.content(id).unwrap(), content(1, 1000));

    // It ends before its end; then it begins again.
    let to = Place::new();
    to.store.receive(id, 0, &bytes[..500]).unwrap();
    assert_eq!(
        flaw_at(&to.store.finish(id).unwrap_err()).1,
        "it ends before its trailer"
    );
    assert!(to.files.list().unwrap().is_empty());
    to.store.receive(id, 0, &bytes[..500]).unwrap();
    to.store.receive(id, 0, &bytes).unwrap();
    assert_eq!(to.store.finish(id).unwrap(), saved);
}

#[test]
fn no_restart_finds_what_was_finished_and_is_not_kept() {
    let from = Place::new();
    let sent = from.save(9, &content(2, 1000)).unwrap();
    let pieces = from.pieces(sent.id, 300);
    let to = Place::on(MemFiles::new(), 1);
    let own = to.save(7, &content(1, 1000)).unwrap();
    let finish = || {
        let offsets = (0..).step_by(300);
        for (offset, piece) in offsets.zip(&pieces) {
            to.store.receive(sent.id, offset, piece).unwrap();
        }
        assert_eq!(to.store.finish(sent.id).unwrap(), sent);
    };
    finish();
    for loss in [Loss::Nothing, Loss::All] {
        assert_eq!(to.restart(loss).newest(), Some(own.clone()), "{loss:?}");
    }
    to.store.abandon().unwrap();
    to.has_no_temporary();
    assert!(to.store.keep(&sent).is_err());
    assert_eq!(to.newest(), Some(own));
    // What gives way goes when the new one is there to stay.
    finish();
    to.store.keep(&sent).unwrap();
    for loss in [Loss::Nothing, Loss::All] {
        assert_eq!(to.restart(loss).newest(), Some(sent.clone()), "{loss:?}");
    }
    assert_eq!(to.files.list().unwrap().len(), 1);
}

#[test]
fn a_snapshot_that_is_not_what_its_sender_says_is_refused_whole() {
    let from = Place::new();
    let saved = from.save(7, &content(1, 1000)).unwrap();
    let pieces = from.pieces(saved.id, 300);
    let to = Place::new();
    let wrong = [
        SnapshotId {
            index: Index(8),
            ..saved.id
        },
        SnapshotId {
            term: Term(4),
            ..saved.id
        },
        SnapshotId { crc: 5, ..saved.id },
        SnapshotId {
            bytes: saved.id.bytes + 1,
            ..saved.id
        },
    ];
    for id in wrong {
        let error = to.receive(id, &pieces).unwrap_err();
        assert!(
            flaw_at(&error).1.starts_with("it is the snapshot at index 7 of term 3"),
            "{error}"
        );
        assert!(to.files.list().unwrap().is_empty());
    }
    let tiny = SnapshotId { bytes: 3, ..saved.id };
    assert!(matches!(
        to.store.receive(tiny, 0, b"abc"),
        Err(StoreError::Damaged { .. })
    ));
}

#[test]
fn a_snapshot_of_another_cluster_is_refused_by_name_at_its_first_piece() {
    let from = Place::new();
    let saved = from.save(7, &content(1, 1000)).unwrap();
    let owner = Owner {
        cluster: ClusterId(0xbad),
        ..OWNER
    };
    let to = Place::new();
    let store = DiskSnapshots::new(to.files.clone(), owner, 2, 0);
    let error = store.receive(saved.id, 0, &from.pieces(saved.id, 100)[0]).unwrap_err();
    let expected = "it is a snapshot of cluster 1, group 0, not of cluster bad, group 0";
    assert_eq!(flaw_at(&error), (0, expected));
    assert!(to.files.list().unwrap().is_empty());
    let report = snapshot(&from.files, &snapshot_name(&saved.id), Some(owner)).unwrap();
    assert!(report.to_string().contains(expected), "{report}");
}

/// It was durable and the newest before anybody read its configuration: the leader sent it again for ever, and the node
/// did not start any more.
#[test]
fn a_snapshot_that_no_node_can_begin_with_is_refused_before_it_is_one() {
    let refused = |change: fn(&mut Head), expected: HeadError| {
        let mut head = head(7, 3);
        change(&mut head);
        let from = Place::new();
        let saved = from
            .store
            .save(&head, &mut |out| out.write_all(&content(1, 1000)))
            .unwrap();
        let to = Place::new();
        to.save(5, b"older").unwrap();
        let error = to.receive(saved.id, &from.pieces(saved.id, 300)).unwrap_err();
        match (&error, Flaw::Head(expected).is_version()) {
            // No damage: who sent it has no reason to take another one.
            (StoreError::Failed { error, .. }, true) => assert_eq!(error.to_string(), expected.to_string()),
            _ => assert_eq!(flaw_at(&error).1, expected.to_string()),
        }
        assert_eq!(to.newest().unwrap().id.index, Index(5));
        to.has_no_temporary();
        // As an older program may have left it.
        let finding = find_in(&from.disk, OWNER).unwrap();
        let flaws: Vec<_> = finding
            .flawed
            .iter()
            .map(|(_, index, (_, flaw))| (*index, *flaw))
            .collect();
        assert_eq!(flaws, [(saved.id.index, Flaw::Head(expected))]);
        assert!(finding.newest.is_none());
    };
    refused(
        |head| head.membership = Bytes::from_static(b"\x01who they are"),
        HeadError::Configuration(ConfigurationError::Field),
    );
    refused(
        |head| head.membership = Bytes::from_static(b"\xffwho they are"),
        HeadError::Configuration(ConfigurationError::Version(255)),
    );
    let place = |at| HeadError::Place {
        at: Index(at),
        index: Index(7),
    };
    refused(|head| head.membership_index = Index(8), place(8));
    refused(|head| head.membership = Bytes::new(), place(3));
}

#[test]
fn arbitrary_bytes_are_never_a_panic_and_never_a_snapshot() {
    let seed = std::env::var("KRAFT_SEED").map_or(1, |seed| seed.parse().expect("KRAFT_SEED is a number"));
    println!("KRAFT_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let from = Place::new();
    let saved = from.save(7, &content(1, 70_000)).unwrap();
    let sound = from.pieces(saved.id, 1 << 20).concat();
    for _ in 0..500 {
        let to = Place::new();
        let mut bytes = sound[..rng.usize(..sound.len())].to_vec();
        bytes.extend((0..rng.usize(1..500)).map(|_| rng.u8(..)));
        let id = SnapshotId {
            bytes: bytes.len() as u64,
            crc: crc32c::crc32c(&bytes),
            ..saved.id
        };
        let pieces: Vec<_> = bytes.chunks(rng.usize(1..90_000)).map(Bytes::copy_from_slice).collect();
        assert!(to.receive(id, &pieces).is_err());
    }
}

#[test]
fn the_newest_stay_and_the_one_just_written_is_never_removed() {
    let place = Place::on(MemFiles::new(), 2);
    let saved: Vec<_> = [10, 20, 30].map(|at| place.save(at, b"state").unwrap()).into();
    assert!(matches!(place.content(saved[0].id), Err(StoreError::Gone(id)) if id == saved[0].id));
    let read = place.store.read(saved[0].id, 0, 10);
    assert!(matches!(read, Err(StoreError::Gone(_))));
    assert_eq!(place.content(saved[1].id).unwrap(), b"state");
    // An old one, asked for by somebody who will use it.
    let old = place.save(5, b"old").unwrap();
    assert_eq!(place.content(old.id).unwrap(), b"old");
    assert_eq!(place.content(saved[2].id).unwrap(), b"state");
    assert_eq!(place.files.list().unwrap().len(), 2);
    // What was removed stays removed.
    assert_eq!(place.restart(Loss::All).files.list().unwrap().len(), 2);
}

#[test]
fn a_snapshot_that_comes_late_does_not_remove_a_newer_one() {
    let place = Place::on(MemFiles::new(), 1);
    let received = place.save(20, b"behind which the log begins anew").unwrap();
    place.save(10, b"was begun before that").unwrap();
    assert_eq!(place.newest(), Some(received));
    place.save(30, b"the next").unwrap();
    assert_eq!(place.files.list().unwrap().len(), 1);
}

#[test]
fn no_space_for_a_snapshot() {
    let place = Place::new();
    let kept = place.save(5, &content(1, 100_000)).unwrap();
    let used = place.disk.used_bytes();
    place.disk.set_capacity(Some(used + (2 << 20)));
    let large = content(2, 3 << 20);
    let error = place.save(6, &large).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
    assert_eq!(place.disk.used_bytes(), used, "the partial is there");

    let from = Place::new();
    let sent = from.save(8, &large).unwrap();
    let pieces = from.pieces(sent.id, 100_000);
    // It says how large it is.
    let error = place.store.receive(sent.id, 0, &pieces[0]).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
    let huge = SnapshotId {
        bytes: u64::MAX,
        ..sent.id
    };
    let error = place.store.receive(huge, 0, &pieces[0]).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
    // Somebody else fills the disk meanwhile.
    place.disk.set_capacity(None);
    place.store.receive(sent.id, 0, &pieces[0]).unwrap();
    place.disk.set_capacity(Some(place.disk.used_bytes()));
    let error = place.store.receive(sent.id, 100_000, &pieces[1]).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
    assert_eq!(place.disk.used_bytes(), used, "the partial is there");
    assert_eq!(place.newest(), Some(kept));
    // Room is made.
    place.disk.set_capacity(None);
    assert_eq!(place.receive(sent.id, &pieces).unwrap(), sent);
    place.save(9, &large).unwrap();
}

#[test]
fn a_snapshot_leaves_the_log_its_room() {
    let disk = MemFiles::new();
    disk.set_capacity(Some(30 << 20));
    let files = disk.folder("snapshots").unwrap();
    let store = DiskSnapshots::new(files, OWNER, 2, 16 << 20);
    let large = content(1, 29 << 20);
    let saved = store.save(&head(1, 1), &mut |out| out.write_all(&large));
    assert!(matches!(saved, Err(StoreError::NoSpace(_))), "{saved:?}");
    assert_eq!(disk.used_bytes(), 0);
}

/// What may fail in a save or a transfer.
const OPERATIONS: [Operation; 5] = [
    Operation::Create,
    Operation::Write,
    Operation::Sync,
    Operation::Rename,
    Operation::SyncFolder,
];

#[test]
fn every_fault_is_an_error_of_the_snapshot_alone() {
    // More than is written between two syncs.
    let large = content(2, 9 << 20);
    let from = Place::new();
    let sent = from.save(8, &large).unwrap();
    let pieces = from.pieces(sent.id, 1 << 20);
    for operation in OPERATIONS {
        for skip in 0.. {
            let (saving, receiving) = (Place::new(), Place::new());
            let mut fired = 0;
            for (place, is_saved) in [(saving, true), (receiving, false)] {
                let kept = place.save(5, b"kept").unwrap();
                place
                    .disk
                    .fail(operation, "", skip, Failure::Error(io::ErrorKind::Other));
                let before = place.disk.fired();
                let written = match is_saved {
                    true => place.save(8, &large),
                    false => place.receive(sent.id, &pieces),
                };
                let has_failed = place.disk.fired() > before;
                fired += u64::from(has_failed);
                place.disk.forgive();
                assert_eq!(written.is_err(), has_failed, "{operation:?} {skip}");
                let expected = if has_failed { kept.id } else { sent.id };
                place.has_no_temporary();
                assert_eq!(place.newest().unwrap().id, expected, "{operation:?} {skip}");
                let loss = [Loss::All, Loss::Nothing, Loss::Random(skip.into())][skip as usize % 3];
                let after = place.restart(loss);
                // A rename that was never synced may come to the disk, and its undoing not: it is whole, too.
                let newest = after.newest().unwrap().id;
                let is_either = operation == Operation::SyncFolder && newest == sent.id;
                assert!(newest == expected || is_either, "{operation:?} {skip} {loss:?}");
                assert_eq!(after.content(kept.id).unwrap(), b"kept");
                if skip == 0 {
                    // And it can be tried again.
                    assert_eq!(after.receive(sent.id, &pieces).unwrap(), sent);
                }
            }
            if fired == 0 {
                assert!(skip > 0, "{operation:?} never happened");
                break;
            }
        }
    }
}

#[test]
fn a_write_of_the_state_that_fails_leaves_nothing() {
    let place = Place::new();
    let error = place
        .store
        .save(&head(1, 1), &mut |out| {
            out.write_all(&[7; 3 << 20])?;
            Err(io::Error::other("the state cannot be written"))
        })
        .unwrap_err();
    assert!(error.to_string().contains("the state cannot be written"), "{error}");
    assert!(place.files.list().unwrap().is_empty());
}

#[test]
fn dir_fsync_rename() {
    // A crash at every change of a save and of a transfer: the old one or the new one is the newest, whole, and the
    // new one if that was said.
    let large = content(2, 200_000);
    let from = Place::new();
    let sent = from.save(8, &large).unwrap();
    let pieces = from.pieces(sent.id, 70_000);
    for is_saved in [true, false] {
        for changes in 0.. {
            let place = Place::on(MemFiles::new(), 1);
            let kept = place.save(5, b"kept").unwrap();
            place.disk.crash_after(changes);
            let written = match is_saved {
                true => place.save(8, &large),
                false => place.receive(sent.id, &pieces),
            };
            for seed in 0..12 {
                let after = place.restart(match seed {
                    0 => Loss::All,
                    1 => Loss::Nothing,
                    seed => Loss::Random(seed),
                });
                after.has_no_temporary();
                let newest = after.newest().expect("one of them is there").id;
                assert!(
                    newest == sent.id || newest == kept.id && written.is_err(),
                    "{changes} {seed}"
                );
                let content = after.content(newest).unwrap();
                assert!(content == b"kept" || content == large);
            }
            // Ten changes that matter, and the removal of what is one too many, which is not an error.
            if written.is_ok() && changes > 12 {
                break;
            }
        }
    }
}

#[test]
fn a_save_a_transfer_and_reads_go_on_side_by_side() {
    let place = Arc::new(Place::on(MemFiles::new(), 64));
    let from = Place::new();
    let sent = from.save(1000, &content(2, 500_000)).unwrap();
    let pieces = from.pieces(sent.id, 10_000);
    let kept = place.save(5, &content(1, 500_000)).unwrap();
    let start = Arc::new(Barrier::new(4));
    let go = |act: Box<dyn FnOnce(&Place) + Send>| {
        let (place, start) = (Arc::clone(&place), Arc::clone(&start));
        std::thread::spawn(move || {
            start.wait();
            act(&place);
        })
    };
    let threads = [
        go(Box::new(move |place| {
            assert_eq!(place.receive(sent.id, &pieces).unwrap(), sent)
        })),
        go(Box::new(|place| {
            (10..20).for_each(|index| drop(place.save(index, &content(index, 300_000)).unwrap()));
        })),
        go(Box::new(|place| {
            (20..30).for_each(|index| drop(place.save(index, &content(index, 300_000)).unwrap()));
        })),
        go(Box::new(move |place| {
            for _ in 0..20 {
                assert_eq!(place.content(kept.id).unwrap(), content(1, 500_000));
            }
        })),
    ];
    for thread in threads {
        thread.join().unwrap();
    }
    place.has_no_temporary();
    for name in place.files.list().unwrap() {
        assert!(snapshot(&place.files, &name, Some(OWNER)).unwrap().verdict.is_ok());
    }
    assert_eq!(place.files.list().unwrap().len(), 22);
}

#[test]
fn content_that_cannot_be_read_and_a_disk_that_fails_are_told_apart() {
    let place = Place::new();
    let saved = place.save(7, &content(1, 1000)).unwrap();
    let error = place
        .store
        .load(saved.id, &mut |input| {
            input.read_exact(&mut [0; 10])?;
            Err(io::Error::new(io::ErrorKind::InvalidData, "a key of no length"))
        })
        .unwrap_err();
    assert_eq!(flaw_at(&error).1, "a key of no length");
    place
        .disk
        .fail(Operation::Read, ".snap", 0, Failure::Error(io::ErrorKind::Other));
    let error = place.content(saved.id).unwrap_err();
    assert!(matches!(error, StoreError::Failed { operation: "read", .. }), "{error}");
    // Content that is not read to its end is checked to its end.
    let name = snapshot_name(&saved.id);
    place.files.rot(&name, 900, 1);
    let error = place.store.load(saved.id, &mut |_| Ok(())).unwrap_err();
    assert_eq!(flaw_at(&error).1, "a block is damaged");
}

#[test]
fn people_are_told_what_a_snapshot_holds() {
    let place = Place::new();
    let saved = place.save(7, &content(1, 100_000)).unwrap();
    let name = snapshot_name(&saved.id);
    let report = snapshot(&place.files, &name, None).unwrap();
    let sound = report.verdict.clone().unwrap();
    assert_eq!(
        (sound.id, sound.content_bytes, sound.block_count),
        (saved.id, 100_000, 2)
    );
    assert!(
        report.to_string().contains("up to index 7 of term 3")
            && report
                .to_string()
                .contains(&format!("index 3 in {} bytes", membership(3).len())),
        "{report}"
    );
    // Under a name that somebody gave it, any snapshot is welcome.
    place.files.rename(&name, "backup").unwrap();
    assert!(snapshot(&place.files, "backup", None).unwrap().verdict.is_ok());
    // Under the name of another one it is not.
    let other = SnapshotId {
        index: Index(9),
        ..saved.id
    };
    place.files.rename("backup", &snapshot_name(&other)).unwrap();
    let report = snapshot(&place.files, &snapshot_name(&other), None).unwrap();
    assert!(matches!(report.verdict, Err((0, Flaw::OtherId { .. }))), "{report}");
}
