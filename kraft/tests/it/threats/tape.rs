//! A state machine that shows what was applied, and answers as long as it is asked to.

use bytes::{Buf, BufMut, BytesMut};
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
    type Image = Vec<u8>;

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

    /// Each command behind its length.
    fn image(&self) -> Vec<u8> {
        let mut image = vec![];
        for command in &self.commands {
            image.put_u64_le(command.len() as u64);
            image.put_slice(command);
        }
        image
    }

    fn restore(&mut self, image: Vec<u8>) -> Vec<u8> {
        let former = self.image();
        self.commands.clear();
        let mut rest = &image[..];
        while rest.has_remaining() {
            let length = rest.get_u64_le() as usize;
            self.commands.push(rest[..length].to_vec());
            rest.advance(length);
        }
        former
    }

    fn digest(&self) -> u64 {
        self.commands.len() as u64
    }
}
