//! A client of the simulated cluster, and the history that all of them make.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use kraft_adapters::Config as AdapterConfig;
use kraft_adapters::mock::{HostId, Mock, Network};
use kraft_core::client::{CallId, Client, Config, Delivery, End, Outcome, Request, Runner};
use kraft_core::time::Instant;
use kraft_protocols::Binary;

use crate::kv::{Command, Query, Reply};

/// What an operation did to the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Added one; this was the sum.
    Added(i64),
    /// Read; this was the value.
    Read(i64),
}

/// An operation with a known outcome.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    began: Instant,
    ended: Instant,
    op: Op,
}

/// What the users of one counter saw.
///
/// A counter makes the check exact and cheap: the sums of additions are the order in which they took effect.
#[derive(Debug, Default)]
pub(super) struct History {
    events: Vec<Event>,
    /// Additions that may or may not have happened.
    pub(super) unknown: u64,
    pub(super) refused: u64,
}

impl History {
    pub(super) fn committed(&self) -> usize {
        self.events.len()
    }

    /// Whether the operations can be put into one order that agrees with what each returned and with who ended before
    /// whom began (laws R6, R7 and R8).
    pub(super) fn check(&self) -> Result<(), String> {
        let mut sums = BTreeMap::new();
        for event in &self.events {
            if let Op::Added(sum) = event.op
                && sums.insert(sum, event).is_some()
            {
                return Err(format!("two additions gave {sum} (R8, or R6: one of them was lost)"));
            }
        }
        let highest = sums.keys().next_back().copied().unwrap_or(0);
        let missing = highest - i64::try_from(sums.len()).expect("counts fit");
        if missing > i64::try_from(self.unknown).expect("counts fit") {
            return Err(format!(
                "{missing} additions have no author, {} are unknown (R8)",
                self.unknown
            ));
        }
        // In order of their ends: what ended before an operation began must be in what that saw.
        let mut by_end: Vec<&Event> = self.events.iter().collect();
        by_end.sort_by_key(|event| event.ended);
        let mut by_begin: Vec<&Event> = self.events.iter().collect();
        by_begin.sort_by_key(|event| event.began);
        let (mut at, mut floor) = (0, 0);
        for event in by_begin {
            while by_end[at].ended < event.began {
                floor = floor.max(value(by_end[at].op));
                at += 1;
            }
            let holds = match event.op {
                Op::Added(sum) => sum > floor,
                Op::Read(seen) => seen >= floor,
            };
            if !holds {
                return Err(format!("{event:?} began when {floor} had been seen (R7)"));
            }
        }
        Ok(())
    }
}

fn value(op: Op) -> i64 {
    match op {
        Op::Added(value) | Op::Read(value) => value,
    }
}

/// A client with one operation at a time.
pub(super) struct User {
    pub(super) host: HostId,
    runner: Runner<Mock, Binary>,
    /// What is under way.
    current: Option<(CallId, Instant, bool)>,
    rng: Rng,
    pub(super) is_done: bool,
}

const COUNTER: &[u8] = b"counter";

impl User {
    pub(super) fn new(network: &Network, nodes: &[HostId], seed: u64) -> std::io::Result<Self> {
        let host = network.add_host();
        let adapter = network.open(host, &AdapterConfig::default())?;
        let addresses = nodes.iter().map(|node| node.address(super::host::CLIENT_PORT).into());
        let config = Config {
            seed,
            ..Config::default()
        };
        Ok(Self {
            host,
            runner: Runner::new(Client::new(config, addresses), adapter, Binary),
            current: None,
            rng: Rng::with_seed(seed),
            is_done: false,
        })
    }

    /// Whether an addition is under way.
    pub(super) fn is_adding(&self) -> bool {
        self.current.is_some_and(|(_, _, adds)| adds)
    }

    pub(super) fn deadline(&mut self) -> Option<Instant> {
        if self.current.is_none() && !self.is_done {
            Some(Instant::ZERO)
        } else {
            self.runner.next_deadline()
        }
    }

    pub(super) fn turn(&mut self, now: Instant, history: &mut History) -> std::io::Result<()> {
        if self.current.is_none() && !self.is_done {
            self.begin(now);
        }
        self.runner.turn(Some(now))?;
        while let Some((id, end)) = self.runner.poll_done() {
            let Some((_, began, adds)) = self.current.take_if(|(current, ..)| *current == id) else {
                continue;
            };
            let End::Outcome(outcome) = end else { continue };
            match outcome {
                Outcome::Committed(reply) => {
                    let op = read_reply(&reply, adds);
                    history.events.push(Event { began, ended: now, op });
                }
                Outcome::Refused(_) => history.refused += 1,
                Outcome::Unknown if adds => history.unknown += 1,
                Outcome::Unknown => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, now: Instant) {
        let adds = self.rng.f64() < 0.6;
        let mut bytes = BytesMut::new();
        let request = if adds {
            Command::Increment { key: COUNTER, by: 1 }.encode(&mut bytes);
            // Without a session nothing uncertain is tried again: both must keep what they promise.
            let delivery = if self.rng.f64() < 0.8 {
                Delivery::ExactlyOnce
            } else {
                Delivery::AtMostOnce
            };
            Request::Command {
                command: bytes.freeze(),
                delivery,
            }
        } else {
            Query::Get { key: COUNTER }.encode(&mut bytes);
            Request::Read { query: bytes.freeze() }
        };
        self.current = self.runner.call(request).ok().map(|id| (id, now, adds));
    }
}

fn read_reply(reply: &Bytes, adds: bool) -> Op {
    match Reply::decode(reply).expect("the cluster speaks its own format") {
        Reply::Number(sum) if adds => Op::Added(sum),
        Reply::NotFound if !adds => Op::Read(0),
        Reply::Value(text) if !adds => {
            let text = std::str::from_utf8(text).expect("a number is text");
            Op::Read(text.parse().expect("a number"))
        }
        other => panic!("an answer to another question: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(began: u64, ended: u64, op: Op) -> Event {
        Event {
            began: Instant::from_nanos(began),
            ended: Instant::from_nanos(ended),
            op,
        }
    }

    #[track_caller]
    fn check(holds: bool, unknown: u64, events: &[Event]) {
        let history = History {
            events: events.to_vec(),
            unknown,
            refused: 0,
        };
        assert_eq!(history.check().is_ok(), holds, "{:?}", history.check());
    }

    #[test]
    fn histories_known_to_be_good_and_bad() {
        check(true, 0, &[event(1, 2, Op::Added(1)), event(3, 4, Op::Read(1))]);
        check(
            true,
            0,
            &[
                event(1, 9, Op::Added(2)),
                event(1, 9, Op::Added(1)),
                event(2, 3, Op::Read(1)),
            ],
        );
        check(false, 0, &[event(1, 2, Op::Added(1)), event(3, 4, Op::Read(0))]);
        check(false, 0, &[event(1, 2, Op::Added(1)), event(3, 4, Op::Added(1))]);
        check(false, 0, &[event(1, 2, Op::Added(2)), event(3, 4, Op::Added(1))]);
        check(false, 0, &[event(1, 2, Op::Added(2))]);
        check(true, 1, &[event(1, 2, Op::Added(2))]);
    }
}
