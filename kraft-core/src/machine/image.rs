//! Images of small states, and what reads those of larger ones.

use std::fmt;
use std::io::{self, Read as _};

use crate::snapshot::Image;

/// Bytes of a `Vec<u8>` that is an [`Image`]: one beyond is neither written nor read. What is larger takes too long to
/// clone on the loop.
pub const WHOLE_BYTES_MAX: usize = 64 << 20;

/// How much memory a length that was read is believed for, before its bytes are there.
const STEP_BYTES: usize = 64 << 10;

/// For a state of a few numbers. Read back it must be as many bytes.
impl<const N: usize> Image for [u8; N] {
    fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(self)
    }

    fn read(input: &mut dyn io::Read) -> io::Result<Self> {
        let mut input = ImageReader::new(input, "the state");
        let bytes = input.array()?;
        input.end()?;
        Ok(bytes)
    }
}

/// For a state that is encoded within microseconds, and decoded as fast; at most [`WHOLE_BYTES_MAX`].
impl Image for Vec<u8> {
    fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        if self.len() > WHOLE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, too_large()));
        }
        out.write_all(self)
    }

    fn read(input: &mut dyn io::Read) -> io::Result<Self> {
        let mut bytes = Self::new();
        input.take(WHOLE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > WHOLE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, too_large()));
        }
        Ok(bytes)
    }
}

fn too_large() -> String {
    format!(
        "the state has more than {WHOLE_BYTES_MAX} bytes, which is what is kept in one piece; \
         give its state machine an image of its own"
    )
}

/// Reads the fields of an image and counts, so that what cannot be read is told with its place. Numbers are
/// little-endian. Every error is the input's, or [`io::ErrorKind::InvalidData`].
pub struct ImageReader<'a> {
    input: &'a mut dyn io::Read,
    what: &'static str,
    at: u64,
}

impl<'a> ImageReader<'a> {
    /// Reads `input`, which is `what` ("the sessions") in what is told of it.
    pub fn new(input: &'a mut dyn io::Read, what: &'static str) -> Self {
        Self { input, what, at: 0 }
    }

    /// So many bytes.
    ///
    /// # Errors
    ///
    /// The input ends before.
    pub fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A byte.
    ///
    /// # Errors
    ///
    /// The input ends before.
    pub fn u8(&mut self) -> io::Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    /// Four bytes.
    ///
    /// # Errors
    ///
    /// The input ends before.
    pub fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    ///
    /// The input ends before.
    pub fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// `length` bytes, in place of what `out` had. Memory grows with what is there and not by the length alone.
    ///
    /// # Errors
    ///
    /// The input ends before.
    pub fn bytes(&mut self, length: usize, out: &mut Vec<u8>) -> io::Result<()> {
        out.clear();
        while out.len() < length {
            let start = out.len();
            out.resize(start + (length - start).min(STEP_BYTES), 0);
            self.fill(&mut out[start..])?;
        }
        Ok(())
    }

    /// There is nothing left.
    ///
    /// # Errors
    ///
    /// There is.
    pub fn end(&mut self) -> io::Result<()> {
        let mut byte = [0];
        loop {
            return match self.input.read(&mut byte) {
                Ok(0) => Ok(()),
                Ok(_) => Err(self.invalid("bytes follow the last one")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// The error that says that what was read last cannot be.
    #[must_use]
    pub fn invalid(&self, why: impl fmt::Display) -> io::Error {
        let Self { what, at, .. } = self;
        io::Error::new(io::ErrorKind::InvalidData, format!("{what}, byte {at}: {why}"))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.input.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                self.invalid(format_args!("it ends, and {} more should follow", bytes.len()))
            }
            _ => error,
        })?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

impl fmt::Debug for ImageReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, at, .. } = self;
        f.debug_struct("ImageReader")
            .field("what", what)
            .field("at", at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<I: Image>(image: &I, expected: &[u8]) {
        let mut bytes = vec![];
        image.write(&mut bytes).expect("a vector takes everything");
        assert_eq!(bytes, expected);
        let (mut again, read) = (vec![], I::read(&mut &bytes[..]).expect("it was written"));
        read.write(&mut again).expect("a vector takes everything");
        assert_eq!(again, expected);
    }

    #[test]
    fn plain_bytes_are_images() {
        check(&7_u32.to_le_bytes(), &[7, 0, 0, 0]);
        check(&[0; 0], b"");
        check(&b"any".to_vec(), b"any");
        check(&Vec::new(), b"");
    }

    #[test]
    fn an_array_is_read_from_as_many_bytes_and_no_others() {
        let error = |bytes: &[u8]| {
            <[u8; 4]>::read(&mut &bytes[..])
                .expect_err("it is not four")
                .to_string()
        };
        assert_eq!(error(b"abc"), "the state, byte 0: it ends, and 4 more should follow");
        assert_eq!(error(b"abcde"), "the state, byte 4: bytes follow the last one");
    }

    #[test]
    fn a_vector_above_its_bound_is_neither_written_nor_read() {
        let error = vec![0; WHOLE_BYTES_MAX + 1]
            .write(&mut io::sink())
            .expect_err("too large");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let error = Vec::read(&mut io::repeat(0)).expect_err("without an end");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_length_alone_takes_no_memory() {
        let (mut bytes, mut input) = (vec![], &b"few"[..]);
        let mut input = ImageReader::new(&mut input, "the test");
        let error = input.bytes(usize::MAX, &mut bytes).expect_err("three are there");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(bytes.capacity() <= 2 * STEP_BYTES);
    }
}
