//! The log on a simulated disk.

mod damage;
mod faults;
mod folder;
mod force;
mod gap;
mod inspect;
mod model;
mod recovery;
mod repair;
mod reset;
mod restore;
mod snapshots;
mod space;

use std::io;

use bytes::Bytes;
use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId, SyncId, Term};
use kraft_core::message::{Entries, Entry, EntryKind};
use kraft_core::snapshot::{Snapshot, SnapshotStore};
use kraft_core::storage::{Completed, Fault, HardState, Recovered, Storage, Work};

use super::mem::{Failure, Loss, MemFiles, Operation};
use super::survey::{Damage, OpenError};
use super::{Config, DiskLog, LogIdentity};

const IDENTITY: LogIdentity = LogIdentity {
    cluster: ClusterId(1),
    node: NodeId(2),
    incarnation: Incarnation(3),
    group: GroupId(0),
};

/// Segments so small that a few entries fill one.
fn small() -> Config {
    Config {
        segment_bytes: 8 << 10,
        first_segment_bytes: 4 << 10,
        zero_step_bytes: 4096,
        load_bytes_max: 1000,
        ..Config::default()
    }
}

fn entry(term: u64, payload: &[u8]) -> Entry {
    Entry {
        term: Term(term),
        kind: EntryKind::Command,
        crc: crc32c::crc32c(payload),
        payload: Bytes::copy_from_slice(payload),
    }
}

fn hard(term: u64, vote: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: NodeId(vote),
    }
}

/// A log, driven by hand.
struct Rig {
    files: MemFiles,
    config: Config,
    log: DiskLog<MemFiles>,
    recovered: Recovered,
    last: Index,
    syncs: u64,
}

impl Rig {
    fn new(config: Config) -> Self {
        Self::open(MemFiles::new(), config)
    }

