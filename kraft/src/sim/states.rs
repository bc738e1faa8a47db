//! What state machines came to, entry by entry.

use std::collections::BTreeMap;

use kraft_core::id::{Index, NodeId};

/// How many states are remembered, the latest; a minute of a busy cluster has some thousand entries.
const KEPT: usize = 1 << 16;

/// The digest of the state behind each entry at which some node ended a turn: the same for every node, and for each of
/// its runs.
#[derive(Debug, Default)]
pub(super) struct States(BTreeMap<Index, u64>);

impl States {
    /// With everything through an entry applied, a node is in a state of this digest.
    ///
    /// # Errors
    ///
    /// R5: another one, or its own former self, was in another state there.
    pub(super) fn came_to(&mut self, node: NodeId, (applied, digest): (Index, u64)) -> Result<(), String> {
        let known = *self.0.entry(applied).or_insert(digest);
        if self.0.len() > KEPT {
            self.0.pop_first();
        }
        match known == digest {
            true => Ok(()),
            false => Err(format!(
                "R5: with {applied} applied node {node} is in state {digest:x}, another one was in {known:x}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_that_come_to_unlike_states_are_seen() {
        let mut states = States::default();
        let mut came_to = |node, index, digest| states.came_to(NodeId(node), (Index(index), digest)).is_ok();
        assert!(came_to(1, 4, 0xa) && came_to(1, 7, 0xb));
        assert!(came_to(2, 5, 0xc) && came_to(2, 7, 0xb));
        assert!(!came_to(3, 5, 0xd));
        assert!(!came_to(1, 4, 0xb), "its next run");
    }
}
