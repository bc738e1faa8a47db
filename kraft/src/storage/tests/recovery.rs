//! What is there after a crash.

use super::*;
use crate::storage::Files;
use crate::storage::mem::{Failure, Operation};

#[test]
fn vote_persist_before_reply() {
    let mut rig = Rig::new(small());
    rig.log.save(hard(5, 3));
    // Not synced, not spoken of: it may be gone.
    let mut rig = rig.restart(Loss::All);
    assert_eq!(rig.recovered.hard, HardState::default());
    rig.log.save(hard(5, 3));
    rig.sync();
    let rig = rig.restart(Loss::All);
    assert_eq!(rig.recovered.hard, hard(5, 3));
    // And across starts that write nothing.
    let rig = rig.restart(Loss::All).restart(Loss::Random(3));
    assert_eq!(rig.recovered.hard, hard(5, 3));
}

#[test]
fn term_regress_on_restart() {
    // A log whose last entry is of a later term than was saved: the term is adopted, with no vote.
    let mut rig = Rig::new(small());
    rig.log.save(hard(2, 1));
    rig.write(4, &[b"a"]);
    let rig = rig.restart(Loss::All);
    assert_eq!(rig.recovered.hard, hard(4, 0));
}

#[test]
#[should_panic(expected = "contradicts the log")]
fn a_second_vote_in_a_term_is_never_written() {
    let mut rig = Rig::new(small());
    rig.log.save(hard(2, 1));
    rig.log.save(hard(2, 3));
}

#[test]
fn append_aba_race() {
    // Entries are overwritten while the sync of the old ones is out; what comes back covers what was written, in
    // order, and no more.
    let mut rig = Rig::new(small());
    rig.append(1, &[b"a", b"old"]);
    let first = rig.ask();
    let out = rig.log.next_work().unwrap();
    rig.truncate(2);
    rig.append(2, &[b"new"]);
    rig.ask();
    let done = rig.log.done(out.run()).unwrap();
    assert!(matches!(done, Some(Completed::Synced(id)) if id == first));
    let fork = rig.files.fork();
    fork.crash(Loss::All);
    assert_eq!(Rig::open(fork, small()).payloads(), [&b"a"[..], b"old"]);
    rig.run().unwrap();
    let mut rig = rig.restart(Loss::All);
    assert_eq!(rig.payloads(), [&b"a"[..], b"new"]);
    assert_eq!(rig.recovered.terms, [(Index(1), Term(1)), (Index(2), Term(2))]);
}

#[test]
fn stale_records_behind_a_cut_never_come_back() {
    for seed in 0..200 {
        let mut rig = Rig::new(small());
        rig.write(1, &[b"kept"]);
        // Written, not synced: any of its sectors may be on the disk.
        rig.append(1, &[&[1; 600], &[2; 600], &[3; 600]]);
        rig.ask();
        let out = rig.log.next_work().unwrap();
        rig.files
            .fail(Operation::Sync, ".log", 0, Failure::Error(io::ErrorKind::Other));
        let _ = rig.log.done(out.run());
        let mut rig = rig.restart(Loss::Random(seed));
        let mut expected = rig.payloads();
        assert_eq!(expected[0], b"kept");
        // Shorter records than those that stand there, and another crash.
        rig.write(2, &[b"x"]);
        expected.push(b"x".to_vec());
        let mut rig = rig.restart(Loss::Random(seed + 1));
        assert_eq!(rig.payloads(), expected, "seed {seed}");
        rig.write(2, &[b"y"]);
        expected.push(b"y".to_vec());
        let mut rig = rig.restart(Loss::All);
        assert_eq!(rig.payloads(), expected, "seed {seed}");
    }
}

#[test]
fn what_is_above_the_mark_is_durable_before_the_node_speaks() {
    // The process is killed between write and sync: the page cache has what the disk lacks.
    let mut rig = Rig::new(small());
    rig.write(1, &[b"a"]);
    rig.append(1, &[b"b"]);
    rig.ask();
    rig.files
        .fail(Operation::Sync, ".log", 0, Failure::Error(io::ErrorKind::Other));
    assert!(rig.run().is_err());
    let mut rig = rig.restart(Loss::Nothing);
    let seen = rig.payloads();
    assert_eq!(seen, [b"a", b"b"]);
    let mut rig = rig.restart(Loss::All);
    assert_eq!(rig.payloads(), seen);
}

