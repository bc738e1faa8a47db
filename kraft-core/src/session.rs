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
//!
//! The table in a snapshot, which is the same bytes on every node that applied the same entries:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 4 | how many sessions; then for each, by id: |
//! | 8 | id |
//! | 8 | index of the last entry that used it; no two sessions have the same |
//! | 8 | first_unanswered, at least 1 |
//! | 4 | how many replies; then for each, by sequence: |
//! | 8 | sequence, at least first_unanswered |
//! | 4 | bytes of the reply, `u32::MAX` for one that was above the limit |
//! | | the reply |

mod image;
#[cfg(test)]
mod tests;

pub use image::{SessionsImage, StateImage};

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};

use crate::canary::{self, Canary};
use crate::id::{Index, NodeId, Sequence, SessionId};
use crate::machine::{Digest, StateMachine};
use crate::message::{Command, Commit, EntryKind, Outcome, Refusal, Refused};

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
        // Who was to be answered when is not in the log.
        commit: Commit::Strong,
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
    /// An image shares the sessions that were not used since it was taken.
    table: BTreeMap<SessionId, Arc<Session>>,
    by_use: BTreeMap<Index, SessionId>,
    bytes: usize,
}

/// Invariant: every sequence at or above `first_unanswered` that was applied is a key of `replies`, and none below.
#[derive(Clone, Debug)]
struct Session {
    last_used: Index,
    first_unanswered: Sequence,
    replies: BTreeMap<Sequence, Kept>,
    reply_bytes: usize,
}

/// A reply, or the fact that there was one and it was above the limit.
#[derive(Clone, Debug)]
enum Kept {
    Reply(Arc<[u8]>),
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

    /// The table as it is. Takes time with the number of sessions, and none with their replies.
    #[must_use]
    pub fn image(&self) -> SessionsImage {
        SessionsImage::new(self.table.clone(), self.bytes)
    }

    /// Becomes the table that the image is of, and returns the one that it was, whose memory takes time to free. The
    /// limits stay this node's own.
    ///
    /// # Panics
    ///
    /// If the image is above the limits: one of this node's is not, nor is one that was read within them.
    pub fn restore(&mut self, image: SessionsImage) -> SessionsImage {
        let (table, bytes) = image.into_parts();
        let limits = self.limits;
        assert!(
            table.len() <= limits.sessions_max && bytes <= limits.table_bytes_max,
            "an image above the limits"
        );
        let former = std::mem::replace(self, Self::new(limits));
        let former = SessionsImage::new(former.table, former.bytes);
        if canary::is(Canary::SessionsNotRestored) {
            return former;
        }
        self.by_use = table.iter().map(|(id, session)| (session.last_used, *id)).collect();
        (self.table, self.bytes) = (table, bytes);
        former
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
        let old = self.table.insert(SessionId(index.0), Arc::new(session));
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
        let session = Arc::make_mut(session);
        session.last_used = index;
        self.bytes -= session.forget_below(command.first_unanswered);

        if command.sequence < session.first_unanswered {
            return Applied::Unknown;
        }
        let kept = session.replies.get(&command.sequence);
        match kept.filter(|_| !canary::is(Canary::RetryAppliedTwice)) {
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
            self.bytes -= session.remove().bytes();
            return;
        }
    }
}

impl Session {
    /// What it counts.
    fn bytes(&self) -> usize {
        OVERHEAD_BYTES + self.replies.len() * OVERHEAD_BYTES + self.reply_bytes
    }

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
