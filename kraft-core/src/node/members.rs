//! Who the members are, as the driver sees it: connections follow the configurations of the log, changes are brought
//! before Raft, and a node that was removed goes.
//!
//! A node that is to be added is dialled first, under the id that it is to have, and asked who it is: a wrong address,
//! another cluster or another node is found out before anything stands in the log, and the incarnation that it names goes
//! into the configuration.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use super::conns::Conn;
use super::handle::{Completion, Outcome as Owned};
use super::receive::Lent;
use super::requests::{Asked, Origin};
use super::{Config, Host, Notice, Task};
use crate::adapter::Adapter;
use crate::canary::{self, Canary};
use crate::handshake::{DETAIL_MAX, Rejection};
use crate::host_port::HostPort;
use crate::id::{ConnId, Incarnation, Index, NodeId, RequestId, Term};
use crate::machine::StateMachine;
use crate::membership::{ADDRESS_BYTES_MAX, Configuration, Seat, Wish};
use crate::message::{Change, GoawayReason, Message, NodeState, Outcome, Refusal, Refused};
use crate::peers::{Known, Peer};
use crate::protocol::Protocol;
use crate::raft::Raft;
use crate::shown::shown;
use crate::storage::Storage;
use crate::time::Instant;

/// How long a node that is to be added may take to say who it is. Less than clients wait for an answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Changes that wait for the next turn, and askers that wait for the same change.
const WISHES_MAX: usize = 32;

/// What a node has to do with changes of the members.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// What was asked for in this turn.
    wishes: VecDeque<(Wish, Origin)>,
    /// What is under way.
    pending: Option<Pending>,
    /// The lives of data folders that are on our disk.
    lives: BTreeMap<NodeId, Incarnation>,
    /// Another node, or the log, said that this one was removed.
    is_expelled: bool,
}

/// A change that is under way here.
#[derive(Debug)]
struct Pending {
    wish: Wish,
    /// Whoever asked for it; who asks again, since an answer was lost, joins them.
    origins: Vec<Origin>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// A node is asked who it is, until then. What went wrong so far.
    Asking {
        node: NodeId,
        due: Instant,
        trouble: Option<(Refusal, String)>,
    },
    /// It stands in the log.
    Logged {
        /// Where.
        index: Index,
        /// It is a step on the way there, which the leader goes on from by itself.
        is_joint: bool,
        /// The term of the entry there; `None` if a snapshot holds it.
        term: Option<Term>,
        /// The term in which this node led when it was so.
        led: Term,
    },
}

impl Members {
    pub(super) fn new(config: &Config) -> Self {
        let own = config.members.iter();
        let lives = own.filter_map(|member| Some((member.node, member.incarnation?)));
        Self {
            lives: lives.chain(config.incarnations.iter().copied()).collect(),
            ..Self::default()
        }
    }

    /// Whether this node was removed, and is to stop.
    pub(super) const fn is_expelled(&self) -> bool {
        self.is_expelled
    }

    /// What is known of lives, this node's own among them, is to be in configurations.
    pub(super) fn tell_lives(&self, config: &Config, raft: &mut Raft) {
        raft.know_life(config.raft.id, config.incarnation);
        for (node, life) in &self.lives {
            raft.know_life(*node, *life);
        }
    }