#[test]
fn a_segment_that_no_sync_reached_is_written_again_whole() {
    // The first batch of a segment fails to sync: after a kill all of the segment, its header too, is in the page
    // cache alone. (Found by the model, seed 68.)
    let mut rig = Rig::new(small());
    rig.write(1, &[b"durable"]);
    // Six entries end the first segment, six fill the second, twelve most of the third.
    let lent: Vec<&[u8]> = vec![&[2; 500]; 24];
    rig.append(1, &lent);
    rig.files.fail(
        Operation::Sync,
        "0000000003.log",
        0,
        Failure::Error(io::ErrorKind::Other),
    );
    assert!(rig.try_sync().is_err());
    let mut rig = rig.restart(Loss::Nothing);
    let seen = rig.payloads();
    assert_eq!(seen.len(), 25);
    let mut rig = rig.restart(Loss::All);
    assert_eq!(rig.payloads(), seen);
}

#[test]
fn dir_fsync_rename() {
    // A crash at every change of a start: before and after, the log is whole.
    let mut rig = Rig::new(small());
    for at in 0..30u8 {
        rig.write(1, &[&[at; 300]]);
    }
    rig.append(1, &[b"unsynced"]);
    rig.files.crash(Loss::All);
    let expected = Rig::open(rig.files.fork(), small()).payloads();
    assert_eq!(expected.len(), 30);
    for changes in 0.. {
        let mut is_through = false;
        for seed in 0..8 {
            let files = rig.files.fork();
            files.crash_after(changes);
            is_through = Rig::try_open(files.clone(), small()).is_ok();
            files.crash(Loss::Random(seed));
            let mut again = Rig::open(files, small());
            assert_eq!(again.payloads(), expected, "crash after {changes} changes, seed {seed}");
        }
        if is_through {
            assert!(changes > 5);
            return;
        }
    }
}

#[test]
fn starting_over_and_over_does_not_pile_up_segments() {
    let mut rig = Rig::new(small());
    rig.log.save(hard(1, 1));
    rig.write(1, &[b"a"]);
    for _ in 0..20 {
        rig = rig.restart(Loss::All);
        rig.run().unwrap();
    }
    assert!(rig.segments().len() <= 4, "{:?}", rig.segments());
    assert!(!rig.files.list().unwrap().contains(&"prepare.tmp".to_owned()));
    assert_eq!(rig.payloads(), [b"a"]);
    assert_eq!(rig.recovered.hard, hard(1, 1));
}

#[test]
fn a_batch_larger_than_a_segment_and_an_entry_larger_than_one() {
    let mut rig = Rig::new(small());
    let large = vec![9; 50_000];
    let payloads: Vec<_> = (0..100u8).map(|at| vec![at; 500]).collect();
    let lent: Vec<_> = payloads.iter().map(|payload| &payload[..]).collect();
    rig.write(1, &lent);
    rig.write(1, &[&large]);
    rig.write(1, &[b"after"]);
    let mut expected = payloads;
    expected.extend([large, b"after".to_vec()]);
    assert_eq!(rig.payloads(), expected);
    let mut rig = rig.restart(Loss::All);
    assert_eq!(rig.payloads(), expected);
}

#[test]
fn truncations_across_segments_and_starts_hold() {
    let mut rig = Rig::new(small());
    for at in 0..60u8 {
        rig.write(1, &[&[at; 200]]);
    }
    rig.truncate(11);
    rig.write(2, &[b"new"]);
    let mut expected: Vec<_> = (0..10u8).map(|at| vec![at; 200]).collect();
    expected.push(b"new".to_vec());
    for seed in 0..4 {
        rig = rig.restart(Loss::Random(seed));
        assert_eq!(rig.payloads(), expected);
    }
    rig.truncate(1);
    rig.write(3, &[b"all new"]);
    let mut rig = rig.restart(Loss::All).restart(Loss::All);
    assert_eq!(rig.payloads(), [b"all new"]);
    assert_eq!(rig.recovered.terms, [(Index(1), Term(3))]);
}
