//! Clients under load, and the history that they make.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use kraft::client::{Client, Config, Error, Node};
use kraft::history::{Action, Answer, Fate, History};

use crate::cluster;
use crate::command::Trouble;
use crate::network::NODES;

/// Clients whose operations are judged.
const CLIENTS: u32 = 8;

/// Keys that are in use at a time: few, so that clients meet.
const KEYS: u32 = 6;

/// How long keys are in use. An operation of unknown outcome may take effect at any later time, and each one doubles
/// what its key's check may have to try; so keys change, and those of former times are read at the end.
const KEYS_LAST: Duration = Duration::from_secs(4);

/// How long a call may take. Longer than an election, shorter than most faults.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(1500);

/// How long a client thinks between operations, at most: it leaves the machine time for the nodes.
const THINKS_US: u64 = 12_000;

/// A value that fills segments, and how often it is put: a full disk is felt when the next segment is due.
const BALLAST_BYTES: usize = 24 << 10;
const BALLAST_EVERY: Duration = Duration::from_millis(50);

/// Clients that run.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
    clients: Vec<JoinHandle<Result<History, Trouble>>>,
    ballast: JoinHandle<Result<(), Trouble>>,
}

/// How operations ended.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) committed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unknown: AtomicU64,
}

impl Load {
    /// Starts clients. Times are told since `start`. Nodes keep all that was put: that ballast is bounded.
    pub(crate) fn start(seed: u64, start: Instant, ballast_bytes_max: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Tally::default());
        let mut rng = Rng::with_seed(seed);
        let clients = (1..=CLIENTS).map(|id| {
            let user = User {
                id,
                start,
                rng: rng.fork(),
                stop: Arc::clone(&stop),
                tally: Arc::clone(&tally),
                seen: None,
            };
            thread::spawn(move || user.run())
        });
        let clients = clients.collect();
        let stopped = Arc::clone(&stop);
        let ballast = thread::spawn(move || put_ballast(&stopped, ballast_bytes_max / BALLAST_BYTES));
        Self {
            stop,
            tally,
            clients,
            ballast,
        }
    }

    /// How operations ended so far.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Stops the clients; what they did.
    ///
    /// # Errors
    ///
    /// One got an answer that makes no sense.
    pub(crate) fn stop(self) -> Result<History, Trouble> {
        self.stop.store(true, Ordering::Relaxed);
        let mut history = History::new();
        for client in self.clients {
            let done = client.join().map_err(|_| Trouble::new("a client panicked"))?;
            history.merge(done?);
        }
        let ballast = self.ballast.join().map_err(|_| Trouble::new("a client panicked"))?;
        ballast.map(|()| history)
    }
}

/// A client of nodes, that gives up soon.
///
/// # Errors
///
/// The system has no event loop to give.
pub(crate) fn connect(nodes: impl IntoIterator<Item = usize>, timeout: Duration, seed: u64) -> Result<Client, Trouble> {
    let config = Config {
        cluster: Some("chaos".to_owned()),
        request_timeout: timeout,
        attempt_timeout: timeout / 4,
        connect_timeout: timeout / 4,
        seed,
        ..Config::default()
    };
    let addresses: Vec<String> = nodes.into_iter().map(cluster::client).collect();
    Node::resolve_list(&addresses.join(","))
        .and_then(|nodes| Client::with_config(config, nodes))
        .map_err(|error| Trouble::new(format!("a client: {error}")))
}

/// What all keys of the history begin with.
pub(crate) const KEY_PREFIX: &str = "key-";

/// The name of a key.
pub(crate) fn key_name(key: u32) -> Vec<u8> {
    format!("{KEY_PREFIX}{key:06}").into_bytes()
}

/// How many keys clients have used by this time.
pub(crate) fn keys_used(start: Instant) -> u32 {
    (round(start) + 1) * KEYS
}

fn round(start: Instant) -> u32 {
    u32::try_from(start.elapsed().as_millis() / KEYS_LAST.as_millis()).unwrap_or(u32::MAX / KEYS - 1)
}

/// Nanoseconds since the start.
pub(crate) fn nanos(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// One client with one operation at a time.
#[derive(Debug)]
struct User {
    id: u32,
    start: Instant,
    rng: Rng,
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
    /// The key that was read last, and what stood there.
    seen: Option<(u32, Option<Vec<u8>>)>,
}

impl User {
    fn run(mut self) -> Result<History, Trouble> {
        let mut nodes: Vec<usize> = (1..=NODES).collect();
        self.rng.shuffle(&mut nodes);
        let mut client = connect(nodes, REQUEST_TIMEOUT, self.rng.u64(..))?;
        let mut history = History::new();
        while !self.stop.load(Ordering::Relaxed) {
            let key = round(self.start) * KEYS + self.rng.u32(0..KEYS);
            let (key, action) = self.draw(key);
            let start = self.start;
            let ended = history
                .perform(&mut client, self.id, &key_name(key), action, || nanos(start))
                .map_err(|error| Trouble::new(format!("client {}: {error}", self.id)))?;
            let count = match ended {
                Fate::Answered { answer, .. } => {
                    self.seen = match answer {
                        Answer::Value(value) => Some((key, Some(value.clone()))),
                        Answer::NotFound => Some((key, None)),
                        _ => self.seen.take(),
                    };
                    &self.tally.committed
                }
                Fate::Refused => &self.tally.refused,
                Fate::Unknown => &self.tally.unknown,
            };
            count.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_micros(self.rng.u64(0..THINKS_US)));
        }
        Ok(history)
    }

    /// What to do, and to which key: this one, unless it is to follow a read of another. Every value is a number, so
    /// that all of it goes with every key.
    fn draw(&mut self, key: u32) -> (u32, Action) {
        // Small enough for a billion increments above it, so many that no two are alike.
        let value = self.rng.i64(0..1 << 40).to_string().into_bytes();
        let action = match self.rng.u8(0..100) {
            0..35 => Action::Get,
            35..60 => Action::Put(value),
            60..70 => Action::Delete,
            70..85 => Action::Increment(self.rng.i64(1..10)),
            _ => {
                let (key, expected) = self.seen.take().unwrap_or((key, None));
                return (key, Action::CompareAndSet { expected, value });
            }
        };
        (key, action)
    }
}

fn put_ballast(stop: &AtomicBool, count: usize) -> Result<(), Trouble> {
    let mut client = connect(1..=NODES, REQUEST_TIMEOUT, 0)?;
    let value = vec![b'.'; BALLAST_BYTES];
    for _ in 0..count {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match client.put(b"ballast", &value) {
            Ok(()) | Err(Error::Refused(_) | Error::Unknown) => {}
            Err(error) => return Err(Trouble::new(format!("ballast: {error}"))),
        }
        thread::sleep(BALLAST_EVERY);
    }
    Ok(())
}
