//! A user of the simulated cluster, and the history that all of them make.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use fastrand::Rng;
use kraft_adapters::Config as AdapterConfig;
use kraft_adapters::mock::{HostId, Mock, Network};
use kraft_core::client::{CallId, Client, Config, Delivery, End, Outcome, Request, Runner};
use kraft_core::message::{Basis, Commit, Consistency};
use kraft_core::time::Instant;
use kraft_protocols::{Any, Format};

use super::report::Weaker;
use super::{Mode, Options};
use crate::history::{self, Action, Budget, Fate, OperationId, Verdict};
use crate::kv::Reply;

/// What the users of a cluster saw.
#[derive(Debug, Default)]
pub(super) struct History {
    recorded: history::History,
    committed: usize,
    /// Commands that may or may not have happened, those under way among them.
    pub(super) unknown: u64,
    pub(super) refused: u64,
    /// Answers that stand for less than the default.
    pub(super) weaker: Weaker,
    /// Stale reads that were answered: what, when, and what the key was said to have.
    stale: Vec<(OperationId, Instant, Option<Vec<u8>>)>,
}

impl History {
    pub(super) fn committed(&self) -> usize {
        self.committed
    }

    /// Whether the operations can be put into one order that agrees with what each returned and with who ended before
    /// whom began (laws R6, R7 and R8).
    pub(super) fn check(&self) -> Result<(), String> {
        match self.recorded.check(Budget::default()) {
            Verdict::Linearizable => self.check_stale(),
            verdict => Err(format!("R6, R7, R8: {verdict}")),
        }
    }

    /// Whether each stale read told of something that somebody may have written by then. The auditor saw how old it was.
    fn check_stale(&self) -> Result<(), String> {
        let operations = self.recorded.operations();
        let written = operations.iter().filter_map(|operation| match &operation.action {
            Action::Put(value) | Action::CompareAndSet { value, .. } if operation.fate != Fate::Refused => {
                Some((&operation.key[..], &value[..], operation.begin))
            }
            _ => None,
        });
        let written: BTreeMap<_, _> = written.map(|(key, value, begin)| ((key, value), begin)).collect();
        let counted: BTreeSet<_> = operations
            .iter()
            .filter(|operation| matches!(operation.action, Action::Increment(_)))
            .map(|operation| &operation.key[..])
            .collect();
        for (id, end, value) in &self.stale {
            let operation = &operations[id.index()];
            let Some(value) = value else { continue };
            let key = &operation.key[..];
            let is_known = written
                .get(&(key, &value[..]))
                .is_some_and(|begin| *begin <= end.as_nanos());
            if !is_known && !counted.contains(key) {
                return Err(format!(
                    "R7: a stale read of {} told of {}, which nobody had written",
                    key.escape_ascii(),
                    value.escape_ascii()
                ));
            }
        }
        Ok(())
    }

    fn begin(&mut self, client: u32, key: &[u8], action: Action, now: Instant) -> OperationId {
        self.unknown += u64::from(!action.is_read());
        self.recorded.begin(client, key, action, now.as_nanos())
    }

