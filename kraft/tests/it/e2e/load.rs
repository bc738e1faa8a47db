//! Clients that go on until they are told to stop, and the proof that nothing of what they wrote was lost or done twice.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bytes::Bytes;
use kraft::client::{Client, Error};

use super::cluster::{Cluster, connect};
use crate::process::PATIENCE;

/// Clients that write, or do what else they were made for; each returns what it knows at its end.
pub(super) struct Load<T = Written> {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<T>>,
}

/// What clients share with who watches them.
#[derive(Default)]
pub(super) struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    is_stopped: bool,
    /// How many waits there were: what was begun in an earlier epoch may have been answered by who died since.
    epoch: u64,
    /// Acknowledged operations that were begun in this epoch.
    acknowledged: u64,
    failed: Vec<String>,
}

/// What a client wrote: keys of its own with values of their own, and a sum of ones.
pub(super) struct Written {
    client: usize,
    value_bytes: usize,
    puts: Vec<Ended>,
    increments: Vec<Ended>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Acknowledged,
    /// It may or may not have happened.
    Unknown,
    Refused,
}

impl Shared {
    /// The epoch, unless it is time to stop.
    pub(super) fn epoch(&self) -> Option<u64> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        (!progress.is_stopped).then_some(progress.epoch)
    }

    /// An operation that was begun in this epoch was acknowledged, or failed.
    pub(super) fn ended(&self, epoch: u64, failed: Option<String>) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        match failed {
            None if progress.epoch == epoch => progress.acknowledged += 1,
            None => {}
            Some(why) => progress.failed.push(why),
        }
        self.changed.notify_all();
    }
}

impl Load {
    /// Clients of these nodes, in a session each, that put values of so many bytes and increment by turns.
    pub(super) fn start(cluster: &Cluster, nodes: &[usize], clients: usize, value_bytes: usize) -> Self {
        let nodes = cluster.clients(nodes);
        Self::of(clients, move |shared, number| {
            write(shared, connect(&nodes), number, value_bytes)
        })
    }
}

impl<T: Send + 'static> Load<T> {
    /// So many clients, each a thread that works until there is no [`epoch`](Shared::epoch).
    pub(super) fn of(clients: usize, work: impl Fn(&Shared, usize) -> T + Clone + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let client = |number| {
            let (shared, work) = (Arc::clone(&shared), work.clone());
            thread::spawn(move || work(&shared, number))
        };
        Self {
            clients: (0..clients).map(client).collect(),
            shared,
        }
    }

    /// Waits until `count` operations are acknowledged that were begun after this call.
    #[track_caller]
    pub(super) fn wait_for(&self, count: u64) {
        let until = Instant::now() + PATIENCE;
        let mut progress = self.shared.progress.lock().expect("no panic");
        progress.epoch += 1;
        progress.acknowledged = 0;
        while progress.acknowledged < count {
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{} of {count} operations, {:?}",
                progress.acknowledged,
                progress.failed
            );
            progress = self.shared.changed.wait_timeout(progress, left).expect("no panic").0;
        }
    }

    /// Waits until an operation did not succeed; how it ended.
    #[track_caller]
    pub(super) fn wait_for_failure(&self) -> String {
        let until = Instant::now() + PATIENCE;
        let mut progress = self.shared.progress.lock().expect("no panic");
        while progress.failed.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "all writes succeed");
            progress = self.shared.changed.wait_timeout(progress, left).expect("no panic").0;
        }
        progress.failed[0].clone()
    }

    /// Ends the clients, each after the operation that it is at.
    pub(super) fn stop(mut self) -> Vec<T> {
        self.tell_stop();
        let join = |client: JoinHandle<T>| client.join().expect("no panic");
        self.clients.drain(..).map(join).collect()
    }
}

impl<T> Load<T> {
    fn tell_stop(&self) {
        // A test that fails in a wait poisons it.
        let progress = self.shared.progress.lock();
        progress.unwrap_or_else(PoisonError::into_inner).is_stopped = true;
    }
}

impl<T> Drop for Load<T> {
    /// The clients of a test that failed end by themselves.
    fn drop(&mut self) {
        self.tell_stop();
    }
}

