//! The bytes of a configuration, in logs and at the heads of snapshots. Numbers are little-endian.
//!
//! ```text
//!   version   u8    1
//!   joint     u8    0 or 1
//!   members   u8    how many follow, at most MEMBERS_MAX
//!   removed   u16   how many follow them, at most REMOVED_MAX
//!   member:   node u64, incarnation u64, seat u8, replaces u64, address: bytes u16, UTF-8
//!   removed:  node u64
//! ```
//!
//! Members are ascending; `replaces` is zero but of a learner that replaces. A seat is 0 voter, 1 joining, 2 leaving,
//! 3 demoted, 4 learner, 5 learner to be promoted, 6 learner that replaces. Nothing follows. Each configuration has
//! one encoding.

use std::fmt;

use bytes::Bytes;

use super::{ADDRESS_BYTES_MAX, Configuration, MEMBERS_MAX, Member, Plan, REMOVED_MAX, Seat};
use crate::id::{Incarnation, NodeId};

const VERSION: u8 = 1;

/// Why bytes are no configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigurationError {
    /// It was written by a later version.
    Version(u8),
    /// It ends too early.
    Short,
    /// Bytes follow its end.
    Long,
    /// A field has a value that it cannot have.
    Field,
    /// Members that are not ascending, or that are removed as well.
    Order,
    /// No voter, or more members or voters than there may be.
    Count,
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "version {version} is unknown: a newer program wrote it"),
            Self::Short => f.write_str("it is cut short"),
            Self::Long => f.write_str("bytes follow its end"),
            Self::Field => f.write_str("a field has a value that it cannot have"),
            Self::Order => f.write_str("its members are out of order"),
            Self::Count => f.write_str("it has too few or too many members"),
        }
    }
}

