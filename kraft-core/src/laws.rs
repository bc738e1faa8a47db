//! Laws R1-R11 as predicates over a cluster, for tests that see all of its nodes.
//!
//! A simulation makes a [`Laws`] for each cluster, calls [`Laws::check`] with a [`View`] of every node after every
//! step, and tells it of messages, reads and client replies where they happen. The first contradiction is
//! [`Broken`]. The cost of a step is that of what changed in it.
//!
//! A snapshot stands for the front of a log. It is judged by the place behind which the log begins: what was committed
//! there is known, and so, by R3 and R5, all that is before it.
//!
//! A disk that rotted has lost what others count on. Until its node votes again it is as if it had that still, while one
//! other disk does.
//!
//! | law | says | checked by |
//! |---|---|---|
//! | R1 | one leader a term | [`check`](Laws::check) |
//! | R2 | leaders only append | `check` |
//! | R3 | log matching | `check` |
//! | R4 | leader completeness | `check` |
//! | R5 | state-machine safety | `check` |
//! | R6 | nothing acknowledged is lost while the disks of a majority, in a joint configuration of both, survive | `check`, [`acknowledged`](Laws::acknowledged) |
//! | R7 | reads are linearizable | [`read_began`](Laws::read_began), [`read_answered`](Laws::read_answered) |
//! | R8 | a retried command applies once | [`took_effect`](Laws::took_effect) |
//! | R9 | healed, the cluster commits within a bound | [`healed`](Laws::healed), [`time`](Laws::time) |
//! | R10 | nothing leaves before what it rests on is durable | [`sent`](Laws::sent) |
//! | R11 | terms, votes, commit and applied never go back | `check` |

mod seen;
mod survival;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use self::seen::SeenLog;
use crate::id::{Index, NodeId, Sequence, SessionId, Term};
use crate::membership::Configuration;
use crate::message::{AppendResult, Body, NodeState};
use crate::raft::Status;
use crate::storage::HardState;
use crate::time::Instant;

/// What an entry is to an observer: equal marks are equal entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The entry's term.
    pub term: Term,
    /// A hash of its kind and payload.
    pub digest: u64,
}

/// A node as an observer sees it.
pub trait View {
    /// What it says of itself; of a node that is down, what it said last.
    fn status(&self) -> Status;

    /// How often it was started.
    fn run(&self) -> u64;

    /// Whether it runs.
    fn is_up(&self) -> bool;

    /// The entry at `index` in its log, durable or not; `None` outside the log.
    fn entry(&self, index: Index) -> Option<Mark>;

    /// Whether it lost its log and has not made up for that: it does not vote.
    fn is_recovering(&self) -> bool {
        false
    }

    /// Term and vote that a restart would find.
    fn disk(&self) -> HardState;

    /// The entry at `index` in the log that a restart would find.
    fn disk_entry(&self, index: Index) -> Option<Mark>;

    /// The configurations that it may need, ascending, with their places in the log; the last is in force. Without any, a
    /// majority is one of the voters that [`Laws::new`] was told.
    fn configurations(&self) -> &[(Index, Configuration)] {
        &[]
    }

    /// The place before the first entry of its log, and the term there.
    fn base(&self) -> (Index, Term) {
        (Index::ZERO, Term(0))
    }

    /// The place before the first entry of the log that a restart would find.
    fn disk_base(&self) -> Index {
        Index::ZERO
    }

    /// The last entry that the newest snapshot holds which a restart would find, and its term; zero if there is none.
    fn disk_snapshot(&self) -> (Index, Term) {
        (Index::ZERO, Term(0))
    }
}

/// A law that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its number: 1 is R1.
    pub law: u8,
    /// What contradicts it.
    pub detail: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R{}: {}", self.law, self.detail)
    }
}

impl std::error::Error for Broken {}

