//! One connection of the load.

use std::collections::VecDeque;

use kraft_core::handshake::Handshake;
use kraft_core::id::{ConnId, RequestId, Sequence, SessionId};
use kraft_core::inbox::Inbox;
use kraft_core::link::Link;
use kraft_core::message::{Body, Header, Message};
use kraft_core::protocol::{EncodeError, Protocol};
use kraft_core::time::Instant;

/// A connection to the leader, with a bounded number of requests outstanding.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) conn: Option<ConnId>,
    pub(super) inbox: Inbox,
    /// From the connection's beginning; through once the lane is ready.
    pub(super) handshake: Option<Handshake>,
    /// Zero without `--sessions`.
    pub(super) session: SessionId,
    /// The site that it is connected to, or was.
    pub(super) site: usize,
    /// Not dialled or, when ready, not used before.
    pub(super) rest_until: Instant,
    /// To be closed and dialled afresh when nothing is outstanding.
    pub(super) is_leaving: bool,
    pub(super) outstanding: VecDeque<Outstanding>,
    next_request: u64,
    next_sequence: u64,
}

/// A request without an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outstanding {
    pub(super) request: RequestId,
    pub(super) sequence: Sequence,
    pub(super) sent: Instant,
    pub(super) asked: Asked,
}

/// What the answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Session,
    /// Writes the key of this number before the measurement.
    Fill(u32),
    Op,
}

impl Lane {
    /// Whether the node has welcomed it.
    pub(super) fn is_welcome(&self) -> bool {
        self.handshake
            .as_ref()
            .is_some_and(|handshake| handshake.established().is_some())
    }

    /// The connection is gone; its requests are handed back.
    pub(super) fn down(&mut self) -> VecDeque<Outstanding> {
        self.conn = None;
        self.handshake = None;
        self.session = SessionId(0);
        self.next_sequence = 0;
        self.is_leaving = false;
        std::mem::take(&mut self.outstanding)
    }

    /// Puts a request into the connection's outbox; a command is numbered in the lane's session.
    ///
    /// # Errors
    ///
    /// As the protocol's; nothing was asked.
    ///
    /// # Panics
    ///
    /// If the lane was not welcomed.
    pub(super) fn ask<P: Protocol>(
        &mut self,
        protocol: &P,
        asked: Asked,
        mut body: Body<'_>,
        link: &mut Link,
        now: Instant,
    ) -> Result<(), EncodeError> {
        let established = self.handshake.as_ref().and_then(Handshake::established);
        let established = established.expect("only a welcomed lane asks");
        self.next_request += 1;
        let request = RequestId(self.next_request);
        let mut sequence = Sequence(0);
        if let Body::Command(command) = &mut body
            && self.session != SessionId(0)
        {
            self.next_sequence += 1;
            sequence = Sequence(self.next_sequence);
            command.session = self.session;
            command.sequence = sequence;
            command.first_unanswered = self.first_unanswered(sequence);
        }
        let header = Header {
            cluster: established.cluster,
            request,
            ..Header::default()
        };
        protocol.encode(&Message { header, body }, established.frame_max as usize, link.outbox())?;
        self.outstanding.push_back(Outstanding {
            request,
            sequence,
            sent: now,
            asked,
        });
        Ok(())
    }

    /// Takes out what a reply answers; mostly the oldest.
    pub(super) fn answered(&mut self, request: RequestId) -> Option<Outstanding> {
        let at = self.outstanding.iter().position(|out| out.request == request)?;
        self.outstanding.remove(at)
    }

    /// The first command of the session that has no answer; `next` if all have.
    fn first_unanswered(&self, next: Sequence) -> Sequence {
        let sequences = self.outstanding.iter().map(|out| out.sequence);
        sequences
            .filter(|sequence| *sequence != Sequence(0))
            .min()
            .unwrap_or(next)
    }
}
