//! What clients asked for and have not been answered.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::handle::{Completion, Outcome};
use crate::id::{ConnId, Index, RequestId, Term};
use crate::log::Proposal;
use crate::message::{Command, Commit, Consistency, EntryKind};
use crate::session;
use crate::time::Instant;

/// Who waits for an answer.
#[derive(Debug)]
pub(super) enum Origin {
    /// A connection. Gone or reused by the time of the answer, its id no longer fits.
    Client {
        conn: ConnId,
        request: RequestId,
        asked: Asked,
    },
    /// A handle of this process.
    Local(Completion<Outcome>),
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Something that changes state.
    Command,
    /// Something that does not.
    Read,
}

/// The proposals of one turn: their payloads in one buffer, so that a turn costs one allocation.
#[derive(Debug, Default)]
pub(super) struct Batch {
    buffer: BytesMut,
    proposals: Vec<(EntryKind, Range<usize>)>,
    origins: Vec<(Commit, Origin)>,
}

impl Batch {
    pub(super) fn command(&mut self, command: &Command<'_>, origin: Origin) {
        let start = self.buffer.len();
        session::encode(command, &mut self.buffer);
        self.push(EntryKind::Command, start, command.commit, origin);
    }

    pub(super) fn open_session(&mut self, origin: Origin) {
        self.push(EntryKind::OpenSession, self.buffer.len(), Commit::Strong, origin);
    }

    fn push(&mut self, kind: EntryKind, start: usize, commit: Commit, origin: Origin) {
        self.proposals.push((kind, start..self.buffer.len()));
        self.origins.push((commit, origin));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.proposals.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Hands out the payloads, each with its checksum, which is computed here and nowhere else.
    pub(super) fn take(&mut self) -> impl ExactSizeIterator<Item = Proposal> + use<'_> {
        let payloads: Bytes = self.buffer.split().freeze();
        self.proposals.drain(..).map(move |(kind, range)| {
            let payload = payloads.slice(range);
            Proposal {
                kind,
                crc: crc32c::crc32c(&payload),
                payload,
            }
        })
    }

    /// Hands out who waits, in the order of the proposals.
    pub(super) fn take_origins(&mut self) -> impl Iterator<Item = Origin> + use<'_> {
        self.origins.drain(..).map(|(_, origin)| origin)
    }
}

/// Reads that share one question to Raft.
#[derive(Debug, Default)]
pub(super) struct ReadGroup {
    queries: BytesMut,
    reads: Vec<(Range<usize>, Origin)>,
    asked: Instant,
    /// Answered by the lease of this term if that holds, else by asking.
    pub(super) leased: Option<Term>,
}

impl ReadGroup {
    pub(super) fn push(&mut self, query: &[u8], origin: Origin) {
        let start = self.queries.len();
        self.queries.extend_from_slice(query);
        self.reads.push((start..self.queries.len(), origin));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.reads.len()
    }

    fn bytes(&self) -> usize {
        self.queries.len()
    }

    /// The queries and who waits for them; the group is empty and keeps its memory.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&[u8], Origin)) {
        for (range, origin) in self.reads.drain(..) {
            each(&self.queries[range], origin);
        }
        self.queries.clear();
    }
}

/// Everything that waits.
///
/// Invariant: `pending` and `by_leader` ascend by index; `waiting()` is the number of origins in here that a later turn
/// must answer.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Proposals of the present turn.
    pub(super) batch: Batch,
    /// Reads of the present turn.
    pub(super) reads: ReadGroup,
    /// Reads of the present turn that a lease may answer.
    pub(super) leases: ReadGroup,
    /// Reads of the present turn that whatever is applied answers.
    stale: ReadGroup,
    /// How old that may be, for each of them.
    ages_max: Vec<u64>,
    /// Appended proposals, by index.
    pending: VecDeque<(Index, Origin)>,
    /// Appended proposals that are answered when they are on the own disk, by index.
    by_leader: VecDeque<(Index, Origin)>,
    /// Appended proposals that are answered at once.
    received: Vec<Origin>,
    /// Reads that Raft was asked about.
    asked: BTreeMap<RequestId, ReadGroup>,
    /// Reads that may be answered once this index is applied.
    ready: BTreeMap<(Index, RequestId), ReadGroup>,
    /// Groups whose memory is used again.
    spare: Vec<ReadGroup>,
    waiting_reads: usize,
    waiting_queries_bytes: usize,
}

