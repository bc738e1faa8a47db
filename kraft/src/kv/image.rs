//! The map in a snapshot.

mod totals;

use std::io;

use kraft_core::machine::ImageReader;
use kraft_core::snapshot::Image;

use super::machine::entry_bytes;
use super::map::{Builder, Map};

pub use totals::KvTotals;

const VERSION: u8 = 1;

/// Bytes of a key or value, far above what any node's limits let through: those are settings, and an image is of the
/// state alone.
const FIELD_BYTES_MAX: u32 = 1 << 30;

/// A frozen map. It shares with the living one what did not change since; a put copies what it has to change of that,
/// once.
///
/// Invariant: `bytes` is the sum over all entries.
#[derive(Clone, Debug, Default)]
pub struct KvImage {
    pub(super) map: Map,
    pub(super) bytes: u64,
}

impl KvImage {
    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.len() == 0
    }
}

impl Image for KvImage {
    fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let mut head = [VERSION; 9];
        head[1..].copy_from_slice(&(self.map.len() as u64).to_le_bytes());
        out.write_all(&head)?;
        for (key, value) in self.map.iter() {
            let mut lengths = [0; 8];
            lengths[..4].copy_from_slice(&length(key).to_le_bytes());
            lengths[4..].copy_from_slice(&length(value).to_le_bytes());
            out.write_all(&lengths)?;
            out.write_all(key)?;
            out.write_all(value)?;
        }
        Ok(())
    }

    fn read(input: &mut dyn io::Read) -> io::Result<Self> {
        let mut input = ImageReader::new(input, "the map");
        let version = input.u8()?;
        if version != VERSION {
            return Err(input.invalid(format_args!("version {version}, and {VERSION} is known")));
        }
        let count = input.u64()?;
        let (mut map, mut bytes) = (Builder::default(), 0);
        let (mut key, mut value) = (vec![], vec![]);
        for _ in 0..count {
            let lengths = [input.u32()?, input.u32()?];
            if lengths.iter().any(|length| *length > FIELD_BYTES_MAX) {
                return Err(input.invalid(format_args!(
                    "a key of {} bytes and a value of {}, and each has {FIELD_BYTES_MAX} at most",
                    lengths[0], lengths[1]
                )));
            }
            input.bytes(lengths[0] as usize, &mut key)?;
            input.bytes(lengths[1] as usize, &mut value)?;
            map.push(&key, &value)
                .ok_or_else(|| input.invalid("a key that is not above the one before"))?;
            bytes += entry_bytes(key.len(), value.len());
        }
        input.end()?;
        Ok(Self {
            map: map.finish(),
            bytes,
        })
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("what a message brought is below 4 GiB")
}

#[cfg(test)]
mod tests;
