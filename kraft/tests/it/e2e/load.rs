//! Clients that write until they are told to stop, and the proof that nothing of it was lost or done twice.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bytes::Bytes;
use kraft::client::{Client, Error};

use super::cluster::{Cluster, connect};
use crate::process::PATIENCE;

/// Clients that write.
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Written>>,
}

/// What clients share with who watches them.
#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    is_stopped: bool,
    /// How many waits there were: what was begun in an earlier epoch may have been answered by who died since.
    epoch: u64,
    /// Acknowledged writes that were begun in this epoch.
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

impl Load {
    /// Clients of these nodes, in a session each, that put values of so many bytes and increment by turns.
    pub(super) fn start(cluster: &Cluster, nodes: &[usize], clients: usize, value_bytes: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let client = |number| {
            let (shared, nodes) = (Arc::clone(&shared), cluster.clients(nodes));
            thread::spawn(move || write(&shared, connect(&nodes), number, value_bytes))
        };
        Self {
            clients: (0..clients).map(client).collect(),
            shared,
        }
    }

    /// Waits until `count` writes are acknowledged that were begun after this call.
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
                "{} of {count} writes, {:?}",
                progress.acknowledged,
                progress.failed
            );
            progress = self.shared.changed.wait_timeout(progress, left).expect("no panic").0;
        }
    }

    /// Waits until a write did not succeed; how it ended.
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

    /// Ends the clients, each after the write that it is at.
    pub(super) fn stop(mut self) -> Vec<Written> {
        self.tell_stop();
        let join = |client: JoinHandle<Written>| client.join().expect("no panic");
        self.clients.drain(..).map(join).collect()
    }

    fn tell_stop(&self) {
        // A test that fails in a wait poisons it.
        let progress = self.shared.progress.lock();
        progress.unwrap_or_else(PoisonError::into_inner).is_stopped = true;
    }
}

impl Drop for Load {
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
    loop {
        let epoch = {
            let progress = shared.progress.lock().unwrap_or_else(PoisonError::into_inner);
            if progress.is_stopped {
                return written;
            }
            progress.epoch
        };
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
        let mut progress = shared.progress.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) if progress.epoch == epoch => progress.acknowledged += 1,
            Ok(()) => {}
            Err(error) => progress.failed.push(error.to_string()),
        }
        shared.changed.notify_all();
    }
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
