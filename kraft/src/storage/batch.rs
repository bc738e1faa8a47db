//! Records on their way to the disk.

use super::format::{Position, RECORD_BYTES, Record};

/// Buffers above this are given back to the system when they were written.
const KEEP_BYTES: usize = 1 << 20;

/// Bytes that go to one place of one segment.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) at: Position,
    pub(crate) bytes: Vec<u8>,
}

/// Records that are written and synced together: in most cases one part, and more where a segment ends.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    parts: Vec<Part>,
    /// Empty buffers of batches that were written.
    spare: Vec<Vec<u8>>,
}

impl Batch {
    pub(crate) const fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Begins a part that opens with `front`, the header of its segment or nothing, and room for a mark.
    pub(crate) fn begin(&mut self, at: Position, front: &[u8]) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.extend_from_slice(front);
        bytes.resize(bytes.len() + RECORD_BYTES as usize, 0);
        self.parts.push(Part { at, bytes });
    }

    /// Puts a record and its payload behind the last one.
    pub(crate) fn put(&mut self, header: &[u8; RECORD_BYTES as usize], payload: &[u8], size: u32) {
        let bytes = &mut self.parts.last_mut().expect("a part was begun").bytes;
        let end = bytes.len() + size as usize;
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(payload);
        bytes.resize(end, 0);
    }

    /// Writes the mark of a part, for which `begin` left room behind `front_bytes`.
    pub(crate) fn mark(&mut self, part: usize, front_bytes: u32, synced_through: Position, seed: u32) {
        let part = &mut self.parts[part];
        let mark = Record::Mark(synced_through).encode(seed, part.at.offset + front_bytes);
        part.bytes[front_bytes as usize..][..RECORD_BYTES as usize].copy_from_slice(&mark);
    }

    /// The parts, to be written in their order; the batch is empty then.
    pub(crate) fn take(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.parts)
    }

    /// Takes buffers back.
    pub(crate) fn reuse(&mut self, parts: Vec<Part>) {
        for Part { mut bytes, .. } in parts {
            if bytes.capacity() <= KEEP_BYTES && self.spare.len() < 2 {
                bytes.clear();
                self.spare.push(bytes);
            }
        }
    }
}