/// What was seen of a cluster so far.
#[derive(Debug)]
pub struct Laws {
    voters: usize,
    /// By which of them the newest committed entry was committed.
    quorums: Vec<Configuration>,
    leaders: BTreeMap<Term, NodeId>,
    /// Entries by place and term: their digest and the term before. If each has one of each, logs match.
    entries: BTreeMap<(Index, Term), (u64, Term)>,
    /// From index 1: what was committed, and in which term that was seen.
    committed: Vec<(Mark, Term)>,
    nodes: BTreeMap<NodeId, Seen>,
    effects: BTreeSet<(NodeId, u64, SessionId, Sequence)>,
    /// By when there must be more than so much committed.
    recovery: Option<(Instant, usize)>,
}

/// What was seen of a node so far.
#[derive(Debug)]
struct Seen {
    run: u64,
    status: Status,
    disk: HardState,
    log: SeenLog,
}

fn broken<T>(law: u8, detail: String) -> Result<T, Broken> {
    Err(Broken { law, detail })
}

impl Laws {
    /// For a cluster of so many voters, of which nothing was seen yet.
    #[must_use]
    pub fn new(voters: usize) -> Self {
        Self {
            voters,
            quorums: Vec::new(),
            leaders: BTreeMap::new(),
            entries: BTreeMap::new(),
            committed: Vec::new(),
            nodes: BTreeMap::new(),
            effects: BTreeSet::new(),
            recovery: None,
        }
    }

    /// The highest index that any node knew to be committed.
    #[must_use]
    pub fn committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// Who led in `term`.
    #[must_use]
    pub fn leader_of(&self, term: Term) -> Option<NodeId> {
        self.leaders.get(&term).copied()
    }

    /// Looks at every node, also those that are down. Called after every step.
    ///
    /// # Errors
    ///
    /// R1-R6 or R11 does not hold.
    pub fn check<V: View>(&mut self, nodes: &[V]) -> Result<(), Broken> {
        let before = self.committed();
        for node in nodes.iter().filter(|node| node.is_up()) {
            self.check_node(node)?;
        }
        self.count(nodes, before);
        self.check_survival(nodes, self.committed())
    }

    /// The same after a step in which nothing changed but the node at `at`.
    ///
    /// # Errors
    ///
    /// R1-R6 or R11 does not hold.
    pub fn check_turned<V: View>(&mut self, nodes: &[V], at: usize) -> Result<(), Broken> {
        let before = self.committed();
        if nodes[at].is_up() {
            self.check_node(&nodes[at])?;
        }
        self.count(nodes, before);
        self.check_survival(nodes, self.committed())
    }

    fn check_node(&mut self, node: &impl View) -> Result<(), Broken> {
        let status = node.status();
        let id = status.id;
        let before = self.nodes.remove(&id);
        if let Some(before) = &before {
            check_monotone(node, &status, before)?;
        }
        let mut seen = before.unwrap_or_else(|| Seen {
            run: node.run(),
            status: status.clone(),
            disk: HardState::default(),
            log: SeenLog::default(),
        });
        let same_run = seen.run == node.run();
        let known = seen.log.last();
        let kept = self.check_matching(node, &status, &mut seen.log)?;
        let led = same_run && seen.status.state == NodeState::Leader && seen.status.hard.term == status.hard.term;
        if led && status.state == NodeState::Leader && kept < known {
            return broken(
                2,
                format!("leader {id} of term {} removed entry {}", status.hard.term, kept.next()),
            );
        }
        let checked = if same_run { seen.status.commit } else { Index::ZERO };
        self.check_commit(&status, checked.min(kept), &seen.log)?;
        self.check_base(node, &status, &seen.log)?;
        if status.state == NodeState::Leader {
            self.check_leader(&status, &seen.log)?;
        }
        seen.run = node.run();
        seen.status = status;
        seen.disk = node.disk();
        self.nodes.insert(id, seen);
        Ok(())
    }

