//! The leader is killed while others write, again and again.

use std::iter;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hdrhistogram::Histogram;

use super::watch::Seen;
use crate::fault::Fault;
use crate::generator::{Clocks, Figures, Span};
use crate::interrupt;
use crate::plan::TRIALS_MIN;
use crate::record::Trial;

/// Asks survivors over and over, from when the leader was killed until it is over or all is known.
pub(super) type Watch = Box<dyn FnOnce(Instant, &AtomicBool) -> Result<Seen, Fault> + Send>;

/// Writes the value of a key, as [`Mortal::write`] does, whatever else is written meanwhile.
pub(super) type Writer = Box<dyn FnMut(u64, &[u8]) -> Result<bool, Fault> + Send>;

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

    /// Another client, for a thread of its own. It lives through all deaths.
    fn writer(&mut self) -> Result<Writer, Fault>;

    /// Writes the value of a key; `false` if nobody can say whether it happened, or it cannot happen now.
    fn write(&mut self, key: u64, value: &[u8]) -> Result<bool, Fault>;

    /// The value of a key, `None` if it has none.
    fn read(&mut self, key: u64) -> Result<Option<Bytes>, Fault>;
}

/// Without a leader for so long, the others will not have one.
const LEADERLESS_MAX: Duration = Duration::from_secs(20);

/// Each has a write on its way when the leader dies, beside the client whose write is timed.
const WRITERS: usize = 4;

/// Of each writer so many writes are acknowledged before the leader is killed: by then all are under way.
const BEFORE: usize = 8;

/// Writes of a writer around one death. It stops there: what is acknowledged is never more than is remembered.
const WRITES_MAX: usize = 256;

/// What somebody wrote, by key. A key is written by one writer, with one value.
#[derive(Debug, Default)]
struct Written {
    acknowledged: Vec<u64>,
    /// Nobody said whether these happened: either is right.
    open: Vec<u64>,
}

/// A leader's death.
struct Death {
    leader: usize,
    seen: Seen,
    /// From there to the first write that began afterwards.
    first_write: Duration,
    written: Written,
}

/// Kills the leader while it is written to, counts the time until the first write that began afterwards is acknowledged,
/// starts the killed node again and waits until all follow the new leader. Then everything that was acknowledged around
/// that death must be there, and in the end what was around all of them. What is lost is told in the trials.
pub(super) fn kill_leaders(cluster: &mut impl Mortal, span: Span) -> Result<Figures, Fault> {
    // Three digits from a microsecond to a minute.
    let mut latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order");
    let since = SystemTime::now();
    let mut elapsed = Duration::ZERO;
    let (mut trials, mut all) = (Vec::<Trial>::new(), Vec::<Written>::new());
    let writers = iter::repeat_with(|| cluster.writer()).take(WRITERS);
    let mut writers = writers.collect::<Result<Vec<_>, _>>()?;
    let keys = AtomicU64::default();
    while trials.len() < TRIALS_MIN as usize || elapsed < span.measured {
        let death = death(cluster, &mut writers, &keys)?;
        let passed = death.first_write;
        elapsed += passed;
        latency.saturating_record(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
        cluster.start(death.leader)?;
        cluster.leader()?;
        trials.push(Trial {
            acknowledged: death.written.acknowledged.len() as u64,
            lost: lost(cluster, &death.written)?,
            ..death.seen.trial(passed)
        });
        all.push(death.written);
    }
    // A later death may have taken what an earlier one left.
    for (trial, written) in trials.iter_mut().zip(&all) {
        trial.lost = trial.lost.max(lost(cluster, written)?);
    }
    Ok(Figures {
        messages: trials.len() as u64,
        elapsed,
        latency,
        service: None,
        since,
        used: Clocks::default(),
        busy: 0.0,
        growth: None,
        trials,
    })
}

/// Kills the leader when all writers are under way, and has them write on until a write that began afterwards is
/// acknowledged.
fn death(cluster: &mut impl Mortal, writers: &mut [Writer], keys: &AtomicU64) -> Result<Death, Fault> {
    let leader = cluster.leader()?;
    let mut written = Written::default();
    // So the client whose write is timed has its connections.
    first_write(cluster, keys, Instant::now(), &mut written)?;
    let watch = cluster.watch(leader)?;
    let is_over = &AtomicBool::new(false);
    let (passed, seen, others) = thread::scope(|scope| {
        // The scope waits for its threads, so they are told however this ends, by a panic too.
        let over = Over(is_over);
        let (say, said) = mpsc::channel();
        let begin = |writer| {
            let say = say.clone();
            scope.spawn(move || write_on(writer, keys, is_over, say))
        };
        let others: Vec<_> = writers.iter_mut().map(begin).collect();
        drop(say);
        // Until each has said so, or ended without a word.
        let under_way = said.iter().count();
        let kill = || {
            if under_way < WRITERS {
                let what = format!("of {WRITES_MAX} writes to a leader fewer than {BEFORE} were acknowledged");
                return Err(Fault::Stalled(what));
            }
            let began = Instant::now();
            cluster.kill(leader)?;
            let watch = scope.spawn(move || watch(began, is_over));
            let passed = first_write(cluster, keys, began, &mut written);
            Ok((passed, watch))
        };
        let killed = kill();
        drop(over);
        let others: Vec<_> = others.into_iter().map(join).collect();
        // Why a writer is not under way is the news then.
        let others = others.into_iter().collect::<Result<Vec<_>, _>>()?;
        let (passed, watch) = killed?;
        Ok((passed?, join(watch)?, others))
    })?;
    for other in others {
        written.acknowledged.extend(other.acknowledged);
        written.open.extend(other.open);
    }
    Ok(Death {
        leader,
        seen,
        first_write: passed,
        written,
    })
}

/// Says when it is dropped that it is over.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T, Fault>>) -> Result<T, Fault> {
    let outcome = thread.join();
    outcome.unwrap_or_else(|_| Err(Fault::Own("a thread that asks the nodes something panicked".into())))
}

