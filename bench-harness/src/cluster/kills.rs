//! The leader is killed, again and again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;

use super::watch::Seen;
use crate::fault::Fault;
use crate::generator::{Clocks, Figures, Span};
use crate::interrupt;
use crate::plan::TRIALS_MIN;

/// Asks survivors over and over, from when the leader was killed until it is over or all is known.
pub(super) type Watch = Box<dyn FnOnce(Instant, &AtomicBool) -> Result<Seen, Fault> + Send>;

/// Three nodes whose leader can be killed.
pub(super) trait Mortal {
    /// The place of the leader that all of them follow, as soon as there is one.
    fn leader(&mut self) -> Result<usize, Fault>;

    /// Who looks on when the leader at a place is killed.
    fn watch(&mut self, leader: usize) -> Result<Watch, Fault>;

    /// Ends the node at a place by SIGKILL.
    fn kill(&mut self, at: usize) -> Result<(), Fault>;

    /// Starts it again.
    fn start(&mut self, at: usize) -> Result<(), Fault>;

    /// Writes the value of a key; `false` if nobody can say whether it happened, or it cannot happen now.
    fn write(&mut self, key: u64) -> Result<bool, Fault>;

    /// Reads a key, and whether it has its value.
    fn has(&mut self, key: u64) -> Result<bool, Fault>;
}

/// Without a leader for so long, the others will not have one.
const LEADERLESS_MAX: Duration = Duration::from_secs(20);

/// Kills the leader, counts the time until the first write that began afterwards is acknowledged, starts the killed node
/// again and waits until all follow the new leader. Then everything that was acknowledged must be there.
pub(super) fn kill_leaders(cluster: &mut impl Mortal, span: Span) -> Result<Figures, Fault> {
    // Three digits from a microsecond to a minute.
    let mut latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order");
    let since = SystemTime::now();
    let (mut trials, mut elapsed) = (0_u64, Duration::ZERO);
    let mut shown = Vec::new();
    while trials < u64::from(TRIALS_MIN) || elapsed < span.measured {
        let leader = cluster.leader()?;
        first_write(cluster, before(trials), Instant::now())?;
        let watch = cluster.watch(leader)?;
        let began = Instant::now();
        cluster.kill(leader)?;
        let is_over = AtomicBool::new(false);
        let (passed, seen) = thread::scope(|scope| {
            let watch = scope.spawn({
                let is_over = &is_over;
                move || watch(began, is_over)
            });
            let passed = first_write(cluster, after(trials), began);
            is_over.store(true, Ordering::Relaxed);
            (passed, watch.join())
        });
        let passed = passed?;
        let seen = seen.map_err(|_| Fault::Own("the thread that asks the nodes how they are panicked".into()))?;
        shown.push(seen?.trial(passed));
        elapsed += passed;
        latency.saturating_record(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
        trials += 1;
        cluster.start(leader)?;
        cluster.leader()?;
        for key in (0..trials).flat_map(|trial| [before(trial), after(trial)]) {
            if !cluster.has(key)? {
                return Err(Fault::Corrupt(format!("key {key}, which was acknowledged, is lost")));
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
fn first_write(cluster: &mut impl Mortal, key: u64, began: Instant) -> Result<Duration, Fault> {
    // What may have happened is written again: it is another write of the same.
    while !cluster.write(key)? {
        if interrupt::is_asked() {
            return Err(Fault::Interrupted);
        }
        if began.elapsed() > LEADERLESS_MAX {
            let span = LEADERLESS_MAX.as_secs();
            return Err(Fault::Stalled(format!("no write was acknowledged for {span} s")));
        }
    }
    Ok(began.elapsed())
}

/// The keys of a trial.
fn before(trial: u64) -> u64 {
    2 * trial
}

fn after(trial: u64) -> u64 {
    2 * trial + 1
}
