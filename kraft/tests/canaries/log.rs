//! The log alone, on a disk that tears and rots.

use bytes::Bytes;
use fastrand::Rng;
use kraft::storage::{Config, DiskLog, LogIdentity, Loss, MemFiles, OpenError};
use kraft_core::canary::Reach;
use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId, SyncId, Term};
use kraft_core::message::{Entries, Entry, EntryKind};
use kraft_core::storage::{HardState, Storage, Work};

use crate::Trial;

const IDENTITY: LogIdentity = LogIdentity {
    cluster: ClusterId(1),
    node: NodeId(1),
    incarnation: Incarnation(7),
    group: GroupId(0),
};

pub(crate) const TRIAL: Trial = Trial {
    name: "the log alone",
    reach: Reach::Log,
    seeds: 200,
    run,
};

/// Writes batches, each synced; then a bit rots in one that later marks stand for, or the power fails within the last
/// one. Damage is told, a torn tail is none, and nothing that was synced is missing without a word.
fn run(seed: u64) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed);
    let files = MemFiles::new();
    let config = Config {
        segment_bytes: 64 << 10,
        first_segment_bytes: 32 << 10,
        zero_step_bytes: 4096,
        ..Config::default()
    };
    let opened = DiskLog::open(files.clone(), IDENTITY, config);
    let (mut log, _) = opened.map_err(|error| error.to_string())?;
    log.save(HardState {
        term: Term(1),
        vote: NodeId(1),
    });
    let (batches, rots) = (rng.u64(3..30), rng.bool());
    let mut synced = 0;
    for index in 1..=batches {
        if !rots && index == batches {
            files.crash_after(rng.u64(0..3));
        }
        log.append(Index(index), &Entries::Shared(&[entry(index, &mut rng)], &[]));
        log.sync(SyncId(index));
        let mut works = std::iter::from_fn(|| {
            let work = log.next_work()?;
            Some(log.done(work.run()).is_ok())
        });
        if works.all(|done| done) {
            synced = index;
        }
    }
    drop(log);
    if rots {
        // The marks of two batches stand behind this one.
        let_rot(&files, rng.u64(1..batches - 1), &mut rng);
    }
    files.crash(Loss::Random(rng.u64(..)));
    match DiskLog::open(files, IDENTITY, config) {
        Err(OpenError::Damaged(_)) if rots => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok((_, recovered)) if rots || recovered.last < Index(synced) => Err(format!(
            "{synced} entries were synced, {} are there, and nothing is said of damage (R6)",
            recovered.last
        )),
        Ok(_) => Ok(()),
    }
}

/// An entry by whose bytes its place is found.
fn entry(index: u64, rng: &mut Rng) -> Entry {
    let payload = Bytes::from(vec![index as u8 + 64; rng.usize(16..2000)]);
    Entry {
        term: Term(1),
        kind: EntryKind::Command,
        crc: crc32c::crc32c(&payload),
        payload,
    }
}

fn let_rot(files: &MemFiles, index: u64, rng: &mut Rng) {
    let bytes_of_it = [index as u8 + 64; 16];
    for (path, bytes) in files.content() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(at) = bytes.windows(16).position(|window| window == bytes_of_it) {
            files.rot(name, at + rng.usize(0..16), 1 << rng.u32(0..8));
        }
    }
}
