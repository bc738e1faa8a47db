//! The fields of each kind of message, by their numbers and names, as values: for formats that no generator makes.

use kraft_core::handshake::Kind;

use crate::kinds::kinds;

/// A value that is one of a few, with the name that it has where names are spoken.
pub type Choices = &'static [(u64, &'static str)];

/// A field of a kind of message.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its number in the schema.
    pub number: u8,
    /// Its name there.
    pub name: &'static str,
    /// What it holds.
    pub holds: Holds,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Holds {
    /// A number, at most this one.
    Number(u64),
    /// Yes or no.
    Flag,
    /// One of a few values.
    Choice(Choices),
    /// A text: which of the message's two.
    Text(usize),
    /// The message's bytes: each kind has one such field at most.
    Bytes,
    /// The entries of an append.
    Entries,
    /// The members of a status reply.
    Members,
}

const U64: Holds = Holds::Number(u64::MAX);
/// Eight bytes in `protobuf`, whose other numbers are as long as they are large.
const FIXED64: Holds = U64;
const U32: Holds = Holds::Number(u32::MAX as u64);
/// Four bytes there.
const FIXED32: Holds = U32;
const U16: Holds = Holds::Number(u16::MAX as u64);

const ROLE: Holds = Holds::Choice(&[(1, "peer"), (2, "client")]);
const GOAWAY_REASON: Holds = Holds::Choice(&[
    (1, "wrong_cluster"),
    (2, "wrong_node"),
    (3, "own_id"),
    (4, "unknown_node"),
    (5, "wrong_incarnation"),
    (6, "duplicate_node"),
    (7, "no_common_version"),
    (8, "not_allowed"),
    (9, "malformed"),
    (10, "too_large"),
    (11, "too_slow"),
    (12, "too_many"),
    (13, "stopping"),
    (14, "violation"),
    (15, "removed"),
]);
const ENTRY_KIND: Holds = Holds::Choice(&[(1, "command"), (2, "noop"), (3, "open_session"), (4, "membership")]);
const APPEND_RESULT: Holds = Holds::Choice(&[(1, "matched"), (2, "rejected")]);
const READ_INDEX_RESULT: Holds = Holds::Choice(&[(1, "at"), (2, "refused")]);
const SNAPSHOT_RESULT: Holds = Holds::Choice(&[(1, "received"), (2, "no_space"), (3, "damaged")]);
const COMMIT: Holds = Holds::Choice(&[(0, "strong"), (1, "leader"), (2, "async")]);
const CONSISTENCY: Holds = Holds::Choice(&[(0, "linearizable"), (1, "lease"), (2, "stale")]);
const OUTCOME: Holds = Holds::Choice(&[(1, "committed"), (2, "refused"), (3, "unknown"), (4, "weaker")]);
const REFUSAL: Holds = Holds::Choice(&[
    (1, "not_leader"),
    (2, "overloaded"),
    (3, "no_space"),
    (4, "session_expired"),
    (5, "too_large"),
    (6, "invalid"),
    (7, "stopping"),
    (8, "unknown_member"),
    (9, "member_conflict"),
    (10, "change_under_way"),
    (11, "not_caught_up"),
    (12, "voters"),
    (13, "unreachable"),
    (14, "transferring"),
    (15, "timed_out"),
    (16, "too_stale"),
]);
const BASIS: Holds = Holds::Choice(&[(1, "lease"), (2, "stale"), (3, "leader"), (4, "received")]);
const NODE_STATE: Holds = Holds::Choice(&[(1, "follower"), (2, "pre_candidate"), (3, "candidate"), (4, "leader")]);
const STANDING: Holds = Holds::Choice(&[
    (0, "voter"),
    (1, "learner"),
    (2, "leaving"),
    (3, "joining"),
    (4, "recovering"),
]);
const CHANGE_KIND: Holds = Holds::Choice(&[(1, "add"), (2, "promote"), (3, "remove"), (4, "replace"), (5, "move")]);

/// An entry of an append.
pub const ENTRY: &[Field] = &[
    field(1, "term", U64),
    field(2, "kind", ENTRY_KIND),
    field(3, "crc", U32),
    field(4, "payload", Holds::Bytes),
];

/// A member of a status reply.
pub const MEMBER: &[Field] = &[
    field(1, "node", U64),
    field(2, "address", Holds::Text(0)),
    field(3, "standing", STANDING),
    field(4, "matched", U64),
    field(5, "heard_ms", U64),
    field(6, "snapshot_percent", U32),
];

const fn field(number: u8, name: &'static str, holds: Holds) -> Field {
    Field { number, name, holds }
}

/// How many of these fields there are in front of the first that is no number.
#[cfg(any(feature = "protobuf", feature = "msgpack"))]
const fn leading(fields: &[Field]) -> usize {
    let mut count = 0;
    while count < fields.len() && matches!(fields[count].holds, Holds::Number(_) | Holds::Choice(_)) {
        count += 1;
    }
    count
}

macro_rules! tables {
    ($($kind:ident { $($number:literal $name:ident $holds:ident,)* })*) => {
        /// The fields of a kind, by their numbers: the header's five first.
        #[must_use]
        pub const fn fields(kind: Kind) -> &'static [Field] {
            const TEXT0: Holds = Holds::Text(0);
            const TEXT1: Holds = Holds::Text(1);
            const FLAG: Holds = Holds::Flag;
            const BYTES: Holds = Holds::Bytes;
            const ENTRIES: Holds = Holds::Entries;
            const MEMBERS: Holds = Holds::Members;
            match kind {
                $(Kind::$kind => const { &[
                    field(1, "cluster", U64),
                    field(2, "group", U32),
                    field(3, "from", U64),
                    field(4, "term", U64),
                    field(5, "request", U64),
                    $(field($number, stringify!($name), $holds),)*
                ] },)*
            }
        }

        /// Whether a kind has nothing but numbers.
        #[cfg(any(feature = "protobuf", feature = "msgpack"))]
        pub(crate) const fn is_numbers(kind: Kind) -> bool {
            match kind {
                $(Kind::$kind => const { leading(fields(Kind::$kind)) == fields(Kind::$kind).len() },)*
            }
        }

        /// How many numbers a kind has in front of its first text, flag, payload or list: most of a message is such.
        #[cfg(any(feature = "protobuf", feature = "msgpack"))]
        pub(crate) const fn numbers_in_front(kind: Kind) -> usize {
            match kind {
                $(Kind::$kind => const { leading(fields(Kind::$kind)) },)*
            }
        }
    };
}

kinds!(tables);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::SLOTS;

    #[test]
    fn fields_stand_at_their_numbers() {
        let all = Kind::ALL.map(fields);
        for fields in all.iter().chain(&[ENTRY, MEMBER]) {
            for (at, field) in fields.iter().enumerate() {
                assert_eq!(usize::from(field.number), at + 1, "{field:?}");
                assert!(usize::from(field.number) < SLOTS, "{field:?}");
            }
        }
    }
}
