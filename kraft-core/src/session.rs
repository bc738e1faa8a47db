//! Client sessions in the replicated state: a retried command applies once (thesis §6.3).
//!
//! [`Sessions`] stands between the log and the [`StateMachine`]: the driver gives it each committed entry, and it lets
//! the machine see a command at most once. It is part of the replicated state: equal on all nodes that applied the
//! same entries, and pruned by the log alone, never by a clock.
//!
//! # Layout
//!
//! The payload of an [`EntryKind::Command`], all numbers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | session, zero for none |
//! | 8..16 | sequence, from 1; zero without a session |
//! | 16..24 | first_unanswered: every reply below it was received |
//! | 24.. | the state machine's command |
//!
//! The payload of an [`EntryKind::OpenSession`] is empty. Its reply is the session's id, a little-endian `u64`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::{Buf, BufMut, BytesMut};

use crate::id::{Index, NodeId, Sequence, SessionId};
use crate::machine::{Digest, StateMachine};
use crate::message::{Command, EntryKind, Outcome, Refusal, Refused};

/// Bytes in front of the state machine's command.
pub const HEADER_BYTES: usize = 24;

/// What a session, or one kept reply, counts on top of its reply bytes: about what the maps around it take.
const OVERHEAD_BYTES: usize = 64;

/// Writes the payload of a command's entry.
pub fn encode(command: &Command<'_>, out: &mut BytesMut) {
    out.reserve(HEADER_BYTES + command.command.len());
    out.put_u64_le(command.session.0);
    out.put_u64_le(command.sequence.0);
    out.put_u64_le(command.first_unanswered.0);
    out.put_slice(command.command);
}

/// Reads the payload of a command's entry; `None` if it is shorter than its header.
#[must_use]
pub fn decode(payload: &[u8]) -> Option<Command<'_>> {
    let (mut header, command) = payload.split_at_checked(HEADER_BYTES)?;
    Some(Command {
        session: SessionId(header.get_u64_le()),
        sequence: Sequence(header.get_u64_le()),
        first_unanswered: Sequence(header.get_u64_le()),
        command,
    })
}

/// Reads the reply to an opened session.
#[must_use]
pub fn decode_opened(reply: &[u8]) -> Option<SessionId> {
    let id = u64::from_le_bytes(reply.try_into().ok()?);
    (id != 0).then_some(SessionId(id))
}

/// How much the table holds. A part of the replicated state's rules: the same on every node of a cluster, or their
/// states drift apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions; one more expires the one that was used the longest ago, by log index.
    pub sessions_max: usize,
    /// Replies kept for a session; a command beyond is refused as [`Refusal::Overloaded`] and not applied. Clients
    /// keep fewer commands in flight than this.
    pub replies_max: usize,
    /// Bytes of replies kept for a session; a reply beyond is not kept, and a retry of its command is answered
    /// [`Applied::Unknown`].
    pub reply_bytes_max: usize,
    /// Bytes of the whole table; beyond it the sessions used the longest ago expire.
    pub table_bytes_max: usize,
}

impl Default for Limits {
    /// 4,096 sessions, 256 replies and 64 KiB of them each, 16 MiB in all.
    fn default() -> Self {
        Self {
            sessions_max: 4096,
            replies_max: 256,
            reply_bytes_max: 64 << 10,
            table_bytes_max: 16 << 20,
        }
    }
}

/// What became of a committed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Applied by this entry or an earlier one of the same session and sequence; the reply was appended.
    Committed,
    /// The machine did not see it: [`Refusal::SessionExpired`], [`Refusal::Overloaded`] if the session keeps
    /// [`Limits::replies_max`] replies, [`Refusal::Invalid`] if the payload is no command.
    Refused(Refusal),
    /// An earlier entry of the same session and sequence was applied or answered, and its reply is no longer kept.
    Unknown,
    /// Nobody waits for it: an entry of the cluster's own.
    Nothing,
}

impl Applied {
    /// The outcome for the client; `reply` is what this entry appended. `None` if nobody waits for it.
    #[must_use]
    pub fn outcome(self, reply: &[u8]) -> Option<Outcome<'_>> {
        match self {
            Self::Committed => Some(Outcome::Committed(reply)),
            Self::Refused(why) => Some(Outcome::Refused(Refused {
                why,
                leader: NodeId::NONE,
                detail: "",
            })),
            Self::Unknown => Some(Outcome::Unknown),
            Self::Nothing => None,
        }
    }
}

