//! A process that is stopped and goes on, as after a long pause of its machine.

use kraft::adapters::{Config as AdapterConfig, Epoll};
use kraft::client::Node;
use kraft::kv::{Query, Reply};
use kraft::protocols::Binary;
use kraft_core::client::{Client, Config, End, Outcome, Request, Runner};

use super::cluster::{Cluster, NODES, others};
use super::load::{Load, assert_kept};
use crate::process::PATIENCE;

/// A read that was sent before the node is stopped or while it is; only a node that still leads may answer it.
struct Reader(Runner<Epoll, Binary>);

impl Reader {
    fn connect(nodes: &str) -> Self {
        let nodes = Node::resolve_list(nodes).expect("addresses");
        let addresses: Vec<_> = nodes.into_iter().flat_map(|node| node.addresses).collect();
        let config = Config {
            request_timeout: PATIENCE,
            attempt_timeout: PATIENCE,
            ..Config::default()
        };
        let adapter = Epoll::open(&AdapterConfig::default()).expect("a loop");
        Self(Runner::new(Client::new(config, addresses), adapter, Binary))
    }

    /// Hands a read of a key to the kernel.
    fn send(&mut self, key: &[u8]) {
        let mut query = bytes::BytesMut::new();
        Query::Get { key }.encode(&mut query);
        let query = query.freeze();
        self.0.turn(Some(self.0.now())).expect("a turn");
        self.0.call(Request::read(query)).expect("the only call");
        self.0.turn(Some(self.0.now())).expect("a turn");
    }

    /// The value that is read.
    fn answer(&mut self) -> Vec<u8> {
        loop {
            match self.0.poll_done() {
                Some((_, End::Outcome(Outcome::Committed(reply)))) => match Reply::decode(&reply) {
                    Ok(Reply::Value(value)) => return value.to_vec(),
                    other => panic!("{other:?}"),
                },
                Some((_, other)) => panic!("{other:?}"),
                None => self.0.turn(None).expect("a turn"),
            }
        }
    }
}

#[test]
fn sigstop_of_the_leader() {
    let mut cluster = Cluster::start("sigstop", &[]);
    let old = cluster.leader(&NODES);
    cluster.node(old).line("\"leads\"");
    cluster.connect(&NODES).put(b"key", b"old").expect("a leader commits");
    let mut reader = Reader::connect(&cluster.clients(&[old]));
    reader.send(b"key");
    assert_eq!(reader.answer(), b"old");

    let load = Load::start(&cluster, &NODES, 4, 100);
    load.wait_for(100);
    cluster.node(old).signal("STOP");
    load.wait_for(100);
    cluster.leader(&others(old));
    cluster.connect(&others(old)).put(b"key", b"new").expect("two of three");
    // It waits in the socket of a node that takes itself for the leader when it goes on.
    reader.send(b"key");
    cluster.node(old).signal("CONT");
    assert_eq!(reader.answer(), b"new");
    let follows = cluster.node(old).line("\"follows\"");
    assert!(follows.contains("\"role\""), "{follows}");

    load.wait_for(100);
    let written = load.stop();
    cluster.wait_until_equal(&NODES);
    assert_kept(&cluster, &NODES, &written);
}
