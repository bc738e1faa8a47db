//! Puts a snapshot together from pieces that are asked for a few at a time.

use std::collections::BTreeMap;
use std::fmt;

use super::fetch::Piece;
use crate::message::{Fetch, SnapshotId};

/// A snapshot on its way from one node.
///
/// Ask for what [`ask`](Self::ask) says until it says nothing; hand in each answer by [`took`](Self::took), or that
/// there is none by [`lost`](Self::lost); take what [`ready`](Self::ready) gives, which is in order and without gaps,
/// until it [is complete](Self::is_complete).
///
/// The first piece is of a snapshot that the node chooses, and settles how long the others are. If the node does not
/// keep it any more, [`restart`](Self::restart) begins anew: what is ready then begins at offset 0 again.
///
/// Invariants: what is handed out, early, asked and to be asked again is disjoint, together all that is before `fresh`;
/// asked and early are at most `window` pieces, and those to be asked again were.
#[derive(Debug)]
pub struct Download {
    /// Pieces on their way, and such as came before their turn.
    window: usize,
    id: Option<SnapshotId>,
    /// The first piece's length.
    piece_bytes: u64,
    /// Handed out.
    taken: u64,
    /// The sum of that.
    crc: u32,
    /// Never asked for from here on.
    fresh: u64,
    /// Where each ends, by where it begins.
    asked: BTreeMap<u64, u64>,
    again: BTreeMap<u64, u64>,
    early: BTreeMap<u64, Piece>,
}

/// What a node answered cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is another piece than was asked for, an empty one, or one that reaches beyond the end.
    Piece,
    /// All came, and its sum is not the one that it is known by.
    Sum,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Piece => "another piece came than was asked for",
            Self::Sum => "the checksum of all that came is wrong",
        })
    }
}

impl std::error::Error for Wrong {}

impl Download {
    /// Of which nothing is there, with `window` pieces on their way at most.
    ///
    /// # Panics
    ///
    /// If `window` is zero.
    #[must_use]
    pub fn new(window: usize) -> Self {
        assert!(window > 0, "a download without a window never ends");
        Self {
            window,
            id: None,
            piece_bytes: 0,
            taken: 0,
            crc: 0,
            fresh: 0,
            asked: BTreeMap::new(),
            again: BTreeMap::new(),
            early: BTreeMap::new(),
        }
    }

    /// Which snapshot it is, once that is known.
    #[must_use]
    pub fn id(&self) -> Option<SnapshotId> {
        self.id
    }

    /// Bytes that were handed out.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// What to ask for, `None` until something comes or is lost.
    pub fn ask(&mut self) -> Option<Fetch> {
        let Some(id) = self.id else {
            let is_asked = self.asked.insert(0, 0).is_some();
            return (!is_asked).then(Fetch::default);
        };
        if self.asked.len() >= self.window {
            return None;
        }
        // What is missing in front of what came early goes first, or nothing would ever be ready.
        let (offset, end) = match self.again.pop_first() {
            Some(range) => range,
            None if self.fresh >= id.bytes || self.asked.len() + self.early.len() >= self.window => return None,
            None => {
                let range = (self.fresh, id.bytes.min(self.fresh.saturating_add(self.piece_bytes)));
                self.fresh = range.1;
                range
            }
        };
        self.asked.insert(offset, end);
        Some(Fetch { id, offset })
    }

    /// An answer came to what [`ask`](Self::ask) said. One that was asked for before a restart is nobody's.
    ///
    /// # Errors
    ///
    /// [`Wrong::Piece`]; nothing of it was taken.
    pub fn took(&mut self, asked: &Fetch, mut piece: Piece) -> Result<(), Wrong> {
        let Some(end) = self.unask(asked) else {
            return Ok(());
        };
        let length = piece.data.len() as u64;
        let end = match self.id {
            Some(_) => end,
            None => piece.id.bytes,
        };
        let is_asked_for = piece.offset == asked.offset && (self.id.is_none() || piece.id == asked.id);
        if !is_asked_for || length == 0 || length > piece.id.bytes - piece.offset.min(piece.id.bytes) {
            self.put_back(asked.offset, end);
            return Err(Wrong::Piece);
        }
        if self.id.is_none() {
            self.id = Some(piece.id);
            self.piece_bytes = length;
            self.fresh = length;
        } else {
            // A node that was started anew with other settings cuts it otherwise.
            let wanted = length.min(end - asked.offset);
            piece.data.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
            self.put_back(asked.offset + wanted, end);
        }
        self.early.insert(piece.offset, piece);
        Ok(())
    }

    /// No answer comes to what [`ask`](Self::ask) said: it will say it again.
    pub fn lost(&mut self, asked: &Fetch) {
        if let Some(end) = self.unask(asked) {
            self.put_back(asked.offset, end);
        }
    }

    /// Begins anew, with a snapshot that the node chooses.
    pub fn restart(&mut self) {
        *self = Self::new(self.window);
    }

    /// The next piece in order.
    pub fn ready(&mut self) -> Option<Piece> {
        let entry = self.early.first_entry().filter(|entry| *entry.key() == self.taken)?;
        let piece = entry.remove();
        self.crc = crc32c::crc32c_append(self.crc, &piece.data);
        self.taken += piece.data.len() as u64;
        Some(piece)
    }

    /// Whether all was handed out.
    ///
    /// # Errors
    ///
    /// [`Wrong::Sum`]: all was, and it is damaged.
    pub fn is_complete(&self) -> Result<bool, Wrong> {
        match self.id {
            Some(id) if self.taken == id.bytes && self.crc != id.crc => Err(Wrong::Sum),
            id => Ok(id.is_some_and(|id| self.taken == id.bytes)),
        }
    }

