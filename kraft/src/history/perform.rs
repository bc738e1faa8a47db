//! Operations of a blocking client, recorded as they happen.

use bytes::Bytes;
use kraft_core::adapter::Adapter;
use kraft_core::client::{Delivery, Outcome, Request};
use kraft_core::protocol::Protocol;

use super::{Action, Fate, History};
use crate::client::{Client, Error};

impl History {
    /// Performs an operation and records it; `clock` is that of all clients of the history, in nanoseconds. Returns
    /// how it ended.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] of the client's event loop; what the operation came to is unknown then.
    pub fn perform<A: Adapter, P: Protocol>(
        &mut self,
        client: &mut Client<A, P>,
        number: u32,
        key: &[u8],
        action: Action,
        clock: impl Fn() -> u64,
    ) -> Result<&Fate, Error> {
        let request = action.request(key, Delivery::ExactlyOnce);
        let id = self.begin(number, key, action, clock());
        let ended: Result<Bytes, Error> = match request {
            Request::Command { command, .. } => client.command(command),
            Request::Read { query, .. } => client.read(query),
            Request::Change { .. } | Request::Transfer { .. } | Request::Status { .. } | Request::Fetch { .. } => {
                unreachable!("no action asks for that")
            }
        };
        let outcome = match ended {
            Ok(reply) => Outcome::Committed(reply),
            Err(Error::Refused(refused)) => Outcome::Refused(refused),
            Err(Error::Unknown) => Outcome::Unknown,
            Err(error) => return Err(error),
        };
        self.end(id, &outcome, clock());
        Ok(&self.operations[id.0].fate)
    }
}
