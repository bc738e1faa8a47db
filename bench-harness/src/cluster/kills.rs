//! The leader is killed, again and again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use kraft::client::{Client, Error};

use super::nodes::Cluster;
use super::watch;
use crate::fault::Fault;
use crate::generator::{Clocks, Figures, Span};
use crate::interrupt;
use crate::plan::TRIALS_MIN;

/// Without a leader for so long, the others will not have one.
const LEADERLESS_MAX: Duration = Duration::from_secs(20);

/// Kills the leader, counts the time until the first write that began afterwards is acknowledged, starts the killed node
/// again and waits until all follow the new leader. Then everything that was acknowledged must be there.
pub(super) fn kill_leaders(cluster: &mut Cluster, span: Span) -> Result<Figures, Fault> {
    let failed = |what: &'static str| move |error: Error| Fault::closed(format!("{what}: {error}"));
    let mut client = cluster.client()?;
    // Three digits from a microsecond to a minute.
    let mut latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order");
    let since = SystemTime::now();
    let (mut trials, mut elapsed) = (0_u64, Duration::ZERO);
    let mut shown = Vec::new();
    while trials < u64::from(TRIALS_MIN) || elapsed < span.measured {
        if interrupt::is_asked() {
            return Err(Fault::Interrupted);
        }
        let leader = cluster.leader()?;
        let number = trials.to_le_bytes();
        client.put(&key("before", trials), &number).map_err(failed("put"))?;
        let mut witness = cluster.client_of_others(leader)?;
        // It is connected with them before there is anything to see.
        witness.status().map_err(failed("ask the nodes how they are"))?;
        let began = Instant::now();
        cluster.kill(leader)?;
        let is_over = AtomicBool::new(false);
        let (passed, seen) = thread::scope(|scope| {
            let watch = scope.spawn(|| watch::survivors(&mut witness, Cluster::id(leader), began, &is_over));
            let passed = first_write(&mut client, &key("after", trials), &number, began);
            is_over.store(true, Ordering::Relaxed);
            (passed, watch.join())
        });
        let passed = passed?;
        let seen = seen.map_err(|_| Fault::Own("the thread that asks the nodes how they are panicked".into()))?;
        let seen = seen.map_err(failed("ask the nodes how they are"))?;
        shown.push(seen.trial(passed));
        elapsed += passed;
        latency.saturating_record(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
        trials += 1;
        cluster.start_node(leader)?;
        cluster.leader()?;
        for trial in 0..trials {
            for key in [key("before", trial), key("after", trial)] {
                let found = client.get(&key).map_err(failed("get"))?;
                if found.as_deref() != Some(&trial.to_le_bytes()) {
                    let key = String::from_utf8_lossy(&key).into_owned();
                    return Err(Fault::Corrupt(format!("{key}, which was acknowledged, is lost")));
                }
            }
        }
    }
    Ok(Figures {
        messages: trials,
        elapsed,
        latency,
        service: None,
        since,
        used: Clocks::default(),
        busy: 0.0,
        growth: None,
        trials: shown,
    })
}

/// How long after `began` a write that began afterwards is acknowledged.
fn first_write(client: &mut Client, key: &[u8], value: &[u8], began: Instant) -> Result<Duration, Fault> {
    loop {
        match client.put(key, value) {
            Ok(()) => return Ok(began.elapsed()),
            Err(Error::Refused(_) | Error::Unknown) if interrupt::is_asked() => return Err(Fault::Interrupted),
            Err(Error::Refused(_) | Error::Unknown) if began.elapsed() > LEADERLESS_MAX => {
                let span = LEADERLESS_MAX.as_secs();
                return Err(Fault::Stalled(format!(
                    "no write for {span} s after the leader was killed"
                )));
            }
            // It may have happened; the next one is another write of the same.
            Err(Error::Refused(_) | Error::Unknown) => {}
            Err(error) => return Err(Fault::closed(format!("put without the old leader: {error}"))),
        }
    }
}

fn key(when: &str, trial: u64) -> Vec<u8> {
    format!("{when} {trial}").into_bytes()
}
