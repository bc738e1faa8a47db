//! What a large state costs: puts while snapshots are taken, and a node that has nothing yet.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kraft::client::Client;

use crate::nodes::Cluster;

/// Entries between two snapshots, so that one is always being taken; and so many that none ever is.
const SNAPSHOTS: [(&str, &str); 2] = [(ALONE, "1000000000000"), (WITH_SNAPSHOTS, "100000")];

pub(crate) const ALONE: &str = "put 256 B, 64 clients, large state";
pub(crate) const WITH_SNAPSHOTS: &str = "the same while snapshots are taken";
pub(crate) const WITH_TRANSFERS: &str = "the same while new nodes are sent the state";
pub(crate) const NEW_NODE: &str = "a new node takes the state";

/// The load of small puts. They are of few keys, so that the state stays as large as it is.
const PUTS: [&str; 6] = ["--clients", "64", "--value-size", "256", "--keys", "100"];

/// Calls `put` with the row, the figure and its value.
pub(crate) fn measure(
    backend: &str,
    mib: usize,
    rounds: usize,
    span: Duration,
    mut put: impl FnMut(&'static str, &'static str, f64),
) -> io::Result<()> {
    let mut cluster = Cluster::init(backend)?;
    let flags = |entries| {
        [
            "--state-bytes-max",
            "8000000000",
            "--snapshot-bytes",
            "1000000000000",
            "--snapshot-entries",
            entries,
        ]
    };
    cluster.set_flags(&flags(SNAPSHOTS[0].1));
    cluster.start_all()?;
    cluster.leader()?;
    let keys = (mib * 16).to_string();
    // Keys are drawn: after three times as many puts as keys one in twenty is missing.
    let fill = ["--clients", "16", "--value-size", "65536", "--keys", keys.as_str()];
    let mut filled = 0.0;
    while filled < 3.0 * mib as f64 * 16.0 {
        let second = Duration::from_secs(1);
        let found = cluster.bench(&fill, second)?;
        let rate = found.iter().find(|(name, _)| name == "ops_per_second");
        filled += rate.map_or(0.0, |(_, rate)| *rate);
    }
    for round in 0..rounds {
        eprintln!("large state, round {} of {rounds}", round + 1);
        for (row, entries) in SNAPSHOTS {
            cluster.set_flags(&flags(entries));
            cluster.restart()?;
            put_puts(row, &cluster.bench(&PUTS, span)?, &mut put);
        }
        cluster.set_flags(&flags(SNAPSHOTS[0].1));
        cluster.restart()?;
        let mut load = cluster.start_bench(&PUTS, span)?;
        let mut left = Vec::new();
        while load.is_running()? {
            let (id, at) = (cluster.count() + 1, cluster.count());
            let address = cluster.start_stranger()?;
            cluster.ctl(&["member", "add", &id.to_string(), &address, "--wait"])?;
            cluster.ctl(&["member", "remove", &id.to_string()])?;
            cluster.kill(at)?;
            left.push(cluster.data(at));
        }
        put_puts(WITH_TRANSFERS, &load.finish()?, &mut put);
        put(WITH_TRANSFERS, "times", left.len() as f64);
        // Not under the load: what it costs to give back a GiB is the file system's matter.
        left.iter().try_for_each(std::fs::remove_dir_all)?;
    }
    for _ in 0..rounds {
        let file = cluster.data(0).join("saved.snap");
        let path = file
            .to_str()
            .ok_or_else(|| io::Error::other("the folder's name is no text"))?;
        cluster.ctl(&["snapshot", "save", "--force", path])?;
        let bytes = std::fs::metadata(&file)?.len();
        let id = (cluster.count() + 1).to_string();
        let address = cluster.start_stranger()?;
        let is_there = AtomicBool::new(false);
        let (taken, silence) = thread::scope(|scope| {
            let silence = scope.spawn(|| longest_silence(&cluster.nodes(), &is_there));
            let begun = Instant::now();
            let added = cluster.ctl(&["member", "add", &id, &address, "--wait"]);
            let taken = begun.elapsed();
            is_there.store(true, Ordering::Relaxed);
            let silence = silence.join().map_err(|_| io::Error::other("who listened panicked"))?;
            added?;
            io::Result::Ok((taken, silence?))
        })?;
        put(NEW_NODE, "MB_per_second", bytes as f64 / 1e6 / taken.as_secs_f64());
        put(NEW_NODE, "leader_silent_ms", silence.as_secs_f64() * 1e3);
        cluster.ctl(&["member", "remove", &id])?;
    }
    Ok(())
}

fn put_puts(row: &'static str, found: &[(String, f64)], put: &mut impl FnMut(&'static str, &'static str, f64)) {
    for figure in ["ops_per_second", "p99_us"] {
        if let Some((_, value)) = found.iter().find(|(name, _)| name == figure) {
            put(row, figure, *value);
        }
    }
}

/// For how long a follower heard nothing of its leader, at most, as far as nodes that are asked all the time tell.
fn longest_silence(nodes: &str, is_over: &AtomicBool) -> io::Result<Duration> {
    let mut client = Client::connect(nodes).map_err(io::Error::other)?;
    let mut longest = 0;
    while !is_over.load(Ordering::Relaxed) {
        let statuses = client.status().map_err(io::Error::other)?;
        for report in statuses.iter().flat_map(|status| &status.report) {
            let leader = report.members.iter().find(|member| member.node == report.leader);
            // The leader says 0 of itself, and who never heard one follows none.
            let heard = leader.map_or(0, |leader| leader.heard_ms);
            longest = longest.max(if heard == u64::MAX { 0 } else { heard });
        }
        client.wait(Duration::from_millis(2)).map_err(io::Error::other)?;
    }
    Ok(Duration::from_millis(longest))
}
