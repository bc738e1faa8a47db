//! A node on its own threads.

use std::io::{self, Write};
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
use kraft::snapshot::Image;
use kraft::storage::{self, DiskLog, Files, LogIdentity, MemFiles};

type Alone<M> = Server<Any, Binary, DiskLog<MemFiles>, M>;

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
fn alone<M: StateMachine>(
    machine: M,
    files: MemFiles,
    tune: impl FnOnce(&mut Config),
    observer: impl FnMut(Notice<'_>) + Send + 'static,
) -> (Alone<M>, SocketAddr) {
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
    let (storage, recovered) = DiskLog::open(files, log, disk).expect("an empty log");
    // What each system has, on a thread of the test's choice.
    let loops = Choice::list([Backend::Epoll, Backend::Kqueue, Backend::Threads]);
    let opened = loops.open(&Default::default()).expect("a descriptor is free");
    let parts = Parts {
        adapter: opened.adapter,
        protocol: Binary,
        storage,
        recovered,
        machine,
    };
    let member = Member {
        node,
        address: "127.0.0.1:1".to_owned(),
        incarnation: Some(incarnation),
    };
    let mut config = Config::new(cluster, node, incarnation, vec![member], 7);
    tune(&mut config);
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
    let told = move |notice: Notice<'_>| match notice {
        Notice::Role {
            state: NodeState::Leader,
            ..
        } => leads.send(()).expect("it is waited for"),
        Notice::Garbage { .. } => looked.send(count.load(Ordering::Relaxed)).expect("it is waited for"),
        _ => {}
    };
    let (server, at) = alone(Nothing, MemFiles::new(), |_| (), told);
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

/// A state without an end.
struct Endless {
    begun: mpsc::Sender<()>,
    ended: mpsc::Sender<String>,
}

impl Image for Endless {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&[0; 4096])?;
        self.begun.send(()).expect("it is waited for");
        loop {
            out.write_all(&[0])
                .inspect_err(|error| self.ended.send(error.to_string()).expect("it is waited for"))?;
        }
    }

    fn read(_: &mut dyn io::Read) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A machine of such a state.
struct Machine {
    begun: mpsc::Sender<()>,
    ended: mpsc::Sender<String>,
}

impl StateMachine for Machine {
    type Image = Endless;

    fn apply(&mut self, _: Index, _: &[u8], _: &mut BytesMut) {}

    fn read(&self, _: &[u8], _: &mut BytesMut) -> Result<(), Refused> {
        Ok(())
    }

    fn image(&self) -> Endless {
        Endless {
            begun: self.begun.clone(),
            ended: self.ended.clone(),
        }
    }

    fn restore(&mut self, image: Endless) -> Endless {
        image
    }

    fn digest(&self) -> u64 {
        0
    }
}

#[test]
fn a_node_that_stops_gives_up_the_snapshot_that_is_being_written() {
    let (begun, has_begun) = mpsc::channel();
    let (ended, has_ended) = mpsc::channel();
    let files = MemFiles::new();
    // It would come to an end some time, and not by the stop.
    files.set_capacity(Some(files.used_bytes() + (512 << 20)));
    let machine = Machine { begun, ended };
    let tune = |config: &mut Config| config.snapshots.entries = 1;
    let (server, _) = alone(machine, files.clone(), tune, |_| ());
    let handle = server.handle();
    let running = thread::spawn(move || server.run());
    has_begun.recv().expect("the first entry is due for one");
    handle.stop();
    running.join().expect("no panic").expect("it was stopped");
    assert_eq!(has_ended.recv().expect("it was written"), "the node ends");
    let snapshots = files.folder("snapshots").expect("a folder");
    assert_eq!(snapshots.list().expect("its names"), Vec::<String>::new());
}
