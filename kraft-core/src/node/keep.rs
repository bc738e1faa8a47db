//! The keeping of connections: dials, deadlines, evictions, and leave-taking.

use std::io;

use super::conns::{Conn, Source, Stage};
use super::receive::Lent;
use super::{Host, Notice, Port, READ_WAIT_MAX, SWEEP_INTERVAL, Task};
use crate::adapter::{Adapter, CloseReason, Endpoint};
use crate::handshake::{Handshake, Rejection};
use crate::id::{ConnId, Incarnation, NodeId, RequestId};
use crate::link::CloseMode;
use crate::machine::StateMachine;
use crate::message::{GoawayReason, Outcome, Refusal};
use crate::peers::Step;
use crate::protocol::Protocol;
use crate::storage::Storage;
use crate::time::Instant;

impl<S: Storage, M: StateMachine> Host<S, M> {
    /// Dials, closes, and looks over the connections.
    pub(super) fn keep_conns<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        for (id, rejection) in std::mem::take(&mut self.to_close) {
            if let Some((mut conn, link)) = self.conns.take_live(adapter, id) {
                self.reject(&mut Lent { protocol, now, link }, &mut conn, &rejection);
                self.conns.put_back(conn);
            }
        }
        if std::mem::take(&mut self.has_accepted) {
            self.evict_oldest_strangers(adapter);
        }
        if self.stopping.is_none() {
            for (node, step) in std::mem::take(&mut self.to_connect) {
                self.dial(adapter, node, step, now);
            }
            while let Some((node, step)) = self.peers.due(now) {
                self.dial(adapter, node, step, now);
            }
        }
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP_INTERVAL;
            self.sweep(adapter, protocol, now);
            self.end_late_reads(adapter, protocol, now);
        }
    }

    /// Connections that say nothing, or that were turned away and do not close, must not keep out those that would say
    /// hello. They get no goodbye: it would keep their place until they close.
    fn evict_oldest_strangers<A: Adapter>(&mut self, adapter: &mut A) {
        let roles = self
            .listeners
            .iter()
            .filter(|known| matches!(known.port, Port::Role(_)));
        let mut evicted = Vec::new();
        for known in roles {
            let is_stranger = |conn: &&Conn| {
                conn.listener == Some(known.listener) && matches!(conn.stage, Stage::Shaking | Stage::Mute)
            };
            let strangers = self.conns.iter().filter(is_stranger);
            let mut strangers: Vec<_> = strangers.map(|conn| (conn.handshake.deadline(), conn.id)).collect();
            let excess = strangers.len().saturating_sub(known.strangers_max);
            strangers.sort_by_key(|(deadline, _)| *deadline);
            evicted.extend(strangers[..excess].iter().map(|(_, id)| (*id, known.strangers_max)));
        }
        for (id, strangers_max) in evicted {
            let (Some(conn), Some(link)) = (self.conns.get_mut(id), adapter.link(id)) else {
                continue;
            };
            link.close(CloseMode::Now);
            if !matches!(std::mem::replace(&mut conn.stage, Stage::Mute), Stage::Mute) {
                self.counters.turned_away += 1;
                let detail = format!("more than {strangers_max} connections have not said hello");
                (self.observer)(Notice::TurnedAway {
                    from: conn.from(),
                    reason: GoawayReason::TooMany,
                    detail: &detail,
                });
            }
        }
    }

    fn dial<A: Adapter>(&mut self, adapter: &mut A, node: NodeId, step: Step, now: Instant) {
        match step {
            Step::Resolve(name) => self.tasks.push_back(Task::Resolve { node, name }),
            Step::Connect(endpoint, rest) => self.connect(adapter, node, endpoint, rest, now),
        }
    }

    fn connect<A: Adapter>(
        &mut self,
        adapter: &mut A,
        node: NodeId,
        mut endpoint: Endpoint,
        mut rest: Vec<Endpoint>,
        now: Instant,
    ) {
        loop {
            match adapter.connect(&endpoint) {
                Ok(id) => {
                    self.peers.connecting(node, id, rest);
                    let handshake = Handshake::dial(node, 0, now);
                    let conn = Conn::new(id, Source::Dialled(node), Stage::Connecting, handshake);
                    return self.conns.insert(conn);
                }
                // A family that this system lacks, say: the name's next address may be of another.
                Err(_) if !rest.is_empty() => endpoint = rest.remove(0),
                Err(error) => {
                    self.peers.failed(node, now);
                    if !self.dial_failed(node, &error) && self.peers.failed_first(node) {
                        let address = self.peers.get(node).map_or("", |peer| peer.address.as_str());
                        let reason = CloseReason::Failed(error.kind());
                        (self.observer)(Notice::DialFailed { node, address, reason });
                    }
                    return;
                }
            }
        }
    }

    /// A peer's name has its addresses, or has none, which is a dial that failed.
    pub(super) fn resolved(&mut self, node: NodeId, addresses: io::Result<Vec<Endpoint>>, now: Instant) {
        let addresses = addresses.and_then(|addresses| match addresses.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            false => Ok(addresses),
        });
        let (addresses, error) = match addresses {
            Ok(addresses) => (addresses, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        if let Some(step) = self.peers.resolved(node, addresses, now) {
            self.to_connect.push((node, step));
        } else if let Some(error) = &error
            && !self.dial_failed(node, error)
            && self.peers.failed_first(node)
        {
            let name = self.peers.get(node).map_or("", |peer| peer.address.as_str());
            (self.observer)(Notice::NameUnresolved { node, name, error });
        }
    }

    /// Ends reads that may be answered from an index on that does not come.
    fn end_late_reads<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        let Some(time) = now.as_nanos().checked_sub(READ_WAIT_MAX.as_nanos() as u64) else {
            return;
        };
        while let Some(group) = self.requests.next_late(Instant::from_nanos(time)) {
            self.refuse_group(adapter, protocol, group, Refusal::NotLeader);
        }
    }

    /// Ends what takes too long: hellos, frames, clients that do not read.
    fn sweep<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        let mut late: Vec<(ConnId, Rejection)> = Vec::new();
        let mut stalled = Vec::new();
        let mut old = Vec::new();
        for conn in self.conns.iter() {
            let slow = |what: &str| Rejection {
                reason: GoawayReason::TooSlow,
                detail: what.to_owned(),
            };
            if matches!(conn.stage, Stage::Shaking) {
                late.extend(conn.handshake.expire(now).map(|rejection| (conn.id, rejection)));
            } else if conn.is_frame_late(self.config.frame_timeout, now) {
                late.push((conn.id, slow("a frame was begun and not ended in time")));
            } else if conn
                .stalled_since
                .is_some_and(|since| now >= since + self.config.client_stall_max)
            {
                stalled.push(conn.id);
            } else if conn.expires_at.is_some_and(|at| now >= at) {
                old.push(conn.id);
            }
        }
        for id in old {
            if let Some(link) = adapter.link(id) {
                link.close(CloseMode::Now);
            }
        }
        for (id, rejection) in late {
            if let Some((mut conn, link)) = self.conns.take_live(adapter, id) {
                self.reject(&mut Lent { protocol, now, link }, &mut conn, &rejection);
                self.conns.put_back(conn);
            }
        }
        for id in stalled {
            if let (Some(conn), Some(link)) = (self.conns.get_mut(id), adapter.link(id)) {
                conn.stage = Stage::Mute;
                link.close(CloseMode::Now);
                self.counters.slow_readers += 1;
                (self.observer)(Notice::SlowReader { conn: id });
            }
        }
    }

    /// A peer's incarnation is on disk: connections that waited for it open, unless they claimed another.
    pub(super) fn remembered<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        node: NodeId,
        incarnation: Incarnation,
        now: Instant,
    ) {
        self.peers.remembered(node, incarnation);
        self.remember_life(node, incarnation);
        (self.observer)(Notice::PeerKnown { node, incarnation });
        let held = |conn: &&Conn| matches!(&conn.stage, Stage::Held(established, _) if established.node == node);
        let waiting: Vec<_> = self.conns.iter().filter(held).map(|conn| conn.id).collect();
        for id in waiting {
            let Some((mut conn, link)) = self.conns.take_live(adapter, id) else {
                continue;
            };
            if let Stage::Held(established, welcome) = std::mem::replace(&mut conn.stage, Stage::Mute) {
                if established.incarnation == incarnation {
                    link.resume();
                    self.open(&mut Lent { protocol, now, link }, &mut conn, established, welcome);
                } else {
                    let detail = format!(
                        "node {node} is known as incarnation {incarnation}, this is {}: it must join as a new node",
                        established.incarnation
                    );
                    let reason = GoawayReason::WrongIncarnation;
                    self.reject(
                        &mut Lent { protocol, now, link },
                        &mut conn,
                        &Rejection { reason, detail },
                    );
                }
            }
            self.conns.put_back(conn);
        }
    }

    /// Takes leave: no new connections, goodbye to the ones there are, an outcome for whoever waits.
    pub(super) fn stop_if_asked<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        if self.stopping != Some(now) || self.listeners.is_empty() {
            return;
        }
        for known in std::mem::take(&mut self.listeners) {
            adapter.unlisten(known.listener);
        }
        self.refuse_batch(adapter, protocol, Refusal::Stopping);
        let header = self.header(RequestId(0));
        for origin in self.requests.take_pending() {
            self.conns
                .answer(adapter, protocol, header, origin, Outcome::Unknown, &mut self.counters);
        }
        let ids: Vec<_> = self.conns.iter().map(|conn| conn.id).collect();
        let goodbye = Rejection {
            reason: GoawayReason::Stopping,
            detail: "the node is going down".to_owned(),
        };
        for id in ids {
            if let Some((mut conn, link)) = self.conns.take_live(adapter, id) {
                self.turn_away(&mut Lent { protocol, now, link }, &mut conn, &goodbye);
                self.conns.put_back(conn);
            }
        }
    }
}
