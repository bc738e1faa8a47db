//! When all faults are over: the cluster commits and agrees again, and what clients saw is judged.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kraft::Client;
use kraft::history::{Action, Answer, Budget, Fate, History, Operation, Verdict};

use crate::cluster::Cluster;
use crate::command::Trouble;
use crate::load::{self, KEY_PREFIX, connect, key_name};
use crate::network::NODES;

/// How long a whole cluster may take to commit: elections take a second, and the machine may be busy.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a node that was down may take to get what it missed.
const AGREE_TIMEOUT: Duration = Duration::from_secs(60);

/// A guard against hangs, for calls to a cluster that is whole.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a node may take to answer a page of a scan.
const SCAN_TIMEOUT: Duration = Duration::from_secs(20);

/// Fewer committed writes of clients than this show nothing, however short the run.
const WRITTEN_MIN: u64 = 1000;

/// What reads at the end, when all is over, has this number plus the node's; clients have lower ones.
const READERS: u32 = 100;

/// Steps of the check for a key: seconds, of which nearly all keys take milliseconds.
const STEPS_MAX: u64 = 20_000_000;

/// Waits until a write is committed; how long it took.
///
/// # Errors
///
/// None is, in time.
pub(crate) fn wait_for_commit(cluster: &mut Cluster) -> Result<Duration, Trouble> {
    let began = Instant::now();
    let mut client = connect(1..=NODES, CALL_TIMEOUT, 1)?;
    loop {
        let put = client.put(b"healed", b"1");
        let Err(error) = put else { return Ok(began.elapsed()) };
        cluster.watch()?;
        if began.elapsed() > COMMIT_TIMEOUT {
            return Err(Trouble::new(format!(
                "all faults are over for {COMMIT_TIMEOUT:?} and nothing commits: {error}; {}",
                statuses(&mut client)
            )));
        }
    }
}

