//! A user of the simulated cluster, and the history that all of them make.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use fastrand::Rng;
use kraft_adapters::Config as AdapterConfig;
use kraft_adapters::mock::{HostId, Mock, Network};
use kraft_core::client::{CallId, Client, Config, Delivery, End, Outcome, Runner};
use kraft_core::time::Instant;
use kraft_protocols::{Any, Format};

use super::Options;
use crate::history::{self, Action, Budget, OperationId, Verdict};
use crate::kv::Reply;

/// What the users of a cluster saw.
#[derive(Debug, Default)]
pub(super) struct History {
    recorded: history::History,
    committed: usize,
    /// Commands that may or may not have happened, those under way among them.
    pub(super) unknown: u64,
    pub(super) refused: u64,
}

impl History {
    pub(super) fn committed(&self) -> usize {
        self.committed
    }

    /// Whether the operations can be put into one order that agrees with what each returned and with who ended before
    /// whom began (laws R6, R7 and R8).
    pub(super) fn check(&self) -> Result<(), String> {
        match self.recorded.check(Budget::default()) {
            Verdict::Linearizable => Ok(()),
            verdict => Err(format!("R6, R7, R8: {verdict}")),
        }
    }

    fn begin(&mut self, client: u32, key: &[u8], action: Action, now: Instant) -> OperationId {
        self.unknown += u64::from(!action.is_read());
        self.recorded.begin(client, key, action, now.as_nanos())
    }

    fn end(&mut self, under_way: &UnderWay, outcome: &Outcome, now: Instant) {
        match outcome {
            Outcome::Committed(_) => self.committed += 1,
            Outcome::Refused(_) => self.refused += 1,
            Outcome::Unknown | Outcome::Weaker { .. } => return,
        }
        self.unknown -= u64::from(!under_way.is_read);
        self.recorded.end(under_way.operation, outcome, now.as_nanos());
    }
}

/// An operation that has not ended.
#[derive(Debug)]
struct UnderWay {
    operation: OperationId,
    key: usize,
    is_read: bool,
}

/// The longest rest: where everybody rests for longer nothing is committed (law R9), with nobody to blame.
const REST_MAX: Duration = Duration::from_secs(3);

/// How a user behaves, as its seed draws it.
#[derive(Clone, Copy, Debug)]
struct Habits {
    /// Operations at once, at most.
    depth: usize,
    /// Operations without a rest between them, at most.
    burst: u32,
    /// How often an operation is one that is never tried again, 0 to 1.
    at_most_once: f64,
    /// How long an operation may take, and an attempt at one.
    patience: Duration,
    attempt: Duration,
    /// How long until it goes away, on average.
    stay: Duration,
}

impl Habits {
    fn draw(rng: &mut Rng) -> Self {
        let patience = Duration::from_millis(400 << rng.u32(..5));
        // Who tries elsewhere soon writes to a new leader while others still read from the old one. Longer than a commit
        // among seven nodes takes, or it would never be served.
        let attempt = Duration::from_millis(40 << rng.u32(..5)).min(patience);
        Self {
            depth: 1 << rng.u32(..5),
            burst: 1 << rng.u32(..6),
            at_most_once: *rng.choice(&[0.0, 0.2, 1.0]).expect("there are some"),
            patience,
            attempt,
            stay: Duration::from_secs(8 << rng.u32(..4)),
        }
    }
}

/// Somebody who asks, mixed operations and several at once; who goes away now and then, and comes back as a new client
/// that knows nothing of what it left behind.
///
/// Even keys are counters, odd ones take values that nobody else writes, so that the check is sharp and cheap.
pub(super) struct User {
    pub(super) host: HostId,
    network: Network,
    nodes: Vec<HostId>,
    keys: usize,
    pace: Duration,
    protocol: Format,
    habits: Habits,
    rng: Rng,
    /// `None` while it is away.
    runner: Option<Runner<Mock, Any>>,
    under_way: BTreeMap<CallId, UnderWay>,
    /// The value last seen of each key.
    seen: Vec<Option<Vec<u8>>>,
    /// How often it came, and what it wrote: both go into values.
    lives: u32,
    writes: u64,
    /// Left of the burst.
    burst: u32,
    /// When the next burst begins.
    rested_at: Instant,
    /// When it goes away, or comes back.
    turns_at: Instant,
    pub(super) is_done: bool,
}

