//! A log that begins anew behind a snapshot that was received, and one that gives up its front.

use super::*;
use crate::storage::Files;

#[test]
fn a_log_begins_anew_when_that_is_synced_and_not_before() {
    let mut rig = Rig::new(small());
    rig.append(1, &[&[1; 300][..]; 40]);
    rig.log.save(hard(5, 3));
    rig.sync();
    rig.snapshot(100, 4);
    rig.log.reset(Index(100), Term(4));
    rig.last = Index(100);
    // What was there is there.
    let before = rig.segments();
    rig.run().unwrap();
    assert!(before.iter().all(|name| rig.segments().contains(name)), "{before:?}");
    rig.append(5, &[b"a", b"b"]);
    rig.sync();
    rig.recovered.base_index = Index(100);
    assert_eq!(rig.payloads(), [b"a", b"b"]);
    rig.run().unwrap();
    let front = rig.segments();
    assert!(front.len() <= 7 && front[0] != "0000000001.log", "{front:?}");
    let mut rig = rig.restart(Loss::All);
    assert_eq!(
        (rig.recovered.base_index, rig.recovered.base_term),
        (Index(100), Term(4))
    );
    assert_eq!(rig.recovered.hard, hard(5, 3));
    assert_eq!(rig.recovered.terms, [(Index(101), Term(5))]);
    assert_eq!(rig.payloads(), [b"a", b"b"]);
}

#[test]
fn what_was_called_for_before_a_reset_is_covered_by_the_same_sync() {
    let mut rig = Rig::new(small());
    rig.append(1, &[b"durable"]);
    rig.sync();
    // A sync is out, a batch waits, and both are of the old log.
    rig.append(1, &[b"out"]);
    let first = rig.ask();
    let out = rig.log.next_work().unwrap();
    rig.append(1, &[&[2; 300][..]; 60]);
    rig.log.save(hard(7, 2));
    rig.snapshot(500, 6);
    rig.log.reset(Index(500), Term(6));
    rig.last = Index(500);
    rig.append(7, &[b"new"]);
    let second = rig.ask();
    assert!(matches!(rig.log.done(out.run()), Ok(Some(Completed::Synced(id))) if id == first));
    let done = rig.run().unwrap();
    assert!(
        done.iter()
            .any(|done| matches!(done, Completed::Synced(id) if *id == second)),
        "{done:?}"
    );
    let mut rig = rig.restart(Loss::All);
    assert_eq!((rig.recovered.hard, rig.recovered.base_index), (hard(7, 2), Index(500)));
    assert_eq!(rig.payloads(), [b"new"]);
}

#[test]
fn a_reset_withdraws_what_is_being_loaded_and_spares_what_is_read() {
    let mut rig = Rig::new(small());
    rig.append(1, &[&[1; 300][..]; 40]);
    rig.sync();
    rig.log.load(Index(1)..Index(41));
    let out = rig.log.next_work().unwrap();
    rig.log.load(Index(30)..Index(41));
    rig.snapshot(100, 4);
    rig.log.reset(Index(100), Term(4));
    rig.last = Index(100);
    rig.sync();
    // Its segments are not used again under the reader's hands.
    assert!(rig.segments().contains(&"0000000001.log".to_owned()));
    assert_eq!(rig.log.release(Index(100)), Index(100));
    let done = rig.log.done(out.run()).unwrap();
    assert!(
        matches!(&done, Some(Completed::Loaded { first: Index(1), entries }) if entries.is_empty()),
        "{done:?}"
    );
    let done = rig.run().unwrap();
    assert!(
        done.iter()
            .any(|done| matches!(done, Completed::Loaded { first: Index(30), entries } if entries.is_empty())),
        "{done:?}"
    );
    assert!(!rig.segments().contains(&"0000000001.log".to_owned()));
}

#[test]
fn a_reset_waits_for_room() {
    let mut rig = Rig::new(small());
    rig.write(1, &[b"a"]);
    rig.snapshot(500, 6);
    rig.files.set_capacity(Some(rig.files.used_bytes()));
    // More than what was zeroed ahead, so that several segments are missing, one of them full of what comes before.
    rig.append(1, &[&[2; 300][..]; 200]);
    rig.log.save(hard(7, 2));
    rig.log.reset(Index(500), Term(6));
    rig.last = Index(500);
    rig.append(7, &[&[3; 300][..]; 200]);
    assert!(!rig.try_sync().unwrap());
    let asked = rig.ask();
    rig.files.set_capacity(None);
    rig.log.tick(rig.log.deadline().expect("it will be tried again"));
    let done = rig.run().unwrap();
    assert!(
        done.iter()
            .any(|done| matches!(done, Completed::Synced(id) if *id == asked)),
        "{done:?}"
    );
    let mut rig = rig.restart(Loss::All);
    assert_eq!((rig.recovered.hard, rig.recovered.base_index), (hard(7, 2), Index(500)));
    assert_eq!(rig.payloads().len(), 200);
}

