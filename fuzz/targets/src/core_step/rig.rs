//! The node, what it is made to do, and what is held against it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use kraft_core::id::{Incarnation, Index, NodeId, RequestId, Round, Term};
use kraft_core::log::{Log, Proposal, Tail};
use kraft_core::membership::Configuration;
use kraft_core::message::{
    AppendReply, AppendResult, Body, Change, Entry, EntryKind, Header, HeartbeatReply, Message, NodeState,
    ReadIndexReply, Refusal, SnapshotId, VoteReply,
};
use kraft_core::raft::quorum::VoteResult;
use kraft_core::raft::{Config, Outgoing, Output, Raft, Status};
use kraft_core::snapshot::{Head, Snapshot};
use kraft_core::time::Instant;

use super::disk::Disk;

/// Outputs to one input. A node that hands out more never ends.
const OUTPUTS_MAX: usize = 20_000;

/// Messages to peers that wait to be answered.
const SENT_MAX: usize = 64;

/// What a peer was sent, as far as an honest answer needs it.
#[derive(Clone, Copy, Debug)]
struct Asked {
    from: NodeId,
    term: Term,
    request: RequestId,
    what: Question,
}

#[derive(Clone, Copy, Debug)]
enum Question {
    Append { end: Index, round: Round },
    Heartbeat { round: Round },
    Vote { pre: bool, term: Term },
    ReadIndex,
}

/// What waits to be applied, or to be restored.
#[derive(Clone, Debug)]
enum Owed {
    Apply(Range<Index>),
    Restore(SnapshotId),
}

pub(super) struct Rig {
    config: Config,
    pub(super) raft: Raft,
    pub(super) disk: Disk,
    log: Tail,
    tail_bytes_max: u64,
    now: Instant,
    sent: VecDeque<Asked>,
    load: Option<Range<Index>>,
    owed: VecDeque<Owed>,
    /// Handed out to be applied, or to be restored, up to here.
    handed: Index,
    reads: BTreeSet<RequestId>,
    reads_count: u64,
    /// What is committed, as a term and a sum; what of it is known.
    committed: BTreeMap<Index, (Term, u32)>,
    /// Who granted a vote, by term.
    granted: BTreeMap<Term, BTreeSet<NodeId>>,
    /// How far a member said that it has this leader's log, in its term.
    matched: (Term, BTreeMap<NodeId, Index>),
    /// Configurations that were in force during the input.
    in_force: Vec<Configuration>,
    status: Status,
}

impl Rig {
    pub(super) fn start(config: Config, disk: Disk, tail_bytes_max: u64) -> Self {
        let recovered = disk.recovered();
        let raft = Raft::new(config.clone(), &recovered, Instant::ZERO).expect("what is recovered is a log");
        let status = raft.status();
        let mut rig = Self {
            log: Tail::new(recovered.last, tail_bytes_max),
            handed: status.applied,
            in_force: vec![raft.configuration().1.clone()],
            status,
            config,
            raft,
            disk,
            tail_bytes_max,
            now: Instant::ZERO,
            sent: VecDeque::new(),
            load: None,
            owed: VecDeque::new(),
            reads: BTreeSet::new(),
            reads_count: 0,
            committed: BTreeMap::new(),
            granted: BTreeMap::new(),
            matched: (Term(0), BTreeMap::new()),
        };
        rig.drain();
        rig
    }

    /// An input to the node, and what comes of it.
    pub(super) fn with(&mut self, act: impl FnOnce(&mut Raft, &mut Tail, Instant)) {
        act(&mut self.raft, &mut self.log, self.now);
        self.drain();
    }

    pub(super) fn step(&mut self, message: &Message<'_>) {
        let Header { from, term, .. } = message.header;
        let before = self.raft.status();
        if let Err(violation) = self.raft.step(message, self.now, &mut self.log) {
            assert_eq!(
                self.raft.status(),
                before,
                "{violation:?}: nothing of the message is taken"
            );
            return self.drain();
        }
        match &message.body {
            Body::VoteReply(reply) if reply.granted && !reply.pre => {
                self.granted.entry(reply.term).or_default().insert(from);
            }
            Body::AppendReply(AppendReply {
                result: AppendResult::Matched(index),
                ..
            }) if term == self.raft.status().hard.term => {
                if self.matched.0 != term {
                    self.matched = (term, BTreeMap::new());
                }
                let matched = self.matched.1.entry(from).or_default();
                *matched = (*matched).max(*index);
            }
            _ => {}
        }
        let wanted = match &message.body {
            Body::Snapshot(chunk) if self.raft.takes_snapshot(&message.header, &chunk.id) => Some(chunk.id),
            _ => None,
        };
        self.drain();
        if let Some(id) = wanted {
            self.install(id);
        }
    }

