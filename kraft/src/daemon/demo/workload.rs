//! Clients that write as fast as they are answered, one write at a time each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::cluster::{Cluster, Manner};
use super::ledger::{Ended, Ledger};
use crate::client::{Client, Config, Error, Node, unasked};
use crate::daemon::Failure;

/// What clients share with who watches them.
#[derive(Debug)]
pub(super) struct Progress {
    origin: Instant,
    stop: AtomicBool,
    acknowledged: AtomicU64,
    /// When a leader was sent its signal, in nanoseconds since `origin`.
    killed_at: AtomicU64,
    /// When it was dead; `u64::MAX` before. `killed_at <= dead_at`.
    dead_at: AtomicU64,
    /// When the first write was acknowledged that was begun after that; `u64::MAX` before. What was begun earlier may
    /// have been acknowledged by the dead.
    resumed_at: AtomicU64,
    /// When a write was last acknowledged, in nanoseconds since `origin`; 0 before.
    last_at: AtomicU64,
    /// The longest time in which none was, in nanoseconds.
    pause: AtomicU64,
}

/// Clients that run.
#[derive(Debug)]
pub(super) struct Workload {
    progress: Arc<Progress>,
    clients: Vec<JoinHandle<Result<Written, Failure>>>,
}

/// What a client did.
#[derive(Debug)]
pub(super) struct Written {
    /// What it wrote.
    pub(super) ledger: Ledger,
    /// How long each acknowledged write took, in microseconds.
    pub(super) latencies_us: Vec<u32>,
}

/// A client of these nodes alone. What goes to a node that died is tried again elsewhere, under its session.
pub(super) fn client(nodes: &str, manner: &Manner, request_timeout: Duration) -> Result<Client, Failure> {
    let cannot = |error: Error| Failure::new(format!("client of {nodes}: {error}"));
    let seed = getrandom::u64().map_err(|error| Failure::new(format!("the system's randomness: {error}")))?;
    let config = Config {
        cluster: Some("demo".to_owned()),
        request_timeout,
        seed,
        ..Config::default()
    };
    let nodes = Node::resolve_list(nodes).map_err(cannot)?;
    let (client, _) =
        Client::with_format(config, nodes, &unasked(), &manner.security, manner.protocol).map_err(cannot)?;
    Ok(client)
}

impl Progress {
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Writes that were acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// A leader is killed by `kill`, which returns when it is dead.
    pub(super) fn lose_a_leader<E>(&self, kill: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        self.killed_at.store(self.now(), Ordering::SeqCst);
        kill()?;
        self.dead_at.store(self.now(), Ordering::SeqCst);
        Ok(())
    }

    /// From the kill to the first acknowledgement of a write that was begun after it.
    pub(super) fn outage(&self) -> Option<Duration> {
        let (killed, resumed) = (
            self.killed_at.load(Ordering::SeqCst),
            self.resumed_at.load(Ordering::SeqCst),
        );
        (resumed != u64::MAX).then(|| Duration::from_nanos(resumed - killed))
    }

    /// The longest time without an acknowledgement, the present one among them, since the first.
    pub(super) fn longest_pause(&self) -> Duration {
        let last = self.last_at.load(Ordering::SeqCst);
        let present = if last > 0 { self.now().saturating_sub(last) } else { 0 };
        Duration::from_nanos(self.pause.load(Ordering::SeqCst).max(present))
    }

    fn done(&self, begun: u64, ended: u64) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        // Threads that swap in another order than they ended make no pause longer.
        let before = self.last_at.swap(ended, Ordering::SeqCst);
        if before > 0 {
            self.pause.fetch_max(ended.saturating_sub(before), Ordering::SeqCst);
        }
        if begun >= self.dead_at.load(Ordering::SeqCst) {
            self.resumed_at.fetch_min(ended, Ordering::SeqCst);
        }
    }
}

impl Workload {
    /// Starts `count` clients that write values of `value_bytes`.
    ///
    /// # Errors
    ///
    /// The system has no thread or descriptor to give.
    pub(super) fn start(cluster: &Cluster, count: usize, value_bytes: usize) -> Result<Self, Failure> {
        let progress = Arc::new(Progress {
            origin: Instant::now(),
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            killed_at: AtomicU64::new(0),
            dead_at: AtomicU64::new(u64::MAX),
            resumed_at: AtomicU64::new(u64::MAX),
            last_at: AtomicU64::new(0),
            pause: AtomicU64::new(0),
        });
        let mut clients = Vec::new();
        for number in 0..count {
            let shared = Arc::clone(&progress);
            let mut client = client(&cluster.clients(), cluster.manner(), Duration::from_secs(5))?;
            let ledger = Ledger::new(number, value_bytes);
            let body = move || write(&mut client, ledger, &shared);
            let spawned = thread::Builder::new().name(format!("client-{number}")).spawn(body);
            clients
                .push(spawned.map_err(|error| Failure::new(format!("client {number}: {error}; use fewer --clients")))?);
        }
        Ok(Self { progress, clients })
    }

    /// How it goes.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Whether a client has ended before it was told to.
    pub(super) fn has_failed(&self) -> bool {
        self.clients.iter().any(JoinHandle::is_finished)
    }

    /// Ends the clients, each after the write that it is at.
    ///
    /// # Errors
    ///
    /// A client could not go on.
    pub(super) fn stop(self) -> Result<Vec<Written>, Failure> {
        self.progress.stop.store(true, Ordering::Relaxed);
        let ended = self.clients.into_iter().map(|client| {
            let panicked = |_| Err(Failure::new("a client panicked"));
            client.join().unwrap_or_else(panicked)
        });
        ended.collect()
    }
}

fn write(client: &mut Client, mut ledger: Ledger, progress: &Progress) -> Result<Written, Failure> {
    let mut latencies_us = Vec::new();
    let (mut key, mut value) = (String::new(), Vec::new());
    while !progress.stop.load(Ordering::Relaxed) {
        ledger.next(&mut key, &mut value);
        let begun = progress.now();
        match client.put(key.as_bytes(), &value) {
            Ok(()) => {
                let ended = progress.now();
                progress.done(begun, ended);
                latencies_us.push(u32::try_from((ended - begun) / 1000).unwrap_or(u32::MAX));
                ledger.end(Ended::Acknowledged);
            }
            Err(Error::Refused(_)) => ledger.end(Ended::Refused),
            Err(Error::Unknown) => ledger.end(Ended::Unknown),
            Err(error) => return Err(Failure::new(format!("a client cannot go on: {error}"))),
        }
    }
    Ok(Written { ledger, latencies_us })
}
