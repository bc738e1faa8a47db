//! Memory that is shared with many senders and used again when the last of them is done.
//!
//! The allocator gives what is freed at the end of its heap back to the system, which clears every page of it again: a
//! loop that fans out 64 KiB at a time from fresh memory pays more for pages than for the copy.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// How many it looks after. Others are the allocator's when their last sender is done.
const SHARED_MAX: usize = 16;

/// What was shared last.
#[derive(Default)]
pub(crate) struct Buffers {
    /// Oldest first, which is done first.
    shared: VecDeque<Bytes>,
}

impl Buffers {
    /// An empty buffer: what was shared first, if all have sent it.
    pub(crate) fn take(&mut self) -> BytesMut {
        match self.shared.pop_front().map(Bytes::try_into_mut) {
            None => BytesMut::new(),
            Some(Ok(mut buffer)) => {
                buffer.clear();
                buffer
            }
            Some(Err(unsent)) => {
                if self.shared.len() < SHARED_MAX {
                    self.shared.push_front(unsent);
                }
                BytesMut::new()
            }
        }
    }

    /// Makes it one that many may send.
    pub(crate) fn share(&mut self, buffer: BytesMut) -> Bytes {
        let bytes = buffer.freeze();
        self.shared.push_back(bytes.clone());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sends_any_more_is_used_again() {
        let mut buffers = Buffers::default();
        let mut first = buffers.take();
        first.extend_from_slice(&[1; 4096]);
        let at = first.as_ptr();
        let first = buffers.share(first);
        let other = first.clone();
        drop(first);
        assert_eq!(buffers.take().capacity(), 0, "one still sends it");
        drop(other);
        let again = buffers.take();
        assert!(again.is_empty() && again.capacity() >= 4096);
        assert_eq!(again.as_ptr(), at);
    }

    #[test]
    fn looks_after_a_few() {
        let mut buffers = Buffers::default();
        let unsent: Vec<Bytes> = (0..100)
            .map(|_| {
                let mut buffer = buffers.take();
                buffer.extend_from_slice(&[0; 64]);
                buffers.share(buffer)
            })
            .collect();
        assert_eq!(unsent.len(), 100);
        assert!(
            buffers.shared.len() <= SHARED_MAX + 1,
            "{} are kept",
            buffers.shared.len()
        );
    }
}