    fn asked(&self) -> Option<NodeId> {
        match self.pending.as_ref()?.stage {
            Stage::Asking { node, .. } => Some(node),
            Stage::Logged { .. } => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.pending.as_ref()?.stage {
            Stage::Asking { due, .. } => Some(due),
            Stage::Logged { .. } => None,
        }
    }

    /// What a dial of a node that is asked came to, if that says why it cannot be added.
    fn trouble(&mut self, of: NodeId, why: Refusal, detail: String) {
        if let Some(Pending {
            stage: Stage::Asking { node, trouble, .. },
            ..
        }) = &mut self.pending
            && *node == of
        {
            // The first is the cause: a connection that was turned away is then closed, too.
            trouble.get_or_insert((why, detail));
        }
    }

    /// The other members of the configurations that may be needed, as far as they are known.
    pub(super) fn others(&self, raft: &Raft, config: &Config) -> Vec<Known> {
        let committed = raft.committed_configuration().0;
        let needed = raft.configurations().iter().filter(|(at, _)| *at >= committed);
        let mut others = BTreeMap::new();
        for member in needed.flat_map(|(_, configuration)| configuration.members()) {
            let told = config.members.iter().find(|told| told.node == member.node);
            let address = match (member.address.is_empty(), told) {
                (true, Some(told)) => told.address.clone(),
                _ => member.address.clone(),
            };
            let incarnation = match member.incarnation {
                Incarnation(0) => self.lives.get(&member.node).copied(),
                incarnation => Some(incarnation),
            };
            let known = Known {
                node: member.node,
                address,
                incarnation,
            };
            others.insert(member.node, known);
        }
        others.remove(&config.raft.id);
        others.into_values().collect()
    }
}

impl<S: Storage, M: StateMachine> Host<S, M> {
    /// A client asks for a change.
    pub(super) fn on_change<P: Protocol>(
        &mut self,
        lent: &mut Lent<'_, P>,
        conn: &mut Conn,
        message: &Message<'_>,
        change: Change<'_>,
    ) {
        let asked = Asked::Command;
        if self.members.wishes.len() >= WISHES_MAX {
            return self.refuse(lent, conn, message, asked, Refusal::Overloaded, "");
        }
        let wish = Wish::from(change);
        if wish.bytes() > ADDRESS_BYTES_MAX {
            let detail = format!("an address has at most {ADDRESS_BYTES_MAX} bytes");
            return self.refuse(lent, conn, message, asked, Refusal::Invalid, &detail);
        }
        let origin = Origin::Client {
            conn: conn.id,
            request: message.header.request,
            asked,
        };
        self.members.wishes.push_back((wish, origin));
        conn.took(lent.link, &self.conns.limits);
    }

    /// This process asks for a change.
    pub(super) fn take_change(&mut self, wish: Wish, completion: Completion<Owned>) {
        if self.members.wishes.len() >= WISHES_MAX {
            return completion.end(Owned::Refused {
                why: Refusal::Overloaded,
                leader: self.place.leader,
                detail: String::new(),
            });
        }
        self.members.wishes.push_back((wish, Origin::Local(completion)));
    }

    /// Does what is due about the members.
    pub(super) fn keep_members<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        if self.members.is_expelled {
            self.stopping.get_or_insert(now);
        }
        while let Some((wish, origin)) = self.members.wishes.pop_front() {
            self.begin_change(adapter, protocol, wish, origin, now);
        }
        if self.members.pending.is_some() {
            self.pursue_asking(adapter, protocol, now);
            self.conclude_change(adapter, protocol);
        }
        while let Some((peer, was_removed)) = self.peers.parted(now) {
            let (reason, what) = match was_removed {
                true => (GoawayReason::Removed, "was removed from the cluster"),
                false => (GoawayReason::UnknownNode, "is no member"),
            };
            let detail = format!("node {} {what}", peer.node);
            let conns: Vec<_> = peer.conns().collect();
            self.say_goodbye(adapter, protocol, &conns, &Rejection { reason, detail }, now);
        }
    }

