//! The load on its adapter: phases, dials and time-outs.

use std::io;
use std::time::Duration;

use kraft_core::adapter::Adapter;
use kraft_core::inbox::Budget;
use kraft_core::link::CloseMode;
use kraft_core::protocol::Protocol;
use kraft_core::time::Instant;

use super::lane::Lane;
use super::lanes::{Lanes, Phase, REST, Site, Tally};
use crate::ctl::cli::Bench;
use crate::ctl::exit::Failure;
use crate::interrupt::Interrupt;

/// A request without an answer for so long is given up, and its connection with it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Between looks for lanes to dial, to wake or to give up.
const LOOK: Duration = Duration::from_millis(5);

/// What incomplete replies of all lanes may hold together.
const BUDGET_BYTES: usize = 64 << 20;

fn before_it_began(interrupt: &Interrupt) -> Result<(), Failure> {
    match interrupt.is_asked() {
        true => Err(Failure::Interrupted("before the measurement began".into())),
        false => Ok(()),
    }
}

/// Lanes on an adapter.
#[derive(Debug)]
pub(super) struct Load<A, P> {
    adapter: A,
    protocol: P,
    budget: Budget,
    lanes: Lanes,
}

impl<A: Adapter, P: Protocol> Load<A, P> {
    pub(super) fn new(options: &Bench, adapter: A, protocol: P, sites: Vec<Site>, leader: usize) -> Self {
        Self {
            adapter,
            protocol,
            budget: Budget::new(BUDGET_BYTES),
            lanes: Lanes::new(options, sites, leader),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.adapter.now()
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.lanes.tally
    }

    /// What last went wrong, for a person.
    pub(super) fn trouble(&self) -> &str {
        &self.lanes.trouble
    }

    /// Connects all lanes.
    pub(super) fn connect(&mut self, patience: Duration, interrupt: &Interrupt) -> Result<(), Failure> {
        let started = self.adapter.now();
        while !self.lanes.lanes.iter().all(Lane::is_welcome) {
            before_it_began(interrupt)?;
            self.turn_until(self.adapter.now() + LOOK)?;
            if self.adapter.now() > started + patience {
                let ready = self.lanes.lanes.iter().filter(|lane| lane.is_welcome()).count();
                let site = &self.lanes.sites[self.lanes.leader];
                return Err(Failure::Bench(format!(
                    "{ready} of {} connections to node {} at {} were welcomed within {patience:?}: {}; try fewer \
                     --clients, raise `ulimit -n`, or raise the node's max_connections",
                    self.lanes.lanes.len(),
                    site.node,
                    site.address,
                    self.lanes.trouble,
                )));
            }
        }
        Ok(())
    }

    /// Writes every key once.
    pub(super) fn fill(&mut self, patience: Duration, interrupt: &Interrupt) -> Result<(), Failure> {
        self.enter(Phase::Filling);
        let (mut filled, mut since) = (self.lanes.filled, self.adapter.now());
        while !self.lanes.is_filled() {
            before_it_began(interrupt)?;
            self.turn_until(self.adapter.now() + LOOK)?;
            if self.lanes.filled != filled {
                (filled, since) = (self.lanes.filled, self.adapter.now());
            } else if self.adapter.now() > since + patience {
                return Err(Failure::Bench(format!(
                    "the keys could not be written before the measurement: no answer within {patience:?} ({})",
                    self.lanes.trouble
                )));
            }
        }
        Ok(())
    }

    /// Begins to measure.
    pub(super) fn start(&mut self) {
        self.lanes.tally = Tally::new();
        self.enter(Phase::Running);
    }

    /// Asks nothing more and waits for what is outstanding; what is not answered is unknown.
    pub(super) fn drain(&mut self, patience: Duration) -> Result<(), Failure> {
        self.lanes.phase = Phase::Draining;
        let until = self.adapter.now() + patience;
        while self.lanes.lanes.iter().any(|lane| !lane.outstanding.is_empty()) && self.adapter.now() < until {
            self.turn_until(until.min(self.adapter.now() + LOOK))?;
        }
        let left: usize = self.lanes.lanes.iter().map(|lane| lane.outstanding.len()).sum();
        self.lanes.tally.unknown += left as u64;
        Ok(())
    }

    /// One turn of the loop.
    pub(super) fn turn_until(&mut self, until: Instant) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::Bench(format!("the event loop: {error}"));
        if self.adapter.now() >= self.lanes.next_look {
            self.look();
        }
        let Self {
            adapter,
            protocol,
            budget,
            lanes,
        } = self;
        let until = until.min(lanes.next_look);
        adapter
            .poll(Some(until), |now, event| lanes.take(protocol, budget, now, event))
            .map_err(failed)?;
        Ok(())
    }

    fn enter(&mut self, phase: Phase) {
        self.lanes.phase = phase;
        let now = self.adapter.now();
        for at in 0..self.lanes.lanes.len() {
            if let Some(link) = self.lanes.lanes[at].conn.and_then(|conn| self.adapter.link(conn)) {
                self.lanes.issue(at, &self.protocol, link, now);
            }
        }
    }

    /// Dials lanes that are down, gives up those without an answer, wakes those that rested.
    fn look(&mut self) {
        let now = self.adapter.now();
        self.lanes.next_look = now + LOOK;
        for at in 0..self.lanes.lanes.len() {
            let lane = &mut self.lanes.lanes[at];
            let Some(conn) = lane.conn else {
                if lane.rest_until <= now && self.lanes.phase != Phase::Draining {
                    self.dial(at, now);
                }
                continue;
            };
            let Some(link) = self.adapter.link(conn) else {
                continue;
            };
            let oldest = lane.outstanding.front().map(|out| out.sent);
            if oldest.is_some_and(|sent| sent + ANSWER_TIMEOUT <= now) {
                self.lanes.trouble = format!("no answer within {ANSWER_TIMEOUT:?}");
                link.close(CloseMode::Now);
            } else if lane.rest_until > Instant::ZERO && lane.rest_until <= now {
                lane.rest_until = Instant::ZERO;
                self.lanes.issue(at, &self.protocol, link, now);
            }
        }
    }

    fn dial(&mut self, at: usize, now: Instant) {
        let site = self.lanes.leader;
        match self.adapter.connect(&self.lanes.sites[site].address) {
            Ok(conn) => self.lanes.dialled(at, conn),
            Err(error) => {
                self.lanes.trouble = error.to_string();
                self.lanes.lanes[at].rest_until = now + REST;
            }
        }
    }
}
