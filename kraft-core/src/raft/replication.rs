//! Appends, heartbeats and their replies, on both sides (thesis §3.5).

use super::progress::Mode;
use super::{Outgoing, Output, Raft, Violation};
use crate::canary::{self, Canary};
use crate::id::{Index, NodeId, RequestId, Round, Term};
use crate::log::Log;
use crate::message::{
    Append, AppendReply, AppendResult, Body, Entries, EntryKind, Header, Heartbeat, HeartbeatReply, NodeState,
};

/// What a follower accepted from the leader of its term, and what it told it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Follow {
    /// The log equals the leader's up to here, in memory at least.
    verified: Index,
    /// The highest acknowledgement that was sent.
    acked: Index,
    /// An append came that was not answered for the whole of `verified`.
    ack_due: bool,
    /// The newest round that an append brought.
    round: Round,
}

/// Where an append meets the own log.
enum Place {
    /// Nowhere: the place before it is missing or of another term.
    Apart,
    /// So many of its entries are there already; what follows in the own log, if `conflict`, is of another term.
    Fits { skip: usize, conflict: bool },
}

impl Raft {
    /// A message that only a leader sends came from `from`.
    pub(super) fn follow(&mut self, from: NodeId, term: Term) {
        if term > self.tail.hard.term || self.state != NodeState::Follower {
            self.become_follower(term, from);
        }
        self.leader = from;
        self.hear_leader();
    }

    /// Answers a deposed leader, so that it learns of the newer term, and judges whether `header` may lead.
    pub(super) fn is_leaders(&mut self, header: &Header) -> Result<bool, Violation> {
        if header.term < self.tail.hard.term {
            // Etcd's rule: with check-quorum a node whose term ran ahead gets no votes, so that its term must reach
            // the leader this way (`prevote_checkquorum_deadlock`).
            let reply = HeartbeatReply {
                round: Round(0),
                promise_us: 0,
            };
            self.send_ready(header.from, header.request, Body::HeartbeatReply(reply));
            return Ok(false);
        }
        let other = self.leader.is_some() && self.leader != header.from;
        if header.term == self.tail.hard.term && other {
            return Err(Violation::SecondLeader);
        }
        if header.term == Term(0) {
            return Err(Violation::TermOrder);
        }
        Ok(true)
    }

    pub(super) fn step_append(
        &mut self,
        header: &Header,
        append: &Append<'_>,
        log: &mut impl Log,
    ) -> Result<(), Violation> {
        let sum = check_entries(header.term, append)?;
        if !self.is_leaders(header)? {
            return Ok(());
        }
        let place = self.place(header.term, append)?;
        let configurations = match (&place, sum.has_membership) {
            (Place::Fits { skip, .. }, true) => Self::read_configurations(&append.entries, *skip)?,
            _ => Vec::new(),
        };
        self.follow(header.from, header.term);
        self.hear_commit(append.commit);
        self.follow.round = self.follow.round.max(append.round);
        let Place::Fits { skip, conflict } = place else {
            self.reject(header, append);
            return Ok(());
        };
        let count = append.entries.len();
        let matched = Index(append.prev_index.0 + count as u64);
        if skip < count {
            let first = Index(append.prev_index.0 + skip as u64 + 1);
            // What is known of all need not be asked of each again.
            let sum = if skip == 0 { sum } else { sum_up(&append.entries, skip) };
            if sum.bytes > self.tail.room() {
                // Not taken, not answered: the leader tries again when a heartbeat is answered.
                return Ok(());
            }
            if conflict {
                self.truncate(first, log);
            }
            self.take_entries(first, &append.entries, skip, sum, log);
            let place = |at: usize| Index(append.prev_index.0 + at as u64 + 1);
            let configurations = configurations.into_iter().map(|(at, of)| (place(at), of));
            self.take_configurations(configurations.collect());
        }
        if canary::is(Canary::StaleAppendTruncates) {
            self.truncate(matched.max(self.commit).next(), log);
        }
        self.follow.verified = self.follow.verified.max(matched);
        self.follow.ack_due = true;
        self.commit_to(append.commit.min(matched));
        Ok(())
    }

