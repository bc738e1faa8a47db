//! Lengths and numbers of the `binary` format, for both directions.

use kraft_core::handshake::Kind;
use kraft_core::message::{EntryKind, GoawayReason, NodeState, Refusal, Role, Standing};

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
pub(super) const FIXED_MAX: usize = fixed(Kind::StatusReply) + appended(Kind::StatusReply);

/// Bytes of a body's fixed part: the 40 common ones and its kind's fields, without those that were appended later.
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
            Kind::Snapshot => CHUNK,
            Kind::SnapshotReply => 40,
            Kind::TimeoutNow => 0,
            Kind::OpenSession => 0,
            Kind::Command => 32,
            Kind::Read => 8,
            Kind::Change => 24,
            Kind::Transfer => 8,
            Kind::Fetch => 40,
            Kind::FetchReply => CHUNK,
            Kind::Reply => 16,
            Kind::Status => 0,
            Kind::StatusReply => 72,
        }
}

/// Bytes of the fields that were appended to a kind's fixed part since its first release: all there, or none. Only ever
/// grows.
pub(super) const fn appended(kind: Kind) -> usize {
    match kind {
        Kind::Hello => 8,
        Kind::HeartbeatReply => 8,
        Kind::Command => 8,
        Kind::Read => 16,
        Kind::StatusReply => 16,
        _ => 0,
    }
}

/// Bytes of the fields of a piece of a snapshot, whoever sends it.
const CHUNK: usize = 40;

pub(super) const VOTE_PRE: u8 = 1;
pub(super) const VOTE_BY_TRANSFER: u8 = 2;
pub(super) const VOTE_REPLY_PRE: u8 = 1;
pub(super) const VOTE_REPLY_GRANTED: u8 = 2;

pub(super) const APPEND_MATCHED: u8 = 1;
pub(super) const APPEND_REJECTED: u8 = 2;

pub(super) const READ_AT: u8 = 1;
pub(super) const READ_REFUSED: u8 = 2;

pub(super) const SNAPSHOT_RECEIVED: u8 = 1;
pub(super) const SNAPSHOT_NO_SPACE: u8 = 2;
pub(super) const SNAPSHOT_DAMAGED: u8 = 3;

pub(super) const CHANGE_ADD: u8 = 1;
pub(super) const CHANGE_PROMOTE: u8 = 2;
pub(super) const CHANGE_REMOVE: u8 = 3;
pub(super) const CHANGE_REPLACE: u8 = 4;
pub(super) const CHANGE_MOVE: u8 = 5;

pub(super) const ADD_PROMOTE: u8 = 1;

pub(super) const OUTCOME_COMMITTED: u8 = 1;
pub(super) const OUTCOME_REFUSED: u8 = 2;
pub(super) const OUTCOME_UNKNOWN: u8 = 3;
pub(super) const OUTCOME_WEAKER: u8 = 4;

pub(super) const BASIS_LEASE: u16 = 1;
pub(super) const BASIS_STALE: u16 = 2;
pub(super) const BASIS_LEADER: u16 = 3;
pub(super) const BASIS_RECEIVED: u16 = 4;

pub(super) const READ_LEASE: u8 = 1;
pub(super) const READ_STALE: u8 = 2;

pub(super) const COMMIT_LEADER: u8 = 1;
pub(super) const COMMIT_ASYNC: u8 = 2;

/// A closed set of values, each with its number on the wire.
pub(super) trait Numbered: Copy + PartialEq + 'static {
    type Number: Copy + PartialEq + 'static;

    /// Every value. Numbers are never zero, so that a field that was forgotten is no value; but for [`Standing`]'s.
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

/// It stands where members had a reserved byte: zero is what they were when all of them were voters.
impl Numbered for Standing {
    type Number = u8;

    const ALL: &'static [(Self, u8)] = &[
        (Self::Voter, 0),
        (Self::Learner, 1),
        (Self::Leaving, 2),
        (Self::Joining, 3),
        (Self::Recovering, 4),
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
        (Self::Removed, 15),
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
        (Self::UnknownMember, 8),
        (Self::MemberConflict, 9),
        (Self::ChangeUnderWay, 10),
        (Self::NotCaughtUp, 11),
        (Self::Voters, 12),
        (Self::Unreachable, 13),
        (Self::Transferring, 14),
        (Self::TimedOut, 15),
        (Self::TooStale, 16),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_fixed_part_is_named() {
        let longest = Kind::ALL.map(|kind| fixed(kind) + appended(kind));
        assert_eq!(longest.into_iter().max(), Some(FIXED_MAX));
    }

    fn check<T: Numbered + std::fmt::Debug>(zero: Option<T>)
    where
        T::Number: Default + std::fmt::Debug,
    {
        for &(value, number) in T::ALL {
            assert_eq!(T::of(value.number()), Some(value));
            assert_eq!(value.number(), number, "each value stands once");
        }
        assert_eq!(T::of(T::Number::default()), zero);
    }

    #[test]
    fn numbers_are_unique_and_not_zero() {
        check::<Role>(None);
        check::<EntryKind>(None);
        check::<NodeState>(None);
        check::<Standing>(Some(Standing::Voter));
        check::<GoawayReason>(None);
        check::<Refusal>(None);
    }
}
