//! Changes of the members (thesis §4): which configuration is in force, who is sent the log, and what a leader does to
//! get from one configuration to another.

use std::collections::BTreeMap;
use std::iter;

use super::catch_up::CatchUp;
use super::election::Ballot;
use super::progress::Progress;
use super::quorum::Joint;
use super::{ROOM_MIN, Raft, Violation};
use crate::canary::{self, Canary};
use crate::host_port::HostPort;
use crate::id::{Incarnation, Index, NodeId, Round};
use crate::log::{Log, Proposal};
use crate::membership::{ADDRESS_BYTES_MAX, ChangeError, Changer, Configuration, Member, Plan, Seat, Step, Tracked};
use crate::message::{Change, Entries, EntryKind, NodeState, Refusal};
use crate::time::Instant;

/// What a change comes to.
enum Verdict {
    /// It is so already, or about to be.
    Done,
    /// These steps, and then what is to be known of a member.
    Steps(Vec<Step>, Option<(NodeId, String, Incarnation)>),
}

impl Raft {
    /// The configuration in force, and where it stands in the log: zero for the one that the cluster was founded with.
    #[must_use]
    pub fn configuration(&self) -> (Index, &Configuration) {
        let (index, configuration) = match canary::is(Canary::ConfigurationAtCommit) {
            true => &self.memberships.from(self.commit)[0],
            false => self.memberships.newest(),
        };
        (*index, configuration)
    }

    /// The newest configuration that is known to be committed, and where it stands in the log.
    #[must_use]
    pub fn committed_configuration(&self) -> (Index, &Configuration) {
        self.configuration_at(self.commit)
    }

    /// The configuration that is in force at `index`, which is not below what is applied, and where it stands: what a
    /// snapshot at that index says in its head.
    #[must_use]
    pub fn configuration_at(&self, index: Index) -> (Index, &Configuration) {
        let (at, configuration) = &self.memberships.from(index)[0];
        (*at, configuration)
    }

    /// The configurations that may be needed, ascending, with their indexes: of the newest applied one and of all behind
    /// it. The last is in force.
    #[must_use]
    pub fn configurations(&self) -> &[(Index, Configuration)] {
        self.memberships.list()
    }

    /// The life of a member's data folder, this node's own or one that is on its disk. A founder's is in no configuration
    /// until somebody changes that: it says so then, for whoever comes has met nobody, and would take a founder whose disk
    /// was wiped for the one that it was.
    pub fn know_life(&mut self, node: NodeId, life: Incarnation) {
        self.memberships.lives.insert(node, life);
    }

    /// Whether a member keeps up with this leader's log, so that it can be made a voter.
    #[must_use]
    pub fn is_caught_up(&self, node: NodeId) -> bool {
        let Some(peer) = self.peer(node).filter(|_| self.state == NodeState::Leader) else {
            return node == self.config.id && self.state == NodeState::Leader;
        };
        let short = self.config.election_timeout.start;
        let progress = &self.progress[peer];
        let is_alive = progress.heard.is_some_and(|heard| self.now - heard < short);
        is_alive && progress.catch_up.is_done(self.now, short)
    }

    /// Changes the members. The index is that of a configuration in whose force it is so; it is through when
    /// that is committed, and where it is joint, the next one, by which this leader leaves it. What is so already succeeds without an entry, so
    /// that whoever got no answer may ask again. `incarnation` is what a node that is to be added answered when it was
    /// asked who it is, zero if it was not.
    ///
    /// A voter comes or goes alone; where two change, as in a replacement, through a joint configuration, which this
    /// leader or a later one leaves when it is committed. A replacement begins as a learner, as does what is to be
    /// promoted, and goes on when it has caught up.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]; nothing happened.
    pub fn change(
        &mut self,
        change: &Change<'_>,
        incarnation: Incarnation,
        now: Instant,
        log: &mut impl Log,
    ) -> Result<Index, Refusal> {
        self.advance(now);
        if self.state != NodeState::Leader {
            return Err(Refusal::NotLeader);
        }
        let verdict = self.judge(change, incarnation);
        if matches!(verdict, Ok(Verdict::Done)) {
            return Ok(self.configuration().0);
        }
        self.may_change()?;
        let Verdict::Steps(steps, described) = verdict? else {
            return Ok(self.configuration().0);
        };
        let mut next = self.next(&steps)?;
        if let Some((node, address, incarnation)) = described {
            next = next.described(node, &address, incarnation);
        }
        self.append_configuration(next, log)
    }

