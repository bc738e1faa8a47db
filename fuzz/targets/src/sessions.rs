//! The table of sessions: entries of the log in any order, and images of any bytes.

use std::collections::BTreeSet;

use arbitrary::{Result, Unstructured};
use bytes::{BufMut, BytesMut};
use kraft_core::id::{Index, Sequence, SessionId};
use kraft_core::machine::{Refused, StateMachine};
use kraft_core::message::{Command, Commit, EntryKind, Refusal};
use kraft_core::session::{self, Applied, Limits, Sessions, SessionsImage};

use crate::meter::metered;
use crate::said;

const ENTRIES_MAX: usize = 100;

/// What a session, or a kept reply, counts besides its bytes.
const OVERHEAD_BYTES: usize = 64;

/// A machine that remembers what it was given, and answers as long as it is told.
#[derive(Default)]
struct Tape {
    count: u64,
    /// What came of the last command.
    last: Vec<u8>,
}

impl StateMachine for Tape {
    type Image = Vec<u8>;

    fn apply(&mut self, _: Index, command: &[u8], reply: &mut BytesMut) {
        self.count += 1;
        let length = command.first().map_or(0, |length| usize::from(*length));
        let start = reply.len();
        reply.put_u64_le(self.count);
        reply.put_bytes(command.len() as u8, length);
        self.last = reply[start..].to_vec();
    }

    fn read(&self, _: &[u8], _: &mut BytesMut) -> std::result::Result<(), Refused> {
        Ok(())
    }

    fn image(&self) -> Vec<u8> {
        self.count.to_le_bytes().to_vec()
    }

    fn restore(&mut self, image: Vec<u8>) -> Vec<u8> {
        image
    }

    fn digest(&self) -> u64 {
        self.count
    }
}

pub(crate) fn run(input: &[u8]) {
    let mut u = Unstructured::new(input);
    let _ = match u.arbitrary() {
        Ok(true) => try_image(&mut u),
        _ => try_entries(&mut u),
    };
}

fn limits(u: &mut Unstructured<'_>) -> Result<Limits> {
    let (replies_max, reply_bytes_max) = (u.int_in_range(1..=4)?, u.int_in_range(0..=300)?);
    let session = OVERHEAD_BYTES * (1 + replies_max) + reply_bytes_max;
    Ok(Limits {
        sessions_max: u.int_in_range(1..=5)?,
        replies_max,
        reply_bytes_max,
        table_bytes_max: session * u.int_in_range(1..=4)?,
    })
}

/// Any bytes as an image.
fn try_image(u: &mut Unstructured<'_>) -> Result<()> {
    let limits = limits(u)?;
    let bytes = u.bytes(u.len())?;
    let mut rest = bytes;
    let (image, taken) = metered(|| SessionsImage::read(&mut rest, &limits));
    // A session or reply of twelve bytes becomes an entry of a map; a length is believed for 64 KiB, of which little is
    // filled, and an error is a text.
    let bound = 64 * bytes.len() as u64 + (68 << 10);
    assert!(taken <= bound, "{taken} bytes are allocated for {}", bytes.len());
    let Ok(image) = image else { return Ok(()) };
    let mut written = Vec::new();
    image.write(&mut written).expect("a vector takes it");
    assert!(bytes.starts_with(&written), "a table has one image");
    assert_eq!(written.len() + rest.len(), bytes.len(), "no byte more is read");
    let mut sessions = Sessions::new(limits);
    sessions.restore(image);
    let mut again = Vec::new();
    sessions.image().write(&mut again).expect("a vector takes it");
    assert!(again == written);
    // It goes on behind the last entry that used it.
    let mut index = Index(u64::MAX / 2);
    let mut machine = Tape::default();
    for _ in 0..2 * limits.sessions_max {
        index = index.next();
        let applied = sessions.apply(index, EntryKind::OpenSession, &[], &mut machine, &mut BytesMut::new());
        assert_eq!(applied, Applied::Committed);
        assert!(sessions.len() <= limits.sessions_max);
    }
    Ok(())
}

