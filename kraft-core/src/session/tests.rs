//! Exactly-once, and what bounds it.

mod image;

use super::*;

/// Counts what it applied; replies with the count and the command.
#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    type Image = [u8; 8];

    fn apply(&mut self, _: Index, command: &[u8], reply: &mut BytesMut) {
        self.0 += 1;
        reply.put_u64_le(self.0);
        reply.put_slice(command);
    }

    fn read(&self, _: &[u8], _: &mut BytesMut) -> Result<(), crate::machine::Refused> {
        Ok(())
    }

    fn image(&self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    fn restore(&mut self, image: [u8; 8]) -> [u8; 8] {
        std::mem::replace(&mut self.0, u64::from_le_bytes(image)).to_le_bytes()
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

    fn command(&mut self, session: u64, sequence: u64, first_unanswered: u64, command: &[u8]) -> (Applied, Vec<u8>) {
        let mut payload = BytesMut::new();
        let command = Command {
            session: SessionId(session),
            sequence: Sequence(sequence),
            first_unanswered: Sequence(first_unanswered),
            command,
            commit: Commit::Strong,
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
        commit: Commit::Strong,
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
