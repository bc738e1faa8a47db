//! What is in the image of a map, without the map.

use std::io;

use kraft_core::machine::ImageReader;

use super::{FIELD_BYTES_MAX, VERSION};

/// How much a map has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct KvTotals {
    /// Keys.
    pub keys: u64,
    /// Bytes of all keys.
    pub key_bytes: u64,
    /// Bytes of all values.
    pub value_bytes: u64,
}

impl KvTotals {
    /// Counts in an image of a map, in memory for one key and value.
    ///
    /// # Errors
    ///
    /// Those of `input`, and [`io::ErrorKind::InvalidData`] for what is no map; the text names what and where.
    pub fn read(input: &mut dyn io::Read) -> io::Result<Self> {
        let mut input = ImageReader::new(input, "the map");
        let version = input.u8()?;
        if version != VERSION {
            return Err(input.invalid(format_args!("version {version}, and {VERSION} is known")));
        }
        let mut totals = Self::default();
        let count = input.u64()?;
        let mut field = Vec::new();
        while totals.keys < count {
            let lengths = [input.u32()?, input.u32()?];
            for length in lengths {
                if length > FIELD_BYTES_MAX {
                    return Err(input.invalid(format_args!(
                        "a field of {length} bytes, and each has {FIELD_BYTES_MAX} at most"
                    )));
                }
                input.bytes(length as usize, &mut field)?;
            }
            totals.keys += 1;
            totals.key_bytes += u64::from(lengths[0]);
            totals.value_bytes += u64::from(lengths[1]);
        }
        input.end()?;
        Ok(totals)
    }
}
