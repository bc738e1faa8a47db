//! What the cluster agrees on, as a trait.

use bytes::BytesMut;

use crate::id::Index;
use crate::message::Refusal;

/// A deterministic state machine (thesis §2.1): the same commands in the same order give the same state and replies
/// on every node. It reads no clock, draws no randomness and iterates over no unordered map.
pub trait StateMachine {
    /// Judges a command before it is proposed: is it readable and within limits? The leader's own judgement, by
    /// its own settings and the state as it has applied it; not replicated, so [`apply`](Self::apply) must bear what
    /// passed another node's or an older version's.
    ///
    /// # Errors
    ///
    /// A [`Refused`] that the client reads.
    fn check(&self, command: &[u8]) -> Result<(), Refused> {
        let _ = command;
        Ok(())
    }

    /// Applies the command at `index`, appends the reply to `reply`. Must not fail: what cannot be done is a reply.
    fn apply(&mut self, index: Index, command: &[u8], reply: &mut BytesMut);

    /// Answers a query out of the present state, appends the answer to `reply`.
    ///
    /// # Errors
    ///
    /// A [`Refused`] that the client reads.
    fn read(&self, query: &[u8], reply: &mut BytesMut) -> Result<(), Refused>;

    /// A hash of the whole state, equal on nodes that applied the same. For tests and audits; may be slow.
    fn digest(&self) -> u64;
}

/// Why a command or query is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// [`Refusal::TooLarge`], [`Refusal::NoSpace`] or [`Refusal::Invalid`].
    pub why: Refusal,
    /// What and why, for a person: the name of the limit, what it is, what came.
    pub detail: String,
}

/// The hash for [`StateMachine::digest`]: FNV-1a, 64 bits. Not for keys that others choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Takes a number in.
    pub fn number(&mut self, number: u64) {
        self.mix(&number.to_le_bytes());
    }

    /// Takes bytes in, and how many they are, so that two fields never read as one.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.mix(bytes);
    }

    /// The hash of what was taken in.
    #[must_use]
    pub fn finish(self) -> u64 {
        self.0
    }

    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
