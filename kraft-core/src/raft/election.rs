//! Elections: deadlines, votes, pre-votes (thesis §9.6), stickiness (§4.2.3) and check-quorum (§6.2).

use super::{Outgoing, Output, ROOM_LOW, ROOM_MIN, Raft, Violation};
use crate::canary::{self, Canary};
use crate::id::{NodeId, RequestId, Term};
use crate::log::{Log, Proposal};
use crate::message::{Body, EntryKind, Header, NodeState, Refusal, Vote, VoteReply};
use crate::raft::catch_up::CatchUp;
use crate::raft::quorum::VoteResult;
use crate::storage::HardState;
use crate::time::Instant;

/// What a voter was asked, and said, in the candidacy under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ballot {
    /// The request went out.
    asked: bool,
    /// The answer.
    granted: Option<bool>,
}

/// A vote that was given in the current term, to be told when it is durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    to: NodeId,
    request: RequestId,
}

impl Raft {
    pub(super) fn reset_election_deadline(&mut self) {
        let range = &self.config.election_timeout;
        let spread = u64::try_from((range.end - range.start).as_nanos()).unwrap_or(u64::MAX);
        let jitter = Instant::from_nanos(self.rng.u64(0..spread)).saturating_since(Instant::ZERO);
        self.election_deadline = self.now + range.start + jitter;
    }

    /// A sign of life of the leader that is followed.
    pub(super) fn hear_leader(&mut self) {
        self.leader_heard = Some(self.now);
        self.yielded = false;
        self.reset_election_deadline();
    }

    /// The connection to `node` broke. If it led, a pre-vote after a short jitter finds out whether it still does:
    /// others that hear it refuse. Without pre-vote nothing would be asked, so the whole timeout is waited.
    pub(super) fn lose_leader(&mut self, node: NodeId) {
        if self.state != NodeState::Follower || self.leader != node || !self.config.pre_vote {
            return;
        }
        // Others have promised it their votes for as long, so that to ask now is to be refused.
        if self.config.lease_drift_max.is_some() {
            return;
        }
        self.leader_heard = None;
        let jitter_max = u64::try_from(self.config.election_timeout.start.as_nanos() / 10).unwrap_or(u64::MAX);
        let jitter = Instant::from_nanos(self.rng.u64(0..=jitter_max)).saturating_since(Instant::ZERO);
        self.election_deadline = self.election_deadline.min(self.now + jitter);
    }

    /// Whether a leader is in office as far as this node can tell, so that nobody else needs votes.
    fn clings_to_leader(&self) -> bool {
        let heard = match self.state {
            // Its lease: within this time no majority can have voted for another.
            NodeState::Leader => self.config.check_quorum.then(|| self.quorum_heard()),
            NodeState::Follower => self.leader_heard,
            NodeState::PreCandidate | NodeState::Candidate => None,
        };
        heard.is_some_and(|heard| self.now < heard + self.config.election_timeout.start)
    }

    /// The latest time by which a majority, the leader among it, was heard.
    pub(super) fn quorum_heard(&self) -> Instant {
        let never = self.elected_at;
        let heard = self.quorum().reached(|voter| match self.peer(voter) {
            Some(peer) => {
                // A voter that was added meanwhile has its time, too.
                let never = never.max(self.progress[peer].catch_up.since);
                self.progress[peer].heard.map_or(never, |heard| heard.max(never))
            }
            None => Instant::from_nanos(u64::MAX),
        });
        heard.unwrap_or(never)
    }

    /// When a leader that hears nobody gives up.
    fn quorum_deadline(&self) -> Option<Instant> {
        (self.config.check_quorum && !self.is_sole()).then(|| self.quorum_heard() + self.config.election_timeout.end)
    }

    pub(super) fn leader_deadline(&self) -> Instant {
        let deadlines = [
            self.quorum_deadline(),
            self.commit_deadline,
            self.tail.stalled_at(self.config.sync_stall_max),
            self.progress.iter().filter_map(|progress| progress.parts_at).min(),
        ];
        // A single voter has nobody to send heartbeats to, but a deadline that is far away does no harm.
        deadlines
            .into_iter()
            .flatten()
            .fold(self.heartbeat_deadline, Instant::min)
    }

    pub(super) fn tick_leader(&mut self, log: &mut impl Log) {
        let now = self.now;
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if due(self.quorum_deadline()) || due(self.tail.stalled_at(self.config.sync_stall_max)) {
            self.step_down();
            return;
        }
        self.part();
        if due(self.commit_deadline) {
            self.commit_deadline = None;
            for progress in &mut self.progress {
                progress.heartbeat_due |= progress.commit_sent < progress.matched.min(self.commit);
            }
        }
        if self.heartbeat_deadline <= self.now {
            self.heartbeat_deadline = self.now + self.config.heartbeat_interval;
            if self.config.lease_drift_max.is_some() {
                self.begin_round();
            }
            for progress in &mut self.progress {
                progress.heartbeat_due = true;
            }
            self.pursue_membership(log);
        }
    }

