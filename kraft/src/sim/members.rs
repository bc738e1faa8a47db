//! How members change in a run, and what must hold of that.
//!
//! The configurations that are committed are read off the logs, and everything else is judged by them: majorities, whom
//! a removal may send away, what an answered change comes to, who has to agree in the end. That no two majorities are in
//! force of which neither knows the other is what R1, R4 and R6 come to, which are counted by the same configurations.

use std::collections::BTreeSet;

use fastrand::Rng;
use kraft_adapters::mock::HostId;
use kraft_core::id::{Index, NodeId};
use kraft_core::membership::{Configuration, Plan, Seat, Wish};
use kraft_core::message::NodeState;
use kraft_core::time::Instant;

use super::Mode;
use super::cluster::{Cluster, RESTART_EVERY};
use super::faults::Kind;
use super::host::{Host, MOVED_PORT, PEER_PORT, Stage};
use super::strike::Ailment;
use super::trace::Step;

/// Nodes that may join a cluster in a run, beside those that it is founded with.
pub(super) const SPARES: usize = 4;

/// Members beyond the founders at a time.
const GROWTH_MAX: usize = 2;

/// Changes under way at a time.
const UNDER_WAY_MAX: usize = 3;

/// The committed configurations of a run, ascending.
#[derive(Debug)]
pub(super) struct Roll(Vec<(Index, Configuration)>);

impl Roll {
    pub(super) fn new(founding: Configuration) -> Self {
        Self(vec![(Index::ZERO, founding)])
    }

    /// The newest.
    pub(super) fn last(&self) -> &(Index, Configuration) {
        self.0.last().expect("there is always one")
    }

    /// The one that stands at `index`.
    fn at(&self, index: Index) -> Option<&Configuration> {
        let at = self.0.binary_search_by_key(&index, |(at, _)| *at).ok()?;
        Some(&self.0[at].1)
    }

    /// How many voters the newest has; of two sets of them, the smaller.
    fn voters(&self) -> usize {
        let newest = &self.last().1;
        match newest.is_joint() {
            true => newest.voters().len().min(newest.voters_before().len()),
            false => newest.voters().len(),
        }
    }
}

/// Whether a configuration is as somebody wished.
fn is_as_wished(configuration: &Configuration, wish: &Wish) -> bool {
    let seat = |node: NodeId| configuration.member(node).map(|member| member.seat);
    let is_at = |node: NodeId, address: &str| {
        let member = configuration.member(node);
        member.is_some_and(|member| member.address == address)
    };
    match wish {
        Wish::Add { node, address, .. } => is_at(*node, address),
        Wish::Promote { node } => seat(*node).is_some_and(Seat::votes),
        Wish::Remove { node } => seat(*node).is_none(),
        Wish::Replace { node, by, address } => {
            let is_planned = seat(*by) == Some(Seat::Learner(Plan::Replace(*node)));
            is_at(*by, address) && (is_planned || seat(*node).is_none())
        }
        Wish::Move { node, address } => is_at(*node, address),
    }
}

impl Cluster {
    /// More may be committed than `before`, as the node of the host at `at` knows.
    pub(super) fn enroll(&mut self, before: Index, at: usize) {
        let committed = self.laws.committed();
        if committed == before {
            return;
        }
        let list = &self.hosts[at].members;
        let fresh = list.iter().filter(|(index, _)| before < *index && *index <= committed);
        let fresh: Vec<_> = fresh.cloned().collect();
        let now = self.network.now();
        for (index, configuration) in fresh {
            let step = Step::Members(index, describe(&configuration).into());
            self.audit.books().trace.push(now, step);
            let (_, former) = self.roll.last();
            if let Some(operator) = &mut self.operator {
                let votes = |of: &Configuration| of.voters().iter().copied().collect::<BTreeSet<_>>();
                let (then, since) = (votes(former), votes(&configuration));
                operator.changed.came += since.difference(&then).count() as u64;
                operator.changed.went += then.difference(&since).count() as u64;
            }
            if let Err(broken) = self.check_configuration(&configuration, former) {
                self.audit.books().broken.get_or_insert(broken);
            }
            self.roll.0.push((index, configuration));
        }
        self.atlas.count(self.roll.voters());
    }