    /// What [`change`](Self::change) would say; nothing happens. Whether it is so already.
    ///
    /// # Errors
    ///
    /// A [`Refusal`].
    pub fn would_change(&self, change: &Change<'_>, incarnation: Incarnation) -> Result<bool, Refusal> {
        if self.state != NodeState::Leader {
            return Err(Refusal::NotLeader);
        }
        match self.judge(change, incarnation) {
            Ok(Verdict::Done) => Ok(true),
            verdict => {
                self.may_change()?;
                if let Verdict::Steps(steps, _) = verdict? {
                    self.next(&steps)?;
                }
                Ok(false)
            }
        }
    }

    /// Changes the members from any set to any other, however far they have caught up; what is there already is left as
    /// it is. For who knows what he does: a voter without the log adds to what a majority needs, and nothing to what it
    /// has.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]; nothing happened.
    pub fn reconfigure(&mut self, steps: &[Step], now: Instant, log: &mut impl Log) -> Result<Index, Refusal> {
        self.advance(now);
        self.may_change()?;
        let is_gone = |step: &Step| match *step {
            Step::Voter(node) | Step::Learner(node, _) => self.configuration().1.is_removed(node),
            Step::Remove(_) => false,
        };
        if steps.iter().any(is_gone) {
            return Err(Refusal::MemberConflict);
        }
        let next = self.next(steps)?;
        if next == *self.configuration().1 {
            return Ok(self.configuration().0);
        }
        self.append_configuration(next, log)
    }

    /// One change at a time, and none before this leader knows where the last one stands: what an earlier leader left
    /// is decided by an entry of its own (`single_server_change_bug`).
    fn may_change(&self) -> Result<(), Refusal> {
        if self.state != NodeState::Leader {
            return Err(Refusal::NotLeader);
        }
        if self.is_transferring() {
            return Err(Refusal::Transferring);
        }
        let (index, configuration) = self.configuration();
        let is_fresh = !self.has_committed_in_term() && !canary::is(Canary::ChangeBeforeNoop);
        let is_open = index > self.commit && !canary::is(Canary::ChangesOverlap);
        match is_fresh || is_open || configuration.is_joint() {
            true => Err(Refusal::ChangeUnderWay),
            false => Ok(()),
        }
    }

    /// What `change` comes to in the configuration in force.
    fn judge(&self, change: &Change<'_>, incarnation: Incarnation) -> Result<Verdict, Refusal> {
        let configuration = self.configuration().1;
        match *change {
            Change::Add { node, address, promote } => {
                let plan = if promote { Plan::Promote } else { Plan::Stay };
                self.judge_add(node, address, incarnation, plan)
            }
            Change::Promote { node } => {
                let member = staying(configuration, node)?;
                if member.seat.votes() {
                    return Ok(Verdict::Done);
                }
                match self.is_caught_up(node) {
                    true => Ok(Verdict::Steps(promotion(configuration, member), None)),
                    false => Err(Refusal::NotCaughtUp),
                }
            }
            Change::Remove { node } => match configuration.member(node).map(|member| member.seat) {
                Some(Seat::Leaving) => Ok(Verdict::Done),
                Some(_) => Ok(Verdict::Steps(vec![Step::Remove(node)], None)),
                None if configuration.is_removed(node) => Ok(Verdict::Done),
                None => Err(Refusal::UnknownMember),
            },
            Change::Replace { node, by, address } => self.judge_replace(node, by, address, incarnation),
            Change::Move { node, address } => {
                let member = staying(configuration, node)?;
                if member.address == address {
                    return Ok(Verdict::Done);
                }
                check_address(configuration, node, address)?;
                let described = (node, address.to_owned(), member.incarnation);
                Ok(Verdict::Steps(Vec::new(), Some(described)))
            }
        }
    }

