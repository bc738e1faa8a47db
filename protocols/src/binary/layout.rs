//! Lengths and numbers of the `binary` format, for both directions.

use kraft_core::handshake::Kind;

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

pub(super) const ADD_PROMOTE: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_fixed_part_is_named() {
        let longest = Kind::ALL.map(|kind| fixed(kind) + appended(kind));
        assert_eq!(longest.into_iter().max(), Some(FIXED_MAX));
    }
}
