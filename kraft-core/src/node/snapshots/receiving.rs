//! A snapshot that comes from the leader: which piece is taken. No I/O.

use std::time::Duration;

use bytes::Bytes;

use crate::canary::{self, Canary};
use crate::id::NodeId;
use crate::message::{SnapshotChunk, SnapshotId};
use crate::time::Instant;

/// Bytes of pieces that may wait to be written. A leader's window is less, but it may ask anew while a disk is slow.
pub(super) const QUEUED_MAX: u64 = 8 << 20;

/// What to do with a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Write it.
    Write(Bytes),
    /// Tell the leader how much is there.
    Answer,
    /// It cannot be of a leader: end the connection.
    Impossible,
    /// Leave it: another one is being finished, or the disk does not keep up. The leader asks again.
    Ignore,
}

/// What is being received.
#[derive(Debug)]
pub(super) struct Receiving {
    /// Who sends it.
    pub(super) from: NodeId,
    pub(super) id: SnapshotId,
    /// What is written of it comes back under this number: the same one may be begun twice.
    pub(super) number: u64,
    /// When its last piece came.
    heard: Instant,
    /// Everything before this was taken.
    pub(super) taken: u64,
    is_finishing: bool,
}

impl Receiving {
    /// Takes a piece that Raft wants. `slot` is what was being received before; `number` is one that no piece had; `queued`
    /// is what waits to be written, also of what was begun before.
    pub(super) fn take(
        slot: &mut Option<Self>,
        from: NodeId,
        chunk: &SnapshotChunk<'_>,
        number: u64,
        queued: u64,
        now: Instant,
    ) -> Piece {
        let SnapshotChunk { id, offset, data } = *chunk;
        let length = data.len() as u64;
        if id.bytes == 0 || offset > id.bytes || length > id.bytes - offset {
            return Piece::Impossible;
        }
        if slot
            .as_ref()
            .is_some_and(|receiving| receiving.is_finishing && receiving.id != id)
        {
            return Piece::Ignore;
        }
        let receiving = match slot {
            Some(receiving) if receiving.id == id || canary::is(Canary::SnapshotsMixed) => receiving,
            // Of another one than before: from its begin on, or it is not the one that is meant.
            _ => slot.insert(Self {
                from,
                id,
                number,
                heard: now,
                taken: 0,
                is_finishing: false,
            }),
        };
        receiving.from = from;
        receiving.heard = now;
        if data.is_empty() || offset != receiving.taken {
            return Piece::Answer;
        }
        if queued + length > QUEUED_MAX {
            return Piece::Ignore;
        }
        receiving.taken += length;
        Piece::Write(Bytes::copy_from_slice(data))
    }

    /// Until when a piece must come; `None` while it needs none.
    pub(super) fn deadline(&self, give_up: Duration) -> Option<Instant> {
        (!self.is_finishing).then(|| self.heard + give_up)
    }

    /// Everything before `end` is written. Whether that is all, so that it is to be finished.
    pub(super) fn wrote(&mut self, end: u64) -> bool {
        self.is_finishing = end == self.id.bytes;
        self.is_finishing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Index;

    fn id(index: u64, bytes: u64) -> SnapshotId {
        SnapshotId {
            index: Index(index),
            bytes,
            ..SnapshotId::default()
        }
    }

    fn take(slot: &mut Option<Receiving>, id: SnapshotId, offset: u64, data: &'static [u8]) -> Piece {
        Receiving::take(
            slot,
            NodeId(1),
            &SnapshotChunk { id, offset, data },
            1,
            0,
            Instant::ZERO,
        )
    }

    fn write(data: &'static [u8]) -> Piece {
        Piece::Write(Bytes::from_static(data))
    }

    #[test]
    fn pieces_follow_each_other_and_the_last_one_ends_it() {
        let (mut slot, id) = (None, id(5, 5));
        assert_eq!(take(&mut slot, id, 0, b""), Piece::Answer);
        assert_eq!(take(&mut slot, id, 0, b"abc"), write(b"abc"));
        assert_eq!(take(&mut slot, id, 3, b"de"), write(b"de"));
        let receiving = slot.as_mut().expect("it is under way");
        assert!(!receiving.wrote(3));
        assert!(receiving.wrote(5));
    }

    #[test]
    fn gaps_and_overlaps_are_answered_with_what_is_there() {
        let (mut slot, id) = (None, id(5, 9));
        assert_eq!(take(&mut slot, id, 0, b"abc"), write(b"abc"));
        assert_eq!(take(&mut slot, id, 4, b"e"), Piece::Answer);
        assert_eq!(take(&mut slot, id, 0, b"abc"), Piece::Answer);
        assert_eq!(take(&mut slot, id, 2, b"cd"), Piece::Answer);
        assert_eq!(take(&mut slot, id, 3, b"d"), write(b"d"));
    }

    #[test]
    fn wrong_totals_are_impossible() {
        let mut slot = None;
        assert_eq!(take(&mut slot, id(5, 3), 0, b"abcd"), Piece::Impossible);
        assert_eq!(take(&mut slot, id(5, 3), u64::MAX, b"a"), Piece::Impossible);
        assert_eq!(take(&mut slot, id(5, 3), 4, b""), Piece::Impossible);
        assert_eq!(take(&mut slot, id(5, 0), 0, b""), Piece::Impossible);
        assert!(slot.is_none());
    }

    #[test]
    fn two_snapshots_are_never_mixed() {
        let mut slot = None;
        assert_eq!(take(&mut slot, id(5, 6), 0, b"abc"), write(b"abc"));
        assert_eq!(take(&mut slot, id(6, 6), 3, b"def"), Piece::Answer);
        assert_eq!(slot.as_ref().map(|receiving| receiving.taken), Some(0));
        assert_eq!(take(&mut slot, id(6, 6), 0, b"uvwxyz"), write(b"uvwxyz"));
        assert!(slot.as_mut().expect("it is under way").wrote(6));
        assert_eq!(
            take(&mut slot, id(7, 6), 0, b"abc"),
            Piece::Ignore,
            "the former is being finished"
        );
    }

    #[test]
    fn what_waits_to_be_written_is_bounded() {
        let (mut slot, id) = (None, id(5, 1 << 30));
        let mut take_behind = |id, queued| {
            let chunk = SnapshotChunk {
                id,
                offset: 0,
                data: b"a",
            };
            Receiving::take(&mut slot, NodeId(1), &chunk, 1, queued, Instant::ZERO)
        };
        assert_eq!(take_behind(id, QUEUED_MAX), Piece::Ignore);
        assert_eq!(take_behind(id, QUEUED_MAX - 1), write(b"a"));
        let other = SnapshotId { index: Index(6), ..id };
        assert_eq!(
            take_behind(other, QUEUED_MAX),
            Piece::Ignore,
            "whatever it is a part of"
        );
    }
}