    fn judge_add(&self, node: NodeId, address: &str, incarnation: Incarnation, plan: Plan) -> Result<Verdict, Refusal> {
        let configuration = self.configuration().1;
        if let Some(member) = configuration.member(node) {
            let is_same = member.incarnation == incarnation || member.incarnation.0 == 0 || incarnation.0 == 0;
            if member.address != address || !is_same {
                return Err(Refusal::MemberConflict);
            }
            return match member.seat {
                Seat::Leaving | Seat::Demoted => Err(Refusal::ChangeUnderWay),
                Seat::Learner(Plan::Stay) if plan != Plan::Stay => {
                    Ok(Verdict::Steps(vec![Step::Learner(node, plan)], None))
                }
                Seat::Learner(now) if now != plan && plan != Plan::Stay => Err(Refusal::MemberConflict),
                _ => Ok(Verdict::Done),
            };
        }
        if !node.is_some() || configuration.is_removed(node) {
            return Err(Refusal::MemberConflict);
        }
        check_address(configuration, node, address)?;
        if plan == Plan::Promote && configuration.voters().len() >= super::quorum::VOTERS_MAX {
            return Err(Refusal::Voters);
        }
        let described = (node, address.to_owned(), incarnation);
        Ok(Verdict::Steps(vec![Step::Learner(node, plan)], Some(described)))
    }

    fn judge_replace(
        &self,
        node: NodeId,
        by: NodeId,
        address: &str,
        incarnation: Incarnation,
    ) -> Result<Verdict, Refusal> {
        let configuration = self.configuration().1;
        let came = configuration.member(by).filter(|member| member.address == address);
        let is_going = match configuration.member(node) {
            Some(member) => member.seat == Seat::Leaving,
            None => configuration.is_removed(node),
        };
        if came.is_some() && is_going {
            return staying(configuration, by).map(|_| Verdict::Done);
        }
        let member = configuration.member(node).ok_or(Refusal::UnknownMember)?;
        if by == node || came.is_some_and(|member| member.seat.votes()) {
            return Err(Refusal::MemberConflict);
        }
        match member.seat {
            // A learner counts in no majority: nothing has to be waited for.
            Seat::Learner(plan) => match self.judge_add(by, address, incarnation, plan)? {
                Verdict::Steps(mut steps, described) => {
                    steps.push(Step::Remove(node));
                    Ok(Verdict::Steps(steps, described))
                }
                Verdict::Done => Ok(Verdict::Steps(vec![Step::Remove(node)], None)),
            },
            _ => self.judge_add(by, address, incarnation, Plan::Replace(node)),
        }
    }

    /// The configuration after these steps: at once if at most one voter changes, else the joint one on the way.
    fn next(&self, steps: &[Step]) -> Result<Configuration, Refusal> {
        let progress = self.tracked();
        let changer = Changer {
            configuration: self.configuration().1,
            progress: &progress,
            last: self.tail.terms.last(),
        };
        let changed = match changer.simple(steps) {
            Err(ChangeError::ManyVoters) => changer.enter_joint(steps),
            simple => simple,
        };
        match changed {
            Ok((configuration, _)) => Ok(configuration),
            Err(ChangeError::Joint | ChangeError::NotJoint) => Err(Refusal::ChangeUnderWay),
            Err(_) => Err(Refusal::Voters),
        }
    }

    fn tracked(&self) -> BTreeMap<NodeId, Tracked> {
        let configuration = self.configuration().1;
        let tracked = configuration.members().iter().map(|member| {
            let own = (self.tail.durable(), self.tail.terms.last().next());
            let (matched, next) = self
                .peer(member.node)
                .map_or(own, |peer| (self.progress[peer].matched, self.progress[peer].next));
            let is_learner = matches!(member.seat, Seat::Learner(_));
            (
                member.node,
                Tracked {
                    matched,
                    next,
                    is_learner,
                },
            )
        });
        tracked.collect()
    }

