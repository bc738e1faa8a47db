//! Lengths and numbers of the `binary` format, for both directions.

use kraft_core::handshake::Kind;
use kraft_core::message::{EntryKind, GoawayReason, NodeState, Refusal, Role};

/// The longest text of a message, in bytes: a cluster's name, a detail, an address, a version.
pub const TEXT_MAX: usize = 1024;

/// Bytes that every body begins with.
pub(super) const COMMON: usize = 40;

/// Bytes of a run of entries of one term.
pub(super) const RUN: usize = 16;

/// Bytes of an entry in an append's table.
pub(super) const ENTRY: usize = 12;

/// Bytes of a member in a status reply, its address apart.
pub(super) const MEMBER: usize = 32;

/// Bytes of the longest fixed part.
pub(super) const FIXED_MAX: usize = fixed(Kind::StatusReply);

/// Bytes of a body's fixed part: the 40 common ones and its kind's fields. Only ever grows.
pub(super) const fn fixed(kind: Kind) -> usize {
    COMMON
        + match kind {
            Kind::Hello => 48,
            Kind::Welcome => 32,
            Kind::Goaway => 8,
            Kind::Append => 40,
            Kind::AppendReply => 40,
            Kind::Heartbeat => 16,
            Kind::HeartbeatReply => 8,
            Kind::Vote => 32,
            Kind::VoteReply => 16,
            Kind::ReadIndex => 0,
            Kind::ReadIndexReply => 16,
            Kind::OpenSession => 0,
            Kind::Command => 32,
            Kind::Read => 8,
            Kind::Reply => 16,
            Kind::Status => 0,
            Kind::StatusReply => 72,
        }
}

pub(super) const VOTE_PRE: u8 = 1;
pub(super) const VOTE_BY_TRANSFER: u8 = 2;
pub(super) const VOTE_REPLY_PRE: u8 = 1;
pub(super) const VOTE_REPLY_GRANTED: u8 = 2;

pub(super) const APPEND_MATCHED: u8 = 1;
pub(super) const APPEND_REJECTED: u8 = 2;

pub(super) const READ_AT: u8 = 1;
pub(super) const READ_REFUSED: u8 = 2;

pub(super) const OUTCOME_COMMITTED: u8 = 1;
pub(super) const OUTCOME_REFUSED: u8 = 2;
pub(super) const OUTCOME_UNKNOWN: u8 = 3;

/// A closed set of values, each with its number on the wire.
pub(super) trait Numbered: Copy + PartialEq + 'static {
    type Number: Copy + PartialEq + 'static;

    /// Every value. Numbers are never zero, so that a field that was forgotten is no value.
    const ALL: &'static [(Self, Self::Number)];

    fn number(self) -> Self::Number {
        let (_, number) = Self::ALL
            .iter()
            .find(|(value, _)| *value == self)
            .expect("every value has a number");
        *number
    }

    fn of(number: Self::Number) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, other)| *other == number)
            .map(|(value, _)| *value)
    }
}

impl Numbered for Role {
    type Number = u8;

    const ALL: &'static [(Self, u8)] = &[(Self::Peer, 1), (Self::Client, 2)];
}

impl Numbered for EntryKind {
    type Number = u8;

    const ALL: &'static [(Self, u8)] = &[
        (Self::Command, 1),
        (Self::Noop, 2),
        (Self::OpenSession, 3),
        (Self::Membership, 4),
    ];
}

impl Numbered for NodeState {
    type Number = u8;

    const ALL: &'static [(Self, u8)] = &[
        (Self::Follower, 1),
        (Self::PreCandidate, 2),
        (Self::Candidate, 3),
        (Self::Leader, 4),
    ];
}

impl Numbered for GoawayReason {
    type Number = u16;

    const ALL: &'static [(Self, u16)] = &[
        (Self::WrongCluster, 1),
        (Self::WrongNode, 2),
        (Self::OwnId, 3),
        (Self::UnknownNode, 4),
        (Self::WrongIncarnation, 5),
        (Self::DuplicateNode, 6),
        (Self::NoCommonVersion, 7),
        (Self::NotAllowed, 8),
        (Self::Malformed, 9),
        (Self::TooLarge, 10),
        (Self::TooSlow, 11),
        (Self::TooMany, 12),
        (Self::Stopping, 13),
        (Self::Violation, 14),
    ];
}

impl Numbered for Refusal {
    type Number = u16;

    const ALL: &'static [(Self, u16)] = &[
        (Self::NotLeader, 1),
        (Self::Overloaded, 2),
        (Self::NoSpace, 3),
        (Self::SessionExpired, 4),
        (Self::TooLarge, 5),
        (Self::Invalid, 6),
        (Self::Stopping, 7),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_fixed_part_is_named() {
        assert_eq!(Kind::ALL.map(fixed).into_iter().max(), Some(FIXED_MAX));
    }

    fn check<T: Numbered + std::fmt::Debug>()
    where
        T::Number: Default + std::fmt::Debug,
    {
        for &(value, number) in T::ALL {
            assert_eq!(T::of(value.number()), Some(value));
            assert_eq!(value.number(), number, "each value stands once");
        }
        assert_eq!(T::of(T::Number::default()), None);
    }

    #[test]
    fn numbers_are_unique_and_not_zero() {
        check::<Role>();
        check::<EntryKind>();
        check::<NodeState>();
        check::<GoawayReason>();
        check::<Refusal>();
    }
}