/// The table of sessions, in front of the state machine.
///
/// Invariants: `by_use` holds each session once, under the index of an entry that used it, mostly not of the last:
/// it is brought up to date when it is asked who is the oldest, so that a command costs no change of it.
/// `bytes <= limits.table_bytes_max` once an entry is applied, and is the sum over all sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    limits: Limits,
    table: BTreeMap<SessionId, Session>,
    by_use: BTreeMap<Index, SessionId>,
    bytes: usize,
}

/// Invariant: every sequence at or above `first_unanswered` that was applied is a key of `replies`, and none below.
#[derive(Debug)]
struct Session {
    last_used: Index,
    first_unanswered: Sequence,
    replies: BTreeMap<Sequence, Kept>,
    reply_bytes: usize,
}

/// A reply, or the fact that there was one and it was above the limit.
#[derive(Debug)]
enum Kept {
    Reply(Box<[u8]>),
    Dropped,
}

impl Kept {
    fn len(&self) -> usize {
        match self {
            Self::Reply(bytes) => bytes.len(),
            Self::Dropped => 0,
        }
    }
}

impl Sessions {
    /// An empty table.
    ///
    /// # Panics
    ///
    /// If a limit is zero, or a single session could fill the whole table.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let session_bytes_max = OVERHEAD_BYTES + limits.replies_max * OVERHEAD_BYTES + limits.reply_bytes_max;
        assert!(
            limits.sessions_max > 0 && limits.replies_max > 0,
            "a session limit is zero"
        );
        assert!(
            session_bytes_max <= limits.table_bytes_max,
            "one session could fill the table"
        );
        Self {
            limits,
            ..Self::default()
        }
    }

    /// How many sessions are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Applies the committed entry at `index` and appends the reply to `reply`. Called by the driver for every entry,
    /// in order, once a run.
    pub fn apply<M: StateMachine + ?Sized>(
        &mut self,
        index: Index,
        kind: EntryKind,
        payload: &[u8],
        machine: &mut M,
        reply: &mut BytesMut,
    ) -> Applied {
        match kind {
            EntryKind::Noop | EntryKind::Membership => Applied::Nothing,
            EntryKind::OpenSession => {
                self.open(index);
                reply.put_u64_le(index.0);
                Applied::Committed
            }
            EntryKind::Command => match decode(payload) {
                None => Applied::Refused(Refusal::Invalid),
                Some(Command {
                    session: SessionId(0),
                    command,
                    ..
                }) => {
                    machine.apply(index, command, reply);
                    Applied::Committed
                }
                Some(command) => self.apply_once(index, &command, machine, reply),
            },
        }
    }

    /// A hash of the table, equal on nodes that applied the same.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::default();
        for (id, session) in &self.table {
            digest.number(id.0);
            digest.number(session.last_used.0);
            digest.number(session.first_unanswered.0);
            for (sequence, kept) in &session.replies {
                digest.number(sequence.0);
                match kept {
                    Kept::Reply(bytes) => digest.bytes(bytes),
                    Kept::Dropped => digest.number(u64::MAX),
                }
            }
        }
        digest.finish()
    }

    fn open(&mut self, index: Index) {
        if self.table.len() == self.limits.sessions_max {
            self.expire_oldest();
        }
        let session = Session {
            last_used: index,
            first_unanswered: Sequence(1),
            replies: BTreeMap::new(),
            reply_bytes: 0,
        };
        self.bytes += OVERHEAD_BYTES;
        let old = self.table.insert(SessionId(index.0), session);
        assert!(old.is_none(), "entry {index} was applied twice");
        self.by_use.insert(index, SessionId(index.0));
        self.keep_to_bytes();
    }

    fn apply_once<M: StateMachine + ?Sized>(
        &mut self,
        index: Index,
        command: &Command<'_>,
        machine: &mut M,
        reply: &mut BytesMut,
    ) -> Applied {
        let Some(session) = self.table.get_mut(&command.session) else {
            return Applied::Refused(Refusal::SessionExpired);
        };
        session.last_used = index;
        self.bytes -= session.forget_below(command.first_unanswered);

        if command.sequence < session.first_unanswered {
            return Applied::Unknown;
        }
        match session.replies.get(&command.sequence) {
            Some(Kept::Reply(kept)) => {
                reply.put_slice(kept);
                return Applied::Committed;
            }
            Some(Kept::Dropped) => return Applied::Unknown,
            None if session.replies.len() >= self.limits.replies_max => {
                return Applied::Refused(Refusal::Overloaded);
            }
            None => {}
        }
        let start = reply.len();
        machine.apply(index, command.command, reply);
        self.bytes += session.keep(command.sequence, &reply[start..], self.limits.reply_bytes_max);
        self.keep_to_bytes();
        Applied::Committed
    }

    /// The session in use was used last, and alone it is below the limit, so it is never the one that expires.
    fn keep_to_bytes(&mut self) {
        while self.bytes > self.limits.table_bytes_max {
            self.expire_oldest();
        }
    }

    /// No session was used before the index that `by_use` has for it, so the first whose index is that of its last
    /// use is the oldest of all. Each step past a later-used one is paid for by that use.
    fn expire_oldest(&mut self) {
        loop {
            let (index, id) = self.by_use.pop_first().expect("a table above a limit has a session");
            let Entry::Occupied(session) = self.table.entry(id) else {
                unreachable!("by_use names sessions of the table");
            };
            let last_used = session.get().last_used;
            if last_used > index {
                self.by_use.insert(last_used, id);
                continue;
            }
            let session = session.remove();
            self.bytes -= OVERHEAD_BYTES + session.replies.len() * OVERHEAD_BYTES + session.reply_bytes;
            return;
        }
    }
}