    /// All of a snapshot came, of somebody who may lie about what is in it, and not about how it is made.
    fn install(&mut self, id: SnapshotId) {
        if self
            .disk
            .snapshots
            .last_key_value()
            .is_some_and(|(index, _)| *index >= id.index)
        {
            return;
        }
        let head = Head {
            index: id.index,
            term: id.term,
            membership_index: Index::ZERO,
            membership: Bytes::new(),
        };
        let snapshot = Snapshot { id, head };
        let former = self.disk.snapshots.clone();
        self.disk.store(snapshot.clone());
        let commit = self.raft.status().commit;
        self.raft.install(&snapshot, self.now, &mut self.log);
        if self.raft.snapshot() < id.index {
            // It is no part of this log, and not kept.
            self.disk.snapshots = former;
        } else {
            assert!(self.raft.status().commit >= commit);
        }
        self.drain();
    }

    /// One of those that were asked answers, by the book; or gives no vote.
    pub(super) fn answer(&mut self, at: usize, refuses: bool) {
        let Some(asked) = at.checked_rem(self.sent.len()).and_then(|at| self.sent.remove(at)) else {
            return;
        };
        let body = match asked.what {
            Question::Append { end, round } => Body::AppendReply(AppendReply {
                round,
                result: AppendResult::Matched(end),
            }),
            Question::Heartbeat { round } => Body::HeartbeatReply(HeartbeatReply {
                round,
                promise_us: 150_000,
            }),
            Question::Vote { pre, term } => Body::VoteReply(VoteReply {
                pre,
                granted: !refuses,
                term,
            }),
            Question::ReadIndex => Body::ReadIndexReply(ReadIndexReply::At(self.status.commit)),
        };
        let term = match asked.what {
            Question::Vote { pre: true, .. } => self.status.hard.term,
            _ => asked.term,
        };
        let header = Header {
            from: asked.from,
            term,
            request: asked.request,
            ..Header::default()
        };
        self.step(&Message { header, body });
    }

    pub(super) fn pass(&mut self, span: Duration) {
        self.now += span;
        self.raft.tick(self.now, &mut self.log);
        self.drain();
        let next = self.raft.deadline();
        assert!(
            next.is_none_or(|next| next > self.now),
            "at {:?} it is asked again for {next:?}, without end: {:?}",
            self.now,
            self.status
        );
    }

    /// A sync is complete.
    pub(super) fn sync(&mut self, is_last: bool) {
        if let Some(sync) = self.disk.complete(is_last) {
            self.raft.synced(sync, self.now, &mut self.log);
            self.drain();
        }
    }

    pub(super) fn propose(&mut self, count: usize, bytes: usize) {
        let proposal = |_| Proposal {
            kind: EntryKind::Command,
            crc: 1,
            payload: Bytes::from(vec![7; bytes]),
        };
        let mut proposals = (0..count).map(proposal).collect::<Vec<_>>().into_iter();
        let before = self.raft.status();
        let all = (count * bytes) as u64;
        match self.raft.propose(&mut proposals, all, self.now, &mut self.log) {
            Ok(range) => {
                assert_eq!(range.start, before.last.next());
                assert_eq!(range.end, self.raft.status().last.next(), "all of them");
                assert_eq!(before.state, NodeState::Leader);
            }
            Err(why) => {
                assert_eq!(self.raft.status().last, before.last, "{why:?}: none of them");
                assert!(before.state == NodeState::Leader || why == Refusal::NotLeader);
            }
        }
        self.drain();
    }

    pub(super) fn read(&mut self) {
        self.reads_count += 1;
        let request = RequestId(self.reads_count);
        if self.raft.read(request, self.now).is_ok() {
            self.reads.insert(request);
        }
        self.drain();
    }

