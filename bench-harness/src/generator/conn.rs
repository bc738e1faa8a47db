//! A connection of the load.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};

use mio::net::TcpStream;

use super::meter::{Times, UNSENT};
use crate::fault::Fault;
use crate::pattern::{Pattern, Place, WINDOW};
use crate::request::{self, REQUEST_BYTES};

/// Sends a stream of bytes, or requests for it, checks what comes, and knows since when it is waited for.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) stream: TcpStream,
    /// Where the next byte to be sent, and the next to be received, stand in the pattern.
    sending: Place,
    receiving: Place,
    /// Bytes that may be sent and that the socket did not take yet.
    owed: usize,
    /// What is sent in place of the stream's bytes where the server has them: requests, and how much of them is sent.
    requests: Option<(Vec<u8>, usize)>,
    /// Received bytes of a message that is not complete.
    partial: usize,
    /// Since when each message is on its way.
    since: VecDeque<Times>,
}

impl Conn {
    pub(super) fn new(stream: TcpStream, at: Place) -> Self {
        Self {
            stream,
            sending: at,
            receiving: at,
            owed: 0,
            requests: None,
            partial: 0,
            since: VecDeque::new(),
        }
    }

    /// Sends requests for the bytes of its stream.
    pub(super) fn pumping(self) -> Self {
        let requests = Some((Vec::with_capacity(REQUEST_BYTES), 0));
        Self { requests, ..self }
    }

    /// Owes a message of `size` bytes that is due at `when`, and expects it back.
    pub(super) fn owe(&mut self, size: usize, when: u64) {
        self.expect(when);
        if let Some((requests, _)) = &mut self.requests {
            requests.extend_from_slice(&request::encode(self.sending, size));
            self.sending = self.sending.forward(size);
        } else {
            self.owed += size;
        }
    }

    /// Owes `size` bytes that do not come back.
    pub(super) fn say(&mut self, size: usize) {
        self.owed += size;
    }

    /// Expects a message that is due at `when`.
    pub(super) fn expect(&mut self, when: u64) {
        self.since.push_back(Times::due(when));
    }

    /// Sends as [`send`](Self::send), `now`.
    pub(super) fn send_at(&mut self, pattern: &Pattern, now: u64) -> Result<(), Fault> {
        self.send(pattern)?;
        let is_through = self.owed == 0 && self.requests.as_ref().is_none_or(|(requests, _)| requests.is_empty());
        if is_through {
            let fresh = self.since.iter_mut().rev().take_while(|times| times.sent == UNSENT);
            fresh.for_each(|times| times.sent = now);
        }
        Ok(())
    }

    /// Sends what is owed, as far as the socket takes it. Edge-triggered: what is left waits for the next event.
    pub(super) fn send(&mut self, pattern: &Pattern) -> Result<(), Fault> {
        if self.requests.is_some() {
            return self.send_requests();
        }
        while self.owed > 0 {
            let bytes = pattern.window(self.sending, self.owed.min(WINDOW));
            let Some(count) = write(&mut self.stream, bytes)? else {
                break;
            };
            self.owed -= count;
            self.sending = self.sending.forward(count);
        }
        Ok(())
    }

    fn send_requests(&mut self) -> Result<(), Fault> {
        let Some((requests, sent)) = &mut self.requests else {
            return Ok(());
        };
        while *sent < requests.len() {
            let Some(count) = write(&mut self.stream, &requests[*sent..])? else {
                return Ok(());
            };
            *sent += count;
        }
        requests.clear();
        *sent = 0;
        Ok(())
    }

    /// Receives and checks what is there; `answered` gets the times of each message of `size` bytes that is complete.
    /// Returns the number of messages.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        pattern: &Pattern,
        size: usize,
        mut answered: impl FnMut(Times),
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
            if let Some(at) = pattern.difference(self.receiving, &buffer[..count]) {
                return Err(Fault::Corrupt(format!(
                    "byte {at} of {count} received is not what was sent"
                )));
            }
            self.receiving = self.receiving.forward(count);
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

    /// Received bytes of a message that is not complete.
    pub(super) fn partial(&self) -> usize {
        self.partial
    }

    /// Bytes that it still has to send.
    pub(super) fn owed(&self) -> usize {
        self.owed
    }

    /// Says no more, and returns how much it still had to.
    pub(super) fn give_up(&mut self) -> usize {
        std::mem::take(&mut self.owed)
    }

    /// Messages on their way.
    pub(super) fn outstanding(&self) -> usize {
        self.since.len()
    }
}

/// Sends what the socket takes; `None` if that is nothing for the moment.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<Option<usize>, Fault> {
    loop {
        return match stream.write(bytes) {
            Ok(0) => Err(Fault::closed("the server takes no more")),
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Err(Fault::closed(format!("send: {error}"))),
        };
    }
}