    /// R3. Brings the copy of the node's log up to date; returns how much of it had not changed.
    fn check_matching(&mut self, node: &impl View, status: &Status, log: &mut SeenLog) -> Result<Index, Broken> {
        if log.base != node.base() {
            log.begin(node.base());
        }
        log.truncate(status.last);
        // Logs change at their end: what is equal at one place is equal before it, by this very law.
        while log
            .marks
            .last()
            .is_some_and(|mark| node.entry(log.last()) != Some(*mark))
        {
            log.marks.pop();
        }
        let kept = log.last();
        for index in kept.0 + 1..=status.last.0 {
            let Some(mark) = node.entry(Index(index)) else {
                return broken(
                    3,
                    format!("node {} has no entry {index}, but ends at {}", status.id, status.last),
                );
            };
            let before = log.last_term();
            let expected = *self
                .entries
                .entry((Index(index), mark.term))
                .or_insert((mark.digest, before));
            if expected != (mark.digest, before) {
                let id = status.id;
                return broken(
                    3,
                    format!("node {id} has {mark:?} at {index} after {before:?}, another {expected:?}"),
                );
            }
            if mark.term < before || mark.term > status.hard.term {
                return broken(3, format!("node {}: {mark:?} at {index} after {before:?}", status.id));
            }
            log.marks.push(mark);
        }
        Ok(kept)
    }

    /// R5 and R6: what is no longer in a log is committed, and in a snapshot.
    fn check_base(&self, node: &impl View, status: &Status, log: &SeenLog) -> Result<(), Broken> {
        let id = status.id;
        self.check_place(log.base, format_args!("the log of node {id} begins behind"))?;
        let snapshot = node.disk_snapshot();
        self.check_place(snapshot, format_args!("the snapshot of node {id} ends at"))?;
        match node.disk_base() > snapshot.0 {
            true => broken(
                6,
                format!(
                    "on the disk of node {id} the log begins behind {}, the newest snapshot ends at {}",
                    node.disk_base(),
                    snapshot.0
                ),
            ),
            false => Ok(()),
        }
    }

    /// R5: this is a place in the log that is committed.
    fn check_place(&self, place: (Index, Term), whose: fmt::Arguments<'_>) -> Result<(), Broken> {
        let Some(at) = place.0.0.checked_sub(1) else {
            return Ok(());
        };
        match self.committed.get(at as usize) {
            Some((mark, _)) if mark.term == place.1 => Ok(()),
            Some((mark, _)) => broken(5, format!("{whose} {place:?}, {mark:?} is committed there")),
            None => broken(5, format!("{whose} {place:?}, {} is committed", self.committed())),
        }
    }

    /// The state machine of `node` says that it has applied everything up to `applied`, and has applied this.
    ///
    /// # Errors
    ///
    /// R5: so much is not what was committed.
    pub fn check_state(&self, node: NodeId, applied: Index, state: &[Mark]) -> Result<(), Broken> {
        let known = self.committed.iter().map(|(mark, _)| mark);
        match state.len() as u64 == applied.0 && state.iter().zip(known).all(|(mark, known)| mark == known) {
            true => Ok(()),
            false => broken(
                5,
                format!("node {node} applied {} entries up to {applied}, or others", state.len()),
            ),
        }
    }

    /// R5.
    fn check_commit(&mut self, status: &Status, checked: Index, log: &SeenLog) -> Result<(), Broken> {
        let Status { id, commit, .. } = *status;
        for index in checked.max(log.base.0).0 + 1..=commit.min(log.last()).0 {
            let Some(mark) = log.get(Index(index)) else { continue };
            match self.committed.get(index as usize - 1) {
                Some((known, _)) if *known != mark => {
                    return broken(5, format!("node {id} committed {mark:?} at {index}, not {known:?}"));
                }
                Some(_) => {}
                // Behind a hole it is nobody's: that the log begins there is judged on its own.
                None if self.committed.len() as u64 + 1 < index => break,
                None => self.committed.push((mark, status.hard.term)),
            }
        }
        Ok(())
    }

