//! The table of sessions in a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::{Kept, Limits, Session};
use crate::id::{Index, Sequence, SessionId};
use crate::machine::ImageReader;
use crate::snapshot::Image;

const VERSION: u8 = 1;

/// Stands where the length of a reply that was above the limit would.
const DROPPED: u32 = u32::MAX;

/// The state in a snapshot is written and read in pieces of this, however small its fields are.
const BUFFER_BYTES: usize = 64 << 10;

/// A frozen table of sessions.
///
/// Invariant: `bytes` is the sum over all sessions.
#[derive(Clone, Debug, Default)]
pub struct SessionsImage {
    table: BTreeMap<SessionId, Arc<Session>>,
    bytes: usize,
}

impl SessionsImage {
    pub(super) fn new(table: BTreeMap<SessionId, Arc<Session>>, bytes: usize) -> Self {
        Self { table, bytes }
    }

    pub(super) fn into_parts(self) -> (BTreeMap<SessionId, Arc<Session>>, usize) {
        (self.table, self.bytes)
    }

    /// How many sessions are open in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is open in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Writes all of it, as [`session`](super) says.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(&[VERSION])?;
        out.write_all(&count(self.table.len()).to_le_bytes())?;
        for (id, session) in &self.table {
            out.write_all(&id.0.to_le_bytes())?;
            out.write_all(&session.last_used.0.to_le_bytes())?;
            out.write_all(&session.first_unanswered.0.to_le_bytes())?;
            out.write_all(&count(session.replies.len()).to_le_bytes())?;
            for (sequence, kept) in &session.replies {
                out.write_all(&sequence.0.to_le_bytes())?;
                match kept {
                    Kept::Reply(reply) => {
                        out.write_all(&count(reply.len()).to_le_bytes())?;
                        out.write_all(reply)?;
                    }
                    Kept::Dropped => out.write_all(&DROPPED.to_le_bytes())?,
                }
            }
        }
        Ok(())
    }

    /// Reads what [`write`](Self::write) wrote and no byte more. A table above the limits, which are those of the node
    /// that reads, is of a cluster whose nodes differ in them; taken, it would expire other sessions than theirs.
    ///
    /// # Errors
    ///
    /// Those of `input`, and [`io::ErrorKind::InvalidData`] for what is no table, or one above `limits`; the text names
    /// what and where.
    pub fn read(input: &mut dyn io::Read, limits: &Limits) -> io::Result<Self> {
        let mut input = ImageReader::new(input, "the sessions");
        let version = input.u8()?;
        if version != VERSION {
            return Err(input.invalid(format_args!("version {version}, and {VERSION} is known")));
        }
        let sessions = input.u32()?;
        within(&input, "sessions_max", limits.sessions_max, sessions as usize)?;
        let mut image = Self::default();
        let mut uses = BTreeSet::new();
        for _ in 0..sessions {
            let id = SessionId(input.u64()?);
            if id.0 == 0 || image.table.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(input.invalid(format_args!("session {id} out of order")));
            }
            let session = read_session(&mut input, limits)?;
            if session.last_used.0 < id.0 || !uses.insert(session.last_used) {
                let last_used = session.last_used;
                return Err(input.invalid(format_args!("session {id} was not last used by entry {last_used}")));
            }
            image.bytes += session.bytes();
            within(&input, "table_bytes_max", limits.table_bytes_max, image.bytes)?;
            image.table.insert(id, Arc::new(session));
        }
        Ok(image)
    }
}

fn read_session(input: &mut ImageReader<'_>, limits: &Limits) -> io::Result<Session> {
    let (last_used, first_unanswered) = (Index(input.u64()?), Sequence(input.u64()?));
    if first_unanswered.0 == 0 {
        return Err(input.invalid("first_unanswered is 0, and sequences begin with 1"));
    }
    let count = input.u32()?;
    within(input, "replies_max", limits.replies_max, count as usize)?;
    let mut session = Session {
        last_used,
        first_unanswered,
        replies: BTreeMap::new(),
        reply_bytes: 0,
    };
    let mut bytes = Vec::new();
    for _ in 0..count {
        let sequence = Sequence(input.u64()?);
        let last = session.replies.last_key_value().map(|(last, _)| *last);
        if sequence < first_unanswered || last.is_some_and(|last| last >= sequence) {
            return Err(input.invalid(format_args!("reply {sequence} out of order")));
        }
        let kept = match input.u32()? {
            DROPPED => Kept::Dropped,
            length => {
                let all = session.reply_bytes.saturating_add(length as usize);
                within(input, "reply_bytes_max", limits.reply_bytes_max, all)?;
                input.bytes(length as usize, &mut bytes)?;
                session.reply_bytes = all;
                Kept::Reply(bytes.as_slice().into())
            }
        };
        session.replies.insert(sequence, kept);
    }
    Ok(session)
}

fn within(input: &ImageReader<'_>, name: &str, limit: usize, there: usize) -> io::Result<()> {
    if there <= limit {
        return Ok(());
    }
    Err(input.invalid(format_args!(
        "{there}, and {name} is {limit} here; limits of sessions are the same on every node of a cluster"
    )))
}

fn count(count: usize) -> u32 {
    u32::try_from(count)
        .ok()
        .filter(|count| *count != DROPPED)
        .expect("sessions and replies are below 4 GiB")
}

/// The whole replicated state, frozen: what a snapshot keeps behind its head.
#[derive(Clone, Debug)]
pub struct StateImage<I> {
    /// The sessions.
    pub sessions: SessionsImage,
    /// The state machine.
    pub machine: I,
}

impl<I: Image> StateImage<I> {
    /// Writes the sessions, and the machine behind them.
    ///
    /// # Errors
    ///
    /// Those of `out` and of the machine's image.
    pub fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let mut out = io::BufWriter::with_capacity(BUFFER_BYTES, out);
        self.sessions.write(&mut out)?;
        self.machine.write(&mut out)?;
        io::Write::flush(&mut out)
    }

    /// Reads what [`write`](Self::write) wrote, to the end of `input`.
    ///
    /// # Errors
    ///
    /// Those of `input`, of [`SessionsImage::read`] and of the machine's image.
    pub fn read(input: &mut dyn io::Read, limits: &Limits) -> io::Result<Self> {
        let mut input = io::BufReader::with_capacity(BUFFER_BYTES, input);
        Ok(Self {
            sessions: SessionsImage::read(&mut input, limits)?,
            machine: I::read(&mut input)?,
        })
    }
}
