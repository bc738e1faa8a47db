//! Snapshots for clients, piece by piece, to be kept elsewhere.

use super::super::conns::Conn;
use super::super::receive::Lent;
use super::super::requests::{Asked, Origin};
use super::super::{Host, Task};
use super::work::Reader;
use crate::adapter::Adapter;
use crate::id::{ConnId, Index, RequestId};
use crate::machine::StateMachine;
use crate::message::{Body, Fetch, Message, Outcome, Refusal, Refused, SnapshotChunk, SnapshotId};
use crate::protocol::{EncodeError, Protocol};
use crate::storage::Storage;
use crate::time::Instant;

/// Clients that wait for a snapshot to be taken.
const WAITING_MAX: usize = 16;

/// Requests of a client that may be unanswered when it asks for another piece. What is read waits for its turn to leave.
const IN_FLIGHT_MAX: usize = 16;

/// Pieces that are being read for clients. Followers' pieces are read behind them.
const READS_MAX: usize = 64;

impl<S: Storage, M: StateMachine> Host<S, M> {
    /// A client asks for a piece.
    pub(in super::super) fn on_fetch<P: Protocol>(
        &mut self,
        lent: &mut Lent<'_, P>,
        conn: &mut Conn,
        message: &Message<'_>,
        fetch: &Fetch,
    ) {
        let request = message.header.request;
        if conn.in_flight >= IN_FLIGHT_MAX || self.snapshots.client_reads >= READS_MAX {
            let detail = "too many pieces are asked for at a time";
            return self.refuse(lent, conn, message, Asked::Read, Refusal::Overloaded, detail);
        }
        if fetch.id != SnapshotId::default() {
            self.snapshots.client_reads += 1;
            let reader = Reader::Client(conn.id, request);
            let length = usize::try_from(self.snapshots.pace.piece).unwrap_or(usize::MAX);
            let work = self
                .snapshots
                .jobs
                .read::<M::Image>(reader, fetch.id, fetch.offset, length);
            self.tasks.push_back(Task::Snapshot(work));
        } else if let Err((why, detail)) = self.fetch_newest(conn.id, request, lent.now) {
            return self.refuse(lent, conn, message, Asked::Read, why, detail);
        }
        conn.took(lent.link, &self.conns.limits);
    }

    /// A client asks for the first piece of a snapshot of all that is applied: the newest if it is one, or another is
    /// taken. One that is being taken may have begun before what this client wrote.
    fn fetch_newest(&mut self, conn: ConnId, request: RequestId, now: Instant) -> Result<(), (Refusal, &'static str)> {
        let applied = self.applied();
        let snapshots = &mut self.snapshots;
        if snapshots.waiting.len() >= WAITING_MAX {
            return Err((Refusal::Overloaded, "too many wait for a snapshot"));
        }
        if applied == Index::ZERO {
            return Err((Refusal::Invalid, "nothing was applied yet: is there a leader?"));
        }
        snapshots.waiting.push((conn, request, applied));
        let newest = snapshots.newest.as_ref().filter(|_| !snapshots.is_distrusted);
        if newest.is_some_and(|newest| newest.id.index >= applied) {
            self.serve_waiting();
        } else if !snapshots.is_saving || snapshots.entries > 0 {
            // Otherwise the one that is being taken holds all of it. Nothing may have been applied since a state was restored.
            snapshots.entries = snapshots.entries.max(1);
            snapshots.is_asked = true;
            snapshots.retry_at = now;
        }
        Ok(())
    }

    /// Reads the first piece of the newest for all whom it is new enough.
    pub(super) fn serve_waiting(&mut self) {
        let Some(id) = self.snapshots.newest.as_ref().map(|newest| newest.id) else {
            return;
        };
        let length = usize::try_from(self.snapshots.pace.piece).unwrap_or(usize::MAX);
        let waiting = std::mem::take(&mut self.snapshots.waiting);
        for (conn, request, applied) in waiting {
            if applied > id.index {
                self.snapshots.waiting.push((conn, request, applied));
                continue;
            }
            let reader = Reader::Client(conn, request);
            self.snapshots.client_reads += 1;
            let work = self.snapshots.jobs.read::<M::Image>(reader, id, 0, length);
            self.tasks.push_back(Task::Snapshot(work));
        }
    }

    /// A connection is gone: nobody waits for its answers.
    pub(in super::super) fn snapshots_without(&mut self, id: ConnId) {
        self.snapshots.waiting.retain(|(conn, ..)| *conn != id);
    }

    pub(super) fn answer_fetch<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        (id, request): (ConnId, RequestId),
        chunk: SnapshotChunk<'_>,
    ) {
        let header = self.header(request);
        let limits = self.conns.limits;
        let now = adapter.now();
        let (Some(conn), Some(link)) = (self.conns.get_mut(id), adapter.link(id)) else {
            return;
        };
        let message = Message {
            header,
            body: Body::FetchReply(chunk),
        };
        match conn.send(protocol, &message, link) {
            Ok(()) => conn.answered(link, &limits, now),
            Err(error) => {
                let detail = match error {
                    EncodeError::TooLarge => "the piece is above the frame_max of this connection",
                    EncodeError::Full => "read the pieces that are on their way before you ask for more",
                };
                self.refuse_fetch(adapter, protocol, (id, request), Refusal::Overloaded, detail);
            }
        }
    }

    pub(super) fn refuse_fetch<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        (conn, request): (ConnId, RequestId),
        why: Refusal,
        detail: &str,
    ) {
        let header = self.header(RequestId(0));
        let origin = Origin::Client {
            conn,
            request,
            asked: Asked::Read,
        };
        let outcome = Outcome::Refused(Refused {
            why,
            leader: self.place.leader,
            detail,
        });
        self.conns
            .answer(adapter, protocol, header, origin, outcome, &mut self.counters);
    }
}