    fn unask(&mut self, asked: &Fetch) -> Option<u64> {
        if asked.id != self.id.unwrap_or_default() {
            return None;
        }
        self.asked.remove(&asked.offset)
    }

    fn put_back(&mut self, offset: u64, end: u64) {
        if self.id.is_some() && offset < end {
            self.again.insert(offset, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::{Index, Term};

    const BYTES: &[u8] = b"0123456789abcdef";

    fn id() -> SnapshotId {
        SnapshotId {
            index: Index(7),
            term: Term(2),
            bytes: BYTES.len() as u64,
            crc: crc32c::crc32c(BYTES),
        }
    }

    fn piece(id: SnapshotId, offset: usize, length: usize) -> Piece {
        Piece {
            id,
            offset: offset as u64,
            data: Bytes::from_static(&BYTES[offset..BYTES.len().min(offset + length)]),
        }
    }

    fn ask_all(download: &mut Download) -> Vec<Fetch> {
        std::iter::from_fn(|| download.ask()).collect()
    }

    fn offsets(asked: &[Fetch]) -> Vec<u64> {
        asked.iter().map(|fetch| fetch.offset).collect()
    }

    fn take(download: &mut Download, out: &mut Vec<u8>) {
        while let Some(piece) = download.ready() {
            out.truncate(usize::try_from(piece.offset).expect("small"));
            out.extend_from_slice(&piece.data);
        }
    }

    /// One whose first piece of three bytes came.
    fn begun() -> Download {
        let mut download = Download::new(3);
        let first = ask_all(&mut download);
        assert_eq!(first, [Fetch::default()]);
        download.took(&first[0], piece(id(), 0, 3)).expect("the first");
        download
    }

    #[test]
    fn pieces_in_any_order_become_the_whole_in_order() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut download, mut out) = (begun(), Vec::new());
        let mut asked = Vec::new();
        while !download.is_complete().expect("the sum fits") {
            asked.extend(ask_all(&mut download));
            assert!(asked.len() <= 3, "{asked:?}");
            if asked.is_empty() {
                take(&mut download, &mut out);
                continue;
            }
            let fetch = asked.swap_remove(rng.usize(..asked.len()));
            match rng.u8(..4) {
                0 => download.lost(&fetch),
                // Shorter than was asked for, or longer.
                length => download
                    .took(&fetch, piece(id(), fetch.offset as usize, 1 + usize::from(length)))
                    .expect("a piece"),
            }
            if rng.bool() {
                take(&mut download, &mut out);
            }
        }
        assert_eq!(out, BYTES);
        assert_eq!(download.ask(), None);
    }

    #[test]
    fn what_is_on_its_way_or_early_is_bounded_and_what_is_missing_goes_first() {
        let mut download = begun();
        let asked = ask_all(&mut download);
        // The first piece is not handed out yet.
        assert_eq!(offsets(&asked), [3, 6]);
        download.took(&asked[1], piece(id(), 6, 3)).expect("a piece");
        assert_eq!(ask_all(&mut download), []);
        download.lost(&asked[0]);
        assert_eq!(offsets(&ask_all(&mut download)), [3]);
    }

    #[test]
    fn a_restart_begins_with_a_snapshot_of_the_node_s_choice_and_former_answers_are_nobody_s() {
        let (mut download, mut out) = (begun(), Vec::new());
        take(&mut download, &mut out);
        let former = ask_all(&mut download);
        download.restart();
        let first = ask_all(&mut download);
        assert_eq!(first, [Fetch::default()]);
        download.took(&former[0], piece(id(), 3, 3)).expect("it is ignored");
        download.lost(&former[1]);
        let other = SnapshotId {
            index: Index(9),
            ..id()
        };
        download.took(&first[0], piece(other, 0, 16)).expect("the first");
        download.took(&former[2], piece(id(), 9, 3)).expect("it is ignored");
        take(&mut download, &mut out);
        assert_eq!((download.id(), download.is_complete()), (Some(other), Ok(true)));
        assert_eq!(out, BYTES);
    }

    #[test]
    fn a_piece_that_was_not_asked_for_is_not_taken() {
        let mut download = Download::new(3);
        let first = ask_all(&mut download)[0];
        for wrong in [
            piece(id(), 3, 3),
            piece(id(), 0, 0),
            piece(SnapshotId { bytes: 2, ..id() }, 0, 3),
        ] {
            assert_eq!(download.took(&first, wrong), Err(Wrong::Piece));
            assert_eq!(ask_all(&mut download), [first]);
        }
        download.took(&first, piece(id(), 0, 3)).expect("the first");
        let second = ask_all(&mut download)[0];
        for wrong in [
            piece(id(), 6, 3),
            piece(id(), 3, 0),
            piece(SnapshotId { crc: 0, ..id() }, 3, 3),
        ] {
            assert_eq!(download.took(&second, wrong), Err(Wrong::Piece));
            assert_eq!(ask_all(&mut download)[0], second);
        }
    }

    #[test]
    fn a_wrong_sum_is_told_in_the_end() {
        let mut download = Download::new(1);
        let first = ask_all(&mut download)[0];
        let id = SnapshotId { crc: 1, ..id() };
        download.took(&first, piece(id, 0, 16)).expect("the first");
        assert_eq!(download.is_complete(), Ok(false));
        assert!(download.ready().is_some());
        assert_eq!(download.is_complete(), Err(Wrong::Sum));
    }

    #[test]
    fn a_first_piece_that_is_lost_is_asked_for_again() {
        let mut download = Download::new(2);
        let first = ask_all(&mut download)[0];
        assert_eq!(download.ask(), None);
        download.lost(&first);
        assert_eq!(download.ask(), Some(Fetch::default()));
    }
}