    #[track_caller]
    fn open(files: MemFiles, config: Config) -> Self {
        Self::try_open(files, config).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_open(files: MemFiles, config: Config) -> Result<Self, OpenError> {
        let (log, recovered) = DiskLog::open(files.clone(), IDENTITY, config)?;
        Ok(Self {
            files,
            config,
            log,
            last: recovered.last,
            recovered,
            syncs: 0,
        })
    }

    /// Crashes and starts again.
    #[track_caller]
    fn restart(self, loss: Loss) -> Self {
        self.files.crash(loss);
        Self::open(self.files, self.config)
    }

    fn append(&mut self, term: u64, payloads: &[&[u8]]) {
        let entries: Vec<_> = payloads.iter().map(|payload| entry(term, payload)).collect();
        self.log.append(self.last.next(), &Entries::Shared(&entries, &[]));
        self.last = Index(self.last.0 + entries.len() as u64);
    }

    fn truncate(&mut self, from: u64) {
        self.log.truncate(Index(from));
        self.last = Index(from - 1);
    }

    fn ask(&mut self) -> SyncId {
        self.syncs += 1;
        self.log.sync(SyncId(self.syncs));
        SyncId(self.syncs)
    }

    /// Runs work until there is none.
    fn run(&mut self) -> Result<Vec<Completed>, Fault> {
        let mut completed = Vec::new();
        while let Some(work) = self.log.next_work() {
            completed.extend(self.log.done(work.run())?);
        }
        Ok(completed)
    }

    /// Makes a snapshot of a place, durably.
    #[track_caller]
    fn snapshot(&self, index: u64, term: u64) -> Snapshot {
        let saved = self
            .log
            .snapshots()
            .save(&snapshots::head(index, term), &mut |out| out.write_all(b"state"));
        saved.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Syncs what was collected.
    fn try_sync(&mut self) -> Result<bool, Fault> {
        let asked = self.ask();
        let completed = self.run()?;
        Ok(completed
            .iter()
            .any(|done| matches!(done, Completed::Synced(id) if *id == asked)))
    }

    #[track_caller]
    fn sync(&mut self) {
        assert!(self.try_sync().unwrap(), "the sync did not come back");
    }

    /// A batch of its own, synced.
    #[track_caller]
    fn write(&mut self, term: u64, payloads: &[&[u8]]) {
        self.append(term, payloads);
        self.sync();
    }

    #[track_caller]
    fn payloads(&mut self) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        let first = self.recovered.base_index.0 + 1;
        while first + (payloads.len() as u64) <= self.last.0 {
            let from = Index(first + payloads.len() as u64);
            self.log.load(from..self.last.next());
            let mut loaded = 0;
            for done in self.run().unwrap() {
                if let Completed::Loaded { first, entries } = done {
                    assert_eq!(first, from);
                    loaded = entries.len();
                    payloads.extend(entries.into_iter().map(|entry| entry.payload.to_vec()));
                }
            }
            assert!(loaded > 0, "nothing came of a load from {from}");
        }
        payloads
    }

    /// The names of the segments on the disk.
    fn segments(&self) -> Vec<String> {
        use super::Files;
        let mut names = self.files.list().unwrap();
        names.retain(|name| super::format::segment_number(name).is_some());
        names
    }
}

/// Opens a disk whose log is damaged, and checks that nothing on it changes.
#[track_caller]
fn refused(files: &MemFiles, config: Config) -> Damage {
    let before = files.content();
    let error = match Rig::try_open(files.clone(), config) {
        Ok(rig) => panic!("the log was opened, with entries up to {}", rig.last),
        Err(error) => error,
    };
    assert_eq!(files.content(), before, "a refused log was changed");
    match error {
        OpenError::Damaged(damage) => damage,
        other => panic!("{other}"),
    }
}

#[track_caller]
fn file_name(damage: &Damage) -> String {
    damage.path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn an_empty_sync_completes_and_a_load_of_what_is_not_there_is_an_error() {
    let mut rig = Rig::new(small());
    rig.sync();
    rig.append(1, &[b"not written"]);
    rig.log.load(Index(1)..Index(2));
    let fault = rig.run().unwrap_err();
    assert_eq!(
        (fault.operation, fault.error.kind()),
        ("load", io::ErrorKind::InvalidInput)
    );
}

#[test]
fn syncs_asked_for_while_one_is_out_become_one() {
    let mut rig = Rig::new(small());
    rig.append(1, &[b"a"]);
    rig.ask();
    let first = rig.log.next_work().unwrap();
    assert!(first.is_urgent());
    rig.append(1, &[b"b"]);
    rig.ask();
    rig.append(1, &[b"c"]);
    let last = rig.ask();
    // Only preparations are handed out meanwhile.
    while let Some(work) = rig.log.next_work() {
        assert!(!work.is_urgent());
        rig.log.done(work.run()).unwrap();
    }
    rig.log.done(first.run()).unwrap();
    let second = rig.log.next_work().unwrap();
    assert!(matches!(rig.log.done(second.run()), Ok(Some(Completed::Synced(id))) if id == last));
    let mut rig = rig.restart(Loss::All);
    assert_eq!(rig.payloads(), [b"a", b"b", b"c"]);
}

#[test]
fn loads_are_bounded_and_skip_what_was_removed() {
    let mut rig = Rig::new(small());
    for at in 0..40u8 {
        rig.write(1, &[&[at; 100]]);
    }
    rig.truncate(21);
    for at in 100..130u8 {
        rig.append(2, &[&[at; 100]]);
    }
    rig.sync();
    rig.log.load(Index(1)..Index(50));
    let done = rig.run().unwrap();
    assert!(
        matches!(&done[..], [Completed::Loaded { entries, .. }] if entries.len() == 10),
        "{done:?}"
    );
    let expected: Vec<_> = (0..20).chain(100..130).map(|at: u8| vec![at; 100]).collect();
    assert_eq!(rig.payloads(), expected);
    let mut rig = rig.restart(Loss::All);
    assert_eq!(rig.payloads(), expected);
}

#[test]
fn a_load_reads_the_disk_once() {
    let mut rig = Rig::new(Config::default());
    let payload = [7; 1000];
    rig.write(1, &[&payload[..]; 200]);
    // A window holds the entries; the one after it ends the file. A read more is one too many.
    rig.files
        .fail(Operation::Read, ".log", 4, Failure::Error(io::ErrorKind::Other));
    assert_eq!(rig.payloads().len(), 200);
}

#[test]
fn a_truncation_withdraws_what_is_being_loaded() {
    let mut rig = Rig::new(small());
    rig.write(1, &[b"a", b"b", b"c"]);
    rig.log.load(Index(2)..Index(4));
    let out = rig.log.next_work().unwrap();
    rig.log.load(Index(3)..Index(4));
    rig.truncate(3);
    rig.append(2, &[b"x"]);
    let done = rig.log.done(out.run()).unwrap();
    assert!(
        matches!(&done, Some(Completed::Loaded { entries, .. }) if entries.len() == 1),
        "{done:?}"
    );
    let done = rig.run().unwrap();
    assert!(
        done.iter()
            .any(|done| matches!(done, Completed::Loaded { entries, .. } if entries.is_empty()))
    );
}
