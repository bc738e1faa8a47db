//! What the cluster agrees on, as a trait.

mod image;

pub use image::{ImageReader, WHOLE_BYTES_MAX};

use bytes::BytesMut;

use crate::id::Index;
use crate::message::Refusal;
use crate::snapshot::Image;

/// A deterministic state machine (thesis §2.1): the same commands in the same order give the same state and replies
/// on every node. It reads no clock, draws no randomness and iterates over no unordered map.
///
/// So that the log stays bounded, a machine gives its whole state from time to time, and takes one: its
/// [`Image`](Self::Image).
///
/// # A small state
///
/// A state that is cloned within some microseconds needs no more than the clone. Arrays of bytes and `Vec<u8>` are
/// images already:
///
/// ```
/// use bytes::{BufMut, BytesMut};
/// use kraft_core::id::Index;
/// use kraft_core::machine::{Refused, StateMachine};
///
/// /// Adds up the numbers that it is given.
/// struct Sum(i64);
///
/// impl StateMachine for Sum {
///     type Image = [u8; 8];
///
///     fn apply(&mut self, _index: Index, command: &[u8], reply: &mut BytesMut) {
///         self.0 = self.0.wrapping_add(command.try_into().map_or(0, i64::from_le_bytes));
///         reply.put_i64_le(self.0);
///     }
///
///     fn read(&self, _query: &[u8], reply: &mut BytesMut) -> Result<(), Refused> {
///         reply.put_i64_le(self.0);
///         Ok(())
///     }
///
///     fn image(&self) -> [u8; 8] {
///         self.0.to_le_bytes()
///     }
///
///     fn restore(&mut self, image: [u8; 8]) -> [u8; 8] {
///         std::mem::replace(&mut self.0, i64::from_le_bytes(image)).to_le_bytes()
///     }
///
///     fn digest(&self) -> u64 {
///         self.0.cast_unsigned()
///     }
/// }
///
/// let (mut one, mut other) = (Sum(7), Sum(0));
/// other.restore(one.image());
/// assert_eq!(one.digest(), other.digest());
/// ```
///
/// # A state that grows
///
/// The loop waits while [`image`](Self::image) runs. So a large state is made of parts behind `Arc`s: the image is a
/// clone of these, and whoever changes a part calls `Arc::make_mut`, which copies it if an image has it too, and costs
/// nothing else. Its type implements [`Image`] and writes at leisure, on another thread.
pub trait StateMachine {
    /// The whole state, frozen.
    type Image: Image;

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

    /// The state as it is, all of it. Called on the loop, between two commands, whenever a snapshot is taken: it must
    /// not take time that grows with the state. What it returns is written and dropped on another thread, while
    /// commands are applied.
    ///
    /// What is written is the same on every node that applied the same, byte for byte, whatever its settings are.
    fn image(&self) -> Self::Image;

    /// Becomes the state that the image is of, and returns the one that it was. Called on the loop, at start and when a
    /// leader sent its snapshot; the image was read on another thread, and what is returned is dropped on one, for that
    /// takes time as well. Settings of the node, which are no part of the state, stay.
    ///
    /// Must not fail: what cannot be taken is refused by [`Image::read`]. [`digest`](Self::digest) is then what it was
    /// where the image was taken.
    fn restore(&mut self, image: Self::Image) -> Self::Image;

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
