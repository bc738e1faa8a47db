//! The bytes of the load: known at every place of every connection's stream.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;

/// After how many bytes the stream repeats itself. A prime, so that no message size and no buffer divides it: bytes
/// that were lost, doubled or swapped are seen as what they are.
const PERIOD: usize = 65_521;

/// The longest window.
pub(crate) const WINDOW: usize = 64 * 1024;

/// One period of random bytes, long enough behind it that every window is contiguous. All connections share it, and it
/// stays in the second-level cache: sending copies nothing and checking is a `memcmp`.
///
/// The servers of `pump` have it too, and reply with windows of it.
#[derive(Clone)]
pub(crate) struct Pattern(Bytes);

impl Pattern {
    /// The one pattern of this process.
    pub(crate) fn shared() -> &'static Self {
        static PATTERN: OnceLock<Pattern> = OnceLock::new();
        PATTERN.get_or_init(Self::new)
    }

    fn new() -> Self {
        let mut bytes = Vec::with_capacity(PERIOD + WINDOW);
        // xorshift64, of any seed but zero: random enough not to match itself when shifted.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        while bytes.len() < PERIOD {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(PERIOD);
        bytes.extend_from_within(..WINDOW.min(PERIOD));
        bytes.extend_from_within(PERIOD..PERIOD + WINDOW.saturating_sub(PERIOD));
        Self(Bytes::from(bytes))
    }

    /// Where it begins in memory, for a loop in C.
    #[cfg(have_libuv)]
    pub(crate) fn memory(&'static self) -> &'static [u8] {
        &self.0
    }

    /// As [`window`](Self::window), shared. `None` if it is no window.
    pub(crate) fn piece(&self, from: usize, count: usize) -> Option<Bytes> {
        let is_window = from < PERIOD && count <= WINDOW;
        is_window.then(|| self.0.slice(from..from + count))
    }

    /// `count` bytes from `at` on, at most [`WINDOW`].
    pub(crate) fn window(&self, at: Place, count: usize) -> &[u8] {
        &self.0[at.0..at.0 + count]
    }

    /// Where `bytes` differ from what stands at `at`.
    pub(crate) fn difference(&self, at: Place, bytes: &[u8]) -> Option<usize> {
        let expected = self.window(at, bytes.len());
        if expected == bytes {
            return None;
        }
        expected
            .iter()
            .zip(bytes)
            .position(|(expected, found)| expected != found)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pattern")
    }
}

/// A place in the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(usize);

impl Place {
    /// Where the stream of the `number`-th connection begins: elsewhere for each, so that bytes of another are seen.
    pub(crate) fn of(number: usize) -> Self {
        // 40503 is near the golden ratio's part of 2^16 and has no factor in common with the period.
        Self(number * 40_503 % PERIOD)
    }

    /// Bytes behind the pattern's begin.
    pub(crate) fn offset(self) -> usize {
        self.0
    }

    pub(crate) fn forward(self, count: usize) -> Self {
        Self((self.0 + count) % PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_goes_round() {
        let pattern = Pattern::shared();
        for number in [0, 1, 2, 9_999] {
            let mut at = Place::of(number);
            let long = pattern.window(at, WINDOW).to_vec();
            for chunk in long.chunks(977) {
                assert_eq!(pattern.difference(at, chunk), None);
                at = at.forward(chunk.len());
            }
        }
    }

    #[test]
    fn bytes_of_another_place_are_seen() {
        let pattern = Pattern::shared();
        let at = Place::of(3);
        let mut bytes = pattern.window(at, 64).to_vec();
        bytes[17] ^= 1;
        assert_eq!(pattern.difference(at, &bytes), Some(17));
        assert!(pattern.difference(Place::of(4), pattern.window(at, 64)).is_some());
        assert!(pattern.difference(at.forward(64), pattern.window(at, 64)).is_some());
    }
}
