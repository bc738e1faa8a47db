//! The log on files of the operating system.

use std::path::Path;

use bytes::Bytes;
use kraft::storage::{Config, DiskLog, LogIdentity, RealFiles};
use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId, SyncId, Term};
use kraft_core::message::{Entries, Entry, EntryKind};
use kraft_core::storage::{Completed, HardState, Recovered, Storage, Work};

const IDENTITY: LogIdentity = LogIdentity {
    cluster: ClusterId(1),
    node: NodeId(1),
    incarnation: Incarnation(7),
    group: GroupId(0),
};

fn small() -> Config {
    Config {
        segment_bytes: 16 << 10,
        first_segment_bytes: 8 << 10,
        zero_step_bytes: 4096,
        ..Config::default()
    }
}

fn open(path: &Path) -> (DiskLog<RealFiles>, Recovered) {
    DiskLog::open(RealFiles::open(path).unwrap(), IDENTITY, small()).unwrap()
}

fn entry(term: u64, payload: Vec<u8>) -> Entry {
    Entry {
        term: Term(term),
        kind: EntryKind::Command,
        crc: crc32c::crc32c(&payload),
        payload: Bytes::from(payload),
    }
}

/// Runs all work there is.
fn drain(log: &mut DiskLog<RealFiles>) -> Vec<Completed> {
    let mut completed = Vec::new();
    while let Some(work) = log.next_work() {
        completed.extend(log.done(work.run()).unwrap());
    }
    completed
}

#[test]
fn what_was_synced_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, recovered) = open(folder.path());
    assert_eq!(recovered, Recovered::default());
    let hard = HardState {
        term: Term(3),
        vote: NodeId(2),
    };
    log.save(hard);
    let entries: Vec<_> = (0..200).map(|at| entry(3, vec![at; 300])).collect();
    for (at, entry) in entries.chunks(7).enumerate() {
        log.append(Index(at as u64 * 7 + 1), &Entries::Shared(entry, &[]));
        log.sync(SyncId(at as u64 + 1));
        let completed = drain(&mut log);
        assert!(
            completed
                .iter()
                .any(|done| matches!(done, Completed::Synced(id) if id.0 == at as u64 + 1))
        );
    }
    drop(log);
    for _ in 0..3 {
        let (mut log, recovered) = open(folder.path());
        assert_eq!(recovered.hard, hard);
        assert_eq!(
            (recovered.last, recovered.terms),
            (Index(200), vec![(Index(1), Term(3))])
        );
        let mut loaded = Vec::new();
        while loaded.len() < 200 {
            log.load(Index(loaded.len() as u64 + 1)..Index(201));
            for done in drain(&mut log) {
                if let Completed::Loaded { first, entries } = done {
                    assert_eq!(first, Index(loaded.len() as u64 + 1));
                    assert!(!entries.is_empty());
                    loaded.extend(entries);
                }
            }
        }
        assert_eq!(loaded, entries);
    }
}
