//! Disks and logs that are full.

use std::time::Duration;

use kraft_core::time::Instant;

use super::snapshots::head;
use super::*;
use crate::storage::Files;
use crate::storage::config::RESERVE_BYTES;
use crate::storage::mem::{Failure, Operation};

/// Room counts from segments of a realistic size on.
fn medium() -> Config {
    Config {
        segment_bytes: 256 << 10,
        first_segment_bytes: 128 << 10,
        log_bytes_max: 2 << 20,
        ..Config::default()
    }
}

#[test]
fn enospc_on_append() {
    let mut rig = Rig::new(medium());
    rig.run().unwrap();
    // Somebody else fills the disk.
    rig.files.set_capacity(Some(0));
    let payload = [7; 4096];
    let mut written: u64 = 0;
    let mut now = Instant::ZERO;
    while rig.log.room() >= payload.len() as u64 {
        rig.write(1, &[&payload]);
        written += 1;
        now += Duration::from_secs(10);
        rig.log.tick(now);
    }
    assert!(written > 10, "{written}");
    // No harm: terms, votes and a leader's no-op are still written, and nothing is half there.
    for term in 2..40 {
        rig.log.save(hard(term, 1));
        rig.write(term, &[b""]);
    }
    assert!(rig.log.room() < payload.len() as u64);
    let at = rig.log.deadline().expect("it will be tried again");
    rig.log.tick(at);
    assert!(rig.run().unwrap().iter().any(|done| matches!(done, Completed::Room)));
    assert!(rig.log.room() < payload.len() as u64);
    // Space is found.
    rig.files.set_capacity(None);
    assert!(rig.run().unwrap().is_empty(), "tried again before its time");
    rig.log.tick(rig.log.deadline().unwrap());
    rig.run().unwrap();
    assert!(rig.log.room() > payload.len() as u64);
    rig.write(40, &[&payload]);
    let mut rig = rig.restart(Loss::All);
    assert_eq!(rig.payloads().len() as u64, written + 39);
}

#[test]
fn room_that_comes_back_is_noticed_though_a_segment_stands_ready() {
    // Room is short, and no preparation is due or fails: a follower that has to refuse an append for it would ask
    // nobody.
    let mut rig = Rig::new(small());
    let used = rig.files.used_bytes();
    rig.files.set_capacity(Some(used + u64::from(small().segment_bytes)));
    rig.run().unwrap();
    let before = rig.log.room();
    rig.files.set_capacity(None);
    let at = rig.log.deadline().expect("the disk is looked at again");
    rig.log.tick(at);
    assert!(rig.run().unwrap().iter().any(|done| matches!(done, Completed::Room)));
    assert!(rig.log.room() > before + (1 << 20), "{before} and {}", rig.log.room());
    assert_eq!(rig.log.deadline(), None, "there is plenty");
}

#[test]
fn a_batch_waits_for_a_segment_that_cannot_be_made() {
    let mut rig = Rig::new(small());
    rig.write(1, &[b"a"]);
    rig.files.set_capacity(Some(0));
    let mut expected = vec![b"a".to_vec()];
    let mut is_held = false;
    for at in 0..60u8 {
        rig.append(1, &[&[at; 300]]);
        expected.push(vec![at; 300]);
        is_held = !rig.try_sync().unwrap();
        if is_held {
            break;
        }
    }
    assert!(is_held);
    let asked = rig.ask();
    rig.files.set_capacity(None);
    rig.log.tick(rig.log.deadline().unwrap());
    let done = rig.run().unwrap();
    assert!(
        done.iter()
            .any(|done| matches!(done, Completed::Synced(id) if *id == asked)),
        "{done:?}"
    );
    let mut rig = rig.restart(Loss::All);
    assert_eq!(rig.payloads(), expected);
}

/// It is written four times as fast as it is zeroed, one piece of each after the other.
#[test]
fn a_log_that_is_written_faster_than_it_is_zeroed_waits_for_no_whole_segment() {
    let mut rig = Rig::new(Config {
        zero_step_bytes: 4096,
        segment_bytes: 256 << 10,
        first_segment_bytes: 64 << 10,
        ..Config::default()
    });
    let payload = [7; 15 << 10];
    let mut pieces_max = 0;
    for _ in 0..200 {
        rig.append(1, &[&payload]);
        let asked = rig.ask();
        let mut pieces = 0;
        loop {
            let work = rig.log.next_work().expect("a batch waits for work alone");
            pieces += u32::from(!work.is_urgent());
            let done = rig.log.done(work.run()).unwrap();
            if matches!(done, Some(Completed::Synced(id)) if id == asked) {
                break;
            }
        }
        pieces_max = pieces_max.max(pieces);
        if let Some(work) = rig.log.next_work() {
            rig.log.done(work.run()).unwrap();
        }
    }
    assert!(pieces_max <= 4, "a batch waited for {pieces_max} pieces of a segment");
}

