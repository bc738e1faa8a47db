//! What a cluster keeps over a long time of steady writes: its log, its snapshots, its memory.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use kraft::client::{Client, Error};

use crate::nodes::{COUNT, Cluster};

/// What the log may take of the disk, as `--log-bytes-max` has it.
const LOG_BYTES_MAX: u64 = 512 << 20;

const VALUE_BYTES: usize = 4096;

/// Different keys: the state is 40 MB.
const KEYS: usize = 10_000;

/// One put after the other, and no more than this a second.
const PUTS_PER_SECOND: u32 = 1_000;

const SAMPLE_INTERVAL: Duration = Duration::from_secs(15);

/// A node's memory has grown if it is this much more in the last third of the time than in the one before.
const GROWTH_MAX: f64 = 1.05;

pub(crate) const LOG: &str = "log on disk, the node that has most";
pub(crate) const SNAPSHOTS: &str = "snapshots on disk, the node that has most";
pub(crate) const MEMORY: &str = "memory, the node that has most";
pub(crate) const PUTS: &str = "puts of 4 KiB";

/// Calls `put` with row, figure and value, once a sample.
///
/// # Errors
///
/// The log took more than it may, memory grew, or nothing was written.
pub(crate) fn measure(
    backend: &str,
    span: Duration,
    mut put: impl FnMut(&'static str, &'static str, f64),
) -> io::Result<()> {
    let mut cluster = Cluster::init(backend)?;
    let limit = LOG_BYTES_MAX.to_string();
    cluster.set_flags(&["--log-bytes-max", &limit, "--log-segment-bytes", "16777216"]);
    cluster.start_all()?;
    cluster.leader()?;
    let mut client = Client::connect(&cluster.nodes()).map_err(io::Error::other)?;
    let mut writer = Writer::default();
    let mut memory = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < span {
        let sample = Instant::now();
        let refused = writer.refused;
        let answered = writer.write(&mut client, SAMPLE_INTERVAL)?;
        if answered == 0 {
            return Err(io::Error::other(
                "nothing was written for a while: see what the nodes say",
            ));
        }
        put(PUTS, "per second", f64::from(answered) / sample.elapsed().as_secs_f64());
        put(PUTS, "not done", f64::from(writer.refused - refused));
        let [mut log, mut snapshots] = [0, 0];
        for at in 0..COUNT {
            let folder = cluster.data(at).join("log");
            let of_snapshots = disk_bytes(&folder.join("snapshots"))?;
            log = log.max(disk_bytes(&folder)? - of_snapshots);
            snapshots = snapshots.max(of_snapshots);
        }
        if log > LOG_BYTES_MAX {
            return Err(io::Error::other(format!(
                "a log of {log} bytes: {LOG_BYTES_MAX} are all that it may have"
            )));
        }
        put(LOG, "MB", log as f64 / 1e6);
        put(SNAPSHOTS, "MB", snapshots as f64 / 1e6);
        memory.push(cluster.memory_mib("VmRSS")?);
        put(MEMORY, "MiB", memory[memory.len() - 1]);
    }
    let third = memory.len() / 3;
    let mean = |samples: &[f64]| samples.iter().sum::<f64>() / samples.len() as f64;
    let [before, last] = [&memory[third..2 * third], &memory[2 * third..]].map(mean);
    if last > before * GROWTH_MAX {
        return Err(io::Error::other(format!(
            "memory grew from {before:.0} MiB in the middle to {last:.0} at the end"
        )));
    }
    Ok(())
}

/// Puts one value after the other.
#[derive(Default)]
struct Writer {
    puts: usize,
    refused: u32,
}

impl Writer {
    /// Writes for so long; how many puts were answered.
    fn write(&mut self, client: &mut Client, span: Duration) -> io::Result<u32> {
        let begun = Instant::now();
        let mut answered = 0;
        let mut value = [0; VALUE_BYTES];
        while begun.elapsed() < span {
            self.puts += 1;
            value[..8].copy_from_slice(&self.puts.to_le_bytes());
            // A stride that is prime to the number of keys reaches all of them.
            let key = self.puts * 7919 % KEYS;
            match client.put(&key.to_le_bytes(), &value) {
                Ok(()) => answered += 1,
                Err(Error::Refused(_) | Error::Unknown) => self.refused += 1,
                Err(error) => return Err(io::Error::other(error)),
            }
            let due = begun + Duration::from_secs(1) / PUTS_PER_SECOND * (answered + 1);
            let rest = due.saturating_duration_since(Instant::now());
            client.wait(rest).map_err(io::Error::other)?;
        }
        Ok(answered)
    }
}

/// What the files of a folder take of the disk; files may come and go meanwhile.
fn disk_bytes(folder: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;

    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => bytes += disk_bytes(&path)?,
            Ok(metadata) => bytes += metadata.blocks() * 512,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}
