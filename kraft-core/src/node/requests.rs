//! What clients asked for and have not been answered.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::handle::{Completion, Outcome};
use crate::id::{ConnId, Index, RequestId};
use crate::log::Proposal;
use crate::message::{Command, EntryKind};
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
    origins: Vec<Origin>,
}

impl Batch {
    pub(super) fn command(&mut self, command: &Command<'_>, origin: Origin) {
        let start = self.buffer.len();
        session::encode(command, &mut self.buffer);
        self.push(EntryKind::Command, start, origin);
    }

    pub(super) fn open_session(&mut self, origin: Origin) {
        self.push(EntryKind::OpenSession, self.buffer.len(), origin);
    }

    fn push(&mut self, kind: EntryKind, start: usize, origin: Origin) {
        self.proposals.push((kind, start..self.buffer.len()));
        self.origins.push(origin);
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
    pub(super) fn take_origins(&mut self) -> std::vec::Drain<'_, Origin> {
        self.origins.drain(..)
    }
}

/// Reads that share one question to Raft.
#[derive(Debug, Default)]
pub(super) struct ReadGroup {
    queries: BytesMut,
    reads: Vec<(Range<usize>, Origin)>,
    asked: Instant,
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
/// Invariant: `pending` ascends by index; `waiting()` is the number of origins in here that a later turn must answer.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Proposals of the present turn.
    pub(super) batch: Batch,
    /// Reads of the present turn.
    pub(super) reads: ReadGroup,
    /// Appended proposals, by index.
    pending: VecDeque<(Index, Origin)>,
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
        self.pending.len() + self.waiting_reads + self.batch.origins.len() + self.reads.len()
    }

    /// Bytes of the queries among them.
    pub(super) fn queries_bytes(&self) -> usize {
        self.waiting_queries_bytes + self.reads.bytes()
    }

    /// The batch stands in the log at `range`.
    pub(super) fn proposed(&mut self, range: Range<Index>) {
        let indexes = (range.start.0..range.end.0).map(Index);
        self.pending.extend(indexes.zip(self.batch.take_origins()));
    }

    /// Who waits for the entry at `index`, which was just applied.
    pub(super) fn applied(&mut self, index: Index) -> Option<Origin> {
        while let Some((first, _)) = self.pending.front() {
            if *first > index {
                return None;
            }
            let (first, origin) = self.pending.pop_front()?;
            // An index below the applied one was overwritten; its origin was answered when leadership was lost.
            if first == index {
                return Some(origin);
            }
        }
        None
    }

    /// Leadership is lost: whoever waits for an entry.
    pub(super) fn take_pending(&mut self) -> VecDeque<(Index, Origin)> {
        std::mem::take(&mut self.pending)
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
    pub(super) fn recycle(&mut self, group: ReadGroup) {
        const SPARE_MAX: usize = 8;
        const SPARE_BYTES_MAX: usize = 64 << 10;
        let is_small = group.queries.capacity() <= SPARE_BYTES_MAX;
        if self.spare.len() < SPARE_MAX && group.is_empty() && is_small {
            self.spare.push(group);
        }
    }
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
    fn reads_that_waited_for_a_lost_leader_leave_nothing_behind() {
        let mut requests = Requests::default();
        requests.reads.push(b"query", origin(1));
        requests.asked(RequestId(9), Instant::ZERO);
        requests.read_at(RequestId(9), Index(3));
        assert_eq!((requests.waiting(), requests.queries_bytes()), (1, 5));
        assert!(requests.next_beyond(Index(2)).is_some());
        assert_eq!((requests.waiting(), requests.queries_bytes()), (0, 0));
    }
}