fn write(shared: &Shared, mut client: Client, number: usize, value_bytes: usize) -> Written {
    let mut written = Written {
        client: number,
        value_bytes,
        puts: Vec::new(),
        increments: Vec::new(),
    };
    while let Some(epoch) = shared.epoch() {
        let is_put = written.puts.len() <= written.increments.len();
        let result = if is_put {
            let (key, value) = written.put(written.puts.len());
            client.put(key.as_bytes(), &value)
        } else {
            let possible = written.sum();
            client.increment(written.sum_key().as_bytes(), 1).map(|sum| {
                let possible = possible.start() + 1..=possible.end() + 1;
                assert!(possible.contains(&sum), "client {number}: {sum} is not in {possible:?}");
            })
        };
        let ended = match &result {
            Ok(()) => Ended::Acknowledged,
            Err(Error::Refused(_)) => Ended::Refused,
            Err(Error::Unknown) => Ended::Unknown,
            Err(error) => panic!("client {number}: {error}"),
        };
        if is_put {
            written.puts.push(ended);
        } else {
            written.increments.push(ended);
        }
        shared.ended(epoch, result.err().map(|error| error.to_string()));
    }
    written
}

impl Written {
    /// A key and its value, which no other key has.
    fn put(&self, place: usize) -> (String, Vec<u8>) {
        let key = format!("put/{}/{place:08}", self.client);
        let value = key.bytes().cycle().take(self.value_bytes.max(key.len())).collect();
        (key, value)
    }

    fn sum_key(&self) -> String {
        format!("sum/{}", self.client)
    }

    /// What the sum may be.
    fn sum(&self) -> RangeInclusive<i64> {
        let count = |which| self.increments.iter().filter(|ended| **ended == which).count();
        let least = i64::try_from(count(Ended::Acknowledged)).expect("few");
        least..=least + i64::try_from(count(Ended::Unknown)).expect("few")
    }

    fn is_all_acknowledged(&self) -> bool {
        let mut all = self.puts.iter().chain(&self.increments);
        all.all(|ended| *ended == Ended::Acknowledged)
    }

    #[track_caller]
    fn check(&self, node: usize, found: &mut BTreeMap<Bytes, Bytes>) {
        for (place, ended) in self.puts.iter().enumerate() {
            let (key, value) = self.put(place);
            match (found.remove(key.as_bytes()), ended) {
                (Some(found), Ended::Acknowledged | Ended::Unknown) => {
                    assert!(found == value, "{key} has another value on node {node}");
                }
                (None, Ended::Unknown | Ended::Refused) => {}
                (Some(_), Ended::Refused) => panic!("{key} was refused and is there on node {node}"),
                (None, Ended::Acknowledged) => panic!("{key} was acknowledged and is lost on node {node}"),
            }
        }
        let sum = found.remove(self.sum_key().as_bytes());
        let sum = sum.map_or(0, |sum| {
            let text = std::str::from_utf8(&sum).expect("a sum is text");
            text.parse().expect("a sum is a number")
        });
        let possible = self.sum();
        assert!(
            possible.contains(&sum),
            "the sum of client {} is {sum} on node {node}, not in {possible:?}",
            self.client
        );
    }
}

/// Every write was acknowledged.
#[track_caller]
pub(super) fn assert_all_acknowledged(written: &[Written]) {
    for of in written {
        let failed = of.puts.iter().chain(&of.increments);
        let failed: Vec<_> = failed.filter(|ended| **ended != Ended::Acknowledged).collect();
        assert!(of.is_all_acknowledged(), "client {}: {failed:?}", of.client);
    }
}

/// What was acknowledged is read back through each of these nodes, and nothing else is.
#[track_caller]
pub(super) fn assert_kept(cluster: &Cluster, nodes: &[usize], written: &[Written]) {
    for node in nodes {
        let mut client = cluster.connect(&[*node]);
        let mut found = BTreeMap::new();
        for prefix in ["put/", "sum/"] {
            let mut after = Bytes::new();
            loop {
                let page = client.scan(prefix.as_bytes(), &after, 0).expect("it is read");
                found.extend(page.entries);
                match found.last_key_value() {
                    Some((last, _)) if page.more => after = last.clone(),
                    _ => break,
                }
            }
        }
        for of in written {
            of.check(*node, &mut found);
        }
        let strange: Vec<_> = found.keys().collect();
        assert!(strange.is_empty(), "nobody wrote {strange:?}, and node {node} has it");
    }
}
