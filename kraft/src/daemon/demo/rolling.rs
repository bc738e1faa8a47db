//! Every node is stopped in order and started again, one after the other, as for a new version.

use std::time::{Duration, Instant};

use super::cluster::{NODES, StartError};
use super::workload::Workload;
use super::{START_TIMEOUT, Stage};
use crate::daemon::Failure;

impl Stage {
    /// Lets the clients write for `time`, and restarts one node after the other meanwhile.
    pub(super) fn restart_all(&mut self, workload: &Workload, time: Duration) -> Result<(), Failure> {
        let begun = Instant::now();
        let turns = u32::try_from(2 * NODES).expect("a few");
        for node in 0..NODES {
            let turn = u32::try_from(2 * node + 1).expect("a few");
            self.watch(workload, begun + time * turn / turns)?;
            self.restart(workload, node)?;
        }
        self.watch(workload, begun + time)
    }

    fn restart(&mut self, workload: &Workload, node: usize) -> Result<(), Failure> {
        let led = self.wait_for_leader().map_err(StartError::later)? == node;
        let asked = Instant::now();
        self.cluster.stop_one(node)?;
        let took = asked.elapsed().as_secs_f64();
        let role = if led { "led and handed over" } else { "followed" };
        self.report.event(&format!(
            "node {} stopped in order within {took:.3} s; it {role}",
            node + 1
        ));
        let stopped = workload.progress().acknowledged();
        // The others write on before it comes back.
        let until = Instant::now() + START_TIMEOUT;
        while workload.progress().acknowledged() == stopped && Instant::now() < until {
            self.tick()?;
        }
        self.cluster.spawn(node)?;
        let started = Instant::now();
        self.catch_up(workload, node, started + START_TIMEOUT)?;
        let took = started.elapsed().as_secs_f64();
        self.report
            .event(&format!("node {} is back, and caught up within {took:.3} s", node + 1));
        Ok(())
    }

    /// Waits until a node has applied what was committed when it came back: who takes the next one down before that
    /// leaves no majority that has everything.
    fn catch_up(&mut self, workload: &Workload, node: usize, until: Instant) -> Result<(), Failure> {
        let mut goal = None;
        while Instant::now() < until {
            self.watch(workload, Instant::now() + super::TICK)?;
            let reports = self.watcher.status().map_err(|error| super::watching(&error))?;
            let reports: Vec<_> = reports.into_iter().filter_map(|status| status.report.ok()).collect();
            let Some(most) = reports.iter().map(|report| report.commit).max() else {
                continue;
            };
            let goal = *goal.get_or_insert(most);
            let own = reports.iter().find(|report| report.node.0 == node as u64 + 1);
            if own.is_some_and(|own| own.leader.is_some() && own.applied >= goal) {
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