    /// R1 and R4.
    fn check_leader(&mut self, status: &Status, log: &SeenLog) -> Result<(), Broken> {
        let (id, term) = (status.id, status.hard.term);
        if let Some(leader) = self.leaders.get(&term) {
            return match *leader == id {
                true => Ok(()),
                false => broken(1, format!("{leader} and {id} lead in term {term}")),
            };
        }
        self.leaders.insert(term, id);
        // What is before the log's front it has as a state.
        for (at, (mark, seen_in)) in self.committed.iter().enumerate().skip(log.base.0.0 as usize) {
            let index = Index(at as u64 + 1);
            if *seen_in < term && log.get(index) != Some(*mark) {
                return broken(
                    4,
                    format!("leader {id} of term {term} lacks {mark:?}, committed at {index}"),
                );
            }
        }
        Ok(())
    }

    /// A client was told that the entry at `index` took effect.
    ///
    /// # Errors
    ///
    /// R6: it is not committed, or not durable with a majority.
    pub fn acknowledged<V: View>(&self, nodes: &[V], index: Index) -> Result<(), Broken> {
        match index <= self.committed() {
            true => self.check_survival(nodes, index),
            false => broken(
                6,
                format!("{index} was acknowledged, {} is committed", self.committed()),
            ),
        }
    }

    /// Everything that was ever committed, against every disk. For the end of a run.
    ///
    /// # Errors
    ///
    /// R6: something is not durable with a majority.
    pub fn check_all<V: View>(&self, nodes: &[V]) -> Result<(), Broken> {
        (1..=self.committed().0).try_for_each(|index| self.check_survival(nodes, Index(index)))
    }

    /// A client asks to read. Returns what to give to [`read_answered`](Self::read_answered).
    #[must_use]
    pub fn read_began(&self) -> Index {
        self.committed()
    }

    /// A read was answered from a state with everything up to `at` applied.
    ///
    /// # Errors
    ///
    /// R7: something was committed before the read began that the answer does not know.
    pub fn read_answered(&self, began: Index, at: Index) -> Result<(), Broken> {
        match at >= began {
            true => Ok(()),
            false => broken(
                7,
                format!("a read was answered at {at}, {began} was committed when it began"),
            ),
        }
    }

    /// A command of a session changed the state of `node` in its `run`.
    ///
    /// # Errors
    ///
    /// R8: it did so before.
    pub fn took_effect(
        &mut self,
        node: NodeId,
        run: u64,
        session: SessionId,
        sequence: Sequence,
    ) -> Result<(), Broken> {
        match self.effects.insert((node, run, session, sequence)) {
            true => Ok(()),
            false => broken(8, format!("node {node} applied {sequence} of session {session} twice")),
        }
    }

    /// All faults are healed, proposals come: within `bound` something must be committed.
    pub fn healed(&mut self, now: Instant, bound: Duration) {
        self.recovery = Some((now + bound, self.committed.len()));
    }

    /// There are faults again.
    pub fn hurt(&mut self) {
        self.recovery = None;
    }

    /// It is `now`.
    ///
    /// # Errors
    ///
    /// R9: nothing was committed since [`healed`](Self::healed).
    pub fn time(&mut self, now: Instant) -> Result<(), Broken> {
        let Some((deadline, before)) = self.recovery else {
            return Ok(());
        };
        if self.committed.len() > before {
            self.recovery = None;
        } else if now > deadline {
            return broken(9, format!("nothing was committed from {before} on until {now:?}"));
        }
        Ok(())
    }

