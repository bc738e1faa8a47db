//! Reads a segment record by record, in bounded memory.

use std::io;

use super::files::{File, read_full_at};
use super::format::{
    ALIGN, HEADER_BYTES, HeaderError, LogIdentity, Position, RECORD_BYTES, Record, RecordError, SegmentHeader,
    may_be_record,
};

/// How much is read at once.
const WINDOW_BYTES: usize = 256 << 10;

/// Part of a file in memory.
#[derive(Debug)]
struct Window<'a, F> {
    file: &'a F,
    /// Empty before the first read, then of one size.
    bytes: Vec<u8>,
    start: u64,
    filled: usize,
}

impl<F: File> Window<'_, F> {
    /// `count` bytes at `offset`, fewer where the file ends, and at most a window's.
    fn get(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let count = count.min(WINDOW_BYTES);
        let is_inside = offset >= self.start && offset + count as u64 <= self.start + self.filled as u64;
        if !is_inside {
            if self.bytes.is_empty() {
                self.bytes = vec![0; WINDOW_BYTES];
            }
            self.start = offset;
            self.filled = 0;
            self.filled = read_full_at(self.file, &mut self.bytes, offset)?;
        }
        let from = usize::try_from(offset - self.start).expect("inside the window");
        Ok(&self.bytes[from..self.filled.min(from + count)])
    }
}

/// A record, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) at: Position,
    pub(crate) record: Record,
    /// Its bytes, payload and padding included.
    pub(crate) size: u32,
}

/// What stands where a record could be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Record(Found),
    /// No record: zeros, stale bytes, a torn or damaged one.
    Bad(u32, Bad),
    /// A sound record of a kind that this build does not know.
    Unknown(u32, u8),
}

/// What is wrong where no record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// The file ends.
    End,
    /// The header of the record.
    Header,
    /// Its payload.
    Payload,
    /// The zeros behind it.
    Padding,
}

/// Reads a segment from front to back.
#[derive(Debug)]
pub(crate) struct Scan<'a, F> {
    window: Window<'a, F>,
    number: u32,
    seed: u32,
    offset: u32,
}

impl<'a, F: File> Scan<'a, F> {
    /// Begins behind the header.
    pub(crate) fn new(file: &'a F, number: u32, identity: &LogIdentity) -> Self {
        Self::from(file, number, identity, HEADER_BYTES)
    }

    /// Begins at a record.
    pub(crate) fn from(file: &'a F, number: u32, identity: &LogIdentity, offset: u32) -> Self {
        Self {
            window: Window {
                file,
                bytes: Vec::new(),
                start: 0,
                filled: 0,
            },
            number,
            seed: identity.seed(number),
            offset,
        }
    }

    /// Goes on at another record. What was read of the file is read again only if the record is not in it.
    pub(crate) const fn seek(&mut self, offset: u32) {
        self.offset = offset;
    }

    /// Where the next record stands.
    pub(crate) const fn offset(&self) -> u32 {
        self.offset
    }

