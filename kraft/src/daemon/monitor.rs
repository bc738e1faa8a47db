//! The metrics page as a listener on the node's loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kraft_core::id::ConnId;
use kraft_core::link::{CloseMode, Link};
use kraft_core::node::{Service, View};

use super::http::{Progress, REQUEST_BYTES_MAX, respond};
use super::logging;
use super::metrics::Sample;
use super::notices::Counts;

/// Connections of monitors at a time: two Prometheus servers, a balancer's probes and a person.
pub(super) const CONNECTIONS_MAX: usize = 16;

/// How long a monitor may take for its one request and to read the answer.
const AGE_MAX: Duration = Duration::from_secs(10);

/// Answers HTTP on a listener of its own.
#[derive(Debug)]
pub(super) struct Monitor {
    protocol: &'static str,
    counts: Arc<Counts>,
    /// Requests that are not whole: at most [`CONNECTIONS_MAX`], each below [`REQUEST_BYTES_MAX`].
    requests: BTreeMap<ConnId, Vec<u8>>,
}

impl Monitor {
    /// A page over a node that speaks `protocol` and counts what it tells of in `counts`.
    pub(super) fn new(protocol: &'static str, counts: Arc<Counts>) -> Self {
        Self {
            protocol,
            counts,
            requests: BTreeMap::new(),
        }
    }
}

impl Service for Monitor {
    fn received(&mut self, conn: ConnId, bytes: &[u8], link: &mut Link, view: &View<'_>) {
        // One request a connection: what comes after it is not read.
        if link.is_closing() {
            return;
        }
        let request = self.requests.entry(conn).or_default();
        let room = REQUEST_BYTES_MAX.saturating_sub(request.len());
        request.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let page = |page| {
            let sample = Sample {
                view,
                protocol: self.protocol,
                notices: &self.counts.all(),
                log_lines_suppressed: logging::suppressed_total(),
                certificate_expiry: self.counts.certificate_expiry(),
            };
            sample.page(page)
        };
        if let Progress::Respond(response) = respond(request, page) {
            self.requests.remove(&conn);
            // A page is a few KiB; an outbox that cannot hold one is set too small, and the monitor sees a short read.
            let _ = link.outbox().put(&response);
            link.close(CloseMode::Flush);
        }
    }

    fn closed(&mut self, conn: ConnId) {
        self.requests.remove(&conn);
    }