#[test]
fn resets_over_and_over_keep_the_disk_bounded() {
    let mut rig = Rig::new(small());
    for round in 1..40u64 {
        rig.log.save(hard(round, 1));
        rig.append(round, &[&[1; 300][..]; 30]);
        let index = rig.last.0 + 1000;
        rig.snapshot(index, round);
        rig.log.reset(Index(index), Term(round));
        rig.last = Index(index);
        rig.append(round, &[b"behind"]);
        rig.sync();
    }
    assert!(rig.segments().len() <= 8, "{:?}", rig.segments());
    assert!(rig.log.room() > 1 << 20);
    let mut rig = rig.restart(Loss::All);
    assert_eq!(
        (rig.recovered.hard, rig.payloads()),
        (hard(39, 1), vec![b"behind".to_vec()])
    );
}

/// A crash at every change from when a snapshot comes to when the log goes on behind it.
#[test]
fn a_crash_at_every_point_of_a_reset_leaves_the_old_log_or_the_new_one() {
    let mut rig = Rig::new(small());
    rig.append(1, &[&[1; 300][..]; 40]);
    rig.log.save(hard(5, 3));
    rig.sync();
    rig.files.crash(Loss::All);
    for changes in 0.. {
        let mut step = 0;
        for seed in 0..8 {
            let mut rig = Rig::open(rig.files.fork(), small());
            rig.files.crash_after(changes);
            step = receive_and_reset(&mut rig);
            rig.files.crash(Loss::Random(seed));
            let mut again = Rig::open(rig.files, small());
            let what = format!("crash after {changes} changes, step {step}, seed {seed}");
            let found = (again.recovered.base_index.0, again.recovered.last.0);
            match step {
                0 => assert!(found == (0, 40) || found == (100, 100), "{what}: {found:?}"),
                1 => assert!([(100, 100), (100, 101)].contains(&found), "{what}: {found:?}"),
                _ => assert_eq!(found, (100, 101), "{what}"),
            }
            let hards = if step < 2 {
                &[hard(5, 3), hard(6, 1)][..]
            } else {
                &[hard(6, 1)]
            };
            assert!(
                hards.contains(&again.recovered.hard),
                "{what}: {:?}",
                again.recovered.hard
            );
            let payloads = again.payloads();
            assert_eq!(payloads.len() as u64, found.1 - found.0);
            assert!(
                payloads.iter().all(|payload| *payload == [1; 300] || payload == b"new"),
                "{what}"
            );
            assert_eq!(again.recovered.snapshot.is_some(), found.0 == 100, "{what}");
        }
        if step == 3 {
            assert!(changes > 10, "{changes}");
            return;
        }
    }
}

/// Returns how far it came: 1 the snapshot is durable, 2 the reset is, 3 the old segments are given up.
fn receive_and_reset(rig: &mut Rig) -> u32 {
    let saved = rig
        .log
        .snapshots()
        .save(&snapshots::head(100, 4), &mut |out| out.write_all(&[9; 100_000]));
    if saved.is_err() {
        return 0;
    }
    rig.log.save(hard(6, 1));
    rig.log.reset(Index(100), Term(4));
    rig.last = Index(100);
    rig.append(6, &[b"new"]);
    let asked = rig.ask();
    let mut step = 1;
    while let Some(work) = rig.log.next_work() {
        match rig.log.done(work.run()) {
            Ok(Some(Completed::Synced(id))) if id == asked => step = 2,
            Ok(_) => {}
            Err(_) => return step,
        }
    }
    let is_crashed = rig.files.create("probe").is_err();
    let _ = rig.files.remove("probe");
    if is_crashed { step } else { 3 }
}

#[test]
fn a_crash_at_every_point_of_a_release_loses_nothing() {
    let mut rig = Rig::new(small());
    for at in 0..100u8 {
        rig.write(1, &[&[at; 300]]);
    }
    rig.files.crash(Loss::All);
    for changes in 0.. {
        let mut is_through = false;
        for seed in 0..8 {
            let mut rig = Rig::open(rig.files.fork(), small());
            rig.run().unwrap();
            rig.files.crash_after(changes);
            let saved = rig
                .log
                .snapshots()
                .save(&snapshots::head(80, 1), &mut |out| out.write_all(b"state"));
            if saved.is_ok() {
                assert!(rig.log.release(Index(80)) > Index(40));
                // The segments that are done with are used again at once.
                rig.append(1, &[&[200; 300][..]; 60]);
                let _ = rig.try_sync();
            }
            is_through = rig.files.create("probe").is_ok();
            rig.files.crash(Loss::Random(seed));
            let mut again = Rig::open(rig.files, small());
            let base = again.recovered.base_index.0;
            let held = again
                .recovered
                .snapshot
                .as_ref()
                .map_or(0, |snapshot| snapshot.id.index.0);
            assert!(
                base <= held && again.last >= Index(100),
                "{changes} {seed}: {base} {held}"
            );
            for (at, payload) in again.payloads().iter().enumerate() {
                let index = base + at as u64;
                let expected = if index < 100 { index as u8 } else { 200 };
                assert_eq!(*payload, [expected; 300], "{changes} {seed}");
            }
        }
        if is_through {
            assert!(changes > 10, "{changes}");
            return;
        }
    }
}