/// Entries before a table and its twin, which now and then begins anew from an image.
fn try_entries(u: &mut Unstructured<'_>) -> Result<()> {
    let limits = limits(u)?;
    let (mut table, mut machine) = (Sessions::new(limits), Tape::default());
    let (mut twin, mut its_machine) = (Sessions::new(limits), Tape::default());
    let mut seen = Seen::default();
    for _ in 0..ENTRIES_MAX {
        if u.is_empty() {
            break;
        }
        seen.index = Index(seen.index.0 + u.int_in_range(1..=3)?);
        let (kind, payload) = seen.entry(u)?;
        let before = machine.count;
        let mut reply = BytesMut::new();
        let applied = table.apply(seen.index, kind, &payload, &mut machine, &mut reply);
        seen.judge(kind, &payload, applied, &reply, machine.count - before, &machine.last);
        let mut its_reply = BytesMut::new();
        let its = twin.apply(seen.index, kind, &payload, &mut its_machine, &mut its_reply);
        assert_eq!((applied, &reply), (its, &its_reply), "equal entries, equal answers");
        assert_eq!(table.digest(), twin.digest(), "equal entries, equal tables");
        assert!(table.len() <= limits.sessions_max);
        if u.ratio(1, 8)? {
            let mut image = Vec::new();
            twin.image().write(&mut image).expect("a vector takes it");
            let bound = limits.table_bytes_max + 5;
            assert!(image.len() <= bound, "{} bytes of {bound}", image.len());
            twin = Sessions::new(limits);
            let read = SessionsImage::read(&mut &image[..], &limits).expect("what was written is read");
            twin.restore(read);
            assert_eq!(table.digest(), twin.digest(), "it is what it was");
        }
    }
    Ok(())
}

#[derive(Default)]
struct Seen {
    index: Index,
    opened: Vec<SessionId>,
    /// What was applied with a session.
    applied: BTreeSet<(SessionId, Sequence)>,
}

impl Seen {
    fn entry(&self, u: &mut Unstructured<'_>) -> Result<(EntryKind, Vec<u8>)> {
        Ok(match u.int_in_range(0..=9)? {
            0 | 1 => (EntryKind::OpenSession, Vec::new()),
            2 => (*u.choose(&[EntryKind::Noop, EntryKind::Membership])?, Vec::new()),
            3 => (
                EntryKind::Command,
                said::payload(u)?.iter().take(100).copied().collect(),
            ),
            _ => {
                let session = match self.opened.is_empty() || u.ratio(1, 8)? {
                    true => SessionId(u.int_in_range(0..=2)?),
                    false => *u.choose(&self.opened)?,
                };
                let length = usize::from(u.arbitrary::<u8>()?).min(40);
                let command = Command {
                    session,
                    sequence: Sequence(u.int_in_range(0..=9)?),
                    first_unanswered: Sequence(u.int_in_range(0..=9)?),
                    command: u.bytes(length.min(u.len()))?,
                    commit: Commit::Strong,
                };
                let mut payload = BytesMut::new();
                session::encode(&command, &mut payload);
                assert_eq!(session::decode(&payload), Some(command));
                (EntryKind::Command, payload.to_vec())
            }
        })
    }

    /// What became of an entry, and how often the machine saw it.
    fn judge(&mut self, kind: EntryKind, payload: &[u8], applied: Applied, reply: &[u8], runs: u64, last: &[u8]) {
        assert!(runs <= 1);
        match kind {
            EntryKind::OpenSession => {
                let opened = session::decode_opened(reply);
                assert_eq!((applied, opened), (Applied::Committed, Some(SessionId(self.index.0))));
                self.opened.extend(opened);
            }
            EntryKind::Noop | EntryKind::Membership => assert_eq!((applied, runs), (Applied::Nothing, 0)),
            EntryKind::Command => {
                let Some(command) = session::decode(payload) else {
                    assert_eq!(applied, Applied::Refused(Refusal::Invalid));
                    return;
                };
                if runs == 1 {
                    assert_eq!(applied, Applied::Committed);
                    assert_eq!(reply, last, "the answer is the machine's");
                    if command.session.0 > 0 {
                        let is_new = self.applied.insert((command.session, command.sequence));
                        assert!(is_new, "{command:?} is applied twice");
                    }
                } else if applied == Applied::Committed {
                    let is_known = self.applied.contains(&(command.session, command.sequence));
                    assert!(is_known, "{command:?} is answered and was never applied");
                } else {
                    assert!(reply.is_empty(), "{applied:?} has no answer");
                }
            }
        }
    }
}
