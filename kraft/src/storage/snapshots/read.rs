//! Reads the content of a snapshot; nothing is handed out before its sum was checked.

use std::io;

use kraft_core::message::SnapshotId;

use super::check::{Checked, Checker, Found};
use super::format::Owner;
use crate::storage::files::{File, read_full_at};

/// How much is read at once.
const READ_BYTES: usize = 256 << 10;

/// Why a snapshot was not read to its end.
#[derive(Debug)]
pub(super) enum Stopped {
    Flawed(Found),
    /// The system refused to read on from this byte.
    Failed(u64, io::Error),
}

/// Content of a snapshot.
///
/// Invariant: of `content`, what is before `at` was handed out.
#[derive(Debug)]
pub(super) struct Reader<'a, F> {
    file: &'a F,
    checker: Checker,
    window: Vec<u8>,
    content: Vec<u8>,
    at: usize,
    is_through: bool,
    stopped: Option<Stopped>,
}

impl<'a, F: File> Reader<'a, F> {
    pub(super) fn new(file: &'a F, owner: Option<Owner>) -> Self {
        Self {
            file,
            checker: Checker::new(owner),
            window: vec![0; READ_BYTES],
            content: Vec::new(),
            at: 0,
            is_through: false,
            stopped: None,
        }
    }

    /// Reads on. What was handed out of the content makes room.
    fn step(&mut self, keep: bool) -> Result<(), Stopped> {
        let at = self.checker.offset();
        let count = read_full_at(self.file, &mut self.window, at).map_err(|error| Stopped::Failed(at, error))?;
        self.is_through = count < self.window.len();
        self.content.drain(..self.at);
        self.at = 0;
        let content = keep.then_some(&mut self.content);
        self.checker
            .feed(&self.window[..count], content)
            .map_err(Stopped::Flawed)
    }

    /// Up to where the file was read.
    pub(super) const fn offset(&self) -> u64 {
        self.checker.offset()
    }

    /// What stopped the reading, if anything did.
    pub(super) const fn stopped(&mut self) -> Option<Stopped> {
        self.stopped.take()
    }

    /// Reads what is left, and checks all of it.
    pub(super) fn finish(mut self, expected: Option<SnapshotId>) -> Result<Checked, Stopped> {
        if let Some(stopped) = self.stopped {
            return Err(stopped);
        }
        while !self.is_through {
            self.step(false)?;
        }
        let checked = match expected {
            Some(expected) => self.checker.finish_as(expected),
            None => self.checker.finish(),
        };
        checked.map_err(Stopped::Flawed)
    }
}

impl<F: File> io::Read for Reader<'_, F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let sound = self.content.len() - self.checker.unsound();
            let ready = &self.content[self.at..sound];
            if !ready.is_empty() || bytes.is_empty() {
                let count = ready.len().min(bytes.len());
                bytes[..count].copy_from_slice(&ready[..count]);
                self.at += count;
                return Ok(count);
            }
            if self.stopped.is_some() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.is_through {
                return Ok(0);
            }
            if let Err(stopped) = self.step(true) {
                self.stopped = Some(stopped);
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }
}