    /// `node` sends `body` in `term`: this is what it may rest on.
    ///
    /// # Errors
    ///
    /// R10: it rests on what a restart would not find.
    pub fn sent(&self, node: &impl View, to: NodeId, term: Term, body: &Body<'_>) -> Result<(), Broken> {
        let disk = node.disk();
        // What waited on a slow line while a later term came to the disk: nobody can vote, or lead, in the former again.
        let is_past = disk.term > term;
        let stands = match body {
            Body::VoteReply(reply) if reply.granted && !reply.pre => is_past || disk == HardState { term, vote: to },
            Body::Vote(vote) if !vote.pre => {
                let id = node.status().id;
                let claimed = node.disk_entry(vote.last_index).map_or(Term(0), |mark| mark.term);
                let is_found = claimed == vote.last_term || node.disk_snapshot() == (vote.last_index, vote.last_term);
                is_past || disk == HardState { term, vote: id } && is_found
            }
            Body::AppendReply(reply) => match reply.result {
                AppendResult::Matched(Index::ZERO) => disk.term >= term,
                AppendResult::Matched(index) => {
                    let entry = node.disk_entry(index);
                    let is_found = entry.is_some() && entry == node.entry(index);
                    disk.term >= term && (is_found || index <= node.disk_snapshot().0)
                }
                AppendResult::Rejected { .. } => true,
            },
            _ => true,
        };
        match stands {
            true => Ok(()),
            false => broken(
                10,
                format!(
                    "node {} sent {body:?} in {term:?}, on disk is {disk:?}",
                    node.status().id
                ),
            ),
        }
    }
}

