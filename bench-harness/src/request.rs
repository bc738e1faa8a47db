//! What a client of the workload `pump` asks for: a piece of the pattern, which is the reply.
//!
//! The bytes of replies go on through the pattern as those of an echo do, so the load checks both alike.

use bytes::Bytes;

use crate::pattern::{Pattern, Place};

/// Bytes of a request: where the piece begins and how long it is, four bytes each, the least significant first.
pub(crate) const REQUEST_BYTES: usize = 8;

/// The request for `count` bytes from `at` on.
pub(crate) fn encode(at: Place, count: usize) -> [u8; REQUEST_BYTES] {
    let (at, count) = (at.offset() as u32, count as u32);
    let mut bytes = [0; REQUEST_BYTES];
    bytes[..4].copy_from_slice(&at.to_le_bytes());
    bytes[4..].copy_from_slice(&count.to_le_bytes());
    bytes
}

/// Cuts received bytes of a connection into requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// `held` bytes of a request that is not complete.
    partial: [u8; REQUEST_BYTES],
    held: usize,
}

impl Requests {
    /// The reply to the next complete request in `bytes`, which move on behind it; `None` when they are used up.
    ///
    /// # Panics
    ///
    /// It is no request for a piece of the pattern: the load is at fault, or the loop lost bytes.
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Option<Bytes> {
        let count = bytes.len().min(REQUEST_BYTES - self.held);
        let (taken, rest) = bytes.split_at(count);
        self.partial[self.held..self.held + count].copy_from_slice(taken);
        self.held += count;
        *bytes = rest;
        if self.held < REQUEST_BYTES {
            return None;
        }
        self.held = 0;
        let [a, b, c, d, e, f, g, h] = self.partial;
        let (at, count) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let piece = Pattern::shared().piece(at as usize, count as usize);
        Some(piece.expect("a request names a piece of the pattern"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::WINDOW;

    #[test]
    fn requests_come_in_any_pieces() {
        let asked = [(Place::of(3), 10), (Place::of(4), WINDOW), (Place::of(5), 0)];
        let stream: Vec<u8> = asked.iter().flat_map(|&(at, count)| encode(at, count)).collect();
        for step in 1..=stream.len() {
            let mut requests = Requests::default();
            let mut replies = Vec::new();
            for mut chunk in stream.chunks(step) {
                while let Some(reply) = requests.next(&mut chunk) {
                    replies.push(reply);
                }
            }
            assert_eq!(replies.len(), asked.len(), "in steps of {step}");
            for (reply, (at, count)) in replies.iter().zip(asked) {
                assert_eq!(reply, Pattern::shared().window(at, count), "in steps of {step}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "a piece of the pattern")]
    fn what_is_no_request_is_not_answered() {
        let mut bytes: &[u8] = &[0xff; REQUEST_BYTES];
        Requests::default().next(&mut bytes);
    }
}
