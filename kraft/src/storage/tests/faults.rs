//! Disks that fail.

use super::*;
use crate::storage::mem::{Failure, Operation};

#[test]
fn fsyncgate() {
    let mut rig = Rig::new(small());
    rig.write(1, &[b"durable"]);
    rig.files
        .fail(Operation::Sync, ".log", 0, Failure::Error(io::ErrorKind::Other));
    rig.append(1, &[b"in doubt"]);
    let fault = rig.try_sync().unwrap_err();
    assert_eq!(fault.operation, "fdatasync");
    assert!(fault.path.ends_with("0000000001.log"), "{fault}");
    // Nothing is tried again, whatever is asked.
    rig.append(1, &[b"after"]);
    rig.ask();
    rig.log.load(Index(1)..Index(2));
    assert!(rig.log.next_work().is_none() && rig.log.deadline().is_none());

    // The process ends, the system lives: the page cache shows what the disk lacks. A node that believed it would lose
    // it at the next power cut, after it had spoken.
    let mut rig = rig.restart(Loss::Nothing);
    let seen = rig.payloads();
    assert_eq!(seen, [&b"durable"[..], b"in doubt"]);
    let mut rig = rig.restart(Loss::All);
    assert_eq!(rig.payloads(), seen);
}

#[test]
fn a_failed_write_poisons_and_a_short_one_goes_on() {
    let mut rig = Rig::new(small());
    rig.files.fail(Operation::Write, ".log", 0, Failure::Short);
    rig.write(1, &[b"in two writes"]);
    rig.files
        .fail(Operation::Write, ".log", 0, Failure::Error(io::ErrorKind::StorageFull));
    rig.append(1, &[b"lost"]);
    let fault = rig.try_sync().unwrap_err();
    assert_eq!(
        (fault.operation, fault.error.kind()),
        ("write", io::ErrorKind::StorageFull)
    );
    assert!(rig.log.next_work().is_none());
    let mut rig = rig.restart(Loss::Random(1));
    assert_eq!(rig.payloads(), [b"in two writes"]);
}

#[test]
fn interrupted_reads_and_writes_go_on() {
    let mut rig = Rig::new(small());
    rig.files
        .fail(Operation::Write, ".log", 0, Failure::Error(io::ErrorKind::Interrupted));
    rig.write(1, &[b"a"]);
    rig.files
        .fail(Operation::Read, ".log", 0, Failure::Error(io::ErrorKind::Interrupted));
    rig.files.fail(Operation::Read, ".log", 0, Failure::Short);
    assert_eq!(rig.payloads(), [b"a"]);
}

#[test]
fn a_log_that_cannot_be_read_is_not_opened() {
    let mut rig = Rig::new(small());
    rig.write(1, &[b"a"]);
    rig.files.crash(Loss::All);
    rig.files
        .fail(Operation::Read, ".log", 1, Failure::Error(io::ErrorKind::Other));
    let error = Rig::try_open(rig.files, small()).err().unwrap();
    assert!(
        matches!(&error, OpenError::Failed(fault) if fault.operation == "read"),
        "{error}"
    );
}

#[test]
fn a_damaged_entry_is_found_when_it_is_loaded() {
    let mut rig = Rig::new(small());
    rig.write(1, &[b"to be damaged"]);
    let at = rig
        .files
        .bytes("0000000001.log")
        .windows(5)
        .position(|bytes| bytes == b"to be")
        .unwrap();
    rig.files.rot("0000000001.log", at, 1);
    rig.log.load(Index(1)..Index(2));
    let fault = rig.run().unwrap_err();
    assert_eq!(fault.error.kind(), io::ErrorKind::InvalidData);
    assert!(fault.to_string().contains("entry 1 is damaged"), "{fault}");
}

#[test]
fn a_stalled_sync_keeps_only_its_own_thread() {
    let mut rig = Rig::new(small());
    rig.append(1, &[b"a"]);
    let asked = rig.ask();
    let work = rig.log.next_work().unwrap();
    rig.files.stall(true);
    let stalled = std::thread::spawn(move || work.run());
    rig.append(1, &[b"b"]);
    assert!(rig.log.room() > 0);
    rig.files.stall(false);
    let done = rig.log.done(stalled.join().unwrap()).unwrap();
    assert!(matches!(done, Some(Completed::Synced(id)) if id == asked));
}