    pub(super) fn change(&mut self, change: &Change<'_>, incarnation: Incarnation) {
        let (before, in_force) = (self.raft.status(), self.raft.configuration().0);
        let would = self.raft.would_change(change, incarnation);
        let changed = self.raft.change(change, incarnation, self.now, &mut self.log);
        let (after, place) = (self.raft.status(), self.raft.configuration().0);
        match (would, changed) {
            (Ok(true), Ok(index)) => {
                assert_eq!((index, place), (in_force, in_force), "{change:?} is so already");
                assert_eq!(after, before, "{change:?} is so already: nothing happened");
            }
            (Ok(false), Ok(index)) => {
                assert_eq!((index, place), (after.last, after.last), "{change:?} is in force");
                assert_eq!(after.last, before.last.next(), "{change:?} takes one entry");
                let again = self.raft.would_change(change, incarnation);
                assert_eq!(again, Ok(true), "{change:?}: who asks again is told that it is so");
            }
            // There may be no room for an entry, for which a leader steps down.
            (Ok(false), Err(Refusal::NoSpace | Refusal::Overloaded)) => assert_eq!(after.last, before.last),
            (Err(why), Err(refused)) => {
                assert_eq!(why, refused, "{change:?}");
                assert_eq!(after, before, "{why:?}: nothing happened");
            }
            (would, changed) => panic!("{change:?}: {would:?}, and then {changed:?}"),
        }
        self.drain();
    }

    pub(super) fn transfer(&mut self, to: NodeId) {
        let before = self.raft.status();
        if let Err(why) = self.raft.transfer(to, self.now) {
            assert_eq!(self.raft.status(), before, "{why:?}: nothing happened");
        }
        self.drain();
    }

    /// The state machine's state is written down.
    pub(super) fn take_snapshot(&mut self) {
        let index = self.raft.status().applied;
        let Some(term) = self.raft.term_at(index).filter(|term| term.0 > 0) else {
            return;
        };
        let (at, configuration) = self.raft.configuration_at(index);
        let head = Head {
            index,
            term,
            membership_index: at,
            membership: match at {
                Index::ZERO => Bytes::new(),
                _ => configuration.encode(),
            },
        };
        let id = SnapshotId {
            index,
            term,
            bytes: 100,
            crc: 9,
        };
        if self.owed.iter().any(|change| matches!(change, Owed::Restore(_))) {
            return;
        }
        self.disk.store(Snapshot { id, head });
        self.raft.snapshot_taken(index, self.now);
        self.drain();
    }

    /// Everything that others owe the node is done, as long as there is any.
    pub(super) fn settle(&mut self) {
        for _ in 0..100 {
            let work = (self.owed.front().cloned(), self.load.take());
            match work {
                (None, None) => return,
                (change, load) => {
                    if let Some(change) = change {
                        self.owed.pop_front();
                        let through = match change {
                            Owed::Apply(range) => range.end.prev(),
                            Owed::Restore(id) => id.index,
                        };
                        self.raft.applied(through, &mut self.log);
                    }
                    if let Some(range) = load {
                        self.loaded(range);
                    }
                }
            }
            self.drain();
        }
    }

    /// What of a range is there still is read.
    fn loaded(&mut self, range: Range<Index>) {
        let there = range.start.0..range.end.0;
        let entries: Vec<_> = there
            .map_while(|index| self.disk.written.entry(Index(index)).cloned())
            .take(3)
            .collect();
        if !entries.is_empty() {
            self.log.restore(range.start, entries);
        }
        self.raft.loaded(range, &mut self.log);
    }

    /// The process ends, and another one begins with what the disk has.
    pub(super) fn restart(&mut self, loses: bool, seed: u8) {
        self.disk.crash(loses);
        let recovered = self.disk.recovered();
        self.config.seed = u64::from(seed);
        self.config.recovering &= self.raft.is_recovering();
        let mut raft = Raft::new(self.config.clone(), &recovered, self.now).expect("what is recovered is a log");
        std::mem::swap(&mut self.raft, &mut raft);
        self.log = Tail::new(recovered.last, self.tail_bytes_max);
        self.sent.clear();
        self.load = None;
        self.owed.clear();
        self.reads.clear();
        // Peers that lie may have had entries committed that a majority does not have.
        self.committed.clear();
        self.status = self.raft.status();
        assert_eq!(
            self.status.hard, recovered.hard,
            "a start changes neither term nor vote"
        );
        self.handed = self.status.applied;
        self.in_force = vec![self.raft.configuration().1.clone()];
        self.drain();
    }

