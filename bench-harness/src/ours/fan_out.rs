//! What one connection says goes to all others: copied once, shared from then on, as a command is with replicas.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use kraft_core::adapter::{Adapter, Event};
use kraft_core::id::ConnId;
use kraft_core::link::CloseMode;
use kraft_core::outbox::Full;

use crate::buffers::Buffers;

/// What it keeps.
#[derive(Default)]
pub(super) struct FanOut {
    members: Vec<ConnId>,
    buffers: Buffers,
    /// What came in this turn: other connections are reached when the poll is over.
    said: Vec<(ConnId, Bytes)>,
    /// What an outbox had no room for, by connection.
    held: HashMap<ConnId, VecDeque<Bytes>>,
    /// Outboxes that have room again.
    drained: Vec<ConnId>,
    /// Who is paused until nothing is held.
    paused: Vec<ConnId>,
}

impl FanOut {
    pub(super) fn hear(&mut self, event: Event<'_>) {
        match event {
            Event::Accepted { conn, .. } => self.members.push(conn),
            Event::Received { conn, bytes, .. } => {
                let mut copy = self.buffers.take();
                copy.extend_from_slice(bytes);
                self.said.push((conn, self.buffers.share(copy)));
            }
            Event::Drained { conn, .. } => self.drained.push(conn),
            Event::Ended { link, .. } => link.close(CloseMode::Flush),
            Event::Closed { conn, .. } => {
                self.members.retain(|member| *member != conn);
                self.held.remove(&conn);
            }
            _ => {}
        }
    }

    pub(super) fn tell(&mut self, adapter: &mut impl Adapter) {
        for conn in self.drained.drain(..) {
            let Some(held) = self.held.get_mut(&conn) else {
                continue;
            };
            while let Some(bytes) = held.front() {
                let link = adapter.link(conn);
                // Without a link it is gone, and what is held for it goes with its `Closed`.
                if !link.is_some_and(|link| link.outbox().put_shared(bytes) != Err(Full)) {
                    break;
                }
                held.pop_front();
            }
            if held.is_empty() {
                self.held.remove(&conn);
            }
        }
        for (from, bytes) in self.said.drain(..) {
            for &to in self.members.iter().filter(|member| **member != from) {
                let Some(link) = adapter.link(to) else {
                    continue;
                };
                let held = self.held.get_mut(&to);
                if held.is_none() && link.outbox().put_shared(&bytes).is_ok() {
                    continue;
                }
                self.held.entry(to).or_default().push_back(bytes.clone());
                if !self.paused.contains(&from) {
                    self.paused.push(from);
                    adapter.link(from).into_iter().for_each(|link| link.pause());
                }
            }
        }
        if self.held.is_empty() {
            for conn in self.paused.drain(..) {
                adapter.link(conn).into_iter().for_each(|link| link.resume());
            }
        }
    }
}