    fn end(&mut self, under_way: &UnderWay, outcome: &Outcome, now: Instant) {
        match outcome {
            Outcome::Committed(_) => self.committed += 1,
            Outcome::Refused(_) => self.refused += 1,
            Outcome::Weaker { basis, answer } => match basis {
                Basis::Lease => {
                    self.committed += 1;
                    self.weaker.leased += 1;
                }
                Basis::Stale { .. } => {
                    self.weaker.stale += 1;
                    let value = match Reply::decode(answer) {
                        Ok(Reply::Value(value)) => Some(value.to_vec()),
                        _ => None,
                    };
                    return self.stale.push((under_way.operation, now, value));
                }
                // It may be lost, as one that was never answered.
                Basis::Leader => return self.weaker.by_leader += 1,
                Basis::Received => return self.weaker.received += 1,
            },
            Outcome::Unknown => return,
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

/// How long somebody stays who only reads.
const READER_STAY: Duration = Duration::from_secs(3);

/// How a user behaves, as its seed draws it.
#[derive(Clone, Copy, Debug)]
struct Habits {
    /// Operations at once, at most.
    depth: usize,
    /// Operations without a rest between them, at most.
    burst: u32,
    /// How often an operation is one that is never tried again, 0 to 1.
    at_most_once: f64,
    /// How often a read asks for less than linearizability, and a command for an early answer, 0 to 1.
    weaker_reads: f64,
    early: f64,
    /// How often it comes to read from one node alone, 0 to 1.
    at_one_node: f64,
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
            weaker_reads: [0.0, 0.3, 0.8][rng.usize(..3)],
            early: [0.0, 0.0, 0.2, 0.6][rng.usize(..4)],
            at_one_node: [0.0, 0.2, 0.5][rng.usize(..3)],
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
    /// It reads from one node, whoever leads.
    only_reads: bool,
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
        let mut rng = Rng::with_seed(seed);
        let &Options {
            keys,
            pace,
            protocol,
            mode,
            ..
        } = options;
        let mut habits = Habits::draw(&mut rng);
        if mode == Mode::Liveness {
            // Where all of few users only read nothing is committed, with nobody to blame.
            habits.at_one_node = 0.0;
        }
        let mut user = Self {
            host: network.add_host(),
            network: network.clone(),
            nodes: nodes.to_vec(),
            keys,
            pace,
            protocol,
            habits,
            rng,
            runner: None,
            under_way: BTreeMap::new(),
            seen: vec![None; keys],
            lives: 0,
            writes: 0,
            only_reads: false,
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

    /// There is another node, of which it is told. It comes anew for that: clients ask the nodes that they were given.
    pub(super) fn hears_of(&mut self, node: HostId, now: Instant) {
        self.nodes.push(node);
        self.turns_at = self.turns_at.min(now + REST_MAX);
    }

    pub(super) fn knows_one_of(&self, nodes: &[HostId]) -> bool {
        self.nodes.iter().any(|node| nodes.contains(node))
    }

    pub(super) fn only_reads(&self) -> bool {
        self.only_reads
    }

    /// It comes anew, to write and to read, and knows these nodes.
    pub(super) fn comes_to(&mut self, nodes: &[HostId], now: Instant) -> io::Result<()> {
        self.nodes = nodes.to_vec();
        if self.runner.is_some() {
            self.go(now);
        }
        // Who comes next after one who only read does both.
        self.only_reads = true;
        self.come(now)
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
            let answer = match &outcome {
                Outcome::Committed(reply) => Some(reply),
                Outcome::Weaker { basis, answer } => Some(answer).filter(|_| *basis == Basis::Lease),
                Outcome::Refused(_) | Outcome::Unknown => None,
            };
            if let Some(reply) = answer {
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
        // Who reads from one node stays for a short while, so that somebody writes.
        self.only_reads = !self.only_reads && self.rng.f64() < self.habits.at_one_node;
        let at = self.rng.usize(..self.nodes.len());
        let nodes = match self.only_reads {
            true => &self.nodes[at..=at],
            false => &self.nodes[..],
        };
        let addresses = nodes.iter().map(|node| node.address(super::host::CLIENT_PORT).into());
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
        self.turns_at = match self.only_reads {
            true => now + READER_STAY.mul_f64(0.5 + self.rng.f64()),
            false => now + self.habits.stay.mul_f64(0.5 + self.rng.f64()),
        };
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
        let request = self.weaken(action.request(name.as_bytes(), delivery));
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

    /// Asks for less, now and then.
    fn weaken(&mut self, request: Request) -> Request {
        match request {
            Request::Read { query, .. } if self.rng.f64() < self.habits.weaker_reads => {
                let consistency = match self.rng.u8(..6) {
                    0..3 => Consistency::Lease,
                    3 => Consistency::Stale { age_max_ms: u64::MAX },
                    // Some heartbeats, or much more.
                    _ => Consistency::Stale {
                        age_max_ms: 20 << self.rng.u32(..8),
                    },
                };
                Request::Read { query, consistency }
            }
            Request::Command { command, delivery, .. } if self.rng.f64() < self.habits.early => Request::Command {
                command,
                delivery,
                commit: if self.rng.bool() { Commit::Leader } else { Commit::Async },
            },
            request => request,
        }
    }

    fn count(&mut self) -> Action {
        if !self.only_reads && self.rng.u8(..10) < 6 {
            Action::Increment(1)
        } else {
            Action::Get
        }
    }

    fn write_or_read(&mut self, key: usize) -> Action {
        if self.only_reads {
            return Action::Get;
        }
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

    /// A history in which `value` was put at one second, and a stale read answered `told` at `told_at`.
    fn with_a_stale_read(key: &[u8], told: &[u8], told_at: u64) -> Result<(), String> {
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let under_way = |operation, is_read| UnderWay {
            operation,
            key: 0,
            is_read,
        };
        let reply = |reply: Reply<'_>| {
            let mut bytes = bytes::BytesMut::new();
            reply.encode(&mut bytes);
            bytes.freeze()
        };
        let mut history = History::default();
        // That it is never answered makes no difference: it may have happened.
        history.begin(1, b"key", Action::Put(b"value".to_vec()), at(1));
        history.begin(1, b"sum", Action::Increment(1), at(1));
        let read = under_way(history.begin(2, key, Action::Get, at(0)), true);
        let basis = Basis::Stale { age_ms: 5 };
        let answer = reply(Reply::Value(told));
        history.end(&read, &Outcome::Weaker { basis, answer }, at(told_at));
        history.check()
    }

    #[test]
    fn a_stale_read_tells_what_somebody_may_have_written_by_then() {
        assert_eq!(with_a_stale_read(b"key", b"value", 1), Ok(()));
        assert_eq!(
            with_a_stale_read(b"sum", b"1", 1),
            Ok(()),
            "what sums come to is not foreseen"
        );
        let early = with_a_stale_read(b"key", b"value", 0).expect_err("nobody had written it");
        assert!(early.starts_with("R7: a stale read of key told of value"), "{early}");
        let never = with_a_stale_read(b"key", b"other", 2).expect_err("nobody wrote it");
        assert!(never.contains("told of other"), "{never}");
        with_a_stale_read(b"elsewhere", b"value", 2).expect_err("it was written to another key");
    }
}