impl Requests {
    /// Requests that a later turn must answer.
    pub(super) fn waiting(&self) -> usize {
        let proposals = self.pending.len() + self.by_leader.len() + self.batch.origins.len();
        let reads = self.reads.len() + self.leases.len() + self.stale.len();
        proposals + self.waiting_reads + reads
    }

    /// Bytes of the queries among them.
    pub(super) fn queries_bytes(&self) -> usize {
        self.waiting_queries_bytes + self.reads.bytes() + self.leases.bytes() + self.stale.bytes()
    }

    /// A read of the present turn.
    pub(super) fn read(&mut self, query: &[u8], consistency: Consistency, origin: Origin) {
        match consistency {
            Consistency::Linearizable => self.reads.push(query, origin),
            Consistency::Lease => self.leases.push(query, origin),
            Consistency::Stale { age_max_ms } => {
                self.ages_max.push(age_max_ms);
                self.stale.push(query, origin);
            }
        }
    }

    /// The batch stands in the log at `range`. Hands out who is answered for that alone.
    pub(super) fn proposed(&mut self, range: Range<Index>) -> std::vec::Drain<'_, Origin> {
        let indexes = (range.start.0..range.end.0).map(Index);
        for (index, (commit, origin)) in indexes.zip(self.batch.origins.drain(..)) {
            match commit {
                Commit::Strong => self.pending.push_back((index, origin)),
                Commit::Leader => self.by_leader.push_back((index, origin)),
                Commit::Async => self.received.push(origin),
            }
        }
        self.received.drain(..)
    }

    /// The next who is answered for what is on the own disk up to `durable`.
    pub(super) fn next_durable(&mut self, durable: Index) -> Option<Origin> {
        let (index, _) = self.by_leader.front()?;
        if *index > durable {
            return None;
        }
        self.by_leader.pop_front().map(|(_, origin)| origin)
    }

    /// Who waits for the entry at `index`, which was just applied.
    pub(super) fn applied(&mut self, index: Index) -> Option<Origin> {
        // A majority may be faster than the own disk.
        next_at(&mut self.pending, index).or_else(|| next_at(&mut self.by_leader, index))
    }

    /// Leadership is lost: whoever waits for an entry.
    pub(super) fn take_pending(&mut self) -> impl Iterator<Item = Origin> + use<> {
        let pending = std::mem::take(&mut self.pending);
        let by_leader = std::mem::take(&mut self.by_leader);
        pending.into_iter().chain(by_leader).map(|(_, origin)| origin)
    }

    /// The reads of this turn that a lease may answer are asked for like others: there is none.
    pub(super) fn ask_leases(&mut self) {
        let reads = &mut self.reads;
        self.leases.drain(|query, origin| reads.push(query, origin));
    }

    /// The reads of this turn that a lease may answer wait for `index`.
    pub(super) fn leased(&mut self, request: RequestId, term: Term, index: Index, now: Instant) {
        let next = self.spare.pop().unwrap_or_default();
        let mut group = std::mem::replace(&mut self.leases, next);
        group.asked = now;
        group.leased = Some(term);
        self.waiting_reads += group.len();
        self.waiting_queries_bytes += group.bytes();
        self.ready.insert((index, request), group);
    }

    /// The reads of this turn were asked about under `request`.
    pub(super) fn asked(&mut self, request: RequestId, now: Instant) {
        let next = self.spare.pop().unwrap_or_default();
        let mut group = std::mem::replace(&mut self.reads, next);
        group.asked = now;
        self.waiting_reads += group.len();
        self.waiting_queries_bytes += group.bytes();
        self.asked.insert(request, group);
    }

    /// The reads of this turn that whatever is applied answers, and how old that may be for each.
    pub(super) fn take_stale(&mut self) -> (ReadGroup, Vec<u64>) {
        (std::mem::take(&mut self.stale), std::mem::take(&mut self.ages_max))
    }

    /// Raft answered: from `index` on.
    pub(super) fn read_at(&mut self, request: RequestId, index: Index) {
        if let Some(group) = self.asked.remove(&request) {
            self.ready.insert((index, request), group);
        }
    }

    /// Raft refused.
    pub(super) fn read_refused(&mut self, request: RequestId) -> Option<ReadGroup> {
        let group = self.asked.remove(&request)?;
        Some(self.waits_no_more(group))
    }

    /// Reads that were asked about before `time` and whose index is not applied: this node hears no leader, or has a
    /// long way to go.
    pub(super) fn next_late(&mut self, time: Instant) -> Option<ReadGroup> {
        let late = |(_, group): &(&_, &ReadGroup)| group.asked < time;
        let key = *self.ready.iter().find(late)?.0;
        let group = self.ready.remove(&key)?;
        Some(self.waits_no_more(group))
    }

    fn waits_no_more(&mut self, group: ReadGroup) -> ReadGroup {
        self.waiting_reads -= group.len();
        self.waiting_queries_bytes -= group.bytes();
        group
    }

    /// Reads that wait for more than `commit`.
    pub(super) fn next_beyond(&mut self, commit: Index) -> Option<ReadGroup> {
        let (key, _) = self.ready.last_key_value()?;
        if key.0 <= commit {
            return None;
        }
        let (_, group) = self.ready.pop_last()?;
        Some(self.waits_no_more(group))
    }

    /// The next reads that may be answered when everything through `applied` is applied.
    pub(super) fn next_ready(&mut self, applied: Index) -> Option<ReadGroup> {
        let (key, _) = self.ready.first_key_value()?;
        if key.0 > applied {
            return None;
        }
        let (_, group) = self.ready.pop_first()?;
        Some(self.waits_no_more(group))
    }

    /// Takes an answered group's memory back.
    pub(super) fn recycle(&mut self, mut group: ReadGroup) {
        group.leased = None;
        const SPARE_MAX: usize = 8;
        const SPARE_BYTES_MAX: usize = 64 << 10;
        let is_small = group.queries.capacity() <= SPARE_BYTES_MAX;
        if self.spare.len() < SPARE_MAX && group.is_empty() && is_small {
            self.spare.push(group);
        }
    }
}

