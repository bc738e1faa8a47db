//! Newtypes for every number of the domain, so that no two can be confused.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

number! {
    /// A node of the cluster. Zero is nobody: a client's sender field, a vote not given.
    NodeId(u64)
}
number! {
    /// A cluster, derived from its name by [`ClusterId::from_name`].
    ClusterId(u64)
}
number! {
    /// A Raft group within a cluster. Zero until there are several.
    GroupId(u32)
}
number! {
    /// A term of office (thesis §3.3). Zero comes before every election.
    Term(u64)
}
number! {
    /// A place in the log, from 1. Zero is the place before the first entry.
    Index(u64)
}
number! {
    /// The life of a data folder: drawn at random when `init` writes it. A node whose disk was wiped comes back with
    /// another one, and its peers refuse it under the old id.
    Incarnation(u64)
}
number! {
    /// Joins a reply to its request. Chosen by the requester, opaque to the replier, never reused by a process or by
    /// its successors on the same connection.
    RequestId(u64)
}
number! {
    /// A client session: the index of the entry that opened it (thesis §6.3). Zero is no session.
    SessionId(u64)
}
number! {
    /// A command's place in its session, from 1.
    Sequence(u64)
}
number! {
    /// A sync that Raft asked for. Ids grow; the completion of one completes all before it.
    SyncId(u64)
}
number! {
    /// A round of leadership confirmation (thesis §6.4): grows within a leader's process, starts at random.
    Round(u64)
}

impl NodeId {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// Whether this names a node.
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

impl Term {
    /// The term after this one.
    ///
    /// # Panics
    ///
    /// At `u64::MAX`. A peer cannot lead there: terms far above the own are refused before they are adopted.
    #[must_use]
    pub const fn next(self) -> Self {
        assert!(self.0 < u64::MAX, "term overflow");
        Self(self.0 + 1)
    }
}

impl Index {
    /// The place before the first entry.
    pub const ZERO: Self = Self(0);

    /// The place after this one.
    ///
    /// # Panics
    ///
    /// At `u64::MAX`. A peer cannot lead there: indexes are checked where messages are decoded and stepped.
    #[must_use]
    pub const fn next(self) -> Self {
        assert!(self.0 < u64::MAX, "index overflow");
        Self(self.0 + 1)
    }

    /// The place before this one, or zero.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The place `count` further, or `None` past `u64::MAX`.
    #[must_use]
    pub const fn checked_add(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(index) => Some(Self(index)),
            None => None,
        }
    }
}

impl ClusterId {
    /// The id of the cluster called `name`: FNV-1a, 64 bits. Hello carries the name too, so that a collision is told
    /// apart.
    #[must_use]
    pub const fn from_name(name: &str) -> Self {
        let bytes = name.as_bytes();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut at = 0;
        while at < bytes.len() {
            hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
            at += 1;
        }
        Self(hash)
    }
}

macro_rules! slot_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The id of what stands in `slot` in its `generation`-th use. Called by backends alone.
            #[must_use]
            pub const fn new(slot: u32, generation: u32) -> Self {
                Self(((generation as u64) << 32) | slot as u64)
            }

            /// Where it stands: below the configured maximum, so that a user keeps state in a `Vec`.
            #[must_use]
            pub const fn slot(self) -> usize {
                (self.0 & 0xffff_ffff) as usize
            }

            /// Which use of the slot this is. A stale id has a generation that the slot no longer has.
            #[must_use]
            pub const fn generation(self) -> u32 {
                (self.0 >> 32) as u32
            }

            /// The number behind the id, for tokens of the operating system.
            #[must_use]
            pub const fn to_u64(self) -> u64 {
                self.0
            }

            /// The id behind a number that [`to_u64`](Self::to_u64) gave.
            #[must_use]
            pub const fn from_u64(number: u64) -> Self {
                Self(number)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}.{})"), self.slot(), self.generation())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}.{}", self.slot(), self.generation())
            }
        }
    };
}

slot_id! {
    /// A connection of an adapter: slot and generation, so that whatever comes late for a dead one is recognised.
    ConnId
}
slot_id! {
    /// A listener of an adapter.
    ListenerId
}
slot_id! {
    /// A timer of an adapter.
    TimerId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_and_generation_survive_the_round_trip() {
        let id = ConnId::new(u32::MAX, 7);
        assert_eq!((id.slot(), id.generation()), (u32::MAX as usize, 7));
        assert_eq!(ConnId::from_u64(id.to_u64()), id);
    }

    #[test]
    fn cluster_ids_are_the_published_fnv_1a() {
        assert_eq!(ClusterId::from_name(""), ClusterId(0xcbf2_9ce4_8422_2325));
        assert_eq!(ClusterId::from_name("a"), ClusterId(0xaf63_dc4c_8601_ec8c));
    }
}