    /// Where the append's entries meet the own log.
    fn place(&self, term: Term, append: &Append<'_>) -> Result<Place, Violation> {
        let terms = &self.tail.terms;
        let count = append.entries.len();
        // What is below the base is committed, and so agrees; it is not held against the entries above.
        let known = append.prev_index < terms.base() || canary::is(Canary::MismatchAccepted);
        if !known && terms.at(append.prev_index) != Some(append.prev_term) {
            return match append.prev_index <= self.commit {
                true => Err(Violation::CommittedConflict),
                false => Ok(Place::Apart),
            };
        }
        let overlap = usize::try_from(terms.last().0.saturating_sub(append.prev_index.0)).unwrap_or(usize::MAX);
        if overlap == 0 {
            return Ok(Place::Fits {
                skip: 0,
                conflict: false,
            });
        }
        let entries = append.entries.iter().take(overlap).enumerate();
        for (skip, entry) in entries {
            let index = Index(append.prev_index.0 + skip as u64 + 1);
            if index < terms.base() || terms.at(index) == Some(entry.term) {
                continue;
            }
            let agreed = match term == self.tail.hard.term {
                // Leaders only append: what this one sent before stands.
                true => self.commit.max(self.verified()),
                false => self.commit,
            };
            return match index <= agreed {
                true => Err(Violation::CommittedConflict),
                false => Ok(Place::Fits { skip, conflict: true }),
            };
        }
        Ok(Place::Fits {
            skip: overlap.min(count),
            conflict: false,
        })
    }

    fn take_entries(&mut self, first: Index, entries: &Entries<'_>, skip: usize, sum: Sum, log: &mut impl Log) {
        if skip == 0 {
            log.append(first, entries);
        } else {
            log.append(first, &suffix(entries, skip));
        }
        let count = (entries.len() - skip) as u64;
        if sum.first_term < sum.last_term {
            let mut index = first;
            let mut term = sum.first_term;
            for entry in entries.iter().skip(skip) {
                if entry.term != term {
                    self.tail.push(index.prev(), term);
                    term = entry.term;
                }
                index = index.next();
            }
        }
        self.tail.push(Index(first.0 + count - 1), sum.last_term);
        self.tail.take_room(sum.bytes);
    }

    fn reject(&mut self, header: &Header, append: &Append<'_>) {
        let (hint_index, hint_term) = self.tail.terms.at_most(append.prev_index, append.prev_term);
        let reply = AppendReply {
            round: append.round,
            result: AppendResult::Rejected {
                prev_index: append.prev_index,
                hint_index,
                hint_term,
            },
        };
        self.send_ready(header.from, header.request, Body::AppendReply(reply));
    }

    /// The log equals the leader's up to here. An entry of the current term can only come from its leader, and with it
    /// all before (thesis §3.5, log matching), also if this process did not see it come.
    pub(super) fn verified(&self) -> Index {
        let is_all = self.tail.terms.last_term() == self.tail.hard.term;
        if is_all || canary::is(Canary::CommitBeyondVerified) {
            self.tail.terms.last()
        } else {
            self.follow.verified
        }
    }

    pub(super) fn poll_ack(&mut self) -> Option<Output> {
        let is_early = canary::is(Canary::SnapshotAckBeforeTerm) && self.follow.verified == self.tail.terms.base();
        if !self.follow.ack_due || !self.leader.is_some() || !(self.tail.term_is_durable() || is_early) {
            return None;
        }
        let matched = if canary::is(Canary::AckBeforeSync) {
            self.follow.verified
        } else {
            self.follow.verified.min(self.tail.durable())
        };
        if matched <= self.follow.acked && matched < self.follow.verified {
            return None;
        }
        self.follow.acked = matched;
        self.follow.ack_due = matched < self.follow.verified;
        let reply = AppendReply {
            round: self.follow.round,
            result: AppendResult::Matched(matched),
        };
        Some(self.send(self.leader, RequestId(0), Outgoing::Other(Body::AppendReply(reply))))
    }