    fn drain(&mut self) {
        if self.config.lease_drift_max.is_some() {
            self.raft.clock(self.now);
        }
        for outputs in 0.. {
            let Some(output) = self.raft.poll_output(&self.log) else {
                break;
            };
            assert!(outputs < OUTPUTS_MAX, "it never ends: {output:?}");
            self.perform(output);
        }
        self.judge();
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Save(hard) => self.disk.save(hard),
            Output::Append(range) => {
                let entries: Vec<_> = self
                    .log
                    .entries(range.clone())
                    .iter()
                    .map(|entry| owned(&entry))
                    .collect();
                assert_eq!(
                    entries.len() as u64,
                    range.end.0 - range.start.0,
                    "what is written is in memory"
                );
                self.disk.append(range.start, entries);
            }
            Output::Truncate(from) => {
                // What was committed before; with the entries that take their place more may be.
                assert!(from > self.status.commit, "what is committed is removed");
                assert!(from >= self.handed.next(), "what was applied is removed");
                self.disk.truncate(from);
            }
            Output::Reset { index, term } => self.disk.reset(index, term),
            Output::Sync(sync) => self.disk.ask(sync),
            Output::Send {
                to,
                request,
                term,
                message,
            } => self.send(to, request, term, &message),
            Output::Load(range) => {
                assert!(self.load.is_none(), "one load at a time");
                assert!(range.start < range.end && range.end <= self.disk.written.last().next());
                self.load = Some(range);
            }
            Output::Release(through) => {
                let base = self.disk.release(through);
                self.raft.released(base);
            }
            Output::SendSnapshot { to, index } => {
                assert_ne!(to, self.config.id);
                let newest = self.disk.snapshots.last_key_value();
                assert!(
                    newest.is_some_and(|(newest, _)| *newest >= index),
                    "there is none to send"
                );
            }
            Output::Restore(id) => {
                assert!(id.index > self.handed, "a state that was there already");
                self.handed = id.index;
                self.owed.push_back(Owed::Restore(id));
            }
            Output::Apply(range) => {
                assert_eq!(range.start, self.handed.next(), "applied in order, and once");
                assert!(range.start < range.end && range.end.prev() <= self.raft.status().commit);
                let count = self.log.entries(range.clone()).len() as u64;
                assert_eq!(count, range.end.0 - range.start.0, "what is applied is in memory");
                self.handed = range.end.prev();
                self.owed.push_back(Owed::Apply(range));
            }
            Output::ReadAt { request, .. } => {
                assert!(
                    self.reads.remove(&request),
                    "{request:?} was not asked, or ended already"
                );
            }
            Output::Recovered => {
                self.raft.recovered();
                self.config.recovering = false;
            }
            Output::Role { state, term, leader } => self.role(state, term, leader),
            Output::Members { in_force, committed } => {
                assert!(committed <= in_force && committed <= self.raft.status().commit);
                self.in_force.push(self.raft.configuration().1.clone());
            }
            Output::Transferred { .. } => {}
        }
    }

    fn role(&self, state: NodeState, term: Term, leader: NodeId) {
        let status = self.raft.status();
        assert_eq!((state, term, leader), (status.state, status.hard.term, status.leader));
        if state != NodeState::Leader {
            return;
        }
        assert_eq!(leader, self.config.id);
        let nobody = BTreeSet::new();
        let granted = self.granted.get(&term).unwrap_or(&nobody);
        let own = self.disk.durable.hard;
        let vote = |node| match node == self.config.id {
            true => (own.term == term && own.vote == node).then_some(true),
            false => granted.contains(&node).then_some(true),
        };
        let mut quorums = self.in_force.iter().map(|configuration| configuration.quorum());
        assert!(
            quorums.any(|quorum| quorum.vote_result(vote) == VoteResult::Won),
            "it leads term {term} by the votes of {granted:?}, its own being {own:?}"
        );
    }

    /// What leaves rests on what is durable (law R10), and says what is so.
    fn send(&mut self, to: NodeId, request: RequestId, term: Term, message: &Outgoing) {
        assert!(to.is_some() && to != self.config.id, "to {to}: {message:?}");
        let status = self.raft.status();
        assert!(term <= status.hard.term);
        let durable = &self.disk.durable;
        let own = self.config.id;
        let what = match message.body(&self.log) {
            Body::Append(append) => {
                assert_eq!(status.state, NodeState::Leader);
                assert!(append.commit <= status.commit);
                assert_eq!(self.raft.term_at(append.prev_index), Some(append.prev_term));
                let count = append.entries.len();
                assert!(count <= self.config.append_entries_max);
                let bytes: usize = append.entries.iter().map(|entry| entry.payload.len()).sum();
                assert!(bytes <= self.config.append_bytes_max || count == 1);
                for (at, entry) in append.entries.iter().enumerate() {
                    let index = Index(append.prev_index.0 + 1 + at as u64);
                    assert_eq!(self.raft.term_at(index), Some(entry.term));
                }
                Some(Question::Append {
                    end: Index(append.prev_index.0 + count as u64),
                    round: append.round,
                })
            }
            Body::Heartbeat(heartbeat) => {
                assert_eq!(status.state, NodeState::Leader);
                assert!(heartbeat.commit <= status.commit);
                Some(Question::Heartbeat { round: heartbeat.round })
            }
            Body::Vote(vote) => {
                if !vote.pre {
                    assert_eq!(
                        (durable.hard.term, durable.hard.vote),
                        (vote.term, own),
                        "a vote that is not on disk"
                    );
                    assert!(durable.last() >= vote.last_index, "it claims what is not on disk");
                }
                Some(Question::Vote {
                    pre: vote.pre,
                    term: vote.term,
                })
            }
            Body::VoteReply(reply) if reply.granted && !reply.pre => {
                assert_eq!(
                    (durable.hard.term, durable.hard.vote),
                    (reply.term, to),
                    "a vote that is not on disk"
                );
                None
            }
            Body::AppendReply(AppendReply {
                result: AppendResult::Matched(index),
                ..
            }) => {
                assert!(
                    durable.hard.term >= term,
                    "an acknowledgement in a term that is not on disk"
                );
                let held = self
                    .disk
                    .snapshots
                    .last_key_value()
                    .map_or(Index::ZERO, |(index, _)| *index);
                assert!(
                    index <= durable.last().max(held),
                    "{index} is acknowledged and not on disk"
                );
                assert!(
                    index <= durable.base.0 || durable.term(index) == self.raft.term_at(index) || index <= held,
                    "what is acknowledged is not what is on disk"
                );
                None
            }
            Body::ReadIndex => Some(Question::ReadIndex),
            _ => None,
        };
        if let Some(what) = what {
            if self.sent.len() == SENT_MAX {
                self.sent.pop_front();
            }
            self.sent.push_back(Asked {
                from: to,
                term,
                request,
                what,
            });
        }
    }

    /// What holds between two inputs.
    fn judge(&mut self) {
        let (before, after) = (self.status.clone(), self.raft.status());
        let (old, new) = (before.hard, after.hard);
        assert!(new.term >= old.term, "the term goes back");
        assert!(
            new.term > old.term || !old.vote.is_some() || new.vote == old.vote,
            "a second vote: {old:?}, {new:?}"
        );
        assert!(after.commit >= before.commit, "commit goes back: {before:?}, {after:?}");
        assert!(after.applied >= before.applied, "applied goes back");
        assert!(after.commit <= after.last, "commit is beyond the log: {after:?}");
        assert!(
            after.applied <= after.commit && after.durable <= after.last,
            "{after:?}"
        );
        assert_eq!(
            after.last,
            self.disk.written.last(),
            "what is in the log was handed to the disk"
        );
        assert_eq!(after.hard, self.disk.written.hard, "and so were term and vote");
        if before.state == NodeState::Leader && after.state == NodeState::Leader && new.term == old.term {
            assert!(after.last >= before.last, "leaders only append");
            self.judge_commit(&before, &after);
        }
        // A snapshot may stand for any number of them.
        for index in before.commit.max(self.disk.written.base.0).0 + 1..=after.commit.0 {
            if let Some(entry) = self.disk.written.entry(Index(index)) {
                self.committed.insert(Index(index), (entry.term, entry.crc));
            }
        }
        // Here there are few entries; a run of many inputs looks at each of them again and again.
        for (index, known) in &self.committed {
            if let Some(entry) = self.disk.written.entry(*index).filter(|_| *index <= after.commit) {
                assert_eq!(
                    *known,
                    (entry.term, entry.crc),
                    "entry {index} is committed and became another one"
                );
            }
        }
        self.in_force = vec![self.raft.configuration().1.clone()];
        self.status = after;
    }

    /// A leader commits what a majority has on disk, and entries of its own term alone.
    fn judge_commit(&self, before: &Status, after: &Status) {
        if after.commit == before.commit {
            return;
        }
        assert_eq!(self.raft.term_at(after.commit), Some(after.hard.term), "thesis §3.6.2");
        let nobody = BTreeMap::new();
        let matched = if self.matched.0 == after.hard.term {
            &self.matched.1
        } else {
            &nobody
        };
        let has = |node| match node == self.config.id {
            true => self.disk.durable.last(),
            false => matched.get(&node).copied().unwrap_or_default(),
        };
        let mut quorums = self.in_force.iter().map(|configuration| configuration.quorum());
        assert!(
            quorums.any(|quorum| quorum.committed_index(has) >= after.commit),
            "{} is committed, and members have {matched:?}, itself {}",
            after.commit,
            self.disk.durable.last()
        );
    }
}

fn owned(entry: &kraft_core::message::EntryRef<'_>) -> Entry {
    Entry {
        term: entry.term,
        kind: entry.kind,
        crc: entry.crc,
        payload: Bytes::copy_from_slice(entry.payload),
    }
}
