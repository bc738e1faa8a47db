//! Keys of the map, short ones without a pointer.

use std::borrow::Borrow;
use std::cmp::Ordering;

/// With its length this fills the 24 bytes that the enum has anyway.
const INLINE_MAX: usize = 22;

/// A key. A search compares with a dozen of neighbours in each node of the map; that those lie in the node itself
/// saves a cache miss for each.
#[derive(Clone, Debug)]
pub(super) enum Key {
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    Heap(Box<[u8]>),
}

impl Key {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Heap(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Self {
        match u8::try_from(key.len()) {
            Ok(len) if key.len() <= INLINE_MAX => {
                let mut bytes = [0; INLINE_MAX];
                bytes[..key.len()].copy_from_slice(key);
                Self::Inline { len, bytes }
            }
            _ => Self::Heap(key.into()),
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Key {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_both_forms_order_as_their_bytes() {
        assert_eq!(size_of::<Key>(), 24);
        let long = [b'a'; INLINE_MAX + 1];
        let keys: [&[u8]; 6] = [b"", b"a", &long[..INLINE_MAX], &long, b"ab", b"b\0"];
        for (at, one) in keys.iter().enumerate() {
            assert_eq!(Key::from(*one).as_slice(), *one);
            for (other_at, other) in keys.iter().enumerate() {
                assert_eq!(Key::from(*one).cmp(&Key::from(*other)), at.cmp(&other_at));
            }
        }
    }
}
