//! Numbers of values, the same in every format, and what bounds texts.

use kraft_core::message::{AppendResult, Change, EntryKind, GoawayReason, NodeState, Refusal, Role, Standing};

/// The longest text of a message, in bytes: a cluster's name, a detail, an address, a version.
pub const TEXT_MAX: usize = 1024;

pub(crate) const APPEND_MATCHED: u8 = 1;
pub(crate) const APPEND_REJECTED: u8 = 2;

pub(crate) const READ_AT: u8 = 1;
pub(crate) const READ_REFUSED: u8 = 2;

pub(crate) const SNAPSHOT_RECEIVED: u8 = 1;
pub(crate) const SNAPSHOT_NO_SPACE: u8 = 2;
pub(crate) const SNAPSHOT_DAMAGED: u8 = 3;

pub(crate) const CHANGE_ADD: u8 = 1;
pub(crate) const CHANGE_PROMOTE: u8 = 2;
pub(crate) const CHANGE_REMOVE: u8 = 3;
pub(crate) const CHANGE_REPLACE: u8 = 4;
pub(crate) const CHANGE_MOVE: u8 = 5;

pub(crate) const OUTCOME_COMMITTED: u8 = 1;
pub(crate) const OUTCOME_REFUSED: u8 = 2;
pub(crate) const OUTCOME_UNKNOWN: u8 = 3;
pub(crate) const OUTCOME_WEAKER: u8 = 4;

pub(crate) const BASIS_LEASE: u16 = 1;
pub(crate) const BASIS_STALE: u16 = 2;
pub(crate) const BASIS_LEADER: u16 = 3;
pub(crate) const BASIS_RECEIVED: u16 = 4;

pub(crate) const READ_LEASE: u8 = 1;
pub(crate) const READ_STALE: u8 = 2;

pub(crate) const COMMIT_LEADER: u8 = 1;
pub(crate) const COMMIT_ASYNC: u8 = 2;

/// A closed set of values, each with its number on the wire.
pub(crate) trait Numbered: Copy + PartialEq + 'static {
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

    // The one value that stands in a message a thousand times.
    #[inline]
    fn number(self) -> u8 {
        match self {
            Self::Command => 1,
            Self::Noop => 2,
            Self::OpenSession => 3,
            Self::Membership => 4,
        }
    }

    #[inline]
    fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Command,
            2 => Self::Noop,
            3 => Self::OpenSession,
            4 => Self::Membership,
            _ => return None,
        })
    }
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

/// The text of a change.
pub(crate) fn address<'a>(change: &Change<'a>) -> &'a str {
    match *change {
        Change::Add { address, .. } | Change::Replace { address, .. } | Change::Move { address, .. } => address,
        Change::Promote { .. } | Change::Remove { .. } => "",
    }
}

/// The value of a number that came as any number may.
#[cfg(any(feature = "protobuf", feature = "msgpack", feature = "json", feature = "parts"))]
pub(crate) fn of_u64<T: Numbered>(number: u64) -> Option<T>
where
    T::Number: TryFrom<u64>,
{
    T::Number::try_from(number).ok().and_then(T::of)
}

/// What a follower says of an append: its number, and three numbers more.
pub(crate) const fn append_result(result: AppendResult) -> (u8, [u64; 3]) {
    match result {
        AppendResult::Matched(index) => (APPEND_MATCHED, [index.0, 0, 0]),
        AppendResult::Rejected {
            prev_index,
            hint_index,
            hint_term,
        } => (APPEND_REJECTED, [prev_index.0, hint_index.0, hint_term.0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