/// Waits until all nodes have the same log, all of it durable and applied; how long it took.
///
/// # Errors
///
/// They do not, in time.
pub(crate) fn wait_for_agreement(cluster: &mut Cluster) -> Result<Duration, Trouble> {
    let began = Instant::now();
    let mut client = connect(1..=NODES, CALL_TIMEOUT, 2)?;
    loop {
        let reports = client
            .status()
            .map_err(|error| Trouble::new(format!("status: {error}")))?;
        let ends: Vec<_> = reports
            .iter()
            .map(|status| {
                let report = status.report.as_ref().ok()?;
                (report.applied == report.last && report.durable == report.last).then_some((
                    report.last,
                    report.term,
                    report.leader,
                ))
            })
            .collect();
        if ends[0].is_some() && ends.iter().all(|end| *end == ends[0]) {
            return Ok(began.elapsed());
        }
        cluster.watch()?;
        if began.elapsed() > AGREE_TIMEOUT {
            return Err(Trouble::new(format!(
                "all faults are over for {AGREE_TIMEOUT:?} and the nodes differ: {}",
                statuses(&mut client)
            )));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// What nodes say of themselves, a line each.
fn statuses(client: &mut Client) -> String {
    let reports = match client.status() {
        Ok(reports) => reports,
        Err(error) => return error.to_string(),
    };
    let lines = reports.iter().map(|status| match &status.report {
        Ok(report) => {
            let members = report.members.iter();
            let matched = members.map(|member| format!("{} at {}, {} ms", member.node, member.matched, member.heard_ms));
            format!(
                "\n  node {} on {}: {:?} in term {}, leader {}, commit {}, applied {}, durable {}, last {}, up {} ms; {}",
                report.node,
                report.backend,
                report.state,
                report.term,
                report.leader,
                report.commit,
                report.applied,
                report.durable,
                report.last,
                report.uptime_ms,
                matched.collect::<Vec<_>>().join("; ")
            )
        }
        Err(why) => format!("\n  {}: {why}", status.node.name),
    });
    lines.collect()
}

/// Reads every key at every node, as operations of the history.
///
/// # Errors
///
/// A node does not answer, or two have different states.
pub(crate) fn read_all(start: Instant) -> Result<History, Trouble> {
    let keys = load::keys_used(start);
    let mut history = History::new();
    let mut first: Option<BTreeMap<Bytes, Bytes>> = None;
    for node in 1..=NODES {
        let begin = load::nanos(start);
        let state = scan(node)?;
        let end = load::nanos(start);
        for key in 0..keys {
            let name = key_name(key);
            let answer = match state.get(name.as_slice()) {
                Some(value) => Answer::Value(value.to_vec()),
                None => Answer::NotFound,
            };
            history.push(Operation {
                client: READERS + u32::try_from(node).unwrap_or(0),
                key: name,
                action: Action::Get,
                begin,
                fate: Fate::Answered { end, answer },
            });
        }
        let first = first.get_or_insert_with(|| state.clone());
        let differs = |key: &&Bytes| first.get(*key) != state.get(*key);
        if let Some(key) = first.keys().chain(state.keys()).find(differs) {
            return Err(Trouble::new(format!(
                "nodes 1 and {node} have the same log and different states: {key:?} is {:?} and {:?}",
                first.get(key),
                state.get(key)
            )));
        }
    }
    Ok(history)
}

/// All keys of the history, as one node has them.
fn scan(node: usize) -> Result<BTreeMap<Bytes, Bytes>, Trouble> {
    let mut client = connect([node], SCAN_TIMEOUT, 3)?;
    let mut state = BTreeMap::new();
    let mut after = Bytes::new();
    loop {
        let page = client
            .scan(KEY_PREFIX.as_bytes(), &after, 0)
            .map_err(|error| Trouble::new(format!("a scan at node {node}: {error}")))?;
        if let Some((last, _)) = page.entries.last() {
            after = last.clone();
        }
        state.extend(page.entries);
        if !page.more {
            return Ok(state);
        }
    }
}

/// Whether one machine could have answered so: what was looked at, or what is impossible.
///
/// # Errors
///
/// The history shows nothing: clients wrote hardly anything, or the check had to give up.
pub(crate) fn judge(history: &History) -> Result<Result<String, String>, Trouble> {
    let (mut answered, mut written, mut refused, mut unknown) = (0, 0, 0, 0);
    // Reads at the end are made of the state itself: a cluster that served nobody has them, too.
    for operation in history.operations().iter().filter(|one| one.client < READERS) {
        match &operation.fate {
            Fate::Answered { answer, .. } => {
                answered += 1;
                written += u64::from(matches!(answer, Answer::Done | Answer::Number(_)));
            }
            Fate::Refused => refused += 1,
            Fate::Unknown => unknown += 1,
        }
    }
    if written < WRITTEN_MIN {
        return Err(Trouble::new(format!(
            "{written} writes of clients were committed, too few to show anything: {answered} of their operations were \
             answered, {refused} refused, {unknown} are of unknown outcome"
        )));
    }
    match history.check(Budget { steps: STEPS_MAX }) {
        Verdict::Linearizable => Ok(Ok(format!(
            "the history is linearizable: {answered} operations of clients answered, {written} of them writes, {refused} \
             refused, {unknown} of unknown outcome"
        ))),
        impossible @ Verdict::NotLinearizable(_) => Ok(Err(impossible.to_string())),
        undecided @ Verdict::Undecided { .. } => Err(Trouble::new(undecided.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many increments of one key, one after the other.
    fn increments(count: u64) -> History {
        let mut history = History::new();
        for turn in 0..count {
            history.push(Operation {
                client: 1,
                key: key_name(0),
                action: Action::Increment(1),
                begin: 2 * turn,
                fate: Fate::Answered {
                    end: 2 * turn + 1,
                    answer: Answer::Number(i64::try_from(turn).expect("few") + 1),
                },
            });
        }
        history
    }

    fn read(history: &mut History, sum: u64) {
        history.push(Operation {
            client: READERS + 1,
            key: key_name(0),
            action: Action::Get,
            begin: 1 << 40,
            fate: Fate::Answered {
                end: (1 << 40) + 1,
                answer: Answer::Value(sum.to_string().into_bytes()),
            },
        });
    }

    #[test]
    fn a_history_that_lost_an_acknowledged_write_is_impossible() {
        let count = WRITTEN_MIN + 100;
        let mut good = increments(count);
        read(&mut good, count);
        assert!(judge(&good).expect("decided").is_ok());
        let mut bad = increments(count);
        read(&mut bad, count - 1);
        let why = judge(&bad).expect("decided").expect_err("the last increment is lost");
        assert!(why.contains("key-000000"), "{why}");
    }

    #[test]
    fn a_history_of_next_to_nothing_shows_nothing() {
        assert!(judge(&increments(WRITTEN_MIN - 1)).is_err());
    }

    #[test]
    fn reads_at_the_end_are_no_operations_of_clients() {
        let mut reads = History::new();
        for _ in 0..2 * WRITTEN_MIN {
            read(&mut reads, 1);
        }
        let trouble = judge(&reads).expect_err("no client did anything");
        assert!(trouble.to_string().starts_with("0 writes"), "{trouble}");
        let mut few = increments(WRITTEN_MIN - 1);
        few.merge(reads);
        assert!(judge(&few).is_err());
    }
}
