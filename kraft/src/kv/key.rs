//! Keys of the map, short ones without a pointer.

use std::sync::Arc;

/// With its length this fills the 24 bytes that the enum has anyway.
const INLINE_MAX: usize = 22;

/// A key, cheaply cloned. A search compares with some neighbours in each node of the map; that those lie in the node
/// itself saves a cache miss for each.
#[derive(Clone, Debug)]
pub(super) enum Key {
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    Heap(Arc<[u8]>),
}

impl Key {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Heap(bytes) => bytes,
        }
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::Inline {
            len: 0,
            bytes: [0; INLINE_MAX],
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_both_forms_are_their_bytes() {
        assert_eq!(size_of::<Key>(), 24);
        let long = [b'a'; INLINE_MAX + 1];
        for bytes in [b"", &b"a"[..], &long[..INLINE_MAX], &long, b"b\0"] {
            let key = Key::from(bytes);
            assert_eq!(key.as_slice(), bytes);
            assert_eq!(matches!(key, Key::Inline { .. }), bytes.len() <= INLINE_MAX);
        }
    }
}