/// Writes one key after the other until it is over, and says when it is under way.
fn write_on(
    write: &mut Writer,
    keys: &AtomicU64,
    is_over: &AtomicBool,
    under_way: Sender<()>,
) -> Result<Written, Fault> {
    let mut under_way = Some(under_way);
    let mut written = Written::default();
    for _ in 0..WRITES_MAX {
        if interrupt::is_asked() {
            return Err(Fault::Interrupted);
        }
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let key = next(keys);
        if write(key, &value(key))? {
            written.acknowledged.push(key);
        } else {
            written.open.push(key);
        }
        if written.acknowledged.len() == BEFORE
            && let Some(under_way) = under_way.take()
        {
            // Who has been told to end does not listen.
            let _ = under_way.send(());
        }
    }
    Ok(written)
}

/// How long after `began` a write that began afterwards is acknowledged.
fn first_write(
    cluster: &mut impl Mortal,
    keys: &AtomicU64,
    began: Instant,
    written: &mut Written,
) -> Result<Duration, Fault> {
    let key = next(keys);
    // What may have happened is written again: it is another write of the same.
    while !cluster.write(key, &value(key))? {
        if interrupt::is_asked() {
            return Err(Fault::Interrupted);
        }
        if began.elapsed() > LEADERLESS_MAX {
            let span = LEADERLESS_MAX.as_secs();
            return Err(Fault::Stalled(format!("no write was acknowledged for {span} s")));
        }
    }
    written.acknowledged.push(key);
    Ok(began.elapsed())
}

/// How many writes are gone that were acknowledged. What is there must be what was written.
fn lost(cluster: &mut impl Mortal, written: &Written) -> Result<u64, Fault> {
    let mut lost = 0;
    let acknowledged = written.acknowledged.iter().map(|key| (*key, true));
    for (key, was_acknowledged) in acknowledged.chain(written.open.iter().map(|key| (*key, false))) {
        if interrupt::is_asked() {
            return Err(Fault::Interrupted);
        }
        match cluster.read(key)? {
            None => lost += u64::from(was_acknowledged),
            Some(found) if found[..] == value(key) => {}
            Some(found) => {
                let count = found.len();
                return Err(Fault::Corrupt(format!(
                    "key {key} has a value of {count} bytes that nobody wrote"
                )));
            }
        }
    }
    Ok(lost)
}

/// A key that nobody has written.
fn next(keys: &AtomicU64) -> u64 {
    keys.fetch_add(1, Ordering::Relaxed)
}

/// What is written to a key, and to no other.
fn value(key: u64) -> [u8; 8] {
    key.to_le_bytes()
}

#[cfg(test)]
mod tests;