impl std::error::Error for ConfigurationError {}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], ConfigurationError> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(ConfigurationError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ConfigurationError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(ConfigurationError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, ConfigurationError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<usize, ConfigurationError> {
        Ok(usize::from(u16::from_le_bytes(self.array()?)))
    }

    fn u64(&mut self) -> Result<u64, ConfigurationError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn node(&mut self) -> Result<NodeId, ConfigurationError> {
        match self.u64()? {
            0 => Err(ConfigurationError::Field),
            node => Ok(NodeId(node)),
        }
    }

    fn member(&mut self, is_joint: bool) -> Result<Member, ConfigurationError> {
        let node = self.node()?;
        let incarnation = Incarnation(self.u64()?);
        let seat = (self.u8()?, self.u64()?);
        let seat = match seat {
            (0, 0) => Seat::Voter,
            (1, 0) if is_joint => Seat::Joining,
            (2, 0) if is_joint => Seat::Leaving,
            (3, 0) if is_joint => Seat::Demoted,
            (4, 0) => Seat::Learner(Plan::Stay),
            (5, 0) => Seat::Learner(Plan::Promote),
            (6, replaced) if replaced != 0 => Seat::Learner(Plan::Replace(NodeId(replaced))),
            _ => return Err(ConfigurationError::Field),
        };
        let bytes = self.u16()?;
        if bytes > ADDRESS_BYTES_MAX {
            return Err(ConfigurationError::Field);
        }
        let address = std::str::from_utf8(self.take(bytes)?).map_err(|_| ConfigurationError::Field)?;
        Ok(Member {
            node,
            address: address.to_owned(),
            incarnation,
            seat,
        })
    }
}

impl Configuration {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION, u8::from(self.is_joint)];
        // Both counts and each length are bounded far below what their fields hold.
        out.push(u8::try_from(self.members.len()).unwrap_or(u8::MAX));
        out.extend(u16::try_from(self.removed.len()).unwrap_or(u16::MAX).to_le_bytes());
        for member in &self.members {
            out.extend(member.node.0.to_le_bytes());
            out.extend(member.incarnation.0.to_le_bytes());
            let (seat, replaces) = match member.seat {
                Seat::Voter => (0, 0),
                Seat::Joining => (1, 0),
                Seat::Leaving => (2, 0),
                Seat::Demoted => (3, 0),
                Seat::Learner(Plan::Stay) => (4, 0),
                Seat::Learner(Plan::Promote) => (5, 0),
                Seat::Learner(Plan::Replace(replaced)) => (6, replaced.0),
            };
            out.push(seat);
            out.extend(replaces.to_le_bytes());
            let bytes = u16::try_from(member.address.len()).unwrap_or(u16::MAX);
            out.extend(bytes.to_le_bytes());
            out.extend(member.address.as_bytes());
        }
        for node in &self.removed {
            out.extend(node.0.to_le_bytes());
        }
        out.into()
    }

    /// Reads what [`encode`](Self::encode) wrote. The bytes may come from anywhere; what this costs is bounded by
    /// their number.
    ///
    /// # Errors
    ///
    /// [`ConfigurationError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ConfigurationError> {
        let mut input = Input(bytes);
        match input.u8()? {
            VERSION => {}
            other => return Err(ConfigurationError::Version(other)),
        }
        let is_joint = match input.u8()? {
            0 => false,
            1 => true,
            _ => return Err(ConfigurationError::Field),
        };
        let (members_count, removed_count) = (usize::from(input.u8()?), input.u16()?);
        if members_count > MEMBERS_MAX || removed_count > REMOVED_MAX {
            return Err(ConfigurationError::Count);
        }
        let members = (0..members_count)
            .map(|_| input.member(is_joint))
            .collect::<Result<Vec<_>, _>>()?;
        let removed = (0..removed_count)
            .map(|_| input.node())
            .collect::<Result<Vec<_>, _>>()?;
        if !input.0.is_empty() {
            return Err(ConfigurationError::Long);
        }
        let configuration = Self::new(members, is_joint, removed);
        configuration.check()?;
        Ok(configuration)
    }

    fn check(&self) -> Result<(), ConfigurationError> {
        let mut removed = self.removed.clone();
        removed.sort_unstable();
        let is_double = removed.windows(2).any(|pair| pair[0] == pair[1]);
        let is_both = removed.iter().any(|node| self.member(*node).is_some());
        if self.members.windows(2).any(|pair| pair[0].node >= pair[1].node) || is_double || is_both {
            return Err(ConfigurationError::Order);
        }
        match self.is_bounded() && !self.voters.is_empty() && self.voters_before.is_empty() != self.is_joint {
            true => Ok(()),
            false => Err(ConfigurationError::Count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Changer, Step};
    use super::*;
    use crate::id::Index;
    use std::collections::BTreeMap;

    /// Joint, with a member in every seat, addresses and former members.
    fn full() -> Configuration {
        let founding = Configuration::founding(&[NodeId(1), NodeId(2), NodeId(3), NodeId(9)]);
        let progress = BTreeMap::new();
        let change = |configuration: &Configuration, steps: &[Step], is_joint| {
            let changer = Changer {
                configuration,
                progress: &progress,
                last: Index(1),
            };
            let changed = match is_joint {
                true => changer.enter_joint(steps),
                false => changer.simple(steps),
            };
            changed.expect("it can be").0
        };
        let smaller = change(&founding, &[Step::Remove(NodeId(9))], false);
        let steps = [
            Step::Voter(NodeId(4)),
            Step::Remove(NodeId(2)),
            Step::Learner(NodeId(3), Plan::Stay),
            Step::Learner(NodeId(5), Plan::Stay),
            Step::Learner(NodeId(6), Plan::Promote),
            Step::Learner(NodeId(7), Plan::Replace(NodeId(1))),
        ];
        change(&smaller, &steps, true).described(NodeId(4), "d.example:7001", Incarnation(77))
    }

    #[test]
    fn what_was_written_is_read() {
        let founding = Configuration::founding(&[NodeId(3), NodeId(1)]);
        for configuration in [full(), founding] {
            assert_eq!(Configuration::decode(&configuration.encode()), Ok(configuration));
        }
        assert!(full().is_removed(NodeId(9)) && full().is_joint());
    }

    #[test]
    fn the_bytes_are_those_of_version_1() {
        let one = Configuration::founding(&[NodeId(2)]).described(NodeId(2), "b:1", Incarnation(5));
        let member = [
            &2u64.to_le_bytes()[..],
            &5u64.to_le_bytes(),
            &[0],
            &[0; 8],
            &[3, 0],
            b"b:1",
        ]
        .concat();
        assert_eq!(one.encode()[..], [&[1, 0, 1, 0, 0][..], &member].concat());
    }

    #[track_caller]
    fn check(spoil: impl FnOnce(&mut Vec<u8>), expected: ConfigurationError) {
        let mut bytes = full().encode().to_vec();
        spoil(&mut bytes);
        assert_eq!(Configuration::decode(&bytes), Err(expected));
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        check(|bytes| bytes[0] = 2, ConfigurationError::Version(2));
        check(|bytes| bytes[1] = 2, ConfigurationError::Field);
        // Seats that only a joint configuration has.
        check(|bytes| bytes[1] = 0, ConfigurationError::Field);
        check(|bytes| bytes[2] = 200, ConfigurationError::Count);
        check(|bytes| bytes[4] = 200, ConfigurationError::Count);
        check(|bytes| bytes.push(0), ConfigurationError::Long);
        check(|bytes| bytes[5] = 0, ConfigurationError::Field);
        check(|bytes| bytes[5] = 3, ConfigurationError::Order);
        check(|bytes| bytes[21] = 9, ConfigurationError::Field);
        check(|bytes| bytes[22] = 9, ConfigurationError::Field);
        // A former member that is one.
        let last = |bytes: &mut Vec<u8>| bytes.len() - 8;
        check(
            |bytes| {
                let at = last(bytes);
                bytes[at] = 1;
            },
            ConfigurationError::Order,
        );
        let learner = Configuration::new(
            vec![Member::new(NodeId(1), Seat::Learner(Plan::Stay))],
            false,
            Vec::new(),
        );
        assert_eq!(Configuration::decode(&learner.encode()), Err(ConfigurationError::Count));
        let many: Vec<_> = (1..=16).map(NodeId).collect();
        let many = Configuration::founding(&many).encode();
        assert_eq!(Configuration::decode(&many), Err(ConfigurationError::Count));
    }

    #[test]
    fn no_bytes_at_all_make_it_panic() {
        let whole = full().encode();
        for end in 0..whole.len() {
            assert_eq!(Configuration::decode(&whole[..end]), Err(ConfigurationError::Short));
        }
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bytes = whole.to_vec();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
            }
            if let Ok(configuration) = Configuration::decode(&bytes) {
                assert_eq!(configuration.encode()[..], bytes[..], "one encoding each");
            }
        }
    }
}
