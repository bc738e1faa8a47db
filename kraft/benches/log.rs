//! Appends and syncs batches of 64 x 256 B through the log, against a loop that writes and syncs the same bytes.
//!
//! The bare loop writes as many bytes as the log does, headers included, to a file that was zeroed before, with one
//! pwrite and one fdatasync a batch. Rounds are interleaved, and which side goes first alternates, so that a disk
//! whose speed drifts favours neither. Zeroing is off the hot path in a node, so both sides do it between rounds.
//!
//! `KRAFT_BENCH_DIR` names the folder that is written in; it must be on the disk that is to be measured.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kraft::storage::{Config, DiskLog, DiskWork, LogIdentity, RealFiles};
use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId, SyncId, Term};
use kraft_core::message::{Entries, Entry, EntryKind};
use kraft_core::storage::{Completed, Storage, Work};

const ENTRIES: usize = 64;
const PAYLOAD_BYTES: usize = 256;
/// A mark, and a header before each payload.
const BATCH_BYTES: usize = 32 + ENTRIES * (32 + PAYLOAD_BYTES);

const IDENTITY: LogIdentity = LogIdentity {
    cluster: ClusterId(1),
    node: NodeId(1),
    incarnation: Incarnation(1),
    group: GroupId(0),
};

fn main() {
    // `cargo test --all-targets` runs this too, and only wants to know that it works.
    let is_measured = std::env::args().any(|arg| arg == "--bench");
    let (rounds, batches) = if is_measured { (41, 250) } else { (2, 5) };
    let root =
        std::env::var_os("KRAFT_BENCH_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    fs::create_dir_all(&root).expect("the folder of the bench can be made");
    let folder = tempfile::tempdir_in(&root).expect("a folder in the folder of the bench can be made");

    let mut log = Log::open(folder.path());
    let mut bare = Bare::open(folder.path(), batches);
    // The first round warms up and is not counted.
    let (mut logs, mut bares) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        log.prepare();
        bare.prepare();
        let (log_took, bare_took) = if round % 2 == 0 {
            let took = log.round(batches);
            (took, bare.round(batches))
        } else {
            let took = bare.round(batches);
            (log.round(batches), took)
        };
        if round > 0 {
            logs.push(log_took);
            bares.push(bare_took);
        }
    }
    let expected = Index(((rounds + 1) * batches * ENTRIES) as u64);
    drop(log);
    let (_, recovered) = open(folder.path());
    assert_eq!(recovered.last, expected, "the log lost entries");
    if is_measured {
        report(rounds, batches, logs, bares, &root);
    }
}

fn report(rounds: usize, batches: usize, mut logs: Vec<Duration>, mut bares: Vec<Duration>, root: &Path) {
    let ratios = logs
        .iter()
        .zip(&bares)
        .map(|(log, bare)| bare.as_secs_f64() / log.as_secs_f64());
    let mut ratios: Vec<_> = ratios.collect();
    ratios.sort_by(f64::total_cmp);
    logs.sort_unstable();
    bares.sort_unstable();
    println!(
        "{rounds} interleaved rounds of {batches} batches of {ENTRIES} x {PAYLOAD_BYTES} B in {}",
        root.display()
    );
    for (name, times) in [("log", &logs), ("bare loop", &bares)] {
        let rate = |took: Duration| (batches * ENTRIES) as f64 / took.as_secs_f64();
        println!(
            "{name:10} {:>9.0} durable entries/s (median; best {:.0}, worst {:.0}), {:.1} µs a batch",
            rate(times[rounds / 2]),
            rate(times[0]),
            rate(times[rounds - 1]),
            times[rounds / 2].as_secs_f64() * 1e6 / batches as f64
        );
    }
    println!(
        "log / bare loop: {:.3} by medians, {:.3} median of the rounds' ratios (quartiles {:.3}, {:.3})",
        bares[rounds / 2].as_secs_f64() / logs[rounds / 2].as_secs_f64(),
        ratios[rounds / 2],
        ratios[rounds / 4],
        ratios[rounds * 3 / 4]
    );
}

fn open(folder: &Path) -> (DiskLog<RealFiles>, kraft_core::storage::Recovered) {
    let config = Config {
        first_segment_bytes: 64 << 20,
        ..Config::default()
    };
    let files = RealFiles::create(&folder.join("log")).expect("the log's folder can be made");
    DiskLog::open(files, IDENTITY, config).expect("the log opens")
}

struct Log {
    log: DiskLog<RealFiles>,
    entries: Vec<Entry>,
    next: Index,
    syncs: u64,
    /// Work that a node does beside its loop.
    later: Vec<DiskWork<RealFiles>>,
}

impl Log {
    fn open(folder: &Path) -> Self {
        let payload = Bytes::from(vec![0xa5; PAYLOAD_BYTES]);
        let entry = Entry {
            term: Term(1),
            kind: EntryKind::Command,
            crc: crc32c::crc32c(&payload),
            payload,
        };
        Self {
            log: open(folder).0,
            entries: vec![entry; ENTRIES],
            next: Index(1),
            syncs: 0,
            later: Vec::new(),
        }
    }

    fn prepare(&mut self) {
        while let Some(work) = self.later.pop().or_else(|| self.log.next_work()) {
            self.log.done(work.run()).expect("the disk works");
        }
    }

    fn round(&mut self, batches: usize) -> Duration {
        let begin = Instant::now();
        for _ in 0..batches {
            self.log.append(self.next, &Entries::Shared(&self.entries, &[]));
            self.next = Index(self.next.0 + ENTRIES as u64);
            self.syncs += 1;
            self.log.sync(SyncId(self.syncs));
            let mut is_synced = false;
            while !is_synced {
                let work = self.log.next_work().expect("the sync has not come back");
                if work.is_urgent() || self.later.len() > 4 {
                    let done = self.log.done(work.run()).expect("the disk works");
                    is_synced = matches!(done, Some(Completed::Synced(id)) if id.0 == self.syncs);
                } else {
                    self.later.push(work);
                }
            }
        }
        begin.elapsed()
    }
}

struct Bare {
    path: PathBuf,
    file: File,
    bytes: Vec<u8>,
    size: usize,
}

impl Bare {
    fn open(folder: &Path, batches: usize) -> Self {
        let path = folder.join("bare");
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path);
        Self {
            file: file.expect("the bare file can be made"),
            path,
            bytes: vec![0xa5; BATCH_BYTES],
            size: batches * BATCH_BYTES,
        }
    }

    /// A file of zeros, on the disk.
    fn prepare(&mut self) {
        fs::remove_file(&self.path).expect("the bare file can be removed");
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(&self.path);
        self.file = file.expect("the bare file can be made");
        self.file.write_all_at(&vec![0; self.size], 0).expect("the disk works");
        self.file.sync_all().expect("the disk works");
    }

    fn round(&mut self, batches: usize) -> Duration {
        let begin = Instant::now();
        for batch in 0..batches {
            // What is written differs from batch to batch, as the log's bytes do.
            self.bytes[0] = self.bytes[0].wrapping_add(1);
            self.file
                .write_all_at(&self.bytes, (batch * BATCH_BYTES) as u64)
                .expect("the disk works");
            self.file.sync_data().expect("the disk works");
        }
        begin.elapsed()
    }
}