    /// What must hold of the members after a turn of the node of the host at `at`.
    pub(super) fn check_members(&mut self, at: usize) -> Result<(), String> {
        for (node, wish, index) in self.audit.take_changes() {
            let views: Vec<_> = self.hosts.iter().collect();
            self.laws
                .acknowledged(&views, index)
                .map_err(|broken| broken.to_string())?;
            let is_so = self.roll.at(index).is_some_and(|of| is_as_wished(of, &wish));
            if !is_so {
                let of = self.roll.at(index).map(describe);
                return Err(format!(
                    "R6: node {node} answered that {wish} is through at {index}, where the members are {of:?}"
                ));
            }
        }
        self.check_vain(at)?;
        // Thesis §4.2.2: it leads until its removal is committed, and no longer. What is committed last, or may be next, has it
        // vote.
        let status = self.hosts[at].last_status();
        let own = &self.hosts[at].members;
        let committed = own.iter().rposition(|(index, _)| *index <= status.commit);
        let Some(needed) = committed
            .map(|at| &own[at..])
            .filter(|_| status.state == NodeState::Leader)
        else {
            return Ok(());
        };
        // Who waits to be told begins with nobody.
        let may_lead = |(_, of): &(Index, Configuration)| of.votes(status.id) || of.members().is_empty();
        match needed.iter().any(may_lead) {
            true => Ok(()),
            false => Err(format!(
                "R4: node {} leads in term {}, and knows that by the members at {} it does not vote",
                status.id, status.hard.term, needed[0].0
            )),
        }
    }

    /// The node of the host at `at` has stopped because it was removed, or so it says.
    pub(super) fn depart(&mut self, at: usize) -> Result<(), String> {
        let now = self.network.now();
        let id = self.hosts[at].id;
        if !self.roll.last().1.is_removed(id) {
            return Err(format!(
                "R9: node {id} went as one that was removed, and no committed configuration says so"
            ));
        }
        self.hosts[at].departures += 1;
        let gone = Step::Ended(id, "it was removed".into());
        self.audit.books().trace.push(now, gone);
        let rng = &mut self.rngs[Kind::Member.index()];
        // Somebody starts it again, and it must go again.
        if rng.u8(..3) == 0 && !self.is_down(at) {
            self.ailments.push((now + RESTART_EVERY * 2, Ailment::Down(at)));
        }
        Ok(())
    }

    /// Whether the host at `at` has a member by the newest committed configuration.
    pub(super) fn is_member(&self, at: usize) -> bool {
        let id = self.hosts[at].id;
        self.roll.last().1.member(id).is_some()
    }

    /// Whether the members may be others soon: then no more nodes may be hurt where a majority must stay whole.
    pub(super) fn is_changing(&self) -> bool {
        let Some(operator) = &self.operator else { return false };
        let (index, configuration) = self.roll.last();
        let has_more = |host: &Host| host.members.last().is_some_and(|(at, _)| at > index);
        operator.is_unsure(self.network.now())
            || is_unfinished(configuration)
            || self
                .hosts
                .iter()
                .any(|host| host.stage == Stage::Serving && has_more(host))
    }

    /// Whether everybody is who he should be in the end: every member has the newest configuration, and it is no step on
    /// the way to another one; who was removed has gone.
    pub(super) fn are_settled(&self) -> bool {
        let Some(operator) = &self.operator else { return true };
        let (index, configuration) = self.roll.last();
        let is_settled = |host: &Host| match host.node.as_ref() {
            // It is nobody.
            Some(_) if host.is_wiped() => true,
            Some(node) if configuration.member(host.id).is_some() => {
                let (at, own) = node.configuration();
                at == *index && (*index == Index::ZERO || own == configuration)
            }
            // Whoever it knows may be gone as well; then there is nobody to tell it. A learner that was cut off says nothing,
            // and so does not notice that its connections are dead: TCP's keepalive, which the mock has not, would.
            Some(node) => {
                let is_silent = !node.configuration().1.votes(host.id);
                !configuration.is_removed(host.id) || !self.knows_a_member(host) || is_silent
            }
            None => true,
        };
        operator.is_idle() && !is_unfinished(configuration) && self.hosts.iter().all(is_settled)
    }

    /// Whether a member that can tell it is among those that a node takes for members: one whose disk was wiped cannot.
    fn knows_a_member(&self, host: &Host) -> bool {
        let newest = &self.roll.last().1;
        let own = host.members.last().map(|(_, own)| own.members()).unwrap_or_default();
        let mut able = self
            .hosts
            .iter()
            .filter(|host| newest.member(host.id).is_some() && !host.is_wiped());
        able.any(|able| own.iter().any(|member| member.node == able.id))
    }

    /// The members are to change; or somebody asks for what cannot be, beside.
    pub(super) fn change_in_vain_or_not(&mut self, rng: &mut Rng) -> Result<Option<usize>, String> {
        // What else is drawn does not depend on it.
        self.ask_in_vain(&mut Rng::with_seed(rng.clone().u64(..)));
        self.change_members(rng)
    }