#[test]
fn a_snapshot_leaves_the_disk_to_the_log_until_the_log_fills_up() {
    let mut rig = Rig::new(medium());
    let state = vec![7; 3 << 20];
    let save = |rig: &mut Rig| {
        rig.log.tick(Instant::ZERO);
        let before = rig.files.rests();
        let head = head(rig.last.0, 1);
        rig.log
            .snapshots()
            .save(&head, &mut |out| out.write_all(&state))
            .unwrap();
        rig.files.rests() - before
    };
    rig.write(1, &[b"a"]);
    assert_eq!(save(&mut rig), 12);
    while rig.log.room() > 200 << 10 {
        rig.write(1, &[&[7; 16 << 10]]);
    }
    assert_eq!(save(&mut rig), 0);
}

#[test]
fn a_batch_waits_for_no_more_room_than_it_needs() {
    let mut rig = Rig::new(medium());
    rig.run().unwrap();
    let used: usize = rig.files.content().values().map(Vec::len).sum();
    // The batch ends in a third segment, of 256 KiB, and there is room for half of it.
    rig.files.set_capacity(Some(used as u64 + (128 << 10)));
    let payload = [7; 4096];
    rig.append(1, &[&payload[..]; 70]);
    rig.log.save(hard(2, 1));
    assert!(!rig.try_sync().unwrap(), "the disk had room for a segment");
    let asked = rig.ask();
    rig.log.tick(rig.log.deadline().expect("it will be tried again"));
    let done = rig.run().unwrap();
    assert!(
        done.iter()
            .any(|done| matches!(done, Completed::Synced(id) if *id == asked)),
        "{done:?}"
    );
    rig.log.save(hard(3, 1));
    rig.sync();
    rig.files.set_capacity(None);
    let mut rig = rig.restart(Loss::All);
    assert_eq!((rig.recovered.hard, rig.payloads().len()), (hard(3, 1), 70));
}

#[test]
fn a_full_disk_does_not_keep_a_node_from_its_log() {
    for loss in [Loss::All, Loss::Nothing, Loss::Random(1)] {
        let mut rig = Rig::new(medium());
        rig.write(1, &[b"a", b"b"]);
        rig.log.save(hard(2, 1));
        rig.sync();
        // Somebody else fills the disk. There is room yet in what was zeroed ahead.
        let used: usize = rig.files.content().values().map(Vec::len).sum();
        rig.files.set_capacity(Some(used as u64));
        let mut rig = rig.restart(loss);
        assert_eq!(rig.recovered.hard, hard(2, 1));
        assert_eq!(rig.payloads(), [b"a", b"b"]);
        rig.log.save(hard(3, 1));
        rig.sync();
        let rig = rig.restart(Loss::All);
        assert_eq!(rig.recovered.hard, hard(3, 1));
    }
}

#[test]
fn a_start_on_a_full_disk_is_cut_short_without_harm() {
    let mut rig = Rig::new(medium());
    rig.write(1, &[b"a", b"b"]);
    rig.log.save(hard(2, 1));
    rig.sync();
    let used: usize = rig.files.content().values().map(Vec::len).sum();
    let mut is_through = false;
    for changes in 0.. {
        for seed in 0..4 {
            let files = rig.files.fork();
            files.crash(Loss::All);
            files.set_capacity(Some(used as u64));
            files.crash_after(changes);
            is_through = Rig::try_open(files.clone(), medium()).is_ok();
            files.crash(Loss::Random(seed));
            files.set_capacity(None);
            let mut rig = Rig::open(files, medium());
            assert_eq!(rig.recovered.hard, hard(2, 1));
            assert_eq!(rig.payloads(), [b"a", b"b"], "after {changes} changes, seed {seed}");
        }
        if is_through {
            assert!(changes > 8, "{changes}");
            return;
        }
    }
}

