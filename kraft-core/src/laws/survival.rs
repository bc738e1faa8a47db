//! R6: what is committed survives while the disks of a majority do, where majorities are those of the configurations
//! that were in force.

use super::{Broken, Laws, Mark, View, broken};
use crate::id::{Index, NodeId};
use crate::membership::Configuration;
use crate::raft::quorum::VoteResult;

impl Laws {
    /// R6: what is committed stands on the disks of a majority, in a log or in a snapshot.
    pub(super) fn check_survival<V: View>(&self, nodes: &[V], index: Index) -> Result<(), Broken> {
        let Some((mark, _)) = index.0.checked_sub(1).and_then(|at| self.committed.get(at as usize)) else {
            return Ok(());
        };
        let holders = holders(nodes, index, *mark);
        let has_quorum = match self.quorums.is_empty() {
            true => holders.len() > self.voters / 2,
            false => self.quorums.iter().any(|quorum| is_held(quorum, &holders)),
        };
        match has_quorum {
            true => Ok(()),
            false => broken(
                6,
                format!("{mark:?}, committed at {index}, stands on the disks of {holders:?} alone"),
            ),
        }
    }

    /// More may be committed than `before`: by which configuration? Whoever knows of it first has it in force, unless it
    /// took the next step at once; then it is one of those behind the one of `before`.
    pub(super) fn count<V: View>(&mut self, nodes: &[V], before: Index) {
        let index = self.committed();
        let Some((mark, _)) = self.committed.get(before.0 as usize..).and_then(<[_]>::last) else {
            return;
        };
        let holders = holders(nodes, index, *mark);
        let mut candidates: Vec<&Configuration> = Vec::new();
        let knows = |node: &&V| node.is_up() && node.status().commit == index;
        for node in nodes.iter().filter(knows) {
            let list = node.configurations();
            let behind = list.partition_point(|(at, _)| *at <= before);
            for (_, configuration) in &list[behind.saturating_sub(1)..] {
                if !candidates.contains(&configuration) {
                    candidates.push(configuration);
                }
            }
        }
        let held = candidates.iter().copied().filter(|of| is_held(of, &holders));
        let held: Vec<_> = held.collect();
        let quorums = if held.is_empty() { candidates } else { held };
        if !quorums.iter().copied().eq(&self.quorums) {
            self.quorums = quorums.into_iter().cloned().collect();
        }
    }
}

/// Whose disks have this entry, or had it before they rotted: who recovers from that does not vote, so that it harms nobody
/// that has the entry, while there is one.
fn holders<V: View>(nodes: &[V], index: Index, mark: Mark) -> Vec<NodeId> {
    let holds = |node: &&V| index <= node.disk_snapshot().0 || node.disk_entry(index) == Some(mark);
    let is_left = nodes.iter().any(|node| holds(&node));
    let counts = |node: &&V| holds(node) || is_left && node.is_recovering();
    nodes.iter().filter(counts).map(|node| node.status().id).collect()
}

/// Whether these are a quorum.
fn is_held(configuration: &Configuration, holders: &[NodeId]) -> bool {
    let holds = |voter| holders.contains(&voter).then_some(true);
    configuration.quorum().vote_result(holds) == VoteResult::Won
}
