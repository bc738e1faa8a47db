//! Members that come and go while clients write.

use std::time::{Duration, Instant};

use kraft_core::id::NodeId;
use kraft_core::message::{Change, Standing};

use super::cluster::{NODES, StartError};
use super::workload::{Workload, client};
use super::{START_TIMEOUT, Stage};
use crate::client::{Client, Error};
use crate::daemon::Failure;

/// How long a change may take, tries included.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

impl Stage {
    /// Lets the clients write for `time`; a node dies for good meanwhile, its disk with it, and another takes its place.
    pub(super) fn replace_a_node(&mut self, workload: &Workload, time: Duration) -> Result<(), Failure> {
        let begun = Instant::now();
        self.watch(workload, begun + time / 3)?;
        let leader = self.wait_for_leader().map_err(StartError::later)?;
        let dead = (0..NODES).find(|node| *node != leader).expect("there are three");
        self.cluster.lose(dead)?;
        self.report
            .event(&format!("kill -9 of node {}, and its disk is gone", dead + 1));
        self.watch(workload, begun + time / 2)?;
        let by = NODES;
        self.cluster.join(by)?;
        let address = self.cluster.peers(by).to_owned();
        let asked = Instant::now();
        self.change(Change::Replace {
            node: id(dead),
            by: id(by),
            address: &address,
        })?;
        self.cluster.left(dead);
        self.wait_for_vote(workload, by)?;
        let took = asked.elapsed().as_secs_f64();
        self.report.event(&format!(
            "node {} begins with nothing, and votes in the place of node {} within {took:.3} s",
            by + 1,
            dead + 1
        ));
        self.watch(workload, begun + time)
    }

    /// Lets the clients write for `time`; two nodes are added meanwhile, and two that lead are removed.
    pub(super) fn grow_and_shrink(&mut self, workload: &Workload, time: Duration) -> Result<(), Failure> {
        let begun = Instant::now();
        for (turn, node) in [(1, NODES), (2, NODES + 1)] {
            self.watch(workload, begun + time * turn / 5)?;
            self.cluster.join(node)?;
            let address = self.cluster.peers(node).to_owned();
            let asked = Instant::now();
            self.change(Change::Add {
                node: id(node),
                address: &address,
                promote: true,
            })?;
            self.wait_for_vote(workload, node)?;
            let (took, count) = (asked.elapsed().as_secs_f64(), self.cluster.members().len());
            self.report.event(&format!(
                "node {} is added, has caught up and votes within {took:.3} s; {count} members",
                node + 1
            ));
        }
        for turn in [3, 4] {
            self.watch(workload, begun + time * turn / 5)?;
            let leader = self.wait_for_leader().map_err(StartError::later)?;
            self.change(Change::Remove { node: id(leader) })?;
            self.cluster.end_removed(leader)?;
            let count = self.cluster.members().len();
            self.report.event(&format!(
                "node {}, which led, is removed and has ended with exit code 76; {count} members",
                leader + 1
            ));
        }
        self.watch(workload, begun + time)
    }

    fn manager(&self, timeout: Duration) -> Result<Client, Failure> {
        client(&self.cluster.clients(), self.cluster.manner(), timeout)
    }

    /// Changes the members. What comes while another leader is looked for is tried again.
    fn change(&mut self, change: Change<'_>) -> Result<(), Failure> {
        let mut manager = self.manager(CHANGE_TIMEOUT)?;
        let until = Instant::now() + START_TIMEOUT;
        loop {
            match manager.change(change) {
                Ok(_) => return Ok(()),
                Err(Error::Refused(_) | Error::Unknown) if Instant::now() < until => self.tick()?,
                Err(error) => {
                    return Err(Failure::new(format!(
                        "the members cannot be changed: {change:?}: {error}"
                    )));
                }
            }
        }
    }

    /// Waits until a new member votes.
    fn wait_for_vote(&mut self, workload: &Workload, node: usize) -> Result<(), Failure> {
        let mut manager = self.manager(CHANGE_TIMEOUT)?;
        let until = Instant::now() + START_TIMEOUT;
        while Instant::now() < until {
            self.watch(workload, Instant::now() + super::TICK)?;
            let members = manager.members().map_err(|error| super::watching(&error))?;
            let votes = members.get(id(node)).map(|member| member.standing) == Some(Standing::Voter);
            if members.is_by_leader && votes {
                return Ok(());
            }
        }
        let secs = START_TIMEOUT.as_secs();
        Err(Failure::new(format!(
            "node {} did not catch up within {secs} s; is this machine overloaded?",
            node + 1
        )))
    }
}

fn id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}
