//! Packets that wait in user space: held back, lost, overtaken by later ones.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use nfq::{Queue, Verdict};

use crate::command::Trouble;
use crate::network;

/// The queue's number. Queues belong to their network, so that each node's has the same.
const QUEUE: u16 = 0;

/// Packets that the kernel keeps for us; it drops what comes beyond.
const PACKETS_MAX: u32 = 4096;

/// How often packets are looked for while they come, and while none are sent here.
const BUSY: Duration = Duration::from_micros(300);
const IDLE: Duration = Duration::from_millis(5);

/// What happens to packets that come in at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weather {
    /// How long each is held back, in microseconds.
    pub(crate) delay_us: RangeInclusive<u64>,
    /// How many of a hundred are dropped.
    pub(crate) loss_percent: u8,
    /// Whether one that was held back for longer is overtaken.
    pub(crate) overtakes: bool,
}

/// What the thread that holds packets shares with the one that orders the weather.
#[derive(Debug, Default)]
struct Shared {
    weather: Mutex<Option<Weather>>,
    stop: AtomicBool,
    seen: AtomicU64,
    dropped: AtomicU64,
}

/// The queue of a node's network, and the thread that empties it.
#[derive(Debug)]
pub(crate) struct Packets {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Packets {
    /// Begins to take what is queued in a node's network.
    ///
    /// # Errors
    ///
    /// The kernel gives no queue.
    pub(crate) fn start(node: usize, seed: u64) -> Result<Self, Trouble> {
        let queue = network::inside(node, open)?.map_err(|error| Trouble::new(format!("NFQUEUE: {error}")))?;
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        // A queue's socket stays in the network that it was opened in.
        let thread = thread::spawn(move || take(queue, &own, Rng::with_seed(seed)));
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// From here on this happens to packets; nothing with `None`.
    pub(crate) fn set(&self, weather: Option<Weather>) {
        *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// How many packets came here, and how many of them were dropped.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.shared.seen.load(Ordering::Relaxed),
            self.shared.dropped.load(Ordering::Relaxed),
        )
    }

    /// Lets go of what is held, and ends.
    ///
    /// # Errors
    ///
    /// The queue failed meanwhile: faults of packets did not happen as they are told.
    pub(crate) fn stop(mut self) -> Result<(), Trouble> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        match thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Trouble::new(format!("NFQUEUE: {error}"))),
            Err(_) => Err(Trouble::new("NFQUEUE: its thread panicked")),
        }
    }
}

fn open() -> io::Result<Queue> {
    let mut queue = Queue::open()?;
    queue.bind(QUEUE)?;
    // Nothing looks into packets: they stay with the kernel.
    queue.set_copy_range(QUEUE, 0)?;
    queue.set_queue_max_len(QUEUE, PACKETS_MAX)?;
    queue.set_nonblocking(true);
    Ok(queue)
}

/// Packets in the order in which they go on.
type Held = BTreeMap<(Instant, u64), nfq::Message>;

fn take(mut queue: Queue, shared: &Shared, mut rng: Rng) -> io::Result<()> {
    let mut held = Held::new();
    let mut count = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let weather = shared.weather.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let before = count;
        while let Some(mut packet) = next(&mut queue)? {
            count += 1;
            let now = Instant::now();
            let Some(weather) = &weather else {
                packet.set_verdict(Verdict::Accept);
                held.insert((now, count), packet);
                continue;
            };
            if rng.u8(0..100) < weather.loss_percent {
                packet.set_verdict(Verdict::Drop);
                queue.verdict(packet)?;
                shared.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            packet.set_verdict(Verdict::Accept);
            let mut due = now + Duration::from_micros(rng.u64(weather.delay_us.clone()));
            if !weather.overtakes {
                let last = held.last_key_value().map(|((last, _), _)| *last);
                due = last.map_or(due, |last| due.max(last));
            }
            held.insert((due, count), packet);
        }
        shared.seen.fetch_add(count - before, Ordering::Relaxed);
        // The storm is over: what it holds goes on.
        let until = weather.is_some().then(Instant::now);
        while let Some(first) = held.first_entry()
            && until.is_none_or(|until| first.key().0 <= until)
        {
            queue.verdict(first.remove())?;
        }
        let is_busy = weather.is_some() || !held.is_empty();
        thread::sleep(if is_busy { BUSY } else { IDLE });
    }
    for packet in held.into_values() {
        queue.verdict(packet)?;
    }
    Ok(())
}

fn next(queue: &mut Queue) -> io::Result<Option<nfq::Message>> {
    loop {
        return match queue.recv() {
            Ok(packet) => Ok(Some(packet)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // The answer to a verdict on a packet that the kernel dropped, as it does when rules are replaced: lost.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => Err(error),
        };
    }
}