    /// A leader gives up its leadership within its term.
    pub(super) fn step_down(&mut self) {
        self.become_follower(self.tail.hard.term, NodeId::NONE);
    }

    /// The state in which every term begins, and a lost candidacy or leadership ends.
    pub(super) fn become_follower(&mut self, term: Term, leader: NodeId) {
        let is_later = term > self.tail.hard.term;
        if is_later {
            self.adopt(HardState {
                term,
                vote: NodeId::NONE,
            });
        }
        if self.state == NodeState::Leader {
            // Within the term nobody else can lead. In a later one it will be known who does.
            if !is_later {
                self.end_transfer(Err(Refusal::NotLeader));
            }
            self.reads.fail_all(self.tail.hard.term);
            self.commit_deadline = None;
            self.uncommitted_bytes = 0;
            self.reset_election_deadline();
            self.known.keep(self.led_as_of());
        }
        self.state = NodeState::Follower;
        self.leader = leader;
        self.leader_heard = None;
    }

    /// Enters a later term. What the former one left open ends here.
    fn adopt(&mut self, hard: HardState) {
        self.tail.hard = hard;
        self.grant = None;
        self.follow = super::Follow::default();
        self.reads.fail_all(hard.term);
    }

    /// The election deadline is reached.
    pub(super) fn campaign(&mut self, log: &mut impl Log) {
        self.reset_election_deadline();
        let stalled = self
            .tail
            .stalled_at(self.config.sync_stall_max)
            .is_some_and(|at| at <= self.now);
        let low = self.tail.room() < ROOM_LOW && !self.yielded && !self.is_sole();
        if stalled || low || self.tail.room() < ROOM_MIN || self.abstains() {
            // A node that could not lead, or must not, does not ask; one that could hardly lets others ask first.
            self.yielded = true;
            self.become_follower(self.tail.hard.term, NodeId::NONE);
        } else if self.config.pre_vote && !self.is_sole() {
            self.become_pre_candidate();
        } else {
            self.become_candidate(false, log);
        }
    }

    fn become_pre_candidate(&mut self) {
        self.become_follower(self.tail.hard.term, NodeId::NONE);
        if canary::is(Canary::PreVoteBumpsTerm) {
            self.become_follower(self.tail.hard.term.next(), NodeId::NONE);
        }
        self.state = NodeState::PreCandidate;
        self.own_vote = true;
        self.ballots.fill(Ballot::default());
        while let Some(voter) = self.next_voter() {
            let vote = self.vote(true, self.tail.hard.term.next());
            self.send_ready(voter, RequestId(0), vote);
        }
    }

    /// A voter that was not asked yet, and is now.
    fn next_voter(&mut self) -> Option<NodeId> {
        let configuration = self.configuration().1;
        let is_next = |at: &usize| !self.ballots[*at].asked && configuration.votes(self.progress[*at].id);
        let at = (0..self.progress.len()).find(is_next)?;
        self.ballots[at].asked = true;
        Some(self.progress[at].id)
    }

    /// `by_transfer` if the leader asked for it.
    pub(super) fn become_candidate(&mut self, by_transfer: bool, log: &mut impl Log) {
        if self.abstains() {
            return;
        }
        self.become_follower(self.tail.hard.term, NodeId::NONE);
        self.adopt(HardState {
            term: self.tail.hard.term.next(),
            vote: self.config.id,
        });
        self.state = NodeState::Candidate;
        self.by_transfer = by_transfer;
        self.own_vote = false;
        self.ballots.fill(Ballot::default());
        self.reset_election_deadline();
        self.count_own_vote(log);
    }

