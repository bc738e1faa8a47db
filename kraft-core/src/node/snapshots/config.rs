//! When snapshots are taken, and how fast they travel.

use std::time::Duration;

/// When snapshots are taken, and how fast they travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// One is taken when so many entries were applied since the last. Default 10,000,000.
    pub entries: u64,
    /// One is taken when the entries that were applied since the last have so many bytes, and at least as many as the
    /// last has, so that no more is written for snapshots than for the log; but in any case before the log is full.
    /// Default 64 MiB.
    pub bytes: u64,
    /// Bytes of a piece of one on its way. Default 128 KiB; bounded by `frame_max`.
    pub piece_bytes: usize,
    /// Bytes on the way to one follower that it has not written. Default 2 MiB.
    pub window_bytes: u64,
    /// Bytes a second to all followers together; a quarter of it while entries are being committed, but for followers that
    /// were sent one that was gone before it had arrived. Default 256 MiB; `u64::MAX` is as fast as they take it, always.
    pub bytes_per_second: u64,
    /// A follower that says nothing for so long is not sent more until it gives a sign of life. Default 10 s.
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            entries: 10_000_000,
            bytes: 64 << 20,
            piece_bytes: 128 << 10,
            window_bytes: 2 << 20,
            bytes_per_second: 256 << 20,
            timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    pub(in super::super) fn validate(&self) -> Result<(), String> {
        let positive = [
            ("entries", self.entries == 0),
            ("bytes", self.bytes == 0),
            ("piece_bytes", self.piece_bytes == 0),
            ("window_bytes", self.window_bytes == 0),
            ("bytes_per_second", self.bytes_per_second == 0),
            ("timeout", self.timeout.is_zero()),
        ];
        match positive.iter().find(|field| field.1) {
            Some((field, _)) => Err(format!("snapshots.{field}: must be at least 1")),
            None => Ok(()),
        }
    }
}