impl User {
    /// A user that begins an operation on one of so many keys each `pace` on average.
    pub(super) fn new(network: &Network, nodes: &[HostId], options: &Options, seed: u64) -> io::Result<Self> {
        let Options {
            keys, pace, protocol, ..
        } = *options;
        let mut rng = Rng::with_seed(seed);
        let mut user = Self {
            host: network.add_host(),
            network: network.clone(),
            nodes: nodes.to_vec(),
            keys,
            pace,
            protocol,
            habits: Habits::draw(&mut rng),
            rng,
            runner: None,
            under_way: BTreeMap::new(),
            seen: vec![None; keys],
            lives: 0,
            writes: 0,
            burst: 0,
            rested_at: Instant::ZERO,
            turns_at: Instant::ZERO,
            is_done: false,
        };
        user.come(Instant::ZERO)?;
        Ok(user)
    }

    /// Whether nothing of it is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// When it has something to do that the network does not know of.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        let has_room = self.under_way.len() < self.habits.depth;
        let Some(runner) = &mut self.runner else {
            return (!self.is_done).then_some(self.turns_at);
        };
        let own = (!self.is_done).then_some(self.turns_at);
        let next = (!self.is_done && has_room).then_some(self.rested_at);
        [own, next, runner.next_deadline()].into_iter().flatten().min()
    }

    pub(super) fn turn(&mut self, now: Instant, history: &mut History) -> io::Result<()> {
        if !self.is_done && self.turns_at <= now {
            match self.runner {
                Some(_) => self.go(now),
                None => self.come(now)?,
            }
        }
        let Some(runner) = &mut self.runner else {
            return Ok(());
        };
        // Reads the clock, so that what begins next has its whole time.
        runner.turn(Some(now))?;
        self.learn(now, history);
        let before = self.under_way.len();
        while !self.is_done && self.rested_at <= now && self.under_way.len() < self.habits.depth {
            self.begin(now, history);
        }
        if self.under_way.len() > before {
            self.runner.as_mut().expect("it is here").turn(Some(now))?;
            self.learn(now, history);
        }
        Ok(())
    }

    /// Takes in what ended.
    fn learn(&mut self, now: Instant, history: &mut History) {
        let runner = self.runner.as_mut().expect("only who is here learns");
        while let Some((id, end)) = runner.poll_done() {
            let End::Outcome(outcome) = end else { continue };
            let under_way = self.under_way.remove(&id).expect("a call ends once");
            history.end(&under_way, &outcome, now);
            if let Outcome::Committed(reply) = &outcome {
                let seen = &mut self.seen[under_way.key];
                match Reply::decode(reply) {
                    Ok(Reply::Value(value) | Reply::Mismatch(Some(value))) => *seen = Some(value.to_vec()),
                    Ok(Reply::NotFound | Reply::Mismatch(None)) => *seen = None,
                    _ => {}
                }
            }
        }
    }

    /// Comes as a new client.
    fn come(&mut self, now: Instant) -> io::Result<()> {
        let adapter = self.network.open(self.host, &AdapterConfig::default())?;
        let addresses = self
            .nodes
            .iter()
            .map(|node| node.address(super::host::CLIENT_PORT).into());
        let config = Config {
            seed: self.rng.u64(..),
            request_timeout: self.habits.patience,
            attempt_timeout: self.habits.attempt,
            ..Config::default()
        };
        self.runner = Some(Runner::new(
            Client::new(config, addresses),
            adapter,
            Any::new(self.protocol),
        ));
        self.lives += 1;
        self.turns_at = now + self.habits.stay.mul_f64(0.5 + self.rng.f64());
        Ok(())
    }

    /// Goes away, with a goodbye of the system or, as if its machine failed, without a word. Nobody learns what comes
    /// of its operations.
    fn go(&mut self, now: Instant) {
        self.under_way.clear();
        if self.rng.bool() {
            self.network.crash(self.host);
        } else {
            self.network.power_off(self.host);
        }
        self.runner = None;
        self.turns_at = now + Duration::from_millis(self.rng.u64(..2000));
    }

    fn begin(&mut self, now: Instant, history: &mut History) {
        if self.burst == 0 {
            self.burst = self.rng.u32(1..=self.habits.burst);
        }
        // Some keys are asked for more than others.
        let key = self.rng.usize(..self.keys).min(self.rng.usize(..self.keys));
        let (name, action) = if key.is_multiple_of(2) {
            (format!("counter{key}"), self.count())
        } else {
            (format!("register{key}"), self.write_or_read(key))
        };
        // Without a session nothing uncertain is tried again: both must keep what they promise.
        let delivery = if self.rng.f64() < self.habits.at_most_once {
            Delivery::AtMostOnce
        } else {
            Delivery::ExactlyOnce
        };
        let request = action.request(name.as_bytes(), delivery);
        let runner = self.runner.as_mut().expect("only who is here begins");
        let id = runner.call(request).expect("fewer calls than a client takes");
        let is_read = action.is_read();
        let client = self.host.index() as u32 * 1000 + self.lives;
        let operation = history.begin(client, name.as_bytes(), action, now);
        self.under_way.insert(
            id,
            UnderWay {
                operation,
                key,
                is_read,
            },
        );
        self.burst -= 1;
        self.rested_at = if self.burst == 0 {
            // As much as the burst was ahead of the pace.
            let rest = self.pace.mul_f64(f64::from(self.habits.burst + 1) * self.rng.f64());
            now + rest.min(REST_MAX)
        } else {
            now
        };
    }

    fn count(&mut self) -> Action {
        if self.rng.u8(..10) < 6 {
            Action::Increment(1)
        } else {
            Action::Get
        }
    }

    fn write_or_read(&mut self, key: usize) -> Action {
        self.writes += 1;
        let value = format!("{}.{}", self.host.index(), self.writes).into_bytes();
        match self.rng.u8(..10) {
            0..4 => Action::Get,
            4..7 => Action::Put(value),
            7..9 => Action::CompareAndSet {
                expected: self.seen[key].clone(),
                value,
            },
            _ => Action::Delete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_unknown_and_what_ended_is_not() {
        let mut history = History::default();
        let begin = |history: &mut History, action: Action| UnderWay {
            is_read: action.is_read(),
            operation: history.begin(1, b"key", action, Instant::ZERO),
            key: 0,
        };
        let one = begin(&mut history, Action::Increment(1));
        let read = begin(&mut history, Action::Get);
        let _lost = begin(&mut history, Action::Increment(1));
        assert_eq!(history.unknown, 2);
        let mut reply = bytes::BytesMut::new();
        Reply::Number(2).encode(&mut reply);
        history.end(&one, &Outcome::Committed(reply.freeze()), Instant::ZERO);
        history.end(&read, &Outcome::Unknown, Instant::ZERO);
        assert_eq!((history.committed(), history.unknown, history.refused), (1, 1, 0));
        assert_eq!(history.check(), Ok(()));
        let mut reply = bytes::BytesMut::new();
        Reply::Number(4).encode(&mut reply);
        let two = begin(&mut history, Action::Increment(1));
        history.end(&two, &Outcome::Committed(reply.freeze()), Instant::ZERO);
        assert!(
            history.check().is_err(),
            "one addition that is unknown does not make up for two"
        );
    }
}