    /// The next record, its payload checked. Stays where it is if there is none.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let offset = self.offset;
        let bytes = self.window.get(u64::from(offset), RECORD_BYTES as usize)?;
        let Some(header) = bytes.first_chunk() else {
            return Ok(Step::Bad(offset, Bad::End));
        };
        let record = match Record::decode(header, self.seed, offset) {
            Ok(record) => record,
            Err(RecordError::Invalid) => return Ok(Step::Bad(offset, Bad::Header)),
            Err(RecordError::Kind(kind)) => return Ok(Step::Unknown(offset, kind)),
        };
        let end = record.size().and_then(|size| Some((size, offset.checked_add(size)?)));
        let Some((size, end)) = end else {
            return Ok(Step::Bad(offset, Bad::Header));
        };
        if let Record::Entry { length, crc, .. } = record
            && let Some(bad) = self.check_payload(length, crc)?
        {
            return Ok(Step::Bad(offset, bad));
        }
        self.offset = end;
        let at = Position {
            segment: self.number,
            offset,
        };
        Ok(Step::Record(Found { at, record, size }))
    }

    fn check_payload(&mut self, length: u32, crc: u32) -> io::Result<Option<Bad>> {
        let mut at = u64::from(self.offset + RECORD_BYTES);
        let end = at + u64::from(length);
        let mut sum = 0;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX);
            let bytes = self.window.get(at, wanted)?;
            if bytes.is_empty() {
                return Ok(Some(Bad::End));
            }
            sum = crc32c::crc32c_append(sum, bytes);
            at += bytes.len() as u64;
        }
        if sum != crc {
            return Ok(Some(Bad::Payload));
        }
        let padding = length.next_multiple_of(ALIGN) - length;
        let bytes = self.window.get(end, padding as usize)?;
        if bytes.len() < padding as usize {
            return Ok(Some(Bad::End));
        }
        Ok(bytes.iter().any(|byte| *byte != 0).then_some(Bad::Padding))
    }

    /// The payload of a record that [`step`](Self::step) has checked.
    pub(crate) fn payload(&mut self, found: &Found, into: &mut Vec<u8>) -> io::Result<()> {
        let Record::Entry { length, .. } = found.record else {
            return Ok(());
        };
        let mut at = u64::from(found.at.offset + RECORD_BYTES);
        let end = at + u64::from(length);
        into.reserve(length as usize);
        while at < end {
            let bytes = self.window.get(at, usize::try_from(end - at).unwrap_or(usize::MAX))?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            into.extend_from_slice(bytes);
            at += bytes.len() as u64;
        }
        Ok(())
    }

    /// What is in the rest of the file, wherever it stands. Behind a bad record nothing says where the next one begins.
    pub(crate) fn rest(&mut self) -> io::Result<Rest> {
        let mut rest = Rest::default();
        let mut offset = self.offset;
        let from = u64::from(offset);
        loop {
            let bytes = self.window.get(u64::from(offset), WINDOW_BYTES)?;
            let (steps, tail) = bytes.as_chunks::<{ ALIGN as usize }>();
            let is_zero = steps.iter().all(|step| *step == [0; ALIGN as usize]) && tail.iter().all(|byte| *byte == 0);
            if !is_zero && let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                rest.bytes = u64::from(offset) + last as u64 + 1 - from;
            }
            if bytes.len() < RECORD_BYTES as usize {
                return Ok(rest);
            }
            // The windows overlap, so that a record across two is seen.
            let last = bytes.len() - RECORD_BYTES as usize;
            let starts = if is_zero { 0..0 } else { 0..last + 1 };
            for start in starts.step_by(ALIGN as usize) {
                let header = bytes[start..].first_chunk().expect("a header's bytes are left");
                #[expect(clippy::cast_possible_truncation, reason = "a window's bytes are below 32 bits")]
                let at = offset + start as u32;
                if !may_be_record(header) {
                    continue;
                }
                let Ok(record) = Record::decode(header, self.seed, at) else {
                    continue;
                };
                rest.has_records = true;
                if let Record::Mark(synced) = record {
                    let at = Position {
                        segment: self.number,
                        offset: at,
                    };
                    if rest.mark.is_none_or(|(_, newest)| synced > newest) {
                        rest.mark = Some((at, synced));
                    }
                }
            }
            #[expect(clippy::cast_possible_truncation, reason = "a window's bytes are below 32 bits")]
            let step = (last as u32 / ALIGN + 1) * ALIGN;
            let Some(next) = offset.checked_add(step) else {
                return Ok(rest);
            };
            offset = next;
        }
    }
}

/// What stands behind the last record.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rest {
    /// How much of it there is: zeros follow, and nothing else.
    pub(crate) bytes: u64,
    /// Whether there are records of this segment in it.
    pub(crate) has_records: bool,
    /// Where the newest mark stands, and what it says.
    pub(crate) mark: Option<(Position, Position)>,
}

/// The header of a segment.
pub(crate) fn read_header(file: &impl File) -> io::Result<Result<SegmentHeader, HeaderError>> {
    let mut bytes = [0; HEADER_BYTES as usize];
    let count = read_full_at(file, &mut bytes, 0)?;
    Ok(SegmentHeader::decode(&bytes[..count]))
}