    /// The members are to change. Returns the host that this is about, if there is one.
    fn change_members(&mut self, rng: &mut Rng) -> Result<Option<usize>, String> {
        let now = self.network.now();
        let Some(operator) = &self.operator else {
            return Ok(None);
        };
        let is_kept = self.options.mode == Mode::Liveness;
        if is_kept && (self.is_changing() || !self.hurt_members().is_empty()) || operator.under_way() >= UNDER_WAY_MAX {
            return Ok(None);
        }
        let Some(wish) = self.draw_wish(rng) else {
            return Ok(None);
        };
        let (about, comes) = parties(&wish);
        if let Some(at) = comes.and_then(|node| self.hosts.iter().position(|host| host.id == node))
            && self.hosts[at].stage == Stage::Spare
        {
            self.hosts[at].stage = Stage::Serving;
            self.start(at)?;
            let host = self.hosts[at].host;
            for (user, deadline) in self.users.iter_mut().zip(&mut self.user_deadlines) {
                user.hears_of(host, now);
                *deadline = user.deadline();
            }
        }
        let addresses = self.addresses();
        let operator = self.operator.as_mut().expect("looked at above");
        // It knows who serves, mostly.
        if rng.u8(..4) > 0 && operator.is_idle() {
            operator.come(&addresses, now).map_err(|error| error.to_string())?;
        }
        let times = if rng.u8(..4) == 0 { 2 } else { 1 };
        for _ in 0..times {
            operator.ask(wish.clone(), now).map_err(|error| error.to_string())?;
        }
        self.audit.books().trace.push(now, Step::Asked(wish.to_string().into()));
        Ok(self.hosts.iter().position(|host| host.id == about).or(Some(0)))
    }

    /// Where clients find nodes that serve.
    pub(super) fn addresses(&self) -> Vec<HostId> {
        let serving = self.hosts.iter().filter(|host| host.stage == Stage::Serving);
        serving.map(|host| host.host).collect()
    }

    /// Where clients find members.
    pub(super) fn member_hosts(&self) -> Vec<HostId> {
        let members = self.hosts.iter().enumerate().filter(|(at, _)| self.is_member(*at));
        members.map(|(_, host)| host.host).collect()
    }

    fn draw_wish(&mut self, rng: &mut Rng) -> Option<Wish> {
        let configuration = &self.roll.last().1;
        let members: Vec<_> = configuration.members().iter().map(|member| member.node).collect();
        let leader = self.hosts.iter().find(|host| {
            let leads = host.last_status().state == NodeState::Leader;
            host.node.is_some() && leads
        });
        let leader = leader.map(|host| host.id).filter(|_| rng.u8(..3) == 0);
        let any = members[rng.usize(..members.len())];
        let node = leader.filter(|node| members.contains(node)).unwrap_or(any);
        let newcomer = self.newcomer();
        let room = configuration.voters().len() < self.options.nodes + GROWTH_MAX;
        let at = |id: NodeId, port: u16| {
            let host = self.hosts.iter().find(|host| host.id == id)?;
            Some(host.host.address(port).to_string())
        };
        let stranger = NodeId(self.hosts.len() as u64 + 1 + rng.u64(..3));
        match rng.u8(..14) {
            0..4 => {
                let node = newcomer.filter(|_| room)?;
                let promote = rng.u8(..4) > 0;
                Some(Wish::Add {
                    node,
                    address: at(node, PEER_PORT)?,
                    promote,
                })
            }
            4..7 => Some(Wish::Remove { node }).filter(|_| self.may_go(node)),
            7..9 => {
                let by = newcomer.filter(|_| self.may_go(node))?;
                Some(Wish::Replace {
                    node,
                    by,
                    address: at(by, PEER_PORT)?,
                })
            }
            9..11 => Some(Wish::Promote {
                node: members
                    .iter()
                    .copied()
                    .find(|node| !configuration.votes(*node))
                    .unwrap_or(node),
            }),
            11 => {
                let port = if rng.bool() { PEER_PORT } else { MOVED_PORT };
                Some(Wish::Move {
                    node,
                    address: at(node, port)?,
                })
            }
            // What cannot be.
            12 => Some(Wish::Remove { node: stranger }),
            _ => Some(Wish::Add {
                node: stranger,
                address: at(any, PEER_PORT)?,
                promote: true,
            }),
        }
    }

    /// A node that is no member and never was: one that waits, or one that nobody has started so far.
    fn newcomer(&self) -> Option<NodeId> {
        let operator = self.operator.as_ref()?;
        let is_fresh = |host: &&Host| {
            let known = self.hosts.iter().flat_map(|host| &host.members);
            let mut known = known.map(|(_, configuration)| configuration);
            !host.is_wiped()
                && !operator.is_about(host.id)
                && !known.any(|of| of.member(host.id).is_some() || of.is_removed(host.id))
        };
        self.hosts.iter().find(is_fresh).map(|host| host.id)
    }

