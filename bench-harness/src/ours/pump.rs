//! Each request names a piece of the pattern, which is the reply, shared and not copied.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use kraft_core::adapter::Event;
use kraft_core::id::ConnId;
use kraft_core::link::{CloseMode, Link};
use kraft_core::outbox::Full;

use crate::request::Requests;

/// What it keeps, by connection.
#[derive(Default)]
pub(super) struct Pump {
    conns: HashMap<ConnId, Asked>,
}

#[derive(Default)]
struct Asked {
    requests: Requests,
    /// What the outbox had no room for; the connection is paused until then.
    held: VecDeque<Bytes>,
}

impl Pump {
    pub(super) fn answer(&mut self, event: Event<'_>) {
        match event {
            Event::Received { conn, mut bytes, link } => {
                let asked = self.conns.entry(conn).or_default();
                while let Some(reply) = asked.requests.next(&mut bytes) {
                    asked.held.push_back(reply);
                }
                asked.put(link);
            }
            Event::Drained { conn, link } => {
                if let Some(asked) = self.conns.get_mut(&conn) {
                    link.resume();
                    asked.put(link);
                }
            }
            Event::Ended { link, .. } => link.close(CloseMode::Flush),
            Event::Closed { conn, .. } => {
                self.conns.remove(&conn);
            }
            _ => {}
        }
    }
}

impl Asked {
    fn put(&mut self, link: &mut Link) {
        while let Some(reply) = self.held.front() {
            if let Err(Full) = link.outbox().put_shared(reply) {
                link.pause();
                return;
            }
            self.held.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ours::taken;
    use crate::pattern::{Pattern, Place};
    use crate::request;

    #[test]
    fn replies_that_do_not_fit_are_held_and_sent_in_order() {
        let conn = ConnId::new(0, 0);
        let places = [0, 1, 2].map(Place::of);
        let asked: Vec<u8> = places.iter().flat_map(|at| request::encode(*at, 40)).collect();
        let mut pump = Pump::default();
        let mut link = Link::new(100);
        let (bytes, link) = (asked.as_slice(), &mut link);
        pump.answer(Event::Received { conn, bytes, link });
        assert!(link.intents().paused);
        let mut came = taken(link);
        assert_eq!(came.len(), 80);
        assert!(link.outbox().pop_drained());
        pump.answer(Event::Drained { conn, link });
        assert!(!link.intents().paused);
        came.extend(taken(link));
        let expected = places.map(|at| Pattern::shared().window(at, 40)).concat();
        assert_eq!(came, expected);
    }
}
