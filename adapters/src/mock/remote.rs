//! The other side of a connection, played by hand.

use std::io::{self, Read, Write};

use kraft_core::adapter::{CloseReason, Endpoint};

use super::network::Network;
use super::wire::{Side, WireId};

/// The other side of one connection of a mock, played by hand: from [`Network::dialled`] or [`Network::dial`].
///
/// It is next to the mock: nothing delays it, and no partition reaches it. Dropping it closes it, as closing a socket
/// does: what was sent still arrives, then the end, or a reset if something was not read.
///
/// [`Read`] and [`Write`] are those of a non-blocking socket.
#[derive(Debug)]
pub struct Remote {
    network: Network,
    wire: WireId,
    side: Side,
}

impl Remote {
    pub(super) fn new(network: &Network, wire: WireId, side: Side) -> Self {
        if let Some(wire) = network.state().wire_mut(wire) {
            wire.end_mut(side).held = true;
        }
        Self {
            network: network.clone(),
            wire,
            side,
        }
    }

    /// What was dialled.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.network.state().wire(self.wire).map(|wire| wire.to.clone())
    }

    /// Accepts the mock's connect.
    pub fn accept(&self) {
        self.network.state().accept_by_hand(self.wire);
    }

    /// Refuses the mock's connect.
    pub fn refuse(self) {
        self.fail(CloseReason::Refused);
    }

    /// Lets the mock's connection, or its connect, fail for a reason.
    pub fn fail(self, reason: CloseReason) {
        let mut state = self.network.state();
        state.break_end(self.wire, self.side.other(), reason);
    }

    /// Sends to the mock. Returns how many bytes there was room for.
    pub fn send(&self, bytes: &[u8]) -> usize {
        let mut state = self.network.state();
        let count = state.send_bytes(self.wire, self.side, bytes);
        state.settle();
        count
    }

    /// Takes what the mock sent and flushed.
    #[must_use]
    pub fn received(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut state = self.network.state();
        state.settle();
        while state.read(self.wire, self.side, &mut bytes, usize::MAX) > 0 {}
        bytes
    }

    /// Whether the mock has ended what it sends, and all of it was taken.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        let mut state = self.network.state();
        state.settle();
        let view = state.view(self.wire, self.side);
        view.fin && view.readable == 0
    }

    /// Whether the connection was reset.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        let mut state = self.network.state();
        state.settle();
        state.view(self.wire, self.side).broken.is_some()
    }

    /// Ends what is sent to the mock, which may go on sending.
    pub fn end(&self) {
        let mut state = self.network.state();
        state.end(self.wire, self.side);
        state.settle();
    }

    /// Resets the connection.
    pub fn reset(self) {
        let mut state = self.network.state();
        state.leave(self.wire, self.side, true);
        state.settle();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let mut state = self.network.state();
        let gone = (state.wire(self.wire)).is_none_or(|wire| wire.end(self.side).gone);
        if !gone {
            state.leave(self.wire, self.side, false);
            state.settle();
        }
    }
}

impl Read for Remote {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.network.state();
        state.settle();
        let view = state.view(self.wire, self.side);
        match view {
            view if view.broken.is_some() => Err(io::ErrorKind::ConnectionReset.into()),
            view if view.readable > 0 => {
                let mut bytes = Vec::new();
                let count = state.read(self.wire, self.side, &mut bytes, buffer.len());
                buffer[..count].copy_from_slice(&bytes);
                Ok(count)
            }
            view if view.fin => Ok(0),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Remote {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_reset() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        match self.send(bytes) {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
