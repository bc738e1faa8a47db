//! A node on its own threads.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use bytes::{Bytes, BytesMut};
use kraft::adapter::{Endpoint, ListenOptions};
use kraft::adapters::{Any, Backend, Choice};
use kraft::id::{ClusterId, GroupId, Incarnation, Index, NodeId};
use kraft::machine::{Refused, StateMachine};
use kraft::message::{NodeState, Role};
use kraft::node::{Config, Handle, Member, Node, Notice, Outcome, Parts};
use kraft::protocols::Binary;
use kraft::server::Server;
use kraft::storage::{self, DiskLog, LogIdentity, MemFiles};

type Alone = Server<Any, Binary, DiskLog<MemFiles>, Nothing>;

/// A machine without state.
struct Nothing;

impl StateMachine for Nothing {
    type Image = [u8; 0];

    fn apply(&mut self, _: Index, _: &[u8], _: &mut BytesMut) {}

    fn read(&self, _: &[u8], _: &mut BytesMut) -> Result<(), Refused> {
        Ok(())
    }

    fn image(&self) -> [u8; 0] {
        []
    }

    fn restore(&mut self, image: [u8; 0]) -> [u8; 0] {
        image
    }

    fn digest(&self) -> u64 {
        0
    }
}

/// A cluster of one, and where its clients find it.
fn alone(observer: impl FnMut(Notice<'_>) + Send + 'static) -> (Alone, SocketAddr) {
    let (cluster, node, incarnation) = ("alone", NodeId(1), Incarnation(7));
    let log = LogIdentity {
        cluster: ClusterId::from_name(cluster),
        node,
        incarnation,
        group: GroupId(0),
    };
    // It does not come to the end of its first segment: there it would wait for the next one.
    let disk = storage::Config {
        segment_bytes: 64 << 20,
        first_segment_bytes: 64 << 20,
        ..storage::Config::default()
    };
    let (storage, recovered) = DiskLog::open(MemFiles::new(), log, disk).expect("an empty log");
    // What each system has, on a thread of the test's choice.
    let loops = Choice::list([Backend::Epoll, Backend::Kqueue, Backend::Threads]);
    let opened = loops.open(&Default::default()).expect("a descriptor is free");
    let parts = Parts {
        adapter: opened.adapter,
        protocol: Binary,
        storage,
        recovered,
        machine: Nothing,
    };
    let member = Member {
        node,
        address: "127.0.0.1:1".to_owned(),
        incarnation: Some(incarnation),
    };
    let config = Config::new(cluster, node, incarnation, vec![member], 7);
    let node = Node::open(config, parts, observer).expect("it is valid");
    let mut server = Server::new(node, |_, _| Ok(()));
    let any = Endpoint::Tcp(([127, 0, 0, 1], 0).into());
    let bound = server.listen(Role::Client, &any, ListenOptions::default());
    let Endpoint::Tcp(at) = bound.expect("a port is free") else {
        panic!("a TCP port was asked for");
    };
    (server, at)
}

/// Proposes again whenever it was answered.
fn propose_on_and_on(handle: &Handle, proposed: &Arc<AtomicUsize>) {
    proposed.fetch_add(1, Ordering::Relaxed);
    let (again, proposed) = (handle.clone(), Arc::clone(proposed));
    handle.propose(Bytes::new()).on_done(move |outcome| {
        if let Outcome::Committed(_) = outcome {
            propose_on_and_on(&again, &proposed);
        }
    });
}

#[test]
fn calls_of_this_process_do_not_keep_the_loop_from_its_sockets() {
    let proposed: Arc<AtomicUsize> = Arc::default();
    let (leads, elected) = mpsc::channel();
    let (looked, seen) = mpsc::channel();
    let count = Arc::clone(&proposed);
    let (server, at) = alone(move |notice| match notice {
        Notice::Role {
            state: NodeState::Leader,
            ..
        } => leads.send(()).expect("it is waited for"),
        Notice::Garbage { .. } => looked.send(count.load(Ordering::Relaxed)).expect("it is waited for"),
        _ => {}
    });
    let handle = server.handle();
    let running = thread::spawn(move || server.run());
    elected.recv().expect("a cluster of one has a leader");

    let (again, count) = (handle.clone(), Arc::clone(&proposed));
    handle.propose(Bytes::new()).on_done(move |outcome| {
        assert!(matches!(outcome, Outcome::Committed(_)));
        // The status is answered in the turn that takes the first of these commands. The other one is taken in the
        // turn after it, when the first is committed: there is a sync at hand from here on.
        let (behind, counted) = (again.clone(), Arc::clone(&count));
        again.status().on_done(move |_| propose_on_and_on(&behind, &counted));
        propose_on_and_on(&again, &count);
        // Somebody whom the loop turns away as soon as it looks.
        let mut stranger = TcpStream::connect(at).expect("it listens");
        stranger.write_all(&[0xc3; 600]).expect("nobody has looked yet");
    });
    let before = seen.recv().expect("the loop goes on");
    assert!(before < 50, "the loop looked after {before} commands");
    handle.stop();
    running.join().expect("no panic").expect("it was stopped");
}