    /// A leader's log gets an entry that brings `configuration`, which is in force from here on.
    fn append_configuration(&mut self, configuration: Configuration, log: &mut impl Log) -> Result<Index, Refusal> {
        let configuration = self.memberships.with_lives(configuration);
        let payload = configuration.encode();
        let bytes = payload.len() as u64;
        if self.tail.room() < bytes.saturating_add(ROOM_MIN) {
            return Err(Refusal::NoSpace);
        }
        let index = self.tail.terms.last().next();
        let proposal = Proposal {
            kind: EntryKind::Membership,
            crc: crc32c::crc32c(&payload),
            payload,
        };
        log.propose(index, self.tail.hard.term, &mut iter::once(proposal));
        self.tail.push(index, self.tail.hard.term);
        self.tail.take_room(bytes);
        self.uncommitted_bytes = self.uncommitted_bytes.saturating_add(bytes);
        self.memberships.push(index, configuration);
        self.seat_members();
        // Reads may have waited for a voter that is none any more.
        self.confirm_reads();
        Ok(index)
    }

    /// More is committed, or more is known of a learner: what a leader has to do about the configuration.
    pub(super) fn pursue_membership(&mut self, log: &mut impl Log) {
        if self.state != NodeState::Leader || !self.has_committed_in_term() {
            return;
        }
        let (index, configuration) = self.configuration();
        if index > self.commit {
            return;
        }
        let is_none = !configuration.is_joint() && !configuration.votes(self.config.id);
        if is_none && !canary::is(Canary::RemovedLeads) {
            // Thesis §4.2.2: it led until this was committed, and no longer.
            self.give_way();
            return;
        }
        if !self.memberships.is_unfinished {
            return;
        }
        if let Some(next) = self.next_by_itself() {
            // Without room for the entry it is tried again at the next heartbeat.
            let _ = self.append_configuration(next, log);
        }
    }

    /// A follower gave a sign of life: does it keep up, and may it vote for that?
    pub(super) fn keep_up(&mut self, node: NodeId, log: &mut impl Log) {
        let last = self.tail.terms.last();
        let short = self.config.election_timeout.start;
        if let Some(peer) = self.peer(node) {
            let progress = &mut self.progress[peer];
            progress.catch_up.heard(self.now, progress.matched, last, short);
        }
        if self.memberships.is_unfinished {
            self.pursue_membership(log);
        }
    }

    /// The configuration that follows from the one in force without anybody asking for it.
    fn next_by_itself(&self) -> Option<Configuration> {
        let configuration = self.configuration().1;
        if configuration.is_joint() {
            let progress = self.tracked();
            let changer = Changer {
                configuration,
                progress: &progress,
                last: self.tail.terms.last(),
            };
            return changer.leave_joint().ok().map(|changed| changed.0);
        }
        let is_ready = |member: &&Member| {
            let is_planned = matches!(member.seat, Seat::Learner(Plan::Promote | Plan::Replace(_)));
            is_planned && self.is_caught_up(member.node)
        };
        let mut ready = configuration.members().iter().filter(is_ready);
        ready.find_map(|member| self.next(&promotion(configuration, member)).ok())
    }

