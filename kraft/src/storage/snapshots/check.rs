//! Checks the bytes of a snapshot as they come, in bounded memory.

use kraft_core::canary::{self, Canary};
use kraft_core::message::SnapshotId;
use kraft_core::snapshot::Head;

use super::format::{
    BLOCK_BYTES, BLOCK_HEADER_BYTES, FRONT_BYTES, Flaw, Front, Owner, TRAILER_BYTES, block_sum, trailer, u32_at,
};

/// What comes next.
#[derive(Debug)]
enum Stage {
    Front,
    Membership(Front),
    /// A block's header, or the first bytes of the trailer.
    BlockHeader,
    Block {
        left: usize,
        /// The sum so far.
        sum: u32,
        expected: u32,
        is_last: bool,
    },
    Trailer,
    End,
}

/// What is wrong, and at which byte what is wrong begins.
pub(super) type Found = (u64, Flaw);

/// The state of a check. What was fed is `offset` bytes, of which what is in `partial` awaits its rest.
#[derive(Debug)]
pub(super) struct Checker {
    owner: Option<Owner>,
    stage: Stage,
    /// Where the stage's bytes begin.
    stage_at: u64,
    partial: Vec<u8>,
    offset: u64,
    /// The sum of all.
    crc: u32,
    head: Option<(Owner, Head)>,
    content_bytes: u64,
    block_count: u64,
    /// A block that is not full was the last.
    is_last: bool,
    /// How much content of the block that is being read was passed on already.
    unsound: usize,
    /// A bug is planted that looks at no sums.
    is_blind: bool,
}

impl Checker {
    /// `owner` is whose it must be; `None` if it may be anybody's.
    pub(super) fn new(owner: Option<Owner>) -> Self {
        Self {
            owner,
            stage: Stage::Front,
            stage_at: 0,
            partial: Vec::new(),
            offset: 0,
            crc: 0,
            head: None,
            content_bytes: 0,
            block_count: 0,
            is_last: false,
            unsound: 0,
            is_blind: canary::is(Canary::SnapshotUnchecked),
        }
    }

    /// With a bug planted, it may be.
    pub(super) fn blind_if(mut self, is_planted: bool) -> Self {
        self.is_blind |= is_planted;
        self
    }

    /// Takes the next bytes. What is content among them is put behind `content`; of that the last
    /// [`unsound`](Self::unsound) bytes are not checked yet.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut content: Option<&mut Vec<u8>>) -> Result<(), Found> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        while !bytes.is_empty() {
            let taken = match &mut self.stage {
                Stage::Block { left, sum, .. } => {
                    let (part, _) = bytes.split_at(bytes.len().min(*left));
                    *sum = crc32c::crc32c_append(*sum, part);
                    *left -= part.len();
                    if let Some(content) = &mut content {
                        content.extend_from_slice(part);
                    }
                    self.unsound += part.len();
                    part.len()
                }
                Stage::End => return Err((self.offset, Flaw::Long)),
                stage => {
                    let wanted = stage.bytes() - self.partial.len();
                    let part = &bytes[..bytes.len().min(wanted)];
                    self.partial.extend_from_slice(part);
                    part.len()
                }
            };
            bytes = &bytes[taken..];
            self.offset += taken as u64;
            self.settle()?;
        }
        Ok(())
    }

    /// Goes on to the next stage if this one has all its bytes.
    fn settle(&mut self) -> Result<(), Found> {
        let at = self.stage_at;
        let next = match &self.stage {
            Stage::Block {
                left: 0,
                sum,
                expected,
                is_last,
            } => {
                if sum != expected && !self.is_blind {
                    return Err((at, Flaw::Block));
                }
                self.is_last = *is_last;
                self.content_bytes += self.unsound as u64;
                self.block_count += 1;
                self.unsound = 0;
                Stage::BlockHeader
            }
            Stage::Block { .. } | Stage::End => return Ok(()),
            stage if self.partial.len() < stage.bytes() => return Ok(()),
            Stage::Front => {
                let front = self.partial.first_chunk().expect("the front's bytes are there");
                let front = Front::decode(front).map_err(|flaw| (at, flaw))?;
                if let Some(expected) = self.owner.filter(|owner| *owner != front.owner) {
                    let found = front.owner;
                    return Err((at, Flaw::Foreign { found, expected }));
                }
                match front.membership_bytes {
                    0 => self.enter(&front, at)?,
                    _ => Stage::Membership(front),
                }
            }
            Stage::Membership(front) => {
                let front = *front;
                self.enter(&front, at)?
            }
            Stage::BlockHeader => match u32_at(&self.partial, 0) {
                0 => {
                    // The trailer's first bytes are those of a block's header.
                    self.stage = Stage::Trailer;
                    return Ok(());
                }
                length if length as usize <= BLOCK_BYTES && !self.is_last => Stage::Block {
                    left: length as usize,
                    sum: block_sum(at, length),
                    expected: u32_at(&self.partial, 4),
                    is_last: (length as usize) < BLOCK_BYTES,
                },
                _ => return Err((at, Flaw::Block)),
            },
            Stage::Trailer => {
                if self.partial != trailer(at, self.content_bytes) && !self.is_blind {
                    return Err((at, Flaw::Trailer));
                }
                Stage::End
            }
        };
        // The sum of a block covers its header: what is wrong with it begins there.
        if !matches!(next, Stage::Block { .. }) {
            self.stage_at = self.offset;
        }
        self.partial.clear();
        self.stage = next;
        Ok(())
    }

    fn enter(&mut self, front: &Front, at: u64) -> Result<Stage, Found> {
        let membership = if front.membership_bytes == 0 {
            &[][..]
        } else {
            &self.partial
        };
        let head = front.head(membership).map_err(|flaw| (at, flaw))?;
        head.configuration().map_err(|error| (at, Flaw::Head(error)))?;
        self.head = Some((front.owner, head));
        Ok(Stage::BlockHeader)
    }

    /// How much of the content that was passed on is not checked yet.
    pub(super) const fn unsound(&self) -> usize {
        self.unsound
    }

    /// How much was fed.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// All was fed.
    pub(super) fn finish(self) -> Result<Checked, Found> {
        let (Stage::End, Some((owner, head))) = (&self.stage, self.head) else {
            return Err((self.offset, Flaw::Short));
        };
        Ok(Checked {
            id: SnapshotId {
                index: head.index,
                term: head.term,
                bytes: self.offset,
                crc: self.crc,
            },
            owner,
            head,
            content_bytes: self.content_bytes,
            block_count: self.block_count,
        })
    }

    /// All was fed, and it should be this one.
    pub(super) fn finish_as(self, expected: SnapshotId) -> Result<Checked, Found> {
        let is_blind = self.is_blind;
        let checked = self.finish()?;
        if checked.id == expected || is_blind {
            return Ok(checked);
        }
        let found = checked.id;
        Err((0, Flaw::OtherId { found, expected }))
    }
}

impl Stage {
    /// How many bytes it takes.
    const fn bytes(&self) -> usize {
        match self {
            Self::Front => FRONT_BYTES,
            Self::Membership(front) => front.membership_bytes,
            Self::BlockHeader => BLOCK_HEADER_BYTES,
            Self::Block { left, .. } => *left,
            Self::Trailer => TRAILER_BYTES,
            Self::End => 0,
        }
    }
}

/// A snapshot without a flaw.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) id: SnapshotId,
    pub(super) owner: Owner,
    pub(super) head: Head,
    pub(super) content_bytes: u64,
    pub(super) block_count: u64,
}