    pub(super) fn step_heartbeat(&mut self, header: &Header, heartbeat: &Heartbeat) -> Result<(), Violation> {
        if !self.is_leaders(header)? {
            return Ok(());
        }
        self.follow(header.from, header.term);
        // `commit_capped_by_last_new`: beyond this the log may be another leader's.
        self.commit_to(heartbeat.commit.min(self.verified()));
        self.hear_commit(heartbeat.commit);
        let reply = HeartbeatReply {
            round: heartbeat.round,
            promise_us: self.promise(),
        };
        self.send_ready(header.from, header.request, Body::HeartbeatReply(reply));
        Ok(())
    }

    /// Whether a follower's reply is for this term of office. Learns from it that there is a later one.
    pub(super) fn is_answer(&mut self, peer: usize, header: &Header, round: Round) -> Result<bool, Violation> {
        if header.term > self.tail.hard.term {
            self.become_follower(header.term, NodeId::NONE);
        }
        if self.state != NodeState::Leader || header.term < self.tail.hard.term {
            return Ok(false);
        }
        if round > self.round {
            return Err(Violation::Unasked);
        }
        let progress = &mut self.progress[peer];
        progress.heard = Some(self.now);
        progress.round_seen = progress.round_seen.max(round);
        Ok(true)
    }

    pub(super) fn step_append_reply(
        &mut self,
        peer: usize,
        header: &Header,
        reply: &AppendReply,
        log: &mut impl Log,
    ) -> Result<(), Violation> {
        let (AppendResult::Matched(index) | AppendResult::Rejected { prev_index: index, .. }) = reply.result;
        let leads = self.state == NodeState::Leader && header.term == self.tail.hard.term;
        if leads && index > self.tail.terms.last() {
            return Err(Violation::Unasked);
        }
        if !self.is_answer(peer, header, reply.round)? {
            return Ok(());
        }
        match reply.result {
            AppendResult::Matched(index) => {
                self.progress[peer].matched(index);
                self.progress[peer].served_by_log(self.tail.terms.base());
                self.count_matches(log);
                self.keep_up(header.from, log);
            }
            AppendResult::Rejected {
                prev_index,
                hint_index,
                hint_term,
            } => {
                if canary::is(Canary::RejectionMatches) {
                    self.progress[peer].matched(prev_index);
                }
                let (agree, _) = self.tail.terms.at_most(hint_index, hint_term);
                self.progress[peer].rejected(prev_index, agree);
            }
        }
        self.confirm_reads();
        Ok(())
    }

    pub(super) fn step_heartbeat_reply(
        &mut self,
        peer: usize,
        header: &Header,
        reply: &HeartbeatReply,
        log: &mut impl Log,
    ) -> Result<(), Violation> {
        if self.is_answer(peer, header, reply.round)? {
            self.progress[peer].alive();
            self.promised(peer, reply);
            self.confirm_reads();
            self.keep_up(header.from, log);
        }
        Ok(())
    }

    /// What a leader has to send, or to load in order to send it.
    pub(super) fn poll_replication(&mut self, log: &impl Log) -> Option<Output> {
        (0..self.progress.len()).find_map(|peer| self.poll_heartbeat(peer).or_else(|| self.poll_append(peer, log)))
    }

    fn poll_heartbeat(&mut self, peer: usize) -> Option<Output> {
        let progress = &mut self.progress[peer];
        // Reads do not wait for appends, whose replies wait for a disk.
        if !progress.heartbeat_due && progress.round_sent == self.round {
            return None;
        }
        progress.heartbeat_due = false;
        progress.round_sent = self.round;
        progress.commit_sent = progress.commit_sent.max(self.commit.min(progress.matched));
        // All that is committed, so that who lags knows that it does; what of it stands in its log it knows itself.
        let commit = match canary::is(Canary::BehindUnaware) {
            true => self.commit.min(progress.matched),
            false => self.commit,
        };
        let (to, round) = (progress.id, self.round);
        let heartbeat = Body::Heartbeat(Heartbeat { commit, round });
        Some(self.send(to, RequestId(0), Outgoing::Other(heartbeat)))
    }

