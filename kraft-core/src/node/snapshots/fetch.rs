//! Snapshots for clients, piece by piece, to be kept elsewhere.

use super::super::conns::Conn;
use super::super::receive::Lent;
use super::super::requests::{Asked, Origin};
use super::super::{Host, Task};
use super::work::Reader;
use crate::adapter::Adapter;
use crate::id::{ConnId, RequestId};
use crate::machine::StateMachine;
use crate::message::{Body, Fetch, Message, Outcome, Refusal, Refused, SnapshotChunk, SnapshotId};
use crate::protocol::{EncodeError, Protocol};
use crate::storage::Storage;

/// Clients that wait for a snapshot to be taken.
const WAITING_MAX: usize = 16;

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
        let is_any = fetch.id == SnapshotId::default();
        // Nothing was applied since: it is what a new one would be.
        let newest = self.snapshots.newest.as_ref().map(|newest| newest.id);
        let newest = newest.filter(|_| self.snapshots.entries == 0 && !self.snapshots.is_distrusted);
        let wanted = match is_any {
            true => newest.map(|id| (id, 0)),
            false => Some((fetch.id, fetch.offset)),
        };
        if let Some((id, offset)) = wanted {
            let reader = Reader::Client(conn.id, request);
            let length = usize::try_from(self.snapshots.pace.piece).unwrap_or(usize::MAX);
            let work = self.snapshots.jobs.read::<M::Image>(reader, id, offset, length);
            self.tasks.push_back(Task::Snapshot(work));
        } else if self.snapshots.waiting.len() >= WAITING_MAX {
            return self.refuse(lent, conn, message, Asked::Read, Refusal::Overloaded, "");
        } else {
            self.snapshots.waiting.push((conn.id, request));
            self.snapshots.is_asked = true;
            self.snapshots.retry_at = lent.now;
        }
        conn.took(lent.link, &self.conns.limits);
    }

    /// A connection is gone: nobody waits for its answers.
    pub(in super::super) fn snapshots_without(&mut self, id: ConnId) {
        self.snapshots.waiting.retain(|(conn, _)| *conn != id);
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
