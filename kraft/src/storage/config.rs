//! How the log uses the disk.

use std::fmt;

use super::format::{HEADER_BYTES, SEGMENT_BYTES_MAX};

/// Kept free of entries in prepared space, so that a full log can still hold elections: a term and a vote take 64
/// bytes with their mark, a leader's no-op as many.
pub(crate) const RESERVE_BYTES: u64 = 64 << 10;

/// How the log uses the disk. Checked by [`Config::validate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The size of a segment. Default 64 MiB.
    pub segment_bytes: u32,
    /// The size of the segment that every start begins with, and of the first spare; each later spare is four times
    /// as large, up to `segment_bytes`, so that a start does not wait for 64 MiB of zeros. Default 1 MiB.
    pub first_segment_bytes: u32,
    /// How many segments are zeroed ahead. Default 1.
    pub zero_ahead: u32,
    /// How many bytes are zeroed in one piece of work; a sync of the log waits on the disk for at most so much. Sixteen
    /// times as many when the log is written faster than that: then it would wait for a whole segment. Default 256 KiB.
    pub zero_step_bytes: u32,
    /// How many segments that are done with are kept to be used again; the rest is removed. Default 4.
    pub recycle_max: u32,
    /// The bound of the log's files together. Entries stop below it; term and vote, which must be kept, may go a
    /// little above. Default 8 GiB.
    pub log_bytes_max: u64,
    /// How many snapshots are kept. Each holds the whole state; the older ones are for the day when the newest turns out
    /// to be damaged. Default 2.
    pub snapshots_keep: u32,
    /// The bound of the payloads of one [`load`](kraft_core::storage::Storage::load); the first entry is loaded
    /// whatever its size. Default 1 MiB.
    pub load_bytes_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            first_segment_bytes: 1 << 20,
            zero_ahead: 1,
            zero_step_bytes: 1 << 18,
            recycle_max: 4,
            log_bytes_max: 8 << 30,
            snapshots_keep: 2,
            load_bytes_max: 1 << 20,
        }
    }
}

/// A field of [`Config`] that cannot be as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Which field.
    pub field: &'static str,
    /// What it is.
    pub value: u64,
    /// The least that it may be.
    pub min: u64,
    /// The most that it may be.
    pub max: u64,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, min, max } = self;
        write!(f, "{field} is {value}: set it to at least {min} and at most {max}")
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// The first field that is out of its bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let segment = u64::from(self.segment_bytes);
        let least = u64::from(HEADER_BYTES) * 8;
        let bounds = [
            ("segment_bytes", segment, least, u64::from(SEGMENT_BYTES_MAX)),
            (
                "first_segment_bytes",
                u64::from(self.first_segment_bytes),
                least,
                segment,
            ),
            ("zero_ahead", u64::from(self.zero_ahead), 1, 16),
            (
                "zero_step_bytes",
                u64::from(self.zero_step_bytes),
                4096,
                u64::from(SEGMENT_BYTES_MAX),
            ),
            ("recycle_max", u64::from(self.recycle_max), 0, 1024),
            ("log_bytes_max", self.log_bytes_max, segment + RESERVE_BYTES, 1 << 48),
            ("snapshots_keep", u64::from(self.snapshots_keep), 1, 64),
            (
                "load_bytes_max",
                u64::from(self.load_bytes_max),
                1,
                u64::from(SEGMENT_BYTES_MAX),
            ),
        ];
        for (field, value, min, max) in bounds {
            if !(min..=max).contains(&value) {
                return Err(ConfigError { field, value, min, max });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_each_bound_holds() {
        Config::default().validate().unwrap();
        let wrong = [
            Config {
                segment_bytes: 100,
                ..Config::default()
            },
            Config {
                first_segment_bytes: 128 << 20,
                ..Config::default()
            },
            Config {
                zero_ahead: 0,
                ..Config::default()
            },
            Config {
                log_bytes_max: 1 << 20,
                ..Config::default()
            },
            Config {
                snapshots_keep: 0,
                ..Config::default()
            },
            Config {
                load_bytes_max: 0,
                ..Config::default()
            },
        ];
        for config in wrong {
            let error = config.validate().unwrap_err();
            assert!(error.to_string().contains(error.field), "{error}");
        }
    }
}
