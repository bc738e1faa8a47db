//! Raft's cores: three nodes in one thread, with neither network nor disk between them and what they decide.
//!
//! Messages are handed over in memory, by value or lent, as the core has them, and payloads are shared; logs are kept in
//! memory, and what is written there is durable at once. A closed loop proposes commands of [`COMMAND_BYTES`] to the
//! leader. Every node applies them to a [`Ledger`], and in the end all three, and what was proposed, must be the same.

pub(crate) mod kraft;
#[cfg(feature = "rivals")]
pub(crate) mod openraft;
#[cfg(feature = "rivals")]
pub(crate) mod raft_rs;

use std::io;
use std::time::{Duration, Instant};

use crate::bare::{allocations, clock};
use crate::inside;
use crate::pattern::{Pattern, Place};
use crate::serve::Task;

/// Bytes of a command.
const COMMAND_BYTES: usize = 256;

/// Of them, its number.
const NUMBER_BYTES: usize = size_of::<u64>();

/// Nodes of a cluster, and the place of the one that leads.
const NODES: usize = 3;
const LEADER: usize = 0;

/// So many of the newest entries stay in a log that is cut off: more than are ever on their way.
const KEPT: usize = 4096;

/// Times of all cores alike: long enough that nothing is elected while it is measured.
const HEARTBEAT: Duration = Duration::from_millis(100);
const ELECTION: Duration = Duration::from_secs(1);

/// Without a commit for so long there will be none.
const PATIENCE: Duration = Duration::from_secs(10);

/// Cores are told no more than this of a pause of the process: it is none of the cluster's.
const STEP_MAX: Duration = Duration::from_millis(10);

/// What a state machine has been through: how many commands, and the checksum of all their bytes, one behind the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ledger {
    count: u64,
    crc: u32,
}

impl Ledger {
    fn apply(&mut self, command: &[u8]) {
        self.count += 1;
        self.crc = crc32c::crc32c_append(self.crc, command);
    }
}

/// What is proposed: no two commands are alike.
#[derive(Debug, Default)]
struct Load {
    drawn: Ledger,
}

impl Load {
    /// The next command, in memory of its own, as one that came by a connection.
    fn draw(&mut self) -> Vec<u8> {
        let number = self.drawn.count;
        let mut command = Vec::with_capacity(COMMAND_BYTES);
        command.extend_from_slice(&number.to_le_bytes());
        let rest = Pattern::shared().window(Place::of(number as usize), COMMAND_BYTES - NUMBER_BYTES);
        command.extend_from_slice(rest);
        self.drawn.apply(&command);
        command
    }

    /// # Errors
    ///
    /// A node did not apply what was drawn, in this order.
    fn verify(&self, applied: [Ledger; NODES]) -> io::Result<()> {
        let wrong = applied.iter().zip(1..).find(|(ledger, _)| **ledger != self.drawn);
        wrong.map_or(Ok(()), |(ledger, node)| {
            let (count, drawn) = (ledger.count, self.drawn.count);
            Err(io::Error::other(if count == drawn {
                format!("node {node} applied {count} commands, not as they were proposed")
            } else {
                format!("node {node} applied {count} commands of {drawn}")
            }))
        })
    }
}

/// Three nodes that are driven by hand, by turns; the first one leads.
trait Trio {
    /// Hands a command to the leader. What follows is for the next turn.
    fn propose(&mut self, command: Vec<u8>) -> io::Result<()>;

    /// Lets time be what it is and delivers all messages, also those that follow from them.
    fn turn(&mut self, now: Duration) -> io::Result<()>;

    /// What a node applied.
    fn applied(&self, node: usize) -> Ledger;
}

/// What time it is for a cluster.
#[derive(Debug)]
struct Clock {
    read: Instant,
    now: Duration,
}

impl Clock {
    fn start() -> Self {
        let (read, now) = (Instant::now(), Duration::ZERO);
        Self { read, now }
    }

    fn read(&mut self) -> Duration {
        let read = Instant::now();
        self.now += (read - self.read).min(STEP_MAX);
        self.read = read;
        self.now
    }
}

/// Drives three nodes for as long as the task says, and tells what they did.
///
/// # Errors
///
/// They commit nothing, or not the same; it was told already.
fn measure(task: &Task, trio: &mut impl Trio) -> io::Result<()> {
    let outcome =
        drive(task, trio).and_then(|found| inside::tell(found.count, found.elapsed, found.cpu, found.allocated));
    outcome.map_err(|error| inside::fail(&error))
}

/// What was done in the time that counts.
#[derive(Clone, Copy, Debug)]
struct Found {
    count: u64,
    elapsed: Duration,
    cpu: Option<Duration>,
    /// How often memory was allocated, if that is counted.
    allocated: Option<u64>,
}

/// Where the time that counts began, or a part of it.
#[derive(Clone, Copy, Debug)]
struct Begun {
    count: u64,
    at: Instant,
    cpu: Option<Duration>,
    allocated: Option<u64>,
}

impl Begun {
    /// With so many commands acknowledged.
    fn now(count: u64) -> Self {
        let cpu = clock::cpu_time(std::process::id());
        let allocated = allocations::count();
        Self {
            count,
            at: Instant::now(),
            cpu,
            allocated,
        }
    }

    fn found(self, count: u64) -> Found {
        let end = Self::now(count);
        let used = self.cpu.zip(end.cpu).map(|(from, to)| to.saturating_sub(from));
        Found {
            count: count - self.count,
            elapsed: end.at - self.at,
            cpu: used,
            allocated: self.allocated.zip(end.allocated).map(|(from, to)| to - from),
        }
    }
}

/// A closed loop: as many commands on their way as there are clients, which are the task's connections.
fn drive(task: &Task, trio: &mut impl Trio) -> io::Result<Found> {
    drive_within(PATIENCE, task, trio)
}

/// The same, which gives up after so long without a commit.
fn drive_within(patience: Duration, task: &Task, trio: &mut impl Trio) -> io::Result<Found> {
    let (mut load, mut clock) = (Load::default(), Clock::start());
    let clients = task.connections as u64;
    let mut found = None;
    for span in [task.warm_up, task.measured] {
        let began = Begun::now(trio.applied(LEADER).count);
        let (mut acknowledged, mut heard) = (began.count, clock.now);
        let end = clock.now + span;
        while clock.now < end || acknowledged == began.count {
            while load.drawn.count < acknowledged + clients {
                trio.propose(load.draw())?;
            }
            let now = clock.read();
            trio.turn(now)?;
            let count = trio.applied(LEADER).count;
            if count > acknowledged {
                (acknowledged, heard) = (count, now);
            } else if now - heard > patience {
                return Err(stalled(patience));
            }
        }
        found = Some(began.found(acknowledged));
    }
    settle(&load, clock.now, trio)?;
    load.verify([0, 1, 2].map(|node| trio.applied(node)))?;
    Ok(found.expect("two spans have passed"))
}

/// Lets time pass until all nodes have applied all: followers learn by a heartbeat of what was committed last.
fn settle(load: &Load, from: Duration, trio: &mut impl Trio) -> io::Result<()> {
    let mut now = from;
    while (0..NODES).any(|node| trio.applied(node).count < load.drawn.count) {
        if now - from > PATIENCE {
            // Who lacks what is said by who compares.
            return Ok(());
        }
        now += STEP_MAX;
        trio.turn(now)?;
    }
    Ok(())
}

fn stalled(patience: Duration) -> io::Error {
    io::Error::other(format!("nothing was committed for {} s", patience.as_secs_f64()))
}

#[cfg(test)]
mod tests;