    /// What a decision needs.
    pub(super) fn quorum(&self) -> Joint<'_> {
        self.configuration().1.quorum()
    }

    /// Whether this node decides alone.
    pub(super) fn is_sole(&self) -> bool {
        self.quorum().is_sole(self.config.id)
    }

    /// Whether this node may ask for votes. Thesis §4.2.2: also one that is no voter in the configuration in force, while
    /// that is not committed, for the others may lack its entry, and then nobody else can win.
    pub(super) fn may_campaign(&self) -> bool {
        self.memberships.votes(self.config.id, self.commit)
    }

    /// Whether this node was a member, and the configuration that says that it is none is committed.
    pub(super) fn is_removed(&self) -> bool {
        let configuration = match canary::is(Canary::GoesUncommitted) {
            true => self.configuration().1,
            false => self.committed_configuration().1,
        };
        configuration.is_removed(self.config.id)
    }

    /// The commit index grew: former members are told, and then no more.
    pub(super) fn seat_committed(&mut self) {
        if self.memberships.list().len() > 1 && self.committed_configuration().0 != self.memberships.seated {
            self.seat_members();
        }
    }

    /// Whoever is a member by a configuration that may be needed has a row of progress and a ballot, and nobody else,
    /// but that a leader tells those whose removal was committed of that, for a while.
    pub(super) fn seat_members(&mut self) {
        self.memberships.seated = self.committed_configuration().0;
        let mut wanted: Vec<_> = self
            .memberships
            .from(self.commit)
            .iter()
            .flat_map(|(_, configuration)| configuration.members())
            .map(|member| member.node)
            .filter(|node| *node != self.config.id)
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let parts_at = self.now + self.config.election_timeout.end;
        let leads = self.state == NodeState::Leader;
        for progress in &mut self.progress {
            match wanted.binary_search(&progress.id) {
                Ok(_) => progress.parts_at = None,
                Err(_) if leads => drop(progress.parts_at.get_or_insert(parts_at)),
                Err(_) => progress.parts_at = Some(self.now),
            }
        }
        self.part();
        for node in wanted {
            let Err(at) = self.progress.binary_search_by_key(&node, |progress| progress.id) else {
                continue;
            };
            let mut progress = Progress::new(node);
            let last = self.tail.terms.last();
            // It was asked nothing so far, and has confirmed nothing.
            progress.reset(last.next(), Round(0));
            progress.catch_up = CatchUp::new(self.now, last);
            self.progress.insert(at, progress);
            self.ballots.insert(at, Ballot::default());
        }
    }

    /// Former members that were told for long enough.
    pub(super) fn part(&mut self) {
        let mut at = 0;
        while at < self.progress.len() {
            if self.progress[at].parts_at.is_some_and(|parts_at| parts_at <= self.now) {
                self.progress.remove(at);
                self.ballots.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// The configurations among an append's entries, which a follower is about to take from `skip` on.
    pub(super) fn read_configurations(
        entries: &Entries<'_>,
        skip: usize,
    ) -> Result<Vec<(usize, Configuration)>, Violation> {
        let brought = entries.iter().enumerate().skip(skip);
        let brought = brought.filter(|(_, entry)| entry.kind == EntryKind::Membership);
        let read = brought.map(|(at, entry)| {
            let configuration = Configuration::decode(entry.payload).map_err(|_| Violation::Membership)?;
            Ok((at, configuration))
        });
        read.collect()
    }

    /// Entries were taken that bring these.
    pub(super) fn take_configurations(&mut self, configurations: Vec<(Index, Configuration)>) {
        if configurations.is_empty() {
            return;
        }
        for (index, configuration) in configurations {
            self.memberships.push(index, configuration);
        }
        self.seat_members();
    }

    /// The log is cut from `from` on: what was in force before what is cut is again.
    pub(super) fn withdraw_configurations(&mut self, from: Index) {
        if !canary::is(Canary::ConfigurationStays) && self.memberships.truncate(from) {
            // Another one may come to stand where this one did, before anybody is told that it is gone.
            self.memberships.told.0 = Index(u64::MAX);
            self.seat_members();
        }
    }
}

/// The steps that make a voter of a learner, in whose place another member may go.
fn promotion(configuration: &Configuration, member: &Member) -> Vec<Step> {
    let mut steps = vec![Step::Voter(member.node)];
    if let Seat::Learner(Plan::Replace(replaced)) = member.seat
        && configuration.member(replaced).is_some()
    {
        steps.push(Step::Remove(replaced));
    }
    steps
}

/// A member that will be what it is when a change that is under way is through: what is so of another one will not be.
fn staying(configuration: &Configuration, node: NodeId) -> Result<&Member, Refusal> {
    let member = configuration.member(node).ok_or(Refusal::UnknownMember)?;
    match member.seat {
        Seat::Leaving | Seat::Demoted => Err(Refusal::ChangeUnderWay),
        _ => Ok(member),
    }
}

/// Whether `node` can be reached there, as far as the configuration can tell.
fn check_address(configuration: &Configuration, node: NodeId, address: &str) -> Result<(), Refusal> {
    // Clients check it for people; this is for clients that do not. It is dialled for as long as the node is a member.
    if address.len() > ADDRESS_BYTES_MAX || HostPort::parse_dialled(address).is_err() {
        return Err(Refusal::Invalid);
    }
    let mut others = configuration.members().iter().filter(|member| member.node != node);
    match others.any(|member| member.address == address) {
        true => Err(Refusal::MemberConflict),
        false => Ok(()),
    }
}