#[test]
fn a_sync_of_the_old_log_makes_nothing_of_the_new_one_readable() {
    let mut rig = Rig::new(small());
    rig.write(1, &[&[1; 300][..]; 20]);
    rig.append(1, &[&[1; 300][..]; 20]);
    rig.ask();
    let out = rig.log.next_work().unwrap();
    // The entries from 31 on were never committed.
    rig.snapshot(30, 4);
    rig.log.reset(Index(30), Term(4));
    rig.last = Index(30);
    rig.append(4, &[b"not written"]);
    rig.log.done(out.run()).unwrap();
    rig.run().unwrap();
    rig.log.load(Index(31)..Index(32));
    let fault = rig.run().unwrap_err();
    assert_eq!(
        (fault.operation, fault.error.kind()),
        ("load", io::ErrorKind::InvalidInput)
    );
}

/// As long as a follower was being read for, no segment was ever given up.
#[test]
fn a_load_of_what_stays_does_not_keep_what_goes() {
    let mut rig = Rig::new(small());
    rig.append(1, &[&[1; 300][..]; 40]);
    rig.sync();
    rig.write(1, &[b"behind"]);
    rig.log.load(Index(40)..Index(42));
    let out = rig.log.next_work().unwrap();
    rig.log.load(Index(39)..Index(41));
    let base = rig.log.release(Index(38));
    assert!(base > Index::ZERO && base <= Index(38), "{base}");
    let done = rig.log.done(out.run()).unwrap();
    assert!(
        matches!(&done, Some(Completed::Loaded { first: Index(40), entries }) if !entries.is_empty()),
        "{done:?}"
    );
    let done = rig.run().unwrap();
    assert!(
        done.iter()
            .any(|done| matches!(done, Completed::Loaded { first: Index(39), entries } if !entries.is_empty())),
        "{done:?}"
    );
}

#[test]
fn a_release_spares_what_is_read_and_what_is_to_be() {
    let mut rig = Rig::new(small());
    rig.append(1, &[&[1; 300][..]; 40]);
    rig.sync();
    rig.log.load(Index(1)..Index(2));
    assert_eq!(rig.log.release(Index(38)), Index::ZERO, "it is to be read");
    let out = rig.log.next_work().unwrap();
    assert_eq!(rig.log.release(Index(38)), Index::ZERO, "it is being read");
    rig.log.done(out.run()).unwrap();
    // What is being read stands where it stood before the log was cut.
    rig.log.load(Index(38)..Index(41));
    let out = rig.log.next_work().unwrap();
    rig.truncate(38);
    for at in 0..40 {
        rig.write(2, &[&[at; 300]]);
        rig.log.release(rig.last);
    }
    let done = rig.log.done(out.run()).unwrap();
    assert!(
        matches!(&done, Some(Completed::Loaded { entries, .. }) if entries.is_empty()),
        "{done:?}"
    );
}

/// A log whose uncommitted end went over segments was cut, and goes on. Nothing before the cut was ever given up.
#[test]
fn a_log_that_was_cut_over_segments_is_released_behind_the_cut() {
    let mut rig = Rig::new(small());
    rig.write(1, &[&[1; 300][..]; 100]);
    rig.run().unwrap();
    rig.truncate(20);
    rig.write(2, &[&[2; 300][..]; 100]);
    rig.snapshot(110, 2);
    let before = rig.segments();
    let base = rig.log.release(Index(110));
    assert!(base > Index(60) && base <= Index(110), "{base}");
    // A crash leaves any of the segments that were given up.
    let segments: Vec<_> = (1..)
        .map(crate::storage::format::segment_name)
        .take(before.len())
        .collect();
    assert_eq!(segments, before);
    for left in 0..1u32 << segments.len() {
        let files = rig.files.fork();
        files.crash(Loss::All);
        let gone = segments.iter().enumerate().filter(|(at, _)| left & 1 << at == 0);
        let front = rig.log.front as usize - 1;
        if gone.clone().any(|(at, _)| at >= front) {
            continue;
        }
        gone.for_each(|(_, name)| files.remove(name).unwrap());
        files.sync_folder().unwrap();
        let mut again = Rig::open(files, small());
        assert!(again.recovered.base_index <= base, "{left:b}");
        let payloads = again.payloads();
        assert_eq!(again.last, Index(119), "{left:b}");
        assert!(payloads.ends_with(&vec![vec![2; 300]; 9]), "{left:b}");
    }
    rig.run().unwrap();
    assert!(rig.segments().len() < before.len());
    let mut rig = rig.restart(Loss::All);
    assert!(rig.recovered.base_index <= base);
    assert_eq!(rig.payloads().len() as u64, 119 - rig.recovered.base_index.0);
}