    fn say_goodbye<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        conns: &[ConnId],
        goodbye: &Rejection,
        now: Instant,
    ) {
        for id in conns {
            if let Some((mut conn, link)) = self.conns.take_live(adapter, *id) {
                self.turn_away(&mut Lent { protocol, now, link }, &mut conn, goodbye);
                self.conns.put_back(conn);
            }
        }
    }

    fn begin_change<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        wish: Wish,
        origin: Origin,
        now: Instant,
    ) {
        if let Some(pending) = &mut self.members.pending {
            if pending.wish == wish && pending.origins.len() < WISHES_MAX {
                return pending.origins.push(origin);
            }
            let detail = format!("{}: wait until that is through, or undo it", pending.wish);
            return self.answer_change(adapter, protocol, vec![origin], Err((Refusal::ChangeUnderWay, detail)));
        }
        let judged = match self.stopping {
            Some(_) => Err(Refusal::Stopping),
            None => self.raft.would_change(&wish.lend(), Incarnation(0)),
        };
        // What is so already needs nobody.
        let judged = judged.and_then(|is_so| if is_so { Ok(()) } else { self.keeps_majority(&wish, now) });
        if let Err(why) = judged {
            let detail = self.explain_change(&wish, why);
            return self.answer_change(adapter, protocol, vec![origin], Err((why, detail)));
        }
        let asked = wish.newcomer().map(|(node, address)| (node, address.to_owned()));
        let asked = asked.filter(|(node, _)| *node != self.identity.node);
        // Who is to be asked; this node, where nobody is.
        let node = asked.as_ref().map_or(self.identity.node, |(node, _)| *node);
        let stage = Stage::Asking {
            node,
            due: now + ASK_TIMEOUT,
            trouble: None,
        };
        self.members.pending = Some(Pending {
            wish,
            origins: vec![origin],
            stage,
        });
        match asked {
            Some((node, address)) => self.peers.ask(node, &address, now),
            None => self.log_change(adapter, protocol, Incarnation(0), now),
        }
    }

    /// Whether a majority of the voters that are left is heard: without it the change would not come about, and nothing
    /// else either.
    fn keeps_majority(&self, wish: &Wish, now: Instant) -> Result<(), Refusal> {
        let Wish::Remove { node } = wish else { return Ok(()) };
        let configuration = self.raft.configuration().1;
        if !configuration.votes(*node) {
            return Ok(());
        }
        let left = configuration.voters().iter().filter(|voter| **voter != *node);
        let left: Vec<_> = left.copied().collect();
        let heard = left.iter().filter(|voter| self.is_heard(**voter, now)).count();
        match heard > left.len() / 2 {
            true => Ok(()),
            false => Err(Refusal::Voters),
        }
    }

    /// Whether this leader heard a member within an election timeout.
    fn is_heard(&self, node: NodeId, now: Instant) -> bool {
        let heard = self.raft.progress(node).1;
        node == self.identity.node || heard.is_some_and(|heard| now - heard < self.config.raft.election_timeout.end)
    }

    /// Whether the node that is asked has answered, or will not.
    fn pursue_asking<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        let Some(Pending {
            stage: Stage::Asking { node, due, trouble },
            ..
        }) = &mut self.members.pending
        else {
            return;
        };
        let (node, due) = (*node, *due);
        let peer = self.peers.get(node);
        if let Some(seen) = peer.filter(|peer| peer.dialled.is_some()).and_then(|peer| peer.seen) {
            return self.log_change(adapter, protocol, seen, now);
        }
        let trouble = match trouble.take() {
            Some(trouble) => trouble,
            None if now >= due => {
                let detail = format!(
                    "it did not say who it is within {ASK_TIMEOUT:?}; see that it runs and can be reached there"
                );
                (Refusal::Unreachable, detail)
            }
            None => return,
        };
        // A member that is down stays one: it is so already.
        if trouble.0 == Refusal::Unreachable && peer.is_some_and(Peer::is_member) {
            return self.log_change(adapter, protocol, Incarnation(0), now);
        }
        self.fail_change(adapter, protocol, trouble.0, trouble.1, now);
    }

    /// Raft is asked for it.
    fn log_change<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        incarnation: Incarnation,
        now: Instant,
    ) {
        let Some(pending) = &mut self.members.pending else {
            return;
        };
        match self.raft.change(&pending.wish.lend(), incarnation, now, &mut self.log) {
            Ok(index) => {
                pending.stage = Stage::Logged {
                    index,
                    is_joint: self.raft.configuration().1.is_joint(),
                    term: self.raft.term_at(index),
                    led: self.raft.status().hard.term,
                };
                self.conclude_change(adapter, protocol);
            }
            Err(why) => {
                let wish = pending.wish.clone();
                let detail = self.explain_change(&wish, why);
                self.fail_change(adapter, protocol, why, detail, now);
            }
        }
    }

    /// Nothing of it happened.
    fn fail_change<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        why: Refusal,
        detail: String,
        now: Instant,
    ) {
        let Some(pending) = self.members.pending.take() else {
            return;
        };
        let newcomer = pending.wish.newcomer().map(|(node, _)| node);
        if let Some(node) = newcomer {
            self.peers.unask(node, now);
        }
        self.answer_change(adapter, protocol, pending.origins, Err((why, detail)));
    }

    /// It is through, if it is.
    fn conclude_change<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P) {
        let Some(Pending {
            stage:
                Stage::Logged {
                    index,
                    is_joint,
                    term,
                    led,
                },
            ..
        }) = &self.members.pending
        else {
            return;
        };
        let (index, is_joint, term, led) = (*index, *is_joint, *term, *led);
        let committed = self.raft.committed_configuration().0;
        // A leader's log only grows in its term. In a follower's, and in that of who leads again, the entry may have been
        // overwritten; what Raft took in within this turn counts, though the driver was not told so far.
        let status = self.raft.status();
        let is_same_term = status.state == NodeState::Leader && status.hard.term == led;
        let is_there = is_same_term || self.raft.term_at(index) == term;
        // What came later may say otherwise: others may lead since.
        let through = match is_joint {
            _ if committed < index || !is_there => None,
            false => Some(index),
            true => self.left_joint(index, is_same_term),
        };
        let is_early = canary::is(Canary::ChangeAnsweredEarly);
        let Some(index) = through.or_else(|| is_early.then_some(index)) else {
            return;
        };
        if let Some(pending) = self.members.pending.take() {
            self.answer_change(adapter, protocol, pending.origins, Ok(index));
        }
    }

    /// Where the joint configuration at `index` was left, if that is committed. Whose own it is, because it leads in that
    /// term still, goes on with what was asked for; later leaders, by a later change, may have undone it since, and so the
    /// very next one has to be known.
    fn left_joint(&self, index: Index, is_own: bool) -> Option<Index> {
        let commit = self.raft.status().commit;
        let known = self.raft.configurations();
        let is_next_known = known.first().is_some_and(|(at, _)| *at <= index);
        let mut later = known.iter().filter(|(at, _)| index < *at && *at <= commit);
        let (at, configuration) = later.next().filter(|_| is_own || is_next_known)?;
        (!configuration.is_joint()).then_some(*at)
    }

    /// This node leads no more: what was asked for may happen, or not.
    pub(super) fn lose_change<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P) {
        self.conclude_change(adapter, protocol);
        let Some(pending) = &self.members.pending else { return };
        let now = adapter.now();
        if matches!(pending.stage, Stage::Asking { .. }) {
            return self.fail_change(adapter, protocol, Refusal::NotLeader, String::new(), now);
        }
        if let Some(pending) = self.members.pending.take() {
            let header = self.header(RequestId(0));
            for origin in pending.origins {
                self.conns
                    .answer(adapter, protocol, header, origin, Outcome::Unknown, &mut self.counters);
            }
        }
    }

    fn answer_change<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        origins: Vec<Origin>,
        result: Result<Index, (Refusal, String)>,
    ) {
        let header = self.header(RequestId(0));
        let reply = Change::reply(*result.as_ref().unwrap_or(&Index::ZERO));
        let outcome = match &result {
            Ok(_) => Outcome::Committed(&reply),
            Err((why, detail)) => Outcome::Refused(Refused {
                why: *why,
                leader: self.place.leader,
                detail,
            }),
        };
        for origin in origins {
            self.conns
                .answer(adapter, protocol, header, origin, outcome, &mut self.counters);
        }
    }

    /// A node that was dialled said goaway to this one, or was turned away by it.
    fn dial_rejected(&mut self, node: NodeId, is_ours: bool, reason: GoawayReason, detail: &str) {
        let (why, what) = match (reason, is_ours) {
            // The end of an older connection is under way, or the node is: it is dialled again until it is due.
            (GoawayReason::DuplicateNode | GoawayReason::Stopping, _) => return,
            (GoawayReason::WrongIncarnation, true) => (
                Refusal::MemberConflict,
                "it comes with another data folder than it had; remove it, and add the folder under a new id",
            ),
            (GoawayReason::WrongCluster, _) => (
                Refusal::Unreachable,
                "a node of another cluster answers; give it a folder made by kraftd init --join for this one",
            ),
            (GoawayReason::WrongNode | GoawayReason::OwnId, _) => (
                Refusal::Unreachable,
                "another node answers; name the address of the one that is meant",
            ),
            (GoawayReason::UnknownNode | GoawayReason::WrongIncarnation, false) => (
                Refusal::Unreachable,
                "it belongs to another life of the cluster; give it a folder made by kraftd init --join",
            ),
            (_, true) => (Refusal::Unreachable, "it was turned away"),
            (_, false) => (Refusal::Unreachable, "it turned this node away"),
        };
        self.members
            .trouble(node, why, format!("{what} ({reason:?}: {detail})"));
    }

    /// A node that was dialled was turned away.
    pub(super) fn dialled_rejected(&mut self, node: NodeId, reason: GoawayReason, detail: &str) {
        self.dial_rejected(node, true, reason, detail);
    }

    /// A node that was dialled said goaway.
    pub(super) fn dialled_goaway(&mut self, node: NodeId, reason: GoawayReason, detail: &str) {
        let is_member = self.peers.get(node).is_some_and(Peer::is_member);
        // Whom we dialled is believed, and only a committed configuration makes it say so.
        if reason == GoawayReason::Removed && is_member {
            self.expelled(Some(node));
        }
        let detail: String = shown(detail).take(DETAIL_MAX).collect();
        self.dial_rejected(node, false, reason, &detail);
    }

    /// A dial came to nothing. Whether whoever asked for it is told.
    pub(super) fn dial_failed(&mut self, node: NodeId, why: &dyn std::fmt::Display) -> bool {
        if self.members.asked() != Some(node) {
            return false;
        }
        let detail = format!("{why}; start it, or name the address where its peers reach it");
        self.members.trouble(node, Refusal::Unreachable, detail);
        true
    }

    /// Another configuration is in force, or one is committed.
    pub(super) fn follow_members<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P) {
        let now = adapter.now();
        let others = self.members.others(&self.raft, &self.config);
        let (membership, committed) = self.raft.committed_configuration();
        self.identity.membership = self.raft.configuration().0;
        let parts_at = now + self.config.raft.election_timeout.end;
        let followed = self.peers.follow(&others, membership, committed, parts_at, now);
        for (node, incarnation) in followed.to_remember {
            if self.peers.begin_remembering(node, incarnation) {
                self.tasks.push_back(Task::Remember { node, incarnation });
            }
        }
        let goodbye = Rejection {
            reason: GoawayReason::WrongIncarnation,
            detail: "the members say another incarnation of this node".to_owned(),
        };
        self.say_goodbye(adapter, protocol, &followed.impostors, &goodbye, now);
        let (index, configuration) = self.raft.configuration();
        (self.observer)(Notice::Members {
            index,
            is_committed: index == membership,
            configuration,
        });
        if self.raft.status().is_removed {
            self.expelled(None);
        }
    }

    /// This node was a member and is none any more. It stops: nobody needs it, and what it has is old.
    pub(super) fn expelled(&mut self, by: Option<NodeId>) {
        if !self.members.is_expelled {
            self.members.is_expelled = true;
            (self.observer)(Notice::Removed { by });
        }
    }

    /// A peer's incarnation is on disk.
    pub(super) fn remember_life(&mut self, node: NodeId, incarnation: Incarnation) {
        self.members.lives.insert(node, incarnation);
        self.raft.know_life(node, incarnation);
    }

    /// For a person: cause and cure.
    fn explain_change(&self, wish: &Wish, why: Refusal) -> String {
        let configuration = self.raft.configuration().1;
        match (why, wish) {
            (Refusal::MemberConflict, Wish::Add { node, address, .. }) => conflict(configuration, *node, address),
            (Refusal::MemberConflict, Wish::Replace { node, by, .. }) if node == by => {
                "a replacement has an id of its own: name a new one".to_owned()
            }
            (Refusal::MemberConflict, Wish::Replace { by, address, .. }) => conflict(configuration, *by, address),
            (Refusal::MemberConflict, Wish::Move { node, address }) => conflict(configuration, *node, address),
            (
                Refusal::UnknownMember,
                Wish::Add { node, .. }
                | Wish::Promote { node }
                | Wish::Remove { node }
                | Wish::Replace { node, .. }
                | Wish::Move { node, .. },
            ) => format!("node {node} is none; the members are {}", ids(configuration)),
            (Refusal::ChangeUnderWay, _) if configuration.is_joint() => {
                "it ends by itself as soon as a majority of the old and of the new voters has it; try again then"
                    .to_owned()
            }
            (Refusal::ChangeUnderWay, _) => "the last one is not committed so far; try again in a moment".to_owned(),
            (Refusal::NotCaughtUp, Wish::Promote { node }) => {
                let (matched, last) = (self.raft.progress(*node).0, self.raft.status().last);
                format!("it has {matched} of {last} entries; wait, or see whether it runs and can be reached")
            }
            (Refusal::Voters, Wish::Remove { node }) => removal(configuration, *node),
            (Refusal::Voters, _) => format!(
                "there are at most {} voters; add it as a learner, or remove one first",
                crate::raft::quorum::VOTERS_MAX
            ),
            (
                Refusal::Invalid,
                Wish::Add { address, .. } | Wish::Replace { address, .. } | Wish::Move { address, .. },
            ) => {
                let why = HostPort::parse_dialled(address).err().unwrap_or("too long");
                format!("the address is {why}")
            }
            _ => String::new(),
        }
    }
}