/// R11.
fn check_monotone(node: &impl View, status: &Status, before: &Seen) -> Result<(), Broken> {
    let id = status.id;
    let same_run = before.run == node.run();
    let kept = if same_run { before.status.hard } else { before.disk };
    if status.hard.term < kept.term {
        return broken(
            11,
            format!("node {id} went from {:?} to {:?}", kept.term, status.hard.term),
        );
    }
    if status.hard.term == kept.term && kept.vote.is_some() && status.hard.vote != kept.vote {
        return broken(
            11,
            format!("node {id} changed its vote from {kept:?} to {:?}", status.hard),
        );
    }
    if same_run && (status.commit < before.status.commit || status.applied < before.status.applied) {
        return broken(
            11,
            format!("node {id} went back from {:?} to {status:?}", before.status),
        );
    }
    let is_within = status.durable.max(status.membership) <= status.last;
    match status.applied <= status.commit && status.commit <= status.last && is_within {
        true => Ok(()),
        false => broken(11, format!("node {id}: {status:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Round;
    use crate::message::{AppendReply, Vote, VoteReply};

    #[derive(Clone)]
    struct Node {
        status: Status,
        run: u64,
        /// The terms of its entries, which are their digests too.
        log: Vec<u64>,
        disk: (u64, u64, Vec<u64>),
        /// So many of its entries are gone, from memory and disk.
        base: u64,
        /// Index and term of its snapshot.
        snapshot: (u64, u64),
    }

    impl Node {
        /// The same one, with the front of its log gone.
        fn without(mut self, base: u64, snapshot: (u64, u64)) -> Self {
            (self.base, self.snapshot) = (base, snapshot);
            self
        }
    }

    /// A node in a term, whose log has these terms, all durable.
    fn node(id: u64, term: u64, log: &[u64], commit: u64) -> Node {
        let hard = HardState {
            term: Term(term),
            vote: NodeId::NONE,
        };
        Node {
            status: Status {
                id: NodeId(id),
                hard,
                state: NodeState::Follower,
                leader: NodeId::NONE,
                commit: Index(commit),
                applied: Index::ZERO,
                last: Index(log.len() as u64),
                durable: Index(log.len() as u64),
                membership: Index::ZERO,
                is_removed: false,
            },
            run: 0,
            log: log.to_vec(),
            disk: (term, 0, log.to_vec()),
            base: 0,
            snapshot: (0, 0),
        }
    }

    fn leader(id: u64, term: u64, log: &[u64], commit: u64) -> Node {
        let mut node = node(id, term, log, commit);
        node.status.state = NodeState::Leader;
        node
    }

    fn mark(log: &[u64], index: Index) -> Option<Mark> {
        let digest = *log.get(index.0.checked_sub(1)? as usize)?;
        Some(Mark {
            term: Term(digest % 100),
            digest,
        })
    }

    impl View for Node {
        fn status(&self) -> Status {
            self.status.clone()
        }
        fn run(&self) -> u64 {
            self.run
        }
        fn is_up(&self) -> bool {
            true
        }
        fn entry(&self, index: Index) -> Option<Mark> {
            mark(&self.log, index).filter(|_| index.0 > self.base)
        }
        fn disk(&self) -> HardState {
            HardState {
                term: Term(self.disk.0),
                vote: NodeId(self.disk.1),
            }
        }
        fn disk_entry(&self, index: Index) -> Option<Mark> {
            mark(&self.disk.2, index).filter(|_| index.0 > self.base)
        }
        fn base(&self) -> (Index, Term) {
            let term = mark(&self.log, Index(self.base)).map_or(Term(0), |mark| mark.term);
            (Index(self.base), term)
        }
        fn disk_base(&self) -> Index {
            Index(self.base)
        }
        fn disk_snapshot(&self) -> (Index, Term) {
            (Index(self.snapshot.0), Term(self.snapshot.1))
        }
    }

    /// All steps but the last hold, and the last breaks `law`.
    #[track_caller]
    fn check(law: u8, steps: &[&[Node]]) {
        let mut laws = Laws::new(3);
        let (last, before) = steps.split_last().expect("there is a step");
        for step in before {
            laws.check(step).expect("it holds so far");
        }
        assert_eq!(laws.check(last).expect_err("it is broken").law, law);
    }

    #[test]
    fn each_law_is_seen_to_be_broken() {
        check(1, &[&[leader(1, 2, &[], 0)], &[leader(2, 2, &[], 0)]]);
        check(2, &[&[leader(1, 2, &[1, 2], 0)], &[leader(1, 2, &[1], 0)]]);
        check(3, &[&[node(1, 3, &[1, 2], 0), node(2, 3, &[1, 102], 0)]]);
        check(3, &[&[node(1, 3, &[1, 1, 3], 0), node(2, 3, &[1, 2, 3], 0)]]);
        check(3, &[&[node(1, 3, &[2, 1], 0)]]);
        let holders = [node(1, 2, &[1], 1), node(2, 2, &[1], 1), node(3, 2, &[], 0)];
        check(4, &[&holders, &[leader(3, 3, &[], 0)]]);
        check(5, &[&holders, &[node(3, 2, &[2], 1)]]);
        check(6, &[&[node(1, 2, &[1], 1), node(2, 2, &[], 0)]]);
        check(11, &[&[node(1, 2, &[], 0)], &[node(1, 1, &[], 0)]]);
        check(11, &[&holders, &[node(1, 2, &[1], 0)]]);
    }

    #[test]
    fn a_snapshot_stands_for_the_front_of_a_log() {
        let log = [1, 1, 2, 2];
        let all = [node(1, 2, &log, 4), node(2, 2, &log, 4), node(3, 2, &log, 4)];
        let mut laws = Laws::new(3);
        laws.check(&all).expect("it is committed");
        let released = all.clone().map(|node| node.without(2, (3, 2)));
        laws.check(&released).expect("it is in a snapshot");
        laws.check(&[
            leader(1, 3, &log, 4).without(4, (4, 2)),
            released[1].clone(),
            released[2].clone(),
        ])
        .expect("a leader needs no more of a log");
        laws.check_all(&released).expect("nothing is lost");
        laws.check_state(
            NodeId(1),
            Index(2),
            &log[..2]
                .iter()
                .map(|term| mark(&[*term], Index(1)).expect("one"))
                .collect::<Vec<_>>(),
        )
        .expect("that was committed");
        assert_eq!(
            laws.check_state(NodeId(1), Index(2), &[])
                .expect_err("it skipped some")
                .law,
            5
        );
        let other = mark(&[102], Index(1)).expect("one");
        assert_eq!(
            laws.check_state(NodeId(1), Index(1), &[other])
                .expect_err("it is another")
                .law,
            5
        );

        let away = all.clone().map(|node| node.without(3, (2, 1)));
        check(6, &[&all, &away]);
        check(5, &[&all, &[node(1, 2, &log, 4).without(2, (3, 1))]]);
        check(5, &[&all, &[node(1, 2, &[1, 2, 2, 2], 4).without(2, (2, 2))]]);
        check(5, &[&all, &[node(1, 2, &[1, 1, 2, 2, 2, 2], 6).without(5, (5, 2))]]);
        check(4, &[&all, &[leader(4, 3, &[1, 1, 2], 3).without(2, (2, 1))]]);
        // Behind its front a log is judged as ever.
        check(3, &[&all, &[node(4, 2, &[1, 1, 102, 2], 2).without(2, (2, 1))]]);
        check(
            2,
            &[
                &[leader(1, 2, &log, 2), all[1].clone()],
                &[leader(1, 2, &log[..3], 2).without(2, (2, 1))],
            ],
        );
    }

    #[test]
    fn a_restart_may_forget_what_was_not_durable_and_no_more() {
        let mut laws = Laws::new(3);
        let mut voted = node(1, 2, &[], 0);
        voted.status.hard.vote = NodeId(3);
        voted.disk.1 = 3;
        laws.check(&[voted.clone()]).expect("a vote");
        (voted.run, voted.status.hard.vote) = (1, NodeId::NONE);
        assert_eq!(laws.check(&[voted]).expect_err("forgotten").law, 11);
        let mut unsynced = node(2, 5, &[1], 0);
        unsynced.disk = (4, 0, vec![]);
        laws.check(&[unsynced]).expect("a term");
        let mut restarted = node(2, 4, &[], 0);
        restarted.run = 1;
        laws.check(&[restarted]).expect("it was not durable");
    }

    #[test]
    fn what_leaves_must_rest_on_the_disk() {
        let laws = Laws::new(3);
        let mut node = node(1, 4, &[1, 4], 0);
        node.disk = (4, 2, vec![1]);
        let sent = |to: u64, body| laws.sent(&node, NodeId(to), Term(4), &body).is_ok();
        let granted = |pre| {
            let term = Term(4);
            Body::VoteReply(VoteReply {
                pre,
                granted: true,
                term,
            })
        };
        assert!(sent(2, granted(false)) && !sent(3, granted(false)) && sent(3, granted(true)));
        let matched = |index| {
            let result = AppendResult::Matched(Index(index));
            Body::AppendReply(AppendReply {
                round: Round(0),
                result,
            })
        };
        assert!(sent(2, matched(1)) && !sent(2, matched(2)));
        let asked = Vote {
            pre: false,
            by_transfer: false,
            term: Term(4),
            last_index: Index(1),
            last_term: Term(1),
        };
        assert!(!sent(2, Body::Vote(asked)), "its vote went to another");
        let late = laws.sent(&node, NodeId(2), Term(3), &Body::Vote(Vote { term: Term(3), ..asked }));
        late.expect("it waited while a later term came to the disk");
    }

    #[test]
    fn reads_sessions_and_recovery_are_judged() {
        let mut laws = Laws::new(3);
        let began = laws.read_began();
        laws.check(&[node(1, 2, &[1], 1), node(2, 2, &[1], 1)])
            .expect("committed");
        laws.read_answered(began, Index(0)).expect("it began before");
        assert!(laws.read_answered(laws.read_began(), Index(0)).is_err());
        assert!(laws.acknowledged::<Node>(&[], Index(2)).is_err());
        laws.took_effect(NodeId(1), 0, SessionId(1), Sequence(1))
            .expect("the first time");
        assert!(laws.took_effect(NodeId(1), 0, SessionId(1), Sequence(1)).is_err());
        laws.healed(Instant::ZERO, Duration::from_secs(1));
        laws.time(Instant::ZERO).expect("there is time");
        assert_eq!(
            laws.time(Instant::from_nanos(2_000_000_000)).expect_err("too late").law,
            9
        );
    }
}
