//! Disks that rot: a node loses its log, and comes back as one that has to make up for it.

use kraft_core::id::NodeId;
use kraft_core::laws::View;

use super::{Cluster, Event};

impl Cluster {
    /// A node goes down, its log turns out to be damaged and is begun anew, with the older ones of its snapshots or all
    /// of them. Does nothing, and returns `false`, if so many are recovering that no majority would be left.
    pub(crate) fn rot(&mut self, id: u64) -> bool {
        let is_other = |other: &u64| *other != id && self.node(*other).config.recovering;
        let others = self.ids().filter(is_other).count();
        if others + 1 > (self.nodes.len() - 1) / 2 {
            return false;
        }
        if self.node(id).is_up() {
            self.crash(id);
        }
        let node = &mut self.nodes[id as usize - 1];
        node.config.recovering = true;
        node.disk.rot(&mut self.rng);
        // The one term that begins without a candidacy.
        self.term_max = self.term_max.max(node.disk.durable.hard.term);
        self.rotted += 1;
        true
    }

    /// The node is told to forget the damage, which takes a while to become durable.
    pub(super) fn forget_damage(&mut self, id: u64) {
        let run = self.node(id).run;
        let delay = self.rng.u64(self.weather.sync.clone());
        self.schedule(delay, Event::Forgot(NodeId(id), run));
    }
}