    /// Whether enough disks are left without this member, also if what is under way comes about before.
    fn may_go(&self, node: NodeId) -> bool {
        let lost = self.lost_members();
        let voters = self.roll.voters();
        let left = voters.saturating_sub(1);
        let is_lost = |at: &usize| self.hosts[*at].id != node;
        let lost = lost.iter().filter(|at| is_lost(at)).count();
        match lost {
            0 => left > 0 && (self.options.mode == Mode::Safety || left > 1),
            _ => !self.is_changing() && lost <= left.saturating_sub(1) / 2,
        }
    }

    /// Members whose disks are lost, for good or for long.
    pub(super) fn lost_members(&self) -> BTreeSet<usize> {
        let lost = |at: &usize| self.hosts[*at].is_lost() && self.is_member(*at);
        (0..self.hosts.len()).filter(lost).collect()
    }

    /// Members that a majority must do without at the moment.
    pub(super) fn hurt_members(&self) -> BTreeSet<usize> {
        let victims = self.ailments.iter().flat_map(|(_, ailment)| ailment.victims());
        let hurt: BTreeSet<_> = victims.filter(|at| self.is_member(*at)).collect();
        hurt.union(&self.lost_members()).copied().collect()
    }

    /// A host that has a node, or had one.
    pub(super) fn draw_host(&self, rng: &mut Rng) -> usize {
        let serving = self.hosts.iter().filter(|host| host.stage == Stage::Serving).count();
        let at = rng.usize(..serving);
        let mut serving = (0..self.hosts.len()).filter(|at| self.hosts[*at].stage == Stage::Serving);
        serving.nth(at).expect("fewer than there are")
    }

    /// The operator has something to do.
    pub(super) fn turn_operator(&mut self, now: Instant) -> Result<(), String> {
        let Some(operator) = &mut self.operator else {
            return Ok(());
        };
        operator.turn(now).map_err(|error| error.to_string())
    }
}

/// Whether another configuration is to follow by itself.
fn is_unfinished(configuration: &Configuration) -> bool {
    let is_planned = |seat| matches!(seat, Seat::Learner(Plan::Promote | Plan::Replace(_)));
    configuration.is_joint() || configuration.members().iter().any(|member| is_planned(member.seat))
}

/// Whom a wish is about, and who comes.
fn parties(wish: &Wish) -> (NodeId, Option<NodeId>) {
    let comes = wish.newcomer().map(|(node, _)| node);
    match wish {
        Wish::Add { node, .. }
        | Wish::Promote { node }
        | Wish::Remove { node }
        | Wish::Replace { node, .. }
        | Wish::Move { node, .. } => (*node, comes),
    }
}

/// For people.
pub(super) fn describe(configuration: &Configuration) -> String {
    let members = configuration.members().iter();
    let members = members.map(|member| format!("{} {:?}", member.node, member.seat));
    members.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use kraft_core::id::Incarnation;

    use super::*;

    #[test]
    fn a_configuration_that_is_not_as_wished_is_seen() {
        let (one, two, three) = (NodeId(1), NodeId(2), NodeId(3));
        let address = "h1:1".to_owned();
        let members = Configuration::founding(&[one, two]).described(one, &address, Incarnation(7));
        let is = |wish: Wish| is_as_wished(&members, &wish);
        let add = |node, address: &str| Wish::Add {
            node,
            address: address.to_owned(),
            promote: true,
        };
        assert!(is(add(one, "h1:1")) && !is(add(one, "h1:2")) && !is(add(three, "h1:1")));
        assert!(is(Wish::Promote { node: two }) && !is(Wish::Promote { node: three }));
        assert!(is(Wish::Remove { node: three }) && !is(Wish::Remove { node: two }));
        let replace = |node, by| Wish::Replace {
            node,
            by,
            address: address.clone(),
        };
        assert!(
            is(replace(three, one)) && !is(replace(two, one)),
            "who was replaced is there still"
        );
        let to = |address: &str| Wish::Move {
            node: one,
            address: address.to_owned(),
        };
        assert!(is(to("h1:1")) && !is(to("h2:1")));
    }

    #[test]
    fn the_newest_configuration_counts() {
        let mut roll = Roll::new(Configuration::founding(&[NodeId(1), NodeId(2), NodeId(3)]));
        assert_eq!((roll.voters(), roll.last().0), (3, Index::ZERO));
        roll.0.push((Index(4), Configuration::founding(&[NodeId(1)])));
        assert_eq!(
            (roll.voters(), roll.at(Index(4)).is_some(), roll.at(Index(3))),
            (1, true, None)
        );
    }
}