fn ids(configuration: &Configuration) -> String {
    let mut text = String::new();
    for member in configuration.members() {
        let separator = if text.is_empty() { "" } else { ", " };
        write!(text, "{separator}{}", member.node).expect("a String takes all");
    }
    text
}

fn removal(configuration: &Configuration, node: NodeId) -> String {
    let left = configuration.voters().iter().filter(|voter| **voter != node);
    let left: Vec<_> = left.map(ToString::to_string).collect();
    match left.is_empty() {
        true => "it is the only voter; add another one first".to_owned(),
        false => format!(
            "of the voters that would be left ({}) no majority is heard; bring them back, or remove those that are gone \
             first",
            left.join(", ")
        ),
    }
}

/// Why `node` cannot be a member at `address`.
fn conflict(configuration: &Configuration, node: NodeId, address: &str) -> String {
    if configuration.is_removed(node) {
        return format!("node {node} was removed, and no id is used twice; take a new one, and a new data folder");
    }
    let other = configuration.members().iter().find(|member| member.address == address);
    if let Some(other) = other.filter(|other| other.node != node) {
        return format!("node {} is reached at that address; name another one", other.node);
    }
    match configuration.member(node) {
        Some(member) if member.address != address && !member.address.is_empty() => format!(
            "node {node} is a member at {}; kraftctl member move gives it another address",
            member.address
        ),
        Some(member) if matches!(member.seat, Seat::Learner(_)) => {
            format!("node {node} is a learner with another data folder or another plan; remove it, and add a new id")
        }
        Some(_) => {
            format!("node {node} is a member with another data folder; remove it, and add the folder under a new id")
        }
        None => format!("node {node} cannot be added; take another id"),
    }
}
