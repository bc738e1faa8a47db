//! Writes a snapshot: content into blocks, blocks into a file.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kraft_core::canary::{self, Canary};
use kraft_core::message::SnapshotId;
use kraft_core::snapshot::Head;

use super::SYNC_BYTES;
use super::format::{BLOCK_BYTES, BLOCK_HEADER_BYTES, Front, Owner, block_header, trailer};
use crate::storage::files::{File, Files, write_all_at};

/// How much is written at once, and synced if others need the disk: a sync of the log waits for no more of a snapshot,
/// and who wants the processor for not much longer than a piece takes to be made.
const WRITE_BYTES: usize = 256 << 10;

/// After each piece the disk and the processor are left to others for so many times as long as it took: a log that
/// shares them with a snapshot that is written as fast as it goes takes several times as long for its own writes.
const REST: u32 = 5;

/// But no longer: a piece that took long was itself kept waiting. It is so short because it is for each piece: where a sync
/// takes 20 ms, a snapshot is still written at more than 5 MB/s.
const REST_MAX: Duration = Duration::from_millis(25);

/// What failed while a snapshot was written.
pub(super) type Failed = (&'static str, io::Error);

/// Takes content.
///
/// Invariant: `buffer` is what follows the first `offset` bytes of the file; the block in it that is not full begins at
/// `block`, with room for its header.
#[derive(Debug)]
pub(super) struct Writer<'a, F: Files> {
    files: &'a F,
    file: &'a F::File,
    /// What the disk must have left.
    reserve_bytes: u64,
    /// It is written without rests.
    is_urgent: &'a AtomicBool,
    /// Written since the last sync.
    unsynced: u64,
    /// When the piece in the buffer was begun.
    begun: Instant,
    buffer: Vec<u8>,
    block: usize,
    offset: u64,
    crc: u32,
    content_bytes: u64,
    failed: Option<Failed>,
}

impl<'a, F: Files> Writer<'a, F> {
    pub(super) fn new(
        files: &'a F,
        file: &'a F::File,
        reserve_bytes: u64,
        is_urgent: &'a AtomicBool,
        owner: Owner,
        head: &Head,
    ) -> Self {
        let mut buffer = Vec::with_capacity(WRITE_BYTES + BLOCK_BYTES + 2 * BLOCK_HEADER_BYTES);
        buffer.extend_from_slice(&Front::of(owner, head).encode());
        buffer.extend_from_slice(&head.membership);
        let block = buffer.len();
        buffer.resize(block + BLOCK_HEADER_BYTES, 0);
        Self {
            files,
            file,
            reserve_bytes,
            is_urgent,
            unsynced: 0,
            begun: Instant::now(),
            buffer,
            block,
            offset: 0,
            crc: 0,
            content_bytes: 0,
            failed: None,
        }
    }

    /// Ends the block, and begins another one.
    fn end_block(&mut self) {
        let at = self.offset + self.block as u64;
        let (header, content) = self.buffer[self.block..].split_at_mut(BLOCK_HEADER_BYTES);
        self.content_bytes += content.len() as u64;
        header.copy_from_slice(&block_header(at, content));
        self.block = self.buffer.len();
        self.buffer.resize(self.block + BLOCK_HEADER_BYTES, 0);
    }

    /// Writes what is before the block that is not full.
    fn flush_blocks(&mut self) -> Result<(), Failed> {
        let whole = &self.buffer[..self.block];
        self.crc = crc32c::crc32c_append(self.crc, whole);
        write_all_at(self.file, whole, self.offset).map_err(|error| ("write", error))?;
        self.offset += self.block as u64;
        self.buffer.drain(..self.block);
        self.block = 0;
        Ok(())
    }

    /// Ends a piece that others follow.
    fn end_piece(&mut self) -> Result<(), Failed> {
        self.unsynced += self.block as u64;
        self.flush_blocks()?;
        // Nothing hangs on when it is seen.
        let is_urgent = self.is_urgent.load(Ordering::Relaxed);
        if !is_urgent || self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            self.file.sync_data().map_err(|error| ("fsync", error))?;
            check_room(self.files, self.reserve_bytes)?;
        }
        if !is_urgent {
            self.files.rest((self.begun.elapsed() * REST).min(REST_MAX));
        }
        self.begun = Instant::now();
        Ok(())
    }

    /// What failed, if anything did.
    pub(super) const fn failed(&mut self) -> Option<Failed> {
        self.failed.take()
    }

    /// Writes the rest and makes all of it durable.
    pub(super) fn finish(mut self, head: &Head) -> Result<SnapshotId, Failed> {
        if self.buffer.len() > self.block + BLOCK_HEADER_BYTES {
            self.end_block();
        }
        self.buffer.truncate(self.block);
        let trailer = trailer(self.offset + self.block as u64, self.content_bytes);
        self.buffer.extend_from_slice(&trailer);
        self.block = self.buffer.len();
        self.flush_blocks()?;
        if !canary::is(Canary::SnapshotNotSynced) {
            self.file.sync_data().map_err(|error| ("fsync", error))?;
        }
        Ok(SnapshotId {
            index: head.index,
            term: head.term,
            bytes: self.offset,
            crc: self.crc,
        })
    }
}

impl<F: Files> io::Write for Writer<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed.is_some() {
            return Err(io::Error::other("an earlier write of the snapshot failed"));
        }
        let room = self.block + BLOCK_HEADER_BYTES + BLOCK_BYTES - self.buffer.len();
        let count = bytes.len().min(room);
        self.buffer.extend_from_slice(&bytes[..count]);
        if count == room {
            self.end_block();
            if self.block >= WRITE_BYTES
                && let Err(failed) = self.end_piece()
            {
                let kind = failed.1.kind();
                self.failed = Some(failed);
                return Err(kind.into());
            }
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the disk has this much left.
pub(super) fn check_room<F: Files>(files: &F, bytes: u64) -> Result<(), Failed> {
    match files.free_bytes() {
        Ok(free) if free < bytes => Err(("write", io::ErrorKind::StorageFull.into())),
        Ok(_) => Ok(()),
        Err(error) => Err(("statvfs", error)),
    }
}