    pub(super) fn poll_append(&mut self, peer: usize, log: &impl Log) -> Option<Output> {
        let last = self.tail.terms.last();
        let progress = &self.progress[peer];
        let next = progress.next;
        let prev_index = next.prev();
        let Some(prev_term) = self.tail.terms.at(prev_index) else {
            return self.send_snapshot(peer);
        };
        if matches!(progress.mode, Mode::Snapshot { .. }) {
            return None;
        }
        let mut range = next..next;
        if progress.has_window(&self.config) && next <= last {
            let wanted = next..last.next();
            range = log.fit(
                wanted.clone(),
                self.config.append_bytes_max,
                self.config.append_entries_max,
            );
            if range.is_empty() && !progress.probe_due {
                return match self.load_for_apply && self.wants_apply_load(log) {
                    true => None,
                    false => self.load(wanted, log),
                };
            }
        } else if !progress.probe_due && progress.mode != (Mode::Probe { paused: false }) {
            return None;
        }
        let bytes = log.bytes(range.clone());
        let commit = self.commit;
        let sent = range.end.prev();
        let progress = &mut self.progress[peer];
        progress.probe_due = false;
        progress.commit_sent = progress.commit_sent.max(commit.min(sent));
        progress.sent(sent, bytes);
        let append = Outgoing::Append {
            prev_index,
            prev_term,
            commit,
            round: self.round,
            range,
        };
        Some(self.send(self.progress[peer].id, RequestId(0), append))
    }

    /// The log equals the leader's up to here, which it is to be told.
    pub(super) fn verify(&mut self, through: Index) {
        self.follow.verified = self.follow.verified.max(through);
        self.follow.ack_due = true;
    }

    /// Forgets the log from `from` on, which is not committed.
    pub(super) fn truncate(&mut self, from: Index, log: &mut impl Log) {
        assert!(from > self.commit, "what is committed stays");
        self.tail.truncate(from);
        log.truncate(from);
        self.withdraw_configurations(from);
        if let Some(loading) = &mut self.loading {
            loading.is_stale |= from < loading.range.end;
        }
    }
}

/// Whether what the append claims is possible at all.
fn check_entries(term: Term, append: &Append<'_>) -> Result<Sum, Violation> {
    // One more than the last must be a number too.
    let end = append.prev_index.checked_add(append.entries.len() as u64);
    if end.is_none_or(|end| end.0 == u64::MAX) || append.commit.0 == u64::MAX {
        return Err(Violation::IndexOverflow);
    }
    let sum = sum_up(&append.entries, 0);
    let is_ordered = sum.is_ordered && sum.first_term >= append.prev_term && sum.last_term <= term;
    let fits = append.entries.is_empty() && append.prev_term <= term || is_ordered;
    match fits && (append.prev_index.0 == 0) == (append.prev_term.0 == 0) {
        true => Ok(sum),
        false => Err(Violation::TermOrder),
    }
}

/// What Raft knows of the entries of an append: the only thing here whose cost is that of their number.
#[derive(Clone, Copy, Debug)]
struct Sum {
    bytes: u64,
    first_term: Term,
    last_term: Term,
    /// Terms do not decrease, and none is zero.
    is_ordered: bool,
    /// Some entry says who the members are.
    has_membership: bool,
}

fn sum_up(entries: &Entries<'_>, skip: usize) -> Sum {
    let first_term = entries.get(skip).map_or(Term(0), |entry| entry.term);
    let mut sum = Sum {
        bytes: 0,
        first_term,
        last_term: first_term,
        is_ordered: first_term > Term(0),
        has_membership: false,
    };
    entries.iter().skip(skip).for_each(|entry| {
        sum.bytes += entry.payload.len() as u64;
        sum.is_ordered &= entry.term >= sum.last_term;
        sum.last_term = entry.term;
        sum.has_membership |= entry.kind == EntryKind::Membership;
    });
    sum
}

/// The entries without the first `skip`.
fn suffix<'a>(entries: &'a Entries<'_>, skip: usize) -> Entries<'a> {
    match entries {
        Entries::Lent(lent) => Entries::Lent(lent[skip..].to_vec()),
        Entries::Shared(front, back) => {
            let cut = skip.min(front.len());
            Entries::Shared(&front[cut..], &back[skip - cut..])
        }
    }
}