    fn vote(&self, pre: bool, term: Term) -> Body<'static> {
        Body::Vote(Vote {
            pre,
            by_transfer: self.by_transfer && !pre,
            term,
            last_index: self.tail.terms.last(),
            last_term: self.tail.terms.last_term(),
        })
    }

    /// Whether a candidacy stands on the disk: term, vote, and the log that it claims.
    fn candidacy_is_durable(&self) -> bool {
        self.tail.vote_is_durable() && self.tail.durable() >= self.tail.terms.last()
    }

    pub(super) fn count_own_vote(&mut self, log: &mut impl Log) {
        if self.candidacy_is_durable() {
            self.own_vote = true;
            self.count_votes(log);
        }
    }

    pub(super) fn poll_vote_request(&mut self) -> Option<Output> {
        if !self.candidacy_is_durable() {
            return None;
        }
        let voter = self.next_voter()?;
        let vote = self.vote(false, self.tail.hard.term);
        Some(self.send(voter, RequestId(0), Outgoing::Other(vote)))
    }

    pub(super) fn poll_grant(&mut self) -> Option<Output> {
        if !self.tail.vote_is_durable() && !canary::is(Canary::VoteBeforeSync) {
            return None;
        }
        let Grant { to, request } = self.grant.take()?;
        let reply = VoteReply {
            pre: false,
            granted: true,
            term: self.tail.hard.term,
        };
        Some(self.send(to, request, Outgoing::Other(Body::VoteReply(reply))))
    }

    pub(super) fn step_vote(&mut self, header: &Header, vote: &Vote) -> Result<(), Violation> {
        self.check_term(vote.term)?;
        let asked_in = if vote.pre {
            vote.term.0.checked_sub(1)
        } else {
            Some(vote.term.0)
        };
        if asked_in != Some(header.term.0) || vote.last_term > header.term {
            return Err(Violation::TermOrder);
        }
        let from = header.from;
        let clings = self.clings_to_leader() && !vote.by_transfer;
        let is_promised = self.has_promised() && !vote.by_transfer;
        // A leader that hears nobody but is heard would otherwise hold its followers for ever, so that stickiness of
        // votes goes with check-quorum.
        if !vote.pre && vote.term > self.tail.hard.term {
            if clings && self.config.check_quorum || is_promised {
                return Ok(());
            }
            self.become_follower(vote.term, NodeId::NONE);
        }
        let HardState { term, vote: given } = self.tail.hard;
        let last = (self.tail.terms.last_term(), self.tail.terms.last());
        let up_to_date = (vote.last_term, vote.last_index) >= last || canary::is(Canary::VoteForShorterLog);
        let is_free = given == from || (!given.is_some() && !self.leader.is_some()) || canary::is(Canary::SecondVote);
        let eligible = vote.term == term && is_free || vote.pre && vote.term > term;
        let granted = eligible && up_to_date && !(vote.pre && clings) && !is_promised && !self.abstains();
        if granted && !vote.pre {
            // Who votes for another stops asking for itself. A repeated request changes nothing.
            if self.state != NodeState::Follower {
                self.become_follower(term, NodeId::NONE);
            }
            self.tail.hard.vote = from;
            self.grant = Some(Grant {
                to: from,
                request: header.request,
            });
            self.reset_election_deadline();
        } else {
            let reply = VoteReply {
                pre: vote.pre,
                granted,
                term: vote.term,
            };
            self.send_ready(from, header.request, Body::VoteReply(reply));
        }
        Ok(())
    }

    pub(super) fn step_vote_reply(&mut self, peer: usize, header: &Header, reply: &VoteReply, log: &mut impl Log) {
        let term = self.tail.hard.term;
        // A granted pre-vote comes from any term up to the one that was asked for; a refusal that comes from a later
        // term says why (`prevote_checkquorum_deadlock`).
        if header.term > term && !(reply.pre && reply.granted) {
            self.become_follower(header.term, NodeId::NONE);
            return;
        }
        let (state, asked) = match reply.pre {
            true => (NodeState::PreCandidate, term.next()),
            false => (NodeState::Candidate, term),
        };
        let is_of_now = reply.term == asked || canary::is(Canary::StaleVoteCounted);
        if self.state == state && is_of_now && self.ballots[peer].asked {
            // A voter that repeats itself is counted once; one that refuses after it granted cannot take it back.
            self.ballots[peer].granted.get_or_insert(reply.granted);
            self.count_votes(log);
        }
    }

    fn count_votes(&mut self, log: &mut impl Log) {
        let result = self.quorum().vote_result(|voter| match self.peer(voter) {
            Some(peer) => self.ballots[peer].granted,
            None => self.own_vote.then_some(true),
        });
        match (result, self.state) {
            (VoteResult::Won, NodeState::PreCandidate) => self.become_candidate(false, log),
            (VoteResult::Won, NodeState::Candidate) => self.become_leader(log),
            (VoteResult::Lost, _) => self.become_follower(self.tail.hard.term, NodeId::NONE),
            _ => {}
        }
    }

    fn become_leader(&mut self, log: &mut impl Log) {
        assert_eq!(self.state, NodeState::Candidate, "only a candidate is elected");
        assert_eq!(self.tail.hard.vote, self.config.id, "a leader voted for itself");
        self.state = NodeState::Leader;
        self.leader = self.config.id;
        self.yielded = false;
        self.elected_at = self.now;
        self.lease.begin_office();
        self.elected_low = self.tail.room() < ROOM_LOW;
        self.heartbeat_deadline = self.now + self.config.heartbeat_interval;
        self.uncommitted_bytes = 0;
        if canary::is(Canary::LeaderTruncates) {
            self.truncate(self.commit.next(), log);
        }
        // Thesis §6.4: what earlier terms left is committed by an entry of the own.
        let noop = Proposal {
            kind: EntryKind::Noop,
            crc: 0,
            payload: bytes::Bytes::new(),
        };
        let last = self.tail.terms.last();
        self.term_start = last.next();
        self.seat_members();
        for progress in &mut self.progress {
            progress.reset(last.next(), self.round);
            progress.catch_up = CatchUp::new(self.now, last);
        }
        log.propose(self.term_start, self.tail.hard.term, &mut std::iter::once(noop));
        self.tail.push(self.term_start, self.tail.hard.term);
    }
}
