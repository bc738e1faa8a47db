//! What the cluster agrees on, as a trait.

use bytes::BytesMut;

use crate::id::Index;
use crate::message::Refusal;

/// A deterministic state machine (thesis §2.1): the same commands in the same order give the same state and replies
/// on every node. It reads no clock, draws no randomness and iterates over no unordered map.
pub trait StateMachine {
    /// Judges a command before it is proposed: is it readable and within limits? The leader's own judgement, not
    /// replicated; [`apply`](Self::apply) must bear what passed an older version's.
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
    /// [`Refusal::TooLarge`] or [`Refusal::Invalid`].
    pub why: Refusal,
    /// What and why, for a person: the name of the limit, what it is, what came.
    pub detail: String,
}
