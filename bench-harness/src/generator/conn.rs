//! A connection of the load.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};

use mio::net::TcpStream;

use super::pattern::{Pattern, Place, WINDOW};
use crate::fault::Fault;

/// Echoes one stream of bytes, and knows when which message of it was sent.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) stream: TcpStream,
    /// Where the next byte to be sent, and the next to be received, stand in the pattern.
    send_at: Place,
    receive_at: Place,
    /// Bytes that may be sent and that the socket did not take yet.
    owed: usize,
    /// Received bytes of a message that is not complete.
    partial: usize,
    /// Since when each message is on its way, in nanoseconds of the load's clock: when it was sent in the closed loop,
    /// when it was due in the open one.
    since: VecDeque<u64>,
}

impl Conn {
    pub(super) fn new(stream: TcpStream, at: Place) -> Self {
        Self {
            stream,
            send_at: at,
            receive_at: at,
            owed: 0,
            partial: 0,
            since: VecDeque::new(),
        }
    }

    /// Owes a message of `size` bytes since `when`.
    pub(super) fn owe(&mut self, size: usize, when: u64) {
        self.owed += size;
        self.since.push_back(when);
    }

    /// Sends what is owed, as far as the socket takes it. Edge-triggered: what is left waits for the next event.
    pub(super) fn send(&mut self, pattern: &Pattern) -> Result<(), Fault> {
        while self.owed > 0 {
            let bytes = pattern.window(self.send_at, self.owed.min(WINDOW));
            match self.stream.write(bytes) {
                Ok(0) => return Err(Fault::closed("the server takes no more")),
                Ok(count) => {
                    self.owed -= count;
                    self.send_at = self.send_at.forward(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::closed(format!("send: {error}"))),
            }
        }
        Ok(())
    }

    /// Receives and checks what is there; `answered` gets the time of each message of `size` bytes that is complete.
    /// Returns the number of messages.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        pattern: &Pattern,
        size: usize,
        mut answered: impl FnMut(u64),
    ) -> Result<usize, Fault> {
        let mut messages = 0;
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err(Fault::closed("the server closed a connection")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Fault::closed(format!("receive: {error}"))),
            };
            if let Some(at) = pattern.difference(self.receive_at, &buffer[..count]) {
                return Err(Fault::Corrupt(format!(
                    "byte {at} of {count} received is not what was sent"
                )));
            }
            self.receive_at = self.receive_at.forward(count);
            self.partial += count;
            while self.partial >= size {
                self.partial -= size;
                messages += 1;
                let since = self.since.pop_front();
                answered(since.ok_or_else(|| Fault::Corrupt("more came back than was sent".into()))?);
            }
            // A short read: no more is there.
            if count < buffer.len() {
                break;
            }
        }
        Ok(messages)
    }

    /// Messages on their way.
    pub(super) fn outstanding(&self) -> usize {
        self.since.len()
    }
}