    fn age_max(&self) -> Option<Duration> {
        Some(AGE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use kraft_adapters::mock::{Mock, Network};
    use kraft_core::adapter::{Adapter, Endpoint, ListenOptions, Stats};
    use kraft_core::id::{GroupId, Incarnation, Index, NodeId, Term};
    use kraft_core::message::{NodeState, StatusReply};
    use kraft_core::node::{Config, Counters, Member, Node, Parts};
    use kraft_core::time::Instant;
    use kraft_protocols::Binary;

    use super::*;
    use crate::kv::Kv;
    use crate::storage::{self, DiskLog, LogIdentity, RealFiles};

    fn feed(monitor: &mut Monitor, link: &mut Link, bytes: &[u8]) {
        let status = StatusReply {
            state: NodeState::Follower,
            leader: NodeId(2),
            commit: Index(1),
            applied: Index(1),
            first: Index(1),
            last: Index(1),
            durable: Index(1),
            snapshot: Index::ZERO,
            membership: Index::ZERO,
            uptime_ms: 1,
            version: "0",
            backend: "mock",
            members: Vec::new(),
        };
        let view = View {
            status: &status,
            term: Term(1),
            stats: &Stats::default(),
            counters: &Counters::default(),
        };
        monitor.received(ConnId::new(0, 0), bytes, link, &view);
    }

    #[test]
    fn a_request_in_pieces_is_answered_once_and_closed() {
        let mut monitor = Monitor::new("binary", Arc::default());
        let mut link = Link::new(1 << 16);
        for byte in b"GET /readyz HTTP/1.0\r\n\r" {
            feed(&mut monitor, &mut link, &[*byte]);
            assert!(link.outbox().is_empty() && !link.is_closing());
        }
        feed(&mut monitor, &mut link, b"\nGET /livez HTTP/1.0\r\n\r\n");
        let answered = link.outbox().len();
        assert!(answered > 0 && link.is_closing() && monitor.requests.is_empty());
        feed(&mut monitor, &mut link, b"GET /livez HTTP/1.0\r\n\r\n");
        assert_eq!(link.outbox().len(), answered);
        assert!(monitor.requests.is_empty());
    }

    #[test]
    fn a_request_without_end_is_bounded_and_closed() {
        let mut monitor = Monitor::new("binary", Arc::default());
        let mut link = Link::new(1 << 16);
        feed(&mut monitor, &mut link, &[b'a'; 4000]);
        assert_eq!(monitor.requests.len(), 1);
        monitor.closed(ConnId::new(0, 0));
        assert!(monitor.requests.is_empty());
        feed(&mut monitor, &mut link, &[b'a'; 1 << 20]);
        assert!(link.is_closing() && monitor.requests.is_empty());
    }

    /// A node on a mock, its log in a folder that is returned to be kept.
    fn node(network: &Network) -> (tempfile::TempDir, Node<Mock, Binary, DiskLog<RealFiles>, Kv>) {
        let folder = tempfile::tempdir().expect("a folder");
        let files = RealFiles::open(folder.path()).expect("a folder");
        let identity = LogIdentity {
            cluster: kraft_core::id::ClusterId::from_name("c"),
            node: NodeId(1),
            incarnation: Incarnation(1),
            group: GroupId(0),
        };
        let (storage, recovered) = DiskLog::open(files, identity, storage::Config::default()).expect("a new log");
        let parts = Parts {
            adapter: network
                .open(network.add_host(), &kraft_adapters::Config::default())
                .expect("a mock"),
            protocol: Binary,
            storage,
            recovered,
            machine: Kv::default(),
        };
        let member = Member {
            node: NodeId(1),
            address: "a:1".to_owned(),
            incarnation: None,
        };
        let config = Config::new("c", NodeId(1), Incarnation(1), vec![member], 1);
        (folder, Node::open(config, parts, |_| {}).expect("a node"))
    }

    #[test]
    fn monitors_that_say_nothing_do_not_keep_others_out() {
        let network = Network::by_hand();
        let (_folder, mut node) = node(&network);
        let at = Endpoint::Tcp("10.0.0.1:9".parse().expect("an address"));
        let options = ListenOptions {
            max_connections: CONNECTIONS_MAX,
            ..ListenOptions::default()
        };
        let at = node
            .serve(Box::new(Monitor::new("binary", Arc::default())), &at, options)
            .expect("it listens");
        let silent: Vec<_> = (0..CONNECTIONS_MAX)
            .map(|_| network.dial(&at).expect("a listener"))
            .collect();
        node.turn(Some(Instant::ZERO)).expect("a turn");
        assert_eq!(node.adapter().stats().active, CONNECTIONS_MAX as u64);
        for (span, active) in [
            (AGE_MAX - Duration::from_millis(1), CONNECTIONS_MAX),
            (Duration::from_secs(2), 0),
        ] {
            network.move_to(network.now() + span);
            // One turn sees the time, closes what is old; the next one lets it go.
            node.turn(Some(Instant::ZERO)).expect("a turn");
            node.turn(Some(Instant::ZERO)).expect("a turn");
            assert_eq!(node.adapter().stats().active, active as u64);
        }
        let late = network.dial(&at).expect("a listener");
        node.turn(Some(Instant::ZERO)).expect("a turn");
        late.send(b"GET /livez HTTP/1.0\r\n\r\n");
        node.turn(Some(Instant::ZERO)).expect("a turn");
        node.turn(Some(Instant::ZERO)).expect("a turn");
        assert!(late.received().ends_with(b"live\n"));
        drop(silent);
    }
}