/// Who waits for the entry at `index`, in a queue that ascends.
fn next_at(queue: &mut VecDeque<(Index, Origin)>, index: Index) -> Option<Origin> {
    while let Some((first, _)) = queue.front() {
        if *first > index {
            return None;
        }
        let (first, origin) = queue.pop_front()?;
        // An index below the applied one was overwritten; its origin was answered when leadership was lost.
        if first == index {
            return Some(origin);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Sequence, SessionId};

    fn origin(request: u64) -> Origin {
        Origin::Client {
            conn: ConnId::new(0, 0),
            request: RequestId(request),
            asked: Asked::Command,
        }
    }

    fn request(origin: Option<Origin>) -> Option<u64> {
        origin.map(|origin| match origin {
            Origin::Client { request, .. } => request.0,
            Origin::Local(_) => unreachable!("only clients here"),
        })
    }

    #[test]
    fn a_batch_is_one_buffer_with_a_checksum_for_each_payload() {
        let mut requests = Requests::default();
        for text in [&b"one"[..], b"two"] {
            let command = Command {
                session: SessionId(0),
                sequence: Sequence(0),
                first_unanswered: Sequence(0),
                command: text,
                commit: Commit::Strong,
            };
            requests.batch.command(&command, origin(1));
        }
        let proposals: Vec<_> = requests.batch.take().collect();
        assert_eq!(&proposals[1].payload[session::HEADER_BYTES..], b"two");
        assert!(
            proposals
                .iter()
                .all(|proposal| proposal.crc == crc32c::crc32c(&proposal.payload))
        );
        assert_eq!(proposals[0].payload.as_ptr_range().end, proposals[1].payload.as_ptr());
    }

    #[test]
    fn an_applied_index_answers_its_own_request_alone() {
        let mut requests = Requests::default();
        for number in 5..8 {
            requests.batch.open_session(origin(number));
        }
        assert_eq!(requests.batch.take().len(), 3);
        requests.proposed(Index(5)..Index(8));
        assert_eq!(requests.waiting(), 3);
        assert_eq!(request(requests.applied(Index(4))), None);
        assert_eq!(request(requests.applied(Index(5))), Some(5));
        assert_eq!(
            request(requests.applied(Index(7))),
            Some(7),
            "an index passed over is forgotten"
        );
        assert_eq!(requests.waiting(), 0);
    }

    #[test]
    fn reads_wait_until_their_index_is_applied() {
        let mut requests = Requests::default();
        requests.reads.push(b"q", origin(1));
        requests.asked(RequestId(9), Instant::ZERO);
        requests.read_at(RequestId(9), Index(3));
        assert!(requests.next_ready(Index(2)).is_none());
        assert_eq!(requests.waiting(), 1);
        let mut group = requests.next_ready(Index(3)).expect("applied");
        group.drain(|query, _| assert_eq!(query, b"q"));
        requests.recycle(group);
        assert_eq!(requests.waiting(), 0);
    }

    #[test]
    fn queries_whose_index_does_not_come_count_no_more() {
        let mut requests = Requests::default();
        requests.reads.push(b"query", origin(1));
        requests.asked(RequestId(9), Instant::ZERO);
        requests.read_at(RequestId(9), Index(3));
        assert_eq!(requests.queries_bytes(), 5);
        assert!(requests.next_beyond(Index(3)).is_none());
        assert!(requests.next_beyond(Index(2)).is_some());
        assert_eq!((requests.waiting(), requests.queries_bytes()), (0, 0));
    }

    #[test]
    fn who_is_answered_early_waits_for_its_own_disk_and_no_longer_than_for_the_others() {
        let mut requests = Requests::default();
        for (at, commit) in [
            Commit::Leader,
            Commit::Async,
            Commit::Leader,
            Commit::Strong,
            Commit::Leader,
        ]
        .into_iter()
        .enumerate()
        {
            let command = Command {
                session: SessionId(0),
                sequence: Sequence(0),
                first_unanswered: Sequence(0),
                command: b"x",
                commit,
            };
            requests.batch.command(&command, origin(at as u64 + 5));
        }
        assert_eq!(requests.batch.take().len(), 5);
        let received: Vec<_> = requests
            .proposed(Index(5)..Index(10))
            .map(|origin| request(Some(origin)))
            .collect();
        assert_eq!(received, [Some(6)]);
        assert_eq!(request(requests.next_durable(Index(4))), None);
        assert_eq!(request(requests.next_durable(Index(6))), Some(5));
        assert_eq!(request(requests.next_durable(Index(6))), None);
        assert_eq!(
            request(requests.applied(Index(7))),
            Some(7),
            "applied before it was durable here"
        );
        assert_eq!(request(requests.applied(Index(8))), Some(8));
        let left: Vec<_> = requests.take_pending().map(|origin| request(Some(origin))).collect();
        assert_eq!(left, [Some(9)]);
        assert_eq!(requests.waiting(), 0);
    }
}