#[test]
fn every_fault_while_a_segment_is_prepared_is_survived() {
    let operations = [
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::SyncFolder,
        Operation::Remove,
    ];
    for operation in operations {
        let mut rig = Rig::new(small());
        let name = if operation == Operation::Rename { ".log" } else { "" };
        let name = match operation {
            Operation::Create | Operation::Write | Operation::Sync => "prepare.tmp",
            _ => name,
        };
        rig.files
            .fail(operation, name, 0, Failure::Error(io::ErrorKind::StorageFull));
        rig.run().unwrap();
        rig.log.tick(
            rig.log
                .deadline()
                .unwrap_or_else(|| panic!("{operation:?} did not fail")),
        );
        for at in 0..40u8 {
            rig.write(1, &[&[at; 300]]);
        }
        let mut rig = rig.restart(Loss::All);
        assert_eq!(rig.payloads().len(), 40, "{operation:?}");
    }
}

#[test]
fn a_log_at_its_limit_takes_elections_and_nothing_else() {
    let config = Config {
        log_bytes_max: 1 << 20,
        ..medium()
    };
    let mut rig = Rig::new(config);
    rig.run().unwrap();
    let payload = [7; 4096];
    let mut written = 0;
    while rig.log.room() >= payload.len() as u64 {
        rig.write(1, &[&payload]);
        written += 1;
    }
    let size = |rig: &Rig| {
        rig.files
            .content()
            .values()
            .map(|bytes| bytes.len() as u64)
            .sum::<u64>()
    };
    assert!(written > 150, "{written}");
    assert!(size(&rig) <= config.log_bytes_max);
    for term in 2..3000 {
        rig.log.save(hard(term, 1));
        rig.sync();
    }
    assert!(size(&rig) <= config.log_bytes_max + 6 * RESERVE_BYTES, "{}", size(&rig));
    let mut rig = rig.restart(Loss::All);
    assert_eq!((rig.recovered.hard, rig.payloads().len()), (hard(2999, 1), written));
    rig.run().unwrap();
    assert_eq!(rig.log.room(), 0);
}

#[test]
fn segments_that_are_done_with_are_used_again_and_their_bytes_never_read_as_new() {
    let mut rig = Rig::new(small());
    let mut base = Index::ZERO;
    let mut reused = 0;
    for at in 0..400u32 {
        rig.append(1 + u64::from(at) / 100, &[&at.to_le_bytes().repeat(50)]);
        rig.sync();
        if at % 40 == 39 {
            let before = rig.segments().len();
            let through = u64::from(at) - 5;
            rig.snapshot(through, 1 + (through - 1) / 100);
            base = rig.log.release(Index(through));
            rig.run().unwrap();
            reused += usize::from(rig.segments().len() < before + 4);
        }
        if at % 50 == 49 {
            // A segment that was used again has stale records behind its end.
            let files = rig.files.fork();
            files.crash(Loss::Random(u64::from(at)));
            let (mut log, recovered) = DiskLog::open(files, IDENTITY, small()).unwrap();
            assert!(recovered.base_index <= base);
            assert_eq!(recovered.last, rig.last);
            log.load(rig.last..rig.last.next());
            while let Some(work) = log.next_work() {
                if let Some(Completed::Loaded { entries, .. }) = log.done(work.run()).unwrap() {
                    assert_eq!(entries[0].payload, at.to_le_bytes().repeat(50));
                }
            }
        }
    }
    assert!(base > Index(300) && reused > 5, "{base} {reused}");
    assert!(rig.segments().len() <= 12, "{:?}", rig.segments());
    // Without the snapshot that stands for what was given up, the log is refused.
    rig.files.crash(Loss::All);
    let snapshots = rig.files.folder("snapshots").unwrap();
    for name in snapshots.list().unwrap() {
        snapshots.remove(&name).unwrap();
    }
    let damage = refused(&rig.files, small());
    assert!(damage.to_string().contains("missing"), "{damage}");
}

#[test]
fn what_a_crash_left_is_removed() {
    let rig = Rig::new(small());
    let left = rig.files.create("prepare.tmp").unwrap();
    drop(left);
    rig.files.sync_folder().unwrap();
    let mut rig = rig.restart(Loss::All);
    rig.run().unwrap();
    assert!(!rig.files.list().unwrap().contains(&"prepare.tmp".to_owned()));
}