impl Session {
    /// Forgets replies that the client has; returns what was freed. The bound never goes back: an older duplicate of
    /// a command carries an older one.
    fn forget_below(&mut self, first_unanswered: Sequence) -> usize {
        self.first_unanswered = self.first_unanswered.max(first_unanswered);
        let mut freed = 0;
        while let Some(first) = self.replies.first_entry() {
            if *first.key() >= self.first_unanswered {
                break;
            }
            let bytes = first.remove().len();
            self.reply_bytes -= bytes;
            freed += bytes + OVERHEAD_BYTES;
        }
        freed
    }

    /// Keeps a reply, or its absence; returns what it counts.
    fn keep(&mut self, sequence: Sequence, reply: &[u8], reply_bytes_max: usize) -> usize {
        let kept = if self.reply_bytes + reply.len() <= reply_bytes_max {
            Kept::Reply(reply.into())
        } else {
            Kept::Dropped
        };
        let bytes = kept.len();
        self.reply_bytes += bytes;
        self.replies.insert(sequence, kept);
        bytes + OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts what it applied; replies with the count and the command.
    #[derive(Default)]
    struct Counter(u64);

    impl StateMachine for Counter {
        fn apply(&mut self, _: Index, command: &[u8], reply: &mut BytesMut) {
            self.0 += 1;
            reply.put_u64_le(self.0);
            reply.put_slice(command);
        }

        fn read(&self, _: &[u8], _: &mut BytesMut) -> Result<(), crate::machine::Refused> {
            Ok(())
        }

        fn digest(&self) -> u64 {
            self.0
        }
    }

    struct Table {
        sessions: Sessions,
        machine: Counter,
        index: u64,
    }

    impl Table {
        fn new(limits: Limits) -> Self {
            Self {
                sessions: Sessions::new(limits),
                machine: Counter::default(),
                index: 0,
            }
        }

        fn entry(&mut self, kind: EntryKind, payload: &[u8]) -> (Applied, Vec<u8>) {
            self.index += 1;
            let mut reply = BytesMut::new();
            let applied = self
                .sessions
                .apply(Index(self.index), kind, payload, &mut self.machine, &mut reply);
            (applied, reply.to_vec())
        }

        fn open(&mut self) -> u64 {
            let (applied, reply) = self.entry(EntryKind::OpenSession, b"");
            assert_eq!(applied, Applied::Committed);
            decode_opened(&reply).expect("the reply is the id").0
        }

        fn command(
            &mut self,
            session: u64,
            sequence: u64,
            first_unanswered: u64,
            command: &[u8],
        ) -> (Applied, Vec<u8>) {
            let mut payload = BytesMut::new();
            let command = Command {
                session: SessionId(session),
                sequence: Sequence(sequence),
                first_unanswered: Sequence(first_unanswered),
                command,
            };
            encode(&command, &mut payload);
            assert_eq!(decode(&payload), Some(command));
            self.entry(EntryKind::Command, &payload)
        }

        /// The bookkeeping, counted afresh.
        fn check(&self) {
            let sessions = &self.sessions;
            let bytes: usize = sessions
                .table
                .values()
                .map(|s| {
                    let kept: usize = s.replies.values().map(Kept::len).sum();
                    assert_eq!(kept, s.reply_bytes);
                    assert!(s.replies.keys().all(|sequence| *sequence >= s.first_unanswered));
                    kept + (1 + s.replies.len()) * OVERHEAD_BYTES
                })
                .sum();
            assert_eq!(bytes, sessions.bytes);
            assert!(bytes <= sessions.limits.table_bytes_max);
            assert_eq!(sessions.by_use.len(), sessions.table.len());
            for (index, id) in &sessions.by_use {
                assert!(sessions.table[id].last_used >= *index);
            }
        }
    }

    const SMALL: Limits = Limits {
        sessions_max: 3,
        replies_max: 4,
        reply_bytes_max: 100,
        table_bytes_max: 600,
    };

    #[test]
    fn a_retried_command_applies_once_with_the_same_reply() {
        let mut table = Table::new(SMALL);
        let session = table.open();
        let first = table.command(session, 1, 1, b"a");
        let again = table.command(session, 1, 1, b"a");
        assert_eq!(first.0, Applied::Committed);
        assert_eq!(first, again);
        assert_eq!(table.machine.0, 1);
        table.check();
    }

    #[test]
    fn without_a_session_every_entry_applies() {
        let mut table = Table::new(SMALL);
        table.command(0, 0, 0, b"a");
        table.command(0, 0, 0, b"a");
        assert_eq!(table.machine.0, 2);
        assert!(table.sessions.is_empty());
    }

    #[test]
    fn sequences_may_have_gaps_and_come_late() {
        let mut table = Table::new(SMALL);
        let session = table.open();
        table.command(session, 7, 1, b"late");
        let (applied, _) = table.command(session, 3, 1, b"early");
        assert_eq!((applied, table.machine.0), (Applied::Committed, 2));
        let (applied, reply) = table.command(session, 7, 1, b"late");
        assert_eq!((applied, &reply[8..]), (Applied::Committed, &b"late"[..]));
        assert_eq!(table.machine.0, 2);
        table.check();
    }

    #[test]
    fn what_the_client_has_received_is_forgotten_and_never_applied_again() {
        let mut table = Table::new(SMALL);
        let session = table.open();
        table.command(session, 1, 1, b"a");
        table.command(session, 2, 2, b"b");
        assert_eq!(table.command(session, 1, 1, b"a"), (Applied::Unknown, vec![]));
        assert_eq!(table.command(session, 2, 1, b"b").0, Applied::Committed);
        assert_eq!(table.machine.0, 2);
        table.check();
    }

    #[test]
    fn a_session_that_is_not_in_the_table_is_expired() {
        let mut table = Table::new(SMALL);
        let expired = (Applied::Refused(Refusal::SessionExpired), vec![]);
        assert_eq!(table.command(9, 1, 1, b"a"), expired);
        assert_eq!(table.machine.0, 0);
    }

    #[test]
    fn the_session_used_the_longest_ago_gives_way_to_a_new_one() {
        let mut table = Table::new(SMALL);
        let [a, b, c] = [table.open(), table.open(), table.open()];
        table.command(a, 1, 1, b"used again");
        table.open();
        assert_eq!(table.sessions.len(), 3);
        assert_eq!(table.command(b, 1, 1, b"").0, Applied::Refused(Refusal::SessionExpired));
        assert_eq!(table.command(a, 2, 1, b"").0, Applied::Committed);
        assert_eq!(table.command(c, 1, 1, b"").0, Applied::Committed);
        table.check();
    }

    #[test]
    fn the_oldest_is_found_whatever_the_order_of_uses() {
        let mut table = Table::new(SMALL);
        let mut model: Vec<u64> = vec![];
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..2000 {
            if rng.u8(..4) == 0 || model.is_empty() {
                if model.len() == SMALL.sessions_max {
                    model.remove(0);
                }
                model.push(table.open());
            } else {
                let used = model.remove(rng.usize(..model.len()));
                model.push(used);
                assert_eq!(
                    table.command(used, table.index + 1, table.index + 1, b"").0,
                    Applied::Committed
                );
            }
            let mut expected = model.clone();
            expected.sort_unstable();
            let present: Vec<_> = table.sessions.table.keys().map(|id| id.0).collect();
            assert_eq!(present, expected);
            table.check();
        }
    }

    #[test]
    fn a_session_with_all_replies_kept_is_refused_until_it_acknowledges() {
        let mut table = Table::new(SMALL);
        let session = table.open();
        for sequence in 1..=4 {
            assert_eq!(table.command(session, sequence, 1, b"").0, Applied::Committed);
        }
        assert_eq!(
            table.command(session, 5, 1, b"").0,
            Applied::Refused(Refusal::Overloaded)
        );
        assert_eq!(table.machine.0, 4);
        assert_eq!(table.command(session, 5, 2, b"").0, Applied::Committed);
        assert_eq!(table.machine.0, 5);
        table.check();
    }

    #[test]
    fn a_reply_above_the_limit_is_sent_once_and_a_retry_is_unknown() {
        let mut table = Table::new(SMALL);
        let session = table.open();
        let (applied, reply) = table.command(session, 1, 1, &[7; 93]);
        assert_eq!((applied, reply.len()), (Applied::Committed, 101));
        assert_eq!(table.command(session, 1, 1, &[7; 93]), (Applied::Unknown, vec![]));
        assert_eq!(table.machine.0, 1);
        table.check();
    }

    #[test]
    fn the_whole_table_is_bounded_in_bytes() {
        let mut table = Table::new(SMALL);
        for _ in 0..50 {
            let session = table.open();
            for sequence in 1..=4 {
                assert_eq!(table.command(session, sequence, 1, &[1; 17]).0, Applied::Committed);
                table.check();
            }
        }
        assert!(table.sessions.len() < 3);
    }

    #[test]
    fn a_payload_without_a_header_is_refused() {
        let mut table = Table::new(SMALL);
        let invalid = (Applied::Refused(Refusal::Invalid), vec![]);
        assert_eq!(table.entry(EntryKind::Command, &[0; HEADER_BYTES - 1]), invalid);
    }

    #[test]
    fn entries_of_the_cluster_reach_no_machine() {
        let mut table = Table::new(SMALL);
        assert_eq!(table.entry(EntryKind::Noop, b""), (Applied::Nothing, vec![]));
        assert_eq!(
            table.entry(EntryKind::Membership, b"voters"),
            (Applied::Nothing, vec![])
        );
        assert_eq!(table.machine.0, 0);
    }

    #[test]
    fn equal_entries_give_equal_digests_and_others_do_not() {
        let run = |last: u64| {
            let mut table = Table::new(SMALL);
            let session = table.open();
            table.command(session, 1, 1, b"a");
            table.command(session, last, 1, b"b");
            table.sessions.digest()
        };
        assert_eq!(run(2), run(2));
        assert_ne!(run(2), run(3));
    }

    #[test]
    fn replies_are_appended_behind_what_is_there() {
        let mut table = Table::new(SMALL);
        let session = table.open();
        let mut payload = BytesMut::new();
        let command = Command {
            session: SessionId(session),
            sequence: Sequence(1),
            first_unanswered: Sequence(1),
            command: b"x",
        };
        encode(&command, &mut payload);
        for index in [2, 3] {
            let mut reply = BytesMut::from(&b"before"[..]);
            table.sessions.apply(
                Index(index),
                EntryKind::Command,
                &payload,
                &mut table.machine,
                &mut reply,
            );
            assert_eq!(&reply[..], b"before\x01\0\0\0\0\0\0\0x");
        }
    }
}
