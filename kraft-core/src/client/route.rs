//! Where requests go: connections, the search for the leader, and the waits between tries.

use std::fmt::Write;

use super::call::Refused;
use super::engine::Client;
use super::output::Output;
use super::site::{State, backoff};
use crate::handshake::Established;
use crate::id::NodeId;
use crate::message::Refusal;

impl Client {
    /// A site that can take a request, from the aim on; if there is none, dials one or says when to look again.
    pub(super) fn select(&mut self) -> Option<usize> {
        let count = self.sites.len();
        for step in 0..count {
            let site = (self.aim + step) % count;
            match self.sites[site].state {
                State::Ready { .. } => {
                    self.aim = site;
                    return Some(site);
                }
                State::Idle if self.sites[site].dial_at <= self.now => {
                    self.aim = site;
                    self.dial(site);
                    return None;
                }
                State::Idle => {}
                State::Connecting { .. } | State::Greeting { .. } => {
                    self.aim = site;
                    return None;
                }
            }
        }
        self.wake_at = self.sites.iter().map(|site| site.dial_at).min();
        None
    }

    pub(super) fn dial(&mut self, site: usize) {
        self.sites[site].state = State::Connecting {
            give_up_at: self.now + self.config.connect_timeout,
        };
        self.outputs.push_back(Output::Connect { to: site });
    }

    pub(super) fn welcomed(&mut self, site: usize, established: &Established) {
        if *self.cluster.get_or_insert(established.cluster) != established.cluster {
            self.lose(
                site,
                "is of another cluster than the nodes that answered before".into(),
                true,
            );
            return;
        }
        let here = &mut self.sites[site];
        let State::Greeting { handshake, .. } = &here.state else {
            return;
        };
        here.state = State::Ready {
            handshake: handshake.clone(),
        };
        here.node = established.node;
        here.failures = 0;
        here.trouble.clear();
        if self.wanted == established.node {
            self.aim = site;
            self.wanted = NodeId::NONE;
        }
    }

    /// The site's connection is of no more use; `is_open` if it is there and must be closed. What was in flight there
    /// has no answer.
    pub(super) fn lose(&mut self, site: usize, why: String, is_open: bool) {
        let here = &mut self.sites[site];
        here.state = State::Idle;
        here.is_full = false;
        here.failures = here.failures.saturating_add(1);
        here.dial_at = self.now + backoff(&self.config.redial, here.failures, &mut self.rng);
        here.trouble.clone_from(&why);
        let asked = std::mem::take(&mut here.asked);
        // A hello that was not handed out yet is for a connection that is gone.
        self.outputs
            .retain(|output| !matches!(output, Output::Send { to, .. } if *to == site));
        if is_open {
            self.outputs.push_back(Output::Disconnect { from: site });
        }
        while let Some((_, &id)) = self.sites[site].in_flight.first_key_value() {
            self.attempt_lost(id, &why);
        }
        for id in asked {
            if self.calls.contains_key(&id) {
                self.fail(id, why.clone());
            }
        }
        if self.aim == site {
            self.aim_next();
        }
    }

    /// The site's node does not lead. Of many refusals in a row only the first one moves the aim.
    pub(super) fn redirect(&mut self, site: usize, refused: &Refused) {
        let hint = refused.leader;
        self.sites[site].trouble = match (refused.why, hint.is_some()) {
            (Refusal::TooStale, _) => "is not up to date".into(),
            (Refusal::Stopping, _) => "is going down".into(),
            (_, true) => format!("follows node {hint}"),
            (_, false) => "knows no leader".into(),
        };
        if self.aim != site {
            return;
        }
        if !hint.is_some() || hint == self.sites[site].node {
            self.aim_next();
            return;
        }
        let count = self.sites.len();
        let known = self.sites.iter().position(|other| other.node == hint);
        let unlearned = (1..count)
            .map(|step| (site + step) % count)
            .find(|other| !self.sites[*other].node.is_some());
        match known.or(unlearned) {
            Some(to) => {
                self.wanted = if known.is_some() { NodeId::NONE } else { hint };
                self.aim = to;
                self.step();
            }
            None => {
                self.wanted = hint;
                self.aim_next();
            }
        }
    }

    /// Too much is under way: all calls wait.
    pub(super) fn hold(&mut self) {
        let count = u32::try_from(self.sites.len()).unwrap_or(u32::MAX);
        // Refusals of requests that were in flight together are one.
        if self.hold_until <= self.now {
            self.steps = self.steps.saturating_add(count);
            self.wait(self.steps / count);
        }
    }

    fn aim_next(&mut self) {
        self.aim = (self.aim + 1) % self.sites.len();
        self.step();
    }

    /// After as many steps as there are sites, nobody leads for the moment.
    fn step(&mut self) {
        let count = u32::try_from(self.sites.len()).unwrap_or(u32::MAX);
        self.steps = self.steps.saturating_add(1);
        if self.steps.is_multiple_of(count) {
            self.wait(self.steps / count);
        }
    }

    fn wait(&mut self, failures: u32) {
        self.hold_until = self.now + backoff(&self.config.backoff, failures, &mut self.rng);
    }

    /// Why no request could be sent to a leader, for a person: what is known of each site.
    pub(super) fn no_leader(&self) -> Refused {
        let mut detail = String::new();
        let mut leader = NodeId::NONE;
        for site in &self.sites {
            let trouble = match site.state {
                _ if !site.trouble.is_empty() => site.trouble.as_str(),
                State::Idle => "was not tried",
                State::Connecting { .. } | State::Greeting { .. } => "did not answer yet",
                State::Ready { .. } => "did not refuse",
            };
            let separator = if detail.is_empty() { "" } else { "; " };
            write!(detail, "{separator}{} {trouble}", site.address).expect("a String takes all");
        }
        let is_elsewhere = |node: NodeId| node.is_some() && node != self.wanted;
        if self.wanted.is_some() && self.sites.iter().all(|site| is_elsewhere(site.node)) {
            leader = self.wanted;
            write!(detail, "; node {leader} is at none of these addresses").expect("a String takes all");
        }
        Refused {
            why: Refusal::NotLeader,
            leader,
            detail,
        }
    }
}
