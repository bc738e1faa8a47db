//! The configurations of a log, by the index of the entry that brought each.

use std::collections::BTreeMap;

use super::Config;
use crate::canary::{self, Canary};
use crate::id::{Incarnation, Index, NodeId};
use crate::membership::{Configuration, Plan, Seat};
use crate::snapshot::Head;
use crate::storage::Recovered;

/// A configuration is in force from the moment that its entry is appended (thesis §4.1), and gives way to the one
/// before it if the entry is cut off.
#[derive(Debug)]
pub(super) struct Memberships {
    /// Ascending, not empty. The first is that of the newest entry that was applied, of the snapshot, or the one that
    /// the cluster was founded with.
    list: Vec<(Index, Configuration)>,
    /// The one that the cluster was founded with, as far as this node was told.
    founding: Configuration,
    /// Something is left to do once the newest is committed: it is joint, or has learners that are to become voters.
    pub(super) is_unfinished: bool,
    /// Where those stand that were handed out last: in force, and committed.
    pub(super) told: (Index, Index),
    /// The committed one that the rows of progress were made for.
    pub(super) seated: Index,
    /// Lives of data folders that this node knows, for members of which the log does not say that.
    pub(super) lives: BTreeMap<NodeId, Incarnation>,
}

impl Memberships {
    /// What storage found.
    ///
    /// # Errors
    ///
    /// A configuration cannot be read: which, and why.
    pub(super) fn new(config: &Config, recovered: &Recovered) -> Result<Self, String> {
        let read = |index: Index, bytes: &[u8]| {
            Configuration::decode(bytes)
                .map_err(|error| format!("the members that the log says at index {index} cannot be read: {error}"))
        };
        let mut founding = Configuration::founding(&config.voters);
        for (node, address) in &config.addresses {
            founding = founding.described(*node, address, Incarnation(0));
        }
        let mut list = vec![(Index::ZERO, founding.clone())];
        if let Some(snapshot) = &recovered.snapshot {
            let head = &snapshot.head;
            if !head.membership.is_empty() {
                list[0] = (head.membership_index, read(head.membership_index, &head.membership)?);
            }
        }
        for (index, payload) in &recovered.memberships {
            if list.last().is_some_and(|newest| newest.0 < *index) {
                list.push((*index, read(*index, payload)?));
            }
        }
        let mut memberships = Self {
            list,
            founding,
            is_unfinished: false,
            told: (Index::ZERO, Index::ZERO),
            seated: Index::ZERO,
            lives: BTreeMap::new(),
        };
        memberships.refresh();
        Ok(memberships)
    }

    /// The same configuration, with the lives of members as far as they are known and it does not say them.
    pub(super) fn with_lives(&self, mut configuration: Configuration) -> Configuration {
        if canary::is(Canary::LivesUnsaid) {
            return configuration;
        }
        let unsaid = configuration
            .members()
            .iter()
            .filter(|member| member.incarnation.0 == 0);
        let known =
            unsaid.filter_map(|member| Some((member.node, member.address.clone(), *self.lives.get(&member.node)?)));
        for (node, address, life) in known.collect::<Vec<_>>() {
            configuration = configuration.described(node, &address, life);
        }
        configuration
    }

    /// The configuration at the head of a snapshot, `None` if it cannot be read.
    pub(super) fn of_head(&self, head: &Head) -> Option<(Index, Configuration)> {
        Some(match head.configuration().ok()? {
            None => (Index::ZERO, self.founding.clone()),
            Some(configuration) => (head.membership_index, configuration),
        })
    }

    /// The log begins anew behind a snapshot with this one at its head.
    pub(super) fn reset(&mut self, of: (Index, Configuration)) {
        self.list = vec![of];
        self.refresh();
    }

    fn refresh(&mut self) {
        let newest = &self.newest().1;
        let is_planned = |seat| matches!(seat, Seat::Learner(Plan::Promote | Plan::Replace(_)));
        self.is_unfinished = newest.is_joint() || newest.members().iter().any(|member| is_planned(member.seat));
    }

    /// All of them, those that are applied through aside, ascending.
    pub(super) fn list(&self) -> &[(Index, Configuration)] {
        &self.list
    }

    pub(super) fn newest(&self) -> &(Index, Configuration) {
        self.list.last().expect("there is always one")
    }

    /// The newest that stands at or before `index`, and all behind it.
    pub(super) fn from(&self, index: Index) -> &[(Index, Configuration)] {
        let behind = self.list.partition_point(|(at, _)| *at <= index);
        &self.list[behind.saturating_sub(1)..]
    }

    /// An entry was appended that brings this one.
    pub(super) fn push(&mut self, index: Index, configuration: Configuration) {
        if canary::is(Canary::ConfigurationStays) {
            self.list.retain(|(at, _)| *at < index);
        }
        debug_assert!(self.list.last().is_none_or(|newest| newest.0 < index), "logs grow");
        self.list.push((index, configuration));
        self.refresh();
    }

    /// The log is cut from `from` on. Whether another one is in force now.
    pub(super) fn truncate(&mut self, from: Index) -> bool {
        let kept = self.list.partition_point(|(at, _)| *at < from).max(1);
        let is_cut = kept < self.list.len();
        self.list.truncate(kept);
        self.refresh();
        is_cut
    }

    /// Those before the one in force at `applied` are of no use any more.
    pub(super) fn applied(&mut self, applied: Index) {
        let behind = self.list.partition_point(|(at, _)| *at <= applied);
        self.list.drain(..behind.saturating_sub(1));
    }

    /// Whether `node` votes in the one in force, or in one before it that may still be needed (thesis §4.2.2).
    pub(super) fn votes(&self, node: NodeId, commit: Index) -> bool {
        self.from(commit)
            .iter()
            .any(|(_, configuration)| configuration.votes(node))
    }
}
