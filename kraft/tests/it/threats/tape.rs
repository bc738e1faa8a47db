//! A state machine that shows what was applied, and answers as long as it is asked to.

use bytes::{BufMut, BytesMut};
use kraft::id::Index;
use kraft::machine::{Refused, StateMachine};

/// Every command that was applied, in order.
#[derive(Debug, Default)]
pub(super) struct Tape {
    pub(super) commands: Vec<Vec<u8>>,
}

/// Asks for an answer of so many bytes.
pub(super) fn long(count: u32) -> [u8; 4] {
    count.to_le_bytes()
}

impl StateMachine for Tape {
    fn apply(&mut self, _: Index, command: &[u8], reply: &mut BytesMut) {
        self.commands.push(command.to_vec());
        reply.put_u64_le(self.commands.len() as u64);
    }

    /// How many commands there are; to a query of four bytes, as many bytes as these say.
    fn read(&self, query: &[u8], reply: &mut BytesMut) -> Result<(), Refused> {
        match query.try_into() {
            Ok(count) => reply.put_bytes(7, u32::from_le_bytes(count) as usize),
            Err(_) => reply.put_u64_le(self.commands.len() as u64),
        }
        Ok(())
    }

    fn digest(&self) -> u64 {
        self.commands.len() as u64
    }
}
